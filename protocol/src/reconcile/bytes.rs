//! Fields of a message to bytes and back. Nothing is allocated for what is not there.

use super::{
    EventName, LAST_BUCKET, MAX_ID_BYTES, MAX_MESSAGE, MAX_PARTS, MAX_TYPE_BYTES, Malformed, Part, VERSION,
};
use chrono::{Datelike as _, NaiveDate};

/// The last day of the year 9999, counted from the first of the year 1, which is 1.
const LAST_DAY: u32 = 3_652_059;

/// Days since the first of the year 1, which is day 1; 0 for those before.
pub(super) fn number_of(day: NaiveDate) -> u32 {
    u32::try_from(day.num_days_from_ce()).unwrap_or(0)
}

/// The day of a number, of the years 1 to 9999.
pub(super) fn day_of(number: u32) -> Option<NaiveDate> {
    let number = Some(number).filter(|number| (1..=LAST_DAY).contains(number))?;
    NaiveDate::from_num_days_from_ce_opt(i32::try_from(number).ok()?)
}

pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(kind: u8) -> Self {
        Writer(vec![VERSION, kind])
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn list<T>(&mut self, list: &[T], mut put: impl FnMut(&mut Self, &T)) {
        // One that is too long for its length is refused for that.
        self.put(&u32::try_from(list.len()).unwrap_or(u32::MAX).to_be_bytes());
        for element in list {
            put(self, element);
        }
    }

    pub(super) fn days(&mut self, days: &[NaiveDate]) {
        self.list(days, |to, day| to.put(&number_of(*day).to_be_bytes()));
    }

    pub(super) fn parts(&mut self, parts: &[Part]) {
        self.list(parts, |to, part| {
            to.put(&number_of(part.day).to_be_bytes());
            to.put(&part.low.to_be_bytes());
            to.put(&part.high.to_be_bytes());
        });
    }

    pub(super) fn name(&mut self, name: &EventName) {
        for text in [&name.event_id, &name.event_type] {
            self.put(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            self.put(text.as_bytes());
        }
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// What of a message is not read yet.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The kind, and the fields.
    pub(super) fn open(message: &'a [u8]) -> Result<(u8, Self), Malformed> {
        if message.len() > MAX_MESSAGE {
            return Err(Malformed::TooLong);
        }
        match message {
            [VERSION, kind, rest @ ..] => Ok((*kind, Reader(rest))),
            [VERSION] => Err(Malformed::Length),
            _ => Err(Malformed::Version),
        }
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Length) }
    }

    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Malformed::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed::Length)
    }

    /// A list of at most `most` elements, each of at least `bytes` bytes.
    pub(super) fn list<T>(
        &mut self,
        most: usize,
        bytes: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let length = u32::from_be_bytes(self.array()?);
        let length = usize::try_from(length).ok().filter(|n| *n <= most).ok_or(Malformed::Bound)?;
        // What the message says of itself is not believed before its bytes are there.
        if length * bytes > self.0.len() {
            return Err(Malformed::Length);
        }
        let mut list = Vec::with_capacity(length);
        for _ in 0..length {
            list.push(read(self)?);
        }
        Ok(list)
    }

    fn day(&mut self) -> Result<NaiveDate, Malformed> {
        day_of(u32::from_be_bytes(self.array()?)).ok_or(Malformed::Day)
    }

    pub(super) fn years(&mut self) -> Result<Vec<u16>, Malformed> {
        let years = self.list(MAX_PARTS, 2, |from| Ok(u16::from_be_bytes(from.array()?)))?;
        if !years.iter().all(|year| (1..=9999).contains(year)) {
            return Err(Malformed::Day);
        }
        ascending(years, |a, b| a < b)
    }

    pub(super) fn days(&mut self) -> Result<Vec<NaiveDate>, Malformed> {
        let days = self.list(MAX_PARTS, 4, Self::day)?;
        ascending(days, |a, b| a < b)
    }

    pub(super) fn parts(&mut self) -> Result<Vec<Part>, Malformed> {
        let parts = self.list(MAX_PARTS, 8, |from| {
            let day = from.day()?;
            let low = u16::from_be_bytes(from.array()?);
            let high = u16::from_be_bytes(from.array()?);
            if low <= high && high <= LAST_BUCKET { Ok(Part { day, low, high }) } else { Err(Malformed::Day) }
        })?;
        ascending(parts, |a, b| (a.day, a.high) < (b.day, b.low))
    }

    pub(super) fn name(&mut self) -> Result<EventName, Malformed> {
        let event_id = self.text(MAX_ID_BYTES)?;
        Ok(EventName { event_id, event_type: self.text(MAX_TYPE_BYTES)? })
    }

    fn text(&mut self, most: usize) -> Result<String, Malformed> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        if length > most {
            return Err(Malformed::Bound);
        }
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Malformed::Text)?;
        // PostgreSQL cannot be asked for it.
        if text.contains('\0') { Err(Malformed::Text) } else { Ok(text.to_owned()) }
    }
}

fn ascending<T>(list: Vec<T>, before: impl Fn(&T, &T) -> bool) -> Result<Vec<T>, Malformed> {
    if list.windows(2).all(|two| before(&two[0], &two[1])) { Ok(list) } else { Err(Malformed::Order) }
}
