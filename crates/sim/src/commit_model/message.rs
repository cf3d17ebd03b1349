//! What the actors say to each other.
//!
//! Every message carries `known`, the highest timestamp that its sender knows to be issued: so
//! shards learn how far they may push a transaction without asking the oracle (I-T2).

use std::fmt;

use super::{Key, Set, ShardId, Ts, TxnId};

/// Whom a message is for, or from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// The source of timestamps.
    Oracle,
    /// Whoever leads the shard when it arrives.
    Shard(ShardId),
    /// The coordinator of a transaction.
    Coordinator(TxnId),
    /// Somebody who was blocked, by its number.
    Recoverer(u8),
}

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub from: Address,
    /// The receiver.
    pub to: Address,
    /// The highest timestamp that the sender knows to be issued.
    pub known: Ts,
    /// What it says.
    pub body: Body,
}

/// What the transactions were promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Strict snapshot isolation.
    Snapshot,
    /// Strict serializability.
    Serializable,
}

/// What a commit asks of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The transaction.
    pub txn: TxnId,
    /// The timestamp it read at.
    pub start: Ts,
    /// What it read on this shard.
    pub reads: Set<Key>,
    /// What it writes on this shard.
    pub writes: Set<Key>,
    /// How far its reads are to be validated at least.
    pub target: Ts,
    /// Where its record is.
    pub primary: ShardId,
    /// Whether reads are validated.
    pub isolation: Isolation,
}

/// What makes a record Staging: the condition under which the transaction is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Up to where its reads are valid.
    pub limit: Ts,
    /// The shards that have to be prepared.
    pub anchors: Set<ShardId>,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// At a timestamp.
    Commit(Ts),
    /// Not at all.
    Abort,
}

/// What the primary shard holds of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Record {
    /// Nothing: undecided.
    #[default]
    Absent,
    /// Committed if all anchors are prepared at no more than the limit.
    Staging(Stage),
    /// For ever.
    Final(Decision),
}

/// What a Finalize takes for granted; otherwise it changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No record.
    Absent,
    /// A record that is Staging.
    Staging,
    /// One of the two.
    Any,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Asks for a timestamp.
    Issue,
    /// A timestamp that nobody else has.
    Issued(Ts),
    /// Reads a key. (`locks_seen` is the mutant `fence_after_lock` between its two steps.)
    Read {
        /// Who reads.
        txn: TxnId,
        /// What.
        key: Key,
        /// At which timestamp.
        ts: Ts,
        /// Whether it has passed the locks.
        locks_seen: bool,
    },
    /// The value of a key: who wrote it, or nobody.
    Value(Key, Option<TxnId>),
    /// A lock stands before the value.
    Blocked(Key, TxnId),
    /// Commits on one shard.
    CommitOne(Ask),
    /// Locks, and on the primary stages the record.
    Prepare(Ask, Option<Stage>),
    /// Prepared at a timestamp.
    Prepared(Ts),
    /// A conflict, or a lock of another in the way.
    Refused(Option<TxnId>),
    /// The timestamp would run ahead of the oracle (I-T2): ask it, and come again.
    NeedTs,
    /// Moves the validity of reads.
    Refresh(Ask),
    /// Done.
    Refreshed,
    /// Decides, if the record is as expected. Answered by the record.
    Finalize(TxnId, Decision, Expect),
    /// Asks for the record.
    Status(TxnId),
    /// The record, as it is now.
    Record(Record),
    /// Asks whether a shard is prepared; if not, it never will be.
    Probe(TxnId),
    /// Not prepared, and never will be.
    Fenced,
    /// Turns what is prepared into versions, or drops it.
    Resolve(TxnId, Decision),
    /// Nothing of the transaction is prepared here.
    Resolved,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Oracle => f.pad("oracle"),
            Address::Shard(shard) => shard.fmt(f),
            Address::Coordinator(txn) => txn.fmt(f),
            Address::Recoverer(number) => f.pad(&format!("R{number}")),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Commit(ts) => write!(f, "Commit({ts})"),
            Decision::Abort => f.write_str("Abort"),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            Ts::MAX => write!(f, "stage limit=inf anchors={}", self.anchors),
            limit => write!(f, "stage limit={limit} anchors={}", self.anchors),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Absent => f.write_str("Absent"),
            Record::Staging(stage) => write!(f, "Staging, {stage}"),
            Record::Final(decision) => decision.fmt(f),
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ask { txn, start, reads, writes, target, .. } = self;
        write!(f, "{txn} start={start} reads={reads} writes={writes} through={target}")
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Issue => f.write_str("Issue"),
            Body::Issued(ts) => write!(f, "Issued {ts}"),
            Body::Read { key, ts, locks_seen: false, .. } => write!(f, "Read {key} at {ts}"),
            Body::Read { key, ts, .. } => write!(f, "Read {key} at {ts}, past the locks"),
            Body::Value(key, Some(writer)) => write!(f, "Value {key} is of {writer}"),
            Body::Value(key, None) => write!(f, "Value {key} is nil"),
            Body::Blocked(key, by) => write!(f, "Blocked {key} is locked by {by}"),
            Body::CommitOne(ask) => write!(f, "CommitOne {ask}"),
            Body::Prepare(ask, Some(stage)) => write!(f, "Prepare {ask}, {stage}"),
            Body::Prepare(ask, None) => write!(f, "Prepare {ask}"),
            Body::Prepared(ts) => write!(f, "Prepared {ts}"),
            Body::Refused(Some(by)) => write!(f, "Refused by a lock of {by}"),
            Body::Refused(None) => f.write_str("Refused"),
            Body::NeedTs => f.write_str("NeedTs"),
            Body::Refresh(ask) => write!(f, "Refresh {ask}"),
            Body::Refreshed => f.write_str("Refreshed"),
            Body::Finalize(txn, to, expect) => write!(f, "Finalize {txn} {to} expect {expect:?}"),
            Body::Status(txn) => write!(f, "Status {txn}"),
            Body::Record(record) => write!(f, "Record {record}"),
            Body::Probe(txn) => write!(f, "Probe {txn}"),
            Body::Fenced => f.write_str("Fenced"),
            Body::Resolve(txn, decision) => write!(f, "Resolve {txn} {decision}"),
            Body::Resolved => f.write_str("Resolved"),
        }
    }
}
