//! Checkers of histories.

mod level;
mod report;

pub mod list_append;

pub use level::{Class, Cycle, Level, Order};
pub use report::{Anomaly, Options, Report};
