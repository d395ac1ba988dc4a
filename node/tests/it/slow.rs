//! Clients that send slowly or never end, and much work in one push.

use crate::database::{EVENTS, number};
use crate::odd::{Object, envelope, quoted};
use crate::support::{PATIENCE, TestNode, Till, id, sale, wait};
use crate::wire::push_texts;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Sends a byte now and then until the node answers or closes; gives what it said.
async fn trickle(node: &TestNode, start: &str, byte: u8) -> String {
    let mut stream = TcpStream::connect(node.node.address).await.expect("a connection");
    stream.write_all(start.as_bytes()).await.expect("the node reads");
    let talk = async {
        let mut answer = Vec::new();
        let mut chunk = [0; 1024];
        loop {
            match tokio::time::timeout(Duration::from_millis(500), stream.read(&mut chunk)).await {
                Ok(Ok(read @ 1..)) => answer.extend_from_slice(&chunk[..read]),
                Ok(_) => return answer,
                Err(_) if answer.is_empty() => {
                    // Closed already: the next read says so.
                    let _ = stream.write_all(&[byte]).await;
                }
                Err(_) => {}
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, talk).await.expect("the node ends what never ends");
    String::from_utf8_lossy(&answer).into_owned()
}

#[actix_web::test]
async fn slow_clients_are_cut_off_and_hold_up_nobody() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let (token, length) = (&till.token, 1_000_000);
    let body = format!(
        "POST /sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{{"
    );
    let heads = (0..100).map(|_| trickle(&node, "GET /ping HTTP/1.1\r\nHost: x\r\nA: ", b'a'));
    let bodies = (0..100).map(|_| trickle(&node, &body, b' '));
    let lorises =
        async { tokio::join!(futures_util::future::join_all(heads), futures_util::future::join_all(bodies)) };
    let sales = async {
        for _ in 0..20 {
            let started = Instant::now();
            node.client.push(&till, &[sale()]).await;
            assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        }
    };
    let ((heads, bodies), ()) = tokio::join!(lorises, sales);
    for answer in heads {
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    for answer in bodies {
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("timeout") && answer.contains("application/problem+json"), "{answer}");
    }
    node.client.projected().await;
    assert_eq!(node.client.list(&till, "sales").await.len(), 20);
    node.stop().await;
}

#[actix_web::test]
async fn a_client_that_hangs_up_leaves_nothing_half_done() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let event = |count: usize| -> Vec<String> {
        (0..count)
            .map(|_| envelope("CustomerCreated", &format!(r#"{{"customer_id":"{}"}}"#, id())).text())
            .collect()
    };
    let body = crate::wire::push_body(&till, &event(500));
    let head = format!(
        "POST /sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        till.token,
        body.len()
    );
    let whole = format!("{head}{body}");
    // Cut anywhere, also right behind the last byte.
    for cut in [10, head.len(), head.len() + 1, head.len() + body.len() / 2, whole.len() - 1, whole.len()] {
        let mut stream = TcpStream::connect(node.node.address).await.expect("a connection");
        stream.write_all(&whole.as_bytes()[..cut]).await.expect("the node reads");
        drop(stream);
    }
    let pool = node.database.pool().await;
    let stored = async || number(&pool, EVENTS).await;
    // Whether the last one came through is the network's affair: all of its events or none.
    let answer = push_texts(&node.client, &till, &event(1)).await;
    assert_eq!(answer.status, 200);
    node.client.projected().await;
    let count = stored().await;
    assert!(count == 1 || count == 501, "{count}");
    let open = async || -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        sqlx::query_scalar(sql).fetch_one(&pool).await.expect("a count")
    };
    // A projector that looks for work is between two statements now and then; one left open stays so.
    wait("the end of all transactions", async || open().await == 0).await;
    pool.close().await;
    node.stop().await;
}

/// Customers in a chain: each event depends on the one before.
fn chain(length: usize) -> Vec<Object> {
    let mut before = quoted(&id());
    (0..length)
        .map(|_| {
            let payload = format!(r#"{{"customer_id":"{}"}}"#, id());
            let event =
                envelope("CustomerCreated", &payload).with("causal_dependencies", &format!("[{before}]"));
            before = event.get("event_id").to_owned();
            event
        })
        .collect()
}

async fn push_all(node: &TestNode, till: &Till, events: &[Object]) -> Vec<Value> {
    let mut answers = Vec::new();
    for batch in events.chunks(2_000) {
        let texts: Vec<String> = batch.iter().map(Object::text).collect();
        let answer = push_texts(&node.client, till, &texts).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answers.push(answer.json());
    }
    answers
}

#[actix_web::test]
async fn a_chain_of_10_000_dependencies_last_one_first_is_taken_in_stride() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let mut events = chain(10_000);
    events.reverse();
    for answer in push_all(&node, &till, &events).await {
        assert_eq!((&answer["rejected"], &answer["warnings"]), (&json!([]), &json!([])));
    }
    node.client.projected().await;
    let pool = node.database.pool().await;
    let customers: i64 =
        sqlx::query_scalar("SELECT count(*) FROM customers").fetch_one(&pool).await.expect("a count");
    assert_eq!(customers, 10_000);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn many_events_of_one_thing_are_one_thing() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    let (sale_id, debt_id) = (id(), id());
    let mut events = Vec::new();
    for n in 0..500 {
        let sale = format!(r#"{{"sale_id":"{sale_id}","items":[],"total":{}}}"#, n + 1);
        let debt = format!(r#"{{"debt_id":"{debt_id}","amount":{}}}"#, n + 1);
        events.push(
            envelope("SaleCreated", &sale).with("created_at", &(1_700_000_000_000_i64 + n).to_string()),
        );
        events.push(
            envelope("DebtCreated", &debt).with("created_at", &(1_700_000_000_000_i64 + n).to_string()),
        );
    }
    events.reverse();
    push_all(&node, &till, &events).await;
    node.client.projected().await;
    let sales = node.client.list(&till, "sales").await;
    assert_eq!((sales.len(), &sales[0]["total"]), (1, &json!("1.00")), "the smallest stands");
    let debts = node.client.list(&till, "debts").await;
    assert_eq!((debts.len(), &debts[0]["total_amount"]), (1, &json!("1.00")));
    let pool = node.database.pool().await;
    let absorbed: i64 = sqlx::query_scalar("SELECT count(*) FROM event_exceptions WHERE status = 'absorbed'")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(absorbed, 998);
    pool.close().await;
    node.stop().await;
}
