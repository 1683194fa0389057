//! Clusters and queues over plain numbers. Nothing here knows an index.

pub(crate) mod kmeans;
pub(crate) mod matrix;
pub(crate) mod queue;
