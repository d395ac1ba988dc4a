//! The configured database URL, as the driver wants it.

use crate::config::Config;

pub(super) fn database_options(config: &Config) -> anyhow::Result<velox_store::ConnectOptions> {
    let url = config.database_url.as_ref().map(|url| url.expose()).unwrap_or_default();
    // The parser's own message could quote the password.
    url.parse().map_err(|_| anyhow::anyhow!("VELOX_DATABASE_URL is no postgres:// URL"))
}
