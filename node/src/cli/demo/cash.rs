//! Money of the demo's day: cash sessions, entries of the ledger, debts and what is paid of them.

use super::day::{Debt, Making, ROAMING};
use super::figures::{cents, decimal};
use super::goods::RATE;
use super::till::{Session, Till, id};
use rand::Rng;
use rand::seq::IndexedRandom;
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use velox_protocol::decimal::Column;
use velox_protocol::payload::derived_debt_id;

/// Kinds of money in a drawer, as v1 names them.
const KINDS: [&str; 5] = ["cash_bs", "cash_usd", "pago_movil_bs", "transfer_bs", "other_bs"];
/// A debt of which at most this is left is paid.
const CENT: Decimal = Decimal::from_parts(1, 0, 0, false, 2);
/// What was owed in the morning, in bolívares.
const OWED_BEFORE: f64 = 500.1;

/// What a sale puts into the drawer.
pub(super) fn drawer(method: &str, bs: f64, usd: f64) -> Vec<(&'static str, f64)> {
    match method {
        "CASH_BS" => vec![("cash_bs", bs)],
        "CASH_USD" => vec![("cash_usd", usd)],
        "PAGO_MOVIL" => vec![("pago_movil_bs", bs)],
        "TRANSFER" => vec![("transfer_bs", bs)],
        "POINT_OF_SALE" => vec![("other_bs", bs)],
        // Whole dollars in notes, the rest by telephone.
        "SPLIT" => vec![("cash_usd", usd.floor()), ("pago_movil_bs", (usd - usd.floor()) * RATE)],
        _ => Vec::new(),
    }
}

impl Debt {
    pub(super) fn left(&self) -> Decimal {
        self.opening - self.paid
    }

    pub(super) fn status(&self) -> &'static str {
        if self.cancelled {
            "cancelled"
        } else if self.left() <= CENT {
            "paid"
        } else if self.paid > Decimal::ZERO {
            "partial"
        } else {
            "pending"
        }
    }
}

impl Making {
    pub(super) fn open_session(&mut self, till: usize) {
        let session = id(&mut self.random);
        let at = &self.tills[till];
        let payload = json!({ "cash_session_id": session, "opened_at": at.time(self.at), "register_id": at.name,
            "opening_amount_bs": at.amount(365.3), "opening_amount_usd": at.amount(20.0), "note": "" });
        self.record(till, "CashSessionOpened", payload);
        let mut drawer: std::collections::BTreeMap<_, _> = KINDS.iter().map(|kind| (*kind, 0.0)).collect();
        drawer.extend([("cash_bs", 365.3), ("cash_usd", 20.0)]);
        self.tills[till].session = Some(Session { id: session, drawer });
        self.sessions.insert(session, Default::default());
    }

    /// What should be there, and what the cashier counts: not always the same.
    pub(super) fn close_session(&mut self, till: usize) {
        let Some(session) = self.tills[till].session.take() else { return };
        let short = [0.0, 0.0, -2.5, 5.0][self.random.random_range(0..4)];
        let at = &self.tills[till];
        let rounded = |kind: &str| (session.drawer[kind] * 100.0).round() / 100.0;
        let expected: Map<String, Value> =
            session.drawer.iter().map(|(kind, amount)| ((*kind).to_owned(), at.amount(*amount))).collect();
        let counted = json!({ "cash_bs": at.amount(rounded("cash_bs") + short), "cash_usd": at.amount(rounded("cash_usd")) });
        let figure = self.sessions.entry(session.id).or_default();
        figure.closed = true;
        figure.expected = expected.iter().map(|(kind, amount)| (kind.clone(), cents(amount))).collect();
        figure.counted =
            counted.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), cents(v))).collect();
        let payload = json!({ "cash_session_id": session.id, "closed_at": at.time(self.at), "expected": expected,
            "counted": counted, "note": "" });
        self.record(till, "CashSessionClosed", payload);
    }

    /// Puts money into a till's drawer, or takes it out.
    pub(super) fn put(&mut self, till: usize, money: &[(&'static str, f64)], sign: f64) {
        if let Some(session) = &mut self.tills[till].session {
            for (kind, amount) in money {
                *session.drawer.entry(kind).or_default() += sign * amount;
            }
        }
    }

    /// The ledger's entry of a sale that was made online; it has the sale's id.
    pub(super) fn enter_sale(&mut self, till: usize, sale: &Value) {
        let totals = &sale["totals"];
        let payload = json!({
            "entry_id": sale["sale_id"], "request_id": id(&mut self.random), "entry_type": "sale",
            "amount_bs": totals["total_bs"], "amount_usd": totals["total_usd"], "currency": "USD",
            "cash_session_id": sale["cash_session_id"], "sold_at": sale["sold_at"],
            "metadata": { "sale_id": sale["sale_id"], "sale_request_id": sale["request_id"] },
        });
        self.add_to_ledger(till, payload);
    }

    /// Money that comes or goes beside the sales.
    pub(super) fn enter(&mut self, till: usize, kind: &'static str) {
        let bs: f64 = if kind == "expense" { -180.0 } else { 365.3 };
        let reason = if kind == "expense" { "taxi del proveedor" } else { "cambio de billetes" };
        let payload = json!({
            "entry_id": id(&mut self.random), "request_id": "", "entry_type": kind, "amount_bs": bs, "amount_usd": 0,
            "currency": "BS", "cash_session_id": self.tills[till].session_id(), "sold_at": self.at, "reason": reason,
        });
        self.put(till, &[("cash_bs", bs)], 1.0);
        self.add_to_ledger(till, payload);
    }

    fn add_to_ledger(&mut self, till: usize, payload: Value) {
        let kind = payload["entry_type"].as_str().unwrap_or_default().to_owned();
        self.ledger.entry(kind).or_default().add(cents(&payload["amount_bs"]), cents(&payload["amount_usd"]));
        self.record(till, "CashLedgerEntryCreated", payload);
    }

    /// The first customer owes something from before, in bolívares alone.
    pub(super) fn owe_from_before(&mut self) {
        let debt = id(&mut self.random);
        let payload = json!({ "debt_id": debt, "sale_id": "", "customer_id": self.customers[0],
            "created_at": self.at, "amount_bs": OWED_BEFORE, "amount_usd": 0, "note": "saldo anterior" });
        self.debts.push(Debt {
            id: debt,
            till: 0,
            at: self.at,
            in_usd: false,
            opening: decimal(&payload["amount_bs"]),
            paid: Decimal::ZERO,
            cancelled: false,
        });
        self.record(0, "DebtCreated", payload);
    }

    /// The debt of a sale on credit: of its own event where the till is online, else derived by the node.
    pub(super) fn owe(&mut self, till: usize, customer: Uuid, sale: Uuid, payload: &Value) -> usize {
        let totals = &payload["totals"];
        let mut debt = derived_debt_id(self.store_id, sale);
        if till != ROAMING && self.random.random_bool(0.5) {
            debt = id(&mut self.random);
            let payload = json!({ "debt_id": debt, "sale_id": sale, "customer_id": customer,
                "created_at": self.tills[till].time(self.at), "amount_bs": totals["total_bs"],
                "amount_usd": totals["total_usd"], "note": "" });
            self.record(till, "DebtCreated", payload);
        }
        let opening = decimal(&totals["total_usd"]);
        self.debts.push(Debt {
            id: debt,
            till,
            at: self.at,
            in_usd: true,
            opening,
            paid: Decimal::ZERO,
            cancelled: false,
        });
        self.debts.len() - 1
    }

    /// A customer pays, all or a part. A till knows its own debts and those from before the outage.
    pub(super) fn pay_some_debt(&mut self, till: usize) {
        let known = |debt: &Debt| debt.till == till || debt.at < self.cut_at;
        let open = |debt: &Debt| !debt.cancelled && debt.left() > Decimal::ONE;
        let places: Vec<usize> =
            (0..self.debts.len()).filter(|i| open(&self.debts[*i]) && known(&self.debts[*i])).collect();
        let Some(place) = places.choose(&mut self.random) else { return };
        let place = *place;
        self.pay(till, place);
    }

    /// Somebody who bought on credit at the till that roams pays in the shop: the sale comes to the node in the cloud,
    /// the payment to the one in the shop, before its debt.
    pub(super) fn pay_debt_of_roaming_till(&mut self) {
        let open = |debt: &Debt| debt.till == ROAMING && !debt.cancelled && debt.left() > Decimal::ONE;
        if let Some(place) = self.debts.iter().rposition(open) {
            // What v1 sends where it could not hash.
            self.pay(0, place)["full_payload_hash"] = json!("hash_error");
        }
    }

    fn pay(&mut self, till: usize, place: usize) -> &mut Value {
        let share = [1.0, 1.0, 0.5, 0.3][self.random.random_range(0..4)];
        let debt = &self.debts[place];
        let left: f64 = Column::Amount.round(debt.left()).try_into().unwrap_or(0.0);
        let amount = (left * share * 100.0).round() / 100.0;
        let (bs, usd) = if debt.in_usd { (amount * RATE, amount) } else { (amount, amount / RATE) };
        let in_usd = debt.in_usd;
        let at: &Till = &self.tills[till];
        let payload = json!({ "payment_id": id(&mut self.random), "debt_id": debt.id, "paid_at": at.time(self.at),
            "amount_bs": at.amount(bs), "amount_usd": at.amount(usd), "method": "PAGO_MOVIL", "note": "" });
        let counted = decimal(&payload[if in_usd { "amount_usd" } else { "amount_bs" }]);
        self.debts[place].paid += counted;
        self.put(till, &[("pago_movil_bs", bs)], 1.0);
        // The two types are one: v1's tills send either.
        let event_type = if till == ROAMING { "DebtPaymentAdded" } else { "DebtPaymentRecorded" };
        self.record(till, event_type, payload)
    }
}
