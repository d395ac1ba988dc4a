//! What people are told, and what stands around it.

use super::{Shop, dead, debts};
use crate::database::execute;
use crate::support::{ADMIN, TestNode, sale};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use uuid::Uuid;
use velox_store::QUESTIONS;

#[actix_web::test]
async fn a_sound_pair_is_ok_and_says_so() {
    let shop = Shop::open().await;
    shop.is_well().await;
    let told = shop.run(&[]).await;
    assert!(told.fine().out.contains("OK. Nothing is wrong"), "{}", told.out);
    assert!(told.out.contains("Bodega"), "{}", told.out);
    let nothing = shop.run(&["--fix"]).await;
    assert!(!nothing.fine().out.contains("Backup"), "what needs no repair needs no backup: {}", nothing.out);
    shop.close().await;
}

#[actix_web::test]
async fn somebody_who_is_woken_reads_what_since_when_how_many_and_what_to_do() {
    let shop = Shop::open().await;
    shop.pair.a.client.fault(json!({ "actor": "projector.debt", "fault": "error" })).await;
    shop.pair.a.client.push(&shop.till, &debts(3)).await;
    dead(&shop.a, 6).await;
    let path = shop.home.path("findings.md");
    let report = path.to_str().expect("a path").to_owned();
    let told = shop.run(&["--report", &report]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    for part in [
        "WRONG (B): debts",
        "3 debts came to this node and are missing in its tables.",
        "Since:",
        "(less than a minute ago)",
        "How many:          3",
        "The shop goes on selling and nothing is lost",
        "velox heal --store",
        "To repair it: ",
    ] {
        assert!(told.out.contains(part), "{part} is not in:\n{}", told.out);
    }
    let written = std::fs::read_to_string(&path).expect("the findings");
    assert!(written.contains("# Triage") && written.contains("| debts | B | 3 |"), "{written}");
    let mended = shop.run(&["--fix", "--report", &report]).await;
    assert!(mended.fine().out.contains("What is done now:"), "{}", mended.out);
    assert_eq!(mended.out.matches("Backup: ").count(), 2, "before and after: {}", mended.out);
    let written = std::fs::read_to_string(&path).expect("the findings");
    assert!(
        written.contains("## Before the repair: B") && written.contains("## After the repair: OK"),
        "{written}"
    );
    shop.close().await;
}

#[actix_web::test]
async fn what_was_done_is_written_down_also_where_no_second_backup_can_be_made() {
    let shop = Shop::open().await;
    execute(&shop.a, "DELETE FROM debt_payments".to_owned()).await;
    let (bin, made) = (shop.home.path("bin"), shop.home.path("made"));
    std::fs::create_dir(&bin).expect("a directory");
    for (program, before) in [
        ("pg_restore", String::new()),
        ("pg_dump", {
            let made = made.display();
            format!("case \"$*\" in *--format=custom*) test -e {made} && exit 1; : > {made};; esac\n")
        }),
    ] {
        let real = format!("for dir in /usr/lib/postgresql/*/bin; do real=$dir/{program}; done");
        let path = bin.join(program);
        std::fs::write(&path, format!("#!/bin/sh\n{before}{real}\nexec $real \"$@\"\n")).expect("a program");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    let path = shop.home.path("findings.md");
    let report = path.to_str().expect("a path").to_owned();
    let bin = [("VELOX_PG_BIN", bin.to_str().expect("a path"))];
    let mended = shop.run_with(&["--fix", "--json", "--report", &report], &bin).await;
    assert_ne!(mended.code, Some(0), "{mended:?}");
    assert!(mended.err.contains("the repair is done"), "{}", mended.err);
    assert_eq!(mended.json()["before"]["verdict"], "B", "{}", mended.out);
    let written = std::fs::read_to_string(&path).expect("the findings");
    assert!(written.contains("## After the repair: OK"), "{written}");
    shop.close().await;
}

#[actix_web::test]
async fn a_node_without_peers_is_looked_at_alone_and_unknown_stores_are_404() {
    let node = TestNode::start().await;
    let till = node.client.till().await;
    node.client.push(&till, &[sale()]).await;
    node.client.projected().await;
    let found = super::triage(&node, &till).await;
    assert_eq!(
        (&found["verdict"], found["nodes"].as_array().map(Vec::len)),
        (&json!("OK"), Some(1)),
        "{found:#}"
    );
    let by_type = &found["nodes"][0]["events_by_type"];
    let sales: Vec<&Value> =
        by_type.as_array().expect("types").iter().filter(|of| of["type"] == "SaleCreated").collect();
    assert_eq!((&sales[0]["events"], &sales[0]["entities"]), (&json!(1), &json!(1)));
    assert_eq!(found["nodes"][0]["events_by_device_and_type"][0]["device_id"], till.device_id);
    assert_eq!(found["nodes"][0]["rows"]["sales"], 1);
    // What this node says of itself stands on top, too.
    assert_eq!(found["counts"]["sales"], json!({ "events": 1, "rows": 1 }));
    for told in ["unprojected", "events_by_device_and_type", "schema_differences", "last_errors"] {
        assert!(found[told].is_array() && found[told] == found["nodes"][0][told], "{told}: {found:#}");
    }
    let unknown = format!("/sync/triage?store_id={}", Uuid::from_u128(7));
    assert_eq!(node.client.call("GET", &unknown, ADMIN, None).await.status, 404);
    let none = node.client.call("GET", "/sync/triage?store_id=x", ADMIN, None).await;
    assert_eq!(none.status, 400, "{}", none.text);
    node.stop().await;
}

#[actix_web::test]
async fn a_store_that_is_not_shared_is_told_to_no_peer() {
    let shop = Shop::open().await;
    execute(&shop.a, "ALTER TABLE debts DROP COLUMN notes".to_owned()).await;
    let other = shop.pair.b.client.till().await;
    shop.pair.quiet().await;
    let found = super::triage(&shop.pair.b, &other).await;
    assert_eq!(found["nodes"][1]["name"], "a");
    assert_eq!(
        found["kinds"]["debts"]["verdict"], "C",
        "the tables of a are those of all its stores: {found:#}"
    );
    shop.close().await;
}

#[test]
fn the_runbook_has_the_six_questions_as_they_are_asked() {
    let runbook = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/runbooks/federation-incidents.md");
    let runbook = std::fs::read_to_string(runbook).expect("the runbook");
    for (question, sql) in QUESTIONS {
        assert!(runbook.contains(question), "{question}");
        let sql = sql.replace("$1", ":'store'");
        assert!(runbook.contains(sql.trim()), "{question} is asked otherwise:\n{sql}");
    }
}
