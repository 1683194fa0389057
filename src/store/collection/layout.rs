//! Where what a collection knows is in the table of documents.

use std::ops::Bound;

use crate::store::collection::piece;

/// Bytes of a key before the key of a document.
const PREFIX: usize = 3;
/// Keys of so many bytes and more share an entry with others that begin alike.
const LONG: usize = 508;

#[derive(Copy, Clone)]
enum Kind {
    Meta = 0,
    All = 1,
    Rest = 2,
    Label = 3,
    Item = 4,
    Document = 5,
}

/// The keys of one collection.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) number: u16,
}

/// A set of items.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set<'l> {
    /// All items.
    All,
    /// Those that are not the first of their document.
    Rest,
    /// Those of documents that bear a label.
    Label(&'l str),
}

/// Where the record of a document is.
pub(crate) struct Place<'k> {
    /// The key of the table.
    pub(crate) entry: Vec<u8>,
    /// What is left of a long key.
    pub(crate) tail: Option<&'k [u8]>,
}

impl Layout {
    fn prefix(self, kind: Kind) -> Vec<u8> {
        let [high, low] = self.number.to_be_bytes();
        vec![high, low, kind as u8]
    }

    /// All keys of the collection.
    pub(crate) fn whole(self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let end = match self.number.checked_add(1) {
            Some(next) => Bound::Excluded(next.to_be_bytes().to_vec()),
            None => Bound::Unbounded,
        };
        (Bound::Included(self.number.to_be_bytes().to_vec()), end)
    }

    pub(crate) fn meta(self) -> Vec<u8> {
        self.prefix(Kind::Meta)
    }

    /// What the keys of all pieces of a set begin with.
    pub(crate) fn set(self, set: Set<'_>) -> Vec<u8> {
        let mut key = match set {
            Set::All => self.prefix(Kind::All),
            Set::Rest => self.prefix(Kind::Rest),
            Set::Label(_) => self.prefix(Kind::Label),
        };
        if let Set::Label(label) = set {
            // Labels were checked for their length.
            key.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
            key.extend_from_slice(label.as_bytes());
        }
        key
    }

    /// The piece of a set that an id belongs to, and the id's place in it.
    pub(crate) fn piece(self, set: Set<'_>, id: u32) -> (Vec<u8>, u16) {
        let mut key = self.set(set);
        key.extend_from_slice(&(id / piece::IDS).to_be_bytes());
        // A piece has fewer ids than two bytes can number.
        (key, (id % piece::IDS) as u16)
    }

    /// What the keys of all labels begin with.
    pub(crate) fn labels(self) -> Vec<u8> {
        self.prefix(Kind::Label)
    }

    /// A label and the first id of its piece, from a key.
    pub(crate) fn label_of(key: &[u8]) -> Option<(&str, u32)> {
        let (len, rest) = key.get(PREFIX..)?.split_first()?;
        let (label, piece) = rest.split_at_checked(usize::from(*len))?;
        let label = std::str::from_utf8(label).ok().filter(|label| !label.is_empty())?;
        Some((label, first_of_piece(piece)?))
    }

    pub(crate) fn items(self) -> Vec<u8> {
        self.prefix(Kind::Item)
    }

    pub(crate) fn item(self, first: u32) -> Vec<u8> {
        let mut key = self.prefix(Kind::Item);
        key.extend_from_slice(&first.to_be_bytes());
        key
    }

    /// The id in the key of an item.
    pub(crate) fn id_of(self, key: &[u8]) -> Option<u32> {
        let id = key.strip_prefix(&*self.items())?;
        id.try_into().ok().map(u32::from_be_bytes)
    }

    /// What the keys of all documents begin with.
    pub(crate) fn documents(self) -> Vec<u8> {
        self.prefix(Kind::Document)
    }

    pub(crate) fn document(self, key: &[u8]) -> Place<'_> {
        let mut entry = self.documents();
        let (head, tail) = key.split_at_checked(LONG).map_or((key, None), |(a, b)| (a, Some(b)));
        entry.extend_from_slice(head);
        Place { entry, tail }
    }

    /// Whether a key that begins with the collection's number is one of it.
    pub(crate) fn is_known(self, key: &[u8]) -> bool {
        let Some((kind, rest)) = key.get(PREFIX - 1..).and_then(<[u8]>::split_first) else {
            return false;
        };
        match *kind {
            kind if kind == Kind::Meta as u8 => rest.is_empty(),
            kind if kind == Kind::All as u8 || kind == Kind::Rest as u8 => {
                first_of_piece(rest).is_some()
            }
            kind if kind == Kind::Label as u8 => Self::label_of(key).is_some(),
            kind if kind == Kind::Item as u8 => rest.len() == 4,
            kind => kind == Kind::Document as u8 && !rest.is_empty(),
        }
    }

    /// The first bytes of a document's key, and whether the entry is one of long keys.
    pub(crate) fn head_of(entry: &[u8]) -> (&[u8], bool) {
        let head = entry.get(PREFIX..).unwrap_or_default();
        (head, head.len() == LONG)
    }
}

/// The first id of a piece, from the last four bytes of its key.
pub(crate) fn first_of_piece(number: &[u8]) -> Option<u32> {
    u32::from_be_bytes(number.try_into().ok()?).checked_mul(piece::IDS)
}

/// Records of documents whose long keys begin alike, with the rest of each key.
pub(crate) fn parse_long(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut records: Vec<(&[u8], &[u8])> = Vec::new();
    while let Some((len, rest)) = bytes.split_first() {
        let (tail, rest) = rest.split_at_checked(usize::from(*len))?;
        let (len, rest) = rest.split_first_chunk()?;
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        records.push((tail, record));
        bytes = rest;
    }
    let is_sound = !records.is_empty()
        && records.is_sorted_by(|a, b| a.0 < b.0)
        && records.iter().all(|(tail, _)| LONG + tail.len() <= super::key::MAX_KEY);
    is_sound.then_some(records)
}

/// The value for such records, with one of them changed, or taken out. `None` if none is left.
pub(crate) fn with_long(
    records: &[(&[u8], &[u8])],
    tail: &[u8],
    record: Option<&[u8]>,
) -> Option<Vec<u8>> {
    let others = records.iter().copied().filter(|(other, _)| *other != tail);
    let mut all: Vec<(&[u8], &[u8])> = others.chain(record.map(|record| (tail, record))).collect();
    all.sort_unstable_by_key(|(tail, _)| *tail);
    let mut value = Vec::new();
    for (tail, record) in all {
        // Tails have three bytes at most, and records less than 2^32.
        value.push(u8::try_from(tail.len()).unwrap_or(u8::MAX));
        value.extend_from_slice(tail);
        value.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
        value.extend_from_slice(record);
    }
    Some(value).filter(|value| !value.is_empty())
}
