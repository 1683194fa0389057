//! Splitting and mending a leaf, and letting the items around it change over (LIRE: Xu et al.,
//! SPFresh, SOSP 2023).

use std::collections::{BTreeMap, BTreeSet};

use heed::RoTxn;

use crate::error::Result;
use crate::forest::route::{SHORTLIST, ScoredLeaf, second_leaf};
use crate::format::node::NodeRef;
use crate::indexer::find::{Finder, choose};
use crate::indexer::leaf_edit::{ForestContext, LeafEdit};
use crate::indexer::tree_edit::{TreeEdit, View};
use crate::kernel::layout::Code;
use crate::lmdb::workers::Workers;
use crate::math::kmeans::{Matrix, assign, kmeans, members, split};
use crate::sketch::prepared::{Prepared, ScanOptions};

/// Leaves around a changed one whose items may be nearer to it now.
const NEIGHBOUR_LEAVES: usize = 20;
/// How much farther than its own centroid a changed one may be, by estimate, for an entry to be
/// looked at: the error of estimates between near centroids is a tenth.
const ESTIMATE_SLACK: f32 = 1.15;
/// Items that one task looks at.
const ITEMS_PER_TASK: usize = 64;

/// Leaves with their centroids.
type Neighbourhood = BTreeMap<u32, Vec<f32>>;

/// An item that should change over.
struct Reassignment {
    id: u32,
    point: Vec<f32>,
    homes: Vec<u32>,
    wanted: Vec<u32>,
}

impl TreeEdit<'_> {
    /// Divides a leaf into groups of at most `max` (one group: only its centroid moves), and lets
    /// items of the neighbourhood change over where that is better for them.
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
        let mut around = self.around(leaf)?;
        let apart = self
            .stretched
            .remove(&leaf)
            .and_then(|middle| set_apart(&context, &points, &middle, around.get(&leaf)?));
        let groups = match apart {
            Some(groups) => groups,
            None => {
                let own = own_rows(&context, &points, leaf, &around);
                cut(&context, &points, &own, (max, context.leaf_size), seed)
            }
        };
        let mut changed = Vec::with_capacity(groups.len());
        let parent = self.created.get(&leaf).copied().unwrap_or(leaf);
        for (i, (group, centroid)) in groups.iter().enumerate() {
            let id = if i == 0 { leaf } else { self.leaf_ids.take(self.key(leaf))? };
            let part = points.gather(group);
            let members = group.iter().map(|row| ids[*row as usize]).collect();
            self.leaves
                .insert(id, LeafEdit::new(&context, rtxn, members, centroid.clone(), &part)?);
            if i > 0 {
                self.removed.remove(&id);
                self.created.insert(id, parent);
            }
            self.moved.insert(id);
            around.insert(id, centroid.clone());
            changed.push(id);
        }
        self.tally.split += u64::from(groups.len() > 1);
        self.reassign(workers, &around, &changed)
    }

    /// A leaf and those nearest to it.
    fn around(&mut self, leaf: u32) -> Result<Neighbourhood> {
        let centroid = self.leaf_mut(leaf)?.centroid().to_vec();
        let near = self.near(&centroid)?.into_iter().filter(|near| near.leaf != leaf);
        let mut around: Neighbourhood =
            near.take(NEIGHBOUR_LEAVES).map(|near| (near.leaf, near.centroid)).collect();
        around.insert(leaf, centroid);
        Ok(around)
    }

    /// The items of a leaf that a change of centroids concerns: all if its own changed, else those
    /// that a changed one draws away. `drawing` are the centroids of the changed leaves.
    fn concerned(
        &self,
        leaf: u32,
        ids: &[u32],
        changed: &[u32],
        drawing: &mut [Prepared],
    ) -> Result<Vec<u32>> {
        let context = &self.context;
        let has_distances =
            context.leaf.code != Code::Bits && !context.spec.metric.is_inner_product();
        if changed.contains(&leaf) || !has_distances {
            return Ok(ids.to_vec());
        }
        let drawn = match self.leaves.get(&leaf) {
            Some(edit) => drawn_away(context, &edit.sketches.pack().view(), drawing),
            None => drawn_away(context, &context.leaf(self.rtxn, self.key(leaf))?.node, drawing),
        };
        Ok(ids.iter().zip(drawn).filter(|(_, drawn)| *drawn).map(|(id, _)| *id).collect())
    }

    /// The items around leaves whose centroids changed choose anew where that concerns them, by the
    /// rule that new items follow, for both copies together. Moving each copy to the nearest leaf
    /// instead would undo the spill: second copies would end up next to the first ones.
    fn reassign(
        &mut self,
        workers: &mut Workers<'_>,
        around: &Neighbourhood,
        changed: &[u32],
    ) -> Result<()> {
        let (view, copies) = (self.view(), self.copies);
        let mut homes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let (mut room, mut concerned) = (BTreeMap::new(), BTreeSet::new());
        let centroids = changed.iter().filter_map(|leaf| around.get(leaf));
        let prepared = |centroid: &Vec<f32>| {
            Prepared::for_leaves(self.context.transform, centroid.clone(), self.context.leaf)
        };
        let mut drawing: Vec<Prepared> = centroids.map(prepared).collect();
        for leaf in around.keys() {
            let ids = view.ids(self.rtxn, *leaf)?;
            room.insert(*leaf, self.context.leaf_size.saturating_sub(ids.len()));
            concerned.extend(self.concerned(*leaf, &ids, changed, &mut drawing)?);
            ids.into_iter().for_each(|id| homes.entry(id).or_default().push(*leaf));
        }
        let items: Vec<(u32, Vec<u32>)> =
            homes.into_iter().filter(|(id, _)| concerned.contains(id)).collect();
        let moves = workers.share(items.len().div_ceil(ITEMS_PER_TASK), |rtxn, task| {
            let part = &items[task * ITEMS_PER_TASK..items.len().min((task + 1) * ITEMS_PER_TASK)];
            let mut finder = view.finder(rtxn);
            let moves = part.iter().map(|(id, homes)| {
                choose_leaves(
                    view,
                    (&mut finder, rtxn),
                    (*id, homes),
                    (around, &room),
                    changed,
                    copies,
                )
            });
            Ok(moves
                .collect::<Result<Vec<Option<Reassignment>>>>()?
                .into_iter()
                .flatten()
                .collect::<Vec<Reassignment>>())
        })?;
        for Reassignment { id, point, homes, wanted } in moves.into_iter().flatten() {
            let leave = homes.iter().copied().filter(|leaf| !wanted.contains(leaf));
            let enter: Vec<u32> =
                wanted.iter().copied().filter(|leaf| !homes.contains(leaf)).collect();
            for (from, to) in leave.zip(enter) {
                // Others may have taken the room.
                if self.leaf_mut(to)?.len() < self.context.leaf_size {
                    self.leaf_mut(from)?.remove(id);
                    let (context, rtxn) = (self.context, self.rtxn);
                    self.leaf_mut(to)?.insert(&context, rtxn, id, &point)?;
                    self.tally.reassigned += 1;
                }
            }
        }
        Ok(())
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

/// The positions of entries that may be nearer to a changed centroid than to that of their own
/// leaf, by their sketches.
fn drawn_away(
    context: &ForestContext<'_>,
    node: &NodeRef<'_>,
    drawing: &mut [Prepared],
) -> Vec<bool> {
    let own = distances_to_centroid(context, node);
    let (mut drawn, mut others) = (vec![false; node.len], Vec::with_capacity(node.len));
    for prepared in drawing {
        others.clear();
        prepared.scan(node, ScanOptions::ALL, &mut others);
        for (drawn, (own, other)) in drawn.iter_mut().zip(own.iter().zip(&others)) {
            *drawn |= other.estimate <= ESTIMATE_SLACK * own;
        }
    }
    drawn
}

/// Where the copies of an item should be, if that is another place than where they are and a
/// changed leaf has to do with it.
fn choose_leaves(
    view: View<'_>,
    (finder, rtxn): (&mut Finder<'_>, &RoTxn<'_>),
    (id, homes): (u32, &[u32]),
    (around, room): (&Neighbourhood, &BTreeMap<u32, usize>),
    changed: &[u32],
    copies: usize,
) -> Result<Option<Reassignment>> {
    let context = view.context;
    let point = context.point(rtxn, id)?;
    let mut near: Vec<ScoredLeaf> =
        around.iter().map(|(leaf, c)| (context.distance(&point, c), *leaf)).collect();
    // Among leaves equally near, its own come first: copies of one vector would else all move to
    // the same leaves, which would be split again and again.
    near.sort_unstable_by(|a, b| {
        let is_other = |near: &ScoredLeaf| !homes.contains(&near.1);
        a.0.total_cmp(&b.0).then(is_other(a).cmp(&is_other(b))).then(a.1.cmp(&b.1))
    });
    // Sorted by distance: a home that changed, or a changed leaf nearer than the farther home,
    // comes before it does.
    let farther = near.iter().rposition(|near| homes.contains(&near.1)).unwrap_or(0);
    if !near[..=farther].iter().any(|near| changed.contains(&near.1)) {
        return Ok(None);
    }
    near.retain(|near| homes.contains(&near.1) || room.get(&near.1).is_some_and(|room| *room > 0));
    let wanted = wanted(view, finder, (id, &point), (&near, around), homes, copies)?;
    let is_settled = wanted.iter().all(|leaf| homes.contains(leaf));
    Ok((!is_settled).then(|| Reassignment { id, point, homes: homes.to_vec(), wanted }))
}

/// The leaves that should hold the copies which `homes` hold, among near ones (sorted) with their
/// centroids.
fn wanted(
    view: View<'_>,
    finder: &mut Finder<'_>,
    (id, point): (u32, &[f32]),
    (near, around): (&[ScoredLeaf], &Neighbourhood),
    homes: &[u32],
    copies: usize,
) -> Result<Vec<u32>> {
    let Some(first) = near.first() else { return Ok(homes.to_vec()) };
    let centroids =
        || near.iter().filter_map(|(_, leaf)| around.get(leaf).map(|c| (*leaf, &c[..])));
    if homes.len() == copies {
        return Ok(choose(&view.context, point, centroids(), copies));
    }
    if homes.contains(&first.1) {
        return Ok(homes.to_vec());
    }
    // One copy is outside. If that is the nearer one, the copy here is the second.
    for outer in view.near(finder, point)? {
        if !around.contains_key(&outer.leaf) && view.holds(finder, outer.leaf, id)? {
            if outer.distance > first.0 {
                break;
            }
            let simd = view.context.transform.simd;
            return Ok(vec![second_leaf(
                simd,
                point,
                &outer.centroid,
                centroids().take(SHORTLIST - 1),
            )]);
        }
    }
    Ok(vec![first.1])
}

/// The rows that are nearer to this leaf than to those around it.
fn own_rows(
    context: &ForestContext<'_>,
    points: &Matrix,
    leaf: u32,
    around: &Neighbourhood,
) -> Vec<u32> {
    let Some(own) = around.get(&leaf) else { return Vec::new() };
    let is_own = |row: &u32| {
        let point = points.row(*row as usize);
        let distance = context.distance(point, own);
        around.values().all(|centroid| context.distance(point, centroid) >= distance)
    };
    (0u32..).take(points.len()).filter(is_own).collect()
}

/// The points nearer to the middle of a group than to the centroid, and the others, each with their
/// mean. None if that does not part them.
fn set_apart(
    context: &ForestContext<'_>,
    points: &Matrix,
    middle: &[f32],
    centroid: &[f32],
) -> Option<Vec<(Vec<u32>, Vec<f32>)>> {
    let is_of_group = |row: &u32| {
        let point = points.row(*row as usize);
        context.distance(point, middle) < context.distance(point, centroid)
    };
    let (group, others): (Vec<u32>, Vec<u32>) = (0u32..).take(points.len()).partition(is_of_group);
    let parts = [others, group].map(|rows| {
        let mean = points.gather(&rows).mean();
        (rows, mean)
    });
    let is_parted =
        parts.iter().all(|(rows, _)| !rows.is_empty() && rows.len() <= context.leaf_size);
    is_parted.then(|| parts.into())
}

/// Groups of near points that fit a leaf, and their centroids. As in a bulk build, the points that
/// have their first copy here decide on the centroids, and the others follow.
fn cut(
    context: &ForestContext<'_>,
    points: &Matrix,
    own: &[u32],
    (max, most): (usize, usize),
    seed: u64,
) -> Vec<(Vec<u32>, Vec<f32>)> {
    let simd = context.transform.simd;
    let mean = |rows: Vec<u32>| {
        let centroid = points.gather(&rows).mean();
        (rows, centroid)
    };
    let parts = if points.len() <= max { 1 } else { points.len().div_ceil(max * 2 / 3) };
    if own.len() >= 2 * parts {
        let inner = points.gather(own);
        let centroids = match parts {
            1 => inner.clone(),
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
        if parts == 1 {
            return vec![((0u32..).take(points.len()).collect(), centroids.mean())];
        }
        let groups = members(&assign(simd, points, &centroids), centroids.len());
        let groups: Vec<_> = groups
            .into_iter()
            .enumerate()
            .map(|(i, rows)| (rows, centroids.row(i).to_vec()))
            .filter(|(rows, _)| !rows.is_empty())
            .collect();
        if groups.len() > 1 && groups.iter().all(|(rows, _)| rows.len() <= most) {
            return groups;
        }
    }
    split(simd, points, max, seed).into_iter().map(mean).collect()
}
