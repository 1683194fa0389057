//! What a bulk build holds besides its sample: in memory up to a limit, beyond it in temporary
//! files.
//!
//! A temporary file loses its name as soon as it is open. So it goes with the build, however that
//! ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Bytes of a sorted run that are written at once.
const SPILL_BYTES: usize = 64 << 10;

/// Distinguishes the files of one process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Bytes one after the other. Those beyond the limit are in a temporary file.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    limit: usize,
    file: Option<(PathBuf, File)>,
    in_file: u64,
    /// Come after those in the file.
    held: Vec<u8>,
}

impl Spool {
    /// Holds up to `limit` bytes in memory. The file is made once it is needed.
    pub(crate) fn new(folder: &Path, limit: usize) -> Self {
        Self { folder: folder.to_owned(), limit, file: None, in_file: 0, held: Vec::new() }
    }

    /// Adds bytes; returns where they are.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<Range<u64>> {
        let start = self.in_file + self.held.len() as u64;
        self.held.extend_from_slice(bytes);
        if self.held.len() > self.limit {
            let (path, file) = match &mut self.file {
                Some(file) => file,
                none => none.insert(create(&self.folder)?),
            };
            let written = file.seek(SeekFrom::Start(self.in_file));
            written.and_then(|_| file.write_all(&self.held)).map_err(|e| failed(path, e))?;
            self.in_file += self.held.len() as u64;
            self.held.clear();
            self.held.shrink_to(self.limit);
        }
        Ok(start..start + bytes.len() as u64)
    }

    /// Fills `out` with what begins there. It has to lie within what was added at once.
    pub(crate) fn read(&mut self, start: u64, out: &mut [u8]) -> Result<()> {
        match &mut self.file {
            Some((path, file)) if start < self.in_file => file
                .seek(SeekFrom::Start(start))
                .and_then(|_| file.read_exact(out))
                .map_err(|e| failed(path, e)),
            _ => {
                #[expect(clippy::cast_possible_truncation, reason = "it is a place in memory")]
                let start = (start - self.in_file) as usize;
                out.copy_from_slice(&self.held[start..start + out.len()]);
                Ok(())
            }
        }
    }

    /// Cuts the file, as a disk that fails would.
    #[cfg(test)]
    pub(crate) fn cut(&self) {
        self.file.as_ref().unwrap().1.set_len(self.in_file / 2).unwrap();
    }
}

/// A new file without a name.
fn create(folder: &Path) -> Result<(PathBuf, File)> {
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("spinney-{}-{number}.tmp", std::process::id()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        // What it will hold is nobody else's, also before its name is gone.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(file) => {
                remove_file(&path).map_err(|e| failed(&path, e))?;
                return Ok((path, file));
            }
            // Another process had this number before.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&path, error)),
        }
    }
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::TemporaryFile { path: path.to_owned(), source }
}

/// Lists of numbers.
#[derive(Debug)]
pub(super) struct Lists {
    spool: Spool,
    places: Vec<Range<u64>>,
}

impl Lists {
    pub(super) fn new(folder: &Path, limit: usize) -> Self {
        Self { spool: Spool::new(folder, limit), places: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn push(&mut self, list: &[u32]) -> Result<()> {
        self.places.push(self.spool.append(bytemuck::cast_slice(list))?);
        Ok(())
    }

    /// The list of this number.
    pub(super) fn get(&mut self, i: usize) -> Result<Vec<u32>> {
        let place = self.places[i].clone();
        read_all(&mut self.spool, place)
    }
}

fn read_all<T: bytemuck::Pod>(spool: &mut Spool, place: Range<u64>) -> Result<Vec<T>> {
    #[expect(clippy::cast_possible_truncation, reason = "it was added as one slice")]
    let bytes = (place.end - place.start) as usize;
    let mut out = vec![T::zeroed(); bytes / size_of::<T>()];
    spool.read(place.start, bytemuck::cast_slice_mut(&mut out))?;
    Ok(out)
}

/// Bytes of a key: two numbers, the first decides.
const KEY: usize = 8;
/// Two numbers by which records are sorted.
pub(super) type Pair = [u32; 2];
/// Keys and their records, one after the other.
pub(super) type Taken = (Vec<Pair>, Vec<u8>);

/// Records of one length under keys, all different, which come in any order, to be sorted.
#[derive(Debug)]
pub(super) struct Records {
    limit: usize,
    /// Bytes of a record with its key.
    stride: usize,
    held: Vec<u8>,
    spool: Spool,
    /// Sorted.
    runs: Vec<Range<u64>>,
}

impl Records {
    /// Holds up to about `limit` bytes in memory.
    pub(super) fn new(folder: &Path, limit: usize, record_bytes: usize) -> Self {
        let (stride, spool) = (KEY + record_bytes, Spool::new(folder, 0));
        Self { limit, stride, held: Vec::new(), spool, runs: Vec::new() }
    }

    pub(super) fn push(&mut self, key: Pair, record: &[u8]) -> Result<()> {
        // To sort them takes as much as two keys for each.
        let sorting = self.held.len() / self.stride * size_of::<(u64, u32)>();
        if !self.held.is_empty() && self.held.len() + sorting >= self.limit {
            self.spill()?;
        }
        let key = u64::from(key[0]) << 32 | u64::from(key[1]);
        self.held.extend_from_slice(&key.to_le_bytes());
        self.held.extend_from_slice(record);
        Ok(())
    }

    /// The numbers of what is held, by key.
    fn order(&self) -> Vec<u32> {
        let keys = self.held.chunks_exact(self.stride).map(key_of);
        let mut keys: Vec<(u64, u32)> = keys.zip(0..).collect();
        keys.par_sort_unstable();
        keys.into_iter().map(|(_, i)| i).collect()
    }

    /// Moves what is held to the file.
    fn spill(&mut self) -> Result<()> {
        let order = self.order();
        let mut run = None;
        for numbers in order.chunks((SPILL_BYTES / self.stride).max(1)) {
            let records = numbers.iter().map(|i| record(&self.held, self.stride, *i));
            let place = self.spool.append(&records.collect::<Vec<_>>().concat())?;
            run = Some(run.map_or(place.start, |run: Range<u64>| run.start)..place.end);
        }
        self.runs.extend(run);
        self.held.clear();
        Ok(())
    }

    /// All records in the order of their keys.
    pub(super) fn sort(mut self) -> Result<Sorted> {
        if !self.runs.is_empty() {
            self.spill()?;
            self.held = Vec::new();
        }
        let order = self.order();
        let run_bytes = self.limit / self.runs.len().max(1);
        let run_bytes = (run_bytes / self.stride).max(1) * self.stride;
        let held = Run { rest: 0..0, read: self.held, order, next: 0 };
        let spilled = self.runs.into_iter().map(|rest| Run { rest, ..Run::default() });
        let runs: Vec<Run> = spilled.chain([held]).collect();
        let (stride, spool, heads) = (self.stride, self.spool, BinaryHeap::new());
        let mut sorted = Sorted { stride, run_bytes: run_bytes as u64, spool, runs, heads };
        (0..sorted.runs.len()).try_for_each(|run| sorted.advance(run))?;
        Ok(sorted)
    }
}

fn record(records: &[u8], stride: usize, number: u32) -> &[u8] {
    &records[number as usize * stride..][..stride]
}

fn key_of(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |key| u64::from_le_bytes(*key))
}

/// What is left of a sorted run: in memory, in this order from `next` on, then in the spool.
#[derive(Debug, Default)]
struct Run {
    rest: Range<u64>,
    read: Vec<u8>,
    order: Vec<u32>,
    next: usize,
}

/// Records in order, merged from sorted runs.
#[derive(Debug)]
pub(super) struct Sorted {
    stride: usize,
    /// Bytes of a run that are read at once.
    run_bytes: u64,
    spool: Spool,
    runs: Vec<Run>,
    /// The key of the next record of each run that has one.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Sorted {
    /// Takes what is left whose first number is below this one, so many records at most.
    pub(super) fn below(&mut self, first: usize, most: usize) -> Result<Taken> {
        let (mut keys, mut records) = (Vec::new(), Vec::new());
        while keys.len() < most
            && let Some(Reverse((key, number))) = self.heads.peek().copied()
            && key >> 32 < first as u64
        {
            #[expect(clippy::cast_possible_truncation, reason = "its halves are numbers")]
            keys.push([(key >> 32) as u32, key as u32]);
            let run = &self.runs[number];
            let record = record(&run.read, self.stride, run.order[run.next - 1]);
            records.extend_from_slice(&record[KEY..]);
            self.heads.pop();
            self.advance(number)?;
        }
        Ok((keys, records))
    }

    /// Puts the key of the next record of a run among the heads.
    fn advance(&mut self, number: usize) -> Result<()> {
        let run = &mut self.runs[number];
        if run.next == run.order.len() && !run.rest.is_empty() {
            let end = run.rest.end.min(run.rest.start + self.run_bytes);
            run.read = read_all(&mut self.spool, run.rest.start..end)?;
            run.order = (0..).take(run.read.len() / self.stride).collect();
            (run.rest.start, run.next) = (end, 0);
        }
        if let Some(i) = run.order.get(run.next) {
            let key = key_of(record(&run.read, self.stride, *i));
            self.heads.push(Reverse((key, number)));
            run.next += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const SEED: u64 = 8;

    /// At any limit, lists come back as they went in, whatever their order, and records sorted.
    #[test]
    fn the_limit_does_not_show() {
        println!("seed {SEED}");
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
        let folder = tempfile::tempdir().unwrap();
        let lists: Vec<Vec<u32>> = (0..500)
            .map(|_| (0..rng.random_range(0..40)).map(|_| rng.random()).collect())
            .collect();
        let firsts: Vec<u32> = (0..20_000).map(|_| rng.random_range(0..30)).collect();
        for limit in [0, 1, 100, 4_096, 50_000, usize::MAX] {
            let mut kept = Lists::new(folder.path(), limit);
            lists.iter().for_each(|list| kept.push(list).unwrap());
            for _ in 0..1_000 {
                let i = rng.random_range(0..kept.len());
                assert_eq!(kept.get(i).unwrap(), lists[i], "limit {limit}");
            }
            for bytes_each in [0, 5] {
                let mut records = Records::new(folder.path(), limit, bytes_each);
                // Few runs of few records, and many.
                let some = if limit < 100 { 2_000 } else { firsts.len() };
                let record =
                    |key: Pair| [key[0] as u8, key[1] as u8, 7, 8, 9][..bytes_each].to_vec();
                let mut expected: Vec<Pair> =
                    firsts[..some].iter().zip(0..).map(|(first, i)| [*first, i]).collect();
                expected.reverse();
                expected.iter().for_each(|key| records.push(*key, &record(*key)).unwrap());
                expected.sort_unstable();
                let mut sorted = records.sort().unwrap();
                let mut taken = (Vec::new(), Vec::new());
                for below in [0, 1, 1, 2, 9, 29, 31, usize::MAX] {
                    let left = expected.partition_point(|key| (key[0] as usize) < below);
                    for most in [7, 1, usize::MAX] {
                        let (keys, records) = sorted.below(below, most).unwrap();
                        assert_eq!(keys.len(), most.min(left - taken.0.len()), "limit {limit}");
                        taken.0.extend(keys);
                        taken.1.extend(records);
                    }
                }
                assert_eq!(taken.0, expected, "limit {limit}");
                let records: Vec<u8> = expected.iter().flat_map(|key| record(*key)).collect();
                assert_eq!(taken.1, records, "limit {limit}");
            }
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    /// What was cut off is an error, not other bytes.
    #[test]
    fn a_file_that_was_cut_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), 10);
        let places = [spool.append(&[1; 100]).unwrap(), spool.append(&[2; 100]).unwrap()];
        spool.cut();
        let mut out = [0; 100];
        spool.read(places[0].start, &mut out).unwrap();
        assert_eq!(out, [1; 100]);
        let error = spool.read(places[1].start, &mut out).unwrap_err();
        assert!(matches!(error, Error::TemporaryFile { .. }), "{error}");
    }
}
