//! How the answers of a shell look.

use holm::{Row, Stats};

use crate::exit::Result;

/// Shows answers.
pub(super) trait Screen {
    /// A value, or that there is none.
    fn value(&mut self, value: Option<&[u8]>) -> Result;
    /// A commit, durable by now.
    fn committed(&mut self, timestamp: holm::Timestamp) -> Result;
    /// Something else was done.
    fn done(&mut self) -> Result;
    /// The rows of a scan.
    fn rows(
        &mut self,
        rows: &mut dyn Iterator<Item = holm::Result<Row>>,
        keys_only: bool,
    ) -> Result;
    /// The names of keyspaces.
    fn names(&mut self, names: &[&str]) -> Result;
    /// Sizes and counts.
    fn stats(&mut self, stats: &Stats) -> Result;
    /// What commands there are.
    fn help(&mut self) -> Result;
}
