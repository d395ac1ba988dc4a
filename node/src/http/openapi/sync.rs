//! The calls of tills, as they are described; the handlers read the same from raw text.
#![expect(dead_code, reason = "these are read by the description alone")]

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use velox_protocol::api::{PullAnswer, PushAnswer, SyncStatus};

use super::operations::Problem;
use crate::http::snapshot::SnapshotAnswer;

/// The body of a push: 16 MiB and 2,000 events at most.
#[derive(ToSchema)]
struct Push {
    /// The store; must be the credential's.
    store_id: Uuid,
    /// The till; must be the credential's, where that is a device's.
    device_id: String,
    /// The till's software.
    client_version: Option<String>,
    /// Extensions that the client understands: `conflicts`.
    accepts: Option<Vec<String>>,
    /// Each is taken or refused for itself.
    events: Vec<PushedEvent>,
}

/// An event; absent, null and "" are the same for every optional field.
#[derive(ToSchema)]
struct PushedEvent {
    /// Unique in its store, 1 to 255 characters; the key by which a repeat is known.
    #[schema(min_length = 1, max_length = 255)]
    event_id: String,
    /// The till's own counter.
    #[schema(minimum = 0)]
    seq: Option<i64>,
    /// Its type; unknown ones are stored and relayed.
    #[schema(min_length = 1, max_length = 100)]
    r#type: String,
    /// Of the payload's schema; 1 where it is absent.
    version: Option<i32>,
    /// The device's time: ms since 1970 or RFC 3339.
    created_at: Option<Moment>,
    /// Who acted; also flat, as `actor_user_id` and `actor_role`.
    actor: Option<Actor>,
    /// At most 1 MiB, kept byte for byte.
    #[schema(value_type = Object)]
    payload: (),
    /// The payload, or what changed of it.
    #[schema(value_type = Option<Object>)]
    delta_payload: (),
    /// Hex SHA-256 of `delta_payload` or `payload` in canonical form (RFC 8785).
    full_payload_hash: Option<String>,
    /// Device -> counter.
    vector_clock: Option<BTreeMap<String, i64>>,
    /// Ids of events that were seen before.
    causal_dependencies: Option<Vec<String>>,
    /// Of the request that made it.
    request_id: Option<String>,
}

/// Milliseconds since 1970, or RFC 3339.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum Moment {
    Milliseconds(i64),
    Text(String),
}

/// Who acted.
#[derive(ToSchema)]
struct Actor {
    user_id: Option<String>,
    role: Option<String>,
}

/// Takes the events of a till: once each, the sound ones of a batch even where others are rejected.
///
/// 400 only where the body cannot be read as a push at all; 503 where the node cannot take it now.
#[utoipa::path(
    post, path = "/sync/push", tag = "sync", request_body = Push,
    responses(
        (status = 200, description = "What became of each event.", body = PushAnswer),
        (status = 413, response = Problem),
    ),
)]
fn push() {}

/// The query of a pull: either v1's `last_checkpoint` and `cursor_event_id`, or `cursor`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct PullQuery {
    /// The store; needed of the admin alone.
    store_id: Option<Uuid>,
    /// v1: `last_server_time` of the last answer, ms since 1970.
    last_checkpoint: Option<i64>,
    /// v1: `last_server_event_id` of the last answer.
    cursor_event_id: Option<String>,
    /// The asking device, whose own events are left out.
    device_id: Option<String>,
    /// `next_cursor` of the last answer.
    cursor: Option<String>,
    /// Most events, 1 to 1000; 100 where it is absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// What other devices of the store wrote, in order of arrival and without gaps.
#[utoipa::path(
    get, path = "/sync/pull", tag = "sync", params(PullQuery),
    responses(
        (status = 200, description = "The next events.", body = PullAnswer),
        (status = 410, response = Problem),
    ),
)]
fn pull() {}

/// What a till takes along before it goes offline: the tables of one moment, and the cursor to pull on from.
#[utoipa::path(
    get, path = "/sync/snapshot", tag = "sync",
    params(("store_id" = Option<Uuid>, Query, description = "The store; needed of the admin alone.")),
    responses((status = 200, description = "The store.", body = SnapshotAnswer)),
)]
fn snapshot() {}

/// Which device is asked about.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct DeviceQuery {
    /// The store; needed of the admin alone.
    store_id: Option<Uuid>,
    /// The device; absent: the credential's.
    device_id: Option<String>,
}

/// How far a device is.
#[utoipa::path(
    get, path = "/sync/status", tag = "sync", params(DeviceQuery), operation_id = "sync_status",
    responses((status = 200, description = "How far it is.", body = SyncStatus)),
)]
fn status() {}

/// The counter of a device's last event here.
#[derive(ToSchema)]
struct LastSeq {
    /// 0 where there is none.
    last_seq: i64,
}

/// The counter of a device's last event here.
#[utoipa::path(
    get, path = "/sync/last-seq", tag = "sync", params(DeviceQuery),
    responses((status = 200, description = "The counter.", body = LastSeq)),
)]
fn last_seq() {}

/// A decision of a conflict.
#[derive(ToSchema)]
struct Decision {
    /// The store; needed of the admin alone.
    store_id: Option<Uuid>,
    /// Field -> what stands from now on, of the fields of the conflict: of a price `price`, `price_bs`, `price_usd`.
    /// A currency that is left out keeps its present value.
    #[schema(value_type = Object)]
    value: (),
}

/// A decision that was taken.
#[derive(ToSchema)]
struct Decided {
    /// `true`
    success: bool,
    /// As in the path.
    conflict_id: Uuid,
    /// The node's event that says so.
    event_id: Uuid,
    /// The store.
    store_id: Uuid,
}

/// Decides a concurrent edit by an event of the node, which reaches every till; also one that was decided before.
#[utoipa::path(
    post, path = "/sync/conflicts/{id}/resolve", tag = "sync", operation_id = "resolve_conflict",
    params(("id" = Uuid, Path, description = "The conflict.")), request_body = Decision,
    responses(
        (status = 200, description = "It is decided.", body = Decided),
        (status = 404, response = Problem),
        (status = 409, response = Problem),
    ),
)]
fn resolve_conflict() {}

/// A decision as v1's tills send it.
#[derive(ToSchema)]
struct V1Decision {
    /// The store; needed of the admin alone.
    store_id: Option<Uuid>,
    /// As a push answered it.
    conflict_id: Uuid,
    /// `keep_mine` or `take_theirs`
    resolution: String,
}

/// What became of it.
#[derive(ToSchema)]
struct V1Decided {
    /// `true`, also where it was decided already.
    success: bool,
    /// For a person.
    message: String,
}

/// Keeps the till's own price or takes the other's.
#[utoipa::path(
    post, path = "/sync/resolve-conflict", tag = "sync", operation_id = "resolve_conflict_as_v1",
    request_body = V1Decision,
    responses(
        (status = 200, description = "It is decided.", body = V1Decided),
        (status = 404, response = Problem),
    ),
)]
fn resolve_conflict_as_v1() {}
