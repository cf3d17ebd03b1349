//! Lists that transactions append to and read: every read shows the whole past of its key, so this
//! workload proves the most.

use std::collections::BTreeMap;
use std::sync::Mutex;

use env::SeededRandom;
use holm::{Db, KeyRange, Keyspace, Timestamp, Transaction};
use holm_sim::checker::{Level, Options, list_append, timestamps};
use holm_sim::history::{History, Op, Outcome, Recorder};

use super::world::{
    Attempt, InFlight, Place, durability, options, recent, retryable, run_clients, summary,
};

const KEYS: u64 = 12;

/// The lists of one moment, by timestamp.
type Past = Vec<(Timestamp, BTreeMap<String, Vec<u64>>)>;

#[test]
fn serializable_on_a_real_disk() {
    check(Place::real("list-append"), Level::StrictSerializable, 6, 800);
}

#[test]
fn serializable_on_a_simulated_disk() {
    check(Place::simulated(), Level::StrictSerializable, 6, 2500);
}

#[test]
fn snapshot_isolation_on_a_simulated_disk() {
    check(Place::simulated(), Level::StrictSnapshotIsolation, 6, 2500);
}

fn check(place: Place, level: Level, clients: u64, transactions: u64) {
    let db = place.open(options());
    let lists = db.keyspace("lists").unwrap();
    let recorder = Recorder::new();
    let past = Mutex::new(Past::new());
    run_clients(&db, clients, |client| {
        let (db, lists, recorder) = (&db, &lists, &recorder);
        let random = SeededRandom::new(client + 1);
        let mut client = Client {
            number: client,
            db,
            lists,
            level,
            random,
            flight: InFlight::new(recorder, client),
        };
        let held = db.snapshot();
        let first = all_lists(&held, lists);
        for n in 0..transactions {
            match client.random.below(16) {
                0 => past.lock().unwrap().extend(client.read_past()),
                _ => client.transaction(n),
            }
        }
        assert_eq!(all_lists(&held, lists), first, "a snapshot that was held changed");
    });
    let stats = db.stats();
    let end = all_lists(&db.snapshot(), &lists);
    drop(db);

    let history = recorder.into_history();
    let (committed, aborted) = summary(&history);
    eprintln!("{committed} committed, {aborted} aborted, {stats:?}");
    assert!(committed > 500 && aborted > 20 && stats.engine.flushes > 0, "nothing happened");
    let report = list_append::check(&history, &Options::at(level));
    assert!(report.is_valid(), "{report}");
    let report = timestamps::check(&history, &Options::at(level));
    assert!(report.is_valid(), "{report}");
    check_past(&history, past.into_inner().unwrap());

    let db = place.open(options().create_if_missing(false));
    assert_eq!(all_lists(&db.snapshot(), &lists), end, "reopening changed something");
    drop(db);
    place.remove();
}

struct Client<'a> {
    number: u64,
    db: &'a Db,
    lists: &'a Keyspace,
    level: Level,
    random: SeededRandom,
    flight: InFlight<'a>,
}

impl Client<'_> {
    fn transaction(&mut self, n: u64) {
        let mut builder = self.db.transaction().durability(durability(&mut self.random));
        if self.level == Level::StrictSnapshotIsolation {
            builder = builder.snapshot_isolation();
        }
        let is_read_only = self.random.chance(150);
        if is_read_only {
            builder = builder.read_only();
        }
        let mut attempt = self.flight.begin();
        let mut txn = builder.label(format!("{} {n}", self.number)).begin();
        for op in 0..1 + self.random.below(4) {
            let element = self.number * 1_000_000 + n * 10 + op;
            let done = match self.random.below(if is_read_only { 4 } else { 10 }) {
                0 | 1 => self.get(&txn, &mut attempt),
                2 | 3 => self.scan(&txn, &mut attempt),
                4 => self.get_for_update(&mut txn, &mut attempt),
                5 => self.try_and_forget(&mut txn),
                _ => self.append(&mut txn, &mut attempt, element),
            };
            if done.is_none() {
                self.flight.abort(attempt);
                return;
            }
        }
        if self.random.chance(30) {
            txn.rollback();
            self.flight.abort(attempt);
        } else {
            self.flight.commit(attempt, txn, &mut self.random);
        }
    }

    fn key(&mut self) -> String {
        format!("k{:02}", self.random.below(KEYS))
    }

    fn get(&mut self, txn: &Transaction, attempt: &mut Attempt) -> Option<()> {
        let key = self.key();
        let list = decode(txn.get(self.lists, &key).unwrap().as_deref());
        self.flight.op(attempt, Op::read_list(key, list));
        Some(())
    }

    fn get_for_update(&mut self, txn: &mut Transaction, attempt: &mut Attempt) -> Option<()> {
        let key = self.key();
        let list = decode(retryable(txn.get_for_update(self.lists, &key))?.as_deref());
        self.flight.op(attempt, Op::read_list(key, list));
        Some(())
    }

    /// Reads a range, forward or back, some of it or all; what it did not see in it was empty.
    fn scan(&mut self, txn: &Transaction, attempt: &mut Attempt) -> Option<()> {
        let (a, b) = (self.random.below(KEYS + 1), self.random.below(KEYS + 1));
        let (start, end) = (a.min(b), a.max(b));
        let range = KeyRange::from(format!("k{start:02}")..format!("k{end:02}"));
        let limit = 1 + self.random.below(6) as usize;
        let is_reverse = self.random.chance(500);
        let scan = txn.scan(self.lists, range).limit(limit);
        let scan = if is_reverse { scan.reverse() } else { scan };
        let mut found = BTreeMap::new();
        for row in scan {
            let row = row.unwrap();
            found.insert(String::from_utf8(row.key().to_vec()).unwrap(), decode(Some(row.value())));
        }
        let keys: Vec<String> = (start..end).map(|n| format!("k{n:02}")).collect();
        let seen: Vec<&String> = if found.len() < limit {
            keys.iter().collect()
        } else if is_reverse {
            keys.iter().filter(|key| *key >= found.keys().next().unwrap()).collect()
        } else {
            keys.iter().filter(|key| *key <= found.keys().next_back().unwrap()).collect()
        };
        for key in seen {
            let list = found.get(key).cloned().unwrap_or_default();
            self.flight.op(attempt, Op::read_list(key, list));
        }
        Some(())
    }

    fn append(&mut self, txn: &mut Transaction, attempt: &mut Attempt, element: u64) -> Option<()> {
        let key = self.key();
        let list = if self.random.chance(300) {
            retryable(txn.get_for_update(self.lists, &key))?
        } else {
            txn.get(self.lists, &key).unwrap()
        };
        let mut list = decode(list.as_deref());
        list.push(element);
        self.flight.op(attempt, Op::append(&key, element));
        txn.put(self.lists, &key, encode(&list)).unwrap();
        Some(())
    }

    /// Writes what nobody may ever see, and rolls back to before it.
    fn try_and_forget(&mut self, txn: &mut Transaction) -> Option<()> {
        let key = self.key();
        let mark = txn.savepoint();
        txn.put(self.lists, &key, encode(&[u64::MAX])).unwrap();
        txn.delete_range(self.lists, ..).unwrap();
        txn.rollback_to(mark).unwrap();
        Some(())
    }

    fn read_past(&mut self) -> Past {
        let snapshot = match self.db.at(recent(self.db, &mut self.random)) {
            Ok(snapshot) => snapshot,
            // Past the retention. Newest it is, then.
            Err(_) => self.db.snapshot(),
        };
        vec![(snapshot.timestamp(), all_lists(&snapshot, self.lists))]
    }
}

/// Compares what was read of the past with the appends that were committed until then.
fn check_past(history: &History, past: Past) {
    let mut commits: Vec<_> =
        history.transactions.iter().filter(|t| t.outcome == Outcome::Committed).collect();
    commits.retain(|t| t.commit_ts.is_some());
    commits.sort_by_key(|t| t.commit_ts);
    assert!(past.len() > 20);
    for (ts, lists) in past {
        let mut expected: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for commit in commits.iter().take_while(|t| t.commit_ts <= Some(ts.raw())) {
            for op in &commit.ops {
                if let Op::Append { key, element } = op {
                    expected.entry(key.clone()).or_default().push(*element);
                }
            }
        }
        assert_eq!(lists, expected, "the past at {ts}");
    }
}

fn all_lists(snapshot: &holm::Snapshot, lists: &Keyspace) -> BTreeMap<String, Vec<u64>> {
    let rows = snapshot.scan(lists, ..).map(|row| row.unwrap());
    rows.map(|row| (String::from_utf8(row.key().to_vec()).unwrap(), decode(Some(row.value()))))
        .collect()
}

fn encode(list: &[u64]) -> Vec<u8> {
    list.iter().flat_map(|element| element.to_le_bytes()).collect()
}

fn decode(value: Option<&[u8]>) -> Vec<u64> {
    let chunks = value.unwrap_or_default().chunks(8);
    chunks.map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap())).collect()
}
