//! An event at the door: its envelope, what is refused, what is only remarked upon.
//!
//! Never here: the fields of a payload (see [`crate::payload`]), or what is already stored.

use crate::canonical::{self, Hash, KeyOrder};
use crate::clock::{Key, VectorClock};
use crate::json::{Json, MAX_DEPTH, Member};
use crate::payload::Payload;
use crate::{V1_NODE_DEVICE, catalogue, time, v1};
use chrono::{DateTime, Duration, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Largest payload, in bytes as sent.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// Largest event, in bytes as sent: payload, delta and as much again for the rest.
pub const MAX_EVENT_BYTES: usize = 3 * MAX_PAYLOAD_BYTES;
/// Longest id, in characters.
pub const MAX_ID_CHARS: usize = 255;
/// Longest event type, in characters.
pub const MAX_TYPE_CHARS: usize = 100;
/// A device's time may be this far ahead of the node's before it is remarked upon.
pub const SKEW_AHEAD: Duration = Duration::minutes(5);
/// A device's time may be this far behind the node's before it is remarked upon.
pub const SKEW_BEHIND: Duration = Duration::days(400);
const SYNTHETIC_IDS: [&str; 2] =
    ["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"];

/// A stored event; everything that identifies it and all that is relayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The shop.
    pub store_id: Uuid,
    /// Unique in its store; lower-case where it is a UUID.
    pub event_id: String,
    /// The writing till.
    pub device_id: String,
    /// The till's own counter.
    pub seq: Option<i64>,
    /// The type's name, known or not.
    pub event_type: String,
    /// Version of the payload's schema.
    pub version: i32,
    /// The device's time, to the millisecond.
    pub created_at: DateTime<Utc>,
    /// The payload, byte for byte.
    pub payload: String,
    /// SHA-256 of the canonical payload without `metadata.sync_soft_validation`.
    pub payload_hash: Hash,
    /// The sender's own hash, where it was well-formed and right.
    pub sent_hash: Option<Hash>,
    /// The delta, byte for byte.
    pub delta_payload: Option<String>,
    /// The sent clock's sound entries; `None` where none was sent.
    pub vector_clock: Option<VectorClock>,
    /// Ids of events that the sender saw before.
    pub causal_dependencies: Vec<String>,
    /// The envelope's request id.
    pub request_id: Option<String>,
    /// Kept and relayed.
    pub causal_digest: Option<String>,
    /// Who acted.
    pub actor_user_id: Option<String>,
    /// In which role.
    pub actor_role: Option<String>,
}

impl Event {
    /// The event's place in the total order.
    pub fn key(&self) -> Key {
        Key {
            created_at: self.created_at,
            device_id: self.device_id.clone(),
            event_id: self.event_id.clone(),
        }
    }

    /// What is compared with other contents of the same id.
    pub fn form(&self) -> Form {
        Form {
            event_type: self.event_type.clone(),
            payload_hash: self.payload_hash,
            created_at: self.created_at,
            device_id: self.device_id.clone(),
            seq: self.seq,
            hash: self.form_hash(),
        }
    }

    /// SHA-256 of the form: what tells two contents of one id apart, also where their payloads agree.
    pub fn form_hash(&self) -> Hash {
        let mut sha = Sha256::new();
        let mut add = |part: &[u8]| {
            sha.update((part.len() as u64).to_be_bytes());
            sha.update(part);
        };
        add(self.event_type.as_bytes());
        add(&self.payload_hash);
        add(&self.created_at.timestamp_millis().to_be_bytes());
        add(self.device_id.as_bytes());
        add(&self.seq.unwrap_or(-1).to_be_bytes());
        add(self.request_id.as_deref().unwrap_or("").as_bytes());
        // A payload means another thing in another version. Most are of the first one, which adds nothing.
        if self.version != 1 {
            add(&self.version.to_be_bytes());
        }
        // Entry by entry: the text of the digest would take the device `a:1|b` for two.
        for (device, counter) in self.vector_clock.iter().flat_map(|clock| &clock.0) {
            add(device.as_bytes());
            add(&counter.to_be_bytes());
        }
        sha.finalize().into()
    }
}

/// What tells the contents of one id apart, in their order: the smallest form is the effective one (01).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Form {
    /// The type, bytewise.
    pub event_type: String,
    /// See [`Event::payload_hash`].
    pub payload_hash: Hash,
    /// The device's time.
    pub created_at: DateTime<Utc>,
    /// The writing till.
    pub device_id: String,
    /// The till's counter.
    pub seq: Option<i64>,
    /// See [`Event::form_hash`]: decides between forms that differ in their clock or request id alone.
    pub hash: Hash,
}

/// Codes of remarks in a push's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WarningCode {
    /// The device's time is unreadable, far ahead or far behind.
    ClockSkew,
    /// The type is not in the catalogue: stored, projected by a version that knows it.
    UnknownType,
    /// Stored, but not projected as it is; or projected, but its sums do not add up.
    MalformedPayload,
    /// The hash is malformed, so it was not checked.
    HashUnusable,
    /// A smaller event bears the same id: this one is kept and points to it.
    Absorbed,
    /// The actor is not the credential's user.
    ActorMismatch,
    /// Another event bears the same device and seq: both are kept, the till may be a clone.
    DeviceIdCollision,
    /// Another till has set another price at the same time: a person has to decide.
    ConflictOpen,
    /// The id is known with other content: both are kept. To nodes alone, a till is refused.
    EventContentConflict,
}

impl WarningCode {
    /// As on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            WarningCode::ClockSkew => "CLOCK_SKEW",
            WarningCode::UnknownType => "UNKNOWN_TYPE",
            WarningCode::MalformedPayload => "MALFORMED_PAYLOAD",
            WarningCode::HashUnusable => "HASH_UNUSABLE",
            WarningCode::Absorbed => "ABSORBED",
            WarningCode::ActorMismatch => "ACTOR_MISMATCH",
            WarningCode::DeviceIdCollision => "DEVICE_ID_COLLISION",
            WarningCode::ConflictOpen => "CONFLICT_OPEN",
            WarningCode::EventContentConflict => "EVENT_CONTENT_CONFLICT",
        }
    }
}

/// One remark about one event, in a push's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Warning {
    /// The event.
    pub event_id: String,
    /// What kind of remark.
    pub code: WarningCode,
    /// For a person.
    pub message: String,
}

/// Why an event is refused for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RejectionCode {
    /// It can never be stored; the till gives it up.
    ValidationError,
    /// Its hash is wrong, or its id is known with other content.
    IntegrityError,
}

/// One refused event, in a push's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Rejection {
    /// The event's id as far as it could be read.
    pub event_id: String,
    /// The till's counter, where it could be read.
    pub seq: Option<i64>,
    /// Which kind.
    pub code: RejectionCode,
    /// For a person; echoes nothing of the input.
    pub message: String,
}

/// Who sends, and when: what an event's own text does not say.
#[derive(Debug, Clone)]
pub struct Sender<'a> {
    /// The push's store.
    pub store_id: Uuid,
    /// The push's device.
    pub device_id: &'a str,
    /// The push's client version.
    pub client_version: &'a str,
    /// The JWT's user, where there is one.
    pub user_id: Option<&'a str>,
    /// The node's time.
    pub now: DateTime<Utc>,
}

/// An event that will be stored, with what is to be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// What is stored.
    pub event: Event,
    /// Remarks, for the answer.
    pub warnings: Vec<Warning>,
    /// The payload's meaning, where this version has one and it could be read.
    pub meaning: Option<Payload>,
}

/// Reads one element of a push's `events`.
///
/// # Errors
/// A [`Rejection`] for what cannot be kept or trusted; everything else is stored.
pub fn read(text: &str, sender: &Sender<'_>) -> Result<Received, Rejection> {
    let mut refused = Rejection {
        event_id: String::new(),
        seq: None,
        code: RejectionCode::ValidationError,
        message: String::new(),
    };
    if text.len() > MAX_EVENT_BYTES {
        refused.event_id = lenient_id(text);
        refused.message = "the event is over 3 MiB".to_owned();
        return Err(refused);
    }
    let json = match Json::parse_within(text, MAX_DEPTH + 1) {
        Ok(json) => json,
        Err(error) => {
            // The id may still be readable, so that the till knows which event to give up.
            refused.event_id = lenient_id(text);
            refused.message = error.to_string();
            return Err(refused);
        }
    };
    refused.event_id = json.get("event_id").and_then(Json::as_str).unwrap_or_default().to_owned();
    refused.seq = json.get("seq").and_then(Json::as_i64);
    let envelope = Envelope { json: &json, sender };
    envelope.read().map_err(|(code, message)| Rejection { code, message: message.to_owned(), ..refused })
}

/// UUID-shaped texts (8-4-4-4-12 hex digits) in lower case, all others as they are.
pub fn normal_id(text: &str) -> String {
    match uuid_of(text) {
        Some(_) => text.to_ascii_lowercase(),
        None => text.to_owned(),
    }
}

/// A UUID in its usual shape; braced, bare and urn forms are none.
pub fn uuid_of(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

/// The id of what cannot be read as an event otherwise; empty where it has none.
pub fn lenient_id(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct OnlyId {
        #[serde(default)]
        event_id: String,
    }
    serde_json::from_str::<OnlyId>(text).map(|only| only.event_id).unwrap_or_default()
}

type Refusal = (RejectionCode, &'static str);

struct Envelope<'a> {
    json: &'a Json<'a>,
    sender: &'a Sender<'a>,
}

impl<'a> Envelope<'a> {
    fn read(&self) -> Result<Received, Refusal> {
        let invalid = |message| (RejectionCode::ValidationError, message);
        let event_id = self.text("event_id").ok_or(invalid("event_id is missing or no text"))?;
        if event_id.chars().count() > MAX_ID_CHARS {
            return Err(invalid("event_id is too long"));
        }
        let event_type = self.text("type").ok_or(invalid("type is missing or no text"))?;
        if event_type.chars().count() > MAX_TYPE_CHARS {
            return Err(invalid("type is too long"));
        }
        let payload = self.json.member("payload").ok_or(invalid("payload is missing"))?;
        if payload.value.as_object().is_none() {
            return Err(invalid("payload is no object"));
        }
        if payload.raw.len() > MAX_PAYLOAD_BYTES {
            return Err(invalid("payload is over 1 MiB"));
        }
        self.refuse_synthetic(event_id, event_type)?;
        let event_id = normal_id(event_id);
        let mut remarks = Remarks { event_id: &event_id, warnings: Vec::new() };
        let delta = self.json.member("delta_payload").filter(|m| m.value.as_object().is_some());
        let payload_hash = form_payload_hash(&payload.value);
        let sent_hash = self.check_hash(event_type, payload, delta, payload_hash, &mut remarks)?;
        let created_at = self.created_at(&mut remarks);
        let version = self.version();
        let actor_user_id = self.actor("user_id", "actor_user_id");
        self.check_actor(actor_user_id.as_deref(), &mut remarks);
        let meaning = read_meaning(event_type, version, &payload.value, &mut remarks);
        let warnings = remarks.warnings;
        let event = Event {
            store_id: self.sender.store_id,
            device_id: self.sender.device_id.to_owned(),
            seq: self.json.get("seq").and_then(Json::as_i64).filter(|seq| *seq >= 0),
            event_type: event_type.to_owned(),
            version,
            created_at,
            payload: payload.raw.to_owned(),
            payload_hash,
            sent_hash,
            delta_payload: delta.map(|m| m.raw.to_owned()),
            vector_clock: self.json.get("vector_clock").map(VectorClock::read),
            causal_dependencies: self.dependencies(),
            request_id: self.text("request_id").map(normal_id),
            causal_digest: self.text("causal_digest").map(str::to_owned),
            actor_user_id,
            actor_role: self.actor("role", "actor_role"),
            event_id,
        };
        Ok(Received { event, warnings, meaning })
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.json.get(key).and_then(Json::as_str)
    }

    fn refuse_synthetic(&self, event_id: &str, event_type: &str) -> Result<(), Refusal> {
        let synthetic = event_type == "SaleCreated"
            && self.sender.client_version == v1::SYNTHETIC_CLIENT
            && (SYNTHETIC_IDS.contains(&event_id) || self.text("full_payload_hash") == Some("synthetic"));
        if synthetic { Err((RejectionCode::IntegrityError, "a synthetic sale is no sale")) } else { Ok(()) }
    }

    fn version(&self) -> i32 {
        let sent = self.json.get("version").and_then(Json::as_i64);
        sent.and_then(|v| i32::try_from(v).ok()).filter(|v| *v >= 1).unwrap_or(1)
    }

    fn created_at(&self, remarks: &mut Remarks<'_>) -> DateTime<Utc> {
        let Some(created_at) = self.json.get("created_at").and_then(time::read) else {
            remarks.add(WarningCode::ClockSkew, "created_at is missing or unreadable: kept as 1970");
            return DateTime::UNIX_EPOCH;
        };
        let now = self.sender.now;
        let skewed = created_at > now + SKEW_AHEAD || created_at < now - SKEW_BEHIND;
        if skewed && self.sender.device_id != V1_NODE_DEVICE {
            remarks.add(WarningCode::ClockSkew, "the device's clock differs from the node's");
        }
        created_at
    }

    fn actor(&self, inner: &str, flat: &str) -> Option<String> {
        let nested = self.json.get("actor").and_then(|actor| actor.get(inner)).and_then(Json::as_str);
        nested.or_else(|| self.text(flat)).map(normal_id)
    }

    fn check_actor(&self, actor: Option<&str>, remarks: &mut Remarks<'_>) {
        if let (Some(user), Some(actor)) = (self.sender.user_id, actor)
            && normal_id(user) != actor
        {
            remarks.add(WarningCode::ActorMismatch, "the actor is not the user of the credential");
        }
    }

    fn dependencies(&self) -> Vec<String> {
        let sent = self.json.get("causal_dependencies").and_then(Json::as_array).unwrap_or_default();
        sent.iter().filter_map(Json::as_str).map(normal_id).collect()
    }

    /// The sender's hash if it is well-formed and that of the delta or of the payload, in either key order.
    fn check_hash(
        &self,
        event_type: &str,
        payload: &Member<'_>,
        delta: Option<&Member<'_>>,
        form: Hash,
        remarks: &mut Remarks<'_>,
    ) -> Result<Option<Hash>, Refusal> {
        let Some(sent) = self.json.get("full_payload_hash").or_else(|| self.json.get("payload_hash")) else {
            return Ok(None);
        };
        let Some(sent) = sent.as_str().and_then(parse_hash) else {
            remarks.add(WarningCode::HashUnusable, "the hash is malformed and was not checked");
            return Ok(None);
        };
        let matches = |member: &Member<'_>| {
            [KeyOrder::Rfc8785, KeyOrder::JavaScript].into_iter().any(|order| {
                sent == canonical::hash(&member.value, order)
                    || sent == unmarked_hash(&member.value, order, EmptyMetadata::Dropped)
                    || sent == unmarked_hash(&member.value, order, EmptyMetadata::Kept)
            })
        };
        if sent == form || matches(payload) || delta.is_some_and(matches) {
            Ok(Some(sent))
        } else if self.is_lax(event_type) {
            remarks.add(WarningCode::HashUnusable, "the hash is that of neither payload nor delta");
            Ok(None)
        } else {
            Err((RejectionCode::IntegrityError, "the hash is that of neither payload nor delta"))
        }
    }

    /// A v1 node hashes some types otherwise; only of its critical ones a wrong hash is a fault. (A till that
    /// calls itself a node gains nothing: it may as well send no hash.)
    fn is_lax(&self, event_type: &str) -> bool {
        self.sender.client_version == v1::RELAY_CLIENT
            && !catalogue::find(event_type).is_some_and(|info| info.critical)
    }
}

struct Remarks<'a> {
    event_id: &'a str,
    warnings: Vec<Warning>,
}

impl Remarks<'_> {
    fn add(&mut self, code: WarningCode, message: impl Into<String>) {
        self.warnings.push(Warning { event_id: self.event_id.to_owned(), code, message: message.into() });
    }
}

fn read_meaning(
    event_type: &str,
    version: i32,
    payload: &Json<'_>,
    remarks: &mut Remarks<'_>,
) -> Option<Payload> {
    if catalogue::find(event_type).is_none() {
        remarks.add(WarningCode::UnknownType, "stored; projected by a version that knows the type");
        return None;
    }
    if !catalogue::is_projected(event_type, version) {
        return None;
    }
    match Payload::read(event_type, payload) {
        Ok(meaning) => {
            if let Payload::Sale(sale) = &meaning
                && let Some(flaw) = sale.flaw()
            {
                remarks.add(WarningCode::MalformedPayload, flaw);
            }
            Some(meaning)
        }
        Err(reason) => {
            remarks.add(WarningCode::MalformedPayload, reason);
            None
        }
    }
}

/// 64 hex digits in either case.
fn parse_hash(text: &str) -> Option<Hash> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(value(digits[0])? * 16 + value(digits[1])?).ok()?;
    }
    Some(hash)
}

/// Hash of the form: without `metadata.sync_soft_validation`, which v1's nodes add.
pub fn form_payload_hash(payload: &Json<'_>) -> Hash {
    unmarked_hash(payload, KeyOrder::Rfc8785, EmptyMetadata::Dropped)
}

/// What to do with a `metadata` that holds nothing but v1's mark: whether the till sent one cannot be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EmptyMetadata {
    /// v1 made it for its mark.
    Dropped,
    /// The till sent `{}`.
    Kept,
}

fn unmarked_hash(payload: &Json<'_>, order: KeyOrder, empty: EmptyMetadata) -> Hash {
    const ADDED: &str = "sync_soft_validation";
    let metadata = payload.member("metadata").filter(|m| m.value.member(ADDED).is_some());
    let (Some(metadata), Json::Object(members)) = (metadata, payload) else {
        return canonical::hash(payload, order);
    };
    let rest: Vec<Member<'_>> =
        metadata.value.as_object().unwrap_or_default().iter().filter(|m| m.key != ADDED).cloned().collect();
    let kept = (!rest.is_empty() || empty == EmptyMetadata::Kept)
        .then(|| Member { value: Json::Object(rest), ..metadata.clone() });
    let mut all: Vec<&Member<'_>> = members.iter().filter(|m| m.key != "metadata").collect();
    all.extend(kept.as_ref());
    let mut text = Vec::new();
    canonical::write_members(all, order, &mut text);
    Sha256::digest(&text).into()
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
