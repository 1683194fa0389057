//! The SIMD instructions of this machine.

pub(crate) use fearless_simd::Level;

/// The level of this machine, detected once.
pub(crate) fn detect() -> Level {
    static LEVEL: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
    *LEVEL.get_or_init(Level::new)
}

/// Every level of this machine, for tests.
#[cfg(test)]
pub(crate) fn all() -> Vec<Level> {
    let mut levels = vec![Level::baseline(), Level::new()];
    #[cfg(target_arch = "x86_64")]
    {
        levels.extend(Level::new().as_sse4_2().map(Level::Sse4_2));
        levels.extend(Level::new().as_avx2().map(Level::Avx2));
    }
    levels
}
