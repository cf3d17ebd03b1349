//! Changing who takes part, and who leads.
//!
//! ```text
//!   appended   committed                       appended           committed
//!   joint ────────┬─────────────────────────── simple ────────────────┬────────►
//!   old and new   └ the leader appends the      new majority          └ a leader that is
//!   majorities      simple one by itself        alone                   not in it stops
//! ```
//!
//! A configuration is in force where it is appended (Raft §6), so a leader that changes it must not
//! do so before it has committed something in its term: an unfinished change of an earlier leader
//! might come back. That is the bug that was found after the publication of single-server changes,
//! and the rule costs nothing in joint consensus either. When only learners change, no quorum does,
//! and one step is enough.

use std::sync::Arc;

use super::{Raft, Role};
use crate::progress::{Feeding, Progress};
use crate::{Body, Config, Output, Refusal, ReplicaId, Term};

impl Raft {
    pub(super) fn change(
        &mut self,
        voters: Vec<ReplicaId>,
        learners: Vec<ReplicaId>,
        expected_term: Term,
        out: &mut Vec<Output>,
    ) {
        match self.changed_config(voters, learners, expected_term) {
            Ok(config) => {
                self.wake(out);
                self.append_config(config, out);
            }
            Err(reason) => out.push(Output::Refused(reason)),
        }
    }

    fn changed_config(
        &self,
        mut voters: Vec<ReplicaId>,
        mut learners: Vec<ReplicaId>,
        expected_term: Term,
    ) -> Result<Config, Refusal> {
        if self.role != Role::Leader {
            return Err(self.not_leader());
        }
        if expected_term != self.hard_state.term {
            return Err(Refusal::OtherTerm(self.hard_state.term));
        }
        if self.leading.transfer.is_some() {
            return Err(Refusal::Transferring);
        }
        let (index, current) = self.configs.newest();
        let is_unfinished = index > self.commit || current.is_joint();
        let is_unproven = self.commit < self.leading.begins_at;
        if (is_unfinished && !cfg!(mutant = "changes_during_change"))
            || (is_unproven && !cfg!(mutant = "single_server_bug"))
        {
            return Err(Refusal::ChangeUnfinished);
        }
        for ids in [&mut voters, &mut learners] {
            ids.sort_unstable();
            ids.dedup();
        }
        let all = || voters.iter().chain(&learners);
        if all().any(|id| !current.contains(*id) && *id <= current.highest_id) {
            return Err(Refusal::IdUsed);
        }
        let is_ready = |id: &ReplicaId| {
            let has = self.leading.get(*id).map(|progress| progress.matched.0);
            let enough = self.commit.0.saturating_sub(self.options.promotion_lag_max);
            current.voters.contains(id)
                || *id == self.id
                || current.learners.contains(id) && has.is_some_and(|has| has > 0 && has >= enough)
        };
        if !voters.iter().all(is_ready) {
            return Err(Refusal::NotCaughtUp);
        }
        let highest_id = all().copied().max().unwrap_or_default().max(current.highest_id);
        let is_other = voters != current.voters
            && !cfg!(any(mutant = "changes_voters_at_once", mutant = "single_server_bug"));
        let outgoing = if is_other { current.voters.clone() } else { Vec::new() };
        let config = Config { voters, outgoing, learners, highest_id };
        match config.complaint() {
            Some(complaint) => Err(Refusal::BadConfig(complaint)),
            None => Ok(config),
        }
    }

    /// Takes the next step of a change after something was committed.
    pub(super) fn continue_change(&mut self, out: &mut Vec<Output>) {
        let (index, config) = self.configs.newest();
        let config = Arc::clone(config);
        if index > self.commit {
            return;
        }
        if config.is_joint() {
            let config = Config { outgoing: Vec::new(), ..(*config).clone() };
            self.append_config(config, out);
        } else if !config.voters.contains(&self.id) {
            // Raft §6: it led to the end of the change without counting itself. The others learn of
            // the commit, and the one that has most takes over without waiting for a timeout.
            self.feed_all(out);
            let voters = self.leading.progress.iter().filter(|other| config.is_voter(other.id));
            if let Some(heir) = voters.max_by_key(|other| other.matched) {
                self.send(heir.id, Body::TimeoutNow, out);
            }
            self.step_down(self.hard_state.term, None, out);
        }
    }

    /// Begins to hand the leadership over (thesis §3.10).
    pub(super) fn transfer(&mut self, to: ReplicaId, out: &mut Vec<Output>) {
        let refusal = match () {
            () if self.role != Role::Leader => self.not_leader(),
            () if self.leading.transfer.is_some() => Refusal::Transferring,
            () if to == self.id || !self.config().voters.contains(&to) => Refusal::NotAVoter,
            () => {
                self.wake(out);
                let until = self.now.after(self.options.election_timeout_ticks);
                self.leading.transfer = Some((to, until));
                self.leading.busy_at = self.now;
                return self.hand_over_if_ready(out);
            }
        };
        out.push(Output::Refused(refusal));
    }

    /// Tells the target to stand for election once it has the whole log.
    ///
    /// From then on this leader has no lease, until its term ends: the message may arrive at any
    /// later time, even after the transfer was given up, and those who vote for the target break
    /// their promise with this leader's leave.
    pub(super) fn hand_over_if_ready(&mut self, out: &mut Vec<Output>) {
        let Some((to, _)) = self.leading.transfer else { return };
        let last = self.log.last_index();
        let is_ready = |progress: &Progress| {
            progress.matched == last && progress.feeding == Feeding::Replicate
        };
        if self.leading.get(to).is_some_and(is_ready) {
            if !cfg!(mutant = "keeps_lease_in_transfer") {
                self.leading.is_lease_void = true;
            }
            self.send(to, Body::TimeoutNow, out);
        }
    }
}
