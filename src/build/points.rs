//! Where a bulk build finds the points of its items: in its sample, which is in memory, else in LMDB.

use std::borrow::Cow;
use std::ops::Range;

use heed::RoTxn;

use super::site::Site;
use crate::cluster::Matrix;
use crate::error::Result;
use crate::format::item::ItemRef;

/// The rows from which centroids are computed.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Their places in the list of all ids, ascending.
    pub(crate) places: Vec<u32>,
    /// Their points.
    pub(crate) rows: Matrix,
}

/// All items of an index, by their places in the list of all ids.
///
/// Reading an item and rotating it takes as long as comparing it with some hundred centroids, and each is needed four times: to
/// find its leaves, to be encoded in both, and to be compared with the queries of the calibration. Up to 262,144 vectors of 128
/// dimensions are all in the sample, which took 15 percent off the time of a build of 100,000.
#[derive(Copy, Clone)]
pub(crate) struct Points<'a> {
    site: Site<'a>,
    /// Ascending.
    pub(crate) ids: &'a [u32],
    sample: Option<&'a Sample>,
}

impl<'a> Points<'a> {
    pub(crate) fn new(site: Site<'a>, ids: &'a [u32], sample: Option<&'a Sample>) -> Self {
        Self { site, ids, sample }
    }

    /// The points of items at these places, which ascend.
    pub(crate) fn at(&self, rtxn: &RoTxn<'_>, places: &[u32]) -> Result<Matrix> {
        let width = self.site.space.width;
        let mut rows = Matrix { values: vec![0.0; places.len() * width], width };
        let (mut unsampled, mut slots) = (Vec::new(), Vec::new());
        let mut after = 0;
        for (place, row) in places.iter().zip(rows.values.chunks_exact_mut(width)) {
            match self.sampled(*place, &mut after) {
                Some(known) => row.copy_from_slice(known),
                None => {
                    unsampled.push(self.ids[*place as usize]);
                    slots.push(row);
                }
            }
        }
        let mut slots = slots.into_iter();
        let put = |item: &ItemRef<'_>| slots.next().into_iter().for_each(|row| self.site.space.map(item, row));
        self.site.db.visit_items(rtxn, self.site.of, &unsampled, put)?;
        Ok(rows)
    }

    /// The points of items at neighbouring places.
    pub(crate) fn within(&self, rtxn: &RoTxn<'_>, places: Range<usize>) -> Result<Cow<'a, [f32]>> {
        if let Some(sample) = self.sample.filter(|sample| sample.places.len() == self.ids.len()) {
            let width = sample.rows.width;
            return Ok(Cow::Borrowed(&sample.rows.values[places.start * width..places.end * width]));
        }
        // Places are those of ids, which are `u32`.
        let places: Vec<u32> = places.filter_map(|place| u32::try_from(place).ok()).collect();
        Ok(Cow::Owned(self.at(rtxn, &places)?.values))
    }

    /// The row of a place in the sample. `after`: how many of the sample come before the place that was looked for last, or
    /// fewer.
    fn sampled(&self, place: u32, after: &mut usize) -> Option<&'a [f32]> {
        let sample = self.sample?;
        let rest = &sample.places[*after..];
        *after += rest.partition_point(|other| *other < place);
        sample.places.get(*after).filter(|other| **other == place).map(|_| sample.rows.row(*after))
    }
}
