//! Where what a collection knows is in the table of documents.

use std::ops::Bound;

use crate::store::collection::key::MAX_KEY;
use crate::store::collection::labels::is_label;
use crate::store::collection::piece;

/// Bytes of a key before the key of a document.
const PREFIX: usize = 3;
/// Keys of so many bytes and more share an entry with others that begin alike.
const LONG: usize = 508;
/// No rest of a long key comes after it.
pub(crate) const LAST_TAIL: &[u8] = &[0xFF; MAX_KEY - LONG];

/// The kinds of entries, in the order of their keys.
const PIECES: u8 = 0;
const META: u8 = 1;
const DOCUMENTS: u8 = 2;

/// The kinds of entries of a piece, in the order of their keys.
const FREE: u8 = 0;
const REST: u8 = 1;
const LABEL: u8 = 2;
const ITEM: u8 = 3;

/// The keys of one collection.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) number: u16,
}

/// A set of ids.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set<'l> {
    /// Ids that were given out, and that no item has.
    Free,
    /// Items that are not the first of their document.
    Rest,
    /// Items of documents that bear a label.
    Label(&'l str),
}

/// What an entry of a piece is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum OfPiece<'k> {
    Set(Set<'k>),
    /// The id of the first item of a document.
    Item(u32),
}

/// Where the record of a document is.
pub(crate) struct Place<'k> {
    /// The key of the table.
    pub(crate) entry: Vec<u8>,
    /// What is left of a long key.
    pub(crate) tail: Option<&'k [u8]>,
}

impl Layout {
    fn prefix(self, kind: u8) -> Vec<u8> {
        let [high, low] = self.number.to_be_bytes();
        vec![high, low, kind]
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
        self.prefix(META)
    }

    /// What the keys of all pieces begin with.
    pub(crate) fn pieces(self) -> Vec<u8> {
        self.prefix(PIECES)
    }

    /// The key of a piece of a set.
    pub(crate) fn set(self, set: Set<'_>, piece: u32) -> Vec<u8> {
        let mut key = self.pieces();
        key.extend_from_slice(&piece.to_be_bytes());
        match set {
            Set::Free => key.push(FREE),
            Set::Rest => key.push(REST),
            Set::Label(label) => {
                key.push(LABEL);
                key.extend_from_slice(label.as_bytes());
            }
        }
        key
    }

    /// The key of the piece of a set that an id belongs to, and the id's place in it.
    pub(crate) fn place(self, set: Set<'_>, id: u32) -> (Vec<u8>, u16) {
        let (number, at) = piece::place(id);
        (self.set(set, number), at)
    }

    /// Where the items of a piece begin: after its sets.
    pub(crate) fn items(self, piece: u32) -> Vec<u8> {
        let mut key = self.pieces();
        key.extend_from_slice(&piece.to_be_bytes());
        key.push(ITEM);
        key
    }

    pub(crate) fn item(self, first: u32) -> Vec<u8> {
        let mut key = self.items(first / piece::IDS);
        key.extend_from_slice(&first.to_be_bytes());
        key
    }

    /// The number of the piece that an entry of this collection belongs to, and what it is of it.
    pub(crate) fn of_piece(self, key: &[u8]) -> Option<(u32, OfPiece<'_>)> {
        let (piece, rest) = key.strip_prefix(&*self.pieces())?.split_first_chunk()?;
        let piece = u32::from_be_bytes(*piece);
        let (kind, rest) = rest.split_first().filter(|_| piece <= u32::MAX / piece::IDS)?;
        let what = match *kind {
            FREE if rest.is_empty() => OfPiece::Set(Set::Free),
            REST if rest.is_empty() => OfPiece::Set(Set::Rest),
            LABEL => {
                let label = std::str::from_utf8(rest).ok();
                OfPiece::Set(Set::Label(label.filter(|label| is_label(label))?))
            }
            ITEM => {
                let id = u32::from_be_bytes(rest.try_into().ok()?);
                OfPiece::Item(Some(id).filter(|id| id / piece::IDS == piece)?)
            }
            _ => return None,
        };
        Some((piece, what))
    }

    /// Whether a key that begins with the collection's number is one of it.
    pub(crate) fn is_known(self, key: &[u8]) -> bool {
        let is_document = key.len() > PREFIX && key.starts_with(&self.documents());
        is_document || key == self.meta() || self.of_piece(key).is_some()
    }

    /// What the keys of all documents begin with.
    pub(crate) fn documents(self) -> Vec<u8> {
        self.prefix(DOCUMENTS)
    }

    pub(crate) fn document(self, key: &[u8]) -> Place<'_> {
        let mut entry = self.documents();
        let (head, tail) = key.split_at_checked(LONG).map_or((key, None), |(a, b)| (a, Some(b)));
        entry.extend_from_slice(head);
        Place { entry, tail }
    }

    /// The first bytes of a document's key, and whether the entry is one of long keys.
    pub(crate) fn head_of(entry: &[u8]) -> (&[u8], bool) {
        let head = entry.get(PREFIX..).unwrap_or_default();
        (head, head.len() == LONG)
    }
}

/// Records of documents whose long keys begin alike, with the rest of each key. `None` stands for
/// what is damaged, and nothing follows it.
pub(crate) fn long_records(bytes: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    let (mut left, mut before) = (Some(bytes), None);
    std::iter::from_fn(move || {
        let bytes = left.take().filter(|bytes| before.is_none() || !bytes.is_empty())?;
        let Some((tail, record, rest)) = next_long(bytes, before) else { return Some(None) };
        (left, before) = (Some(rest), Some(tail));
        Some(Some((tail, record)))
    })
}

/// The first of such records, and the bytes after it. Its key comes after that of the one before.
fn next_long<'t>(bytes: &'t [u8], before: Option<&[u8]>) -> Option<(&'t [u8], &'t [u8], &'t [u8])> {
    let (len, rest) = bytes.split_first()?;
    let (tail, rest) = rest.split_at_checked(usize::from(*len))?;
    let (len, rest) = rest.split_first_chunk()?;
    let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    let is_sound = LONG + tail.len() <= MAX_KEY && before.is_none_or(|before| before < tail);
    is_sound.then_some((tail, record, rest))
}

/// All such records, if none is damaged.
pub(crate) fn parse_long(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    long_records(bytes).collect()
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
    long_value(all)
}

/// The value for such records in the order of their keys. `None` for none.
pub(crate) fn long_value(records: Vec<(&[u8], &[u8])>) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    for (tail, record) in records {
        // Tails have three bytes at most, and records less than 2^32.
        value.push(u8::try_from(tail.len()).unwrap_or(u8::MAX));
        value.extend_from_slice(tail);
        value.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
        value.extend_from_slice(record);
    }
    Some(value).filter(|value| !value.is_empty())
}
