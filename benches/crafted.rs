//! How long a bulk build takes on data that were chosen to make it slow. Beside it, random data of
//! the same size.
//!
//! ```text
//! cargo bench --bench crafted -- [ITEMS]
//! ```
//! `ITEMS` is 50,000, of 64 dimensions. Builds run on one thread, with the default options. The
//! lesser time of two counts, as other programs on the machine make builds take longer.

use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use spinney::{BuildOptions, Database, IndexOptions, Metric, Writer, heed};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
type Rng = Xoshiro256PlusPlus;

const DIMS: usize = 64;
const METRICS: [Metric; 4] =
    [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];
/// The seed that the first tree makes of the default one, 0: what a build looks at first depends on
/// it alone.
const TREE_SEED: u64 = 0xD6E8_FEB8_6659_FD93;

struct Case {
    name: &'static str,
    ids: Vec<u32>,
    rows: Vec<f32>,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let items: u32 = arguments.next().map_or(Ok(50_000), |items| items.parse())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    for metric in METRICS {
        println!("{metric}, {items} items");
        let mut usual = None;
        for case in cases(items) {
            let time = time(metric, &case, &pool)?.min(time(metric, &case, &pool)?);
            let ratio = time.as_secs_f64() / usual.get_or_insert(time).as_secs_f64();
            println!("  {:<44} {:>8.2} s {ratio:>6.2}", case.name, time.as_secs_f64());
        }
    }
    Ok(())
}

fn time(metric: Metric, case: &Case, pool: &rayon::ThreadPool) -> Result<Duration> {
    let dir = tempfile::tempdir()?;
    let mut options = heed::EnvOpenOptions::new();
    #[allow(unsafe_code)]
    // SAFETY: nobody else knows the folder.
    let env = unsafe { options.map_size(16 << 30).max_dbs(1).open(dir.path())? };
    let db = Database::open_or_create(&env)?;
    let mut wtxn = env.write_txn()?;
    let writer = Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(DIMS, metric))?;
    writer.add_items(&mut wtxn, &case.ids, &case.rows)?;
    let start = Instant::now();
    writer.build(&mut wtxn, &BuildOptions::default().thread_pool(pool))?;
    Ok(start.elapsed())
}

/// Random data first.
fn cases(items: u32) -> Vec<Case> {
    let ids = || (0..items).collect::<Vec<u32>>();
    let case = |name, rows| Case { name, ids: ids(), rows };
    let same = |part: f64| {
        let mut dice = Rng::seed_from_u64(2);
        scaled(items, move |_| if dice.random_bool(part) { None } else { Some(1.0) })
    };
    // As `forest::train` looks at rows: coarse groups are found among some of them, from some of
    // these.
    let coarse = (2 * items as usize).div_ceil(128).isqrt();
    let looked_at = sample(items as usize, coarse * 64, TREE_SEED);
    let begun_at = sample(looked_at.len(), coarse, TREE_SEED);
    let begun_at: Vec<u32> = begun_at.into_iter().map(|i| looked_at[i as usize]).collect();
    let far = |rows: &[u32]| {
        scaled(items, |row| Some(if rows.binary_search(&row).is_ok() { 1e3 } else { 1.0 }))
    };
    // As `search::candidates` once put ids into its table.
    let collide =
        |id: &u32| (u64::from(*id).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) & 0xFFFF == 0;
    let some = items.min(65_536);
    let colliding: Vec<u32> = (0..=u32::MAX).filter(collide).take(some as usize).collect();
    vec![
        case("random", scaled(items, |_| Some(1.0))),
        case("99 percent identical", same(0.99)),
        case("all identical", same(1.0)),
        case("half identical", same(0.5)),
        case("outliers where k-means begins", far(&begun_at)),
        case("outliers at all rows that k-means looks at", far(&looked_at)),
        case("twelve scales", scaled(items, |row| Some(10f32.powi(-(row as i32 % 12))))),
        Case { name: "ids that collide", ids: colliding, rows: scaled(some, |_| Some(1.0)) },
    ]
}

/// Rows of random numbers times a scale, or the same row where there is none.
fn scaled(rows: u32, mut scale: impl FnMut(u32) -> Option<f32>) -> Vec<f32> {
    let mut rng = Rng::seed_from_u64(1);
    let mut row = || -> Vec<f32> { (0..DIMS).map(|_| rng.random_range(-1.0..1.0f32)).collect() };
    let same = row();
    let rows = (0..rows).flat_map(|number| match scale(number) {
        Some(scale) => row().into_iter().map(|x| scale * x).collect(),
        None => same.clone(),
    });
    rows.collect()
}

/// Numbers below `n`, ascending, as `cluster::sample` draws them.
fn sample(n: usize, count: usize, seed: u64) -> Vec<u32> {
    let mut rng = Rng::seed_from_u64(seed);
    let rows = rand::seq::index::sample(&mut rng, n, count.min(n)).into_iter();
    let mut rows: Vec<u32> = rows.filter_map(|row| u32::try_from(row).ok()).collect();
    rows.sort_unstable();
    rows
}
