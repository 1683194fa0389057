//! Checking an index whole: every invariant, from the stored bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::error::{Error, Result};
use crate::forest::context::ForestContext;
use crate::forest::open::Forest;
use crate::format::free_ids::parse_free_ids;
use crate::format::item::{ItemRef, PendingRef};
use crate::format::node::{BranchRef, LeafRef, NodeRef, check_seal, is_near_weight};
use crate::format::record::{Record, TreeRecord};
use crate::kernel::{distance, simd};
use crate::key::{Key, Kind, tree_number, trees_of};
use crate::limits::TREES;
use crate::lmdb::item::ItemBytes;
use crate::lmdb::view::View;
use crate::sketch::codes::Sketches;
use crate::sketch::transform::Transform;

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Violation {
    /// The 8 bytes of the key whose value breaks it, or that is missing.
    pub key: [u8; 8],
    /// What is wrong, in words.
    pub what: String,
}

/// What [`Reader::verify`](crate::Reader::verify) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Verification {
    /// Broken invariants, in order of their keys; empty if the index is sound.
    pub violations: Vec<Violation>,
    /// Items that were read.
    pub items: u64,
    /// Leaves and branches that were read.
    pub nodes: u64,
}

impl Verification {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Reads everything of an index and reports what is wrong with it.
pub(crate) fn verify(view: View<'_>, record: &Record) -> Result<Verification> {
    let mut check = Check {
        view,
        record,
        live: BTreeSet::new(),
        expected: BTreeSet::new(),
        pending: BTreeSet::new(),
        found: Verification::default(),
    };
    check.items()?;
    check.pending()?;
    check.expect();
    check.unknown_keys()?;
    if record.trees > 0 {
        check.forest()?;
    }
    check.found.violations.sort_by_key(|violation| violation.key);
    Ok(check.found)
}

struct Check<'a> {
    view: View<'a>,
    record: &'a Record,
    /// Items that exist.
    live: BTreeSet<u32>,
    /// Items that each tree holds.
    expected: BTreeSet<u32>,
    /// Items with a pending mark.
    pending: BTreeSet<u32>,
    found: Verification,
}

impl<'a> Check<'a> {
    fn report(&mut self, key: Key, what: impl Into<String>) {
        self.found.violations.push(Violation { key: key.to_bytes(), what: what.into() });
    }

    /// Turns damage into a violation; other errors end the verification.
    fn accept<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Corrupted { key, what }) => {
                self.report(Key::from_bytes(key), what);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn items(&mut self) -> Result<()> {
        let (mut count, spec, mut joined) = (0, self.view.spec, Vec::new());
        for entry in self.view.iter(Kind::Item)? {
            let Some((key, value)) = self.accept(entry)? else { continue };
            count += 1;
            self.live.insert(key.id());
            let bytes = self.view.with_tail(key.id(), value)?;
            if let Some(item) = self.accept(bytes.view(key, spec, &mut joined))? {
                let vector = item.to_vector(spec.dims);
                if let Some(bad) = vector.iter().find(|x| !x.is_finite()) {
                    self.report(key, format!("a component of the item is {bad}"));
                } else if item.squared_norm != distance::dot(simd::detect(), &vector, &vector) {
                    self.report(key, "the norm of the item is not that of its components");
                }
            }
        }
        self.found.items = count;
        if count != self.record.items {
            let what =
                format!("the record counts {} items, and there are {count}", self.record.items);
            self.report(Key::record(spec.index), what);
        }
        Ok(())
    }

    fn pending(&mut self) -> Result<()> {
        let (mut count, spec) = (0, self.view.spec);
        for entry in self.view.iter(Kind::Pending)? {
            let Some((key, bytes)) = self.accept(entry)? else { continue };
            count += 1;
            self.pending.insert(key.id());
            let Some(mark) = self.accept(PendingRef::parse(key, bytes, spec))? else {
                continue;
            };
            if mark.is_live != self.live.contains(&key.id()) {
                let item = if mark.is_live { "there is none" } else { "there is one" };
                self.report(key, format!("the pending mark says otherwise about the item: {item}"));
            }
            // While a forest is built from an earlier snapshot, that may have the item.
            if mark.indexed.is_none() && !mark.is_live && self.record.build == 0 {
                self.report(
                    key,
                    "a pending mark of an item that neither exists nor is in the forest",
                );
            }
            if mark.indexed.is_some() {
                self.expected.insert(key.id());
            }
        }
        if count != self.record.pending {
            let what = format!(
                "the record counts {} pending marks, and there are {count}",
                self.record.pending
            );
            self.report(Key::record(spec.index), what);
        }
        Ok(())
    }

    /// The forest holds what exists and is not pending, and what is pending and was there before.
    fn expect(&mut self) {
        self.expected.extend(self.live.difference(&self.pending));
        if self.record.trees > 0 && self.record.indexed != self.expected.len() as u64 {
            let (counted, are) = (self.record.indexed, self.expected.len());
            let what = format!(
                "the record counts {counted} items in the forest, and there should be {are}"
            );
            self.report(Key::record(self.view.spec.index), what);
        }
    }

    /// Every key of the index has a kind, and every node's tree exists.
    fn unknown_keys(&mut self) -> Result<()> {
        let index = self.view.spec.index;
        for entry in self.view.db.iter_from(self.view.rtxn, Key::record(index))? {
            let spec = match &entry {
                Ok((key, _)) => *key,
                Err(Error::Corrupted { key, .. }) => Key::from_bytes(*key),
                Err(_) => Key::record(index),
            };
            if spec.index() != index {
                break;
            }
            let Some((key, _)) = self.accept(entry)? else { continue };
            match key.kind() {
                Some(Kind::Item) if key.tree() != 0 => {
                    self.report(key, "the key of an item names a tree")
                }
                Some(Kind::Tail) if !self.view.has_head(key)? => {
                    self.report(key, "a tail without an item that is cut");
                }
                Some(Kind::Pending) if key.tree() != 0 => {
                    self.report(key, "the key of a pending mark names a tree")
                }
                Some(Kind::Free) if key.id() > 1 => {
                    self.report(key, "free ids of an unknown kind of node")
                }
                None => self.report(key, "a key of an unknown kind"),
                Some(Kind::Branch | Kind::Leaf | Kind::Free) if !self.has_tree(key.tree()) => {
                    self.report(key, "a node of a tree that does not exist");
                }
                Some(Kind::Record) if key != Key::record(index) => {
                    self.report(key, "a second record");
                }
                Some(Kind::Origin) if key.id() != 0 || !self.has_origin(key.tree()) => {
                    self.report(key, "a second origin");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether there may be nodes of a tree, by its byte. Of the other generation there may be any,
    /// if there may be some: builds in several commits leave them behind.
    fn has_tree(&self, tree: u8) -> bool {
        if trees_of(self.record.generation).contains(&tree) {
            tree_number(tree) < self.record.trees
        } else {
            self.record.has_remains == 1 && usize::from(tree_number(tree)) < TREES.high
        }
    }

    /// Whether there may be an origin with this tree byte.
    fn has_origin(&self, tree: u8) -> bool {
        let is_seen = trees_of(self.record.generation).contains(&tree);
        tree_number(tree) == 0 && (is_seen || self.record.has_remains == 1)
    }

    fn forest(&mut self) -> Result<()> {
        let read = Forest::read(self.view, self.record);
        let Some(forest) = self.accept(read)? else { return Ok(()) };
        let context = ForestContext::new(
            self.view.db,
            self.view.spec,
            &forest,
            self.record.leaf_size as usize,
        );
        for (tree, stored) in self.record.trees() {
            let mut nodes = TreeNodes {
                context,
                tree,
                stored: *stored,
                leaves: BTreeMap::new(),
                branches: BTreeMap::new(),
            };
            self.read_nodes(&mut nodes)?;
            self.reachable(&nodes);
            self.membership(&nodes);
            self.free_ids(&nodes)?;
        }
        Ok(())
    }

    /// Reads the nodes of a tree, and checks each on its own.
    fn read_nodes(&mut self, nodes: &mut TreeNodes<'a, '_>) -> Result<()> {
        let spec = self.view.spec;
        let trees = nodes.tree..=nodes.tree;
        for entry in self.view.iter_trees(Kind::Leaf, &trees)? {
            let Some((key, bytes)) = self.accept(entry)? else { continue };
            self.found.nodes += 1;
            if let Some(leaf) = self.accept(LeafRef::parse(key, bytes, spec.dims))? {
                self.accept(check_seal(key, bytes))?;
                self.leaf(nodes, key, &leaf)?;
                nodes.leaves.insert(key.id(), leaf);
            }
        }
        for entry in self.view.iter_trees(Kind::Branch, &trees)? {
            let Some((key, bytes)) = self.accept(entry)? else { continue };
            self.found.nodes += 1;
            let branch = BranchRef::parse(key, bytes, spec.dims, spec.metric);
            if let Some(branch) = self.accept(branch)? {
                self.accept(check_seal(key, bytes))?;
                nodes.branches.insert(key.id(), branch);
            }
        }
        let branches: Vec<(u32, BranchRef<'_>)> =
            nodes.branches.iter().map(|(id, branch)| (*id, *branch)).collect();
        branches.into_iter().try_for_each(|(id, branch)| self.branch(nodes, id, &branch))
    }

    /// A leaf's layout, size, order of ids, and sketches. Each must be what encoding the vector
    /// gives that the forest was built with.
    fn leaf(&mut self, nodes: &TreeNodes<'_, '_>, key: Key, leaf: &LeafRef<'_>) -> Result<()> {
        if leaf.node.layout != nodes.context.leaf {
            self.report(key, "a leaf of another layout than its forest");
            return Ok(());
        }
        let (len, max) = (leaf.node.len, nodes.context.leaf_size);
        if len > max {
            self.report(key, format!("a leaf of {len} entries, where {max} are the most"));
        }
        let transform = nodes.context.transform;
        let Some(ids) = self.accept(leaf.ascending_ids(key))? else { return Ok(()) };
        let (sketches, mut joined) = (Sketches::unpack(&leaf.node), Vec::new());
        self.finite(key, &leaf.node);
        for (position, id) in ids.iter().enumerate() {
            let Some(bytes) = self.indexed_item(*id)? else { continue };
            let Ok(item) = bytes.view(key, self.view.spec, &mut joined) else { continue };
            let mut point = vec![0.0; transform.width];
            transform.map(&item, &mut point);
            if !is_sketch_of(transform, &sketches, position, &point, Some(&item)) {
                self.report(key, format!("the sketch of item {id} is not that of its vector"));
            }
        }
        Ok(())
    }

    /// An item as the forest was built with it.
    fn indexed_item(&self, id: u32) -> Result<Option<ItemBytes<'a>>> {
        if self.pending.contains(&id) {
            let key = Key::pending(self.view.spec.index, id);
            let mark =
                self.view.get(key)?.map(|bytes| PendingRef::parse(key, bytes, self.view.spec));
            let indexed = mark.and_then(Result::ok).and_then(|mark| mark.indexed);
            return Ok(indexed.map(|head| ItemBytes { head, tail: &[] }));
        }
        self.view.item_bytes(id)
    }

    fn finite(&mut self, key: Key, node: &NodeRef<'_>) {
        if node.centroid.iter().chain(node.steps).any(|x| !x.is_finite()) {
            self.report(key, "the centroid of a node is not finite");
        }
    }

    /// A branch's weights, norms and sketches: each must be what its children give.
    fn branch(&mut self, nodes: &TreeNodes<'_, '_>, id: u32, branch: &BranchRef<'_>) -> Result<()> {
        let key = Key::branch(self.view.spec.index, nodes.tree, id);
        if branch.node.layout != nodes.context.branch {
            self.report(key, "a branch of another layout than its forest");
            return Ok(());
        }
        if branch.node.len == 0 {
            self.report(key, "a branch without children");
        }
        self.finite(key, &branch.node);
        let (transform, sketches) = (nodes.context.transform, Sketches::unpack(&branch.node));
        for (position, (child, weight)) in branch.children.iter().zip(branch.weights).enumerate() {
            let Some(node) = nodes.node(branch.node.height - 1, *child) else { continue };
            if !is_near_weight(u64::from(*weight), node.weight.min(u64::from(u32::MAX))) {
                let held = node.weight;
                let what =
                    format!("child {child} is said to hold {weight} entries, and holds {held}");
                self.report(key, what);
            }
            if !is_sketch_of(transform, &sketches, position, node.centroid, None) {
                self.report(
                    key,
                    format!("the sketch of child {child} is not that of its centroid"),
                );
            }
            let norm = branch.norms.get(position);
            if norm.is_some_and(|norm| *norm != transform.norm(node.centroid)) {
                self.report(key, format!("the norm of child {child} is not that of its centroid"));
            }
        }
        Ok(())
    }

    /// Every node is reached exactly once from the root, at the height that it says.
    fn reachable(&mut self, nodes: &TreeNodes<'_, '_>) {
        let index = self.view.spec.index;
        let mut reached = HashMap::new();
        let mut todo = vec![(nodes.stored.height, nodes.stored.root)];
        while let Some((height, id)) = todo.pop() {
            let is_leaf = height == 0;
            let key = if is_leaf {
                Key::leaf(index, nodes.tree, id)
            } else {
                Key::branch(index, nodes.tree, id)
            };
            if *reached.entry((is_leaf, id)).and_modify(|times| *times += 1).or_insert(1) > 1 {
                self.report(key, "a node that has two parents");
                continue;
            }
            if is_leaf {
                if !nodes.leaves.contains_key(&id) {
                    self.report(key, "a leaf that its parent names is missing");
                }
                continue;
            }
            match nodes.branches.get(&id) {
                None => self.report(key, "a branch that its parent names is missing"),
                Some(branch) if u32::from(branch.node.height) != height => {
                    self.report(key, "a branch at another height than its parent says");
                }
                Some(branch) => {
                    todo.extend(branch.children.iter().map(|child| (height - 1, *child)))
                }
            }
        }
        for id in nodes.leaves.keys().filter(|id| !reached.contains_key(&(true, **id))) {
            self.report(Key::leaf(index, nodes.tree, *id), "a leaf that no branch names");
        }
        for id in nodes.branches.keys().filter(|id| !reached.contains_key(&(false, **id))) {
            self.report(Key::branch(index, nodes.tree, *id), "a branch that no branch names");
        }
        let (leaves, branches) = (nodes.leaves.len(), nodes.branches.len());
        if (nodes.stored.leaves as usize, nodes.stored.branches as usize) != (leaves, branches) {
            let what = format!(
                "the record counts {} leaves and {} branches in tree {}, and there are {leaves} and {branches}",
                nodes.stored.leaves,
                nodes.stored.branches,
                tree_number(nodes.tree)
            );
            self.report(Key::record(index), what);
        }
    }

    /// Every item of the forest is in one leaf of each tree. With spill it is in two, unless there
    /// is one leaf only; no other item is in any.
    fn membership(&mut self, nodes: &TreeNodes<'_, '_>) {
        let copies = if self.record.spill == 1 && nodes.leaves.len() > 1 { 2 } else { 1 };
        let mut counts: HashMap<u32, u32> = HashMap::new();
        let mut strangers = Vec::new();
        for (leaf, view) in &nodes.leaves {
            for id in view.set.iter() {
                *counts.entry(id).or_default() += 1;
                if !self.expected.contains(&id) {
                    strangers.push((*leaf, id));
                }
            }
        }
        for (leaf, id) in strangers {
            let key = Key::leaf(self.view.spec.index, nodes.tree, leaf);
            self.report(key, format!("item {id} is in this leaf, and not in the index"));
        }
        let wrong: Vec<(u32, u32)> = self
            .expected
            .iter()
            .map(|id| (*id, counts.get(id).copied().unwrap_or(0)))
            .filter(|(_, count)| *count != copies)
            .collect();
        for (id, count) in wrong {
            let what = format!(
                "this item is in {count} leaves of tree {}, and should be in {copies}",
                tree_number(nodes.tree)
            );
            self.report(Key::item(self.view.spec.index, id), what);
        }
    }

    /// Free ids are below the next one, and no node has them.
    fn free_ids(&mut self, nodes: &TreeNodes<'_, '_>) -> Result<()> {
        let lists = [
            (0, nodes.stored.next_leaf, nodes.leaves.keys().copied().collect::<BTreeSet<u32>>()),
            (1, nodes.stored.next_branch, nodes.branches.keys().copied().collect()),
        ];
        for (which, next, used) in lists {
            let key = Key::free(self.view.spec.index, nodes.tree, which);
            let bytes = self.view.get(key)?;
            let read = bytes.map(|bytes| parse_free_ids(key, bytes, next)).transpose();
            let Some(free) = self.accept(read)? else { continue };
            if used.iter().any(|id| *id >= next) {
                self.report(key, "a node has an id that was never given out");
            }
            if free.iter().flatten().any(|id| used.contains(id)) {
                self.report(key, "a node has an id that is free");
            }
        }
        Ok(())
    }
}

/// Whether a stored sketch is what encoding its point gives.
fn is_sketch_of(
    transform: &Transform,
    sketches: &Sketches,
    position: usize,
    point: &[f32],
    item: Option<&ItemRef<'_>>,
) -> bool {
    let mut nibbles = Vec::new();
    let factors = sketches.quantizer.encode(transform, point, item, &mut nibbles);
    let (stored, stored_factors) = sketches.entry(position);
    nibbles.resize(stored.len(), 0);
    nibbles == stored && factors == stored_factors
}

/// The nodes of one tree that could be read.
struct TreeNodes<'t, 's> {
    context: ForestContext<'s>,
    tree: u8,
    stored: TreeRecord,
    leaves: BTreeMap<u32, LeafRef<'t>>,
    branches: BTreeMap<u32, BranchRef<'t>>,
}

impl<'t> TreeNodes<'t, '_> {
    fn node(&self, height: u8, id: u32) -> Option<NodeRef<'t>> {
        if height == 0 {
            self.leaves.get(&id).map(|leaf| leaf.node)
        } else {
            self.branches.get(&id).map(|branch| branch.node)
        }
    }
}
