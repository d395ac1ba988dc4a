//! A digest of many forms as an item of the set protocol, which compares digests as it compares forms.

use super::Item;
use super::bytes::{day_of, number_of};
use chrono::NaiveDate;
use sha2::{Digest as _, Sha256};

/// Bytes of an item that tell where it lies and how many forms it stands for; the rest is a hash.
const KEY_BYTES: usize = 12;

/// What a node knows of the forms of a year, a day or a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// The day; of a year its first one.
    pub day: NaiveDate,
    /// The bucket; 0 of a day or a year.
    pub bucket: u16,
    /// How many forms.
    pub count: u64,
    /// XOR of the first 8 bytes of their items.
    pub hash_a: i64,
    /// XOR of the second 8 bytes.
    pub hash_b: i64,
}

/// What an item of a digest tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digested {
    /// See [`Digest::day`].
    pub day: NaiveDate,
    /// See [`Digest::bucket`].
    pub bucket: u16,
    /// How many forms; what it says of over 2^48 is 2^48 − 1.
    pub count: u64,
}

impl Digest {
    /// The item: day, bucket and count, so that the peer can read them, then a hash of everything. Equal where the
    /// digests are equal, and nowhere else.
    pub fn item(&self) -> Item {
        let number = number_of(self.day).to_be_bytes();
        let mut sha = Sha256::new();
        sha.update(number);
        sha.update(self.bucket.to_be_bytes());
        sha.update(self.count.to_be_bytes());
        sha.update(self.hash_a.to_be_bytes());
        sha.update(self.hash_b.to_be_bytes());
        let mut item: Item = sha.finalize().into();
        item[..4].copy_from_slice(&number);
        item[4..6].copy_from_slice(&self.bucket.to_be_bytes());
        item[6..KEY_BYTES].copy_from_slice(&self.count.min((1 << 48) - 1).to_be_bytes()[2..]);
        item
    }

    /// Where the item stands among the others.
    pub fn place(&self) -> u64 {
        u64::from(number_of(self.day)) << 16 | u64::from(self.bucket)
    }
}

impl Digested {
    /// Reads an item; `None`: it is that of no day.
    pub fn read(item: &Item) -> Option<Self> {
        let [a, b, c, d, high, low, count @ ..] = item;
        let day = day_of(u32::from_be_bytes([*a, *b, *c, *d]))?;
        let count = count[..6].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Some(Digested { day, bucket: u16::from_be_bytes([*high, *low]), count })
    }
}
