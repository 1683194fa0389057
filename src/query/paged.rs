//! Neighbours page by page or one by one.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::query::examples::{Example, Examples};
use crate::query::hits::Hits;
use crate::query::nns::Nns;
use crate::query::order::{is_beyond, is_within, sort};
use crate::search::Hit;
use crate::search::paged::Stream;
use crate::search::request::{Options, Request};

/// Hits that an iterator reads at first.
const FIRST_HITS: usize = 8;
/// The largest number of hits that it reads at once.
const MAX_HITS: usize = 1024;

/// A search that goes on page by page: see [`Nns::pages`].
pub struct Pages<'a> {
    nns: Nns<'a>,
    stream: Stream,
    exclude: Vec<u32>,
    is_done: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(nns: Nns<'a>, example: Example<'_>) -> Result<Self> {
        nns.check()?;
        let mut examples = Examples::new(nns.searcher(), &[example])?;
        if let Some(groups) = &nns.executor.groups {
            let instead = "which groups are full is not kept from page to page, so count them over the hits that come";
            return Err(Error::Incompatible {
                option: groups.option(),
                with: "pages and neighbours",
                instead,
            });
        }
        // One example has one query.
        let query = examples.queries.remove(0);
        Ok(Self {
            stream: Stream::new(&query.as_item()),
            nns,
            exclude: examples.items,
            is_done: false,
        })
    }

    /// The next page: `k` hits, sorted by distance and then by id. The last page may have fewer,
    /// and those after it are empty.
    ///
    /// # Errors
    /// [`Error::Callback`]; [`Error::Corrupted`]. After an error all pages are empty: begin anew.
    pub fn next_page(&mut self) -> Result<Hits> {
        self.next_hits(self.nns.k)
    }

    fn next_hits(&mut self, count: usize) -> Result<Hits> {
        let mut hits = Vec::new();
        // The first hits may be nearer than the inner bound and be left out.
        while !self.is_done && hits.len() < count {
            self.read(&mut hits, count)?;
        }
        // What is found late comes with a later read of the same page.
        sort(&mut hits, self.nns.searcher().spec().metric);
        Ok(Hits::new(hits, self.stream.stats().is_partial))
    }

    /// Reads as many hits as are missing to `count`. The bounds may leave some of them out.
    fn read(&mut self, hits: &mut Vec<Hit>, count: usize) -> Result<()> {
        let Self { nns, stream, exclude, is_done } = self;
        let (searcher, wanted) = (nns.searcher(), count - hits.len());
        let (metric, Options { within, beyond, .. }) = (searcher.spec().metric, nns.options);
        // A search that fails may lose hits, so no page must follow it.
        *is_done = true;
        let found = nns.with_request(exclude, |request| {
            let options = Options { beyond: None, ..request.options };
            searcher.next(stream, &Request { options, ..*request }, wanted)
        })?;
        // All items have come, or the rest is too far.
        *is_done = found.len() < wanted || found.iter().any(|hit| !is_within(hit, within, metric));
        let is_between =
            |hit: &Hit| is_within(hit, within, metric) && is_beyond(hit, beyond, metric);
        hits.extend(found.into_iter().filter(is_between));
        nns.write_report(&stream.stats());
        Ok(())
    }
}

/// Neighbours one by one: see [`Nns::neighbours`].
pub struct Neighbours<'a> {
    pages: Pages<'a>,
    hits: VecDeque<Hit>,
    count: usize,
    left: usize,
}

impl<'a> Neighbours<'a> {
    pub(super) fn new(nns: Nns<'a>, example: Example<'_>) -> Result<Self> {
        let left = nns.k;
        Ok(Self {
            pages: Pages::new(nns, example)?,
            hits: VecDeque::new(),
            count: FIRST_HITS,
            left,
        })
    }
}

impl Iterator for Neighbours<'_> {
    type Item = Result<Hit>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        if self.hits.is_empty() {
            match self.pages.next_hits(self.count) {
                Ok(hits) => self.hits.extend(hits),
                Err(error) => {
                    self.left = 0;
                    return Some(Err(error));
                }
            }
            self.count = (2 * self.count).min(MAX_HITS);
        }
        self.left -= 1;
        self.hits.pop_front().map(Ok)
    }
}
