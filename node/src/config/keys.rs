//! The table of configuration keys: name, default, secrecy. To add a key: a row here, a field in
//! [`Config`](super::Config), a line in `Config::build`.
//!
//! A file writes the name as it stands here, the environment as `VELOX_` and the name in capitals.
//! What never will be here: parsing or validation of a value.

/// One configuration key.
#[derive(Debug)]
pub struct Key {
    /// Name in the file; the variable is `VELOX_` and this in capitals.
    pub name: &'static str,
    /// Default as it would be written, or `None` where the key is optional.
    pub default: Option<&'static str>,
    /// Whether the value is hidden wherever configuration is shown.
    pub secret: bool,
}

impl Key {
    /// The environment variable of this key.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_ascii_uppercase())
    }
}

const PREFIX: &str = "VELOX_";

/// Variables of the test suites, read by no running node: tolerated everywhere.
const TEST_VARIABLES: [&str; 2] = ["VELOX_TEST_", "VELOX_PROPTEST_CASES"];

const fn key(name: &'static str, default: &'static str) -> Key {
    Key { name, default: Some(default), secret: false }
}

const fn optional(name: &'static str) -> Key {
    Key { name, default: None, secret: false }
}

const fn secret(name: &'static str) -> Key {
    Key { name, default: None, secret: true }
}

/// Every key, in the order in which `velox config check` prints them.
pub static KEYS: [Key; 34] = [
    key("listen", "127.0.0.1:8080"),
    optional("node_id"),
    key("data_dir", "./velox-data"),
    secret("database_url"),
    key("db_max_connections", "20"),
    optional("pg_bin"),
    secret("redis_url"),
    secret("admin_key"),
    secret("jwt_secret"),
    key("jwt_grace_ms", "86400000"),
    optional("cors_origins"),
    key("rate_limit_rps", "50"),
    key("rate_limit_burst", "100"),
    secret("peers"),
    key("outbox_poll_ms", "3000"),
    key("outbox_max_retries", "10"),
    optional("outbox_retry_base_ms"),
    key("outbox_retention_ms", "0"),
    key("hang_limit_ms", "120000"),
    key("heal_interval_ms", "60000"),
    key("reconcile_interval_ms", "300000"),
    key("breaker_failures", "5"),
    key("breaker_successes", "3"),
    key("breaker_open_ms", "60000"),
    key("lease_ttl_ms", "300000"),
    key("probe_interval_ms", "5000"),
    key("health_interval_ms", "300000"),
    key("escrow_ttl_ms", "14400000"),
    key("escrow_grace_ms", "14400000"),
    key("escrow_max_share", "0.30"),
    key("fiscal_ttl_ms", "86400000"),
    key("webhook_allow_private", "false"),
    key("log", "info"),
    key("log_format", "pretty"),
];

/// The key of that name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// What an environment variable is to us.
#[derive(Debug)]
pub enum Variable {
    /// The value of a key.
    Key(&'static Key),
    /// Not ours, or for tests alone.
    Foreign,
    /// Begins with `VELOX_` and means nothing: probably misspelt.
    Unknown,
}

/// Sorts an environment variable by its name.
pub fn classify(variable: &str) -> Variable {
    let Some(rest) = variable.strip_prefix(PREFIX) else {
        return Variable::Foreign;
    };
    if TEST_VARIABLES.iter().any(|known| variable.starts_with(known)) {
        return Variable::Foreign;
    }
    match KEYS.iter().find(|key| key.name.to_ascii_uppercase() == rest) {
        Some(key) => Variable::Key(key),
        None => Variable::Unknown,
    }
}

/// The known key nearest to a misspelt one, however far.
pub fn nearest(name: &str) -> &'static Key {
    // Bounds the quadratic distance below; no key is longer.
    let lower: String = name.chars().take(64).collect::<String>().to_lowercase();
    let bare = lower.strip_prefix("velox_").unwrap_or(&lower);
    KEYS.iter().min_by_key(|key| distance(bare, key.name)).unwrap_or(&KEYS[0])
}

/// Levenshtein distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lower_case() {
        for (i, key) in KEYS.iter().enumerate() {
            assert_eq!(key.name, key.name.to_lowercase());
            assert!(KEYS[i + 1..].iter().all(|other| other.name != key.name), "{}", key.name);
        }
    }

    #[test]
    fn the_distance_is_levenshtein() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("abc", "abc", 0), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_key_ignores_case_and_prefix() {
        for (wrong, right) in [
            ("lisen", "listen"),
            ("VELOX_ADMINKEY", "admin_key"),
            ("databse_url", "database_url"),
            ("outbox_poll", "outbox_poll_ms"),
            ("Rate_Limit_RPM", "rate_limit_rps"),
        ] {
            assert_eq!(nearest(wrong).name, right, "{wrong}");
        }
    }

    #[test]
    fn variables_are_sorted() {
        assert!(matches!(classify("VELOX_LISTEN"), Variable::Key(key) if key.name == "listen"));
        assert!(matches!(classify("VELOX_PG_BIN"), Variable::Key(_)));
        for foreign in ["PATH", "VELOX_TEST_DATABASE_URL", "VELOX_PROPTEST_CASES"] {
            assert!(matches!(classify(foreign), Variable::Foreign), "{foreign}");
        }
        for unknown in ["VELOX_LISTENN", "VELOX_listen", "VELOX_"] {
            assert!(matches!(classify(unknown), Variable::Unknown), "{unknown}");
        }
    }
}
