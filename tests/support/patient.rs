//! A sound store to be damaged, and its nodes taken apart so that damage can be planted exactly.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::heed::RwTxn;
use spinney::roaring::RoaringBitmap;
use spinney::{BuildMethod, BuildOptions, IndexOptions, Metric, Writer};

use super::raw::*;
use super::*;

pub const DIMS: usize = 6;
pub const TREES: u8 = 2;
const ITEMS: usize = 1500;

pub fn build_options() -> BuildOptions<'static> {
    BuildOptions::default().trees(usize::from(TREES)).spill(true).leaf_size(32)
}

/// A node taken out of its bytes, as the specification in `format` says.
#[derive(Clone, Debug)]
pub struct Node {
    pub header: Vec<u8>,
    /// Of the centroid, and of the steps under Manhattan.
    pub front: Vec<u8>,
    /// Items of a leaf or children of a branch.
    pub ids: Vec<u32>,
    pub weights: Vec<u32>,
    pub norms: Vec<u32>,
    pub blocks: Vec<u8>,
    block_bytes: usize,
}

fn numbers(rest: &mut &[u8], count: usize) -> Vec<u32> {
    let (list, after) = rest.split_at((4 * count).next_multiple_of(16));
    *rest = after;
    list[..4 * count]
        .chunks_exact(4)
        .map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

impl Node {
    pub fn parse(value: &[u8], metric: Metric) -> Self {
        let (header, mut rest) = value.split_at(64);
        let number =
            |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap()) as usize;
        let (len, width, is_leaf) = (number(4), number(8), header[0] == 0);
        let (front, after) = rest.split_at(4 * width * if header[1] == 1 { 2 } else { 1 });
        rest = after;
        let (mut ids, mut weights, mut norms) = (Vec::new(), Vec::new(), Vec::new());
        if is_leaf {
            let (set, after) = rest.split_at(number(12).next_multiple_of(16));
            ids = RoaringBitmap::deserialize_from(&set[..number(12)]).unwrap().iter().collect();
            rest = after;
        } else {
            ids.extend(numbers(&mut rest, len));
            weights.extend(numbers(&mut rest, len));
            if metric == Metric::DotProduct {
                norms.extend(numbers(&mut rest, len));
            }
        }
        let block_bytes = rest.len() / len.div_ceil(32);
        let (header, front, blocks) = (header.to_vec(), front.to_vec(), rest.to_vec());
        Self { header, front, ids, weights, norms, blocks, block_bytes }
    }

    pub fn is_leaf(&self) -> bool {
        self.header[0] == 0
    }

    /// The bytes, with lengths and a weight that fit.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.header.clone();
        let len = self.ids.len() as u32;
        out[4..8].copy_from_slice(&len.to_le_bytes());
        out.extend(&self.front);
        if self.is_leaf() {
            let mut set = Vec::new();
            self.ids.iter().copied().collect::<RoaringBitmap>().serialize_into(&mut set).unwrap();
            out[12..16].copy_from_slice(&(set.len() as u32).to_le_bytes());
            out[16..24].copy_from_slice(&u64::from(len).to_le_bytes());
            out.extend(set);
            out.resize(out.len().next_multiple_of(16), 0);
        } else {
            let weight: u64 = self.weights.iter().map(|weight| u64::from(*weight)).sum();
            out[16..24].copy_from_slice(&weight.to_le_bytes());
            for list in [&self.ids, &self.weights, &self.norms] {
                out.extend(list.iter().flat_map(|number| number.to_le_bytes()));
                out.resize(out.len().next_multiple_of(16), 0);
            }
        }
        let mut blocks = self.blocks.clone();
        blocks.resize(self.ids.len().div_ceil(32) * self.block_bytes, 0);
        out.extend(blocks);
        out
    }

    /// Adds an item to a leaf, with the sketch of whatever is there.
    pub fn add(&mut self, item: u32) {
        let at = self.ids.partition_point(|id| *id < item);
        self.ids.insert(at, item);
    }

    /// Where the factors of the first block start, if there are any.
    pub fn factors_at(&self) -> Option<usize> {
        (self.header[1] == 0).then(|| self.block_bytes - 128)
    }
}

/// A store built in bulk and then incrementally, with free node ids and pending marks of all kinds.
pub struct Subject {
    pub store: Store,
    pub metric: Metric,
}

impl Subject {
    pub fn new(metric: Metric) -> Self {
        let store = Store::with_map_size(256 << 20);
        let mut rng = Seed::new(400).rng(u64::from(metric == Metric::Cosine));
        let rows = vectors(&mut rng, metric, DIMS, ITEMS + 40, Spread::Clusters);
        let items: Items = (0u32..).zip(rows[..ITEMS].iter().cloned()).collect();
        let mut wtxn = store.env.write_txn().unwrap();
        let writer = create(&store, &mut wtxn, DIMS, metric);
        add_all(&writer, &mut wtxn, &items);
        writer.build(&mut wtxn, &build_options()).unwrap();
        // A whole region goes, so that leaves merge and their ids are free.
        for near in ranked(metric, &items, &rows[0]).iter().take(ITEMS / 9) {
            assert!(writer.del_item(&mut wtxn, near.id).unwrap());
        }
        let stats = writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        assert_eq!(stats.method, BuildMethod::Incremental);
        for (i, row) in (0u32..).zip(&rows[ITEMS..]) {
            writer.add_item(&mut wtxn, 1480 + i, row).unwrap();
            writer.del_item(&mut wtxn, 31 * i).unwrap();
        }
        wtxn.commit().unwrap();
        Self { store, metric }
    }

    pub fn patient(&self) -> Patient<'_> {
        let wtxn = self.store.env.write_txn().unwrap();
        let pending = self
            .store
            .raw
            .all(&wtxn)
            .iter()
            .filter(|(key, _)| key[2] == PENDING)
            .map(|(key, _)| id(*key))
            .collect();
        Patient {
            raw: self.store.raw,
            wtxn,
            metric: self.metric,
            pending,
            rng: Seed::new(401).rng(0),
        }
    }

    pub fn options(&self) -> IndexOptions {
        IndexOptions::new(DIMS, self.metric)
    }

    pub fn writer(&self, wtxn: &RwTxn<'_>) -> Writer {
        Writer::open(wtxn, self.store.db, 0).unwrap()
    }
}

pub fn id(key: [u8; 8]) -> u32 {
    u32::from_be_bytes(key[4..].try_into().unwrap())
}

/// The subject in a transaction that will be dropped.
pub struct Patient<'a> {
    pub raw: Raw,
    pub wtxn: RwTxn<'a>,
    pub metric: Metric,
    pub pending: BTreeSet<u32>,
    pub rng: Rng,
}

impl Patient<'_> {
    pub fn entries(&self, kind: u8) -> Entries {
        let all = self.raw.all(&self.wtxn);
        all.into_iter().filter(|(key, _)| key[..2] == [0, 0] && key[2] == kind).collect()
    }

    pub fn get(&self, key: [u8; 8]) -> Vec<u8> {
        self.raw.get(&self.wtxn, key)
    }

    pub fn put(&mut self, key: [u8; 8], value: &[u8]) {
        self.raw.put(&mut self.wtxn, key, value);
    }

    pub fn delete(&mut self, key: [u8; 8]) {
        assert!(self.raw.0.delete(&mut self.wtxn, &key).unwrap());
    }

    /// Changes the value of a key.
    pub fn edit(&mut self, key: [u8; 8], change: impl FnOnce(&mut Vec<u8>)) {
        let mut value = self.get(key);
        change(&mut value);
        self.put(key, &value);
    }

    /// Changes a node.
    pub fn edit_node(&mut self, key: [u8; 8], change: impl FnOnce(&mut Node)) {
        let mut node = self.node(key);
        change(&mut node);
        self.put(key, &node.bytes());
    }

    pub fn node(&self, key: [u8; 8]) -> Node {
        Node::parse(&self.get(key), self.metric)
    }

    /// Any key of a kind; for nodes, of the first tree.
    pub fn any(&mut self, kind: u8) -> [u8; 8] {
        let keys: Vec<[u8; 8]> =
            self.entries(kind).iter().map(|entry| entry.0).filter(|key| key[3] == 0).collect();
        *keys.choose(&mut self.rng).unwrap()
    }

    /// The root of a tree and its height.
    pub fn root(&self, tree: u8) -> ([u8; 8], u32) {
        let record = self.get(key(0, RECORD, 0, 0));
        let at = 64 + 32 * usize::from(tree);
        let number = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap());
        (key(0, BRANCH, tree, number(at)), number(at + 4))
    }

    /// An item without a pending mark.
    pub fn settled(&mut self) -> u32 {
        let ids: Vec<u32> = self.entries(ITEM).iter().map(|(key, _)| id(*key)).collect();
        let ids: Vec<u32> = ids.into_iter().filter(|id| !self.pending.contains(id)).collect();
        *ids.choose(&mut self.rng).unwrap()
    }

    /// The leaves of a tree, and whether each holds an item.
    pub fn leaves(&self, tree: u8, item: u32) -> (Vec<[u8; 8]>, Vec<[u8; 8]>) {
        let leaves = self.entries(LEAF).into_iter().filter(|(key, _)| key[3] == tree);
        let keys: Vec<([u8; 8], bool)> = leaves
            .map(|(key, value)| (key, Node::parse(&value, self.metric).ids.contains(&item)))
            .collect();
        let with =
            |is| keys.iter().filter(|(_, holds)| *holds == is).map(|(key, _)| *key).collect();
        (with(true), with(false))
    }

    /// The branches of the first tree that name a leaf.
    pub fn parents(&self, leaf: [u8; 8]) -> Vec<[u8; 8]> {
        let branches =
            self.entries(BRANCH).into_iter().filter(|(key, branch)| branch[0] == 1 && key[3] == 0);
        let parents =
            branches.filter(|(_, branch)| Node::parse(branch, self.metric).ids.contains(&id(leaf)));
        parents.map(|(key, _)| key).collect()
    }

    /// Adds to a number of the record, at most 8 bytes long.
    pub fn add_to_record(&mut self, at: usize, bytes: usize, add: i64) {
        self.edit(key(0, RECORD, 0, 0), |record| {
            let mut number = [0; 8];
            number[..bytes].copy_from_slice(&record[at..at + bytes]);
            let number = i64::from_le_bytes(number).wrapping_add(add);
            record[at..at + bytes].copy_from_slice(&number.to_le_bytes()[..bytes]);
        });
    }

    pub fn any_number(&mut self, below: u32) -> u32 {
        self.rng.random_range(0..below)
    }
}
