//! Messages and entries as bytes.
//!
//! ```text
//!  message    0         1                                            varints unless said otherwise
//!             +---------+------+------+----+------+------- - -
//!             | version | kind | from | to | term | body
//!             +---------+------+------+----+------+------- - -
//!              u8 = 1    u8
//!
//!  kind  1 PreVote         last.term last.index
//!        2 PreVoteReply    asked granted:u8
//!        3 Vote            last.term last.index transfer:u8
//!        4 VoteReply       granted:u8
//!        5 Append          previous.term previous.index commit count entry*
//!        6 AppendReply     matched
//!        7 AppendReject    previous hint.term hint.index
//!        8 Heartbeat       commit round sent quiet:u8
//!        9 HeartbeatReply  round sent
//!       10 TimeoutNow
//!       11 Snapshot        id position.term position.index config_index config offset last:u8 data
//!       12 SnapshotReply   id offset
//!       13 Stale
//!
//!  entry      term more than the entry before, payload kind:u8, payload
//!             0 empty    1 command: length, bytes    2 config
//!             its index is that of the entry before and one
//!  config     highest_id, then voters, outgoing, learners: count, first id, gaps
//! ```
//!
//! The checksum is that of the frame or the record in which they travel. Decoding any bytes gives a
//! message or an error, takes memory in proportion to them, and never panics. What a message must
//! fulfil for the protocol (indexes without gaps, terms that do not fall, configurations that are
//! some) holds by the encoding or is checked here, so nobody else needs to.
//!
//! A replica refuses versions that it does not know. A new kind or field gets a new version, which
//! is sent only when every replica of the group knows it.

use std::sync::Arc;

use base::codec::{Reader, Truncated, put_bytes, put_varint};
use bytes::Bytes;
use thiserror::Error;

use crate::{
    Body, Config, Entry, LEARNERS_MAX, LogIndex, Message, Payload, Position, ReplicaId,
    SnapshotMeta, Term, Ticks, VOTERS_MAX,
};

/// The version of the encoding.
pub const FORMAT_VERSION: u8 = 1;

/// The largest id, term and index: far beyond what a group can reach, and far enough from the end
/// of the numbers that adding to one never overflows.
const NUMBER_MAX: u64 = 1 << 62;

/// For how many entries room is taken before they are seen: those of an ordinary message.
const ENTRIES_AT_ONCE: usize = 256;

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the message ends before what it announces")]
    Truncated,
    /// They are of another version.
    #[error("the message is of format version {0}, which is not known here")]
    Version(u8),
    /// A kind, or a yes or no, that there is not.
    #[error("the message has a {what} of {value}, which there is not")]
    Unknown {
        /// What is unknown.
        what: &'static str,
        /// The value.
        value: u8,
    },
    /// They go on behind the message.
    #[error("{0} bytes follow behind the message")]
    Trailing(usize),
    /// An index or a term is too large for what follows it, or entries are newer than the sender.
    #[error("the message has indexes or terms that cannot be")]
    Impossible,
    /// A configuration is none.
    #[error("{0}")]
    BadConfig(&'static str),
}

impl From<Truncated> for DecodeError {
    fn from(_: Truncated) -> DecodeError {
        DecodeError::Truncated
    }
}

type Result<T> = std::result::Result<T, DecodeError>;

/// Appends a message.
pub fn encode_message(message: &Message, out: &mut Vec<u8>) {
    out.push(FORMAT_VERSION);
    out.push(kind_of(&message.body));
    put_varint(out, message.from.0);
    put_varint(out, message.to.0);
    put_varint(out, message.term.0);
    match &message.body {
        Body::PreVote { last } => put_position(out, *last),
        Body::PreVoteReply { asked, is_granted } => {
            put_varint(out, asked.0);
            out.push(u8::from(*is_granted));
        }
        Body::Vote { last, is_transfer } => {
            put_position(out, *last);
            out.push(u8::from(*is_transfer));
        }
        Body::VoteReply { is_granted } => out.push(u8::from(*is_granted)),
        Body::Append { previous, commit, entries } => {
            put_position(out, *previous);
            put_varint(out, commit.0);
            put_varint(out, entries.len() as u64);
            let mut term = previous.term;
            for entry in entries {
                put_varint(out, entry.term.0 - term.0);
                term = entry.term;
                put_payload(out, &entry.payload);
            }
        }
        Body::AppendReply { matched } => put_varint(out, matched.0),
        Body::AppendReject { previous, hint } => {
            put_varint(out, previous.0);
            put_position(out, *hint);
        }
        Body::Heartbeat { commit, round, sent, is_quiet } => {
            put_varint(out, commit.0);
            put_varint(out, *round);
            put_varint(out, sent.0);
            out.push(u8::from(*is_quiet));
        }
        Body::HeartbeatReply { round, sent } => {
            put_varint(out, *round);
            put_varint(out, sent.0);
        }
        Body::TimeoutNow | Body::Stale => {}
        Body::Snapshot { meta, offset, data, is_last } => {
            put_varint(out, meta.id);
            put_position(out, meta.position);
            put_varint(out, meta.config_index.0);
            encode_config(&meta.config, out);
            put_varint(out, *offset);
            out.push(u8::from(*is_last));
            put_bytes(out, data);
        }
        Body::SnapshotReply { id, offset } => {
            put_varint(out, *id);
            put_varint(out, *offset);
        }
    }
}

fn kind_of(body: &Body) -> u8 {
    match body {
        Body::PreVote { .. } => 1,
        Body::PreVoteReply { .. } => 2,
        Body::Vote { .. } => 3,
        Body::VoteReply { .. } => 4,
        Body::Append { .. } => 5,
        Body::AppendReply { .. } => 6,
        Body::AppendReject { .. } => 7,
        Body::Heartbeat { .. } => 8,
        Body::HeartbeatReply { .. } => 9,
        Body::TimeoutNow => 10,
        Body::Snapshot { .. } => 11,
        Body::SnapshotReply { .. } => 12,
        Body::Stale => 13,
    }
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    put_varint(out, position.term.0);
    put_varint(out, position.index.0);
}

fn put_payload(out: &mut Vec<u8>, payload: &Payload) {
    match payload {
        Payload::Empty => out.push(0),
        Payload::Command(bytes) => {
            out.push(1);
            put_bytes(out, bytes);
        }
        Payload::Config(config) => {
            out.push(2);
            encode_config(config, out);
        }
    }
}

/// Appends a configuration, as it stands in entries and in the description of an image.
pub fn encode_config(config: &Config, out: &mut Vec<u8>) {
    put_varint(out, config.highest_id.0);
    for ids in [&config.voters, &config.outgoing, &config.learners] {
        put_varint(out, ids.len() as u64);
        let mut before = 0;
        for id in ids {
            put_varint(out, id.0 - before);
            before = id.0;
        }
    }
}

/// Appends what an entry says, for a log that keeps term and index beside it.
pub fn encode_payload(payload: &Payload, out: &mut Vec<u8>) {
    put_payload(out, payload);
}

/// Decodes a message. Commands and chunks of images share the memory of the bytes.
///
/// # Errors
/// If the bytes are none.
pub fn decode_message(bytes: &Bytes) -> Result<Message> {
    let mut decoder = Decoder { all: bytes, reader: Reader::new(bytes) };
    let version = decoder.reader.u8()?;
    if version != FORMAT_VERSION {
        return Err(DecodeError::Version(version));
    }
    let kind = decoder.reader.u8()?;
    let from = ReplicaId(decoder.number()?);
    let to = ReplicaId(decoder.number()?);
    let term = decoder.term()?;
    let body = decoder.body(kind, term)?;
    match decoder.reader.rest().len() {
        0 => Ok(Message { from, to, term, body }),
        rest => Err(DecodeError::Trailing(rest)),
    }
}

/// Decodes what an entry says.
///
/// # Errors
/// If the bytes are no payload.
pub fn decode_payload(bytes: &Bytes) -> Result<Payload> {
    let mut decoder = Decoder { all: bytes, reader: Reader::new(bytes) };
    let payload = decoder.payload()?;
    match decoder.reader.rest().len() {
        0 => Ok(payload),
        rest => Err(DecodeError::Trailing(rest)),
    }
}

/// Decodes a configuration.
///
/// # Errors
/// If the bytes are none, or if it is none that could be in force.
pub fn decode_config(bytes: &[u8]) -> Result<Config> {
    let all = Bytes::copy_from_slice(bytes);
    let mut decoder = Decoder { all: &all, reader: Reader::new(&all) };
    let config = decoder.config()?;
    match decoder.reader.rest().len() {
        0 => Ok(config),
        rest => Err(DecodeError::Trailing(rest)),
    }
}

struct Decoder<'a> {
    all: &'a Bytes,
    reader: Reader<'a>,
}

impl Decoder<'_> {
    fn body(&mut self, kind: u8, sender_term: Term) -> Result<Body> {
        Ok(match kind {
            1 => Body::PreVote { last: self.position_within(sender_term)? },
            2 => Body::PreVoteReply { asked: self.term()?, is_granted: self.flag()? },
            3 => Body::Vote { last: self.position_within(sender_term)?, is_transfer: self.flag()? },
            4 => Body::VoteReply { is_granted: self.flag()? },
            5 => self.append(sender_term)?,
            6 => Body::AppendReply { matched: self.index()? },
            7 => Body::AppendReject {
                previous: self.index()?,
                hint: self.position_within(sender_term)?,
            },
            8 => Body::Heartbeat {
                commit: self.index()?,
                round: self.reader.varint()?,
                sent: Ticks(self.reader.varint()?),
                is_quiet: self.flag()?,
            },
            9 => Body::HeartbeatReply {
                round: self.reader.varint()?,
                sent: Ticks(self.reader.varint()?),
            },
            10 => Body::TimeoutNow,
            11 => self.snapshot(sender_term)?,
            12 => Body::SnapshotReply { id: self.reader.varint()?, offset: self.reader.varint()? },
            13 => Body::Stale,
            value => return Err(DecodeError::Unknown { what: "kind", value }),
        })
    }

    fn append(&mut self, sender_term: Term) -> Result<Body> {
        let previous = self.position()?;
        let commit = self.index()?;
        let count = self.reader.varint()?;
        let end = previous.index.0.checked_add(count).ok_or(DecodeError::Impossible)?;
        // Each takes two bytes at least, so a count that lies does not take memory; and an entry is
        // larger here than there, so room for many is taken only when they come.
        let room = (self.reader.rest().len() / 2).min(ENTRIES_AT_ONCE);
        let mut entries = Vec::with_capacity(room.min(usize::try_from(count).unwrap_or(room)));
        let mut term = previous.term;
        for index in previous.index.0..end {
            let more = self.reader.varint()?;
            term = Term(term.0.checked_add(more).ok_or(DecodeError::Impossible)?);
            let payload = self.payload()?;
            entries.push(Entry { term, index: LogIndex(index + 1), payload });
        }
        if term > sender_term || end > NUMBER_MAX {
            return Err(DecodeError::Impossible);
        }
        Ok(Body::Append { previous, commit, entries })
    }

    fn snapshot(&mut self, sender_term: Term) -> Result<Body> {
        let id = self.reader.varint()?;
        let position = self.position_within(sender_term)?;
        let config_index = self.index()?;
        let config = Arc::new(self.config()?);
        let offset = self.reader.varint()?;
        let is_last = self.flag()?;
        let data = self.bytes()?;
        if config_index > position.index {
            return Err(DecodeError::Impossible);
        }
        let meta = SnapshotMeta { position, config, config_index, id };
        Ok(Body::Snapshot { meta, offset, data, is_last })
    }

    fn payload(&mut self) -> Result<Payload> {
        match self.reader.u8()? {
            0 => Ok(Payload::Empty),
            1 => Ok(Payload::Command(self.bytes()?)),
            2 => Ok(Payload::Config(Arc::new(self.config()?))),
            value => Err(DecodeError::Unknown { what: "payload kind", value }),
        }
    }

    fn config(&mut self) -> Result<Config> {
        let highest_id = ReplicaId(self.number()?);
        let voters = self.ids()?;
        let outgoing = self.ids()?;
        let learners = self.ids()?;
        let config = Config { voters, outgoing, learners, highest_id };
        config.complaint().map_or(Ok(config), |complaint| Err(DecodeError::BadConfig(complaint)))
    }

    fn ids(&mut self) -> Result<Vec<ReplicaId>> {
        let count = self.reader.varint()?;
        if count > VOTERS_MAX.max(LEARNERS_MAX) as u64 {
            return Err(DecodeError::BadConfig(
                "a configuration has more replicas than are allowed",
            ));
        }
        let mut ids = Vec::new();
        let mut before = 0u64;
        for _ in 0..count {
            let gap = self.reader.varint()?;
            before = before
                .checked_add(gap)
                .filter(|id| *id <= NUMBER_MAX)
                .ok_or(DecodeError::Impossible)?;
            ids.push(ReplicaId(before));
        }
        Ok(ids)
    }

    fn position(&mut self) -> Result<Position> {
        Ok(Position { term: self.term()?, index: self.index()? })
    }

    /// A place in the sender's log, in which there is nothing of a term after its own.
    fn position_within(&mut self, sender_term: Term) -> Result<Position> {
        let position = self.position()?;
        if position.term > sender_term { Err(DecodeError::Impossible) } else { Ok(position) }
    }

    fn term(&mut self) -> Result<Term> {
        self.number().map(Term)
    }

    fn index(&mut self) -> Result<LogIndex> {
        self.number().map(LogIndex)
    }

    fn number(&mut self) -> Result<u64> {
        let number = self.reader.varint()?;
        if number > NUMBER_MAX { Err(DecodeError::Impossible) } else { Ok(number) }
    }

    fn flag(&mut self) -> Result<bool> {
        match self.reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::Unknown { what: "yes or no", value }),
        }
    }

    fn bytes(&mut self) -> Result<Bytes> {
        Ok(self.all.slice_ref(self.reader.bytes()?))
    }
}
