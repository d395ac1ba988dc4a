//! Debts and their payments.

use super::{OTHER, Rows, SHOP, all, ids, time};
use serde_json::json;
use uuid::Uuid;
use velox_store::{DebtFilter, DebtStatus, TimeRange};

#[tokio::test]
async fn debts_with_their_payments() {
    let rows = Rows::new().await;
    let columns =
        "debts created_at, updated_at, total_amount, id, customer_id, remaining_amount, status, derived";
    for (id, rest) in [(1, "5, 'partial', false"), (2, "0, 'paid', true"), (3, "9, 'pending', false")] {
        let values = format!("'2026-01-0{id}', now(), 9, '{0}', '{0}', {rest}", Uuid::from_u128(id));
        rows.insert(SHOP, columns, &values).await;
    }
    let columns = "debt_payments id, debt_id, amount, payment_method, paid_at, event_id";
    for (id, paid_at) in [(12, "2026-01-02T10:00:00.5Z"), (11, "2026-01-02T11:00:00Z")] {
        let values = format!(
            "'{}', '{}', 2.10, 'cash', '{paid_at}', 'p{id}'",
            Uuid::from_u128(id),
            Uuid::from_u128(1)
        );
        rows.insert(SHOP, columns, &values).await;
    }
    let read = async |filter: DebtFilter| {
        let page = rows.store.read_debts(SHOP, &filter, all()).await.expect("a page");
        ids(&page, |debt| debt.id)
    };
    assert_eq!(read(DebtFilter::default()).await, [1, 2, 3]);
    assert_eq!(read(DebtFilter { status: Some(DebtStatus::Paid), ..Default::default() }).await, [2]);
    assert_eq!(read(DebtFilter { customer_id: Some(Uuid::from_u128(3)), ..Default::default() }).await, [3]);
    let late = TimeRange { from: time("2026-01-02T00:00:00Z"), ..Default::default() };
    assert_eq!(read(DebtFilter { created: late, ..Default::default() }).await, [2, 3]);

    let debt = rows.store.read_debt(SHOP, Uuid::from_u128(1)).await.expect("a read").expect("a debt");
    let debt = serde_json::to_value(&debt).expect("JSON");
    let paid: Vec<_> = debt["payments"].as_array().expect("payments").iter().map(|p| &p["paid_at"]).collect();
    assert_eq!(paid, ["2026-01-02T10:00:00.500Z", "2026-01-02T11:00:00.000Z"]);
    assert_eq!(debt["payments"][0]["amount"], "2.10");
    let unpaid = rows.store.read_debt(SHOP, Uuid::from_u128(2)).await.expect("a read").expect("a debt");
    assert_eq!(serde_json::to_value(&unpaid).expect("JSON")["payments"], json!([]));
    assert!(rows.store.read_debt(OTHER, Uuid::from_u128(1)).await.expect("a read").is_none());
}
