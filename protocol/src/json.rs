//! JSON as it was sent: a tree that borrows the text, keeps every number's digits and every value's bytes.
//!
//! A payload is kept byte for byte and its amounts are decimals, so a parser that turns numbers into floats
//! or silently drops a repeated key is of no use at the door. Never here: what a field means.

use std::borrow::Cow;
use std::collections::HashSet;

/// Deepest nesting that is accepted; deeper input is an attack, not a sale.
pub const MAX_DEPTH: usize = 128;
/// Integer digits of `NUMERIC(38,10)`: a number from 10^28 on is refused.
const MAX_INTEGER_DIGITS: i64 = 28;
/// Objects up to this many members are searched for repeated keys pair by pair.
const PAIRWISE_KEYS: usize = 16;

/// Why a text is not JSON that can be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// No JSON at this byte.
    #[error("not JSON at byte {0}")]
    Syntax(usize),
    /// One object names a key twice (also when it is escaped differently).
    #[error("a key stands twice in one object")]
    DuplicateKey,
    /// Nesting beyond [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    Depth,
    /// U+0000, which PostgreSQL cannot keep in a text.
    #[error("a text contains NUL")]
    Nul,
    /// Half of a surrogate pair.
    #[error("a text contains a lone surrogate")]
    LoneSurrogate,
    /// A number that does not fit `NUMERIC(38,10)`.
    #[error("a number is outside NUMERIC(38,10)")]
    NumberRange,
}

/// A JSON value that borrows from the text it was read from.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it was written.
    Number(&'a str),
    /// A text, unescaped.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object in the order of the text; keys are unique.
    Object(Vec<Member<'a>>),
}

/// One member of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Member<'a> {
    /// The key, unescaped.
    pub key: Cow<'a, str>,
    /// The value.
    pub value: Json<'a>,
    /// The value's own bytes.
    pub raw: &'a str,
}

impl<'a> Json<'a> {
    /// Reads a whole text.
    ///
    /// # Errors
    /// The first thing that keeps the text from being kept, see [`JsonError`].
    pub fn parse(text: &'a str) -> Result<Self, JsonError> {
        Self::parse_within(text, MAX_DEPTH)
    }

    /// Reads a whole text that nests at most `max_depth` levels: an event is one level around its payload.
    ///
    /// # Errors
    /// As [`Json::parse`].
    pub fn parse_within(text: &'a str, max_depth: usize) -> Result<Self, JsonError> {
        let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, depth: 0, max_depth };
        parser.space();
        let value = parser.value()?;
        parser.space();
        if parser.at == parser.bytes.len() { Ok(value) } else { Err(JsonError::Syntax(parser.at)) }
    }

    /// The member of an object; `None` too where this is no object.
    pub fn member(&self, key: &str) -> Option<&Member<'a>> {
        match self {
            Json::Object(members) => members.iter().find(|m| m.key == key),
            _ => None,
        }
    }

    /// The value of an object's member. Absent, `null` and `""` are the same: `None`.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.member(key).map(|m| &m.value).filter(|v| !v.is_blank())
    }

    /// `null` or `""`.
    pub fn is_blank(&self) -> bool {
        match self {
            Json::Null => true,
            Json::String(text) => text.is_empty(),
            _ => false,
        }
    }

    /// The text of a JSON string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// An integer, also when written `1.0` or `1e3`, that fits `i64`.
    pub fn as_i64(&self) -> Option<i64> {
        let Json::Number(text) = self else { return None };
        if let Ok(integer) = text.parse() {
            return Some(integer);
        }
        let float: f64 = text.parse().ok()?;
        (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0).then_some(float as i64)
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Json::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The members of an object.
    pub fn as_object(&self) -> Option<&[Member<'a>]> {
        match self {
            Json::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<&[Json<'a>]> {
        match self {
            Json::Array(elements) => Some(elements),
            _ => None,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    max_depth: usize,
}

impl<'a> Parser<'a> {
    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn syntax<T>(&self) -> Result<T, JsonError> {
        Err(JsonError::Syntax(self.at))
    }

    fn expect(&mut self, literal: &str) -> Result<(), JsonError> {
        if self.bytes[self.at..].starts_with(literal.as_bytes()) {
            self.at += literal.len();
            Ok(())
        } else {
            self.syntax()
        }
    }

    fn value(&mut self) -> Result<Json<'a>, JsonError> {
        match self.bytes.get(self.at) {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            Some(b't') => self.expect("true").map(|()| Json::Bool(true)),
            Some(b'f') => self.expect("false").map(|()| Json::Bool(false)),
            Some(b'n') => self.expect("null").map(|()| Json::Null),
            _ => self.syntax(),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Json<'a>, JsonError>) -> Result<Json<'a>, JsonError> {
        self.depth += 1;
        if self.depth > self.max_depth {
            return Err(JsonError::Depth);
        }
        self.at += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Result<Json<'a>, JsonError> {
        let mut members: Vec<Member<'a>> = Vec::new();
        self.space();
        if self.bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(Json::Object(members));
        }
        loop {
            self.space();
            if self.bytes.get(self.at) != Some(&b'"') {
                return self.syntax();
            }
            let key = self.string()?;
            self.space();
            self.expect(":")?;
            self.space();
            let start = self.at;
            let value = self.value()?;
            members.push(Member { key, value, raw: &self.text[start..self.at] });
            self.space();
            match self.bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b'}') => break self.at += 1,
                _ => return self.syntax(),
            }
        }
        if has_repeated_key(&members) { Err(JsonError::DuplicateKey) } else { Ok(Json::Object(members)) }
    }

    fn array(&mut self) -> Result<Json<'a>, JsonError> {
        let mut elements = Vec::new();
        self.space();
        if self.bytes.get(self.at) == Some(&b']') {
            self.at += 1;
            return Ok(Json::Array(elements));
        }
        loop {
            self.space();
            elements.push(self.value()?);
            self.space();
            match self.bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b']') => break self.at += 1,
                _ => return self.syntax(),
            }
        }
        Ok(Json::Array(elements))
    }

    fn digits(&mut self) -> Result<usize, JsonError> {
        let start = self.at;
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.syntax() } else { Ok(self.at - start) }
    }

    fn number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        let mantissa_end = self.at;
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        if in_range(&self.text[start..mantissa_end], text) { Ok(text) } else { Err(JsonError::NumberRange) }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
                }
                Some(b'\\') => break,
                Some(0x20..) => self.at += 1,
                _ => return self.syntax(),
            }
        }
        let mut unescaped = String::from(&self.text[start..self.at]);
        loop {
            let run = self.at;
            while matches!(self.bytes.get(self.at), Some(b) if *b >= 0x20 && *b != b'"' && *b != b'\\') {
                self.at += 1;
            }
            unescaped.push_str(&self.text[run..self.at]);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(unescaped));
                }
                Some(b'\\') => unescaped.push(self.escape()?),
                _ => return self.syntax(),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 2;
        Ok(match self.bytes.get(self.at - 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return self.syntax(),
        })
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let high = self.hex()?;
        match high {
            0 => Err(JsonError::Nul),
            0xD800..=0xDBFF => {
                if !self.bytes[self.at..].starts_with(b"\\u") {
                    return Err(JsonError::LoneSurrogate);
                }
                self.at += 2;
                let low = self.hex()?;
                if !(0xDC00..=0xDFFF).contains(&low) {
                    return Err(JsonError::LoneSurrogate);
                }
                char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
                    .ok_or(JsonError::LoneSurrogate)
            }
            _ => char::from_u32(high).ok_or(JsonError::LoneSurrogate),
        }
    }

    fn hex(&mut self) -> Result<u32, JsonError> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(JsonError::Syntax(self.at))?;
        let mut code = 0;
        for digit in digits {
            code = code * 16 + char::from(*digit).to_digit(16).ok_or(JsonError::Syntax(self.at))?;
        }
        self.at += 4;
        Ok(code)
    }
}

fn has_repeated_key(members: &[Member<'_>]) -> bool {
    if members.len() <= PAIRWISE_KEYS {
        return members
            .iter()
            .enumerate()
            .any(|(i, m)| members[..i].iter().any(|earlier| earlier.key == m.key));
    }
    let mut seen = HashSet::with_capacity(members.len());
    members.iter().any(|m| !seen.insert(m.key.as_ref()))
}

/// Whether a number's magnitude stays below 10^28, judged on its digits: a float would overflow or round.
fn in_range(mantissa: &str, whole: &str) -> bool {
    let digits = mantissa.trim_start_matches('-');
    let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let exponent_text = &whole[mantissa.len()..];
    if exponent_text.is_empty() {
        return integer.len() as i64 <= MAX_INTEGER_DIGITS;
    }
    let significant = if integer == "0" {
        match fraction.find(|c| c != '0') {
            Some(zeros) => -(zeros as i64),
            None => return true,
        }
    } else {
        integer.len() as i64
    };
    // An exponent that does not fit i64 is out of range upwards and harmless downwards.
    match exponent_text[1..].parse::<i64>() {
        Ok(exponent) => significant.saturating_add(exponent) <= MAX_INTEGER_DIGITS,
        Err(_) => exponent_text[1..].starts_with('-'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_digits_bytes_and_order() {
        let json =
            Json::parse(r#" {"b": 1e2, "a":[1.50,"x\u00e9\ud83d\ude00"], "n" : null } "#).expect("JSON");
        assert_eq!(json.member("b").expect("b").raw, "1e2");
        assert_eq!(json.member("a").expect("a").raw, r#"[1.50,"x\u00e9\ud83d\ude00"]"#);
        assert_eq!(json.get("a").and_then(Json::as_array).expect("array")[1].as_str(), Some("xé😀"));
        assert_eq!(json.get("n"), None);
    }

    #[test]
    fn refuses_what_cannot_be_kept() {
        let cases = [
            (r#"{"a":1,"\u0061":2}"#, JsonError::DuplicateKey),
            (r#""\u0000""#, JsonError::Nul),
            (r#""\ud800""#, JsonError::LoneSurrogate),
            (r#""\udc00x""#, JsonError::LoneSurrogate),
            (r#""\ud800\ud800""#, JsonError::LoneSurrogate),
            ("1e131071", JsonError::NumberRange),
            ("1e28", JsonError::NumberRange),
            ("-10000000000000000000000000000", JsonError::NumberRange),
            ("0.01e30", JsonError::NumberRange),
            ("1e99999999999999999999", JsonError::NumberRange),
        ];
        for (text, error) in cases {
            assert_eq!(Json::parse(text), Err(error), "{text}");
        }
        for text in ["", "{", "01", "1.", "[1,]", "{\"a\":}", "\"\n\"", "nul", "1 2", "\"\\x\"", "-"] {
            assert!(matches!(Json::parse(text), Err(JsonError::Syntax(_))), "{text}");
        }
        for text in ["9999999999999999999999999999", "9.9e27", "0e999", "1e-99999999999999999999", "0.001e30"]
        {
            assert!(Json::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn depth_128_is_kept_and_129_is_refused() {
        let nested = |n| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(Json::parse(&nested(128)).is_ok());
        assert_eq!(Json::parse(&nested(129)), Err(JsonError::Depth));
    }

    #[test]
    fn repeated_keys_are_found_in_large_objects() {
        let members: Vec<String> = (0..100).map(|i| format!("\"k{i}\":0")).collect();
        assert!(Json::parse(&format!("{{{}}}", members.join(","))).is_ok());
        assert_eq!(Json::parse(&format!("{{{},\"k7\":1}}", members.join(","))), Err(JsonError::DuplicateKey));
    }
}
