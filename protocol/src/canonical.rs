//! The canonical form of a payload (RFC 8785) and its SHA-256, and the form that v1's JavaScript hashes.
//!
//! Never here: which hash belongs to which event (see [`crate::event`]).

use crate::json::{Json, Member};
use sha2::{Digest, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// How an object's members are ordered before hashing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrder {
    /// RFC 8785: by UTF-16 code units.
    Rfc8785,
    /// v1: the same, but integer-like keys come first in numeric order, as JavaScript's objects keep them.
    JavaScript,
}

/// SHA-256 of a value's canonical form.
pub fn hash(value: &Json<'_>, order: KeyOrder) -> Hash {
    let mut text = Vec::with_capacity(512);
    write(value, order, &mut text);
    Sha256::digest(&text).into()
}

/// Writes the canonical form of a value.
pub fn write(value: &Json<'_>, order: KeyOrder, out: &mut Vec<u8>) {
    match value {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(true) => out.extend_from_slice(b"true"),
        Json::Bool(false) => out.extend_from_slice(b"false"),
        Json::Number(text) => write_number(text, out),
        Json::String(text) => write_string(text, out),
        Json::Array(elements) => {
            out.push(b'[');
            for (i, element) in elements.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(element, order, out);
            }
            out.push(b']');
        }
        Json::Object(members) => write_members(members.iter().collect(), order, out),
    }
}

/// Writes an object whose members are given, sorted anew.
pub(crate) fn write_members(mut members: Vec<&Member<'_>>, order: KeyOrder, out: &mut Vec<u8>) {
    match order {
        KeyOrder::Rfc8785 => members.sort_unstable_by(|a, b| utf16_order(&a.key, &b.key)),
        KeyOrder::JavaScript => {
            members.sort_unstable_by(|a, b| match (array_index(&a.key), array_index(&b.key)) {
                (Some(a), Some(b)) => a.cmp(&b),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => utf16_order(&a.key, &b.key),
            })
        }
    }
    out.push(b'{');
    for (i, member) in members.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(&member.key, out);
        out.push(b':');
        write(&member.value, order, out);
    }
    out.push(b'}');
}

/// A key that JavaScript takes for an array index: `0`, or digits without a leading zero below 2^32 - 1.
fn array_index(key: &str) -> Option<u32> {
    let canonical = key == "0" || (!key.starts_with('0') && key.bytes().all(|b| b.is_ascii_digit()));
    if canonical { key.parse().ok().filter(|index| *index < u32::MAX) } else { None }
}

fn utf16_order(a: &str, b: &str) -> std::cmp::Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

fn write_number(text: &str, out: &mut Vec<u8>) {
    // The parser has bounded the magnitude, so the float is finite.
    let float: f64 = text.parse().unwrap_or(0.0);
    out.extend_from_slice(ryu_js::Buffer::new().format(float).as_bytes());
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut run = 0;
    for (i, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            0x08 => b'b',
            0x09 => b't',
            0x0a => b'n',
            0x0c => b'f',
            0x0d => b'r',
            0x00..=0x1f => 0,
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[run..i]);
        run = i + 1;
        if short == 0 {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(&text.as_bytes()[run..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        let mut out = Vec::new();
        write(&Json::parse(text).expect("JSON"), KeyOrder::Rfc8785, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn rfc_8785_section_3_2_example() {
        let input = r#"{"numbers":[333333333.33333329,1E27,4.50,2e-3,0.000000000000000000000000001],
            "string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#;
        let expected = concat!(
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+27,4.5,0.002,1e-27],"#,
            r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
        assert_eq!(canonical(input), expected);
    }

    #[test]
    fn rfc_8785_sorts_by_utf_16() {
        let input = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
            "1":"One","\ud83d\ude00":"Emoji","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#;
        let sorted = canonical(input);
        let order = ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"];
        let places: Vec<_> = order.iter().map(|w| sorted.find(w).expect("kept")).collect();
        assert!(places.is_sorted(), "{sorted}");
    }

    #[test]
    fn rfc_8785_appendix_b_numbers() {
        let vectors = [
            (0x0000000000000001_u64, "5e-324"),
            (0x8000000000000001, "-5e-324"),
            (0x4340000000000000, "9007199254740992"),
            (0xc340000000000000, "-9007199254740992"),
            (0x44b52d02c7e14af5, "9.999999999999997e+22"),
            (0x44b52d02c7e14af6, "1e+23"),
            (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
            (0x444b1ae4d6e2ef4e, "999999999999999700000"),
            (0x444b1ae4d6e2ef4f, "999999999999999900000"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0x41b3de4355555553, "333333333.3333332"),
            (0x41b3de4355555554, "333333333.33333325"),
            (0x41b3de4355555555, "333333333.3333333"),
            (0x41b3de4355555556, "333333333.3333334"),
            (0x41b3de4355555557, "333333333.33333343"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
            (0x43143ff3c1cb0959, "1424953923781206.2"),
        ];
        for (bits, expected) in vectors {
            assert_eq!(canonical(&format!("{:e}", f64::from_bits(bits))), expected);
        }
        assert_eq!(canonical("-0"), "0");
        assert_eq!(canonical("-0.0"), "0");
    }

    #[test]
    fn key_order_never_matters_and_array_order_does() {
        assert_eq!(canonical(r#"{"a":{"c":1,"b":[1,2]}}"#), canonical(r#"{"a":{"b":[1,2],"c":1}}"#));
        assert_ne!(canonical("[1,2]"), canonical("[2,1]"));
    }

    #[test]
    fn javascript_puts_array_indices_first() {
        let json = Json::parse(r#"{"b":1,"10":2,"9":3,"09":4,"4294967295":5}"#).expect("JSON");
        let mut out = Vec::new();
        write(&json, KeyOrder::JavaScript, &mut out);
        assert_eq!(out, br#"{"9":3,"10":2,"09":4,"4294967295":5,"b":1}"#);
    }
}
