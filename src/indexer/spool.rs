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

/// Bytes that are read of a sorted run at once.
const READ_BYTES: u64 = 4096;

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

/// Pairs of a leaf and an item's place, which come in any order, to be sorted.
#[derive(Debug)]
pub(super) struct Pairs {
    limit: usize,
    held: Vec<u64>,
    /// Sorted runs.
    spool: Spool,
    runs: Vec<Range<u64>>,
}

impl Pairs {
    /// Holds up to `limit` bytes in memory.
    pub(super) fn new(folder: &Path, limit: usize) -> Self {
        let limit = limit / size_of::<u64>();
        Self { limit, held: Vec::new(), spool: Spool::new(folder, 0), runs: Vec::new() }
    }

    pub(super) fn push(&mut self, leaf: u32, place: u32) -> Result<()> {
        if self.held.len() >= self.limit.max(1) {
            self.held.par_sort_unstable();
            self.runs.push(self.spool.append(bytemuck::cast_slice(&self.held))?);
            self.held.clear();
        }
        self.held.push(u64::from(leaf) << 32 | u64::from(place));
        Ok(())
    }

    /// All pairs by leaf, then by place.
    pub(super) fn sort(mut self) -> Result<SortedPairs> {
        self.held.par_sort_unstable();
        let runs = self.runs.into_iter().map(|rest| Run { rest, read: Vec::new(), next: 0 });
        let held = Run { rest: 0..0, read: self.held, next: 0 };
        let runs: Vec<Run> = runs.chain([held]).collect();
        let mut sorted = SortedPairs { spool: self.spool, runs, heads: BinaryHeap::new(), leaf: 0 };
        (0..sorted.runs.len()).try_for_each(|run| sorted.advance(run))?;
        Ok(sorted)
    }
}

/// What is left of a sorted run: in memory from `next` on, then in the spool.
#[derive(Debug)]
struct Run {
    rest: Range<u64>,
    read: Vec<u64>,
    next: usize,
}

/// Pairs in order, merged from sorted runs.
#[derive(Debug)]
pub(super) struct SortedPairs {
    spool: Spool,
    runs: Vec<Run>,
    /// The next pair of each run that has one.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    leaf: u64,
}

impl SortedPairs {
    /// The places of leaf 0, ascending; the next time of leaf 1, and so on.
    pub(super) fn next_leaf(&mut self) -> Result<Vec<u32>> {
        let (leaf, mut places) = (self.leaf, Vec::new());
        self.leaf += 1;
        while let Some(Reverse((pair, run))) = self.heads.peek().copied()
            && pair >> 32 == leaf
        {
            #[expect(clippy::cast_possible_truncation, reason = "the lower half is a place")]
            places.push(pair as u32);
            self.heads.pop();
            self.advance(run)?;
        }
        Ok(places)
    }

    /// Puts the next pair of a run among the heads.
    fn advance(&mut self, number: usize) -> Result<()> {
        let run = &mut self.runs[number];
        if run.next == run.read.len() && !run.rest.is_empty() {
            let end = run.rest.end.min(run.rest.start + READ_BYTES);
            run.read = read_all(&mut self.spool, run.rest.start..end)?;
            (run.rest.start, run.next) = (end, 0);
        }
        if let Some(pair) = run.read.get(run.next) {
            self.heads.push(Reverse((*pair, number)));
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

    /// At any limit, lists come back as they went in, whatever their order, and pairs sorted.
    #[test]
    fn the_limit_does_not_show() {
        println!("seed {SEED}");
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
        let folder = tempfile::tempdir().unwrap();
        let lists: Vec<Vec<u32>> = (0..500)
            .map(|_| (0..rng.random_range(0..40)).map(|_| rng.random()).collect())
            .collect();
        let leaves: Vec<u32> = (0..20_000).map(|_| rng.random_range(0..30)).collect();
        let mut expected = vec![Vec::new(); 31];
        (0u32..).zip(&leaves).for_each(|(place, leaf)| expected[*leaf as usize].push(place));
        for limit in [0, 1, 100, 4_096, 50_000, usize::MAX] {
            let mut kept = Lists::new(folder.path(), limit);
            lists.iter().for_each(|list| kept.push(list).unwrap());
            for _ in 0..1_000 {
                let i = rng.random_range(0..kept.len());
                assert_eq!(kept.get(i).unwrap(), lists[i], "limit {limit}");
            }
            let mut pairs = Pairs::new(folder.path(), limit);
            // Few runs of few pairs, and many.
            let some = if limit < 100 { 2_000 } else { leaves.len() };
            for place in (0..some).rev() {
                pairs.push(leaves[place], place as u32).unwrap();
            }
            let mut sorted = pairs.sort().unwrap();
            for places in &expected {
                let end = places.partition_point(|place| (*place as usize) < some);
                assert_eq!(sorted.next_leaf().unwrap(), places[..end], "limit {limit}");
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
