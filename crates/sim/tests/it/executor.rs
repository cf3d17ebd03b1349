//! A tiny multi-version database with sessions that interleave at random, and faults to choose.
//!
//! Each session takes its steps one at a time: begin, its operations, commit, hear of it. In
//! between, the others take theirs. Time advances with each step, so that a transaction covers
//! the steps between its beginning and its end.

#![expect(clippy::unwrap_used, reason = "a session that steps is running")]

use std::collections::BTreeMap;

use holm_sim::history::{History, Op, Outcome, Transaction};

/// SplitMix64 (Steele, Lea, Flood 2014): a seed gives the same run for ever.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What the database does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: strictly serializable.
    None,
    /// Does not check its reads at commit: snapshot isolation.
    NoReadValidation,
    /// Checks neither reads nor writes at commit: updates are lost.
    NoValidation,
    /// Reads the latest committed state at each operation.
    ReadCommitted,
    /// Reads what others have not committed yet.
    DirtyReads,
    /// Now and then forgets a write of a commit.
    LostWrites,
    /// Transactions that only read get an old snapshot.
    StaleSnapshot,
    /// Gives every transaction an old snapshot, but checks reads and writes.
    StaleBegin,
    /// Commits become visible one key after the other.
    TornCommits,
    /// An abort leaves a write behind.
    LeakyAborts,
    /// A commit is now and then applied twice.
    AppliedTwice,
    /// A second replica serves some reads and has applied the last two commits in the other order.
    ReorderedReplica,
}

/// How large a run is, and of what workload.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) transactions: usize,
    pub(crate) sessions: usize,
    pub(crate) keys: usize,
    pub(crate) ops: usize,
    pub(crate) registers: bool,
    /// Whether sessions read all keys at the end, so that each write is seen.
    pub(crate) final_reads: bool,
    /// Whether some outcomes get lost.
    pub(crate) unknowns: bool,
}

pub(crate) const SMALL: Size = Size {
    transactions: 60,
    sessions: 5,
    keys: 4,
    ops: 4,
    registers: false,
    final_reads: true,
    unknowns: true,
};

struct Running {
    history_index: usize,
    planned: Vec<(usize, bool)>,
    read_ts: u64,
    /// Keys read, with keys written and what was written to them.
    reads: Vec<usize>,
    writes: Vec<(usize, u64)>,
    committed: bool,
}

struct Database {
    fault: Fault,
    rng: Rng,
    /// Of each key its versions: the timestamp each is visible from, and the element.
    versions: Vec<Vec<(u64, u64)>>,
    counter: u64,
    next_element: u64,
    position: u64,
    history: Vec<Transaction>,
    running: BTreeMap<usize, Running>,
    session_ids: Vec<u64>,
    size: Size,
}

/// Runs a workload on a database with a fault, and returns its history.
pub(crate) fn run(seed: u64, fault: Fault, size: Size) -> History {
    let mut db = Database {
        fault,
        rng: Rng(seed),
        versions: vec![Vec::new(); size.keys],
        counter: 0,
        next_element: 0,
        position: 0,
        history: Vec::new(),
        running: BTreeMap::new(),
        session_ids: (0..size.sessions as u64).collect(),
        size,
    };
    while db.history.len() < size.transactions || !db.running.is_empty() {
        let session = db.rng.below(size.sessions);
        db.step(session);
    }
    if size.final_reads {
        db.begin(0, (0..size.keys).map(|key| (key, false)).collect());
        while db.running.contains_key(&0) {
            db.step(0);
        }
    }
    History { transactions: db.history }
}

impl Database {
    fn step(&mut self, session: usize) {
        let Some(running) = self.running.get_mut(&session) else {
            if self.history.len() < self.size.transactions {
                let ops = 1 + self.rng.below(self.size.ops);
                let is_reader = self.rng.one_in(4);
                let planned = (0..ops)
                    .map(|_| (self.rng.below(self.size.keys), !is_reader && self.rng.one_in(2)));
                let planned = planned.collect();
                self.begin(session, planned);
            }
            return;
        };
        if running.committed {
            self.end(session);
        } else if running.planned.is_empty() {
            self.commit(session);
        } else {
            let (key, is_write) = running.planned.remove(0);
            self.operation(session, key, is_write);
        }
    }

    fn tick(&mut self) -> u64 {
        self.position += 1;
        self.position
    }

    fn begin(&mut self, session: usize, planned: Vec<(usize, bool)>) {
        let is_reader = !planned.iter().any(|(_, is_write)| *is_write);
        let is_stale = match self.fault {
            Fault::StaleSnapshot => is_reader && self.rng.one_in(3),
            Fault::StaleBegin => self.rng.one_in(3),
            _ => false,
        };
        let back = if is_stale { 1 + self.rng.below(5) as u64 } else { 0 };
        let read_ts = self.counter.saturating_sub(back);
        let invoke = self.tick();
        self.history.push(Transaction {
            label: format!("T{}", self.history.len() + 1),
            session: self.session_ids[session],
            invoke,
            complete: None,
            outcome: Outcome::Unknown,
            read_ts: Some(read_ts),
            commit_ts: None,
            ops: Vec::new(),
        });
        let running = Running {
            history_index: self.history.len() - 1,
            planned,
            read_ts,
            reads: Vec::new(),
            writes: Vec::new(),
            committed: false,
        };
        self.running.insert(session, running);
    }

    fn operation(&mut self, session: usize, key: usize, is_write: bool) {
        let name =
            ["x", "y", "z", "w", "v", "u"].get(key).map_or(format!("k{key}"), |n| (*n).into());
        let op = if is_write {
            self.next_element += 1;
            let element = self.next_element;
            self.running.get_mut(&session).unwrap().writes.push((key, element));
            if self.size.registers { Op::write(name, element) } else { Op::append(name, element) }
        } else {
            let list = self.read(session, key);
            self.running.get_mut(&session).unwrap().reads.push(key);
            if self.size.registers {
                Op::read(name, list.last().copied())
            } else {
                Op::read_list(name, list)
            }
        };
        let index = self.running[&session].history_index;
        self.history[index].ops.push(op);
    }

    fn read(&mut self, session: usize, key: usize) -> Vec<u64> {
        let running = &self.running[&session];
        let read_ts = match self.fault {
            Fault::ReadCommitted | Fault::DirtyReads => self.counter,
            _ => running.read_ts,
        };
        let visible = self.versions[key].iter().filter(|(ts, _)| *ts <= read_ts);
        let mut list: Vec<u64> = visible.map(|(_, element)| *element).collect();
        if self.fault == Fault::ReorderedReplica && self.rng.one_in(6) && list.len() > 1 {
            let last = list.len() - 1;
            list.swap(last, last - 1);
        }
        if self.fault == Fault::DirtyReads {
            let others =
                self.running.iter().filter(|(other, r)| **other != session && !r.committed);
            list.extend(others.flat_map(|(_, r)| &r.writes).filter(|w| w.0 == key).map(|w| w.1));
        }
        list.extend(running.writes.iter().filter(|w| w.0 == key).map(|w| w.1));
        list
    }

    fn commit(&mut self, session: usize) {
        let running = self.running.get_mut(&session).unwrap();
        running.committed = true;
        let (writes, reads) = (running.writes.clone(), running.reads.clone());
        let (read_ts, index) = (running.read_ts, running.history_index);
        let is_newer =
            |key: &usize| self.versions[*key].last().is_some_and(|(ts, _)| *ts > read_ts);
        let checks_writes =
            !matches!(self.fault, Fault::NoValidation | Fault::ReadCommitted | Fault::DirtyReads);
        let checks_reads = checks_writes && self.fault != Fault::NoReadValidation;
        let conflict = checks_writes && writes.iter().any(|(key, _)| is_newer(key))
            || checks_reads && !writes.is_empty() && reads.iter().any(is_newer);
        if conflict || self.rng.one_in(20) {
            self.history[index].outcome = Outcome::Aborted;
            if self.fault == Fault::LeakyAborts && !writes.is_empty() && self.rng.one_in(3) {
                self.counter += 1;
                self.versions[writes[0].0].push((self.counter, writes[0].1));
            }
            return;
        }
        self.history[index].outcome = Outcome::Committed;
        if writes.is_empty() {
            return;
        }
        self.counter += 1;
        let commit_ts = self.counter;
        self.history[index].commit_ts = Some(commit_ts);
        for (i, (key, element)) in writes.into_iter().enumerate() {
            if self.fault == Fault::LostWrites && self.rng.one_in(15) {
                continue;
            }
            // A torn commit shows its later writes only after the next commits.
            let torn = self.fault == Fault::TornCommits && i > 0;
            self.versions[key].push((commit_ts + if torn { 2 } else { 0 }, element));
            if self.fault == Fault::AppliedTwice && self.rng.one_in(15) {
                self.versions[key].push((commit_ts, element));
            }
        }
    }

    fn end(&mut self, session: usize) {
        let index = self.running.remove(&session).unwrap().history_index;
        if self.size.unknowns && self.rng.one_in(15) {
            // The answer got lost on its way. The session gives up its name, as Jepsen's do.
            self.history[index].outcome = Outcome::Unknown;
            self.history[index].commit_ts = None;
            self.session_ids[session] += 1000;
        } else {
            self.history[index].complete = Some(self.tick());
        }
    }
}
