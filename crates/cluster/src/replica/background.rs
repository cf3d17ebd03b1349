//! What nobody waits for: sealing, flushing, compacting, and giving log back.
//!
//! ```text
//!   seal    the state is put into the memtable, which then takes nothing more
//!   flush   the hard state is written to the log again ── synced
//!           tables, manifest: the log is needed from behind the last applied entry on
//!           segments before that are used again; the protocol forgets what nobody will ask for
//! ```

use std::ops::ControlFlow;

use base::Timestamp;
use raft::{LogIndex, Role, Ticks};
use storage::{Compacted, Value};

use super::{Output, Replica};
use crate::state::state_key;

impl Replica {
    /// Returns true if [`Replica::background`] has something urgent to do.
    pub fn wants_background(&self) -> bool {
        self.engine.wants_flush()
            || self.engine.wants_seal(self.needed())
            || self.engine.wants_segment(self.engine.log_next())
    }

    /// Does one piece of the work that nobody waits for: one flush, or one compaction. Returns true
    /// if there may be more.
    pub fn background(&mut self, now: Ticks, out: &mut Vec<Output>) -> bool {
        self.now = self.now.max(now);
        if self.failure.is_some() {
            return false;
        }
        if let Err(error) = self.engine.prepare_segment() {
            out.push(Output::Trace(format!("the log's next segment: {error}")));
        }
        if self.engine.wants_seal(self.needed()) {
            self.seal();
        }
        let done = if self.engine.wants_flush() {
            self.flush_one()
        } else {
            let compacted = self.engine.compact_next(self.wall_ms, |_| ControlFlow::Continue(()));
            compacted.map(|compacted| compacted == Compacted::Something)
        };
        let is_more = done.unwrap_or_else(|error| {
            if self.engine.log_failure().is_some() {
                self.fail(error.to_string());
            }
            out.push(Output::Trace(format!("in the background: {error}")));
            false
        });
        self.settle(out);
        is_more
    }

    /// Writes everything that is applied to tables.
    ///
    /// # Errors
    /// Those of the disk; nothing is lost then.
    pub fn flush(&mut self, out: &mut Vec<Output>) -> storage::Result<()> {
        self.seal();
        while self.failure.is_none() && self.flush_one()? {}
        self.settle(out);
        Ok(())
    }

    /// Seals the memtable, with the state that it makes.
    pub(super) fn seal(&mut self) {
        let index = self.state.applied.index;
        if index <= self.sealed.back().copied().unwrap_or(self.flushed) {
            return;
        }
        if !cfg!(mutant = "forgets_applied_index") {
            let (key, bytes) = (state_key(self.options.group), self.state.encode());
            let row = (&key[..], Value::Put(&bytes[..]));
            self.engine.put_applied(self.state.row_ts(), [row].into_iter());
        }
        let needed = if cfg!(mutant = "gives_up_unapplied_log") {
            self.engine.log_next()
        } else {
            self.needed()
        };
        self.engine.seal_applied(self.state.last_ts.max(self.state.row_ts()), needed);
        self.sealed.push_back(index);
    }

    fn flush_one(&mut self) -> storage::Result<bool> {
        if !self.engine.wants_flush() {
            return Ok(false);
        }
        if !cfg!(mutant = "drops_old_votes") {
            // Before the log that has it is given up.
            self.append_hard_state()?;
            self.engine.log_write().run()?;
        }
        if !self.engine.flush_next(Timestamp::MAX)? {
            return Ok(false);
        }
        if let Some(index) = self.sealed.pop_front() {
            self.flushed = index;
        }
        self.compact_log();
        Ok(self.engine.wants_flush())
    }

    /// Lets the protocol forget what is in tables, but for what slow replicas may ask for.
    fn compact_log(&mut self) {
        let kept = self.raft.last().index.0.saturating_sub(self.options.log_entries_kept);
        let slowest = match self.raft.role() {
            Role::Leader => self.raft.matched().map(|(_, index)| index).min(),
            _ => Some(LogIndex(0)),
        };
        let unneeded = slowest.map_or(self.flushed, |slowest| slowest.max(LogIndex(kept)));
        self.raft_step(raft::Input::Compact(self.flushed.min(unneeded)));
    }
}
