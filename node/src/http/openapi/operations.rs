//! The calls of those who run the node, as they are described.
#![expect(dead_code, reason = "these are read by the description alone")]

use chrono::{DateTime, Utc};
use utoipa::{IntoParams, ToResponse, ToSchema};
use uuid::Uuid;

use crate::http::error::ProblemBody;
use crate::http::heal::HealBody;

/// A problem. `code` says which, for programs; 429 and 503 come with `Retry-After`.
#[derive(ToResponse)]
#[response(content_type = "application/problem+json")]
pub(super) struct Problem(ProblemBody);

/// What a search for missing rows did.
#[derive(ToSchema)]
struct Healed {
    /// Events of the last seven days that were looked at.
    checked: u64,
    /// Those whose rows were missing and are there again.
    healed: u64,
    /// Those that could not be projected.
    failed: u64,
    /// Each of both; 50 at most.
    details: Vec<HealedEvent>,
}

/// An event whose rows were missing.
#[derive(ToSchema)]
struct HealedEvent {
    /// The event.
    event_id: String,
    /// Its type.
    r#type: String,
    /// `healed` or `failed`
    status: String,
    /// Why it failed; else absent.
    error: Option<String>,
}

/// Looks for events of a store whose rows are missing, whatever their status says, and makes those anew.
#[utoipa::path(
    post, path = "/sync/heal", tag = "admin", request_body = HealBody,
    responses(
        (status = 200, description = "What was found.", body = Healed),
        (status = 404, response = Problem),
    ),
)]
fn heal() {}

/// v1's name of the same.
#[utoipa::path(
    post, path = "/sync/heal-projections", tag = "federation", request_body = HealBody,
    responses((status = 200, description = "What was found.", body = Healed)),
)]
fn heal_projections() {}

/// A store to be registered or renamed.
#[derive(ToSchema)]
struct NewStore {
    /// Absent: a new one is made.
    store_id: Option<Uuid>,
    /// For people.
    name: String,
}

/// A store.
#[derive(ToSchema)]
struct RegisteredStore {
    /// The store.
    store_id: Uuid,
    /// For people.
    name: String,
    /// The node that grants its escrow: that of its standing StoreDeclared. Null: nobody has declared it.
    home_node: Option<String>,
    /// When it was registered here; only in the list.
    created_at: Option<DateTime<Utc>>,
}

/// Registers a store, or gives a known one its new name. Of a store that nobody has declared this node becomes the home,
/// by an event StoreDeclared.
#[utoipa::path(
    post, path = "/admin/stores", tag = "admin", request_body = NewStore,
    responses(
        (status = 201, description = "It is new.", body = RegisteredStore),
        (status = 200, description = "It was known.", body = RegisteredStore),
    ),
)]
fn create_store() {}

/// All stores.
#[derive(ToSchema)]
struct Stores {
    /// By id.
    items: Vec<RegisteredStore>,
    /// Always null: they are all there.
    next_cursor: Option<String>,
}

/// The stores of this node.
#[utoipa::path(
    get, path = "/admin/stores", tag = "admin",
    responses((status = 200, description = "All of them.", body = Stores)),
)]
fn list_stores() {}

/// A device to be given a token.
#[derive(ToSchema)]
struct NewDevice {
    /// Its store.
    store_id: Uuid,
    /// Itself.
    device_id: String,
}

/// A device with its token, which is shown this once.
#[derive(ToSchema)]
struct IssuedToken {
    /// Its store.
    store_id: Uuid,
    /// Itself.
    device_id: String,
    /// For `Authorization: Bearer`.
    token: String,
}

/// Gives a device a new token; its old one dies.
#[utoipa::path(
    post, path = "/admin/devices", tag = "admin", request_body = NewDevice,
    responses(
        (status = 201, description = "Its token.", body = IssuedToken),
        (status = 404, response = Problem),
    ),
)]
fn create_device() {}

/// A device as it is registered.
#[derive(ToSchema)]
struct RegisteredDevice {
    /// Its store.
    store_id: Uuid,
    /// Itself.
    device_id: String,
    /// When it was registered here.
    created_at: DateTime<Utc>,
    /// When its token was withdrawn.
    revoked_at: Option<DateTime<Utc>>,
    /// When its last event came.
    last_seen_at: Option<DateTime<Utc>>,
}

/// Devices.
#[derive(ToSchema)]
struct Devices {
    /// By store and id.
    items: Vec<RegisteredDevice>,
    /// Always null: they are all there.
    next_cursor: Option<String>,
}

/// Whose devices are wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct DevicesQuery {
    /// Of this store; absent: of all.
    store_id: Option<Uuid>,
}

/// The devices of one store or of all.
#[utoipa::path(
    get, path = "/admin/devices", tag = "admin", params(DevicesQuery),
    responses((status = 200, description = "All of them.", body = Devices)),
)]
fn list_devices() {}

/// A device whose token was withdrawn.
#[derive(ToSchema)]
struct RevokedDevice {
    /// Its store.
    store_id: Uuid,
    /// Itself.
    device_id: String,
    /// `true`
    revoked: bool,
}

/// Withdraws a device's token.
#[utoipa::path(
    delete, path = "/admin/devices/{store_id}/{device_id}", tag = "admin",
    params(
        ("store_id" = Uuid, Path, description = "Its store."),
        ("device_id" = String, Path, description = "Itself."),
    ),
    responses(
        (status = 200, description = "It is withdrawn.", body = RevokedDevice),
        (status = 404, response = Problem),
    ),
)]
fn revoke_device() {}

/// A part of the node.
#[derive(ToSchema)]
#[schema(no_recursion)]
struct ActorNode {
    /// Unique in the tree; the same in spans, faults and metrics.
    name: String,
    /// `supervisor` or `worker`
    kind: String,
    /// `starting`, `running`, `restarting`, `stopped` or `failed`
    state: String,
    /// Messages that wait.
    mailbox: u64,
    /// Messages or pieces of work carried to their end.
    handled: u64,
    /// Starts after the first.
    restarts: u64,
    /// Kept after a successful restart.
    last_error: Option<String>,
    /// In the order of their start.
    children: Vec<ActorNode>,
}

/// The tree of actors, live.
#[utoipa::path(
    get, path = "/admin/actors", tag = "admin",
    responses((status = 200, description = "The tree.", body = ActorNode)),
)]
fn actors() {}

/// An injected fault; at most one an actor.
#[derive(ToSchema)]
struct Fault {
    /// Its name in the tree.
    actor: String,
    /// What happens.
    fault: FaultKind,
    /// How often; absent: until it is cleared.
    times: Option<u32>,
    /// Each time with this chance; absent: always.
    #[schema(minimum = 0, maximum = 1)]
    probability: Option<f64>,
    /// Of a delay.
    delay_ms: Option<u64>,
}

/// What happens to an actor.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum FaultKind {
    Panic,
    Error,
    Delay,
    Hang,
    Drop,
}

/// Faults.
#[derive(ToSchema)]
struct Faults {
    /// By actor, with their remaining times.
    items: Vec<Fault>,
    /// Always null: they are all there.
    next_cursor: Option<String>,
}

/// The faults that are set. Only of a node that was started with `--chaos`.
#[utoipa::path(
    get, path = "/chaos/faults", tag = "admin",
    responses(
        (status = 200, description = "The faults that can still strike.", body = Faults),
        (status = 404, response = Problem),
    ),
)]
fn list_faults() {}

/// Sets a fault in the place of the actor's old one. Only of a node that was started with `--chaos`.
#[utoipa::path(
    post, path = "/chaos/faults", tag = "admin", request_body = Fault,
    responses(
        (status = 200, description = "It is set.", body = Fault),
        (status = 404, response = Problem),
    ),
)]
fn set_fault() {}

/// Clears all faults. Only of a node that was started with `--chaos`.
#[utoipa::path(
    delete, path = "/chaos/faults", tag = "admin",
    responses(
        (status = 200, description = "None is set.", body = Faults),
        (status = 404, response = Problem),
    ),
)]
fn clear_faults() {}

/// The answer to a ping.
#[derive(ToSchema)]
struct Pong {
    /// `ok`
    status: String,
    /// The node's time, ms since 1970.
    timestamp: i64,
    /// For people.
    message: String,
}

/// Whether the node can be reached; answers at once, without the database.
#[utoipa::path(
    get, path = "/ping", tag = "operations",
    responses((status = 200, description = "It can.", body = Pong)),
)]
fn ping() {}

/// The answer of a process that lives.
#[derive(ToSchema)]
struct Alive {
    /// `ok`
    status: String,
}

/// Whether the process lives.
#[utoipa::path(
    get, path = "/healthz", tag = "operations",
    responses((status = 200, description = "It does.", body = Alive)),
)]
fn healthz() {}

/// What the node needs to serve.
#[derive(ToSchema)]
struct Readiness {
    /// `ready` or `not ready`
    status: String,
    /// It can be reached and takes writes.
    database: bool,
    /// All of this version are applied.
    migrations: bool,
    /// Names of actors that do not run.
    actors_down: Vec<String>,
    /// It is about to stop.
    draining: bool,
}

/// Whether the node can serve: the database reachable, its migrations done, the actors up.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses(
        (status = 200, description = "It can.", body = Readiness),
        (status = 503, description = "It cannot, or is about to stop.", body = Readiness),
    ),
)]
fn readyz() {}

/// Metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "The metrics.", body = String, content_type = "application/openmetrics-text")),
)]
fn metrics() {}
