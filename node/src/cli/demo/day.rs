//! A shop's day from a seed: what three tills record, and the figures that they add up themselves. For half of it the
//! two nodes cannot reach each other, so that what one till does no other one knows.
//!
//! The order of a day stands here; sales are made in [`selling`](super::selling), money and debts in
//! [`cash`](super::cash). Never here: HTTP, or a look at the node.

use super::figures::{DebtFigure, Figures, SessionFigure, Tally, decimal};
use super::goods::{
    CUSTOMERS, DELIVERED, DISPUTED, GOODS, MOVED, NUMBERS, PRICE_DECIDED, PRICE_ELSEWHERE, RATE, REPRICED,
    Sold, TILLS,
};
use super::till::{Dialect, Till, id};
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rust_decimal::Decimal;
use serde_json::json;
use std::collections::BTreeMap;
use uuid::Uuid;
use velox_protocol::decimal::Column;

/// The till that leaves the shop for half of the day, offline, and comes back beside the other node.
pub(super) const ROAMING: usize = 2;
/// The till of the node in the cloud.
const ELSEWHERE: usize = 1;
/// From when on the link between the nodes is cut, and the roaming till offline; as a part of the day.
const CUT_FROM: f64 = 0.4;
/// The day is this long and ends just before now.
const LENGTH: TimeDelta = TimeDelta::minutes(11 * 60 + 40);
const BEFORE_NOW: TimeDelta = TimeDelta::minutes(3);

/// What three tills did.
#[derive(Debug)]
pub(super) struct Day {
    pub(super) store_id: Uuid,
    pub(super) tills: Vec<Till>,
    /// Of the first till's events: the catalogue, customers and stock of the morning.
    pub(super) opening: usize,
    /// Of each till's events: those before the cut.
    pub(super) before_cut: Vec<usize>,
    /// The event that was changed on its way, so that its hash is wrong.
    pub(super) tampered: Uuid,
    /// The product whose price both sides of the cut have set.
    pub(super) disputed: Uuid,
    /// What the tills say of the day, and the person who decides that price.
    pub(super) figures: Figures,
}

/// What happens at some time of a day, at which till.
#[derive(Debug, Clone, Copy)]
enum Act {
    Open(usize),
    Close(usize),
    Sell(usize),
    SellOnCredit(usize),
    Double(usize),
    Void(usize),
    VoidCredit,
    Pay(usize),
    PayElsewhere,
    Deliver,
    Reprice,
    RepriceElsewhere,
    Phone(usize),
    Damage,
    Ledger(usize, &'static str),
    BadAmount(usize),
    Tampered(usize),
    UnknownType(usize),
    Oversell,
}

/// A sale that stands.
#[derive(Debug)]
pub(super) struct Sale {
    pub(super) id: Uuid,
    pub(super) till: usize,
    pub(super) session: Option<Uuid>,
    pub(super) method: &'static str,
    pub(super) bs: Decimal,
    pub(super) usd: Decimal,
    /// Product and thousandths of a piece or kilogram.
    pub(super) lines: Vec<(usize, i64)>,
    /// What it put into the drawer.
    pub(super) drawer: Vec<(&'static str, f64)>,
    pub(super) debt: Option<usize>,
    pub(super) voided: bool,
    pub(super) payload: serde_json::Value,
}

/// A debt, in its own currency.
#[derive(Debug)]
pub(super) struct Debt {
    pub(super) id: Uuid,
    pub(super) till: usize,
    pub(super) at: i64,
    pub(super) in_usd: bool,
    pub(super) opening: Decimal,
    pub(super) paid: Decimal,
    pub(super) cancelled: bool,
}

/// A day in the making.
pub(super) struct Making {
    pub(super) random: StdRng,
    pub(super) store_id: Uuid,
    pub(super) products: Vec<Uuid>,
    pub(super) customers: Vec<Uuid>,
    pub(super) tills: Vec<Till>,
    /// The present time of the day, ms since 1970.
    pub(super) at: i64,
    /// When the link is cut.
    pub(super) cut_at: i64,
    pub(super) sales: Vec<Sale>,
    pub(super) debts: Vec<Debt>,
    pub(super) stock: BTreeMap<Uuid, Decimal>,
    pub(super) sessions: BTreeMap<Uuid, SessionFigure>,
    pub(super) ledger: BTreeMap<String, Tally>,
    pub(super) tampered: Uuid,
}

impl Day {
    /// The day that ends at `now`.
    pub(super) fn new(seed: u64, now: DateTime<Utc>) -> Day {
        let mut random = StdRng::seed_from_u64(seed);
        let store_id = id(&mut random);
        let dialects = [Dialect::Numbers, Dialect::Numbers, Dialect::Texts];
        let tills =
            TILLS.iter().zip(dialects).map(|(name, dialect)| Till::new(name, dialect, &mut random)).collect();
        let opens = (now - BEFORE_NOW - LENGTH).timestamp_millis();
        let time = |part: f64| opens + (part * LENGTH.num_milliseconds() as f64) as i64;
        let mut making = Making {
            store_id,
            products: GOODS.iter().map(|_| id(&mut random)).collect(),
            customers: CUSTOMERS.iter().map(|_| id(&mut random)).collect(),
            tills,
            at: opens,
            cut_at: time(CUT_FROM),
            sales: Vec::new(),
            debts: Vec::new(),
            stock: BTreeMap::new(),
            sessions: BTreeMap::new(),
            ledger: BTreeMap::new(),
            tampered: Uuid::nil(),
            random,
        };
        making.declare();
        let opening = making.tills[0].queue.len();
        for (part, act) in schedule(&mut making.random) {
            making.at = time(part);
            making.act(act);
        }
        let before = |till: &Till| till.queue.partition_point(|queued| queued.at < making.cut_at);
        let before_cut = making.tills.iter().map(before).collect();
        Day {
            store_id,
            opening,
            before_cut,
            tampered: making.tampered,
            disputed: making.products[DISPUTED],
            figures: making.figures(),
            tills: making.tills,
        }
    }
}

/// What happens when, in order.
fn schedule(random: &mut StdRng) -> Vec<(f64, Act)> {
    let mut acts: Vec<(f64, Act)> = vec![
        (0.010, Act::Open(0)),
        (0.015, Act::Open(1)),
        (0.020, Act::Open(2)),
        (0.30, Act::Double(1)),
        (0.38, Act::Ledger(0, "expense")),
        (0.45, Act::Deliver),
        (0.50, Act::Close(0)),
        (0.505, Act::Open(0)),
        (0.51, Act::Reprice),
        // Within the quarter of an hour in which two prices are a matter for a person.
        (0.515, Act::RepriceElsewhere),
        (0.52, Act::SellOnCredit(ROAMING)),
        (0.53, Act::Phone(0)),
        (0.54, Act::Phone(ELSEWHERE)),
        (0.55, Act::BadAmount(1)),
        (0.57, Act::Tampered(1)),
        (0.58, Act::UnknownType(0)),
        (0.60, Act::Damage),
        (0.62, Act::PayElsewhere),
        (0.66, Act::Ledger(1, "income")),
        (0.70, Act::VoidCredit),
        (0.965, Act::Oversell),
        (0.970, Act::Close(0)),
        (0.985, Act::Close(2)),
    ];
    for _ in 0..random.random_range(300..340) {
        // Busier around noon and after work.
        let part = match random.random_range(0..10) {
            0..=1 => random.random_range(0.40..0.55),
            2..=3 => random.random_range(0.78..0.93),
            _ => random.random_range(0.03..0.96),
        };
        let till = [0, 0, 0, 0, 1, 1, 1, 2, 2][random.random_range(0..9)];
        acts.push((part, Act::Sell(till)));
    }
    for n in 0..8 {
        acts.push((random.random_range(0.1..0.96), Act::Void(n % TILLS.len())));
    }
    for n in 0..14 {
        acts.push((random.random_range(0.2..0.96), Act::Pay(n % TILLS.len())));
    }
    acts.sort_by(|a, b| a.0.total_cmp(&b.0));
    acts
}

impl Making {
    fn act(&mut self, act: Act) {
        match act {
            Act::Open(till) => self.open_session(till),
            Act::Close(till) => self.close_session(till),
            Act::Sell(till) => self.sell(till),
            Act::SellOnCredit(till) => self.sell_on_credit(till),
            Act::Double(till) => self.send_doubled_sale(till),
            Act::Void(till) => self.void_last(till),
            Act::VoidCredit => self.void_credit(),
            Act::Pay(till) => self.pay_some_debt(till),
            Act::PayElsewhere => self.pay_debt_of_roaming_till(),
            Act::Deliver => DELIVERED.iter().for_each(|product| self.receive(*product, 24)),
            Act::Reprice => self.reprice(),
            Act::RepriceElsewhere => self.set_price(ELSEWHERE, DISPUTED, PRICE_ELSEWHERE),
            Act::Phone(till) => self.note_phone(till),
            Act::Damage => self.damage(),
            Act::Ledger(till, kind) => self.enter(till, kind),
            Act::BadAmount(till) => self.send_bad_amount(till),
            Act::Tampered(till) => self.send_tampered(till),
            Act::UnknownType(till) => self.send_unknown_type(till),
            Act::Oversell => self.oversell(),
        }
    }

    /// Queues an event at a till, now.
    pub(super) fn record(
        &mut self,
        till: usize,
        event_type: &str,
        payload: serde_json::Value,
    ) -> &mut serde_json::Value {
        self.tills[till].record(self.at, event_type, payload, &mut self.random)
    }

    /// The morning, at the first till: products, customers, stock, and what is owed from before.
    fn declare(&mut self) {
        for (i, good) in GOODS.iter().enumerate() {
            let mut product = json!({
                "product_id": self.products[i], "name": good.name, "category": good.category,
                "sku": format!("SKU-{i:03}"), "barcode": format!("7591000{i:05}"),
                "price_bs": good.usd * RATE, "price_usd": good.usd, "cost_bs": 0, "cost_usd": good.usd * 0.7,
                "is_active": true, "low_stock_threshold": 6,
            });
            match good.sold {
                Sold::Piece => {}
                Sold::Weight => product["is_weight_product"] = json!(true),
                Sold::Kitchen => product["product_type"] = json!("prepared"),
            }
            self.record(0, "ProductCreated", product);
        }
        for (i, customer) in CUSTOMERS.iter().enumerate() {
            let known = json!({ "customer_id": self.customers[i], "name": customer.name,
                "document_id": customer.document, "phone": "", "credit_limit": null, "note": "" });
            self.record(0, "CustomerCreated", known);
            let phone = json!({ "customer_id": self.customers[i], "patch": { "phone": customer.phone } });
            self.record(0, "CustomerUpdated", phone);
        }
        for (i, good) in GOODS.iter().enumerate().filter(|(_, good)| good.received > 0) {
            self.receive(i, good.received);
        }
        self.owe_from_before();
    }

    /// Goods come in, at the first till: by two types of event, as v1 has them.
    fn receive(&mut self, product: usize, quantity: i64) {
        let (movement, product_id) = (id(&mut self.random), self.products[product]);
        if GOODS[product].sold == Sold::Weight {
            let payload = json!({ "movement_id": movement, "product_id": product_id, "warehouse_id": "",
                "qty_delta": quantity, "reason": "receipt", "request_id": id(&mut self.random) });
            self.record(0, "StockDeltaApplied", payload);
        } else {
            let payload = json!({ "movement_id": movement, "product_id": product_id, "qty": quantity,
                "unit_cost_bs": 0, "unit_cost_usd": GOODS[product].usd * 0.7, "note": "",
                "ref": { "supplier": "Mayorista", "invoice": "F-1" } });
            self.record(0, "StockReceived", payload);
        }
        self.move_stock(product, Decimal::from(quantity));
    }

    fn damage(&mut self) {
        let payload = json!({ "movement_id": id(&mut self.random), "product_id": self.products[10],
            "qty_delta": -1, "reason": "damage", "note": "cartón roto" });
        self.record(1, "StockAdjusted", payload);
        self.move_stock(10, -Decimal::ONE);
    }

    pub(super) fn move_stock(&mut self, product: usize, quantity: Decimal) {
        *self.stock.entry(self.products[product]).or_default() += quantity;
    }

    /// New prices in the shop; the tills elsewhere sell on at the old ones.
    fn reprice(&mut self) {
        for product in REPRICED {
            self.set_price(0, product, (GOODS[product].usd * 105.0).round() / 100.0);
        }
    }

    fn set_price(&mut self, till: usize, product: usize, usd: f64) {
        let payload = json!({ "product_id": self.products[product], "price_bs": usd * RATE, "price_usd": usd,
            "reason": "manual", "rounding": "none", "effective_at": self.at });
        self.record(till, "PriceChanged", payload);
        self.tills[till].prices[product] = usd;
    }

    /// A customer's new telephone, as this till has understood it: the later one stands.
    fn note_phone(&mut self, till: usize) {
        let payload = json!({ "customer_id": self.customers[MOVED], "patch": { "phone": NUMBERS[till] } });
        self.record(till, "CustomerUpdated", payload);
    }

    /// As they are when a person has decided the one that is disputed.
    fn prices(&self) -> BTreeMap<Uuid, Decimal> {
        let usd = |product: usize| match product {
            DISPUTED => PRICE_DECIDED,
            other => self.tills[0].prices[other],
        };
        let price = |product| Column::Price.round(decimal(&json!(usd(product))));
        self.products.iter().enumerate().map(|(product, id)| (*id, price(product))).collect()
    }

    fn phones(&self) -> BTreeMap<Uuid, String> {
        let number = |customer: usize| match customer {
            MOVED => NUMBERS[1],
            other => CUSTOMERS[other].phone,
        };
        self.customers.iter().enumerate().map(|(place, id)| (*id, number(place).to_owned())).collect()
    }

    fn figures(&self) -> Figures {
        let mut figures = Figures {
            products: self.products.len() as u64,
            customers: self.customers.len() as u64,
            prices: self.prices(),
            phones: self.phones(),
            stock: self.stock.clone(),
            sessions: self.sessions.clone(),
            ledger: self.ledger.clone(),
            ..Figures::default()
        };
        for sale in &self.sales {
            if sale.voided {
                figures.voided.add(sale.bs, sale.usd);
            } else {
                figures.sales.entry(sale.method.to_owned()).or_default().add(sale.bs, sale.usd);
            }
            for (product, thousandths) in &sale.lines {
                let quantity = if sale.voided { Decimal::ZERO } else { Decimal::new(*thousandths, 3) };
                *figures.sold.entry(self.products[*product]).or_default() += quantity;
            }
        }
        for debt in &self.debts {
            let status = debt.status().to_owned();
            let remaining =
                if status == "partial" || status == "pending" { debt.left() } else { Decimal::ZERO };
            let (paid, remaining) = (Column::Amount.round(debt.paid), Column::Amount.round(remaining));
            figures.debts.insert(debt.id, DebtFigure { status, paid, remaining });
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_day() {
        let now = DateTime::from_timestamp_millis(1_763_950_000_000).expect("a time");
        let queues = |seed| -> Vec<String> {
            let day = Day::new(seed, now);
            day.tills
                .iter()
                .flat_map(|till| till.queue.iter().map(|queued| queued.event.to_string()))
                .collect()
        };
        let one = queues(7);
        assert_eq!(one, queues(7));
        assert_ne!(one, queues(8));
    }

    #[test]
    fn every_day_has_what_the_demo_is_to_show() {
        let now = DateTime::from_timestamp_millis(1_763_950_000_000).expect("a time");
        for seed in 0..12 {
            let day = Day::new(seed, now);
            let figures = &day.figures;
            let sold = Tally::total(figures.sales.values()).count;
            assert!(sold > 280, "seed {seed}: {sold} sales");
            assert!(figures.voided.count >= 5, "seed {seed}: {} voided", figures.voided.count);
            assert!(
                figures.stock.values().any(|stock| stock.is_sign_negative()),
                "seed {seed}: nothing oversold"
            );
            for status in ["pending", "partial", "paid", "cancelled"] {
                assert!(
                    figures.debts.values().any(|debt| debt.status == status),
                    "seed {seed}: no {status} debt"
                );
            }
            assert!(
                !day.tampered.is_nil()
                    && day.before_cut.iter().all(|before| *before > 5)
                    && day
                        .tills
                        .iter()
                        .zip(&day.before_cut)
                        .all(|(till, before)| till.queue.len() > before + 20)
            );
            let times = day.tills.iter().flat_map(|till| &till.queue).map(|queued| queued.at);
            let since = (now - TimeDelta::hours(12)).timestamp_millis();
            assert!(times.into_iter().all(|at| (since..now.timestamp_millis()).contains(&at)), "seed {seed}");
        }
    }
}
