//! Searches by the calling thread, one after the other.

use std::cell::{Cell, RefCell};

use crate::error::{Error, Result};
use crate::format::item::ItemRef;
use crate::query::hits::Hits;
use crate::query::nns::{Nns, Single};
use crate::query::once::{Rules, search_once};
use crate::search::SearchStats;
use crate::search::filter::Filter;
use crate::search::interrupt::{Interrupt, InterruptState};
use crate::search::request::Request;
use crate::search::searcher::Searcher;
use crate::vector::CheckedVector;

impl<'a> Nns<'a> {
    pub(crate) fn new(searcher: &'a dyn Searcher, k: usize) -> Self {
        let (predicate, callback, groups) = (None, None, None);
        let executor = Single {
            searcher,
            predicate,
            failure: RefCell::new(None),
            callback,
            interrupted: InterruptState::default(),
            has_searched: Cell::new(false),
            groups,
        };
        Self::with_executor(k, executor)
    }

    /// Makes it a search after others, which does not begin once it is interrupted.
    pub(crate) fn after_others(self) -> Self {
        self.executor.has_searched.set(true);
        self
    }

    pub(super) fn searcher(&self) -> &'a dyn Searcher {
        self.executor.searcher
    }

    pub(super) fn answer(&mut self, query: ItemRef<'_>, exclude: &[u32]) -> Result<Hits> {
        let (hits, stats) = self.run(query, exclude, &[])?;
        self.write_report(&stats);
        Ok(hits)
    }

    /// Fails unless each option has a value in its range.
    pub(super) fn check(&self) -> Result<()> {
        self.options.check()?;
        match &self.executor.groups {
            Some(groups) if groups.max_hits == 0 => {
                Err(Error::option(groups.option(), "a number from 1 up", 0))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn interrupt(&self) -> Interrupt<'_> {
        Interrupt {
            deadline: self.options.deadline,
            callback: self.executor.callback.as_deref(),
            state: Some(&self.executor.interrupted),
        }
    }

    /// Calls `work` with the request that these options make. Returns the error of the predicate if
    /// it fails meanwhile.
    pub(super) fn with_request<T>(
        &self,
        exclude: &[u32],
        work: impl FnOnce(&Request<'_>) -> Result<T>,
    ) -> Result<T> {
        self.check()?;
        let admits = |id| self.admits(id);
        let predicate: Option<&dyn Fn(u32) -> bool> =
            if self.executor.predicate.is_some() { Some(&admits) } else { None };
        let answer = work(&Request {
            k: self.k,
            options: self.options,
            filter: Filter { allowed: self.allowed.as_deref(), predicate },
            exclude,
            interrupt: self.interrupt(),
        });
        match self.executor.failure.take() {
            Some(error) => Err(Error::Callback(error)),
            None => answer,
        }
    }

    /// Calls the predicate. Its first error stops the search; all later ids are left out.
    fn admits(&self, id: u32) -> bool {
        let Single { predicate, failure, interrupted, .. } = &self.executor;
        if failure.borrow().is_some() {
            return false;
        }
        match predicate.as_ref().map_or(Ok(true), |predicate| predicate(id)) {
            Ok(is_admitted) => is_admitted,
            Err(error) => {
                failure.replace(Some(error));
                interrupted.fire();
                false
            }
        }
    }

    /// One search. Its hits keep the inner bound with all of `queries`, if there are several.
    pub(crate) fn run(
        &self,
        query: ItemRef<'_>,
        exclude: &[u32],
        queries: &[CheckedVector<'static>],
    ) -> Result<(Hits, SearchStats)> {
        self.with_request(exclude, |request| {
            let interrupt = request.interrupt;
            // A short search may never check its interrupt, but many of them must.
            if interrupt.has_fired()
                || self.executor.has_searched.replace(true) && interrupt.check()
            {
                let stats = SearchStats { is_partial: true, ..SearchStats::default() };
                return Ok((Hits::new(Vec::new(), true), stats));
            }
            let rules = Rules { groups: self.executor.groups.as_ref(), queries };
            let (hits, stats) = search_once(self.searcher(), rules, query, request)?;
            let is_partial = stats.is_partial || interrupt.has_fired();
            Ok((Hits::new(hits, is_partial), SearchStats { is_partial, ..stats }))
        })
    }
}
