//! Files of nearest-neighbour benchmarks, checked when they are opened.

mod neighbours;
mod npy;
mod vectors;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use neighbours::Neighbours;
pub use vectors::VectorFile;

/// A file that cannot be read, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The system cannot read it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its name ends like that of no format.
    #[error("expected a file ending in .fbin, .u8bin, .i8bin or .npy")]
    Ending,
    /// It is too short to say what it holds.
    #[error("the file ends inside its header")]
    ShortHeader,
    /// The header says what the reader does not know.
    #[error("expected {expected}, got \"{got}\"")]
    Header {
        /// What can be read.
        expected: &'static str,
        /// What the header says.
        got: String,
    },
    /// The header promises another number of bytes than the file has.
    #[error("the header promises {rows} x {row_len}: expected {expected} bytes, got {got}")]
    Size {
        /// Rows, as the header says.
        rows: u64,
        /// Numbers of a row, as the header says.
        row_len: u64,
        /// Bytes that the file would have; the largest number if it would have more.
        expected: u64,
        /// Bytes that the file has.
        got: u64,
    },
}

impl Problem {
    fn of(self, path: &Path) -> FileError {
        FileError { path: path.to_path_buf(), problem: self }
    }
}

/// Reads the first `N` bytes left in a header.
fn take<const N: usize>(input: &mut impl Read) -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    match input.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Problem::ShortHeader),
        Err(error) => Err(error.into()),
    }
}
