//! What the integration tests share: stores, seeds, rows, a brute-force oracle in double precision,
//! and other processes.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod batches;
pub mod confined;
pub mod documents;
pub mod oracle;
pub mod patient;
pub mod process;
pub mod raw;
pub mod rows;
pub mod store;
pub mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

pub use oracle::*;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rayon::ThreadPool;
pub use rows::*;
use spinney::heed::RwTxn;
use spinney::{Metric, Reader, Writer};
pub use store::*;

pub type Rng = Xoshiro256PlusPlus;

/// What an index should hold.
pub type Items = BTreeMap<u32, Vec<f32>>;

pub const METRICS: [Metric; 5] =
    [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan, Metric::Hamming];

/// The seed of a test: fixed, unless `SPINNEY_SEED` says otherwise, and printed when the test
/// fails.
pub struct Seed(u64);

impl Seed {
    pub fn new(default: u64) -> Self {
        let given = std::env::var("SPINNEY_SEED").ok();
        Self(given.map_or(default, |seed| seed.parse().expect("SPINNEY_SEED is a whole number")))
    }

    pub fn number(&self) -> u64 {
        self.0
    }

    /// The generator of one part of the test.
    pub fn rng(&self, part: u64) -> Rng {
        rng(self.0.wrapping_add(part.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed={0}: run again with SPINNEY_SEED={0}", self.0);
        }
    }
}

pub fn rng(seed: u64) -> Rng {
    Rng::seed_from_u64(seed)
}

/// Plays worlds of different seeds, two at a time; with a seed given, that one alone.
pub fn play_worlds(first: u64, worlds: u64, play: impl Fn(Rng) + Sync) {
    let worlds = if std::env::var_os("SPINNEY_SEED").is_some() { 1 } else { worlds };
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let part = next.fetch_add(1, Ordering::Relaxed);
                    if part >= worlds {
                        return;
                    }
                    let seed = Seed::new(first + part);
                    play(seed.rng(0));
                }
            });
        }
    });
}

/// Whether the long forms of tests were asked for.
pub fn is_long() -> bool {
    std::env::var_os("SPINNEY_LONG").is_some()
}

#[track_caller]
pub fn assert_sound(reader: &Reader<'_>, what: &str) {
    let found = reader.verify().unwrap().violations;
    assert!(
        found.is_empty(),
        "{what}: {} violations, among them {:?}",
        found.len(),
        &found[..found.len().min(5)]
    );
}

pub fn pool(threads: usize) -> ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

pub fn add_all(writer: &Writer, wtxn: &mut RwTxn<'_>, items: &Items) {
    let ids: Vec<u32> = items.keys().copied().collect();
    let matrix: Vec<f32> = items.values().flatten().copied().collect();
    writer.add_items(wtxn, &ids, &matrix).unwrap();
}
