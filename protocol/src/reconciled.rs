//! What a reconciliation has found and done, in v1's shape with what Velox adds.
//!
//! Never here: finding it.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Of one kind of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KindCounts {
    /// The peer lacks them.
    pub remote_missing_count: u64,
    /// This node lacks them.
    pub local_missing_count: u64,
    /// Of those that the peer lacks: queued for it.
    pub replayed_to_remote: u64,
    /// Of those that this node lacks: fetched, or asked for.
    pub replayed_to_local: u64,
}

/// Stock events, with what v1 says of rows that it has mended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InventoryCounts {
    /// As of every kind.
    #[serde(flatten)]
    pub counts: KindCounts,
    /// Rows of stock mended here.
    pub local_stock_healed: u64,
    /// Rows of stock mended at a v1 peer.
    pub remote_stock_healed: u64,
}

/// One store with one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reconciled {
    /// The shop.
    pub store_id: Uuid,
    /// The peer's name.
    pub peer: String,
    /// Cash sessions.
    pub sessions: KindCounts,
    /// Sales.
    pub sales: KindCounts,
    /// Stock.
    pub inventory: InventoryCounts,
    /// Debts.
    pub debts: KindCounts,
    /// Voided sales.
    pub voids: KindCounts,
    /// Payments of debts.
    pub debt_payments: KindCounts,
    /// Everything else.
    pub other: KindCounts,
    /// Under which lease; `null`: under none, as it changed nothing.
    pub lease: Option<String>,
    /// From the lease to the end.
    pub duration_ms: u64,
    /// Messages up.
    pub rounds: u64,
    /// Bytes of messages up.
    pub bytes_sent: u64,
    /// Bytes of messages down.
    pub bytes_received: u64,
    /// It was not done, or not to its end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// Why: `lease_held`, `lease_lost`, `lease_unavailable`, `peer_failed: …`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Reconciled {
    /// Of a store and a peer, with nothing done yet.
    pub fn of(store_id: Uuid, peer: &str) -> Self {
        Reconciled { store_id, peer: peer.to_owned(), ..Reconciled::default() }
    }

    /// The counts of events of this type.
    pub fn kind(&mut self, event_type: &str) -> &mut KindCounts {
        match event_type {
            "CashSessionOpened" | "CashSessionClosed" => &mut self.sessions,
            "SaleCreated" => &mut self.sales,
            "SaleVoided" => &mut self.voids,
            "DebtCreated" => &mut self.debts,
            "DebtPaymentRecorded" | "DebtPaymentAdded" => &mut self.debt_payments,
            name if name.starts_with("Stock") => &mut self.inventory.counts,
            _ => &mut self.other,
        }
    }

    /// Events that one side lacks, whichever.
    pub fn differences(&self) -> u64 {
        let kinds = [
            &self.sessions,
            &self.sales,
            &self.inventory.counts,
            &self.debts,
            &self.voids,
            &self.debt_payments,
            &self.other,
        ];
        kinds.iter().map(|kind| kind.remote_missing_count + kind.local_missing_count).sum()
    }

    /// The same, ended early.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Self {
        Reconciled { skipped: true, reason: Some(reason.into()), ..self }
    }
}
