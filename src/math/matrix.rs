//! Points in memory, one after the other.

use std::borrow::Cow;

use crate::kernel::{gemm, simd};

/// Rows of `width` floats, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Matrix {
    pub(crate) values: Vec<f32>,
    pub(crate) width: usize,
}

impl Matrix {
    pub(crate) fn new(width: usize) -> Self {
        Self { values: Vec::new(), width }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len() / self.width
    }

    pub(crate) fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.width..(i + 1) * self.width]
    }

    pub(crate) fn push(&mut self, row: &[f32]) {
        self.values.extend_from_slice(row);
    }

    /// The rows of these numbers, in this order.
    pub(crate) fn gather(&self, rows: &[u32]) -> Self {
        let mut out =
            Self { values: Vec::with_capacity(rows.len() * self.width), width: self.width };
        rows.iter().for_each(|i| out.push(self.row(*i as usize)));
        out
    }

    /// As [`Matrix::gather`] for different rows, ascending. No copy if these are all rows.
    pub(crate) fn gathered(&self, rows: &[u32]) -> Cow<'_, Self> {
        if rows.len() == self.len() { Cow::Borrowed(self) } else { Cow::Owned(self.gather(rows)) }
    }

    /// The median of each component over all rows; zeros if there is none. Unlike the mean it stays
    /// where the rows are when one of them is far away.
    pub(crate) fn median(&self) -> Vec<f32> {
        let len = self.len();
        let mut column = vec![0.0; len];
        let mut median = |component: usize| {
            let rows = self.values.chunks_exact(self.width);
            column.iter_mut().zip(rows).for_each(|(x, row)| *x = row[component]);
            *column.select_nth_unstable_by(len / 2, f32::total_cmp).1
        };
        (0..self.width).map(|i| if len == 0 { 0.0 } else { median(i) }).collect()
    }

    /// The mean of all rows; zeros if there is none.
    pub(crate) fn mean(&self) -> Vec<f32> {
        mean(self.values.chunks_exact(self.width), self.width)
    }
}

/// The mean of some rows; zeros if there is none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a mean is no larger than its rows"
)]
pub(super) fn mean<'a>(rows: impl Iterator<Item = &'a [f32]>, width: usize) -> Vec<f32> {
    let (mut sums, mut count) = (vec![0.0f64; width], 0usize);
    let simd = simd::detect();
    for row in rows {
        gemm::add_to(simd, &mut sums, row);
        count += 1;
    }
    sums.into_iter().map(|sum| (sum / count.max(1) as f64) as f32).collect()
}
