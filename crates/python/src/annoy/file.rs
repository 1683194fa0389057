//! Annoy's own files, read in place.
//!
//! A file is an array of nodes of one size, little-endian. The first are the items, by id. The
//! others are the nodes of its trees, and copies of the roots end the file. Each begins with the
//! number of its descendants: 1 for an item, 0 for a hole. A node with few of them lists them in
//! place of its vector.
//!
//! Nothing in a file is trusted: what lies outside is not there.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::annoy::map::Map;
use crate::annoy::metric::Metric;

/// Where the parts of a node are.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Layout {
    /// Bytes of a node.
    size: usize,
    children: usize,
    vector: usize,
    /// Whether the margin of a split has the square of its factor, as 1.17.3 has it.
    pub(crate) has_factor: bool,
}

/// An index that Annoy saved.
pub(crate) struct AnnoyFile {
    map: Map,
    pub(crate) metric: Metric,
    pub(crate) dims: usize,
    layout: Layout,
    nodes: usize,
    pub(crate) items: usize,
    pub(crate) roots: Vec<u32>,
}

/// One node. It is as long as the layout says.
#[derive(Copy, Clone)]
pub(crate) struct Node<'m> {
    bytes: &'m [u8],
    layout: Layout,
}

impl Layout {
    /// Those that the metric has had. Nothing in a file tells which of them it is.
    fn all(metric: Metric, dims: usize) -> Vec<Self> {
        let of = |children, vector, has_factor| {
            let size = vector + dims * size_of::<f32>();
            Self { size, children, vector, has_factor }
        };
        match metric {
            Metric::Angular => vec![of(4, 12, false)],
            Metric::Euclidean | Metric::Manhattan => vec![of(8, 16, false)],
            Metric::Hamming => {
                let size = 16 + dims.div_ceil(64) * size_of::<u64>();
                vec![Self { size, children: 4, vector: 16, has_factor: false }]
            }
            Metric::Dot => vec![of(4, 16, true), of(4, 24, false)],
        }
    }

    /// How many descendants a node can list.
    pub(crate) fn listed(self) -> usize {
        (self.size - self.children) / size_of::<i32>()
    }
}

impl AnnoyFile {
    /// Opens a file of vectors of `dims` numbers under a metric.
    pub(crate) fn open(path: &Path, metric: Metric, dims: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let invalid = |message: &str| io::Error::new(ErrorKind::InvalidData, message);
        if file.metadata()?.len() == 0 {
            return Err(invalid("Size of file is zero"));
        }
        let map = Map::of(&file)?;
        let fits = |layout: &Layout| map.len().is_multiple_of(layout.size);
        let layouts: Vec<Layout> = Layout::all(metric, dims).into_iter().filter(fits).collect();
        if layouts.is_empty() {
            // Not of these vectors, as far as one can tell.
            let message = "Index size is not a multiple of vector size. Ensure you are opening using the \
                 same metric you used to create the index.";
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        let read = |layout: &Layout| Shape::read(&map, *layout).map(|shape| (*layout, shape));
        let shapes: Vec<_> = layouts.iter().filter_map(read).collect();
        let is_whole = |(_, shape): &&(Layout, Shape)| shape.is_whole;
        let found = shapes.iter().find(is_whole).or(shapes.first()).cloned();
        let Some((layout, Shape { nodes, items, roots, .. })) = found else {
            return Err(invalid("The last node of the index has more items than there are nodes"));
        };
        Ok(Self { map, metric, dims, layout, nodes, items, roots })
    }

    /// `None` if there is no such node.
    pub(crate) fn node(&self, number: i64) -> Option<Node<'_>> {
        let number = usize::try_from(number).ok().filter(|&number| number < self.nodes)?;
        node_at(&self.map, self.layout, number)
    }

    /// The node of an item, which may be a hole.
    pub(crate) fn item(&self, id: u32) -> Option<Node<'_>> {
        if id as usize >= self.items {
            return None;
        }
        self.node(id.into())
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The vector of an item, of zeros for a hole. `None` beyond the last item.
    pub(crate) fn vector(&self, id: u32) -> Option<Vec<f32>> {
        let node = self.item(id)?;
        if self.metric == Metric::Hamming {
            let words: Vec<u64> = node.words().collect();
            let bit =
                |place: usize| words.get(place / 64).is_some_and(|w| w >> (place % 64) & 1 == 1);
            return Some((0..self.dims).map(|place| f32::from(u8::from(bit(place)))).collect());
        }
        Some(node.floats().collect())
    }
}

/// What the end of a file tells.
#[derive(Clone)]
struct Shape {
    nodes: usize,
    items: usize,
    roots: Vec<u32>,
    /// Whether the children of all roots are nodes.
    is_whole: bool,
}

impl Shape {
    /// As Annoy finds it: the roots are the last nodes that have equally many descendants.
    fn read(map: &[u8], layout: Layout) -> Option<Self> {
        let nodes = map.len() / layout.size;
        let last = u32::try_from(nodes).ok().filter(|&n| n <= i32::MAX as u32)?.checked_sub(1)?;
        let at = |number: u32| node_at(map, layout, number as usize);
        let descendants = at(last)?.descendants();
        let items = usize::try_from(descendants).ok().filter(|&items| items <= nodes)?;
        let is_root = |number: &u32| at(*number).is_some_and(|n| n.descendants() == descendants);
        let mut roots: Vec<u32> = (0..=last).rev().take_while(is_root).collect();
        let first_child =
            |root: Option<&u32>| root.and_then(|&root| at(root)).and_then(|n| n.child(0));
        // The last root stands before its copy.
        if roots.len() > 1 && first_child(roots.first()) == first_child(roots.last()) {
            roots.pop();
        }
        let is_whole = roots.iter().filter_map(|&root| at(root)).all(|root| {
            let children = items.min(2);
            (0..children).all(|place| {
                let child = root.child(place).and_then(|child| usize::try_from(child).ok());
                child.is_some_and(|child| child < nodes)
            })
        });
        Some(Self { nodes, items, roots, is_whole })
    }
}

fn node_at(map: &[u8], layout: Layout, number: usize) -> Option<Node<'_>> {
    let start = number.checked_mul(layout.size)?;
    let bytes = map.get(start..start.checked_add(layout.size)?)?;
    Some(Node { bytes, layout })
}

impl<'m> Node<'m> {
    fn four(self, at: usize) -> [u8; 4] {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default()
    }

    pub(crate) fn descendants(self) -> i32 {
        i32::from_le_bytes(self.four(0))
    }

    /// A child, or one of the listed descendants. `None` beyond what a node can list.
    pub(crate) fn child(self, place: usize) -> Option<i32> {
        let at = self.layout.children + place * size_of::<i32>();
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk())?;
        Some(i32::from_le_bytes(*bytes))
    }

    /// The squared norm of an item under angular, the offset of a split under euclidean and
    /// manhattan.
    pub(crate) fn constant(self) -> f32 {
        f32::from_le_bytes(self.four(4))
    }

    /// What 1.17.3 has beside the vector under dot.
    pub(crate) fn factor(self) -> f32 {
        f32::from_le_bytes(self.four(12))
    }

    pub(crate) fn vector_bytes(self) -> &'m [u8] {
        self.bytes.get(self.layout.vector..).unwrap_or_default()
    }

    pub(crate) fn floats(self) -> impl Iterator<Item = f32> + 'm {
        let (numbers, _) = self.vector_bytes().as_chunks();
        numbers.iter().map(|bytes| f32::from_le_bytes(*bytes))
    }

    pub(crate) fn words(self) -> impl Iterator<Item = u64> + 'm {
        let (words, _) = self.vector_bytes().as_chunks();
        words.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }
}
