//! Clusters: nodes as `velox serve` processes, each the peer of the others through links that fail on demand.
//!
//! Of two nodes each has a [`Link`] of its own to the other, so one direction can fail alone. A node may have
//! several pods: processes that share its database. Ports are known before anything starts, and a pod that is
//! started again has its old one.
//!
//! Everything ends with its value: processes are killed, embedded PostgreSQL servers too, directories are removed.
//!
//! Never here: what is asked of a cluster in a scenario, or the verdict on it.

mod caller;
mod pod;
mod process;
mod redis;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use sqlx::ConnectOptions as _;
use tokio::time::sleep;

pub use caller::{Caller, Pushed, Reply};
pub use pod::{Launch, Memory, Pod};
pub use redis::Redis;

use crate::faulty_network::Link;
use crate::measure;

/// How long is waited for a condition: on a busy machine everything is slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a cluster draws ports before it gives up, and what a node says whose port is taken.
const PORT_TRIES: usize = 4;
const PORT_TAKEN: &str = "Address already in use";
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);

/// A node to start.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    name: String,
    database: Option<String>,
    pods: usize,
    variables: Vec<(String, String)>,
    arguments: Vec<String>,
}

/// Nodes that run, or could again.
#[derive(Debug)]
pub struct Cluster {
    nodes: BTreeMap<String, Vec<Pod>>,
    /// By who asks and who answers.
    links: BTreeMap<(String, String), Link>,
}

impl NodeSpec {
    /// A node of one pod with an embedded PostgreSQL, known to its peers by this name.
    pub fn new(name: &str) -> Self {
        NodeSpec {
            name: name.to_owned(),
            database: None,
            pods: 1,
            variables: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// Over this database, which is the caller's to remove.
    #[must_use]
    pub fn database(mut self, url: &str) -> Self {
        self.database = Some(url.to_owned());
        self
    }

    /// With so many pods. Where no database is given, that of the first one is embedded, and the others use it.
    #[must_use]
    pub fn pods(mut self, pods: usize) -> Self {
        self.pods = pods;
        self
    }

    /// With further arguments of `velox serve`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[String]) -> Self {
        self.arguments.extend_from_slice(arguments);
        self
    }

    /// With another variable, such as `VELOX_BREAKER_OPEN_MS`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.variables.push((key.to_owned(), value.to_owned()));
        self
    }
}

impl Cluster {
    /// Starts nodes of which each is the peer of every other one, and waits until all are ready.
    ///
    /// # Errors
    /// What keeps one of them from getting ready, with the end of its log.
    pub async fn start(velox: &Path, specs: &[NodeSpec]) -> Result<Self> {
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let mut pairs = Vec::new();
        for (place, one) in names.iter().enumerate() {
            pairs.extend(names[..place].iter().map(|other| (*other, *one)));
        }
        Cluster::wired(velox, specs, &pairs).await
    }

    /// The same where only these pairs are peers, as in a chain.
    ///
    /// # Errors
    /// What keeps a node from getting ready, with the end of its log.
    pub async fn wired(velox: &Path, specs: &[NodeSpec], pairs: &[(&str, &str)]) -> Result<Self> {
        for _ in 1..PORT_TRIES {
            match Cluster::wire(velox, specs, pairs).await {
                // A port was free when it was drawn, and somebody else's when the pod came to it.
                Err(error) if error.to_string().contains(PORT_TAKEN) => {}
                begun => return begun,
            }
        }
        Cluster::wire(velox, specs, pairs).await
    }

    async fn wire(velox: &Path, specs: &[NodeSpec], pairs: &[(&str, &str)]) -> Result<Self> {
        let mut launches: BTreeMap<&str, Vec<Launch>> = BTreeMap::new();
        for spec in specs {
            ensure!(spec.pods > 0, "{} has no pods", spec.name);
            let pods = (0..spec.pods).map(|_| Launch::new(velox)).collect::<Result<_>>()?;
            ensure!(launches.insert(&spec.name, pods).is_none(), "two nodes are called {}", spec.name);
        }
        let mut links = BTreeMap::new();
        let mut peers: BTreeMap<&str, Vec<serde_json::Value>> = BTreeMap::new();
        for (one, other) in pairs {
            // Of this cluster and this machine alone.
            let key = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
            for (from, to) in [(one, other), (other, one)] {
                let upstreams = launches.get(to).with_context(|| format!("there is no node {to}"))?;
                let link = Link::to_any(upstreams.iter().map(Launch::address).collect())?;
                let peer = json!({ "name": to, "url": link.url(), "key": key });
                peers.entry(from).or_default().push(peer);
                ensure!(
                    links.insert(((*from).to_owned(), (*to).to_owned()), link).is_none(),
                    "{from} and {to} are peers twice"
                );
            }
        }
        let mut nodes: BTreeMap<String, Vec<Pod>> = BTreeMap::new();
        for spec in specs {
            let pods = nodes.entry(spec.name.clone()).or_default();
            for mut launch in launches.remove(spec.name.as_str()).unwrap_or_default() {
                if let Some(peers) = peers.get(spec.name.as_str()) {
                    launch = launch.set("VELOX_PEERS", &json!(peers).to_string());
                }
                if let Some(url) = &spec.database {
                    launch = launch.database(url);
                } else if let Some(first) = pods.first_mut() {
                    first.ready().await?;
                    launch = launch.database(first.database()?.to_url_lossy().as_str());
                }
                launch = spec.variables.iter().fold(launch, |launch, (key, value)| launch.set(key, value));
                pods.push(Pod::begin(launch.arguments(&spec.arguments))?);
            }
        }
        let mut cluster = Cluster { nodes, links };
        for pod in cluster.nodes.values_mut().flatten() {
            pod.ready().await?;
        }
        Ok(cluster)
    }

    /// The names of all nodes.
    pub fn names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    /// The first pod of a node.
    ///
    /// # Panics
    /// Where no node has this name, as the next ones.
    pub fn pod(&self, node: &str) -> &Pod {
        &self.pods(node)[0]
    }

    /// The pods of a node.
    pub fn pods(&self, node: &str) -> &[Pod] {
        self.nodes.get(node).unwrap_or_else(|| panic!("there is no node {node}"))
    }

    /// The same, to kill them and to start them again.
    pub fn pods_mut(&mut self, node: &str) -> &mut [Pod] {
        self.nodes.get_mut(node).unwrap_or_else(|| panic!("there is no node {node}"))
    }

    /// What the requests of `from` to `to` go through.
    ///
    /// # Panics
    /// Where the two are no peers.
    pub fn link(&self, from: &str, to: &str) -> &Link {
        let link = self.links.get(&(from.to_owned(), to.to_owned()));
        link.unwrap_or_else(|| panic!("{from} and {to} are no peers"))
    }

    /// All links.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Cuts both links between two nodes.
    pub fn cut(&self, one: &str, other: &str) {
        self.link(one, other).cut();
        self.link(other, one).cut();
    }

    /// Heals both links between two nodes.
    pub fn heal(&self, one: &str, other: &str) {
        self.link(one, other).heal();
        self.link(other, one).heal();
    }

    /// Stops every pod that runs as an operator would. Without this call they are killed.
    ///
    /// # Errors
    /// Where one does not end in order and in time.
    pub async fn stop(mut self) -> Result<()> {
        // A stalled link would hold a pod's last requests.
        self.links.values().for_each(Link::heal);
        // The first one last: its PostgreSQL may be that of the others.
        let pods = self.nodes.values_mut().flat_map(|pods| pods.iter_mut().rev());
        for pod in pods.filter(|pod| pod.pid().is_some()) {
            pod.stop().await?;
        }
        Ok(())
    }
}

/// Waits until `look` says `Ok`, and returns what it found. Until then it says how things stand.
///
/// # Errors
/// After a minute: what was waited for, and how things stood at last.
pub async fn wait_until<T>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> Result<T> {
    wait_within(PATIENCE, what, look).await
}

/// The same with another limit.
///
/// # Errors
/// After that time: what was waited for, and how things stood at last.
pub async fn wait_within<T>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T> {
    let started = measure::now();
    loop {
        let status = match look().await {
            Ok(found) => return Ok(found),
            Err(status) => status,
        };
        if started.elapsed() > limit {
            bail!("waited {} s in vain for {what}: {status}", limit.as_secs());
        }
        sleep(POLL).await;
    }
}

/// The `velox` beside this program.
///
/// # Errors
/// Where it has not been built.
pub fn velox_beside_us() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("velox");
    ensure!(path.is_file(), "there is no {}: build it, or name one with --velox", path.display());
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_in_vain_says_how_things_stood() {
        let mut looks = 0;
        let found = wait_until("three looks", async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("{looks} looks")) }
        });
        assert_eq!(found.await.expect("three looks"), 3);
        let never = wait_within(Duration::ZERO, "a fourth", async || Err::<(), _>("still three".to_owned()));
        assert_eq!(
            never.await.expect_err("no fourth").to_string(),
            "waited 0 s in vain for a fourth: still three"
        );
    }
}
