//! What fallible functions return.

use super::Error;

/// What a fallible operation of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of a function that the caller gave.
pub(crate) type BoxedError = Box<dyn std::error::Error + Send + Sync>;
