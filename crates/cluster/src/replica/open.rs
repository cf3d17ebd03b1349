//! Opening: the state from the tables, the rest from the log.
//!
//! ```text
//!   tables ──► state: applied up to 40, configuration, ceiling …
//!   log ─────► hard state, entries 41 to 57, "45 was applied"
//!                 │
//!                 └─► Raft: base 40, log 41 … 57, committed up to 45 at least
//!                        └─► 41 … 45 are applied now; 46 … 57 when a leader says so
//! ```
//!
//! A new directory gets the first state at once, durably: the members of a group are told to a
//! replica only when it is made.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use base::Timestamp;
use env::Disk;
use raft::{Config, LogIndex, Raft, Recovered, ReplicaId, SnapshotMeta, Ticks};
use storage::wal::EMBEDDED_GROUP;
use storage::{Engine, Error as StorageError, Value};

use super::Replica;
use super::reads::Reads;
use crate::error::Error;
use crate::log::GroupLog;
use crate::options::ReplicaOptions;
use crate::state::{State, state_key};

impl Replica {
    /// Opens a replica, or creates it where there is none.
    ///
    /// # Errors
    /// `Impossible` if what is found is nothing that a replica can have left; `Invalid` for
    /// options; those of the disk.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        options: ReplicaOptions,
        now: Ticks,
    ) -> Result<Replica, Error> {
        if options.group == EMBEDDED_GROUP {
            let what = format!("group {EMBEDDED_GROUP} is that of embedded databases: choose 2");
            return Err(Error::Invalid(what));
        }
        if options.id == ReplicaId(0) {
            return Err(Error::Invalid("a replica cannot have the id 0".into()));
        }
        let impossible = |what| Error::Impossible { path: path.to_path_buf(), what };
        let mut log = GroupLog::default();
        let mut complaint = None;
        let group = options.group;
        let (engine, _) = Engine::open_replicated(disk, path, options.engine(), &mut |record| {
            if let Err(what) = log.take(group, record) {
                complaint.get_or_insert(what);
            }
            Ok(())
        })?;
        if let Some(what) = complaint {
            return Err(impossible(what));
        }
        let engine = Arc::new(engine);
        let state = match read_state(&engine, group)? {
            Some(bytes) => State::decode(&bytes).map_err(impossible)?,
            None if log.hard_state.is_some() || !log.entries.is_empty() => {
                return Err(impossible("it has a log, and no state".into()));
            }
            None => create_state(&engine, &options)?,
        };
        if state.applied.index.0 > 0 && log.hard_state.is_none() {
            return Err(impossible("the log has forgotten its vote".into()));
        }
        let image = SnapshotMeta {
            position: state.applied,
            config: state.config.clone(),
            config_index: state.config_index,
            id: 0,
        };
        let is_applied = |index: LogIndex| index <= state.applied.index;
        let positions = log.entries.iter().map(|(entry, begin)| (entry.index, *begin));
        let positions: VecDeque<_> = positions.filter(|(index, _)| !is_applied(*index)).collect();
        let recovered = Recovered {
            hard_state: log.hard_state.unwrap_or_default(),
            commit: log.commit.max(state.applied.index),
            image,
            entries: log.entries.into_iter().map(|(entry, _)| entry).collect(),
        };
        let raft_options = raft::Options { seed: options.seed, ..options.raft.clone() };
        let raft = Raft::new(options.id, raft_options, recovered, now)
            .map_err(|error| impossible(error.to_string()))?;
        // Entries that do not go on behind the state are gone; the protocol says so when it writes.
        let has_log = raft.last().index > raft.base().index;
        let mut replica = Replica {
            engine,
            now,
            wall_ms: 0,
            flushed: state.applied.index,
            sealed: VecDeque::new(),
            positions: if has_log { positions } else { VecDeque::new() },
            hard_state: raft.hard_state(),
            writes: VecDeque::new(),
            next_ticket: 1,
            raft_out: Vec::new(),
            leads_in: None,
            oracle: None,
            in_flight: std::collections::BTreeMap::new(),
            queue: VecDeque::new(),
            reads: Reads::default(),
            outgoing: None,
            incoming: None,
            spoiled: None,
            failure: None,
            raft,
            state,
            options,
        };
        replica.engine.collect(replica.state.gc_ts);
        let commit = replica.raft.commit_index();
        replica.apply_to(commit, &mut Vec::new());
        match replica.failure.take() {
            Some(what) => Err(impossible(what)),
            None => Ok(replica),
        }
    }
}

/// Returns the bytes of the state in the tables.
fn read_state(engine: &Arc<Engine>, group: u64) -> Result<Option<Vec<u8>>, StorageError> {
    let pin = engine.pin_newest(|| Timestamp::MAX);
    Ok(pin.get(&state_key(group))?.map(|(_, bytes)| bytes.to_vec()))
}

/// Makes the state of a new replica, durably.
fn create_state(engine: &Arc<Engine>, options: &ReplicaOptions) -> Result<State, Error> {
    let ids: Vec<u64> = options.members.iter().map(|id| id.0).collect();
    let config = Config::new(&ids, &[]);
    if let Some(complaint) = config.complaint() {
        return Err(Error::Invalid(format!("the members of the group: {complaint}")));
    }
    let state = State::new(Arc::new(config));
    let (key, bytes) = (state_key(options.group), state.encode());
    engine.put_applied(state.row_ts(), [(&key[..], Value::Put(&bytes))].into_iter());
    engine.seal_applied(state.row_ts(), engine.log_next());
    engine.flush_next(Timestamp::MAX)?;
    Ok(state)
}
