//! Exact search: comparing all items that a request admits.

use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::error::Result;
use crate::key::{Key, Kind};
use crate::lmdb::item::ItemBytes;
use crate::search::request::Request;
use crate::search::rerank::{BATCH, Nearest, Scorer};
use crate::search::session::Session;

/// How many items ahead a thread prefetches, when several share a scan. Measured: docs/trials.md,
/// "exact scan".
const PREFETCH_DISTANCE: usize = 8;
/// Items in one round of a shared scan. An interrupt is checked between rounds, so a search that
/// has one takes shorter rounds.
const ITEMS_PER_ROUND: usize = 1 << 16;
const ITEMS_PER_TIMED_ROUND: usize = 1 << 14;
/// Items in one task of a round.
const COMPARED_PER_TASK: usize = 1 << 10;

/// Compares every item that the request admits. Returns whether its interrupt ended the scan.
///
/// The items of a small set are looked up one by one; else all items are read in order.
pub(crate) fn compare_all(
    session: &Session<'_>,
    scorer: &Scorer<'_>,
    request: &Request<'_>,
    nearest: &mut Nearest,
) -> Result<bool> {
    // A look-up costs no more than a step of the iterator: each step waits for the one before,
    // while look-ups are prefetched together. Measured: docs/trials.md, "exact scan".
    match request.filter.allowed {
        Some(allowed) if allowed.len() < session.record.items / 4 * 3 => {
            compare_allowed(session, scorer, request, allowed, nearest)
        }
        _ if request.options.is_parallel => compare_shared(session, scorer, request, nearest),
        _ => compare_in_order(session, scorer, request, nearest),
    }
}

fn compare_allowed(
    session: &Session<'_>,
    scorer: &Scorer<'_>,
    request: &Request<'_>,
    allowed: &RoaringBitmap,
    nearest: &mut Nearest,
) -> Result<bool> {
    let is_wanted = |id: &u32| {
        !request.exclude.contains(id) && request.filter.predicate.is_none_or(|admits| admits(*id))
    };
    let ids = request.interrupt.limit(allowed.iter()).filter(is_wanted);
    // A filter may name ids that are no items.
    scorer.rank_all(
        &session.items,
        ids,
        |_| Ok(()),
        request.interrupt,
        |ranked| nearest.offer(ranked),
    )
}

fn compare_in_order<'t>(
    session: &Session<'t>,
    scorer: &Scorer<'_>,
    request: &Request<'_>,
    nearest: &mut Nearest,
) -> Result<bool> {
    let spec = session.spec();
    let (mut entries, mut tails) = (session.view().iter(Kind::Item)?, session.view().tails()?);
    let mut joined = session.items.joined.take();
    loop {
        let mut batch: [Option<(Key, ItemBytes<'t>)>; BATCH] = [None; BATCH];
        let mut is_last = true;
        // LMDB fills pages from their end, so that ascending keys lie at descending addresses. The
        // processor does not prefetch such reads by itself.
        for (slot, entry) in batch.iter_mut().zip(entries.by_ref()) {
            let (key, value) = entry?;
            is_last = false;
            if request.admits(key.id()) {
                let bytes = tails.complete(key, value)?;
                bytes.prefetch();
                *slot = Some((key, bytes));
            }
        }
        for (key, bytes) in batch.iter().flatten() {
            nearest.offer(scorer.rank(key.id(), &bytes.view(*key, spec, &mut joined)?)?);
        }
        if is_last || request.interrupt.check() {
            session.items.joined.set(joined);
            return Ok(!is_last);
        }
    }
}

/// One thread reads the keys in order, and all threads compare the vectors.
///
/// A transaction of LMDB belongs to one thread, but any thread may read the bytes in the map.
fn compare_shared(
    session: &Session<'_>,
    scorer: &Scorer<'_>,
    request: &Request<'_>,
    nearest: &mut Nearest,
) -> Result<bool> {
    let spec = session.spec();
    let (mut entries, mut tails) = (session.view().iter(Kind::Item)?, session.view().tails()?);
    let (k, bounds) = (nearest.k, nearest.bounds);
    let per_round =
        if request.interrupt.is_none() { ITEMS_PER_ROUND } else { ITEMS_PER_TIMED_ROUND };
    let mut items = Vec::with_capacity(per_round);
    loop {
        items.clear();
        let mut is_last = true;
        for entry in entries.by_ref().take(per_round) {
            let (key, value) = entry?;
            is_last = false;
            // A predicate need not be `Sync`, so only this thread may call it.
            if request.admits(key.id()) {
                items.push((key, tails.complete(key, value)?));
            }
        }
        let compare = |part: &[(Key, ItemBytes<'_>)]| {
            let (mut nearest, mut joined) = (Nearest::new(k, bounds), Vec::new());
            for (number, (key, bytes)) in part.iter().enumerate() {
                if let Some((_, later)) = part.get(number + PREFETCH_DISTANCE) {
                    later.prefetch();
                }
                nearest.offer(scorer.rank(key.id(), &bytes.view(*key, spec, &mut joined)?)?);
            }
            Ok(nearest)
        };
        let parts: Vec<Result<Nearest>> =
            items.par_chunks(COMPARED_PER_TASK).map(compare).collect();
        for part in parts {
            nearest.merge(part?);
        }
        if is_last || request.interrupt.check() {
            return Ok(!is_last);
        }
    }
}
