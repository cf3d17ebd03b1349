//! What a power loss leaves on a simulated disk.

use std::collections::BTreeMap;

use super::State;
use super::file::SimFile;
use super::names::{Entry, Names};
use crate::random::SeededRandom;

/// What becomes of everything that was not synced when the power is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashMode {
    /// It is lost: the longest way back that the disk's promises allow.
    LoseUnsynced,
    /// It is kept, the operation in flight included: the disk wrote faster than it was told to. A
    /// process that is killed on a machine that goes on leaves the same.
    KeepUnsynced,
    /// Any part of it is kept, and the seed decides which: of each write any sectors, of the
    /// changes of lengths and names any. A rename is kept whole or lost whole.
    Torn(u64),
}

impl State {
    /// Returns the state of the disk after a crash. No fault plan, no locks and no open files
    /// outlive one; the capacity does.
    pub(super) fn crashed(&self, mode: CrashMode) -> State {
        let mut random = SeededRandom::new(match mode {
            CrashMode::Torn(seed) => seed,
            CrashMode::LoseUnsynced | CrashMode::KeepUnsynced => 0,
        });
        let tree = match mode {
            CrashMode::LoseUnsynced => self.names.crash_lost(),
            CrashMode::KeepUnsynced => self.names.crash_kept(),
            CrashMode::Torn(_) => self.names.crash_torn(&mut random),
        };
        let mut files = BTreeMap::new();
        for entry in tree.values() {
            if let Entry::File(id) = entry
                && let Some(file) = self.files.get(id)
            {
                let content = match mode {
                    CrashMode::LoseUnsynced => file.crash_lost(),
                    CrashMode::KeepUnsynced => file.crash_kept(),
                    CrashMode::Torn(_) => file.crash_torn(&mut random),
                };
                files.insert(*id, SimFile::durable(content));
            }
        }
        State {
            names: Names::durable(tree),
            files,
            next_file_id: self.next_file_id,
            capacity_bytes: self.capacity_bytes,
            ..State::default()
        }
    }
}
