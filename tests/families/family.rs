//! What a family of data is.

use spinney::{BuildOptions, Metric};

use super::dice::Dice;

pub const FLOATS: &[Metric] =
    &[Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];
pub const ALL: &[Metric] = &crate::support::METRICS;
pub const LENGTHS: &[Metric] = &[Metric::Euclidean, Metric::Manhattan];
pub const EUCLIDEAN: &[Metric] = &[Metric::Euclidean];

/// Queries that are asked for the nearest alone. More neighbours are asked for by fewer queries.
pub const QUERIES: usize = 1_000;

/// How the items come into the index.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By one build.
    Bulk,
    /// A third by one build, the others by builds of a ninth of what is there. Items that moved
    /// move after the first build.
    Grown,
    /// What is deleted was built, and its deletion was not.
    Unbuilt,
}

/// Items under the ids from 0 on, and what is asked.
#[derive(Default)]
pub struct Data {
    pub rows: Vec<Vec<f32>>,
    pub queries: Vec<Vec<f32>>,
    /// Ids to ask for by their own vectors. If there are none, a sample is asked for.
    pub selves: Vec<u32>,
    /// Vectors that ids had before the first build.
    pub before: Vec<(u32, Vec<f32>)>,
    /// Ids that are deleted after a build.
    pub deleted: Vec<u32>,
}

impl Data {
    /// Items and queries of one distribution.
    pub fn of(count: usize, mut row: impl FnMut() -> Vec<f32>) -> Self {
        let rows = (0..count).map(|_| row()).collect();
        Self { rows, queries: (0..QUERIES).map(|_| row()).collect(), ..Self::default() }
    }
}

/// A kind of data, made anew from a seed.
pub struct Family {
    pub name: &'static str,
    pub metrics: &'static [Metric],
    pub modes: &'static [Mode],
    pub options: BuildOptions<'static>,
    pub make: fn(&mut Dice) -> Data,
}

impl Family {
    pub fn new(
        name: &'static str,
        metrics: &'static [Metric],
        make: fn(&mut Dice) -> Data,
    ) -> Self {
        Self {
            name,
            metrics,
            modes: &[Mode::Bulk, Mode::Grown],
            options: BuildOptions::default(),
            make,
        }
    }

    pub fn modes(self, modes: &'static [Mode]) -> Self {
        Self { modes, ..self }
    }

    pub fn options(self, options: BuildOptions<'static>) -> Self {
        Self { options, ..self }
    }
}
