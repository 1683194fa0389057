//! Reading nodes, with a cache of what has been looked up.

use std::cell::RefCell;

use crate::error::{Error, Result};
use crate::format::node::{BranchRef, LeafRef};
use crate::index_spec::IndexSpec;
use crate::kernel::layout::Layout;
use crate::key::{Key, tree_number};
use crate::lmdb::advise::Ask;
use crate::lmdb::numbered::Numbered;
use crate::lmdb::view::View;

/// The largest number of nodes of each kind that a reader caches: docs/trials.md, "look-ups".
pub(crate) const MAX_CACHED_NODES: usize = 1 << 15;

/// The nodes of a forest in one snapshot.
///
/// A look-up in LMDB waits for several pages that are rarely in the caches of the processor. Its
/// result is valid as long as the transaction, so it is cached. Measured: docs/trials.md,
/// "look-ups".
pub(crate) struct Nodes<'t> {
    view: View<'t>,
    /// The layouts that leaves and branches must have.
    layouts: [Layout; 2],
    leaves: RefCell<Numbered<LeafRef<'t>>>,
    branches: RefCell<Numbered<BranchRef<'t>>>,
}

impl<'t> Nodes<'t> {
    /// `max_cached`: nodes to cache of each kind.
    pub(crate) fn new(view: View<'t>, leaf: Layout, branch: Layout, max_cached: usize) -> Self {
        let (leaves, branches) =
            (RefCell::new(Numbered::new(max_cached)), RefCell::new(Numbered::new(max_cached)));
        Self { view, layouts: [leaf, branch], leaves, branches }
    }

    pub(crate) fn spec(&self) -> IndexSpec {
        self.view.spec
    }

    pub(crate) fn leaf(&self, tree: u8, id: u32) -> Result<LeafRef<'t>> {
        if let Some(cached) = self.leaves.borrow().get(tree_number(tree), id) {
            return Ok(cached);
        }
        let key = Key::leaf(self.view.spec.index, tree, id);
        let leaf = read_leaf(self.view, key, self.layouts[0])?;
        self.leaves.borrow_mut().put(tree_number(tree), id, leaf);
        Ok(leaf)
    }

    /// Asks the system for the pages of nodes, without reading them. A node that is missing is left
    /// to whoever reads it.
    pub(crate) fn ask(&self, keys: impl Iterator<Item = Key>) -> Result<()> {
        let mut ask = Ask::default();
        for key in keys {
            ask.value(self.view.get(key)?.unwrap_or_default());
        }
        Ok(())
    }

    /// Prefetches where the pages are of a leaf that will likely be scanned soon, if it is cached.
    pub(crate) fn touch_leaf(&self, tree: u8, id: u32) {
        if let Some(leaf) = self.leaves.borrow().get(tree_number(tree), id) {
            leaf.touch();
        }
    }

    /// Prefetches what is cached of a leaf that may be touched next.
    pub(crate) fn prefetch_leaf(&self, tree: u8, id: u32) {
        self.leaves.borrow().prefetch(tree_number(tree), id);
    }

    pub(crate) fn branch(&self, tree: u8, id: u32) -> Result<BranchRef<'t>> {
        if let Some(cached) = self.branches.borrow().get(tree_number(tree), id) {
            return Ok(cached);
        }
        let key = Key::branch(self.view.spec.index, tree, id);
        let branch = read_branch(self.view, key, self.layouts[1])?;
        self.branches.borrow_mut().put(tree_number(tree), id, branch);
        Ok(branch)
    }
}

/// The value of a node that must exist, as another node names it.
pub(crate) fn known_node<'t>(view: View<'t>, key: Key) -> Result<&'t [u8]> {
    view.get(key)?
        .ok_or_else(|| Error::corrupted(key, "its parent names this node, and it is missing"))
}

/// Reads a leaf, which must have this layout.
pub(crate) fn read_leaf<'t>(view: View<'t>, key: Key, layout: Layout) -> Result<LeafRef<'t>> {
    let leaf = LeafRef::parse(key, known_node(view, key)?, view.spec.dims)?;
    check_layout(key, leaf.node.layout, layout)?;
    Ok(leaf)
}

/// Reads a branch, which must have this layout.
pub(crate) fn read_branch<'t>(view: View<'t>, key: Key, layout: Layout) -> Result<BranchRef<'t>> {
    let branch = BranchRef::parse(key, known_node(view, key)?, view.spec.dims, view.spec.metric)?;
    check_layout(key, branch.node.layout, layout)?;
    Ok(branch)
}

/// Fails unless a node has the layout that the look-up tables of queries are made for.
fn check_layout(key: Key, found: Layout, expected: Layout) -> Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(Error::corrupted(key, "a node of another layout than its forest"))
    }
}
