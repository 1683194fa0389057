//! The bytes in LMDB: this module is the specification.
//!
//! One LMDB database holds many indexes. Numbers are little-endian, except in keys, which are
//! big-endian so that LMDB's byte order is the numeric order. Every key of an index has 8 bytes and
//! every value is a multiple of 16 bytes long. So LMDB places every value at an address that is a
//! multiple of 8. Arrays are read in place through checked [`bytemuck`] views. Nothing is decoded,
//! and no bytes whatever make a view panic: a value that does not follow the specification is
//! [`Error::Corrupted`](crate::Error::Corrupted).
//!
//! Unused bytes ("zero" below) are written as zero.
//!
//! # Mark ([`mark`]): one per database, under a key of two bytes 0, which comes before all others
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `spinney\0` |
//! | 8 | 14 | id: chosen at random, so that no other database has it |
//!
//! LMDB's header of 8 bytes, this key and this value are 32 bytes together. So what follows stays
//! aligned. A table without a mark is one of this crate's if one of its records has their magic:
//! earlier versions wrote no marks. Tables are created without flags.
//!
//! # Key ([`key`](crate::key))
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | index number, big-endian |
//! | 2 | 1 | kind: 0 record, 1 origin, 2 pending, 3 branch, 4 leaf, 5 free ids, 6 item, 7 tail |
//! | 3 | 1 | tree (branch, leaf, free ids): its number, and in bit 7 its generation; generation alone (origin); else 0 |
//! | 4 | 4 | id, big-endian: of the item (item, tail, pending) or of the node (branch, leaf), 0 for leaves and 1 for branches (free ids), else 0 |
//!
//! # Record ([`record`]): one per index, 1,024 bytes
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `spinney\0` |
//! | 8 | 2 | format version, 3 |
//! | 10 | 1 | metric: 1 Euclidean, 2 cosine, 3 dot product, 4 Manhattan, 5 Hamming |
//! | 11 | 1 | storage of the components: 0 `f32`, 1 bits, 2 `f16`, 3 `i8`; Hamming has 1 |
//! | 12 | 4 | dims, 1 to 65,536 |
//! | 16 | 8 | items: how many live items there are |
//! | 24 | 8 | pending: how many pending marks there are |
//! | 32 | 8 | indexed: how many items the forest holds |
//! | 40 | 8 | seed of the forest: it fixes the rotation |
//! | 48 | 1 | trees that there are, 0 (not built, or built without items) to 16 |
//! | 49 | 1 | spill: 1 if each item is in two leaves of each tree, else 0 |
//! | 50 | 1 | sketch bits: bits per dimension of leaf sketches, 1, 2 or 4 (0: never built) |
//! | 51 | 1 | branch bits: bits per dimension of branch sketches, 1, 2 or 4 (0: never built) |
//! | 52 | 4 | leaf size: entries a leaf is filled with at most, 32 to 4,096 (0: never built) |
//! | 56 | 4 | unrefreshed: changes that no centroid has been refreshed for yet, `u32`, less than 32 |
//! | 60 | 1 | trees of the last build, which the next keeps (0: never built) |
//! | 61 | 1 | 1 if the user chose the leaf size, 0 if it follows the number of items |
//! | 62 | 1 | generation of the forest, 0 or 1 |
//! | 63 | 1 | 1 if there may be an origin and nodes of the other generation, else 0 |
//! | 64 | 16 x 32 | per tree, `u32` each: root node id, height (0: the root is a leaf), next leaf id, next branch id, leaves, branches, leaf to refresh next, zero |
//! | 576 | 8 | calibration: items in the forest when it was measured, `u64` (0: never) |
//! | 584 | 4 | queries it was measured with, `u32` |
//! | 588 | 4 | 0 if these were items, 1 if they were queries of the user, 2 if so and some of them lay far outside of all leaves |
//! | 592 | 4 | correction: what the confidence is multiplied with since later builds looked again, in 1,024ths, `u32` (0: none did) |
//! | 596 | 4 | changes that builds have followed since it was measured, `u32` |
//! | 600 | 32 x 12 | for k = 1, 10, 100 and the least of 1,000 and an eighth of these items, and in each for recall .5, .7, .8, .9, .95, .98, .99, .995: the confidence with which searches end, `f32` (infinite: the forest does not reach this recall), vectors to compare exactly, `u32`, and the entries that searches looked at on average, `u32` |
//! | 984 | 8 | the build in several commits that is under way: LMDB's number of the transaction that began it, `u64`, 0 if none is |
//! | 992 | 24 | zero |
//! | 1016 | 8 | check of the bytes before it |
//!
//! # Check: a checksum, by which changed bytes are noticed
//! Of the words w, `u64` each: c = 0xCBF29CE484222325, then c = (c ^ w) * 0x100000001B3 mod 2^64
//! for each; it is stored as `u64`. Origins and nodes have one *in lanes*: of four words, which are
//! the checks of the words whose number is 0, 1, 2 and 3 modulo 4.
//!
//! # Generations
//! Searches see the origin and the nodes of one generation. A build in several commits writes those
//! of the other, and its last commit changes the record alone. Then the other generation is that of
//! the forest before. What is left of it, or of a build that was broken off, is nothing to searches.
//! The next build deletes it. A build that finds another number in the record than its own ends:
//! another has taken its place.
//!
//! # Confidence
//! The confidence of a search is e (1 + (D - D_1) / (d_k + D_1 / 32))^4. D is the squared distance
//! of the nearest leaf left, and d_k that of the k-th candidate. Sketches estimate both, none less
//! than zero; of small leaves, D is that of the centroid. D_1 is the squared distance of the first
//! leaf scanned that is no nearer than d_k / 4. The entries of that leaf and of those after it are
//! e. Let t be the squared distance of the very first leaf that has entries, divided by 1.5 times
//! its spread. If t is above 1 and the spread not 0, t^3 divides the confidence, or 64 if that is
//! less; but not if the calibration asked queries far outside of leaves (2). It is 0 where no leaf
//! scanned is so far as d_k / 4. For the dot product, it is the entries of all leaves scanned.
//!
//! # Versions
//! Version 3 is the first that is frozen: whatever changes from here on comes with a reader for it.
//!
//! Version 2 had no storage but 0, and 1 for Hamming. Bytes 62 and 63 of the record and bytes 8 to
//! 15 of items were 0. It is read as version 3.
//!
//! Version 1 had other numbers from offset 592 of the record on. Origins and nodes had no checks, and
//! nodes 0 at offset 3. An index of version 1 is read as one without a forest: searches compare all
//! its items, and the next build makes a forest.
//!
//! # Item ([`item`])
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | squared norm, `sum x_i^2`, as `f64` (for Hamming: how many bits are set) |
//! | 8 | 4 | factor, `f32` (storage 0 and Hamming: zero) |
//! | 12 | 4 | offset, `f32` (storage 0 and Hamming: zero) |
//! | 16 | | codes: storage 0 dims `f32`, storage 2 dims IEEE half precision, storage 3 dims `i8`, storage 1 `u64` words, code i is bit `i % 64` of word `i / 64` |
//! | | | zero up to a multiple of 16 |
//!
//! With storage 0 and under Hamming, a component x_i is its code. Else it is code * factor + offset,
//! computed in `f32` and rounded after each step; with storage 1 the code is 1 or -1. The norm is
//! that of these components.
//!
//! # Tail ([`cut`])
//! An item's value of at least 4,096 bytes is *cut* if (its length + 16) mod 4,096 is from 1 to 512.
//! Then so many of its last bytes are the value under the key of its tail. The rest, its *head*, is
//! under the key of the item. Else it has no tail. What is above is the format of head and tail
//! together. Versions before 3 cut nothing: a value of full length is an item without a tail, also
//! where it would be cut now. Whatever is written anew is cut. Pending marks hold whole items.
//!
//! The 4,096 and the 16 are the size and the header of LMDB's pages on most machines. They are part
//! of the format, whatever the machine: where pages are larger, cutting saves nothing and does no
//! harm.
//!
//! # Pending ([`item`])
//! One per item added, overwritten or deleted since the last build. None if there is no forest,
//! unless a build in several commits is under way: then one per item changed since that began. Only
//! then may an item that neither exists nor is in the forest have one. The forest to come may hold
//! it.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | live: 1 if the item exists now, 0 if it was deleted |
//! | 1 | 1 | indexed: 1 if the forest holds this id, with the vector that follows, else 0 |
//! | 2 | 14 | zero |
//! | 16 | | if indexed: the item value that the forest was built with |
//!
//! # Origin ([`origin`])
//! | offset | size | field |
//! |---|---|---|
//! | 0 | | dims `f32`: a point among the items at the last bulk build (the median of some), zero up to a multiple of 16 |
//! | | 8 | check in lanes of the bytes before it |
//! | | 8 | zero |
//!
//! # Free ids
//! Node ids below the next one of their tree that no node has: the lowest of those given back since
//! the bulk build.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | how many, `u32`: up to 256 |
//! | 4 | 12 | zero |
//! | 16 | | `u32` ids, ascending, zero up to a multiple of 16 |
//!
//! The forest lives in *work space*: y = P(x - origin), with x divided by its norm under the cosine
//! metric. P is the random rotation of the [`sketch`](crate::sketch) module (the identity for
//! Manhattan). Vectors are padded with zeros to `width` = dims rounded up to a multiple of 64.
//!
//! # Node: branch and leaf ([`node`])
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | height: 0 for a leaf, else one more than its children's |
//! | 1 | 1 | code: 0 rotated (b-bit grid, two factors per entry), 1 grid (Manhattan), 2 bits (Hamming leaves) |
//! | 2 | 1 | bits per dimension b: 1, 2 or 4 |
//! | 3 | 1 | 1 if its factors are relative to the centroid alone (code 0), else 0 |
//! | 4 | 4 | len: how many entries, `u32`: up to 4,096 (leaf) or 128 (branch) |
//! | 8 | 4 | width, `u32` |
//! | 12 | 4 | set bytes: length of the roaring bitmap (leaf), else 0 |
//! | 16 | 8 | weight, `u64`: its entries (leaf), or the sum of its children's weights as it has them (branch) |
//! | 24 | 8 | check in lanes of the whole value, with zeros in place of the check |
//! | 32 | 4 | spread: the squared distance of the middle entry from the centroid when that was set, `f32`; 0 for the dot product and for bits |
//! | 36 | 28 | zero |
//! | 64 | 4 width | centroid c, `f32`, in work space |
//! | | 4 width | code 1 only: steps of the grid, `f32` per dimension |
//! | | | leaf: the ids of its entries, ascending, as a standard Roaring bitmap without run containers, padded to 16 |
//! | | | branch: child node ids, ascending, `u32` x len, padded to 16; then child weights, saturating `u32` x len, padded to 16, each within a quarter of the child's own; then, for the dot product only, child norms \|y\|^2 + 2 <y, P origin>, `f32` x len, padded to 16 |
//! | | | blocks of 32 entries, the last filled up with zeros |
//!
//! A block holds, for each position p in 0..(width b / 4), 16 bytes of nibbles. With j in 0..8, byte
//! 2j has entry j in its low half and entry j + 16 in its high half. Byte 2j + 1 has entries j + 8
//! and j + 24. A nibble holds the codes of 4 / b consecutive dimensions, the first in its lowest
//! bits. For code 0 follow the factors `a[32]` and `b[32]`, each the upper half of an `f32`
//! (bfloat16). Children of a branch are sorted by id. How codes and factors are computed is said in
//! [`sketch`](crate::sketch).

mod checksum;
pub(crate) mod cut;
pub(crate) mod free_ids;
pub(crate) mod id_set;
pub(crate) mod item;
pub(crate) mod mark;
pub(crate) mod node;
pub(crate) mod origin;
pub(crate) mod record;

#[cfg(test)]
mod golden;

#[cfg(target_endian = "big")]
compile_error!("spinney reads its little-endian values in place and has no big-endian port");

/// The format version this crate writes, and the newest it reads.
pub(crate) const FORMAT_VERSION: u16 = 3;
/// The lengths of all values are multiples of this.
pub(crate) const ALIGN: usize = 16;
/// Children that a branch has at most.
pub(crate) const MAX_CHILDREN: usize = 128;

/// Changes that call for refreshing the centroid of one leaf in each tree. Fewer wait in the record
/// until they are so many.
pub(crate) const CHANGES_PER_REFRESH: u32 = 32;
/// Free node ids of one kind that a tree remembers, at most.
pub(crate) const MAX_FREE: usize = 256;

/// Rounds a length in bytes up to the alignment of values.
pub(crate) const fn pad(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}

/// Dimensions of work space: `dims` rounded up to a multiple of 64.
pub(crate) const fn width(dims: usize) -> usize {
    dims.next_multiple_of(64)
}
