//! What a disk may hold after its power was cut, by the log of `recorder.c`.

use std::path::Path;

use rand::RngExt;
use rand::seq::SliceRandom;

use crate::support::Rng;

/// What a disk writes whole or not at all. LMDB's meta, of 106 bytes, lies within one.
const SECTOR: usize = 512;

#[derive(Debug)]
pub enum Event {
    Write {
        offset: usize,
        bytes: Vec<u8>,
    },
    /// The write before it is on the disk: it went through a descriptor that syncs each write.
    SyncOfWrite,
    /// All writes before it are on the disk.
    Sync,
    /// So many steps are done, and the writer has been told so.
    Done(u32),
}

const DONE: u64 = 5;

/// Says in the log that so many steps are done.
pub fn acknowledge(log: &Path, steps: u32) {
    let header = [DONE, steps.into(), 0].map(u64::to_le_bytes).concat();
    let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
    std::io::Write::write_all(&mut log, &header).unwrap();
}

pub fn read_log(path: &Path) -> Vec<Event> {
    let log = std::fs::read(path).unwrap();
    let mut rest = &log[..];
    let mut events = Vec::new();
    while !rest.is_empty() {
        let number = |i: usize| u64::from_le_bytes(rest[8 * i..8 * i + 8].try_into().unwrap());
        let (kind, offset, len) = (number(0), number(1), number(2) as usize);
        rest = &rest[24..];
        events.push(match kind {
            1 => Event::Write { offset: offset as usize, bytes: rest[..len].to_vec() },
            2 => Event::SyncOfWrite,
            3 => Event::Sync,
            DONE => Event::Done(offset as u32),
            _ => panic!("a call that the replay does not know: event {}", events.len()),
        });
        rest = &rest[len..];
    }
    events
}

/// A sector as a write left it in the memory of the system, from which the disk may take it.
struct Version {
    write: usize,
    sector: usize,
    bytes: Vec<u8>,
}

/// A file, as its readers see it and as it is on the disk for sure.
#[derive(Default)]
struct File {
    seen: Vec<u8>,
    synced: Vec<u8>,
    /// What may be on the disk, in the order of the writes.
    pending: Vec<Version>,
    writes: usize,
}

impl File {
    fn after(events: &[Event]) -> Self {
        let mut file = Self::default();
        for event in events {
            match event {
                Event::Write { offset, bytes } => file.write(*offset, bytes),
                Event::SyncOfWrite => file.sync_last(),
                Event::Sync => {
                    file.synced.clone_from(&file.seen);
                    file.pending.clear();
                }
                Event::Done(_) => {}
            }
        }
        file
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.seen, offset, bytes);
        self.writes += 1;
        for sector in offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR) {
            let end = self.seen.len().min((sector + 1) * SECTOR);
            let bytes = self.seen[sector * SECTOR..end].to_vec();
            self.pending.push(Version { write: self.writes, sector, bytes });
        }
    }

    fn sync_last(&mut self) {
        let last = self.writes;
        let of_last: Vec<usize> =
            self.pending.iter().filter(|v| v.write == last).map(|v| v.sector).collect();
        for version in self.pending.extract_if(.., |v| of_last.contains(&v.sector)) {
            // In the order of the writes: what the last one left, stays.
            put(&mut self.synced, version.sector * SECTOR, &version.bytes);
        }
    }
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    file.resize(file.len().max(end), 0);
    file[offset..end].copy_from_slice(bytes);
}

/// The file as readers see it after these events.
pub fn whole(events: &[Event]) -> Vec<u8> {
    File::after(events).seen
}

/// What the disk may hold if its power is cut after these events: of the writes that were not
/// synced some, in any order, and some of them in part.
pub fn cut(events: &[Event], rng: &mut Rng) -> Vec<u8> {
    let File { mut synced, pending, writes, .. } = File::after(events);
    let likely = [0.05, 0.5, 0.95][rng.random_range(0..3)];
    let mut order: Vec<usize> = (1..=writes).collect();
    if rng.random() {
        order.shuffle(rng);
    }
    for write in order {
        let is_torn = rng.random_bool(0.3);
        let is_written = rng.random_bool(likely);
        for version in pending.iter().filter(|version| version.write == write) {
            if if is_torn { rng.random() } else { is_written } {
                put(&mut synced, version.sector * SECTOR, &version.bytes);
            }
        }
    }
    synced
}
