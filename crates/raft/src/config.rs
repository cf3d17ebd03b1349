//! Who takes part: voters, learners, and the two sets of voters that a change passes through.
//!
//! ```text
//!   simple   voters 1 2 3                          a majority of 1 2 3
//!   joint    voters 1 4 5   outgoing 1 2 3         a majority of 1 4 5 and one of 1 2 3
//!   simple   voters 1 4 5                          a majority of 1 4 5
//! ```
//!
//! Joint consensus (Raft §6) is the only way to change voters, also for a single one. The way of
//! one server at a time (thesis §4.1) needs fewer states, but had a bug for a year after it was
//! published, and cannot replace a replica without passing through an even number of voters.
//!
//! # Invariants
//! * Lists are sorted and have no id twice; there is at least one voter.
//! * No learner is among `voters`. One may be among `outgoing`: it is being demoted.
//! * No id is above `highest_id`, which never falls: a new replica has a larger id than all before
//!   it.

use std::sync::Arc;

use crate::{LogIndex, ReplicaId};

/// The largest number of voters in a set. More than seven are slower and hardly safer; the room
/// above that lets counting work in an array.
pub const VOTERS_MAX: usize = 15;

/// The largest number of learners: each costs the leader as much as a voter does.
pub const LEARNERS_MAX: usize = 32;

/// A configuration of the group, as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Whose votes and acknowledgements count.
    pub voters: Vec<ReplicaId>,
    /// The voters of before, whose majority is needed too. Empty when no change is going on.
    pub outgoing: Vec<ReplicaId>,
    /// Who gets the log and counts for nothing.
    pub learners: Vec<ReplicaId>,
    /// The highest id that was ever part of the group.
    pub highest_id: ReplicaId,
}

/// How a vote stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A majority, or one of each set, has agreed.
    Won,
    /// There can be none any more.
    Lost,
    /// It depends on those who have not answered.
    Open,
}

impl Config {
    /// Returns a configuration without a change going on.
    pub fn new(voters: &[u64], learners: &[u64]) -> Config {
        let sorted = |ids: &[u64]| {
            let mut ids: Vec<_> = ids.iter().copied().map(ReplicaId).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let (voters, learners) = (sorted(voters), sorted(learners));
        let highest_id = voters.iter().chain(&learners).copied().max().unwrap_or_default();
        Config { voters, outgoing: Vec::new(), learners, highest_id }
    }

    /// Returns true while two majorities are needed.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Returns true if the replica's vote counts.
    pub fn is_voter(&self, id: ReplicaId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Returns true if the replica gets the log.
    pub fn contains(&self, id: ReplicaId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Returns true if the replica alone decides everything.
    pub fn is_sole_voter(&self, id: ReplicaId) -> bool {
        self.voters == [id] && !self.is_joint()
    }

    /// Returns every replica once, sorted.
    pub fn members(&self) -> Vec<ReplicaId> {
        let all = self.voters.iter().chain(&self.outgoing).chain(&self.learners);
        let mut members: Vec<_> = all.copied().collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// Returns the largest value that a majority has reached, in each set of voters.
    ///
    /// Only voters are asked: an acknowledgement of anybody else cannot count (I-R7).
    pub fn reached_by_quorum(&self, value: impl Fn(ReplicaId) -> u64) -> u64 {
        let incoming = majority_value(&self.voters, &value);
        if self.outgoing.is_empty() || cfg!(mutant = "joint_counts_one_half") {
            return incoming;
        }
        incoming.min(majority_value(&self.outgoing, &value))
    }

    /// Returns how a vote stands, given who answered what.
    pub fn outcome(&self, answer: impl Fn(ReplicaId) -> Option<bool>) -> Outcome {
        let incoming = majority_outcome(&self.voters, &answer);
        if self.outgoing.is_empty() || cfg!(mutant = "joint_elects_by_one_half") {
            return incoming;
        }
        match (incoming, majority_outcome(&self.outgoing, &answer)) {
            (Outcome::Won, Outcome::Won) => Outcome::Won,
            (Outcome::Lost, _) | (_, Outcome::Lost) => Outcome::Lost,
            _ => Outcome::Open,
        }
    }

    /// Says what is wrong with it, if anything is: it may come from another replica's bytes.
    pub fn complaint(&self) -> Option<&'static str> {
        let is_sorted = |ids: &[ReplicaId]| ids.windows(2).all(|pair| pair[0] < pair[1]);
        let lists = [&self.voters, &self.outgoing, &self.learners];
        if self.voters.is_empty() {
            return Some("a configuration has no voter");
        }
        if self.voters.len() > VOTERS_MAX || self.outgoing.len() > VOTERS_MAX {
            return Some("a configuration has more voters than are allowed");
        }
        if self.learners.len() > LEARNERS_MAX {
            return Some("a configuration has more learners than are allowed");
        }
        if !lists.iter().all(|ids| is_sorted(ids)) {
            return Some("a configuration has ids twice or out of order");
        }
        if self.learners.iter().any(|id| self.voters.contains(id)) {
            return Some("a configuration has a replica that is both voter and learner");
        }
        if lists.iter().any(|ids| ids.iter().any(|id| id.0 == 0 || *id > self.highest_id)) {
            return Some("a configuration has an id of zero, or one above its highest");
        }
        None
    }
}

fn majority_value(voters: &[ReplicaId], value: &impl Fn(ReplicaId) -> u64) -> u64 {
    let mut values = [0u64; VOTERS_MAX];
    let count = voters.len().min(VOTERS_MAX);
    for (slot, id) in values.iter_mut().zip(voters) {
        *slot = value(*id);
    }
    let values = &mut values[..count];
    values.sort_unstable();
    // Of 1 2 3 4 the second, of 1 2 3 4 5 the third: a majority stands at it or to its right.
    match (count.is_multiple_of(2), count) {
        (_, 0) => 0,
        (true, _) => values[count / 2 - 1],
        (false, _) => values[count / 2],
    }
}

fn majority_outcome(voters: &[ReplicaId], answer: &impl Fn(ReplicaId) -> Option<bool>) -> Outcome {
    let majority = voters.len() / 2 + 1;
    let yes = voters.iter().filter(|id| answer(**id) == Some(true)).count();
    let no = voters.iter().filter(|id| answer(**id) == Some(false)).count();
    match () {
        () if yes >= majority => Outcome::Won,
        () if voters.len() - no < majority => Outcome::Lost,
        () => Outcome::Open,
    }
}

/// The configurations of the log, by where they stand.
///
/// One is in force as soon as it is appended, committed or not (Raft §6), and when its entry is
/// truncated the one before it is in force again. So they are kept as a stack.
#[derive(Debug, Clone)]
pub(crate) struct Configs {
    stack: Vec<(LogIndex, Arc<Config>)>,
}

impl Configs {
    pub(crate) fn new(index: LogIndex, config: Arc<Config>) -> Configs {
        Configs { stack: vec![(index, config)] }
    }

    /// Returns the one in force and where it stands.
    pub(crate) fn newest(&self) -> (LogIndex, &Arc<Config>) {
        let (index, config) = self.stack.last().expect("there is always one");
        (*index, config)
    }

    /// Returns the one that was in force at an index.
    pub(crate) fn at(&self, index: LogIndex) -> (LogIndex, &Arc<Config>) {
        let found = self.stack.iter().rev().find(|(at, _)| *at <= index);
        let (at, config) = found.unwrap_or(&self.stack[0]);
        (*at, config)
    }

    pub(crate) fn push(&mut self, index: LogIndex, config: Arc<Config>) {
        self.stack.push((index, config));
    }

    /// Forgets those at or above an index. Returns true if another one is in force now.
    pub(crate) fn truncate_from(&mut self, index: LogIndex) -> bool {
        let before = self.stack.len();
        while self.stack.len() > 1 && self.stack.last().is_some_and(|(at, _)| *at >= index) {
            self.stack.pop();
        }
        self.stack.len() != before
    }

    /// Forgets those that were replaced at or below an index.
    pub(crate) fn compact(&mut self, index: LogIndex) {
        let replaced = self.stack.iter().filter(|(at, _)| *at <= index).count();
        self.stack.drain(..replaced.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_counted_in_each_set() {
        let check = |voters: &[u64], outgoing: &[u64], reached: u64| {
            let mut config = Config::new(voters, &[]);
            config.outgoing = outgoing.iter().copied().map(ReplicaId).collect();
            // Each replica has reached ten times its id.
            assert_eq!(config.reached_by_quorum(|id| id.0 * 10), reached, "{config:?}");
        };
        check(&[1], &[], 10);
        check(&[1, 2], &[], 10);
        check(&[1, 2, 3], &[], 20);
        check(&[1, 2, 3, 4], &[], 20);
        check(&[1, 2, 3, 4, 5], &[], 30);
        check(&[4, 5, 6], &[1, 2, 3], 20);
        check(&[1, 2, 3], &[4, 5, 6], 20);
    }

    #[test]
    fn a_vote_is_lost_in_either_set_and_won_in_both() {
        let mut config = Config::new(&[4, 5, 6], &[7]);
        config.outgoing = [1, 2, 3].map(ReplicaId).to_vec();
        let check = |yes: &[u64], no: &[u64], outcome: Outcome| {
            let answer = |id: ReplicaId| match () {
                () if yes.contains(&id.0) => Some(true),
                () if no.contains(&id.0) => Some(false),
                () => None,
            };
            assert_eq!(config.outcome(answer), outcome, "{yes:?} {no:?}");
        };
        check(&[4, 5], &[], Outcome::Open);
        check(&[4, 5, 1], &[], Outcome::Open);
        check(&[4, 5, 1, 7], &[], Outcome::Open);
        check(&[4, 5, 1, 2], &[], Outcome::Won);
        check(&[4, 5, 1], &[2, 3], Outcome::Lost);
    }

    #[test]
    fn configurations_come_and_go_with_their_entries() {
        let config = |voter| Arc::new(Config::new(&[voter], &[]));
        let mut configs = Configs::new(LogIndex(0), config(1));
        configs.push(LogIndex(5), config(2));
        configs.push(LogIndex(9), config(3));
        assert_eq!(configs.at(LogIndex(8)).0, LogIndex(5));
        assert!(configs.truncate_from(LogIndex(9)));
        assert!(!configs.truncate_from(LogIndex(7)));
        assert_eq!(configs.newest(), (LogIndex(5), &config(2)));
        configs.compact(LogIndex(4));
        assert_eq!(configs.at(LogIndex(4)).0, LogIndex(0));
        configs.compact(LogIndex(6));
        assert_eq!(configs.at(LogIndex(4)).0, LogIndex(5));
    }
}
