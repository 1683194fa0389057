//! Damage of leaves, of branches and of what counts them.

use spinney::Metric;

use crate::damage::{Damage, Named, RECORD_KEY, TREE, named, planted};
use crate::support::patient::{Patient, id};
use crate::support::raw::*;

/// Damage of leaves, of branches and of what counts them.
pub const OF_NODES: &[(&str, Damage)] = &[
    ("an orphan leaf", |p| {
        let leaf = p.any(LEAF);
        let value = p.get(leaf);
        p.put(key(0, LEAF, 0, 90_000), &value);
        Some(vec![(key(0, LEAF, 0, 90_000), "no branch")])
    }),
    ("an orphan branch", |p| {
        let branch = p.any(BRANCH);
        let value = p.get(branch);
        p.put(key(0, BRANCH, 0, 90_000), &value);
        Some(vec![(key(0, BRANCH, 0, 90_000), "no branch")])
    }),
    ("nodes and an origin of the other generation", |p| {
        let there = [p.any(LEAF), p.any(BRANCH), key(0, ORIGIN, 0, 0)];
        let expected = there.map(|there| {
            let mut other = there;
            other[3] |= 0x80;
            let value = p.get(there);
            p.put(other, &value);
            (other, if there[2] == ORIGIN { "a second origin" } else { "does not exist" })
        });
        Some(expected.to_vec())
    }),
    ("an item in one leaf more", |p| {
        let item = p.settled();
        let (_, others) = p.leaves(0, item);
        p.edit_node(others[3], |leaf| leaf.add(item));
        Some(vec![(key(0, ITEM, 0, item), "in 3 leaves")])
    }),
    ("an item in two leaves more", |p| {
        let item = p.settled();
        let (_, others) = p.leaves(1, item);
        p.edit_node(others[2], |leaf| leaf.add(item));
        p.edit_node(others[5], |leaf| leaf.add(item));
        Some(vec![(key(0, ITEM, 0, item), "in 4 leaves")])
    }),
    ("an item without its second copy", |p| {
        let item = p.settled();
        let (holding, _) = p.leaves(0, item);
        p.edit_node(holding[0], |leaf| leaf.ids.retain(|id| *id != item));
        Some(vec![(key(0, ITEM, 0, item), "in 1 leaves")])
    }),
    ("an item in no leaf", |p| {
        let item = p.settled();
        let (holding, _) = p.leaves(0, item);
        holding
            .iter()
            .for_each(|leaf| p.edit_node(*leaf, |leaf| leaf.ids.retain(|id| *id != item)));
        Some(vec![(key(0, ITEM, 0, item), "in 0 leaves")])
    }),
    ("a dead item in a leaf", |p| {
        let leaf = p.any(LEAF);
        p.edit_node(leaf, |leaf| leaf.add(90_000));
        Some(vec![(leaf, "item 90000")])
    }),
    ("an empty leaf", |p| {
        let leaf = p.any(LEAF);
        let item = p.node(leaf).ids[0];
        p.edit_node(leaf, |leaf| leaf.ids.clear());
        named([key(0, ITEM, 0, item)])
    }),
    ("a leaf that is cut", |p| {
        let leaf = p.any(LEAF);
        p.edit(leaf, |value| value.truncate(value.len() - 16));
        named([leaf])
    }),
    ("a leaf of the level of a branch", |p| {
        let leaf = p.any(LEAF);
        p.edit(leaf, |value| value[0] = 1);
        named([leaf])
    }),
    ("two leaves in each other's place", |p| {
        let leaves = p.entries(LEAF);
        let ((a, leaf_a), (b, leaf_b)) = (leaves[0].clone(), leaves[7].clone());
        p.put(a, &leaf_b);
        p.put(b, &leaf_a);
        named(p.parents(a))
    }),
    ("a missing leaf", |p| {
        let leaf = p.any(LEAF);
        p.delete(leaf);
        named([leaf])
    }),
    ("a missing branch", |p| {
        let root = p.root(0).0;
        let child = key(0, BRANCH, 0, p.node(root).ids[0]);
        p.delete(child);
        Some(vec![(child, "missing")])
    }),
    ("a subtree that is not reached", |p| {
        let (root, height) = p.root(0);
        assert!(height > 1);
        let child = p.node(root).ids[1];
        p.edit_node(root, |root| {
            root.ids.remove(1);
            root.weights.remove(1);
            (!root.norms.is_empty()).then(|| root.norms.remove(1));
        });
        Some(vec![(key(0, BRANCH, 0, child), "no branch")])
    }),
    ("a child that is listed twice", |p| {
        let root = p.root(0).0;
        p.edit_node(root, |root| root.ids[1] = root.ids[0]);
        named([root])
    }),
    ("a child of two branches", |p| {
        let root = p.root(0).0;
        let children = p.node(root).ids;
        let stolen = *p.node(key(0, BRANCH, 0, children[0])).ids.last().unwrap();
        p.edit_node(key(0, BRANCH, 0, children[1]), |branch| {
            if let Err(at) = branch.ids.binary_search(&stolen) {
                branch.ids.insert(at, stolen);
                branch.weights.insert(at, 1);
                (!branch.norms.is_empty()).then(|| branch.norms.insert(at, 0));
            }
        });
        Some(vec![(key(0, LEAF, 0, stolen), "two parents")])
    }),
    ("a branch that leads in a circle", |p| {
        let root = p.root(0).0;
        let child = key(0, BRANCH, 0, p.node(root).ids[0]);
        let value = p.get(root);
        p.put(child, &value);
        named([child])
    }),
    ("a root that is its own child", |p| {
        let root = p.root(1).0;
        p.edit_node(root, |node| node.ids[0] = id(root));
        named([root])
    }),
    ("a wrong level", |p| {
        let root = p.root(0).0;
        let child = key(0, BRANCH, 0, p.node(root).ids[0]);
        p.edit(child, |value| value[0] += 1);
        Some(vec![(child, "height")])
    }),
    ("a wrong height in the record", |p| {
        p.add_to_record(TREE + 4, 4, 1);
        named([p.root(0).0])
    }),
    ("a wrong root in the record", |p| {
        p.add_to_record(TREE + 32, 4, 1);
        named([key(0, BRANCH, 1, 0)])
    }),
    ("a wrong weight of a child", |p| {
        let root = p.root(0).0;
        p.edit_node(root, |root| root.weights[0] *= 3);
        Some(vec![(root, "child")])
    }),
    ("a wrong weight of a branch", |p| {
        let root = p.root(1).0;
        p.edit(root, |value| value[16] ^= 1);
        named([root])
    }),
    ("weights that are not those of the children", |p| {
        let root = p.root(1).0;
        let weight = p.get(root)[16];
        p.edit_node(root, |root| root.weights[1] += 1);
        p.edit(root, |value| value[16] = weight);
        named([root])
    }),
    ("weights that no sum can hold", |p| {
        let branches: Vec<[u8; 8]> = p.entries(BRANCH).iter().map(|entry| entry.0).collect();
        branches.iter().for_each(|branch| p.edit(*branch, |value| value[16..24].fill(0xFF)));
        named(branches)
    }),
    ("a wrong weight of a leaf", |p| {
        let leaf = p.any(LEAF);
        p.edit(leaf, |value| value[16] ^= 1);
        named([leaf])
    }),
    ("a flipped sketch of an item", |p| {
        let leaf = p.any(LEAF);
        p.edit_node(leaf, |leaf| leaf.blocks[0] ^= 1);
        Some(vec![(leaf, "sketch")])
    }),
    ("a flipped sketch of a child", |p| {
        let branch = p.any(BRANCH);
        p.edit_node(branch, |branch| branch.blocks[16] ^= 1);
        Some(vec![(branch, "sketch")])
    }),
    ("a flipped factor of an item", |p| {
        let leaf = p.any(LEAF);
        let at = p.node(leaf).factors_at()?;
        p.edit_node(leaf, |leaf| leaf.blocks[at] ^= 1);
        Some(vec![(leaf, "sketch")])
    }),
    ("a flipped factor of a child", |p| {
        let branch = p.any(BRANCH);
        let at = p.node(branch).factors_at()?;
        p.edit_node(branch, |branch| branch.blocks[at + 64] ^= 1);
        Some(vec![(branch, "sketch")])
    }),
    ("another centroid of a leaf", |p| {
        let leaf = p.any(LEAF);
        p.edit_node(leaf, |leaf| leaf.front[2] ^= 0x40);
        // Bits are compared without a centroid: only the branch above knows it.
        (p.metric != Metric::Hamming).then(|| vec![(leaf, "sketch")])
    }),
    ("another centroid of a leaf, for the branch above", |p| {
        let leaf = p.any(LEAF);
        let parents = named(p.parents(leaf));
        p.edit_node(leaf, |leaf| leaf.front[..4].copy_from_slice(&7.0f32.to_le_bytes()));
        parents
    }),
    ("a centroid that is no number", |p| {
        let leaf = p.any(LEAF);
        p.edit_node(leaf, |leaf| leaf.front[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
        named([leaf])
    }),
    ("another centroid of a branch", |p| {
        let branch = p.any(BRANCH);
        p.edit_node(branch, |branch| branch.front[..4].copy_from_slice(&7.0f32.to_le_bytes()));
        named([branch])
    }),
    ("other steps", |p| {
        let leaf = p.any(LEAF);
        p.edit_node(leaf, |leaf| {
            leaf.front[256..].chunks_exact_mut(4).for_each(|step| step[2] ^= 0x80)
        });
        (p.metric == Metric::Manhattan).then(|| vec![(leaf, "")])
    }),
    ("another norm of a child", |p| {
        let branch = p.any(BRANCH);
        p.edit_node(branch, |branch| branch.norms.iter_mut().take(1).for_each(|norm| *norm ^= 1));
        (p.metric == Metric::DotProduct).then(|| vec![(branch, "norm")])
    }),
    ("a free id that a node has", |p| free(p, |free| free.insert(0, 0), 0)),
    ("a free id that was never given out", |p| free(p, |free| free.push(90_000), 0)),
    ("more free ids than it says", |p| free(p, |free| free.push(0), 1)),
    ("fewer free ids than it says", |p| free(p, |free| free.truncate(free.len() - 1), 1_000)),
    ("an id that was never given out", |p| {
        let last = p.entries(LEAF).into_iter().rfind(|(key, _)| key[3] == 0).unwrap().0;
        p.edit(RECORD_KEY, |record| {
            record[TREE + 8..TREE + 12].copy_from_slice(&id(last).to_le_bytes())
        });
        named([key(0, FREE, 0, 0)])
    }),
    ("a leaf of no tree", |p| {
        let leaf = p.any(LEAF);
        let value = p.get(leaf);
        p.put(key(0, LEAF, 9, 0), &value);
        named([key(0, LEAF, 9, 0)])
    }),
    ("free ids of no tree", |p| planted(p, key(0, FREE, 2, 0))),
    ("free ids of nodes of no kind", |p| planted(p, key(0, FREE, 0, 2))),
];

/// Changes the free leaf ids of the first tree; `count` more than it then says.
fn free(p: &mut Patient<'_>, change: fn(&mut Vec<u32>), count: usize) -> Option<Named> {
    let list = key(0, FREE, 0, 0);
    let value = p.get(list);
    let numbers: Vec<u32> =
        value.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
    let mut ids = numbers[4..4 + numbers[0] as usize].to_vec();
    assert!(!ids.is_empty());
    change(&mut ids);
    let said = (ids.len() + 8 * count) as u32;
    let mut value: Vec<u8> =
        [said, 0, 0, 0].iter().chain(&ids).flat_map(|number| number.to_le_bytes()).collect();
    value.resize(value.len().next_multiple_of(16), 0);
    p.put(list, &value);
    named([list])
}
