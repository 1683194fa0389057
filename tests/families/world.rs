//! An index of a family's data, and searches in it by several threads.

use spinney::rayon::prelude::*;
use spinney::rayon::{self};
use spinney::{BuildMethod, BuildOptions, Metric, Reader, Writer};

use super::family::{Data, Mode};
use crate::support::Store;

const MAP_BYTES: usize = 1 << 30;

pub struct World {
    pub store: Store,
    pub writer: Writer,
    pub metric: Metric,
    options: BuildOptions<'static>,
    /// How many builds were incremental.
    pub incremental: usize,
}

impl World {
    fn empty(dims: usize, metric: Metric, options: BuildOptions<'static>) -> Self {
        let store = Store::with_map_size(MAP_BYTES);
        let writer = store.create_index(dims, metric);
        Self { store, writer, metric, options, incremental: 0 }
    }

    /// An index of the rows, without a forest.
    pub fn bare(rows: &[Vec<f32>], metric: Metric) -> Self {
        let mut world = Self::empty(rows[0].len(), metric, BuildOptions::default());
        world.add(&(0..).zip(rows.iter().map(Vec::as_slice)).collect::<Vec<_>>());
        world
    }

    /// An index that came to hold the data in this way.
    pub fn new(data: &Data, metric: Metric, mode: Mode, options: BuildOptions<'static>) -> Self {
        let mut world = Self::empty(data.rows[0].len(), metric, options);
        let items: Vec<(u32, &[f32])> = (0..).zip(data.rows.iter().map(Vec::as_slice)).collect();
        if mode == Mode::Grown && data.before.is_empty() {
            let mut done = items.len() / 3;
            world.put(&items[..done]);
            while done < items.len() {
                let next = items.len().min(done + done / 9);
                world.put(&items[done..next]);
                done = next;
            }
            // Small indexes are built anew as they grow.
            assert!(
                items.len() < 4_000 || world.incremental > 3,
                "{} incremental builds",
                world.incremental
            );
        } else if mode == Mode::Grown {
            let mut old = items.clone();
            data.before.iter().for_each(|(id, row)| old[*id as usize].1 = row);
            world.put(&old);
            let moved: Vec<(u32, &[f32])> =
                data.before.iter().map(|(id, _)| items[*id as usize]).collect();
            world.put(&moved);
            assert_eq!(world.incremental, 1);
        } else {
            world.put(&items);
        }
        world.delete(&data.deleted, mode != Mode::Unbuilt);
        world
    }

    /// Adds or overwrites items.
    fn add(&mut self, items: &[(u32, &[f32])]) {
        let (ids, rows): (Vec<u32>, Vec<&[f32]>) = items.iter().copied().unzip();
        let mut wtxn = self.store.env.write_txn().unwrap();
        self.writer.add_items(&mut wtxn, &ids, &rows.concat()).unwrap();
        wtxn.commit().unwrap();
    }

    /// Adds or overwrites items, and builds.
    fn put(&mut self, items: &[(u32, &[f32])]) {
        self.add(items);
        let mut wtxn = self.store.env.write_txn().unwrap();
        let stats = self.writer.build(&mut wtxn, &self.options).unwrap();
        self.incremental += usize::from(stats.method == BuildMethod::Incremental);
        wtxn.commit().unwrap();
    }

    fn delete(&mut self, ids: &[u32], is_built: bool) {
        if ids.is_empty() {
            return;
        }
        let mut wtxn = self.store.env.write_txn().unwrap();
        for id in ids {
            assert!(self.writer.del_item(&mut wtxn, *id).unwrap());
        }
        if is_built {
            self.writer.build(&mut wtxn, &self.options).unwrap();
        }
        wtxn.commit().unwrap();
    }

    /// Asks many questions, by all threads of the current pool: the answers in order.
    pub fn ask<R: Send>(
        &self,
        count: usize,
        question: impl Fn(&Reader<'_>, usize) -> R + Sync,
    ) -> Vec<R> {
        let threads = rayon::current_num_threads();
        let part = |thread: usize| {
            let rtxn = self.store.env.read_txn().unwrap();
            let reader = Reader::open(&rtxn, self.store.db, 0).unwrap();
            (thread..count)
                .step_by(threads)
                .map(|at| (at, question(&reader, at)))
                .collect::<Vec<_>>()
        };
        let mut answers: Vec<(usize, R)> =
            (0..threads).into_par_iter().flat_map_iter(part).collect();
        answers.sort_unstable_by_key(|(at, _)| *at);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}
