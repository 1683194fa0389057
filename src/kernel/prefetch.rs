//! Sending for memory before it is needed: the only unsafe code of the library.

/// Bytes of a cache line, of the machines there are.
const LINE: usize = 64;

/// Asks for the cache lines of these bytes, without waiting for them.
///
/// Reading a byte of each line instead, which needs no unsafe code, holds the processor up once the instructions after the
/// first one that is far away have filled its queue.
#[inline]
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub(crate) fn prefetch(bytes: &[u8]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for line in bytes.chunks(LINE) {
        // SAFETY: the instruction is a hint that cannot fault, and the address is that of a byte of a live slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

/// Reads a byte of each cache line, which sends for as many of them at once as the processor can.
#[inline]
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn prefetch(bytes: &[u8]) {
    std::hint::black_box(bytes.iter().step_by(LINE).fold(0, |sum, byte| sum ^ byte));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_slice_will_do_and_stays_as_it_is() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i % 251) as u8).collect();
        for (start, end) in [(0, 0), (1000, 1000), (3, 4), (0, 1000), (63, 129)] {
            prefetch(&bytes[start..end]);
        }
        assert!((0..1000u32).all(|i| bytes[i as usize] == (i % 251) as u8));
    }
}
