//! Leading: proposals, what counts as committed, heartbeats, and when to stop.
//!
//! ```text
//!                     1  2  3  4  5  6      the leader's log, term 4; its own disk has 4
//!   leader   terms    1  1  2  4  4  4
//!   durable here      ─────────┘
//!   durable at B      ──────────────┘       two of three have 4, and it is of term 4:
//!   durable at C      ─────┘                1 to 4 are committed, with what lies before
//! ```
//!
//! # Invariants
//! * Only an entry of its own term is committed by counting (Raft §5.4.2, figure 8); those before
//!   it are committed with it.
//! * Who is no voter counts for nothing, this replica included when it is leaving.
//! * A leader that hears of no quorum for an election timeout stops leading (check-quorum; thesis
//!   §6.2): its clients go elsewhere, and its voice does not keep a working majority waiting.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::reads::PendingRead;
use super::{Raft, Role};
use crate::progress::{Feeding, Progress};
use crate::{
    Body, Config, Entry, LogIndex, Output, Payload, Position, ReadMode, Refusal, ReplicaId, Term,
    Ticks,
};

/// What a replica knows while it leads.
#[derive(Debug, Clone, Default)]
pub(super) struct Leading {
    /// The others, sorted by id.
    pub(super) progress: Vec<Progress>,
    /// The index of the empty entry with which it began.
    pub(super) begins_at: LogIndex,
    pub(super) heartbeat_due: Ticks,
    /// Counts rounds of heartbeats.
    pub(super) round: u64,
    /// Reads that wait for a round, oldest first.
    pub(super) reads: VecDeque<PendingRead>,
    /// Reads that wait for the first commit of this leader.
    pub(super) early_reads: Vec<(u64, ReadMode)>,
    /// To whom the leadership is being handed, and until when that is tried.
    pub(super) transfer: Option<(ReplicaId, Ticks)>,
    /// Somebody was told to stand for election in spite of the promises, and may be slow to hear
    /// it.
    pub(super) is_lease_void: bool,
    pub(super) uncommitted_bytes: usize,
    /// When there was last something to do.
    pub(super) busy_at: Ticks,
}

impl Leading {
    /// Takes note of who is part of the group.
    pub(super) fn reconcile(&mut self, me: ReplicaId, config: &Config, last: LogIndex, now: Ticks) {
        self.progress.retain(|progress| config.contains(progress.id));
        for id in config.members().into_iter().filter(|id| *id != me) {
            if let Err(at) = self.progress.binary_search_by_key(&id, |progress| progress.id) {
                self.progress.insert(at, Progress::new(id, last.next(), now));
            }
        }
    }

    pub(super) fn find(&mut self, id: ReplicaId) -> Option<&mut Progress> {
        let at = self.progress.binary_search_by_key(&id, |progress| progress.id).ok()?;
        self.progress.get_mut(at)
    }

    pub(super) fn get(&self, id: ReplicaId) -> Option<&Progress> {
        let at = self.progress.binary_search_by_key(&id, |progress| progress.id).ok()?;
        self.progress.get(at)
    }

    /// Answers everybody who waits for this leader.
    pub(super) fn resign(self, leader: Option<ReplicaId>, out: &mut Vec<Output>) {
        let reason = Refusal::NotLeader { leader };
        let early = self.early_reads.iter().map(|(id, _)| *id);
        for id in self.reads.iter().map(|read| read.id).chain(early) {
            out.push(Output::ReadFailed { id, reason });
        }
    }
}

impl Raft {
    /// Begins to lead.
    pub(super) fn lead(&mut self, out: &mut Vec<Output>) {
        self.role = Role::Leader;
        self.leader = Some(self.id);
        self.is_quiet = false;
        let last = self.log.last_index();
        let uncommitted = self.log.from(self.commit.next()).map(Entry::bytes).sum();
        self.leading = Leading {
            begins_at: last.next(),
            uncommitted_bytes: uncommitted,
            busy_at: self.now,
            ..Leading::default()
        };
        let config = Arc::clone(self.config());
        self.leading.reconcile(self.id, &config, last, self.now);
        // Raft §8: by committing this one it learns what of its log is committed.
        self.append(Payload::Empty);
        self.broadcast_heartbeat(false, out);
        self.count_acknowledgements(out);
    }

    fn append(&mut self, payload: Payload) -> LogIndex {
        let (term, index) = (self.hard_state.term, self.log.last_index().next());
        let entry = Entry { term, index, payload };
        self.leading.uncommitted_bytes += entry.bytes();
        self.leading.busy_at = self.now;
        self.log.append(term, entry);
        index
    }

    pub(super) fn propose(&mut self, commands: Vec<Bytes>, expected: Term, out: &mut Vec<Output>) {
        let bytes: usize = commands.iter().map(|c| c.len() + Entry::OVERHEAD_BYTES).sum();
        let leading = &self.leading;
        let max = self.options.uncommitted_bytes_max;
        let reason = match () {
            () if self.role != Role::Leader => self.not_leader(),
            // What was thought out in another term rests on another history.
            () if expected != self.hard_state.term && !cfg!(mutant = "ignores_expected_term") => {
                Refusal::OtherTerm(self.hard_state.term)
            }
            // Thesis §3.10: the target must be able to catch up.
            () if leading.transfer.is_some() => Refusal::Transferring,
            // One that is larger than the limit still gets through when nothing else is under way.
            () if leading.uncommitted_bytes > 0 && leading.uncommitted_bytes + bytes > max => {
                Refusal::Overloaded
            }
            () => {
                self.wake(out);
                for command in commands {
                    self.append(Payload::Command(command));
                }
                self.count_acknowledgements(out);
                return;
            }
        };
        out.push(Output::Dropped { commands, reason });
    }

    /// Appends a configuration; it is in force from this moment on (Raft §6).
    pub(super) fn append_config(&mut self, config: Config, out: &mut Vec<Output>) {
        let config = Arc::new(config);
        let index = self.append(Payload::Config(Arc::clone(&config)));
        if !cfg!(mutant = "config_applies_at_commit") {
            self.configs.push(index, config);
            self.config_changed(out);
        }
        self.count_acknowledgements(out);
    }

    pub(super) fn acknowledged(
        &mut self,
        from: ReplicaId,
        matched: LogIndex,
        out: &mut Vec<Output>,
    ) {
        let (now, base) = (self.now, self.log.base().index);
        if matched > self.log.last_index() {
            // Nobody has more of this leader's log than it has made.
            return;
        }
        let Some(progress) = self.leading.find(from) else { return };
        progress.heard_at = now;
        let is_news = progress.acknowledged(matched);
        match &progress.feeding {
            Feeding::Probe { asked } if is_news || matched >= progress.next.previous() => {
                // The logs agree where it was asked, so what came with the question is on its way
                // to the disk there, and is not sent again.
                let is_there = matched >= progress.next.previous();
                let asked = asked.filter(|(end, _)| is_there && *end > matched);
                progress.next = progress.matched.next();
                progress.replicate();
                if let Some((end, bytes)) = asked {
                    progress.sent(end, bytes);
                }
            }
            // It has reached what is in the log, by the image or without it; or it has the image,
            // and the log was compacted beyond that meanwhile: then the next image is due.
            Feeding::Snapshot(transfer) if matched >= base || transfer.is_within(matched) => {
                progress.next = progress.matched.next();
                progress.replicate();
            }
            _ => {}
        }
        if is_news {
            self.count_acknowledgements(out);
            self.hand_over_if_ready(out);
        }
    }

    pub(super) fn rejected(&mut self, from: ReplicaId, previous: LogIndex, hint: Position) {
        let (now, base) = (self.now, self.log.base());
        // The last place at which the logs can agree: beyond it this one has only newer terms than
        // the other has there (Raft §5.3).
        let place = if hint.index < base.index {
            hint.index
        } else {
            self.log.last_with_term_at_most(hint.term, hint.index)
        };
        // What they would have to agree on is compacted: an image is needed.
        let is_below = place == base.index && base.term > hint.term;
        let next = if is_below { base.index } else { place.next() };
        let Some(progress) = self.leading.find(from) else { return };
        progress.heard_at = now;
        let is_old = match progress.feeding {
            Feeding::Snapshot(_) => true,
            Feeding::Replicate => previous <= progress.matched,
            Feeding::Probe { .. } => previous != progress.next.previous(),
        };
        if !is_old {
            progress.probe(next);
        }
    }

    pub(super) fn heard_of(
        &mut self,
        from: ReplicaId,
        round: u64,
        sent: Ticks,
        out: &mut Vec<Output>,
    ) {
        let now = self.now;
        let is_due = |since: Ticks, ticks: u64| now >= since.after(ticks);
        let heartbeat_ticks = self.options.heartbeat_ticks;
        let snapshot_ticks = self.options.snapshot_retry_ticks;
        // Nobody answers a round that has not begun.
        let is_answer = round <= self.leading.round;
        let Some(progress) = self.leading.find(from).filter(|_| is_answer) else { return };
        progress.heard_at = now;
        progress.acked_round = progress.acked_round.max(round);
        progress.acked_sent = progress.acked_sent.max(Some(sent));
        let (is_behind, sent_at) = (progress.next.previous() > progress.matched, progress.sent_at);
        match &mut progress.feeding {
            // It lives, so the probe or its answer is lost.
            Feeding::Probe { asked } => {
                *asked = asked.filter(|_| !is_due(sent_at, heartbeat_ticks));
            }
            // What is in flight may be lost too. An empty message asks whether it arrived; if it
            // did not, the answer is a rejection.
            Feeding::Replicate if is_behind && is_due(sent_at, heartbeat_ticks) => {
                self.ask_where(from, out);
            }
            Feeding::Replicate => {}
            Feeding::Snapshot(transfer) => {
                if !transfer.awaits_driver && is_due(sent_at, snapshot_ticks) {
                    self.ask_driver_again(from, out);
                }
            }
        }
        // The word may have been lost on its way to the target.
        if self.leading.transfer.is_some_and(|(to, _)| to == from) {
            self.hand_over_if_ready(out);
        }
        self.serve_reads(out);
    }

    /// Commits what a quorum has (Raft §5.3, §5.4.2), and does what follows from that.
    pub(super) fn count_acknowledgements(&mut self, out: &mut Vec<Output>) {
        let (me, durable, leading) = (self.id, self.log.durable(), &self.leading);
        let own = if cfg!(mutant = "leader_counts_itself_early") {
            self.log.last_index()
        } else {
            durable
        };
        let value = |id: ReplicaId| match leading.get(id) {
            Some(progress) => progress.matched.0,
            None if id == me => own.0,
            None => 0,
        };
        let mut reached = self.config().reached_by_quorum(value);
        if cfg!(mutant = "counts_acks_of_learners") {
            let mut all: Vec<u64> = self.config().members().into_iter().map(value).collect();
            all.sort_unstable_by(|a, b| b.cmp(a));
            let majority = self.config().voters.len() / 2;
            reached = reached.max(all.get(majority).copied().unwrap_or(0));
        }
        let reached = LogIndex(reached.min(self.log.last_index().0));
        let is_own = self.log.term_at(reached) == Some(self.hard_state.term)
            || cfg!(mutant = "commits_old_terms_by_counting");
        if reached <= self.commit || !is_own {
            return;
        }
        self.commit_to(reached, out);
        self.leading.busy_at = self.now;
        #[cfg(mutant = "config_applies_at_commit")]
        self.apply_committed_config(out);
        self.admit_early_reads(out);
        self.continue_change(out);
    }

    #[cfg(mutant = "config_applies_at_commit")]
    fn apply_committed_config(&mut self, out: &mut Vec<Output>) {
        let newest = self.configs.newest().0;
        let found = self.log.from(newest.next()).take_while(|e| e.index <= self.commit);
        let found: Vec<_> = found
            .filter_map(|entry| match &entry.payload {
                Payload::Config(config) => Some((entry.index, config.clone())),
                _ => None,
            })
            .collect();
        for (index, config) in found {
            self.configs.push(index, config);
            self.config_changed(out);
        }
    }

    pub(super) fn tick_leader(&mut self, out: &mut Vec<Output>) {
        if let Some((_, until)) = self.leading.transfer
            && self.now >= until
        {
            self.leading.transfer = None;
            out.push(Output::Refused(Refusal::TransferTimedOut));
        }
        if !self.hears_quorum() && !cfg!(mutant = "leads_without_quorum") {
            return self.step_down(self.hard_state.term, None, out);
        }
        if self.now >= self.leading.heartbeat_due {
            let is_quiet = self.has_nothing_to_do();
            self.broadcast_heartbeat(is_quiet, out);
            self.is_quiet = is_quiet;
        }
    }

    fn hears_quorum(&self) -> bool {
        let (me, now, leading) = (self.id, self.now, &self.leading);
        let heard = self.config().reached_by_quorum(|id| match leading.get(id) {
            Some(progress) => progress.heard_at.0,
            None if id == me => now.0,
            None => 0,
        });
        now < Ticks(heard).after(self.options.election_timeout_ticks)
    }

    /// Sends a heartbeat to everybody, which begins a new round.
    pub(super) fn broadcast_heartbeat(&mut self, is_quiet: bool, out: &mut Vec<Output>) {
        self.leading.round += 1;
        self.leading.heartbeat_due = self.now.after(self.options.heartbeat_ticks);
        let (round, sent) = (self.leading.round, self.now);
        for progress in &self.leading.progress {
            // No further than it is known to have the log: it may have others' entries behind that.
            let commit = if cfg!(mutant = "heartbeat_tells_all_commits") {
                self.commit
            } else {
                self.commit.min(progress.matched)
            };
            let body = Body::Heartbeat { commit, round, sent, is_quiet };
            self.send(progress.id, body, out);
        }
    }

    /// Returns true if the group can fall quiet: everybody has everything, and that for a while.
    ///
    /// A quiet group sends nothing. That nodes live is watched once per pair of nodes and not for
    /// each group (CockroachDB does so too); the driver says [`crate::Input::Wake`] when one of
    /// them does not.
    fn has_nothing_to_do(&self) -> bool {
        let (leading, last) = (&self.leading, self.log.last_index());
        let after = self.options.quiet_after_ticks;
        let has_all = |progress: &Progress| {
            progress.feeding == Feeding::Replicate
                && progress.matched == last
                // A replica that is not heard of may be down, and would not know of the quiet.
                && progress.acked_round + 1 >= leading.round
        };
        after > 0
            && self.now >= leading.busy_at.after(after)
            && self.commit == last
            && self.log.durable() == last
            && leading.reads.is_empty()
            && leading.early_reads.is_empty()
            && leading.transfer.is_none()
            && !self.config().is_joint()
            && leading.progress.iter().all(has_all)
    }

    /// Leaves quiet. The others get an election timeout to be heard of.
    pub(super) fn wake_leader(&mut self, out: &mut Vec<Output>) {
        for progress in &mut self.leading.progress {
            progress.heard_at = self.now;
        }
        self.leading.busy_at = self.now;
        self.broadcast_heartbeat(false, out);
    }
}
