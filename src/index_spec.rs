//! What all code that reads an index needs to know of it.

use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::storage::Storage;

/// Which index it is, and what its vectors are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexSpec {
    pub(crate) index: u16,
    pub(crate) dims: usize,
    pub(crate) metric: Metric,
}

impl IndexSpec {
    /// How its vectors are stored.
    pub(crate) const fn storage(self) -> Storage {
        if self.metric.is_of_bits() { Storage::Bits } else { Storage::F32 }
    }

    /// An error unless an index that was asked for is this one.
    pub(crate) fn expect(self, got: Self) -> Result<()> {
        let index = self.index;
        if self.metric != got.metric {
            return Err(Error::MetricMismatch { index, expected: self.metric, got: got.metric });
        }
        if self.dims != got.dims {
            return Err(Error::DimensionsMismatch { index, expected: self.dims, got: got.dims });
        }
        Ok(())
    }
}
