//! A leaf under change: its ids and its sketches, one by one.

use heed::RoTxn;

use crate::error::Result;
use crate::forest::context::ForestContext;
use crate::format::node::leaf_value;
use crate::key::Key;
use crate::lmdb::item::StoredItem;
use crate::math::matrix::Matrix;
use crate::sketch::codes::Sketches;
use crate::sketch::quantizer::Quantizer;

/// A leaf taken out of its value.
#[derive(Clone, Debug)]
pub(crate) struct LeafEdit {
    /// Ascending.
    pub(crate) ids: Vec<u32>,
    pub(crate) sketches: Sketches,
    /// Whether it differs from what is stored.
    pub(crate) is_changed: bool,
}

impl LeafEdit {
    /// Takes a stored leaf out of its value.
    pub(crate) fn take(context: &ForestContext<'_>, rtxn: &RoTxn<'_>, key: Key) -> Result<Self> {
        let leaf = context.sealed_leaf(rtxn, key)?;
        Ok(Self {
            // Changes find their place among the ids by their order.
            ids: leaf.ascending_ids(key)?,
            sketches: Sketches::unpack(&leaf.node),
            is_changed: false,
        })
    }

    /// A new leaf of these items, ascending, around a centroid; `points` are theirs.
    pub(crate) fn new(
        context: &ForestContext<'_>,
        rtxn: &RoTxn<'_>,
        ids: Vec<u32>,
        centroid: Vec<f32>,
        points: &Matrix,
    ) -> Result<Self> {
        let mut sketches = Sketches::new(Quantizer::new(
            context.transform,
            context.leaf,
            centroid,
            &points.values,
        ));
        for (i, id) in ids.iter().enumerate() {
            let stored = context.bits_of(rtxn, *id)?;
            let item = stored.as_ref().map(StoredItem::view).transpose()?;
            sketches.insert(i, context.transform, points.row(i), item.as_ref());
        }
        Ok(Self { ids, sketches, is_changed: true })
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn contains(&self, id: u32) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    pub(crate) fn centroid(&self) -> &[f32] {
        &self.sketches.quantizer.centroid
    }

    /// Adds an item at its point, unless it is here already.
    pub(crate) fn insert(
        &mut self,
        context: &ForestContext<'_>,
        rtxn: &RoTxn<'_>,
        id: u32,
        point: &[f32],
    ) -> Result<()> {
        if let Err(position) = self.ids.binary_search(&id) {
            let stored = context.bits_of(rtxn, id)?;
            let item = stored.as_ref().map(StoredItem::view).transpose()?;
            self.sketches.insert(position, context.transform, point, item.as_ref());
            self.ids.insert(position, id);
            self.is_changed = true;
        }
        Ok(())
    }

    /// Removes an item; `false` if it is not here.
    pub(crate) fn remove(&mut self, id: u32) -> bool {
        let Ok(position) = self.ids.binary_search(&id) else { return false };
        self.ids.remove(position);
        self.sketches.remove(position);
        self.is_changed = true;
        true
    }

    pub(crate) fn value(&self) -> Vec<u8> {
        leaf_value(&self.sketches.pack(), &self.ids)
    }
}
