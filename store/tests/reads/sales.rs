//! Sales and their items.

use super::{OTHER, Rows, SHOP, all, ids, time, walk};
use serde_json::{Value, json};
use uuid::Uuid;
use velox_store::{SaleFilter, SaleStatus, TimeRange};

#[tokio::test]
async fn sales_are_walked_by_time_without_gap_or_repeat() {
    let rows = Rows::new().await;
    // Several of one moment, so that pages end between equal times; the nil id and the year 1 are no traps.
    for (id, sold_at) in
        [(0, "0001-01-01T00:00:00Z"), (5, "2026-01-02T00:00:00Z"), (3, "2026-01-02T00:00:00Z")]
    {
        rows.sale(SHOP, id, sold_at, "'till', NULL, NULL").await;
    }
    rows.sale(SHOP, 4, "2026-01-02T00:00:00Z", "'till', NULL, NULL").await;
    rows.sale(SHOP, 1, "9999-12-31T23:59:59.999Z", "'till', NULL, NULL").await;
    rows.sale(OTHER, 9, "2026-01-02T00:00:00Z", "'till', NULL, NULL").await;
    for limit in 1..=6 {
        let filter = SaleFilter::default();
        let seen = walk(limit, |page| rows.store.read_sales(SHOP, &filter, page)).await;
        let seen: Vec<u128> = seen.iter().map(|sale| sale.id.as_u128()).collect();
        assert_eq!(seen, [0, 3, 4, 5, 1], "by {limit}");
    }
}

#[tokio::test]
async fn sales_by_time_status_till_and_customer() {
    let rows = Rows::new().await;
    let customer = Uuid::from_u128(70);
    rows.sale(SHOP, 1, "2026-01-01T23:59:59.999Z", "'a', NULL, NULL").await;
    rows.sale(SHOP, 2, "2026-01-02T00:00:00Z", &format!("'a', '{customer}', NULL")).await;
    rows.sale(SHOP, 3, "2026-01-02T23:59:59.999Z", "'b', NULL, '2026-01-05'").await;
    rows.sale(SHOP, 4, "2026-01-03T00:00:00Z", "'b', NULL, NULL").await;
    let read = async |filter: SaleFilter| {
        let page = rows.store.read_sales(SHOP, &filter, all()).await.expect("a page");
        ids(&page, |sale| sale.id)
    };
    let day = TimeRange { from: time("2026-01-02T00:00:00Z"), until: time("2026-01-03T00:00:00Z") };
    assert_eq!(read(SaleFilter { sold: day, ..Default::default() }).await, [2, 3]);
    assert_eq!(read(SaleFilter { status: Some(SaleStatus::Voided), ..Default::default() }).await, [3]);
    assert_eq!(read(SaleFilter { status: Some(SaleStatus::Open), ..Default::default() }).await, [1, 2, 4]);
    assert_eq!(read(SaleFilter { device_id: Some("b".to_owned()), ..Default::default() }).await, [3, 4]);
    assert_eq!(read(SaleFilter { customer_id: Some(customer), ..Default::default() }).await, [2]);
}

#[tokio::test]
async fn a_sale_is_answered_with_its_items_and_all_digits() {
    let rows = Rows::new().await;
    let (sale, product) = (Uuid::from_u128(7), Uuid::from_u128(8));
    let columns = "sales id, device_id, exchange_rate, total_usd, sold_at, created_at, event_id";
    let values =
        format!("'{sale}', 'till', 36.5, 1234567890123456.70, '2026-01-02 03:04:05.6', '2026-01-02', 'e1'");
    rows.insert(SHOP, columns, &values).await;
    let columns = "sale_items sale_id, line_no, product_id, name, qty, unit_price_usd";
    for (line, qty) in [(2, "0.125"), (1, "-123456789012345.678")] {
        let values = format!("'{sale}', {line}, '{product}', 'Café \"ñ\"', {qty}, 1.5");
        rows.insert(SHOP, columns, &values).await;
    }
    let read = rows.store.read_sale(SHOP, sale).await.expect("a read").expect("a sale");
    let read = serde_json::to_value(&read).expect("JSON");
    assert_eq!(read["sold_at"], "2026-01-02T03:04:05.600Z");
    assert_eq!(read["created_at"], "2026-01-02T00:00:00.000Z");
    assert_eq!(read["exchange_rate"], "36.500000");
    assert_eq!(read["total_usd"], "1234567890123456.70");
    assert_eq!(read["voided_at"], Value::Null);
    let items = read["items"].as_array().expect("items");
    assert_eq!(items.iter().map(|item| &item["line_no"]).collect::<Vec<_>>(), [1, 2]);
    let item = json!({
        "store_id": SHOP, "sale_id": sale, "line_no": 1, "product_id": product, "variant_id": null,
        "name": "Café \"ñ\"", "qty": "-123456789012345.678", "unit_price": null, "unit_price_bs": null,
        "unit_price_usd": "1.5000", "discount_bs": null, "discount_usd": null,
    });
    assert_eq!(items[0], item);
    assert!(rows.store.read_sale(OTHER, sale).await.expect("a read").is_none());
    let list = rows.store.read_sales(SHOP, &SaleFilter::default(), all()).await.expect("a page");
    let listed = serde_json::to_value(&list.items[0]).expect("JSON");
    assert!(listed.get("items").is_none() && listed.get("total_bs") == Some(&Value::Null), "{listed}");
}
