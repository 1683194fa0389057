//! Searches in Annoy's own trees, with its very answers.
//!
//! All trees are walked at once, the most promising node first: its priority is the smallest margin
//! on the way to it. The items of the leaves are compared when there are enough of them.

use std::collections::BinaryHeap;

use crate::annoy::file::{AnnoyFile, Node};
use crate::annoy::metric::Metric;

/// A query in the form of the file's vectors.
enum Query {
    Floats { vector: Vec<f32>, squared_norm: f32 },
    Bits(Vec<u64>),
}

/// The nearest items and their distances, the nearest first. `search_k` is Annoy's: -1 stands for
/// one for each hit and tree, and other negative numbers for all there are.
///
/// # Cost
/// At most two visits to each node, whatever the file says.
pub(crate) fn nearest(file: &AnnoyFile, vector: &[f32], n: i32, search_k: i32) -> Vec<(u32, f64)> {
    let query = Query::of(file, vector);
    let mut found = candidates(file, &query, wanted(file, n, search_k));
    found.sort_unstable();
    found.dedup();
    let is_item = |id: &u32| file.item(*id).is_some_and(|node| node.descendants() == 1);
    found.retain(is_item);
    let with_key = |id: u32| file.item(id).map(|node| (query.key(file, node), id));
    let mut hits: Vec<(u64, u32)> = found.into_iter().filter_map(with_key).collect();
    let count = usize::try_from(n).unwrap_or(usize::MAX).min(hits.len());
    if count < hits.len() {
        hits.select_nth_unstable(count);
        hits.truncate(count);
    }
    hits.sort_unstable();
    hits.into_iter().map(|(key, id)| (id, distance(file.metric, key))).collect()
}

/// Annoy computes it in 32 bits, and compares it without its sign.
#[allow(clippy::cast_possible_truncation)]
fn wanted(file: &AnnoyFile, n: i32, search_k: i32) -> usize {
    let search_k = match search_k {
        -1 => (i64::from(n).wrapping_mul(file.roots.len() as i64)) as i32,
        search_k => search_k,
    };
    usize::try_from(search_k).unwrap_or(usize::MAX)
}

/// Ids of items, some of them twice, that a search compares.
fn candidates(file: &AnnoyFile, query: &Query, wanted: usize) -> Vec<u32> {
    let first = match query {
        Query::Floats { .. } => key_of(f32::INFINITY),
        Query::Bits(_) => u64::MAX,
    };
    let mut queue: BinaryHeap<(u64, u32)> = file.roots.iter().map(|&root| (first, root)).collect();
    let (mut found, listed) = (Vec::new(), file.layout().listed());
    // A tree is entered by its root and by the copy of it at most.
    let mut left = file.nodes().saturating_mul(2);
    while found.len() < wanted
        && let Some((priority, number)) = queue.pop()
    {
        let Some(node) = file.node(number.into()) else { continue };
        let descendants = node.descendants();
        if descendants == 1 && (number as usize) < file.items {
            found.push(number);
            continue;
        }
        if left == 0 {
            break;
        }
        left -= 1;
        // A negative number has none.
        let count = usize::try_from(descendants).unwrap_or(0);
        let ids = |count| (0..count).filter_map(move |place| node.child(place));
        if count <= listed {
            found.extend(ids(count).filter_map(|id| u32::try_from(id).ok()));
            continue;
        }
        let priorities = query.priorities(file, node, priority);
        let children =
            ids(2).zip(priorities).filter_map(|(id, p)| Some((p, u32::try_from(id).ok()?)));
        queue.extend(children);
    }
    found
}

impl Query {
    fn of(file: &AnnoyFile, vector: &[f32]) -> Self {
        if file.metric != Metric::Hamming {
            let squared_norm = vector.iter().map(|x| x * x).sum();
            return Self::Floats { vector: vector.to_vec(), squared_norm };
        }
        let word = |bits: &[f32]| {
            bits.iter().enumerate().fold(0, |word, (at, &bit)| word | u64::from(bit > 0.5) << at)
        };
        Self::Bits(vector.chunks(64).map(word).collect())
    }

    /// The priorities of the two children of a split.
    fn priorities(&self, file: &AnnoyFile, node: Node<'_>, own: u64) -> [u64; 2] {
        match self {
            Self::Floats { vector, .. } => {
                let product = dot(vector, node);
                let margin = match file.metric {
                    Metric::Euclidean | Metric::Manhattan => node.constant() + product,
                    _ if file.layout().has_factor => product + node.factor() * node.factor(),
                    _ => product,
                };
                let of = |margin: f32| if margin.is_nan() { own } else { own.min(key_of(margin)) };
                [of(-margin), of(margin)]
            }
            Self::Bits(words) => {
                let place = node.words().next().unwrap_or_default();
                let word = usize::try_from(place / 64).ok().and_then(|at| words.get(at));
                let is_set = word.is_some_and(|word| word >> (63 - place % 64) & 1 == 1);
                [own - u64::from(is_set), own - u64::from(!is_set)]
            }
        }
    }

    /// The distance to an item as a number that sorts alike.
    fn key(&self, file: &AnnoyFile, node: Node<'_>) -> u64 {
        match self {
            Self::Bits(words) => {
                words.iter().zip(node.words()).map(|(a, b)| u64::from((a ^ b).count_ones())).sum()
            }
            Self::Floats { vector, squared_norm } => key_of(match file.metric {
                Metric::Angular => angular(vector, *squared_norm, node),
                Metric::Manhattan => sum(vector, node, |x, y| (x - y).abs()),
                Metric::Dot => -dot(vector, node),
                Metric::Euclidean | Metric::Hamming => sum(vector, node, |x, y| (x - y) * (x - y)),
            }),
        }
    }
}

/// `2 - 2 cos`, as Annoy rounds it.
#[allow(clippy::cast_possible_truncation)]
fn angular(vector: &[f32], squared_norm: f32, node: Node<'_>) -> f32 {
    let stored = node.constant();
    let other = if stored == 0.0 { node.floats().map(|x| x * x).sum() } else { stored };
    let norms = squared_norm * other;
    if norms > 0.0 {
        (2.0 - 2.0 * f64::from(dot(vector, node)) / f64::from(norms.sqrt())) as f32
    } else {
        2.0
    }
}

fn dot(vector: &[f32], node: Node<'_>) -> f32 {
    sum(vector, node, |x, y| x * y)
}

/// The sum over all places, in eight parts as Annoy has it.
fn sum(vector: &[f32], node: Node<'_>, term: impl Fn(f32, f32) -> f32) -> f32 {
    let (numbers, _) = node.vector_bytes().as_chunks::<4>();
    let (eights, rest) = vector.as_chunks::<8>();
    let (other_eights, other_rest) = numbers.as_chunks::<8>();
    let mut parts = [0.0; 8];
    for (a, b) in eights.iter().zip(other_eights) {
        for ((part, &x), y) in parts.iter_mut().zip(a).zip(b) {
            *part += term(x, f32::from_le_bytes(*y));
        }
    }
    let [a, b, c, d, e, f, g, h] = parts;
    let whole = ((a + e) + (c + g)) + ((b + f) + (d + h));
    let rest = rest.iter().zip(other_rest);
    rest.fold(whole, |whole, (&x, y)| whole + term(x, f32::from_le_bytes(*y)))
}

/// A number that sorts as the float does. Both zeros are one.
fn key_of(value: f32) -> u64 {
    let bits = (value + 0.0).to_bits();
    u64::from(if bits >> 31 == 1 { !bits } else { bits | 1 << 31 })
}

#[allow(clippy::cast_possible_truncation)]
fn value_of(key: u64) -> f32 {
    let bits = key as u32;
    f32::from_bits(if bits >> 31 == 1 { bits & !(1 << 31) } else { !bits })
}

/// The distance that Python sees.
fn distance(metric: Metric, key: u64) -> f64 {
    match metric {
        Metric::Hamming => key as f64,
        Metric::Angular | Metric::Euclidean => value_of(key).max(0.0).sqrt().into(),
        Metric::Manhattan => value_of(key).max(0.0).into(),
        Metric::Dot => (-value_of(key)).into(),
    }
}
