//! What "near" means: the metrics, and the meaning of the number in each hit.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// How two vectors are compared, and what [`Hit::distance`](crate::Hit::distance) is.
///
/// The metric is recorded in the index when it is created. The number is the same everywhere: for
/// searches with and without a forest, for pending items, and for exact search. It is computed in
/// double precision from the stored components and rounded once to `f32`.
///
/// ```
/// use spinney::Metric;
/// let metric: Metric = "cosine".parse()?;
/// assert_eq!(metric, Metric::Cosine);
/// assert_eq!(metric.to_string(), "cosine");
/// # Ok::<(), spinney::Error>(())
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Metric {
    /// The length of the difference, `sqrt(sum (x_i - q_i)^2)` (not its square). Nearest is
    /// smallest.
    Euclidean,
    /// `1 - cos(x, q)`, from 0 (same direction) to 2 (opposite). Vectors of zeros are refused.
    Cosine,
    /// The inner product `sum x_i q_i` itself. "Nearest" is **largest**, and hits are sorted
    /// largest first.
    DotProduct,
    /// `sum |x_i - q_i|`.
    Manhattan,
    /// The count of components that differ. Components are exactly 0.0 or 1.0, and are stored as
    /// bits.
    Hamming,
}

impl Metric {
    pub(crate) const ALL: [Self; 5] =
        [Self::Euclidean, Self::Cosine, Self::DotProduct, Self::Manhattan, Self::Hamming];

    /// The byte that stands for this metric in the index record.
    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            Self::Euclidean => 1,
            Self::Cosine => 2,
            Self::DotProduct => 3,
            Self::Manhattan => 4,
            Self::Hamming => 5,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.to_byte() == byte)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Euclidean => "euclidean",
            Self::Cosine => "cosine",
            Self::DotProduct => "dot",
            Self::Manhattan => "manhattan",
            Self::Hamming => "hamming",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|metric| metric.name() == name).ok_or_else(|| {
            Error::option("metric", "euclidean, cosine, dot, manhattan or hamming", name)
        })
    }
}
