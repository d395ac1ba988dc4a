//! Configuration: every key the node knows, from `velox.toml`, then `VELOX_*`, then flags.
//!
//! The environment comes in as a parameter, so that two nodes in one process can be configured
//! apart. What never will be here: a default that another module repeats, or a read of the process's
//! environment. The table of keys is in [`keys`].

use std::{
    collections::HashMap,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

pub mod keys;
mod otel;
mod parse;
mod peers;
mod secret;
mod sources;

pub use otel::{OtelConfig, OtlpProtocol};
pub use peers::{PeerConfig, PeerProtocol};
pub use secret::{HIDDEN, Secret};
use sources::Values;

/// Read when no file is named, if it is there.
pub const DEFAULT_FILE: &str = "velox.toml";
/// A shorter admin key is refused where others than this machine can reach the node.
pub const ADMIN_KEY_MIN_CHARS: usize = 32;

/// Why the node does not start with this configuration. No text of it quotes a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {name}: {reason}")]
    File {
        /// The file as named.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The file has a key that nobody knows.
    #[error("configuration file {name}: unknown key {key}, the nearest known one is {nearest}")]
    UnknownKey {
        /// The file as named.
        name: String,
        /// The key as written, escaped.
        key: String,
        /// The known key nearest to it.
        nearest: &'static str,
    },
    /// A value is none of its kind.
    #[error("{key} ({from}): {reason}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// Where its value came from.
        from: String,
        /// What is wrong.
        reason: String,
    },
}

/// How log records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, one line a record.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Values given on the command line, which go over file and environment. No secret is among them:
/// arguments of a process can be read by every user of the machine.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// Address to listen on, over VELOX_LISTEN
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Data directory, over VELOX_DATA_DIR
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Log filter, over VELOX_LOG
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// Log format, pretty or json, over VELOX_LOG_FORMAT
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl Overrides {
    /// Key, flag and text of those that were given.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &'static str, String)> {
        [
            ("listen", "listen", &self.listen),
            ("data_dir", "data-dir", &self.data_dir),
            ("log", "log", &self.log),
            ("log_format", "log-format", &self.log_format),
        ]
        .into_iter()
        .filter_map(|(key, flag, text)| Some((key, flag, text.clone()?)))
    }
}

/// One line of `velox config check`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EffectiveValue {
    /// The key as a file writes it, or the name of a variable of OpenTelemetry.
    pub key: String,
    /// Its value; secrets as [`HIDDEN`].
    pub value: String,
    /// `default`, `file F`, the variable or the flag.
    pub source: String,
}

/// The whole, validated configuration of a node.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the HTTP server; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The node id that the operator expects; `None`: whatever the database keeps.
    pub node_id: Option<String>,
    /// Where the embedded PostgreSQL and made keys live.
    pub data_dir: PathBuf,
    /// PostgreSQL to use; `None`: the embedded one.
    pub database_url: Option<Secret>,
    /// Size of the connection pool.
    pub db_max_connections: u32,
    /// Directory of PostgreSQL's binaries for the embedded one; `None`: looked for.
    pub pg_bin: Option<PathBuf>,
    /// Redis for leases; `None`: PostgreSQL keeps them.
    pub redis_url: Option<Secret>,
    /// The admin key; `None`: one is made at the first start.
    pub admin_key: Option<Secret>,
    /// Secret of v1's JWTs; `None`: no JWT is taken.
    pub jwt_secret: Option<Secret>,
    /// How long after its `exp` a JWT is still taken for sync, fiscal and escrow.
    pub jwt_grace: Duration,
    /// Origins that browsers may call from, exact; empty: no CORS headers.
    pub cors_origins: Vec<String>,
    /// Requests a second and device, in the long run.
    pub rate_limit_rps: NonZeroU32,
    /// Requests that a device may make at once.
    pub rate_limit_burst: NonZeroU32,
    /// Peers.
    pub peers: Vec<PeerConfig>,
    /// Poll of the outbox, the safety net under its wake-ups.
    pub outbox_poll: Duration,
    /// Attempts before an outbox entry is dead.
    pub outbox_max_retries: u32,
    /// First back-off of a relay entry.
    pub outbox_retry_base_relay: Duration,
    /// First back-off of a projection entry.
    pub outbox_retry_base_projection: Duration,
    /// How long done entries are kept; zero: deleted at once.
    pub outbox_retention: Duration,
    /// After so long without a sign of life an actor hangs.
    pub hang_limit: Duration,
    /// Period of the orphan healer.
    pub heal_interval: Duration,
    /// Period of reconciliation.
    pub reconcile_interval: Duration,
    /// Failures in a row that open a breaker.
    pub breaker_failures: u32,
    /// Successes that close it again.
    pub breaker_successes: u32,
    /// How long it stays open.
    pub breaker_open: Duration,
    /// Life of a lease.
    pub lease_ttl: Duration,
    /// Period of the peers' probes. Read by a later version.
    pub probe_interval: Duration,
    /// Period of health reports. Read by a later version.
    pub health_interval: Duration,
    /// Life of an escrow grant. Read by a later version.
    pub escrow_ttl: Duration,
    /// How long after it a late sale is still covered. Read by a later version.
    pub escrow_grace: Duration,
    /// Greatest share of a product's stock for one device. Read by a later version.
    pub escrow_max_share: f64,
    /// Life of a fiscal range. Read by a later version.
    pub fiscal_ttl: Duration,
    /// Whether webhooks may go to private addresses. Read by a later version.
    pub webhook_allow_private: bool,
    /// Filter of log records, in `tracing`'s directives.
    pub log: String,
    /// How log records are written.
    pub log_format: LogFormat,
    /// OpenTelemetry's own variables.
    pub otel: OtelConfig,
    /// Unknown `VELOX_*` variables and the like: logged by `serve`, refused by `config check`.
    pub warnings: Vec<String>,
    effective: Vec<EffectiveValue>,
}

impl Config {
    /// Loads the configuration. `file`: as named by the operator, and then it must be there; `None`:
    /// [`DEFAULT_FILE`] of the working directory, if there is one.
    pub fn load(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let name = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(ConfigError::File { name, reason: error.to_string() });
            }
        };
        Self::from_sources(text.as_deref().map(|text| (name.as_str(), text)), variables, flags)
    }

    /// As [`Config::load`], with the file's name and text given.
    pub fn from_sources(
        file: Option<(&str, &str)>,
        variables: impl Iterator<Item = (String, String)>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        let variables: HashMap<_, _> = variables.collect();
        let (otel, otel_warnings) = OtelConfig::read(&variables);
        let mut values = Values::collect(file, variables.into_iter(), flags)?;
        values.warnings.extend(otel_warnings);
        let config = Self::build(&values, otel)?;
        config.check_admin_key(&values)?;
        Ok(config)
    }

    /// Every key with its value and source, secrets hidden.
    pub fn effective(&self) -> &[EffectiveValue] {
        &self.effective
    }

    fn build(values: &Values, otel: OtelConfig) -> Result<Self, ConfigError> {
        let ms = |name| values.required(name, |text| parse::milliseconds(text, 1));
        let ms_or_zero = |name| values.required(name, |text| parse::milliseconds(text, 0));
        let count = |name, most| values.required(name, |text| parse::within(text, 1, most));
        let rate = |name| values.required(name, |text| parse::within(text, NonZeroU32::MIN, MAX_RATE));
        let retry_base = values.optional("outbox_retry_base_ms", |text| parse::milliseconds(text, 1))?;
        let mut config = Self {
            listen: values.required("listen", parse::listen)?,
            node_id: values.optional("node_id", parse::node_id)?,
            data_dir: values.required("data_dir", parse::directory)?,
            database_url: values
                .optional("database_url", |text| parse::url(text, &["postgres://", "postgresql://"]))?,
            db_max_connections: count("db_max_connections", 10_000)?,
            pg_bin: values.optional("pg_bin", parse::directory)?,
            redis_url: values
                .optional("redis_url", |text| parse::url(text, &["redis://", "rediss://", "unix://"]))?,
            admin_key: values.optional("admin_key", parse::secret_text)?,
            jwt_secret: values.optional("jwt_secret", parse::secret_text)?,
            jwt_grace: ms_or_zero("jwt_grace_ms")?,
            cors_origins: values.optional("cors_origins", parse::origins)?.unwrap_or_default(),
            rate_limit_rps: rate("rate_limit_rps")?,
            rate_limit_burst: rate("rate_limit_burst")?,
            peers: values.optional("peers", peers::parse)?.unwrap_or_default(),
            outbox_poll: ms("outbox_poll_ms")?,
            outbox_max_retries: count("outbox_max_retries", 1_000)?,
            outbox_retry_base_relay: retry_base.unwrap_or(RETRY_BASE_RELAY),
            outbox_retry_base_projection: retry_base.unwrap_or(RETRY_BASE_PROJECTION),
            outbox_retention: ms_or_zero("outbox_retention_ms")?,
            hang_limit: ms("hang_limit_ms")?,
            heal_interval: ms("heal_interval_ms")?,
            reconcile_interval: ms("reconcile_interval_ms")?,
            breaker_failures: count("breaker_failures", 1_000_000)?,
            breaker_successes: count("breaker_successes", 1_000_000)?,
            breaker_open: ms("breaker_open_ms")?,
            lease_ttl: ms("lease_ttl_ms")?,
            probe_interval: ms("probe_interval_ms")?,
            health_interval: ms("health_interval_ms")?,
            escrow_ttl: ms("escrow_ttl_ms")?,
            escrow_grace: ms_or_zero("escrow_grace_ms")?,
            escrow_max_share: values.required("escrow_max_share", parse::share)?,
            fiscal_ttl: ms("fiscal_ttl_ms")?,
            webhook_allow_private: values.required("webhook_allow_private", parse::boolean)?,
            log: values.required("log", parse::filter)?,
            log_format: values.required("log_format", parse::log_format)?,
            otel,
            warnings: values.warnings.clone(),
            effective: Vec::new(),
        };
        config.effective = effective(values, &config);
        Ok(config)
    }

    fn check_admin_key(&self, values: &Values) -> Result<(), ConfigError> {
        let short = self.admin_key.as_ref().is_some_and(|key| key.chars() < ADMIN_KEY_MIN_CHARS);
        if short && !self.listen.ip().to_canonical().is_loopback() {
            return Err(ConfigError::Invalid {
                key: "admin_key",
                from: values.get("admin_key").source.to_string(),
                reason: format!(
                    "must have {ADMIN_KEY_MIN_CHARS} characters or more to listen on {}, which is not loopback",
                    self.listen
                ),
            });
        }
        Ok(())
    }
}

/// Above it a limit would limit nothing.
const MAX_RATE: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();
/// First back-off of a relay entry where none is configured: the peer's outage outlasts it anyway.
const RETRY_BASE_RELAY: Duration = Duration::from_millis(5000);
/// First back-off of a projection entry where none is configured.
const RETRY_BASE_PROJECTION: Duration = Duration::from_millis(1000);

/// OpenTelemetry's variable of the exporter's transport.
const OTLP_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

fn effective(values: &Values, config: &Config) -> Vec<EffectiveValue> {
    let row = |key: &keys::Key| {
        let value = values.get(key.name);
        let shown = match (key.name, &value.text) {
            ("peers", Some(_)) => peers::summary(&config.peers),
            ("cors_origins", Some(_)) => config.cors_origins.join(","),
            ("outbox_retry_base_ms", None) => {
                format!(
                    "{} relay, {} projection",
                    RETRY_BASE_RELAY.as_millis(),
                    RETRY_BASE_PROJECTION.as_millis()
                )
            }
            (_, None) => "(none)".to_owned(),
            (_, Some(_)) if key.secret => HIDDEN.to_owned(),
            (_, Some(text)) => text.escape_debug().to_string(),
        };
        EffectiveValue { key: key.name.to_owned(), value: shown, source: value.source.to_string() }
    };
    let otel = |key: &str, value: Option<String>| EffectiveValue {
        key: key.to_owned(),
        source: if value.is_some() { key.to_owned() } else { "default".to_owned() },
        value: value.unwrap_or_else(|| "(none)".to_owned()),
    };
    let mut rows: Vec<_> = keys::KEYS.iter().map(row).collect();
    rows.push(otel("OTEL_EXPORTER_OTLP_ENDPOINT", config.otel.shown_endpoint()));
    rows.push(EffectiveValue {
        source: if config.otel.protocol_set { OTLP_PROTOCOL } else { "default" }.to_owned(),
        ..otel(OTLP_PROTOCOL, Some(config.otel.protocol.to_string()))
    });
    rows.push(otel("OTEL_SERVICE_NAME", config.otel.service_name.clone()));
    rows
}

#[cfg(test)]
mod tests;
