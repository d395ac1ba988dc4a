//! Products and customers.

use super::{Rows, SHOP, all, ids, walk};
use uuid::Uuid;
use velox_store::ProductFilter;

#[tokio::test]
async fn products_by_text_and_activity_with_attributes_as_sent() {
    let rows = Rows::new().await;
    let columns = "products id, name, sku, barcode, is_active, attributes, created_at, updated_at, registers";
    let attributes = r#"{"b": 1e2,"a":0.10,"b":2}"#;
    for (id, rest) in [
        (0, "'Coffee 50%', 'C-1', '750', true"),
        (1, "'coffee_beans', NULL, '751', NULL"),
        (2, "NULL, 'X''; DROP TABLE products--', NULL, false"),
    ] {
        let values = format!("'{}', {rest}, '{attributes}', now(), now(), '{{}}'", Uuid::from_u128(id));
        rows.insert(SHOP, columns, &values).await;
    }
    let read = async |text: Option<&str>, active| {
        let filter = ProductFilter { text: text.map(str::to_owned), active };
        let page = rows.store.read_products(SHOP, &filter, all()).await.expect("a page");
        ids(&page, |product| product.id)
    };
    assert_eq!(read(None, None).await, [0, 1, 2]);
    assert_eq!(read(Some("COFFEE"), None).await, [0, 1]);
    for (text, found) in
        [("0%", vec![0]), ("e_b", vec![1]), ("c-1", vec![0]), ("751", vec![1]), ("'; dr", vec![2])]
    {
        assert_eq!(read(Some(text), None).await, found, "{text}");
    }
    assert_eq!(read(None, Some(true)).await, [0, 1]);
    assert_eq!(read(None, Some(false)).await, [2]);
    let filter = ProductFilter::default();
    let walked = walk(1, |page| rows.store.read_products(SHOP, &filter, page)).await;
    assert_eq!(walked.len(), 3);
    let text = serde_json::to_string(&walked[0]).expect("JSON");
    assert!(text.contains(&format!(r#""attributes":{attributes}"#)), "{text}");
    assert!(!text.contains("registers"), "{text}");
}

#[tokio::test]
async fn customers_by_text() {
    let rows = Rows::new().await;
    let columns = "customers id, name, document_id, phone, created_at, updated_at, registers";
    for (id, rest) in [(1, "'Ana Pérez', 'V-123', NULL"), (2, "'Luis', NULL, '0414-555'")] {
        let values = format!("'{}', {rest}, now(), now(), '{{}}'", Uuid::from_u128(id));
        rows.insert(SHOP, columns, &values).await;
    }
    for (text, found) in
        [(None, vec![1, 2]), (Some("pérez"), vec![1]), (Some("v-12"), vec![1]), (Some("555"), vec![2])]
    {
        let page = rows.store.read_customers(SHOP, text, all()).await.expect("a page");
        assert_eq!(ids(&page, |customer| customer.id), found, "{text:?}");
    }
    let walked = walk(1, |page| rows.store.read_customers(SHOP, None, page)).await;
    assert_eq!(walked.len(), 2);
}
