//! Group commit: pushes that share a transaction share no fault; the bounds on what waits; clients that hang up.

use crate::database::{EVENTS, Held, blocked_writers, is_stored, number, on_event, open_transactions};
use crate::support::{Answer, Client, TestNode, Till, body, sale, wait};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use velox_node::http::body::INGEST_BYTES;

const MIB: usize = 1024 * 1024;

fn sales(count: usize) -> Vec<Value> {
    (0..count).map(|_| sale()).collect()
}

/// Waits until the node holds so many bytes of bodies.
async fn holds(node: &TestNode, bytes: usize) {
    let gate = &node.node.state.gate;
    wait(&format!("{bytes} bytes in the node"), async || INGEST_BYTES - gate.available() >= bytes).await;
}

#[actix_web::test]
async fn a_hundred_pushes_at_once_share_a_few_commits() {
    let node = TestNode::start().await;
    let (client, pool) = (&node.client, node.database.pool().await);
    let till = client.till().await;
    let held = Held::hold(&pool).await;
    let pushes: Vec<Vec<Value>> = (0..100).map(|_| sales(1)).collect();
    let released = async {
        blocked_writers(&pool, 2).await;
        // The least that is counted for a body.
        holds(&node, 100 * 4 * 1024).await;
        held.release().await;
    };
    let (answers, ()) = join(join_all(pushes.iter().map(|push| client.push(&till, push))), released).await;
    for (answer, push) in answers.iter().zip(&pushes) {
        assert_eq!(answer["accepted"][0]["event_id"], push[0]["event_id"], "each its own answer");
        assert_eq!(answer["duplicates"], json!([]));
    }
    let commits = client.figure("velox_ingest_commits_total").await;
    assert!((2..=20).contains(&commits), "{commits} commits");
    assert_eq!(number(&pool, EVENTS).await, 100);
    client.projected().await;
    assert_eq!(number(&pool, "SELECT count(*) FROM sales").await, 100);
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn a_lone_push_waits_for_no_company() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    for _ in 0..5 {
        node.client.push(&till, &sales(1)).await;
    }
    assert_eq!(node.client.figure("velox_ingest_commits_total").await, 5);
    node.stop().await;
}

#[actix_web::test]
async fn a_row_that_the_database_refuses_costs_its_own_push_alone() {
    let node = TestNode::start().await;
    let (client, pool) = (&node.client, node.database.pool().await);
    let till = client.till().await;
    let pushes: Vec<Vec<Value>> = (0..20).map(|_| sales(100)).collect();
    let bad = pushes[11][63]["event_id"].as_str().expect("an id").to_owned();
    let refuse = |then: &str| format!("IF NEW.event_id = '{bad}' THEN {then} END IF;");
    on_event(&pool, &refuse("RAISE EXCEPTION 'refused' USING ERRCODE = '22008';")).await;
    let bytes: usize = pushes.iter().map(|push| body(&till, push).to_string().len()).sum();
    let held = Held::hold(&pool).await;
    let released = async {
        blocked_writers(&pool, 2).await;
        holds(&node, bytes).await;
        held.release().await;
    };
    let answers = join_all(pushes.iter().map(|push| client.try_push(&till, push)));
    let (answers, ()) = join(answers, released).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    let expected: Vec<u16> = (0..20).map(|push| if push == 11 { 503 } else { 200 }).collect();
    assert_eq!(statuses, expected);
    assert!(answers[11].headers.contains_key("retry-after"));
    assert_eq!(number(&pool, EVENTS).await, 1_900);
    for event in &pushes[11] {
        assert!(!is_stored(&pool, event["event_id"].as_str().expect("an id")).await);
    }
    assert_eq!(client.restarts().await, 0);

    on_event(&pool, "").await;
    client.push(&till, &pushes[11]).await;
    assert_eq!(number(&pool, EVENTS).await, 2_000);
    pool.close().await;
    node.stop().await;
}

/// A push that is large and quickly read.
async fn heavy(client: &Client, till: &Till, sale: &Value) -> Answer {
    let mut push = body(till, std::slice::from_ref(sale));
    push["padding"] = json!("x".repeat(15 * MIB));
    client.call("POST", "/sync/push", &till.token, Some(&push)).await
}

#[actix_web::test]
async fn more_than_fits_is_shed_with_retry_after_and_what_fits_is_taken() {
    let node = TestNode::start().await;
    let (client, pool) = (&node.client, node.database.pool().await);
    let till = client.till().await;
    let pushed = sales(4);
    let held = Held::hold(&pool).await;
    let shed = async {
        holds(&node, 45 * MIB).await;
        let answer = heavy(client, &till, &pushed[3]).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(answer.json()["code"], "OVERLOADED");
        assert!(answer.headers.contains_key("retry-after"));
        assert!(client.is_ready().await, "busy is not broken");
        held.release().await;
    };
    let taken = join_all(pushed[..3].iter().map(|sale| heavy(client, &till, sale)));
    let (taken, ()) = join(taken, shed).await;
    assert!(taken.iter().all(|answer| answer.status == 200), "{taken:?}");
    wait("the room of all bodies", async || node.node.state.gate.available() == INGEST_BYTES).await;
    assert_eq!(heavy(client, &till, &pushed[3]).await.status, 200);
    pool.close().await;
    node.stop().await;
}

/// The bytes of a push, as a till sends them.
fn raw(till: &Till, events: &[Value]) -> Vec<u8> {
    let body = body(till, events).to_string();
    let head = format!(
        "POST /sync/push HTTP/1.1\r\nhost: velox\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        till.token,
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

async fn connect(node: &TestNode) -> TcpStream {
    TcpStream::connect(node.node.address).await.expect("a connection")
}

#[actix_web::test]
async fn clients_that_hang_up_anywhere_in_a_push_leave_nothing_behind() {
    let node = TestNode::start().await;
    let (client, pool) = (&node.client, node.database.pool().await);
    let till = client.till().await;
    let events = sales(20);
    let push = raw(&till, &events);
    let cuts = (0..60).map(|_| rand::random_range(0..push.len())).chain([0, 1, push.len() - 1]);
    for cut in cuts {
        let mut stream = connect(&node).await;
        stream.write_all(&push[..cut]).await.expect("a node that reads");
    }
    wait("the room of all bodies", async || node.node.state.gate.available() == INGEST_BYTES).await;
    assert_eq!(number(&pool, EVENTS).await, 0);
    assert_eq!(open_transactions(&pool).await, 0);
    let answer = client.push(&till, &events).await;
    assert_eq!(answer["duplicates"], json!([]));
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn a_push_whose_client_hangs_up_before_the_commit_is_stored_all_the_same() {
    let node = TestNode::start().await;
    let (client, pool) = (&node.client, node.database.pool().await);
    let till = client.till().await;
    let sold = sale();
    let held = Held::hold(&pool).await;
    let mut stream = connect(&node).await;
    stream.write_all(&raw(&till, std::slice::from_ref(&sold))).await.expect("a node that reads");
    blocked_writers(&pool, 1).await;
    drop(stream);
    // Another till's push, behind it at the same writer or beside it at the other.
    let beside = sales(1);
    let pushed = async {
        let answer = client.push(&till, &beside).await;
        assert_eq!(answer["accepted"].as_array().map(Vec::len), Some(1));
    };
    join(pushed, held.release()).await;
    let id = sold["event_id"].as_str().expect("an id");
    wait("the event of the client that hung up", async || is_stored(&pool, id).await).await;
    let again = client.push(&till, std::slice::from_ref(&sold)).await;
    assert_eq!(again["duplicates"], json!([id]));
    client.listed(&till, "sales", 2).await;
    // A projector may be looking for more at this moment.
    wait("the end of all transactions", async || open_transactions(&pool).await == 0).await;
    pool.close().await;
    node.stop().await;
}
