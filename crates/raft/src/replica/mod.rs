//! One replica: its state, and the one function through which everything happens to it.
//!
//! ```text
//!                     no leader for a while          a majority would        a majority has
//!   ┌──────────┐                 ┌──────────────┐        ┌───────────┐           ┌────────┐
//!   │ Follower │────────────────►│ PreCandidate │───────►│ Candidate │──────────►│ Leader │
//!   └──────────┘                 └──────────────┘        └───────────┘           └────────┘
//!        ▲   TimeoutNow ────────────────────────────────────►│                       │
//!        └───────────────────────────────────────────────────┴───────────────────────┘
//!              a leader of this term, or a newer term; the leader: no quorum answers
//! ```
//!
//! # Invariants
//! * The term never falls, and within a term the vote is given once (Raft §5.2).
//! * `base ≤ commit ≤ last`; what is committed is never removed (§5.4).
//! * A vote, an acknowledgement and this replica's own voice are given only for what is durable
//!   here.
//!
//! # Where it departs from the paper
//! * A candidate asks for votes only when its own vote is durable, and with it its log. Otherwise
//!   it could crash, forget the end of its log, stand again *in the same term*, and be elected by
//!   answers that were given to the longer log.
//! * The leader's own disk is one voice of the quorum like any other and may be the slowest one
//!   (thesis §10.2.1).
//! * Nothing depends on the order in which the driver handles outputs, except that writes are in
//!   order.
//!
//! # Not here
//! What commands mean, where bytes lie, who the nodes are, and which group this is.

mod check;
mod election;
mod feed;
mod follower;
mod leader;
mod membership;
mod reads;
mod recovery;
mod snapshots;

use std::sync::Arc;

pub use recovery::{Recovered, RecoveryError};

use crate::config::Configs;
use crate::log::Log;
use crate::types::Random;
use crate::{
    Body, Config, HardState, Input, LogIndex, Message, Options, Output, Position, Refusal,
    ReplicaId, SnapshotMeta, Stamp, Term, Ticks,
};
use follower::Following;
use leader::Leading;

/// What a replica is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It takes entries from a leader, or waits for one. Learners are always this.
    Follower,
    /// It asks whether it would be elected (thesis §9.6).
    PreCandidate,
    /// It stands for election (Raft §5.2).
    Candidate,
    /// It leads.
    Leader,
}

/// A replica of one group. See the front page of the crate for how it is driven.
#[derive(Debug, Clone)]
pub struct Raft {
    id: ReplicaId,
    options: Options,
    random: Random,
    now: Ticks,

    hard_state: HardState,
    /// What of it the driver was given to write, and what is durable.
    handed_state: HardState,
    durable_state: HardState,
    log: Log,
    configs: Configs,
    commit: LogIndex,
    applied: LogIndex,

    role: Role,
    leader: Option<ReplicaId>,
    /// Until then no vote is given: a leader may rest its lease on that (thesis §4.2.3, §6.4.1).
    promised_until: Ticks,
    /// When this replica stands for election, or gives one up.
    deadline: Ticks,
    /// Nothing happens in the group, and this replica does not wait for a sign of life.
    is_quiet: bool,
    ballot: Ballot,
    votes: Vec<(ReplicaId, bool)>,
    following: Following,
    leading: Leading,

    /// What the driver was last told of role, term and leader.
    announced: (Role, Term, Option<ReplicaId>),
}

/// What is said as soon as the hard state is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ballot {
    Nothing,
    /// The vote of this replica.
    Grant(ReplicaId),
    /// The request for the votes of others.
    Request {
        is_transfer: bool,
    },
}

impl Raft {
    /// Takes one input in, at a moment of this replica's clock, and appends what is to be done.
    ///
    /// A clock that steps back stands still here.
    ///
    /// # Panics
    /// If the promises of others turn out to be broken: a committed entry would have to be removed.
    pub fn step(&mut self, now: Ticks, input: Input, out: &mut Vec<Output>) {
        self.now = self.now.max(now);
        match input {
            Input::Tick => self.tick(out),
            Input::Message(message) => self.receive(message, out),
            Input::Propose { commands, expected_term } => {
                self.propose(commands, expected_term, out);
            }
            Input::Persisted(stamp) => self.persisted(stamp, out),
            Input::Applied(index) => self.applied = self.applied.max(index.min(self.commit)),
            Input::Read { id, mode } => self.read(id, mode, out),
            Input::Transfer(to) => self.transfer(to, out),
            Input::Change { voters, learners, expected_term } => {
                self.change(voters, learners, expected_term, out);
            }
            Input::Campaign => self.campaign_if_free(out),
            Input::Wake => self.wake(out),
            Input::Compact(upto) => self.compact(upto),
            Input::SnapshotChunk { to, meta, offset, data, is_last } => {
                self.send_chunk(to, meta, offset, data, is_last, out);
            }
            Input::SnapshotFailed(to) => self.snapshot_failed(to),
            Input::SnapshotDone { id, is_installed } => self.snapshot_done(id, is_installed, out),
        }
        self.finish(out);
    }

    /// Returns when [`Input::Tick`] is due next; none if nothing is waited for.
    pub fn next_deadline(&self) -> Option<Ticks> {
        match self.role {
            _ if self.is_quiet => None,
            Role::Leader => Some(self.leading.heartbeat_due),
            _ if self.may_stand() => Some(self.deadline),
            _ => None,
        }
    }

    /// Sends what the leader has for others, hands over what is to be written, and tells of
    /// changes.
    fn finish(&mut self, out: &mut Vec<Output>) {
        if self.role == Role::Leader {
            self.feed_all(out);
        }
        self.write(out);
        if cfg!(mutant = "promises_before_disk") {
            self.durable_state = self.hard_state;
            self.log.covered_by_image(self.log.last_index());
            self.settle(out);
            self.write(out);
        }
        let role = (self.role, self.hard_state.term, self.leader);
        if role != self.announced {
            self.announced = role;
            let (role, term, leader) = role;
            out.push(Output::RoleChanged { role, term, leader });
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// Hands over what is new since the last write, as one write.
    fn write(&mut self, out: &mut Vec<Output>) {
        let changed = self.handed_state != self.hard_state;
        let unwritten = self.log.take_unwritten();
        if !changed && unwritten.is_none() {
            return;
        }
        self.handed_state = self.hard_state;
        let (cut_from, entries) = unwritten.unwrap_or_default();
        let hard_state = changed.then_some(self.hard_state);
        let stamp = Stamp {
            hard_state: self.hard_state,
            accepted_term: self.log.accepted_term(),
            index: self.log.last_index(),
        };
        out.push(Output::Append { cut_from, entries, hard_state, stamp });
    }

    fn persisted(&mut self, stamp: Stamp, out: &mut Vec<Output>) {
        // Each half only grows, so an old stamp says nothing new.
        let is_known = self.handed_state.covers(&stamp.hard_state);
        if is_known && stamp.hard_state.covers(&self.durable_state) {
            self.durable_state = stamp.hard_state;
        }
        self.log.persisted(stamp.accepted_term, stamp.index);
        self.settle(out);
    }

    /// Says what became sayable because more is durable.
    fn settle(&mut self, out: &mut Vec<Output>) {
        self.settle_ballot(out);
        match self.role {
            Role::Leader => self.count_acknowledgements(out),
            _ => self.settle_acknowledgement(out),
        }
    }

    fn tick(&mut self, out: &mut Vec<Output>) {
        match self.role {
            _ if self.is_quiet => {}
            Role::Leader => self.tick_leader(out),
            _ if self.now < self.deadline || !self.may_stand() => {}
            // Its own disk is slow: to stand again would only make it slower.
            Role::Candidate if self.ballot != Ballot::Nothing => self.draw_deadline(),
            _ => self.ask_around(out),
        }
    }

    fn receive(&mut self, message: Message, out: &mut Vec<Output>) {
        let Message { from, to, term, body } = message;
        if to != self.id || from == self.id {
            return;
        }
        // These two speak of a term that nobody is in yet, and move nobody into one.
        match body {
            Body::PreVote { last } => return self.answer_pre_vote(from, term, last, out),
            Body::PreVoteReply { asked, is_granted } => {
                return self.count_pre_vote(from, term, asked, is_granted, out);
            }
            _ => {}
        }
        let is_from_leader = matches!(
            body,
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. } | Body::TimeoutNow
        );
        if term < self.hard_state.term {
            // A leader that was cut off learns that it is none (it would hear nothing else from
            // this replica, and a replica in a newer term could not join it), a candidate that it
            // has lost.
            match body {
                _ if is_from_leader => self.send(from, Body::Stale, out),
                Body::Vote { .. } => self.send(from, Body::VoteReply { is_granted: false }, out),
                _ => {}
            }
            return;
        }
        if term > self.hard_state.term {
            if let Body::Vote { is_transfer: false, .. } = body
                && self.is_promised()
            {
                // Thesis §4.2.3: neither the vote nor the term of who disturbs a leader is looked
                // at.
                return;
            }
            // Raft §5.1.
            self.step_down(term, is_from_leader.then_some(from), out);
        }
        match body {
            Body::Append { previous, commit, entries } => {
                self.accept(from, previous, commit, entries, out);
            }
            Body::Heartbeat { commit, round, sent, is_quiet } => {
                self.answer_heartbeat(from, commit, round, sent, is_quiet, out);
            }
            Body::Snapshot { meta, offset, data, is_last } => {
                self.accept_chunk(from, meta, offset, data, is_last, out);
            }
            Body::TimeoutNow => self.take_over(out),
            Body::Vote { last, is_transfer } => self.answer_vote(from, last, is_transfer, out),
            Body::VoteReply { is_granted } => self.count_vote(from, is_granted, out),
            _ if self.role != Role::Leader => {}
            Body::AppendReply { matched } => self.acknowledged(from, matched, out),
            Body::AppendReject { previous, hint } => self.rejected(from, previous, hint),
            Body::HeartbeatReply { round, sent } => self.heard_of(from, round, sent, out),
            Body::SnapshotReply { id, offset } => self.chunk_arrived(from, id, offset, out),
            // Handled above, or it has said all with its term.
            Body::PreVote { .. } | Body::PreVoteReply { .. } | Body::Stale => {}
        }
    }

    fn send(&self, to: ReplicaId, body: Body, out: &mut Vec<Output>) {
        let message = Message { from: self.id, to, term: self.hard_state.term, body };
        out.push(Output::Send(message));
    }

    /// Becomes a follower, in a newer term or in this one.
    fn step_down(&mut self, term: Term, leader: Option<ReplicaId>, out: &mut Vec<Output>) {
        if term > self.hard_state.term {
            self.hard_state = HardState { term, vote: None };
            self.ballot = Ballot::Nothing;
            self.following.enter_term(self.commit);
        } else if matches!(self.ballot, Ballot::Request { .. }) {
            self.ballot = Ballot::Nothing;
        }
        if self.role == Role::Leader {
            let leading = std::mem::take(&mut self.leading);
            leading.resign(leader, out);
        }
        self.role = Role::Follower;
        self.leader = leader;
        self.is_quiet = false;
        self.draw_deadline();
    }

    /// Moves the commit index. The caller knows that a quorum has the entries.
    fn commit_to(&mut self, index: LogIndex, out: &mut Vec<Output>) {
        if index > self.commit {
            if self.role == Role::Leader {
                let newly = self.log.from(self.commit.next());
                let newly = newly.take_while(|entry| entry.index <= index);
                let bytes: usize = newly.map(crate::Entry::bytes).sum();
                self.leading.uncommitted_bytes =
                    self.leading.uncommitted_bytes.saturating_sub(bytes);
            }
            self.commit = index;
            out.push(Output::Commit(index));
        }
    }

    fn compact(&mut self, upto: LogIndex) {
        // Not what is unapplied: its effects are nowhere yet.
        let upto = upto.min(self.applied);
        if upto > self.log.base().index {
            self.log.compact(upto);
            self.configs.compact(upto);
        }
    }

    fn wake(&mut self, out: &mut Vec<Output>) {
        if self.is_quiet {
            self.is_quiet = false;
            match self.role {
                Role::Leader => self.wake_leader(out),
                _ => self.draw_deadline(),
            }
        }
    }

    /// Draws how long to wait for a leader, or for an election (Raft §5.2).
    fn draw_deadline(&mut self) {
        let least = self.options.election_timeout_ticks;
        self.deadline = self.now.after(least + self.random.below(least.max(1)));
    }

    fn config(&self) -> &Arc<Config> {
        self.configs.newest().1
    }

    /// Tells of the configuration that is in force now, and takes note of who is new or gone.
    fn config_changed(&mut self, out: &mut Vec<Output>) {
        let (index, config) = self.configs.newest();
        out.push(Output::ConfigChanged { index, config: Arc::clone(config) });
        if self.role == Role::Leader {
            self.leading.reconcile(self.id, config, self.log.last_index(), self.now);
        }
    }
}

/// What others may know of a replica.
impl Raft {
    /// Returns its id.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// Returns what it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the term it is in.
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Returns the term and the vote in it.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Returns whom it takes for the leader.
    pub fn leader(&self) -> Option<ReplicaId> {
        self.leader
    }

    /// Returns the commit index.
    pub fn commit_index(&self) -> LogIndex {
        self.commit
    }

    /// Returns up to where the log is durable.
    pub fn durable_index(&self) -> LogIndex {
        self.log.durable()
    }

    /// Returns the end of the log.
    pub fn last(&self) -> Position {
        self.log.last()
    }

    /// Returns the entry before the first one in memory.
    pub fn base(&self) -> Position {
        self.log.base()
    }

    /// Returns an entry, if it is in memory.
    pub fn entry(&self, index: LogIndex) -> Option<&crate::Entry> {
        self.log.entry(index)
    }

    /// Returns the configuration in force and where it stands.
    pub fn current_config(&self) -> (LogIndex, &Arc<Config>) {
        self.configs.newest()
    }

    /// Returns true if nothing happens in the group and nobody waits for a sign of life.
    pub fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// Returns until when this replica may answer reads on its own, if it leads with a lease.
    pub fn lease_until(&self) -> Option<Ticks> {
        self.lease_end()
    }

    /// Describes an image of the state after an index was applied, under an id of the driver's
    /// choice. None if that index is not committed or not in the log any more.
    pub fn snapshot_meta(&self, index: LogIndex, id: u64) -> Option<SnapshotMeta> {
        let term = self.log.term_at(index).filter(|_| index <= self.commit)?;
        let (config_index, config) = self.configs.at(index);
        let position = Position { term, index };
        Some(SnapshotMeta { position, config: Arc::clone(config), config_index, id })
    }

    /// Returns, for a leader, up to where the log of each other replica is known to be durable. The
    /// driver keeps what they lack from compaction, while it can afford to.
    pub fn matched(&self) -> impl Iterator<Item = (ReplicaId, LogIndex)> {
        self.leading.progress.iter().map(|progress| (progress.id, progress.matched))
    }

    fn not_leader(&self) -> Refusal {
        Refusal::NotLeader { leader: self.leader.filter(|leader| *leader != self.id) }
    }
}
