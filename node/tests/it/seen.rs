//! What a till is told that it has seen: what it has acknowledged by its pull cursor, and nothing else. Its next
//! edit then counts as one made after all of that.

use crate::support::{TestNode, Till, event, id};
use crate::wire::{ids, jwt, now_ms};
use serde_json::{Map, Value, json};

/// A shop whose till `a` sets prices, and a till that pulls.
struct Shop {
    node: TestNode,
    a: Till,
    product: String,
}

impl Shop {
    async fn new() -> Shop {
        let node = TestNode::start().await;
        let a = node.client.till().await;
        Shop { node, a, product: id() }
    }

    /// A price of this time with this clock; answers the push's answer.
    async fn price(&self, till: &Till, usd: i64, created_at: i64, clock: &Value) -> Value {
        let mut price = event("PriceChanged", json!({ "product_id": self.product, "price_usd": usd }));
        price["created_at"] = json!(created_at);
        price["vector_clock"] = clock.clone();
        let answer = self.node.client.push(till, &[price]).await;
        assert_eq!(answer["accepted"].as_array().map(Vec::len), Some(1));
        answer
    }

    /// Pulls with this query; answers the ids and what a v1 till asks with next.
    async fn pull(&self, till: &Till, query: &str) -> (Vec<String>, String) {
        let path = format!("/sync/pull?device_id={}&{query}", till.device_id);
        let answer = self.node.client.call("GET", &path, &till.token, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let page = answer.json();
        let (ms, event) = (&page["last_server_time"], page["last_server_event_id"].as_str().expect("an id"));
        (ids(&page["events"]), format!("last_checkpoint={ms}&cursor_event_id={event}"))
    }

    /// What the till is told with an empty push, but for itself.
    async fn seen(&self, till: &Till) -> Value {
        let mut clock = self.node.client.push(till, &[]).await["server_vector_clock"].clone();
        clock.as_object_mut().expect("an object").remove(&till.device_id);
        clock
    }

    /// The price, and how many versions of it stand.
    async fn stands(&self) -> (String, usize) {
        self.node.client.projected().await;
        let pool = self.node.database.pool().await;
        let (price, registers): (String, Value) =
            sqlx::query_as("SELECT trim_scale(price_usd)::text, registers FROM products")
                .fetch_one(&pool)
                .await
                .expect("the product");
        pool.close().await;
        (price, registers["stamps"].as_array().expect("stamps").len())
    }
}

fn merged(a: &Value, b: &Value) -> Value {
    let mut clock: Map<String, Value> = a.as_object().expect("an object").clone();
    for (device, counter) in b.as_object().expect("an object") {
        let mine = clock.get(device).and_then(Value::as_i64).unwrap_or(0);
        clock.insert(device.clone(), json!(mine.max(counter.as_i64().expect("a counter"))));
    }
    clock.into()
}

#[actix_web::test]
async fn an_edit_made_after_an_acknowledged_one_replaces_it_whatever_the_tills_clocks_say() {
    let shop = Shop::new().await;
    let now = now_ms();
    let told = shop.price(&shop.a, 100, now, &json!({ "a-before": 4 })).await["server_vector_clock"].clone();
    // As a v1 till: a user's token, the device by its name.
    let token = jwt(shop.a.store_id, "u", 900);
    let b = Till { store_id: shop.a.store_id, device_id: id(), token };
    let (given, at) = shop.pull(&b, "last_checkpoint=0").await;
    assert_eq!(given.len(), 1);
    let (given, _) = shop.pull(&b, &at).await;
    assert_eq!(given, Vec::<String>::new());
    // Its first edit knows of nothing; by the answer it learns what it has seen.
    let own = json!({ &b.device_id: 1 });
    let answer = shop.price(&b, 200, now - 60_000, &own).await;
    assert_eq!(shop.stands().await, ("100".to_owned(), 2));
    let mut expected = merged(&told, &json!({}));
    expected[&b.device_id] = answer["accepted"][0]["seq"].clone();
    assert_eq!(answer["server_vector_clock"], expected);
    let clock = merged(&own, &answer["server_vector_clock"]);
    shop.price(&b, 300, now - 50_000, &clock).await;
    assert_eq!(shop.stands().await, ("300".to_owned(), 1));
    shop.node.stop().await;
}

#[actix_web::test]
async fn a_till_that_was_given_a_page_and_says_nothing_of_it_is_told_nothing_of_it() {
    let shop = Shop::new().await;
    let b = shop.node.client.till_of(shop.a.store_id).await;
    let now = now_ms();
    shop.price(&shop.a, 100, now, &json!({})).await;
    let beginning = "last_checkpoint=0&cursor_event_id=";
    // A cursor has the store's declaration before it.
    for (query, given) in [(beginning, 1), (beginning, 1), ("cursor=", 2), ("cursor=&limit=2", 2)] {
        assert_eq!(shop.pull(&b, query).await.0.len(), given, "{query}");
        assert_eq!(shop.seen(&b).await, json!({}), "{query}");
    }
    let answer = shop.price(&b, 200, now - 60_000, &json!({})).await;
    let clock = answer["server_vector_clock"].as_object().expect("an object");
    assert_eq!(clock.keys().collect::<Vec<_>>(), [&b.device_id]);
    shop.price(&b, 300, now - 50_000, &answer["server_vector_clock"]).await;
    assert_eq!(shop.stands().await, ("100".to_owned(), 2));
    // Nor of what another till has acknowledged.
    let c = shop.node.client.till_of(shop.a.store_id).await;
    let (_, at) = shop.pull(&c, beginning).await;
    shop.pull(&c, &at).await;
    assert_ne!(shop.seen(&c).await, json!({}));
    assert_eq!(shop.seen(&b).await, json!({}));
    shop.node.stop().await;
}

#[actix_web::test]
async fn page_by_page_a_till_is_told_of_what_it_has_acknowledged() {
    let shop = Shop::new().await;
    let client = &shop.node.client;
    let (v1, native) = (client.till_of(shop.a.store_id).await, client.till_of(shop.a.store_id).await);
    let mut seqs = Vec::new();
    for name in ["CustomerCreated", "StockQuotaGranted", "CustomerCreated"] {
        let mut sent = event(name, json!({ "customer_id": id() }));
        sent["vector_clock"] = json!({ name: sent["seq"] });
        seqs.push(sent["seq"].clone());
        client.push(&shop.a, &[sent]).await;
    }
    let a = shop.a.device_id.as_str();
    // v1's till is spared the second; a cursor has it.
    let (given, at) = shop.pull(&v1, "last_checkpoint=0&limit=1").await;
    assert_eq!(given.len(), 1);
    let (_, end) = shop.pull(&v1, &format!("{at}&limit=1")).await;
    let first = json!({ a: seqs[0], "CustomerCreated": seqs[0] });
    assert_eq!(shop.seen(&v1).await, first);
    shop.pull(&v1, &end).await;
    let both = json!({ a: seqs[2], "CustomerCreated": seqs[2] });
    assert_eq!(shop.seen(&v1).await, both);
    // Asking for something older again takes nothing back.
    shop.pull(&v1, &at).await;
    assert_eq!(shop.seen(&v1).await, both);
    let mut cursor = String::new();
    let mut page = async || {
        let path = format!("/sync/pull?limit=1&cursor={cursor}");
        let page = client.call("GET", &path, &native.token, None).await.json();
        page["next_cursor"].as_str().expect("a cursor").clone_into(&mut cursor);
        page["events"][0].clone()
    };
    // First of all the node's own: that it is the store's home.
    let declared = page().await;
    assert_eq!((&declared["type"], shop.seen(&native).await), (&json!("StoreDeclared"), json!({})));
    let declared = &declared["vector_clock"];
    for expected in [
        json!({}),
        first,
        json!({ a: seqs[1], "CustomerCreated": seqs[0], "StockQuotaGranted": seqs[1] }),
        json!({ a: seqs[2], "CustomerCreated": seqs[2], "StockQuotaGranted": seqs[1] }),
    ] {
        page().await;
        assert_eq!(shop.seen(&native).await, merged(&expected, declared));
    }
    shop.node.stop().await;
}

#[actix_web::test]
async fn a_checkpoint_of_another_node_acknowledges_nothing() {
    let shop = Shop::new().await;
    let b = shop.node.client.till_of(shop.a.store_id).await;
    shop.price(&shop.a, 100, now_ms(), &json!({})).await;
    let ahead = format!("last_checkpoint={}&cursor_event_id={}", now_ms() + 86_400_000, id());
    // The first gives the page; that the till has it is not said by asking with a foreign position again.
    for given in [1, 0, 0] {
        assert_eq!(shop.pull(&b, &ahead).await.0.len(), given);
        assert_eq!(shop.seen(&b).await, json!({}));
    }
    // One behind what was delivered is foreign too, if no event stands there.
    let behind = format!("last_checkpoint={}&cursor_event_id={}", now_ms() - 1_000, id());
    let (given, at) = shop.pull(&b, &behind).await;
    assert_eq!((given.len(), shop.seen(&b).await), (1, json!({})));
    shop.pull(&b, &at).await;
    assert_ne!(shop.seen(&b).await, json!({}));
    shop.node.stop().await;
}
