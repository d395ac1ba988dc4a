//! The event log is insert-only: by its trigger for everybody, by the grants for the role a node works as.

use crate::shop::Shop;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

const CHANGES: [&str; 3] = ["UPDATE {} SET version = version", "DELETE FROM {}", "TRUNCATE {}"];

/// The message with which a statement is refused.
async fn refusal(connection: &mut PgConnection, sql: &str) -> String {
    let error = connection.execute(AssertSqlSafe(sql)).await.expect_err(sql);
    let error = error.as_database_error().unwrap_or_else(|| panic!("{sql}: {error}"));
    assert_eq!(error.code().as_deref(), Some("42501"), "{sql}: {error}");
    error.message().to_owned()
}

#[tokio::test]
async fn nobody_changes_or_removes_an_event() {
    let shop = Shop::open().await;
    shop.tell("a@1 sale S1 usd=1\na@1 sale S1 usd=2").await;
    let mut owner = PgConnection::connect_with(&shop.database.options()).await.expect("a connection");
    for change in CHANGES {
        let sql = change.replace("{}", "events");
        let verb = sql.split(' ').next().expect("a verb");
        assert_eq!(refusal(&mut owner, &sql).await, format!("events is insert-only: {verb} refused"));
    }
    owner.execute("SET ROLE velox_runtime").await.expect("the role");
    for table in ["events", "event_variants"] {
        for change in CHANGES {
            let sql = change.replace("{}", table);
            assert_eq!(
                refusal(&mut owner, &sql).await,
                format!("permission denied for table {table}"),
                "{sql}"
            );
        }
    }
    let left = "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM event_variants)";
    assert_eq!(shop.value::<i64>(left).await, 2);
}

#[tokio::test]
async fn the_role_of_a_node_may_do_what_a_node_does_and_no_more() {
    let shop = Shop::open().await;
    let tables: Vec<String> = shop
        .value("SELECT array_agg(relname::text ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
                    AND relname <> '_sqlx_migrations'")
        .await;
    for table in tables {
        let kept = ["events", "event_variants"].contains(&table.as_str());
        let handed_out =
            ["fiscal_consumptions", "fiscal_counters", "fiscal_requests", "fiscal_sequence_ranges"];
        let counted = handed_out.contains(&table.as_str());
        for right in ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES"] {
            let may: bool = shop
                .value(&format!("SELECT has_table_privilege('velox_runtime', '{table}', '{right}')"))
                .await;
            let expected = match right {
                "SELECT" | "INSERT" => true,
                "UPDATE" => !kept,
                "DELETE" => !kept && !counted,
                _ => false,
            };
            assert_eq!(may, expected, "{right} on {table}");
        }
    }
    assert!(!shop.value::<bool>("SELECT has_schema_privilege('velox_runtime', 'public', 'CREATE')").await);
    let powers =
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolcanlogin OR rolreplication FROM pg_roles
                  WHERE rolname = 'velox_runtime'";
    assert!(!shop.value::<bool>(powers).await);
}

#[tokio::test]
async fn a_node_works_as_that_role_whatever_it_does() {
    let shop = Shop::open().await;
    shop.run(
        "ALTER TABLE events ADD COLUMN who text DEFAULT current_user;
         ALTER TABLE sales ADD COLUMN who text DEFAULT current_user;
         ALTER TABLE stores ADD COLUMN who text DEFAULT current_user",
    )
    .await;
    shop.register("Shop", 1).await;
    shop.tell("a@1 sale S1 usd=1").await;
    shop.project().await;
    let who = "SELECT concat_ws(' ', (SELECT who FROM stores), (SELECT string_agg(DISTINCT who, ' ') FROM events), (SELECT who FROM sales))";
    assert_eq!(shop.value::<String>(who).await, "velox_runtime velox_runtime velox_runtime");
}
