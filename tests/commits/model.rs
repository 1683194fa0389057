//! Random changes between the commits of a build: what they leave is what a map would hold.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::{BuildOptions, BuildPhase, Error, Metric, Progress, Reader, SearchStats, Writer};

use crate::support::*;

/// Ids of items.
const IDS: u32 = 3000;

struct World {
    store: Store,
    writer: Writer,
    metric: Metric,
    dims: usize,
    changing: Mutex<Changing>,
    /// Changes that were made between commits.
    changes: AtomicU64,
}

struct Changing {
    rng: Rng,
    items: Items,
    /// What the build sees.
    at_begin: Option<Items>,
}

impl World {
    fn new(mut rng: Rng) -> Self {
        let store = Store::with_map_size(512 << 20);
        let (dims, metric) = (rng.random_range(2..=20), *METRICS.choose(&mut rng).unwrap());
        let writer = store.create_index(dims, metric);
        let spread = *SPREADS.choose(&mut rng).unwrap();
        let n = rng.random_range(0..2200);
        let rows = vectors(&mut rng, metric, dims, n, spread);
        let items: Items = (0u32..).zip(rows).collect();
        let mut wtxn = store.env.write_txn().unwrap();
        add_all(&writer, &mut wtxn, &items);
        wtxn.commit().unwrap();
        let changing = Mutex::new(Changing { rng, items, at_begin: None });
        Self { store, writer, metric, dims, changing, changes: AtomicU64::new(0) }
    }

    /// Adds, overwrites and deletes some items, and commits that.
    fn change(&self, Changing { rng, items, .. }: &mut Changing) {
        let mut wtxn = self.store.env.write_txn().unwrap();
        for _ in 0..rng.random_range(1..8) {
            let id = rng.random_range(0..IDS);
            match rng.random_range(0..4) {
                0 => {
                    let existed = items.remove(&id).is_some();
                    assert_eq!(self.writer.del_item(&mut wtxn, id).unwrap(), existed);
                }
                // By itself.
                1 if items.contains_key(&id) => {
                    self.writer.add_item(&mut wtxn, id, &items[&id]).unwrap();
                }
                _ => {
                    let row = uniform(rng, self.metric, self.dims);
                    self.writer.add_item(&mut wtxn, id, &row).unwrap();
                    items.insert(id, row);
                }
            }
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        wtxn.commit().unwrap();
    }

    /// What is committed is what the map holds, and searches find it.
    fn check(&self, Changing { rng, items, .. }: &mut Changing, what: &str) {
        let rtxn = self.store.env.read_txn().unwrap();
        let reader = Reader::open(&rtxn, self.store.db, 0).unwrap();
        assert_eq!(reader.len(), items.len() as u64, "{what}");
        let query = uniform(rng, self.metric, self.dims);
        let ranked = ranked(self.metric, items, &query);
        let k = rng.random_range(1..30);
        let exact = reader.nns(k).exact().by_vector(&query).unwrap();
        Ask::new(k).check_exact(self.metric, &ranked, &exact);
        Ask::new(k).check(self.metric, &ranked, &reader.nns(k).by_vector(&query).unwrap());
        let ask = Ask { search_k: Some(usize::MAX), oversampling: Some(100.0), ..Ask::new(k) };
        ask.check_nearest(
            self.metric,
            &ranked,
            &ask.apply(reader.nns(k)).by_vector(&query).unwrap(),
        );
        if rng.random_bool(0.2) {
            assert_sound(&reader, what);
            assert_items(&reader, items);
            assert_eq!(reader.id_set().unwrap(), items.keys().copied().collect(), "{what}");
        }
    }

    /// Begins a build, with changes between its steps, which may cancel it. Returns whether it was
    /// done.
    fn build(&self, options: &BuildOptions<'_>, cancel_at: u64) -> bool {
        let polls = AtomicU64::new(0);
        let progress = |progress: &Progress| {
            let mut changing = self.changing.lock().unwrap();
            if polls.fetch_add(1, Ordering::Relaxed) == 0 {
                changing.at_begin = Some(changing.items.clone());
            }
            let part = if progress.phase == BuildPhase::Writing { 0.5 } else { 0.05 };
            if changing.rng.random_bool(part) {
                self.change(&mut changing);
                self.check(&mut changing, &format!("while {}", progress.phase));
            }
            if polls.load(Ordering::Relaxed) > cancel_at {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        match self.writer.build_in_commits(&self.store.env, &options.progress(&progress)) {
            Ok(_) => true,
            Err(Error::Cancelled) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// After a build, exactly what has changed since it began is pending.
    fn check_pending(&self) {
        let changing = self.changing.lock().unwrap();
        let Some(at_begin) = &changing.at_begin else { return };
        let rtxn = self.store.env.read_txn().unwrap();
        let reader = Reader::open(&rtxn, self.store.db, 0).unwrap();
        let is_other = |id: &u32| changing.items.get(id) != at_begin.get(id);
        let changed = (0..IDS).filter(is_other).count() as u64;
        let expected = if at_begin.is_empty() { changing.items.len() as u64 } else { changed };
        assert_eq!(reader.pending_len(), expected);
    }
}

#[test]
fn items_that_change_between_the_commits_are_found_at_any_time() {
    let (done, cancelled, changes) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    play_worlds(920, if is_long() { 1000 } else { 12 }, |rng| {
        let world = World::new(rng);
        for round in 0..5 {
            let mut changing = world.changing.lock().unwrap();
            let options = BuildOptions::default()
                .rebuild(true)
                .trees(changing.rng.random_range(1..=2))
                .leaf_size(changing.rng.random_range(32..64))
                .bytes_per_commit(changing.rng.random_range(1_000..60_000));
            let cancel_at = if changing.rng.random_bool(0.3) {
                changing.rng.random_range(1..150)
            } else {
                u64::MAX
            };
            let kept = world.store.env.read_txn().unwrap();
            let items_before = changing.items.clone();
            changing.at_begin = None;
            drop(changing);
            if world.build(&options, cancel_at) {
                done.fetch_add(1, Ordering::Relaxed);
                world.check_pending();
            } else {
                cancelled.fetch_add(1, Ordering::Relaxed);
            }
            let before = Reader::open(&kept, world.store.db, 0).unwrap();
            assert_items(&before, &items_before);
            assert_sound(&before, "a reader opened before the build");
            let mut changing = world.changing.lock().unwrap();
            world.check(&mut changing, "after the build");
            world.change(&mut changing);
            if round % 2 == 0 {
                let mut wtxn = world.store.env.write_txn().unwrap();
                world.writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
                wtxn.commit().unwrap();
            }
            world.check(&mut changing, "after a build in one transaction");
        }
        changes.fetch_add(world.changes.into_inner(), Ordering::Relaxed);
    });
    let [done, cancelled, changes] = [done, cancelled, changes].map(AtomicU64::into_inner);
    println!("{done} builds were done, {cancelled} cancelled; {changes} changes");
    // Three builds in ten are asked to end early. How often one is polled depends on the machine.
    if std::env::var_os("SPINNEY_SEED").is_none() {
        assert!(done > cancelled && cancelled > 5 && changes > 10 * done);
    }
}

/// A forest that was calibrated while items changed reaches its recall.
#[test]
fn searches_reach_their_recall_after_a_build_with_changes() {
    let seed = Seed::new(930);
    for metric in METRICS {
        let mut rng = seed.rng(metric as u64);
        let (dims, n) = (24, 3000);
        let store = Store::with_map_size(512 << 20);
        let writer = store.create_index(dims, metric);
        let rows = vectors(&mut rng, metric, dims, n, Spread::Clusters);
        let items: Items = (0u32..).zip(rows).collect();
        let mut wtxn = store.env.write_txn().unwrap();
        add_all(&writer, &mut wtxn, &items);
        wtxn.commit().unwrap();
        let changing = Mutex::new(Changing { rng, items, at_begin: None });
        let changes = AtomicU64::new(0);
        let world = World { store, writer, metric, dims, changing, changes };
        let options = BuildOptions::default().leaf_size(32).bytes_per_commit(20_000);
        assert!(world.build(&options, u64::MAX));
        let Changing { mut rng, items, .. } = world.changing.into_inner().unwrap();
        let rtxn = world.store.env.read_txn().unwrap();
        let reader = Reader::open(&rtxn, world.store.db, 0).unwrap();
        assert!(reader.pending_len() > 20, "{} changes", reader.pending_len());
        let (mut found, mut sketches) = (0.0, 0);
        for _ in 0..100 {
            let model = items.values().nth(rng.random_range(0..items.len())).unwrap();
            let query = near(&mut rng, metric, model);
            let mut searched = SearchStats::default();
            let nns = reader.nns(10).recall(0.95).report(&mut searched);
            let hits = nns.by_vector(&query).unwrap();
            found += recall(metric, &ranked(metric, &items, &query), &hits, 10) / 100.0;
            sketches += searched.sketches;
        }
        assert!(found > 0.9, "{metric}: recall {found}");
        assert!(sketches > 0, "{metric}: no search used the forest");
    }
}
