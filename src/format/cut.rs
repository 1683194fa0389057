//! Where the values of long items are cut in two.
//!
//! LMDB keeps a long value on pages of its own, and what is left of the last of them is waste. A
//! value that reaches just past a page is cut there. Its *head* fills whole pages, and its *tail*
//! shares a page with others. Measured: docs/trials.md, "Values cut at a page".

/// Bytes of a page. They are part of the format: where LMDB has larger pages, cutting saves
/// nothing and does no harm.
const PAGE: usize = 4096;
/// Bytes before the first value in pages of its own.
const PAGE_HEADER: usize = 16;
/// The longest tail. Of longer ones too few fit a page where ids come in no order.
const MAX_TAIL: usize = PAGE / 8;

/// The length of the head of an item's value of so many bytes: all of it, unless it is cut.
pub(crate) const fn head_bytes(len: usize) -> usize {
    let tail = (len + PAGE_HEADER) % PAGE;
    if len >= PAGE && tail <= MAX_TAIL { len - tail } else { len }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_reach_just_past_a_page_are_cut_there() {
        let cases = [
            (16, 16),
            (1008, 1008),
            (2016, 2016),
            (4064, 4064),
            (4080, 4080),
            (4096, 4080),
            (4112, 4080),
            (4592, 4080),
            (4608, 4608),
            (6160, 6160),
            (8176, 8176),
            (8192, 8176),
            (8208, 8176),
            (12_304, 12_272),
            (262_160, 262_128),
        ];
        for (len, head) in cases {
            assert_eq!(head_bytes(len), head, "{len}");
        }
        for len in (0..40_000).step_by(16) {
            let head = head_bytes(len);
            // What is cut has a head of whole pages and a short tail, and is not cut again.
            assert!(
                head == len || (head + PAGE_HEADER).is_multiple_of(PAGE) && len - head <= MAX_TAIL
            );
            assert_eq!(head_bytes(head), head);
            // What is not cut has no pages to fill, or fills some of the last.
            let is_filled = len < PAGE || len % PAGE == PAGE - PAGE_HEADER;
            assert!(head < len || is_filled || (len + PAGE_HEADER) % PAGE > MAX_TAIL);
        }
    }
}
