use std::{num::NonZeroU32, sync::Arc};

use actix_web::{
    App,
    http::{StatusCode, header},
    test::{self, TestRequest},
    web::Data,
};
use chrono::{DateTime, Utc};
use serde_json::Value;
use velox_protocol::time::Clock;
use velox_store::{Actor, MIGRATOR, NodeStamp, testing::TestDatabase};

use super::*;
use crate::{
    config::Secret,
    http::{
        auth::{Auth, Credentials, token_hash},
        error::defaults,
        rate_limit::RateLimit,
    },
};

const LISTS: [&str; 8] =
    ["sales", "debts", "products", "customers", "cash-sessions", "cash-ledger", "stock", "stock-movements"];
const OWN: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const UNKNOWN: Uuid = Uuid::from_u128(3);
const WRONG: &str = "a-credential-of-nobody";
const ADMIN: &str = "the-admin-key-that-is-long-enough-for-anyone";
const TOKEN: &str = "vxd_a-till-of-the-own-store";

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }
}

/// A node's reads on a database with two stores, of which one has a device.
struct Reads {
    store: Store,
    auth: Data<Auth>,
    _database: TestDatabase,
}

impl Reads {
    async fn start() -> Self {
        let database = TestDatabase::create(&MIGRATOR).await;
        let store = Store::new(database.options(), 8);
        store.node_id(None, "node-a").await.unwrap();
        for store_id in [OWN, OTHER] {
            let stamp = NodeStamp {
                event_id: store_id,
                now: Fixed.now(),
                actor: Actor { user_id: "admin".to_owned(), role: "admin".to_owned() },
                trace_parent: None,
            };
            store.create_store(store_id, "Shop", &stamp).await.unwrap();
        }
        store.set_device_token(OWN, "till-1", &token_hash(TOKEN)).await.unwrap();
        let credentials = Credentials { admin_key: Some(Secret::new(ADMIN)), ..Default::default() };
        let limit = RateLimit::new(NonZeroU32::MAX, NonZeroU32::MAX);
        let auth = Data::new(Auth::new(&credentials, store.clone(), limit, Arc::new(Fixed)));
        Self { store, auth, _database: database }
    }

    async fn get(&self, bearer: Option<&str>, path: &str) -> (StatusCode, Value) {
        let app = App::new()
            .configure(defaults)
            .app_data(self.auth.clone())
            .app_data(Data::new(self.store.clone()))
            .configure(configure);
        let app = test::init_service(app).await;
        let mut request = TestRequest::get().uri(path);
        if let Some(bearer) = bearer {
            request = request.insert_header((header::AUTHORIZATION, format!("Bearer {bearer}")));
        }
        let answer = test::call_service(&app, request.to_request()).await;
        let status = answer.status();
        (status, serde_json::from_slice(&test::read_body(answer).await).unwrap_or_default())
    }

    async fn status(&self, bearer: Option<&str>, path: &str) -> u16 {
        self.get(bearer, path).await.0.as_u16()
    }
}

#[actix_web::test]
async fn who_may_read_what() {
    let reads = Reads::start().await;
    let things = ["sales/00000000-0000-0000-0000-000000000009", "debts/00000000-0000-0000-0000-000000000009"];
    for (path, found) in LISTS.map(|list| (list, 200)).into_iter().chain(things.map(|thing| (thing, 404))) {
        let of = |store: Uuid| format!("/stores/{store}/{path}");
        assert_eq!(reads.status(None, &of(OWN)).await, 401, "{path}");
        assert_eq!(reads.status(Some(WRONG), &of(OWN)).await, 401, "{path}");
        assert_eq!(reads.status(Some(TOKEN), &of(OWN)).await, found, "{path}");
        // Another store and none are told apart by the admin alone.
        assert_eq!(reads.status(Some(TOKEN), &of(OTHER)).await, 403, "{path}");
        assert_eq!(reads.status(Some(TOKEN), &of(UNKNOWN)).await, 403, "{path}");
        assert_eq!(reads.status(Some(ADMIN), &of(OTHER)).await, found, "{path}");
        assert_eq!(reads.status(Some(ADMIN), &of(UNKNOWN)).await, 404, "{path}");
    }
}

#[actix_web::test]
async fn an_empty_list() {
    let reads = Reads::start().await;
    for list in LISTS {
        let (_, body) = reads.get(Some(TOKEN), &format!("/stores/{OWN}/{list}?limit=1&unknown=x")).await;
        assert_eq!(body, serde_json::json!({"items": [], "next_cursor": null}), "{list}");
    }
}

#[actix_web::test]
async fn bad_questions_are_400_to_those_who_may_ask() {
    let reads = Reads::start().await;
    for list in LISTS {
        for query in
            ["limit=0", "limit=-1", "limit=1001", "limit=", "limit=x", "limit=1&limit=2", "cursor=garbage"]
        {
            let path = format!("/stores/{OWN}/{list}?{query}");
            let (status, body) = reads.get(Some(TOKEN), &path).await;
            assert_eq!((status.as_u16(), body["status"].as_u64()), (400, Some(400)), "{path}");
            assert_eq!(reads.status(None, &path).await, 401, "{path}");
        }
    }
    for path in [
        "sales?from=yesterday",
        "sales?to=2026-02-30",
        "sales?status=paid",
        "sales?customer_id=7",
        "sales?device_id=a%00b",
        "debts?status=open",
        "debts?customer_id=%7B00000000-0000-0000-0000-000000000001%7D",
        "products?active=yes",
        "products?q=%00",
        "customers?q=a%00",
        "cash-sessions?status=voided",
        "cash-ledger?session_id=",
        "stock?negative=1",
        "stock?product_id=x",
        "stock-movements?from=2026-01-01T00:00:00",
    ] {
        assert_eq!(reads.status(Some(TOKEN), &format!("/stores/{OWN}/{path}")).await, 400, "{path}");
    }
}

#[actix_web::test]
async fn paths_that_lead_nowhere_are_404() {
    let reads = Reads::start().await;
    let braced = format!("/stores/%7B{OWN}%7D/sales");
    let odd = format!("/stores/{OWN}/sales/7");
    let unknown = format!("/stores/{OWN}/secrets");
    for path in ["/stores/x/sales", &braced, &odd, &unknown] {
        let (status, body) = reads.get(Some(TOKEN), path).await;
        assert_eq!((status.as_u16(), body["status"].as_u64()), (404, Some(404)), "{path}");
    }
    assert_eq!(reads.status(None, &unknown).await, 404);
}
