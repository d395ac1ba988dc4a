//! Two nodes: what a till tells one of them is known to the other.

use crate::pair::{Pair, status};
use crate::support::{event, id, sale};
use serde_json::json;

#[actix_web::test]
async fn a_sale_pushed_to_one_node_is_in_the_tables_of_the_other() {
    let pair = Pair::start(&[]).await;
    let till = pair.a.client.till().await;
    let mut fiao = sale();
    fiao["payload"]["payment"] = json!({ "method": "FIAO" });
    fiao["payload"]["customer_id"] = json!(id());
    pair.a.client.push(&till, &[event("CashSessionOpened", json!({ "session_id": id() })), fiao]).await;
    pair.quiet().await;
    let there = pair.b.client.till_of(till.store_id).await;
    for what in ["sales", "debts", "cash-sessions", "stock"] {
        let (here, over_there) =
            (pair.a.client.list(&till, what).await, pair.b.client.list(&there, what).await);
        assert!(!here.is_empty(), "{what}");
        assert_eq!(here, over_there, "{what}");
    }
    let status = status(&pair.a).await;
    let peer = &status["peers"][0];
    assert_eq!((&peer["reachable"], &peer["authorized"]), (&json!(true), &json!(true)), "{status}");
    assert_eq!(peer["circuitBreakerState"], "CLOSED");
    assert_eq!((&status["enabled"], &status["queue"]["waiting"]), (&json!(true), &json!(0)));
    pair.stop().await;
}
