//! Following: entries are taken from the leader and acknowledged once they are durable.
//!
//! ```text
//!   leader                    follower                       disk
//!     │ Append a b  ─────────────►│ write a b ────────────────►│
//!     │ Append c    ─────────────►│ write c ──────────────────►│
//!     │                           │◄───────── Persisted(… b)   │
//!     │◄──────── AppendReply b ───│◄───────── Persisted(… c)   │
//!     │◄──────── AppendReply c ───│
//! ```
//!
//! # Invariants
//! * Up to `verified` the log agrees with that of this term's leader, and is never cut in this
//!   term.
//! * An acknowledgement covers what is verified and durable, and nothing else (I-R5).

use super::{Raft, Role};
use crate::{Body, Entry, LogIndex, Output, Payload, Position, ReplicaId, SnapshotMeta, Ticks};

/// What a replica knows as a follower in its term.
#[derive(Debug, Clone, Default)]
pub(super) struct Following {
    pub(super) verified: LogIndex,
    /// The last message's end: an answer is owed when that much is durable.
    owed: Option<LogIndex>,
    /// What was acknowledged in this term.
    acknowledged: LogIndex,
    /// An image that is coming in, and how much of it has.
    pub(super) incoming: Option<(SnapshotMeta, u64)>,
    /// An image that the driver is making the state.
    pub(super) installing: Option<SnapshotMeta>,
}

impl Following {
    pub(super) fn enter_term(&mut self, commit: LogIndex) {
        // What is committed is in the log of every leader to come (Raft §5.4.3).
        self.verified = commit;
        self.owed = None;
        self.acknowledged = LogIndex(0);
    }

    pub(super) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// Notes that the log agrees up to an index and that the leader waits to hear so.
    pub(super) fn owe(&mut self, verified: LogIndex) {
        self.verified = self.verified.max(verified);
        self.owed = self.owed.max(Some(verified));
    }
}

impl Raft {
    /// Takes note that the leader of this term lives. Returns false if this replica leads itself:
    /// then the message is nobody's.
    pub(super) fn hear_leader(&mut self, from: ReplicaId, out: &mut Vec<Output>) -> bool {
        match self.role {
            Role::Leader => return false,
            // Raft §5.2: somebody else was elected in this term.
            Role::Candidate | Role::PreCandidate => {
                self.step_down(self.hard_state.term, Some(from), out);
            }
            Role::Follower => self.draw_deadline(),
        }
        self.leader = Some(from);
        self.is_quiet = false;
        self.promised_until = self.now.after(self.options.election_timeout_ticks);
        true
    }

    pub(super) fn answer_heartbeat(
        &mut self,
        from: ReplicaId,
        commit: LogIndex,
        round: u64,
        sent: Ticks,
        is_quiet: bool,
        out: &mut Vec<Output>,
    ) {
        if !self.hear_leader(from, out) {
            return;
        }
        // The leader says at most what this replica acknowledged, so it has it. While an image
        // becomes the state, nothing is applied to the old one: it would be lost.
        if !self.following.is_installing() || cfg!(mutant = "commits_under_an_image") {
            self.commit_to(commit.min(self.log.last_index()), out);
        }
        self.send(from, Body::HeartbeatReply { round, sent }, out);
        self.is_quiet =
            is_quiet && commit == self.commit && commit == self.log.last_index() && commit.0 > 0;
    }

    /// Takes entries in (Raft §5.3).
    pub(super) fn accept(
        &mut self,
        from: ReplicaId,
        mut previous: Position,
        commit: LogIndex,
        mut entries: Vec<Entry>,
        out: &mut Vec<Output>,
    ) {
        if !self.hear_leader(from, out) || self.following.is_installing() {
            // An image is about to take the place of the log: the leader sends it again.
            return;
        }
        let base = self.log.base();
        if previous.index < base.index {
            // What is in an image is committed, and the leader has it too.
            let covered = entries.iter().take_while(|entry| entry.index <= base.index).count();
            entries.drain(..covered);
            previous = base;
        }
        match self.log.term_at(previous.index) {
            Some(term) if term == previous.term => {}
            _ if cfg!(mutant = "appends_without_check")
                && previous.index <= self.log.last_index() => {}
            _ => return self.reject(from, previous, out),
        }
        let end = LogIndex(previous.index.0 + entries.len() as u64);
        // What is there already stays: the message may be an old one, and what follows
        // acknowledged.
        let known = |entry: &&Entry| self.log.term_at(entry.index) == Some(entry.term);
        let known = if cfg!(mutant = "truncates_on_old_message") {
            0
        } else {
            entries.iter().take_while(known).count()
        };
        entries.drain(..known);
        if let Some(first) = entries.first() {
            self.cut(first.index, out);
        }
        let term = self.hard_state.term;
        let mut is_config = false;
        for entry in entries {
            if let Payload::Config(config) = &entry.payload {
                self.configs.push(entry.index, config.clone());
                is_config = true;
            }
            self.log.append(term, entry);
        }
        if is_config {
            self.config_changed(out);
        }
        self.following.owe(end);
        // No further than the message reaches: what lies behind may be another leader's.
        let bound = if cfg!(mutant = "commits_unverified") { self.log.last_index() } else { end };
        self.commit_to(commit.min(bound), out);
        self.settle_acknowledgement(out);
    }

    /// Removes entries that are not the leader's.
    fn cut(&mut self, from: LogIndex, out: &mut Vec<Output>) {
        if from > self.log.last_index() {
            return;
        }
        assert!(
            from > self.commit,
            "entry {from} is committed (up to {}) and a leader has another one there: some replica \
             broke a promise",
            self.commit
        );
        self.log.truncate_from(from);
        if !cfg!(mutant = "keeps_truncated_config") && self.configs.truncate_from(from) {
            self.config_changed(out);
        }
    }

    fn reject(&self, to: ReplicaId, previous: Position, out: &mut Vec<Output>) {
        // Entries of a newer term than the leader has there cannot be in its log up to there.
        let index = self.log.last_with_term_at_most(previous.term, previous.index);
        let term = self.log.term_at(index).unwrap_or_default();
        let hint = Position { term, index };
        self.send(to, Body::AppendReject { previous: previous.index, hint }, out);
    }

    /// Acknowledges what is verified and durable, if the leader waits for that.
    pub(super) fn settle_acknowledgement(&mut self, out: &mut Vec<Output>) {
        let Some(owed) = self.following.owed else { return };
        let Some(leader) = self.leader.filter(|leader| *leader != self.id) else { return };
        let durable = if cfg!(mutant = "acknowledges_before_disk") {
            self.log.last_index()
        } else {
            self.log.durable()
        };
        let verified = if cfg!(mutant = "acknowledges_unverified") {
            self.log.last_index()
        } else {
            self.following.verified
        };
        let matched = verified.min(durable);
        // The term goes before: who acknowledges in it must not come back in an older one.
        let is_due = matched >= owed || matched > self.following.acknowledged;
        if self.durable_state.term != self.hard_state.term || !is_due {
            return;
        }
        if matched >= owed {
            self.following.owed = None;
        }
        self.following.acknowledged = matched;
        self.send(leader, Body::AppendReply { matched }, out);
    }
}
