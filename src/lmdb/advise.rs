//! Asking the system for pages before they are read, all at once.
//!
//! A search in a file that is not in memory waits for one page after the other. Asked for together,
//! they arrive in the time of few. Asking takes time, too, so a thread asks only while its descents
//! and what follows them wait for pages: the system counts these faults. Measured: docs/trials.md,
//! "asking ahead".

use std::cell::Cell;
use std::ops::Range;

/// Descents, or steps of a walk, without faults after which a thread asks no more.
const PATIENCE: u32 = 256;
/// Bytes of the pages that are asked for. Where pages are larger, the system refuses odd ranges.
pub(crate) const PAGE: usize = 4096;

/// What a thread knows of its faults.
#[derive(Copy, Clone)]
struct State {
    faults: u64,
    /// Descents or steps that will still ask, with the one that has begun.
    left: u32,
}

thread_local! {
    // The first descent of a thread asks: in a process that has just begun, nothing is mapped.
    static STATE: Cell<State> = Cell::new(State { faults: major_faults(), left: 2 });
}

/// Whether this thread asks for pages.
pub(crate) fn is_asking() -> bool {
    STATE.try_with(|state| state.get().left > 0).unwrap_or(false)
}

/// Begins a descent or a step: it asks if this thread has waited for pages not long ago.
pub(crate) fn begin_work() {
    // While a thread ends, its state may be gone already.
    let _ = STATE.try_with(|state| {
        let (before, faults) = (state.get(), major_faults());
        let has_waited = faults != before.faults;
        let left = if has_waited { PATIENCE } else { before.left.saturating_sub(1) };
        state.set(State { faults, left });
    });
}

/// Makes this thread ask in so many descents from here on.
#[cfg(test)]
fn set_asking(descents: u32) {
    let left = descents.saturating_add(1);
    STATE.with(|state| state.set(State { faults: major_faults(), left }));
}

/// Asks for ranges of addresses; neighbours that follow each other are asked for at once.
#[derive(Default)]
pub(crate) struct Ask {
    start: usize,
    end: usize,
}

impl Ask {
    /// Asks for the pages of a value.
    pub(crate) fn value(&mut self, bytes: &[u8]) {
        let start = bytes.as_ptr().addr();
        self.range(start, start.saturating_add(bytes.len()));
    }

    /// Asks for the pages of a range of addresses.
    pub(crate) fn range(&mut self, start: usize, end: usize) {
        let Some(end) = end.checked_next_multiple_of(PAGE).filter(|_| start < end) else { return };
        let start = start / PAGE * PAGE;
        if self.start <= start && start <= self.end {
            self.end = self.end.max(end);
            return;
        }
        will_need(self.start, self.end);
        (self.start, self.end) = (start, end);
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        will_need(self.start, self.end);
    }
}

/// Bytes from one value of a walk to the next, at most: beyond, it begins anew.
const NEAR: usize = 256 << 10;
/// Bytes of a walk after which it is likely to go on.
const LIKELY: usize = 64 << 10;
/// Bytes that a walk asks for ahead.
const AHEAD: usize = 1 << 20;

/// A walk through values that mostly follow each other in the file. Without the system's read-ahead
/// it would wait for each page.
#[derive(Default)]
pub(crate) struct Walk {
    start: usize,
    /// The page where the last value begins. Values of one page may come in any order.
    last: usize,
    /// Up to here it has asked.
    asked: usize,
}

impl Walk {
    /// Goes on to a value. Asks for what comes next if this thread waits for pages.
    pub(crate) fn step(&mut self, bytes: &[u8]) {
        let start = bytes.as_ptr().addr();
        if let Some(range) = self.ahead(start, start.saturating_add(bytes.len())) {
            begin_work();
            if is_asking() {
                Ask::default().range(range.start, range.end);
            }
        }
    }

    /// The addresses that come next, if it is time to ask for them.
    fn ahead(&mut self, start: usize, end: usize) -> Option<Range<usize>> {
        let page = start / PAGE * PAGE;
        let is_near = page >= self.last && page - self.last <= NEAR;
        if !is_near {
            (self.start, self.asked) = (page, end);
        }
        self.last = page;
        let is_likely = page - self.start >= LIKELY;
        if !is_likely || self.asked >= end.saturating_add(AHEAD / 2) {
            return None;
        }
        let range = self.asked.max(end)..end.saturating_add(AHEAD);
        self.asked = range.end;
        Some(range)
    }
}

/// Asks for whole pages, without waiting.
#[cfg(unix)]
#[expect(unsafe_code, reason = "no safe call gives this hint")]
fn will_need(start: usize, end: usize) {
    if start < end {
        let address = std::ptr::without_provenance_mut(start);
        // SAFETY: this advice reads and writes no memory of the process. On memory of the heap, as
        // dirty pages are, it does nothing. A range that is not mapped is an error, ignored here.
        unsafe { libc::madvise(address, end - start, libc::MADV_WILLNEED) };
    }
}

#[cfg(not(unix))]
fn will_need(_: usize, _: usize) {}

/// How often this thread waited for a page from the disk.
#[cfg(unix)]
#[expect(unsafe_code, reason = "no safe call counts faults")]
fn major_faults() -> u64 {
    // Other systems count for the whole process.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const WHO: libc::c_int = libc::RUSAGE_THREAD;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const WHO: libc::c_int = libc::RUSAGE_SELF;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to room for what the call writes.
    unsafe { libc::getrusage(WHO, usage.as_mut_ptr()) };
    // SAFETY: all fields are numbers, and zero is one.
    let usage = unsafe { usage.assume_init() };
    u64::try_from(usage.ru_majflt).unwrap_or(0)
}

#[cfg(not(unix))]
fn major_faults() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use heed::EnvOpenOptions;
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::search::Hit;
    use crate::{BuildOptions, Database, IndexOptions, Metric, Reader, Writer};

    #[test]
    fn any_range_may_be_asked_for_and_stays_as_it_is() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        let mut ask = Ask::default();
        for (start, end) in [(0, 0), (0, 100_000), (99_999, 100_000), (5, 6), (4096, 8192)] {
            ask.value(&bytes[start..end]);
        }
        // Nothing is mapped here, or the end is before the start.
        for (start, end) in [(PAGE, 3 * PAGE), (usize::MAX - 1, usize::MAX), (9, 3), (0, 1)] {
            ask.range(start, end);
        }
        drop(ask);
        assert!((0..100_000u32).all(|i| bytes[i as usize] == (i % 251) as u8));
    }

    /// A walk asks for all that comes, once, and not far ahead. One that jumps asks for nothing.
    #[test]
    fn walks_ask_for_what_comes_next() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        println!("seed 7");
        let (mut walk, mut page, mut asked) = (Walk::default(), 1 << 30, None);
        for _ in 0..10_000 {
            page += PAGE * rng.random_range(0..3);
            // LMDB fills pages from their ends.
            let start = page + rng.random_range(0..PAGE);
            let end = start + rng.random_range(0..2 * PAGE);
            if let Some(range) = walk.ahead(start, end) {
                assert!(asked.is_none_or(|asked| asked == range.start), "all, and once");
                asked = Some(range.end);
            }
            if let Some(asked) = asked {
                assert!(asked >= end + AHEAD / 2, "before it is needed");
                assert!(asked <= end + AHEAD + 4 * PAGE, "not far ahead");
            }
        }
        assert!(asked.is_some());
        let mut walk = Walk::default();
        for _ in 0..10_000 {
            let at = rng.random_range(0..1 << 46);
            assert_eq!(walk.ahead(at, at + 2_000), None);
        }
        // Anywhere, the end of all addresses included.
        assert_eq!(walk.ahead(usize::MAX, usize::MAX), None);
    }

    #[test]
    fn a_thread_asks_until_its_descents_find_all_in_memory() {
        std::thread::spawn(|| {
            begin_work();
            assert!(is_asking());
            // A fault of another cause only makes it ask longer.
            for _ in 0..10 * PATIENCE {
                begin_work();
            }
            assert!(!is_asking());
        })
        .join()
        .unwrap();
    }

    /// All answers of some searches, from a reader of its own, once asking and once not.
    fn answers(rtxn: &heed::RoTxn<'_>, db: Database, queries: &[Vec<f32>]) -> Vec<Vec<Hit>> {
        let [asked, not_asked] = [u32::MAX, 0].map(|left| {
            let reader = Reader::open(rtxn, db, 0).unwrap();
            let search = |query: &Vec<f32>| {
                set_asking(left);
                reader.nns(10).by_vector(query).unwrap().into_iter().collect()
            };
            queries.iter().map(search).collect::<Vec<Vec<Hit>>>()
        });
        assert_eq!(asked, not_asked);
        assert!(asked.iter().all(|hits| hits.len() == 10));
        asked
    }

    /// Vectors within pages of LMDB, on pages of their own, and cut; in the transaction that wrote
    /// them, after its commit, and when the map has grown.
    #[test]
    fn asking_changes_no_answer() {
        for dims in [16, 600, 1024] {
            let seed = dims as u64;
            println!("seed {seed}");
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut random =
                || (0..dims).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
            let dir = tempfile::tempdir().unwrap();
            let mut options = EnvOpenOptions::new();
            options.map_size(64 << 20).max_dbs(1);
            #[expect(unsafe_code, reason = "opening a map")]
            // SAFETY: the folder is ours alone.
            let env = unsafe { options.open(dir.path()) }.unwrap();
            let db = Database::open_or_create(&env).unwrap();
            let mut wtxn = env.write_txn().unwrap();
            let options = IndexOptions::new(dims, Metric::Euclidean);
            let writer = Writer::open_or_create(&mut wtxn, db, 0, &options).unwrap();
            for id in 0..3000 {
                // Ids with gaps, so that no place follows from an id.
                writer.add_item(&mut wtxn, id * id / 7, &random()).unwrap();
            }
            writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
            let queries: Vec<_> = (0..20).map(|_| random()).collect();
            let dirty = answers(&wtxn, db, &queries);
            wtxn.commit().unwrap();
            assert_eq!(answers(&env.read_txn().unwrap(), db, &queries), dirty);
            #[expect(unsafe_code, reason = "another size of the map")]
            // SAFETY: no transaction is open.
            unsafe { env.resize(128 << 20) }.unwrap();
            assert_eq!(answers(&env.read_txn().unwrap(), db, &queries), dirty);
        }
    }
}
