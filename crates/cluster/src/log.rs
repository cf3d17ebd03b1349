//! The log of a group as it is found: what the records say, one after the other.
//!
//! ```text
//!   records    E1 E2 H(2) E3 E4 T3 E3' H(3) E4' …     E entry, H hard state, T truncate, S image
//!   the log    1  2  3' 4'        hard state H(3)
//! ```
//!
//! An entry is replaced only behind a truncation that says so, and follows the one before it: a
//! log in which that is not so was not written by a replica, and is refused.

use std::collections::VecDeque;

use base::codec::Reader;
use bytes::Bytes;
use raft::{Entry, HardState, LogIndex, Payload, Position, ReplicaId, Term};
use storage::wal::{Lsn, Record, RecordKind};

/// What the log has of one group.
#[derive(Debug, Default)]
pub(crate) struct GroupLog {
    pub(crate) hard_state: Option<HardState>,
    /// An index that had been applied.
    pub(crate) commit: LogIndex,
    /// The entries and where their records begin.
    pub(crate) entries: VecDeque<(Entry, Lsn)>,
    /// What the entries begin behind, if a record says so.
    base: Option<Position>,
}

impl GroupLog {
    /// Takes one record in. Records come in the order in which they were written.
    pub(crate) fn take(&mut self, group: u64, record: &Record<'_>) -> Result<(), String> {
        let at = record.lsn;
        if matches!(record.kind, RecordKind::Close | RecordKind::Next) {
            return Ok(());
        }
        if record.group != group {
            let found = record.group;
            return Err(format!("the record at position {at} of the log is of group {found}"));
        }
        let (term, index) = (Term(record.term), LogIndex(record.index));
        match record.kind {
            RecordKind::Close | RecordKind::Next => {}
            RecordKind::HardState => {
                let vote = Reader::new(record.payload).varint();
                let vote = vote.map_err(|_| format!("the vote at position {at} is cut short"))?;
                let vote = (vote > 0).then_some(ReplicaId(vote));
                self.hard_state = Some(HardState { term, vote });
                self.commit = self.commit.max(index);
            }
            RecordKind::Truncate => {
                while self.entries.back().is_some_and(|(last, _)| last.index >= index) {
                    self.entries.pop_back();
                }
                if self.base.is_some_and(|base| base.index >= index) {
                    self.base = None;
                }
            }
            RecordKind::Snapshot => {
                self.entries.clear();
                self.base = Some(Position { term, index });
            }
            RecordKind::Entry => {
                let payload = raft::codec::decode_payload(&Bytes::copy_from_slice(record.payload))
                    .map_err(|error| format!("the entry at position {at} of the log: {error}"))?;
                self.push(Entry { term, index, payload }, at)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry, at: Lsn) -> Result<(), String> {
        let last = self.entries.back().map(|(last, _)| last.position()).or(self.base);
        if let Some(last) = last
            && entry.index != last.index.next()
        {
            let (index, last) = (entry.index, last.index);
            return Err(format!("entry {index} at position {at} of the log follows entry {last}"));
        }
        self.entries.push_back((entry, at));
        Ok(())
    }
}

/// Returns the payload of a record of the hard state.
pub(crate) fn encode_vote(hard_state: &HardState) -> Vec<u8> {
    let mut out = Vec::new();
    base::codec::put_varint(&mut out, hard_state.vote.map_or(0, |vote| vote.0));
    out
}

/// Returns the payload of an entry's record.
pub(crate) fn encode_entry(payload: &Payload) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.bytes() + 8);
    raft::codec::encode_payload(payload, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use base::Timestamp;

    use super::*;

    fn log(records: &[(RecordKind, u64, u64)]) -> Result<String, String> {
        let mut log = GroupLog::default();
        for (at, &(kind, term, index)) in records.iter().enumerate() {
            let payload = match kind {
                RecordKind::Entry => encode_entry(&Payload::Empty),
                _ => vec![3],
            };
            let record = Record {
                lsn: Lsn(at as u64),
                kind,
                group: 2,
                term,
                index,
                synced: Lsn(0),
                timestamp: Timestamp::ZERO,
                payload: &payload,
            };
            log.take(2, &record)?;
        }
        let entries =
            log.entries.iter().map(|(entry, _)| format!("{}:{}", entry.index, entry.term));
        let term = log.hard_state.map_or(0, |hard_state| hard_state.term.0);
        Ok(format!("{} term {term}", entries.collect::<Vec<_>>().join(" ")))
    }

    #[test]
    fn the_last_word_on_each_entry_counts() {
        use RecordKind::{Entry as E, HardState as H, Snapshot as S, Truncate as T};
        let first = [(H, 1, 0), (E, 1, 5), (E, 1, 6), (E, 1, 7)];
        let check = |more: &[_]| log(&[&first[..], more].concat());
        assert_eq!(check(&[]), Ok("5:1 6:1 7:1 term 1".into()));
        assert_eq!(check(&[(T, 2, 6), (H, 2, 5), (E, 2, 6)]), Ok("5:1 6:2 term 2".into()));
        assert_eq!(check(&[(S, 2, 90), (E, 3, 91)]), Ok("91:3 term 1".into()));
        assert!(check(&[(E, 2, 7)]).unwrap_err().contains("entry 7 at position 4"));
        assert!(check(&[(S, 2, 90), (E, 3, 92)]).unwrap_err().contains("follows entry 90"));
    }
}
