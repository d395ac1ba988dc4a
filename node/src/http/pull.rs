//! `GET /sync/pull`: the log in order of arrival, by v1's checkpoint or by an opaque cursor.

use super::auth::{Caller, StoreCaller};
use super::error::Problem;
use crate::app::AppState;
use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use velox_protocol::api::PullAnswer;
use velox_protocol::event::normal_id;
use velox_store::{Acknowledgement, PullPosition, PullRequest, Store};

/// Events of a page, as v1 answers.
const V1_PAGE: i64 = 100;
/// Most events of a page.
const MAX_PAGE: i64 = 1_000;
/// Types that a v1 till must not get: it would add any device's grant to its own.
pub(super) const NOT_FOR_V1: [&str; 5] = [
    "StockQuotaGranted",
    "StockQuotaTransferred",
    "StockQuotaReclaimed",
    "StoreDeclared",
    "FiscalSeriesDeclared",
];

/// What is asked for.
#[derive(Debug, Deserialize)]
pub struct PullQuery {
    store_id: Option<Uuid>,
    device_id: Option<String>,
    last_checkpoint: Option<i64>,
    cursor_event_id: Option<String>,
    cursor: Option<String>,
    limit: Option<i64>,
}

/// What an opaque cursor holds.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    store: Uuid,
    /// The database that it counts in.
    #[serde(default)]
    of: Uuid,
    ms: i64,
    id: String,
}

/// Reads a page.
///
/// # Errors
/// 400 for a foreign cursor or a limit out of bounds, 401, 403, 410 for a cursor of another database, 503.
pub async fn pull(
    state: web::Data<AppState>,
    caller: StoreCaller,
    query: web::Query<PullQuery>,
) -> Result<HttpResponse, Problem> {
    let query = query.into_inner();
    let store_id = caller.store(query.store_id)?;
    let device_id = asking_device(&caller, query.device_id.as_deref()).await?;
    let limit = query.limit.unwrap_or(V1_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request("INVALID_LIMIT", "limit must be 1 to 1000."));
    }
    let asked = match &query.cursor {
        Some(cursor) => read_cursor(&state, cursor, store_id).await?,
        None => v1_position(&query)?,
    };
    let v1 = query.cursor.is_none();
    let without_types = if v1 { NOT_FOR_V1.map(str::to_owned).to_vec() } else { Vec::new() };
    let after = match &device_id {
        Some(device) => go_on(&state.store, (store_id, device), asked.clone(), v1, &without_types).await?,
        None => asked.clone(),
    };
    let request = PullRequest { store_id, after, without_device: device_id.clone(), without_types, limit };
    let pulled = state.store.pull(&request).await?;
    if let (Some(device), Some(end), true) = (&device_id, &pulled.end, v1)
        && !pulled.events.is_empty()
    {
        state.store.set_pull_position(store_id, device, end).await?;
    }
    // An empty page repeats what was asked for.
    let end = if pulled.events.is_empty() { asked } else { pulled.end };
    let (ms, id) = match &end {
        Some(end) => (end.received_at.timestamp_millis(), end.event_id.clone()),
        None => (query.last_checkpoint.unwrap_or(0), String::new()),
    };
    let next_cursor =
        write_cursor(&Cursor { store: store_id, of: state.own.get().incarnation, ms, id: id.clone() });
    Ok(HttpResponse::Ok().json(PullAnswer {
        events: pulled.events,
        last_server_time: ms,
        last_server_event_id: if id.is_empty() { Uuid::nil().to_string() } else { id },
        next_cursor,
        has_more: pulled.has_more,
    }))
}

/// Where a device goes on, and notes what it has acknowledged by that: all that it was given up to where it asks
/// to go on. A v1 cursor beyond what this node has delivered is another node's: the older of the two counts, and
/// nothing is acknowledged by it. Opaque cursors are this node's own.
async fn go_on(
    store: &Store,
    (store_id, device_id): (Uuid, &str),
    asked: Option<PullPosition>,
    v1: bool,
    without_types: &[String],
) -> Result<Option<PullPosition>, Problem> {
    let positions = store.pull_positions(store_id, device_id).await?;
    let Some(position) = asked else { return Ok(None) };
    if v1 && Some(&position) > positions.delivered.as_ref() {
        return Ok(positions.delivered);
    }
    if positions.acknowledged.as_ref() < Some(&position) {
        let given = Acknowledgement { store_id, device_id, position: &position, without_types };
        store.acknowledge(given).await?;
    }
    Ok(Some(position))
}

/// The device that is asked for, else the token's own.
async fn asking_device(caller: &StoreCaller, named: Option<&str>) -> Result<Option<String>, Problem> {
    match (named.filter(|id| !id.is_empty()), caller.caller()) {
        (Some(named), _) => {
            let device = normal_id(named);
            caller.admit_device(&device).await?;
            Ok(Some(device))
        }
        (None, Caller::Device { device_id, .. }) => Ok(Some(device_id.clone())),
        (None, Caller::Jwt { .. } | Caller::Admin) => Ok(None),
    }
}

fn v1_position(query: &PullQuery) -> Result<Option<PullPosition>, Problem> {
    let ms = query.last_checkpoint.unwrap_or(0);
    let event_id = query.cursor_event_id.as_deref().map(normal_id).unwrap_or_default();
    if ms <= 0 && event_id.is_empty() {
        return Ok(None);
    }
    position(ms, event_id)
        .map(Some)
        .ok_or_else(|| Problem::bad_request("INVALID_CHECKPOINT", "last_checkpoint is no time."))
}

fn position(ms: i64, event_id: String) -> Option<PullPosition> {
    let received_at: DateTime<Utc> = DateTime::from_timestamp_millis(ms)?;
    // Years and texts that the database cannot compare are nobody's cursor.
    let sound = (0..=253_402_300_799_999).contains(&ms) && !event_id.contains('\0');
    sound.then_some(PullPosition { received_at, event_id })
}

async fn read_cursor(state: &AppState, text: &str, store_id: Uuid) -> Result<Option<PullPosition>, Problem> {
    let foreign = || Problem::bad_request("INVALID_CURSOR", "The cursor is none of this node and store.");
    if text.is_empty() {
        return Ok(None);
    }
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| foreign())?;
    let cursor: Cursor = serde_json::from_slice(&json).map_err(|_| foreign())?;
    if cursor.store != store_id {
        return Err(foreign());
    }
    let position = position(cursor.ms, cursor.id).ok_or_else(foreign)?;
    // Whatever comes back after a restore has come before it for a reader that was further.
    if !is_of_this_database(state, cursor.of).await? {
        return Err(Problem::gone(
            "CURSOR_EXPIRED",
            "The cursor is of another database of this node. Pull with an empty cursor to start anew.",
        ));
    }
    Ok(Some(position))
}

/// Another pod may have found that the database was restored. One of before cursors named it has no name.
async fn is_of_this_database(state: &AppState, of: Uuid) -> Result<bool, Problem> {
    if of == state.own.get().incarnation {
        return Ok(true);
    }
    state.own.refresh(&state.store).await?;
    if of == state.own.get().incarnation {
        return Ok(true);
    }
    Ok(of.is_nil() && state.store.identity().await?.restored_at.is_none())
}

/// An opaque cursor that goes on behind this position.
pub(super) fn cursor(state: &AppState, store_id: Uuid, position: &PullPosition) -> String {
    write_cursor(&Cursor {
        store: store_id,
        of: state.own.get().incarnation,
        ms: position.received_at.timestamp_millis(),
        id: position.event_id.clone(),
    })
}

fn write_cursor(cursor: &Cursor) -> String {
    // A struct of plain fields always serialises.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(cursor).unwrap_or_default())
}
