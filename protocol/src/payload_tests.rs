use super::*;
use crate::catalogue::TYPES;
use crate::json::Json;

const P: &str = "36706543-524e-4aac-8436-e5b9d81d09be";
const V: &str = "5b79e396-26e9-42bb-8376-4574f66e7bff";
const W: &str = "ff57a970-fd80-44df-8b0a-a66fb4a1cbdd";
const S: &str = "2e0376a6-7b03-4341-8b12-360c9be56850";
const C: &str = "72f11032-3ddf-4220-8fee-7bb6d45ed4c6";
const STORE: Uuid = Uuid::from_u128(0x5701e);

fn uuid(text: &str) -> Uuid {
    text.parse().expect("UUID")
}

fn dec(text: &str) -> Decimal {
    text.parse().expect("decimal")
}

fn money(plain: &str, bs: &str, usd: &str) -> Money {
    let some = |text: &str| (!text.is_empty()).then(|| dec(text));
    Money { plain: some(plain), bs: some(bs), usd: some(usd) }
}

/// `{P}` and the like stand for ids.
fn filled(payload: &str) -> String {
    [("{P}", P), ("{V}", V), ("{W}", W), ("{S}", S), ("{C}", C)]
        .iter()
        .fold(payload.to_owned(), |text, (name, id)| text.replace(name, &format!("\"{id}\"")))
}

fn try_read(event_type: &str, payload: &str) -> Result<Payload, String> {
    Payload::read(event_type, &Json::parse(&filled(payload)).expect("JSON"))
}

fn read(event_type: &str, payload: &str) -> Payload {
    try_read(event_type, payload).unwrap_or_else(|reason| panic!("{reason}: {event_type} {payload}"))
}

/// Reads every form; all must mean the same.
fn same(event_type: &str, forms: &[&str]) -> Payload {
    let first = read(event_type, forms[0]);
    for form in forms {
        assert_eq!(read(event_type, form), first, "{event_type} {form}");
    }
    first
}

fn sale(payload: &str) -> Sale {
    let Payload::Sale(sale) = read("SaleCreated", payload) else { panic!("a sale") };
    *sale
}

fn fields(payload: Payload) -> Vec<(String, String)> {
    match payload {
        Payload::Session(writes) | Payload::Product(writes) | Payload::Customer(writes) => writes.fields,
        other => panic!("{other:?}"),
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect()
}

fn sorted(mut fields: Vec<(String, String)>) -> Vec<(String, String)> {
    fields.sort();
    fields
}

#[test]
fn a_sale_is_read_in_every_form() {
    let Payload::Sale(sale) = same(
        "SaleCreated",
        &[
            r#"{"sale_id":{S},"items":[],"total":7,"session_id":{W},"customer_id":{C},"payment":{"method":"FIAO"},
            "series_id":{V},"invoice_number":12,"fiscal_number":"F-1","sold_at":1763950000000}"#,
            r#"{"sale_id":{S},"items":[],"total_amount":"7","cash_session_id":{W},"customer":{"customer_id":{C}},
            "payment_method":"FIAO","invoice_series_id":{V},"invoice_number":"12","fiscal_number":"F-1",
            "sold_at":"2025-11-24T02:06:40Z"}"#,
            r#"{"sale_id":{S},"items":[],"totals":{"total":7.0},"session_id":"","cash_session_id":{W},"customer_id":null,
            "customer":{"customer_id":{C}},"payment":{"split":{}},"payment_method":"FIAO","series_id":null,
            "invoice_series_id":{V},"invoice_number":12,"fiscal_number":"F-1","sold_at":1763950000000,"note":"",
            "warehouse_id":"","exchange_rate":null,"request_id":""}"#,
        ],
    ) else {
        panic!("a sale")
    };
    assert_eq!((sale.sale_id, sale.customer_id), (uuid(S), Some(uuid(C))));
    assert_eq!((sale.session_id, sale.series_id, sale.warehouse_id), (Some(uuid(W)), Some(uuid(V)), None));
    assert_eq!((sale.total, sale.is_fiao()), (money("7", "", ""), true));
    assert_eq!((sale.invoice_number.as_deref(), sale.fiscal_number.as_deref()), (Some("12"), Some("F-1")));
    assert_eq!(sale.sold_at.map(|t| t.timestamp_millis()), Some(1_763_950_000_000));
    assert_eq!((sale.note, sale.request_id, sale.exchange_rate), (None, None, None));
}

#[test]
fn a_sales_totals_are_read_inside_totals_and_flat() {
    let inner = sale(
        r#"{"sale_id":{S},"totals":{"total_bs":73.005,"total_usd":2,"subtotal_bs":73.005,"subtotal_usd":2}}"#,
    );
    let flat =
        sale(r#"{"sale_id":{S},"total_bs":"73.005","total_usd":2.0,"subtotal_bs":73.005,"subtotal_usd":2}"#);
    assert_eq!(inner, flat);
    assert_eq!((inner.total, inner.subtotal), (money("", "73.005", "2"), money("", "73.005", "2")));
}

#[test]
fn a_sales_lines_are_read_in_every_form() {
    let line = |item: &str| {
        let sale = sale(&format!("{{\"sale_id\":{{S}},\"items\":[{item}]}}"));
        sale.lines.into_iter().next().expect("a line")
    };
    let full = line(
        r#"{"line_id":{S},"product_id":{P},"variant_id":{V},"qty":"2.5","unit_price_bs":36.50001,
        "unit_price_usd":1,"discount_bs":0.5,"discount_usd":"0.01","name":"Café"}"#,
    );
    assert_eq!(
        full,
        SaleLine {
            product_id: uuid(P),
            variant_id: Some(uuid(V)),
            qty: dec("2.5"),
            unit_price: money("", "36.50001", "1"),
            discount: money("", "0.5", "0.01"),
            name: Some("Café".to_owned()),
        }
    );
    let aliased = line(
        r#"{"item_id":{S},"product_id":{P},"variant_id":{V},"qty":2.5,"price_bs":36.50001,
        "price_usd":1,"discount_bs":0.5,"discount_usd":0.01,"name":"Café"}"#,
    );
    assert_eq!(aliased, full);
    for plain in [r#""unit_price":7,"price":8"#, r#""price":7"#, r#""unit_price":"","price":"7.0""#] {
        let line = line(&format!(r#"{{"product_id":{{P}},"variant_id":"","qty":1,{plain}}}"#));
        assert_eq!((line.unit_price, line.variant_id), (money("7", "", ""), None), "{plain}");
    }
    for (weight, qty) in [
        (r#""is_weight_product":true,"weight_value":0.755"#, "0.755"),
        (r#""is_weight_product":true,"weight_value":null"#, "1"),
        (r#""is_weight_product":false,"weight_value":0.755"#, "1"),
        (r#""weight_value":0.755"#, "1"),
    ] {
        assert_eq!(line(&format!(r#"{{"product_id":{{P}},"qty":1,{weight}}}"#)).qty, dec(qty), "{weight}");
    }
}

#[test]
fn a_sale_that_does_not_add_up_is_read_and_flawed() {
    let flaw = |qty: &str, total: &str| {
        sale(&format!(
            r#"{{"sale_id":{{S}},"items":[{{"product_id":{{P}},"qty":{qty},"unit_price_usd":5}}],"total_usd":{total}}}"#
        ))
        .flaw()
    };
    assert_eq!(flaw("2", "10"), None);
    assert_eq!(flaw("2", "10.004"), None);
    assert_eq!(flaw("2", "100"), Some("the lines do not add up to the total"));
    assert_eq!(flaw("0", "0"), Some("a quantity is not positive"));
    assert_eq!(flaw("-2", "-10"), Some("a quantity is not positive"));
    assert_eq!(flaw("999999999999999", "10"), Some("the lines do not add up to the total"));
}

#[test]
fn voids_debts_and_payments_are_read_in_every_form() {
    let void = same(
        "SaleVoided",
        &[
            r#"{"sale_id":{S},"voided_at":"2025-11-24T12:00:00.000Z","voided_by_user_id":"ana","reason":""}"#,
            r#"{"sale_id":{S},"voided_at":1763985600000,"voided_by_user_id":"ana","reason":null}"#,
        ],
    );
    let Payload::Void(void) = void else { panic!("a void") };
    assert_eq!((void.sale_id, void.voided_by.as_deref(), void.reason), (uuid(S), Some("ana"), None));

    let debt = same(
        "DebtCreated",
        &[
            r#"{"debt_id":{V},"customer_id":{C},"sale_id":"","amount":"9.5","note":"x","status":"paid"}"#,
            r#"{"debt_id":{V},"customer_id":{C},"sale_id":null,"total_amount":9.5,"notes":"x"}"#,
            r#"{"debt_id":{V},"customer_id":{C},"total_amount":9.50,"amount":1,"note":"x","notes":"y"}"#,
        ],
    );
    let Payload::Debt(debt) = debt else { panic!("a debt") };
    assert_eq!((debt.amount, debt.notes.as_deref(), debt.sale_id), (money("9.5", "", ""), Some("x"), None));
    let both = same(
        "DebtCreated",
        &[
            r#"{"debt_id":{V},"amount_bs":365,"amount_usd":10,"remaining_amount":4,"due_at":0}"#,
            r#"{"debt_id":{V},"total_amount_bs":365,"total_amount_usd":"10","remaining_amount":"4","due_at":"1970-01-01T00:00:00"}"#,
        ],
    );
    let Payload::Debt(both) = both else { panic!("a debt") };
    assert_eq!((both.amount, both.remaining), (money("", "365", "10"), money("4", "", "")));

    for event_type in ["DebtPaymentRecorded", "DebtPaymentAdded"] {
        let payment = same(
            event_type,
            &[
                r#"{"payment_id":{P},"debt_id":{V},"amount_bs":100.05,"amount_usd":0,"method":"cash","note":"n"}"#,
                r#"{"payment_id":{P},"debt_id":{V},"amount_bs":"100.05","amount_usd":0,"payment_method":"cash","notes":"n"}"#,
                r#"{"payment_id":{P},"debt_id":{V},"amount_bs":100.05,"amount_usd":"0","payment_method":"","note":"n"}"#,
                r#"{"payment_id":{P},"debt_id":{V},"amount_bs":100.05,"amount_usd":0,"request_id":"","note":"","notes":"n"}"#,
            ],
        );
        let Payload::Payment(payment) = payment else { panic!("a payment") };
        assert_eq!((payment.method.as_str(), payment.amount), ("cash", money("", "100.05", "0")));
    }
}

#[test]
fn stock_events_are_read_flat_and_as_items_in_every_form() {
    let one = |qty: &str| StockMove {
        product_id: uuid(P),
        variant_id: Some(uuid(V)),
        warehouse_id: Some(uuid(W)),
        qty_delta: dec(qty),
    };
    let flat = r#""movement_id":{S},"product_id":{P},"variant_id":{V},"warehouse_id":{W}"#;
    for (event_type, kind, keys) in [
        ("StockReceived", StockKind::Received, &["qty"][..]),
        ("StockAdjusted", StockKind::Adjusted, &["qty_delta", "delta"]),
        ("StockDeltaApplied", StockKind::Delta, &["qty_delta", "delta"]),
    ] {
        for key in keys {
            let meaning = read(event_type, &format!("{{{flat},\"{key}\":-3.5}}"));
            let moves = vec![one("-3.5")];
            let expected = Stock { kind, movement_id: Some(uuid(S)), itemised: false, moves };
            assert_eq!(meaning, Payload::Stock(expected), "{event_type} {key}");
            let items = format!(
                r#"{{"warehouse_id":{{W}},"items":[{{"product_id":{{P}},"variant_id":{{V}},"{key}":"1"}},
                    {{"product_id":{{P}},"variant_id":{{V}},"{key}":2,"warehouse_id":{{W}}}}]}}"#
            );
            let moves = vec![one("1"), one("2")];
            let expected = Stock { kind, movement_id: None, itemised: true, moves };
            assert_eq!(read(event_type, &items), Payload::Stock(expected), "{event_type} items");
        }
    }
    let Payload::Stock(bare) =
        read("StockReceived", r#"{"product_id":{P},"qty":1,"movement_id":"","items":null}"#)
    else {
        panic!("stock")
    };
    assert_eq!((bare.movement_id, bare.moves[0].warehouse_id, bare.itemised), (None, None, false));
}

#[test]
fn a_movements_key_is_its_id_alone_with_the_index_where_itemised() {
    let stock = |payload: &str| match read("StockReceived", payload) {
        Payload::Stock(stock) => stock,
        other => panic!("{other:?}"),
    };
    let flat = stock(r#"{"movement_id":{S},"product_id":{P},"qty":1}"#);
    assert_eq!(flat.key(STORE, "e1", 0), uuid(S));
    let items =
        stock(r#"{"movement_id":{S},"items":[{"product_id":{P},"qty":1},{"product_id":{P},"qty":1}]}"#);
    assert_ne!(items.key(STORE, "e1", 0), items.key(STORE, "e1", 1));
    assert_eq!(items.key(STORE, "e1", 1), items.key(STORE, "e2", 1));
    let bare = stock(r#"{"product_id":{P},"qty":1}"#);
    assert_ne!(bare.key(STORE, "e1", 0), bare.key(STORE, "e2", 0));
    assert_ne!(bare.key(STORE, S, 0), items.key(STORE, "e1", 0), "an event's id is no movement's");
    assert_eq!((bare.shared_key(STORE, 0), flat.shared_key(STORE, 0)), (None, Some(uuid(S))));
}

#[test]
fn ledger_entries_are_read_in_every_form() {
    let entry = same(
        "CashLedgerEntryCreated",
        &[
            r#"{"entry_id":{P},"entry_type":"sale","amount_bs":1,"amount_usd":2,"session_id":{W},"request_id":"r",
            "metadata":{"sale_id":{S},"sale_request_id":"q"}}"#,
            r#"{"entry_id":{P},"kind":"sale","amount_bs":"1","amount_usd":2,"cash_session_id":{W},"request_id":"r",
            "metadata":{"sale_id":{S},"sale_request_id":"q","more":1}}"#,
        ],
    );
    let Payload::Ledger(entry) = entry else { panic!("an entry") };
    assert_eq!((entry.sale(), entry.session_id), (Some(uuid(S)), Some(uuid(W))));
    assert_eq!((entry.request_id.as_deref(), entry.sale_request_id.as_deref()), (Some("r"), Some("q")));
    for (payload, expected) in [
        (r#"{"entry_id":{P},"entry_type":"sale","amount":1,"metadata":{"sale_id":""}}"#, Some(uuid(P))),
        (r#"{"entry_id":{P},"entry_type":"sale","amount":1,"metadata":"text"}"#, Some(uuid(P))),
        (r#"{"entry_id":{P},"entry_type":"income","amount":1,"metadata":{"sale_id":{S}}}"#, None),
    ] {
        let Payload::Ledger(entry) = read("CashLedgerEntryCreated", payload) else { panic!("an entry") };
        assert_eq!(entry.sale(), expected, "{payload}");
    }
}

#[test]
fn sessions_are_read_in_every_form() {
    let opened = same(
        "CashSessionOpened",
        &[
            r#"{"session_id":{S},"opened_at":1763950000000,"opening_amount_bs":365.3,"opening_amount_usd":10.00,"note":""}"#,
            r#"{"cash_session_id":{S},"opened_at":"2025-11-24T02:06:40Z","opening_amount_bs":"365.30","opening_amount_usd":10}"#,
        ],
    );
    let Payload::Session(FieldWrites { entity_id, fields }) = opened else { panic!("a session") };
    assert_eq!((entity_id, fields.len(), fields[0].0.as_str()), (uuid(S), 1, "opened"));
    let value: serde_json::Value = serde_json::from_str(&fields[0].1).expect("JSON");
    assert_eq!((&value["amount_bs"], &value["amount_usd"]), (&"365.3".into(), &"10".into()));
    assert!(value["amount"].is_null() && value["notes"].is_null() && value["register_id"].is_null());

    let counted = r#"{"cash_bs": 365.10, "x":[1e2]}"#;
    let closed =
        fields_of_closed(&format!(r#"{{"cash_session_id":{{S}},"counted":{counted},"closing_amount":1}}"#));
    assert_eq!(
        (&closed["counted"], &closed["amount"]),
        (&counted.into(), &"1".into()),
        "counted keeps its bytes"
    );
    assert!(closed["expected"].is_null() && closed["at"].is_null());
}

fn fields_of_closed(payload: &str) -> serde_json::Value {
    let fields = fields(read("CashSessionClosed", payload));
    assert_eq!(fields[0].0, "closed");
    serde_json::from_str(&fields[0].1).expect("JSON")
}

#[test]
fn products_are_read_flat_and_in_a_patch_and_drop_nothing() {
    for event_type in ["ProductCreated", "ProductUpdated"] {
        let inside = r#""name":"Café","price_bs":36.50,"price_usd":"1.00005","cost":7,"active":true,"is_recipe":false,
            "low_stock_threshold":5.0,"sku":12,"barcode":"","category":null,"tags":[1, 2]"#;
        let flat = read(event_type, &format!("{{\"product_id\":{{P}},{inside}}}"));
        let patch = read(event_type, &format!("{{\"product_id\":{{P}},\"patch\":{{{inside}}}}}"));
        assert_eq!(flat, patch);
        let expected = [
            ("attributes.cost", "7"),
            ("attributes.is_recipe", "false"),
            ("attributes.tags", "[1, 2]"),
            ("barcode", "null"),
            ("category", "null"),
            ("is_active", "true"),
            ("low_stock_threshold", "\"5\""),
            ("name", "\"Café\""),
            ("price_bs", "\"36.5\""),
            ("price_usd", "\"1.0001\""),
            ("sku", "\"12\""),
        ];
        assert_eq!(sorted(fields(flat)), pairs(&expected));
    }
    let patched =
        read("ProductUpdated", r#"{"product_id":{P},"name":"old","patch":{"name":"new"},"request_id":"r"}"#);
    assert_eq!(fields(patched), pairs(&[("name", "\"new\"")]), "a patch goes before what stands flat");
    assert_eq!(fields(read("ProductUpdated", r#"{"product_id":{P},"patch":null}"#)), []);
}

#[test]
fn of_a_fields_aliases_one_with_a_value_goes_before_an_empty_one() {
    for (payload, value) in [
        (r#"{"customer_id":{C},"document_id":null,"tax_id":"V-1"}"#, "\"V-1\""),
        (r#"{"customer_id":{C},"tax_id":"V-1","document_id":""}"#, "\"V-1\""),
        (r#"{"customer_id":{C},"document_id":"V-1","tax_id":"V-2"}"#, "\"V-1\""),
        (r#"{"customer_id":{C},"document_id":null,"tax_id":""}"#, "null"),
    ] {
        assert_eq!(fields(read("CustomerUpdated", payload)), pairs(&[("document_id", value)]), "{payload}");
    }
}

#[test]
fn equal_figures_are_equal_values_of_a_register() {
    let price =
        |sent: &str| fields(read("PriceChanged", &format!("{{\"product_id\":{{P}},\"price_usd\":{sent}}}")));
    for sent in ["5", "5.0", "\"5.00\"", "0.5e1", "5.00001", "50e-1"] {
        assert_eq!(price(sent), pairs(&[("price_usd", "\"5\"")]), "{sent}");
    }
    assert_eq!(price("-0.0"), price("0"));
    assert_eq!(price("-0.00001"), price("0"));
}

#[test]
fn a_deactivated_product_is_inactive_whatever_else_is_said() {
    let bare = fields(read("ProductDeactivated", r#"{"product_id":{P}}"#));
    assert_eq!(bare, pairs(&[("is_active", "false")]));
    let more = fields(read(
        "ProductDeactivated",
        r#"{"product_id":{P},"is_active":true,"reason":"gone","patch":{"active":true}}"#,
    ));
    assert_eq!(sorted(more), pairs(&[("attributes.reason", "\"gone\""), ("is_active", "false")]));
}

#[test]
fn a_price_change_writes_the_prices_that_it_names() {
    let payload = r#"{"product_id":{P},"price_bs":113.24300000000001,"price_usd":null,"reason":"manual","effective_at":1}"#;
    let expected = pairs(&[("price_bs", "\"113.243\""), ("price_usd", "null")]);
    assert_eq!(sorted(fields(read("PriceChanged", payload))), expected);
}

#[test]
fn customers_are_read_flat_and_in_a_patch() {
    for event_type in ["CustomerCreated", "CustomerUpdated"] {
        let inside = r#""name":"Uno","tax_id":"V-1","phone":"04","email":"","address":"a","credit_limit":"10.005","note":"n""#;
        let flat = read(event_type, &format!("{{\"customer_id\":{{C}},{inside}}}"));
        assert_eq!(flat, read(event_type, &format!("{{\"customer_id\":{{C}},\"patch\":{{{inside}}}}}")));
        let expected = [
            ("address", "\"a\""),
            ("credit_limit", "\"10.01\""),
            ("document_id", "\"V-1\""),
            ("email", "null"),
            ("name", "\"Uno\""),
            ("notes", "\"n\""),
            ("phone", "\"04\""),
        ];
        assert_eq!(sorted(fields(flat)), pairs(&expected));
    }
}

/// Type, payload, reason.
const UNCLEAR: &[(&str, &str, &str)] = &[
    ("SaleCreated", "{}", "sale_id is missing"),
    ("SaleCreated", r#"{"sale_id":7}"#, "sale_id is no UUID"),
    ("SaleCreated", r#"{"sale_id":"{2e0376a6-7b03-4341-8b12-360c9be56850}"}"#, "sale_id is no UUID"),
    ("SaleCreated", r#"{"sale_id":{S},"items":{}}"#, "items is no list"),
    ("SaleCreated", r#"{"sale_id":{S},"items":[7]}"#, "items[0] is no object"),
    (
        "SaleCreated",
        r#"{"sale_id":{S},"items":[{"product_id":{P},"qty":1},{"product_id":{P}}]}"#,
        "items[1].qty is missing",
    ),
    (
        "SaleCreated",
        r#"{"sale_id":{S},"items":[{"product_id":{P},"qty":"1,5"}]}"#,
        "items[0].qty is no decimal number",
    ),
    (
        "SaleCreated",
        r#"{"sale_id":{S},"items":[{"product_id":{P},"qty":1e18}]}"#,
        "items[0].qty is out of range",
    ),
    ("SaleCreated", r#"{"sale_id":{S},"items":[{"qty":1}]}"#, "items[0].product_id is missing"),
    (
        "SaleCreated",
        r#"{"sale_id":{S},"items":[{"product_id":{P},"qty":1,"is_weight_product":"yes"}]}"#,
        "items[0].is_weight_product is neither true nor false",
    ),
    ("SaleCreated", r#"{"sale_id":{S},"total":"NaN"}"#, "total is no decimal number"),
    ("SaleCreated", r#"{"sale_id":{S},"totals":{"total_usd":"Infinity"}}"#, "total_usd is no decimal number"),
    ("SaleCreated", r#"{"sale_id":{S},"totals":"7"}"#, "totals is no object"),
    ("SaleCreated", r#"{"sale_id":{S},"payment":"FIAO"}"#, "payment is no object"),
    ("SaleCreated", r#"{"sale_id":{S},"customer":{C}}"#, "customer is no object"),
    ("SaleCreated", r#"{"sale_id":{S},"sold_at":"noon"}"#, "sold_at is no time"),
    ("SaleCreated", r#"{"sale_id":{S},"currency":true}"#, "currency is no text"),
    ("SaleVoided", r#"{"sale_id":""}"#, "sale_id is missing"),
    ("DebtCreated", r#"{"debt_id":{V}}"#, "total_amount is missing"),
    ("DebtCreated", r#"{"amount":1}"#, "debt_id is missing"),
    ("DebtPaymentRecorded", r#"{"payment_id":{P},"debt_id":{V},"amount_usd":""}"#, "amount is missing"),
    ("DebtPaymentAdded", r#"{"payment_id":{P},"amount":1}"#, "debt_id is missing"),
    ("StockReceived", r#"{"product_id":{P},"qty_delta":1}"#, "qty is missing"),
    ("StockAdjusted", r#"{"product_id":{P},"qty":1}"#, "qty_delta is missing"),
    ("StockDeltaApplied", r#"{"movement_id":"m","product_id":{P},"delta":1}"#, "movement_id is no UUID"),
    ("StockReceived", r#"{"items":[{"product_id":"x","qty":1}]}"#, "items[0].product_id is no UUID"),
    ("CashLedgerEntryCreated", r#"{"entry_id":{P},"amount":1}"#, "entry_type is missing"),
    ("CashLedgerEntryCreated", r#"{"entry_type":"sale"}"#, "entry_id is missing"),
    ("CashSessionOpened", r#"{"opening_amount":1}"#, "session_id is missing"),
    ("CashSessionClosed", r#"{"session_id":{S},"closing_amount":[]}"#, "closing_amount is no decimal number"),
    ("ProductCreated", r#"{"name":"x"}"#, "product_id is missing"),
    ("ProductUpdated", r#"{"product_id":{P},"patch":[]}"#, "patch is no object"),
    ("ProductUpdated", r#"{"product_id":{P},"patch":{"name":[]}}"#, "name is no text"),
    ("ProductUpdated", r#"{"product_id":{P},"active":1}"#, "active is neither true nor false"),
    ("ProductDeactivated", "{}", "product_id is missing"),
    ("PriceChanged", r#"{"product_id":{P},"price_usd":"1e5"}"#, "price_usd is no decimal number"),
    ("PriceChanged", r#"{"product_id":{P},"price_bs":100000000000000}"#, "price_bs is out of range"),
    ("CustomerCreated", r#"{"customer_id":{C},"credit_limit":"much"}"#, "credit_limit is no decimal number"),
    ("RecipeIngredientsUpdated", "{}", "the type is not projected"),
    ("StoreDeclared", r#"{"home_node":""}"#, "home_node is missing"),
    ("StoreDeclared", r#"{"home_node":["north"]}"#, "home_node is no text"),
    (
        "StoreDeclared",
        r#"{"home_node":"north","default_warehouse_id":"main"}"#,
        "default_warehouse_id is no UUID",
    ),
    ("FiscalSeriesDeclared", r#"{"next_number":1}"#, "series_id is missing"),
    ("FiscalSeriesDeclared", r#"{"series_id":{P}}"#, "next_number is missing"),
    (
        "FiscalSeriesDeclared",
        r#"{"series_id":{P},"next_number":1.5}"#,
        "next_number is no whole number from 0 on",
    ),
    (
        "FiscalSeriesDeclared",
        r#"{"series_id":{P},"next_number":-1}"#,
        "next_number is no whole number from 0 on",
    ),
    ("FiscalSeriesDeclared", r#"{"series_id":{P},"next_number":"one"}"#, "next_number is no decimal number"),
    ("FiscalSeriesDeclared", r#"{"series_id":{P},"next_number":1e16}"#, "next_number is out of range"),
];

#[test]
fn a_payload_without_a_clear_meaning_names_the_reason() {
    for (event_type, payload, reason) in UNCLEAR {
        assert_eq!(try_read(event_type, payload), Err((*reason).to_owned()), "{event_type} {payload}");
    }
}

#[test]
fn declarations_are_read() {
    let Payload::Store(store) = same(
        "StoreDeclared",
        &[
            r#"{"home_node":"north","default_warehouse_id":{W}}"#,
            r#"{"home_node":"north","default_warehouse_id":{W},"name":"","more":1}"#,
        ],
    ) else {
        panic!("a store")
    };
    assert_eq!((store.home_node.as_str(), store.default_warehouse_id), ("north", Some(uuid(W))));
    let Payload::Series(series) = same(
        "FiscalSeriesDeclared",
        &[
            r#"{"series_id":{S},"name":"Caja 1","prefix":"A-","next_number":7,"owner_node":null}"#,
            r#"{"series_id":{S},"name":"Caja 1","prefix":"A-","next_number":"7.0"}"#,
        ],
    ) else {
        panic!("a series")
    };
    let expected = SeriesDeclaration {
        series_id: uuid(S),
        name: Some("Caja 1".to_owned()),
        prefix: Some("A-".to_owned()),
        next_number: 7,
        owner_node: None,
    };
    assert_eq!(*series, expected);
}

#[test]
fn every_projected_type_of_the_catalogue_has_a_reader() {
    for info in TYPES {
        let known = try_read(info.name, "{}") != Err("the type is not projected".to_owned());
        assert_eq!(known, info.projected, "{}", info.name);
    }
}

#[test]
fn a_product_with_100_000_attributes_is_read_in_one_pass() {
    let attributes: Vec<String> = (0..100_000).map(|i| format!("\"k{i}\":0")).collect();
    let payload = format!("{{\"product_id\":{{P}},{}}}", attributes.join(","));
    assert_eq!(fields(read("ProductUpdated", &payload)).len(), 100_000);
}

#[test]
fn events_meet_by_their_ids() {
    use LinkKind::*;
    let request = "4bf5f715-f5ff-4dca-86dc-4590a0a5d8a6";
    let fiao = r#"{"sale_id":{S},"request_id":"q","payment":{"method":"FIAO"},"customer_id":{C}}"#;
    let ledger = r#"{"entry_id":{P},"entry_type":"sale","request_id":"q","metadata":{"sale_id":{S},"sale_request_id":"t"}}"#;
    for (event_type, payload, expected) in [
        ("SaleCreated", r#"{"sale_id":{S}}"#, vec![(SaleId, uuid(S)), (SaleRequest, uuid(request))]),
        (
            "SaleCreated",
            fiao,
            vec![
                (SaleId, uuid(S)),
                (SaleRequest, uuid(request)),
                (SaleRequest, link_id("q")),
                (DerivedDebt, derived_debt_id(STORE, uuid(S))),
            ],
        ),
        ("SaleVoided", r#"{"sale_id":{S}}"#, vec![(VoidOfSale, uuid(S))]),
        (
            "DebtCreated",
            r#"{"debt_id":{V},"sale_id":{S},"amount":1}"#,
            vec![(DebtId, uuid(V)), (DebtSale, uuid(S))],
        ),
        (
            "DebtPaymentAdded",
            r#"{"payment_id":{P},"debt_id":{V},"amount":1}"#,
            vec![(PaymentId, uuid(P)), (PaymentOfDebt, uuid(V)), (PaymentRequest, uuid(request))],
        ),
        ("StockReceived", r#"{"movement_id":{W},"product_id":{P},"qty":1}"#, vec![(MovementId, uuid(W))]),
        ("StockReceived", r#"{"product_id":{P},"qty":1}"#, vec![]),
        (
            "CashLedgerEntryCreated",
            ledger,
            vec![
                (EntryId, uuid(P)),
                (LedgerOfSale, uuid(S)),
                (LedgerRequest, link_id("q")),
                (LedgerRequest, link_id("t")),
            ],
        ),
        ("ProductDeactivated", r#"{"product_id":{P}}"#, vec![(Product, uuid(P))]),
        ("CustomerUpdated", r#"{"customer_id":{P}}"#, vec![(Customer, uuid(P))]),
        ("CashSessionClosed", r#"{"cash_session_id":{P}}"#, vec![(Session, uuid(P))]),
        ("StoreDeclared", r#"{"home_node":"north"}"#, vec![(StoreId, STORE)]),
        ("FiscalSeriesDeclared", r#"{"series_id":{P},"next_number":1}"#, vec![(SeriesId, uuid(P))]),
    ] {
        let links = read(event_type, payload).links(STORE, Some(request));
        let found: Vec<_> = links.into_iter().map(|link| (link.kind, link.id)).collect();
        assert_eq!(found, expected, "{event_type} {payload}");
    }
    assert_eq!(derived_debt_id(STORE, uuid(S)), Uuid::new_v5(&STORE, format!("debt:{S}").as_bytes()));
}
