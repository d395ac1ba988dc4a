//! How registers are stored: every device and every event is named once.

use super::{Registers, Stamp};
use crate::clock::{Key, VectorClock};
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The stored form.
#[derive(Serialize, Deserialize)]
pub(super) struct Packed {
    devices: Vec<String>,
    stamps: Vec<PackedStamp>,
    /// Field -> its versions: index of the stamp, value as JSON text.
    fields: BTreeMap<String, Vec<(usize, String)>>,
}

/// Event id, ms, index of its device, entries of its clock: index of the device, counter.
type PackedStamp = (String, i64, usize, Vec<(usize, i64)>);

/// What may be read: the form of now, and that of version 0.1.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Stored {
    Packed(Packed),
    Plain { stamps: BTreeMap<String, Stamp>, fields: BTreeMap<String, BTreeMap<String, String>> },
}

impl From<Registers> for Packed {
    fn from(registers: Registers) -> Self {
        let mut devices: BTreeMap<String, usize> = BTreeMap::new();
        for stamp in registers.stamps.values() {
            for device in stamp.clock.0.keys().chain([&stamp.key.device_id]) {
                let next = devices.len();
                devices.entry(device.clone()).or_insert(next);
            }
        }
        let stamp = |stamp: &Stamp| -> PackedStamp {
            let clock = stamp.clock.0.iter().map(|(device, n)| (devices[device], *n)).collect();
            let Key { created_at, device_id, event_id } = &stamp.key;
            (event_id.clone(), created_at.timestamp_millis(), devices[device_id], clock)
        };
        let stamps = registers.stamps.values().map(stamp).collect();
        let places: BTreeMap<&String, usize> = registers.stamps.keys().zip(0..).collect();
        let fields = registers.fields.into_iter().map(|(field, versions)| {
            (field, versions.into_iter().map(|(event, value)| (places[&event], value)).collect())
        });
        let fields = fields.collect();
        let mut names = vec![String::new(); devices.len()];
        for (device, place) in devices {
            names[place] = device;
        }
        Packed { devices: names, stamps, fields }
    }
}

impl TryFrom<Stored> for Registers {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        match stored {
            Stored::Plain { stamps, fields } => {
                let known = fields.values().flat_map(BTreeMap::keys).all(|event| stamps.contains_key(event));
                if known { Ok(Registers { stamps, fields }) } else { Err("a version has no stamp") }
            }
            Stored::Packed(packed) => packed.unpack().ok_or("an index or a time is out of bounds"),
        }
    }
}

impl Packed {
    fn unpack(self) -> Option<Registers> {
        let device = |place: usize| self.devices.get(place).cloned();
        let mut stamps = Vec::with_capacity(self.stamps.len());
        for (event_id, ms, own, clock) in &self.stamps {
            let key = Key {
                created_at: DateTime::from_timestamp_millis(*ms)?,
                device_id: device(*own)?,
                event_id: event_id.clone(),
            };
            let entries: Option<BTreeMap<String, i64>> =
                clock.iter().map(|(place, n)| Some((device(*place)?, *n))).collect();
            stamps.push(Stamp { key, clock: VectorClock(entries?) });
        }
        let mut fields = BTreeMap::new();
        for (field, versions) in self.fields {
            let named: Option<BTreeMap<String, String>> = versions
                .into_iter()
                .map(|(place, value)| Some((stamps.get(place)?.key.event_id.clone(), value)))
                .collect();
            fields.insert(field, named?);
        }
        let stamps = stamps.into_iter().map(|stamp| (stamp.key.event_id.clone(), stamp)).collect();
        Some(Registers { stamps, fields })
    }
}
