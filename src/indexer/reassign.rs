//! Splitting a leaf, moving its centroid, and reassigning the items around it (LIRE: Xu et al.,
//! SPFresh, SOSP 2023).

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::forest::context::ForestContext;
use crate::forest::route::{SHORTLIST, second_leaf};
use crate::format::node::NodeRef;
use crate::indexer::find::{Finder, choose};
use crate::indexer::leaf_edit::LeafEdit;
use crate::indexer::tree_edit::{TreeEdit, TreeView};
use crate::kernel::layout::Code;
use crate::lmdb::workers::Workers;
use crate::math::kmeans::{assign, kmeans, members, split};
use crate::math::matrix::Matrix;
use crate::math::scored::Scored;
use crate::sketch::prepared::{Prepared, ScanOptions};

/// Leaves around a changed one whose items may be nearer to it now. This and the slack were not
/// swept: docs/trials.md, "choices that were not swept".
const NEIGHBOUR_LEAVES: usize = 20;
/// An entry is looked at if a changed centroid is at most this many times as far as its own. Both
/// distances are estimates, for whose error this allows.
const ESTIMATE_SLACK: f32 = 1.15;
/// Items that one task looks at.
const REASSIGNED_PER_TASK: usize = 64;

/// Leaves that lie together, some of which have changed.
#[derive(Default)]
struct Neighbourhood {
    /// The centroid of each leaf.
    leaves: BTreeMap<u32, Vec<f32>>,
    /// How many items more each leaf can take in.
    room: BTreeMap<u32, usize>,
    /// Leaves that are new or whose centroid moved.
    changed: Vec<u32>,
}

impl Neighbourhood {
    /// Notes a leaf that is new or whose centroid moved.
    fn change(&mut self, leaf: u32, centroid: Vec<f32>) {
        self.leaves.insert(leaf, centroid);
        self.changed.push(leaf);
    }

    /// The rows that are nearer to this leaf than to the others.
    fn rows_of(&self, context: &ForestContext<'_>, points: &Matrix, leaf: u32) -> Vec<u32> {
        let Some(own) = self.leaves.get(&leaf) else { return Vec::new() };
        let is_own = |row: &u32| {
            let point = points.row(*row as usize);
            let distance = context.distance(point, own);
            self.leaves.values().all(|centroid| context.distance(point, centroid) >= distance)
        };
        (0u32..).take(points.len()).filter(is_own).collect()
    }

    /// Queries at the centroids of the changed leaves.
    fn prepared(&self, context: &ForestContext<'_>) -> Vec<Prepared> {
        let centroids = self.changed.iter().filter_map(|leaf| self.leaves.get(leaf));
        let prepared = |centroid: &Vec<f32>| {
            Prepared::for_leaves(context.transform, centroid.clone(), context.leaf)
        };
        centroids.map(prepared).collect()
    }

    /// The leaves that an item may be in, nearest first, if it is in `leaves` now. None if no
    /// changed leaf is as near as the farther of these.
    fn candidates(
        &self,
        context: &ForestContext<'_>,
        point: &[f32],
        leaves: &[u32],
    ) -> Option<Vec<Scored>> {
        let scored =
            |(leaf, c): (&u32, &Vec<f32>)| Scored { score: context.distance(point, c), id: *leaf };
        let mut near: Vec<Scored> = self.leaves.iter().map(scored).collect();
        // Among leaves equally near, its own come first. Copies of one vector would else all move
        // to the same leaves, which would be split again and again.
        near.sort_unstable_by(|a, b| {
            let is_other = |near: &Scored| !leaves.contains(&near.id);
            a.score.total_cmp(&b.score).then(is_other(a).cmp(&is_other(b))).then(a.id.cmp(&b.id))
        });
        let farther = near.iter().rposition(|near| leaves.contains(&near.id)).unwrap_or(0);
        if !near[..=farther].iter().any(|near| self.changed.contains(&near.id)) {
            return None;
        }
        let has_room = |leaf: &u32| self.room.get(leaf).is_some_and(|room| *room > 0);
        near.retain(|near| leaves.contains(&near.id) || has_room(&near.id));
        Some(near)
    }
}

/// An item that should change leaves.
struct Reassignment {
    id: u32,
    point: Vec<f32>,
    from: Vec<u32>,
    to: Vec<u32>,
}

/// What becomes a leaf of a leaf that is split.
struct LeafPart {
    rows: Vec<u32>,
    centroid: Vec<f32>,
}

impl LeafPart {
    /// Rows with their mean.
    fn new(points: &Matrix, rows: Vec<u32>) -> Self {
        Self { centroid: points.gather(&rows).mean(), rows }
    }
}

impl TreeEdit<'_> {
    /// Divides a leaf into parts of at most `max` entries, and reassigns the items around it. With
    /// one part only its centroid moves.
    pub(crate) fn split_leaf(
        &mut self,
        workers: &mut Workers<'_>,
        leaf: u32,
        max: usize,
        seed: u64,
    ) -> Result<()> {
        let (context, rtxn) = (self.context, self.rtxn);
        let ids = self.leaf_mut(leaf)?.ids.clone();
        let points = context.points(rtxn, &ids)?;
        let seed = seed ^ (u64::from(leaf) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut around = self.neighbourhood(leaf)?;
        let set_apart = self
            .stretched
            .remove(&leaf)
            .and_then(|middle| set_apart(&context, &points, &middle, around.leaves.get(&leaf)?));
        let parts = set_apart.unwrap_or_else(|| {
            let own = around.rows_of(&context, &points, leaf);
            leaf_parts(&context, &points, &own, max, seed)
        });
        self.stats.split += u64::from(parts.len() > 1);
        let sibling = self.created.get(&leaf).copied().unwrap_or(leaf);
        for (i, LeafPart { rows, centroid }) in parts.into_iter().enumerate() {
            let id = if i == 0 { leaf } else { self.leaf_ids.take(self.key(leaf))? };
            let part = points.gather(&rows);
            let members = rows.iter().map(|row| ids[*row as usize]).collect();
            let edit = LeafEdit::new(&context, rtxn, members, centroid.clone(), &part)?;
            self.leaves.insert(id, edit);
            if i > 0 {
                self.removed.remove(&id);
                self.created.insert(id, sibling);
            }
            self.moved.insert(id);
            around.change(id, centroid);
        }
        self.reassign(workers, around)
    }

    /// A leaf and those nearest to it.
    fn neighbourhood(&mut self, leaf: u32) -> Result<Neighbourhood> {
        let centroid = self.leaf_mut(leaf)?.centroid().to_vec();
        let near = self.near(&centroid)?.into_iter().filter(|near| near.leaf != leaf);
        let near = near.take(NEIGHBOUR_LEAVES).map(|near| (near.leaf, near.centroid));
        let leaves = near.chain([(leaf, centroid)]).collect();
        Ok(Neighbourhood { leaves, ..Neighbourhood::default() })
    }

    /// The items around changed leaves choose their leaves anew where that concerns them. They
    /// follow the rule for new items, for both copies together.
    ///
    /// Moving each copy to the nearest leaf instead would undo the spill: second copies would end
    /// up next to the first ones.
    fn reassign(&mut self, workers: &mut Workers<'_>, mut around: Neighbourhood) -> Result<()> {
        let view = self.tree_view();
        let mut leaves_of: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut concerned = BTreeSet::new();
        let mut prepared = around.prepared(&self.context);
        for leaf in around.leaves.keys() {
            let ids = view.ids(self.rtxn, *leaf)?;
            around.room.insert(*leaf, self.context.leaf_size.saturating_sub(ids.len()));
            if around.changed.contains(leaf) {
                concerned.extend(&ids);
            } else {
                concerned.extend(self.drawn_away(*leaf, &ids, &mut prepared)?);
            }
            ids.into_iter().for_each(|id| leaves_of.entry(id).or_default().push(*leaf));
        }
        let items: Vec<(u32, Vec<u32>)> =
            leaves_of.into_iter().filter(|(id, _)| concerned.contains(id)).collect();
        let moves = workers.share(items.len().div_ceil(REASSIGNED_PER_TASK), |rtxn, task| {
            let part = &items
                [task * REASSIGNED_PER_TASK..items.len().min((task + 1) * REASSIGNED_PER_TASK)];
            let mut finder = view.finder(rtxn);
            let moves = part
                .iter()
                .filter_map(|(id, leaves)| {
                    choose_leaves(view, &mut finder, &around, *id, leaves).transpose()
                })
                .collect::<Result<Vec<Reassignment>>>()?;
            Ok(moves)
        })?;
        for Reassignment { id, point, from, to } in moves.into_iter().flatten() {
            for (from, to) in from.into_iter().zip(to) {
                // Others may have taken the room.
                if self.leaf_mut(to)?.len() < self.context.leaf_size {
                    self.leaf_mut(from)?.remove(id);
                    let (context, rtxn) = (self.context, self.rtxn);
                    self.leaf_mut(to)?.insert(&context, rtxn, id, &point)?;
                    self.stats.reassigned += 1;
                }
            }
        }
        Ok(())
    }

    /// Which items of a leaf may be nearer to a changed centroid than to its own, by their
    /// sketches. All of them, if their sketches do not estimate distances.
    fn drawn_away(&self, leaf: u32, ids: &[u32], changed: &mut [Prepared]) -> Result<Vec<u32>> {
        let context = &self.context;
        if context.leaf.code == Code::Bits || context.spec.metric.is_inner_product() {
            return Ok(ids.to_vec());
        }
        let is_drawn = match self.leaves.get(&leaf) {
            Some(edit) => drawn_away(context, &edit.sketches.pack().view(), changed),
            None => drawn_away(context, &context.leaf(self.rtxn, self.key(leaf))?.node, changed),
        };
        Ok(ids.iter().zip(is_drawn).filter(|(_, is_drawn)| *is_drawn).map(|(id, _)| *id).collect())
    }
}

/// How far each entry of a node is from its centroid, by its sketch; not for inner products.
pub(crate) fn distances_to_centroid(context: &ForestContext<'_>, node: &NodeRef<'_>) -> Vec<f32> {
    let mut prepared =
        Prepared::for_leaves(context.transform, node.centroid.to_vec(), context.leaf);
    let mut estimates = Vec::with_capacity(node.len);
    prepared.scan(node, ScanOptions::ALL, &mut estimates);
    estimates.into_iter().map(|found| found.estimate).collect()
}

/// Whether each entry may be nearer to a changed centroid than to that of its leaf, by its sketch.
fn drawn_away(
    context: &ForestContext<'_>,
    node: &NodeRef<'_>,
    changed: &mut [Prepared],
) -> Vec<bool> {
    let own = distances_to_centroid(context, node);
    let (mut is_drawn, mut others) = (vec![false; node.len], Vec::with_capacity(node.len));
    for prepared in changed {
        others.clear();
        prepared.scan(node, ScanOptions::ALL, &mut others);
        for (is_drawn, (own, other)) in is_drawn.iter_mut().zip(own.iter().zip(&others)) {
            *is_drawn |= other.estimate <= ESTIMATE_SLACK * own;
        }
    }
    is_drawn
}

/// Where the copies of an item that `leaves` hold should move, if anywhere.
fn choose_leaves(
    view: TreeView<'_>,
    finder: &mut Finder<'_>,
    around: &Neighbourhood,
    id: u32,
    leaves: &[u32],
) -> Result<Option<Reassignment>> {
    let point = finder.point(id)?;
    let Some(near) = around.candidates(&view.context, &point, leaves) else { return Ok(None) };
    let Some(first) = near.first().copied() else { return Ok(None) };
    let centroids =
        || near.iter().filter_map(|near| around.leaves.get(&near.id).map(|c| (near.id, &c[..])));
    let targets = if leaves.len() == view.copies {
        choose(&view.context, &point, centroids(), view.copies)
    } else if leaves.contains(&first.id) {
        return Ok(None);
    } else {
        // One copy is outside. If that is the nearer one, the copy here is the second.
        match nearer_copy(view, finder, around, id, &point, first.score)? {
            None => vec![first.id],
            Some(outer) => {
                let simd = view.context.transform.simd;
                let others = centroids().take(SHORTLIST - 1);
                vec![second_leaf(simd, &point, &outer, others)]
            }
        }
    };
    let without = |all: &[u32], others: &[u32]| -> Vec<u32> {
        all.iter().copied().filter(|leaf| !others.contains(leaf)).collect()
    };
    let (from, to) = (without(leaves, &targets), without(&targets, leaves));
    Ok((!to.is_empty()).then_some(Reassignment { id, point, from, to }))
}

/// The centroid of the leaf outside of a neighbourhood that holds the other copy of an item. `None`
/// if it is farther than `within`.
fn nearer_copy(
    view: TreeView<'_>,
    finder: &mut Finder<'_>,
    around: &Neighbourhood,
    id: u32,
    point: &[f32],
    within: f32,
) -> Result<Option<Vec<f32>>> {
    for outer in view.near(finder, point)? {
        if !around.leaves.contains_key(&outer.leaf) && view.holds(finder, outer.leaf, id)? {
            let is_farther = outer.distance > within;
            return Ok((!is_farther).then_some(outer.centroid));
        }
    }
    Ok(None)
}

/// The points nearer to the middle of a group than to the centroid, and the others. None if that
/// does not part them.
fn set_apart(
    context: &ForestContext<'_>,
    points: &Matrix,
    middle: &[f32],
    centroid: &[f32],
) -> Option<Vec<LeafPart>> {
    let is_of_group = |row: &u32| {
        let point = points.row(*row as usize);
        context.distance(point, middle) < context.distance(point, centroid)
    };
    let (group, others): (Vec<u32>, Vec<u32>) = (0u32..).take(points.len()).partition(is_of_group);
    let parts = [others, group].map(|rows| LeafPart::new(points, rows));
    let is_parted =
        parts.iter().all(|part| !part.rows.is_empty() && part.rows.len() <= context.leaf_size);
    is_parted.then(|| parts.into())
}

/// Parts of near points that fit a leaf. As in a bulk build, the points with their first copy here
/// (`own`) decide on the centroids. The others follow.
fn leaf_parts(
    context: &ForestContext<'_>,
    points: &Matrix,
    own: &[u32],
    max: usize,
    seed: u64,
) -> Vec<LeafPart> {
    let simd = context.transform.simd;
    let parts = if points.len() <= max { 1 } else { points.len().div_ceil(max * 2 / 3) };
    if own.len() >= 2 * parts {
        let inner = points.gather(own);
        let centroids = match parts {
            1 => {
                let rows = (0u32..).take(points.len()).collect();
                return vec![LeafPart { rows, centroid: inner.mean() }];
            }
            2 => {
                let mut centroids = Matrix::new(points.width);
                let fit = (max * own.len()).div_ceil(points.len());
                split(simd, &inner, fit, seed)
                    .iter()
                    .for_each(|rows| centroids.push(&inner.gather(rows).mean()));
                centroids
            }
            _ => kmeans(simd, &inner, parts, seed),
        };
        let groups = members(&assign(simd, points, &centroids), centroids.len());
        let parts: Vec<LeafPart> = groups
            .into_iter()
            .enumerate()
            .map(|(i, rows)| LeafPart { rows, centroid: centroids.row(i).to_vec() })
            .filter(|part| !part.rows.is_empty())
            .collect();
        if parts.len() > 1 && parts.iter().all(|part| part.rows.len() <= context.leaf_size) {
            return parts;
        }
    }
    split(simd, points, max, seed).into_iter().map(|rows| LeafPart::new(points, rows)).collect()
}
