//! What happens to an index before its quality is measured.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::Result;
use crate::data::{Rng, Set, gaussian, length, noisy, share};
use crate::world::World;

/// Cycles of churn, each of [`CHURN`] of the items.
const CYCLES: usize = 20;
const CHURN: f32 = 0.05;
/// How far all drift leads, as a part of the mean length of a row.
const DRIFT: f32 = 1.0;
/// Regions that are deleted as a whole.
const REGIONS: usize = 200;
/// Items that are left at least: smaller indexes are built in bulk.
const KEPT: usize = 2_500;
/// Queries after deletions, at least.
const QUERIES: usize = 1_000;
/// Deletions and re-insertions of one step, as a part of what lives: few enough for incremental
/// builds.
const STEP: f32 = 0.05;

/// An index after its changes, and the queries that suit what lives in it.
pub struct Outcome {
    pub world: World,
    pub queries: Vec<Vec<f32>>,
}

/// Rows in the order in which they are added; the row number is the id.
struct Source<'a> {
    set: &'a Set,
    next: usize,
}

impl Source<'_> {
    fn take(&mut self, count: usize) -> Result<Vec<(u32, Vec<f32>)>> {
        let rows = self.next..self.next + count;
        self.next = rows.end;
        rows.map(|i| Ok((u32::try_from(i)?, self.set.row(i)))).collect()
    }
}

/// A world of the first `items` rows, built in bulk.
fn start(set: &Set, items: usize) -> Result<(World, Source<'_>)> {
    let mut world = World::new(set.dims, set.metric)?;
    let mut source = Source { set, next: 0 };
    world.change(&[], source.take(items)?)?;
    Ok((world, source))
}

/// Growth from 1,000 items (or less) in steps, with a build after each.
pub fn growth(set: &Set, items: usize, step: usize) -> Result<Outcome> {
    let (mut world, mut source) = start(set, items.min(1_000))?;
    while source.next < items {
        let rows = source.take(step.min(items - source.next))?;
        world.change(&[], rows)?;
    }
    Ok(Outcome { world, queries: set.queries() })
}

/// Cycles in which some items go and as many come; with drift, each cycle's come a little further
/// away.
pub fn churn(set: &Set, items: usize, is_drifting: bool) -> Result<Outcome> {
    let mut rng = Rng::seed_from_u64(21);
    let (mut world, mut source) = start(set, items)?;
    let direction = gaussian(set.dims, &mut rng);
    let step =
        if is_drifting { DRIFT * set.length() / length(&direction) / CYCLES as f32 } else { 0.0 };
    let shift = |row: &mut [f32], cycle: usize| {
        row.iter_mut().zip(&direction).for_each(|(x, y)| *x += step * cycle as f32 * y);
    };
    for cycle in 1..=CYCLES {
        let mut ids: Vec<u32> = world.live.keys().copied().collect();
        let count = share(items, CHURN);
        let (deleted, _) = ids.partial_shuffle(&mut rng, count);
        let mut rows = source.take(count)?;
        rows.iter_mut().for_each(|(_, row)| shift(row, cycle));
        world.change(deleted, rows)?;
    }
    let mut queries = set.queries();
    // Queries of every age, like the items.
    for query in &mut queries {
        shift(query, rng.random_range(0..=CYCLES));
    }
    Ok(Outcome { world, queries })
}

/// Deletes 90 percent of the items, region after region, in steps.
pub fn deletion(set: &Set, items: usize) -> Result<Outcome> {
    let mut rng = Rng::seed_from_u64(22);
    let (mut world, _) = start(set, items)?;
    let pivots: Vec<Vec<f32>> = (0..REGIONS).map(|_| set.row(rng.random_range(0..items))).collect();
    let mut order: Vec<(usize, u32)> =
        world.live.iter().map(|(id, row)| (region(&pivots, row), *id)).collect();
    order.sort_unstable();
    let deleted = &order[..items.saturating_sub(KEPT.max(items / 10))];
    let mut rest: Vec<u32> = deleted.iter().map(|(_, id)| *id).collect();
    while !rest.is_empty() {
        let count = share(world.live.len(), STEP).clamp(1, rest.len());
        let step: Vec<u32> = rest.drain(..count).collect();
        world.change(&step, Vec::new())?;
    }
    // Queries of regions that live on.
    let last = deleted.last().map_or(0, |(region, _)| *region);
    let is_near_life = |query: &Vec<f32>| region(&pivots, query) > last;
    let mut queries: Vec<Vec<f32>> = set.queries().into_iter().filter(is_near_life).collect();
    // There are few of them: they come again under noise.
    for i in 0..if queries.is_empty() { 0 } else { QUERIES.saturating_sub(queries.len()) } {
        queries.push(noisy(&queries[i], &mut rng));
    }
    Ok(Outcome { world, queries })
}

/// Deletes nearly everything in steps, and puts it back in steps.
pub fn reinsertion(set: &Set, items: usize) -> Result<Outcome> {
    let mut rng = Rng::seed_from_u64(23);
    let Outcome { mut world, .. } = deletion(set, items)?;
    let mut gone: Vec<u32> =
        (0..u32::try_from(items)?).filter(|id| !world.live.contains_key(id)).collect();
    gone.shuffle(&mut rng);
    while !gone.is_empty() {
        let count = share(world.live.len(), STEP).clamp(1, gone.len());
        let rows = gone.drain(..count).map(|id| (id, set.row(id as usize))).collect();
        world.change(&[], rows)?;
    }
    Ok(Outcome { world, queries: set.queries() })
}

/// Deletes and re-inserts everything, a part of it in each step: every item is written anew.
pub fn rewriting(set: &Set, items: usize) -> Result<Outcome> {
    let mut rng = Rng::seed_from_u64(24);
    let (mut world, _) = start(set, items)?;
    let mut ids: Vec<u32> = world.live.keys().copied().collect();
    ids.shuffle(&mut rng);
    for part in ids.chunks(share(items, STEP).max(1)) {
        world.change(part, Vec::new())?;
        let rows = part.iter().map(|id| (*id, set.row(*id as usize))).collect();
        world.change(&[], rows)?;
    }
    Ok(Outcome { world, queries: set.queries() })
}

/// Fifty commits of 2 percent churn, for the size of the file.
pub fn commits(set: &Set, items: usize) -> Result<World> {
    let mut rng = Rng::seed_from_u64(25);
    let (mut world, mut source) = start(set, items)?;
    for _ in 0..50 {
        let mut ids: Vec<u32> = world.live.keys().copied().collect();
        let count = items / 50;
        let (deleted, _) = ids.partial_shuffle(&mut rng, count);
        world.change(deleted, source.take(count)?)?;
    }
    Ok(world)
}

/// The number of the nearest pivot.
fn region(pivots: &[Vec<f32>], row: &[f32]) -> usize {
    let distance =
        |pivot: &[f32]| -> f32 { pivot.iter().zip(row).map(|(x, y)| (x - y) * (x - y)).sum() };
    let nearer = |best: (f32, usize), (i, pivot): (usize, &Vec<f32>)| {
        let distance = distance(pivot);
        if distance < best.0 { (distance, i) } else { best }
    };
    pivots.iter().enumerate().fold((f32::INFINITY, 0), nearer).1
}
