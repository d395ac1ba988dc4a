//! `GET /sync/federation/probe` and `GET /sync/federation/status`: who this node is, and how it goes with its peers.
//!
//! A probe goes outside of any breaker. Never here: alarms.

use super::signed;
use crate::app::AppState;
use crate::http::auth::NodeCaller;
use crate::http::error::Problem;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use velox_actors::peer::Failure;
use velox_actors::relay::{RelayHandle, RelayStatus, Wire};
use velox_protocol::federation::Probe;
use velox_store::RelayCounts;

/// Longest wait for a peer's probe: the operator waits for all of them.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// Who this node is, for a signed peer.
///
/// # Errors
/// 401, 503.
pub async fn probe(
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    signed::read(&state, &request, payload, "application/json").await?;
    let identity = state.store.identity().await?;
    Ok(HttpResponse::Ok().json(Probe {
        node_id: identity.node_id,
        incarnation: identity.incarnation,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema_version: identity.schema_version,
        time: state.clock.now().timestamp_millis(),
        ready: !state.is_draining() && state.tree.down().is_empty(),
    }))
}

/// One peer's part of the status.
struct PeerStatus {
    handle: RelayHandle,
    relay: RelayStatus,
    counts: RelayCounts,
    probed: Result<Duration, Failure>,
}

/// How it goes with every peer, probed now; v1's shape for the first one. A v1 node is told of itself alone.
///
/// # Errors
/// 401, 403, 503.
pub async fn status(state: web::Data<AppState>, caller: NodeCaller) -> Result<HttpResponse, Problem> {
    let shown = |handle: &&RelayHandle| match &caller {
        NodeCaller::Admin => true,
        NodeCaller::Node(node) => node.name == handle.wire.peer().name,
    };
    let by_node = matches!(caller, NodeCaller::Node(_));
    let asked = state.federation.relays.iter().filter(shown).map(|handle| ask(&state, handle, by_node));
    let peers = join_all(asked).await.into_iter().collect::<Result<Vec<_>, Problem>>()?;
    let first = peers.first();
    let body = json!({
        "enabled": first.is_some(),
        "remoteUrl": first.map(|peer| &peer.handle.wire.peer().url),
        "circuitBreakerState": first.map_or("CLOSED", |peer| peer.relay.breaker),
        "queue": first.map_or_else(|| queue(&RelayCounts::default()), |peer| queue(&peer.counts)),
        "remoteProbe": first.map(PeerStatus::probe),
        "lastRelayError": first.and_then(PeerStatus::last_relay_error),
        "peers": peers.iter().map(PeerStatus::json).collect::<Vec<_>>(),
    });
    Ok(HttpResponse::Ok().json(body))
}

async fn ask(state: &AppState, handle: &RelayHandle, by_node: bool) -> Result<PeerStatus, Problem> {
    let counts = state.store.relay_counts(&handle.wire.peer().name).await?;
    let began = Instant::now();
    let probed = match &handle.wire {
        // This call is how a v1 node is probed: two that answer each other's probe by one would never end.
        Wire::V1(client) if by_node => client.ping(PROBE_LIMIT).await,
        wire => wire.probe(PROBE_LIMIT).await,
    };
    let probed = probed.map(|()| began.elapsed());
    Ok(PeerStatus { handle: handle.clone(), relay: handle.view.status(), counts, probed })
}

/// v1's names; what is under way counts as waiting, and nothing is kept of what is done.
fn queue(counts: &RelayCounts) -> Value {
    json!({ "waiting": counts.pending, "active": 0, "delayed": 0, "completed": 0, "failed": counts.dead })
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl PeerStatus {
    fn is_reachable(&self) -> bool {
        self.probed.as_ref().map_or_else(Failure::is_reachable, |_| true)
    }

    /// `None`: the peer was not reached, so nobody knows.
    fn is_authorized(&self) -> Option<bool> {
        match &self.probed {
            Ok(_) => Some(true),
            Err(Failure::Unauthorized { .. }) => Some(false),
            Err(_) => None,
        }
    }

    fn probe(&self) -> Value {
        match &self.probed {
            Ok(latency) => {
                json!({ "ok": true, "latencyMs": latency.as_millis() as u64, "statusCode": 200 })
            }
            Err(failure) => {
                json!({ "ok": false, "latencyMs": PROBE_LIMIT.as_millis() as u64, "error": failure.to_string() })
            }
        }
    }

    fn last_relay_error(&self) -> Option<Value> {
        let (event_id, message, at) = self.relay.last_refusal.as_ref()?;
        Some(json!({ "eventId": event_id, "message": message, "at": time(*at) }))
    }

    fn json(&self) -> Value {
        let peer = self.handle.wire.peer();
        let probe_error = self.probed.as_ref().err().map(ToString::to_string);
        let last_error = self.relay.last_error.as_ref();
        json!({
            "name": peer.name,
            "url": peer.url,
            "reachable": self.is_reachable(),
            "authorized": self.is_authorized(),
            "latencyMs": self.probed.as_ref().ok().map(|latency| latency.as_millis() as u64),
            "circuitBreakerState": self.relay.breaker,
            "pending": self.counts.pending,
            "dead": self.counts.dead,
            "lastSuccessAt": self.relay.last_success_at.map(time),
            "lastError": probe_error.or_else(|| last_error.map(|(text, _)| text.clone())),
            "lastErrorAt": last_error.map(|(_, at)| time(*at)),
        })
    }
}
