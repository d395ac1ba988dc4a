//! W3C trace context as text.

/// Whether this is a `traceparent` of W3C's form, which propagators take more lightly: they would fill up an id that
/// is too short.
pub fn well_formed(traceparent: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let parts: Vec<&str> = traceparent.split('-').collect();
    let lengths = parts.iter().take(4).map(|part| part.len()).eq([2, 32, 16, 2]);
    let zeros = |part: &str| part.bytes().all(|byte| byte == b'0');
    lengths
        && parts[..4].iter().all(|part| hex(part))
        && parts[0] != "ff"
        && !zeros(parts[1])
        && !zeros(parts[2])
        // Only a later version than 00 may go on after the flags.
        && (parts[0] != "00" || parts.len() == 4)
}
