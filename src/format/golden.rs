//! Golden bytes: every kind of value, written out. If this test fails, stored indexes have become
//! unreadable.

use crate::format::item::{PendingRef, write_item, write_pending};
use crate::format::mark::{MARK_KEY, Mark};
use crate::format::node::{BranchRef, Child, EncodedNode, LeafRef, branch_value, leaf_value};
use crate::format::origin::{origin_value, parse_origin};
use crate::format::record::{OperatingPoint, Record};
use crate::index_spec::IndexSpec;
use crate::kernel::layout::{BLOCK, Code, Layout};
use crate::key::{Key, tree_byte};
use crate::metric::Metric;
use crate::sketch::codes::Blocks;
use crate::sketch::quantizer::bfloat16;
use crate::storage::{Components, Scale};

/// Bytes from hex, spaces between, `x*n` for n times the byte x.
fn hex(text: &str) -> Vec<u8> {
    let parts = text.split_whitespace().map(|part| part.split_once('*').unwrap_or((part, "1")));
    parts
        .flat_map(|(bytes, times)| {
            let pairs = bytes.as_bytes().chunks(2).map(|p| std::str::from_utf8(p).unwrap());
            let bytes: Vec<u8> = pairs.map(|p| u8::from_str_radix(p, 16).unwrap()).collect();
            bytes.repeat(times.parse().unwrap())
        })
        .collect()
}

#[test]
fn keys() {
    assert_eq!(Key::record(0x0102).to_bytes(), *b"\x01\x02\x00\x00\x00\x00\x00\x00");
    assert_eq!(Key::origin(1, 0).to_bytes(), *b"\x00\x01\x01\x00\x00\x00\x00\x00");
    assert_eq!(Key::pending(1, 7).to_bytes(), *b"\x00\x01\x02\x00\x00\x00\x00\x07");
    assert_eq!(Key::origin(1, 1).to_bytes(), *b"\x00\x01\x01\x80\x00\x00\x00\x00");
    assert_eq!(Key::leaf(1, tree_byte(1, 2), 7).to_bytes(), *b"\x00\x01\x04\x82\x00\x00\x00\x07");
    assert_eq!(Key::branch(1, 2, 7).to_bytes(), *b"\x00\x01\x03\x02\x00\x00\x00\x07");
    assert_eq!(Key::leaf(1, 2, 0x0A0B_0C0D).to_bytes(), *b"\x00\x01\x04\x02\x0A\x0B\x0C\x0D");
    assert_eq!(Key::free(1, 2, 1).to_bytes(), *b"\x00\x01\x05\x02\x00\x00\x00\x01");
    assert_eq!(Key::item(1, 7).to_bytes(), *b"\x00\x01\x06\x00\x00\x00\x00\x07");
    assert_eq!(Key::tail(1, 7).to_bytes(), *b"\x00\x01\x07\x00\x00\x00\x00\x07");
}

#[test]
fn mark() {
    let id = *b"\x01\x02\x03\x04\x05\x06\x07\xF1\xF2\xF3\xF4\xF5\xF6\xF7";
    assert_eq!(MARK_KEY, [0, 0]);
    assert_eq!(Mark::from_id(id).to_bytes(), hex("7370696e6e657900 01020304050607 f1f2f3f4f5f6f7"));
}

#[test]
fn record() {
    let mut record = Record::new(IndexSpec::plain(3, 384, Metric::Cosine));
    (record.items, record.pending, record.indexed, record.seed) = (1000, 3, 999, 42);
    (record.unrefreshed, record.shape_trees, record.is_leaf_size_asked) = (31, 2, 1);
    (record.trees, record.spill, record.sketch_bits, record.branch_bits, record.leaf_size) =
        (2, 1, 1, 4, 384);
    record.tree[1].root = 5;
    (record.tree[1].height, record.tree[1].next_leaf, record.tree[1].next_branch) = (2, 77, 6);
    (record.tree[1].leaves, record.tree[1].branches, record.tree[1].refresh_next) = (70, 4, 9);
    record.calibration.points[1][2] = OperatingPoint { confidence: 1.5, rerank: 7, entries: 9 };
    (record.generation, record.has_remains, record.build) = (1, 1, 0x0102_0304);
    let expected = hex(
        "7370696e6e657900 0300 02 00 80010000 e803000000000000 0300000000000000 e703000000000000 2a00000000000000 \
         02 01 01 04 80010000 1f000000 02 01 01 01 00*32 05000000 02000000 4d000000 06000000 46000000 04000000 09000000 00000000 \
         00*448 00*144 0000c03f 07000000 09000000 00*252 0403020100000000 00*24 882083fd37d95300",
    );
    assert_eq!(record.to_bytes()[..], expected);
}

#[test]
fn items_and_pending_marks() {
    let mut out = Vec::new();
    write_item(&mut out, 5.0, Components::Floats(&[1.0, -2.0, 0.0]));
    let item = hex("0000000000001440 00*8 0000803f 000000c0 00000000 00*4");
    assert_eq!(out, item);
    write_item(&mut out, 2.0, Components::Bits(&[1 << 63, 2]));
    assert_eq!(out, hex("0000000000000040 00*8 0000000000000080 0200000000000000"));
    let scale = Scale { factor: 0.5, offset: -1.0 };
    let head = "0000000000002240 0000003f 000080bf";
    write_item(&mut out, 9.0, Components::Halves(&[0x3C00, 0x0102], scale));
    assert_eq!(out, hex(&format!("{head} 003c 0201 00*12")));
    write_item(&mut out, 9.0, Components::Bytes(&[-128, 127], scale));
    assert_eq!(out, hex(&format!("{head} 80 7f 00*14")));
    write_item(&mut out, 9.0, Components::Signs { words: &[2], dims: 2, scale });
    assert_eq!(out, hex(&format!("{head} 0200000000000000 00*8")));
    write_pending(&mut out, &PendingRef { is_live: true, indexed: None });
    assert_eq!(out, hex("01 00 00*14"));
    write_pending(&mut out, &PendingRef { is_live: false, indexed: Some(&item) });
    assert_eq!(out, [hex("00 01 00*14"), item].concat());
}

#[test]
fn origin() {
    let value = origin_value(&[1.0, -2.0, 0.0]);
    assert_eq!(value, hex("0000803f 000000c0 00000000 00*4 d5e6933244d779b6 00*8"));
    let buffer = aligned(&value);
    let bytes: &[u8] = bytemuck::cast_slice(&buffer);
    assert_eq!(parse_origin(Key::origin(0, 0), bytes, 3).unwrap(), [1.0, -2.0, 0.0]);
    assert!((0..bytes.len()).all(|len| parse_origin(Key::origin(0, 0), &bytes[..len], 3).is_err()));
    assert!(parse_origin(Key::origin(0, 0), bytes, 5).is_err());
}

/// Two entries: nibbles of the first all 5, of the second (position modulo 16).
fn encoded(layout: Layout) -> EncodedNode {
    let mut blocks = Blocks::new(layout, 2);
    blocks.push((0..layout.positions()).map(|_| 5), [1.0, 2.0].map(bfloat16));
    blocks.push((0u8..16).cycle().take(layout.positions()), [-1.0, -2.0].map(bfloat16));
    let steps = if layout.code == Code::Grid { vec![0.5; 64] } else { Vec::new() };
    EncodedNode {
        layout,
        is_local: false,
        spread: 0.0,
        len: 2,
        centroid: vec![1.0; 64],
        steps,
        blocks: blocks.into_bytes(),
    }
}

fn nibbles() -> String {
    // Entry 0 in the low half of byte 0, entry 1 in the low half of byte 2.
    (0..16).map(|p| format!("05 00 {:02x} 00 00*12 ", p % 16)).collect()
}

#[test]
fn leaf() {
    let value =
        leaf_value(&encoded(Layout { code: Code::Rotated, bits: 1, width: 64 }), &[3, 65_541]);
    let factors = "803f 80bf 00*60 0040 00c0 00*60";
    let set = "3a300000 02000000 0000 0000 0100 0000 18000000 1a000000 0300 0500 00*4";
    let expected = hex(&format!(
        "00 00 01 00 02000000 40000000 1c000000 0200000000000000 2e1fd26d36419b20 00*32 0000803f*64 {set} {} {factors}",
        nibbles()
    ));
    assert_eq!(value, expected);
    let buffer = aligned(&value);
    let leaf = LeafRef::parse(Key::leaf(0, 0, 0), bytemuck::cast_slice(&buffer), 50).unwrap();
    assert_eq!((leaf.node.len, leaf.set.iter().collect::<Vec<_>>()), (2, vec![3, 65_541]));
}

#[test]
fn branch() {
    let value = branch_value(
        2,
        &encoded(Layout { code: Code::Grid, bits: 1, width: 64 }),
        &children(1 << 33),
        Metric::Manhattan,
    );
    let expected = hex(&format!(
        "02 01 01 00 02000000 40000000 00000000 63000000 01000000 ef0cbf2c3a53f690 00*32 0000803f*64 0000003f*64 \
         07000000 09000000 00*8 64000000 ffffffff 00*8 {}",
        nibbles()
    ));
    assert_eq!(value, expected);
    let buffer = aligned(&value);
    let branch = BranchRef::parse(
        Key::branch(0, 0, 0),
        bytemuck::cast_slice(&buffer),
        64,
        Metric::Manhattan,
    )
    .unwrap();
    assert_eq!((branch.children, branch.weights), (&[7, 9][..], &[100, u32::MAX][..]));
}

fn children(last: u64) -> [Child; 2] {
    [Child { id: 7, weight: 100, norm: 1.0 }, Child { id: 9, weight: last, norm: -2.0 }]
}

#[test]
fn branch_of_the_dot_product() {
    let value = branch_value(
        1,
        &encoded(Layout { code: Code::Rotated, bits: 1, width: 64 }),
        &children(1),
        Metric::DotProduct,
    );
    let factors = "803f 80bf 00*60 0040 00c0 00*60";
    let expected = hex(&format!(
        "01 00 01 00 02000000 40000000 00000000 6500000000000000 fc8ad766b1705911 00*32 0000803f*64 \
         07000000 09000000 00*8 64000000 01000000 00*8 0000803f 000000c0 00*8 {} {factors}",
        nibbles()
    ));
    assert_eq!(value, expected);
    let buffer = aligned(&value);
    let branch = BranchRef::parse(
        Key::branch(0, 0, 0),
        bytemuck::cast_slice(&buffer),
        64,
        Metric::DotProduct,
    )
    .unwrap();
    assert_eq!(branch.norms, [1.0, -2.0]);
}

fn aligned(bytes: &[u8]) -> Vec<u128> {
    let mut buffer = vec![0u128; bytes.len() / 16];
    bytemuck::cast_slice_mut(&mut buffer).copy_from_slice(bytes);
    buffer
}

#[test]
fn no_bytes_make_a_node_panic() {
    let leaf =
        leaf_value(&encoded(Layout { code: Code::Rotated, bits: 2, width: 64 }), &[3, 65_541]);
    let branch = branch_value(
        1,
        &encoded(Layout { code: Code::Grid, bits: 1, width: 64 }),
        &children(1),
        Metric::Manhattan,
    );
    for value in [leaf, branch] {
        let mut buffer = aligned(&value);
        for position in 0..value.len() {
            for flip in [0x01, 0x10, 0x80, 0xFF] {
                bytemuck::cast_slice_mut::<u128, u8>(&mut buffer)[position] ^= flip;
                let bytes: &[u8] = bytemuck::cast_slice(&buffer);
                for cut in [0, 16, BLOCK, position] {
                    let bytes = &bytes[..bytes.len() - cut.min(bytes.len())];
                    if let Ok(leaf) = LeafRef::parse(Key::leaf(0, 0, 0), bytes, 64) {
                        let _ = leaf.set.iter().count();
                    }
                    let _ = BranchRef::parse(Key::branch(0, 0, 0), bytes, 64, Metric::Manhattan);
                    let _ = BranchRef::parse(Key::branch(0, 0, 0), bytes, 64, Metric::DotProduct);
                }
                bytemuck::cast_slice_mut::<u128, u8>(&mut buffer)[position] ^= flip;
            }
        }
    }
}
