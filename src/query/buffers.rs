//! Answers that go to memory of the caller's.

use crate::error::{Error, Result};
use crate::index_spec::IndexSpec;
use crate::query::nns::Nns;
use crate::search::{Hit, SearchStats, spare};
use crate::vector::{CheckedVector, check_each};

/// Where the hits of one query go.
pub(crate) struct Row<'b> {
    ids: &'b mut [u32],
    distances: &'b mut [f32],
}

impl Row<'_> {
    /// Writes the hits. Places without one get the id 0 and a distance that is not a number.
    pub(crate) fn write(self, hits: &[Hit]) {
        let mut places = self.ids.iter_mut().zip(self.distances);
        for (hit, (id, distance)) in hits.iter().zip(&mut places) {
            (*id, *distance) = (hit.id, hit.distance);
        }
        places.for_each(|(id, distance)| (*id, *distance) = (0, f32::NAN));
    }
}

/// The queries, each of which suits the index, with the places of their hits.
pub(crate) fn rows<'v, 'b>(
    vectors: &'v [f32],
    spec: IndexSpec,
    k: usize,
    ids: &'b mut [u32],
    distances: &'b mut [f32],
) -> Result<impl ExactSizeIterator<Item = (&'v [f32], Row<'b>)>> {
    let queries = vectors.len() / spec.dims;
    let expected = queries.saturating_mul(k);
    for got in [ids.len(), distances.len()] {
        if got != expected {
            return Err(Error::BufferShape { queries, k, expected, got });
        }
    }
    check_each::<_, ()>(vectors, spec, |_| ())?;
    // Without a place for a hit there is nothing to search for.
    let vectors = if k == 0 { &[] } else { vectors };
    let places = ids.chunks_exact_mut(k.max(1)).zip(distances.chunks_exact_mut(k.max(1)));
    let rows = places.map(|(ids, distances)| Row { ids, distances });
    Ok(vectors.chunks_exact(spec.dims).zip(rows))
}

impl Nns<'_> {
    /// As [`by_vectors`](Self::by_vectors), with the answers written to memory of the caller's: a
    /// batch whose queries allocate nothing, once the largest of them has been answered.
    ///
    /// With the Hamming metric each query is packed, and with [groups](Self::groups) or bounds hits
    /// are gathered, in memory of their own.
    ///
    /// # Shape and units
    /// `vectors`: rows of `dims` numbers each. `ids` and `distances`: `k` for each row, nearest
    /// first. Where there are fewer hits, the places after the last have the id 0 and the distance
    /// NaN, which no hit has.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let (mut ids, mut distances) = ([0; 4], [0.0; 4]);
    /// reader.nns(2).by_vectors_into(&[0.0, 8.0], &mut ids, &mut distances)?; // two rows
    /// assert_eq!(ids, [1, 2, 9, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BufferShape`]; as [`by_vectors`](Self::by_vectors). After an error of a search, the
    /// rows before it are written.
    pub fn by_vectors_into(
        mut self,
        vectors: &[f32],
        ids: &mut [u32],
        distances: &mut [f32],
    ) -> Result<()> {
        self.check()?;
        let spec = self.searcher().spec();
        let mut all = SearchStats::default();
        let mut result = Ok(());
        for (vector, row) in rows(vectors, spec, self.k, ids, distances)? {
            let checked = CheckedVector::new(vector, spec)?;
            match self.run(checked.as_item(), &[], &[]) {
                Ok((hits, stats)) => {
                    all.add(&stats);
                    row.write(&hits);
                    spare::give(hits.into_vec());
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.write_report(&all);
        result
    }
}
