//! What is stored under the key of a document, and what a collection counts.

use std::ops::RangeInclusive;

use crate::error::{Error, Result};
use crate::store::collection::labels::{MAX_LABELS, is_label};

const VERSION: u8 = 1;
const HEADER: usize = 11;
/// Vectors that a document has at most.
pub(crate) const MAX_VECTORS: usize = 65_535;
/// The longest payload, in bytes: 1 GiB.
pub(crate) const MAX_PAYLOAD: usize = 1 << 30;
/// Ids that an index can have.
pub(crate) const ALL_IDS: u64 = 1 << 32;

/// What is damaged, for messages.
const TABLE: &str = "the table of documents";

/// A document as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct RecordRef<'t> {
    pub(crate) first: u32,
    pub(crate) vectors: u32,
    pub(crate) labels: Vec<&'t str>,
    pub(crate) payload: &'t [u8],
}

impl<'t> RecordRef<'t> {
    /// `key` is that of the entry, for errors.
    pub(crate) fn parse(key: &[u8], bytes: &'t [u8]) -> Result<Self> {
        check_version(key, bytes)?;
        Self::parse_parts(bytes).ok_or_else(|| damaged(key))
    }

    fn parse_parts(bytes: &'t [u8]) -> Option<Self> {
        let (header, mut rest) = bytes.split_first_chunk::<HEADER>()?;
        let [_, a, b, c, d, e, f, g, h, i, j] = *header;
        let count = usize::from(u16::from_le_bytes([a, b]));
        let (first, vectors) = (u32::from_le_bytes([c, d, e, f]), u32::from_le_bytes([g, h, i, j]));
        let mut labels = Vec::with_capacity(count.min(MAX_LABELS));
        for _ in 0..count {
            let (len, after) = rest.split_first()?;
            let (label, after) = after.split_at_checked(usize::from(*len))?;
            labels.push(std::str::from_utf8(label).ok()?);
            rest = after;
        }
        let is_sound = count <= MAX_LABELS
            && labels.is_sorted_by(|a, b| a < b)
            && labels.iter().all(|label| is_label(label))
            && (1..=MAX_VECTORS).contains(&(vectors as usize))
            && u64::from(first) + u64::from(vectors) <= ALL_IDS;
        is_sound.then_some(Self { first, vectors, labels, payload: rest })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let labels: usize = self.labels.iter().map(|label| 1 + label.len()).sum();
        let mut bytes = Vec::with_capacity(HEADER + labels + self.payload.len());
        bytes.push(VERSION);
        // Labels were checked for number and length.
        let count = u16::try_from(self.labels.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.vectors.to_le_bytes());
        for label in &self.labels {
            bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.extend_from_slice(self.payload);
        bytes
    }

    /// The ids of its items.
    pub(crate) fn ids(&self) -> RangeInclusive<u32> {
        // Parsing has checked that the last one is an id.
        self.first..=self.first.saturating_add(self.vectors.saturating_sub(1))
    }

    /// Whether it bears all these labels.
    pub(crate) fn bears(&self, labels: &[String]) -> bool {
        labels.iter().all(|label| self.labels.binary_search(&label.as_str()).is_ok())
    }
}

/// What a collection counts, and which ids it gives out next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) documents: u64,
    pub(crate) vectors: u64,
    /// From here on no id was given out.
    pub(crate) next: u64,
}

impl Meta {
    pub(crate) const NEW: Self = Self { documents: 0, vectors: 0, next: 0 };

    pub(crate) fn parse(key: &[u8], bytes: &[u8]) -> Result<Self> {
        check_version(key, bytes)?;
        let numbers = bytes.get(1..).filter(|rest| rest.len() == 24).ok_or_else(|| damaged(key))?;
        let mut numbers = numbers.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number));
        let mut number = || numbers.next().unwrap_or_default();
        let meta = Self { documents: number(), vectors: number(), next: number() };
        let is_sound =
            meta.documents <= meta.vectors && meta.vectors <= meta.next && meta.next <= ALL_IDS;
        if is_sound { Ok(meta) } else { Err(damaged(key)) }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.documents, self.vectors, self.next];
        [VERSION].into_iter().chain(numbers.into_iter().flat_map(u64::to_le_bytes)).collect()
    }
}

fn check_version(key: &[u8], bytes: &[u8]) -> Result<()> {
    match bytes.first() {
        Some(&VERSION) => Ok(()),
        Some(&found) if found > VERSION => {
            Err(Error::FormatTooNew { found: found.into(), supported: VERSION.into() })
        }
        _ => Err(damaged(key)),
    }
}

pub(crate) fn damaged(key: &[u8]) -> Error {
    Error::store_corrupted(TABLE, key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), labels in 0u8..4) {
            let mut bytes = bytes;
            for (byte, value) in bytes.iter_mut().zip([1, labels, 0]) {
                *byte = value;
            }
            if let Ok(record) = RecordRef::parse(b"key", &bytes) {
                prop_assert_eq!(record.ids().count(), record.vectors as usize);
                prop_assert_eq!(record.to_bytes(), bytes.clone());
            }
            if let Ok(meta) = Meta::parse(b"key", &bytes) {
                prop_assert_eq!(meta.to_bytes(), bytes);
            }
        }
    }
}
