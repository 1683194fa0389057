//! The shape of a tree: which leaf an item belongs to, and how leaves hang under branches. Only
//! [`nodes`](crate::lmdb::nodes) reads LMDB.
//!
//! # What was tried
//! For 10 of 98,000 vectors of sift (128 dimensions) and of minilm (384), queries from the same
//! source, by how much more or fewer sketches of leaves and bytes searches read than with the
//! defaults (one tree, each item in two leaves of up to 256 entries, 2 and 1 bits) to find .90, .95
//! and .99 of the neighbours. Each aimed at these by its own calibration, so that recalls differ by
//! up to .01; one seed.
//!
//! | | sift: sketches | bytes | minilm: sketches | bytes |
//! |---|---|---|---|---|
//! | one leaf for each item | +40, +44, +34 % | +33, +39, +26 % | +84, +101, +76 % | +67, +70, +51 % |
//! | one leaf in each of 2 trees | +38, +46, +35 % | +35, +43, +35 % | +75, +81, +127 % | +68, +78, +96 % |
//! | one leaf in each of 4 trees | +27, +39, +35 % | +30, +41, +38 % | +57, +86, +156 % | +62, +91, +135 % |
//! | two leaves in each of 2 trees | -4, -2, -5 % | 0, +2, -2 % | -3, -10, -7 % | +1, -5, +10 % |
//! | leaves of up to 128 entries | -34, -33, -33 % | -7, -4, -3 % | -34, -36, -41 % | +5, +5, -1 % |
//! | leaves of up to 512 entries | +41, +41, +31 % | +16, +16, +8 % | +49, +49, +27 % | +12, +12, -1 % |
//! | 1 bit, and 2 to 3 times the comparisons | +3, +2, -1 % | -17, -16, -19 % | | |
//! | 4 bits, and half to a fifth of the comparisons | -4, -2, -2 % | +50, +53, +54 % | -14, -4, -2 % | +104, +132, +155 % |
//!
//! A comparison is a read of a place of its own in memory, which takes longer than its bytes in a
//! row.

pub(crate) mod context;
pub(crate) mod descent;
pub(crate) mod hierarchy;
pub(crate) mod points;
pub(crate) mod route;
pub(crate) mod seen;
pub(crate) mod train;
