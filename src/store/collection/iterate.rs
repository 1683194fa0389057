//! Documents in the order of their keys.

use std::collections::VecDeque;

use crate::error::Result;
use crate::store::collection::document::StoredDocument;
use crate::store::collection::handle::Collection;
use crate::store::collection::key::DocumentKey;
use crate::store::collection::layout::{Layout, parse_long};
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
    /// Each item may be an error, as of [`get`](Self::get), and the last item then.
    ///
    /// # Cost
    /// Reads the record of each document without its payload, of those outside the scope, too.
    pub fn keys<'s, S: Reads>(
        &self,
        source: &'s S,
    ) -> impl Iterator<Item = Result<DocumentKey>> + use<'s, S> {
        self.walk(source, &[], false).map(|document| document.map(|document| document.key))
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
    after: Option<Vec<u8>>,
    ready: VecDeque<StoredDocument>,
    is_done: bool,
}

impl<S: Reads> Walk<'_, S> {
    /// Reads the next documents, and none only if there are no more.
    fn read(&mut self) -> Result<()> {
        let Self { collection, source, prefix, has_payload, after, ready, is_done } = self;
        // What fails is not tried again.
        *is_done = true;
        collection.with(*source, |_, stored| {
            let mut bytes = 0;
            let read = visit(stored, prefix, after.as_deref(), |key, mut record| {
                if record.bears(&collection.scope) {
                    if !*has_payload {
                        record.payload = &[];
                    }
                    bytes += record.payload.len();
                    ready.push_back(StoredDocument::new(key.clone(), &record));
                }
                ready.len() < PAGE && bytes < PAGE_BYTES
            })?;
            *is_done = !read;
            Ok(())
        })?;
        *after = ready.back().map(|document| document.key.as_bytes().to_vec());
        Ok(())
    }
}

impl<S: Reads> Iterator for Walk<'_, S> {
    type Item = Result<StoredDocument>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && !self.is_done
            && let Err(error) = self.read()
        {
            self.ready.clear();
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}

/// Visits the documents after a key whose keys begin so, until `visit` returns `false`. Whether it
/// did.
pub(super) fn visit<'t>(
    stored: Stored<'t>,
    prefix: &[u8],
    after: Option<&[u8]>,
    mut visit: impl FnMut(DocumentKey, RecordRef<'t>) -> bool,
) -> Result<bool> {
    let documents = stored.layout.documents();
    let first = stored.layout.document(after.unwrap_or(prefix)).entry;
    for entry in stored.entries_from(&first, &documents)? {
        let (entry, value) = entry?;
        let (head, is_long) = Layout::head_of(entry);
        let records = if is_long {
            parse_long(value).ok_or_else(|| damaged(entry))?
        } else {
            vec![(&[][..], value)]
        };
        for (tail, bytes) in records {
            let key = [head, tail].concat();
            if after.is_some_and(|after| *key <= *after) || *key < *prefix {
                continue;
            }
            if !key.starts_with(prefix) {
                return Ok(false);
            }
            if !visit(DocumentKey::from(key), RecordRef::parse(entry, bytes)?) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
