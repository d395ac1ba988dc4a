//! What a node writes under a lease.

use crate::database::{Held, blocked_writers, number};
use crate::support::{TestNode, id, sale};
use futures_util::future::{join, join_all};
use std::time::Duration;
use uuid::Uuid;
use velox_actors::sync_ingest::IngestError;
use velox_node::clock::SystemClock;
use velox_protocol::event::{self, Sender};
use velox_protocol::time::Clock as _;
use velox_store::{Fence, Leases, NewEvent, NewPush};

/// A push of one sale.
fn push(fence: Option<Fence>) -> NewPush {
    let sender = Sender {
        store_id: Uuid::from_u128(1),
        device_id: &id(),
        client_version: "1.0.0",
        user_id: None,
        now: SystemClock.now(),
    };
    let event = event::read(&sale().to_string(), &sender).expect("an event").event;
    NewPush { events: vec![NewEvent { event, links: Vec::new(), hop: None }], fence, ..NewPush::default() }
}

#[actix_web::test]
async fn a_push_whose_lease_is_lost_is_refused_and_those_beside_it_are_stored() {
    let node = TestNode::start().await;
    let (pool, state) = (node.database.pool().await, &node.node.state);
    let leases = Leases::new(state.store.clone(), None).expect("leases");
    let held = leases.acquire("a lease", "a holder", Duration::from_secs(300)).await.expect("an answer");
    let fence = held.expect("a lease").fence;
    let lost = Fence { token: fence.token - 1, ..fence.clone() };
    let closed = Held::hold(&pool).await;
    let pushes = (0..16).map(|n| match n {
        5 | 10 => push(Some(lost.clone())),
        6 | 9 => push(Some(fence.clone())),
        _ => push(None),
    });
    // They are all sent before the writers, which stand still over the first ones, can go on.
    let outcomes = join_all(pushes.map(|push| state.ingest.push(push, Box::new(()))));
    let opened = async {
        blocked_writers(&pool, 2).await;
        closed.release().await;
    };
    let (outcomes, ()) = join(outcomes, opened).await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match n {
            5 | 10 => assert_eq!(outcome, Err(IngestError::Fenced), "{n}"),
            _ => assert_eq!(outcome.map(|stored| stored.events.len()), Ok(1), "{n}"),
        }
    }
    assert_eq!(number(&pool, "SELECT count(*) FROM events").await, 14);
    pool.close().await;
    node.stop().await;
}
