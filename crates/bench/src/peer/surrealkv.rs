//! SurrealKV 1: a log-structured merge tree with an asynchronous commit pipeline; the best peer
//! for grouped commits.
//!
//! Equal durability: `Durability::Immediate`, with which `commit` completes after a sync of the
//! write-ahead log that covers it. Unsynced commits use `Durability::Eventual`.
//!
//! Fair settings: `wal_preallocation`, zeros written ahead of the log, without which durable
//! commits are a quarter to a half slower; memtables of 64 MiB or a quarter of the memory, the rest
//! of the memory as block cache, no compression, and blocks of 16 KiB, which read and scan faster
//! here than 4 KiB; its default of 64 KiB scans faster still and reads slower. It installs no
//! `affinitypool` itself, and neither does this, so a sync runs on the thread that commits. Threads
//! block on the commit with `Runtime::block_on`; lanes are tasks of one runtime, which is how its
//! own users drive it.

use std::sync::Arc;

use ::surrealkv::{
    CompactRangeOptions, Durability as Surreal, Error as SurrealError, LSMIterator, Mode, Options,
    Transaction, Tree, TreeBuilder,
};
use tokio::runtime::Runtime;

use crate::lane::Lane;
use crate::peer::{Peer, Role};
use crate::store::{Change, Durability, Reader, Result, Row, Session, Setup, Store};

pub(crate) const PEER: Peer = Peer {
    name: "surrealkv",
    role: Role::Peer,
    settings: "Durability::Immediate, wal_preallocation, 16 KiB blocks, 64 MiB memtables",
    open,
};

struct SurrealKv {
    runtime: Runtime,
    tree: Arc<Tree>,
    durability: Surreal,
}

fn open(setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let options = Options::new()
        .with_path(setup.dir.join("surrealkv"))
        .with_wal_preallocation(true)
        .with_block_size(16384)
        .with_max_memtable_size(setup.write_buffer_bytes())
        .with_block_cache_capacity(setup.cache_bytes() as u64)
        .without_compression();
    let tree = {
        let _inside = runtime.enter();
        TreeBuilder::with_options(options).build()?
    };
    let durability = match setup.durability {
        Durability::Sync => Surreal::Immediate,
        Durability::None => Surreal::Eventual,
    };
    Ok(Box::new(SurrealKv { runtime, tree: Arc::new(tree), durability }))
}

/// Commits what `write` puts into a transaction, again after each conflict; returns the aborts.
async fn commit(
    tree: &Tree,
    durability: Surreal,
    mode: Mode,
    mut write: impl FnMut(&mut Transaction) -> Result<()>,
) -> Result<u64> {
    for aborts in 0.. {
        let mut txn = tree.begin_with_mode(mode)?.with_durability(durability);
        write(&mut txn)?;
        match txn.commit().await {
            Ok(()) => return Ok(aborts),
            Err(SurrealError::TransactionWriteConflict | SurrealError::TransactionRetry) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err("the conflicts never ended".into())
}

impl Store for SurrealKv {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn commits_in_flight(&self, lanes: Vec<Lane>) -> Option<Result<Vec<Lane>>> {
        let durability = self.durability;
        let tasks: Vec<_> = lanes
            .into_iter()
            .map(|mut lane| {
                let tree = Arc::clone(&self.tree);
                self.runtime.spawn(async move {
                    while let Some((key, value)) = lane.next_put() {
                        let put = |txn: &mut Transaction| Ok(txn.set(key, value)?);
                        commit(&tree, durability, Mode::WriteOnly, put).await?;
                        lane.acknowledge();
                    }
                    Ok(lane)
                })
            })
            .collect();
        let joined = tasks.into_iter().map(|task| self.runtime.block_on(task)?);
        Some(joined.collect())
    }

    fn compact(&self) -> Result<()> {
        let options = CompactRangeOptions { flush_memtable: true, ..Default::default() };
        Ok(self.tree.compact_range(None, None, &options)?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.runtime.block_on(self.tree.close())?)
    }
}

impl Session for &SurrealKv {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let put = |txn: &mut Transaction| Ok(txn.set(key, value)?);
        self.runtime.block_on(commit(&self.tree, self.durability, Mode::WriteOnly, put))?;
        Ok(())
    }

    fn write_batch(&mut self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        let put = |txn: &mut Transaction| {
            rows.iter().try_for_each(|&(key, value)| Ok(txn.set(key, value)?))
        };
        self.runtime.block_on(commit(&self.tree, self.durability, Mode::WriteOnly, put))?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        let delete = |txn: &mut Transaction| Ok(txn.delete(key)?);
        self.runtime.block_on(commit(&self.tree, self.durability, Mode::WriteOnly, delete))?;
        Ok(())
    }

    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        self.reader()?.get(key, value)
    }

    fn reader(&mut self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(SurrealReader(self.tree.begin_with_mode(Mode::ReadOnly)?)))
    }

    fn scan(&mut self, from: &[u8], limit: usize, row: Row<'_>) -> Result<usize> {
        let txn = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut cursor = txn.scan(from..)?;
        let mut rows = 0;
        let mut valid = cursor.seek_first()?;
        while valid && rows < limit {
            row(cursor.key().user_key(), &cursor.value_ref()?);
            rows += 1;
            valid = rows < limit && cursor.next()?;
        }
        Ok(rows)
    }

    fn read_modify_write(&mut self, key: &[u8], change: Change<'_>) -> Result<u64> {
        let mut new = Vec::new();
        // Writing the key that was read makes the read part of the conflict check.
        let update = |txn: &mut Transaction| {
            change(txn.get(key)?.as_deref(), &mut new);
            Ok(txn.set(key, new.as_slice())?)
        };
        self.runtime.block_on(commit(&self.tree, self.durability, Mode::ReadWrite, update))
    }
}

struct SurrealReader(Transaction);

impl Reader for SurrealReader {
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let found = self.0.get(key)?;
        if let Some(found) = &found {
            value.clear();
            value.extend_from_slice(found);
        }
        Ok(found.is_some())
    }
}
