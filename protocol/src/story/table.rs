//! The table of histories (`vectors/histories.txt`), read.

/// A history and the rows that were thought out for it by hand.
#[derive(Debug, Clone)]
pub struct History {
    /// What it shows.
    pub name: String,
    /// Its events, one a line.
    pub told: String,
    /// Its rows, sorted.
    pub rows: Vec<String>,
}

/// All histories of the table.
pub fn histories() -> Vec<History> {
    let file = include_str!("../../vectors/histories.txt");
    let lines: Vec<&str> = file.lines().filter(|line| !line.starts_with('#')).collect();
    let mut parts = lines.split(|line| line.starts_with("== "));
    let names = lines.iter().filter_map(|line| line.strip_prefix("== "));
    assert!(
        parts.next().is_some_and(|head| head.iter().all(|line| line.is_empty())),
        "text before the first"
    );
    let table = names.zip(parts).map(|(name, lines)| {
        let at = lines.iter().position(|line| *line == "--").unwrap_or_else(|| panic!("{name} has no rows"));
        let mut rows: Vec<String> = lines[at + 1..].iter().map(|line| (*line).to_owned()).collect();
        rows.retain(|row| !row.is_empty());
        rows.sort();
        History { name: name.to_owned(), told: lines[..at].join("\n"), rows }
    });
    table.collect()
}
