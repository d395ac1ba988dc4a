//! What a device has acknowledged by pulling: the clocks of exactly that, never more.

use crate::shop::{Shop, push};
use crate::story;
use serde_json::{Value, json};
use velox_store::{Acknowledgement, NewPush, PullPosition, PullRequest};

struct Reader {
    shop: Shop,
    page: PullRequest,
}

impl Reader {
    /// A registered till `r` that has pulled nothing yet.
    async fn new() -> Self {
        let shop = Shop::open().await;
        shop.register("Shop", 1).await;
        shop.store.register_device(shop.id, "r").await.expect("a registration");
        let page = PullRequest {
            store_id: shop.id,
            after: None,
            without_device: Some("r".to_owned()),
            without_types: vec!["StoreDeclared".to_owned()],
            limit: 100,
        };
        Reader { shop, page }
    }

    /// Pulls the next page; answers where it ends.
    async fn pull(&mut self) -> PullPosition {
        self.page.after = self.shop.store.pull(&self.page).await.expect("a page").end;
        self.page.after.clone().expect("an event")
    }

    async fn acknowledge(&self, position: &PullPosition) {
        let without_types = &self.page.without_types;
        let given = Acknowledgement { store_id: self.shop.id, device_id: "r", position, without_types };
        self.shop.store.acknowledge(given).await.expect("an acknowledgement");
    }

    async fn clock(&self) -> Value {
        let clock = self.shop.store.acknowledged_clock(self.shop.id, "r").await.expect("a clock");
        serde_json::to_value(clock).expect("JSON")
    }

    async fn position(&self) -> Option<PullPosition> {
        self.shop.store.pull_positions(self.shop.id, "r").await.expect("positions").acknowledged
    }
}

#[tokio::test]
async fn the_clocks_of_what_was_given_up_to_a_position_are_taken_up_and_no_others() {
    let mut reader = Reader::new().await;
    reader
        .shop
        .tell(
            "a@7/x sale S1 usd=1 seq=3
             b@8/y sale S2 usd=1 clock=x:2,z:5
             c@9/r sale S3 usd=1 seq=90 clock=q:9
             d@9/x StoreDeclared P1 seq=70 clock=w:7",
        )
        .await;
    let first = reader.pull().await;
    assert_eq!(first.event_id, "b");
    reader.shop.tell("e@1/x sale S4 usd=1 seq=4").await;
    assert_eq!(
        (reader.clock().await, reader.position().await),
        (json!({}), None),
        "a page alone says nothing"
    );
    reader.acknowledge(&first).await;
    // Not the own ones, not those of types that it is spared, not what came after.
    assert_eq!(reader.clock().await, json!({ "x": 3, "y": 8, "z": 5 }));
    assert_eq!(reader.position().await.as_ref(), Some(&first));
    let second = reader.pull().await;
    reader.acknowledge(&second).await;
    assert_eq!(reader.clock().await, json!({ "x": 4, "y": 8, "z": 5 }));
    // Back and forth changes nothing.
    for position in [&first, &second] {
        reader.acknowledge(position).await;
        assert_eq!(reader.position().await.as_ref(), Some(&second));
    }
}

#[tokio::test]
async fn a_position_that_is_no_place_of_this_log_acknowledges_nothing() {
    let mut reader = Reader::new().await;
    reader.shop.tell("a@7/x sale S1 usd=1 seq=3").await;
    let place = reader.pull().await;
    let later = chrono::TimeDelta::milliseconds(1);
    for (received_at, event_id) in [
        (place.received_at + later, "a"),
        (place.received_at - later, "a"),
        (place.received_at, "b"),
        (place.received_at, ""),
    ] {
        reader.acknowledge(&PullPosition { received_at, event_id: event_id.to_owned() }).await;
        assert_eq!((reader.clock().await, reader.position().await), (json!({}), None));
    }
    // Of a device that nobody knows nothing is kept.
    let given = Acknowledgement {
        store_id: reader.shop.id,
        device_id: "nobody",
        position: &place,
        without_types: &[],
    };
    reader.shop.store.acknowledge(given).await.expect("an acknowledgement");
    reader.acknowledge(&place).await;
    assert_eq!(reader.clock().await, json!({ "x": 3 }));
}

#[tokio::test]
async fn the_form_that_counts_is_what_is_acknowledged() {
    let mut reader = Reader::new().await;
    reader.shop.tell("a@7/x sale S1 usd=1 seq=3\nb@7/x sale S2 usd=1 seq=1").await;
    reader.shop.tell("a@7/w sale S1 usd=1 seq=8").await;
    let first = reader.pull().await;
    assert_eq!(first.event_id, "a", "at the arrival of its smaller form");
    reader.acknowledge(&first).await;
    assert_eq!(reader.clock().await, json!({ "w": 8, "x": 1 }));
    // What it was given, and what has moved since, is given again before it counts.
    reader.shop.tell("b@6/x sale S2 usd=1 seq=2").await;
    reader.acknowledge(&first).await;
    assert_eq!(reader.clock().await, json!({ "w": 8, "x": 1 }));
    let second = reader.pull().await;
    reader.acknowledge(&second).await;
    assert_eq!(reader.clock().await, json!({ "w": 8, "x": 2 }));
}

#[tokio::test]
async fn a_device_that_is_far_behind_comes_up_step_by_step() {
    let mut reader = Reader::new().await;
    let history: String =
        (1..=1_001).map(|n| format!("e{n:04}@1/x{} sale S1 usd=1 seq={n}\n", n % 2)).collect();
    reader.shop.tell(&history).await;
    reader.page.limit = 2_000;
    let end = reader.pull().await;
    reader.acknowledge(&end).await;
    assert_eq!(reader.clock().await, json!({ "x0": 1_000, "x1": 999 }));
    reader.acknowledge(&end).await;
    assert_eq!(reader.clock().await, json!({ "x0": 1_000, "x1": 1_001 }));
    assert_eq!(reader.position().await, Some(end));
}

#[tokio::test]
async fn a_push_is_told_what_its_till_has_acknowledged_whatever_stands_there() {
    let mut reader = Reader::new().await;
    reader.shop.tell("a@7/x sale S1 usd=1 seq=3").await;
    let place = reader.pull().await;
    reader.acknowledge(&place).await;
    let shop = &reader.shop;
    let told = async |origin: Option<&str>| {
        let of = |device: &str| {
            let history = format!("{}@9/{device} sale S2 usd=1", rand::random::<u64>());
            NewPush { from_peer: origin.map(str::to_owned), ..push(&story::events(shop.id, &history)) }
        };
        let group = [of("r"), of("x"), of("r"), NewPush::default()];
        let ingested = shop.store.ingest(&group).await.expect("an ingest");
        let clocks = ingested.pushes.into_iter().map(|push| json!(push.acknowledged));
        clocks.collect::<Vec<Value>>()
    };
    let (clock, none) = (json!({ "x": 3 }), json!({}));
    assert_eq!(told(None).await, [clock.clone(), none.clone(), clock, none.clone()]);
    assert_eq!(told(Some("peer")).await, vec![none.clone(); 4], "a node is no till");
    // A known event's push is told it too.
    let again = push(&story::events(shop.id, "a@7/r sale S1 usd=1 seq=3"));
    assert_eq!(
        json!(shop.store.ingest(&[again]).await.expect("an ingest").pushes[0].acknowledged),
        json!({ "x": 3 })
    );
    for (odd, sound) in [
        (r#"{"x": 4, "y": -1, "z": 1.5, "w": "7", "v": null, "t": {}}"#, json!({ "x": 4 })),
        (r#"{"x": 4, "y": 1e300}"#, none.clone()),
        ("[1, 2]", none.clone()),
        ("null", none.clone()),
    ] {
        shop.run(&format!("UPDATE devices SET acknowledged_clock = '{odd}'")).await;
        assert_eq!(told(None).await[0], sound, "{odd}");
        assert_eq!(reader.clock().await, sound);
    }
}

#[tokio::test]
async fn of_two_acknowledgements_at_once_the_later_one_stands_with_all_clocks() {
    let mut reader = Reader::new().await;
    reader.page.limit = 1;
    let pod = reader.shop.pod();
    for round in 0..30 {
        let mut places = Vec::new();
        for n in [2 * round, 2 * round + 1] {
            reader.shop.tell(&format!("e{n:02}@1/x{n} sale S1 usd=1 seq=1")).await;
            places.push(reader.pull().await);
        }
        let note = async |store: &velox_store::Store, position: &PullPosition| {
            let without_types = &reader.page.without_types;
            let given = Acknowledgement { store_id: reader.shop.id, device_id: "r", position, without_types };
            store.acknowledge(given).await.expect("an acknowledgement");
        };
        tokio::join!(note(&pod, &places[1]), note(&reader.shop.store, &places[0]), note(&pod, &places[0]));
        assert_eq!(reader.position().await.as_ref(), places.last());
        assert_eq!(reader.clock().await.as_object().expect("an object").len(), 2 * round + 2);
    }
}
