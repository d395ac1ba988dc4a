//! Products, customers and cash sessions: rule 1.

use crate::shop::Shop;
use crate::story::{self, Told};
use serde_json::{Value, json};

/// Whole histories, each event by itself in either direction and all at once, show what rule 1 says.
async fn check(history: &str) {
    for direction in ["at once", "one by one", "backwards"] {
        let shop = Shop::open().await;
        let mut order = story::events(shop.id, history);
        if direction == "backwards" {
            order.reverse();
        }
        let size = if direction == "at once" { order.len() } else { 1 };
        for part in order.chunks(size) {
            shop.bring(part.to_vec()).await;
            shop.project().await;
        }
        shop.check_by_model().await;
    }
}

#[tokio::test]
async fn a_product_shows_each_field_of_its_own_winner() {
    let history = "a@10 ProductCreated P1 name=Tea category=Drinks sku=s-1 barcode=759 price_usd=1.50 price_bs=54.75 cost_bs=40 cost_usd=1 is_active=true track_inventory=false low_stock_threshold=2.5 colour=green
                   b@20 ProductUpdated P1 name=Mate patch.category=Herbs
                   c@30 PriceChanged P1 price_usd=2 reason=x";
    let shop = Shop::open().await;
    shop.tell(history).await;
    shop.project().await;
    let row = json!({"name": "Mate", "category": "Herbs", "sku": "s-1", "barcode": "759", "price_usd": 2.0,
        "price_bs": 54.75, "cost_bs": 40.0, "cost_usd": 1.0, "is_active": true, "track_inventory": false,
        "low_stock_threshold": 2.5, "attributes": {"colour": "green"},
        "created_at": "1970-01-01T00:00:00.01+00:00", "updated_at": "1970-01-01T00:00:00.03+00:00"});
    assert_eq!(shop.row("products", "P1").await, row);
    check(history).await;
}

#[tokio::test]
async fn a_key_that_is_present_writes_null_too_and_an_absent_one_does_not() {
    let history = "a@10 ProductCreated P1 name=Tea category=Drinks colour=green size=big price_usd=1
                   b@20 ProductUpdated P1 category=null colour=null price_usd=null";
    let shop = Shop::open().await;
    shop.tell(history).await;
    shop.project().await;
    let row = shop.row("products", "P1").await;
    assert_eq!(
        (&row["name"], &row["category"], &row["price_usd"]),
        (&json!("Tea"), &Value::Null, &Value::Null)
    );
    let attributes: String = shop.value("SELECT attributes::text FROM products").await;
    assert_eq!(attributes, r#"{"colour":null,"size":"big"}"#);
    check(history).await;
}

#[tokio::test]
async fn any_event_of_an_entity_makes_its_row() {
    let shop = Shop::open().await;
    shop.tell(
        "a@1 ProductUpdated P1
         b@2 PriceChanged P2 price_bs=3
         c@3 ProductDeactivated P3 is_active=true
         d@4 CustomerUpdated C1 phone=1
         e@5 close X1",
    )
    .await;
    shop.project().await;
    let at = |ms: u32| format!("1970-01-01T00:00:00.00{ms}+00:00");
    let times = |ms| json!({"created_at": at(ms), "updated_at": at(ms)});
    let with = |mut row: Value, more: Value| {
        row.as_object_mut().expect("a row").extend(more.as_object().expect("more").clone());
        row
    };
    assert_eq!(shop.row("products", "P1").await, with(times(1), json!({"attributes": {}})));
    assert_eq!(shop.row("products", "P2").await, with(times(2), json!({"attributes": {}, "price_bs": 3.0})));
    assert_eq!(
        shop.row("products", "P3").await,
        with(times(3), json!({"attributes": {}, "is_active": false}))
    );
    assert_eq!(shop.row("customers", "C1").await, with(times(4), json!({"phone": "1"})));
    assert_eq!(shop.row("cash_sessions", "X1").await, json!({"closed_at": at(5), "closed_event_id": "e"}));
}

#[tokio::test]
async fn what_the_writer_had_seen_goes_before_what_is_later() {
    // b knew a, though its time is earlier; c knew nothing, and lies between them.
    check(
        "a@30/x ProductCreated P1 name=a colour=a seq=1
         b@10/y ProductUpdated P1 name=b seq=1 clock=x:1
         c@20/z ProductUpdated P1 name=c seq=1",
    )
    .await;
    // A till's own counter alone orders its events, whatever its clock says.
    check(
        "a@30/x ProductCreated P1 name=a price_usd=1 seq=1
         b@10/x ProductUpdated P1 name=b seq=2
         c@5/x PriceChanged P1 price_usd=3 seq=3",
    )
    .await;
}

#[tokio::test]
async fn concurrent_writes_are_won_by_the_greatest_key() {
    check(
        "a@10/x ProductCreated P1 name=a sku=a seq=1
         b@10/y ProductUpdated P1 name=b seq=1
         c@10/y ProductUpdated P1 name=c seq=1",
    )
    .await;
}

#[tokio::test]
async fn a_customer_shows_what_its_aliases_say() {
    let history =
        "a@1 CustomerCreated C1 name=Ana tax_id=V-1 phone=1 email=a@b address=x credit_limit=100.005 note=n
                   b@2 CustomerUpdated C1 document_id=V-2 notes=null patch.phone=2 unknown=y";
    let shop = Shop::open().await;
    shop.tell(history).await;
    shop.project().await;
    let row = json!({"name": "Ana", "document_id": "V-2", "phone": "2", "email": "a@b", "address": "x",
        "credit_limit": 100.01, "created_at": "1970-01-01T00:00:00.001+00:00",
        "updated_at": "1970-01-01T00:00:00.002+00:00"});
    assert_eq!(shop.row("customers", "C1").await, row);
    check(history).await;
}

#[tokio::test]
async fn a_session_that_is_closed_before_it_is_opened_is_whole_at_last() {
    let shop = Shop::open().await;
    let close = r#"{"event_id":"c","type":"CashSessionClosed","created_at":9,"actor":{"user_id":"u2"},
        "payload":{"cash_session_id":"SESSION","closed_at":8,"expected":{"usd": 1.10,"bs":1e2},"counted":{"usd":1},
        "closing_amount":"12.345","note":"short"}}"#;
    let close = close.replace("SESSION", &shop.named("X1").to_string());
    shop.bring(vec![Told::read(shop.id, "till", &close)]).await;
    shop.project().await;
    let closed = json!({"closed_at": "1970-01-01T00:00:00.008+00:00", "closed_by": "u2", "closed_event_id": "c",
        "closing_amount": 12.35, "expected": {"usd": 1.10, "bs": 100}, "counted": {"usd": 1}, "notes": "short"});
    let row = shop.row("cash_sessions", "X1").await;
    assert_eq!(row, closed);
    let expected: String = shop.value("SELECT expected::text FROM cash_sessions").await;
    assert_eq!(expected, r#"{"usd": 1.10,"bs":1e2}"#, "as the till wrote it");

    shop.tell("o@1 open X1 register_id=7 opening_amount=5 opening_amount_bs=6 opening_amount_usd=7 note=early by=u1").await;
    shop.project().await;
    let row = shop.row("cash_sessions", "X1").await;
    let get = |key: &str| row[key].clone();
    assert_eq!(get("opened_at"), "1970-01-01T00:00:00.001+00:00", "no opened_at: the event's time");
    assert_eq!(
        (get("opened_by"), get("opened_event_id"), get("register_id")),
        (json!("u1"), json!("o"), json!("7"))
    );
    let amounts = [get("opening_amount"), get("opening_amount_bs"), get("opening_amount_usd")];
    assert_eq!(amounts, [json!(5.0), json!(6.0), json!(7.0)]);
    assert_eq!(
        (get("closed_by"), get("notes")),
        (json!("u2"), json!("short")),
        "the closing's note goes first"
    );
}

#[tokio::test]
async fn a_session_that_is_opened_twice_takes_one_event_whole() {
    check(
        "a@1/x open X1 opening_amount=5 note=a seq=1
         b@2/y open X1 note=b seq=1
         c@3/x close X1 closing_amount=1 seq=2
         d@3/y close X1 closing_amount=2 seq=2",
    )
    .await;
    let shop = Shop::open().await;
    shop.tell("a@1/x open X1 opening_amount=5 seq=1\nb@2/y open X1 note=b seq=1").await;
    shop.project().await;
    let row = shop.row("cash_sessions", "X1").await;
    assert_eq!((&row["opening_amount"], &row["notes"]), (&Value::Null, &json!("b")));
}

#[tokio::test]
async fn one_batch_over_several_entities_and_stores_keeps_them_apart() {
    let shop = Shop::open().await;
    let other = uuid::Uuid::from_u128(9);
    let history = "a@1 ProductCreated P1 name=a\nb@2 ProductUpdated P1 name=b\nc@1 ProductCreated P2 name=c";
    shop.tell(history).await;
    shop.bring(story::events(other, "a@1 ProductCreated P1 name=x\nc@3 ProductUpdated P1 sku=y")).await;
    assert_eq!(shop.project().await.done, 5);
    let names: String = shop
        .value("SELECT string_agg(concat_ws(' ', name, sku), ',' ORDER BY store_id, name) FROM products")
        .await;
    assert_eq!(names, "x y,b,c");
}
