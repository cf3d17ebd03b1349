//! How a replica runs.

use env::SeededRandom;
use raft::{ReadMode, ReplicaId};
use storage::compaction::CompactionOptions;
use storage::table::TableOptions;
use storage::wal::WalOptions;
use storage::{EngineOptions, MemoryOptions};

/// The group of a replica, if there is only one: not that of the embedded database.
pub const FIRST_GROUP: u64 = 2;

/// How a replica is opened.
#[derive(Debug, Clone)]
pub struct ReplicaOptions {
    /// Its id: given once, never again to another one.
    pub id: ReplicaId,
    /// Which group it is part of.
    pub group: u64,
    /// The first voters of the group. Read when the directory is created; what counts from then on
    /// stands in the log.
    pub members: Vec<ReplicaId>,
    /// Chance: of elections, and of hash functions.
    pub seed: u64,
    /// Times and limits of the protocol.
    pub raft: raft::Options,
    /// On what `Begin` rests.
    pub read_mode: ReadMode,
    /// How memory is shared out.
    pub memory: MemoryOptions,
    /// The layout of the log.
    pub wal: WalOptions,
    /// The layout of tables.
    pub table: TableOptions,
    /// When tables are compacted.
    pub compaction: CompactionOptions,
    /// How long the log may get before what is applied is written to tables, in bytes: what a crash
    /// replays.
    pub log_bytes_max: u64,
    /// Entries that are kept in memory for slow replicas, though tables have their effects: who
    /// lacks more gets an image.
    pub log_entries_kept: u64,
    /// About how long a part of an image is, in bytes.
    pub chunk_bytes: usize,
    /// Requests that may wait for something. More are told to come again.
    pub requests_max: usize,
    /// Whether steps flush and compact when there is need. Otherwise the driver calls
    /// [`crate::Replica::background`].
    pub has_inline_background: bool,
}

impl ReplicaOptions {
    /// Returns what suits a server.
    pub fn new(id: ReplicaId, members: &[u64], seed: u64) -> ReplicaOptions {
        let memory = MemoryOptions::of_budget(256 << 20);
        ReplicaOptions {
            id,
            group: FIRST_GROUP,
            members: members.iter().copied().map(ReplicaId).collect(),
            seed,
            // A quiet group needs somebody who watches whether nodes live, and nobody does yet.
            raft: raft::Options { seed, quiet_after_ticks: 0, ..raft::Options::default() },
            read_mode: ReadMode::Lease,
            memory,
            wal: WalOptions::default(),
            table: TableOptions::default(),
            compaction: CompactionOptions::for_flush_bytes(memory.memtable_bytes as u64),
            log_bytes_max: 64 << 20,
            log_entries_kept: 16 << 10,
            chunk_bytes: 1 << 20,
            requests_max: 16 << 10,
            has_inline_background: true,
        }
    }

    /// Returns what suits a simulation of many small replicas: short segments, small memtables, so
    /// that flushes, compactions and images happen within some hundred commits.
    pub fn small(id: ReplicaId, members: &[u64], seed: u64) -> ReplicaOptions {
        let memory = MemoryOptions {
            budget_bytes: 2 << 20,
            memtable_bytes: 128 << 10,
            row_cache_bytes: 64 << 10,
            block_cache_bytes: 256 << 10,
        };
        let segment_bytes = 16 << 10;
        ReplicaOptions {
            memory,
            wal: WalOptions {
                segment_bytes_min: segment_bytes,
                segment_bytes_max: segment_bytes,
                spares_max: 1,
            },
            compaction: CompactionOptions::for_flush_bytes(memory.memtable_bytes as u64),
            log_bytes_max: 32 << 10,
            log_entries_kept: 64,
            chunk_bytes: 4 << 10,
            requests_max: 256,
            ..ReplicaOptions::new(id, members, seed)
        }
    }

    pub(crate) fn engine(&self) -> EngineOptions {
        let mut random = SeededRandom::new(self.seed ^ self.id.0);
        let mut new_id = [0; 16];
        new_id[..8].copy_from_slice(&random.next_u64().to_le_bytes());
        new_id[8..].copy_from_slice(&random.next_u64().to_le_bytes());
        EngineOptions {
            create: true,
            owner: format!("replica {}", self.id),
            new_id,
            hash_seed: random.next_u64(),
            wal: self.wal.clone(),
            table: self.table.clone(),
            memory: self.memory,
            compaction: self.compaction.clone(),
            log_bytes_max: self.log_bytes_max,
        }
    }
}
