//! Prefetching memory before it is needed.

/// Bytes of a cache line, of the machines there are.
const LINE: usize = 64;

/// Bytes of a page, of most machines.
const PAGE: usize = 4096;

/// Prefetches a line of each page of these bytes, and with it where the page is.
///
/// Finding a page takes as long as reading from it. While it is looked for, its lines fill the
/// queue of the processor. Then all that comes after them waits, too.
#[inline(always)]
pub(crate) fn touch(bytes: &[u8]) {
    for page in bytes.chunks(PAGE) {
        prefetch(&page[..1]);
    }
    // The bytes need not begin where a page does.
    if let Some(last) = bytes.last() {
        prefetch(std::slice::from_ref(last));
    }
}

/// Prefetches the cache lines of these values, without waiting for them.
///
/// Reading a byte of each line needs no unsafe code, but stalls the processor when its queue is
/// full. The lines go to the second level of caches: two leaves, tables and queues are more than
/// the first level holds. Measured: docs/trials.md, "Prefetch level".
#[inline(always)]
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub(crate) fn prefetch<T: Copy>(values: &[T]) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    let start = values.as_ptr().cast::<i8>();
    for at in (0..size_of_val(values)).step_by(LINE) {
        // SAFETY: the instruction is a hint that cannot fault, and the address is that of a byte of
        // a live slice.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(at)) };
    }
}

/// Reads a value of each cache line: the processor loads several lines at a time.
#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn prefetch<T: Copy>(values: &[T]) {
    let step = (LINE / size_of::<T>().max(1)).max(1);
    for value in values.iter().step_by(step) {
        std::hint::black_box(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_slice_will_do_and_stays_as_it_is() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i % 251) as u8).collect();
        for (start, end) in [(0, 0), (1000, 1000), (3, 4), (0, 1000), (63, 129)] {
            prefetch(&bytes[start..end]);
            touch(&bytes[start..end]);
        }
        assert!((0..1000u32).all(|i| bytes[i as usize] == (i % 251) as u8));
    }
}
