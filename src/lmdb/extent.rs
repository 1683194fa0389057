//! Whether the file of an environment is as long as its last commit says.
//!
//! LMDB reads pages through a memory map, so that a page beyond the end of the file kills the
//! process. Yet a sound file may be shorter than its last commit says: LMDB never writes the pages
//! that one transaction allocates and frees. It lists them as free, and this list is read here,
//! through the file.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;

use heed::Env;

use crate::error::{Error, Result};

/// An error if the file ends before a page that may be read.
///
/// A read transaction has to be open: it keeps the pages of the free list from being reused.
pub(crate) fn check<T>(env: &Env<T>) -> Result<()> {
    let page_size = u64::from(env.unnamed_database_stat().page_size);
    let end = env.info().last_page_number as u64 + 1;
    // A commit writes its pages before it names them: a length that is asked for later is not too
    // short for them.
    if env.real_disk_size()? >= end.saturating_mul(page_size) {
        return Ok(());
    }
    let pages = LmdbPages { file: env.try_clone_inner_file()?, page_size };
    let mut before = None;
    let mut truncated = Ok(());
    for _ in 0..LOOKS {
        let newest = pages.newest_meta();
        let have = pages.file.metadata().map_err(heed::Error::Io)?.len();
        let end = newest.map_or(end, |meta| meta.end);
        let missing = have / page_size.max(1)..end;
        if newest.is_some_and(|meta| pages.are_free(meta, &missing)) {
            return Ok(());
        }
        truncated = Err(Error::Truncated { have, need: end.saturating_mul(page_size) });
        // What is read while somebody commits may be half of one commit and half of the next.
        if newest == before {
            break;
        }
        before = newest;
    }
    truncated
}

/// How many pages of the file later commits use again. 0 if commits of others come too fast to
/// tell.
///
/// A read transaction has to be open: see [`check`].
pub(crate) fn free_pages<T>(env: &Env<T>) -> Result<u64> {
    let page_size = u64::from(env.unnamed_database_stat().page_size);
    let pages = LmdbPages { file: env.try_clone_inner_file()?, page_size };
    for _ in 0..LOOKS {
        let Some(meta) = pages.newest_meta() else { continue };
        let free = pages.free(meta, &(0..meta.end));
        if let (Some(free), true) = (free, pages.newest_meta() == Some(meta)) {
            return Ok(free.len() as u64);
        }
    }
    Ok(0)
}

/// How often a file is looked at that changes meanwhile.
const LOOKS: u32 = 64;

/// What a commit says of its pages.
#[derive(Copy, Clone, PartialEq)]
struct Meta {
    commit: u64,
    /// The page after the last.
    end: u64,
    /// The root of the free list.
    free: u64,
}

/// The pages of a file of LMDB's format 1, read as bytes that may be anything.
struct LmdbPages {
    file: File,
    page_size: u64,
}

/// The two pages that commits write in turn.
const METAS: Range<u64> = 0..2;
/// Bytes of a page before what it holds.
const HEADER: usize = 16;
/// Where the fields of pages, metas and nodes are.
const PAGE_FLAGS: usize = 10;
const PAGE_LOWER: usize = 12;
const META_FREE_ROOT: usize = HEADER + 64;
const META_LAST_PAGE: usize = HEADER + 120;
const META_COMMIT: usize = HEADER + 128;
const NODE_FLAGS: usize = 4;
const NODE_KEY_LEN: usize = 6;
const NODE_KEY: usize = 8;

const IS_BRANCH: u64 = 1;
const IS_LEAF: u64 = 2;
/// The flag of a node whose value has pages of its own.
const IS_LARGE: u64 = 1;
/// The root of an empty list.
const NO_PAGE: u64 = u64::MAX;

impl LmdbPages {
    fn newest_meta(&self) -> Option<Meta> {
        let metas = METAS.filter_map(|number| {
            let page = self.page(number)?;
            let free = number_at::<8>(&page, META_FREE_ROOT)?;
            let end = number_at::<8>(&page, META_LAST_PAGE)?.checked_add(1)?;
            Some(Meta { commit: number_at::<8>(&page, META_COMMIT)?, end, free })
        });
        metas.max_by_key(|meta| meta.commit)
    }

    /// Whether all these pages are in the free list of a commit. No, if it cannot be read.
    fn are_free(&self, meta: Meta, wanted: &Range<u64>) -> bool {
        let Some(free) = self.free(meta, wanted) else { return false };
        wanted.is_empty() || free.len() as u64 == wanted.end - wanted.start
    }

    /// Those of the wanted pages that are in the free list of a commit, if it can be read.
    fn free(&self, meta: Meta, wanted: &Range<u64>) -> Option<BTreeSet<u64>> {
        let mut free = BTreeSet::new();
        let mut left = if meta.free == NO_PAGE { Vec::new() } else { vec![meta.free] };
        // Each page is in a tree once.
        let mut left_to_read = meta.end;
        while let Some(number) = left.pop() {
            left_to_read = left_to_read.checked_sub(1)?;
            self.visit(number, wanted, &mut left, &mut free)?;
        }
        Some(free)
    }

    /// Reads a page of the free list: its children go to `left`, the wanted numbers that it lists
    /// to `free`.
    fn visit(
        &self,
        number: u64,
        wanted: &Range<u64>,
        left: &mut Vec<u64>,
        free: &mut BTreeSet<u64>,
    ) -> Option<()> {
        let page = self.page(number)?;
        let flags = number_at::<2>(&page, PAGE_FLAGS)?;
        let lower = usize::try_from(number_at::<2>(&page, PAGE_LOWER)?).ok()?;
        for slot in (HEADER..lower).step_by(2) {
            let node = page.get(usize::try_from(number_at::<2>(&page, slot)?).ok()?..)?;
            if flags & IS_BRANCH != 0 {
                left.push(number_at::<6>(node, 0)?);
                continue;
            }
            if flags & IS_LEAF == 0 {
                return None;
            }
            let value = NODE_KEY + usize::try_from(number_at::<2>(node, NODE_KEY_LEN)?).ok()?;
            let len = usize::try_from(number_at::<4>(node, 0)?).ok()?;
            let list = if number_at::<2>(node, NODE_FLAGS)? & IS_LARGE == 0 {
                node.get(value..value.checked_add(len)?)?.to_vec()
            } else {
                let start = number_at::<8>(node, value)?.checked_mul(self.page_size)?;
                self.read(start.checked_add(HEADER as u64)?, len)?
            };
            let (count, numbers) = list.split_first_chunk()?;
            let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
            let numbers =
                numbers.chunks_exact(8).take(count).filter_map(|number| number_at::<8>(number, 0));
            free.extend(numbers.filter(|number| wanted.contains(number)));
        }
        Some(())
    }

    fn page(&self, number: u64) -> Option<Vec<u8>> {
        self.read(number.checked_mul(self.page_size)?, usize::try_from(self.page_size).ok()?)
    }

    fn read(&self, start: u64, len: usize) -> Option<Vec<u8>> {
        let end = start.checked_add(len as u64)?;
        if end > self.file.metadata().ok()?.len() {
            return None;
        }
        let mut bytes = vec![0; len];
        read_at(&self.file, &mut bytes, start).ok()?;
        Some(bytes)
    }
}

/// The little-endian number of so many bytes.
fn number_at<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut number = [0; 8];
    number[..BYTES].copy_from_slice(bytes.get(at..)?.first_chunk::<BYTES>()?);
    Some(u64::from_le_bytes(number))
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], start: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, start)
}

#[cfg(windows)]
fn read_at(file: &File, bytes: &mut [u8], start: u64) -> std::io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match std::os::windows::fs::FileExt::seek_read(
            file,
            &mut bytes[done..],
            start + done as u64,
        )? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => done += read,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Where every number may be anything, no page is called free, nothing is called well, and the
    /// walk ends.
    #[test]
    fn any_bytes_are_read_to_an_end() {
        let mut rng = rand::rngs::Xoshiro256PlusPlus::seed_from_u64(5);
        for _ in 0..2000 {
            let mut file = tempfile::tempfile().unwrap();
            let mut bytes = vec![0u8; rng.random_range(0..6 * 512)];
            for _ in 0..rng.random_range(0..200) {
                // Numbers that name pages, slots and lengths that there are, and some that name
                // none.
                let at = rng.random_range(0..bytes.len().max(1));
                let value = [rng.random_range(0..8), rng.random(), 255][rng.random_range(0..3)];
                bytes.get_mut(at).into_iter().for_each(|byte| *byte = value);
            }
            file.write_all(&bytes).unwrap();
            let pages = LmdbPages { file, page_size: 512 };
            let metas = [0, 2, 3, 5, NO_PAGE - 1].map(|free| Meta {
                commit: 0,
                end: rng.random_range(0..8),
                free,
            });
            for meta in metas.into_iter().chain(pages.newest_meta()) {
                assert!(!pages.are_free(meta, &(1 << 40..(1 << 40) + 4)));
            }
        }
    }
}
