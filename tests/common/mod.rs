//! What the integration tests share: environments, seeds, data, and a brute-force oracle in double
//! precision.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod confined;
pub mod raw;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use spinney::heed::{Env, EnvFlags, EnvOpenOptions, RwTxn, WithoutTls};
use spinney::roaring::RoaringBitmap;
use spinney::{Database, Hit, Metric, Nns, Reader, Writer};
use tempfile::TempDir;

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

    /// The generator of one part of the test.
    pub fn rng(&self, part: u64) -> Rng {
        Rng::seed_from_u64(self.0.wrapping_add(part.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed={0}: run again with SPINNEY_SEED={0}", self.0);
        }
    }
}

/// An environment in a folder of its own.
pub struct Store {
    pub env: Env<WithoutTls>,
    pub db: Database,
    dir: TempDir,
}

impl Store {
    pub fn new() -> Self {
        Self::with_map_size(1 << 30)
    }

    pub fn with_map_size(bytes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let env = open_env(dir.path(), bytes);
        let db = Database::open_or_create(&env).unwrap();
        Self { env, db, dir }
    }

    /// Gives the map another size. No transaction may be alive.
    #[allow(unsafe_code)]
    pub fn resize(&self, map_size: usize) {
        // SAFETY: the caller has no transaction, and the environment is in the hands of one thread.
        unsafe { self.env.resize(map_size).unwrap() };
    }

    /// Closes the environment and opens it again.
    pub fn reopen(self, map_size: usize) -> Self {
        let Self { env, dir, .. } = self;
        env.prepare_for_closing().wait();
        let env = open_env(dir.path(), map_size);
        let db = Database::open(&env).unwrap().expect("it was created before");
        Self { env, db, dir }
    }
}

pub fn open_env(path: &Path, map_size: usize) -> Env<WithoutTls> {
    open_env_with(path, map_size, 2, EnvFlags::empty())
}

/// An environment with room for so many tables.
#[allow(unsafe_code)]
pub fn open_env_with(
    path: &Path,
    map_size: usize,
    tables: u32,
    flags: EnvFlags,
) -> Env<WithoutTls> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_size).max_dbs(tables);
    // SAFETY: no test relies on what these flags give up: a commit that outlives the machine.
    unsafe { options.flags(flags) };
    // SAFETY: the folder belongs to one test, which changes its files through LMDB alone while they
    // are open.
    unsafe { options.open(path).unwrap() }
}

/// How vectors lie.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    Clusters,
    Uniform,
    /// Each vector about ten times.
    Duplicates,
    Identical,
    /// A quarter of the vectors are zero, where the metric allows it.
    Zeros,
}

pub const SPREADS: [Spread; 5] =
    [Spread::Clusters, Spread::Uniform, Spread::Duplicates, Spread::Identical, Spread::Zeros];

/// Nearly normal, of variance 1.
pub fn normal(rng: &mut Rng) -> f32 {
    let sum: f32 = (0..4).map(|_| rng.random_range(-1.0f32..1.0)).sum();
    sum * 0.866
}

/// One vector, uniform in its range.
pub fn uniform(rng: &mut Rng, metric: Metric, dims: usize) -> Vec<f32> {
    let mut row: Vec<f32> = match metric {
        Metric::Hamming => (0..dims).map(|_| f32::from(u8::from(rng.random::<bool>()))).collect(),
        _ => (0..dims).map(|_| rng.random_range(-1.0..1.0)).collect(),
    };
    if metric == Metric::Cosine && row.iter().all(|x| *x == 0.0) {
        row[0] = 1.0;
    }
    row
}

/// A vector near another.
pub fn near(rng: &mut Rng, metric: Metric, centre: &[f32]) -> Vec<f32> {
    let mut row: Vec<f32> = match metric {
        Metric::Hamming => {
            centre.iter().map(|x| if rng.random_bool(0.1) { 1.0 - x } else { *x }).collect()
        }
        _ => centre.iter().map(|x| x + 0.3 * normal(rng)).collect(),
    };
    if metric == Metric::Cosine && row.iter().all(|x| *x == 0.0) {
        row[0] = 1.0;
    }
    row
}

/// `n` vectors, in an order that says nothing.
pub fn vectors(
    rng: &mut Rng,
    metric: Metric,
    dims: usize,
    n: usize,
    spread: Spread,
) -> Vec<Vec<f32>> {
    let models = match spread {
        Spread::Clusters => n / 50 + 1,
        Spread::Duplicates => n / 10 + 1,
        _ => 1,
    };
    let models: Vec<Vec<f32>> = (0..models).map(|_| uniform(rng, metric, dims)).collect();
    let one = |_| {
        let model = &models[rng.random_range(0..models.len())];
        match spread {
            Spread::Clusters => near(rng, metric, model),
            Spread::Duplicates | Spread::Identical => model.clone(),
            Spread::Zeros if metric != Metric::Cosine && rng.random_bool(0.25) => vec![0.0; dims],
            Spread::Zeros | Spread::Uniform => uniform(rng, metric, dims),
        }
    };
    (0..n).map(one).collect()
}

/// `n` different ids, ascending: from 0 up, or anywhere from 0 to `u32::MAX`, both ends included.
pub fn ids(rng: &mut Rng, n: usize, sparse: bool) -> Vec<u32> {
    if !sparse {
        return (0u32..).take(n).collect();
    }
    let mut ids: std::collections::BTreeSet<u32> = [0, u32::MAX].into_iter().take(n).collect();
    while ids.len() < n {
        ids.insert(rng.random());
    }
    ids.into_iter().collect()
}

pub fn add_all(writer: &Writer, wtxn: &mut RwTxn<'_>, items: &Items) {
    let ids: Vec<u32> = items.keys().copied().collect();
    let matrix: Vec<f32> = items.values().flatten().copied().collect();
    writer.add_items(wtxn, &ids, &matrix).unwrap();
}

/// The distance of two vectors as `Metric` defines it.
pub fn reference(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    match metric {
        Metric::Euclidean => pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
        Metric::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        Metric::DotProduct => dot(a, b),
        Metric::Manhattan => pairs().map(|(a, b)| (a - b).abs()).sum(),
        _ => pairs().map(|(a, b)| f64::from(u8::from(a != b))).sum(),
    }
}

/// Whether a distance is the reference but for rounding.
pub fn is_close(metric: Metric, got: f64, expected: f64) -> bool {
    // Sums whose terms cancel: their error has the size of the terms.
    let cancels = matches!(metric, Metric::Cosine | Metric::DotProduct);
    let smallest = f64::from(f32::from_bits(1)) + if cancels { 1e-12 } else { 0.0 };
    (got - expected).abs() <= 1e-6 * expected.abs() + smallest
}

/// What hits are sorted by, before their ids.
pub fn score(metric: Metric, distance: f32) -> f32 {
    (if metric == Metric::DotProduct { -distance } else { distance }) + 0.0
}

/// An item with its reference distance from a query.
#[derive(Copy, Clone, Debug)]
pub struct Ranked {
    pub id: u32,
    pub distance: f64,
}

/// All items, the nearest first, ties by id.
pub fn ranked(metric: Metric, items: &Items, query: &[f32]) -> Vec<Ranked> {
    let one =
        |(id, row): (&u32, &Vec<f32>)| Ranked { id: *id, distance: reference(metric, row, query) };
    let mut ranked: Vec<Ranked> = items.iter().map(one).collect();
    let key = |r: &Ranked| score(metric, r.distance as f32);
    ranked.sort_by(|a, b| key(a).total_cmp(&key(b)).then(a.id.cmp(&b.id)));
    ranked
}

/// A question, to be put to an index and to the oracle.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub k: usize,
    pub search_k: Option<usize>,
    pub oversampling: Option<f32>,
    pub filter: Option<RoaringBitmap>,
    pub exclude: Option<u32>,
    pub exact: bool,
}

impl Ask {
    pub fn new(k: usize) -> Self {
        Self { k, ..Self::default() }
    }

    /// Sets everything but `k` and the item to exclude.
    pub fn apply<'a>(&'a self, mut nns: Nns<'a>) -> Nns<'a> {
        nns = self.search_k.into_iter().fold(nns, Nns::search_k);
        nns = self.oversampling.into_iter().fold(nns, Nns::oversampling);
        nns = self.filter.iter().fold(nns, Nns::filter);
        if self.exact { nns.exact() } else { nns }
    }

    /// The items that may be in the answer, the nearest first.
    pub fn matching(&self, ranked: &[Ranked]) -> Vec<Ranked> {
        let admits = |id| {
            self.exclude != Some(id)
                && self.filter.as_ref().is_none_or(|filter| filter.contains(id))
        };
        ranked.iter().copied().filter(|r| admits(r.id)).collect()
    }

    /// Fails unless the answer has as many items as it should, each once and matching, sorted, with
    /// their distances.
    pub fn check(&self, metric: Metric, ranked: &[Ranked], hits: &[Hit]) {
        let matching = self.matching(ranked);
        assert_eq!(hits.len(), self.k.min(matching.len()), "{metric}: number of hits for {self:?}");
        let distances: HashMap<u32, f64> = matching.iter().map(|r| (r.id, r.distance)).collect();
        let mut seen = HashSet::new();
        for hit in hits {
            assert!(seen.insert(hit.id), "{metric}: item {} comes twice for {self:?}", hit.id);
            let expected = distances.get(&hit.id).copied();
            let expected =
                expected.unwrap_or_else(|| panic!("{metric}: {hit:?} does not match {self:?}"));
            let close = is_close(metric, f64::from(hit.distance), expected);
            assert!(close, "{metric}: {hit:?}, and the distance is {expected}, for {self:?}");
        }
        let keys: Vec<(f32, u32)> =
            hits.iter().map(|hit| (score(metric, hit.distance), hit.id)).collect();
        assert!(keys.is_sorted(), "{metric}: not sorted for {self:?}: {hits:?}");
    }

    /// Fails unless the answer has the nearest items; which of those at equal distances, does not
    /// matter.
    pub fn check_nearest(&self, metric: Metric, ranked: &[Ranked], hits: &[Hit]) {
        self.check(metric, ranked, hits);
        for (i, (hit, best)) in hits.iter().zip(self.matching(ranked)).enumerate() {
            let close = is_close(metric, f64::from(hit.distance), best.distance);
            assert!(
                close,
                "{metric}: hit {i} is {hit:?}, and the oracle has {best:?}, for {self:?}"
            );
        }
    }

    /// Fails unless the answer is that of the oracle, ties broken by id.
    pub fn check_exact(&self, metric: Metric, ranked: &[Ranked], hits: &[Hit]) {
        self.check_nearest(metric, ranked, hits);
        let matching = self.matching(ranked);
        let distances: HashMap<u32, f32> =
            matching.iter().map(|r| (r.id, r.distance as f32)).collect();
        for (i, (hit, best)) in hits.iter().zip(&matching).enumerate() {
            // References that differ by rounding alone may be sorted in another way.
            let same = hit.id == best.id || distances[&hit.id] != best.distance as f32;
            assert!(
                same,
                "{metric}: hit {i} is {hit:?}, and the oracle has {best:?}, for {self:?}"
            );
        }
    }
}

/// How many of the `k` nearest were found; items at the distance of the last one count.
pub fn recall(metric: Metric, ranked: &[Ranked], hits: &[Hit], k: usize) -> f64 {
    let Some(last) = ranked.get(k.min(ranked.len()).wrapping_sub(1)) else {
        return 1.0;
    };
    // Two ulps of room, because the last one's distance may be rounded in another way.
    let worst = score(metric, last.distance as f32);
    let worst = worst + worst.abs() * 2.0 * f32::EPSILON;
    let good = hits.iter().filter(|hit| score(metric, hit.distance) <= worst).count();
    good as f64 / k.min(ranked.len()) as f64
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

/// The folder that this process was started for by [`command`], if it was started by that.
pub fn told() -> Option<PathBuf> {
    std::env::var_os(TOLD).map(PathBuf::from)
}

const TOLD: &str = "SPINNEY_TEST_FOLDER";

/// This test binary once more, to run one test in a process of its own: that finds the folder with
/// [`told`].
pub fn command(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(TOLD, folder);
    command
}

/// Says something to the process that has started this one.
pub fn say(what: &str) {
    // libtest leaves the cursor behind the name of the test.
    println!("\nother process: {what}");
}

/// Runs a process to its end, which must be a sound one, and returns what it has said.
#[track_caller]
pub fn run(mut command: Command) -> Vec<String> {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = said
        .lines()
        .filter_map(|line| line.strip_prefix("other process: "))
        .map(str::to_owned)
        .collect();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}, after it said {said:?}: {error}",
        output.status
    );
    said
}
