//! `velox peers`: how it goes with each peer, asked now, and which node is at home where.

use super::{Context, Outcome, output};
use crate::clock::SystemClock;
use crate::federation;
use futures_util::future::join_all;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use velox_actors::peer::{Failure, OwnIdentity, Protocol};
use velox_actors::relay::Wire;
use velox_protocol::home;
use velox_protocol::time::Clock;
use velox_store::{FiscalSeriesRow, PeerSeen, Store, StoreRow};

/// Longest wait for a peer: whoever asks waits for all of them.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// Arguments of `peers`.
#[derive(Debug, clap::Args)]
pub(crate) struct Peers {}

/// What the command tells.
#[derive(Debug, Serialize)]
struct Told {
    node_id: String,
    peers: Vec<PeerTold>,
    stores: Vec<Home>,
    series: Vec<Owner>,
}

/// A peer; the names are those of `GET /sync/federation/status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerTold {
    name: String,
    url: String,
    protocol: &'static str,
    /// What it says of itself, where it was heard.
    node_id: Option<String>,
    reachable: bool,
    /// `None`: it was not reached, so nobody knows.
    authorized: Option<bool>,
    latency_ms: Option<u64>,
    /// As it was last saved.
    circuit_breaker_state: String,
    pending: i64,
    dead: i64,
    last_success_at: Option<String>,
    last_error: Option<String>,
}

/// A shop and the node that grants its escrow.
#[derive(Debug, Serialize)]
struct Home {
    store_id: uuid::Uuid,
    name: String,
    home_node: Option<String>,
}

/// A series and the node that hands out its numbers.
#[derive(Debug, Serialize)]
struct Owner {
    store_id: uuid::Uuid,
    series_id: uuid::Uuid,
    owner_node: Option<String>,
}

impl Peers {
    pub(super) async fn run(self, context: Context) -> anyhow::Result<Outcome> {
        let database = context.database().await?;
        let told = tell(&context, &database.store).await;
        database.close().await?;
        let told = told?;
        if context.json {
            output::json(&told)?;
        } else {
            print(&told);
        }
        let well = |peer: &PeerTold| peer.authorized == Some(true) && peer.dead == 0;
        Ok(if told.peers.iter().all(well) { Outcome::Fine } else { Outcome::Found })
    }
}

async fn tell(context: &Context, store: &Store) -> anyhow::Result<Told> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // A database that no node has served yet has no identity.
    let fresh = crate::clock::fresh_id().to_string();
    let node_id = store.node_id(context.config.node_id.as_deref(), &fresh).await?;
    let own = OwnIdentity::read(store).await?;
    let wires = federation::wires(&federation::peers(&context.config.peers), &own, &clock)?;
    let seen: BTreeMap<String, PeerSeen> =
        store.peers_seen().await?.into_iter().map(|seen| (seen.peer.clone(), seen)).collect();
    let peers = join_all(wires.iter().map(|wire| ask(store, wire, seen.get(&wire.peer().name)))).await;
    let has_native = wires.iter().any(|wire| wire.peer().protocol == Protocol::Velox);
    let stores = store.stores().await?;
    let series = store.fiscal_series(None).await?;
    let home_of =
        |shop: &StoreRow| home::home(shop.home_node.as_deref(), &node_id, has_native).map(str::to_owned);
    let owner_of = |series: &FiscalSeriesRow| {
        let at_home = stores.iter().find(|shop| shop.store_id == series.store_id).and_then(home_of);
        home::owner(series.owner_node.as_deref(), at_home.as_deref()).map(str::to_owned)
    };
    let series = series.iter().map(|series| Owner {
        store_id: series.store_id,
        series_id: series.series_id,
        owner_node: owner_of(series),
    });
    let series = series.collect();
    let homes = stores.iter().map(|shop| Home {
        store_id: shop.store_id,
        name: shop.name.clone(),
        home_node: home_of(shop),
    });
    let stores = homes.collect();
    Ok(Told { peers: peers.into_iter().collect::<Result<_, _>>()?, stores, series, node_id })
}

async fn ask(store: &Store, wire: &Wire, seen: Option<&PeerSeen>) -> Result<PeerTold, velox_store::Error> {
    let peer = wire.peer();
    let counts = store.relay_counts(&peer.name).await?;
    let breaker = store.breaker_of(&peer.name).await?;
    let began = Instant::now();
    let probed = wire.probe(PROBE_LIMIT).await;
    let last_error =
        seen.filter(|seen| seen.last_error_at > seen.last_success_at).and_then(|s| s.last_error.clone());
    Ok(PeerTold {
        name: peer.name.clone(),
        url: peer.url.clone(),
        protocol: if peer.protocol == Protocol::Velox { "velox" } else { "v1" },
        node_id: seen.and_then(|seen| seen.node_id.clone()),
        reachable: probed.as_ref().map_or_else(Failure::is_reachable, |()| true),
        authorized: match &probed {
            Ok(()) => Some(true),
            Err(Failure::Unauthorized { .. }) => Some(false),
            Err(_) => None,
        },
        latency_ms: probed.is_ok().then(|| began.elapsed().as_millis() as u64),
        circuit_breaker_state: breaker.map_or_else(|| "CLOSED".to_owned(), |kept| kept.state),
        pending: counts.pending,
        dead: counts.dead,
        last_success_at: seen.and_then(|seen| seen.last_success_at).map(|at| at.to_rfc3339()),
        last_error: probed.err().map(|failure| failure.to_string()).or(last_error),
    })
}

fn print(told: &Told) {
    println!("this node is {}", output::plain(&told.node_id));
    if told.peers.is_empty() {
        println!("It has no peers.");
    } else {
        let mut table =
            output::table(&["peer", "url", "node", "is", "breaker", "waiting", "dead", "last error"]);
        for peer in &told.peers {
            let is = match (peer.authorized, peer.latency_ms) {
                (Some(true), Some(ms)) => format!("reachable, {ms} ms"),
                (Some(false), _) => "reachable, and refuses this node".to_owned(),
                _ if peer.reachable => "there, and not well".to_owned(),
                _ => "not reachable".to_owned(),
            };
            table.add_row([
                output::plain(&peer.name),
                output::plain(&peer.url),
                output::plain(peer.node_id.as_deref().unwrap_or("?")),
                is,
                peer.circuit_breaker_state.clone(),
                peer.pending.to_string(),
                peer.dead.to_string(),
                output::plain(peer.last_error.as_deref().unwrap_or_default()),
            ]);
        }
        println!("{table}");
    }
    let node = |node: &Option<String>| output::plain(node.as_deref().unwrap_or("nobody"));
    for shop in &told.stores {
        println!(
            "{} ({}) is at home with {}",
            output::plain(&shop.name),
            shop.store_id,
            node(&shop.home_node)
        );
    }
    for series in &told.series {
        println!("series {} is handed out by {}", series.series_id, node(&series.owner_node));
    }
}
