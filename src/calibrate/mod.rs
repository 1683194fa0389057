//! Measuring which confidence reaches which recall: on items after a bulk build, or on queries.

pub(crate) mod drift;
mod fit;
pub(crate) mod trace;
pub(crate) mod truth;

use heed::{RoTxn, RwTxn, WithoutTls};

use crate::calibrate::fit::{fit, goals};
use crate::calibrate::trace::{TraceQuery, confidences, is_far_outside, reached};
use crate::calibrate::truth::{TrueNeighbours, Truth, asked, neighbours, true_neighbours};
use crate::error::Result;
use crate::forest::context::ForestContext;
use crate::forest::open::Forest;
use crate::forest::points::Points;
use crate::format::item::ItemRef;
use crate::format::record::{Calibration, OF_ITEMS, OF_USER, OF_USER_OUTSIDE, Record};
use crate::index_spec::IndexSpec;
use crate::lmdb::database::Database;
use crate::lmdb::item::StoredItem;
use crate::lmdb::items::Items;
use crate::lmdb::pending::Pending;
use crate::lmdb::view::View;
use crate::lmdb::workers::{Workers, share};
use crate::math::matrix::Matrix;
use crate::search::EXACT_ITEMS;
use crate::search::session::Session;

/// One in so many queries of the user has to lie far outside of all leaves. Then such queries were
/// measured, and need no guess: docs/trials.md, "choices that were not swept".
const FAR: usize = 100;

/// Whether searches of an index of this size use a calibration: smaller ones are compared whole.
pub(crate) fn applies_to(items: u64) -> bool {
    items > EXACT_ITEMS
}

/// Calibrates a forest that has been written, on the items in `truth`.
pub(crate) fn measure(
    db: Database,
    workers: &mut Workers<'_>,
    spec: IndexSpec,
    record: &Record,
    truth: &Truth,
) -> Result<Calibration> {
    let Workers { own, txns, .. } = workers;
    let forest = Forest::read(View::new(db, own, spec), record)?;
    let items = Items::new(View::new(db, own, spec), 0);
    let stored = truth.queries.iter().map(|id| items.get(*id)).collect::<Result<Vec<_>>>()?;
    let queries = stored.iter().map(StoredItem::view).collect::<Result<Vec<ItemRef<'_>>>>()?;
    let asked = queries.iter().zip(&truth.queries).zip(&truth.neighbours);
    let asked: Vec<TraceQuery<'_>> = asked
        .map(|((query, own), near)| TraceQuery {
            query: *query,
            own: Some(*own),
            near,
            hidden: &near.hidden,
        })
        .collect();
    Measured::new(db, spec, record, &forest, OF_ITEMS).calibration(txns, &asked)
}

/// Calibrates the stored forest on queries of the user.
pub(crate) fn measure_on(
    db: Database,
    wtxn: &RwTxn<'_>,
    spec: IndexSpec,
    record: &Record,
    queries: &[ItemRef<'_>],
) -> Result<Calibration> {
    let mut workers = Workers::new(wtxn, None)?;
    let own = wtxn.nested_read_txn()?;
    let view = View::new(db, &own, spec);
    let forest = Forest::read(view, record)?;
    let context = ForestContext::new(db, spec, &forest, record.leaf_size as usize);
    let mut points = Matrix {
        values: vec![0.0; queries.len() * forest.transform.width],
        width: forest.transform.width,
    };
    for (query, point) in queries.iter().zip(points.values.chunks_exact_mut(points.width)) {
        forest.transform.map_query(query, point);
    }
    // Pending items are always compared exactly, so they say nothing about the forest.
    let pending = Pending::read(view)?;
    let ids = view
        .ids()?
        .filter(|id| id.as_ref().map_or(true, |id| !pending.ids.contains(*id)))
        .collect::<Result<Vec<u32>>>()?;
    let near = neighbours(&mut workers, Points::new(context, &ids, None), &points)?;
    let wanted = |(i, near)| true_neighbours(near, None, asked(i, ids.len()));
    let near: Vec<TrueNeighbours> = near.into_iter().enumerate().map(wanted).collect();
    let asked: Vec<TraceQuery<'_>> = queries
        .iter()
        .zip(&near)
        .map(|(query, near)| TraceQuery { query: *query, own: None, near, hidden: &pending })
        .collect();
    let measured = Measured::new(db, spec, record, &forest, OF_USER);
    let txns = &mut workers.txns;
    let are_far =
        share(txns, asked.len(), |rtxn, i| is_far_outside(&measured.session(rtxn), asked[i]))?;
    let far = are_far.into_iter().filter(|is_far| *is_far).count();
    let source = if far * FAR < asked.len() { OF_USER } else { OF_USER_OUTSIDE };
    Measured::new(db, spec, record, &forest, source).calibration(txns, &asked)
}

/// The index whose forest is calibrated.
#[derive(Copy, Clone)]
struct Measured<'a> {
    db: Database,
    spec: IndexSpec,
    record: Record,
    forest: &'a Forest,
}

impl<'a> Measured<'a> {
    fn new(
        db: Database,
        spec: IndexSpec,
        record: &Record,
        forest: &'a Forest,
        source: u32,
    ) -> Self {
        // Walks go by the rules of the searches to come.
        let mut record = *record;
        record.calibration.source = source;
        Self { db, spec, record, forest }
    }

    /// A session without a cache: each query runs twice only.
    fn session<'t>(&self, rtxn: &'t RoTxn<'t>) -> Session<'t>
    where
        'a: 't,
    {
        let view = View::new(self.db, rtxn, self.spec);
        Session::with_cache(view, self.record, 0, 0).with_forest(self.forest)
    }

    /// Runs all queries twice: to find the confidence for each recall, and to count what searches
    /// that end with it take.
    fn calibration(
        &self,
        txns: &mut [RoTxn<'_, WithoutTls>],
        asked: &[TraceQuery<'_>],
    ) -> Result<Calibration> {
        let found = share(txns, asked.len(), |rtxn, i| confidences(&self.session(rtxn), asked[i]))?;
        let goals = goals(&found);
        let reached = share(txns, asked.len(), |rtxn, i| {
            reached(&self.session(rtxn), asked[i], &found[i], &goals)
        })?;
        let source = self.record.calibration.source;
        Ok(fit(&goals, &reached, self.record.indexed, source))
    }
}
