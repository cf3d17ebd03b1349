//! Holm itself, through the same calls that a program uses.
//!
//! `Sync` is the default durability: a commit returns when its log record is on disk, by a direct
//! synchronous write into space that was written before. Puts and batches are serializable
//! transactions; each get and each scan has a snapshot of its own; read-modify-write is
//! `transact`, whose closure counts its attempts.
//!
//! `holm` keeps nothing of the past, since no peer does, and compresses nothing, since no peer is
//! allowed to. Variants run when they are named: `holm-defaults` is what a user gets who sets
//! nothing but the memory, `holm-norow` answers hot reads without its cache of rows.

use std::collections::VecDeque;
use std::time::Duration;

use holm::{Compression, Db, Keyspace, Options, PendingCommit};

use crate::lane::Lane;
use crate::peer::{Peer, Role};
use crate::store::{Change, Durability, Reader, Result, Row, Session, Setup, Store};

pub(crate) const PEERS: [Peer; 3] = [
    Peer {
        name: "holm",
        role: Role::Ours,
        settings: "serializable transactions, no past kept, no compression",
        open: |setup| open(setup, plain(setup)),
    },
    Peer {
        name: "holm-defaults",
        role: Role::Variant,
        settings: "as holm, with the defaults: ten minutes of the past, compression",
        open: |setup| open(setup, defaults(setup)),
    },
    Peer {
        name: "holm-norow",
        role: Role::Variant,
        settings: "as holm, without the cache of rows",
        open: |setup| open(setup, without_row_cache(setup)),
    },
];

fn defaults(setup: &Setup<'_>) -> Options {
    let durability = match setup.durability {
        Durability::Sync => holm::Durability::Sync,
        Durability::None => holm::Durability::None,
    };
    Options::new().durability(durability).memory(setup.memory_bytes)
}

fn plain(setup: &Setup<'_>) -> Options {
    defaults(setup).retention(Duration::ZERO).compression(Compression::None)
}

fn without_row_cache(setup: &Setup<'_>) -> Options {
    plain(setup).row_cache(false)
}

struct Holm {
    db: Db,
    rows: Keyspace,
}

fn open(setup: &Setup<'_>, options: Options) -> Result<Box<dyn Store>> {
    let db = options.open(setup.dir)?;
    let rows = db.keyspace("rows")?;
    Ok(Box::new(Holm { db, rows }))
}

/// Threads that keep commits in flight: one leads while the other fills the next batch.
const THREADS: usize = 2;

impl Store for Holm {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn settle(&self) -> Result<()> {
        self.db.sync()?;
        // Flushes and compactions that the writes have caused are waited for.
        self.db.maintain();
        Ok(())
    }

    fn compact(&self) -> Result<()> {
        self.settle()?;
        self.db.flush()?;
        Ok(self.db.compact()?)
    }

    fn fsyncs(&self) -> Option<u64> {
        Some(self.db.stats().engine.wal.syncs)
    }

    fn commits_in_flight(&self, lanes: Vec<Lane>) -> Option<Result<Vec<Lane>>> {
        let mut shares: Vec<Vec<Lane>> = (0..THREADS).map(|_| Vec::new()).collect();
        for (index, lane) in lanes.into_iter().enumerate() {
            shares[index % THREADS].push(lane);
        }
        let drive = |lanes: Vec<Lane>| -> Result<Vec<Lane>> {
            let mut done = Vec::with_capacity(lanes.len());
            let mut in_flight: VecDeque<(Lane, PendingCommit)> = VecDeque::new();
            let submit = |mut lane: Lane, in_flight: &mut VecDeque<_>| -> Result<Option<Lane>> {
                let Some((key, value)) = lane.next_put() else { return Ok(Some(lane)) };
                let mut txn = self.db.begin();
                txn.put(&self.rows, key, value)?;
                let pending = txn.commit_pending()?;
                in_flight.push_back((lane, pending));
                Ok(None)
            };
            for lane in lanes {
                done.extend(submit(lane, &mut in_flight)?);
            }
            while let Some((mut lane, pending)) = in_flight.pop_front() {
                pending.wait()?;
                lane.acknowledge();
                done.extend(submit(lane, &mut in_flight)?);
            }
            Ok(done)
        };
        let drive = &drive;
        let finished: Result<Vec<Vec<Lane>>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                shares.into_iter().map(|share| scope.spawn(move || drive(share))).collect();
            let joined = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err("a committing thread panicked".into()))
            });
            joined.collect()
        });
        Some(finished.map(|lanes| lanes.into_iter().flatten().collect()))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.close()?)
    }
}

impl Session for &Holm {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.put(&self.rows, key, value)?;
        Ok(())
    }

    fn write_batch(&mut self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        let mut txn = self.db.begin();
        for &(key, value) in rows {
            txn.put(&self.rows, key, value)?;
        }
        txn.commit()?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.db.delete(&self.rows, key)?;
        Ok(())
    }

    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let found = self.db.get(&self.rows, key)?;
        Ok(copy(found.as_deref(), value))
    }

    fn reader(&mut self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(SnapshotReader { snapshot: self.db.snapshot(), rows: &self.rows }))
    }

    fn scan(&mut self, from: &[u8], limit: usize, row: Row<'_>) -> Result<usize> {
        let snapshot = self.db.snapshot();
        let mut count = 0;
        for found in snapshot.scan(&self.rows, from..).limit(limit) {
            let found = found?;
            row(found.key(), found.value());
            count += 1;
        }
        Ok(count)
    }

    fn read_modify_write(&mut self, key: &[u8], change: Change<'_>) -> Result<u64> {
        let mut attempts = 0;
        let mut value = Vec::new();
        self.db.transact(|txn| {
            attempts += 1;
            let old = txn.get(&self.rows, key)?;
            value.clear();
            change(old.as_deref(), &mut value);
            txn.put(&self.rows, key, &value)
        })?;
        Ok(attempts - 1)
    }
}

struct SnapshotReader<'a> {
    snapshot: holm::Snapshot,
    rows: &'a Keyspace,
}

impl Reader for SnapshotReader<'_> {
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let found = self.snapshot.get(self.rows, key)?;
        Ok(copy(found.as_deref(), value))
    }
}

fn copy(found: Option<&[u8]>, value: &mut Vec<u8>) -> bool {
    value.clear();
    found.inspect(|found| value.extend_from_slice(found)).is_some()
}
