//! Reading nodes; a search looks each up in LMDB once.

use std::cell::RefCell;

use heed::RoTxn;

use crate::error::{Error, Result};
use crate::format::node::{BranchRef, LeafRef};
use crate::index_spec::IndexSpec;
use crate::kernel::layout::Layout;
use crate::key::Key;
use crate::lmdb::cache::Cache;
use crate::lmdb::database::Database;
use crate::lmdb::view::View;

/// Nodes of each kind that a reader knows the places of, at most: some 6 MiB of each.
pub(crate) const MAX_CACHED_NODES: usize = 1 << 15;

/// The nodes of a forest in one snapshot.
///
/// A look-up in LMDB is a walk through some pages that are rarely in the caches of the processor:
/// at 100,000 items these and those of items took a third of the time of a search. What it tells
/// holds as long as the transaction, and so does what this keeps.
pub(crate) struct Nodes<'t> {
    view: View<'t>,
    /// The layouts that leaves and branches must have.
    layouts: [Layout; 2],
    leaves: RefCell<Cache<LeafRef<'t>>>,
    branches: RefCell<Cache<BranchRef<'t>>>,
}

impl<'t> Nodes<'t> {
    /// `most`: nodes of each kind to remember, a power of two or 0.
    pub(crate) fn new(view: View<'t>, leaf: Layout, branch: Layout, most: usize) -> Self {
        let (leaves, branches) = (RefCell::new(Cache::new(most)), RefCell::new(Cache::new(most)));
        Self { view, layouts: [leaf, branch], leaves, branches }
    }

    pub(crate) fn spec(&self) -> IndexSpec {
        self.view.spec
    }

    pub(crate) fn leaf(&self, tree: u8, id: u32) -> Result<LeafRef<'t>> {
        let name = name(tree, id);
        if let Some(known) = self.leaves.borrow().get(name) {
            return Ok(known);
        }
        let spec = self.view.spec;
        let key = Key::leaf(spec.index, tree, id);
        let leaf = LeafRef::parse(key, known_node(self.view.db, self.view.rtxn, key)?, spec.dims)?;
        check_layout(key, leaf.node.layout, self.layouts[0])?;
        self.leaves.borrow_mut().put(name, leaf);
        Ok(leaf)
    }

    /// Sends for the place of a leaf that will be wanted, if that is known.
    pub(crate) fn prefetch_leaf(&self, tree: u8, id: u32) {
        self.leaves.borrow().prefetch(name(tree, id));
    }

    pub(crate) fn branch(&self, tree: u8, id: u32) -> Result<BranchRef<'t>> {
        let name = name(tree, id);
        if let Some(known) = self.branches.borrow().get(name) {
            return Ok(known);
        }
        let spec = self.view.spec;
        let key = Key::branch(spec.index, tree, id);
        let bytes = known_node(self.view.db, self.view.rtxn, key)?;
        let branch = BranchRef::parse(key, bytes, spec.dims, spec.metric)?;
        check_layout(key, branch.node.layout, self.layouts[1])?;
        self.branches.borrow_mut().put(name, branch);
        Ok(branch)
    }
}

fn name(tree: u8, id: u32) -> u64 {
    u64::from(tree) << 32 | u64::from(id)
}

/// The value of a node that another node names.
pub(crate) fn known_node<'t>(db: Database, rtxn: &'t RoTxn<'_>, key: Key) -> Result<&'t [u8]> {
    db.get(rtxn, key)?
        .ok_or_else(|| Error::corrupted(key, "its parent names this node, and it is missing"))
}

/// Refuses a node whose sketches the prepared tables do not fit.
pub(crate) fn check_layout(key: Key, found: Layout, expected: Layout) -> Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(Error::corrupted(key, "a node of another layout than its forest"))
    }
}
