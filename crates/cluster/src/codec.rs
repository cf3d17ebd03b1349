//! Requests and responses as bytes, for a network that carries bytes.
//!
//! ```text
//!   request    | format 1 | kind | …                                numbers: varints
//!     1 Begin    2 Get read_ts key    3 Scan read_ts range limit
//!     4 Commit   txn isolation:u8 blind:u8, points, ranges, writes
//!     5 Status   txn abort:u8    6 SetGc ts    7 Transfer to    8 Change voters learners
//!   response   | format 1 | kind | …
//!     1 Begun read_ts    2 Value option    3 Rows complete:u8 rows    4 Committed ts
//!     5 Conflict key ts  6 Ended option    7 Done    8 NotLeader hint    9 Busy ticks
//!    10 Unknown hint    11 Refused text
//!
//!   txn      start home nonce        range   start, then 0, or 1 and the end
//!   option   0, or 1 and the value   list    count, values
//! ```
//!
//! Decoding any bytes gives a value or an error, takes memory in proportion to them, and never
//! panics.

use base::codec::{Reader, Truncated, put_bytes, put_varint};
use base::{KeyRange, Timestamp};
use bytes::Bytes;
use raft::ReplicaId;
use thiserror::Error;

use crate::request::{Commit, Isolation, Request, Response};
use crate::state::{Record, TxnId};

const FORMAT: u8 = 1;

/// Why bytes are neither request nor response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the bytes end before what they announce")]
    Truncated,
    /// A newer program made them.
    #[error("the bytes have format {0}, this program reads {FORMAT}")]
    Format(u8),
    /// Something in them is none of the things it can be.
    #[error("the bytes have a {0} of kind {1}, which this program does not know")]
    Kind(&'static str, u8),
    /// There are more than they announce.
    #[error("{0} bytes follow what was announced")]
    Trailing(usize),
}

impl From<Truncated> for DecodeError {
    fn from(_: Truncated) -> DecodeError {
        DecodeError::Truncated
    }
}

type Result<T> = std::result::Result<T, DecodeError>;

/// Encodes a request.
pub fn encode_request(request: &Request) -> Bytes {
    let mut out = vec![FORMAT, 0];
    out[1] = match request {
        Request::Begin => 1,
        Request::Get { read_ts, key } => {
            put_varint(&mut out, read_ts.raw());
            put_bytes(&mut out, key);
            2
        }
        Request::Scan { read_ts, range, limit } => {
            put_varint(&mut out, read_ts.raw());
            put_range(&mut out, range);
            put_varint(&mut out, u64::from(*limit));
            3
        }
        Request::Commit(commit) => {
            put_txn(&mut out, &commit.txn);
            out.push(u8::from(commit.isolation == Isolation::Snapshot));
            out.push(u8::from(commit.is_blind));
            put_list(&mut out, &commit.points, |out, key| put_bytes(out, key));
            put_list(&mut out, &commit.ranges, put_range);
            put_list(&mut out, &commit.writes, |out, (key, value)| {
                put_bytes(out, key);
                put_option(out, value.as_ref(), |out, value| put_bytes(out, value));
            });
            4
        }
        Request::Status { txn, abort_if_absent } => {
            put_txn(&mut out, txn);
            out.push(u8::from(*abort_if_absent));
            5
        }
        Request::SetGc(ts) => {
            put_varint(&mut out, ts.raw());
            6
        }
        Request::Transfer(to) => {
            put_varint(&mut out, to.0);
            7
        }
        Request::Change { voters, learners } => {
            put_list(&mut out, voters, |out, id| put_varint(out, id.0));
            put_list(&mut out, learners, |out, id| put_varint(out, id.0));
            8
        }
    };
    Bytes::from(out)
}

/// Encodes a response.
pub fn encode_response(response: &Response) -> Bytes {
    let mut out = vec![FORMAT, 0];
    let put_hint = |out: &mut Vec<u8>, hint: &Option<ReplicaId>| {
        put_option(out, hint.as_ref(), |out, id| put_varint(out, id.0));
    };
    out[1] = match response {
        Response::Begun { read_ts } => {
            put_varint(&mut out, read_ts.raw());
            1
        }
        Response::Value(value) => {
            put_option(&mut out, value.as_ref(), |out, (ts, value)| {
                put_varint(out, ts.raw());
                put_bytes(out, value);
            });
            2
        }
        Response::Rows { rows, is_complete } => {
            out.push(u8::from(*is_complete));
            put_list(&mut out, rows, |out, (key, ts, value)| {
                put_bytes(out, key);
                put_varint(out, ts.raw());
                put_bytes(out, value);
            });
            3
        }
        Response::Committed { ts } => {
            put_varint(&mut out, ts.raw());
            4
        }
        Response::Conflict { key, ts } => {
            put_bytes(&mut out, key);
            put_varint(&mut out, ts.raw());
            5
        }
        Response::Ended(record) => {
            put_option(&mut out, record.as_ref(), |out, record| match record {
                Record::Committed(ts) => put_option(out, Some(ts), |o, ts| put_varint(o, ts.raw())),
                Record::Aborted => out.push(0),
            });
            6
        }
        Response::Done => 7,
        Response::NotLeader { hint } => {
            put_hint(&mut out, hint);
            8
        }
        Response::Busy { retry_after_ticks } => {
            put_varint(&mut out, *retry_after_ticks);
            9
        }
        Response::Unknown { hint } => {
            put_hint(&mut out, hint);
            10
        }
        Response::Refused(what) => {
            put_bytes(&mut out, what.as_bytes());
            11
        }
    };
    Bytes::from(out)
}

fn put_txn(out: &mut Vec<u8>, txn: &TxnId) {
    put_varint(out, txn.start.raw());
    put_varint(out, txn.home);
    put_varint(out, txn.nonce);
}

fn put_range(out: &mut Vec<u8>, range: &KeyRange) {
    put_bytes(out, &range.start);
    put_option(out, range.end.as_ref(), |out, end| put_bytes(out, end));
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl Fn(&mut Vec<u8>, &T)) {
    out.push(u8::from(value.is_some()));
    value.iter().for_each(|value| put(out, value));
}

fn put_list<T>(out: &mut Vec<u8>, values: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    put_varint(out, values.len() as u64);
    values.iter().for_each(|value| put(out, value));
}

/// Decodes a request.
///
/// # Errors
/// If the bytes are none.
pub fn decode_request(bytes: &Bytes) -> Result<Request> {
    let mut decoder = Decoder { all: bytes, reader: Reader::new(bytes) };
    let kind = decoder.kind()?;
    let request = match kind {
        1 => Request::Begin,
        2 => Request::Get { read_ts: decoder.ts()?, key: decoder.bytes()? },
        3 => Request::Scan {
            read_ts: decoder.ts()?,
            range: decoder.range()?,
            limit: decoder.reader.varint()?.min(u64::from(u32::MAX)) as u32,
        },
        4 => Request::Commit(Commit {
            txn: decoder.txn()?,
            isolation: match decoder.flag()? {
                true => Isolation::Snapshot,
                false => Isolation::Serializable,
            },
            is_blind: decoder.flag()?,
            points: decoder.list(Decoder::bytes)?,
            ranges: decoder.list(Decoder::range)?,
            writes: decoder
                .list(|decoder| Ok((decoder.bytes()?, decoder.option(Decoder::bytes)?)))?,
        }),
        5 => Request::Status { txn: decoder.txn()?, abort_if_absent: decoder.flag()? },
        6 => Request::SetGc(decoder.ts()?),
        7 => Request::Transfer(decoder.id()?),
        8 => Request::Change {
            voters: decoder.list(Decoder::id)?,
            learners: decoder.list(Decoder::id)?,
        },
        kind => return Err(DecodeError::Kind("request", kind)),
    };
    decoder.end(request)
}

/// Decodes a response.
///
/// # Errors
/// If the bytes are none.
pub fn decode_response(bytes: &Bytes) -> Result<Response> {
    let mut decoder = Decoder { all: bytes, reader: Reader::new(bytes) };
    let kind = decoder.kind()?;
    let response = match kind {
        1 => Response::Begun { read_ts: decoder.ts()? },
        2 => Response::Value(decoder.option(|decoder| Ok((decoder.ts()?, decoder.bytes()?)))?),
        3 => Response::Rows {
            is_complete: decoder.flag()?,
            rows: decoder
                .list(|decoder| Ok((decoder.bytes()?, decoder.ts()?, decoder.bytes()?)))?,
        },
        4 => Response::Committed { ts: decoder.ts()? },
        5 => Response::Conflict { key: decoder.bytes()?, ts: decoder.ts()? },
        6 => Response::Ended(decoder.option(|decoder| {
            let ts = decoder.option(Decoder::ts)?;
            Ok(ts.map_or(Record::Aborted, Record::Committed))
        })?),
        7 => Response::Done,
        8 => Response::NotLeader { hint: decoder.option(Decoder::id)? },
        9 => Response::Busy { retry_after_ticks: decoder.reader.varint()? },
        10 => Response::Unknown { hint: decoder.option(Decoder::id)? },
        11 => Response::Refused(String::from_utf8_lossy(&decoder.bytes()?).into_owned()),
        kind => return Err(DecodeError::Kind("response", kind)),
    };
    decoder.end(response)
}

struct Decoder<'a> {
    all: &'a Bytes,
    reader: Reader<'a>,
}

impl Decoder<'_> {
    fn kind(&mut self) -> Result<u8> {
        match self.reader.u8()? {
            FORMAT => Ok(self.reader.u8()?),
            format => Err(DecodeError::Format(format)),
        }
    }

    fn end<T>(&self, value: T) -> Result<T> {
        match self.reader.rest().len() {
            0 => Ok(value),
            rest => Err(DecodeError::Trailing(rest)),
        }
    }

    fn bytes(&mut self) -> Result<Bytes> {
        Ok(self.all.slice_ref(self.reader.bytes()?))
    }

    fn ts(&mut self) -> Result<Timestamp> {
        Ok(Timestamp::from_raw(self.reader.varint()?))
    }

    fn id(&mut self) -> Result<ReplicaId> {
        Ok(ReplicaId(self.reader.varint()?))
    }

    fn txn(&mut self) -> Result<TxnId> {
        let (start, home) = (self.ts()?, self.reader.varint()?);
        Ok(TxnId { start, home, nonce: self.reader.varint()? })
    }

    fn range(&mut self) -> Result<KeyRange> {
        Ok(KeyRange { start: self.bytes()?, end: self.option(Decoder::bytes)? })
    }

    fn flag(&mut self) -> Result<bool> {
        match self.reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            kind => Err(DecodeError::Kind("flag", kind)),
        }
    }

    fn option<T>(&mut self, take: impl Fn(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.flag()? { take(self).map(Some) } else { Ok(None) }
    }

    fn list<T>(&mut self, take: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.reader.varint()?;
        // No room in advance: the count may be a lie. Each value takes a byte at least.
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(take(self)?);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    #[test]
    fn requests_survive_the_round_trip_and_no_cut_does() {
        let ts = Timestamp::from_raw(1 << 45);
        let txn = TxnId { start: ts, home: 1, nonce: 300 };
        let range = KeyRange { start: key("a"), end: None };
        let requests = [
            Request::Begin,
            Request::Get { read_ts: ts, key: key("k") },
            Request::Scan { read_ts: ts, range: range.clone(), limit: 7 },
            Request::Commit(Commit {
                txn,
                isolation: Isolation::Snapshot,
                is_blind: true,
                points: vec![key("p")],
                ranges: vec![range, KeyRange::new(key("b"), key("c"))],
                writes: vec![(key("w"), Some(key("1"))), (key("x"), None)],
            }),
            Request::Status { txn, abort_if_absent: true },
            Request::SetGc(ts),
            Request::Transfer(ReplicaId(3)),
            Request::Change { voters: vec![ReplicaId(1), ReplicaId(9)], learners: vec![] },
        ];
        for request in requests {
            let bytes = encode_request(&request);
            assert!((0..bytes.len()).all(|len| decode_request(&bytes.slice(..len)).is_err()));
            assert_eq!(decode_request(&bytes), Ok(request));
        }
    }

    #[test]
    fn responses_survive_the_round_trip_and_no_cut_does() {
        let ts = Timestamp::from_raw(1 << 45);
        let responses = [
            Response::Begun { read_ts: ts },
            Response::Value(None),
            Response::Value(Some((ts, key("v")))),
            Response::Rows { rows: vec![(key("k"), ts, key("v"))], is_complete: true },
            Response::Committed { ts },
            Response::Conflict { key: key("k"), ts },
            Response::Ended(None),
            Response::Ended(Some(Record::Aborted)),
            Response::Ended(Some(Record::Committed(ts))),
            Response::Done,
            Response::NotLeader { hint: Some(ReplicaId(2)) },
            Response::Busy { retry_after_ticks: 20 },
            Response::Unknown { hint: None },
            Response::Refused("why".into()),
        ];
        for response in responses {
            let bytes = encode_response(&response);
            assert!((0..bytes.len()).all(|len| decode_response(&bytes.slice(..len)).is_err()));
            assert_eq!(decode_response(&bytes), Ok(response));
        }
    }

    #[test]
    fn a_count_that_lies_takes_no_memory() {
        let mut bytes = vec![FORMAT, 8];
        put_varint(&mut bytes, u64::MAX);
        assert_eq!(decode_request(&Bytes::from(bytes)), Err(DecodeError::Truncated));
        assert_eq!(decode_request(&Bytes::from_static(&[2, 1])), Err(DecodeError::Format(2)));
    }
}
