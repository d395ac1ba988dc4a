//! A text that must not be seen: keys, passwords, URLs that carry one.
//!
//! What never will be here: `Serialize`, `PartialEq` or any other way out than
//! [`Secret::expose`], so that a search for that word finds every use.

use std::fmt;

/// What is printed in place of a secret.
pub const HIDDEN: &str = "(hidden)";

/// A secret text. `Debug` and `Display` print [`HIDDEN`].
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Never log, format or store the result.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Length in characters, which the start-up check of the admin key looks at.
    pub fn chars(&self) -> usize {
        self.0.chars().count()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_format_shows_the_text() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "(hidden) (hidden) (hidden)");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(secret.chars(), 7);
    }
}
