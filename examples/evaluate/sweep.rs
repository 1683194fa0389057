//! Searching on one thread, under the clock.

use std::time::{Duration, Instant};

use spinney::{Hits, Reader, Result, SearchStats};

use crate::queries::Queries;
use crate::truth::Truth;

const POINTS: usize = 16;
const EXACT_QUERIES: usize = 50;
const EXACT_TIME: Duration = Duration::from_secs(3);

/// What every measurement shares.
pub struct Session<'a> {
    pub reader: &'a Reader<'a>,
    pub queries: &'a Queries,
    pub truth: &'a Truth,
    pub oversampling: Option<f32>,
}

/// The option that a search is given.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Knob {
    /// The recall to aim at.
    Recall(f32),
    /// The sketches to scan.
    SearchK(usize),
}

impl Default for Knob {
    fn default() -> Self {
        Self::SearchK(0)
    }
}

impl Knob {
    pub fn search_k(self) -> Option<usize> {
        match self {
            Self::SearchK(search_k) => Some(search_k),
            Self::Recall(_) => None,
        }
    }

    pub fn recall(self) -> Option<f32> {
        match self {
            Self::Recall(recall) => Some(recall),
            Self::SearchK(_) => None,
        }
    }
}

/// The searches of all queries with one knob: recall, microseconds per query, and means per query.
#[derive(Clone, Debug, Default)]
pub struct Point {
    pub knob: Knob,
    pub recall: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub sketches: f64,
    pub branch_sketches: f64,
    pub reranked: f64,
    pub scanned_exactly: f64,
}

/// The exact scan of all items.
pub struct Exact {
    pub queries: usize,
    pub recall: f64,
    pub mean_us: f64,
}

impl Session<'_> {
    fn search(&self, query: &[f32], knob: Knob, searched: &mut SearchStats) -> Result<Hits> {
        let nns = self.reader.nns(self.truth.k()).report(searched);
        let mut nns = match knob {
            Knob::Recall(recall) => nns.recall(recall),
            Knob::SearchK(search_k) => nns.search_k(search_k),
        };
        if let Some(oversampling) = self.oversampling {
            nns = nns.oversampling(oversampling);
        }
        nns.by_vector(query)
    }

    /// Brings every page of the index into memory, and code and branch predictors to speed.
    pub fn warm_up(&self, most: usize) -> Result<()> {
        let mut searched = SearchStats::default();
        for query in self.queries.iter().take(3) {
            self.search(query, Knob::SearchK(most), &mut searched)?;
            self.reader.nns(self.truth.k()).exact().by_vector(query)?;
        }
        for query in self.queries.iter() {
            self.search(query, Knob::Recall(0.95), &mut searched)?;
        }
        Ok(())
    }

    pub fn measure(&self, knob: Knob) -> Result<Point> {
        for query in self.queries.iter().take(20) {
            self.search(query, knob, &mut SearchStats::default())?;
        }
        let mut times = Vec::with_capacity(self.queries.len());
        let mut right = 0;
        let mut point = Point { knob, ..Point::default() };
        for (number, query) in self.queries.iter().enumerate() {
            let mut searched = SearchStats::default();
            let start = Instant::now();
            let hits = self.search(query, knob, &mut searched)?;
            times.push(start.elapsed());
            right += self.truth.right(number, &hits);
            point.sketches += searched.sketches as f64;
            point.branch_sketches += searched.branch_sketches as f64;
            point.reranked += searched.reranked as f64;
            point.scanned_exactly += searched.scanned_exactly as f64;
        }
        let count = times.len() as f64;
        point.recall = right as f64 / (count * self.truth.k() as f64);
        point.sketches /= count;
        point.branch_sketches /= count;
        point.reranked /= count;
        point.scanned_exactly /= count;
        point.mean_us = mean_us(&times);
        times.sort_unstable();
        point.p50_us = percentile_us(&times, 50);
        point.p99_us = percentile_us(&times, 99);
        Ok(point)
    }

    /// A few of the queries by exact search: what a scan of all vectors takes, and whether the
    /// truth agrees with it.
    pub fn measure_exact(&self) -> Result<Exact> {
        let mut times = Vec::new();
        let mut right = 0;
        let begin = Instant::now();
        for (number, query) in self.queries.iter().enumerate().take(EXACT_QUERIES) {
            let start = Instant::now();
            let hits = self.reader.nns(self.truth.k()).exact().by_vector(query)?;
            times.push(start.elapsed());
            right += self.truth.right(number, &hits);
            if begin.elapsed() > EXACT_TIME {
                break;
            }
        }
        Ok(Exact {
            queries: times.len(),
            recall: right as f64 / (times.len() * self.truth.k()) as f64,
            mean_us: mean_us(&times),
        })
    }
}

/// The budgets to try: from `10 k` to `most` sketches, each larger than the one before by the same
/// factor.
#[expect(clippy::cast_possible_truncation, reason = "the budgets lie between two usize")]
pub fn budgets(k: usize, most: usize) -> Vec<usize> {
    let most = most.max(1);
    let least = k.saturating_mul(10).clamp(1, most);
    let factor = (most as f64 / least as f64).powf(1.0 / (POINTS - 1) as f64);
    let mut budgets: Vec<usize> = (0..POINTS)
        .map(|step| (least as f64 * factor.powf(step as f64)).round() as usize)
        .collect();
    budgets[POINTS - 1] = most;
    budgets.dedup();
    budgets
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn mean_us(times: &[Duration]) -> f64 {
    microseconds(times.iter().sum()) / times.len() as f64
}

/// The smallest of the sorted `times` that `percent` of them do not exceed.
fn percentile_us(times: &[Duration], percent: usize) -> f64 {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).map_or(0.0, |time| microseconds(*time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_grow_to_the_most() {
        let many = budgets(10, 200_000);
        assert_eq!((many.len(), many.first(), many.last()), (POINTS, Some(&100), Some(&200_000)));
        assert!(many.is_sorted_by(|a, b| a < b));
        assert_eq!(budgets(10, 60), [60]);
        assert_eq!(budgets(10, 102).last(), Some(&102));
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(percentile_us(&times, 50).round(), 100.0);
        assert_eq!(percentile_us(&times, 99).round(), 198.0);
        assert_eq!(percentile_us(&times[..1], 99).round(), 1.0);
    }
}
