//! Notifications: of one thing at most once an hour, listed by time, marked as read once.

use crate::shop::Shop;
use serde_json::json;
use uuid::Uuid;
use velox_store::{Listed as _, NewNotification, PageRequest};

fn of(kind: &'static str, subject: &str) -> NewNotification {
    NewNotification {
        kind,
        subject: subject.to_owned(),
        title: "Título".to_owned(),
        body: "It's \"so\"".to_owned(),
        data: json!({ "n": 1.5 }),
    }
}

#[tokio::test]
async fn one_thing_is_told_once_an_hour_whichever_pod_meets_it() {
    let shop = Shop::open().await;
    let pod = shop.pod();
    let raise = async |store: &velox_store::Store, kind: &'static str, subject: &str| {
        store.raise_notification(shop.id, &of(kind, subject)).await.expect("a notification")
    };
    for n in 0..20 {
        let subject = format!("s{n}");
        let told = tokio::join!(
            raise(&shop.store, "A", &subject),
            raise(&pod, "A", &subject),
            raise(&shop.store, "A", &subject),
            raise(&pod, "A", &subject)
        );
        let told = [told.0, told.1, told.2, told.3];
        assert_eq!(told.iter().filter(|told| **told).count(), 1, "{told:?}");
    }
    assert!(raise(&pod, "B", "s0").await, "another kind");
    let elsewhere = shop.store.raise_notification(Uuid::from_u128(1), &of("A", "s0")).await;
    assert!(elsewhere.expect("a notification"), "another shop");
    assert!(!raise(&pod, "B", "s0").await);
    shop.run("UPDATE notifications SET created_at = created_at - interval '59 min', read_at = now()").await;
    assert!(!raise(&shop.store, "B", "s0").await, "read or not");
    shop.run("UPDATE notifications SET created_at = created_at - interval '1 min'").await;
    assert!(raise(&shop.store, "B", "s0").await);
    assert_eq!(shop.value::<i64>("SELECT count(*) FROM notifications").await, 23);
}

#[tokio::test]
async fn they_are_listed_by_time_and_marked_as_read_once() {
    let shop = Shop::open().await;
    for (store_id, subject) in [(shop.id, "c"), (shop.id, "a"), (shop.id, "b"), (Uuid::from_u128(1), "x")] {
        shop.store.raise_notification(store_id, &of("A", subject)).await.expect("a notification");
    }
    // Two at one time: their ids decide.
    shop.run(
        "UPDATE notifications SET created_at = '2026-01-02' WHERE subject IN ('a', 'b');
              UPDATE notifications SET id = md5(subject)::uuid;
              UPDATE notifications SET created_at = '2026-01-01' WHERE subject = 'c'",
    )
    .await;
    let id = async |subject: &str| -> Uuid {
        shop.value(&format!("SELECT id FROM notifications WHERE subject = '{subject}'")).await
    };
    let (a, b, c) = (id("a").await, id("b").await, id("c").await);
    let expected = [c, a.min(b), a.max(b)];
    let list = async |unread: Option<bool>, limit: u32| {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = shop.store.read_notifications(shop.id, unread, PageRequest { after, limit }).await;
            let page = page.expect("a page");
            seen.extend(page.items.iter().map(|row| row.id));
            after = page.items.last().map(|row| row.key());
            if !page.has_more {
                return seen;
            }
        }
    };
    for limit in 1..=4 {
        assert_eq!(list(None, limit).await, expected);
    }
    let read = shop.store.mark_notification_read(shop.id, a).await.expect("an answer").expect("a row");
    let text = serde_json::to_string(&read).expect("JSON");
    let fields = r#""type":"A","title":"Título","body":"It's \"so\"","data":{"n":1.5},"created_at":"2026-01-02T00:00:00.000Z""#;
    assert!(text.contains(fields) && text.contains(r#""read_at":"20"#), "{text}");
    let again = shop.store.mark_notification_read(shop.id, a).await.expect("an answer").expect("a row");
    assert_eq!(again.read_at, read.read_at, "the first time counts");
    assert_eq!(list(Some(true), 1).await, [c, b]);
    assert_eq!(list(Some(false), 1).await, [a]);
    for (store_id, id) in [(shop.id, Uuid::nil()), (Uuid::from_u128(1), b)] {
        assert!(shop.store.mark_notification_read(store_id, id).await.expect("an answer").is_none());
    }
}
