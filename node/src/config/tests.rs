//! Tests of loading and validation; the parts have theirs beside them.

use super::*;

fn load(file: Option<&str>, variables: &[(&str, &str)], flags: &Overrides) -> Result<Config, ConfigError> {
    let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Config::from_sources(file.map(|text| ("velox.toml", text)), variables, flags)
}

fn variables(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load(None, variables, &Overrides::default())
}

fn shown<'a>(config: &'a Config, key: &str) -> (&'a str, &'a str) {
    let row = config.effective().iter().find(|row| row.key == key).unwrap();
    (&row.value, &row.source)
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let config = variables(&[]).unwrap();
    assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.db_max_connections, 20);
    assert_eq!(config.data_dir, PathBuf::from("./velox-data"));
    assert_eq!(config.outbox_retry_base_relay, Duration::from_secs(5));
    assert_eq!(config.outbox_retry_base_projection, Duration::from_secs(1));
    assert_eq!(config.outbox_retention, Duration::ZERO);
    assert_eq!(config.jwt_grace, Duration::from_secs(24 * 3600));
    assert_eq!((config.rate_limit_rps.get(), config.rate_limit_burst.get()), (50, 100));
    assert!((config.escrow_max_share - 0.3).abs() < 1e-9);
    assert!(config.database_url.is_none() && config.peers.is_empty() && config.warnings.is_empty());
    assert_eq!((config.log.as_str(), config.log_format), ("info", LogFormat::Pretty));
}

#[test]
fn flags_go_over_variables_and_those_over_the_file() {
    let file = "listen = \"127.0.0.1:1\"\noutbox_poll_ms = 5\nlog = \"debug\"\nwebhook_allow_private = true";
    let flags = Overrides { listen: Some("127.0.0.1:3".into()), ..Overrides::default() };
    let environment = [("VELOX_LISTEN", "127.0.0.1:2"), ("VELOX_LOG", "warn"), ("VELOX_LOG_FORMAT", "")];
    let config = load(Some(file), &environment, &flags).unwrap();
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.outbox_poll, Duration::from_millis(5));
    assert!(config.webhook_allow_private);
    assert_eq!(shown(&config, "listen"), ("127.0.0.1:3", "flag --listen"));
    assert_eq!(shown(&config, "log"), ("warn", "VELOX_LOG"));
    assert_eq!(shown(&config, "outbox_poll_ms"), ("5", "file velox.toml"));
    assert_eq!(shown(&config, "log_format"), ("pretty", "default"));
    assert_eq!(shown(&config, "outbox_retry_base_ms").0, "5000 relay, 1000 projection");
}

#[test]
fn peers_and_origins_may_be_tables_and_lists() {
    let file = r#"
        cors_origins = ["https://till.example", "capacitor://localhost"]
        [[peers]]
        name = "shop"
        url = "https://shop.example"
        key = "a-key-shared-by-both"
    "#;
    let config = load(Some(file), &[], &Overrides::default()).unwrap();
    assert_eq!(config.peers[0].name, "shop");
    assert_eq!(config.cors_origins.len(), 2);
    let json = r#"[{"name":"cloud","url":"https://c.example","key":"k"}]"#;
    let config = load(Some(file), &[("VELOX_PEERS", json)], &Overrides::default()).unwrap();
    assert_eq!(config.peers[0].name, "cloud");
}

#[test]
fn an_unknown_key_of_the_file_names_the_nearest() {
    let error = load(Some("listne = \"127.0.0.1:1\""), &[], &Overrides::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "configuration file velox.toml: unknown key listne, the nearest known one is listen"
    );
}

#[test]
fn an_unknown_variable_is_a_warning() {
    let config =
        variables(&[("VELOX_LISTNE", "secret-value"), ("VELOX_TEST_X", "1"), ("HOME", "/")]).unwrap();
    assert_eq!(config.warnings, ["unknown variable VELOX_LISTNE: did you mean VELOX_LISTEN?"]);
}

#[test]
fn no_secret_is_shown_anywhere() {
    let secret = "hunter2-hunter2-hunter2-hunter2-hunter2";
    let url = format!("postgres://u:{secret}@db/x");
    let redis = format!("redis://:{secret}@r");
    let peers = format!(r#"[{{"name":"shop","url":"http://s","key":"{secret}"}}]"#);
    let config = variables(&[
        ("VELOX_ADMIN_KEY", secret),
        ("VELOX_JWT_SECRET", secret),
        ("VELOX_DATABASE_URL", &url),
        ("VELOX_REDIS_URL", &redis),
        ("VELOX_PEERS", &peers),
    ])
    .unwrap();
    let printed = format!("{config:?} {:?}", config.effective());
    assert!(!printed.contains("hunter2"), "{printed}");
    assert_eq!(shown(&config, "admin_key"), (HIDDEN, "VELOX_ADMIN_KEY"));
}

#[test]
fn no_error_quotes_a_secret() {
    for (file, environment) in [
        (Some("admin_key = \"hunter2"), vec![]),
        (Some("admin_key = hunter2"), vec![]),
        (None, vec![("VELOX_DATABASE_URL", "mysql://hunter2")]),
        (None, vec![("VELOX_PEERS", "hunter2")]),
        (None, vec![("VELOX_ADMIN_KEY", "hunter2"), ("VELOX_LISTEN", "0.0.0.0:1")]),
    ] {
        let error = load(file, &environment, &Overrides::default()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn a_short_admin_key_needs_a_loopback_address() {
    let short = [("VELOX_ADMIN_KEY", "short")];
    for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1"] {
        variables(&[short[0], ("VELOX_LISTEN", loopback)]).expect(loopback);
    }
    for open in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
        let error = variables(&[short[0], ("VELOX_LISTEN", open)]).expect_err(open);
        assert!(error.to_string().starts_with("admin_key"), "{error}");
        let long = "x".repeat(ADMIN_KEY_MIN_CHARS);
        variables(&[("VELOX_ADMIN_KEY", &long), ("VELOX_LISTEN", open)]).expect(open);
    }
}

#[test]
fn values_out_of_range_are_refused() {
    for (name, text) in [
        ("VELOX_LISTEN", "8080"),
        ("VELOX_LISTEN", "example.com:80"),
        ("VELOX_LISTEN", "127.0.0.1:99999"),
        ("VELOX_NODE_ID", "a b"),
        ("VELOX_DB_MAX_CONNECTIONS", "0"),
        ("VELOX_OUTBOX_POLL_MS", "0"),
        ("VELOX_OUTBOX_POLL_MS", "-1"),
        ("VELOX_OUTBOX_POLL_MS", "3s"),
        ("VELOX_OUTBOX_RETRY_BASE_MS", "0"),
        ("VELOX_LEASE_TTL_MS", "99999999999999999999"),
        ("VELOX_OUTBOX_MAX_RETRIES", "0"),
        ("VELOX_RATE_LIMIT_RPS", "0"),
        ("VELOX_RATE_LIMIT_BURST", "x"),
        ("VELOX_ESCROW_MAX_SHARE", "0"),
        ("VELOX_ESCROW_MAX_SHARE", "1.1"),
        ("VELOX_ESCROW_MAX_SHARE", "NaN"),
        ("VELOX_WEBHOOK_ALLOW_PRIVATE", "yes"),
        ("VELOX_LOG", "velox=loudest"),
        ("VELOX_LOG_FORMAT", "xml"),
        ("VELOX_JWT_SECRET", " "),
        ("VELOX_REDIS_URL", "http://r"),
        ("VELOX_CORS_ORIGINS", "*"),
        ("VELOX_CORS_ORIGINS", "https://a.example/path"),
        ("VELOX_CORS_ORIGINS", "https://A.example"),
        ("VELOX_CORS_ORIGINS", "a.example"),
    ] {
        let error = variables(&[(name, text)]).expect_err(text);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn zero_is_fine_where_it_means_none() {
    let config = variables(&[("VELOX_OUTBOX_RETENTION_MS", "0"), ("VELOX_JWT_GRACE_MS", "0")]).unwrap();
    assert_eq!((config.jwt_grace, config.outbox_retention), (Duration::ZERO, Duration::ZERO));
    let both = variables(&[("VELOX_OUTBOX_RETRY_BASE_MS", "7")]).unwrap();
    assert_eq!(both.outbox_retry_base_relay, both.outbox_retry_base_projection);
}

#[test]
fn a_named_file_must_be_there() {
    let missing = Path::new("no-such-directory/velox.toml");
    let error = Config::load(Some(missing), std::iter::empty(), &Overrides::default()).unwrap_err();
    assert!(matches!(error, ConfigError::File { .. }), "{error}");
}
