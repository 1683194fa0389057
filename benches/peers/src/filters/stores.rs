//! spinney, arroy and hannoy, each in an environment of its own that stays open until the program
//! ends.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use heed::{Env, EnvOpenOptions, RoTxn, WithoutTls};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use spinney::{BuildOptions, IndexOptions, Metric};

use super::cases::Filtered;
use crate::Result;
use crate::database::database;
use crate::input::Rows;

type Opened = (&'static Env<WithoutTls>, bool);

/// A store of the others.
pub trait Peer {
    /// The ids of an answer; without the knob, as the store chooses.
    fn search(
        &self,
        query: &[f32],
        k: usize,
        filtered: &Filtered,
        knob: Option<usize>,
    ) -> Result<Vec<u32>>;
    /// Values of the knob, each twice or four times the one before.
    fn knobs(&self, k: usize) -> Vec<usize>;
}

/// Opens the environment in a folder. Returns whether there was one, which a build that was cut
/// short is not.
fn environment(folder: &Path, items: &Rows) -> Result<Opened> {
    let is_there = folder.join("built").exists();
    if folder.exists() && !is_there {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let bytes = 8 * items.len() * (4 * items.dims + 4096) + (1 << 30);
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(bytes.next_multiple_of(1 << 20)).max_dbs(1);
    // SAFETY: nobody else has to do with the folder, and this program opens it once.
    let env = unsafe { options.open(folder)? };
    Ok((Box::leak(Box::new(env)), is_there))
}

fn read(env: &'static Env<WithoutTls>) -> Result<&'static RoTxn<'static, WithoutTls>> {
    Ok(Box::leak(Box::new(env.read_txn()?)))
}

fn tell_built(folder: &Path, name: &str, start: Instant) -> Result<()> {
    println!("{name}: built in {:.1} s", start.elapsed().as_secs_f64());
    Ok(fs::write(folder.join("built"), "")?)
}

pub fn spinney(folder: &Path, items: &Rows) -> Result<spinney::Reader<'static>> {
    let (env, is_there) = environment(folder, items)?;
    let db = spinney::Database::open_or_create(env)?;
    if !is_there {
        let start = Instant::now();
        let mut wtxn = env.write_txn()?;
        let options = IndexOptions::new(items.dims, items.metric);
        let writer = spinney::Writer::open_or_create(&mut wtxn, db, 0, &options)?;
        for (id, row) in (0..).zip(items.iter()) {
            writer.add_item(&mut wtxn, id, row)?;
        }
        writer.build(&mut wtxn, &BuildOptions::default())?;
        wtxn.commit()?;
        tell_built(folder, "spinney", start)?;
    }
    Ok(spinney::Reader::open(read(env)?, db, 0)?)
}

pub fn peer(name: &str, folder: &Path, items: &Rows) -> Result<Box<dyn Peer>> {
    match (name, items.metric == Metric::Cosine) {
        ("arroy", true) => arroy::<arroy::distances::Cosine>(folder, items),
        ("arroy", false) => arroy::<arroy::distances::Euclidean>(folder, items),
        ("hannoy", true) => hannoy::<hannoy::distances::Cosine>(folder, items),
        ("hannoy", false) => hannoy::<hannoy::distances::Euclidean>(folder, items),
        _ => Err(format!("--stores: expected spinney, arroy or hannoy, got \"{name}\"").into()),
    }
}

struct Arroy<D: arroy::Distance> {
    reader: arroy::Reader<'static, D>,
    rtxn: &'static RoTxn<'static, WithoutTls>,
}

impl<D: arroy::Distance> Peer for Arroy<D> {
    fn search(
        &self,
        query: &[f32],
        k: usize,
        filtered: &Filtered,
        knob: Option<usize>,
    ) -> Result<Vec<u32>> {
        let mut nns = self.reader.nns(k);
        nns.candidates(&filtered.theirs);
        if let Some(search_k) = knob.and_then(NonZeroUsize::new) {
            nns.search_k(search_k);
        }
        Ok(nns.by_vector(self.rtxn, query)?.into_iter().map(|hit| hit.0).collect())
    }

    fn knobs(&self, k: usize) -> Vec<usize> {
        let knobs = std::iter::successors(Some(50.max(k)), |knob| Some(4 * knob));
        knobs.take_while(|knob| *knob < 1_000_000).collect()
    }
}

fn arroy<D: arroy::Distance>(folder: &Path, items: &Rows) -> Result<Box<dyn Peer>> {
    let (env, is_there) = environment(folder, items)?;
    let db = database(env)?;
    if !is_there {
        let start = Instant::now();
        let mut wtxn = env.write_txn()?;
        let writer = arroy::Writer::<D>::new(db, 0, items.dims);
        for (id, row) in (0..).zip(items.iter()) {
            writer.add_item(&mut wtxn, id, row)?;
        }
        writer.builder(&mut Xoshiro256PlusPlus::seed_from_u64(0)).build(&mut wtxn)?;
        wtxn.commit()?;
        tell_built(folder, "arroy", start)?;
    }
    let rtxn = read(env)?;
    Ok(Box::new(Arroy { reader: arroy::Reader::<D>::open(rtxn, 0, db)?, rtxn }))
}

struct Hannoy<D: hannoy::Distance> {
    reader: hannoy::Reader<'static, D>,
    rtxn: &'static RoTxn<'static, WithoutTls>,
}

impl<D: hannoy::Distance> Peer for Hannoy<D> {
    fn search(
        &self,
        query: &[f32],
        k: usize,
        filtered: &Filtered,
        knob: Option<usize>,
    ) -> Result<Vec<u32>> {
        let mut nns = self.reader.nns(k);
        nns.candidates(&filtered.theirs);
        if let Some(ef) = knob {
            nns.ef_search(ef);
        }
        Ok(nns.by_vector(self.rtxn, query)?.nns.into_iter().map(|hit| hit.0).collect())
    }

    fn knobs(&self, k: usize) -> Vec<usize> {
        std::iter::successors(Some(10.max(k)), |knob| Some(2 * knob))
            .take_while(|knob| *knob <= 2000)
            .collect()
    }
}

fn hannoy<D: hannoy::Distance>(folder: &Path, items: &Rows) -> Result<Box<dyn Peer>> {
    let (env, is_there) = environment(folder, items)?;
    let db = database(env)?;
    if !is_there {
        let start = Instant::now();
        let mut wtxn = env.write_txn()?;
        let writer = hannoy::Writer::<D>::new(db, 0, items.dims);
        for (id, row) in (0..).zip(items.iter()) {
            writer.add_item(&mut wtxn, id, row)?;
        }
        // The links that its documentation has.
        writer.builder(&mut Xoshiro256PlusPlus::seed_from_u64(0)).build::<16, 32>(&mut wtxn)?;
        wtxn.commit()?;
        tell_built(folder, "hannoy", start)?;
    }
    let rtxn = read(env)?;
    Ok(Box::new(Hannoy { reader: hannoy::Reader::<D>::open(rtxn, 0, db)?, rtxn }))
}
