//! The calls of v1 nodes and of the admin between nodes, as they are described.
#![expect(dead_code, reason = "these are read by the description alone")]

use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use velox_protocol::v1::IdPage;

use super::operations::Problem;

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
