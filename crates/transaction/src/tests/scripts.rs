//! Runs the scripts under `testscripts/`: transactions by name, one command a line, one test for
//! each file. `UPDATE_GOLDENFILES=1 cargo test -p transaction scripts` writes the answers anew.
//!
//! ```text
//! t1: begin [readonly] [snapshot] [label=x] [older_than=t2]
//! t1: get a b · put a=1 b=2 · delete a · scan a..z [reverse] [limit=2] · delete_range a..z
//! t1: get_for_update a · savepoint s · rollback_to s · commit [unsynced] [pending] · rollback
//! s1: view [at=3] · get a · scan a..z · drop            a snapshot
//! w1: watch a..z [after=3] · next [count=5] · drop      a feed
//! set a=1 b=2                                           a transaction of its own, committed
//! many k count=5000 [keys=1]                            k00000, k00001, ... a transaction each
//! collect [from=3] · sync · finish t1 · locks           garbage, pending commits, who holds what
//! ```
//!
//! The wall clock stands at 0, so timestamps are the numbers of commits. A call that has to wait
//! goes on in a thread of its own and says for whom; the command that lets it go on shows its
//! answer. So there are threads, and still one order.

#![expect(
    clippy::disallowed_methods,
    reason = "scripts are files, and calls that wait need threads"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use base::{KeyRange, Timestamp, text};
use bytes::Bytes;
use env::SimDisk;
use goldenscript::{Argument, Command, Context};
use storage::Compacted;

use super::{SPACE, key, shard};
use crate::locks::TransactionId;
use crate::{
    ChangeSet, Direction, Durability, Isolation, PendingCommit, ReadSnapshot, Result, Savepoint,
    Scan, Shard, Transaction, TransactionOptions, Watch,
};

#[test]
fn scripts_give_the_answers_written_in_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testscripts");
    let scripts = scripts_below(&root);
    assert!(scripts.len() > 40, "the scripts are missing: {scripts:?}");
    let mut failed = Vec::new();
    for path in scripts {
        for layout in [Layout::InMemory, Layout::Flushed, Layout::Compacted] {
            let run = || goldenscript::run(&mut Runner::new(layout), &path);
            match std::panic::catch_unwind(run) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed.push(format!("{} {layout:?}: {error}", path.display())),
                Err(_) => failed.push(format!("{} {layout:?}: see above", path.display())),
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn scripts_below(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { paths.extend(scripts_below(&path)) } else { paths.push(path) }
    }
    paths.sort();
    paths
}

/// Where the versions are that a command finds: no answer may depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// In the memtable.
    InMemory,
    /// Each command's in a table of its own.
    Flushed,
    /// In tables that are compacted after each command.
    Compacted,
}

struct Runner {
    layout: Layout,
    shard: Arc<Shard>,
    transactions: BTreeMap<String, Transaction>,
    names: BTreeMap<TransactionId, String>,
    savepoints: BTreeMap<String, Savepoint>,
    /// Calls that wait, by the name of their transaction.
    waiting: BTreeMap<String, Call>,
    /// What calls that waited answered, to be shown below the command that let them go on.
    settled: BTreeSet<(bool, String)>,
    pending: BTreeMap<String, PendingCommit>,
    views: BTreeMap<String, ReadSnapshot>,
    watches: BTreeMap<String, Watch>,
}

/// A call on a thread of its own; the transaction comes back unless the call ended it.
struct Call {
    id: TransactionId,
    thread: JoinHandle<(Option<Transaction>, String)>,
}

impl Runner {
    fn new(layout: Layout) -> Runner {
        Runner {
            layout,
            shard: shard(&SimDisk::new()),
            transactions: BTreeMap::new(),
            names: BTreeMap::new(),
            savepoints: BTreeMap::new(),
            waiting: BTreeMap::new(),
            settled: BTreeSet::new(),
            pending: BTreeMap::new(),
            views: BTreeMap::new(),
            watches: BTreeMap::new(),
        }
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Answer {
        let name = context.prefix.as_deref();
        match name {
            None => self.run_global(command),
            Some(name) if command.name == "begin" => self.begin(name, command),
            Some(name) if command.name == "view" => self.view(name, command),
            Some(name) if command.name == "watch" => self.watch(name, command),
            Some(name) if self.views.contains_key(name) => self.run_view(name, command),
            Some(name) if self.watches.contains_key(name) => self.run_watch(name, command),
            Some(name) => self.run_transaction(name, command),
        }
    }

    /// Shows what the command let go on.
    fn end_command(&mut self, _: &Command, _: &Context) -> Answer {
        self.shard.locks().check_invariants();
        self.settle();
        // A flush would end what is pending.
        if self.layout != Layout::InMemory && self.pending.is_empty() {
            let _ = self.shard.flush();
        }
        if self.layout == Layout::Compacted {
            let compact = || self.shard.engine().compact_next(0, |_| ControlFlow::Continue(()));
            while compact()? == Compacted::Something {}
        }
        Ok(std::mem::take(&mut self.settled).into_iter().map(|(_, answer)| answer).collect())
    }
}

type Answer = std::result::Result<String, Box<dyn StdError>>;

impl Runner {
    fn run_global(&mut self, command: &Command) -> Answer {
        let mut args = command.consume_args();
        let answer = match command.name.as_str() {
            "set" => {
                let mut txn = super::begin(&self.shard);
                for (name, value) in pairs(&command.args) {
                    txn.put(key(name), sized(value))?;
                }
                self.names.insert(txn.id(), "set".into());
                return self.call("set", txn, |txn| {
                    (None, show(txn.commit(0).map(|ts| format!("@{ts}"))))
                });
            }
            "many" => {
                let prefix = args.next_pos().ok_or("a prefix")?;
                let count = number(args.take_key("count"))?.ok_or("count=")?;
                let keys = number(args.take_key("keys"))?.unwrap_or(count);
                for n in 0..count {
                    super::put(&self.shard, &format!("{prefix}{:05}", n % keys), &n.to_string());
                }
                format!("@{}", self.shard.visible())
            }
            "collect" => {
                let from = number(args.take_key("from"))?.map(Timestamp::from_raw);
                self.shard.collect(from.unwrap_or(Timestamp::MAX));
                "collected".into()
            }
            "sync" => show(self.shard.sync().map(|()| "synced".into())),
            "finish" => {
                let name = args.next_pos().ok_or("a name")?;
                let pending = self.pending.remove(name).ok_or("nothing is pending")?;
                show(pending.wait().map(|ts| format!("{name} committed @{ts}")))
            }
            "stats" => {
                let stats = self.shard.stats();
                let (commits, conflicts) = (stats.commits, stats.conflicts);
                format!("{commits} commits, {conflicts} conflicts, {} deadlocks", stats.deadlocks)
            }
            "locks" => {
                let held = if self.shard.locks().is_empty() { "none held" } else { "some held" };
                held.to_string()
            }
            other => return Err(format!("unknown command {other}").into()),
        };
        args.reject_next()?;
        Ok(answer)
    }

    fn begin(&mut self, name: &str, command: &Command) -> Answer {
        let mut options = TransactionOptions::default();
        for arg in &command.args {
            match arg {
                Argument::Positional(word) if word == "readonly" => options.read_only = true,
                Argument::Positional(word) if word == "snapshot" => {
                    options.isolation = Isolation::Snapshot;
                }
                Argument::Positional(word) if word == "unsynced" => {
                    options.durability = Durability::None;
                }
                Argument::KeyValue(key, value) if key == "label" => {
                    options.label = Some(value.as_str().into());
                }
                Argument::KeyValue(key, value) if key == "label_bytes" => {
                    options.label = Some("x".repeat(value.parse()?).into());
                }
                // As if this were another attempt of one that began so early.
                Argument::KeyValue(key, value) if key == "age" => {
                    options.age = Some(Timestamp::from_raw(value.parse()?));
                }
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        let txn = self.shard.begin(options);
        let answer = format!("reads @{}", txn.read_ts());
        self.names.insert(txn.id(), name.into());
        self.transactions.insert(name.into(), txn);
        Ok(answer)
    }

    fn run_transaction(&mut self, name: &str, command: &Command) -> Answer {
        let Some(mut txn) = self.transactions.remove(name) else {
            return Err(format!("there is no {name}").into());
        };
        let args: Vec<String> = command.args.iter().map(value_of).collect();
        let answer = match command.name.as_str() {
            "get" => read_all(&args, |name| txn.get(key(name))),
            "put" => show(
                pairs(&command.args)
                    .try_for_each(|(name, value)| txn.put(key(name), sized(value)))
                    .map(|()| String::new()),
            ),
            "delete" => {
                show(args.iter().try_for_each(|name| txn.delete(key(name))).map(|()| String::new()))
            }
            "scan" => {
                let (range, direction, limit) = scan_of(command)?;
                show(txn.scan(range, direction).map(|scan| rows(scan, limit)))
            }
            "delete_range" => {
                show(txn.delete_range(range_of(&args[0])).map(|count| format!("{count} deleted")))
            }
            "savepoint" => {
                self.savepoints.insert(args[0].clone(), txn.savepoint());
                String::new()
            }
            "rollback_to" => {
                show(txn.rollback_to(self.savepoints[&args[0]]).map(|()| String::new()))
            }
            // A key of so many bytes.
            "put_long" => show(txn.put(long_key(&args[0]), Bytes::new()).map(|()| String::new())),
            "get_long" => read_all(&args, |bytes| txn.get(long_key(bytes))),
            "lock_long" => read_all(&args, |bytes| txn.get_for_update(long_key(bytes))),
            "scan_long" => {
                let range = KeyRange { start: long_key(&args[0]), end: None };
                show(txn.scan(range, Direction::Forward).map(|scan| rows(scan, 1)))
            }
            "rollback" => {
                txn.rollback();
                return Ok("rolled back".into());
            }
            "get_for_update" => {
                return self.call(name, txn, move |mut txn| {
                    let answer = read_all(&args, |name| txn.get_for_update(key(name)));
                    (Some(txn), answer)
                });
            }
            "commit" if args == ["pending"] => {
                return Ok(match txn.commit_pending(0) {
                    Ok(pending) => {
                        let answer = format!("in order @{}", pending.ts());
                        self.pending.insert(name.into(), pending);
                        answer
                    }
                    Err(error) => show(Err(error)),
                });
            }
            "commit" => {
                return self.call(name, txn, |txn| {
                    (None, show(txn.commit(0).map(|ts| format!("committed @{ts}"))))
                });
            }
            other => return Err(format!("unknown command {other}").into()),
        };
        self.transactions.insert(name.into(), txn);
        Ok(answer)
    }

    /// Runs a call that may have to wait for a lock; returns its answer, or for whom it waits.
    fn call(
        &mut self,
        name: &str,
        txn: Transaction,
        call: impl FnOnce(Transaction) -> (Option<Transaction>, String) + Send + 'static,
    ) -> Answer {
        let id = txn.id();
        let thread = std::thread::spawn(move || call(txn));
        while !thread.is_finished() && self.shard.locks().waits_for(id).is_none() {
            std::thread::yield_now();
        }
        // It may wait for a victim that it made itself: only for a moment then.
        self.settle();
        if let Some(holder) = self.shard.locks().waits_for(id) {
            self.waiting.insert(name.into(), Call { id, thread });
            return Ok(format!("waits for {}", self.names[&holder]));
        }
        Ok(self.answer_of(name, Call { id, thread }))
    }

    fn answer_of(&mut self, name: &str, call: Call) -> String {
        let (txn, answer) = call.thread.join().unwrap();
        if let Some(txn) = txn {
            self.transactions.insert(name.into(), txn);
        }
        answer
    }

    /// Takes the answers of calls that do not wait any more, until all that are left wait.
    fn settle(&mut self) {
        let locks = self.shard.clone();
        let is_released = |call: &Call| locks.locks().waits_for(call.id).is_none();
        while let Some(name) = self.waiting.iter().find(|(_, call)| is_released(call)) {
            let name = name.0.clone();
            if let Some(call) = self.waiting.remove(&name) {
                let answer = self.answer_of(&name, call);
                // Victims first, since they let the others go on; which of them ran first is
                // chance.
                let went_on = !answer.starts_with("error");
                self.settled.insert((went_on, format!("lets {name} go on: {answer}\n")));
            }
        }
    }

    fn view(&mut self, name: &str, command: &Command) -> Answer {
        let mut args = command.consume_args();
        let at = number(args.take_key("at"))?;
        args.reject_next()?;
        let view = match at {
            Some(ts) => self.shard.snapshot_at(Timestamp::from_raw(ts)),
            None => Ok(self.shard.snapshot()),
        };
        Ok(show(view.map(|view| {
            let answer = format!("reads @{}", view.read_ts());
            self.views.insert(name.into(), view);
            answer
        })))
    }

    fn run_view(&mut self, name: &str, command: &Command) -> Answer {
        let view = &self.views[name];
        let args: Vec<String> = command.args.iter().map(value_of).collect();
        Ok(match command.name.as_str() {
            "get" => read_all(&args, |name| {
                let found = view.get_versioned(&key(name));
                Ok(found?.map(|(ts, value)| Bytes::from(format!("{} @{ts}", shown(&value)))))
            }),
            "scan" => {
                let (range, direction, limit) = scan_of(command)?;
                rows(view.scan(range, direction), limit)
            }
            "drop" => {
                self.views.remove(name);
                String::new()
            }
            other => return Err(format!("unknown command {other}").into()),
        })
    }

    fn watch(&mut self, name: &str, command: &Command) -> Answer {
        let mut args = command.consume_args();
        let range = range_of(args.next_pos().ok_or("a range")?);
        let after = number(args.take_key("after"))?;
        args.reject_next()?;
        let watch = self.shard.watch(range, after.map(Timestamp::from_raw));
        Ok(show(watch.map(|watch| {
            let answer = format!("watches after @{}", watch.position());
            self.watches.insert(name.into(), watch);
            answer
        })))
    }

    fn run_watch(&mut self, name: &str, command: &Command) -> Answer {
        let Some(watch) = self.watches.get_mut(name) else { return Err("no watch".into()) };
        let mut args = command.consume_args();
        let count = number(args.take_key("count"))?;
        args.reject_next()?;
        match command.name.as_str() {
            // Many are counted, and their order checked.
            "next" if count.is_some() => {
                let mut last = Timestamp::ZERO;
                let mut taken: u64 = 0;
                while Some(taken) < count
                    && let Some(set) = watch.try_next()?
                {
                    assert!(set.ts > last, "{set:?} came after {last}");
                    (last, taken) = (set.ts, taken + 1);
                }
                Ok(format!("{taken} taken, the last one @{last}"))
            }
            "next" => Ok(match watch.try_next() {
                Ok(Some(ChangeSet { ts, changes })) => {
                    let changes = changes.iter().map(|change| match &change.value {
                        Some(value) => format!("{}={}", shown(&change.key), shown(value)),
                        None => format!("{} deleted", shown(&change.key)),
                    });
                    format!("@{ts} {}", changes.collect::<Vec<_>>().join(", "))
                }
                Ok(None) => "nothing".into(),
                Err(error) => show(Err(error)),
            }),
            "position" => Ok(format!("@{}", watch.position())),
            "drop" => {
                self.watches.remove(name);
                Ok(String::new())
            }
            other => Err(format!("unknown command {other}").into()),
        }
    }
}

fn number(value: Option<&str>) -> std::result::Result<Option<u64>, Box<dyn StdError>> {
    Ok(value.map(str::parse).transpose()?)
}

fn pairs(args: &[Argument]) -> impl Iterator<Item = (&String, &String)> {
    args.iter().filter_map(|arg| match arg {
        Argument::KeyValue(key, value) => Some((key, value)),
        _ => None,
    })
}

fn value_of(arg: &Argument) -> String {
    match arg {
        Argument::Positional(value) => value.clone(),
        other => other.to_string(),
    }
}

fn long_key(bytes: &str) -> Bytes {
    key(&"k".repeat(bytes.parse().unwrap()))
}

/// Returns a value; `bytes/100` stands for a hundred bytes.
fn sized(value: &str) -> Bytes {
    match value.strip_prefix("bytes/") {
        Some(count) => Bytes::from(vec![b'x'; count.parse().unwrap()]),
        None => Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn range_of(text: &str) -> KeyRange {
    let (start, end) = text.split_once("..").unwrap();
    let end = if end.is_empty() {
        base::range::prefix_end(&SPACE.prefix()).map(Bytes::from)
    } else {
        Some(key(end))
    };
    KeyRange { start: key(start), end }
}

fn scan_of(
    command: &Command,
) -> std::result::Result<(KeyRange, Direction, usize), Box<dyn StdError>> {
    let mut args = command.consume_args();
    let range = range_of(args.next_pos().ok_or("a range")?);
    let limit = number(args.take_key("limit"))?;
    let reverse = args.next_pos() == Some("reverse");
    args.reject_next()?;
    let direction = if reverse { Direction::Reverse } else { Direction::Forward };
    Ok((range, direction, limit.map_or(usize::MAX, |limit| limit as usize)))
}

fn rows(scan: Scan<'_>, limit: usize) -> String {
    let rows = scan.hiding_prefix(SPACE.prefix().len()).take(limit);
    let rows = rows.map(|row| row.expect("the disk works"));
    let rows: Vec<_> =
        rows.map(|row| format!("{}={}", shown(row.key()), shown(row.value()))).collect();
    if rows.is_empty() { "no rows".into() } else { rows.join(" ") }
}

fn read_all(names: &[String], mut read: impl FnMut(&str) -> Result<Option<Bytes>>) -> String {
    let answers = names.iter().map(|name| match read(name) {
        Ok(Some(value)) => format!("{name}={}", shown(&value)),
        Ok(None) => format!("{name} is absent"),
        Err(error) => show(Err(error)),
    });
    answers.collect::<Vec<_>>().join(" ")
}

fn shown(bytes: &[u8]) -> String {
    text::escape_short(bytes, 60)
}

fn show(answer: Result<String>) -> String {
    answer.unwrap_or_else(|error| {
        let again = if error.is_retryable() { " [retryable]" } else { "" };
        format!("error{again}: {error}")
    })
}
