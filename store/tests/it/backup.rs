//! Backups and what is restored from them, with the real programs.

use crate::shop::{CONNECTIONS, Shop};
use sqlx::{AssertSqlSafe, PgPool};
use std::path::{Path, PathBuf};
use uuid::Uuid;
use velox_store::backup::{self, BackupError, Restored};
use velox_store::testing::TestDatabase;
use velox_store::{NodeStamp, Store};

/// A backup in a directory of its own.
async fn backed_up(shop: &Shop) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("shop.dump");
    let made = backup::backup(&shop.database.options(), None, &out).await.expect("a backup");
    assert_eq!(
        (made.path.as_path(), made.bytes),
        (out.as_path(), std::fs::metadata(&out).expect("a file").len())
    );
    (dir, out)
}

async fn restored(from: &Path) -> (TestDatabase, Store, Restored) {
    let database = TestDatabase::create_empty().await;
    let store = Store::new(database.options(), CONNECTIONS);
    let restored =
        backup::restore(&store, &database.options(), None, from).await.expect("a restored database");
    (database, store, restored)
}

/// The rows of a query as one text.
async fn text(pool: &PgPool, query: &str) -> String {
    let sql = format!("SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') FROM ({query}) t");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await.expect("rows")
}

const RIGHTS: &str = "SELECT c.relname, c.relkind, (SELECT string_agg(a::text, ' ' ORDER BY a::text)
        FROM unnest(c.relacl) a WHERE a::text LIKE 'velox_runtime=%') AS rights,
        (SELECT string_agg(t.attname || ' ' || t.attacl::text, ' ' ORDER BY t.attname) FROM pg_attribute t
         WHERE t.attrelid = c.oid AND t.attacl IS NOT NULL) AS of_columns
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'S')";

#[tokio::test]
async fn what_is_restored_is_the_same_with_the_same_rights_and_another_incarnation() {
    let shop = Shop::open().await;
    shop.register("Bodega", 1_000).await;
    shop.tell("a@5 sale S1 fiao=C1 usd=10 bs=365 P1x2 P2x1").await;
    let (_dir, out) = backed_up(&shop).await;
    let (database, store, found) = restored(&out).await;
    let events: i64 = shop.value("SELECT count(*) FROM events").await;
    assert_eq!(found, Restored { node_id: "node".to_owned(), stores: 1, events });
    let pool = database.pool().await;
    for what in [
        RIGHTS,
        "TABLE events",
        "TABLE outbox_entries",
        "TABLE links",
        "TABLE stores",
        "TABLE _sqlx_migrations",
    ] {
        assert_eq!(text(&pool, what).await, text(&shop.pool, what).await, "{what}");
    }
    let (before, after) =
        (shop.store.identity().await.expect("one"), store.identity().await.expect("another"));
    assert_eq!(before.node_id, after.node_id);
    assert_ne!(before.incarnation, after.incarnation);
    assert!(before.restored_at.is_none() && after.restored_at.is_some());
    assert!(!store.notice_restore().await.expect("a look"), "it is known for what it is");
    store.close().await;
}

#[tokio::test]
async fn the_node_writes_as_another_device_after_a_restore() {
    let shop = Shop::open().await;
    shop.register("Bodega", 1_000).await;
    let (_dir, out) = backed_up(&shop).await;
    let (database, store, _) = restored(&out).await;
    let stamp = NodeStamp {
        event_id: Uuid::from_u128(7),
        now: chrono::DateTime::from_timestamp_millis(2_000).expect("a time"),
        actor: velox_store::Actor { user_id: "admin".to_owned(), role: "admin".to_owned() },
        trace_parent: None,
    };
    store.create_store(Uuid::from_u128(0x2), "Otra", &stamp).await.expect("a store");
    let pool = database.pool().await;
    let mut devices: Vec<String> = sqlx::query_scalar("SELECT DISTINCT device_id FROM node_sequences")
        .fetch_all(&pool)
        .await
        .expect("devices");
    devices.sort();
    devices.dedup();
    assert_eq!(devices.len(), 2, "one of before and one of now");
    store.close().await;
}

#[tokio::test]
async fn a_database_that_was_copied_otherwise_is_noticed_once() {
    let shop = Shop::open().await;
    shop.register("Bodega", 1_000).await;
    assert!(!shop.store.notice_restore().await.expect("a look"), "the first look takes it as it is");
    let before = shop.store.identity().await.expect("an identity");
    assert!(!shop.store.notice_restore().await.expect("a look"));
    // Whatever tool has copied it: another server, timeline or database.
    sqlx::query("UPDATE node_identity SET database_id = '1.1.1'")
        .execute(&shop.pool)
        .await
        .expect("an update");
    sqlx::query(
        "INSERT INTO leases (name, holder, token, expires_at) VALUES ('l', 'of before', 7, now() + interval '1 h')",
    )
    .execute(&shop.pool)
    .await
    .expect("a lease");
    let other = shop.pod();
    let looks = tokio::join!(shop.store.notice_restore(), other.notice_restore());
    let told = [looks.0.expect("a look"), looks.1.expect("a look")];
    assert_eq!(told.iter().filter(|told| **told).count(), 1, "of two pods one does it");
    assert_ne!(shop.store.identity().await.expect("an identity").incarnation, before.incarnation);
    let lease: (Option<String>, i64) =
        sqlx::query_as("SELECT holder, token FROM leases").fetch_one(&shop.pool).await.expect("a lease");
    assert_eq!(lease, (None, 8), "nobody of before holds anything");
    assert!(!shop.store.notice_restore().await.expect("a look"));
}

#[tokio::test]
async fn a_backup_is_for_its_owner_alone_and_never_written_over() {
    use std::os::unix::fs::PermissionsExt as _;
    let shop = Shop::open().await;
    shop.register("Bodega", 1_000).await;
    let (dir, out) = backed_up(&shop).await;
    let mode = std::fs::metadata(&out).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(&out).expect("a file");
    let again = backup::backup(&shop.database.options(), None, &out).await;
    assert!(matches!(again, Err(BackupError::Exists(_))), "{again:?}");
    assert_eq!(std::fs::read(&out).expect("a file"), before);
    assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 1, "nothing else is left");
}

#[tokio::test]
async fn what_cannot_be_a_backup_is_refused_and_leaves_no_file() {
    let empty = TestDatabase::create_empty().await;
    let dir = tempfile::tempdir().expect("a directory");
    let refused = backup::backup(&empty.options(), None, &dir.path().join("a.dump")).await;
    assert!(matches!(refused, Err(BackupError::NoBackup(_))), "of no node: {refused:?}");
    let refused = backup::backup(&empty.options(), Some(dir.path()), &dir.path().join("a.dump")).await;
    assert!(matches!(refused, Err(BackupError::NoPrograms { .. })), "{refused:?}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
}

#[tokio::test]
async fn nothing_is_restored_over_anything_nor_from_something_else() {
    let shop = Shop::open().await;
    shop.register("Bodega", 1_000).await;
    let (dir, out) = backed_up(&shop).await;
    let here = shop.database.options();
    let refused = backup::restore(&shop.store, &here, None, &out).await;
    assert!(matches!(refused, Err(BackupError::NotEmpty { .. })), "{refused:?}");
    let empty = TestDatabase::create_empty().await;
    let store = Store::new(empty.options(), CONNECTIONS);
    let cut = dir.path().join("cut.dump");
    let whole = std::fs::read(&out).expect("a file");
    for (what, bytes) in [("a text", b"hello".as_slice()), ("nothing", b""), ("the head", &whole[..5])] {
        std::fs::write(&cut, bytes).expect("a file");
        let refused = backup::restore(&store, &empty.options(), None, &cut).await;
        assert!(
            matches!(refused, Err(BackupError::NoBackup(_) | BackupError::Failed { .. })),
            "{what}: {refused:?}"
        );
    }
    // The table of contents stands before the data.
    std::fs::write(&cut, &whole[..whole.len() - whole.len() / 4]).expect("a file");
    let refused = backup::restore(&store, &empty.options(), None, &cut).await;
    assert!(matches!(refused, Err(BackupError::Failed { .. })), "{refused:?}");
    let found = backup::restore(&store, &empty.options(), None, &out).await;
    found.expect("it was left empty, so that the whole one can be restored");
    store.close().await;
}
