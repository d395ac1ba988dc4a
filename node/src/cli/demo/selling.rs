//! Sales of the demo's day: baskets, payloads as v1's tills send them, voids, and what goes wrong with a sale
//! on its way: sent twice, changed, unreadable.

use super::cash::drawer;
use super::day::{Making, ROAMING, Sale};
use super::figures::cents;
use super::goods::{GOODS, OVERSOLD, RATE, Sold};
use super::till::id;
use rand::Rng;
use rand::seq::IndexedRandom;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Ways to pay and how often each is chosen.
const METHODS: [(&str, u32); 7] = [
    ("PAGO_MOVIL", 30),
    ("CASH_BS", 20),
    ("CASH_USD", 20),
    ("POINT_OF_SALE", 9),
    ("SPLIT", 7),
    ("TRANSFER", 5),
    (ON_CREDIT, 9),
];
/// Sold on credit.
pub(super) const ON_CREDIT: &str = "FIAO";

impl Making {
    /// Somebody buys something.
    pub(super) fn sell(&mut self, till: usize) {
        let basket = self.basket();
        let method =
            METHODS.choose_weighted(&mut self.random, |(_, weight)| *weight).map_or("CASH_BS", |(m, _)| *m);
        self.sell_basket(till, basket, method);
    }

    pub(super) fn sell_on_credit(&mut self, till: usize) {
        let basket = self.basket();
        self.sell_basket(till, basket, ON_CREDIT);
    }

    /// The till that roams sells what the others have sold already.
    pub(super) fn oversell(&mut self) {
        let left = self.stock.get(&self.products[OVERSOLD]).copied().unwrap_or_default();
        let left: i64 = left.max(Decimal::ZERO).trunc().try_into().unwrap_or(0);
        self.sell_basket(ROAMING, vec![(OVERSOLD, (left + 3) * 1000)], "CASH_BS");
    }

    /// Products and thousandths of a piece or kilogram, each product once.
    fn basket(&mut self) -> Vec<(usize, i64)> {
        let places: Vec<usize> = (0..GOODS.len()).collect();
        let mut basket = BTreeMap::new();
        for _ in 0..self.random.random_range(1..=4) {
            let Ok(place) = places.choose_weighted(&mut self.random, |place| GOODS[*place].weight) else {
                continue;
            };
            let thousandths = match GOODS[*place].sold {
                Sold::Weight => self.random.random_range(200..1_400),
                Sold::Piece | Sold::Kitchen => [1, 1, 1, 2, 2, 3][self.random.random_range(0..6)] * 1000,
            };
            basket.insert(*place, thousandths);
        }
        basket.into_iter().collect()
    }

    fn sell_basket(&mut self, till: usize, lines: Vec<(usize, i64)>, method: &'static str) {
        let customer =
            (method == ON_CREDIT).then(|| self.customers.choose(&mut self.random).copied()).flatten();
        let (payload, [bs, usd]) = self.sale_payload(till, &lines, method, customer);
        let sale_id = id(&mut self.random);
        let mut payload = payload;
        payload["sale_id"] = json!(sale_id);
        let request = payload["request_id"].clone();
        let event = self.record(till, "SaleCreated", payload.clone());
        if method == "TRANSFER" {
            // v1 repeats it in the envelope where the sale was made online.
            event["request_id"] = request;
        }
        for (product, thousandths) in &lines {
            self.move_stock(*product, -Decimal::new(*thousandths, 3));
        }
        let put = drawer(method, bs, usd);
        self.put(till, &put, 1.0);
        let debt = customer.map(|customer| self.owe(till, customer, sale_id, &payload));
        if method != ON_CREDIT && till != ROAMING {
            self.enter_sale(till, &payload);
        }
        let totals = &payload["totals"];
        self.sales.push(Sale {
            id: sale_id,
            till,
            session: self.tills[till].session.as_ref().map(|session| session.id),
            method,
            bs: cents(&totals["total_bs"]),
            usd: cents(&totals["total_usd"]),
            lines,
            drawer: put,
            debt,
            voided: false,
            payload,
        });
    }

    /// A sale without its id, and its totals in bolívares and dollars.
    fn sale_payload(
        &mut self,
        till: usize,
        lines: &[(usize, i64)],
        method: &str,
        customer: Option<Uuid>,
    ) -> (Value, [f64; 2]) {
        let (mut bs, mut usd) = (0.0, 0.0);
        let mut items = Vec::new();
        for (product, thousandths) in lines {
            let (price, quantity) = (self.tills[till].prices[*product], *thousandths as f64 / 1000.0);
            bs += quantity * (price * RATE);
            usd += quantity * price;
            items.push(self.item(till, *product, quantity, price));
        }
        let till = &self.tills[till];
        let amount = |value| till.amount(value);
        let mut payment = json!({ "method": method });
        if method == "SPLIT" {
            let split =
                drawer(method, bs, usd).into_iter().map(|(kind, part)| (kind.to_owned(), amount(part)));
            payment["split"] = Value::Object(split.collect());
        }
        let payload = json!({
            "request_id": id(&mut self.random),
            "cash_session_id": till.session_id(),
            "sold_at": till.time(self.at),
            "exchange_rate": RATE,
            "currency": "MIXED",
            "items": items,
            "totals": {
                "subtotal_bs": amount(bs), "subtotal_usd": amount(usd), "discount_bs": 0, "discount_usd": 0,
                "total_bs": amount(bs), "total_usd": amount(usd),
            },
            "payment": payment,
            "customer": { "customer_id": customer },
            "customer_id": customer,
            "warehouse_id": "",
        });
        (payload, [bs, usd])
    }

    fn item(&mut self, till: usize, product: usize, quantity: f64, usd: f64) -> Value {
        let line = id(&mut self.random);
        let price = |value| self.tills[till].price(value);
        let mut item = json!({
            "line_id": line, "product_id": self.products[product], "qty": quantity,
            "unit_price_bs": price(usd * RATE), "unit_price_usd": price(usd), "discount_bs": 0, "discount_usd": 0,
            "is_weight_product": false, "weight_unit": null, "weight_value": null,
        });
        if GOODS[product].sold == Sold::Weight {
            item["is_weight_product"] = json!(true);
            item["weight_unit"] = json!("kg");
            item["weight_value"] = json!(quantity);
        }
        item
    }

    /// The cashier takes the till's last sale back.
    pub(super) fn void_last(&mut self, till: usize) {
        let session = self.tills[till].session.as_ref().map(|session| session.id);
        let fits =
            |sale: &Sale| sale.till == till && sale.session == session && !sale.voided && sale.debt.is_none();
        if let Some(place) = self.sales.iter().rposition(fits) {
            self.void(place);
        }
    }

    /// The last sale on credit that nobody has paid for is taken back: its debt is no debt any more.
    pub(super) fn void_credit(&mut self) {
        let unpaid =
            |sale: &Sale| !sale.voided && sale.debt.is_some_and(|debt| self.debts[debt].paid.is_zero());
        if let Some(place) = self.sales.iter().rposition(unpaid) {
            self.void(place);
        }
    }

    fn void(&mut self, place: usize) {
        let sale = &mut self.sales[place];
        sale.voided = true;
        let (till, sale_id, lines, put, debt) =
            (sale.till, sale.id, sale.lines.clone(), sale.drawer.clone(), sale.debt);
        let (at, user) = (self.tills[till].time(self.at), self.tills[till].user_id);
        let payload = json!({ "sale_id": sale_id, "voided_at": at, "voided_by_user_id": user,
            "reason": "el cliente se arrepintió" });
        self.record(till, "SaleVoided", payload);
        for (product, thousandths) in lines {
            self.move_stock(product, Decimal::new(thousandths, 3));
        }
        self.put(till, &put, -1.0);
        if let Some(debt) = debt {
            self.debts[debt].cancelled = true;
        }
    }

    /// The till lost the answer and made the same sale anew: another id, the same request. One of them counts.
    pub(super) fn send_doubled_sale(&mut self, till: usize) {
        let Some(sale) = self.sales.iter().rfind(|sale| sale.till == till && sale.debt.is_none()) else {
            return;
        };
        let mut payload = sale.payload.clone();
        payload["sale_id"] = json!(id(&mut self.random));
        self.record(till, "SaleCreated", payload);
    }

    /// A total that is no number: stored, and shown as failed until somebody mends it.
    pub(super) fn send_bad_amount(&mut self, till: usize) {
        let basket = self.basket();
        let (mut payload, _) = self.sale_payload(till, &basket, "CASH_BS", None);
        payload["sale_id"] = json!(id(&mut self.random));
        payload["totals"]["total_bs"] = json!("doce con cincuenta");
        self.record(till, "SaleCreated", payload);
    }

    /// A sale that was changed after it was hashed: refused.
    pub(super) fn send_tampered(&mut self, till: usize) {
        let basket = self.basket();
        let (mut payload, _) = self.sale_payload(till, &basket, "CASH_USD", None);
        payload["sale_id"] = json!(id(&mut self.random));
        let event = self.record(till, "SaleCreated", payload);
        for copy in ["payload", "delta_payload"] {
            event[copy]["totals"]["total_usd"] = json!(0.01);
        }
        let event_id = event["event_id"].as_str().and_then(|text| text.parse().ok());
        self.tampered = event_id.unwrap_or_default();
    }

    /// A type of a version to come: stored, projected by a node that knows it.
    pub(super) fn send_unknown_type(&mut self, till: usize) {
        let payload = json!({ "customer_id": self.customers[1], "points": 25 });
        self.record(till, "LoyaltyPointsGranted", payload);
    }
}
