//! The ids of a leaf: a view over a serialised Roaring bitmap, read in place.
//!
//! The bytes follow the [Roaring format
//! specification](https://github.com/RoaringBitmap/RoaringFormatSpec), restricted to bitmaps
//! without run containers (cookie 12346), and any Roaring library reads them. Deserialising would
//! allocate per container; a leaf's few hundred ids are spread over many small array containers, so
//! the search reads them as they lie.

use roaring::RoaringBitmap;

use crate::kernel::prefetch::prefetch;
use crate::limits::LEAF_SIZES;

/// First four bytes of a Roaring bitmap without run containers.
const COOKIE: u32 = 12346;
/// Containers with more values than this are bitmaps of 8 KiB, the others arrays of `u16`.
const ARRAY_MAX: usize = 4096;
const BITMAP_BYTES: usize = 8192;
/// Ids that a leaf has at most.
const MAX_IDS: usize = LEAF_SIZES.high;
const _: () = assert!(MAX_IDS <= ARRAY_MAX);

/// A checked view over the containers of a Roaring bitmap.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Containers<'t> {
    /// Cookie and number of containers. Then for each a `u16` key and a `u16` (cardinality - 1).
    /// Then for each a `u32` offset from the start of the bitmap.
    bytes: &'t [u8],
    /// How many there are.
    count: u32,
    /// How many values they hold: of 2^16 containers with 2^16 each, 2^32 at most.
    len: u32,
}

impl<'t> Containers<'t> {
    /// Checks the structure; `None` if these are not the bytes of a bitmap. Costs O(containers):
    /// what is in them is not looked at.
    pub(crate) fn parse(bytes: &'t [u8]) -> Option<Self> {
        let (cookie, count) = (read_u32(bytes, 0)?, read_u32(bytes, 4)?);
        if cookie != COOKIE || count > 1 << 16 {
            return None;
        }
        let mut containers = Self { bytes, count, len: 0 };
        let mut previous = None;
        for i in 0..count as usize {
            let container = containers.container(i)?;
            if previous >= Some(container.high) {
                return None;
            }
            previous = Some(container.high);
            containers.len = containers.len.saturating_add(u32::try_from(container.len).ok()?);
        }
        Some(containers)
    }

    fn container(&self, i: usize) -> Option<Container<'t>> {
        let (descriptor, offset) = (8 + 4 * i, 8 + 4 * (self.count as usize + i));
        let high = u32::from(read_u16(self.bytes, descriptor)?);
        let len = usize::from(read_u16(self.bytes, descriptor + 2)?) + 1;
        let start = read_u32(self.bytes, offset)? as usize;
        let bytes = if len <= ARRAY_MAX { 2 * len } else { BITMAP_BYTES };
        Some(Container { high, len, values: self.bytes.get(start..start.checked_add(bytes)?)? })
    }

    fn iter(self) -> impl Iterator<Item = Container<'t>> {
        (0..self.count as usize).map_while(move |i| self.container(i))
    }

    /// Sets the bit of each id, less `first`, which is a multiple of 64 and not above any of them.
    /// Ids beyond the end are left out.
    pub(crate) fn write_bits(self, first: u32, bits: &mut [u64]) {
        for container in self.iter() {
            let start = u64::from(container.high) << 16;
            if container.len > ARRAY_MAX {
                // Words before the first one hold no id.
                let skipped = (u64::from(first).saturating_sub(start) / 64) as usize;
                let at = (start.saturating_sub(u64::from(first)) / 64) as usize;
                let words = container.values.as_chunks::<8>().0.iter().skip(skipped);
                let bits = bits.iter_mut().skip(at);
                bits.zip(words).for_each(|(bits, word)| *bits |= u64::from_le_bytes(*word));
                continue;
            }
            for value in container.array() {
                let at = start + u64::from(u16::from_le_bytes(*value));
                let at = at.wrapping_sub(u64::from(first));
                if let Some(word) =
                    usize::try_from(at / 64).ok().and_then(|word| bits.get_mut(word))
                {
                    *word |= 1 << (at % 64);
                }
            }
        }
    }
}

/// A checked view over the ids of a leaf. The sketch at position `i` belongs to the `i`-th id.
///
/// A leaf has so few ids that each container is an array, whose length is how many it holds: no
/// bytes whatever make these two differ. That the ids ascend is not looked at.
#[derive(Copy, Clone, Debug)]
pub(crate) struct IdSetRef<'t>(Containers<'t>);

impl<'t> IdSetRef<'t> {
    /// Checks the structure; `None` if these are not the bytes of a leaf's ids. Costs
    /// O(containers).
    pub(crate) fn parse(bytes: &'t [u8]) -> Option<Self> {
        Containers::parse(bytes).filter(|containers| containers.len as usize <= MAX_IDS).map(Self)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len as usize
    }

    /// Prefetches the bitmap.
    pub(crate) fn prefetch(&self) {
        prefetch(self.0.bytes);
    }

    /// Bytes of the bitmap.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes.len()
    }

    /// The ids.
    pub(crate) fn iter(self) -> impl Iterator<Item = u32> + 't {
        self.0
            .iter()
            .flat_map(|container| container.array().iter().map(move |value| container.id(*value)))
    }

    /// Calls `visit` with every position and its id, in order; faster than [`IdSetRef::iter`].
    #[inline]
    pub(crate) fn for_each(self, mut visit: impl FnMut(usize, u32)) {
        let mut before = 0;
        for container in self.0.iter() {
            for (rank, value) in container.array().iter().enumerate() {
                visit(before + rank, container.id(*value));
            }
            before += container.len;
        }
    }

    /// Whether this id is in the set: O(containers), and a binary search within one.
    pub(crate) fn contains(self, id: u32) -> bool {
        let container = self.0.iter().find(|container| container.high == id >> 16);
        container.is_some_and(|container| {
            container.array().binary_search_by_key(&id, |value| container.id(*value)).is_ok()
        })
    }

    /// Calls `visit` with the id at each of `positions`, which ascend; ends early if a position has
    /// no id.
    ///
    /// One walk over the containers serves all positions: O(containers + positions).
    pub(crate) fn select<P: Copy>(
        self,
        positions: impl Iterator<Item = (usize, P)>,
        mut visit: impl FnMut(u32, P),
    ) -> Option<()> {
        let mut containers = self.0.iter();
        let mut current = containers.next();
        let mut before = 0;
        for (position, payload) in positions {
            let id = loop {
                let container = current.as_ref()?;
                if position < before + container.len {
                    break container.id(*container.array().get(position - before)?);
                }
                before += container.len;
                current = containers.next();
            };
            visit(id, payload);
        }
        Some(())
    }
}

/// The ids that share their upper 16 bits.
#[derive(Copy, Clone)]
struct Container<'t> {
    high: u32,
    len: usize,
    values: &'t [u8],
}

impl<'t> Container<'t> {
    /// The lower halves of the ids, unless it is a bitmap.
    fn array(&self) -> &'t [[u8; 2]] {
        self.values.as_chunks().0
    }

    fn id(&self, value: [u8; 2]) -> u32 {
        self.high << 16 | u32::from(u16::from_le_bytes(value))
    }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Appends the set of `ids`, which ascend strictly, and returns its length in bytes.
pub(crate) fn write_set(out: &mut Vec<u8>, ids: &[u32]) -> usize {
    let mut bitmap: RoaringBitmap = ids.iter().collect();
    bitmap.remove_run_compression();
    let start = out.len();
    // Writing to a Vec cannot fail.
    let _ = bitmap.serialize_into(&mut *out);
    out.len() - start
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(ids: &[u32]) {
        let mut bytes = Vec::new();
        assert_eq!(write_set(&mut bytes, ids), bytes.len());
        let set = IdSetRef::parse(&bytes).expect("our own bytes");
        assert_eq!(set.len(), ids.len());
        assert!(set.iter().eq(ids.iter().copied()));
        let mut visited = Vec::new();
        set.for_each(|position, id| visited.push((position, id)));
        assert!(visited.into_iter().eq(ids.iter().copied().enumerate()));
        let mut picked = Vec::new();
        set.select((0..ids.len()).step_by(3).map(|p| (p, ())), |id, ()| picked.push(id))
            .expect("positions in range");
        assert!(picked.into_iter().eq(ids.iter().copied().step_by(3)));
        for id in ids.iter().copied().step_by(7) {
            assert!(set.contains(id));
            let next = id.wrapping_add(1);
            assert_eq!(set.contains(next), ids.binary_search(&next).is_ok());
        }
        assert_eq!(set.select([(ids.len(), ())].into_iter(), |_, ()| ()), None);
        let back = RoaringBitmap::deserialize_from(&bytes[..]).expect("a plain Roaring bitmap");
        assert!(back.iter().eq(ids.iter().copied()));
    }

    #[test]
    fn few_many_and_extremes() {
        check(&[]);
        check(&[0, u32::MAX]);
        check(&(0..4_096).collect::<Vec<_>>());
        check(&(65_000..66_000).collect::<Vec<_>>());
        check(&(0..4_096).map(|i| i * 70).collect::<Vec<_>>());
        check(&(0..300).map(|i| i * 14_000_000).collect::<Vec<_>>());
    }

    #[test]
    fn what_no_leaf_holds_is_refused() {
        for ids in [(0..4_097).collect::<Vec<u32>>(), (0..4_097).map(|i| i * 70).collect()] {
            let mut bytes = Vec::new();
            write_set(&mut bytes, &ids);
            assert!(IdSetRef::parse(&bytes).is_none() && Containers::parse(&bytes).is_some());
        }
    }

    #[test]
    fn bits_are_those_of_the_ids() {
        for ids in [
            (65_000..75_000).collect::<Vec<u32>>(),
            (0..20_000).map(|i| i * 7).collect(),
            vec![7, 70_000],
            vec![],
        ] {
            let mut bytes = Vec::new();
            write_set(&mut bytes, &ids);
            let first = ids.first().map_or(0, |id| id / 64 * 64);
            // Fewer words than the ids take.
            let mut bits = vec![0; 2_000];
            Containers::parse(&bytes).unwrap().write_bits(first, &mut bits);
            let set = (0..64 * 2_000)
                .filter(|at| bits[*at as usize / 64] >> (at % 64) & 1 == 1)
                .map(|at| at + first);
            assert!(set.eq(ids.iter().copied().filter(|id| id - first < 64 * 2_000)));
        }
    }

    proptest! {
        #[test]
        fn any_set_is_read_back(ids in prop::collection::btree_set(any::<u32>(), 0..400)) {
            check(&ids.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_make_it_panic(
            ids in prop::collection::btree_set(0u32..200_000, 0..200),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            write_set(&mut bytes, &ids.into_iter().collect::<Vec<_>>());
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            if let Some(set) = IdSetRef::parse(&bytes) {
                let _ = (set.contains(7), set.contains(70_000));
                let mut count = 0;
                set.for_each(|position, _| count += usize::from(position < set.len()));
                assert_eq!((set.iter().count(), count), (set.len(), set.len()));
                let _ = set.select((0..set.len() + 1).map(|p| (p, ())), |_, ()| ());
            }
        }
    }
}
