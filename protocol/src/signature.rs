//! How one node proves itself to another: HMAC-SHA-256 over a request's essentials (02, Federation).
//!
//! Never here: keeping nonces, reading a clock, HTTP.

use chrono::{DateTime, Duration, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Header: first 16 hex digits of SHA-256(key), which tells whose request it is.
pub const KEY_HEADER: &str = "x-velox-key";
/// Header: the sender's time, ms since 1970.
pub const TIME_HEADER: &str = "x-velox-time";
/// Header: a text that the sender uses once.
pub const NONCE_HEADER: &str = "x-velox-nonce";
/// Header: the signature, lower-case hex.
pub const SIGNATURE_HEADER: &str = "x-velox-signature";

/// How far the clocks of two nodes may be apart.
pub const WINDOW: Duration = Duration::seconds(300);
/// Longest nonce, in bytes.
pub const MAX_NONCE: usize = 128;

/// What is signed of a request.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// In upper case.
    pub method: &'a str,
    /// Path and query, as they stand in the request line.
    pub path_and_query: &'a str,
    /// Of the body as it is sent, compressed or not.
    pub body_sha256: &'a [u8; 32],
    /// ms since 1970.
    pub time: i64,
    /// See [`NONCE_HEADER`].
    pub nonce: &'a str,
    /// See [`key_id`].
    pub key_id: &'a str,
}

impl Signed<'_> {
    /// The signature under this key, lower-case hex.
    pub fn signature(&self, key: &str) -> String {
        hex(&self.mac(key).finalize().into_bytes())
    }

    /// Whether `signature`, hex, is the one under this key; compared in constant time.
    pub fn is_signed_by(&self, key: &str, signature: &str) -> bool {
        unhex(signature).is_some_and(|bytes| self.mac(key).verify_slice(&bytes).is_ok())
    }

    /// Whether the sender's time is near enough to `now`.
    pub fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        let window = WINDOW.num_milliseconds();
        now.timestamp_millis().checked_sub(self.time).is_some_and(|age| (-window..=window).contains(&age))
    }

    fn mac(&self, key: &str) -> Hmac<Sha256> {
        let text = [
            self.method,
            self.path_and_query,
            &hex(self.body_sha256),
            &self.time.to_string(),
            self.nonce,
            self.key_id,
        ]
        .join("\n");
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key");
        mac.update(text.as_bytes());
        mac
    }
}

/// The name of a key, which may be shown.
pub fn key_id(key: &str) -> String {
    hex(&Sha256::digest(key)[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || text.len() != 64 {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed<'a>(body_sha256: &'a [u8; 32], key_id: &'a str) -> Signed<'a> {
        Signed {
            method: "POST",
            path_and_query: "/sync/federation/relay?x=1",
            body_sha256,
            time: 1_763_950_000_123,
            nonce: "n-1",
            key_id,
        }
    }

    #[test]
    fn the_signature_is_hmac_of_the_lines() {
        let body: [u8; 32] = Sha256::digest(b"{}").into();
        let id = key_id("k");
        let signature = signed(&body, &id).signature("k");
        // openssl dgst -sha256 -hmac k over the six lines
        assert_eq!(id, "8254c329a92850f6");
        assert_eq!(signature, "dcbd92888ba139412110b814c5a139cb63e33fd76eb578d9a12aa20c3b3ea566");
        assert!(signed(&body, &id).is_signed_by("k", &signature));
        assert!(!signed(&body, &id).is_signed_by("other", &signature));
    }

    #[test]
    fn each_part_is_covered() {
        let (body, other): ([u8; 32], [u8; 32]) =
            (Sha256::digest(b"{}").into(), Sha256::digest(b"[]").into());
        let good = signed(&body, "id");
        let signature = good.signature("k");
        for changed in [
            Signed { method: "GET", ..good },
            Signed { path_and_query: "/sync/federation/relay", ..good },
            Signed { body_sha256: &other, ..good },
            Signed { time: good.time + 1, ..good },
            Signed { nonce: "n-2", ..good },
            Signed { key_id: "di", ..good },
        ] {
            assert!(!changed.is_signed_by("k", &signature), "{changed:?}");
        }
        for spoiled in ["", "zz", &signature[1..], &signature.replace(['0', '1', '2', '3'], "é")] {
            assert!(!good.is_signed_by("k", spoiled), "{spoiled}");
        }
    }

    #[test]
    fn a_time_within_the_window_is_fresh() {
        let body = [0; 32];
        let request = signed(&body, "id");
        let at = |ms: i64| DateTime::from_timestamp_millis(request.time + ms).expect("a time");
        assert!(request.is_fresh(at(0)) && request.is_fresh(at(300_000)) && request.is_fresh(at(-300_000)));
        assert!(!request.is_fresh(at(300_001)) && !request.is_fresh(at(-300_001)));
        assert!(!Signed { time: i64::MIN, ..request }.is_fresh(at(0)));
    }
}
