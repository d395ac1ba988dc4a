//! What the deployed nodes (v1) say to each other: the kinds of their id lists, the types that they know, the shapes
//! of their calls.
//!
//! v1 refuses a request with any field that it does not know, so nothing is ever added to what is sent to it. Never
//! here: sending, and what native nodes say to each other (see [`crate::federation`]).

use crate::clock::VectorClock;
use crate::event::uuid_of;
use crate::json::Json;
use crate::payload::LinkKind;
use crate::time;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// The client version of a relay between v1 nodes.
pub const RELAY_CLIENT: &str = "federation-relay-1.0";
/// The client version of made-up sales, which are refused.
pub const SYNTHETIC_CLIENT: &str = "federation-synthetic-relay-1.0";
/// Who acted where nobody is known.
pub const NOBODY: &str = "00000000-0000-0000-0000-000000000002";
/// Most ids of one page of a list.
pub const PAGE: u32 = 10_000;

/// The types that v1 knows; it refuses all others.
pub const TYPES: [&str; 21] = [
    "ProductCreated",
    "ProductUpdated",
    "ProductDeactivated",
    "PriceChanged",
    "RecipeIngredientsUpdated",
    "StockReceived",
    "StockAdjusted",
    "StockDeltaApplied",
    "StockQuotaGranted",
    "StockQuotaTransferred",
    "StockQuotaReclaimed",
    "SaleCreated",
    "SaleVoided",
    "CashSessionOpened",
    "CashSessionClosed",
    "CustomerCreated",
    "CustomerUpdated",
    "DebtCreated",
    "DebtPaymentRecorded",
    "DebtPaymentAdded",
    "CashLedgerEntryCreated",
];

/// Of [`TYPES`] those whose entities are in no id list, so that they are sent again after an outage.
pub const UNLISTED: [&str; 7] = [
    "ProductCreated",
    "ProductUpdated",
    "ProductDeactivated",
    "PriceChanged",
    "RecipeIngredientsUpdated",
    "CustomerCreated",
    "CustomerUpdated",
];

/// Why an event can never be sent to a v1 node; `None`: it can.
pub fn unsendable(event_type: &str, event_id: &str, device_id: &str) -> Option<&'static str> {
    if !TYPES.contains(&event_type) {
        Some("v1 does not know the type")
    } else if uuid_of(event_id).is_none() {
        Some("v1 takes no event whose id is no UUID")
    } else if uuid_of(device_id).is_none() {
        Some("v1 takes no event of a device whose id is no UUID")
    } else {
        None
    }
}

/// What v1's id lists and replay calls are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Cash sessions, by `opened_at`.
    Sessions,
    /// Sales, voided ones too, by `sold_at`.
    Sales,
    /// Sales that are voided, by `sold_at`.
    VoidedSales,
    /// Stock movements that bear an id of their own, by the time of their event.
    Movements,
    /// Debts that somebody created, by `created_at`; derived ones are in no list.
    Debts,
    /// Payments of debts, by `paid_at`.
    Payments,
}

impl Kind {
    /// All of them, in the order in which what they name needs each other.
    pub const ALL: [Kind; 6] =
        [Kind::Sessions, Kind::Sales, Kind::VoidedSales, Kind::Movements, Kind::Debts, Kind::Payments];

    /// The path of the id list, behind `/sync/federation/`.
    pub const fn list(self) -> &'static str {
        match self {
            Kind::Sessions => "session-ids",
            Kind::Sales => "sales-ids",
            Kind::VoidedSales => "voided-sales-ids",
            Kind::Movements => "inventory-movement-ids",
            Kind::Debts => "debt-ids",
            Kind::Payments => "debt-payment-ids",
        }
    }

    /// The path of the replay call, behind `/sync/federation/`. That of sales brings their voids too.
    pub const fn replay(self) -> &'static str {
        match self {
            Kind::Sessions => "replay-sessions",
            Kind::Sales | Kind::VoidedSales => "replay-sales",
            Kind::Movements => "replay-inventory",
            Kind::Debts => "replay-debts",
            Kind::Payments => "replay-debt-payments",
        }
    }

    /// The field of the replay call that names the ids.
    pub const fn ids_field(self) -> &'static str {
        match self {
            Kind::Sessions => "session_ids",
            Kind::Sales | Kind::VoidedSales => "sale_ids",
            Kind::Movements => "movement_ids",
            Kind::Debts => "debt_ids",
            Kind::Payments => "payment_ids",
        }
    }

    /// The types of which an event names such a thing as its own: what a replay brings.
    pub const fn namers(self) -> &'static [&'static str] {
        match self {
            Kind::Sessions => &["CashSessionOpened", "CashSessionClosed"],
            _ => self.bearers(),
        }
    }

    /// In which role they do.
    pub const fn link(self) -> LinkKind {
        match self {
            Kind::Sessions => LinkKind::Session,
            Kind::Sales => LinkKind::SaleId,
            Kind::VoidedSales => LinkKind::VoidOfSale,
            Kind::Movements => LinkKind::MovementId,
            Kind::Debts => LinkKind::DebtId,
            Kind::Payments => LinkKind::PaymentId,
        }
    }

    /// The types of which an event bears such an id: only such an event says that the thing is known.
    pub const fn bearers(self) -> &'static [&'static str] {
        match self {
            Kind::Sessions => &["CashSessionOpened"],
            Kind::Sales => &["SaleCreated"],
            Kind::VoidedSales => &["SaleVoided"],
            Kind::Movements => &["StockReceived", "StockAdjusted", "StockDeltaApplied"],
            Kind::Debts => &["DebtCreated"],
            Kind::Payments => &["DebtPaymentRecorded", "DebtPaymentAdded"],
        }
    }
}

/// What an event of one of the [`Kind::namers`] names, and when that was: read of the payload alone, so that also an
/// event whose meaning is unclear otherwise counts. `created_at`: the event's, where the payload tells no time.
pub fn named(
    event_type: &str,
    payload: &Json<'_>,
    created_at: DateTime<Utc>,
) -> Option<(Uuid, DateTime<Utc>)> {
    let (ids, at): (&[&str], Option<&str>) = match event_type {
        "SaleCreated" => (&["sale_id"], Some("sold_at")),
        "SaleVoided" => (&["sale_id"], None),
        "CashSessionOpened" => (&["session_id", "cash_session_id"], Some("opened_at")),
        "CashSessionClosed" => (&["session_id", "cash_session_id"], None),
        "DebtCreated" => (&["debt_id"], Some("created_at")),
        "DebtPaymentRecorded" | "DebtPaymentAdded" => (&["payment_id"], Some("paid_at")),
        "StockReceived" | "StockAdjusted" | "StockDeltaApplied" => (&["movement_id"], None),
        _ => return None,
    };
    let id = ids.iter().find_map(|key| payload.get(key)).and_then(Json::as_str).and_then(uuid_of)?;
    let at = at.and_then(|key| payload.get(key)).and_then(time::read).unwrap_or(created_at);
    Some((id, at))
}

/// The body of a push to a v1 node: one event.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the fields of v1's push")]
pub struct Push<'a> {
    pub store_id: Uuid,
    pub device_id: &'a str,
    pub client_version: &'a str,
    pub events: [SentEvent<'a>; 1],
}

/// An event as v1 takes it: these fields and no other.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the fields of v1's envelope")]
pub struct SentEvent<'a> {
    pub event_id: &'a str,
    /// 0 counts as none for us, and v1 wants a number.
    pub seq: i64,
    #[serde(rename = "type")]
    pub event_type: &'a str,
    pub version: i32,
    /// ms since 1970
    pub created_at: i64,
    pub actor: SentActor<'a>,
    pub payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector_clock: Option<&'a VectorClock>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causal_dependencies: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta_payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_payload_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
}

/// Who acted: v1 knows owners and cashiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields of v1's envelope")]
pub struct SentActor<'a> {
    pub user_id: &'a str,
    pub role: &'a str,
}

impl<'a> SentActor<'a> {
    /// The actor of an event, put so that v1 takes it.
    pub fn of(user_id: Option<&'a str>, role: Option<&'a str>) -> Self {
        SentActor {
            user_id: user_id.filter(|id| uuid_of(id).is_some()).unwrap_or(NOBODY),
            // Whoever acted was let act; less might not be enough for v1.
            role: role.filter(|role| matches!(*role, "owner" | "cashier")).unwrap_or("owner"),
        }
    }
}

/// A page of an id list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IdPage {
    /// Ids in all pages together.
    pub total: u64,
    /// Those of this page.
    pub ids: Vec<String>,
}

/// What is read of the answer to a replay call; the names of the ids that are missing differ by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct ReplayAnswer {
    /// Of the asked ids those that the node knows.
    #[serde(default)]
    pub found: u64,
    /// Events that are on their way.
    #[serde(default)]
    pub queued: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    const ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    #[test]
    fn what_v1_cannot_take_is_told_with_its_reason() {
        assert_eq!(unsendable("SaleCreated", ID, ID), None);
        let reasons = [("StoreDeclared", ID, ID), ("SaleCreated", "e-1", ID), ("SaleCreated", ID, "till-1")]
            .map(|(event_type, event, device)| unsendable(event_type, event, device));
        assert!(reasons.iter().all(Option::is_some), "{reasons:?}");
    }

    #[test]
    fn every_type_of_v1_is_in_the_catalogue_and_every_bearer_is_v1s() {
        assert!(TYPES.iter().all(|name| catalogue::find(name).is_some()));
        assert!(UNLISTED.iter().all(|name| TYPES.contains(name)));
        assert!(Kind::ALL.iter().flat_map(|kind| kind.bearers()).all(|name| TYPES.contains(name)));
    }

    #[test]
    fn what_an_event_names_is_read_though_the_rest_of_it_is_odd() {
        let event = DateTime::from_timestamp_millis(7).expect("a time");
        let of = |event_type: &str, payload: String| {
            named(event_type, &Json::parse(&payload).expect("JSON"), event)
                .map(|(_, at)| at.timestamp_millis())
        };
        assert_eq!(of("SaleCreated", format!(r#"{{"sale_id":"{ID}","sold_at":9,"total":"x"}}"#)), Some(9));
        assert_eq!(of("SaleCreated", format!(r#"{{"sale_id":"{ID}","sold_at":"soon"}}"#)), Some(7));
        assert_eq!(
            of("CashSessionOpened", format!(r#"{{"session_id":"","cash_session_id":"{ID}"}}"#)),
            Some(7)
        );
        assert_eq!(of("StockReceived", format!(r#"{{"product_id":"{ID}"}}"#)), None);
        assert_eq!(of("DebtPaymentAdded", format!(r#"{{"payment_id":"none","debt_id":"{ID}"}}"#)), None);
        assert!(Kind::ALL.iter().flat_map(|kind| kind.namers()).all(|name| {
            let payload = format!(
                r#"{{"sale_id":"{ID}","session_id":"{ID}","debt_id":"{ID}","payment_id":"{ID}","movement_id":"{ID}"}}"#
            );
            of(name, payload) == Some(7)
        }));
    }

    #[test]
    fn an_actor_that_v1_would_refuse_is_nobody() {
        let actor = |user, role| SentActor::of(user, role);
        assert_eq!(actor(Some(ID), Some("cashier")), SentActor { user_id: ID, role: "cashier" });
        assert_eq!(actor(None, None), SentActor { user_id: NOBODY, role: "owner" });
        assert_eq!(actor(Some("maria"), Some("device")), SentActor { user_id: NOBODY, role: "owner" });
    }
}
