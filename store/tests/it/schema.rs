//! The migrations: applied from nothing they make the recorded schema, which holds what others read.
//!
//! After a new migration: `VELOX_RECORD_SCHEMA=1 ./dev test -p velox-store schema`, and read the difference.

use crate::shop::{CONNECTIONS, Shop};
use sqlx::migrate::Migrator;
use std::path::{Path, PathBuf};
use velox_store::testing::TestDatabase;
use velox_store::{Error, MIGRATOR, Readiness, Store};

/// Tables that operators' SQL reads, with their columns. `text` stands for any kind of text.
const CONTRACT: &str = "
    events: store_id uuid, event_id varchar(255), device_id text, seq bigint, type varchar(100), version integer,
        payload json, payload_hash bytea, delta_payload json, vector_clock jsonb, causal_dependencies jsonb,
        request_id text, actor_user_id text, actor_role text, created_at timestamptz(3), received_at timestamptz(3),
        origin_node text, trace_parent text
    event_variants: store_id uuid, event_id text, payload_hash bytea, device_id text, seq bigint, type varchar(100),
        version integer, payload json, delta_payload json, vector_clock jsonb, causal_dependencies jsonb,
        request_id text, actor_user_id text, actor_role text, created_at timestamptz(3), received_at timestamptz(3),
        origin_node text, trace_parent text
    event_exceptions: store_id uuid, event_id text, status text, reason text, since timestamptz(3), attempts integer
    event_status: store_id uuid, event_id text, type text, projection_status text, projection_error text
    stores: store_id uuid, name text, home_node text, default_warehouse_id uuid, settings json
    devices: store_id uuid, device_id text, token_hash bytea, created_at timestamptz(3), revoked_at timestamptz(3),
        last_seen_at timestamptz(3)
    outbox_entries: id bigint, store_id uuid, event_id text, event_type text, target text, peer text, status text,
        priority smallint, error text, retry_count integer, next_attempt_at timestamptz(3), locked_until timestamptz(3),
        claim_token uuid, created_at timestamptz(3), processed_at timestamptz(3), trace_parent text
    outbox_stats: minute timestamptz(0), target text, peer text, done bigint, failed bigint, total_ms bigint
    sales: store_id uuid, id uuid, device_id text, session_id uuid, customer_id uuid, warehouse_id uuid, currency text,
        exchange_rate numeric(18,6), total numeric(18,2), total_bs numeric(18,2), total_usd numeric(18,2),
        payment_method text, series_id uuid, invoice_number text, fiscal_number text, sold_at timestamptz(3),
        created_at timestamptz(3), created_by text, voided_at timestamptz(3), voided_by text, void_reason text,
        void_event_id text, note text, event_id text
    sale_items: store_id uuid, sale_id uuid, line_no integer, product_id uuid, variant_id uuid, name text,
        qty numeric(18,3), unit_price numeric(18,4), unit_price_bs numeric(18,4), unit_price_usd numeric(18,4),
        discount_bs numeric(18,2), discount_usd numeric(18,2)
    debts: store_id uuid, id uuid, customer_id uuid, sale_id uuid, total_amount numeric(18,2),
        remaining_amount numeric(18,2), amount_bs numeric(18,2), amount_usd numeric(18,2), overpaid_amount numeric(24,2),
        status text, currency text, derived boolean, notes text, due_at timestamptz(3), created_at timestamptz(3),
        created_by text, updated_at timestamptz(3), event_id text
    debt_payments: store_id uuid, id uuid, debt_id uuid, amount numeric(18,2), amount_bs numeric(18,2),
        amount_usd numeric(18,2), payment_method text, reference text, paid_at timestamptz(3), paid_by text, notes text,
        event_id text
    products: store_id uuid, id uuid, name text, category text, sku text, barcode text, price numeric(18,4),
        price_bs numeric(18,4), price_usd numeric(18,4), cost_bs numeric(18,4), cost_usd numeric(18,4),
        track_inventory boolean, is_active boolean, low_stock_threshold numeric(18,3), attributes json,
        created_at timestamptz(3), updated_at timestamptz(3)
    customers: store_id uuid, id uuid, name text, document_id text, phone text, email text, address text,
        credit_limit numeric(18,2), notes text, created_at timestamptz(3), updated_at timestamptz(3)
    cash_sessions: store_id uuid, id uuid, register_id text, opened_at timestamptz(3), opened_by text,
        opening_amount_bs numeric(18,2), opening_amount_usd numeric(18,2), closed_at timestamptz(3), closed_by text,
        expected json, counted json, notes text, opened_event_id text, closed_event_id text
    cash_ledger_entries: store_id uuid, id uuid, session_id uuid, entry_type text, amount numeric(18,2),
        amount_bs numeric(18,2), amount_usd numeric(18,2), currency text, reason text, created_at timestamptz(3),
        event_id text
    warehouses: store_id uuid, id uuid, name text
    warehouse_stock: store_id uuid, product_id uuid, variant_id uuid, warehouse_id uuid, stock numeric(24,3)
    leases: name text, holder text, token bigint, expires_at timestamptz(3)
    stock_movements: store_id uuid, id uuid, product_id uuid, variant_id uuid, warehouse_id uuid, kind text,
        qty_delta numeric(18,3), event_id text, sale_id uuid, created_at timestamptz(3)
    fiscal_series: store_id uuid, series_id uuid, name text, prefix text, next_number bigint, owner_node text";

fn recorded_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.txt")
}

#[expect(clippy::disallowed_methods, reason = "a test has no configuration that it could come from")]
fn is_recording() -> bool {
    std::env::var("VELOX_RECORD_SCHEMA").is_ok_and(|value| value == "1")
}

async fn empty_database() -> TestDatabase {
    let nothing = tempfile::tempdir().expect("a directory");
    let migrator = Migrator::new(nothing.path()).await.expect("no migrations");
    TestDatabase::create(&migrator).await
}

async fn schema_of(database: &TestDatabase) -> Vec<String> {
    let store = Store::new(database.options(), CONNECTIONS);
    let lines = store.schema_lines().await.expect("the schema");
    store.close().await;
    lines
}

#[tokio::test]
async fn the_migrations_make_the_recorded_schema() {
    let shop = Shop::open().await;
    let made = schema_of(&shop.database).await;
    if is_recording() {
        std::fs::write(recorded_path(), made.join("\n") + "\n").expect("a written file");
    }
    let recorded = std::fs::read_to_string(recorded_path()).expect("the recorded schema");
    let recorded: Vec<&str> = recorded.lines().collect();
    let mut differences: Vec<String> = made
        .iter()
        .filter(|line| !recorded.contains(&line.as_str()))
        .map(|line| format!("+ {line}"))
        .collect();
    differences.extend(
        recorded.iter().filter(|line| !made.iter().any(|m| m == *line)).map(|line| format!("- {line}")),
    );
    assert!(
        differences.is_empty(),
        "VELOX_RECORD_SCHEMA=1 records this difference:\n{}",
        differences.join("\n")
    );
}

#[tokio::test]
async fn migrations_apply_once_whoever_applies_them_and_how_often() {
    let database = empty_database().await;
    let pods: Vec<Store> = (0..3).map(|_| Store::new(database.options(), CONNECTIONS)).collect();
    let before = pods[0].readiness().await.expect("an answer");
    assert_eq!(before, Readiness { migrated: false, writable: true });
    let (a, b, c) = tokio::join!(pods[0].migrate(), pods[1].migrate(), pods[2].migrate());
    for migrated in [a, b, c, pods[0].migrate().await] {
        migrated.expect("one migrates, the others wait and find it done");
    }
    assert_eq!(pods[1].readiness().await.expect("an answer"), Readiness { migrated: true, writable: true });
    let migrated = schema_of(&database).await;
    assert_eq!(migrated, schema_of(&TestDatabase::create(&MIGRATOR).await).await);
    let applied = "SELECT count(*) FROM _sqlx_migrations WHERE success";
    let applied: i64 = sqlx::query_scalar(applied).fetch_one(&database.pool().await).await.expect("a count");
    assert_eq!(applied, MIGRATOR.iter().count() as i64);
    // The connections that were opened before and those that come work.
    pods[0].node_id(None, "node").await.expect("a node");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let shop = Shop::open().await;
    shop.run(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of tomorrow', true, '', 0)",
    )
    .await;
    let error = shop.store.migrate().await.expect_err("a refusal");
    assert!(matches!(error, Error::Migrate(_)), "{error:?}");
}

#[tokio::test]
async fn every_table_that_others_read_has_its_columns() {
    let shop = Shop::open().await;
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT attrelid::regclass::text, attname::text, replace(replace(format_type(atttypid, atttypmod),
             'timestamp(3) with time zone', 'timestamptz(3)'), 'timestamp(0) with time zone', 'timestamptz(0)')
         FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0 AND NOT attisdropped",
    )
    .fetch_all(&shop.pool)
    .await
    .expect("the columns");
    let mut table = "";
    let words = CONTRACT.lines().flat_map(|line| line.split(", ")).flat_map(|part| part.split(": "));
    for word in words.map(|word| word.trim().trim_end_matches(',')).filter(|word| !word.is_empty()) {
        let Some((column, kind)) = word.split_once(' ') else {
            table = word;
            continue;
        };
        let found = columns.iter().find(|(of, name, _)| of == table && name == column);
        let (.., found) = found.unwrap_or_else(|| panic!("{table}.{column} is missing"));
        let found = found.replace("character varying", "varchar");
        let is_text = kind == "text" && (found == "text" || found.starts_with("varchar"));
        assert!(is_text || found == kind, "{table}.{column} is {found} instead of {kind}");
    }
}

#[tokio::test]
async fn every_table_of_a_stores_data_has_the_store_first_in_its_key() {
    let shop = Shop::open().await;
    let first: String = shop
        .value(
            "SELECT string_agg(indrelid::regclass::text, ' ' ORDER BY indrelid::regclass::text)
             FROM pg_index JOIN pg_attribute a ON a.attrelid = indrelid AND a.attnum = indkey[0]
             JOIN pg_class c ON c.oid = indrelid
             WHERE indisprimary AND relnamespace = 'public'::regnamespace AND a.attname <> 'store_id'",
        )
        .await;
    assert_eq!(
        first, "_sqlx_migrations leases node_identity outbox_stats peer_breakers peer_nonces peers_seen",
        "what belongs to no store"
    );
}
