//! The layers of configuration: defaults, then the file, then `VELOX_*` variables, then flags.
//!
//! Every value is a text here, whatever its type in the file (lists and tables as JSON), so that one
//! parser serves all layers. What never will be here: the meaning of a value.

use std::collections::BTreeMap;

use super::{
    ConfigError, Overrides,
    keys::{self, KEYS, Variable},
};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// Built in.
    Default,
    /// The file of that name.
    File(String),
    /// An environment variable.
    Variable(String),
    /// A command line flag.
    Flag(&'static str),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(name) => write!(f, "file {name}"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// A key's text after all layers.
#[derive(Debug, Clone)]
pub(super) struct Value {
    /// `None`: not set, and there is no default.
    pub(super) text: Option<String>,
    /// The layer that had the last word.
    pub(super) source: Source,
}

/// All keys with their texts, and what was odd about the environment.
#[derive(Debug)]
pub(super) struct Values {
    values: BTreeMap<&'static str, Value>,
    /// Unknown `VELOX_*` variables, one text each.
    pub(super) warnings: Vec<String>,
}

impl Values {
    /// Lays the sources over each other. An empty variable counts as not set, as compose files write it.
    pub(super) fn collect(
        file: Option<(&str, &str)>,
        variables: impl Iterator<Item = (String, String)>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        let mut values: BTreeMap<_, _> = KEYS
            .iter()
            .map(|key| (key.name, Value { text: key.default.map(str::to_owned), source: Source::Default }))
            .collect();
        if let Some((name, text)) = file {
            read_file(name, text, &mut values)?;
        }
        let mut warnings = Vec::new();
        for (name, text) in variables.filter(|(_, text)| !text.is_empty()) {
            match keys::classify(&name) {
                Variable::Key(key) => {
                    values.insert(key.name, Value { text: Some(text), source: Source::Variable(name) });
                }
                Variable::Unknown => warnings.push(format!(
                    "unknown variable {}: did you mean {}?",
                    name.escape_debug(),
                    keys::nearest(&name).variable()
                )),
                Variable::Foreign => {}
            }
        }
        for (key, flag, text) in flags.texts() {
            values.insert(key, Value { text: Some(text), source: Source::Flag(flag) });
        }
        warnings.sort();
        Ok(Self { values, warnings })
    }

    /// The value of a key of the table.
    pub(super) fn get(&self, name: &'static str) -> &Value {
        &self.values[name]
    }

    /// Parses an optional key.
    pub(super) fn optional<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let value = self.get(name);
        let Some(text) = &value.text else {
            return Ok(None);
        };
        parse(text).map(Some).map_err(|reason| ConfigError::Invalid {
            key: name,
            from: value.source.to_string(),
            reason,
        })
    }

    /// Parses a key that has a default.
    pub(super) fn required<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.optional(name, parse)?.ok_or_else(|| ConfigError::Invalid {
            key: name,
            from: Source::Default.to_string(),
            reason: "is not set".to_owned(),
        })
    }
}

fn read_file(name: &str, text: &str, values: &mut BTreeMap<&'static str, Value>) -> Result<(), ConfigError> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        // The error's own Display quotes the line, and the line may hold a key.
        let line =
            error.span().map_or(0, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        ConfigError::File { name: name.to_owned(), reason: format!("not TOML, near line {line}") }
    })?;
    for (written, value) in table {
        let Some(key) = keys::find(&written) else {
            return Err(ConfigError::UnknownKey {
                name: name.to_owned(),
                key: written.escape_debug().to_string(),
                nearest: keys::nearest(&written).name,
            });
        };
        values.insert(key.name, Value { text: Some(as_text(value)), source: Source::File(name.to_owned()) });
    }
    Ok(())
}

fn as_text(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        toml::Value::Array(_) | toml::Value::Table(_) => as_json(value).to_string(),
        other => other.to_string(),
    }
}

fn as_json(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(yes) => yes.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(as_json).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, item)| (key, as_json(item))).collect(),
    }
}
