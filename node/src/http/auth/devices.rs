//! What the database says about tokens, stores and devices, remembered for a moment.
//!
//! A push a second from each of many tills must not be a query each. An answer, yes or no, is kept for
//! three seconds, so that a revocation is seen by every pod within five. What never will be here: a
//! longer memory, or a credential itself (tokens come as their hashes).

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;
use velox_protocol::time::Clock;
use velox_store::Store;

use crate::http::error::Problem;

/// How long an answer of the database is believed.
const LIFE: TimeDelta = TimeDelta::seconds(3);

/// Entries of one kind. More within three seconds is an attack or a very large node; either way the
/// memory starts anew and the database is asked.
const MAX_ENTRIES: usize = 10_000;

/// SHA-256 of a token.
type TokenHash = [u8; 32];

/// Tokens, stores and devices, by database and memory.
pub struct Devices {
    source: Source,
    clock: Arc<dyn Clock>,
    known: Memory<TokenHash, (Uuid, String)>,
    // Apart from the known ones, so that guesses cannot push them out.
    unknown: Memory<TokenHash, ()>,
    stores: Memory<Uuid, bool>,
    registered: Memory<(Uuid, String), ()>,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").finish_non_exhaustive()
    }
}

impl Devices {
    /// The devices of a database.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self::from_source(Source::Store(store), clock)
    }

    pub(super) fn from_source(source: Source, clock: Arc<dyn Clock>) -> Self {
        Self {
            source,
            clock,
            known: Memory::default(),
            unknown: Memory::default(),
            stores: Memory::default(),
            registered: Memory::default(),
        }
    }

    /// Store and device of a token; `None`: unknown or revoked.
    pub async fn by_token(&self, hash: TokenHash) -> Result<Option<(Uuid, String)>, Problem> {
        // Before the query: an entry must not outlive what the database said by the query's length.
        let now = self.clock.now();
        if let Some(device) = self.known.get(&hash, now) {
            return Ok(Some(device));
        }
        if self.unknown.get(&hash, now).is_some() {
            return Ok(None);
        }
        let found = self.source.device_by_token(&hash).await?;
        match &found {
            Some(device) => self.known.put(hash, device.clone(), now),
            None => self.unknown.put(hash, (), now),
        }
        Ok(found)
    }

    /// Whether this node knows the store.
    pub async fn store_exists(&self, store_id: Uuid) -> Result<bool, Problem> {
        let now = self.clock.now();
        if let Some(exists) = self.stores.get(&store_id, now) {
            return Ok(exists);
        }
        let exists = self.source.store_exists(store_id).await?;
        self.stores.put(store_id, exists, now);
        Ok(exists)
    }

    /// Makes a store known that a peer brings.
    pub async fn ensure_store(&self, store_id: Uuid) -> Result<(), Problem> {
        if !self.store_exists(store_id).await? {
            self.source.ensure_store(store_id).await?;
            self.stores.put(store_id, true, self.clock.now());
        }
        Ok(())
    }

    /// Makes the device known to the store.
    pub async fn register(&self, store_id: Uuid, device_id: &str) -> Result<(), Problem> {
        let now = self.clock.now();
        let key = (store_id, device_id.to_owned());
        if self.registered.get(&key, now).is_some() {
            return Ok(());
        }
        self.source.register_device(store_id, device_id).await?;
        self.registered.put(key, (), now);
        Ok(())
    }

    /// Forgets everything, after a change that this pod made itself and should see at once.
    pub fn forget(&self) {
        self.known.clear();
        self.unknown.clear();
        self.stores.clear();
        self.registered.clear();
    }
}

/// Where answers come from.
pub(super) enum Source {
    /// The database.
    Store(Store),
    /// A table of a test.
    #[cfg(test)]
    Fake(Arc<tests::Fake>),
}

impl Source {
    async fn device_by_token(&self, hash: &TokenHash) -> Result<Option<(Uuid, String)>, Problem> {
        match self {
            Self::Store(store) => Ok(store.device_by_token(hash).await?),
            #[cfg(test)]
            Self::Fake(fake) => fake.device_by_token(hash),
        }
    }

    async fn store_exists(&self, store_id: Uuid) -> Result<bool, Problem> {
        match self {
            Self::Store(store) => Ok(store.store_exists(store_id).await?),
            #[cfg(test)]
            Self::Fake(fake) => fake.store_exists(store_id),
        }
    }

    async fn ensure_store(&self, store_id: Uuid) -> Result<(), Problem> {
        match self {
            Self::Store(store) => Ok(store.ensure_store(store_id).await?),
            // A test's tables have the stores that it needs.
            #[cfg(test)]
            Self::Fake(_) => Ok(()),
        }
    }

    async fn register_device(&self, store_id: Uuid, device_id: &str) -> Result<(), Problem> {
        match self {
            Self::Store(store) => Ok(store.register_device(store_id, device_id).await?),
            #[cfg(test)]
            Self::Fake(fake) => fake.register_device(store_id, device_id),
        }
    }
}

/// Answers with the time at which they were asked for.
struct Memory<K, V>(Mutex<HashMap<K, (V, DateTime<Utc>)>>);

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, V: Clone> Memory<K, V> {
    fn get(&self, key: &K, now: DateTime<Utc>) -> Option<V> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, since) = entries.get(key)?;
        // A clock that was set back makes the age negative: not believed either.
        let age = now - since;
        (age >= TimeDelta::zero() && age < LIFE).then(|| value.clone())
    }

    fn put(&self, key: K, value: V, now: DateTime<Utc>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_ENTRIES {
            entries.clear();
        }
        entries.insert(key, (value, now));
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A clock that stands until it is moved.
    #[derive(Debug)]
    pub(in super::super) struct Standing(Mutex<DateTime<Utc>>);

    impl Standing {
        pub(in super::super) fn at(seconds: i64) -> Arc<Self> {
            Arc::new(Self(Mutex::new(DateTime::from_timestamp(seconds, 0).unwrap())))
        }
        pub(in super::super) fn advance(&self, by: TimeDelta) {
            *self.0.lock().unwrap() += by;
        }
    }

    impl Clock for Standing {
        fn now(&self) -> DateTime<Utc> {
            *self.0.lock().unwrap()
        }
    }

    /// The tables of a test, and what was asked of them.
    #[derive(Debug, Default)]
    pub(in super::super) struct Fake(Mutex<Tables>);

    #[derive(Debug, Default)]
    pub(in super::super) struct Tables {
        pub(in super::super) tokens: HashMap<TokenHash, (Uuid, String)>,
        pub(in super::super) stores: HashSet<Uuid>,
        pub(in super::super) registered: Vec<(Uuid, String)>,
        pub(in super::super) asked: usize,
        pub(in super::super) down: bool,
    }

    impl Fake {
        pub(in super::super) fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
            self.0.lock().unwrap()
        }
        fn ask(&self) -> Result<std::sync::MutexGuard<'_, Tables>, Problem> {
            let mut tables = self.tables();
            tables.asked += 1;
            if tables.down { Err(Problem::database(&std::io::Error::other("down"))) } else { Ok(tables) }
        }
        pub(super) fn device_by_token(&self, hash: &TokenHash) -> Result<Option<(Uuid, String)>, Problem> {
            Ok(self.ask()?.tokens.get(hash).cloned())
        }
        pub(super) fn store_exists(&self, store_id: Uuid) -> Result<bool, Problem> {
            Ok(self.ask()?.stores.contains(&store_id))
        }
        pub(super) fn register_device(&self, store_id: Uuid, device_id: &str) -> Result<(), Problem> {
            self.ask()?.registered.push((store_id, device_id.to_owned()));
            Ok(())
        }
    }

    fn devices() -> (Devices, Arc<Fake>, Arc<Standing>) {
        let (fake, clock) = (Arc::new(Fake::default()), Standing::at(1_000));
        (Devices::from_source(Source::Fake(Arc::clone(&fake)), clock.clone()), fake, clock)
    }

    #[actix_web::test]
    async fn answers_live_three_seconds() {
        let (devices, fake, clock) = devices();
        let device = (Uuid::from_u128(1), "d".to_owned());
        fake.tables().tokens.insert([1; 32], device.clone());
        for _ in 0..3 {
            assert_eq!(devices.by_token([1; 32]).await.unwrap(), Some(device.clone()));
            assert_eq!(devices.by_token([2; 32]).await.unwrap(), None);
            assert!(!devices.store_exists(Uuid::nil()).await.unwrap());
            devices.register(Uuid::nil(), "d").await.unwrap();
        }
        assert_eq!(fake.tables().asked, 4);
        // Revoked and issued by another pod.
        fake.tables().tokens = HashMap::from([([2; 32], device.clone())]);
        clock.advance(TimeDelta::milliseconds(2_999));
        assert!(devices.by_token([1; 32]).await.unwrap().is_some());
        clock.advance(TimeDelta::milliseconds(1));
        assert_eq!(devices.by_token([1; 32]).await.unwrap(), None);
        assert_eq!(devices.by_token([2; 32]).await.unwrap(), Some(device));
    }

    #[actix_web::test]
    async fn a_clock_set_back_believes_nothing() {
        let (devices, fake, clock) = devices();
        fake.tables().tokens.insert([1; 32], (Uuid::nil(), "d".into()));
        assert!(devices.by_token([1; 32]).await.unwrap().is_some());
        fake.tables().tokens.clear();
        clock.advance(TimeDelta::hours(-1));
        assert!(devices.by_token([1; 32]).await.unwrap().is_none());
    }

    #[actix_web::test]
    async fn a_fault_is_not_remembered() {
        let (devices, fake, _clock) = devices();
        fake.tables().down = true;
        devices.by_token([1; 32]).await.unwrap_err();
        fake.tables().down = false;
        fake.tables().tokens.insert([1; 32], (Uuid::nil(), "d".into()));
        assert!(devices.by_token([1; 32]).await.unwrap().is_some());
    }

    #[actix_web::test]
    async fn forgetting_asks_again() {
        let (devices, fake, _clock) = devices();
        fake.tables().tokens.insert([1; 32], (Uuid::nil(), "d".into()));
        assert!(devices.by_token([1; 32]).await.unwrap().is_some());
        fake.tables().tokens.clear();
        devices.forget();
        assert!(devices.by_token([1; 32]).await.unwrap().is_none());
    }

    #[actix_web::test]
    async fn the_memory_is_bounded_and_guesses_do_not_push_out_the_known() {
        let (devices, fake, _clock) = devices();
        fake.tables().tokens.insert([0xff; 32], (Uuid::nil(), "d".into()));
        devices.by_token([0xff; 32]).await.unwrap();
        for guess in 0..u32::try_from(MAX_ENTRIES).unwrap() + 10 {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&guess.to_be_bytes());
            devices.by_token(hash).await.unwrap();
        }
        assert!(devices.unknown.0.lock().unwrap().len() <= MAX_ENTRIES);
        let asked = fake.tables().asked;
        devices.by_token([0xff; 32]).await.unwrap();
        assert_eq!(fake.tables().asked, asked);
    }
}
