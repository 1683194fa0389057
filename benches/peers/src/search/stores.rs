//! The stores on LMDB: spinney, arroy and hannoy.

use std::num::NonZeroUsize;
use std::time::Instant;

use heed::{CommitOrAbort, Env, EnvOpenOptions, WithoutTls};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use spinney::{BuildOptions, IndexOptions, Metric};

use super::serve::{Described, Job, Search, doubling};
use crate::Result;

/// Links of a node of hannoy's graph, above the lowest layer and in it: those of its documentation.
const LINKS: (usize, usize) = (16, 32);
/// Recalls for spinney to aim at, in thousandths.
const AIMS: [usize; 9] = [500, 700, 800, 900, 950, 980, 990, 995, 999];

/// Builds a store and answers until the input ends.
pub fn serve(name: &str, job: &Job) -> Result<()> {
    let is_cosine = job.metric == Metric::Cosine;
    match (name, is_cosine) {
        ("spinney", _) => spinney(job, name, true),
        ("spinney-search-k", _) => spinney(job, name, false),
        ("arroy-auto", true) => arroy::<arroy::distances::Cosine>(job, None),
        ("arroy-auto", false) => arroy::<arroy::distances::Euclidean>(job, None),
        ("arroy-10", true) => arroy::<arroy::distances::Cosine>(job, Some(10)),
        ("arroy-10", false) => arroy::<arroy::distances::Euclidean>(job, Some(10)),
        ("hannoy", true) => hannoy::<hannoy::distances::Cosine>(job),
        ("hannoy", false) => hannoy::<hannoy::distances::Euclidean>(job),
        _ => Err(format!("{name} is not a store of this program").into()),
    }
}

/// The environment in the folder of a store.
fn environment(job: &Job, name: &str) -> Result<Env<WithoutTls>> {
    let folder = job.folder.join(name);
    std::fs::create_dir_all(&folder)?;
    let bytes = 8 * job.items.len() * (4 * job.dims + 4096) + (1 << 30);
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(bytes.next_multiple_of(1 << 20)).max_dbs(1);
    // SAFETY: the folder is temporary, only this process opens it, and it closes it before it opens
    // it again.
    Ok(unsafe { options.open(&folder)? })
}

/// Closes what was built and opens it anew: an environment keeps pages in memory that a large
/// transaction had.
fn reopen(env: Env<WithoutTls>, job: &Job, name: &str) -> Result<Env<WithoutTls>> {
    env.prepare_for_closing().wait();
    environment(job, name)
}

/// An unnamed database for keys and values of these types.
fn database<K: 'static, V: 'static>(
    env: &Env<WithoutTls>,
) -> Result<heed::Database<'static, K, V>> {
    let wtxn = env.write_txn()?;
    let opened = env.create_databases_and_commit(wtxn, |opener, wtxn| -> heed::Result<_> {
        opener.create_database(wtxn, None).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    Ok(opened.commit().ok_or("the database was not made")?)
}

/// Its knob is the recall that it aims at, in thousandths, or how much it scans.
fn spinney(job: &Job, name: &str, aims: bool) -> Result<()> {
    let env = environment(job, name)?;
    let start = Instant::now();
    let db = spinney::Database::open_or_create(&env)?;
    let mut wtxn = env.write_txn()?;
    let options = IndexOptions::new(job.dims, job.metric);
    let writer = spinney::Writer::open_or_create(&mut wtxn, db, 0, &options)?;
    for (id, row) in (0..).zip(job.items.iter()) {
        writer.add_item(&mut wtxn, id, row)?;
    }
    writer.build(&mut wtxn, &BuildOptions::default())?;
    let has_learned = !job.learn.is_empty() && writer.calibrate(&mut wtxn, &job.learn)?;
    wtxn.commit()?;
    let time = start.elapsed();

    let env = reopen(env, job, name)?;
    let db = spinney::Database::open(&env)?.ok_or("the database is gone")?;
    let rtxn = env.read_txn()?;
    let open = || spinney::Reader::open(&rtxn, db, 0);
    let stats = open()?.stats()?;
    let copies = stats.trees * if stats.spill { 2 } else { 1 };
    let described = Described {
        params: format!(
            "spinney's defaults: sketch_bits {}, {copies} sketches an item{}",
            stats.sketch_bits,
            if has_learned {
                ", calibrated with the queries to learn from, which is part of the build"
            } else {
                ""
            }
        ),
        time,
        knob_name: if aims { "recall x 1000" } else { "search_k" },
        knobs: if aims { AIMS.to_vec() } else { doubling(100, copies * job.items.len()) },
        has_default: true,
    };
    let mut spinney = Spinney { reader: open()?, open, k: job.k, aims };
    job.answer(&described, &env.path().join("data.mdb"), &mut spinney)
}

struct Spinney<'t, F> {
    /// It keeps where the items are that it has found, as long as it lives.
    reader: spinney::Reader<'t>,
    open: F,
    k: usize,
    aims: bool,
}

impl<'t, F: Fn() -> spinney::Result<spinney::Reader<'t>>> Search for Spinney<'t, F> {
    fn begin(&mut self) -> Result<()> {
        self.reader = (self.open)()?;
        Ok(())
    }

    fn search(&mut self, query: &[f32], knob: Option<usize>, ids: &mut Vec<u32>) -> Result<()> {
        let nns = self.reader.nns(self.k);
        let nns = match knob {
            None => nns,
            Some(thousandths) if self.aims => nns.recall(thousandths as f32 / 1000.0),
            Some(search_k) => nns.search_k(search_k),
        };
        ids.extend(nns.by_vector(query)?.iter().map(|hit| hit.id));
        Ok(())
    }
}

fn arroy<D: arroy::Distance>(job: &Job, trees: Option<usize>) -> Result<()> {
    let name = if trees.is_some() { "arroy-10" } else { "arroy-auto" };
    let env = environment(job, name)?;
    let start = Instant::now();
    let db = database(&env)?;
    let mut wtxn = env.write_txn()?;
    let writer = arroy::Writer::<D>::new(db, 0, job.dims);
    for (id, row) in (0..).zip(job.items.iter()) {
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

    let env = reopen(env, job, name)?;
    let db = database(&env)?;
    let rtxn = env.read_txn()?;
    let reader = arroy::Reader::<D>::open(&rtxn, 0, db)?;
    let described = Described {
        params: format!("arroy 0.9, {} trees", reader.n_trees()),
        time,
        knob_name: "search_k",
        knobs: doubling(100, reader.n_trees() * job.items.len()),
        has_default: false,
    };
    job.answer(
        &described,
        &env.path().join("data.mdb"),
        &mut |query: &[f32], search_k: Option<usize>, ids: &mut Vec<u32>| {
            let mut nns = reader.nns(job.k);
            if let Some(search_k) = search_k.and_then(NonZeroUsize::new) {
                nns.search_k(search_k);
            }
            ids.extend(nns.by_vector(&rtxn, query)?.iter().map(|hit| hit.0));
            Ok(())
        },
    )
}

fn hannoy<D: hannoy::Distance>(job: &Job) -> Result<()> {
    let env = environment(job, "hannoy")?;
    let start = Instant::now();
    let db = database(&env)?;
    let mut wtxn = env.write_txn()?;
    let writer = hannoy::Writer::<D>::new(db, 0, job.dims);
    for (id, row) in (0..).zip(job.items.iter()) {
        writer.add_item(&mut wtxn, id, row)?;
    }
    let mut random = Xoshiro256PlusPlus::seed_from_u64(0);
    writer.builder(&mut random).build::<{ LINKS.0 }, { LINKS.1 }>(&mut wtxn)?;
    wtxn.commit()?;
    let time = start.elapsed();

    let env = reopen(env, job, "hannoy")?;
    let db = database(&env)?;
    let rtxn = env.read_txn()?;
    let reader = hannoy::Reader::<D>::open(&rtxn, 0, db)?;
    let described = Described {
        params: format!(
            "hannoy 0.3, M {}, M0 {}, ef_construction 100 (its default)",
            LINKS.0, LINKS.1
        ),
        time,
        knob_name: "ef",
        knobs: doubling(10, 1280).into_iter().filter(|ef| *ef >= job.k).collect(),
        has_default: false,
    };
    job.answer(
        &described,
        &env.path().join("data.mdb"),
        &mut |query: &[f32], ef: Option<usize>, ids: &mut Vec<u32>| {
            let mut nns = reader.nns(job.k);
            if let Some(ef) = ef {
                nns.ef_search(ef);
            }
            ids.extend(nns.by_vector(&rtxn, query)?.nns.iter().map(|hit| hit.0));
            Ok(())
        },
    )
}
