//! Random programs against a model that is a map of versions and a list of commits: interleaved
//! transactions, snapshots that are held, scans, savepoints, the past, watches, checkpoints,
//! collections, reopenings and crashes. What fails is shrunk to the shortest program that does.
//!
//! The model knows when a transaction conflicts, and not only when it may: a commit refused for no
//! reason is a mistake, too.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use env::{CrashMode, ManualClock, SimDisk};
use holm::{
    CompactionOptions, Compression, Db, Durability, Error, KeyRange, Keyspace, Options,
    PendingCommit, Savepoint, Snapshot, TableOptions, Timestamp, Transaction, Watch, WatchFrom,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::world::{Tally, open, tiny};

/// Programs run unless `PROPTEST_CASES` says otherwise: some ten seconds.
const CASES: u32 = 2000;

/// Longest program, in operations.
const OPS_MAX: usize = 120;

/// Transactions, snapshots and watches that are open at a time, of each kind.
const SLOTS: u8 = 3;

/// Keys of a keyspace.
const KEYS: u8 = 6;

/// A key: which keyspace, which number. There are few, so that they meet.
type Key = (u8, u8);

#[derive(Debug, Clone)]
enum Op {
    Begin { slot: u8, is_snapshot_isolated: bool, durability: Durability },
    Get { slot: u8, key: Key },
    Put { slot: u8, key: Key, bytes: u16 },
    Delete { slot: u8, key: Key },
    DeleteRange { slot: u8, from: Key, until: u8 },
    Scan { slot: u8, rows: Rows },
    Savepoint { slot: u8 },
    RollbackTo { slot: u8, which: u8 },
    Commit { slot: u8, is_pending: bool },
    Rollback { slot: u8 },
    Wait,
    Hold { slot: u8 },
    ReadHeld { slot: u8, rows: Rows },
    Peek,
    Release { slot: u8 },
    ReadPast { back: u8, rows: Rows },
    Watch { slot: u8, keyspace: u8, back: Option<u8> },
    Drain { slot: u8 },
    Sync,
    Checkpoint,
    Maintain,
    Compact,
    Advance(u8),
    Reopen { is_clean: bool },
    Crash(u8),
}

/// What a scan asks for.
#[derive(Debug, Clone, Copy)]
struct Rows {
    from: Key,
    until: u8,
    is_reverse: bool,
    limit: Option<u8>,
}

fn key() -> impl Strategy<Value = Key> {
    (0..2u8, 0..KEYS)
}

fn rows() -> impl Strategy<Value = Rows> {
    (key(), 0..=KEYS, any::<bool>(), proptest::option::of(1..4u8))
        .prop_map(|(from, until, is_reverse, limit)| Rows { from, until, is_reverse, limit })
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![
        2 => Just(Durability::Sync),
        1 => Just(Durability::Buffered),
        1 => Just(Durability::None),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let slot = 0..SLOTS;
    let of_transactions = prop_oneof![
        8 => (slot.clone(), prop::bool::weighted(0.3), durability()).prop_map(
            |(slot, is_snapshot_isolated, durability)| {
                Op::Begin { slot, is_snapshot_isolated, durability }
            }
        ),
        8 => (slot.clone(), key()).prop_map(|(slot, key)| Op::Get { slot, key }),
        14 => (slot.clone(), key(), prop_oneof![4 => 0..40u16, 1 => 500..5000u16])
            .prop_map(|(slot, key, bytes)| Op::Put { slot, key, bytes }),
        5 => (slot.clone(), key()).prop_map(|(slot, key)| Op::Delete { slot, key }),
        2 => (slot.clone(), key(), 0..=KEYS)
            .prop_map(|(slot, from, until)| Op::DeleteRange { slot, from, until }),
        6 => (slot.clone(), rows()).prop_map(|(slot, rows)| Op::Scan { slot, rows }),
        2 => slot.clone().prop_map(|slot| Op::Savepoint { slot }),
        2 => (slot.clone(), 0..3u8).prop_map(|(slot, which)| Op::RollbackTo { slot, which }),
        9 => (slot.clone(), prop::bool::weighted(0.2))
            .prop_map(|(slot, is_pending)| Op::Commit { slot, is_pending }),
        1 => slot.clone().prop_map(|slot| Op::Rollback { slot }),
        2 => Just(Op::Wait),
    ];
    let of_the_rest = prop_oneof![
        3 => slot.clone().prop_map(|slot| Op::Hold { slot }),
        4 => (slot.clone(), rows()).prop_map(|(slot, rows)| Op::ReadHeld { slot, rows }),
        6 => Just(Op::Peek),
        1 => slot.clone().prop_map(|slot| Op::Release { slot }),
        4 => (0..20u8, rows()).prop_map(|(back, rows)| Op::ReadPast { back, rows }),
        2 => (slot.clone(), 0..2u8, proptest::option::of(0..10u8))
            .prop_map(|(slot, keyspace, back)| Op::Watch { slot, keyspace, back }),
        3 => slot.prop_map(|slot| Op::Drain { slot }),
        1 => Just(Op::Sync),
        2 => Just(Op::Checkpoint),
        4 => Just(Op::Maintain),
        1 => Just(Op::Compact),
        3 => (0..60u8).prop_map(Op::Advance),
        1 => any::<bool>().prop_map(|is_clean| Op::Reopen { is_clean }),
        1 => any::<u8>().prop_map(Op::Crash),
    ];
    prop_oneof![5 => of_transactions, 2 => of_the_rest]
}

/// What the database should be.
#[derive(Default)]
struct Model {
    /// All commits in order, with what they wrote.
    commits: Vec<(Timestamp, BTreeMap<Key, Option<Bytes>>)>,
    /// How many of them survive a crash for sure.
    promised: usize,
}

impl Model {
    fn state_at(&self, ts: Timestamp) -> BTreeMap<Key, Bytes> {
        let mut state = BTreeMap::new();
        for (_, writes) in self.commits.iter().take_while(|(commit, _)| *commit <= ts) {
            for (key, value) in writes {
                match value {
                    Some(value) => state.insert(*key, value.clone()),
                    None => state.remove(key),
                };
            }
        }
        state
    }

    fn len_at(&self, ts: Timestamp) -> usize {
        self.commits.partition_point(|(commit, _)| *commit <= ts)
    }

    fn promise(&mut self, len: usize) {
        self.promised = self.promised.max(len);
    }
}

/// What a transaction should be.
struct ModelTxn {
    read_ts: Timestamp,
    state: BTreeMap<Key, Bytes>,
    writes: BTreeMap<Key, Option<Bytes>>,
    savepoints: Vec<(Savepoint, BTreeMap<Key, Option<Bytes>>)>,
    is_snapshot_isolated: bool,
    durability: Durability,
    points: BTreeSet<Key>,
    /// Scanned: a keyspace, from, up to and including.
    ranges: Vec<(u8, u8, u8)>,
    has_read: bool,
}

impl ModelTxn {
    /// What the transaction sees: the state it began on, under its own writes.
    fn view(&self) -> BTreeMap<Key, Bytes> {
        let mut view = self.state.clone();
        for (key, value) in &self.writes {
            match value {
                Some(value) => view.insert(*key, value.clone()),
                None => view.remove(key),
            };
        }
        view
    }

    fn conflicts_with(&self, writes: &BTreeMap<Key, Option<Bytes>>) -> bool {
        self.has_read
            && writes.keys().any(|key| {
                self.writes.contains_key(key)
                    || self.points.contains(key)
                    || self.ranges.iter().any(|(keyspace, from, to)| {
                        *keyspace == key.0 && (*from..=*to).contains(&key.1)
                    })
            })
    }

    fn note_scan(&mut self, rows: &Rows, found: &[(Key, Bytes)]) {
        if self.is_snapshot_isolated {
            self.has_read = true;
            return;
        }
        let (mut from, mut to) = (rows.from.1, rows.until);
        if from >= to {
            return;
        }
        self.has_read = true;
        to -= 1;
        if rows.limit.is_some_and(|limit| found.len() == usize::from(limit))
            && let Some(((_, last), _)) = found.last()
        {
            if rows.is_reverse { from = *last } else { to = *last }
        }
        self.ranges.push((rows.from.0, from, to));
    }
}

impl Rows {
    fn range(&self) -> KeyRange {
        KeyRange::from(name_of(self.from.1)..name_of(self.until))
    }

    fn expected(&self, state: &BTreeMap<Key, Bytes>) -> Vec<(Key, Bytes)> {
        let (keyspace, from) = self.from;
        let inside = |key: &Key| key.0 == keyspace && (from..self.until).contains(&key.1);
        let mut rows: Vec<_> = state.iter().filter(|(key, _)| inside(key)).collect();
        if self.is_reverse {
            rows.reverse();
        }
        let limit = self.limit.map_or(usize::MAX, usize::from);
        rows.into_iter().take(limit).map(|(key, value)| (*key, value.clone())).collect()
    }

    fn take(&self, scan: holm::Scan<'_>) -> Vec<(Key, Bytes)> {
        let scan = if self.is_reverse { scan.reverse() } else { scan };
        let scan = match self.limit {
            Some(limit) => scan.limit(limit.into()),
            None => scan,
        };
        scan.map(|row| {
            let (key, value) = row.unwrap().into_parts();
            ((self.from.0, number_of(&key)), value)
        })
        .collect()
    }
}

fn name_of(number: u8) -> String {
    format!("k{number}")
}

fn number_of(name: &[u8]) -> u8 {
    std::str::from_utf8(&name[1..]).unwrap().parse().unwrap()
}

struct ModelWatch {
    watch: Watch,
    keyspace: u8,
    position: Timestamp,
}

/// One run of a program under one set of options.
struct Run {
    options: Options,
    disk: SimDisk,
    clock: ManualClock,
    db: Option<Db>,
    keyspaces: Vec<Keyspace>,
    model: Model,
    txns: BTreeMap<u8, (Transaction, ModelTxn)>,
    held: BTreeMap<u8, (Snapshot, BTreeMap<Key, Bytes>)>,
    watches: BTreeMap<u8, ModelWatch>,
    pending: VecDeque<(usize, PendingCommit)>,
    values: u32,
    /// What was seen; the same under all options until the first crash.
    trace: Vec<String>,
    has_crashed: bool,
    tally: Tally,
}

impl Run {
    fn new(options: Options) -> Run {
        let mut run = Run {
            options,
            disk: SimDisk::new(),
            clock: ManualClock::new(1000),
            db: None,
            keyspaces: Vec::new(),
            model: Model::default(),
            txns: BTreeMap::new(),
            held: BTreeMap::new(),
            watches: BTreeMap::new(),
            pending: VecDeque::new(),
            values: 0,
            trace: Vec::new(),
            has_crashed: false,
            tally: Tally::default(),
        };
        run.open();
        run
    }

    fn open(&mut self) {
        let db = open(&self.disk, &self.clock, &self.options).unwrap();
        self.keyspaces = ["a", "b"].map(|name| db.keyspace(name).unwrap()).into();
        self.db = Some(db);
    }

    fn db(&self) -> Db {
        self.db.clone().expect("it is open between operations")
    }

    fn forget_handles(&mut self) {
        self.txns.clear();
        self.held.clear();
        self.watches.clear();
        self.pending.clear();
    }

    fn do_op(&mut self, op: &Op) {
        let db = self.db();
        match op {
            Op::Begin { slot, is_snapshot_isolated, durability } => {
                self.begin(*slot, *is_snapshot_isolated, *durability);
            }
            Op::Get { slot, key } => self.get(*slot, *key),
            Op::Put { slot, key, bytes } => {
                self.values += 1;
                let text = format!("{}{}", self.values, ".".repeat((*bytes).into()));
                self.write(*slot, *key, Some(Bytes::from(text)));
            }
            Op::Delete { slot, key } => self.write(*slot, *key, None),
            Op::DeleteRange { slot, from, until } => self.delete_range(*slot, *from, *until),
            Op::Scan { slot, rows } => self.scan(*slot, rows),
            Op::Savepoint { slot } => {
                if let Some((txn, model)) = self.txns.get_mut(slot) {
                    model.savepoints.push((txn.savepoint(), model.writes.clone()));
                }
            }
            Op::RollbackTo { slot, which } => self.rollback_to(*slot, *which),
            Op::Commit { slot, is_pending } => self.commit(&db, *slot, *is_pending),
            Op::Rollback { slot } => {
                if let Some((txn, _)) = self.txns.remove(slot) {
                    txn.rollback();
                }
            }
            Op::Wait => {
                if let Some((place, pending)) = self.pending.pop_front() {
                    pending.wait().unwrap();
                    self.model.promise(place + 1);
                }
            }
            Op::Hold { slot } => {
                let snapshot = db.snapshot();
                let state = self.model.state_at(snapshot.timestamp());
                self.held.insert(*slot, (snapshot, state));
            }
            Op::ReadHeld { slot, rows } => {
                if let Some((snapshot, state)) = self.held.get(slot) {
                    let found = rows
                        .take(snapshot.scan(&self.keyspaces[rows.from.0 as usize], rows.range()));
                    assert_eq!(found, rows.expected(state), "a held snapshot");
                    self.check_points(snapshot, state);
                }
            }
            Op::Peek => {
                let snapshot = db.snapshot();
                self.check_points(&snapshot, &self.model.state_at(snapshot.timestamp()));
            }
            Op::Release { slot } => {
                self.held.remove(slot);
            }
            Op::ReadPast { back, rows } => self.read_past(&db, *back, rows),
            Op::Watch { slot, keyspace, back } => self.watch(&db, *slot, *keyspace, *back),
            Op::Drain { slot } => self.drain(&db, *slot),
            Op::Sync => {
                db.sync().unwrap();
                self.model.promise(self.model.commits.len());
            }
            Op::Checkpoint => {
                let visible = self.model.len_at(db.now());
                db.flush().unwrap();
                self.model.promise(visible);
            }
            Op::Maintain => db.maintain(),
            Op::Compact => db.compact().unwrap(),
            Op::Advance(ms) => self.clock.advance((*ms).into()),
            Op::Reopen { is_clean } => {
                drop(db);
                self.reopen(*is_clean);
            }
            Op::Crash(mode) => {
                drop(db);
                self.crash(*mode);
            }
        }
    }

    /// Reads every key by itself: most are hot by now.
    fn check_points(&self, snapshot: &Snapshot, state: &BTreeMap<Key, Bytes>) {
        for key in (0..2).flat_map(|space| (0..KEYS).map(move |number| (space, number))) {
            let found = snapshot.get(&self.keyspaces[key.0 as usize], name_of(key.1)).unwrap();
            assert_eq!(found.as_ref(), state.get(&key), "{key:?} at {}", snapshot.timestamp());
        }
    }

    fn begin(&mut self, slot: u8, is_snapshot_isolated: bool, durability: Durability) {
        let db = self.db();
        let builder = db.transaction().durability(durability);
        let builder = if is_snapshot_isolated { builder.snapshot_isolation() } else { builder };
        let txn = builder.begin();
        let read_ts = txn.read_timestamp();
        assert_eq!(read_ts, db.now());
        let model = ModelTxn {
            read_ts,
            state: self.model.state_at(read_ts),
            writes: BTreeMap::new(),
            savepoints: Vec::new(),
            is_snapshot_isolated,
            durability,
            points: BTreeSet::new(),
            ranges: Vec::new(),
            has_read: false,
        };
        self.txns.insert(slot, (txn, model));
    }

    /// The transaction of a slot, begun if there is none.
    fn txn(&mut self, slot: u8) -> (&mut Transaction, &mut ModelTxn, &[Keyspace]) {
        if !self.txns.contains_key(&slot) {
            self.begin(slot, false, Durability::Sync);
        }
        let (txn, model) = self.txns.get_mut(&slot).expect("it was just begun");
        (txn, model, &self.keyspaces)
    }

    fn get(&mut self, slot: u8, key: Key) {
        let (txn, model, keyspaces) = self.txn(slot);
        let found = txn.get(&keyspaces[key.0 as usize], name_of(key.1)).unwrap();
        assert_eq!(found.as_ref(), model.view().get(&key), "get {key:?}");
        if !model.writes.contains_key(&key) {
            model.has_read = true;
            if !model.is_snapshot_isolated {
                model.points.insert(key);
            }
        }
        self.trace.push(format!("{key:?} is {found:?}"));
    }

    fn write(&mut self, slot: u8, key: Key, value: Option<Bytes>) {
        let (txn, model, keyspaces) = self.txn(slot);
        let keyspace = &keyspaces[key.0 as usize];
        match &value {
            Some(value) => txn.put(keyspace, name_of(key.1), value).unwrap(),
            None => txn.delete(keyspace, name_of(key.1)).unwrap(),
        }
        model.writes.insert(key, value);
    }

    fn delete_range(&mut self, slot: u8, from: Key, until: u8) {
        let (txn, model, keyspaces) = self.txn(slot);
        let rows = Rows { from, until, is_reverse: false, limit: None };
        let deleted = txn.delete_range(&keyspaces[from.0 as usize], rows.range()).unwrap();
        let expected = rows.expected(&model.view());
        assert_eq!(deleted, expected.len() as u64);
        model.note_scan(&rows, &expected);
        model.writes.extend(expected.into_iter().map(|(key, _)| (key, None)));
    }

    fn scan(&mut self, slot: u8, rows: &Rows) {
        let (txn, model, keyspaces) = self.txn(slot);
        let found = rows.take(txn.scan(&keyspaces[rows.from.0 as usize], rows.range()));
        assert_eq!(found, rows.expected(&model.view()), "scan {rows:?}");
        model.note_scan(rows, &found);
        self.trace.push(format!("{rows:?} are {found:?}"));
    }

    fn rollback_to(&mut self, slot: u8, which: u8) {
        let Some((txn, model)) = self.txns.get_mut(&slot) else { return };
        let which = usize::from(which);
        let Some((savepoint, writes)) = model.savepoints.get(which) else { return };
        txn.rollback_to(*savepoint).unwrap();
        model.writes = writes.clone();
        // Those set after it are gone, itself stays.
        for (gone, _) in model.savepoints.split_off(which + 1) {
            assert!(matches!(txn.rollback_to(gone), Err(Error::NoSuchSavepoint)));
        }
    }

    fn commit(&mut self, db: &Db, slot: u8, is_pending: bool) {
        let Some((txn, model)) = self.txns.remove(&slot) else { return };
        let is_sync = model.durability == Durability::Sync;
        let later = self.model.commits.iter().filter(|(ts, _)| *ts > model.read_ts);
        let is_beaten = later.into_iter().any(|(_, writes)| model.conflicts_with(writes));
        let last = self.model.commits.last().map_or(Timestamp::ZERO, |(ts, _)| *ts);
        match txn.commit_pending() {
            Ok(pending) if model.writes.is_empty() => {
                assert_eq!(pending.wait().unwrap(), model.read_ts);
            }
            Ok(pending) => {
                assert!(!is_beaten, "committed in spite of a conflict: {:?}", model.writes.keys());
                assert!(pending.ts() > last);
                self.trace.push(format!("committed {}", pending.ts()));
                let place = self.model.commits.len();
                self.model.commits.push((pending.ts(), model.writes));
                if is_pending {
                    if is_sync {
                        self.pending.push_back((place, pending));
                    }
                    return;
                }
                let ts = pending.wait().unwrap();
                assert!(db.now() >= ts, "acknowledged and not visible");
                if is_sync {
                    self.model.promise(place + 1);
                }
            }
            Err(Error::Conflict(conflict)) => {
                assert!(is_beaten && !model.writes.is_empty(), "no reason for: {conflict:?}");
                self.trace.push(format!("conflict with {}", conflict.winner_ts));
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn read_past(&mut self, db: &Db, back: u8, rows: &Rows) {
        let Some(place) = self.model.commits.len().checked_sub(1 + usize::from(back)) else {
            return;
        };
        let ts = self.model.commits[place].0;
        let oldest = db.stats().engine.oldest_readable;
        match db.at(ts) {
            Ok(snapshot) => {
                let found =
                    rows.take(snapshot.scan(&self.keyspaces[rows.from.0 as usize], rows.range()));
                let state = self.model.state_at(ts);
                assert_eq!(found, rows.expected(&state), "the past at {ts}");
                self.check_points(&snapshot, &state);
            }
            Err(Error::TooOld { .. }) => assert!(ts < oldest, "{ts} is refused, {oldest} is kept"),
            Err(Error::InTheFuture { .. }) => assert!(ts > db.now(), "{ts} is visible"),
            Err(error) => panic!("{error}"),
        }
    }

    fn watch(&mut self, db: &Db, slot: u8, keyspace: u8, back: Option<u8>) {
        let place =
            back.and_then(|back| self.model.commits.len().checked_sub(1 + usize::from(back)));
        let (from, position) = match place {
            Some(place) => {
                let ts = self.model.commits[place].0;
                (WatchFrom::After(ts), ts)
            }
            None => (WatchFrom::Now, db.now()),
        };
        match db.watch(&self.keyspaces[keyspace as usize], .., from) {
            Ok(watch) => {
                self.watches.insert(slot, ModelWatch { watch, keyspace, position });
            }
            Err(Error::TooOld { .. }) => assert!(position < db.stats().engine.oldest_readable),
            Err(Error::InTheFuture { .. }) => assert!(position > db.now()),
            Err(error) => panic!("{error}"),
        }
    }

    fn drain(&mut self, db: &Db, slot: u8) {
        let Some(ModelWatch { watch, keyspace, position }) = self.watches.get_mut(&slot) else {
            return;
        };
        let now = db.now();
        for (ts, writes) in
            self.model.commits.iter().filter(|(ts, _)| *ts > *position && *ts <= now)
        {
            let changes: Vec<_> = writes.iter().filter(|(key, _)| key.0 == *keyspace).collect();
            if changes.is_empty() {
                continue;
            }
            let set = watch.try_next().unwrap().expect("a commit that the watch was not told of");
            let found: Vec<_> = set
                .changes
                .iter()
                .map(|c| ((*keyspace, number_of(&c.key)), c.value.clone()))
                .collect();
            let expected: Vec<_> = changes.iter().map(|(k, v)| (**k, (*v).clone())).collect();
            assert_eq!((set.ts, found), (*ts, expected), "a watch");
        }
        assert!(watch.try_next().unwrap().is_none(), "a watch was told of something else");
        *position = now.max(*position);
    }

    fn reopen(&mut self, is_clean: bool) {
        self.forget_handles();
        let db = self.db.take().expect("it is open between operations");
        self.tally.add(&db);
        if is_clean {
            db.close().unwrap()
        } else {
            drop(db)
        }
        self.model.promise(self.model.commits.len());
        self.open();
        self.check_all();
    }

    fn crash(&mut self, mode: u8) {
        self.disk = self.disk.crash(match mode {
            0..64 => CrashMode::LoseUnsynced,
            64..96 => CrashMode::KeepUnsynced,
            seed => CrashMode::Torn(seed.into()),
        });
        self.has_crashed = true;
        self.forget_handles();
        // The old one still stands on the disk before the crash.
        if let Some(db) = self.db.take() {
            self.tally.add(&db);
        }
        self.open();
        let db = self.db();
        // The catalogue was written durably before everything else.
        let len = self.model.len_at(db.now());
        assert!(len >= self.model.promised, "{} promised, {len} there", self.model.promised);
        self.model.commits.truncate(len);
        self.model.promised = len;
        self.check_all();
    }

    fn check_all(&self) {
        let db = self.db();
        let state = self.model.state_at(db.now());
        for keyspace in 0..2 {
            let all = Rows { from: (keyspace, 0), until: KEYS, is_reverse: false, limit: None };
            let snapshot = db.snapshot();
            let found = all.take(snapshot.scan(&self.keyspaces[keyspace as usize], all.range()));
            assert_eq!(found, all.expected(&state), "everything in keyspace {keyspace}");
        }
        db.verify().unwrap();
    }
}

/// Runs a program; returns what was seen up to the first crash, and what happened.
fn run(options: &Options, program: &[Op]) -> (Vec<String>, Tally) {
    let mut run = Run::new(options.clone());
    let mut seen = None;
    for op in program {
        if matches!(op, Op::Crash(_)) && seen.is_none() {
            seen = Some(run.trace.clone());
        }
        run.do_op(op);
    }
    run.reopen(true);
    (seen.unwrap_or(run.trace), run.tally)
}

/// Layouts drawn at random: whatever the sizes of things, the answers are the same.
fn random_layout(seed: u64) -> Options {
    let mut random = env::SeededRandom::new(seed);
    let mut pick = |choices: &[u64]| choices[random.below(choices.len() as u64) as usize];
    let memtable = pick(&[2 << 10, 6 << 10, 20 << 10, 1 << 20]);
    let compaction = CompactionOptions {
        table_bytes: pick(&[600, 3_000, 50_000]),
        base_bytes: pick(&[2_000, 20_000, 1 << 20]),
        multiplier: pick(&[2, 4, 10]),
        l0_share_percent: pick(&[20, 50, 150]),
        l0_runs_max: pick(&[1, 2, 5]) as usize,
        l0_pieces: pick(&[1, 3, 8]),
        garbage_percent: pick(&[5, 25, 90]),
        values_garbage_percent: pick(&[10, 50, 90]),
        grandparent_tables_max: pick(&[1, 10]),
        ..CompactionOptions::for_flush_bytes(memtable)
    };
    let table = TableOptions {
        block_bytes: pick(&[64, 300, 4096]) as usize,
        restart_interval: pick(&[1, 3, 16]) as usize,
        index_block_bytes: pick(&[100, 16 << 10]) as usize,
        filter_bits_per_key: pick(&[0, 2, 10]) as usize,
        has_hash_index: pick(&[0, 1]) == 1,
        compression: match pick(&[0, 1, 2]) {
            0 => Compression::None,
            1 => Compression::Lz4,
            _ => Compression::Zstd,
        },
        separate_from: match pick(&[0, 1, 10, 30, 60]) {
            0 => None,
            from => Some(from as usize),
        },
        value_file_bytes: pick(&[1, 200, 2_000, 1 << 20]),
        ..TableOptions::default()
    };
    Options::new()
        // Nothing for caches; blocks; and hot rows, too, which need that much.
        .memory(pick(&[0, 1 << 20, 1472 << 10, 4 << 20]) as usize)
        .row_cache(pick(&[0, 1]) == 1)
        .memtable_bytes(memtable as usize)
        .segment_bytes(4 << 10, pick(&[4 << 10, 64 << 10]))
        .log_bytes(pick(&[1, 10 << 10, 1 << 20]))
        .retention(Duration::from_millis(60))
        // This one is no matter of layout: a commit that exceeds it is brought to the disk at once.
        .buffered(Duration::from_millis(1), 6 << 10)
        .compaction(compaction)
        .table(table)
}

/// The same content under layouts that have nothing in common.
fn layouts() -> Vec<Options> {
    let retention = Duration::from_millis(60);
    vec![
        tiny(),
        Options::new().retention(retention),
        tiny().segment_bytes(4 << 10, 4 << 10).log_bytes(1),
    ]
}

#[test]
fn random_programs_do_what_the_model_does_under_every_layout() {
    let cases =
        if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { CASES };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let counts = RefCell::new((0, 0));
    let happened = RefCell::new(vec![Tally::default(); 5]);
    let programs = proptest::collection::vec(op(), 1..OPS_MAX);
    let cases_with_seeds = (programs, proptest::num::u64::ANY);
    let outcome = runner.run(&cases_with_seeds, |(program, seed)| {
        let mut layouts = layouts();
        layouts.extend((0..2).map(|n| random_layout(seed.wrapping_add(n))));
        let runs = layouts.iter().map(|options| run(options, &program));
        let (traces, tallies): (Vec<_>, Vec<_>) = runs.unzip();
        for (at, trace) in traces.iter().enumerate().skip(1) {
            let differs = trace.iter().zip(&traces[0]).find(|(a, b)| a != b);
            let options = &layouts[at];
            prop_assert!(trace == &traces[0], "{differs:?} under {options:#?}");
        }
        for (sum, tally) in happened.borrow_mut().iter_mut().zip(&tallies) {
            sum.join(tally);
        }
        let mut counts = counts.borrow_mut();
        counts.0 += program.len();
        counts.1 += traces[0].iter().filter(|line| line.starts_with("conflict")).count();
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let (operations, conflicts) = counts.into_inner();
    println!("{cases} programs, {operations} operations, {conflicts} conflicts, five layouts each");
    assert!(conflicts > cases as usize / 100);
    let happened = happened.into_inner();
    println!("{happened:#?}");
    // In the tiny layouts there is too little for a cache of blocks to have no room for.
    happened[3..].iter().for_each(Tally::check_all_happened);
    assert!(happened.iter().all(|tally| tally.row_hits > 1_000), "{happened:#?}");
}
