//! Where a bulk build finds the points of its items: in its sample, which is in memory, else in
//! LMDB.

use std::borrow::Cow;
use std::ops::Range;

use heed::RoTxn;

use crate::error::Result;
use crate::forest::context::ForestContext;
use crate::format::item::ItemRef;
use crate::math::matrix::Matrix;

/// The rows from which centroids are computed.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Their places in the list of all ids, ascending.
    pub(crate) places: Vec<u32>,
    /// Their points, once the origin is known and they have been placed.
    pub(crate) rows: Matrix,
}

/// All items of an index, by their places in the list of all ids.
///
/// The point of each is needed four times: to find its leaves, to be encoded in both, and to be
/// compared with the queries of the calibration. What is in the sample is not read and rotated
/// again. Measured: docs/trials.md, "points of a build".
#[derive(Copy, Clone)]
pub(crate) struct Points<'a> {
    pub(crate) context: ForestContext<'a>,
    /// Ascending.
    pub(crate) ids: &'a [u32],
    sample: Option<&'a Sample>,
}

impl<'a> Points<'a> {
    pub(crate) fn new(
        context: ForestContext<'a>,
        ids: &'a [u32],
        sample: Option<&'a Sample>,
    ) -> Self {
        Self { context, ids, sample }
    }

    /// The points of items at these places, which ascend.
    pub(crate) fn of_places(&self, rtxn: &RoTxn<'_>, places: &[u32]) -> Result<Matrix> {
        let width = self.context.transform.width;
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
        let put = |item: &ItemRef<'_>| {
            slots.next().into_iter().for_each(|row| self.context.transform.map(item, row))
        };
        self.context.db.visit_items(rtxn, self.context.spec, &unsampled, put)?;
        Ok(rows)
    }

    /// The points of items at neighbouring places.
    pub(crate) fn of_range(
        &self,
        rtxn: &RoTxn<'_>,
        places: Range<usize>,
    ) -> Result<Cow<'a, [f32]>> {
        if let Some(sample) = self.sample.filter(|sample| sample.places.len() == self.ids.len()) {
            let width = sample.rows.width;
            return Ok(Cow::Borrowed(
                &sample.rows.values[places.start * width..places.end * width],
            ));
        }
        // Places are those of ids, which are `u32`.
        let places: Vec<u32> = places.filter_map(|place| u32::try_from(place).ok()).collect();
        Ok(Cow::Owned(self.of_places(rtxn, &places)?.values))
    }

    /// The row of a place in the sample. `after`: how many of the sample come before the place that
    /// was looked for last, or fewer.
    fn sampled(&self, place: u32, after: &mut usize) -> Option<&'a [f32]> {
        let sample = self.sample?;
        let rest = &sample.places[*after..];
        *after += rest.partition_point(|other| *other < place);
        sample.places.get(*after).filter(|other| **other == place).map(|_| sample.rows.row(*after))
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::forest::open::Forest;
    use crate::index_spec::IndexSpec;
    use crate::lmdb::database::{Database, temporary};
    use crate::sketch::transform::Transform;
    use crate::{IndexOptions, Metric, Writer};

    #[test]
    fn points_are_the_same_wherever_they_are_found() {
        let (_folder, env) = temporary(1);
        let db = Database::open_or_create(&env).unwrap();
        let mut wtxn = env.write_txn().unwrap();
        let writer =
            Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(70, Metric::Cosine))
                .unwrap();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
        // Neighbouring places are of distant ids now and then.
        let ids: Vec<u32> = (0..200u32).map(|i| i + i / 50 * 10_000).collect();
        for id in &ids {
            let vector: Vec<f32> = (0..70).map(|_| rng.random_range(-1.0..1.0)).collect();
            writer.add_item(&mut wtxn, *id, &vector).unwrap();
        }
        let spec = IndexSpec::plain(0, 70, Metric::Cosine);
        let record = db.record(&wtxn, 0).unwrap();
        let forest = Forest::new(Transform::new(Metric::Cosine, vec![0.125; 70], 9), &record);
        let context = ForestContext::new(db, spec, &forest, 256);
        let rtxn = wtxn.nested_read_txn().unwrap();
        let expected = |places: &[u32]| {
            context
                .points(&rtxn, &places.iter().map(|place| ids[*place as usize]).collect::<Vec<_>>())
                .unwrap()
        };
        let sample_of = |places: Vec<u32>| Sample { rows: expected(&places), places };
        let all: Vec<u32> = (0..200).collect();
        let samples = [
            None,
            Some(sample_of(Vec::new())),
            Some(sample_of(all.iter().copied().filter(|place| place % 3 == 1).collect())),
            Some(sample_of(all[40..160].to_vec())),
            Some(sample_of(all.clone())),
        ];
        for sample in &samples {
            let points = Points::new(context, &ids, sample.as_ref());
            for places in [&all[..], &all[30..70], &[0, 1, 4, 40, 159, 160, 199][..], &[199], &[]] {
                assert_eq!(points.of_places(&rtxn, places).unwrap(), expected(places));
            }
            for range in [0..200, 20..60, 199..200, 7..7] {
                assert_eq!(
                    points.of_range(&rtxn, range.clone()).unwrap()[..],
                    expected(&all[range]).values[..]
                );
            }
        }
        // What is not in the sample has to be among the items.
        let missing = Points::new(context, &[0, 1, 777], samples[1].as_ref());
        assert!(matches!(missing.of_places(&rtxn, &[0, 2]), Err(crate::Error::Corrupted { .. })));
    }
}
