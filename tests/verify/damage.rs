//! Kinds of damage, each with the keys that a verification has to name.

use spinney::Metric;

use crate::support::patient::{Patient, id};
use crate::support::raw::*;

/// Keys to be named, each with a part of what is said of it.
pub type Named = Vec<([u8; 8], &'static str)>;

/// Damages a patient; `None` if the metric does not know this kind of damage.
pub type Damage = fn(&mut Patient<'_>) -> Option<Named>;

pub const RECORD_KEY: [u8; 8] = [0; 8];
const TREE: usize = 64;

fn named(keys: impl IntoIterator<Item = [u8; 8]>) -> Option<Named> {
    Some(keys.into_iter().map(|key| (key, "")).collect())
}

/// Damage of items, of the record, of marks and of other keys.
pub const OF_ITEMS: &[(&str, Damage)] = &[
    ("a missing item", |p| {
        let item = p.settled();
        let (holding, _) = p.leaves(0, item);
        p.delete(key(0, ITEM, 0, item));
        Some(
            holding
                .into_iter()
                .map(|key| (key, "not in the index"))
                .chain([(RECORD_KEY, "items")])
                .collect(),
        )
    }),
    ("an extra item", |p| {
        let item = p.settled();
        let value = p.get(key(0, ITEM, 0, item));
        p.put(key(0, ITEM, 0, 90_000), &value);
        Some(vec![(key(0, ITEM, 0, 90_000), "in 0 leaves"), (RECORD_KEY, "items")])
    }),
    ("an item whose key names a tree", |p| {
        let item = p.settled();
        let value = p.get(key(0, ITEM, 0, item));
        p.put(key(0, ITEM, 3, 90_000), &value);
        named([key(0, ITEM, 3, 90_000)])
    }),
    ("a copy of an item under a key that names a tree", |p| {
        let item = p.settled();
        let value = p.get(key(0, ITEM, 0, item));
        p.put(key(0, ITEM, 3, item), &value);
        named([key(0, ITEM, 3, item)])
    }),
    ("a wrong norm", |p| {
        let key = key(0, ITEM, 0, p.settled());
        p.edit(key, |value| value[6] ^= 1);
        named([key])
    }),
    ("a norm that is no number", |p| {
        let key = key(0, ITEM, 0, p.settled());
        p.edit(key, |value| value[..8].copy_from_slice(&f64::NAN.to_le_bytes()));
        named([key])
    }),
    ("an item that is cut", |p| {
        let key = key(0, ITEM, 0, p.settled());
        p.edit(key, |value| value.truncate(value.len() - 16));
        named([key])
    }),
    ("a component that is not finite", |p| {
        let key = key(0, ITEM, 0, p.settled());
        p.edit(key, |value| value[16..20].copy_from_slice(&f32::INFINITY.to_le_bytes()));
        (p.metric != Metric::Hamming).then(|| vec![(key, "")])
    }),
    ("another vector of the same norm", |p| {
        let item = p.settled();
        let (holding, _) = p.leaves(1, item);
        let metric = p.metric;
        p.edit(key(0, ITEM, 0, item), |value| match metric {
            Metric::Hamming => {
                value[16] = value[16] & 0xC0 | (value[16] << 1 | value[16] >> 5 & 1) & 0x3F
            }
            _ => (0..6).for_each(|i| value[19 + 4 * i] ^= 0x80),
        });
        let value = p.get(key(0, ITEM, 0, item))[16];
        // Bits that are all alike stay as they are when they turn.
        (p.metric != Metric::Hamming || ![0, 0x3F].contains(&(value & 0x3F)))
            .then(|| named(holding).unwrap())
    }),
    ("a bit beyond the dimensions", |p| {
        let key = key(0, ITEM, 0, p.settled());
        p.edit(key, |value| value[17] ^= 1);
        (p.metric == Metric::Hamming).then(|| vec![(key, "")])
    }),
    ("a mark of an item that the forest holds as it is", |p| {
        let item = p.settled();
        let (holding, _) = p.leaves(0, item);
        let mut mark = [0; 16];
        mark[0] = 1;
        p.put(key(0, PENDING, 0, item), &mark);
        p.add_to_record(24, 8, 1);
        named(holding)
    }),
    ("a mark of an item that does not exist", |p| {
        let mut mark = [0; 16];
        mark[0] = 1;
        p.put(key(0, PENDING, 0, 90_000), &mark);
        p.add_to_record(24, 8, 1);
        named([key(0, PENDING, 0, 90_000)])
    }),
    ("a mark of nothing at all", |p| {
        p.put(key(0, PENDING, 0, 90_000), &[0; 16]);
        p.add_to_record(24, 8, 1);
        named([key(0, PENDING, 0, 90_000)])
    }),
    ("a mark of a deleted item that exists", |p| {
        let live = p.entries(PENDING).into_iter().find(|(_, mark)| mark[0] == 1).unwrap().0;
        p.edit(live, |mark| mark[0] = 0);
        named([live])
    }),
    ("a missing mark of a new item", |p| {
        let (mark, _) =
            p.entries(PENDING).into_iter().find(|(_, mark)| mark[..2] == [1, 0]).unwrap();
        p.delete(mark);
        p.add_to_record(24, 8, -1);
        Some(vec![(key(0, ITEM, 0, id(mark)), "in 0 leaves")])
    }),
    ("a missing mark of a deleted item", |p| {
        let (mark, _) =
            p.entries(PENDING).into_iter().find(|(_, mark)| mark[..2] == [0, 1]).unwrap();
        let (holding, _) = p.leaves(0, id(mark));
        p.delete(mark);
        p.add_to_record(24, 8, -1);
        named(holding)
    }),
    ("a missing mark of an overwritten item", |p| {
        let (mark, _) =
            p.entries(PENDING).into_iter().find(|(_, mark)| mark[..2] == [1, 1]).unwrap();
        let (holding, _) = p.leaves(0, id(mark));
        p.delete(mark);
        p.add_to_record(24, 8, -1);
        // Bits may be overwritten by themselves.
        (p.metric != Metric::Hamming).then(|| named(holding).unwrap())
    }),
    ("a mark whose old vector is another", |p| {
        let (mark, _) = p.entries(PENDING).into_iter().find(|(_, mark)| mark[1] == 1).unwrap();
        let (holding, _) = p.leaves(0, id(mark));
        let at = if p.metric == Metric::Hamming { 32 } else { 35 };
        p.edit(mark, |value| value[at] ^= 1);
        named(holding)
    }),
    ("a mark with unknown flags", |p| {
        let mark = p.any(PENDING);
        p.edit(mark, |value| value[1] = 7);
        named([mark])
    }),
    ("a mark whose key names a tree", |p| {
        let mark = p.any(PENDING);
        let value = p.get(mark);
        p.delete(mark);
        p.put(key(0, PENDING, 1, id(mark)), &value);
        named([key(0, PENDING, 1, id(mark))])
    }),
    ("a wrong number of items", |p| {
        p.add_to_record(16, 8, 1);
        Some(vec![(RECORD_KEY, "items")])
    }),
    ("a wrong number of marks", |p| {
        p.add_to_record(24, 8, -1);
        Some(vec![(RECORD_KEY, "pending")])
    }),
    ("a wrong number of items in the forest", |p| {
        p.add_to_record(32, 8, 3);
        Some(vec![(RECORD_KEY, "forest")])
    }),
    ("a wrong number of leaves", |p| {
        p.add_to_record(TREE + 16, 4, 1);
        Some(vec![(RECORD_KEY, "leaves")])
    }),
    ("a wrong number of branches", |p| {
        p.add_to_record(TREE + 32 + 20, 4, -1);
        Some(vec![(RECORD_KEY, "branches")])
    }),
    ("a smaller leaf size", |p| {
        let largest = p.entries(LEAF).into_iter().max_by_key(|(_, leaf)| leaf[4]).unwrap();
        p.edit_node(largest.0, |leaf| leaf.ids.extend(90_000..90_040));
        named([largest.0])
    }),
    ("a record that is none", |p| {
        p.edit(RECORD_KEY, |record| record[3] ^= 1);
        named([RECORD_KEY])
    }),
    ("a record that is cut", |p| {
        p.edit(RECORD_KEY, |record| record.truncate(512));
        named([RECORD_KEY])
    }),
    ("a record of no known metric", |p| {
        p.edit(RECORD_KEY, |record| record[10] = 77);
        named([RECORD_KEY])
    }),
    ("no record", |p| {
        p.delete(RECORD_KEY);
        named([RECORD_KEY])
    }),
    ("a record of fewer trees", |p| {
        p.add_to_record(48, 1, -1);
        p.add_to_record(60, 1, -1);
        let nodes = [p.entries(LEAF), p.entries(BRANCH), p.entries(FREE)].concat();
        named(nodes.into_iter().map(|(key, _)| key).filter(|key| key[3] == 1))
    }),
    ("a record of more trees", |p| {
        p.add_to_record(48, 1, 1);
        p.add_to_record(60, 1, 1);
        Some(vec![(key(0, LEAF, 2, 0), "missing")])
    }),
    ("a record of no trees", |p| {
        // The other fields would refuse to be of an index that was never built.
        p.edit(RECORD_KEY, |record| {
            record[24..40].fill(0);
            (record[48], record[60]) = (0, 0);
        });
        let nodes = [p.entries(LEAF), p.entries(BRANCH)].concat();
        named(nodes.into_iter().map(|(key, _)| key))
    }),
    ("another spill", |p| {
        p.add_to_record(49, 1, -1);
        named([key(0, ITEM, 0, p.settled())])
    }),
    ("another seed", |p| {
        p.add_to_record(40, 8, 1);
        let leaf = p.any(LEAF);
        // Manhattan has no rotation, and the sketches of bits are the bits.
        (!matches!(p.metric, Metric::Manhattan | Metric::Hamming)).then(|| vec![(leaf, "sketch")])
    }),
    ("other sketch bits", |p| {
        p.edit(RECORD_KEY, |record| record[50] = if record[50] == 1 { 2 } else { 1 });
        let leaf = p.any(LEAF);
        (p.metric != Metric::Hamming).then(|| vec![(leaf, "layout")])
    }),
    ("an unknown kind of key", |p| {
        p.put(key(0, 99, 0, 5), &[1; 16]);
        named([key(0, 99, 0, 5)])
    }),
    ("a second record", |p| planted(p, key(0, RECORD, 0, 5))),
    ("no origin", |p| {
        p.delete(key(0, ORIGIN, 0, 0));
        named([key(0, ORIGIN, 0, 0)])
    }),
    ("an origin that is cut", |p| {
        p.edit(key(0, ORIGIN, 0, 0), |origin| origin.truncate(16));
        named([key(0, ORIGIN, 0, 0)])
    }),
    ("another origin", |p| {
        p.edit(key(0, ORIGIN, 0, 0), |origin| origin[..4].copy_from_slice(&77.0f32.to_le_bytes()));
        let leaf = p.any(LEAF);
        (p.metric != Metric::Hamming).then(|| named([leaf]).unwrap())
    }),
];

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

/// Puts a value of zeros.
fn planted(p: &mut Patient<'_>, key: [u8; 8]) -> Option<Named> {
    p.put(key, &[0; 16]);
    named([key])
}

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
