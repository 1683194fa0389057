//! Damage of items, of the record, of marks and of other keys.

use spinney::Metric;

use crate::damage::{Damage, RECORD_KEY, TREE, named, planted};
use crate::support::patient::id;
use crate::support::raw::*;

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
    ("a tail of an item that is not cut", |p| {
        let item = p.settled();
        planted(p, key(0, TAIL, 0, item))
    }),
    ("a tail of no item", |p| planted(p, key(0, TAIL, 0, 90_000))),
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
