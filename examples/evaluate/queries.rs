//! The vectors to search with.

use std::path::Path;

use bench_kit::files::{FileError, VectorFile};

pub struct Queries {
    values: Vec<f32>,
    dims: usize,
    /// Rows of the file, of which the first ones are held.
    rows_in_file: usize,
}

impl Queries {
    /// Reads the first `limit` vectors of `path`, or all.
    pub fn read(path: &Path, limit: Option<usize>) -> Result<Self, FileError> {
        let mut file = VectorFile::open(path)?;
        Ok(Self {
            values: file.read(limit.unwrap_or(usize::MAX))?,
            dims: file.dims(),
            rows_in_file: file.rows(),
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dims)
    }

    pub fn len(&self) -> usize {
        self.values.len() / self.dims
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub fn dims(&self) -> usize {
        self.dims
    }

    pub fn rows_in_file(&self) -> usize {
        self.rows_in_file
    }
}
