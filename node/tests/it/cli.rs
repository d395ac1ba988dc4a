//! The command line: what each command prints and how it ends, alone and beside a running node.

use crate::database::execute;
use crate::process::{Home, Ran};
use crate::support::{ADMIN, TestNode, id, sale, wait};
use serde_json::{Value, json};
use velox_store::testing::TestDatabase;

/// A migrated database and the variable that names it.
async fn database() -> TestDatabase {
    TestDatabase::create(&velox_store::MIGRATOR).await
}

fn at(database: &TestDatabase) -> [(&str, &str); 1] {
    [("VELOX_DATABASE_URL", database.url())]
}

/// A command that failed says why in one line on standard error, and nothing else.
fn failed(ran: &Ran, code: i32) -> &str {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert_eq!(ran.out, "", "{ran:?}");
    let line = ran.err.trim_end();
    assert!(line.starts_with("velox: ") && !line.contains('\n'), "{ran:?}");
    line
}

#[actix_web::test]
async fn stores_are_added_renamed_and_listed() {
    let (home, database) = (Home::new(), database().await);
    let added = home.run(&["store", "add", "Bodega El Sol", "--json"], &at(&database)).await.fine().json();
    let store_id = added[0]["store_id"].as_str().expect("an id").to_owned();
    assert_eq!(added[0]["name"], "Bodega El Sol");
    assert!(added[0]["home_node"].is_string(), "{added}");
    let renamed = ["store", "add", "--id", &store_id, "La \u{1b}[31mLuna"];
    home.run(&renamed, &at(&database)).await.fine();
    let other = id();
    home.run(&["store", "add", "Otra", "--id", &other], &at(&database)).await.fine();

    let listed = home.run(&["--json", "store", "list"], &at(&database)).await.fine().json();
    let names: Vec<&str> =
        listed.as_array().expect("a list").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(names.len(), 2, "{listed}");
    assert!(names.contains(&"La \u{1b}[31mLuna") && names.contains(&"Otra"), "{listed}");
    let table = home.run(&["store", "list"], &at(&database)).await;
    assert!(table.fine().out.contains(&store_id) && table.out.contains("Otra"), "{}", table.out);
    assert!(!table.out.contains('\u{1b}'), "a name must not steer the terminal: {}", table.out);

    let long = "x".repeat(201);
    for name in ["", "  ", &long] {
        failed(&home.run(&["store", "add", name], &at(&database)).await, 1);
    }
    database.close().await;
}

#[actix_web::test]
async fn devices_are_added_listed_and_revoked_beside_a_running_node() {
    let node = TestNode::start().await;
    let home = Home::new();
    let here = at(&node.database);
    let mut till = node.client.till().await;
    let store = till.store_id.to_string();
    let added = home.run(&["device", "add", "--store", &store, "--json"], &here).await.fine().json();
    assert_eq!(added["store_id"], json!(till.store_id));
    till.device_id = added["device_id"].as_str().expect("an id").to_owned();
    till.token = added["token"].as_str().expect("a token").to_owned();
    node.client.push(&till, &[sale()]).await;

    let again = ["device", "add", "--store", &store, "--device", &till.device_id];
    let text = home.run(&again, &here).await.fine().out.clone();
    let token = text.lines().find_map(|line| line.strip_prefix("token  ")).expect("a token").to_owned();
    let refused = async |token: &str| {
        let path = format!("/sync/last-seq?device_id={}", till.device_id);
        node.client.call("GET", &path, token, None).await.status == 401
    };
    wait("the old token to die", async || refused(&till.token).await).await;
    assert!(!refused(&token).await);

    let listed = home.run(&["device", "list", "--store", &store, "--json"], &here).await.fine().json();
    let row = listed.as_array().expect("a list").iter().find(|row| row["device_id"] == json!(till.device_id));
    assert!(row.expect("the till")["last_seen_at"].is_string(), "{listed}");
    assert!(!listed.to_string().contains("token"), "{listed}");
    let table = home.run(&["device", "list"], &here).await.fine().out.clone();
    assert!(table.contains(&till.device_id), "{table}");

    let revoke = ["device", "revoke", "--store", &store, "--device", &till.device_id, "--json"];
    assert_eq!(home.run(&revoke, &here).await.fine().json()["revoked"], true);
    wait("the token to be refused", async || refused(&token).await).await;
    let unknown = id();
    let stranger = ["device", "revoke", "--store", &store, "--device", &unknown];
    assert!(failed(&home.run(&stranger, &here).await, 1).contains(&unknown));
    let stranger = ["device", "add", "--store", &unknown];
    assert!(failed(&home.run(&stranger, &here).await, 1).contains(&unknown));
    node.stop().await;
}

#[actix_web::test]
async fn verify_finds_nothing_in_a_sound_database_and_says_what_is_wrong_in_a_spoiled_one() {
    let node = TestNode::start().await;
    let (home, here) = (Home::new(), at(&node.database));
    let (till, spared) = (node.client.till().await, node.client.till().await);
    node.client.push(&till, &[sale(), sale()]).await;
    node.client.push(&spared, &[sale()]).await;
    node.client.projected().await;
    assert_eq!(home.run(&["verify", "--json"], &here).await.fine().json(), json!([]));
    assert!(home.run(&["verify"], &here).await.fine().out.contains("INV-2"));

    let store = till.store_id;
    let pool = node.database.pool().await;
    for (spoil, invariant, what) in [
        (
            "UPDATE warehouse_stock SET stock = stock + 1",
            "INV-3",
            "stock differs from the sum of its movements",
        ),
        ("UPDATE sale_items SET qty = qty + 1", "INV-3", "a sale's movements differ from its lines"),
        ("DELETE FROM sales", "INV-4", "a processed event has no row"),
    ] {
        execute(&pool, format!("{spoil} WHERE store_id = '{store}'")).await;
        let found = home.run(&["verify", "--json"], &here).await;
        assert_eq!(found.code, Some(1), "{found:?}");
        let findings = found.json();
        let named =
            |f: &Value| f["invariant"] == invariant && f["what"] == what && f["store_id"] == json!(store);
        assert!(findings.as_array().expect("a list").iter().any(named), "{what}: {findings}");
        let table = home.run(&["verify", "--store", &store.to_string()], &here).await;
        assert!(table.code == Some(1) && table.out.contains(what), "{table:?}");
    }
    home.run(&["verify", "--store", &spared.store_id.to_string()], &here).await.fine();
    pool.close().await;
    node.stop().await;
}

#[actix_web::test]
async fn openapi_describes_the_api_without_a_database() {
    let home = Home::new();
    for arguments in [&["openapi"][..], &["openapi", "--json"]] {
        let document = home.run(arguments, &[("VELOX_DATABASE_URL", "postgres://127.0.0.1:1/none")]).await;
        let document = document.fine().json();
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
        assert!(document["paths"]["/sync/push"]["post"].is_object());
    }
    assert!(!home.data_dir().exists());
}

#[actix_web::test]
async fn config_check_shows_values_and_their_sources_and_hides_every_secret() {
    let home = Home::new();
    std::fs::write(home.path("velox.toml"), "outbox_poll_ms = 1234\nadmin_key = \"a-secret-of-the-file\"\n")
        .expect("a file");
    let variables = [
        ("VELOX_DATABASE_URL", "postgres://velox:a-secret-password@127.0.0.1/velox"),
        ("VELOX_JWT_SECRET", "a-secret-for-tokens"),
        ("VELOX_ADMIN_KEY", "a-secret-of-the-environment"),
        (
            "VELOX_PEERS",
            r#"[{"name":"cloud","url":"https://cloud.example","key":"a-secret-for-the-peer-of-ours"}]"#,
        ),
    ];
    let checked = home.run(&["config", "check", "--json", "--log", "warn"], &variables).await;
    let shown = checked.fine().json();
    assert_eq!(shown["problems"], json!([]));
    let value = |key: &str| {
        let row = shown["values"].as_array().expect("values").iter().find(|row| row["key"] == key);
        let row = row.unwrap_or_else(|| panic!("no {key}"));
        (
            row["value"].as_str().expect("a value").to_owned(),
            row["source"].as_str().expect("a source").to_owned(),
        )
    };
    assert_eq!(value("outbox_poll_ms"), ("1234".to_owned(), "file velox.toml".to_owned()));
    assert_eq!(value("outbox_max_retries"), ("10".to_owned(), "default".to_owned()));
    assert_eq!(value("log"), ("warn".to_owned(), "flag --log".to_owned()));
    assert_eq!(value("admin_key").1, "VELOX_ADMIN_KEY");
    let table = home.run(&["config", "check"], &variables).await;
    assert!(table.fine().out.contains("outbox_poll_ms"), "{}", table.out);
    for text in [&checked.out, &checked.err, &table.out, &table.err] {
        assert!(!text.contains("a-secret"), "{text}");
    }
    assert!(!home.data_dir().exists(), "a check starts nothing");
}

#[actix_web::test]
async fn config_check_refuses_an_unknown_variable_and_every_command_an_unknown_key() {
    let home = Home::new();
    let misspelt = [("VELOX_OUTBOX_POL_MS", "5")];
    let checked = home.run(&["config", "check"], &misspelt).await;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    let refused = checked.out.lines().find(|line| line.starts_with("refused: ")).expect("a refusal");
    assert!(
        refused.contains("VELOX_OUTBOX_POL_MS") && refused.contains("VELOX_OUTBOX_POLL_MS?"),
        "{refused}"
    );
    let checked = home.run(&["config", "check", "--json"], &misspelt).await;
    assert_eq!(checked.code, Some(1));
    assert_eq!(checked.json()["problems"].as_array().map(Vec::len), Some(1));
    // A misspelt variable of another program's making must not end a node.
    assert_eq!(home.run(&["openapi"], &misspelt).await.code, Some(0));

    let file = home.path("other.toml");
    std::fs::write(&file, "outbox_pol_ms = 5\n").expect("a file");
    let file = file.to_str().expect("a path");
    for command in [&["config", "check"][..], &["serve"], &["store", "list"]] {
        let ran = home.run(&[command, &["--config", file]].concat(), &[]).await;
        let line = failed(&ran, 2);
        assert!(line.contains("outbox_pol_ms") && line.contains("outbox_poll_ms"), "{line}");
    }
    let missing = home.run(&["config", "check", "--config", "/nowhere/velox.toml"], &[]).await;
    assert!(failed(&missing, 2).contains("/nowhere/velox.toml"));
    for (key, value) in
        [("VELOX_LISTEN", "nonsense"), ("VELOX_OUTBOX_POLL_MS", "0"), ("VELOX_DATABASE_URL", "mysql://a")]
    {
        let line = home.run(&["config", "check"], &[(key, value)]).await;
        assert!(failed(&line, 2).contains(&key["VELOX_".len()..].to_lowercase()), "{line:?}");
    }
}

#[actix_web::test]
async fn a_wrong_use_is_exit_code_2() {
    let home = Home::new();
    for arguments in [
        &[][..],
        &["sell"],
        &["serve", "--nonsense"],
        &["store"],
        &["store", "add"],
        &["store", "add", "Bodega", "--id", "no-uuid"],
        &["device", "add"],
        &["device", "revoke", "--store", "0b0c8a4e-7d64-4c5b-9f0e-111111111111"],
        &["verify", "--store", "all"],
        &["config"],
    ] {
        let ran = home.run(arguments, &[]).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains("Usage") || ran.err.contains("--help"), "{arguments:?}: {}", ran.err);
    }
    assert!(home.run(&["--help"], &[]).await.fine().out.contains("serve"));
    assert!(home.run(&["--version"], &[]).await.fine().out.starts_with("velox "));
    assert!(!home.data_dir().exists());
}

#[actix_web::test]
async fn a_short_admin_key_is_refused_where_others_can_reach_the_node() {
    let home = Home::new();
    let short = "thirty-one-characters-are-short";
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let variables = [("VELOX_LISTEN", listen), ("VELOX_ADMIN_KEY", short)];
        let ran = home.run(&["serve"], &variables).await;
        let line = failed(&ran, 2);
        assert!(line.contains("admin_key") && line.contains("32"), "{line}");
        assert!(!line.contains(short), "{line}");
    }
    assert!(!home.data_dir().exists());
    let long = format!("{short}s");
    home.run(&["config", "check"], &[("VELOX_LISTEN", "0.0.0.0:0"), ("VELOX_ADMIN_KEY", &long)]).await.fine();
    home.run(&["config", "check"], &[("VELOX_ADMIN_KEY", short)]).await.fine();
}

#[actix_web::test]
async fn serve_without_postgresql_programs_says_how_to_get_them() {
    let home = Home::new();
    let empty = home.path("nothing");
    std::fs::create_dir(&empty).expect("a directory");
    let empty = empty.to_str().expect("a path");
    let ran = home.run(&["serve"], &[("VELOX_PG_BIN", empty), ("PATH", empty)]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let told = ran.err.lines().last().expect("a line");
    assert!(told.contains("apt-get install postgresql") && told.contains(empty), "{}", ran.err);
    assert!(told.contains("VELOX_DATABASE_URL"), "{told}");
}

#[actix_web::test]
async fn serve_says_why_it_does_not_start() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let ran = home.run(&["serve"], &[("VELOX_LISTEN", &address)]).await;
    assert!(ran.code == Some(1) && ran.err.contains(&address), "{ran:?}");
    assert!(!home.data_dir().join("pg").exists(), "found before a database is made");

    let database = database().await;
    let first = [("VELOX_DATABASE_URL", database.url()), ("VELOX_NODE_ID", "shop-1")];
    home.serve(&first).await.stop().await;
    let ran = home.run(&["serve"], &[first[0], ("VELOX_NODE_ID", "shop-2")]).await;
    assert!(ran.code == Some(1) && ran.err.contains("shop-1") && ran.err.contains("shop-2"), "{ran:?}");
    database.close().await;
}

#[actix_web::test]
async fn a_data_directory_serves_commands_alone_then_a_node_and_commands_beside_it() {
    let home = Home::new();
    let added = home.run(&["store", "add", "Bodega", "--json"], &[]).await.fine().json();
    let store = added[0]["store_id"].as_str().expect("an id").to_owned();
    assert_eq!(home.postmaster(), None, "a command ends what it started");

    // No key is configured: one is made.
    let served = home.serve(&[("VELOX_ADMIN_KEY", "")]).await;
    let key = std::fs::read_to_string(home.data_dir().join("admin.key")).expect("a key");
    let stores = served.client.call("GET", "/admin/stores", key.trim(), None).await;
    assert_eq!(stores.json()["items"][0]["store_id"], json!(store), "{}", stores.text);
    assert_eq!(served.client.call("GET", "/admin/stores", ADMIN, None).await.status, 401);
    let log = served.log();
    assert!(log.contains("admin.key") && !log.contains(key.trim()), "{log}");

    let postmaster = home.postmaster();
    let device = home.run(&["device", "add", "--store", &store, "--json"], &[]).await.fine().json();
    let token = device["token"].as_str().expect("a token");
    let device_id = device["device_id"].as_str().expect("an id");
    let path = format!("/sync/last-seq?device_id={device_id}");
    assert_eq!(served.client.call("GET", &path, token, None).await.status, 200);
    home.run(&["verify"], &[]).await.fine();
    assert_eq!(home.postmaster(), postmaster, "a command does not end the node's PostgreSQL");

    let second = home.run(&["serve"], &[("VELOX_LISTEN", "127.0.0.1:0")]).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    let told = second.err.lines().last().expect("a line");
    assert!(told.contains("already runs") && told.contains(&served.pid().to_string()), "{}", second.err);
    assert!(served.client.is_ready().await);
    served.stop().await;
    assert_eq!(home.postmaster(), None);
    assert_eq!(home.run(&["store", "list", "--json"], &[]).await.fine().json()[0]["store_id"], json!(store));
}
