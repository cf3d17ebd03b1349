//! What clients ask of nodes, and the answers: a small key-value API with optimistic transactions.
//!
//! ```text
//!   Read   { keys }                        ─►  Values { read_ts, values }
//!   Commit { read_ts, reads, writes }      ─►  Committed { commit_ts }, if nobody has written to
//!                                              what was read since read_ts; Conflict otherwise
//! ```
//!
//! A read sees everything that was acknowledged before it was asked. A commit without reads always
//! takes place.

use base::codec::{Reader, Truncated, put_bytes, put_varint};
use bytes::Bytes;

use super::node::NodeId;

/// A key and what it is to hold; none to remove it.
pub type Write = (Bytes, Option<Bytes>);

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The values of some keys, of one moment.
    Read {
        /// Which.
        keys: Vec<Bytes>,
    },
    /// Write, if what was read still holds.
    Commit {
        /// The moment that was read.
        read_ts: u64,
        /// What was read then.
        reads: Vec<Bytes>,
        /// What to write.
        writes: Vec<Write>,
    },
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// What was read.
    Values {
        /// The moment.
        read_ts: u64,
        /// In the order of the keys.
        values: Vec<Option<Bytes>>,
    },
    /// The writes took place.
    Committed {
        /// When.
        commit_ts: u64,
    },
    /// They did not, and will not: something that was read was written since.
    Conflict,
    /// Nothing took place: ask another node.
    NotLeader {
        /// Which, as far as this one knows.
        leader: Option<NodeId>,
    },
    /// Nothing took place: ask again later.
    Busy,
    /// The writes took place, or will, or never.
    Unknown,
}

impl Request {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Request::Read { keys } => {
                out.push(1);
                put_list(out, keys);
            }
            Request::Commit { read_ts, reads, writes } => {
                out.push(2);
                put_varint(out, *read_ts);
                put_list(out, reads);
                put_varint(out, writes.len() as u64);
                for (key, value) in writes {
                    put_bytes(out, key);
                    put_value(out, value.as_ref());
                }
            }
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// If the bytes are no request.
    pub fn decode(bytes: &Bytes) -> Result<Request, Truncated> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            1 => Ok(Request::Read { keys: list(bytes, &mut reader)? }),
            2 => {
                let read_ts = reader.varint()?;
                let reads = list(bytes, &mut reader)?;
                let mut writes = Vec::new();
                for _ in 0..reader.varint()? {
                    let key = bytes.slice_ref(reader.bytes()?);
                    writes.push((key, value(bytes, &mut reader)?));
                }
                Ok(Request::Commit { read_ts, reads, writes })
            }
            _ => Err(Truncated),
        }
    }
}

impl Reply {
    /// Returns its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Reply::Values { read_ts, values } => {
                out.push(1);
                put_varint(&mut out, *read_ts);
                put_varint(&mut out, values.len() as u64);
                values.iter().for_each(|value| put_value(&mut out, value.as_ref()));
            }
            Reply::Committed { commit_ts } => {
                out.push(2);
                put_varint(&mut out, *commit_ts);
            }
            Reply::Conflict => out.push(3),
            Reply::NotLeader { leader } => {
                out.push(4);
                put_varint(&mut out, leader.map_or(0, |leader| leader.0));
            }
            Reply::Busy => out.push(5),
            Reply::Unknown => out.push(6),
        }
        out.into()
    }

    /// Reads one.
    ///
    /// # Errors
    /// If the bytes are no reply.
    pub fn decode(bytes: &Bytes) -> Result<Reply, Truncated> {
        let mut reader = Reader::new(bytes);
        Ok(match reader.u8()? {
            1 => {
                let read_ts = reader.varint()?;
                let mut values = Vec::new();
                for _ in 0..reader.varint()? {
                    values.push(value(bytes, &mut reader)?);
                }
                Reply::Values { read_ts, values }
            }
            2 => Reply::Committed { commit_ts: reader.varint()? },
            3 => Reply::Conflict,
            4 => {
                let leader = reader.varint()?;
                Reply::NotLeader { leader: (leader > 0).then_some(raft::ReplicaId(leader)) }
            }
            5 => Reply::Busy,
            6 => Reply::Unknown,
            _ => return Err(Truncated),
        })
    }
}

fn put_list(out: &mut Vec<u8>, keys: &[Bytes]) {
    put_varint(out, keys.len() as u64);
    keys.iter().for_each(|key| put_bytes(out, key));
}

fn list(all: &Bytes, reader: &mut Reader<'_>) -> Result<Vec<Bytes>, Truncated> {
    let mut keys = Vec::new();
    for _ in 0..reader.varint()? {
        keys.push(all.slice_ref(reader.bytes()?));
    }
    Ok(keys)
}

pub(crate) fn put_value(out: &mut Vec<u8>, value: Option<&Bytes>) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put_bytes(out, value);
        }
    }
}

pub(crate) fn value(all: &Bytes, reader: &mut Reader<'_>) -> Result<Option<Bytes>, Truncated> {
    match reader.u8()? {
        0 => Ok(None),
        _ => Ok(Some(all.slice_ref(reader.bytes()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_survive_the_way() {
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        let requests = [
            Request::Read { keys: vec![a.clone(), b.clone()] },
            Request::Commit {
                read_ts: 300,
                reads: vec![a.clone()],
                writes: vec![(a.clone(), Some(b.clone())), (b.clone(), None)],
            },
        ];
        for request in requests {
            let mut bytes = Vec::new();
            request.encode(&mut bytes);
            let bytes = Bytes::from(bytes);
            assert_eq!(Request::decode(&bytes), Ok(request));
            assert!((0..bytes.len()).all(|end| Request::decode(&bytes.slice(..end)).is_err()));
        }
        let replies = [
            Reply::Values { read_ts: 7, values: vec![None, Some(a)] },
            Reply::Committed { commit_ts: 1 << 40 },
            Reply::Conflict,
            Reply::NotLeader { leader: None },
            Reply::NotLeader { leader: Some(raft::ReplicaId(3)) },
            Reply::Busy,
            Reply::Unknown,
        ];
        for reply in replies {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
    }
}
