//! Routing: the nearest leaves of a point, and the second leaf that spill gives it.

use rayon::prelude::*;

use crate::kernel::gemm;
use crate::kernel::gemm::Panels;
use crate::kernel::simd::Level;
use crate::kernel::threshold::{Scores, below};
use crate::math::kmeans::{half_norms, split, update};
use crate::math::matrix::Matrix;
use crate::math::scored::{Scored, estimate_of, id_of, packed};
use crate::math::top_k::replace_last;
use crate::metric::Metric;

/// Coarse groups whose leaves are compared with a point, at least.
const BEAM: usize = 12;
/// The same while centroids move: a row that misses its very nearest leaf moves another one by a
/// little. Measured: docs/trials.md, "beam".
const REFINING_BEAM: usize = 6;
/// Nearest leaves among which the spill leaf is chosen.
pub(crate) const SHORTLIST: usize = 12;
/// Weight of the parallel part of the residual in SOAR's rule. Measured: docs/trials.md, "SOAR".
const SOAR_LAMBDA: f32 = 1.0;
/// No leaf: what stands in for the second leaf without spill.
pub(crate) const NO_LEAF: u32 = u32::MAX;

/// Leaf centroids in groups, each with the median of its group.
#[derive(Debug)]
pub(crate) struct Router {
    simd: Level,
    /// Whether distances are squares, else sums of absolute differences.
    is_squared: bool,
    coarse_norms: Vec<f32>,
    coarse_panels: Panels,
    /// First leaf of each group, and the end of the last.
    pub(super) starts: Vec<usize>,
    pub(crate) leaves: Matrix,
    leaf_norms: Vec<f32>,
    /// The leaves of each group.
    leaf_panels: Vec<Panels>,
}

impl Router {
    pub(crate) fn new(simd: Level, groups: &[Matrix]) -> Self {
        let width = groups.first().map_or(64, |group| group.width);
        let (mut coarse, mut leaves, mut starts) =
            (Matrix::new(width), Matrix::new(width), vec![0]);
        let mut leaf_panels = Vec::new();
        for group in groups.iter().filter(|group| group.len() > 0) {
            // A leaf far away must not move the others of its group out of reach.
            coarse.push(&group.median());
            leaves.values.extend_from_slice(&group.values);
            leaf_panels.push(Panels::new(&group.values, width));
            starts.push(leaves.len());
        }
        let (coarse_norms, leaf_norms) =
            (half_norms(simd, &coarse.values, width), half_norms(simd, &leaves.values, width));
        let coarse_panels = Panels::new(&coarse.values, width);
        Self {
            simd,
            is_squared: true,
            coarse_norms,
            coarse_panels,
            starts,
            leaves,
            leaf_norms,
            leaf_panels,
        }
    }

    /// Routes by the distance of this metric, no more by the Euclidean.
    pub(crate) fn with_metric(mut self, metric: Metric) -> Self {
        self.is_squared = metric.is_squared();
        if !self.is_squared {
            // Distances are scores as they are.
            self.coarse_norms.fill(0.0);
            self.leaf_norms.fill(0.0);
        }
        self
    }

    /// One Lloyd pass over all leaves: every row goes to its nearest leaf, and centroids move to
    /// their rows' means. Returns the rows of each leaf.
    pub(crate) fn refine(&mut self, points: &Matrix) -> Vec<Vec<u32>> {
        let nearest: Vec<u32> = points
            .values
            .par_chunks(1024 * points.width)
            .flat_map_iter(|rows| self.nearest(rows, 1, REFINING_BEAM).into_iter().map(id_of))
            .collect();
        let members = crate::math::kmeans::members(&nearest, self.leaves.len());
        update(points, &members, &mut self.leaves);
        let leaves = self.leaves.clone();
        self.replace(usize::MAX, |leaf| leaves.gather(&[leaf]));
        members
    }

    /// Puts others in the place of each leaf. Groups of more than `max` leaves are cut: all rows
    /// near a group are compared with all of its leaves.
    pub(crate) fn replace(&mut self, max: usize, others: impl Fn(u32) -> Matrix) {
        let groups = self.starts.windows(2).flat_map(|pair| {
            let mut group = Matrix::new(self.leaves.width);
            let leaves = (0u32..).skip(pair[0]).take(pair[1] - pair[0]);
            leaves.for_each(|leaf| group.push(&others(leaf).values));
            if group.len() <= max {
                return vec![group];
            }
            split(self.simd, &group, max, pair[0] as u64)
                .iter()
                .map(|leaves| group.gather(leaves))
                .collect()
        });
        let groups: Vec<Matrix> = groups.collect();
        *self = Self::new(self.simd, &groups);
    }

    /// The first and second leaf of each row; the second is [`NO_LEAF`] without spill, or if there
    /// is one leaf only.
    pub(crate) fn route(&self, rows: &[f32], spill: bool) -> Vec<[u32; 2]> {
        let count = if spill { SHORTLIST } else { 1 };
        let near = self.nearest(rows, count, BEAM.max((self.starts.len() - 1) / 8));
        let points = rows.chunks_exact(self.leaves.width);
        near.chunks_exact(count).zip(points).map(|(near, point)| self.choose(near, point)).collect()
    }

    fn choose(&self, near: &[u64], point: &[f32]) -> [u32; 2] {
        let mut leaves = near.iter().map(|near| id_of(*near)).filter(|leaf| *leaf != NO_LEAF);
        let Some(first) = leaves.next() else { return [NO_LEAF; 2] };
        let others = leaves.map(|leaf| (leaf, self.leaves.row(leaf as usize)));
        [first, second_leaf(self.simd, point, self.leaves.row(first as usize), others)]
    }

    /// The `count` nearest leaves of each row among those of its `beam` nearest groups, nearest
    /// first: score above leaf. Rows that see fewer are filled up with [`NO_LEAF`].
    fn nearest(&self, rows: &[f32], count: usize, beam: usize) -> Vec<u64> {
        let width = self.leaves.width;
        let groups = self.starts.len() - 1;
        let beam = beam.min(groups);
        let rows: Vec<&[f32]> = rows.chunks_exact(width).collect();
        let mut scores = Vec::new();
        self.products(&rows, &self.coarse_panels, &mut scores);
        let mut visitors: Vec<Vec<u32>> = vec![Vec::new(); groups];
        let mut order: Vec<Scored> = Vec::with_capacity(groups);
        for (row, scores) in (0u32..).zip(scores.chunks_exact(groups.max(1))) {
            order.clear();
            let scores = self.scores_of(&self.coarse_norms, scores);
            order.extend(scores.iter().zip(0u32..).map(|(score, id)| Scored { score, id }));
            if beam < groups {
                order.select_nth_unstable(beam);
            }
            order[..beam].iter().for_each(|group| visitors[group.id as usize].push(row));
        }
        let mut near = vec![u64::MAX; rows.len() * count];
        let mut gathered = Vec::new();
        for (group, visitors) in
            visitors.iter().enumerate().filter(|(_, visitors)| !visitors.is_empty())
        {
            let (start, end) = (self.starts[group], self.starts[group + 1]);
            gathered.clear();
            gathered.extend(visitors.iter().map(|row| rows[*row as usize]));
            self.products(&gathered, &self.leaf_panels[group], &mut scores);
            for (row, products) in visitors.iter().zip(scores.chunks_exact(end - start)) {
                let near = &mut near[*row as usize * count..][..count];
                let scores = self.scores_of(&self.leaf_norms[start..end], products);
                #[expect(clippy::cast_possible_truncation, reason = "leaves have 32-bit ids")]
                keep_nearest(self.simd, near, scores, start as u32);
            }
        }
        near
    }

    /// Products of all pairs, or their Manhattan distances.
    fn products(&self, rows: &[&[f32]], centroids: &Panels, out: &mut Vec<f32>) {
        out.resize(rows.len() * centroids.len(), 0.0);
        let kernel = if self.is_squared { gemm::dots } else { gemm::manhattans };
        kernel(self.simd, rows, centroids, out);
    }

    /// Smaller is nearer: the Manhattan distance, else half the squared distance less |x|^2 / 2.
    fn scores_of<'s>(&self, norms: &'s [f32], products: &'s [f32]) -> Scores<'s> {
        Scores { norms, products, sign: if self.is_squared { -1.0 } else { 1.0 } }
    }
}

/// The second leaf of a point, by SOAR (Sun, Guo, Kumar: SOAR, NeurIPS 2023). It is near and lies
/// in another direction than the first. So a query that misses one is likely to find the other.
///
/// It minimises |x - c'|^2 + lambda (r . (x - c') / |r|)^2, in which r = x - c.
pub(crate) fn second_leaf<'a>(
    simd: Level,
    point: &[f32],
    first: &[f32],
    others: impl Iterator<Item = (u32, &'a [f32])>,
) -> u32 {
    let residual: Vec<f32> = differences(point, first).collect();
    let squared = gemm::dot(simd, &residual, &residual);
    let mut best = (f32::INFINITY, NO_LEAF);
    let mut other = Vec::with_capacity(point.len());
    for (leaf, centroid) in others {
        other.clear();
        other.extend(differences(point, centroid));
        let along = gemm::dot(simd, &residual, &other);
        let penalty = if squared > 0.0 { SOAR_LAMBDA * along * (along / squared) } else { 0.0 };
        let loss = gemm::dot(simd, &other, &other) + penalty;
        if loss < best.0 || best.1 == NO_LEAF {
            best = (loss, leaf);
        }
    }
    best.1
}

fn differences(a: &[f32], b: &[f32]) -> impl Iterator<Item = f32> {
    a.iter().zip(b).map(|(a, b)| a - b)
}

/// Keeps the nearest, sorted, of those in `near` and of leaves with these scores, the first of
/// which is `first`.
fn keep_nearest(simd: Level, near: &mut [u64], scores: Scores<'_>, first: u32) {
    // The filling of free places is no number as a limit, so that every score is visited.
    let limit = |near: &[u64]| near.last().map_or(f32::NEG_INFINITY, |last| estimate_of(*last));
    below(simd, scores, limit(near), |leaf, score| {
        #[expect(clippy::cast_possible_truncation, reason = "leaves have 32-bit ids")]
        replace_last(near, packed(first + leaf as u32, score));
        limit(near)
    });
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::kernel::simd;

    #[test]
    fn with_all_groups_in_the_beam_the_nearest_leaf_is_the_nearest() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let mut random = |n: usize| Matrix {
            values: (0..n * 64).map(|_| rng.random_range(-1.0..1.0)).collect(),
            width: 64,
        };
        let groups: Vec<Matrix> = (0..6).map(|i| random(5 + i)).collect();
        let points = random(50);
        for metric in [Metric::Euclidean, Metric::Manhattan] {
            let router = Router::new(simd::detect(), &groups).with_metric(metric);
            for (row, chosen) in router.route(&points.values, true).into_iter().enumerate() {
                let distance = |leaf: usize| -> f32 {
                    let pairs = points.row(row).iter().zip(router.leaves.row(leaf));
                    pairs
                        .map(|(x, c)| {
                            if metric == Metric::Manhattan {
                                (x - c).abs()
                            } else {
                                (x - c) * (x - c)
                            }
                        })
                        .sum()
                };
                let best = (0..router.leaves.len()).map(distance).fold(f32::INFINITY, f32::min);
                assert!(distance(chosen[0] as usize) <= best * 1.0001);
                assert!(chosen[1] != chosen[0] && chosen[1] != NO_LEAF);
            }
            assert!(router.route(&points.values, false).iter().all(|chosen| chosen[1] == NO_LEAF));
        }
    }
}
