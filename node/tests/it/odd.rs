//! Events and payloads as texts that a test spoils field by field: what a JSON library would not write.

use crate::support::{id, seq};
use crate::wire::now_ms;

/// Members of an object as (key, text of the value).
#[derive(Debug, Clone)]
pub(crate) struct Object(Vec<(String, String)>);

impl Object {
    /// A sound object.
    pub(crate) fn of(members: &[(&str, String)]) -> Object {
        Object(members.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    }

    /// With a member set to this text; an empty one takes it away.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Object {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            _ if value.is_empty() => self.0.retain(|(name, _)| name != key),
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((key.to_owned(), value.to_owned())),
        }
        self
    }

    /// With a member more, whether or not there is one of that name; the key as it stands between the quotes.
    pub(crate) fn and(mut self, key: &str, value: &str) -> Object {
        self.0.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The text of a member.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    /// The JSON.
    pub(crate) fn text(&self) -> String {
        let members: Vec<String> = self.0.iter().map(|(key, value)| format!(r#""{key}":{value}"#)).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// A JSON text of something without characters to be escaped.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// A sound event with this payload.
pub(crate) fn envelope(event_type: &str, payload: &str) -> Object {
    Object::of(&[
        ("event_id", quoted(&id())),
        ("seq", seq().to_string()),
        ("type", quoted(event_type)),
        ("created_at", now_ms().to_string()),
        ("payload", payload.to_owned()),
    ])
}

/// The payload of a sound sale of one line.
pub(crate) fn sale_payload() -> Object {
    let item = line().text();
    Object::of(&[
        ("sale_id", quoted(&id())),
        ("items", format!("[{item}]")),
        ("totals", r#"{"total_usd":3,"total_bs":109.5}"#.to_owned()),
    ])
}

/// A sound line of a sale.
pub(crate) fn line() -> Object {
    Object::of(&[
        ("product_id", quoted(&id())),
        ("qty", "2".to_owned()),
        ("unit_price_usd", "1.5".to_owned()),
        ("unit_price_bs", "54.75".to_owned()),
    ])
}

/// A sound sale.
pub(crate) fn sale_event() -> Object {
    envelope("SaleCreated", &sale_payload().text())
}
