//! What stands in the log: the commands of the state machine.
//!
//! ```text
//!   +--------+------+-------+------+------- - -                     numbers: varints
//!   | format | kind | epoch | term | body
//!   |  1     |      |       |      |
//!   +--------+------+-------+------+------- - -
//!   kind  1 CommitOne   start home nonce, timestamp, writes: storage::batch, to the end
//!         2 Abort       start home nonce, timestamp
//!         3 Ceiling     timestamp
//!         4 SetGc       watermark, timestamp
//! ```
//!
//! A command is thought out by a leader and carried out by everybody, later, and maybe under the
//! next leader. So each says under which term and epoch it was thought out, and carrying one out is
//! a function of the state and of its bytes alone.
//!
//! # Invariants
//! * Decoding any bytes gives a command or a sentence. What is decoded has keys of data only, which
//!   rise.

use base::codec::{Reader, Truncated, put_varint};
use base::{Timestamp, key};
use bytes::Bytes;
use raft::Term;
use storage::Value;
use storage::batch::{decode_batch, encode_batch};

use crate::state::TxnId;

const FORMAT: u8 = 1;

/// A command and under what it was thought out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) epoch: u64,
    pub(crate) term: Term,
    pub(crate) body: Body,
}

/// A write; `None` deletes.
pub(crate) type Write = (Bytes, Option<Bytes>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// All of a transaction, at one moment.
    CommitOne { txn: TxnId, ts: Timestamp, writes: Vec<Write> },
    /// A transaction that has not ended never takes place.
    Abort { txn: TxnId, ts: Timestamp },
    /// Timestamps up to this one may be issued.
    Ceiling { ts: Timestamp },
    /// Versions that only reads below the watermark need may be forgotten.
    SetGc { gc_ts: Timestamp, ts: Timestamp },
}

impl Command {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![FORMAT, 0];
        put_varint(&mut out, self.epoch);
        put_varint(&mut out, self.term.0);
        let put_txn = |out: &mut Vec<u8>, txn: &TxnId| {
            put_varint(out, txn.start.raw());
            put_varint(out, txn.home);
            put_varint(out, txn.nonce);
        };
        out[1] = match &self.body {
            Body::CommitOne { txn, ts, writes } => {
                put_txn(&mut out, txn);
                put_varint(&mut out, ts.raw());
                let pairs = writes.iter().map(|(key, value)| (&key[..], as_value(value)));
                out.extend_from_slice(&encode_batch(pairs, 64 * writes.len()));
                1
            }
            Body::Abort { txn, ts } => {
                put_txn(&mut out, txn);
                put_varint(&mut out, ts.raw());
                2
            }
            Body::Ceiling { ts } => {
                put_varint(&mut out, ts.raw());
                3
            }
            Body::SetGc { gc_ts, ts } => {
                put_varint(&mut out, gc_ts.raw());
                put_varint(&mut out, ts.raw());
                4
            }
        };
        Bytes::from(out)
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Command, String> {
        let cut = |_: Truncated| "the command is cut short".to_string();
        let mut reader = Reader::new(bytes);
        let format = reader.u8().map_err(cut)?;
        if format != FORMAT {
            return Err(format!("the command has format {format}, this program reads {FORMAT}"));
        }
        let kind = reader.u8().map_err(cut)?;
        let epoch = reader.varint().map_err(cut)?;
        let term = Term(reader.varint().map_err(cut)?);
        let mut number = || reader.varint().map_err(cut);
        let body = match kind {
            1 | 2 => {
                let start = Timestamp::from_raw(number()?);
                let txn = TxnId { start, home: number()?, nonce: number()? };
                let ts = Timestamp::from_raw(number()?);
                match kind {
                    1 => {
                        let writes = decode_writes(bytes, reader.rest())?;
                        let body = Body::CommitOne { txn, ts, writes };
                        return Ok(Command { epoch, term, body });
                    }
                    _ => Body::Abort { txn, ts },
                }
            }
            3 => Body::Ceiling { ts: Timestamp::from_raw(number()?) },
            4 => {
                let gc_ts = Timestamp::from_raw(number()?);
                Body::SetGc { gc_ts, ts: Timestamp::from_raw(number()?) }
            }
            kind => {
                return Err(format!("a command has kind {kind}, which this program does not know"));
            }
        };
        if !reader.is_empty() {
            return Err(format!("{} bytes follow the command", reader.rest().len()));
        }
        Ok(Command { epoch, term, body })
    }
}

/// Decodes a batch that is part of a command, without copying it.
fn decode_writes(whole: &Bytes, batch: &[u8]) -> Result<Vec<Write>, String> {
    let mut writes: Vec<Write> = Vec::new();
    let mut complaint = None;
    decode_batch(batch, |key, value| {
        if key::decode(key).is_none() {
            complaint = Some("a command writes a key that is no key of data");
        }
        if writes.last().is_some_and(|(last, _)| &last[..] >= key) {
            complaint = Some("the keys that a command writes do not rise");
        }
        writes.push((whole.slice_ref(key), value.as_put().map(|value| whole.slice_ref(value))));
    })?;
    complaint.map_or(Ok(writes), |complaint| Err(complaint.to_string()))
}

pub(crate) fn as_value(value: &Option<Bytes>) -> Value<'_> {
    value.as_ref().map_or(Value::Tombstone, |value| Value::Put(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands() -> Vec<Command> {
        let txn = TxnId { start: Timestamp::from_raw(1 << 40), home: 3, nonce: 1 << 33 };
        let ts = Timestamp::from_raw(1 << 41);
        let key = |name: &str| Bytes::from(base::KeyspaceId(1).encode(name.as_bytes()));
        let writes = vec![(key("a"), Some(Bytes::from_static(b"1"))), (key("b"), None)];
        let bodies = [
            Body::CommitOne { txn, ts, writes },
            Body::Abort { txn, ts },
            Body::Ceiling { ts },
            Body::SetGc { gc_ts: ts, ts },
        ];
        bodies.map(|body| Command { epoch: 1, term: Term(300), body }).to_vec()
    }

    #[test]
    fn commands_survive_the_round_trip_and_no_cut_does() {
        for command in commands() {
            let bytes = command.encode();
            assert_eq!(Command::decode(&bytes), Ok(command));
            assert!((0..bytes.len()).all(|len| Command::decode(&bytes.slice(..len)).is_err()));
        }
    }

    #[test]
    fn foreign_keys_disorder_and_newer_formats_are_refused() {
        let Body::CommitOne { txn, ts, writes } = commands()[0].body.clone() else { panic!() };
        let check = |writes: Vec<Write>| {
            let body = Body::CommitOne { txn, ts, writes };
            Command::decode(&Command { epoch: 1, term: Term(1), body }.encode()).unwrap_err()
        };
        assert!(check(writes.iter().rev().cloned().collect()).contains("do not rise"));
        assert!(check(vec![(Bytes::from_static(b"\x02x"), None)]).contains("no key of data"));
        let mut bytes = commands()[2].encode().to_vec();
        bytes[0] = 2;
        assert!(Command::decode(&Bytes::from(bytes)).unwrap_err().contains("format 2"));
    }
}
