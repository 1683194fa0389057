//! Branches over leaves: groups of near centroids, height by height, up to one root.

use crate::format::MAX_CHILDREN;
use crate::kernel::simd::Level;
use crate::math::kmeans::{assign, kmeans, members, split};
use crate::math::matrix::Matrix;

/// Children a branch of a bulk build has on average: room to grow before it splits.
const MEAN_CHILDREN: usize = 64;

/// A branch of the hierarchy.
#[derive(Debug)]
pub(crate) struct Group {
    /// The median of its children's centroids, which one child far away does not move.
    pub(crate) centroid: Vec<f32>,
    /// Numbers of branches of the height below, or of leaves.
    pub(crate) children: Vec<u32>,
}

/// Groups leaves under branches, branches under branches, until one is left: the root, alone at the
/// last height.
///
/// There is no branch if there is at most one leaf.
pub(crate) fn hierarchy(simd: Level, leaves: &Matrix, seed: u64) -> Vec<Vec<Group>> {
    let mut hierarchy: Vec<Vec<Group>> = Vec::new();
    let mut below = leaves.clone();
    while below.len() > 1 {
        let groups = group(simd, &below, seed ^ (hierarchy.len() as u64 + 1) << 32);
        below.values = groups.iter().flat_map(|group| group.centroid.iter().copied()).collect();
        hierarchy.push(groups);
    }
    hierarchy
}

fn group(simd: Level, points: &Matrix, seed: u64) -> Vec<Group> {
    let parts = if points.len() <= MAX_CHILDREN {
        vec![(0u32..).take(points.len()).collect()]
    } else {
        let centroids = kmeans(simd, points, points.len().div_ceil(MEAN_CHILDREN), seed);
        members(&assign(simd, points, &centroids), centroids.len())
    };
    let mut groups = Vec::new();
    for rows in parts.into_iter().filter(|rows| !rows.is_empty()) {
        let part = points.gather(&rows);
        for group in split(simd, &part, MAX_CHILDREN, seed) {
            let children: Vec<u32> = group.iter().map(|i| rows[*i as usize]).collect();
            groups.push(Group { centroid: points.gather(&children).median(), children });
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::kernel::simd;

    #[test]
    fn every_leaf_hangs_once_under_one_root_and_no_branch_is_too_wide() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
        for n in [0, 1, 2, 128, 129, 3000, 20_000] {
            let leaves =
                Matrix { values: (0..n * 64).map(|_| rng.random::<f32>()).collect(), width: 64 };
            let groups_by_height = hierarchy(simd::detect(), &leaves, 1);
            assert_eq!(groups_by_height.last().map(Vec::len), (n > 1).then_some(1));
            let mut below = n;
            for groups in &groups_by_height {
                let mut children: Vec<u32> =
                    groups.iter().flat_map(|group| group.children.clone()).collect();
                children.sort_unstable();
                assert!(children.into_iter().eq(0..u32::try_from(below).unwrap()));
                assert!(
                    groups.iter().all(|group| (1..=MAX_CHILDREN).contains(&group.children.len()))
                );
                below = groups.len();
            }
        }
        let same = Matrix { values: vec![1.0; 5000 * 64], width: 64 };
        assert_eq!(hierarchy(simd::detect(), &same, 1).last().map(Vec::len), Some(1));
    }
}
