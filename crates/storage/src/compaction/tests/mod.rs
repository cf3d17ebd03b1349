//! The picker on a model, runs on a simulated disk, and the garbage rule.

mod model;
mod picking;

mod store {
    pub(super) use crate::*;
}
