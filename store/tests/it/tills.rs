//! Who is who: the node, its shops, their tills.

use crate::shop::Shop;
use velox_store::{Error, PullPosition};

#[tokio::test]
async fn a_database_belongs_to_one_node() {
    let shop = Shop::open().await;
    assert_eq!(shop.store.node_id(None, "fresh").await.expect("an id"), "fresh");
    let other = shop.pod();
    assert_eq!(
        other.node_id(None, "other").await.expect("an id"),
        "fresh",
        "kept over starts, shared by pods"
    );
    assert_eq!(other.node_id(Some("fresh"), "other").await.expect("an id"), "fresh");
    let error = other.node_id(Some("another"), "other").await.expect_err("a refusal");
    assert!(
        matches!(&error, Error::Configuration(text) if text.contains("another") && text.contains("fresh")),
        "{error}"
    );
}

#[tokio::test]
async fn a_device_has_one_token_at_a_time() {
    let shop = Shop::open().await;
    let by = async |hash: &[u8; 32]| shop.store.device_by_token(hash).await.expect("an answer");
    assert!(
        !shop.store.set_device_token(shop.id, "till", &[1; 32]).await.expect("an answer"),
        "unknown store"
    );
    shop.register("Shop", 1).await;
    assert!(shop.store.set_device_token(shop.id, "till", &[1; 32]).await.expect("an answer"));
    let till = Some((shop.id, "till".to_owned()));
    assert_eq!(by(&[1; 32]).await, till);
    assert!(shop.store.set_device_token(shop.id, "till", &[2; 32]).await.expect("an answer"));
    assert_eq!((by(&[1; 32]).await, by(&[2; 32]).await), (None, till.clone()));
    shop.store.register_device(shop.id, "till").await.expect("a registration");
    assert_eq!(by(&[2; 32]).await, till, "a registration leaves it alone");
    assert!(shop.store.revoke_device(shop.id, "till").await.expect("an answer"));
    assert_eq!(by(&[2; 32]).await, None);
    assert!(!shop.store.revoke_device(shop.id, "nobody").await.expect("an answer"));
    assert!(shop.store.set_device_token(shop.id, "till", &[3; 32]).await.expect("an answer"));
    assert_eq!(by(&[3; 32]).await, till);
    let error =
        shop.store.set_device_token(shop.id, "other", &[3; 32]).await.expect_err("a token is one device's");
    assert!(matches!(error, Error::Data(_)), "{error:?}");
}

#[tokio::test]
async fn a_device_is_listed_with_when_it_was_last_heard() {
    let shop = Shop::open().await;
    shop.register("Shop", 1).await;
    for device in ["b", "a"] {
        shop.store.register_device(shop.id, device).await.expect("a registration");
    }
    shop.tell("e@1/a sale S1 usd=1 seq=1").await;
    let devices = shop.store.devices(Some(shop.id)).await.expect("devices");
    let heard: Vec<_> = devices.iter().map(|d| (d.device_id.as_str(), d.last_seen_at.is_some())).collect();
    assert_eq!(heard, [("a", true), ("b", false)]);
    assert_eq!(shop.store.devices(None).await.expect("devices"), devices);
    assert_eq!(shop.store.devices(Some(uuid::Uuid::nil())).await.expect("devices"), []);
}

#[tokio::test]
async fn a_device_position_is_remembered() {
    let shop = Shop::open().await;
    shop.register("Shop", 1).await;
    shop.store.register_device(shop.id, "till").await.expect("a registration");
    let position =
        async |device: &str| shop.store.pull_positions(shop.id, device).await.expect("an answer").delivered;
    assert_eq!(position("till").await, None);
    let at = PullPosition {
        received_at: chrono::DateTime::from_timestamp_millis(1_763_950_000_123).expect("a time"),
        event_id: "é".to_owned(),
    };
    shop.store.set_pull_position(shop.id, "till", &at).await.expect("an update");
    assert_eq!(position("till").await, Some(at));
    assert_eq!(position("nobody").await, None);
}
