//! What the tests of builds, snapshots and processes share: environments, contents byte by byte,
//! seeded vectors.

#![allow(dead_code, reason = "every test binary uses a part of this")]

pub mod world;

use std::path::Path;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rayon::ThreadPool;
use spinney::heed::types::Bytes;
use spinney::heed::{self, CommitOrAbort, RoTxn, WithoutTls};
use spinney::{Database, Metric};

pub type Env = heed::Env<WithoutTls>;
pub type Rng = Xoshiro256PlusPlus;

pub const METRICS: [Metric; 5] =
    [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan, Metric::Hamming];

/// The seed of a test: `SPINNEY_SEED`, else `default`. Printed, so that a failure shows it.
pub fn seed(test: &str, default: u64) -> u64 {
    let seed = std::env::var("SPINNEY_SEED")
        .map_or(default, |seed| seed.parse().expect("SPINNEY_SEED is a number"));
    println!("{test}: seed={seed} (set SPINNEY_SEED to repeat)");
    seed
}

pub fn rng(seed: u64) -> Rng {
    Rng::seed_from_u64(seed)
}

pub fn pool(threads: usize) -> ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// Opens an environment with a map of this many bytes.
#[allow(unsafe_code)]
pub fn open(dir: &Path, map_bytes: usize) -> Env {
    // SAFETY: the folder is the test's own; nobody changes its files but LMDB.
    unsafe {
        heed::EnvOpenOptions::new()
            .read_txn_without_tls()
            .map_size(map_bytes)
            .max_dbs(2)
            .open(dir)
            .unwrap()
    }
}

/// Closes an environment, so that it can be opened again.
pub fn close(env: Env) {
    env.prepare_for_closing().wait();
}

/// An environment, the database `spinney` in it, and the same database as raw bytes.
pub struct Opened {
    pub env: Env,
    pub db: Database,
    pub raw: Raw,
}

impl Opened {
    pub fn new(dir: &Path, map_bytes: usize) -> Self {
        let env = open(dir, map_bytes);
        let db = Database::open_or_create(&env).unwrap();
        let raw = Raw::open(&env);
        Self { env, db, raw }
    }

    /// What is committed.
    pub fn content(&self) -> Content {
        self.raw.content(&self.env.read_txn().unwrap())
    }

    pub fn close(self) {
        close(self.env);
    }
}

/// The LMDB database named `spinney`, without the crate's help.
#[derive(Copy, Clone)]
pub struct Raw(heed::Database<'static, Bytes, Bytes>);

impl Raw {
    pub fn open(env: &Env) -> Self {
        let rtxn = env.read_txn().unwrap();
        let opened = env.open_databases_and_commit(rtxn, |opener, rtxn| {
            opener
                .open_database::<Bytes, Bytes>(rtxn, Some("spinney"))
                .map(CommitOrAbort::<_, ()>::Commit)
        });
        Self(opened.unwrap().commit().flatten().expect("the database exists"))
    }

    pub fn content(self, rtxn: &RoTxn<'_>) -> Content {
        // The mark of the database is no entry of an index, and differs from one to the other.
        let of_indexes =
            self.0.iter(rtxn).unwrap().map(Result::unwrap).filter(|(key, _)| *key != [0, 0]);
        Content(of_indexes.map(|(key, value)| (key.to_vec(), value.to_vec())).collect())
    }
}

/// Every key and value of the indexes.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(pub Vec<(Vec<u8>, Vec<u8>)>);

impl Content {
    /// Panics with the first difference unless both are the same bytes.
    #[track_caller]
    pub fn assert_same(&self, expected: &Self, what: &str) {
        if self == expected {
            return;
        }
        let pairs = self.0.iter().zip(&expected.0);
        match pairs.clone().position(|(got, expected)| got != expected) {
            Some(at) => {
                let (got, expected) = (&self.0[at], &expected.0[at]);
                let byte = got.1.iter().zip(&expected.1).position(|(a, b)| a != b);
                panic!(
                    "{what}: entry {at} differs: key {:02x?} ({} bytes), expected key {:02x?} ({} bytes), first other byte {byte:?}",
                    got.0,
                    got.1.len(),
                    expected.0,
                    expected.1.len()
                );
            }
            None => panic!("{what}: {} entries, expected {}", self.0.len(), expected.0.len()),
        }
    }

    /// The values of one kind (byte 2 of the key, as `format` says) and tree (byte 3).
    pub fn values(&self, kind: u8, tree: u8) -> Vec<&[u8]> {
        let entries = self.0.iter().filter(|(key, _)| key[2] == kind && key[3] == tree);
        entries.map(|(_, value)| value.as_slice()).collect()
    }
}

pub const PENDING: u8 = 2;
pub const BRANCH: u8 = 3;
pub const LEAF: u8 = 4;

/// A random vector near one of eight centres; bits for Hamming.
pub fn vector(metric: Metric, dims: usize, rng: &mut Rng) -> Vec<f32> {
    let centre = f32::from(rng.random_range(0..8u8));
    let mut component = |d: usize| {
        let middle = (centre * 1.7 + d as f32 * 0.9).sin();
        match metric {
            Metric::Hamming => f32::from(u8::from(rng.random_range(-1.0..1.0) < middle)),
            _ => 3.0 * middle + rng.random_range(-1.0..1.0f32),
        }
    };
    (0..dims).map(&mut component).collect()
}

/// `n` random vectors, row after row.
pub fn vectors(metric: Metric, dims: usize, n: usize, rng: &mut Rng) -> Vec<f32> {
    (0..n).flat_map(|_| vector(metric, dims, rng)).collect()
}
