//! One reader a kind: from a payload's fields to its meaning, or the reason why it has none.

use super::fields::{Fields, Unclear};
use super::{
    Debt, FieldWrites, LedgerEntry, Money, Payload, Payment, Sale, SaleLine, SeriesDeclaration, Stock,
    StockKind, StockMove, StoreDeclaration, Void,
};
use crate::decimal::{self, Column};
use crate::json::{Json, Member};
use serde_json::json;
use std::borrow::Cow;
use std::collections::HashSet;
use uuid::Uuid;

impl Payload {
    /// Reads the payload of a type that this version projects.
    ///
    /// # Errors
    /// The reason why its meaning is unclear: the event is stored and its exception is 'failed'.
    pub fn read(event_type: &str, payload: &Json<'_>) -> Result<Payload, String> {
        let fields = Fields::new(payload);
        Ok(match event_type {
            "SaleCreated" => Payload::Sale(Box::new(sale(fields)?)),
            "SaleVoided" => Payload::Void(void(fields)?),
            "DebtCreated" => Payload::Debt(Box::new(debt(fields)?)),
            "DebtPaymentRecorded" | "DebtPaymentAdded" => Payload::Payment(Box::new(payment(fields)?)),
            "StockReceived" => Payload::Stock(stock(fields, StockKind::Received)?),
            "StockAdjusted" => Payload::Stock(stock(fields, StockKind::Adjusted)?),
            "StockDeltaApplied" => Payload::Stock(stock(fields, StockKind::Delta)?),
            "CashLedgerEntryCreated" => Payload::Ledger(Box::new(ledger(fields)?)),
            "CashSessionOpened" => Payload::Session(session_opened(fields)?),
            "CashSessionClosed" => Payload::Session(session_closed(fields)?),
            "ProductCreated" | "ProductUpdated" => Payload::Product(product(fields)?),
            "ProductDeactivated" => Payload::Product(product_deactivated(fields)?),
            "PriceChanged" => Payload::Product(price_changed(fields)?),
            "CustomerCreated" | "CustomerUpdated" => Payload::Customer(customer(fields)?),
            "StoreDeclared" => Payload::Store(store_declaration(fields)?),
            "FiscalSeriesDeclared" => Payload::Series(Box::new(series_declaration(fields)?)),
            _ => return Err("the type is not projected".to_owned()),
        })
    }
}

fn sale(f: Fields<'_>) -> Result<Sale, Unclear> {
    let totals = f.inner("totals")?.unwrap_or(f);
    let payment = f.inner("payment")?;
    let customer = f.inner("customer")?;
    let mut lines = Vec::new();
    for (index, item) in f.list("items")?.unwrap_or_default().iter().enumerate() {
        lines.push(sale_line(Fields::element("items", index, item)?)?);
    }
    let amount = Column::Amount;
    Ok(Sale {
        sale_id: f.required_uuid(&["sale_id"])?,
        request_id: f.id_text("request_id"),
        lines,
        total: Money {
            plain: f.decimal(&["total", "total_amount"], amount)?.or(totals.decimal(&["total"], amount)?),
            bs: totals.decimal(&["total_bs"], amount)?,
            usd: totals.decimal(&["total_usd"], amount)?,
        },
        subtotal: totals.money([&["subtotal"], &["subtotal_bs"], &["subtotal_usd"]], amount)?,
        session_id: f.uuid(&["session_id", "cash_session_id"])?,
        customer_id: match f.uuid(&["customer_id"])? {
            Some(id) => Some(id),
            None => customer.map(|c| c.uuid(&["customer_id"])).transpose()?.flatten(),
        },
        warehouse_id: f.uuid(&["warehouse_id"])?,
        payment_method: match payment.map(|p| p.text(&["method"])).transpose()?.flatten() {
            Some(method) => Some(method),
            None => f.text(&["payment_method"])?,
        },
        currency: f.text(&["currency"])?,
        exchange_rate: f.decimal(&["exchange_rate"], Column::Rate)?,
        sold_at: f.time(&["sold_at"])?,
        series_id: f.uuid(&["series_id", "invoice_series_id"])?,
        invoice_number: f.text(&["invoice_number"])?,
        fiscal_number: f.text(&["fiscal_number"])?,
        note: f.text(&["note"])?,
    })
}

fn sale_line(f: Fields<'_>) -> Result<SaleLine, Unclear> {
    let weighed = f.flag("is_weight_product")? == Some(true) && f.json.get("weight_value").is_some();
    let qty: &[&'static str] = if weighed { &["weight_value"] } else { &["qty"] };
    Ok(SaleLine {
        product_id: f.required_uuid(&["product_id"])?,
        variant_id: f.uuid(&["variant_id"])?,
        qty: f.required_decimal(qty, Column::Quantity)?,
        unit_price: f.money(
            [&["unit_price", "price"], &["unit_price_bs", "price_bs"], &["unit_price_usd", "price_usd"]],
            Column::Price,
        )?,
        discount: f.money([&["discount"], &["discount_bs"], &["discount_usd"]], Column::Amount)?,
        name: f.text(&["name"])?,
    })
}

fn void(f: Fields<'_>) -> Result<Void, Unclear> {
    Ok(Void {
        sale_id: f.required_uuid(&["sale_id"])?,
        voided_at: f.time(&["voided_at"])?,
        voided_by: f.text(&["voided_by_user_id"])?,
        reason: f.text(&["reason"])?,
    })
}

fn debt(f: Fields<'_>) -> Result<Debt, Unclear> {
    let amount = f.money(
        [&["total_amount", "amount"], &["total_amount_bs", "amount_bs"], &["total_amount_usd", "amount_usd"]],
        Column::Amount,
    )?;
    if amount.is_absent() {
        return Err("total_amount is missing".to_owned());
    }
    Ok(Debt {
        debt_id: f.required_uuid(&["debt_id"])?,
        customer_id: f.uuid(&["customer_id"])?,
        sale_id: f.uuid(&["sale_id"])?,
        amount,
        remaining: f.money(
            [&["remaining_amount"], &["remaining_amount_bs"], &["remaining_amount_usd"]],
            Column::Amount,
        )?,
        currency: f.text(&["currency"])?,
        created_at: f.time(&["created_at"])?,
        due_at: f.time(&["due_at"])?,
        notes: f.text(&["note", "notes"])?,
    })
}

fn payment(f: Fields<'_>) -> Result<Payment, Unclear> {
    let amount = f.money([&["amount"], &["amount_bs"], &["amount_usd"]], Column::Amount)?;
    if amount.is_absent() {
        return Err("amount is missing".to_owned());
    }
    Ok(Payment {
        payment_id: f.required_uuid(&["payment_id"])?,
        request_id: f.id_text("request_id"),
        debt_id: f.required_uuid(&["debt_id"])?,
        amount,
        method: f.text(&["payment_method", "method"])?.unwrap_or_else(|| "cash".to_owned()),
        paid_at: f.time(&["paid_at"])?,
        reference: f.text(&["reference"])?,
        notes: f.text(&["note", "notes"])?,
    })
}

fn stock(f: Fields<'_>, kind: StockKind) -> Result<Stock, Unclear> {
    let items = f.list("items")?;
    let mut moves = Vec::new();
    match items {
        None => moves.push(stock_move(f, kind, None)?),
        Some(items) => {
            let warehouse_id = f.uuid(&["warehouse_id"])?;
            for (index, item) in items.iter().enumerate() {
                moves.push(stock_move(Fields::element("items", index, item)?, kind, warehouse_id)?);
            }
        }
    }
    Ok(Stock { kind, movement_id: f.uuid(&["movement_id"])?, itemised: items.is_some(), moves })
}

fn stock_move(f: Fields<'_>, kind: StockKind, warehouse_id: Option<Uuid>) -> Result<StockMove, Unclear> {
    let qty: &[&'static str] = match kind {
        StockKind::Received => &["qty"],
        StockKind::Adjusted | StockKind::Delta => &["qty_delta", "delta"],
    };
    Ok(StockMove {
        product_id: f.required_uuid(&["product_id"])?,
        variant_id: f.uuid(&["variant_id"])?,
        warehouse_id: f.uuid(&["warehouse_id"])?.or(warehouse_id),
        qty_delta: f.required_decimal(qty, Column::Quantity)?,
    })
}

fn ledger(f: Fields<'_>) -> Result<LedgerEntry, Unclear> {
    // Free-form: what is no object names no sale.
    let metadata = f.inner("metadata").unwrap_or(None);
    Ok(LedgerEntry {
        entry_id: f.required_uuid(&["entry_id"])?,
        request_id: f.id_text("request_id"),
        entry_type: f.text(&["entry_type", "kind"])?.ok_or("entry_type is missing")?,
        amount: f.money([&["amount"], &["amount_bs"], &["amount_usd"]], Column::Amount)?,
        currency: f.text(&["currency"])?,
        session_id: f.uuid(&["session_id", "cash_session_id"])?,
        sold_at: f.time(&["sold_at"])?,
        reason: f.text(&["reason"])?,
        sale_id: metadata.map(|m| m.uuid(&["sale_id"])).transpose()?.flatten(),
        sale_request_id: metadata.and_then(|m| m.id_text("sale_request_id")),
    })
}

fn store_declaration(f: Fields<'_>) -> Result<StoreDeclaration, Unclear> {
    Ok(StoreDeclaration {
        home_node: f.text(&["home_node"])?.ok_or("home_node is missing")?,
        default_warehouse_id: f.uuid(&["default_warehouse_id"])?,
        name: f.text(&["name"])?,
    })
}

fn series_declaration(f: Fields<'_>) -> Result<SeriesDeclaration, Unclear> {
    Ok(SeriesDeclaration {
        series_id: f.required_uuid(&["series_id"])?,
        name: f.text(&["name"])?,
        prefix: f.text(&["prefix"])?,
        next_number: f.required_count("next_number")?,
        owner_node: f.text(&["owner_node"])?,
    })
}

/// A session's register holds the whole event, in the words of its table.
fn session_opened(f: Fields<'_>) -> Result<FieldWrites, Unclear> {
    let amount =
        f.money([&["opening_amount"], &["opening_amount_bs"], &["opening_amount_usd"]], Column::Amount)?;
    let opened = json!({
        "at": f.time(&["opened_at"])?,
        "register_id": f.text(&["register_id"])?,
        "amount": amount.plain.map(|d| d.normalize()),
        "amount_bs": amount.bs.map(|d| d.normalize()),
        "amount_usd": amount.usd.map(|d| d.normalize()),
        "notes": f.text(&["note"])?,
    });
    session(f, "opened", &opened)
}

fn session_closed(f: Fields<'_>) -> Result<FieldWrites, Unclear> {
    let raw =
        |key: &str| -> Option<&str> { f.json.member(key).filter(|m| !m.value.is_blank()).map(|m| m.raw) };
    let closed = json!({
        "at": f.time(&["closed_at"])?,
        "amount": f.decimal(&["closing_amount"], Column::Amount)?.map(|d| d.normalize()),
        // Kept as text: a parsed value would lose digits.
        "expected": raw("expected"),
        "counted": raw("counted"),
        "notes": f.text(&["note"])?,
    });
    session(f, "closed", &closed)
}

fn session(f: Fields<'_>, field: &str, value: &serde_json::Value) -> Result<FieldWrites, Unclear> {
    Ok(FieldWrites {
        entity_id: f.required_uuid(&["session_id", "cash_session_id"])?,
        fields: vec![(field.to_owned(), value.to_string())],
    })
}

/// How a column of products or customers reads its field.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Price,
    Amount,
    Quantity,
    Flag,
}

const PRODUCT_FIELDS: &[(&str, &str, Kind)] = &[
    ("name", "name", Kind::Text),
    ("category", "category", Kind::Text),
    ("sku", "sku", Kind::Text),
    ("barcode", "barcode", Kind::Text),
    ("price", "price", Kind::Price),
    ("price_bs", "price_bs", Kind::Price),
    ("price_usd", "price_usd", Kind::Price),
    ("cost_bs", "cost_bs", Kind::Price),
    ("cost_usd", "cost_usd", Kind::Price),
    ("is_active", "is_active", Kind::Flag),
    ("active", "is_active", Kind::Flag),
    ("track_inventory", "track_inventory", Kind::Flag),
    ("low_stock_threshold", "low_stock_threshold", Kind::Quantity),
];
const PRICE_FIELDS: &[(&str, &str, Kind)] = &[
    ("price", "price", Kind::Price),
    ("price_bs", "price_bs", Kind::Price),
    ("price_usd", "price_usd", Kind::Price),
];
const CUSTOMER_FIELDS: &[(&str, &str, Kind)] = &[
    ("name", "name", Kind::Text),
    ("document_id", "document_id", Kind::Text),
    ("tax_id", "document_id", Kind::Text),
    ("phone", "phone", Kind::Text),
    ("email", "email", Kind::Text),
    ("address", "address", Kind::Text),
    ("credit_limit", "credit_limit", Kind::Amount),
    ("note", "notes", Kind::Text),
    ("notes", "notes", Kind::Text),
];
/// Keys of an entity's payload that are no field of it.
const NO_FIELDS: &[&str] = &["product_id", "customer_id", "patch", "metadata", "request_id"];

fn product(f: Fields<'_>) -> Result<FieldWrites, Unclear> {
    writes(f, "product_id", PRODUCT_FIELDS, true)
}

fn price_changed(f: Fields<'_>) -> Result<FieldWrites, Unclear> {
    writes(f, "product_id", PRICE_FIELDS, false)
}

fn customer(f: Fields<'_>) -> Result<FieldWrites, Unclear> {
    writes(f, "customer_id", CUSTOMER_FIELDS, false)
}

fn product_deactivated(f: Fields<'_>) -> Result<FieldWrites, Unclear> {
    let mut writes = product(f)?;
    writes.fields.retain(|(field, _)| field != "is_active");
    writes.fields.push(("is_active".to_owned(), "false".to_owned()));
    Ok(writes)
}

/// The fields that stand flat or in `patch{}`; those without a column are kept as attributes where asked.
fn writes(
    f: Fields<'_>,
    id: &'static str,
    known: &[(&str, &str, Kind)],
    attributes: bool,
) -> Result<FieldWrites, Unclear> {
    let entity_id = f.required_uuid(&[id])?;
    let patch =
        f.json.get("patch").map(|p| p.as_object().map(|_| p).ok_or("patch is no object")).transpose()?;
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut written: HashSet<String> = HashSet::new();
    let mut write = |name: String, value: String| {
        if written.insert(name.clone()) {
            fields.push((name, value));
        }
    };
    for object in patch.into_iter().chain([f.json]) {
        // Of a field's aliases one with a value goes before one that says `null`.
        for blank in [false, true] {
            for (key, column, kind) in known {
                if let Some(member) = object.member(key).filter(|m| m.value.is_blank() == blank) {
                    write((*column).to_owned(), column_value(member, *kind)?);
                }
            }
        }
        for member in object.as_object().unwrap_or_default().iter().filter(|_| attributes) {
            let key = member.key.as_ref();
            if !NO_FIELDS.contains(&key) && !known.iter().any(|(name, ..)| *name == key) {
                write(format!("attributes.{key}"), member.raw.to_owned());
            }
        }
    }
    Ok(FieldWrites { entity_id, fields })
}

fn column_value(member: &Member<'_>, kind: Kind) -> Result<String, Unclear> {
    let unclear = |what: &str| format!("{} {what}", member.key);
    if member.value.is_blank() {
        return Ok("null".to_owned());
    }
    let column = match kind {
        Kind::Text => {
            let text = match &member.value {
                Json::String(text) => text.clone(),
                Json::Number(digits) => Cow::Borrowed(*digits),
                _ => return Err(unclear("is no text")),
            };
            return Ok(json!(text).to_string());
        }
        Kind::Flag => {
            let flag = member.value.as_bool().ok_or_else(|| unclear("is neither true nor false"))?;
            return Ok(flag.to_string());
        }
        Kind::Price => Column::Price,
        Kind::Amount => Column::Amount,
        Kind::Quantity => Column::Quantity,
    };
    let value = decimal::read(&member.value, column).map_err(unclear)?;
    // Normalised, so that `5` and `5.00` are no two values of a register.
    Ok(json!(column.round(value).normalize()).to_string())
}
