//! Where a scenario plays: a cluster, a shop that all its nodes know, tills, and what is asked of them.
//!
//! Never here: the order of things in a scenario.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::TimeDelta;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::Setting;
use super::script::Script;
use crate::checker;
use crate::client::{Client, Home};
use crate::cluster::{Caller, Cluster, NodeSpec, Pod, wait_until};
use crate::history::{self, History, What};
use crate::measure;
use crate::observed;
use crate::till::{Shop, Till};

/// How long ago the tills were opened, by their clocks: those run faster than ours.
const OPENED_BEFORE: TimeDelta = TimeDelta::hours(2);

/// Of every node that is not told otherwise: nothing but what a scenario does itself, and nothing slow.
const VARIABLES: [(&str, &str); 4] = [
    ("VELOX_DB_MAX_CONNECTIONS", "10"),
    ("VELOX_OUTBOX_POLL_MS", "200"),
    ("VELOX_BREAKER_OPEN_MS", "1000"),
    ("VELOX_RECONCILE_INTERVAL_MS", "86400000"),
];

/// A stage.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) history: Arc<History>,
    pub(super) shop: Shop,
    pub(super) rng: StdRng,
    nodes: Vec<String>,
    file: Option<std::path::PathBuf>,
}

/// A node of this name with short intervals.
pub(super) fn node(setting: &Setting, name: &str) -> NodeSpec {
    let spec = NodeSpec::new(name).arguments(&setting.serve);
    VARIABLES.iter().fold(spec, |spec, (key, value)| spec.set(key, value))
}

impl Stage {
    /// Starts nodes that are each other's peers, and registers a shop at the first one.
    pub(super) async fn open(setting: &Setting, nodes: &[&str], specs: &[NodeSpec]) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(setting.seed);
        let shop = Shop::new(&mut rng);
        let cluster = Cluster::start(&setting.velox, specs).await?;
        let nodes: Vec<String> = nodes.iter().map(|&name| name.to_owned()).collect();
        let stage =
            Stage { cluster, history: Arc::default(), shop, rng, nodes, file: setting.history.clone() };
        let first = stage.pod(&stage.nodes[0]).admin();
        first.add_store(stage.shop.store_id, "Bodega").await?;
        for node in &stage.nodes {
            let (admin, path) =
                (stage.pod(node).admin(), format!("/sync/outbox?store_id={}", stage.shop.store_id));
            wait_until("the shop at every node", async || match admin.get(&path).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{node}: {error:#}")),
            })
            .await?;
        }
        Ok(stage)
    }

    /// A till of a node, which may send to the other ones, too.
    pub(super) async fn till(&mut self, node: &str) -> Result<Client> {
        let till = Till::new(&self.shop, measure::wall_clock() - OPENED_BEFORE, &mut self.rng);
        let mut homes = Vec::new();
        let others = self.nodes.iter().filter(|other| *other != node);
        for name in std::iter::once(&node.to_owned()).chain(others) {
            let token = self.pod(name).admin().add_device(self.shop.store_id, till.device_id).await?;
            let pods = self.cluster.pods(name).iter().map(|pod| pod.admin().with_token(&token)).collect();
            homes.push(Home { node: name.clone(), pods });
        }
        Ok(Client::new(till, homes, &mut self.rng, self.history.clone()))
    }

    pub(super) fn pod(&self, node: &str) -> &Pod {
        self.cluster.pod(node)
    }

    pub(super) fn admin(&self, node: &str) -> Caller {
        self.pod(node).admin()
    }

    /// Compares logs by hand at a pod, and writes down what it says.
    pub(super) async fn reconcile(&self, node: &str, pod: usize) -> Result<Value> {
        let admin = self.cluster.pods(node)[pod].admin();
        let body = json!({ "store_id": self.shop.store_id });
        let answer = admin.post("/sync/federation/auto-reconcile", &body).await?;
        let report = answer[0].clone();
        self.history.add(What::Reconcile { node: node.to_owned(), pod, report: report.clone() });
        Ok(report)
    }

    /// Waits until a pod holds the lease and has reconciled.
    pub(super) async fn reconciled(&self, node: &str, pod: usize) -> Result<Value> {
        wait_until("a lease", async || match self.reconcile(node, pod).await {
            Ok(report) if report["skipped"] == true => Err(report.to_string()),
            Ok(report) => Ok(report),
            Err(error) => Err(format!("{error:#}")),
        })
        .await
    }

    /// Waits until nobody has anything left to project or to send.
    pub(super) async fn settled(&self) -> Result<()> {
        // What one node sends is another one's to project, and its answer may still be on its way.
        let mut quiet = 0;
        wait_until("nodes without work", async || {
            match self.left().await.map_err(|error| format!("{error:#}"))? {
                left if left.is_empty() => quiet += 1,
                left => {
                    quiet = 0;
                    return Err(left);
                }
            }
            if quiet > 1 { Ok(()) } else { Err("it was quiet once".to_owned()) }
        })
        .await
    }

    async fn left(&self) -> Result<String> {
        let mut left = String::new();
        for node in &self.nodes {
            let stats = self.admin(node).get("/sync/outbox/stats").await?;
            let entries = stats["entries"].as_array().context("no entries")?;
            for entry in entries.iter().filter(|entry| entry["status"] == "pending") {
                left.push_str(&format!("{node}: {entry} "));
            }
        }
        Ok(left)
    }

    /// What became of an event at a node, as its trail tells.
    pub(super) async fn trail(&self, node: &str, event_id: &str) -> Result<Value> {
        let path = format!("/sync/events/{event_id}?store_id={}", self.shop.store_id);
        self.admin(node).get(&path).await
    }

    /// Waits for a row of a list.
    pub(super) async fn row(&self, node: &str, list: &str, id: &str) -> Result<Duration> {
        let (began, admin) = (measure::now(), self.admin(node));
        wait_until(&format!("{id} in {list}"), async || {
            let rows = admin.list(self.shop.store_id, list).await.map_err(|error| format!("{error:#}"))?;
            if rows.iter().any(|row| row["id"] == id) { Ok(()) } else { Err(format!("{} rows", rows.len())) }
        })
        .await?;
        Ok(began.elapsed())
    }

    /// Sets a fault of an actor of a node's first pod.
    pub(super) async fn fault(&self, node: &str, fault: Value) -> Result<()> {
        self.history.fault(format!("{node}: {fault}"));
        self.admin(node).post("/chaos/faults", &fault).await.map(drop)
    }

    /// Removes all faults of actors, of all pods.
    pub(super) async fn clear_faults(&self) -> Result<()> {
        for pod in self.nodes.iter().flat_map(|node| self.cluster.pods(node)) {
            pod.admin().call("DELETE", "/chaos/faults", "").await?;
        }
        Ok(())
    }

    /// Judges in the midst of a run whether an outage has cost something.
    pub(super) async fn check_outage(&self, script: &mut Script) -> Result<()> {
        let mut nodes = Vec::new();
        for node in &self.nodes {
            nodes.push(observed::log_and_queue(node, self.pod(node), self.shop.store_id).await?);
        }
        script.judged(checker::outage::check(&self.history.entries(), &nodes));
        Ok(())
    }

    /// Lets everything come to rest and judges it.
    pub(super) async fn check(&self, script: &mut Script) -> Result<()> {
        let began = measure::now();
        self.clear_faults().await?;
        self.settled().await?;
        let waited = began.elapsed().as_secs_f64();
        script.step(format!("after {waited:.2} s more nobody has work left; the checkers look"));
        let mut nodes = Vec::new();
        for node in &self.nodes {
            nodes.push(observed::observe(node, self.pod(node), self.shop.store_id).await?);
        }
        for verdict in checker::all(&self.history.entries(), &nodes) {
            script.judged(verdict);
        }
        Ok(())
    }

    /// Ends the cluster, and keeps what happened. Where the story broke off, with what the nodes logged at last.
    pub(super) async fn close(self, script: &mut Script, told: Result<()>) -> Result<()> {
        script.sums_up(history::summary(&self.history.entries()));
        if let Some(file) = &self.file {
            self.history.save(file)?;
        }
        if let Err(error) = told {
            let pods = self.nodes.iter().flat_map(|node| self.cluster.pods(node));
            let logs: Vec<String> = pods.map(Pod::log_tail).collect();
            return Err(error.context(format!("the nodes' last words:\n{}", logs.join("\n--\n"))));
        }
        // Nothing is proved by an orderly end here: it has tests of its own.
        drop(self.cluster);
        Ok(())
    }
}
