//! Replays: `POST /sync/federation/replay` for the admin, and those by which a v1 node asks for what it lacks.
//!
//! They queue; the relay sends. Never here: which events are meant (see [`crate::replay`] and
//! `velox_store::Store::namers`).

use crate::app::AppState;
use crate::http::auth::{AdminOnly, NodeCaller};
use crate::http::body::{Limits, read, read_json};
use crate::http::error::Problem;
use crate::http::page;
use crate::replay::{self, Events, Replay, ReplayError, Replayed, Target};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashSet};
use uuid::Uuid;
use velox_actors::outbox_pump::Wake;
use velox_protocol::catalogue::Entity;
use velox_protocol::event::{normal_id, uuid_of};
use velox_protocol::v1::Kind;

/// What the admin wants done again.
#[derive(Debug, Deserialize)]
struct Body {
    store_id: String,
    event_ids: Option<Vec<String>>,
    types: Option<Vec<String>>,
    from: Option<String>,
    to: Option<String>,
    target: String,
    peer: Option<String>,
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        let code = match error {
            ReplayError::Store(error) => return error.into(),
            ReplayError::UnknownPeer => "UNKNOWN_PEER",
            ReplayError::TooMany => "TOO_MANY_EVENTS",
            ReplayError::UnknownTarget | ReplayError::PeerOfProjection => "INVALID_TARGET",
        };
        Problem::bad_request(code, error.to_string())
    }
}

/// Queues events by hand, to be projected or sent again.
///
/// # Errors
/// 400, 401, 403, 404 for an unknown store, 503.
pub async fn by_hand(
    state: web::Data<AppState>,
    _: AdminOnly,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: Body = read_json(&request, payload, &state.gate).await?;
    let store_id = store_id(&body.store_id)?;
    let events = match (body.event_ids, body.types) {
        (Some(ids), None) if body.from.is_none() && body.to.is_none() => {
            Events::Ids(ids.iter().map(|id| normal_id(id)).collect())
        }
        (None, Some(types)) => {
            Events::Types(types, page::time_range(body.from.as_deref(), body.to.as_deref())?)
        }
        _ => return Err(invalid("Name either event_ids, or types with from and to.")),
    };
    if !state.store.store_exists(store_id).await? {
        return Err(Problem::not_found("There is no such store."));
    }
    let target = Target::of(&body.target, body.peer)?;
    let of_projection = target == Target::Projection;
    let peers = state.federation.relays.iter().map(|relay| relay.wire.peer());
    let replayed = Replay { store_id, events, target }.run(&state.store, peers).await?;
    if of_projection {
        // A full mailbox: the poll looks anyway.
        let _ = state.pump.try_tell(Wake { entities: Entity::ALL.into() });
    }
    state.federation.wake(&replayed.peers);
    let Replayed { requested, found, queued, peers, .. } = &replayed;
    tracing::info!(%store_id, target = body.target, requested, found, queued, ?peers, "events are replayed by hand");
    Ok(HttpResponse::Ok().json(replayed))
}

/// Sends a v1 node what these ids name; for the admin all peers of the store, or `peer`.
///
/// # Errors
/// 400, 401, 403 for a store that the node is not configured for, 503.
pub async fn of_kind(
    kind: Kind,
    state: web::Data<AppState>,
    caller: NodeCaller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let asked = Asked::read(kind, &state, &request, payload).await?;
    caller.check_store(asked.store_id)?;
    let peers = match &caller {
        NodeCaller::Node(node) => vec![node.name.clone()],
        NodeCaller::Admin => {
            let peers = state.federation.relays.iter().map(|relay| relay.wire.peer());
            replay::peers_of(peers, asked.store_id, asked.peer.as_deref())?
        }
    };
    let Asked { store_id, ids, products, .. } = &asked;
    let mut events: BTreeSet<String> = BTreeSet::new();
    let mut borne: HashSet<Uuid> = HashSet::new();
    let kinds: &[Kind] = if kind == Kind::Sales { &[Kind::Sales, Kind::VoidedSales] } else { &[kind] };
    for of in kinds {
        for named in state.store.namers(*store_id, *of, ids).await? {
            if kind.bearers().contains(&named.event_type.as_str()) {
                borne.insert(named.id);
            }
            events.insert(named.event_id);
        }
    }
    if !products.is_empty() {
        events.extend(state.store.stock_events(*store_id, products).await?);
    }
    let events: Vec<String> = events.into_iter().collect();
    for peer in &peers {
        state.store.queue_relay(None, *store_id, peer, &events).await?;
    }
    state.federation.wake(&peers);
    let queued = events.len() * peers.len();
    tracing::info!(%store_id, kind = kind.replay(), ids = ids.len(), queued, ?peers, "a replay was asked for");
    Ok(HttpResponse::Ok().json(asked.answer(kind, &borne, events.len(), queued)))
}

/// What a v1 node asks for.
struct Asked {
    store_id: Uuid,
    peer: Option<String>,
    requested: usize,
    ids: Vec<Uuid>,
    /// As they were sent, with the ids that they are.
    texts: Vec<(String, Option<Uuid>)>,
    products: Vec<Uuid>,
}

impl Asked {
    async fn read(
        kind: Kind,
        state: &AppState,
        request: &HttpRequest,
        payload: web::Payload,
    ) -> Result<Self, Problem> {
        // As large as a push: a page of a list has 10,000 ids.
        let (body, _permit) = read(request, payload, &state.gate, Limits::PUSH).await?;
        let body: Value = serde_json::from_slice(&body).map_err(|_| {
            Problem::bad_request("INVALID_BODY", "The body is not the JSON that this call takes.")
        })?;
        let named = body["store_id"].as_str();
        let store_id = store_id(
            named.ok_or_else(|| Problem::bad_request("STORE_REQUIRED", "The call must name a store."))?,
        )?;
        let lists: &[&str] =
            if kind == Kind::Movements { &["movement_ids", "product_ids"] } else { &[kind.ids_field()] };
        if lists.iter().all(|field| body[*field].is_null()) {
            return Err(invalid("The list of ids is missing."));
        }
        let list = |field: &str| match &body[field] {
            Value::Null => Ok(Vec::new()),
            Value::Array(ids) => Ok(ids.iter().map(text_of).collect()),
            _ => Err(invalid("The ids are no list.")),
        };
        let texts: Vec<String> = list(kind.ids_field())?;
        let texts: Vec<(String, Option<Uuid>)> =
            texts.into_iter().map(|text| (text.clone(), uuid_of(&text))).collect();
        let products = if kind == Kind::Movements { list("product_ids")? } else { Vec::new() };
        let ids: BTreeSet<Uuid> = texts.iter().filter_map(|(_, id)| *id).collect();
        Ok(Asked {
            store_id,
            peer: body["peer"].as_str().map(str::to_owned),
            requested: texts.len(),
            ids: ids.into_iter().collect(),
            texts,
            products: products.iter().filter_map(|text| uuid_of(text)).collect(),
        })
    }

    /// In v1's shape. `borne`: the ids that an event bears.
    fn answer(&self, kind: Kind, borne: &HashSet<Uuid>, events: usize, queued: usize) -> Value {
        let is_missing = |id: &Option<Uuid>| id.is_none_or(|id| !borne.contains(&id));
        let missing: Vec<&String> =
            self.texts.iter().filter(|(_, id)| is_missing(id)).map(|(text, _)| text).collect();
        match kind {
            Kind::Movements => json!({
                "requestedMovementIds": self.requested,
                "requestedProductIds": self.products.len(),
                "found": events,
                "queued": queued,
                "missingMovementIds": missing,
            }),
            // v1 says the same of sessions.
            Kind::Sales | Kind::VoidedSales | Kind::Sessions => json!({
                "requested": self.requested,
                "found": self.requested - missing.len(),
                "queued": queued,
                "missingSaleIds": missing,
            }),
            Kind::Debts | Kind::Payments => json!({
                "requested": self.requested,
                "found": self.requested - missing.len(),
                "queued": queued,
                "missingIds": missing,
            }),
        }
    }
}

/// An id, or whatever stands in its place: it is missing then.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn store_id(text: &str) -> Result<Uuid, Problem> {
    uuid_of(text).ok_or_else(|| invalid("store_id is no UUID."))
}

fn invalid(detail: &'static str) -> Problem {
    Problem::bad_request("INVALID_BODY", detail)
}
