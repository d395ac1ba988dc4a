//! A writer that keeps a log record on one line.
//!
//! Texts in records come from tills and peers; a line break or a terminal escape in one must neither
//! forge a record nor move an operator's cursor. What never will be here: the format of a record.

use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

/// Wraps a maker of writers. The formatter hands over each record by one call that ends with `\n`.
#[derive(Debug)]
pub(super) struct OneLine<M>(pub(super) M);

impl<'w, M: MakeWriter<'w>> MakeWriter<'w> for OneLine<M> {
    type Writer = OneLineWriter<M::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        OneLineWriter(self.0.make_writer())
    }
}

/// Escapes control characters in what passes through.
#[derive(Debug)]
pub(super) struct OneLineWriter<W>(W);

impl<W: Write> Write for OneLineWriter<W> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        self.0.write_all(one_line(&text).as_bytes())?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The record with everything that is not plain text escaped. `\u` and four digits is also JSON's
/// own escape, so JSON records, whose raw control characters stand inside texts alone, keep their
/// meaning.
fn one_line(record: &str) -> String {
    let body = record.strip_suffix('\n').unwrap_or(record);
    let mut line = String::with_capacity(record.len());
    for c in body.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if unsafe_to_print(c) => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
    line.push('\n');
    line
}

/// Controls of ASCII and Latin-1 (the latter begin terminal escapes too), Unicode's line breaks, and
/// the marks that turn the direction of text.
fn unsafe_to_print(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_passes_unchanged() {
        assert_eq!(one_line("café ☕ \"x\"\n"), "café ☕ \"x\"\n");
        assert_eq!(one_line("no end"), "no end\n");
    }

    #[test]
    fn controls_are_escaped() {
        assert_eq!(
            one_line("a\nb\r\t\u{1b}[0m\u{7f}\u{9b}\u{2028}\n"),
            "a\\nb\\r\\t\\u001b[0m\\u007f\\u009b\\u2028\n"
        );
    }
}
