//! How far a build is, for the caller's callback.

use std::fmt;
use std::ops::ControlFlow;

/// Called during a build, from any thread of the pool but never from two at once.
pub type ProgressCallback<'a> = &'a (dyn Fn(&Progress) -> ControlFlow<()> + Sync);

/// How far a build is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub phase: BuildPhase,
    /// Steps of this phase that are done; the last call of a phase has `done == total`.
    pub done: u64,
    /// Steps of this phase.
    pub total: u64,
}

/// The phases of a build. A phase without work may be left out.
///
/// A bulk build samples. Then it clusters, routes, splits and encodes each tree, and calibrates. An
/// incremental build locates, changes, merges, splits, refreshes and encodes in each tree. A build
/// in several commits is a bulk build that writes at last, and then may calibrate again.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum BuildPhase {
    /// Listing the items and reading the sample that centroids are computed from.
    Sampling,
    /// Finding the leaves of what changed.
    Locating,
    /// Changing these leaves.
    Changing,
    /// Merging leaves that are underfull into their neighbours.
    Merging,
    /// Computing the centroids of the leaves.
    Clustering,
    /// Finding the nearest leaves of every item.
    Routing,
    /// Splitting leaves that are overfull.
    Splitting,
    /// Moving the centroids of a few leaves to where their items are now.
    Refreshing,
    /// Encoding leaves and branches.
    Encoding,
    /// Finding the true neighbours of some items, by which a bulk build will measure its recall.
    Calibrating,
    /// Writing the nodes, in builds in several commits. Reported after each commit.
    Writing,
}

impl fmt::Display for BuildPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sampling => "sampling",
            Self::Locating => "locating",
            Self::Changing => "changing",
            Self::Merging => "merging",
            Self::Refreshing => "refreshing",
            Self::Clustering => "clustering",
            Self::Routing => "routing",
            Self::Splitting => "splitting",
            Self::Calibrating => "calibrating",
            Self::Encoding => "encoding",
            Self::Writing => "writing",
        })
    }
}
