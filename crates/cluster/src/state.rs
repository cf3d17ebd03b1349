//! What a replica keeps in its engine beside the data: where the state stands, and how
//! transactions ended.
//!
//! ```text
//!   0    1                9
//!   +----+----------------+
//!   | 01 | group (BE)     |                                        the state
//!   +----+----------------+
//!   | 02 | start (BE)     | home (BE)      | nonce (BE)     |       how a transaction ended
//!   +----+----------------+----------------+----------------+
//!   | 03 | keyspace, key …                                         data: base::key
//!
//!   state   | format 1 | applied term | applied index | epoch | ceiling | last | gc
//!           | config index | config: raft's encoding, to the end           numbers: varints
//!   record  | 1 | commit timestamp: varint |     committed
//!           | 2 |                                aborted
//! ```
//!
//! The engine writes a (key, timestamp) once. The state's versions have the applied index for a
//! timestamp, which rises, and lies below any watermark: so only the newest stays. A record has the
//! timestamp of the command that made it.
//!
//! Records are sorted by when their transactions began, so that those that are too old to matter
//! lie at the beginning. (With many shards they will be sorted by the key that anchors them first.)

use std::sync::Arc;

use base::Timestamp;
use base::codec::{Reader, Truncated, put_varint};
use raft::{Config, LogIndex, Position, Term};

/// The kind byte of the state of a group.
const STATE: u8 = 1;

/// The kind byte of records.
pub(crate) const RECORD: u8 = 2;

const FORMAT: u8 = 1;

/// Names an attempt of a transaction, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TxnId {
    /// When it began to read. What began before the garbage watermark is refused, so that no
    /// record is needed of it.
    pub start: Timestamp,
    /// Who chose the nonce.
    pub home: u64,
    /// Unique among the transactions of that home with that start.
    pub nonce: u64,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// It took place at this moment.
    Committed(Timestamp),
    /// It never will.
    Aborted,
}

/// The state of a replica, but for the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// The last entry whose effects are in the engine.
    pub(crate) applied: Position,
    /// Counts changes of what the group is responsible for.
    pub(crate) epoch: u64,
    /// No timestamp above this one was ever issued.
    pub(crate) ceiling: Timestamp,
    /// The newest timestamp that was written.
    pub(crate) last_ts: Timestamp,
    /// Reads below this one are refused.
    pub(crate) gc_ts: Timestamp,
    /// The configuration in force after that entry, and where it stands.
    pub(crate) config: Arc<Config>,
    pub(crate) config_index: LogIndex,
}

impl State {
    pub(crate) fn new(config: Arc<Config>) -> State {
        State {
            applied: Position::default(),
            epoch: 1,
            ceiling: Timestamp::ZERO,
            last_ts: Timestamp::ZERO,
            gc_ts: Timestamp::ZERO,
            config,
            config_index: LogIndex(0),
        }
    }

    /// Returns the timestamp of the version that is written now.
    pub(crate) fn row_ts(&self) -> Timestamp {
        Timestamp::from_raw(self.applied.index.0)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        for number in [
            self.applied.term.0,
            self.applied.index.0,
            self.epoch,
            self.ceiling.raw(),
            self.last_ts.raw(),
            self.gc_ts.raw(),
            self.config_index.0,
        ] {
            put_varint(&mut out, number);
        }
        raft::codec::encode_config(&self.config, &mut out);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<State, String> {
        let mut reader = Reader::new(bytes);
        let cut = |_: Truncated| "the state of the replica is cut short".to_string();
        let format = reader.u8().map_err(cut)?;
        if format != FORMAT {
            return Err(format!("the state has format {format}, this program reads {FORMAT}"));
        }
        let term = Term(reader.varint().map_err(cut)?);
        let index = LogIndex(reader.varint().map_err(cut)?);
        let epoch = reader.varint().map_err(cut)?;
        let mut ts = || reader.varint().map(Timestamp::from_raw).map_err(cut);
        let (ceiling, last_ts, gc_ts) = (ts()?, ts()?, ts()?);
        let config_index = LogIndex(reader.varint().map_err(cut)?);
        let config = raft::codec::decode_config(reader.rest())
            .map_err(|error| format!("the configuration in the state: {error}"))?;
        let applied = Position { term, index };
        let config = Arc::new(config);
        Ok(State { applied, epoch, ceiling, last_ts, gc_ts, config, config_index })
    }
}

impl Record {
    pub(crate) fn encode(self) -> Vec<u8> {
        match self {
            Record::Committed(ts) => {
                let mut out = vec![1];
                put_varint(&mut out, ts.raw());
                out
            }
            Record::Aborted => vec![2],
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Record, String> {
        let mut reader = Reader::new(bytes);
        let cut = |_: Truncated| "the record of a transaction is cut short".to_string();
        match reader.u8().map_err(cut)? {
            1 => Ok(Record::Committed(Timestamp::from_raw(reader.varint().map_err(cut)?))),
            2 => Ok(Record::Aborted),
            kind => Err(format!("a record has kind {kind}, which this program does not know")),
        }
    }
}

/// Returns the key of the state of a group.
pub(crate) fn state_key(group: u64) -> Vec<u8> {
    [&[STATE][..], &group.to_be_bytes()].concat()
}

/// Returns the key of the record of a transaction.
pub(crate) fn record_key(txn: &TxnId) -> Vec<u8> {
    let numbers = [txn.start.raw(), txn.home, txn.nonce].map(u64::to_be_bytes);
    [&[RECORD][..], &numbers.concat()].concat()
}

/// Returns the key before which lie the records of all that began before a timestamp.
pub(crate) fn records_before(ts: Timestamp) -> Vec<u8> {
    [&[RECORD][..], &ts.raw().to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_and_records_survive_the_round_trip_and_no_cut_does() {
        let mut state = State::new(Arc::new(Config::new(&[1, 2, 3], &[4])));
        state.applied = Position { term: Term(7), index: LogIndex(900) };
        state.gc_ts = Timestamp::from_raw(5);
        let bytes = state.encode();
        assert_eq!(State::decode(&bytes), Ok(state));
        assert!((0..bytes.len()).all(|len| State::decode(&bytes[..len]).is_err()));
        for record in [Record::Committed(Timestamp::from_raw(1 << 50)), Record::Aborted] {
            let bytes = record.encode();
            assert_eq!(Record::decode(&bytes), Ok(record));
            assert!((0..bytes.len()).all(|len| Record::decode(&bytes[..len]).is_err()));
        }
    }

    #[test]
    fn records_lie_in_the_order_in_which_their_transactions_began() {
        let key =
            |start, nonce| record_key(&TxnId { start: Timestamp::from_raw(start), home: 9, nonce });
        assert!(key(1, 7) < key(2, 0) && key(2, 0) < key(256, 0));
        assert!(key(1, u64::MAX) < records_before(Timestamp::from_raw(2)));
        assert!(key(2, 0) >= records_before(Timestamp::from_raw(2)));
    }
}
