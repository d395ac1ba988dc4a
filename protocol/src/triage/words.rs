//! Words for people who are no programmers, woken by an alarm.

use super::Kind;
use chrono::{DateTime, TimeDelta, Utc};

impl Kind {
    /// So many of them, as a shop's owner calls them.
    pub fn counted(self, count: u64) -> String {
        let (one, many) = match self {
            Kind::Sales => ("sale", "sales"),
            Kind::Voids => ("cancelled sale", "cancelled sales"),
            Kind::Debts => ("debt", "debts"),
            Kind::Payments => ("payment of a debt", "payments of debts"),
            Kind::Sessions => ("opening of a cash session", "openings of cash sessions"),
            Kind::SessionClosings => ("closing of a cash session", "closings of cash sessions"),
            Kind::Products => ("change of a product", "changes of products"),
            Kind::Customers => ("change of a customer", "changes of customers"),
            Kind::Stock => ("stock movement", "stock movements"),
            Kind::Ledger => ("entry of the cash book", "entries of the cash book"),
            Kind::Declarations => ("declaration of the store", "declarations of the store"),
            Kind::Other => ("other event", "other events"),
        };
        format!("{count} {}", if count == 1 { one } else { many })
    }

    /// All of them.
    pub const fn plural(self) -> &'static str {
        match self {
            Kind::Sales => "sales",
            Kind::Voids => "cancelled sales",
            Kind::Debts => "debts",
            Kind::Payments => "payments of debts",
            Kind::Sessions => "openings of cash sessions",
            Kind::SessionClosings => "closings of cash sessions",
            Kind::Products => "products and prices",
            Kind::Customers => "customers",
            Kind::Stock => "stock movements",
            Kind::Ledger => "entries of the cash book",
            Kind::Declarations => "declarations of the store",
            Kind::Other => "other events",
        }
    }
}

/// A time that a person can compare with a clock on the wall, and how long ago it was.
pub fn since(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    format!("{} ({} ago)", at.format("%Y-%m-%d %H:%M UTC"), ago(now - at))
}

fn ago(passed: TimeDelta) -> String {
    let minutes = passed.num_minutes().max(0);
    match (minutes / 1_440, minutes / 60 % 24, minutes % 60) {
        (0, 0, 0) => "less than a minute".to_owned(),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (1, hours, _) => format!("1 day {hours} h"),
        (days, hours, _) => format!("{days} days {hours} h"),
    }
}
