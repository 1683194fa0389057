//! Clusters and queues over plain numbers. Nothing here knows an index.

pub(crate) mod id_table;
pub(crate) mod kmeans;
pub(crate) mod matrix;
pub(crate) mod queue;
pub(crate) mod scored;
pub(crate) mod top_k;
