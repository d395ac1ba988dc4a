//! Reading the lines in which a schema is written down, and what a migration says of a view or trigger.

use crate::MIGRATOR;
use std::collections::{BTreeMap, BTreeSet};

/// A schema, sorted by what its lines say.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Tables and views: columns by name.
    pub(super) tables: BTreeMap<String, BTreeMap<String, Column>>,
    /// By name: the table and the definition.
    pub(super) constraints: BTreeMap<String, (String, String)>,
    /// By name: the table and the statement that makes it.
    pub(super) indexes: BTreeMap<String, (String, String)>,
    /// Table and name.
    pub(super) triggers: BTreeSet<(String, String)>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) kind: String,
    /// Compared bytewise.
    pub(super) is_c: bool,
    pub(super) not_null: bool,
    pub(super) identity: bool,
    pub(super) default: Option<String>,
}

impl Lines {
    pub(super) fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Lines {
        let mut read = Lines::default();
        for line in lines {
            read.add(line);
        }
        read
    }

    fn add(&mut self, line: &str) {
        if line.starts_with("CREATE ") {
            let Some((head, rest)) = line.split_once(" ON ") else { return };
            let name = head.rsplit(' ').next().unwrap_or_default();
            let table = rest.split(' ').next().unwrap_or_default();
            self.indexes.insert(name.to_owned(), (table.to_owned(), line.to_owned()));
            return;
        }
        let Some((subject, rest)) = line.split_once(' ') else { return };
        if let Some((table, column)) = subject.split_once('.') {
            self.tables.entry(table.to_owned()).or_default().insert(column.to_owned(), Column::read(rest));
        } else if let Some((name, text)) =
            rest.strip_prefix("CONSTRAINT ").and_then(|rest| rest.split_once(' '))
        {
            self.constraints.insert(name.to_owned(), (subject.to_owned(), text.to_owned()));
        } else if let Some(name) = rest.strip_prefix("TRIGGER ") {
            self.triggers.insert((subject.to_owned(), name.to_owned()));
        }
    }
}

impl Column {
    fn read(text: &str) -> Column {
        let (text, default) = match text.split_once(" DEFAULT ") {
            Some((text, default)) => (text, Some(default.to_owned())),
            None => (text, None),
        };
        let (text, identity) = without(text, " IDENTITY");
        let (text, not_null) = without(text, " NOT NULL");
        let (kind, is_c) = without(text, " COLLATE C");
        Column { kind: kind.to_owned(), is_c, not_null, identity, default }
    }

    /// The type as a statement names it.
    pub(super) fn type_text(&self) -> String {
        if self.is_c { format!(r#"{} COLLATE "C""#, self.kind) } else { self.kind.clone() }
    }

    /// The definition behind the name.
    pub(super) fn text(&self) -> String {
        let identity = if self.identity { " GENERATED ALWAYS AS IDENTITY" } else { "" };
        let not_null = if self.not_null { " NOT NULL" } else { "" };
        let default = self.default.as_ref().map(|default| format!(" DEFAULT {default}")).unwrap_or_default();
        format!("{}{identity}{not_null}{default}", self.type_text())
    }
}

fn without<'a>(text: &'a str, end: &str) -> (&'a str, bool) {
    text.strip_suffix(end).map_or((text, false), |text| (text, true))
}

/// The latest statement of the migrations that makes a `VIEW` or `TRIGGER` of this name, and its place among all.
pub(super) fn definition(what: &str, name: &str) -> Option<(usize, String)> {
    let heads = [format!("CREATE OR REPLACE {what} {name} "), format!("CREATE {what} {name} ")];
    let mut found = None;
    let mut place = 0;
    let mut always = String::new();
    for migration in MIGRATOR.iter() {
        let sql = migration.sql.as_str();
        for head in &heads {
            let Some(at) = sql.find(head.as_str()) else { continue };
            // A comment may end in a semicolon, a statement does.
            let lines = sql[at..].lines().filter(|line| !line.trim_start().starts_with("--"));
            let mut text = String::new();
            for line in lines {
                text.push_str(line);
                text.push('\n');
                if line.trim_end().ends_with(';') {
                    break;
                }
            }
            found = Some((place + at, text.trim_end().trim_end_matches(';').to_owned()));
        }
        if what == "TRIGGER" {
            let enabled = format!("ENABLE ALWAYS TRIGGER {name};");
            if let Some(line) = sql.lines().find(|line| line.ends_with(&enabled)) {
                always = format!("; {}", line.trim_end_matches(';'));
            }
        }
        place += sql.len();
    }
    found.map(|(place, text)| (place, text + &always))
}
