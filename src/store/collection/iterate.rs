//! Documents in the order of their keys.

use std::collections::VecDeque;
use std::vec::IntoIter;

use crate::error::{Error, Result};
use crate::store::collection::document::StoredDocument;
use crate::store::collection::filter::within;
use crate::store::collection::handle::Collection;
use crate::store::collection::key::DocumentKey;
use crate::store::collection::labels::Labels;
use crate::store::collection::layout::{LAST_TAIL, Layout, long_records};
use crate::store::collection::record::{RecordRef, damaged};
use crate::store::collection::stored::Stored;
use crate::store::reads::Reads;

/// Documents that are read at once.
const PAGE: usize = 256;
/// Bytes of payload after which no further document is read at once.
const PAGE_BYTES: usize = 1 << 20;

/// Going through a collection. A few hundred documents are read at a time, so that a transaction of
/// a [`Store`](crate::Store) is not held meanwhile: from there each few hundred are of the newest
/// commit. A snapshot or a transaction is one commit.
///
/// A damaged document is an error at its place, and those after it follow: collecting into a
/// `Result` ends there, and `filter_map(Result::ok)` has all that can be read. Any other failure is
/// the last item.
///
/// In a scope, the keys of its documents are read at first, sorted, and held until they have come.
/// From a [`Store`](crate::Store), documents that are put into the scope meanwhile do not come.
impl Collection {
    /// All keys in their order.
    ///
    /// ```
    /// use spinney::{Document, IndexOptions, Metric, Result, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// store.write(|txn| {
    ///     ["b/1", "a/1", "a/2"].iter().try_for_each(|key| docs.put(txn, *key, &Document::new([1.0])))
    /// })?;
    /// let snapshot = store.snapshot()?;
    /// let keys: Vec<_> = docs.keys(&snapshot).collect::<Result<_>>()?;
    /// assert_eq!(keys, ["a/1", "a/2", "b/1"]);
    /// let mut a = docs.documents_with_prefix(&snapshot, b"a/");
    /// assert_eq!(a.next().transpose()?.expect("there are two").key, "a/1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Each item may be an error, as of [`get`](Self::get).
    ///
    /// # Cost
    /// Reads the record of each document without its payload. In a scope: of its documents, after
    /// their keys and a few bits for each vector of the collection; memory for these keys.
    pub fn keys<'s, S: Reads>(
        &self,
        source: &'s S,
    ) -> impl Iterator<Item = Result<DocumentKey>> + use<'s, S> {
        self.keys_with_prefix(source, &[])
    }

    /// The keys that begin with these bytes, in their order.
    ///
    /// ```
    /// # use spinney::{Document, IndexOptions, Metric, Result, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path())?;
    /// # let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// store.write(|txn| {
    ///     ["b/1", "a/1", "a/2"].iter().try_for_each(|key| docs.put(txn, *key, &Document::new([1.0])))
    /// })?;
    /// let keys: Vec<_> = docs.keys_with_prefix(&store, b"a/").collect::<Result<_>>()?;
    /// assert_eq!(keys, ["a/1", "a/2"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`keys`](Self::keys).
    ///
    /// # Cost
    /// That of [`keys`](Self::keys) for those that begin so. In a scope: of all its keys.
    pub fn keys_with_prefix<'s, S: Reads>(
        &self,
        source: &'s S,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<DocumentKey>> + use<'s, S> {
        self.walk(source, prefix, false).map(|document| document.map(|document| document.key))
    }

    /// All documents in the order of their keys.
    ///
    /// # Errors
    /// As [`keys`](Self::keys).
    pub fn documents<'s, S: Reads>(
        &self,
        source: &'s S,
    ) -> impl Iterator<Item = Result<StoredDocument>> + use<'s, S> {
        self.walk(source, &[], true)
    }

    /// The documents whose keys begin with these bytes, in their order.
    ///
    /// # Errors
    /// As [`keys`](Self::keys).
    pub fn documents_with_prefix<'s, S: Reads>(
        &self,
        source: &'s S,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<StoredDocument>> + use<'s, S> {
        self.walk(source, prefix, true)
    }

    fn walk<'s, S: Reads>(&self, source: &'s S, prefix: &[u8], has_payload: bool) -> Walk<'s, S> {
        Walk {
            collection: self.clone(),
            source,
            prefix: prefix.to_vec(),
            has_payload,
            after: None,
            of_scope: None,
            ready: VecDeque::new(),
            is_done: false,
        }
    }
}

struct Walk<'s, S> {
    collection: Collection,
    source: &'s S,
    prefix: Vec<u8>,
    has_payload: bool,
    /// The last key that was read.
    after: Option<DocumentKey>,
    /// In a scope, the keys that are left, once they were read.
    of_scope: Option<IntoIter<DocumentKey>>,
    ready: VecDeque<Result<StoredDocument>>,
    is_done: bool,
}

impl<S: Reads> Walk<'_, S> {
    /// Reads the next documents, and none only if there are no more.
    fn read(&mut self) -> Result<()> {
        let Self { collection, source, prefix, has_payload, after, of_scope, ready, is_done } =
            self;
        // What fails here is not tried again.
        *is_done = true;
        collection.with(*source, |_, stored| {
            let mut bytes = 0;
            let mut take = |key: &DocumentKey, record: Result<RecordRef<'_>>| {
                ready.push_back(record.map(|mut record| {
                    if !*has_payload {
                        record.payload = &[];
                    }
                    bytes += record.payload.len();
                    StoredDocument::new(key.clone(), &record)
                }));
                ready.len() < PAGE && bytes < PAGE_BYTES
            };
            let Some(scope) = within(&collection.scope, None) else {
                let before = after.take();
                let before = before.as_ref().map(DocumentKey::as_bytes);
                *is_done = !visit(stored, prefix, before, |key, record| {
                    let goes_on = take(&key, record);
                    *after = Some(key);
                    goes_on
                })?;
                return Ok(());
            };
            if of_scope.is_none() {
                *of_scope = Some(keys_of(stored, &scope, prefix, |error| {
                    take(&DocumentKey::from(&[][..]), Err(error));
                })?);
            }
            for key in of_scope.iter_mut().flatten() {
                // It may be gone since its key was read.
                let Some(found) = collection.record(stored, &key).transpose() else { continue };
                if !take(&key, found) {
                    *is_done = false;
                    break;
                }
            }
            Ok(())
        })
    }
}

/// Only damage of a document is followed by others.
impl<S: Reads> Iterator for Walk<'_, S> {
    type Item = Result<StoredDocument>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && !self.is_done
            && let Err(error) = self.read()
        {
            self.ready.push_back(Err(error));
        }
        self.ready.pop_front()
    }
}

/// The keys of the documents that a filter means, in their order, if they begin so. `refuse` is
/// told of items whose document is not known.
fn keys_of(
    stored: Stored<'_>,
    filter: &Labels,
    prefix: &[u8],
    mut refuse: impl FnMut(Error),
) -> Result<IntoIter<DocumentKey>> {
    let mut keys = Vec::new();
    for first in stored.firsts(&*stored.meant(filter)?)? {
        let at = stored.layout.item(first);
        match stored.get(&at)? {
            Some(key) if key.starts_with(prefix) => keys.push(DocumentKey::from(key)),
            Some(_) => {}
            None => refuse(damaged(&at)),
        }
    }
    keys.sort_unstable();
    Ok(keys.into_iter())
}

/// Visits the documents after a key whose keys begin so, until `visit` returns `false`. Whether it
/// did.
///
/// A damaged record is an error, and so is what is left of an entry of long keys: at the greatest
/// key that the entry can have.
pub(super) fn visit<'t>(
    stored: Stored<'t>,
    prefix: &[u8],
    after: Option<&[u8]>,
    mut visit: impl FnMut(DocumentKey, Result<RecordRef<'t>>) -> bool,
) -> Result<bool> {
    let documents = stored.layout.documents();
    let first = stored.layout.document(after.unwrap_or(prefix)).entry;
    for entry in stored.entries_from(&first, &documents)? {
        let (entry, value) = entry?;
        let (head, is_long) = Layout::head_of(entry);
        let short = (!is_long).then_some(Some((&[][..], value)));
        let long = is_long.then(|| long_records(value)).into_iter().flatten();
        for found in short.into_iter().chain(long) {
            let (tail, bytes) = found.unzip();
            let key = [head, tail.unwrap_or(LAST_TAIL)].concat();
            let is_whole = bytes.is_some();
            if after.is_some_and(|after| *key <= *after) || *key < *prefix {
                continue;
            }
            if !key.starts_with(prefix) && (is_whole || !prefix.starts_with(head)) {
                return Ok(false);
            }
            let record = bytes.ok_or_else(|| damaged(entry));
            let record = record.and_then(|bytes| RecordRef::parse(entry, bytes));
            if !visit(DocumentKey::from(key), record) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
