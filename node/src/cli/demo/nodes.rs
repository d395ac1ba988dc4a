//! The demo's two nodes: the shop's own and the one in the cloud, each with its database, peers over two links.
//!
//! Never here: what the tills do.

use super::client::Caller;
use super::home::Home;
use super::link::Link;
use crate::cli::Context;
use crate::clock::SystemClock;
use crate::config::{Config, Overrides};
use crate::lifecycle::{self, RunningNode, StartOptions};
use anyhow::{Context as _, bail};
use futures_util::future::{join, select};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

/// The node in the shop.
pub(super) const SHOP: usize = 0;
/// The node in the cloud.
pub(super) const CLOUD: usize = 1;
/// Their names.
pub(super) const NODES: [&str; 2] = ["shop", "cloud"];

/// Warnings are shown, but for those that the demo itself gives cause to: an event that it has spoilt, a peer that is
/// away, and connections that are given up when it is told to end in the middle of the day.
const LOG: &str = "warn,velox_actors=error,sqlx=error";
/// What makes a demo of seconds out of a day: a node looks after its peer more often than it would otherwise.
const HASTE: [(&str, &str); 5] = [
    ("OUTBOX_POLL_MS", "250"),
    ("OUTBOX_RETRY_BASE_MS", "250"),
    ("BREAKER_OPEN_MS", "2000"),
    ("PROBE_INTERVAL_MS", "1000"),
    ("RECONCILE_INTERVAL_MS", "10000"),
];

/// What each node's requests to the other one go through.
#[derive(Debug)]
pub(super) struct Links([Link; 2]);

/// Two nodes that serve.
pub(super) struct Nodes {
    nodes: [RunningNode; 2],
}

impl Links {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Links([Link::new()?, Link::new()?]))
    }

    pub(super) fn cut(&self) {
        self.0.iter().for_each(Link::cut);
    }

    pub(super) fn heal(&self) {
        self.0.iter().for_each(Link::heal);
    }

    pub(super) fn are_cut(&self) -> bool {
        self.0.iter().all(Link::is_cut)
    }
}

/// The configurations of both. Of the caller's stays where PostgreSQL's programs and a collector of traces are, and
/// what was given as a flag; an address is the shop node's.
pub(super) fn configs(context: &Context, home: &Home, links: &Links) -> anyhow::Result<[Config; 2]> {
    let yours = &context.config;
    let given = |key: &str| yours.effective().iter().any(|v| v.key == key && v.source.starts_with("flag "));
    if given("data_dir") {
        bail!("the demo makes a data directory of its own; --keep leaves it");
    }
    let key: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
    let config = |node: usize| {
        let peer = json!([{ "name": NODES[1 - node], "url": links.0[node].url(), "key": key }]).to_string();
        let data_dir = home.data_dir(NODES[node]).display().to_string();
        let fixed = [
            ("LISTEN", "127.0.0.1:0"),
            ("DATA_DIR", &data_dir),
            ("PEERS", &peer),
            ("RATE_LIMIT_RPS", "100000"),
            ("RATE_LIMIT_BURST", "100000"),
            ("LOG", LOG),
        ];
        let variables = fixed.into_iter().chain(HASTE);
        let variables = variables.map(|(name, value)| (format!("VELOX_{name}"), value.to_owned()));
        let mut config = Config::from_sources(None, variables, &Overrides::default())?;
        config.pg_bin = yours.pg_bin.clone();
        config.otel = yours.otel.clone();
        config.log_format = yours.log_format;
        if given("listen") && node == SHOP {
            config.listen = yours.listen;
        }
        if given("log") {
            config.log = yours.log.clone();
        }
        anyhow::Ok(config)
    };
    Ok([config(SHOP)?, config(CLOUD)?])
}

impl Nodes {
    /// Starts both at once and leads the links to them. Where one does not start, the other one is ended.
    pub(super) async fn start(configs: &[Config; 2], links: &Links) -> anyhow::Result<Self> {
        let start =
            |node: usize| lifecycle::start(&configs[node], StartOptions::new(false, Arc::new(SystemClock)));
        match join(start(SHOP), start(CLOUD)).await {
            (Ok(shop), Ok(cloud)) => {
                links.0[SHOP].lead_to(cloud.address);
                links.0[CLOUD].lead_to(shop.address);
                Ok(Nodes { nodes: [shop, cloud] })
            }
            (Err(error), Ok(other)) | (Ok(other), Err(error)) => {
                other.stop().await?;
                Err(error)
            }
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// Resolves with the reason when one of them cannot go on.
    pub(super) fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        let [shop, cloud] = &self.nodes;
        let (shop, cloud) = (Box::pin(shop.failed()), Box::pin(cloud.failed()));
        async { select(shop, cloud).await.factor_first().0 }
    }

    /// Their admins.
    pub(super) fn admins(&self, store_id: Uuid) -> anyhow::Result<[Caller; 2]> {
        let [shop, cloud] = &self.nodes;
        let admin = |node: &RunningNode| Caller::admin(node.address, node.admin_key.expose(), store_id);
        Ok([admin(shop)?, admin(cloud)?])
    }

    /// Ends both at once.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        let [shop, cloud] = self.nodes;
        let (shop, cloud) = join(shop.stop(), cloud.stop()).await;
        shop.context("the shop's node")?;
        cloud.context("the cloud's node")
    }
}
