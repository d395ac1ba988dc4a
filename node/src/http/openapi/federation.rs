//! The calls between nodes, native ones and v1's, as they are described.
#![expect(dead_code, reason = "these are read by the description alone")]

use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use velox_protocol::api::PushAnswer;
use velox_protocol::federation::Probe;
use velox_protocol::reconciled::Reconciled;
use velox_protocol::v1::IdPage;

use super::operations::Problem;
use crate::http::federation::reconcile::ReconcileBody;

/// Which part of a list is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct IdsQuery {
    /// The store.
    store_id: Uuid,
    /// The first UTC day, `YYYY-MM-DD`; absent: from the beginning.
    date_from: Option<String>,
    /// The last UTC day, included; absent: to the end.
    date_to: Option<String>,
    /// Most ids; 10000 where it is absent.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<u32>,
    /// So many are passed over.
    offset: Option<u64>,
    /// `tables`, the default: what stands. `events`: what any event of the log bears, projected or not.
    source: Option<String>,
}

/// Sales of some days by `sold_at`, voided ones too.
#[utoipa::path(
    get, path = "/sync/federation/sales-ids", tag = "federation", params(IdsQuery),
    responses((status = 200, description = "A page, by time.", body = IdPage)),
)]
fn sales_ids() {}

/// Voided sales of some days, by `sold_at`.
#[utoipa::path(
    get, path = "/sync/federation/voided-sales-ids", tag = "federation", params(IdsQuery),
    responses((status = 200, description = "A page, by time.", body = IdPage)),
)]
fn voided_sales_ids() {}

/// Cash sessions of some days, by `opened_at`.
#[utoipa::path(
    get, path = "/sync/federation/session-ids", tag = "federation", params(IdsQuery),
    responses((status = 200, description = "A page, by time.", body = IdPage)),
)]
fn session_ids() {}

/// Debts of some days by `created_at`; those that a sale makes by itself are in no list.
#[utoipa::path(
    get, path = "/sync/federation/debt-ids", tag = "federation", params(IdsQuery),
    responses((status = 200, description = "A page, by time.", body = IdPage)),
)]
fn debt_ids() {}

/// Payments of debts of some days, by `paid_at`.
#[utoipa::path(
    get, path = "/sync/federation/debt-payment-ids", tag = "federation", params(IdsQuery),
    responses((status = 200, description = "A page, by time.", body = IdPage)),
)]
fn debt_payment_ids() {}

/// Stock movements of some days that bear an id of their own, by the time of their event.
#[utoipa::path(
    get, path = "/sync/federation/inventory-movement-ids", tag = "federation", params(IdsQuery),
    responses((status = 200, description = "A page, by time.", body = IdPage)),
)]
fn inventory_movement_ids() {}

/// What is asked for.
#[derive(ToSchema)]
struct SalesAsked {
    /// The store.
    store_id: Uuid,
    /// Which.
    sale_ids: Vec<Uuid>,
    /// Of the admin alone: to this peer; absent: to all of the store. A node is sent what it asks for itself.
    peer: Option<String>,
}

/// Sends sales and their voids again.
#[utoipa::path(
    post, path = "/sync/federation/replay-sales", tag = "federation", request_body = SalesAsked,
    responses((status = 200, description = "They are on their way.", body = SalesAnswer)),
)]
fn replay_sales() {}

/// What is asked for.
#[derive(ToSchema)]
struct SessionsAsked {
    /// The store.
    store_id: Uuid,
    /// Which.
    session_ids: Vec<Uuid>,
    /// Of the admin alone: to this peer; absent: to all of the store. A node is sent what it asks for itself.
    peer: Option<String>,
}

/// Sends openings and closings of cash sessions again.
#[utoipa::path(
    post, path = "/sync/federation/replay-sessions", tag = "federation", request_body = SessionsAsked,
    responses((status = 200, description = "They are on their way.", body = SalesAnswer)),
)]
fn replay_sessions() {}

/// What is asked for.
#[derive(ToSchema)]
struct DebtsAsked {
    /// The store.
    store_id: Uuid,
    /// Which.
    debt_ids: Vec<Uuid>,
    /// Of the admin alone: to this peer; absent: to all of the store. A node is sent what it asks for itself.
    peer: Option<String>,
}

/// Sends debts again that somebody created.
#[utoipa::path(
    post, path = "/sync/federation/replay-debts", tag = "federation", request_body = DebtsAsked,
    responses((status = 200, description = "They are on their way.", body = ReplayAnswer)),
)]
fn replay_debts() {}

/// What is asked for.
#[derive(ToSchema)]
struct PaymentsAsked {
    /// The store.
    store_id: Uuid,
    /// Which.
    payment_ids: Vec<Uuid>,
    /// Of the admin alone: to this peer; absent: to all of the store. A node is sent what it asks for itself.
    peer: Option<String>,
}

/// Sends payments of debts again.
#[utoipa::path(
    post, path = "/sync/federation/replay-debt-payments", tag = "federation", request_body = PaymentsAsked,
    responses((status = 200, description = "They are on their way.", body = ReplayAnswer)),
)]
fn replay_debt_payments() {}

/// What became of it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct SalesAnswer {
    /// Ids.
    requested: u64,
    /// Of them those that an event bears.
    found: u64,
    /// Events that wait to be sent: one a peer.
    queued: u64,
    /// The other ids, of sessions too.
    missing_sale_ids: Vec<String>,
}

/// What became of it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ReplayAnswer {
    /// Ids.
    requested: u64,
    /// Of them those that an event bears.
    found: u64,
    /// Events that wait to be sent: one a peer.
    queued: u64,
    /// The other ids.
    missing_ids: Vec<String>,
}

/// What is asked for.
#[derive(ToSchema)]
struct InventoryAsked {
    /// The store.
    store_id: Uuid,
    /// These movements …
    movement_ids: Option<Vec<Uuid>>,
    /// … and all of these products, but for sales.
    product_ids: Option<Vec<Uuid>>,
    /// Of the admin alone: to this peer; absent: to all of the store. A node is sent what it asks for itself.
    peer: Option<String>,
}

/// What became of it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct InventoryAnswer {
    /// Ids of movements.
    requested_movement_ids: u64,
    /// Ids of products.
    requested_product_ids: u64,
    /// Events.
    found: u64,
    /// Events that wait to be sent: one a peer.
    queued: u64,
    /// Ids of movements that no event bears.
    missing_movement_ids: Vec<String>,
}

/// Sends stock events again.
#[utoipa::path(
    post, path = "/sync/federation/replay-inventory", tag = "federation", request_body = InventoryAsked,
    responses((status = 200, description = "They are on their way.", body = InventoryAnswer)),
)]
fn replay_inventory() {}

/// A store.
#[derive(ToSchema)]
struct WhichStore {
    /// The store.
    store_id: Uuid,
}

/// What was wrong with the stock.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct StockReconciled {
    /// `true`
    ok: bool,
    /// For a person.
    message: String,
    /// Always 0.
    patched_null_warehouse: u64,
    /// Rows that were not the sum of their movements.
    updated_rows: u64,
    /// Rows that were missing.
    inserted_rows: u64,
    /// Rows without a movement, which are gone.
    zeroed_rows: u64,
}

/// Counts a store's stock anew from its movements, tells what was wrong and mends it.
#[utoipa::path(
    post, path = "/sync/federation/reconcile-inventory-stock", tag = "federation", request_body = WhichStore,
    responses((status = 200, description = "It is right now.", body = StockReconciled)),
)]
fn reconcile_inventory_stock() {}

/// Which store.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct StoreQuery {
    /// The store.
    store_id: Uuid,
}

/// A store that is here.
#[derive(ToSchema)]
struct StoreExists {
    /// `true`
    exists: bool,
}

/// Whether this node knows the store. A v1 node deletes what it is told does not exist, so 404 is all that is said.
#[utoipa::path(
    get, path = "/sync/federation/store-status", tag = "federation", params(StoreQuery),
    responses(
        (status = 200, description = "It does.", body = StoreExists),
        (status = 404, response = Problem),
    ),
)]
fn store_status() {}

/// Events that are to be projected or sent again: `event_ids`, or `types` with `from` and `to`.
#[derive(ToSchema)]
struct Replay {
    /// The store.
    store_id: Uuid,
    /// These events.
    event_ids: Option<Vec<String>>,
    /// All of these types; at most 100,000 events at once.
    types: Option<Vec<String>>,
    /// Of their own time, a date (the whole UTC day) or RFC 3339; absent: from the beginning.
    from: Option<String>,
    /// Included; absent: to the end.
    to: Option<String>,
    /// `projection` or `federation-relay`
    target: String,
    /// To this peer; absent: to all of the store.
    peer: Option<String>,
}

/// What became of it.
#[derive(ToSchema)]
struct Replayed {
    /// Events that were asked for.
    requested: u64,
    /// Of them those that are known.
    found: u64,
    /// Entries that wait now: one an event and peer.
    queued: u64,
    /// The other ids.
    #[schema(rename = "missingIds")]
    missing_ids: Vec<String>,
    /// To whom they are sent.
    peers: Vec<String>,
}

/// Puts events into a queue of the outbox, whatever became of them before.
#[utoipa::path(
    post, path = "/sync/federation/replay", tag = "admin", request_body = Replay,
    responses(
        (status = 200, description = "They are queued.", body = Replayed),
        (status = 404, response = Problem),
    ),
)]
fn replay() {}

/// A relayed event's envelope, with where it comes from.
#[derive(ToSchema)]
struct Relay {
    /// Elements of a push's `events`, each with `store_id`, `device_id`, and where known `origin_node` and
    /// `trace_parent`.
    #[schema(value_type = Vec<Object>)]
    events: Vec<serde_json::Value>,
}

/// Events that a native peer lacks or asks for.
#[derive(ToSchema)]
struct WantedEvents {
    /// The store.
    store_id: Uuid,
    /// 200 at most.
    event_ids: Vec<String>,
}

/// Takes events of a native peer; without events a trial whether it would.
#[utoipa::path(
    post, path = "/sync/federation/relay", tag = "peers", request_body = Relay,
    responses((status = 200, description = "As to a push; `accepted` says the payload's hash.", body = PushAnswer)),
)]
fn relay() {}

/// One message of a comparison of two logs, see docs/architecture/reconciliation.md.
#[utoipa::path(
    post, path = "/sync/federation/reconcile", tag = "peers",
    request_body(content_type = "application/octet-stream"),
    responses((status = 200, description = "The message down.", content_type = "application/octet-stream")),
)]
fn reconcile() {}

/// Gives these events with all their forms.
#[utoipa::path(
    post, path = "/sync/federation/events", tag = "peers", request_body = WantedEvents,
    responses((status = 200, description = "Those that are here.", body = Relay)),
)]
fn events() {}

/// Says who this node is.
#[utoipa::path(
    get, path = "/sync/federation/probe", tag = "peers",
    responses((status = 200, description = "Itself.", body = Probe)),
)]
fn probe() {}

/// Compares the log of a store with those of the peers and sends each side what it lacks.
#[utoipa::path(
    post, path = "/sync/federation/auto-reconcile", tag = "federation", request_body = ReconcileBody,
    responses((status = 200, description = "An element a peer.", body = Vec<Reconciled>)),
)]
fn auto_reconcile() {}

/// How it goes with the peers, each probed now; v1's shape for the first one.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct FederationStatus {
    /// There is a peer.
    enabled: bool,
    /// Of the first peer.
    remote_url: Option<String>,
    /// `CLOSED`, `OPEN` or `HALF_OPEN`
    circuit_breaker_state: String,
    /// `waiting`, `active`, `delayed`, `completed`, `failed`
    #[schema(value_type = Object)]
    queue: serde_json::Value,
    /// `ok`, `latencyMs`, and `statusCode` or `error`
    #[schema(value_type = Option<Object>)]
    remote_probe: Option<serde_json::Value>,
    /// `eventId`, `message`, `at`
    #[schema(value_type = Option<Object>)]
    last_relay_error: Option<serde_json::Value>,
    /// `name`, `url`, `reachable`, `authorized`, `latencyMs`, `circuitBreakerState`, `pending`, `dead`, `lastSuccessAt`,
    /// `lastError`
    #[schema(value_type = Vec<Object>)]
    peers: Vec<serde_json::Value>,
}

/// How it goes with every peer.
#[utoipa::path(
    get, path = "/sync/federation/status", tag = "federation", operation_id = "federation_status",
    responses((status = 200, description = "Probed at the call.", body = FederationStatus)),
)]
fn status() {}
