//! The databases of tests.
#![cfg(feature = "testing")]

use sqlx::migrate::Migrator;
use velox_store::testing::TestDatabase;

#[tokio::test]
async fn each_test_has_a_migrated_database_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("0001_make_a.sql"), "CREATE TABLE a (n int)").unwrap();
    let migrator = Migrator::new(dir.path()).await.unwrap();

    let (one, other) = tokio::join!(TestDatabase::create(&migrator), TestDatabase::create(&migrator));
    let pool = one.pool().await;
    sqlx::query("INSERT INTO a VALUES (1)").execute(&pool).await.unwrap();
    let count = "SELECT count(*) FROM a";
    let elsewhere: i64 = sqlx::query_scalar(count).fetch_one(&other.pool().await).await.unwrap();
    assert_eq!(elsewhere, 0);

    // With its pool still open, and by both ways.
    let (one_options, other_options) = (one.options(), other.options());
    one.close().await;
    drop(other);
    for options in [one_options, other_options] {
        let error = sqlx::PgPool::connect_with(options).await.unwrap_err();
        assert_eq!(error.as_database_error().and_then(|error| error.code()).as_deref(), Some("3D000"));
    }
}
