//! What pods share about peers: when one was last heard of and how it went, the nonces that it has used, and where its
//! circuit breaker stands. All times are PostgreSQL's, so that pods with different clocks agree.
//!
//! Never here: events for peers (see `crate::relay`), what a failure is, when a breaker opens.

use crate::{Error, Store};
use chrono::{DateTime, Utc};
use std::time::Duration;
use uuid::Uuid;

/// Most characters of an error that are kept: whoever reads the status wants the reason, not a page.
const MAX_ERROR: i32 = 1_000;

/// How it went with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSeen {
    /// The peer's name.
    pub peer: String,
    /// When it last sent anything, a request or an answer, right or wrong.
    pub last_contact_at: Option<DateTime<Utc>>,
    /// When it last answered as it should.
    pub last_success_at: Option<DateTime<Utc>>,
    /// The last failure, which successes since leave standing.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<DateTime<Utc>>,
    /// What it says of itself.
    pub node_id: Option<String>,
    /// Tells its database from an earlier state of itself.
    pub incarnation: Option<Uuid>,
}

/// Where a breaker stood when it was last saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptBreaker {
    /// `CLOSED`, `OPEN` or `HALF_OPEN`
    pub state: String,
    /// In a row.
    pub failures: u32,
    /// In a row, of trials.
    pub successes: u32,
    /// How long ago it last opened; `None`: it is closed.
    pub opened_ago: Option<Duration>,
    /// Since when it is in this state.
    pub changed_at: DateTime<Utc>,
}

impl Store {
    /// Takes note of a request that a peer has signed.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.peers.contact", level = "debug", skip_all, fields(peer))]
    pub async fn note_peer_contact(&self, peer: &str) -> Result<(), Error> {
        // Once a second will do for people, and a busy peer makes no row after row. So below.
        sqlx::query!(
            "INSERT INTO peers_seen AS p (peer, last_contact_at) VALUES ($1, now())
             ON CONFLICT (peer) DO UPDATE SET last_contact_at = EXCLUDED.last_contact_at
             WHERE p.last_contact_at IS NULL OR p.last_contact_at < EXCLUDED.last_contact_at - interval '1 s'",
            peer
        )
        .execute(&self.relay)
        .await?;
        Ok(())
    }

    /// Takes note of an answer of a peer that was as it should be.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.peers.success", level = "debug", skip_all, fields(peer))]
    pub async fn note_peer_success(&self, peer: &str) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO peers_seen AS p (peer, last_contact_at, last_success_at) VALUES ($1, now(), now())
             ON CONFLICT (peer) DO UPDATE
             SET last_contact_at = EXCLUDED.last_contact_at, last_success_at = EXCLUDED.last_success_at
             WHERE p.last_success_at IS NULL OR p.last_success_at < EXCLUDED.last_success_at - interval '1 s'
                 -- The failure was before.
                 OR p.last_error_at >= p.last_success_at",
            peer
        )
        .execute(&self.relay)
        .await?;
        Ok(())
    }

    /// Takes note of a failure. `answered`: the peer has answered, only not as it should.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.peers.error", level = "debug", skip_all, fields(peer))]
    pub async fn note_peer_error(&self, peer: &str, error: &str, answered: bool) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO peers_seen AS p (peer, last_contact_at, last_error, last_error_at)
             VALUES ($1, CASE WHEN $3 THEN now() END, left($2, $4), now())
             ON CONFLICT (peer) DO UPDATE
             SET last_contact_at = coalesce(EXCLUDED.last_contact_at, p.last_contact_at),
                 last_error = EXCLUDED.last_error, last_error_at = EXCLUDED.last_error_at",
            peer,
            error,
            answered,
            MAX_ERROR
        )
        .execute(&self.relay)
        .await?;
        Ok(())
    }

    /// Takes note of what a peer says of itself. Answers what it was before, where that was another: its database was
    /// restored or made anew, or another node goes by its name. Of pods that hear of it at once one is told.
    ///
    /// # Errors
    /// The database's; it is told at the next call then.
    #[tracing::instrument(name = "db.peers.identity", level = "debug", skip_all, fields(peer))]
    pub async fn note_peer_identity(
        &self,
        peer: &str,
        node_id: &str,
        incarnation: Uuid,
    ) -> Result<Option<(String, Uuid)>, Error> {
        // It must not be told twice, so it is not on the connections that may lose a commit.
        let mut transaction = self.begin_durable().await?;
        sqlx::query!("INSERT INTO peers_seen (peer) VALUES ($1) ON CONFLICT DO NOTHING", peer)
            .execute(&mut *transaction)
            .await?;
        let before =
            sqlx::query!("SELECT node_id, incarnation FROM peers_seen WHERE peer = $1 FOR UPDATE", peer)
                .fetch_one(&mut *transaction)
                .await?;
        let before = before.node_id.zip(before.incarnation);
        let is_same = before.as_ref().is_some_and(|(id, of)| (id.as_str(), *of) == (node_id, incarnation));
        if is_same {
            return Ok(None);
        }
        sqlx::query!(
            "UPDATE peers_seen SET node_id = $2, incarnation = $3 WHERE peer = $1",
            peer,
            node_id,
            incarnation
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(before)
    }

    /// How it went with all peers that this node ever had to do with, by name.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.peers.seen", level = "debug", skip_all)]
    pub async fn peers_seen(&self) -> Result<Vec<PeerSeen>, Error> {
        let peers = sqlx::query_as!(
            PeerSeen,
            "SELECT peer, last_contact_at, last_success_at, last_error, last_error_at, node_id, incarnation
             FROM peers_seen ORDER BY peer"
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(peers)
    }

    /// Takes a nonce of a signed request. `Ok(false)`: it was used before, whichever pod had it.
    ///
    /// On the connections that do not wait for the disk: a crash of PostgreSQL loses less than a second of nonces, and
    /// a signed request that is done twice counts once.
    ///
    /// # Errors
    /// The database's; the request must not be done then.
    #[tracing::instrument(name = "db.peers.take_nonce", level = "debug", skip_all)]
    pub async fn take_nonce(&self, key_id: &str, nonce: &str) -> Result<bool, Error> {
        let taken = sqlx::query!(
            "INSERT INTO peer_nonces (key_id, nonce) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            key_id,
            nonce
        )
        .execute(&self.relay)
        .await;
        let taken = taken.map_err(Error::from);
        if taken.as_ref().is_err_and(Error::is_read_only) {
            self.renew_sessions(&self.relay).await;
        }
        Ok(taken?.rows_affected() == 1)
    }

    /// Forgets nonces that were taken longer ago. At least twice the time for which a signature is good: a peer's clock
    /// may be ahead by as much.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.peers.clean_nonces", level = "debug", skip_all)]
    pub async fn clean_nonces(&self, older_than: Duration) -> Result<u64, Error> {
        let removed = sqlx::query!(
            "DELETE FROM peer_nonces WHERE seen_at < now() - make_interval(secs => $1)",
            older_than.as_secs_f64()
        )
        .execute(&self.pool)
        .await?;
        Ok(removed.rows_affected())
    }

    /// Keeps where a peer's breaker stands. Of several pods the one that saves last counts.
    ///
    /// # Errors
    /// [`Error::Data`] where there is no such state; the database's.
    #[tracing::instrument(name = "db.peers.save_breaker", level = "debug", skip_all, fields(peer))]
    pub async fn save_breaker(
        &self,
        peer: &str,
        state: &str,
        failures: u32,
        successes: u32,
    ) -> Result<(), Error> {
        sqlx::query!(
            "INSERT INTO peer_breakers AS b (peer, state, failures, successes, opened_at, changed_at)
             VALUES ($1, $2, $3, $4, CASE WHEN $2 <> 'CLOSED' THEN now() END, now())
             ON CONFLICT (peer) DO UPDATE
             SET state = EXCLUDED.state, failures = EXCLUDED.failures, successes = EXCLUDED.successes,
                 opened_at = CASE WHEN EXCLUDED.state = b.state OR EXCLUDED.state = 'HALF_OPEN'
                                  THEN coalesce(b.opened_at, EXCLUDED.opened_at) ELSE EXCLUDED.opened_at END,
                 changed_at = CASE WHEN EXCLUDED.state = b.state THEN b.changed_at ELSE EXCLUDED.changed_at END",
            peer,
            state,
            counted(failures),
            counted(successes)
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Where a peer's breaker stood; `None`: it was never saved.
    ///
    /// # Errors
    /// The database's.
    #[tracing::instrument(name = "db.peers.breaker", level = "debug", skip_all, fields(peer))]
    pub async fn breaker_of(&self, peer: &str) -> Result<Option<KeptBreaker>, Error> {
        let row = sqlx::query!(
            "SELECT state, failures, successes, changed_at,
                 extract(epoch FROM clock_timestamp() - opened_at)::float8 AS opened_ago
             FROM peer_breakers WHERE peer = $1",
            peer
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| KeptBreaker {
            state: row.state,
            failures: row.failures.unsigned_abs(),
            successes: row.successes.unsigned_abs(),
            // The server's clock may have been put back since.
            opened_ago: row.opened_ago.map(|secs| Duration::try_from_secs_f64(secs).unwrap_or_default()),
            changed_at: row.changed_at,
        }))
    }
}

/// Policies ask for a few; what is beyond the column is as many as any.
fn counted(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
