//! Coming back from what was durable.
//!
//! ```text
//!   writes        w1  w2  w3 | w4  w5            │ promised: what rests on w1 to w3
//!   after a crash w1  w2  w3   w4                │ any prefix that has those
//!
//!   state ahead of the log:   log 1 2 3 4        the image has the effects of 5 and 6: they were
//!                             image at 6         committed by others, so the log begins behind it
//! ```
//!
//! # What is refused
//! A state that no prefix of what was written can be: that disk has forgotten or mixed up
//! something, and the replica must not vote or acknowledge on it. It comes back as a new replica,
//! with a new id.

use std::collections::VecDeque;

use super::{Ballot, Following, Leading, Raft, Role};
use crate::config::Configs;
use crate::log::Log;
use crate::types::Random;
use crate::{
    Config, Entry, HardState, LogIndex, Options, Payload, Position, ReplicaId, SnapshotMeta, Term,
    Ticks,
};

/// What a replica finds of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The hard state that was written last.
    pub hard_state: HardState,
    /// What the state machine has durably. The log is not needed up to there.
    pub image: SnapshotMeta,
    /// The log. It may begin anywhere at or before the image's end.
    pub entries: Vec<Entry>,
    /// A commit index that was noted, or that of the image. It saves time: nothing rests on it.
    pub commit: LogIndex,
}

impl Recovered {
    /// Returns the state of a replica of a new group, which all its first replicas begin with.
    pub fn new_group(config: Config) -> Recovered {
        let config = std::sync::Arc::new(config);
        let position = Position::default();
        Recovered {
            hard_state: HardState::default(),
            image: SnapshotMeta { position, config, config_index: LogIndex(0), id: 0 },
            entries: Vec::new(),
            commit: LogIndex(0),
        }
    }
}

/// Why a replica does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// The log has a hole, or is not in order.
    #[error("the log goes from entry {after} to entry {found}: there is a hole in it")]
    Hole {
        /// The entry before the hole.
        after: LogIndex,
        /// What follows.
        found: LogIndex,
    },
    /// The log begins behind the image.
    #[error("the log begins at entry {first}, but the state has only those up to {image}")]
    Gap {
        /// The first entry.
        first: LogIndex,
        /// The end of the image.
        image: LogIndex,
    },
    /// Terms fall along the log.
    #[error("entry {index} is of term {term}, older than the one before it")]
    TermsFall {
        /// Which entry.
        index: LogIndex,
        /// Its term.
        term: Term,
    },
    /// The hard state was written before any entry of its term, and is older than one now.
    #[error("the log has entries of term {log}, but the vote is of the past term {hard_state}")]
    VoteInPastTerm {
        /// The newest term in the log.
        log: Term,
        /// The term of the hard state.
        hard_state: Term,
    },
    /// Something is committed that is not there.
    #[error("entries up to {commit} are committed, but the log ends at {last}")]
    CommitBeyondLog {
        /// The commit index that was noted.
        commit: LogIndex,
        /// The end of the log.
        last: LogIndex,
    },
    /// A vote in term zero, which nobody stands for election in.
    #[error("there is a vote in term 0, in which there are no elections")]
    VoteWithoutTerm,
    /// A configuration is none.
    #[error("{0}")]
    BadConfig(&'static str),
    /// Zero is nobody's id.
    #[error("a replica cannot have the id 0")]
    NoId,
}

impl Raft {
    /// Starts a replica from what it finds of itself.
    ///
    /// # Errors
    /// If that is no prefix of what it ever wrote.
    pub fn new(
        id: ReplicaId,
        options: Options,
        recovered: Recovered,
        now: Ticks,
    ) -> Result<Raft, RecoveryError> {
        let Recovered { hard_state: written, image, entries, commit } = recovered;
        if id.0 == 0 {
            return Err(RecoveryError::NoId);
        }
        if written.term.0 == 0 && written.vote.is_some() {
            return Err(RecoveryError::VoteWithoutTerm);
        }
        if let Some(complaint) = image.config.complaint() {
            return Err(RecoveryError::BadConfig(complaint));
        }
        check_log(&entries, &image, written)?;
        let base = image.position;
        let is_any = !entries.is_empty();
        let goes_on = goes_on_behind(&entries, base);
        let entries: VecDeque<Entry> = if goes_on || cfg!(mutant = "keeps_log_of_other_image") {
            entries.into_iter().filter(|entry| entry.index > base.index).collect()
        } else {
            VecDeque::new()
        };
        let last = entries.back().map_or(base, Entry::position);
        if commit > last.index {
            return Err(RecoveryError::CommitBeyondLog { commit, last: last.index });
        }
        // The image may be of a newer term, whose write was lost with nothing promised on it. It is
        // written again before any entry of that term is.
        let is_newer = base.term > written.term;
        let hard_state = if is_newer { HardState { term: base.term, vote: None } } else { written };
        let written = if cfg!(mutant = "recovered_term_is_written") { hard_state } else { written };
        let mut configs = Configs::new(image.config_index, image.config);
        for entry in &entries {
            if let Payload::Config(config) = &entry.payload {
                configs.push(entry.index, config.clone());
            }
        }
        let random = Random::new(options.seed ^ id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut raft = Raft {
            id,
            random,
            now,
            hard_state,
            handed_state: written,
            durable_state: written,
            log: Log::new(base, entries, is_any && !goes_on),
            configs,
            commit: commit.max(base.index),
            applied: base.index,
            role: Role::Follower,
            leader: None,
            promised_until: now,
            deadline: now,
            is_quiet: false,
            ballot: Ballot::Nothing,
            votes: Vec::new(),
            following: Following::default(),
            leading: Leading::default(),
            announced: (Role::Follower, hard_state.term, None),
            options,
        };
        raft.following.enter_term(raft.commit);
        if !raft.never_promised() {
            raft.draw_deadline();
            if !cfg!(mutant = "forgets_promise_in_crash") {
                raft.promised_until = now.after(raft.options.election_timeout_ticks);
            }
        }
        raft.check_invariants();
        Ok(raft)
    }

    /// Returns true if this replica decides alone and nobody holds a promise of it: it stands for
    /// election at the first tick, so that a database on one node opens without a wait.
    ///
    /// It voted for itself, and decided alone already when it did: so it led in that term and
    /// nobody else, and what it promised before ended when it voted. That it decides alone *now* is
    /// not enough: a leader of this term may just have appended that, and its lease rests on this
    /// replica alone.
    fn never_promised(&self) -> bool {
        let (at, config) = self.configs.newest();
        let term = self.hard_state.term;
        // The base is at least as new as a configuration that lies before it.
        let config_term = match self.log.term_at(at) {
            _ if at.0 == 0 => Term(0),
            Some(term) => term,
            None => self.log.base().term,
        };
        let decided_alone = config_term < term || cfg!(mutant = "sole_voter_forgets_promise");
        let is_fresh = term.0 == 0 && self.log.last_index().0 == 0;
        config.is_sole_voter(self.id)
            && (is_fresh || decided_alone && self.hard_state.vote == Some(self.id))
    }
}

fn check_log(
    entries: &[Entry],
    image: &SnapshotMeta,
    hard_state: HardState,
) -> Result<(), RecoveryError> {
    if let Some(first) = entries.first()
        && first.index > image.position.index.next()
    {
        return Err(RecoveryError::Gap { first: first.index, image: image.position.index });
    }
    for pair in entries.windows(2) {
        let (before, entry) = (&pair[0], &pair[1]);
        if entry.index != before.index.next() {
            return Err(RecoveryError::Hole { after: before.index, found: entry.index });
        }
        if entry.term < before.term {
            return Err(RecoveryError::TermsFall { index: entry.index, term: entry.term });
        }
    }
    if let Some(last) = entries.last()
        && last.term > hard_state.term
    {
        let (log, hard_state) = (last.term, hard_state.term);
        return Err(RecoveryError::VoteInPastTerm { log, hard_state });
    }
    let configs = entries.iter().filter_map(|entry| match &entry.payload {
        Payload::Config(config) => config.complaint(),
        _ => None,
    });
    configs.map(RecoveryError::BadConfig).map(Err).next().unwrap_or(Ok(()))
}

/// Returns true if a log goes on behind an image. It does not if it has something else where the
/// image ends, or ends before it: then it is an older log, and what it has beyond was never
/// committed.
fn goes_on_behind(entries: &[Entry], base: Position) -> bool {
    let begins_there = entries.first().is_some_and(|first| first.index == base.index.next());
    begins_there || entries.iter().any(|entry| entry.position() == base)
}
