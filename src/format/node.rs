//! Branches and leaves: one header, a centroid, and packed sketches of the entries around it.

use bytemuck::{Pod, Zeroable};

use crate::error::{Error, Result};
use crate::format::checksum::Lanes;
use crate::format::id_set::{IdSetRef, write_set};
use crate::format::{MAX_CHILDREN, pad, width};
use crate::kernel::layout::{BLOCK, Code, Layout};
use crate::kernel::prefetch::{prefetch, touch};
use crate::key::Key;
use crate::limits::is_sketch_bits;
use crate::metric::Metric;
use crate::storage::cast;

const fn code_byte(code: Code) -> u8 {
    match code {
        Code::Rotated => 0,
        Code::Grid => 1,
        Code::Bits => 2,
    }
}

fn code_from_byte(byte: u8) -> Option<Code> {
    [Code::Rotated, Code::Grid, Code::Bits].into_iter().find(|code| code_byte(*code) == byte)
}

/// The first bytes of a node, as in the specification of [`format`](super).
#[derive(Copy, Clone, Debug, Pod, Zeroable)]
#[repr(C)]
struct Header {
    height: u8,
    code: u8,
    bits: u8,
    is_local: u8,
    len: u32,
    width: u32,
    set_bytes: u32,
    weight: u64,
    /// Written by [`seal`].
    check: u64,
    spread: f32,
    zero: u32,
    reserved: [u64; 3],
}

const HEADER: usize = size_of::<Header>();
const _: () = assert!(HEADER == 64);
/// Where the check is.
const CHECK: std::ops::Range<usize> = 24..32;

/// The check of a node's bytes, in which zeros stand for the check itself.
fn seal_of(bytes: &[u8]) -> [u8; 8] {
    let (front, rest) = bytes.split_at(HEADER.min(bytes.len()));
    let mut header = [0; HEADER];
    header[..front.len()].copy_from_slice(front);
    header[CHECK].fill(0);
    Lanes::new().add(&header).add(rest).check().to_le_bytes()
}

/// Gives a value the check of its bytes.
fn seal(value: &mut [u8]) {
    let check = seal_of(value);
    value[CHECK].copy_from_slice(&check);
}

/// Fails if the bytes of a node are not as they were written. Searches leave that out: it costs a
/// pass over all of them.
pub(crate) fn check_seal(key: Key, bytes: &[u8]) -> Result<()> {
    if bytes.get(CHECK) == Some(&seal_of(bytes)) {
        return Ok(());
    }
    Err(Error::corrupted(key, "the check of a node is not that of its bytes"))
}

/// What branches and leaves have in common.
#[derive(Copy, Clone, Debug)]
pub(crate) struct NodeRef<'t> {
    pub(crate) height: u8,
    pub(crate) layout: Layout,
    /// Whether factors are relative to the centroid alone, and tables are made for the node: see
    /// [`sketch`](crate::sketch).
    pub(crate) is_local: bool,
    /// The squared distance of the middle entry from the centroid when that was set; 0 where scores
    /// are no distances.
    pub(crate) spread: f32,
    pub(crate) len: usize,
    pub(crate) weight: u64,
    pub(crate) centroid: &'t [f32],
    /// Empty unless the code is [`Code::Grid`].
    pub(crate) steps: &'t [f32],
    pub(crate) blocks: &'t [u8],
}

impl NodeRef<'_> {
    /// Bytes of the header, of the centroid and of the sketches.
    fn bytes(&self) -> usize {
        HEADER + size_of_val(self.centroid) + size_of_val(self.steps) + self.blocks.len()
    }
}

/// A view over a leaf.
#[derive(Copy, Clone, Debug)]
pub(crate) struct LeafRef<'t> {
    pub(crate) node: NodeRef<'t>,
    pub(crate) set: IdSetRef<'t>,
}

impl LeafRef<'_> {
    /// The ids of its entries; fails unless they ascend.
    pub(crate) fn ascending_ids(&self, key: Key) -> Result<Vec<u32>> {
        let ids: Vec<u32> = self.set.iter().collect();
        if ids.is_sorted_by(|a, b| a < b) {
            return Ok(ids);
        }
        Err(Error::corrupted(key, "the ids of a leaf do not ascend"))
    }

    /// Prefetches where each of its pages is.
    #[inline]
    pub(crate) fn touch(&self) {
        touch(bytemuck::cast_slice(self.node.centroid));
        touch(self.node.blocks);
    }

    /// Prefetches what a search reads besides the sketches.
    pub(crate) fn prefetch(&self) {
        prefetch(self.node.centroid);
        prefetch(self.node.steps);
        self.set.prefetch();
    }

    /// Bytes that a search reads, less the blocks in which none of so many entries is.
    pub(crate) fn bytes_of(&self, entries: usize) -> usize {
        let blocks = self.node.layout.block_bytes() * entries.div_ceil(BLOCK);
        self.node.bytes() - self.node.blocks.len()
            + blocks.min(self.node.blocks.len())
            + pad(self.set.bytes())
    }
}

/// A view over a branch.
#[derive(Copy, Clone, Debug)]
pub(crate) struct BranchRef<'t> {
    pub(crate) node: NodeRef<'t>,
    pub(crate) children: &'t [u32],
    pub(crate) weights: &'t [u32],
    /// Empty unless the metric is the dot product.
    pub(crate) norms: &'t [f32],
}

impl BranchRef<'_> {
    /// Bytes that a search reads.
    pub(crate) fn bytes(&self) -> usize {
        let lists =
            [size_of_val(self.children), size_of_val(self.weights), size_of_val(self.norms)];
        self.node.bytes() + lists.into_iter().map(pad).sum::<usize>()
    }
}

/// Takes the front of a slice; fails with what is wrong.
fn take<'t>(rest: &mut &'t [u8], bytes: usize) -> Result<&'t [u8], &'static str> {
    let (front, back) =
        rest.split_at_checked(bytes).ok_or("a node is shorter than its header says")?;
    *rest = back;
    Ok(front)
}

/// Takes one number for each child.
fn list<'t, T: Pod>(rest: &mut &'t [u8], len: usize) -> Result<&'t [T], &'static str> {
    let all: &[T] = cast(take(rest, pad(4 * len))?)?;
    all.get(..len).ok_or("a branch is shorter than its header says")
}

/// Reads the parts that branches and leaves share; `rest` is left at the part between steps and
/// blocks.
fn parse_front<'t>(
    rest: &mut &'t [u8],
    dims: usize,
) -> Result<(Header, NodeRef<'t>), &'static str> {
    let header: Header = bytemuck::pod_read_unaligned(take(rest, HEADER)?);
    let code = code_from_byte(header.code).ok_or("a node of an unknown code")?;
    if !is_sketch_bits(header.bits) || (code == Code::Bits && header.bits != 1) {
        return Err("a node of an unknown number of bits");
    }
    if header.is_local > u8::from(code == Code::Rotated) {
        return Err("a node of unknown factors");
    }
    if header.width as usize != width(dims) {
        return Err("the width of a node does not fit the dimensions of its index");
    }
    if !(header.spread >= 0.0 && header.spread.is_finite()) {
        return Err("the spread of a node is no distance");
    }
    let layout = Layout { code, bits: header.bits, width: width(dims) };
    let centroid = cast(take(rest, 4 * layout.width)?)?;
    let steps = if code == Code::Grid { cast(take(rest, 4 * layout.width)?)? } else { &[] };
    let node = NodeRef {
        height: header.height,
        layout,
        is_local: header.is_local == 1,
        spread: header.spread,
        len: header.len as usize,
        weight: header.weight,
        centroid,
        steps,
        blocks: &[],
    };
    Ok((header, node))
}

fn parse_blocks<'t>(rest: &'t [u8], node: &mut NodeRef<'t>) -> Result<(), &'static str> {
    if Some(rest.len()) != node.len.div_ceil(BLOCK).checked_mul(node.layout.block_bytes()) {
        return Err("the length of a node does not fit its entries");
    }
    node.blocks = rest;
    Ok(())
}

impl<'t> LeafRef<'t> {
    pub(crate) fn parse(key: Key, bytes: &'t [u8], dims: usize) -> Result<Self> {
        Self::parse_checked(bytes, dims).map_err(|what| Error::corrupted(key, what))
    }

    fn parse_checked(mut rest: &'t [u8], dims: usize) -> Result<Self, &'static str> {
        let (header, mut node) = parse_front(&mut rest, dims)?;
        let set = take(&mut rest, pad(header.set_bytes as usize))?;
        let set = set.get(..header.set_bytes as usize).and_then(IdSetRef::parse);
        let set = set.ok_or("the ids of a leaf are not a Roaring bitmap")?;
        if header.height != 0 || set.len() != node.len || header.weight != u64::from(header.len) {
            return Err("a leaf has another number of ids than of sketches");
        }
        parse_blocks(rest, &mut node)?;
        Ok(Self { node, set })
    }
}

impl<'t> BranchRef<'t> {
    pub(crate) fn parse(key: Key, bytes: &'t [u8], dims: usize, metric: Metric) -> Result<Self> {
        Self::parse_checked(bytes, dims, metric).map_err(|what| Error::corrupted(key, what))
    }

    fn parse_checked(
        mut rest: &'t [u8],
        dims: usize,
        metric: Metric,
    ) -> Result<Self, &'static str> {
        let (header, mut node) = parse_front(&mut rest, dims)?;
        if header.height == 0 || header.set_bytes != 0 || node.layout.code == Code::Bits {
            return Err("a branch with the header of a leaf");
        }
        if node.len > MAX_CHILDREN {
            return Err("a branch of more children than a branch can have");
        }
        let (children, weights) = (list(&mut rest, node.len)?, list(&mut rest, node.len)?);
        let norms = if metric.is_inner_product() { list(&mut rest, node.len)? } else { &[] };
        if !children.is_sorted_by(|a, b| a < b) {
            return Err("the children of a branch are not in order");
        }
        // Sums of 32-bit weights cannot overflow; a weight beyond them would make a search believe
        // that it has seen all.
        if node.weight != weights.iter().map(|weight: &u32| u64::from(*weight)).sum::<u64>() {
            return Err("the weight of a branch is not the sum of its children's");
        }
        parse_blocks(rest, &mut node)?;
        Ok(Self { node, children, weights, norms })
    }
}

/// Packed sketches and what they are relative to: what a node's value is made of besides its ids.
#[derive(Debug)]
pub(crate) struct EncodedNode {
    pub(crate) layout: Layout,
    pub(crate) is_local: bool,
    pub(crate) spread: f32,
    pub(crate) len: usize,
    pub(crate) centroid: Vec<f32>,
    /// Empty unless the code is [`Code::Grid`].
    pub(crate) steps: Vec<f32>,
    pub(crate) blocks: Vec<u8>,
}

impl EncodedNode {
    /// What a node of these sketches would show.
    pub(crate) fn view(&self) -> NodeRef<'_> {
        let Self { layout, is_local, spread, len, centroid, steps, blocks } = self;
        let (layout, is_local, spread, len) = (*layout, *is_local, *spread, *len);
        NodeRef {
            height: 0,
            layout,
            is_local,
            spread,
            len,
            weight: len as u64,
            centroid,
            steps,
            blocks,
        }
    }
}

/// Entries are item ids or node ids and sets hold item ids, so that every length fits 32 bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "entries, widths and sets are bounded far below 2^32"
)]
fn write_front(height: u8, encoded: &EncodedNode, set_bytes: usize, weight: u64) -> Vec<u8> {
    let header = Header {
        height,
        code: code_byte(encoded.layout.code),
        bits: encoded.layout.bits,
        is_local: u8::from(encoded.is_local),
        spread: encoded.spread,
        zero: 0,
        len: encoded.len as u32,
        width: encoded.layout.width as u32,
        set_bytes: set_bytes as u32,
        weight,
        check: 0,
        reserved: [0; 3],
    };
    let mut out = Vec::with_capacity(
        HEADER + 8 * encoded.layout.width + pad(set_bytes) + encoded.blocks.len(),
    );
    out.extend_from_slice(bytemuck::bytes_of(&header));
    out.extend_from_slice(bytemuck::cast_slice(&encoded.centroid));
    out.extend_from_slice(bytemuck::cast_slice(&encoded.steps));
    out
}

/// The value of a leaf whose entries are `ids`, ascending, in the order of the sketches.
pub(crate) fn leaf_value(encoded: &EncodedNode, ids: &[u32]) -> Vec<u8> {
    let mut set = Vec::new();
    let set_bytes = write_set(&mut set, ids);
    let mut out = write_front(0, encoded, set_bytes, ids.len() as u64);
    out.extend_from_slice(&set);
    out.resize(pad(out.len()), 0);
    out.extend_from_slice(&encoded.blocks);
    seal(&mut out);
    out
}

/// Whether a branch may keep this weight of a child that has another now. Weights only plan how far
/// a search descends; a branch that followed each of them would be written with every change below
/// it.
pub(crate) fn is_near_weight(kept: u64, now: u64) -> bool {
    kept.abs_diff(now) <= now / 4
}

/// What a branch stores of a child.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Child {
    pub(crate) id: u32,
    pub(crate) weight: u64,
    /// Written only if the metric is the dot product; see the specification of [`format`](super).
    pub(crate) norm: f32,
}

/// The value of a branch with these children, sorted by id, in the order of the sketches.
pub(crate) fn branch_value(
    height: u8,
    encoded: &EncodedNode,
    children: &[Child],
    metric: Metric,
) -> Vec<u8> {
    let saturated = |child: &Child| u32::try_from(child.weight).unwrap_or(u32::MAX);
    let weight = children.iter().map(|child| u64::from(saturated(child))).sum();
    let mut out = write_front(height, encoded, 0, weight);
    let mut list = |number: &dyn Fn(&Child) -> [u8; 4]| {
        children.iter().for_each(|child| out.extend_from_slice(&number(child)));
        out.resize(pad(out.len()), 0);
    };
    list(&|child| child.id.to_le_bytes());
    list(&|child| saturated(child).to_le_bytes());
    if metric.is_inner_product() {
        list(&|child| child.norm.to_le_bytes());
    }
    out.extend_from_slice(&encoded.blocks);
    seal(&mut out);
    out
}
