//! The nearest documents page by page or one by one.

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::query::order::sort;
use crate::query::paged::{OneByOne, PagePlace};
use crate::query::{Hits, Nns};
use crate::store::collection::filter::within;
use crate::store::collection::found::Found;
use crate::store::collection::hits::{DocumentExample, DocumentHit};
use crate::store::collection::labels::Labels;
use crate::store::collection::search::Documents;
use crate::store::reads::Reads;
use crate::store::snapshot::StoreSnapshot;

/// A search for documents that goes on page by page: see [`Nns::pages`].
pub struct DocumentPages<'a, S> {
    asked: Asked<'a, S>,
    place: PagePlace,
    /// The first items of the documents that have come.
    came: RoaringBitmap,
    has_failed: bool,
}

/// A search with the commit that it reads.
struct Asked<'a, S> {
    nns: Nns<'a, Documents<'a, S>>,
    filter: Option<Labels>,
    /// In place of a source that shows the newest commit.
    pinned: Option<StoreSnapshot>,
}

impl<S: Reads> Asked<'_, S> {
    fn ask<R>(&mut self, work: impl FnOnce(Nns<'_>, &Found<'_>) -> Result<R>) -> Result<R> {
        let (source, filter) = (self.nns.executor.source, self.filter.as_ref());
        match &self.pinned {
            Some(snapshot) => self.nns.ask(snapshot, filter, work),
            None => self.nns.ask(source, filter, work),
        }
    }
}

impl<'a, S: Reads> DocumentPages<'a, S> {
    pub(super) fn new(
        mut nns: Nns<'a, Documents<'a, S>>,
        example: DocumentExample<'_>,
    ) -> Result<Self> {
        let Documents { collection, source, ref mut filter, .. } = nns.executor;
        let filter = within(&collection.scope, filter.take());
        let mut asked = Asked { nns, filter, pinned: source.pinned()? };
        let place = asked.ask(|nns, found| match found.examples(&[example])?[..] {
            [example] => PagePlace::new(&nns, example),
            _ => Err(Error::Incompatible {
                option: "pages",
                with: "a document of several vectors as the example",
                instead: "ask for pages of one of its vectors, or search once by the key",
            }),
        })?;
        Ok(Self { asked, place, came: RoaringBitmap::new(), has_failed: false })
    }

    /// The next page: `k` documents, nearest first. The last page may have fewer, and those after it
    /// are empty.
    ///
    /// # Errors
    /// [`Error::Callback`]; [`Error::Corrupted`]; [`Error::StoreCorrupted`]; as the source does.
    /// After an error all pages are empty: begin anew.
    pub fn next_page(&mut self) -> Result<Hits<DocumentHit>> {
        self.next_hits(self.asked.nns.k)
    }

    fn next_hits(&mut self, count: usize) -> Result<Hits<DocumentHit>> {
        let Self { asked, place, came, has_failed } = self;
        if *has_failed {
            return Ok(Hits::default());
        }
        let hits = asked.ask(|mut nns, found| {
            let mut hits = Vec::new();
            // A vector of a document that has come is no hit.
            loop {
                let more = place.next_hits(&mut nns, count - hits.len())?;
                let is_partial = more.is_partial();
                for hit in more {
                    if came.insert(found.document(hit.id)?) {
                        hits.push(hit);
                    }
                }
                if hits.len() >= count || place.is_done() {
                    sort(&mut hits, found.collection.metric());
                    return found.hits(Hits::new(hits, is_partial));
                }
            }
        });
        *has_failed = hits.is_err();
        hits
    }
}

/// The nearest documents one by one: see [`Nns::neighbours`].
pub struct DocumentNeighbours<'a, S> {
    pages: DocumentPages<'a, S>,
    hits: OneByOne<DocumentHit>,
}

impl<'a, S: Reads> DocumentNeighbours<'a, S> {
    pub(super) fn new(
        nns: Nns<'a, Documents<'a, S>>,
        example: DocumentExample<'_>,
    ) -> Result<Self> {
        let hits = OneByOne::new(nns.k);
        Ok(Self { pages: DocumentPages::new(nns, example)?, hits })
    }
}

impl<S: Reads> Iterator for DocumentNeighbours<'_, S> {
    type Item = Result<DocumentHit>;

    fn next(&mut self) -> Option<Self::Item> {
        self.hits.next(|count| self.pages.next_hits(count))
    }
}
