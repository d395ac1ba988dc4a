use super::verdict::{HERE, Letter, Report};
use super::*;
use chrono::TimeDelta;
use uuid::Uuid;

const STORE: Uuid = Uuid::from_u128(1);

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_763_953_200, 0).expect("a time")
}

/// A sound node: ten events and ten rows of each kind.
fn sound() -> Facts {
    let of_kind =
        KindFacts { events: 10, entities: 10, rows: Some(10), missing_rows: Some(0), ..KindFacts::default() };
    let kinds = Kind::ALL.into_iter().map(|kind| (kind.name().to_owned(), of_kind.clone())).collect();
    Facts { node_id: "node".to_owned(), kinds, ..Facts::default() }
}

fn with(kind: Kind, facts: KindFacts) -> Facts {
    let mut all = sound();
    all.kinds.insert(kind.name().to_owned(), facts);
    all
}

fn stuck(count: u64) -> KindFacts {
    let since = Some(now() - TimeDelta::minutes(82));
    let sample = (0..count.min(5)).map(|n| format!("event-{n}")).collect();
    KindFacts { events: 10, missing_rows: Some(count), stuck: count, since, sample, ..KindFacts::default() }
}

fn failing(would_fail: u64, schema_faults: u64, of: u64) -> KindFacts {
    let errors = vec![Failing {
        event_id: "event-0".to_owned(),
        event_type: "DebtCreated".to_owned(),
        error: "the amount cannot be read".to_owned(),
    }];
    KindFacts { would_fail, schema_faults, would_work: of - would_fail, errors, ..stuck(of) }
}

fn lost_column(table: &str) -> SchemaDifference {
    SchemaDifference {
        table: table.to_owned(),
        column: Some("notes".to_owned()),
        what: format!("{table}.notes is missing"),
        repair: Some(format!("ALTER TABLE public.{table} ADD COLUMN notes text")),
    }
}

fn missing(kind: Kind, count: u64) -> BTreeMap<String, Missing> {
    let missing =
        Missing { count, since: Some(now() - TimeDelta::hours(3)), sample: vec!["event-9".to_owned()] };
    BTreeMap::from([(kind.name().to_owned(), missing)])
}

fn cloud(facts: Facts) -> PeerFacts {
    PeerFacts {
        name: "cloud".to_owned(),
        reachable: true,
        facts: Some(facts),
        compared: Some(Compared::default()),
        ..PeerFacts::default()
    }
}

fn lacking(there: Kind, count: u64) -> PeerFacts {
    let compared = Compared { missing_there: missing(there, count), ..Compared::default() };
    PeerFacts { compared: Some(compared), ..cloud(sound()) }
}

fn report(ours: Facts, peers: Vec<PeerFacts>) -> Report {
    Report::of(STORE, now(), ours, peers)
}

/// The store's letter, and that of a kind.
fn letters(report: &Report, kind: Kind) -> (Letter, Letter) {
    (report.verdict, report.kinds[kind.name()].verdict)
}

#[test]
fn a_sound_pair_is_ok_and_needs_no_command() {
    let report = report(sound(), vec![cloud(sound())]);
    assert_eq!(letters(&report, Kind::Debts), (Letter::Ok, Letter::Ok));
    assert!(report.is_fine() && report.command.is_none() && report.wrong().is_empty());
    assert!(report.kinds.values().all(|kind| kind.command.is_none() && kind.count == 0));
}

#[test]
fn each_letter_is_named_for_its_kind_and_no_other() {
    let cases = [
        (sound(), lacking(Kind::Debts, 3), Letter::A, 3),
        (with(Kind::Debts, KindFacts { would_work: 3, ..stuck(3) }), cloud(sound()), Letter::B, 3),
        (with(Kind::Debts, failing(3, 3, 3)), cloud(sound()), Letter::C, 3),
        (Facts { schema_differences: vec![lost_column("debts")], ..sound() }, cloud(sound()), Letter::C, 1),
        (with(Kind::Debts, failing(2, 0, 3)), cloud(sound()), Letter::D, 2),
        // What could not be tried is missing all the same.
        (with(Kind::Debts, stuck(4)), cloud(sound()), Letter::B, 4),
    ];
    for (ours, peer, letter, count) in cases {
        let report = report(ours, vec![peer]);
        assert_eq!(letters(&report, Kind::Debts), (letter, letter), "{report:#?}");
        let of = &report.kinds["debts"];
        assert_eq!(of.count, count, "{of:#?}");
        assert!(of.command.is_some() && !of.evidence.is_empty());
        assert_eq!(report.kinds["sales"].verdict, Letter::Ok);
        assert_eq!(report.wrong().len(), 1);
    }
}

#[test]
fn the_same_at_the_peer_counts_and_says_where() {
    let cases = [
        (with(Kind::Sales, stuck(7)), Letter::B),
        (with(Kind::Sales, failing(1, 0, 7)), Letter::D),
        (Facts { schema_differences: vec![lost_column("sales")], ..sound() }, Letter::C),
    ];
    for (theirs, letter) in cases {
        let report = report(sound(), vec![cloud(theirs)]);
        assert_eq!(letters(&report, Kind::Sales), (letter, letter));
        let of = &report.kinds["sales"];
        assert_eq!(of.node.as_deref(), Some("cloud"));
        assert!(of.cause.contains("cloud") && !of.cause.contains(HERE), "{}", of.cause);
        assert_eq!(
            of.command,
            Some(format!("velox triage --store {STORE} --fix")),
            "nothing here mends it alone"
        );
    }
}

#[test]
fn the_graver_letter_is_the_stores_and_each_kind_keeps_its_own() {
    let mut ours = with(Kind::Sales, stuck(2));
    ours.kinds.insert("payments".to_owned(), failing(1, 0, 1));
    let peer = lacking(Kind::Customers, 5);
    let found = report(ours.clone(), vec![peer.clone()]);
    assert_eq!(found.verdict, Letter::D);
    assert_eq!(found.kinds["sales"].verdict, Letter::B);
    assert_eq!(found.kinds["customers"].verdict, Letter::A);
    assert_eq!(
        found.wrong().iter().map(|(_, of)| of.verdict).collect::<Vec<_>>(),
        [Letter::D, Letter::B, Letter::A]
    );
    ours.schema_differences = vec![lost_column("products")];
    assert_eq!(report(ours, vec![peer]).verdict, Letter::C);
}

#[test]
fn of_two_letters_of_one_kind_the_graver_one_counts_and_one_command_mends_both() {
    let found = report(with(Kind::Debts, stuck(2)), vec![lacking(Kind::Debts, 5)]);
    let of = &found.kinds["debts"];
    assert_eq!((of.verdict, of.count, of.missing_there), (Letter::B, 2, 5));
    assert_eq!(of.command, Some(format!("velox triage --store {STORE} --fix")));
    let found = report(with(Kind::Debts, stuck(2)), vec![cloud(sound())]);
    assert_eq!(found.command, Some(format!("velox heal --store {STORE}")));
    let found = report(sound(), vec![lacking(Kind::Debts, 5)]);
    assert_eq!(found.command, Some(format!("velox reconcile --store {STORE}")));
}

#[test]
fn a_peer_that_cannot_be_asked_is_a_only_where_something_waits_for_it() {
    let away = PeerFacts {
        name: "cloud".to_owned(),
        error: Some("the peer did not answer in time".to_owned()),
        last_success_at: Some(now() - TimeDelta::hours(2)),
        ..PeerFacts::default()
    };
    let quiet = report(sound(), vec![away.clone()]);
    assert_eq!(quiet.verdict, Letter::Ok);
    assert!(
        !quiet.is_fine() && quiet.cause.contains("cloud cannot be asked for everything"),
        "{}",
        quiet.cause
    );
    let waited_for = PeerFacts { waiting: missing(Kind::Sales, 12), ..away };
    let found = report(sound(), vec![waited_for]);
    assert_eq!(letters(&found, Kind::Sales), (Letter::A, Letter::A));
    let of = &found.kinds["sales"];
    assert_eq!((of.count, of.since), (12, Some(now() - TimeDelta::hours(3))));
    assert!(of.cause.contains("12 sales") && of.cause.contains("did not answer in time"), "{}", of.cause);
}

#[test]
fn what_a_v1_peer_lacks_is_a_and_its_tables_are_said_to_be_unknown() {
    let v1 = PeerFacts { facts: None, is_v1: true, ..lacking(Kind::Stock, 2) };
    let found = report(sound(), vec![v1]);
    assert_eq!(letters(&found, Kind::Stock), (Letter::A, Letter::A));
    assert!(found.kinds["stock"].evidence.iter().any(|line| line.contains("speaks v1")));
}

#[test]
fn a_mark_that_was_lost_is_no_gap() {
    let found = report(with(Kind::Payments, KindFacts { marks_lost: 2, ..stuck(2) }), vec![cloud(sound())]);
    assert_eq!(letters(&found, Kind::Payments), (Letter::Ok, Letter::Ok));
}

#[test]
fn facts_of_another_version_are_read() {
    let facts: Facts =
        serde_json::from_str(r#"{"node_id":"n","kinds":{"sales":{"stuck":2},"quotas":{}},"new":1}"#)
            .expect("facts");
    assert_eq!(report(sound(), vec![cloud(facts)]).kinds["sales"].verdict, Letter::B);
    let told = serde_json::to_value(report(sound(), vec![cloud(sound())])).expect("a report");
    assert_eq!((&told["verdict"], &told["nodes"][1]["name"]), (&"OK".into(), &"cloud".into()));
    assert_eq!(told["nodes"][0]["rows"], serde_json::json!({}), "facts stand beside the name");
}

#[test]
fn times_are_told_as_on_a_clock_and_as_passed() {
    let ago = |minutes| words::since(now() - TimeDelta::minutes(minutes), now());
    assert_eq!(ago(82), "2025-11-24 01:38 UTC (1 h 22 min ago)");
    assert!(ago(0).ends_with("(less than a minute ago)") && ago(3).ends_with("(3 min ago)"));
    assert!(ago(1_500).ends_with("(1 day 1 h ago)") && ago(3_000).ends_with("(2 days 2 h ago)"));
}

#[test]
fn what_was_not_tried_beside_what_fails_is_not_told_to_be_sound() {
    let facts = KindFacts { would_work: 100, untried: 1_060, ..failing(40, 0, 1_200) };
    let found = report(with(Kind::Debts, facts), vec![cloud(sound())]);
    let of = &found.kinds["debts"];
    assert_eq!((of.verdict, of.count), (Letter::D, 40));
    assert!(of.cause.contains("1060 others could not be tried"), "{}", of.cause);
    let none = KindFacts { would_work: 0, untried: 160, ..failing(40, 40, 200) };
    let found = report(with(Kind::Debts, none), vec![cloud(sound())]);
    assert!(found.cause.contains("160 others could not be tried"), "{}", found.cause);
    assert!(!found.cause.contains("nothing is wrong"), "{}", found.cause);
    let untried = KindFacts { untried: 4, ..stuck(4) };
    let found = report(with(Kind::Debts, untried), vec![cloud(sound())]);
    assert_eq!(found.kinds["debts"].verdict, Letter::B);
    assert!(!found.cause.contains("nothing is wrong with them"), "{}", found.cause);
}

#[test]
fn the_command_for_b_is_one_that_works() {
    let command = |facts| report(with(Kind::Debts, facts), vec![cloud(sound())]).command.expect("a command");
    assert!(command(stuck(2)).starts_with("velox heal"));
    // A healer looks at some days, and for rows that are missing.
    let old = KindFacts { since: Some(now() - TimeDelta::days(8)), ..stuck(2) };
    assert!(command(old).ends_with("--fix"));
    let shown = KindFacts { missing_rows: Some(1), ..stuck(2) };
    assert!(command(shown).ends_with("--fix"));
    assert!(command(stuck(51)).ends_with("--fix"));
}

#[test]
fn what_a_peer_has_not_said_stands_beside_what_is_wrong() {
    let late = Some("it has not said what is in its tables".to_owned());
    let peer = PeerFacts { facts: None, error: late, ..lacking(Kind::Debts, 3) };
    let found = report(sound(), vec![peer]);
    assert_eq!(found.verdict, Letter::A);
    assert!(found.cause.contains("3 debts") && found.cause.contains("has not said"), "{}", found.cause);
}

#[test]
fn a_question_without_an_answer_is_no_good_news() {
    let mute = Facts { unanswered: vec!["question 3: a time-out".to_owned()], ..sound() };
    let found = report(mute, vec![cloud(sound())]);
    assert!(found.verdict == Letter::Ok && !found.is_fine());
    assert!(found.cause.contains("question 3: a time-out"), "{}", found.cause);
}
