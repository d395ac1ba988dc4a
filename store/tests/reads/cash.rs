//! Cash sessions and the cash ledger.

use super::{Rows, SHOP, all, ids, time, walk};
use uuid::Uuid;
use velox_store::{CashLedgerFilter, CashSessionFilter, CashSessionStatus, TimeRange};

#[tokio::test]
async fn cash_sessions_and_ledger() {
    let rows = Rows::new().await;
    let columns = "cash_sessions id, opened_at, closed_at, expected, registers";
    for (id, rest) in [
        (1, "'2026-01-03', NULL, NULL"),
        (2, "NULL, '2026-01-02', '{\"cash\": 1.50}'"),
        (3, "'2026-01-01', '2026-01-04', NULL"),
        (4, "NULL, NULL, NULL"),
    ] {
        rows.insert(SHOP, columns, &format!("'{}', {rest}, '{{}}'", Uuid::from_u128(id))).await;
    }
    let filter = CashSessionFilter::default();
    for limit in 1..=4 {
        let walked = walk(limit, |page| rows.store.read_cash_sessions(SHOP, &filter, page)).await;
        assert_eq!(walked.iter().map(|session| session.id.as_u128()).collect::<Vec<_>>(), [4, 3, 2, 1]);
    }
    let read = async |filter: CashSessionFilter| {
        let page = rows.store.read_cash_sessions(SHOP, &filter, all()).await.expect("a page");
        ids(&page, |session| session.id)
    };
    assert_eq!(
        read(CashSessionFilter { status: Some(CashSessionStatus::Open), ..filter.clone() }).await,
        [4, 1]
    );
    assert_eq!(
        read(CashSessionFilter { status: Some(CashSessionStatus::Closed), ..filter.clone() }).await,
        [3, 2]
    );
    let late = TimeRange { from: time("2026-01-02T00:00:00Z"), ..Default::default() };
    assert_eq!(read(CashSessionFilter { opened: late, ..filter.clone() }).await, [2, 1]);
    let page = rows.store.read_cash_sessions(SHOP, &filter, all()).await.expect("a page");
    let text = serde_json::to_string(&page.items[2]).expect("JSON");
    assert!(text.contains(r#""expected":{"cash": 1.50},"counted":null"#), "{text}");

    let columns = "cash_ledger_entries id, session_id, entry_type, amount_bs, created_at, event_id";
    for id in [1, 2] {
        let values = format!("'{0}', '{0}', 'sale', 7, '2026-01-0{id}', 'e'", Uuid::from_u128(id));
        rows.insert(SHOP, columns, &values).await;
    }
    let filter = CashLedgerFilter::default();
    let walked = walk(1, |page| rows.store.read_cash_ledger(SHOP, &filter, page)).await;
    assert_eq!(walked.len(), 2);
    let filter = CashLedgerFilter { session_id: Some(Uuid::from_u128(2)), ..filter };
    let page = rows.store.read_cash_ledger(SHOP, &filter, all()).await.expect("a page");
    assert_eq!(ids(&page, |entry| entry.id), [2]);
}
