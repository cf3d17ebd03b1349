//! The picker on a model, runs on a simulated disk, and the garbage rule.

mod garbage;
mod model;
mod picking;
mod running;

mod store {
    pub(super) use crate::{Value, compaction, manifest, table, version};
}
