//! Where the versions of keys are at one moment: the memtables and the live tables.
//!
//! ```text
//!            newest                                              oldest
//!   view 7   active C ── sealed B ── sealed A ── version {tables 3 5 8}
//!   view 8   active C ── sealed B ───────────── version {tables 3 5 8 9}      A was flushed
//!   view 9   active C ── sealed B ───────────── version {tables 9 10}         3 5 8 compacted
//!   view 10  active D ── sealed C ── sealed B ─ version {tables 9 10}         C was sealed
//! ```
//!
//! A view is replaced whole, never changed. A reader takes the view of its moment and asks from
//! left to right; whatever happens meanwhile, everything visible at its timestamp is in what it
//! holds.
//!
//! # Invariants
//! * Every version in a memtable is newer than every version of the memtables and tables to its
//!   right: commits are put into the active memtable in the critical section that gives them their
//!   timestamps, and it is sealed in the same section.
//! * What leaves a memtable's place is in the version of the same view.

use std::sync::Arc;

use base::Timestamp;

use crate::memtable::Memtable;
use crate::version::Version;
use crate::wal::Lsn;

/// Memtables and tables of one moment.
#[derive(Clone)]
pub(crate) struct View {
    /// Takes the commits.
    pub(crate) active: Arc<Memtable>,
    /// Wait to be flushed, the newest first.
    pub(crate) sealed: Vec<Arc<Sealed>>,
    /// The live tables.
    pub(crate) version: Arc<Version>,
}

/// A memtable that takes no more commits.
pub(crate) struct Sealed {
    pub(crate) memtable: Arc<Memtable>,
    /// The last commit that may have gone into it.
    pub(crate) seal_ts: Timestamp,
    /// Where in the log the first record after it begins.
    pub(crate) log_end: Lsn,
}

impl View {
    /// Returns the memtables, the newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Memtable> {
        let sealed = self.sealed.iter().map(|sealed| &*sealed.memtable);
        std::iter::once(&*self.active).chain(sealed)
    }

    /// Returns the view with its active memtable sealed and `next` in its place.
    pub(crate) fn seal(&self, next: Memtable, seal_ts: Timestamp, log_end: Lsn) -> View {
        let sealed = Arc::new(Sealed { memtable: self.active.clone(), seal_ts, log_end });
        View {
            active: Arc::new(next),
            sealed: std::iter::once(sealed).chain(self.sealed.iter().cloned()).collect(),
            version: self.version.clone(),
        }
    }

    /// Returns the view without its oldest sealed memtable, which is in the tables of `version`.
    pub(crate) fn flushed(&self, version: Arc<Version>) -> View {
        let mut sealed = self.sealed.clone();
        sealed.pop();
        View { active: self.active.clone(), sealed, version }
    }

    /// Returns the view with other tables that say the same.
    pub(crate) fn with_version(&self, version: Arc<Version>) -> View {
        View { version, ..self.clone() }
    }
}
