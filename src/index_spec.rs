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
    pub(crate) storage: Storage,
}

impl IndexSpec {
    /// An index whose vectors are stored as they are.
    #[cfg(test)]
    pub(crate) const fn plain(index: u16, dims: usize, metric: Metric) -> Self {
        Self { index, dims, metric, storage: Storage::default_for(metric) }
    }

    /// Bytes of the components of one of its vectors.
    pub(crate) const fn component_bytes(self) -> usize {
        self.storage.bytes(self.dims)
    }

    /// An error unless vectors of its metric can be stored so.
    pub(crate) fn check_storage(self) -> Result<Self> {
        if self.storage.suits(self.metric) {
            return Ok(self);
        }
        Err(Error::option("storage", "bits, as the metric is Hamming", self.storage))
    }

    /// An error unless an index that was asked for is this one, however it is stored.
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
