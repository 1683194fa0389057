//! What a query needs of a session, whatever the lifetime of its transaction.

use crate::error::{Error, Result};
use crate::format::item::ItemRef;
use crate::index_spec::IndexSpec;
use crate::key::Key;
use crate::lmdb::item::StoredItem;
use crate::search::knn::search;
use crate::search::paged::Stream;
use crate::search::request::Request;
use crate::search::rerank::Scorer;
use crate::search::session::Session;
use crate::search::{Hit, SearchStats};
use crate::vector::is_as_added;

/// What queries need of a session, without the lifetime of its transaction.
pub(crate) trait Searcher {
    fn spec(&self) -> IndexSpec;
    /// The item to search with, if it exists.
    fn query_item(&self, id: u32) -> Result<Option<StoredItem<'_>>>;
    /// A stored item as a hit, with its distance to `query`.
    fn compare(&self, query: ItemRef<'_>, id: u32) -> Result<Hit>;
    /// One search: see [`search`].
    fn search(&self, query: ItemRef<'_>, request: &Request<'_>) -> Result<(Vec<Hit>, SearchStats)>;
    /// The next hits of a stream: see [`Stream::next`].
    fn next(&self, stream: &mut Stream, request: &Request<'_>, count: usize) -> Result<Vec<Hit>>;
}

impl Searcher for Session<'_> {
    fn spec(&self) -> IndexSpec {
        Session::spec(self)
    }

    fn query_item(&self, id: u32) -> Result<Option<StoredItem<'_>>> {
        let (item, spec) = (self.items.find(id)?, self.spec());
        let Some(item) = item else { return Ok(None) };
        // Otherwise a wrong norm here would be reported as damage of the items compared with it.
        if is_as_added(&item.view()?, spec.metric) {
            return Ok(Some(item));
        }
        let what = "the norm of the item is not that of its components";
        Err(Error::corrupted(Key::item(spec.index, id), what))
    }

    fn compare(&self, query: ItemRef<'_>, id: u32) -> Result<Hit> {
        let scorer = Scorer { spec: self.spec(), simd: self.simd, query };
        Ok(scorer.rank(id, &self.items.get(id)?.view()?)?.into_hit(self.spec().metric))
    }

    fn search(&self, query: ItemRef<'_>, request: &Request<'_>) -> Result<(Vec<Hit>, SearchStats)> {
        search(self, query, request)
    }

    fn next(&self, stream: &mut Stream, request: &Request<'_>, count: usize) -> Result<Vec<Hit>> {
        stream.next(self, request, count)
    }
}
