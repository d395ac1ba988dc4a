//! Sales and what hangs on them: rules 3, 4 and 10.

use crate::shop::Shop;
use crate::story::Told;
use serde_json::json;

/// As v1's tills send it.
const SALE: &str = r#"{"event_id":"0198c0de-0000-7000-8000-0000000000e1","seq":41,"type":"SaleCreated","version":1,
    "created_at":1763950000123,"actor":{"user_id":"0198c0de-0000-7000-8000-0000000000a1","role":"cashier"},
    "payload":{"sale_id":"0198C0DE-0000-7000-8000-0000000000B1","cash_session_id":"","sold_at":1763950000100,
      "exchange_rate":36.5000005,"currency":"MIXED","items":[
        {"line_id":"x","product_id":"0198c0de-0000-7000-8000-0000000000f1","qty":2,"unit_price_bs":36.5,
         "unit_price_usd":1,"discount_bs":0,"discount_usd":0.005,"name":"Café"},
        {"product_id":"0198c0de-0000-7000-8000-0000000000f2","qty":1,"is_weight_product":true,
         "weight_value":"0.7555","price":2.00005,"variant_id":"0198c0de-0000-7000-8000-0000000000f3"}],
      "totals":{"subtotal_bs":73,"total_bs":73.005,"total_usd":"2.5"},"payment":{"method":"CASH"},
      "customer":{"customer_id":"0198c0de-0000-7000-8000-0000000000c1"},
      "warehouse_id":"0198c0de-0000-7000-8000-0000000000d1","invoice_series_id":"0198c0de-0000-7000-8000-000000000051",
      "invoice_number":"A-7","fiscal_number":12,"note":"fría"}}"#;

#[tokio::test]
async fn a_sale_makes_its_row_its_items_its_movements_and_their_stock() {
    let shop = Shop::open().await;
    shop.bring(vec![Told::read(shop.id, "till-1", SALE)]).await;
    assert_eq!(shop.project().await.done, 1);
    let columns = |table: &str, key: &str| {
        format!("SELECT jsonb_agg(jsonb_strip_nulls(to_jsonb(t) - 'store_id') ORDER BY {key}) FROM {table} t")
    };
    let sales: serde_json::Value = shop.value(&columns("sales", "id")).await;
    let id = |tail: &str| format!("0198c0de-0000-7000-8000-0000000000{tail}");
    let sale = json!([{"id": id("b1"), "device_id": "till-1", "customer_id": id("c1"), "warehouse_id": id("d1"),
        "currency": "MIXED", "exchange_rate": 36.500001, "total_bs": 73.01, "total_usd": 2.50,
        "payment_method": "CASH", "series_id": id("51"), "invoice_number": "A-7", "fiscal_number": "12",
        "sold_at": "2025-11-24T02:06:40.1+00:00", "created_at": "2025-11-24T02:06:40.123+00:00",
        "created_by": id("a1"), "note": "fría", "event_id": id("e1")}]);
    assert_eq!(sales, sale);
    let items: serde_json::Value = shop.value(&columns("sale_items", "line_no")).await;
    let lines = json!([
        {"sale_id": id("b1"), "line_no": 1, "product_id": id("f1"), "name": "Café", "qty": 2.0,
         "unit_price_bs": 36.5, "unit_price_usd": 1.0, "discount_bs": 0.0, "discount_usd": 0.01},
        {"sale_id": id("b1"), "line_no": 2, "product_id": id("f2"), "variant_id": id("f3"), "qty": 0.756,
         "unit_price": 2.0001}]);
    assert_eq!(items, lines);
    let movements: serde_json::Value = shop.value(
        "SELECT jsonb_agg(to_jsonb(t) - '{store_id,id,created_at}'::text[] ORDER BY product_id) FROM stock_movements t",
    )
    .await;
    let movement = |product: &str, variant: String, qty: f64| {
        json!({"product_id": id(product), "variant_id": variant, "warehouse_id": id("d1"), "kind": "sale",
            "qty_delta": qty, "event_id": id("e1"), "sale_id": id("b1")})
    };
    let none = uuid::Uuid::nil().to_string();
    assert_eq!(movements, json!([movement("f1", none, -2.0), movement("f2", id("f3"), -0.756)]));
    let stock: String =
        shop.value("SELECT string_agg(stock::text, ' ' ORDER BY stock) FROM warehouse_stock").await;
    assert_eq!(stock, "-2.000 -0.756");
}

#[tokio::test]
async fn a_smaller_event_of_the_same_sale_replaces_all_that_hangs_on_it() {
    let shop = Shop::open().await;
    shop.day(
        "a@5 sale S1 fiao=C1 usd=9 P1x1 P2x2 P3x1
         l@5 entry L1 sale sale=S1
         p@6 pay M1 debt(S1) usd=4",
        "sale S1 by a
         item S1.1 P1 1
         item S1.2 P2 2
         item S1.3 P3 1
         move P1 -1 sale by a
         move P2 -2 sale by a
         move P3 -1 sale by a
         stock P1 -1
         stock P2 -2
         stock P3 -1
         debt debt(S1) USD 9 left 5 partial of S1 derived
         pay M1 of debt(S1) 4 by p
         entry L1 by l",
    )
    .await;
    shop.day(
        "b@2 sale S1 usd=7 P2x5",
        "sale S1 by b
         item S1.1 P2 5
         move P2 -5 sale by b
         stock P2 -5
         pay M1 of debt(S1) 4 by p
         p waits for debt(S1)
         entry L1 by l
         a absorbed by b",
    )
    .await;
}

#[tokio::test]
async fn a_smaller_sale_of_the_same_request_takes_the_place_of_another() {
    let shop = Shop::open().await;
    shop.day(
        "a@5 sale S1 fiao=C1 usd=9 req=r P1x1
         l@5 entry L1 sale sale=S1
         d@6 debt D1 sale=S1 usd=9
         v@7 void S1",
        "sale S1 by a void v
         item S1.1 P1 1
         move P1 -1 sale by a
         move P1 1 void by v
         stock P1 0
         debt D1 USD 9 left 0 cancelled of S1 by d
         entry L1 by l",
    )
    .await;
    shop.day(
        "b@2 sale S2 usd=7 env=r P2x5
         m@2 entry L2 sale sale=S2",
        "sale S2 by b void v
         item S2.1 P2 5
         move P2 -5 sale by b
         move P2 5 void by v
         stock P2 0
         debt D1 USD 9 left 0 cancelled of S2 by d
         entry L2 by m
         a absorbed by b
         l absorbed by b",
    )
    .await;
}

#[tokio::test]
async fn a_late_smaller_sale_flips_row_items_movements_stock_derived_debt_and_ledger() {
    let first = "a@5 sale S1 fiao=C1 usd=9 req=r P1x1
                 l@5 entry L1 sale sale=S1
                 p@6 pay M1 debt(S1) usd=4";
    let shop = Shop::open().await;
    shop.tell(first).await;
    shop.project().await;
    // Of the same sale: its debt is counted anew.
    shop.day(
        "z@2 sale S1 fiao=C1 usd=7 P2x5",
        "sale S1 by z
         item S1.1 P2 5
         move P2 -5 sale by z
         stock P2 -5
         debt debt(S1) USD 7 left 3 partial of S1 derived
         pay M1 of debt(S1) 4 by p
         entry L1 by l
         a absorbed by z",
    )
    .await;
    assert_eq!(shop.row("debts", "debt(S1)").await["created_at"], "1970-01-01T00:00:00.002+00:00");
    let shop = Shop::open().await;
    shop.tell(first).await;
    shop.project().await;
    // Of the same request: another sale, so another debt.
    shop.day(
        "z@2 sale S2 fiao=C1 usd=7 env=r P2x5",
        "sale S2 by z
         item S2.1 P2 5
         move P2 -5 sale by z
         stock P2 -5
         debt debt(S2) USD 7 left 7 pending of S2 derived
         pay M1 of debt(S1) 4 by p
         p waits for debt(S1)
         a absorbed by z
         l absorbed by z",
    )
    .await;
}

#[tokio::test]
async fn a_void_before_its_sale_waits_and_then_counts() {
    let shop = Shop::open().await;
    shop.day("v@1 void S1 by=u1 reason=wrong", "v waits for S1").await;
    shop.day(
        "a@5 sale S1 fiao=C1 usd=9 P1x2",
        "sale S1 by a void v
         item S1.1 P1 2
         move P1 -2 sale by a
         move P1 2 void by v
         stock P1 0
         debt debt(S1) USD 9 left 0 cancelled of S1 derived",
    )
    .await;
    let sale = shop.row("sales", "S1").await;
    assert_eq!(
        (&sale["voided_at"], &sale["voided_by"], &sale["void_reason"]),
        (&json!("1970-01-01T00:00:00.001+00:00"), &json!("u1"), &json!("wrong"))
    );
}

#[tokio::test]
async fn of_several_voids_the_smallest_counts_and_stock_comes_back_once() {
    let shop = Shop::open().await;
    let rest = "item S1.1 P1 2
                move P1 -2 sale by a
                stock P1 0";
    shop.day(
        "a@1 sale S1 usd=9 P1x2
         v@5 void S1 reason=first",
        &format!("sale S1 by a void v\nmove P1 2 void by v\n{rest}"),
    )
    .await;
    shop.day("w@7 void S1", &format!("sale S1 by a void v\nmove P1 2 void by v\nw absorbed by v\n{rest}"))
        .await;
    let smaller =
        format!("sale S1 by a void u\nmove P1 2 void by u\nv absorbed by u\nw absorbed by u\n{rest}");
    shop.day("u@3 void S1 reason=smaller", &smaller).await;
    assert_eq!(shop.row("sales", "S1").await["void_reason"], "smaller");
}

#[tokio::test]
async fn a_ledger_entry_links_sales_whenever_it_comes() {
    let shop = Shop::open().await;
    // It lends S2 the request of S1 before either is there.
    shop.day("l@3 entry L1 sale sale=S2 sreq=r", "entry L1 by l").await;
    shop.day(
        "b@2 sale S2 usd=1 P1x1",
        "sale S2 by b\nitem S2.1 P1 1\nmove P1 -1 sale by b\nstock P1 -1\nentry L1 by l",
    )
    .await;
    shop.day("a@1 sale S1 usd=1 req=r", "sale S1 by a\nb absorbed by a\nl absorbed by a").await;
    // And after both.
    let both = "sale S1 by a\nb absorbed by a\nl absorbed by a";
    shop.day("c@4 sale S3 usd=1", &format!("{both}\nsale S3 by c")).await;
    shop.day("m@9 entry S3 sale req=r", &format!("{both}\nc absorbed by a\nm absorbed by a")).await;
}

#[tokio::test]
async fn sets_of_linked_sales_merge_and_split_over_batches() {
    let shop = Shop::open().await;
    shop.day(
        "a@5 sale S1 usd=1 req=r
         b@6 sale S2 usd=1 req=q
         d@7 debt D1 sale=S1 usd=1
         e@8 debt D2 sale=S2 usd=2",
        "sale S1 by a
         sale S2 by b
         debt D1 USD 1 left 1 pending of S1 by d
         debt D2 USD 2 left 2 pending of S2 by e",
    )
    .await;
    // Bears both requests: one sale, so one debt.
    shop.day(
        "c@1 sale S3 usd=1 req=r env=q",
        "sale S3 by c
         a absorbed by c
         b absorbed by c
         debt D1 USD 1 left 1 pending of S3 by d
         e absorbed by d",
    )
    .await;
    // From now on S2 means another sale, so its debt stands by itself again.
    shop.day(
        "z@0 sale S2 usd=1",
        "sale S2 by z
         sale S3 by c
         a absorbed by c
         b absorbed by z
         debt D1 USD 1 left 1 pending of S3 by d
         debt D2 USD 2 left 2 pending of S2 by e",
    )
    .await;
}

#[tokio::test]
async fn two_stores_with_the_same_ids_do_not_meet() {
    let shop = Shop::open().await;
    let elsewhere = uuid::Uuid::from_u128(0xe15e);
    shop.bring(crate::story::events(elsewhere, "a@1 sale S1 usd=1 req=r P1x1\nv@2 void S1")).await;
    shop.tell("a@3 sale S1 usd=2 env=r P1x4").await;
    shop.project().await;
    let lines = async |store| {
        let tables = shop.store.tables(store).await.expect("the store's tables");
        crate::story::lines(store, &tables, "S1 P1")
    };
    assert_eq!(
        lines(shop.id).await,
        ["item S1.1 P1 4", "move P1 -4 sale by a", "sale S1 by a", "stock P1 -4"]
    );
    let voided = [
        "item S1.1 P1 1",
        "move P1 -1 sale by a",
        "move P1 1 void by v",
        "sale S1 by a void v",
        "stock P1 0",
    ];
    assert_eq!(lines(elsewhere).await, voided);
}
