//! Triage: what is wrong with a store on this node and its peers, told from what both have in their logs and tables.
//!
//! Here: the facts of a node, in the shape of the call by which nodes ask each other for them, and the verdict on them
//! (see [`verdict`]). Never here: finding facts (`velox_store`), asking peers, repairs.

pub mod verdict;
pub mod words;

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Most single events that a node names of those without rows.
pub const NAMED: usize = 50;
/// Most ids and errors that are named of one kind.
pub const EXAMPLES: usize = 5;

/// What an operator tells apart. Each has its own rows in the read tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SaleCreated.
    Sales,
    /// SaleVoided.
    Voids,
    /// DebtCreated.
    Debts,
    /// Payments of debts.
    Payments,
    /// CashSessionOpened.
    Sessions,
    /// CashSessionClosed.
    SessionClosings,
    /// Products and prices.
    Products,
    /// Customers.
    Customers,
    /// Stock movements that are no sale's.
    Stock,
    /// Entries of the cash ledger.
    Ledger,
    /// Declarations of stores and fiscal series.
    Declarations,
    /// Everything that makes no rows.
    Other,
}

impl Kind {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Kind; 12] = [
        Kind::Sales,
        Kind::Voids,
        Kind::Debts,
        Kind::Payments,
        Kind::Sessions,
        Kind::SessionClosings,
        Kind::Products,
        Kind::Customers,
        Kind::Stock,
        Kind::Ledger,
        Kind::Declarations,
        Kind::Other,
    ];

    /// The kind of an event type.
    pub fn of(event_type: &str) -> Kind {
        match event_type {
            "SaleCreated" => Kind::Sales,
            "SaleVoided" => Kind::Voids,
            "DebtCreated" => Kind::Debts,
            "DebtPaymentRecorded" | "DebtPaymentAdded" => Kind::Payments,
            "CashSessionOpened" => Kind::Sessions,
            "CashSessionClosed" => Kind::SessionClosings,
            "ProductCreated" | "ProductUpdated" | "ProductDeactivated" | "PriceChanged" => Kind::Products,
            "CustomerCreated" | "CustomerUpdated" => Kind::Customers,
            "StockReceived" | "StockAdjusted" | "StockDeltaApplied" => Kind::Stock,
            "CashLedgerEntryCreated" => Kind::Ledger,
            "StoreDeclared" | "FiscalSeriesDeclared" => Kind::Declarations,
            _ => Kind::Other,
        }
    }

    /// The kinds whose rows stand in a table; those of the log and its queues are all.
    pub fn of_table(table: &str) -> &'static [Kind] {
        match table {
            "sales" => &[Kind::Sales, Kind::Voids],
            "sale_items" => &[Kind::Sales],
            "debts" => &[Kind::Debts],
            "debt_payments" => &[Kind::Payments],
            "cash_sessions" => &[Kind::Sessions, Kind::SessionClosings],
            "products" => &[Kind::Products],
            "customers" => &[Kind::Customers],
            "stock_movements" | "warehouse_stock" | "warehouses" => &[Kind::Stock],
            "cash_ledger_entries" => &[Kind::Ledger],
            "stores" | "fiscal_series" => &[Kind::Declarations],
            "events" | "event_variants" | "event_exceptions" | "outbox_entries" | "links"
            | "effective_events" | "_sqlx_migrations" => &Kind::ALL,
            _ => &[Kind::Other],
        }
    }

    /// The name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Sales => "sales",
            Kind::Voids => "voids",
            Kind::Debts => "debts",
            Kind::Payments => "payments",
            Kind::Sessions => "sessions",
            Kind::SessionClosings => "session_closings",
            Kind::Products => "products",
            Kind::Customers => "customers",
            Kind::Stock => "stock",
            Kind::Ledger => "ledger",
            Kind::Declarations => "declarations",
            Kind::Other => "other",
        }
    }
}

/// What a node knows of a store: the answer of `GET /sync/federation/triage`. Fields are added, never renamed or removed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Facts {
    /// The node.
    pub node_id: String,
    /// Of the program.
    pub version: String,
    /// The newest migration of its database.
    pub schema_version: i64,
    /// By the name of the kind.
    pub kinds: BTreeMap<String, KindFacts>,
    /// Question 1: events of 30 days by type.
    pub events_by_type: Vec<TypeCount>,
    /// Question 2: rows by the name of the kind.
    pub rows: BTreeMap<String, u64>,
    /// Question 3: events whose rows are missing, or whose projection has failed or waits for long; the first of each kind.
    pub unprojected: Vec<Unprojected>,
    /// Question 4: events of 30 days by type and device.
    pub events_by_device_and_type: Vec<DeviceCount>,
    /// Questions 5 and 6: where the tables are not as the program makes them.
    pub schema_differences: Vec<SchemaDifference>,
    /// What failed last, here and towards peers.
    pub last_errors: Vec<LastError>,
    /// Questions that the database did not answer, with its reason.
    pub unanswered: Vec<String>,
}

/// Facts of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct KindFacts {
    /// Events of 30 days.
    pub events: u64,
    /// Distinct sales, debts, products … that they are about.
    pub entities: u64,
    /// The tills' time of the oldest of these events.
    pub oldest: Option<DateTime<Utc>>,
    /// And of the newest.
    pub newest: Option<DateTime<Utc>>,
    /// Rows; `null`: they could not be counted, or the kind makes none.
    pub rows: Option<u64>,
    /// Events whose rows are missing, of all times; `null`: they could not be looked for.
    pub missing_rows: Option<u64>,
    /// Events that are not projected as they should be: rows missing, failed, or waiting for over ten seconds.
    pub stuck: u64,
    /// When the first of them came.
    pub since: Option<DateTime<Utc>>,
    /// Events that wait for their projector.
    pub pending: u64,
    /// Events whose projection is known to have failed.
    pub failed: u64,
    /// Of the stuck ones those that were tried, in a transaction that was rolled back, and whose rows came.
    pub would_work: u64,
    /// Those that were tried and failed.
    pub would_fail: u64,
    /// Of `would_fail`: for want of a column or table.
    pub schema_faults: u64,
    /// Of the stuck ones those that could not be tried: they are too many, or somebody else had them.
    pub untried: u64,
    /// Tried and in order: they wait for another event, or another stands in their place. Only the mark of it was lost.
    pub marks_lost: u64,
    /// Some of the failures.
    pub errors: Vec<Failing>,
    /// Some of the stuck events.
    pub sample: Vec<String>,
}

/// An event that cannot be projected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failing {
    /// The event.
    pub event_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Why.
    pub error: String,
}

/// Events of a type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TypeCount {
    /// The type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// How many.
    pub events: u64,
    /// Distinct entities.
    pub entities: u64,
    /// The tills' time of the oldest.
    pub oldest: DateTime<Utc>,
    /// And of the newest.
    pub newest: DateTime<Utc>,
}

/// Events of a type that a device wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceCount {
    /// The till.
    pub device_id: String,
    /// The type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// How many.
    pub events: u64,
    /// When the last came.
    pub last_received_at: DateTime<Utc>,
}

/// An event that is not projected as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unprojected {
    /// The event.
    pub event_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What the node says of it: `processed`, `pending`, `dead`, `failed` …
    pub status: String,
    /// Why it failed, where that is known.
    pub error: Option<String>,
    /// Whether its rows are missing in fact.
    pub missing: bool,
    /// When it came.
    pub received_at: DateTime<Utc>,
}

/// Where a table is not as the program makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchemaDifference {
    /// The table or view; `_sqlx_migrations` for a migration.
    pub table: String,
    /// The column, where it is one.
    pub column: Option<String>,
    /// For people.
    pub what: String,
    /// The statement that repairs it, where there is one.
    pub repair: Option<String>,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastError {
    /// `projection`, or `relay to` and the peer's name.
    pub at: String,
    /// The event, where it was one.
    pub event_id: Option<String>,
    /// In the words of whoever refused.
    pub error: String,
    /// When, where that is known.
    pub since: Option<DateTime<Utc>>,
}

/// Events that one side lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Missing {
    /// How many.
    pub count: u64,
    /// When the first of them came to the side that has it; `null`: it has not told.
    pub since: Option<DateTime<Utc>>,
    /// Some of them.
    pub sample: Vec<String>,
}

/// What two logs lack of each other, by the name of the kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Compared {
    /// What this node lacks.
    pub missing_here: BTreeMap<String, Missing>,
    /// What the peer lacks.
    pub missing_there: BTreeMap<String, Missing>,
}

/// What is known of a peer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PeerFacts {
    /// Its name here.
    pub name: String,
    /// Whether it answered at all.
    pub reachable: bool,
    /// Why it could not be asked for everything.
    pub error: Option<String>,
    /// When it last answered this node as it should.
    pub last_success_at: Option<DateTime<Utc>>,
    /// What it said of itself; `None`: a v1 node says nothing, or it could not be asked.
    pub facts: Option<Facts>,
    /// The two logs beside each other; `None`: they could not be compared.
    pub compared: Option<Compared>,
    /// Events that wait for it, or that it has not acknowledged since it last answered, by the name of the kind.
    pub waiting: BTreeMap<String, Missing>,
    /// It speaks v1: its tables and its schema are not known.
    pub is_v1: bool,
}

/// What a node has mended of its own side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Mended {
    /// Nothing was done: the node is being mended by somebody else at this moment.
    pub being_mended: bool,
    /// Events that were not projected as they should be.
    pub stuck: u64,
    /// Those that are in order now.
    pub healed: u64,
    /// Those that somebody else had at that moment.
    pub busy: u64,
    /// Those that still fail: some of them.
    pub failed: Vec<Failing>,
    /// How many do.
    pub failed_count: u64,
    /// Statements that repaired the schema.
    pub statements: Vec<String>,
    /// Those that failed, with the reason.
    pub refused: Vec<String>,
    /// Rows that a rebuild has put right.
    pub rebuilt: u64,
}
