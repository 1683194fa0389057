//! Neighbours page by page or one by one.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::query::examples::{Example, Examples};
use crate::query::hits::Hits;
use crate::query::nns::Nns;
use crate::query::order::{is_beyond, is_within, sort};
use crate::search::Hit;
use crate::search::interrupt::InterruptState;
use crate::search::paged::Stream;
use crate::search::request::{Options, Request};

/// Hits that an iterator reads at first.
const FIRST_HITS: usize = 8;
/// The largest number of hits that it reads at once.
const MAX_HITS: usize = 1024;

/// A search that goes on page by page: see [`Nns::pages`].
pub struct Pages<'a> {
    nns: Nns<'a>,
    place: PagePlace,
}

impl<'a> Pages<'a> {
    pub(super) fn new(nns: Nns<'a>, example: Example<'_>) -> Result<Self> {
        Ok(Self { place: PagePlace::new(&nns, example)?, nns })
    }

    /// The next page: `k` hits, sorted by distance and then by id. The last page may have fewer,
    /// and those after it are empty.
    ///
    /// # Errors
    /// [`Error::Callback`]; [`Error::Corrupted`]. After an error all pages are empty: begin anew.
    pub fn next_page(&mut self) -> Result<Hits> {
        let count = self.nns.k;
        self.place.next_hits(&mut self.nns, count)
    }
}

/// How far pages have come. Each may be asked for by a builder of its own, with the same options.
pub(crate) struct PagePlace {
    stream: Stream,
    exclude: Vec<u32>,
    /// Once a page was stopped, so are those after it.
    interrupted: InterruptState,
    is_done: bool,
}

impl PagePlace {
    pub(crate) fn new(nns: &Nns<'_>, example: Example<'_>) -> Result<Self> {
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
            exclude: examples.items,
            interrupted: InterruptState::default(),
            is_done: false,
        })
    }

    /// Whether no hits are left.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    /// The next hits, sorted: fewer than `count` only if there are no more, or after a stop.
    pub(crate) fn next_hits(&mut self, nns: &mut Nns<'_>, count: usize) -> Result<Hits> {
        let mut hits = Vec::new();
        std::mem::swap(&mut self.interrupted, &mut nns.executor.interrupted);
        let mut read = Ok(());
        // The first hits may be nearer than the inner bound and be left out.
        while !self.is_done && hits.len() < count && read.is_ok() {
            read = self.read(nns, &mut hits, count);
        }
        std::mem::swap(&mut self.interrupted, &mut nns.executor.interrupted);
        read?;
        // What is found late comes with a later read of the same page.
        sort(&mut hits, nns.searcher().spec().metric);
        Ok(Hits::new(hits, self.stream.stats().is_partial))
    }

    /// Reads as many hits as are missing to `count`. The bounds may leave some of them out.
    fn read(&mut self, nns: &mut Nns<'_>, hits: &mut Vec<Hit>, count: usize) -> Result<()> {
        let Self { stream, exclude, is_done, .. } = self;
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

/// What is asked for one by one, and is read in pages that grow.
pub(crate) struct OneByOne<H> {
    hits: VecDeque<H>,
    count: usize,
    left: usize,
}

impl<H> OneByOne<H> {
    /// At most so many.
    pub(crate) fn new(left: usize) -> Self {
        Self { hits: VecDeque::new(), count: FIRST_HITS, left }
    }

    /// The next one. Once `read` has failed, there are no more.
    pub(crate) fn next(
        &mut self,
        read: impl FnOnce(usize) -> Result<Hits<H>>,
    ) -> Option<Result<H>> {
        if self.left == 0 {
            return None;
        }
        if self.hits.is_empty() {
            match read(self.count) {
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

/// Neighbours one by one: see [`Nns::neighbours`].
pub struct Neighbours<'a> {
    pages: Pages<'a>,
    hits: OneByOne<Hit>,
}

impl<'a> Neighbours<'a> {
    pub(super) fn new(nns: Nns<'a>, example: Example<'_>) -> Result<Self> {
        let hits = OneByOne::new(nns.k);
        Ok(Self { pages: Pages::new(nns, example)?, hits })
    }
}

impl Iterator for Neighbours<'_> {
    type Item = Result<Hit>;

    fn next(&mut self) -> Option<Self::Item> {
        let Pages { nns, place } = &mut self.pages;
        self.hits.next(|count| place.next_hits(nns, count))
    }
}
