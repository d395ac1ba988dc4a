//! A till as v1's: the events of a shop's day, in v1's field order, with unrounded amounts, two counters that
//! differ, and the payload twice where v1 holds a type for critical. Everything comes from a seed.
//!
//! Never here: sending. A till makes bodies; who sends them decides when and how often.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;
use velox_protocol::canonical::{self, KeyOrder};
use velox_protocol::catalogue;
use velox_protocol::json::Json;

/// What a till sends, in parts of a hundred: sales (1 to 3 lines, one in [`FIAO_ONE_IN`] on credit), the cash
/// entries that v1 writes beside sales, goods received, and debts with their payments.
pub(crate) const MIX: [(Kind, u32); 5] = [
    (Kind::Sale, 70),
    (Kind::LedgerEntry, 14),
    (Kind::StockReceived, 8),
    (Kind::DebtCreated, 3),
    (Kind::DebtPayment, 5),
];
/// One sale in this many is on credit, which makes a debt by itself.
const FIAO_ONE_IN: u32 = 20;
/// Products of the shop.
pub(crate) const PRODUCTS: usize = 200;
/// Customers of the shop.
const CUSTOMERS: usize = 50;
/// Debts that a till remembers to take payments for.
const OPEN_DEBTS: usize = 50;
/// Bolívares a dollar: multiplied and never rounded, as v1 does, so amounts have all digits of a float.
const RATE: f64 = 36.53;

/// A kind of event that a till makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sale,
    LedgerEntry,
    StockReceived,
    DebtCreated,
    DebtPayment,
}

/// What all tills of one shop share.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Its id; nobody has registered it yet.
    pub store_id: Uuid,
    /// Id and price in dollars.
    products: Vec<(Uuid, f64)>,
    customers: Vec<Uuid>,
}

impl Shop {
    /// A shop with products and customers.
    pub fn new(rng: &mut StdRng) -> Self {
        Shop {
            store_id: id(rng),
            products: (0..PRODUCTS).map(|_| (id(rng), cents(rng))).collect(),
            customers: (0..CUSTOMERS).map(|_| id(rng)).collect(),
        }
    }
}

/// A body of `POST /sync/push`.
#[derive(Debug, Clone)]
pub struct Push {
    /// The ids of its events, in their order.
    pub event_ids: Vec<String>,
    /// As it is sent.
    pub body: String,
}

impl Push {
    /// The same push with no events in it.
    pub fn without_events(&self) -> String {
        let head = self.body.split_once(r#""events":["#).map_or("", |(head, _)| head);
        format!(r#"{head}"events":[]}}"#)
    }
}

/// One till.
#[derive(Debug)]
pub struct Till {
    shop: Shop,
    /// Its device id; nobody has registered it yet.
    pub device_id: Uuid,
    user_id: Uuid,
    session_id: Uuid,
    seq: i64,
    /// Not `seq`: a v1 till got its vector clock later than its sequence.
    counter: i64,
    clock_ms: i64,
    /// The last sale without its cash entry: id, request id, totals in bolívares and dollars.
    unbooked: Option<(Uuid, Uuid, f64, f64)>,
    debts: Vec<Uuid>,
    rng: StdRng,
}

impl Till {
    /// A till whose clock stands at `opened_at` and moves on by some milliseconds an event.
    pub fn new(shop: &Shop, opened_at: DateTime<Utc>, rng: &mut StdRng) -> Self {
        Till {
            shop: shop.clone(),
            device_id: id(rng),
            user_id: id(rng),
            session_id: id(rng),
            seq: 5320,
            counter: 2100,
            clock_ms: opened_at.timestamp_millis(),
            unbooked: None,
            debts: Vec::new(),
            rng: StdRng::from_rng(rng),
        }
    }

    /// Lets go of debts and sales that later events would refer to. For a till whose last pushes were made and
    /// never sent: a payment of such a debt would wait for ever.
    pub fn forget(&mut self) {
        self.debts.clear();
        self.unbooked = None;
    }

    /// A push that opens the till's cash session.
    pub fn opening(&mut self) -> Push {
        let payload = format!(
            r#"{{"cash_session_id":"{}","opened_at":{},"opening_amount_bs":{},"opening_amount_usd":10,"note":""}}"#,
            self.session_id,
            self.clock_ms,
            10.0 * RATE
        );
        let event = self.envelope("CashSessionOpened", &payload);
        self.wrap(vec![event])
    }

    /// A push that names all products of the shop.
    pub fn products(&mut self) -> Push {
        let products = self.shop.products.clone();
        let events = products.iter().enumerate().map(|(i, (product, usd))| {
            let payload = format!(
                r#"{{"product_id":"{product}","name":"Producto {i}","category":"Víveres","sku":"SKU-{i}","barcode":"7591000{i:05}","price_bs":{},"price_usd":{usd},"cost_bs":0,"cost_usd":{},"is_active":true,"low_stock_threshold":5}}"#,
                usd * RATE,
                usd * 0.7
            );
            self.envelope("ProductCreated", &payload)
        });
        let events = events.collect();
        self.wrap(events)
    }

    /// A push of `batch` events in the usual mix: seven sales of ten, the rest money, goods and debts.
    pub fn push(&mut self, batch: usize) -> Push {
        let events = (0..batch).map(|_| self.event()).collect();
        self.wrap(events)
    }

    /// A push of events of these kinds.
    pub(crate) fn push_of(&mut self, kinds: &[Kind]) -> Push {
        let events = kinds.iter().map(|kind| self.of_kind(*kind)).collect();
        self.wrap(events)
    }

    fn wrap(&self, events: Vec<(String, String)>) -> Push {
        let (event_ids, events): (Vec<_>, Vec<_>) = events.into_iter().unzip();
        let body = format!(
            r#"{{"store_id":"{}","device_id":"{}","client_version":"1.0.0","events":[{}]}}"#,
            self.shop.store_id,
            self.device_id,
            events.join(",")
        );
        Push { event_ids, body }
    }

    fn event(&mut self) -> (String, String) {
        let mut left = self.rng.random_range(0..MIX.iter().map(|(_, share)| share).sum());
        let chosen = MIX.iter().find(|(_, share)| match left.checked_sub(*share) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        self.of_kind(chosen.map_or(Kind::Sale, |(kind, _)| *kind))
    }

    fn of_kind(&mut self, kind: Kind) -> (String, String) {
        match kind {
            Kind::Sale => self.sale(),
            Kind::LedgerEntry => self.ledger_entry(),
            Kind::StockReceived => self.stock_received(),
            Kind::DebtPayment if !self.debts.is_empty() => self.debt_payment(),
            // No debt to pay yet: it is made first.
            Kind::DebtCreated | Kind::DebtPayment => self.debt_created(),
        }
    }

    fn sale(&mut self) -> (String, String) {
        let (sale, request) = (id(&mut self.rng), id(&mut self.rng));
        let (items, usd, bs) = self.items();
        let fiao = self.rng.random_ratio(1, FIAO_ONE_IN);
        let customer = self.customer();
        let (method, session, named, quoted) = if fiao {
            let named = format!(r#","customer_id":"{customer}""#);
            ("FIAO", String::new(), named, format!(r#""{customer}""#))
        } else {
            self.unbooked = Some((sale, request, bs, usd));
            ("CASH_USD", self.session_id.to_string(), String::new(), "null".to_owned())
        };
        let payload = format!(
            r#"{{"sale_id":"{sale}","request_id":"{request}","cash_session_id":"{session}","sold_at":{},"exchange_rate":{RATE},"currency":"MIXED","items":[{items}],"totals":{{"subtotal_bs":{bs},"subtotal_usd":{usd},"discount_bs":0,"discount_usd":0,"total_bs":{bs},"total_usd":{usd}}},"payment":{{"method":"{method}"}}{named},"customer":{{"customer_id":{quoted}}},"metadata":{{"offline_created":true}}}}"#,
            self.clock_ms
        );
        self.envelope("SaleCreated", &payload)
    }

    /// The lines as JSON, and their sums in dollars and bolívares.
    fn items(&mut self) -> (String, f64, f64) {
        let (mut items, mut usd, mut bs) = (String::new(), 0.0, 0.0);
        for line in 0..self.rng.random_range(1..=3) {
            let (product, price) = self.product();
            // Cheese is sold by weight.
            let qty =
                if self.rng.random_ratio(1, 10) { 0.755 } else { f64::from(self.rng.random_range(1..=3)) };
            let (price_bs, comma) = (price * RATE, if line > 0 { "," } else { "" });
            usd += qty * price;
            bs += qty * price_bs;
            let item = write!(
                items,
                r#"{comma}{{"line_id":"{}","product_id":"{product}","qty":{qty},"unit_price_bs":{price_bs},"unit_price_usd":{price},"discount_bs":0,"discount_usd":0,"is_weight_product":false,"weight_unit":null,"weight_value":null,"price_per_weight_bs":null,"price_per_weight_usd":null}}"#,
                id(&mut self.rng)
            );
            item.expect("a String takes everything");
        }
        (items, usd, bs)
    }

    /// The cash entry of the last sale, else some other income.
    fn ledger_entry(&mut self) -> (String, String) {
        let (session, at) = (self.session_id, self.clock_ms);
        let payload = match self.unbooked.take() {
            Some((sale, request, bs, usd)) => format!(
                r#"{{"entry_id":"{sale}","request_id":"{}","entry_type":"sale","amount_bs":{bs},"amount_usd":{usd},"currency":"USD","cash_session_id":"{session}","sold_at":{at},"metadata":{{"sale_id":"{sale}","sale_request_id":"{request}"}}}}"#,
                id(&mut self.rng)
            ),
            None => format!(
                r#"{{"entry_id":"{}","request_id":"","entry_type":"income","amount_bs":{},"amount_usd":0,"currency":"BS","cash_session_id":"{session}","sold_at":{at}}}"#,
                id(&mut self.rng),
                cents(&mut self.rng)
            ),
        };
        self.envelope("CashLedgerEntryCreated", &payload)
    }

    fn stock_received(&mut self) -> (String, String) {
        let (product, price) = self.product();
        let payload = format!(
            r#"{{"movement_id":"{}","product_id":"{product}","qty":{},"unit_cost_bs":0,"unit_cost_usd":{},"note":"","ref":{{"supplier":"Mayorista","invoice":"F-{}"}}}}"#,
            id(&mut self.rng),
            self.rng.random_range(10..=40),
            price * 0.7,
            self.seq
        );
        self.envelope("StockReceived", &payload)
    }

    fn debt_created(&mut self) -> (String, String) {
        let (debt, customer) = (id(&mut self.rng), self.customer());
        if self.debts.len() == OPEN_DEBTS {
            self.debts.swap_remove(0);
        }
        self.debts.push(debt);
        let payload = format!(
            r#"{{"debt_id":"{debt}","sale_id":"","customer_id":"{customer}","created_at":{},"amount_bs":{},"amount_usd":0,"note":"saldo anterior"}}"#,
            self.clock_ms,
            500.0 + cents(&mut self.rng)
        );
        self.envelope("DebtCreated", &payload)
    }

    fn debt_payment(&mut self) -> (String, String) {
        let at = self.rng.random_range(0..self.debts.len());
        // About two payments a debt.
        let debt = if self.rng.random() { self.debts.swap_remove(at) } else { self.debts[at] };
        let payload = format!(
            r#"{{"payment_id":"{}","debt_id":"{debt}","paid_at":{},"amount_bs":{},"amount_usd":0,"method":"PAGO_MOVIL","note":""}}"#,
            id(&mut self.rng),
            self.clock_ms,
            cents(&mut self.rng)
        );
        self.envelope("DebtPaymentRecorded", &payload)
    }

    /// Event id and text.
    fn envelope(&mut self, event_type: &str, payload: &str) -> (String, String) {
        let event_id = id(&mut self.rng).to_string();
        self.seq += 1;
        self.counter += 1;
        self.clock_ms += self.rng.random_range(1..=40);
        let mut text = format!(
            r#"{{"event_id":"{event_id}","seq":{},"type":"{event_type}","version":1,"created_at":{},"actor":{{"user_id":"{}","role":"cashier"}},"payload":{payload},"vector_clock":{{"{}":{}}},"causal_dependencies":[]"#,
            self.seq, self.clock_ms, self.user_id, self.device_id, self.counter
        );
        if catalogue::find(event_type).is_some_and(|info| info.critical) {
            let written =
                write!(text, r#","delta_payload":{payload},"full_payload_hash":"{}""#, v1_hash(payload));
            written.expect("a String takes everything");
        }
        text.push('}');
        (event_id, text)
    }

    fn product(&mut self) -> (Uuid, f64) {
        self.shop.products[self.rng.random_range(0..self.shop.products.len())]
    }

    fn customer(&mut self) -> Uuid {
        self.shop.customers[self.rng.random_range(0..self.shop.customers.len())]
    }
}

/// SHA-256 over the payload with its keys sorted, in hex.
fn v1_hash(payload: &str) -> String {
    let json = Json::parse(payload).expect("a till writes JSON");
    canonical::hash(&json, KeyOrder::JavaScript).iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes everything");
        hex
    })
}

/// A random UUID, version 4, as v1's tills make all their ids.
fn id(rng: &mut StdRng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.random()).into_uuid()
}

fn cents(rng: &mut StdRng) -> f64 {
    f64::from(rng.random_range(1..=9999)) / 100.0
}

#[cfg(test)]
#[path = "till_tests.rs"]
mod tests;
