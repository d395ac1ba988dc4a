//! `GET /sync/triage` for the admin, and what a native peer asks for it: facts of a store, and the repair of this side.
//!
//! Never here: what is looked at, and the verdict.

use super::auth::AdminOnly;
use super::error::Problem;
use super::federation::signed;
use super::page;
use crate::app::AppState;
use crate::triage::examine;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use velox_actors::outbox_pump::Wake;
use velox_actors::relay::Wire;
use velox_actors::triage::mend;
use velox_protocol::catalogue::Entity;
use velox_protocol::event::uuid_of;
use velox_protocol::triage::verdict::Report;
use velox_protocol::triage::{
    DeviceCount, Facts, KindFacts, LastError, Mended, SchemaDifference, Unprojected,
};

/// Longest time that the admin waits: peers have their own, shorter ones.
const TRIAGE_LIMIT: Duration = Duration::from_secs(180);
/// Seconds after which the admin, or a peer, may ask again.
const RETRY_AFTER: u32 = 5;

/// Which store is looked at.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TriageQuery {
    /// The store.
    #[param(value_type = Uuid, required = true)]
    store_id: Option<String>,
}

/// Which store is mended.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MendBody {
    /// The store.
    #[schema(value_type = Uuid)]
    store_id: String,
}

/// The verdict; and beside it what this node has told, which `nodes` has too.
#[derive(Debug, Serialize, ToSchema)]
pub struct Examined {
    #[serde(flatten)]
    report: Report,
    /// Events of 30 days, and rows, by the name of the kind.
    counts: BTreeMap<String, Counts>,
    /// Events whose rows are missing, or whose projection has failed or waits for long.
    unprojected: Vec<Unprojected>,
    /// Events of 30 days by type and device.
    events_by_device_and_type: Vec<DeviceCount>,
    /// Where the tables are not as the program makes them.
    schema_differences: Vec<SchemaDifference>,
    /// What failed last.
    last_errors: Vec<LastError>,
}

/// Figures of a kind.
#[derive(Debug, Serialize, ToSchema)]
pub struct Counts {
    /// Events of 30 days.
    events: u64,
    /// Rows; `null`: they could not be counted, or the kind makes none.
    rows: Option<u64>,
}

impl From<Report> for Examined {
    fn from(report: Report) -> Self {
        let ours = report.nodes.first().and_then(|node| node.facts.clone()).unwrap_or_default();
        let count = |(kind, of): (String, KindFacts)| (kind, Counts { events: of.events, rows: of.rows });
        Examined {
            report,
            counts: ours.kinds.into_iter().map(count).collect(),
            unprojected: ours.unprojected,
            events_by_device_and_type: ours.events_by_device_and_type,
            schema_differences: ours.schema_differences,
            last_errors: ours.last_errors,
        }
    }
}

/// What is wrong with a store, on this node and its peers: the verdict, its cause and evidence, and what repairs it.
#[utoipa::path(
    get, path = "/sync/triage", tag = "admin", params(TriageQuery),
    responses(
        (status = 200, description = "The verdict.", body = Examined),
        (status = 404, description = "There is no such store.", body = super::error::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub async fn triage(
    state: web::Data<AppState>,
    _: AdminOnly,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let store_id = store_of(&request)?;
    if !state.store.stores_to_examine().await?.iter().any(|(known, _)| *known == store_id) {
        return Err(Problem::not_found("There is no such store."));
    }
    let wires: Vec<Wire> = state.federation.relays.iter().map(|relay| relay.wire.clone()).collect();
    let examined = examine(&state.store, &wires, store_id, state.clock.now());
    match tokio::time::timeout(TRIAGE_LIMIT, examined).await {
        Ok(report) => Ok(HttpResponse::Ok().json(Examined::from(report?))),
        Err(_) => Err(Problem::unavailable("NOT_EXAMINED", RETRY_AFTER)),
    }
}

/// What this node knows of a store, for a peer that examines it.
#[utoipa::path(
    get, path = "/sync/federation/triage", tag = "peers", operation_id = "triage_facts", params(TriageQuery),
    responses(
        (status = 200, description = "The facts.", body = Facts),
        (status = 503, description = "Others ask already: later.", body = super::error::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub async fn facts(
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let from = signed::read(&state, &request, payload, "application/json").await?;
    let store_id = store_of(&request)?;
    from.check_store(store_id)?;
    let Ok(_permit) = state.federation.examinations.try_acquire() else {
        return Err(Problem::unavailable("BEING_EXAMINED", RETRY_AFTER));
    };
    Ok(HttpResponse::Ok().json(state.store.triage(store_id, env!("CARGO_PKG_VERSION")).await?))
}

/// Repairs this node's side of a store for a peer: its tables as its own migrations make them, and every event that is
/// not projected as it should be. One repair at a time: `being_mended` says that another one is under way.
#[utoipa::path(
    post, path = "/sync/federation/heal", tag = "peers", operation_id = "mend", request_body = MendBody,
    responses((status = 200, description = "What was mended.", body = Mended)),
)]
pub async fn heal(
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let from = signed::read(&state, &request, payload, "application/json").await?;
    let unreadable =
        || Problem::bad_request("INVALID_BODY", "The body is not the JSON that this call takes.");
    let body: MendBody = serde_json::from_slice(&from.body).map_err(|_| unreadable())?;
    let store_id = uuid_of(&body.store_id).ok_or_else(unreadable)?;
    from.check_store(store_id)?;
    let mended = mend(&state.store, store_id, true, state.healing).await?;
    let (peer, healed, failed) = (&from.peer.name, mended.healed, mended.failed_count);
    tracing::info!(%store_id, peer, healed, failed, "a store was mended for a peer");
    // A full mailbox: the poll looks anyway.
    let _ = state.pump.try_tell(Wake { entities: Entity::ALL.into() });
    Ok(HttpResponse::Ok().json(mended))
}

fn store_of(request: &HttpRequest) -> Result<Uuid, Problem> {
    let query: TriageQuery = page::query(request)?;
    page::query_id(query.store_id.as_deref())?
        .ok_or_else(|| Problem::bad_request("STORE_REQUIRED", "The call must name a store."))
}
