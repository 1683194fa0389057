//! A bulk build in several commits, for a forest that is too large for one transaction.
//!
//! The nodes are written in the generation that searches do not see. The last commit changes which
//! one they see. Between commits others may write. The record holds the number of the build, and
//! each commit looks whether it is still there: any other build takes it away.
//!
//! The forest is that of one snapshot. While the number is in the record, each item that changes
//! gets a pending mark. The last commit compares the marked items with the snapshot.

use heed::{Env, RoTxn, RwTxn, WithoutTls};
use rayon::ThreadPool;
use roaring::RoaringBitmap;

use crate::calibrate;
use crate::calibrate::truth::{Truth, truth};
use crate::error::{Error, Result};
use crate::forest::context::ForestContext;
use crate::forest::open::Forest;
use crate::forest::points::Points;
use crate::format::item::{PendingRef, write_pending};
use crate::format::origin::origin_value;
use crate::format::record::{Calibration, Record};
use crate::index_spec::IndexSpec;
use crate::indexer::nodes::Nodes;
use crate::indexer::plan::BuildPlan;
use crate::indexer::shape::Shape;
use crate::indexer::{bulk, count_node, is_up_to_date, nothing_done, on_pool};
use crate::key::{Key, Kind, trees_of};
use crate::lmdb::database::Database;
use crate::lmdb::item::StoredItem;
use crate::lmdb::view::View;
use crate::lmdb::workers::{Reports, Workers};
use crate::options::{BuildMethod, BuildOptions, BuildStats};
use crate::progress::BuildPhase;

/// Bytes of nodes in each commit, unless the user says otherwise.
const BYTES_PER_COMMIT: usize = 64 << 20;

/// Builds the forest anew in several commits, unless there is nothing to do.
pub(crate) fn build(
    env: &Env<WithoutTls>,
    db: Database,
    spec: IndexSpec,
    options: &BuildOptions<'_>,
) -> Result<BuildStats> {
    options.check()?;
    let mut wtxn = env.write_txn()?;
    let mut record = db.record_of(&wtxn, spec)?;
    // Another writer may have converted the index.
    let spec = record.spec(spec.index);
    let bytes_per_commit = options.bytes_per_commit.unwrap_or(BYTES_PER_COMMIT).max(1);
    let build = wtxn.id() as u64;
    let mut commits = Commits { env, db, spec, options, bytes_per_commit, build };
    let is_done = is_up_to_date(&record, Shape::new(options, &record, spec.metric), options);
    let built = if is_done {
        let stats = super::build(db, &mut wtxn, spec, options)?;
        wtxn.commit()?;
        Ok(stats)
    } else {
        if record.trees == 0 {
            // What a build has left that was broken off.
            delete_marks(db, &mut wtxn, &mut record, spec)?;
        }
        record.begin_build(build);
        db.put(&mut wtxn, Key::record(spec.index), &record.to_bytes())?;
        wtxn.commit()?;
        commits.run()
    };
    if built.is_ok() {
        // What is left belongs to no build, or to one that was broken off.
        commits.build = if is_done { record.build } else { 0 };
    }
    // What cannot be deleted now is deleted by the next build.
    _ = commits.delete_remains(true);
    built
}

/// A build in several commits.
struct Commits<'a> {
    env: &'a Env<WithoutTls>,
    db: Database,
    spec: IndexSpec,
    options: &'a BuildOptions<'a>,
    bytes_per_commit: usize,
    /// Its number in the record; 0 once it has ended.
    build: u64,
}

impl<'a> Commits<'a> {
    fn run(&self) -> Result<BuildStats> {
        self.delete_remains(false)?;
        let mut workers = self.workers()?;
        let before = self.own_record(&workers.own)?;
        let mut base = before.settled();
        base.generation = before.other_generation();
        let shape = Shape::new(self.options, &before, self.spec.metric);
        let (db, spec, options, lent) = (self.db, self.spec, self.options, &mut workers);
        let compute = move || bulk::plan(db, lent, spec, &base, shape, options);
        let plan = on_pool(self.options.thread_pool, compute)?;
        let BuildPlan { mut record, origin, nodes, truth, .. } = plan;
        // The snapshot is kept for the last commit. Its other reader slots are free again.
        let Workers { own: snapshot, txns, reports } = workers;
        drop(txns);
        let mut stats = nothing_done(&record);
        if before.items > 0 || before.indexed > 0 {
            stats.method = BuildMethod::Bulk;
        }
        (stats.items_added, stats.items_removed) = (before.items, before.indexed);
        nodes.keys().for_each(|(key, len)| count_node(&mut stats, key, len));
        let origin = origin
            .map(|origin| (Key::origin(self.spec.index, record.generation), origin_value(&origin)));
        self.write_nodes(origin, nodes, &reports)?;
        if let Some(truth) = truth {
            record.calibration = self.calibrate(&snapshot, &record, truth)?;
        }
        self.show(&snapshot, record)?;
        Ok(stats)
    }

    /// Workers on the newest snapshot.
    fn workers(&self) -> Result<Workers<'a>> {
        let pool = self.options.thread_pool;
        let threads = pool.map_or_else(rayon::current_num_threads, ThreadPool::current_num_threads);
        Workers::of_snapshot(self.env, threads, self.options.progress)
    }

    /// The record, if no other build has taken the place of this one.
    fn own_record(&self, rtxn: &RoTxn<'_>) -> Result<Record> {
        match self.db.record(rtxn, self.spec.index) {
            Ok(record) if record.build == self.build => Ok(record),
            Ok(_) | Err(Error::IndexNotFound { .. }) => Err(Error::BuildSuperseded),
            Err(error) => Err(error),
        }
    }

    /// Writes the origin and the nodes of a plan in commits of about the same size.
    fn write_nodes(
        &self,
        origin: Option<(Key, Vec<u8>)>,
        nodes: Nodes,
        reports: &Reports<'_>,
    ) -> Result<()> {
        let total = nodes.keys().count() as u64;
        let mut left = origin.into_iter().map(Ok).chain(nodes.into_entries()).peekable();
        let mut done = 0;
        while left.peek().is_some() {
            let mut wtxn = self.env.write_txn()?;
            self.own_record(&wtxn)?;
            let mut bytes = 0;
            while bytes < self.bytes_per_commit
                && let Some((key, value)) = left.next().transpose()?
            {
                self.db.put(&mut wtxn, key, &value)?;
                bytes += value.len();
                done += u64::from(key.kind() != Some(Kind::Origin));
            }
            wtxn.commit()?;
            reports.make(BuildPhase::Writing, done, total)?;
        }
        Ok(())
    }

    /// Calibrates the forest that is written, and that no search uses yet. As in other builds, a
    /// search that fails leaves the index without a calibration.
    fn calibrate(
        &self,
        snapshot: &RoTxn<'_>,
        record: &Record,
        of_snapshot: Truth,
    ) -> Result<Calibration> {
        let mut workers = self.workers()?;
        // Another may have taken the place of this build, and the nodes may be gone.
        self.own_record(&workers.own)?;
        let lent = &mut workers;
        let changed = self.changed_since(snapshot, &lent.own)?;
        let measure = move || -> Result<Option<Calibration>> {
            let truth = self.truth_without(lent, record, changed, of_snapshot)?;
            Ok(truth.and_then(|truth| {
                calibrate::measure(self.db, lent, self.spec, record, &truth).ok()
            }))
        };
        Ok(on_pool(self.options.thread_pool, measure)?.unwrap_or_default())
    }

    /// The items that are marked, and others than in the snapshot that the forest was built from.
    fn changed_since(&self, snapshot: &RoTxn<'_>, rtxn: &RoTxn<'_>) -> Result<RoaringBitmap> {
        let mut changed = RoaringBitmap::new();
        for entry in self.db.iter(rtxn, self.spec.index, Kind::Pending)? {
            let id = entry?.0.id();
            let (db, spec) = (self.db, self.spec);
            if db.item_bytes(rtxn, spec, id)? != db.item_bytes(snapshot, spec, id)? {
                changed.insert(id);
            }
        }
        Ok(changed)
    }

    /// True neighbours among the items that have not changed since the forest was built. The others
    /// are hidden from its searches, as pending items are.
    fn truth_without(
        &self,
        workers: &mut Workers<'_>,
        record: &Record,
        changed: RoaringBitmap,
        of_snapshot: Truth,
    ) -> Result<Option<Truth>> {
        if changed.is_empty() {
            return Ok(Some(of_snapshot));
        }
        let view = View::new(self.db, &workers.own, self.spec);
        let forest = Forest::read(view, record)?;
        let ids = view
            .ids()?
            .filter(|id| id.as_ref().map_or(true, |id| !changed.contains(*id)))
            .collect::<Result<Vec<u32>>>()?;
        if !calibrate::applies_to(ids.len() as u64) {
            return Ok(None);
        }
        let context = ForestContext::new(self.db, self.spec, &forest, record.leaf_size as usize);
        let mut truth = truth(workers, Points::new(context, &ids, None))?;
        truth.neighbours.iter_mut().for_each(|near| near.hidden.ids |= &changed);
        Ok(Some(truth))
    }

    /// The last commit of the build: searches see the new forest from here on.
    fn show(&self, snapshot: &RoTxn<'_>, mut new: Record) -> Result<()> {
        let mut wtxn = self.env.write_txn()?;
        (new.items, new.has_remains) = (self.own_record(&wtxn)?.items, 1);
        if new.trees == 0 {
            delete_marks(self.db, &mut wtxn, &mut new, self.spec)?;
        } else {
            new.pending = self.mark_changes(snapshot, &mut wtxn)?;
        }
        self.db.put(&mut wtxn, Key::record(self.spec.index), &new.to_bytes())?;
        Ok(wtxn.commit()?)
    }

    /// Makes the marks those of what has changed since the snapshot. Returns how many are left.
    fn mark_changes(&self, snapshot: &RoTxn<'_>, wtxn: &mut RwTxn<'_>) -> Result<u64> {
        let index = self.spec.index;
        let marks = self.db.iter(wtxn, index, Kind::Pending)?;
        let ids = marks.map(|entry| Ok(entry?.0.id())).collect::<Result<Vec<u32>>>()?;
        let (mut mark, mut count) = (Vec::new(), 0);
        for id in ids {
            let pending = Key::pending(index, id);
            let now = self.db.item_bytes(wtxn, self.spec, id)?;
            let before = self.db.item_bytes(snapshot, self.spec, id)?;
            if now == before {
                self.db.delete(wtxn, pending)?;
            } else {
                let is_live = now.is_some();
                let before = self.db.item(snapshot, self.spec, id)?;
                let indexed = before.as_ref().map(StoredItem::bytes);
                write_pending(&mut mark, &PendingRef { is_live, indexed });
                self.db.put(wtxn, pending, &mark)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Deletes what there is of the other generation, in commits of about the same size. If the
    /// build `is_over`, the record says in the end that nothing is left of it.
    fn delete_remains(&self, is_over: bool) -> Result<()> {
        loop {
            let mut wtxn = self.env.write_txn()?;
            let mut record = self.own_record(&wtxn)?;
            let remains = self.remains(&wtxn, &record)?;
            if remains.is_empty() {
                if is_over && record.has_remains == 1 {
                    self.end(&mut wtxn, &mut record)?;
                    wtxn.commit()?;
                }
                return Ok(());
            }
            for range in remains {
                self.db.delete_range(&mut wtxn, range)?;
            }
            wtxn.commit()?;
        }
    }

    /// The next keys of the other generation to delete, from the first up to the last.
    fn remains(&self, rtxn: &RoTxn<'_>, record: &Record) -> Result<Vec<(Key, Key)>> {
        let (mut ranges, mut left) = (Vec::new(), self.bytes_per_commit);
        if record.has_remains == 0 {
            return Ok(ranges);
        }
        for kind in Kind::FOREST {
            let range = Key::trees(self.spec.index, kind, &trees_of(record.other_generation()));
            let mut entries = self.db.range(rtxn, range)?;
            let mut last = None;
            while left > 0
                && let Some((key, value)) = entries.next().transpose()?
            {
                left = left.saturating_sub(value.len());
                last = Some(key);
            }
            ranges.extend(last.map(|last| (range.0, last)));
        }
        Ok(ranges)
    }

    /// Writes into the record that no build is under way and none has left anything.
    fn end(&self, wtxn: &mut RwTxn<'_>, record: &mut Record) -> Result<()> {
        if record.build != 0 && record.trees == 0 {
            delete_marks(self.db, wtxn, record, self.spec)?;
        } else if record.build != 0 {
            self.delete_dead_marks(wtxn, record)?;
        }
        let settled = record.settled();
        self.db.put(wtxn, Key::record(self.spec.index), &settled.to_bytes())
    }

    /// Deletes the marks of items that neither exist nor are in the forest.
    fn delete_dead_marks(&self, wtxn: &mut RwTxn<'_>, record: &mut Record) -> Result<()> {
        let mut dead = Vec::new();
        for entry in self.db.iter(wtxn, self.spec.index, Kind::Pending)? {
            let (key, bytes) = entry?;
            let mark = PendingRef::parse(key, bytes, self.spec)?;
            if !mark.is_live && mark.indexed.is_none() {
                dead.push(key);
            }
        }
        record.pending = record.pending.saturating_sub(dead.len() as u64);
        dead.into_iter().try_for_each(|key| self.db.delete(wtxn, key).map(|_| ()))
    }
}

/// Deletes all pending marks.
fn delete_marks(
    db: Database,
    wtxn: &mut RwTxn<'_>,
    record: &mut Record,
    spec: IndexSpec,
) -> Result<()> {
    record.pending = 0;
    db.delete_kind(wtxn, spec.index, Kind::Pending)
}
