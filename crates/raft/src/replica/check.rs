//! The invariants, asserted: at the end of each step in debug builds, and whenever somebody asks.

use super::{Ballot, Raft, Role};

impl Raft {
    /// # Panics
    /// If an invariant of the types does not hold.
    pub fn check_invariants(&self) {
        self.log.check_invariants();
        let (base, last) = (self.log.base().index, self.log.last_index());
        assert!(base <= self.commit, "what is in the image is committed: {}", self.commit);
        assert!(self.commit <= last, "{} is committed and the log ends at {last}", self.commit);
        assert!(base <= self.applied && self.applied <= self.commit, "applied: {}", self.applied);
        assert!(self.log.last().term <= self.hard_state.term, "the log is of terms that were");
        assert!(self.handed_state.covers(&self.durable_state), "durable is what was written");
        assert!(self.hard_state.covers(&self.handed_state), "the hard state only grows");
        match self.role {
            Role::Leader => {
                assert_eq!(self.leader, Some(self.id), "a leader follows itself");
                // So that it knows after a crash that it led in this term.
                assert_eq!(self.durable_state.vote, Some(self.id), "it voted for itself");
                assert!(self.leading.begins_at <= last, "it began with an entry");
                self.leading.progress.iter().for_each(|progress| progress.check_invariants());
                let has = |progress: &crate::progress::Progress| progress.matched <= last;
                assert!(self.leading.progress.iter().all(has), "acknowledged is what was made");
            }
            Role::Candidate => assert_eq!(self.hard_state.vote, Some(self.id)),
            Role::Follower | Role::PreCandidate => {
                assert!(!matches!(self.ballot, Ballot::Request { .. }), "nobody stands");
                assert_ne!(self.leader, Some(self.id), "who follows has another leader");
            }
        }
    }

    /// Checks the log entry by entry too.
    ///
    /// # Panics
    /// If an invariant of the types does not hold.
    pub fn check_deeply(&self) {
        self.check_invariants();
        self.log.check_entries();
    }
}
