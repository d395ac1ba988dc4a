//! v1's JWTs: HS256, and exactly that.
//!
//! Own code of a few lines, since a library's choice of algorithms is what such checks fail by. What
//! never will be here: making a token (only v1 does), another algorithm, a read of a clock.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use uuid::Uuid;

use crate::config::Secret;

/// Longest `sub`: v1's is a UUID.
const MAX_SUB: usize = 128;

/// What a user is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The store's owner.
    Owner,
    /// A cashier.
    Cashier,
}

/// The claims that are looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// The user's store.
    pub store_id: Uuid,
    /// The user's role.
    pub role: Role,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood; none is.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Payload {
    sub: String,
    store_id: Uuid,
    role: Role,
    exp: f64,
    nbf: Option<f64>,
}

/// The secret shared with v1, ready to verify.
#[derive(Clone)]
pub struct JwtKey(Hmac<Sha256>);

impl std::fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JwtKey")
    }
}

impl JwtKey {
    /// The key of a secret of any length.
    pub fn new(secret: &Secret) -> Self {
        let bytes = secret.expose().as_bytes();
        // HMAC takes keys of every length, so the fallback is never used; it would match no token.
        Self(Hmac::new_from_slice(bytes).unwrap_or_else(|_| Hmac::new(&Default::default())))
    }

    /// The claims of a token that is sound, signed and not past its end by `grace` or more; `None`
    /// for any other, without saying why.
    pub fn verify(&self, token: &str, now: DateTime<Utc>, grace: Duration) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        let header: Header = decode(header)?;
        if header.alg != "HS256" || header.crit.is_some() {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        // Constant in time, and before anything of the payload is looked at.
        self.0.clone().chain_update(signed).verify_slice(&signature).ok()?;
        let payload: Payload = decode(payload)?;
        let now = now.timestamp_millis() as f64 / 1000.0;
        let in_time = now < payload.exp + grace.as_secs_f64() && payload.nbf.is_none_or(|start| start <= now);
        let sound = (1..=MAX_SUB).contains(&payload.sub.len()) && !payload.sub.chars().any(char::is_control);
        (in_time && sound).then_some(Claims {
            sub: payload.sub,
            store_id: payload.store_id,
            role: payload.role,
        })
    }
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A token over these texts, signed by HS256 whatever the header says.
    pub(in super::super) fn signed(secret: &str, header: &Value, payload: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(payload));
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(&signed);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    pub(in super::super) fn payload(store: Uuid, exp: i64) -> Value {
        json!({"sub": "u-1", "store_id": store, "role": "cashier", "exp": exp, "iat": 1, "more": [1]})
    }

    const EXP: i64 = 1_800_000_000;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn verify(token: &str, seconds: i64, grace: u64) -> Option<Claims> {
        JwtKey::new(&Secret::new("v1-secret")).verify(token, at(seconds), Duration::from_secs(grace))
    }

    fn header() -> Value {
        json!({"alg": "HS256", "typ": "JWT"})
    }

    #[test]
    fn the_signature_of_another_implementation_verifies() {
        // The published example of jwt.io; it lacks our claims, so the signature alone is looked at.
        let text = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
                    eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ";
        let signature = URL_SAFE_NO_PAD.decode("SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c").unwrap();
        let mac = JwtKey::new(&Secret::new("your-256-bit-secret")).0.chain_update(text);
        mac.verify_slice(&signature).unwrap();
    }

    #[test]
    fn a_sound_token_gives_its_claims() {
        let store = Uuid::from_u128(7);
        let token = signed("v1-secret", &header(), &payload(store, EXP));
        let claims = verify(&token, EXP - 1, 0).unwrap();
        assert_eq!(claims, Claims { sub: "u-1".into(), store_id: store, role: Role::Cashier });
    }

    #[test]
    fn the_end_is_strict_and_the_grace_ends_too() {
        let token = signed("v1-secret", &header(), &payload(Uuid::nil(), EXP));
        assert!(verify(&token, EXP - 1, 0).is_some());
        assert!(verify(&token, EXP, 0).is_none());
        assert!(verify(&token, EXP + 59, 60).is_some());
        assert!(verify(&token, EXP + 60, 60).is_none());
    }

    #[test]
    fn only_hs256_is_taken() {
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "hs256"}),
            json!({"alg": "HS512"}),
            json!({"alg": "RS256"}),
            json!({"alg": ["HS256"]}),
            json!({"typ": "JWT"}),
            json!({"alg": "HS256", "crit": ["exp"]}),
        ] {
            let token = signed("v1-secret", &header, &payload(Uuid::nil(), EXP));
            assert!(verify(&token, EXP - 1, 0).is_none(), "{header}");
        }
    }

    #[test]
    fn forged_and_broken_tokens_are_refused() {
        let sound = signed("v1-secret", &header(), &payload(Uuid::nil(), EXP));
        let (text, signature) = sound.rsplit_once('.').unwrap();
        let other = signed("v1-secret", &header(), &payload(Uuid::from_u128(1), EXP));
        let (other_text, _) = other.rsplit_once('.').unwrap();
        for bad in [
            signed("other-secret", &header(), &payload(Uuid::nil(), EXP)),
            format!("{other_text}.{signature}"),
            format!("{text}."),
            format!("{text}.{}", &signature[..20]),
            format!("{text}.{signature}="),
            format!("{sound}.{signature}"),
            format!(".{sound}"),
            "..".into(),
            "a.b".into(),
            String::new(),
        ] {
            assert!(verify(&bad, EXP - 1, 0).is_none(), "{bad}");
        }
    }

    #[test]
    fn every_claim_is_needed() {
        for (claim, value) in [
            ("sub", Value::Null),
            ("sub", json!("")),
            ("sub", json!("x".repeat(MAX_SUB + 1))),
            ("sub", json!("a\nb")),
            ("store_id", json!("not-a-uuid")),
            ("store_id", Value::Null),
            ("role", json!("admin")),
            ("role", Value::Null),
            ("exp", Value::Null),
            ("exp", json!("soon")),
            ("nbf", json!(EXP)),
        ] {
            let mut payload = payload(Uuid::nil(), EXP);
            payload[claim] = value;
            let token = signed("v1-secret", &header(), &payload);
            assert!(verify(&token, EXP - 1, 0).is_none(), "{payload}");
        }
    }
}
