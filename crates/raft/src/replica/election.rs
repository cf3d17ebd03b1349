//! Elections: who stands, who votes, and what is promised to a leader meanwhile.
//!
//! ```text
//!   candidate                     disk          voters
//!       │  nothing heard for a random time
//!       │ PreVote ─────────────────────────────────►│ nothing changes there
//!       │◄───────────────────────────────── granted │
//!       │ term + 1, vote for itself ──►│            │
//!       │◄─────────────────── Persisted│            │
//!       │ Vote ────────────────────────────────────►│ term, vote ──► disk
//!       │◄───────────────────────────────── granted │◄── Persisted
//!       ▼ leader: an empty entry first
//! ```
//!
//! # The promise
//! Who hears from a leader votes for nobody during one election timeout of its own clock, itself
//! included. The lease rests on that (thesis §6.4.1), and pre-vote and this together keep a replica
//! that was cut off from disturbing a group that works (§4.2.3). A promise outlives a crash: who
//! restarts does not know when it last heard of a leader, so it promises anew, to nobody in
//! particular. Only who is told so by the leader ([`Body::TimeoutNow`]) is free, with those that it
//! asks.

use super::{Ballot, Raft, Role};
use crate::config::Outcome;
use crate::{Body, HardState, Output, Position, ReplicaId, Term};

impl Raft {
    /// Returns true if this replica may become a leader at all.
    ///
    /// One that is no voter any more still may while that is not committed (thesis §4.2.2): it can
    /// have the longest log, and then those that need its vote by the configuration before cannot
    /// be elected. Its own vote does not count.
    pub(super) fn may_stand(&self) -> bool {
        let (index, config) = self.configs.newest();
        let is_needed = || {
            index > self.commit
                && self.configs.at(index.previous()).1.is_voter(self.id)
                && !cfg!(mutant = "leaves_before_commit")
        };
        (config.is_voter(self.id) || is_needed()) && !self.following.is_installing()
    }

    /// Returns true while no vote may be given. A leader is its own leader, until it has no quorum.
    pub(super) fn is_promised(&self) -> bool {
        self.role == Role::Leader
            || self.now < self.promised_until && !cfg!(mutant = "votes_against_promise")
    }

    pub(super) fn campaign_if_free(&mut self, out: &mut Vec<Output>) {
        if self.role != Role::Leader && self.may_stand() && !self.is_promised() {
            self.ask_around(out);
        }
    }

    /// Asks who would vote for this replica, before it disturbs anybody (thesis §9.6).
    pub(super) fn ask_around(&mut self, out: &mut Vec<Output>) {
        self.role = Role::PreCandidate;
        self.leader = None;
        self.is_quiet = false;
        self.ballot = match self.ballot {
            // A vote that was given is still owed to who got it.
            Ballot::Grant(to) => Ballot::Grant(to),
            _ => Ballot::Nothing,
        };
        self.draw_deadline();
        self.votes.clear();
        self.votes.push((self.id, true));
        let last = self.log.last();
        for to in self.other_voters() {
            self.send(to, Body::PreVote { last }, out);
        }
        if self.outcome() == Outcome::Won {
            self.stand(false);
        }
        self.settle_ballot(out);
    }

    /// Stands for election in the next term (Raft §5.2).
    fn stand(&mut self, is_transfer: bool) {
        self.hard_state = HardState { term: self.hard_state.term.next(), vote: Some(self.id) };
        self.following.enter_term(self.commit);
        self.role = Role::Candidate;
        self.leader = None;
        self.is_quiet = false;
        self.votes.clear();
        self.ballot = Ballot::Request { is_transfer };
        self.draw_deadline();
    }

    /// Stands for election because the leader wants it (thesis §3.10). It does not ask around:
    /// nobody but the leader is disturbed.
    pub(super) fn take_over(&mut self, out: &mut Vec<Output>) {
        if self.role != Role::Leader && self.may_stand() {
            self.stand(true);
            self.settle_ballot(out);
        }
    }

    pub(super) fn answer_pre_vote(
        &mut self,
        from: ReplicaId,
        term: Term,
        last: Position,
        out: &mut Vec<Output>,
    ) {
        if self.is_quiet {
            // Somebody misses the leader. The others must not take the quiet for its absence; it is
            // woken by the same question, and if it does not answer, this replica will miss it too.
            self.wake(out);
            self.promised_until = self.now.after(self.options.election_timeout_ticks);
        }
        let asked = term.next();
        let is_granted =
            asked > self.hard_state.term && !self.is_promised() && self.is_up_to_date(last);
        self.send(from, Body::PreVoteReply { asked, is_granted }, out);
    }

    pub(super) fn count_pre_vote(
        &mut self,
        from: ReplicaId,
        term: Term,
        asked: Term,
        is_granted: bool,
        out: &mut Vec<Output>,
    ) {
        if term > self.hard_state.term {
            // A term that has begun: this replica would never be elected in an older one.
            return self.step_down(term, None, out);
        }
        if self.role == Role::PreCandidate && asked == self.hard_state.term.next() {
            self.note_vote(from, is_granted);
            match self.outcome() {
                Outcome::Won => {
                    self.stand(false);
                    self.settle_ballot(out);
                }
                Outcome::Lost => self.step_down(self.hard_state.term, None, out),
                Outcome::Open => {}
            }
        }
    }

    pub(super) fn answer_vote(
        &mut self,
        from: ReplicaId,
        last: Position,
        is_transfer: bool,
        out: &mut Vec<Output>,
    ) {
        let vote = self.hard_state.vote;
        let is_free = vote == Some(from)
            || vote.is_none() && self.leader.is_none()
            || cfg!(mutant = "votes_twice");
        let is_bound = self.is_promised() && !is_transfer && vote != Some(from);
        // Raft §5.2, §5.4.1.
        if self.role == Role::Leader || !is_free || is_bound || !self.is_up_to_date(last) {
            self.send(from, Body::VoteReply { is_granted: false }, out);
            return;
        }
        self.hard_state.vote = Some(from);
        if self.role != Role::Follower {
            self.step_down(self.hard_state.term, None, out);
        }
        // A quorum may elect it: that deserves the time of an election.
        self.draw_deadline();
        self.ballot = Ballot::Grant(from);
        self.settle_ballot(out);
    }

    /// Gives the vote, or asks for votes, once that is durable. I-R5.
    pub(super) fn settle_ballot(&mut self, out: &mut Vec<Output>) {
        let is_durable = self.durable_state == self.hard_state
            || cfg!(mutant = "votes_before_disk") && matches!(self.ballot, Ballot::Grant(_))
            || cfg!(mutant = "asks_before_disk") && matches!(self.ballot, Ballot::Request { .. });
        if !is_durable {
            return;
        }
        match std::mem::replace(&mut self.ballot, Ballot::Nothing) {
            Ballot::Nothing => {}
            Ballot::Grant(to) => self.send(to, Body::VoteReply { is_granted: true }, out),
            Ballot::Request { is_transfer } => {
                debug_assert!(
                    self.log.durable() == self.log.last_index()
                        || cfg!(mutant = "asks_before_disk"),
                    "a write is durable with all before it"
                );
                let last = self.log.last();
                self.draw_deadline();
                self.note_vote(self.id, true);
                for to in self.other_voters() {
                    self.send(to, Body::Vote { last, is_transfer }, out);
                }
                self.decide(out);
            }
        }
    }

    pub(super) fn count_vote(&mut self, from: ReplicaId, is_granted: bool, out: &mut Vec<Output>) {
        if self.role == Role::Candidate {
            self.note_vote(from, is_granted);
            self.decide(out);
        }
    }

    fn decide(&mut self, out: &mut Vec<Output>) {
        match self.outcome() {
            // Its own vote is among them only when it is durable; an election is not won without
            // it, so that who leads in a term knows so after a crash.
            Outcome::Won if self.ballot == Ballot::Nothing => self.lead(out),
            Outcome::Lost => self.step_down(self.hard_state.term, None, out),
            Outcome::Won | Outcome::Open => {}
        }
    }

    fn note_vote(&mut self, from: ReplicaId, is_granted: bool) {
        if self.votes.iter().all(|(id, _)| *id != from) {
            self.votes.push((from, is_granted));
        }
    }

    fn outcome(&self) -> Outcome {
        let answer = |id| self.votes.iter().find(|(from, _)| *from == id).map(|(_, yes)| *yes);
        if cfg!(mutant = "counts_votes_of_learners") {
            let yes = self.votes.iter().filter(|(_, yes)| *yes).count();
            if yes > self.config().voters.len() / 2 {
                return Outcome::Won;
            }
        }
        self.config().outcome(answer)
    }

    /// Returns true if a log that ends there has everything that this one has and may be committed
    /// (Raft §5.4.1).
    fn is_up_to_date(&self, last: Position) -> bool {
        match () {
            () if cfg!(mutant = "votes_for_any_log") => true,
            () if cfg!(mutant = "compares_length_only") => last.index >= self.log.last_index(),
            () => last >= self.log.last(),
        }
    }

    fn other_voters(&self) -> Vec<ReplicaId> {
        let config = self.config();
        let mut voters = config.members();
        voters.retain(|id| *id != self.id && config.is_voter(*id));
        voters
    }
}
