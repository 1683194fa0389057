//! Documents under keys, with vectors, payload and labels.
//!
//! # Stored bytes
//!
//! The vectors are items of an index, in the table of all indexes. All else is in the table
//! `spinney documents`, which all collections share. A key begins with the number of the collection
//! (`u16`, big-endian) and a kind. Values are little-endian.
//!
//! | kind | rest of the key | value |
//! |---|---|---|
//! | 0 piece | number of the piece `u32`, 0 | a piece of the set of free ids |
//! | 0 piece | number, 1 | a piece of the set of items that are not the first of their document |
//! | 0 piece | number, 2, label | a piece of the set of items whose document bears the label |
//! | 0 piece | number, 3, id `u32` of the first item of a document | the key of the document |
//! | 1 counts | | version (1), documents `u64`, vectors `u64`, the next id `u64` |
//! | 2 document | the key's first 508 bytes | a record, or several under long keys |
//!
//! Numbers in keys are big-endian. What a new document changes lies close together and in few
//! pages: the last sets and items, and the counts after them. One table serves all collections:
//! LMDB holds few tables open, and what began before one was opened does not see it.
//!
//! **Ids** are given out in order, from the next id on. Those of deleted documents are *free*. They
//! are given out again when there are no others. All items are those below the next id that are not
//! free.
//!
//! **Record**: version (1), count of labels `u16`, id of the first item `u32`, count of vectors
//! `u32`; each label as its length `u8` and its bytes, strictly ascending; the payload. The items
//! of a document have ids in a row. The payload comes last: who reads labels does not touch the
//! pages of a long one.
//!
//! **Long keys**: LMDB's keys have at most 511 bytes, three of which are the prefix. Documents
//! whose keys have 508 bytes or more share an entry with those of the same first 508 bytes. Its
//! value has for each, in the order of keys: length of the rest of the key `u8`, that rest, length
//! of the record `u32`, the record.
//!
//! **Pieces**: piece `p` has the ids from 8,192 `p` on that are in the set, each as its distance
//! from there. Fewer than 512 are listed as `u16`, strictly ascending. Others are a bit each, in
//! 1,024 bytes. No piece is empty. So a change rewrites at most 1 KiB, which lies within a page,
//! however many documents there are. Roaring's own containers take up to 8 KiB, two pages and more.

mod document;
mod filter;
mod forms;
mod found;
mod handle;
mod hits;
mod iterate;
mod key;
mod labels;
mod layout;
pub(crate) mod memo;
mod open;
mod paged;
mod piece;
mod plan;
mod read;
mod record;
mod repair;
mod search;
mod stored;
mod verify;

pub(crate) use verify::verify_collection;

pub use document::{Document, StoredDocument};
pub use handle::Collection;
pub use hits::{DocumentExample, DocumentHit};
pub use key::DocumentKey;
pub use labels::Labels;
pub use paged::{DocumentNeighbours, DocumentPages};
pub use repair::CollectionRepair;
pub use search::Documents;
pub use verify::Disagreement;
