//! The data sets of the benchmarks, each a folder of files.

use std::fmt;
use std::path::Path;

use clap::ValueEnum;
use spinney::Metric;

use crate::Result;
use crate::files::VectorFile;

/// A data set, known by the name of its folder.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum SetName {
    /// 128 dimensions, Euclidean
    Sift,
    /// 384 dimensions, cosine
    Minilm,
}

impl SetName {
    /// Every data set.
    pub const ALL: [Self; 2] = [Self::Sift, Self::Minilm];

    /// The name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sift => "sift",
            Self::Minilm => "minilm",
        }
    }

    /// The components of its rows.
    pub fn dims(self) -> usize {
        match self {
            Self::Sift => 128,
            Self::Minilm => 384,
        }
    }

    /// What its rows are compared by.
    pub fn metric(self) -> Metric {
        match self {
            Self::Sift => Metric::Euclidean,
            Self::Minilm => Metric::Cosine,
        }
    }

    /// Opens the file of a part of the set, such as `train`; `None` if there is none of any format.
    ///
    /// # Errors
    /// What [`VectorFile::open`] says.
    pub fn find(self, folder: &Path, part: &str) -> Result<Option<VectorFile>> {
        let endings = ["fbin", "u8bin", "i8bin", "npy"].into_iter();
        let mut paths =
            endings.map(|ending| folder.join(self.name()).join(part).with_extension(ending));
        let path = paths.find(|path| path.is_file());
        Ok(path.map(|path| VectorFile::open(&path)).transpose()?)
    }

    /// As [`SetName::find`], for a file that has to be there.
    ///
    /// # Errors
    /// If it is not there, too.
    pub fn open(self, folder: &Path, part: &str) -> Result<VectorFile> {
        self.find(folder, part)?.ok_or_else(|| {
            let folder = folder.join(self.name());
            let folder = folder.display();
            format!("{folder}: expected {part}.fbin, .u8bin, .i8bin or .npy in it").into()
        })
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
