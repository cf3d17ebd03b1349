//! The invariants, asserted of each fact as it happens, and what is judged at the end.
//!
//! | name | says | when |
//! |---|---|---|
//! | I-T1 | the oracle's timestamps strictly increase, whoever is the oracle | each step |
//! | I-T2 | no fence, and no read's validity, is beyond what was issued + 1 | each step |
//! | I-T3 | a commit that is acknowledged is not beyond what was issued + 1 | each step |
//! | I-C0 | the timestamp of what is prepared never changes | each step |
//! | I-C1 | a record goes Absent, Staging, final, and final is for ever | each step |
//! | I-C2 | an acknowledged commit has its record, at its timestamp | each step, end |
//! | I-C3 | all of a transaction or nothing, at one timestamp on all shards | each step, end |
//! | I-C4 | what was replied to be aborted never commits | each step, end |
//! | I-C5 | nothing stays prepared | end |
//! | I-C6 | a read at a timestamp is what history, once complete, says it was | each step, end |
//! | I-C7 | a fence is at least each timestamp that its key was read at | each step |
//! | I-L2 | all transactions end once faults stop | end |
//! | cycle | some serial order explains all reads, and agrees with real time | end |
//!
//! At the end alone is what a client could prove; a rare bug needs many runs to come out there. At
//! each step it is caught where it begins.

use super::message::{Decision, Record};
use super::shard::Shard;
use super::{Isolation, KEYS_MAX, KEYS_PER_SHARD, Key, Plan, TXNS_MAX, Ts, TxnId};
use crate::history::{History, Op, Outcome, Transaction};

/// Something that happened, of which an invariant speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The oracle issued a timestamp.
    Issued(Ts),
    /// A transaction has its start timestamp.
    Started {
        /// Which.
        txn: TxnId,
        /// The timestamp it reads at.
        ts: Ts,
    },
    /// A fence was raised.
    Raised(Ts),
    /// A new leader began with a fence.
    Floor {
        /// Of which key.
        key: Key,
        /// The fence.
        fence: Ts,
    },
    /// A key was read at a timestamp, or what was read of it found valid through it.
    Served {
        /// For whom.
        txn: TxnId,
        /// The key.
        key: Key,
        /// The timestamp.
        ts: Ts,
    },
    /// A client was told a value.
    Saw {
        /// The reader.
        txn: TxnId,
        /// The key.
        key: Key,
        /// Whose value it was.
        writer: Option<TxnId>,
    },
    /// An entry prepared a transaction.
    Prepared {
        /// Which.
        txn: TxnId,
        /// At which timestamp it was prepared before, if it was.
        before: Option<Ts>,
        /// At which it is now.
        ts: Ts,
    },
    /// A record changed.
    Recorded {
        /// Of which transaction.
        txn: TxnId,
        /// From what.
        before: Record,
        /// To what.
        after: Record,
    },
    /// A version became visible.
    Version {
        /// Who wrote it.
        txn: TxnId,
        /// The key.
        key: Key,
        /// Its timestamp.
        ts: Ts,
    },
    /// The client was told the end.
    Replied {
        /// Of which transaction.
        txn: TxnId,
        /// What it was told.
        decision: Decision,
    },
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub name: &'static str,
    /// What was seen.
    pub what: String,
}

/// What is known of the run from outside.
#[derive(Debug)]
pub(super) struct Watch {
    issued: Ts,
    starts: [Ts; TXNS_MAX],
    pub(super) begun_at: [u32; TXNS_MAX],
    pub(super) replies: [Option<(Decision, u32)>; TXNS_MAX],
    records: [Option<Decision>; TXNS_MAX],
    served: [[Ts; TXNS_MAX]; KEYS_MAX],
    saw: [[Option<Option<TxnId>>; KEYS_MAX]; TXNS_MAX],
}

fn violation<T>(name: &'static str, what: String) -> Result<T, Violation> {
    Err(Violation { name, what })
}

impl Watch {
    pub(super) fn new() -> Watch {
        Watch {
            issued: 0,
            starts: [0; TXNS_MAX],
            begun_at: [0; TXNS_MAX],
            replies: [None; TXNS_MAX],
            records: [None; TXNS_MAX],
            served: [[0; TXNS_MAX]; KEYS_MAX],
            saw: [[None; KEYS_MAX]; TXNS_MAX],
        }
    }

    /// Notes a fact, and if asked, asserts what the invariants say of it.
    pub(super) fn fact(&mut self, fact: Fact, at: u32, asserts: bool) -> Result<(), Violation> {
        if asserts {
            self.assert(fact)?;
        }
        match fact {
            Fact::Issued(ts) => self.issued = self.issued.max(ts),
            Fact::Started { txn, ts } => self.starts[txn.0 as usize] = ts,
            Fact::Served { txn, key, ts } => {
                let served = &mut self.served[key.0 as usize][txn.0 as usize];
                *served = ts.max(*served);
            }
            Fact::Saw { txn, key, writer } => {
                self.saw[txn.0 as usize][key.0 as usize] = Some(writer);
            }
            Fact::Recorded { txn, after: Record::Final(decision), .. } => {
                self.records[txn.0 as usize] = Some(decision);
            }
            Fact::Replied { txn, decision } => {
                self.replies[txn.0 as usize] = Some((decision, at));
            }
            _ => {}
        }
        Ok(())
    }

    fn assert(&self, fact: Fact) -> Result<(), Violation> {
        let issued = self.issued;
        match fact {
            Fact::Issued(ts) if ts <= issued => {
                violation("I-T1", format!("the oracle issued {ts} after {issued}"))
            }
            Fact::Raised(ts) if ts > issued + 1 => {
                violation("I-T2", format!("a fence rose to {ts}, and {issued} is the last issued"))
            }
            Fact::Served { txn, key, ts } if ts > issued + 1 => violation(
                "I-T2",
                format!("{txn} read {key} through {ts}, and {issued} is the last issued"),
            ),
            Fact::Floor { key, fence } => {
                let served = self.served[key.0 as usize].iter().max().copied().unwrap_or(0);
                if fence < served {
                    let what = format!("{key} was read at {served}, and its fence is {fence} now");
                    return violation("I-C7", what);
                }
                Ok(())
            }
            Fact::Prepared { txn, before: Some(before), ts } if before != ts => {
                violation("I-C0", format!("{txn} was prepared at {before}, and is at {ts} now"))
            }
            Fact::Recorded { txn, before, after } => self.assert_record(txn, before, after),
            Fact::Version { txn, key, ts } => {
                let others = self.served[key.0 as usize].iter().enumerate();
                let missed = others.filter(|(t, _)| *t != txn.0 as usize);
                if let Some((reader, served)) = missed.max_by_key(|(_, served)| **served)
                    && ts <= *served
                {
                    let what = format!(
                        "T{reader} read {key} through {served}, and now {txn} writes it at {ts}"
                    );
                    return violation("I-C6", what);
                }
                match self.records[txn.0 as usize] {
                    // One phase writes its versions and then its record, in one entry.
                    None => Ok(()),
                    Some(Decision::Commit(decided)) if decided == ts => Ok(()),
                    Some(decided) => violation(
                        "I-C3",
                        format!("{txn} writes {key} at {ts}, and its record says {decided}"),
                    ),
                }
            }
            Fact::Replied { txn, decision } => self.assert_reply(txn, decision),
            _ => Ok(()),
        }
    }

    fn assert_record(&self, txn: TxnId, before: Record, after: Record) -> Result<(), Violation> {
        let is_forward = match (before, after) {
            (Record::Absent, _) => after != Record::Absent,
            (Record::Staging(_), after) => matches!(after, Record::Final(_)),
            (Record::Final(_), _) => false,
        };
        if !is_forward {
            return violation("I-C1", format!("the record of {txn} goes from {before} to {after}"));
        }
        match (self.replies[txn.0 as usize], after) {
            (Some((told @ Decision::Commit(_), _)), Record::Final(decision))
                if told != decision =>
            {
                violation("I-C2", format!("{txn} replied {told}, and is decided as {decision} now"))
            }
            (Some((Decision::Abort, _)), Record::Final(decision @ Decision::Commit(_))) => {
                violation("I-C4", format!("{txn} replied Abort, and is decided as {decision} now"))
            }
            _ => Ok(()),
        }
    }

    fn assert_reply(&self, txn: TxnId, told: Decision) -> Result<(), Violation> {
        if let Decision::Commit(ts) = told
            && ts > self.issued + 1
        {
            let what = format!("{txn} replies {told}, and {} is the last issued", self.issued);
            return violation("I-T3", what);
        }
        match (self.records[txn.0 as usize], told) {
            (Some(decision), Decision::Commit(_)) if decision != told => {
                violation("I-C2", format!("{txn} replies {told}, and is decided as {decision}"))
            }
            (Some(decision @ Decision::Commit(_)), Decision::Abort) => {
                violation("I-C4", format!("{txn} replies Abort, and is decided as {decision}"))
            }
            _ => Ok(()),
        }
    }

    /// Returns when a transaction took place, if it did: its commit timestamp, or where it read.
    fn point(&self, t: usize, plan: &Plan) -> Option<Ts> {
        let decision = match self.replies[t] {
            Some((decision, _)) if plan.writes.is_empty() => Some(decision),
            _ => self.records[t],
        };
        match decision? {
            Decision::Commit(ts) => Some(ts),
            Decision::Abort => None,
        }
    }

    /// Judges what is left when nothing moves any more.
    pub(super) fn judge(&self, plans: &[Plan], shards: &[Shard]) -> Result<(), Violation> {
        for shard in shards {
            if let Some(txn) = shard.is_prepared.iter().next() {
                return violation("I-C5", format!("{txn} is still prepared on {}", shard.id));
            }
        }
        for (t, plan) in plans.iter().enumerate() {
            self.judge_transaction(t, plan, shards)?;
        }
        self.judge_order(plans, shards)
    }

    fn judge_transaction(&self, t: usize, plan: &Plan, shards: &[Shard]) -> Result<(), Violation> {
        let txn = TxnId(t as u8);
        let point = self.point(t, plan);
        match self.replies[t] {
            Some((told @ Decision::Commit(ts), _)) if point != Some(ts) => {
                let record = self.records[t];
                return violation(
                    "I-C2",
                    format!("{txn} replied {told}, its record is {record:?}"),
                );
            }
            Some((Decision::Abort, _)) if point.is_some() => {
                return violation("I-C4", format!("{txn} replied Abort, and took place"));
            }
            _ => {}
        }
        for shard in shards {
            for (slot, versions) in shard.versions.iter().enumerate() {
                let key = Key(shard.id.0 * KEYS_PER_SHARD as u8 + slot as u8);
                let expected = point.filter(|_| plan.writes.has(key));
                let own = versions.iter().filter(|version| version.txn == Some(txn.0));
                if !own.map(|version| version.ts).eq(expected) {
                    let what = format!("{txn}, at {point:?}, wrote {key} as {versions:?}");
                    return violation("I-C3", what);
                }
                if let Some(writer) = self.saw[t][key.0 as usize] {
                    let visible = versions.iter().filter(|v| v.ts <= self.starts[t]);
                    let last = visible.max_by_key(|version| version.ts);
                    let expected = last.and_then(|version| version.txn).map(TxnId);
                    if writer != expected {
                        let what = format!(
                            "{txn} read {key} of {writer:?} at {}, and it was {expected:?}",
                            self.starts[t]
                        );
                        return violation("I-C6", what);
                    }
                }
            }
        }
        Ok(())
    }

    /// Draws the dependencies between those that took place, as `checker::register` does, in bits.
    fn judge_order(&self, plans: &[Plan], shards: &[Shard]) -> Result<(), Violation> {
        let isolation = plans.first().map(|plan| plan.isolation);
        let mut after = [0_u16; TXNS_MAX];
        let mut points = [None; TXNS_MAX];
        for (t, plan) in plans.iter().enumerate() {
            points[t] = self.point(t, plan);
        }
        for (a, _) in plans.iter().enumerate() {
            let (Some(point), Some((_, end))) = (points[a], self.replies[a]) else { continue };
            for (b, other) in points.iter().enumerate().take(plans.len()) {
                if other.is_none() || end >= self.begun_at[b] {
                    continue;
                }
                after[a] |= 1 << b;
                if self.starts[b] < point {
                    let begun = self.starts[b];
                    let what = format!("T{a} at {point} had ended when T{b} began, at {begun}");
                    return violation("real-time", what);
                }
            }
        }
        if isolation == Some(Isolation::Snapshot) {
            // Reads are exact (I-C6), and whoever reads at a time sees all that ended before.
            return Ok(());
        }
        for shard in shards {
            for (slot, versions) in shard.versions.iter().enumerate() {
                let key = shard.id.0 * KEYS_PER_SHARD as u8 + slot as u8;
                let mut order: [(Ts, u8); TXNS_MAX] = [(0, 0); TXNS_MAX];
                let mut len = 0;
                for version in versions {
                    if let Some(writer) = version.txn
                        && len < TXNS_MAX
                    {
                        order[len] = (version.ts, writer);
                        len += 1;
                    }
                }
                let order = &mut order[..len];
                order.sort_unstable();
                for pair in order.windows(2) {
                    after[pair[0].1 as usize] |= 1 << pair[1].1;
                }
                for t in 0..plans.len() {
                    let (Some(writer), Some(_)) = (self.saw[t][key as usize], points[t]) else {
                        continue;
                    };
                    let seen = writer.and_then(|w| order.iter().position(|(_, o)| *o == w.0));
                    if let Some(seen) = seen {
                        after[order[seen].1 as usize] |= 1 << t;
                    }
                    if let Some((_, next)) = order.get(seen.map_or(0, |seen| seen + 1)) {
                        after[t] |= 1 << next;
                    }
                }
            }
        }
        (0..plans.len()).for_each(|t| after[t] &= !(1 << t));
        for middle in 0..plans.len() {
            for t in 0..plans.len() {
                if after[t] >> middle & 1 == 1 {
                    after[t] |= after[middle];
                }
            }
        }
        match (0..plans.len()).find(|t| after[*t] >> t & 1 == 1) {
            Some(t) => violation("cycle", format!("T{t} comes before itself")),
            None => Ok(()),
        }
    }

    /// Returns the run as its clients saw it, with the timestamps that the records tell.
    pub(super) fn history(&self, plans: &[Plan]) -> History {
        let transactions = plans.iter().enumerate().map(|(t, plan)| {
            let name = |key: Key| ["a", "b", "c", "d", "e", "f"][key.0 as usize];
            let reads = plan.reads.iter().filter_map(|key| {
                let writer = self.saw[t][key.0 as usize]?;
                Some(Op::read(name(key), writer.map(|writer| u64::from(writer.0) + 1)))
            });
            let writes = plan.writes.iter().map(|key| Op::write(name(key), t as u64 + 1));
            let complete = self.replies[t].map(|(_, at)| u64::from(at));
            let outcome = match (self.point(t, plan), self.replies[t], self.records[t]) {
                (Some(_), ..) => Outcome::Committed,
                (None, Some(_), _) | (_, _, Some(Decision::Abort)) => Outcome::Aborted,
                (None, None, _) => Outcome::Unknown,
            };
            let commit_ts = self.point(t, plan).filter(|_| !plan.writes.is_empty());
            Transaction {
                label: format!("T{t}"),
                session: t as u64,
                invoke: u64::from(self.begun_at[t]),
                complete,
                outcome,
                read_ts: Some(u64::from(self.starts[t])),
                commit_ts: commit_ts.map(u64::from),
                ops: reads.chain(writes).collect(),
            }
        });
        History { transactions: transactions.collect() }
    }
}
