//! What the examples and benchmarks of spinney share.
//!
//! - [`files`]: readers of vectors and of exact answers, in the formats of nearest-neighbour
//!   benchmarks.
//! - [`passages`]: the bundled passages with their embeddings.
//! - [`sets`], [`rows`]: the data sets of the benchmarks, and as many of their rows as are wanted.
//! - [`store`], [`changes`], [`meter`]: an index of such rows, changes to it, and what they cost.
//! - [`args`]: options of command lines.
#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

pub mod args;
pub mod changes;
pub mod files;
pub mod meter;
pub mod passages;
pub mod rows;
pub mod sets;
pub mod store;

use std::error::Error;
use std::process::ExitCode;

/// The command-line parser that programs derive their options with.
pub use clap;

/// The result of a program whose errors are only printed.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Ends `main`: prints an error as a person reads it. A `main` that returns it would print it by
/// `Debug`.
pub fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
