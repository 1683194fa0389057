//! From a search in the index to documents.

use crate::error::{Error, Result};
use crate::query::{Example, Hits, Nns};
use crate::search::Hit;
use crate::store::collection::handle::Collection;
use crate::store::collection::hits::{DocumentExample, DocumentHit};
use crate::store::collection::key::DocumentKey;
use crate::store::collection::labels::Labels;
use crate::store::collection::record::{RecordRef, damaged};
use crate::store::collection::search::{Documents, KeyGroups};
use crate::store::collection::stored::Stored;
use crate::store::reads::Reads;

impl<S: Reads> Nns<'_, Documents<'_, S>> {
    /// Makes the search in the index that these options mean, in which a document may come several
    /// times. The filter is that of the options within the scope.
    pub(super) fn ask<T: Reads, R>(
        &mut self,
        source: &T,
        filter: Option<&Labels>,
        work: impl FnOnce(Nns<'_>, &Found<'_>) -> Result<R>,
    ) -> Result<R> {
        let Self { k, options, allowed, report, executor } = self;
        let Documents { collection, admits, stop, groups, has_payload, .. } = executor;
        collection.with(source, |reader, stored| {
            let found = Found { collection, stored, has_payload: *has_payload };
            let meant = filter.map(|filter| stored.meant(filter)).transpose()?;
            let mut nns = Nns::new(reader.session(), *k);
            nns.options = *options;
            nns.report = report.as_deref_mut();
            for allowed in allowed.as_deref().into_iter().chain(meant.as_deref()) {
                nns = nns.filter(allowed);
            }
            if let Some(stop) = &*stop {
                nns = nns.cancel(&**stop);
            }
            if let Some(admits) = &*admits {
                nns = nns.try_filter_fn(|id| admits(&found.key(id)?));
            }
            if let Some(KeyGroups { max_hits, wanted, group }) = &*groups {
                nns = nns.with_groups(*max_hits, *wanted, |id| group(&found.key(id)?));
            }
            work(nns, &found).map_err(told)
        })
    }
}

/// What failed, where it was in a function that the index was given here.
pub(super) fn told(error: Error) -> Error {
    match error {
        Error::Callback(inner) => match inner.downcast::<Error>() {
            Ok(error) => *error,
            Err(inner) => Error::Callback(inner),
        },
        error => error,
    }
}

/// From items to documents.
pub(super) struct Found<'t> {
    pub(super) collection: &'t Collection,
    pub(super) stored: Stored<'t>,
    pub(super) has_payload: bool,
}

impl<'t> Found<'t> {
    /// The document of an item: the id of its first item.
    pub(super) fn document(&self, id: u32) -> Result<u32> {
        Ok(self.stored.document_of(id)?.0)
    }

    fn key(&self, id: u32) -> Result<DocumentKey> {
        Ok(DocumentKey::from(self.stored.document_of(id)?.1))
    }

    /// Makes a search one in which each document counts once.
    pub(super) fn count_once<'n>(&'n self, nns: Nns<'n>) -> Result<Nns<'n>> {
        let meta = self.stored.meta()?;
        Ok(if meta.documents < meta.vectors {
            nns.once_each(|id| self.document(id).map(u64::from))
        } else {
            nns
        })
    }

    pub(super) fn hits(&self, hits: Hits) -> Result<Hits<DocumentHit>> {
        let is_partial = hits.is_partial();
        let documents = hits.iter().map(|hit| self.hit(hit)).collect::<Result<_>>()?;
        Ok(Hits::new(documents, is_partial))
    }

    fn hit(&self, hit: &Hit) -> Result<DocumentHit> {
        let (first, key) = self.stored.document_of(hit.id)?;
        let payload = if self.has_payload {
            // A damaged set may have items of documents outside the scope.
            let is_found = |record: &RecordRef<'_>| {
                record.first == first && record.bears(&self.collection.scope)
            };
            let record = self.stored.record(key)?.filter(is_found);
            Some(record.ok_or_else(|| damaged(key))?.payload.to_vec())
        } else {
            None
        };
        Ok(DocumentHit { key: DocumentKey::from(key), distance: hit.distance, payload })
    }

    pub(super) fn examples<'e>(
        &self,
        examples: &[DocumentExample<'e>],
    ) -> Result<Vec<Example<'e>>> {
        let mut all = Vec::new();
        for example in examples {
            match example {
                DocumentExample::Vector(vector) => all.push(Example::Vector(vector)),
                DocumentExample::Key(key) => {
                    let record = self.collection.record(self.stored, key)?;
                    let missing = || Error::DocumentNotFound(key.to_string());
                    all.extend(record.ok_or_else(missing)?.ids().map(Example::Item));
                }
            }
        }
        Ok(all)
    }
}
