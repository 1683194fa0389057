//! Values of command-line options.

use crate::Result;

/// A number of something, at least one.
pub fn count(name: &str, value: &str) -> Result<usize> {
    match value.replace('_', "").parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{name}: expected a whole number, at least 1, got \"{value}\"").into()),
    }
}
