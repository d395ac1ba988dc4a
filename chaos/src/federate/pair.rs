//! Two nodes, each the other's peer without anything in between, and a look into both databases.
//!
//! Never here: what is measured.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use uuid::Uuid;

use crate::cluster::{Caller, Launch, Pod, wait_within};
use crate::database;
use crate::till::{Shop, Till};

/// Longest wait for nodes that have nothing left to do: a million events may lie before it.
const SETTLE_LIMIT: Duration = Duration::from_secs(1_800);
/// An open breaker is tried again so soon; the default is a minute, which is no part of any figure.
const BREAKER_OPEN_MS: &str = "1000";
/// Nobody compares logs but us: once a day is not within a run.
const RECONCILE_INTERVAL_MS: &str = "86400000";

/// A node and its database.
pub(super) struct Node {
    pub(super) pod: Pod,
    /// Never in a transaction that would hold back the node's clean-up.
    pub(super) watch: PgConnection,
}

/// Both nodes. `b` is known to `a` as `b`, and the other way round.
pub(super) struct Pair {
    pub(super) a: Node,
    pub(super) b: Node,
}

impl Pair {
    /// Starts both.
    pub(super) async fn start(velox: &Path) -> Result<Self> {
        // Of this run and this machine alone.
        let key = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        let (a, b) = (launch(velox)?, launch(velox)?);
        let (at_a, at_b) = (a.address(), b.address());
        let mut a = Pod::begin(a.set("VELOX_PEERS", &peer("b", at_b, &key)))?;
        let mut b = Pod::begin(b.set("VELOX_PEERS", &peer("a", at_a, &key)))?;
        a.ready().await.context("the first node")?;
        b.ready().await.context("the second node")?;
        Ok(Pair { a: Node::of(a).await?, b: Node::of(b).await? })
    }

    /// Registers a shop, of which the relay tells the peer.
    pub(super) async fn add_shop(&mut self, store_id: Uuid) -> Result<()> {
        self.a.pod.admin().add_store(store_id, "Bodega de prueba").await?;
        self.settled().await
    }

    /// Registers a shop, and a till at the first node. Returns its token.
    pub(super) async fn open(&mut self, shop: &Shop, till: &Till) -> Result<String> {
        self.add_shop(shop.store_id).await?;
        self.a.pod.admin().add_device(shop.store_id, till.device_id).await
    }

    /// Waits until neither has anything to project or to send, and all breakers are closed.
    pub(super) async fn settled(&mut self) -> Result<()> {
        for node in [&mut self.a, &mut self.b] {
            node.settled().await?;
        }
        Ok(())
    }

    /// Stops both in order.
    pub(super) async fn stop(&mut self) -> Result<()> {
        for node in [&mut self.a, &mut self.b] {
            if node.pod.pid().is_some() {
                node.pod.stop().await?;
            }
        }
        Ok(())
    }
}

impl Node {
    async fn of(pod: Pod) -> Result<Self> {
        let watch = connect(&pod).await?;
        Ok(Node { pod, watch })
    }

    /// How to reach its database.
    pub(super) fn database(&self) -> Result<PgConnectOptions> {
        database::embedded(&self.pod.data_dir())
    }

    /// Starts it again with its old data.
    pub(super) async fn restart(&mut self) -> Result<()> {
        self.pod.restart().await?;
        self.watch = connect(&self.pod).await?;
        Ok(())
    }

    /// How many events of a shop stand in its log.
    pub(super) async fn count(&mut self, store_id: Uuid) -> Result<i64> {
        let query = sqlx::query_scalar("SELECT count(*) FROM events WHERE store_id = $1").bind(store_id);
        Ok(query.fetch_one(&mut self.watch).await?)
    }

    /// Waits until no entry of its outbox is to be worked on, and the breaker of its peer is closed.
    pub(super) async fn settled(&mut self) -> Result<()> {
        let admin = self.pod.admin();
        wait_within(SETTLE_LIMIT, "a node without work", async || {
            match self.is_busy(&admin).await.map_err(|error| format!("{error:#}"))? {
                None => Ok(()),
                Some(why) => Err(why),
            }
        })
        .await
    }

    /// Waits until all that it has taken is in its tables, whatever its peer does.
    pub(super) async fn projected(&mut self) -> Result<()> {
        wait_within(SETTLE_LIMIT, "a node that has projected everything", async || {
            match self.has_entries("projection").await.map_err(|error| error.to_string())? {
                false => Ok(()),
                true => Err("there are entries".to_owned()),
            }
        })
        .await
    }

    async fn is_busy(&mut self, admin: &Caller) -> Result<Option<String>> {
        for target in ["projection", "federation-relay"] {
            if self.has_entries(target).await? {
                return Ok(Some(format!("entries for {target}")));
            }
        }
        let status = admin.get("/sync/federation/status").await?;
        let breaker = status["circuitBreakerState"].as_str().unwrap_or_default();
        Ok((breaker != "CLOSED").then(|| format!("the breaker is {breaker}")))
    }

    async fn has_entries(&mut self, target: &str) -> Result<bool> {
        const PENDING: &str =
            "SELECT EXISTS (SELECT 1 FROM outbox_entries WHERE target = $1 AND status = 'pending')";
        Ok(sqlx::query_scalar(PENDING).bind(target).fetch_one(&mut self.watch).await?)
    }
}

fn launch(velox: &Path) -> Result<Launch> {
    let launch = Launch::new(velox)?.without_faults();
    Ok(launch
        .set("VELOX_BREAKER_OPEN_MS", BREAKER_OPEN_MS)
        .set("VELOX_RECONCILE_INTERVAL_MS", RECONCILE_INTERVAL_MS))
}

fn peer(name: &str, at: SocketAddr, key: &str) -> String {
    json!([{ "name": name, "url": format!("http://{at}"), "key": key }]).to_string()
}

async fn connect(pod: &Pod) -> Result<PgConnection> {
    let options = database::embedded(&pod.data_dir())?.application_name("velox-chaos");
    options.connect().await.context("the node's database")
}
