//! The stores on LMDB: spinney, arroy and hannoy.

use std::error::Error;
use std::num::NonZeroUsize;
use std::time::Instant;

use heed::{Env, EnvFlags, EnvOpenOptions, WithoutTls};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use spinney::rayon::ThreadPoolBuilder;
use spinney::{BuildOptions, Index, IndexOptions, Metric, Nns, Reader, Storage, Store};

use super::serve::{Batch, Built, Job, Opened, Opening, Search, doubling};
use crate::Result;
use crate::database::database;
use crate::input::Rows;

/// Links of a node of hannoy's graph, above the lowest layer and in it: those of its documentation.
const LINKS: (usize, usize) = (16, 32);
/// What spinney's index is called.
const INDEX: &str = "vectors";
/// Recalls for spinney to aim at, in thousandths.
const AIMS: [usize; 9] = [500, 700, 800, 900, 950, 980, 990, 995, 999];

/// Builds a store.
pub fn build(name: &str, job: &Job, items: &Rows) -> Result<Built> {
    if name.starts_with("spinney") {
        return build_spinney(job, items, name);
    }
    let env = environment(job, name, Opening::Load)?;
    match (name, job.metric == Metric::Cosine) {
        ("arroy-auto", true) => build_arroy::<arroy::distances::Cosine>(items, &env, None),
        ("arroy-auto", false) => build_arroy::<arroy::distances::Euclidean>(items, &env, None),
        ("arroy-10", true) => build_arroy::<arroy::distances::Cosine>(items, &env, Some(10)),
        ("arroy-10", false) => build_arroy::<arroy::distances::Euclidean>(items, &env, Some(10)),
        ("hannoy", true) => build_hannoy::<hannoy::distances::Cosine>(items, &env),
        ("hannoy", false) => build_hannoy::<hannoy::distances::Euclidean>(items, &env),
        _ => Err(unknown(name)),
    }
}

/// Opens what was built and answers until the input ends.
pub fn open(name: &str, job: &Job, opening: Opening) -> Result<()> {
    let start = Instant::now();
    if name.starts_with("spinney") {
        return open_spinney(job, &store(job, name, opening)?, start, name != "spinney-search-k");
    }
    let env = environment(job, name, opening)?;
    match (name.split('-').next(), job.metric == Metric::Cosine) {
        (Some("arroy"), true) => open_arroy::<arroy::distances::Cosine>(job, &env, start),
        (Some("arroy"), false) => open_arroy::<arroy::distances::Euclidean>(job, &env, start),
        (Some("hannoy"), true) => open_hannoy::<hannoy::distances::Cosine>(job, &env, start),
        (Some("hannoy"), false) => open_hannoy::<hannoy::distances::Euclidean>(job, &env, start),
        _ => Err(unknown(name)),
    }
}

/// How the vectors of a kind of spinney are stored.
fn storage(name: &str) -> Result<Storage> {
    match name {
        "spinney" | "spinney-search-k" => Ok(Storage::F32),
        "spinney-f16" => Ok(Storage::F16),
        "spinney-i8" => Ok(Storage::I8),
        "spinney-bits" => Ok(Storage::Bits),
        _ => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Box<dyn Error> {
    format!("{name} is not a store of this program").into()
}

/// The store of spinney in the folder of a store.
fn store(job: &Job, name: &str, opening: Opening) -> spinney::Result<Store> {
    Store::options().read_ahead(opening != Opening::MapAtRandom).open(job.folder.join(name))
}

/// The environment in the folder of a store.
fn environment(job: &Job, name: &str, opening: Opening) -> Result<Env<WithoutTls>> {
    let folder = job.folder.join(name);
    std::fs::create_dir_all(&folder)?;
    let bytes = 8 * job.item_count * (4 * job.dims + 4096) + (1 << 30);
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(bytes.next_multiple_of(1 << 20)).max_dbs(1);
    if opening == Opening::MapAtRandom {
        // SAFETY: the flag changes no more than advice to the system.
        unsafe { options.flags(EnvFlags::NO_READ_AHEAD) };
    }
    // SAFETY: one process at a time opens the folder, once.
    Ok(unsafe { options.open(&folder)? })
}

fn build_spinney(job: &Job, items: &Rows, name: &str) -> Result<Built> {
    let learn = job.learn()?.values;
    let (store, storage) = (store(job, name, Opening::Load)?, storage(name)?);
    let start = Instant::now();
    let options = IndexOptions::new(job.dims, job.metric).storage(storage);
    let index = store.index(INDEX, &options)?;
    let mut wtxn = store.env().write_txn()?;
    let writer = spinney::Writer::open(&wtxn, store.database(), index.number())?;
    for (id, row) in (0..).zip(items.iter()) {
        writer.add_item(&mut wtxn, id, row)?;
    }
    writer.build(&mut wtxn, &BuildOptions::default())?;
    let has_learned = !learn.is_empty() && writer.calibrate(&mut wtxn, &learn)?;
    wtxn.commit()?;
    let time = start.elapsed();

    let stats = store.read(|txn| txn.reader(&index)?.stats())?;
    let copies = stats.trees * if stats.spill { 2 } else { 1 };
    let learned = if has_learned {
        ", calibrated with the queries to learn from, which is part of the build"
    } else {
        ""
    };
    let params = format!(
        "spinney's defaults, {storage:?}: sketch_bits {}, {copies} sketches an item{learned}",
        stats.sketch_bits
    );
    Ok(Built { params, time })
}

/// Its knob is the recall that it aims at, in thousandths, or how much it scans.
fn open_spinney(job: &Job, store: &Store, start: Instant, aims: bool) -> Result<()> {
    let index = store.open_index(INDEX)?.ok_or("the index is gone")?;
    let rtxn = store.env().read_txn()?;
    let open = || Reader::open(&rtxn, store.database(), index.number());
    let mut spinney = Spinney { reader: open()?, open, store, index: &index, k: job.k, aims };
    let opened = Opened {
        start,
        knob_name: if aims { "recall x 1000" } else { "search_k" },
        // Two sketches an item.
        knobs: if aims { AIMS.to_vec() } else { doubling(100, 2 * job.item_count) },
        has_default: true,
    };
    job.answer(&opened, &mut spinney)
}

struct Spinney<'t, F> {
    /// It keeps where the items are that it has found, as long as it lives.
    reader: Reader<'t>,
    open: F,
    /// Its snapshots have readers that do so, one for each thread.
    store: &'t Store,
    index: &'t Index,
    k: usize,
    aims: bool,
}

impl<'t, F: Fn() -> spinney::Result<Reader<'t>>> Search for Spinney<'t, F> {
    fn begin(&mut self) -> Result<()> {
        self.reader = (self.open)()?;
        Ok(())
    }

    fn search(&mut self, query: &[f32], knob: Option<usize>, ids: &mut Vec<u32>) -> Result<()> {
        let nns = turn(self.reader.nns(self.k), knob, self.aims);
        ids.extend(nns.by_vector(query)?.iter().map(|hit| hit.id));
        Ok(())
    }

    fn batch(&self, knob: Option<usize>, threads: usize) -> Result<Batch<'_>> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let (snapshot, mut distances) = (self.store.snapshot()?, Vec::new());
        let &Self { index, k, aims, .. } = self;
        Ok(Box::new(move |queries, ids| {
            distances.resize(ids.len(), 0.0);
            let search = || {
                let nns = turn(snapshot.nns(index, k)?, knob, aims);
                nns.by_vectors_into(queries, ids, &mut distances)
            };
            Ok(pool.install(search)?)
        }))
    }
}

fn turn<E>(nns: Nns<'_, E>, knob: Option<usize>, aims: bool) -> Nns<'_, E> {
    match knob {
        None => nns,
        Some(thousandths) if aims => nns.recall(thousandths as f32 / 1000.0),
        Some(search_k) => nns.search_k(search_k),
    }
}

fn build_arroy<D: arroy::Distance>(
    items: &Rows,
    env: &Env<WithoutTls>,
    trees: Option<usize>,
) -> Result<Built> {
    let start = Instant::now();
    let db = database(env)?;
    let mut wtxn = env.write_txn()?;
    let writer = arroy::Writer::<D>::new(db, 0, items.dims);
    for (id, row) in (0..).zip(items.iter()) {
        writer.add_item(&mut wtxn, id, row)?;
    }
    let mut random = Xoshiro256PlusPlus::seed_from_u64(0);
    let mut builder = writer.builder(&mut random);
    if let Some(trees) = trees {
        builder.n_trees(trees);
    }
    builder.build(&mut wtxn)?;
    wtxn.commit()?;
    let time = start.elapsed();

    let rtxn = env.read_txn()?;
    let trees = arroy::Reader::<D>::open(&rtxn, 0, db)?.n_trees();
    Ok(Built { params: format!("arroy 0.9, {trees} trees"), time })
}

fn open_arroy<D: arroy::Distance>(job: &Job, env: &Env<WithoutTls>, start: Instant) -> Result<()> {
    let db = database(env)?;
    let rtxn = env.read_txn()?;
    let reader = arroy::Reader::<D>::open(&rtxn, 0, db)?;
    let knobs = doubling(100, reader.n_trees() * job.item_count);
    let opened = Opened { start, knob_name: "search_k", knobs, has_default: false };
    job.answer(&opened, &mut |query: &[f32], search_k: Option<usize>, ids: &mut Vec<u32>| {
        let mut nns = reader.nns(job.k);
        if let Some(search_k) = search_k.and_then(NonZeroUsize::new) {
            nns.search_k(search_k);
        }
        ids.extend(nns.by_vector(&rtxn, query)?.iter().map(|hit| hit.0));
        Ok(())
    })
}

fn build_hannoy<D: hannoy::Distance>(items: &Rows, env: &Env<WithoutTls>) -> Result<Built> {
    let start = Instant::now();
    let db = database(env)?;
    let mut wtxn = env.write_txn()?;
    let writer = hannoy::Writer::<D>::new(db, 0, items.dims);
    for (id, row) in (0..).zip(items.iter()) {
        writer.add_item(&mut wtxn, id, row)?;
    }
    let mut random = Xoshiro256PlusPlus::seed_from_u64(0);
    writer.builder(&mut random).build::<{ LINKS.0 }, { LINKS.1 }>(&mut wtxn)?;
    wtxn.commit()?;
    let time = start.elapsed();
    let (above, lowest) = LINKS;
    let params = format!("hannoy 0.3, M {above}, M0 {lowest}, ef_construction 100 (its default)");
    Ok(Built { params, time })
}

fn open_hannoy<D: hannoy::Distance>(
    job: &Job,
    env: &Env<WithoutTls>,
    start: Instant,
) -> Result<()> {
    let db = database(env)?;
    let rtxn = env.read_txn()?;
    let reader = hannoy::Reader::<D>::open(&rtxn, 0, db)?;
    let knobs = doubling(10, 1280).into_iter().filter(|ef| *ef >= job.k).collect();
    let opened = Opened { start, knob_name: "ef", knobs, has_default: false };
    job.answer(&opened, &mut |query: &[f32], ef: Option<usize>, ids: &mut Vec<u32>| {
        let mut nns = reader.nns(job.k);
        if let Some(ef) = ef {
            nns.ef_search(ef);
        }
        ids.extend(nns.by_vector(&rtxn, query)?.nns.iter().map(|hit| hit.0));
        Ok(())
    })
}
