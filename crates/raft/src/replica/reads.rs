//! Reads that see everything that was acknowledged before they began.
//!
//! ```text
//!   quorum    read ── heartbeat, round 7 ──► a quorum answers round 7 ── ReadOk
//!             no later leader can have been elected before the answers, so none has acknowledged
//!             anything before the read began (ReadIndex, thesis §6.4)
//!
//!   lease     sent at t ──► a quorum answered ── ReadOk at once until t + 0.9 election timeouts
//!             who answered votes for nobody for one election timeout of its clock (§6.4.1)
//! ```
//!
//! Both give the commit index of the moment in which the read came in, and both wait for the
//! leader's first own commit: before that it may not know of what an earlier leader acknowledged
//! (§8).
//!
//! # Where it departs from the thesis
//! The lease is counted from when the heartbeat was *sent*, by the leader's clock alone: it comes
//! back with the answer. The tenth that is taken off is what clocks may differ in rate.

use super::{Raft, Role};
use crate::{LogIndex, Output, ReadMode, Ticks};

/// A read that waits for a round of heartbeats.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingRead {
    pub(super) id: u64,
    index: LogIndex,
    round: u64,
}

impl Raft {
    pub(super) fn read(&mut self, id: u64, mode: ReadMode, out: &mut Vec<Output>) {
        if self.role != Role::Leader {
            out.push(Output::ReadFailed { id, reason: self.not_leader() });
            return;
        }
        self.wake(out);
        self.leading.busy_at = self.now;
        if self.commit < self.leading.begins_at && !cfg!(mutant = "reads_before_own_commit") {
            self.leading.early_reads.push((id, mode));
        } else {
            self.admit_read(id, mode, out);
            self.serve_reads(out);
        }
    }

    pub(super) fn admit_early_reads(&mut self, out: &mut Vec<Output>) {
        if self.commit >= self.leading.begins_at && !self.leading.early_reads.is_empty() {
            for (id, mode) in std::mem::take(&mut self.leading.early_reads) {
                self.admit_read(id, mode, out);
            }
            self.serve_reads(out);
        }
    }

    fn admit_read(&mut self, id: u64, mode: ReadMode, out: &mut Vec<Output>) {
        let index = self.commit;
        let has_lease = self.lease_end().is_some_and(|end| self.now < end);
        if mode == ReadMode::Lease && has_lease || cfg!(mutant = "reads_without_asking") {
            out.push(Output::ReadOk { id, index });
            return;
        }
        // A round that is under way began before this read: it may have been answered before too.
        let round = if cfg!(mutant = "reads_join_running_round") {
            self.leading.round
        } else {
            self.leading.round + 1
        };
        self.leading.reads.push_back(PendingRead { id, index, round });
    }

    /// Answers the reads whose round a quorum has answered; begins a round for those that have
    /// none.
    pub(super) fn serve_reads(&mut self, out: &mut Vec<Output>) {
        if self.leading.reads.is_empty() {
            return;
        }
        loop {
            let reached = self.round_of_quorum();
            while let Some(read) = self.leading.reads.front()
                && read.round <= reached
            {
                out.push(Output::ReadOk { id: read.id, index: read.index });
                self.leading.reads.pop_front();
            }
            // One round at a time for reads: those that come in meanwhile share the next one.
            let is_idle = reached == self.leading.round;
            let waits = self.leading.reads.back().is_some_and(|r| r.round > self.leading.round);
            if !(is_idle && waits) {
                return;
            }
            self.broadcast_heartbeat(false, out);
        }
    }

    fn round_of_quorum(&self) -> u64 {
        let (me, leading) = (self.id, &self.leading);
        self.config().reached_by_quorum(|id| match leading.get(id) {
            Some(progress) => progress.acked_round,
            None if id == me => leading.round,
            None => 0,
        })
    }

    /// Returns the end of the lease, if this replica leads and has one.
    pub(super) fn lease_end(&self) -> Option<Ticks> {
        if self.role != Role::Leader || self.leading.is_lease_void {
            return None;
        }
        let (me, now, leading) = (self.id, self.now, &self.leading);
        // One more than the time, so that zero is "never".
        let sent = self.config().reached_by_quorum(|id| match leading.get(id) {
            Some(progress) => progress.acked_sent.map_or(0, |sent| sent.0.min(now.0) + 1),
            None if id == me => now.0 + 1,
            None => 0,
        });
        let timeout = self.options.election_timeout_ticks;
        let lease = match () {
            () if cfg!(mutant = "lease_too_long") => timeout * 3,
            () => timeout / 10 * 9 + timeout % 10 * 9 / 10,
        };
        Some(Ticks(sent.checked_sub(1)?).after(lease))
    }
}
