//! The table of histories (`vectors/histories.txt`): the model makes the rows that were thought out by hand, in any
//! order of arrival and with any repetition.

use uuid::Uuid;
use velox_protocol::fold::{Fold, Tables};
use velox_protocol::story::{self, History, Told, histories};

const STORE: Uuid = Uuid::from_u128(0x5701e);
const SHUFFLES: usize = 20;

fn fold<'a>(told: impl IntoIterator<Item = &'a Told>) -> Tables {
    let mut fold = Fold::new(STORE);
    told.into_iter().for_each(|told| fold.add(&told.event));
    fold.tables()
}

/// Orders of `count` events in which each comes at least once: backwards, twice over, and shuffled from a seed.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let forwards: Vec<usize> = (0..count).collect();
    let twice: Vec<usize> = forwards.iter().flat_map(|i| [*i, *i]).collect();
    let mut orders = vec![
        forwards.iter().rev().copied().collect(),
        twice.clone(),
        forwards.iter().chain(&forwards).copied().collect(),
    ];
    let mut seed = 0x5701e_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for _ in 0..SHUFFLES {
        let mut order = twice.clone();
        for last in (1..order.len()).rev() {
            order.swap(last, random(last + 1));
        }
        orders.push(order);
    }
    orders
}

#[test]
fn each_history_makes_the_rows_that_were_thought_out_by_hand() {
    let mut wrong = Vec::new();
    for History { name, told, rows } in histories() {
        let tables = fold(&story::events(STORE, &told));
        let found = story::lines(STORE, &tables, &format!("{told} {}", rows.join(" ")));
        let only = |these: &[String], those: &[String], sign: char| -> Vec<String> {
            these.iter().filter(|row| !those.contains(row)).map(|row| format!("  {sign} {row}")).collect()
        };
        if found != rows {
            let difference = [only(&rows, &found, '-'), only(&found, &rows, '+')].concat();
            wrong.push(format!("{name}:\n{}", difference.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "- by hand, + by the model\n{}", wrong.join("\n"));
}

#[test]
fn no_order_and_no_repetition_of_a_history_changes_a_row() {
    for History { name, told, .. } in histories() {
        let told = story::events(STORE, &told);
        let tables = fold(&told);
        for order in orders(told.len()) {
            let other = fold(order.iter().map(|i| &told[*i]));
            assert_eq!(other.differences(&tables), Vec::<String>::new(), "{name}, in the order {order:?}");
        }
    }
}

#[test]
fn every_row_that_only_one_has_is_a_difference() {
    for History { name, told, .. } in histories() {
        let tables = fold(&story::events(STORE, &told));
        let Tables { sales, debts, payments, ledger, movements, stock, .. } = &tables;
        let Tables { products, customers, sessions, stores, series, conflicts, exceptions, .. } = &tables;
        let linked =
            sales.len() + debts.len() + payments.len() + ledger.len() + movements.len() + stock.len();
        let declared = stores.len() + series.len();
        let others = products.len() + customers.len() + sessions.len() + conflicts.len() + exceptions.len();
        let others = others + declared;
        let (lost, gained) = (Tables::default().differences(&tables), tables.differences(&Tables::default()));
        assert_eq!((lost.len(), gained.len()), (linked + others, linked + others), "{name}");
        assert!(lost.iter().all(|line| line.contains(": nothing instead of ")), "{lost:?}");
    }
}

#[test]
fn the_table_is_read_whole() {
    let histories = histories();
    assert!(histories.len() >= 50, "{} histories", histories.len());
    for History { name, told, rows } in histories {
        assert!(!story::events(STORE, &told).is_empty() && !rows.is_empty(), "{name}");
    }
}
