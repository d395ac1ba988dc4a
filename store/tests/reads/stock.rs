//! Stock and its movements.

use super::{Rows, SHOP, all, ids, time, walk};
use uuid::Uuid;
use velox_store::{StockFilter, StockMovementFilter, TimeRange};

#[tokio::test]
async fn a_declared_default_warehouse_is_read_as_one() {
    let rows = Rows::new().await;
    let (main, branch) = (Uuid::from_u128(100), Uuid::from_u128(101));
    for (warehouse, stock) in [(SHOP, "3"), (main, "-5"), (branch, "1")] {
        rows.stock(10, warehouse, stock).await;
    }
    let columns =
        "stock_movements id, product_id, variant_id, warehouse_id, kind, qty_delta, event_id, created_at";
    let values =
        format!("'{0}', '{0}', '{1}', '{SHOP}', 'delta', 3, 'e', now()", Uuid::from_u128(10), Uuid::nil());
    rows.insert(SHOP, columns, &values).await;
    let read = async || {
        let filter = StockFilter::default();
        let stock = walk(1, |page| rows.store.read_stock(SHOP, &filter, page)).await;
        let filter = StockMovementFilter::default();
        let movements = walk(1, |page| rows.store.read_stock_movements(SHOP, &filter, page)).await;
        let stock = stock
            .into_iter()
            .map(|row| (row.warehouse_id, row.stock.to_string(), row.total_stock.to_string()));
        (stock.collect::<Vec<_>>(), movements[0].warehouse_id)
    };
    let row = |warehouse, stock: &str| (warehouse, stock.to_owned(), "-1.000".to_owned());
    assert_eq!(read().await, (vec![row(SHOP, "3.000"), row(main, "-5.000"), row(branch, "1.000")], SHOP));
    sqlx::query("UPDATE stores SET default_warehouse_id = $1")
        .bind(main)
        .execute(&rows.pool)
        .await
        .expect("an update");
    assert_eq!(read().await, (vec![row(main, "-2.000"), row(branch, "1.000")], main));
}

#[tokio::test]
async fn negative_stock_is_judged_over_all_warehouses() {
    let rows = Rows::new().await;
    let branch = Uuid::from_u128(101);
    for (product, stock, elsewhere) in [(1, "-5", "7"), (2, "-5", "2"), (3, "0", "0"), (4, "-1", "-1")] {
        rows.stock(product, SHOP, stock).await;
        rows.stock(product, branch, elsewhere).await;
    }
    let filter = StockFilter { negative: true, product_id: None };
    for limit in 1..=4 {
        let walked = walk(limit, |page| rows.store.read_stock(SHOP, &filter, page)).await;
        let seen: Vec<_> = walked.iter().map(|row| (row.product_id.as_u128(), row.warehouse_id)).collect();
        assert_eq!(seen, [(2, SHOP), (4, SHOP), (4, branch)], "by {limit}");
    }
    let filter = StockFilter { negative: false, product_id: Some(Uuid::from_u128(3)) };
    assert_eq!(rows.store.read_stock(SHOP, &filter, all()).await.expect("a page").items.len(), 2);
}

#[tokio::test]
async fn stock_says_the_name_and_whether_it_is_watched() {
    let rows = Rows::new().await;
    let columns = "products id, name, track_inventory, attributes, created_at, updated_at, registers";
    for (id, rest) in [
        (1, r#"NULL, '{"product_type":"prepared"}'"#),
        (2, r#"NULL, '{"is_recipe":true}'"#),
        (3, r#"NULL, '{"product_type":"simple","is_recipe":false}'"#),
        (4, r#"true, '{"product_type":"prepared"}'"#),
        (5, "false, '{}'"),
    ] {
        let values = format!("'{}', 'P{id}', {rest}, now(), now(), '{{}}'", Uuid::from_u128(id));
        rows.insert(SHOP, columns, &values).await;
    }
    for id in 1..=6 {
        rows.stock(id, SHOP, "1").await;
    }
    let page = rows.store.read_stock(SHOP, &StockFilter::default(), all()).await.expect("a page");
    let tracked: Vec<_> = page.items.iter().map(|row| row.tracked).collect();
    assert_eq!(tracked, [false, false, true, true, false, true]);
    assert_eq!((page.items[0].product_name.as_deref(), &page.items[5].product_name), (Some("P1"), &None));
}

#[tokio::test]
async fn movements_by_product_and_time() {
    let rows = Rows::new().await;
    let columns =
        "stock_movements id, product_id, variant_id, warehouse_id, kind, qty_delta, event_id, created_at";
    for (id, product, at) in [(1, 1, "2026-01-02"), (2, 2, "2026-01-01"), (3, 1, "2026-01-03")] {
        let (id, product) = (Uuid::from_u128(id), Uuid::from_u128(product));
        let values = format!("'{id}', '{product}', '{}', '{SHOP}', 'sale', -1, 'e', '{at}'", Uuid::nil());
        rows.insert(SHOP, columns, &values).await;
    }
    let read = async |filter: StockMovementFilter| {
        let page = rows.store.read_stock_movements(SHOP, &filter, all()).await.expect("a page");
        ids(&page, |movement| movement.id)
    };
    assert_eq!(read(StockMovementFilter::default()).await, [2, 1, 3]);
    let filter = StockMovementFilter { product_id: Some(Uuid::from_u128(1)), ..Default::default() };
    assert_eq!(read(filter.clone()).await, [1, 3]);
    let until = TimeRange { until: time("2026-01-03T00:00:00Z"), ..Default::default() };
    assert_eq!(read(StockMovementFilter { created: until, ..filter }).await, [1]);
}
