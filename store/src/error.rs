//! What can go wrong at the database, told apart by what the caller can do about it.

/// read_only_sql_transaction
const READ_ONLY: &str = "25006";

/// A storage failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is away, overloaded or shutting down: the same call may work later.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// Concurrent transactions met: the whole transaction may be tried again.
    #[error("the transaction met another one")]
    Conflict(#[source] sqlx::Error),
    /// The lease under which it was to be written was given to somebody else: nothing is written.
    #[error("the lease has another holder")]
    Fenced,
    /// The data were refused (a bound, a type, a constraint).
    #[error("the database refused the data")]
    Data(#[source] sqlx::Error),
    /// Anything else the driver reports.
    #[error("database failure")]
    Driver(#[source] sqlx::Error),
    /// A stored row that this version cannot read.
    #[error("inconsistent row in {table}: {what}")]
    Inconsistent {
        /// Where.
        table: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The migrations cannot be applied.
    #[error("migration failed")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A configured value contradicts what the database holds.
    #[error("{0}")]
    Configuration(String),
}

impl Error {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unavailable(_) | Error::Conflict(_))
    }

    /// The error with its causes, on one line.
    pub fn describe(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        text
    }

    /// Whether the session refused to write.
    pub(crate) fn is_read_only(&self) -> bool {
        let Error::Unavailable(error) = self else {
            return false;
        };
        error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == READ_ONLY)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let Some(code) = error.as_database_error().and_then(|e| e.code()) else {
            return match error {
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::Protocol(_) => Error::Unavailable(error),
                _ => Error::Driver(error),
            };
        };
        match code.as_ref() {
            // serialization_failure, deadlock_detected, lock_not_available
            "40001" | "40P01" | "55P03" => Error::Conflict(error),
            // query_canceled: a time-out of ours or an operator's cancel
            READ_ONLY | "57014" => Error::Unavailable(error),
            code => match &code[..2] {
                // data exception, integrity violation
                "22" | "23" => Error::Data(error),
                // connection, resources, object state, operator intervention, system error
                "08" | "53" | "55" | "57" | "58" => Error::Unavailable(error),
                _ => Error::Driver(error),
            },
        }
    }
}
