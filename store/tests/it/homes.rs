//! Whose a store and a fiscal series is: declared by events, of which the smallest stands.

use crate::shop::Shop;
use serde_json::json;
use uuid::Uuid;
use velox_protocol::home;
use velox_store::{FiscalSeriesRow, node_device_id};

const DECLARED: &str = "SELECT count(*) FROM events WHERE type = 'StoreDeclared'";

async fn home(shop: &Shop) -> Option<String> {
    let stores = shop.store.stores().await.expect("stores");
    stores.into_iter().find(|store| store.store_id == shop.id).and_then(|store| store.home_node)
}

#[tokio::test]
async fn a_store_is_made_once_and_renamed_after() {
    let shop = Shop::open().await;
    assert!(!shop.store.store_exists(shop.id).await.expect("an answer"));
    let made = shop.register("Shop", 1).await;
    assert!(made.created);
    let renamed = shop.register("Tienda", 2).await;
    assert!(!renamed.created);
    assert_eq!((renamed.store.name.as_str(), renamed.store.home_node.as_deref()), ("Tienda", Some("node")));
    assert_eq!(shop.store.stores().await.expect("stores"), [renamed.store]);
    assert!(shop.store.store_exists(shop.id).await.expect("an answer"));
}

#[tokio::test]
async fn the_node_that_makes_a_store_declares_itself_its_home_once() {
    let shop = Shop::open().await;
    assert_eq!(shop.register("Bodega", 7).await.store.home_node.as_deref(), Some("node"), "at once");
    let row: serde_json::Value = shop
        .value(
            "SELECT json_build_object('type', type, 'device', device_id, 'seq', seq, 'ms', (extract(epoch FROM created_at) * 1000)::int,
                 'payload', payload, 'clock', vector_clock, 'by', actor_user_id, 'queued', (SELECT count(*) FROM outbox_entries),
                 'stands', (SELECT s.declared_by = e.event_id FROM stores s)) FROM events e",
        )
        .await;
    let incarnation: Uuid = shop.value("SELECT incarnation FROM node_identity").await;
    let device = node_device_id(shop.id, "node", incarnation).to_string();
    let expected = json!({
        "type": "StoreDeclared", "device": device, "seq": 1, "ms": 7, "by": "admin",
        "payload": { "home_node": "node", "name": "Bodega" }, "clock": { device: 1 },
        "queued": 0, "stands": true,
    });
    assert_eq!(row, expected);
    for ms in 8..12 {
        shop.register("Bodega", ms).await;
    }
    assert_eq!(shop.value::<i64>(DECLARED).await, 1);
    assert_eq!(shop.store.verify(None).await.expect("a verification"), []);
    assert_eq!(shop.store.rebuild(shop.id).await.expect("a rebuild").differences, 0);
}

#[tokio::test]
async fn of_those_who_make_a_store_at_once_one_declares_it() {
    let shop = Shop::open().await;
    shop.store.node_id(None, "node").await.expect("a node");
    let made = futures_util::future::join_all((0..8).map(|ms| shop.register("Bodega", ms))).await;
    assert_eq!(made.iter().filter(|made| made.created).count(), 1);
    assert!(made.iter().all(|made| made.store.home_node.as_deref() == Some("node")), "{made:?}");
    assert_eq!(shop.value::<i64>(DECLARED).await, 1);
}

#[tokio::test]
async fn a_known_store_that_nobody_has_declared_is_declared_by_who_meets_it() {
    let shop = Shop::open().await;
    shop.run(&format!("INSERT INTO stores (store_id, name) VALUES ('{}', 'of v1')", shop.id)).await;
    assert_eq!(home(&shop).await, None);
    let met = shop.register("Bodega", 1).await;
    assert_eq!((met.created, met.store.home_node.as_deref()), (false, Some("node")));
    assert_eq!(shop.value::<i64>(DECLARED).await, 1);
}

#[tokio::test]
async fn what_another_node_has_declared_is_left_to_it_also_before_it_is_projected() {
    let shop = Shop::open().await;
    shop.tell("a@5/north declare - home_node=north at=W1 name=Norte").await;
    let made = shop.register("Bodega", 1).await;
    assert_eq!((made.created, made.store.home_node.as_deref()), (true, None), "it is on its way");
    shop.project().await;
    let met = shop.register("Bodega", 2).await;
    assert_eq!((met.created, met.store.home_node.as_deref()), (false, Some("north")));
    assert_eq!(shop.value::<i64>(DECLARED).await, 1);
    shop.check("store by a home_node=north default_warehouse_id=W1").await;
}

#[tokio::test]
async fn a_store_that_is_met_by_its_declaration_is_known_by_the_declared_name() {
    let shop = Shop::open().await;
    let name = || shop.value::<String>("SELECT name FROM stores");
    shop.tell("a@5 declare - home_node=south name=Sur").await;
    shop.project().await;
    assert_eq!(name().await, "Sur");
    assert!(shop.store.store_exists(shop.id).await.expect("an answer"));
    // Whatever is declared later: a name that people see does not change by itself.
    shop.day("z@2 declare - home_node=north name=Norte", "store by z home_node=north\na absorbed by z").await;
    assert_eq!((name().await.as_str(), home(&shop).await.as_deref()), ("Sur", Some("north")));
    let other = Shop::open().await;
    other.tell("a@5 declare - home_node=south").await;
    other.project().await;
    assert_eq!(
        other.value::<String>("SELECT name FROM stores").await,
        other.id.to_string(),
        "one without a name"
    );
}

#[tokio::test]
async fn an_earlier_declaration_takes_the_home_from_the_node_that_declared_it_here() {
    let shop = Shop::open().await;
    shop.register("Bodega", 9).await;
    shop.tell("z@2/north declare - home_node=north").await;
    shop.project().await;
    assert_eq!(home(&shop).await.as_deref(), Some("north"));
    let absorbed: String = shop
        .value(
            "SELECT concat_ws(' ', e.type, x.status, x.reason, a.strategy, a.entity_type)
             FROM events e JOIN event_exceptions x USING (store_id, event_id)
             JOIN conflict_audit_log a ON a.loser_event_ids = ARRAY[e.event_id::text]",
        )
        .await;
    assert_eq!(absorbed, "StoreDeclared absorbed z awset store");
    assert_eq!(shop.store.verify(None).await.expect("a verification"), []);
}

#[tokio::test]
async fn a_store_without_a_declaration_any_more_stays_and_has_no_home() {
    let shop = Shop::open().await;
    // The second form is smaller: its type comes first.
    shop.tell("a@5 declare - home_node=south at=W1\nf@5 series F1 next_number=1").await;
    shop.project().await;
    shop.tell("a@5 sale S1 usd=1\nf@5 debt D1 usd=1").await;
    shop.project().await;
    shop.check("sale S1 by a\ndebt D1 USD 1 left 1 pending by f").await;
    let left =
        "SELECT count(*) FROM stores WHERE num_nonnulls(home_node, default_warehouse_id, declared_by) = 0";
    assert_eq!(shop.value::<i64>(left).await, 1);
}

#[tokio::test]
async fn series_are_listed_with_the_owner_that_was_declared() {
    let shop = Shop::open().await;
    shop.register("Bodega", 1).await;
    shop.tell(
        "a@5 series F1 name=Caja prefix=A- next_number=7\nb@6 series F1 next_number=1
         c@7 series F2 next_number=100 owner_node=south",
    )
    .await;
    shop.project().await;
    let row = |name: &str, text: Option<(&str, &str)>, next_number, owner: Option<&str>| FiscalSeriesRow {
        store_id: shop.id,
        series_id: shop.named(name),
        name: text.map(|text| text.0.to_owned()),
        prefix: text.map(|text| text.1.to_owned()),
        next_number,
        owner_node: owner.map(str::to_owned),
    };
    let mut expected = [row("F1", Some(("Caja", "A-")), 7, None), row("F2", None, 100, Some("south"))];
    expected.sort_by_key(|row| row.series_id);
    let listed = shop.store.fiscal_series(Some(shop.id)).await.expect("series");
    assert_eq!(listed, expected);
    assert_eq!(shop.store.fiscal_series(None).await.expect("series"), expected);
    assert_eq!(shop.store.fiscal_series(Some(Uuid::nil())).await.expect("series"), []);
    let store_home = home(&shop).await;
    let owners = listed.iter().map(|row| home::owner(row.owner_node.as_deref(), store_home.as_deref()));
    let mut owners: Vec<_> = owners.flatten().collect();
    owners.sort_unstable();
    assert_eq!(owners, ["node", "south"]);
}
