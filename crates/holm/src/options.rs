//! How a database is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use env::{Clock, Disk, RealDisk, SystemClock};
use storage::compaction::CompactionOptions;
use storage::table::{Compression, TableOptions};
use storage::wal::WalOptions;
use storage::{EngineOptions, MemoryOptions};
use transaction::{Durability, Result};

use crate::Db;

/// How long the past can be read unless told otherwise. Long enough for a person to look at what
/// just went wrong, short enough that a busy key does not pile up versions.
const RETENTION_DEFAULT: Duration = Duration::from_secs(600);

/// How long a `Buffered` commit may stay off the disk unless told otherwise.
const BUFFERED_INTERVAL_DEFAULT: Duration = Duration::from_millis(100);

/// How many bytes of `Buffered` commits may stay off the disk unless told otherwise.
const BUFFERED_BYTES_DEFAULT: u64 = 1 << 20;

/// How long the log may get before what is in it is written to tables, in bytes, unless told
/// otherwise. It is what a crash replays: half a second's worth.
const LOG_BYTES_DEFAULT: u64 = 128 << 20;

/// The memory budget unless told otherwise, in bytes. Enough to be fast, little enough not to be
/// noticed beside the program that the database is part of.
const MEMORY_BYTES_DEFAULT: usize = 256 << 20;

/// What a database stands on: the system's disk and clock, or simulated ones.
#[derive(Clone)]
pub struct Environment {
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
    /// What the time is.
    pub clock: Arc<dyn Clock>,
    /// Seeds what is random: the hash function, the database's id, the jitter of retries.
    pub seed: u64,
    /// Whether threads of the database's own work in the background. Without them the program calls
    /// [`Db::maintain`].
    pub has_background: bool,
}

impl Environment {
    /// The system's.
    pub fn system() -> Environment {
        // The standard library seeds its hash maps from the system's entropy.
        use std::hash::{BuildHasher, RandomState};
        let seed = RandomState::new().hash_one(std::process::id());
        Environment {
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            seed,
            has_background: true,
        }
    }
}

/// How a database is opened. Start from [`Options::new`]; each setting returns the options.
///
/// ```no_run
/// use std::time::Duration;
/// use holm::{Durability, Options};
///
/// let db = Options::new()
///     .durability(Durability::Buffered)
///     .memory(512 << 20)
///     .retention(Duration::from_secs(3600))
///     .open("data")?;
/// # Ok::<(), holm::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) durability: Durability,
    pub(crate) memory: MemoryOptions,
    pub(crate) retention: Duration,
    pub(crate) buffered_interval: Duration,
    pub(crate) buffered_bytes: u64,
    pub(crate) log_bytes: u64,
    pub(crate) compaction: Option<CompactionOptions>,
    pub(crate) create: bool,
    /// First and longest segment of the log, in bytes, if they were set.
    pub(crate) segment_bytes: Option<(u64, u64)>,
    pub(crate) table: TableOptions,
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}

impl Options {
    /// The defaults: commits are durable, 256 MiB of memory are used, ten minutes of the past are
    /// kept.
    pub fn new() -> Options {
        Options {
            durability: Durability::Sync,
            memory: MemoryOptions::of_budget(MEMORY_BYTES_DEFAULT),
            retention: RETENTION_DEFAULT,
            buffered_interval: BUFFERED_INTERVAL_DEFAULT,
            buffered_bytes: BUFFERED_BYTES_DEFAULT,
            log_bytes: LOG_BYTES_DEFAULT,
            compaction: None,
            create: true,
            segment_bytes: None,
            table: TableOptions::default(),
        }
    }

    /// What a commit has survived when it returns, unless the transaction says otherwise.
    pub fn durability(mut self, durability: Durability) -> Options {
        self.durability = durability;
        self
    }

    /// The memory that the database may take, in bytes: for what was written and is in no table
    /// yet, for caches, for indexes and filters. Data may be many times larger. Data that is
    /// smaller is read from memory.
    pub fn memory(mut self, bytes: usize) -> Options {
        self.memory = MemoryOptions::of_budget(bytes);
        self
    }

    /// Whether rows that are read often are kept in memory one by one, besides the blocks they are
    /// in. They are, unless told otherwise.
    pub fn row_cache(mut self, is_on: bool) -> Options {
        let MemoryOptions { row_cache_bytes, block_cache_bytes, .. } = self.memory;
        if !is_on {
            self.memory.block_cache_bytes = block_cache_bytes + row_cache_bytes;
            self.memory.row_cache_bytes = 0;
        }
        self
    }

    /// How large the part of memory gets that takes the commits, in bytes, before it is written to
    /// tables. A share of the budget, unless told otherwise.
    pub fn memtable_bytes(mut self, bytes: usize) -> Options {
        self.memory.memtable_bytes = bytes;
        self
    }

    /// When tables are compacted, and how large they get. What suits the memtable's size, unless
    /// told otherwise.
    pub fn compaction(mut self, compaction: CompactionOptions) -> Options {
        self.compaction = Some(compaction);
        self
    }

    /// How blocks of tables are compressed: LZ4, unless told otherwise.
    pub fn compression(mut self, compression: Compression) -> Options {
        self.table.compression = compression;
        self
    }

    /// Values of at least so many bytes lie in value files, apart from the tables that refer to
    /// them: 4 KiB, unless told otherwise. They are written once instead of once a level, and
    /// reading one costs one more access to the disk; 0 keeps all values in tables. It holds for
    /// what is written from now on, and what is there is read wherever it lies.
    pub fn large_values(mut self, from_bytes: usize) -> Options {
        self.table.separate_from = (from_bytes > 0).then_some(from_bytes);
        self
    }

    /// How tables are laid out.
    pub fn table(mut self, table: TableOptions) -> Options {
        self.table = table;
        self
    }

    /// How long the past can be read by timestamp. A snapshot that is held keeps more.
    pub fn retention(mut self, retention: Duration) -> Options {
        self.retention = retention;
        self
    }

    /// How long, and how many bytes of log, `Buffered` commits may stay off the disk.
    pub fn buffered(mut self, interval: Duration, bytes: u64) -> Options {
        self.buffered_interval = interval;
        self.buffered_bytes = bytes;
        self
    }

    /// How long the log may get, in bytes, before what is in it is written to tables: what is
    /// replayed after a crash.
    pub fn log_bytes(mut self, bytes: u64) -> Options {
        self.log_bytes = bytes;
        self
    }

    /// Whether a database is created where there is none. It is, unless told otherwise.
    pub fn create_if_missing(mut self, creates: bool) -> Options {
        self.create = creates;
        self
    }

    /// Lengths of the log's segments, in bytes: the first one, and the longest.
    pub fn segment_bytes(mut self, first: u64, longest: u64) -> Options {
        self.segment_bytes = Some((first, longest));
        self
    }

    /// Opens the database in a directory.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Db> {
        self.open_in(Environment::system(), path)
    }

    /// Opens a database on a disk and a clock of the caller's choice, simulated ones for example.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn open_in(self, environment: Environment, path: impl AsRef<Path>) -> Result<Db> {
        Db::open_with(path.as_ref(), self, environment)
    }

    /// Segments are a fraction of what is in a memtable, so that little log lies about that is not
    /// needed any more.
    fn wal(&self) -> WalOptions {
        let wal = WalOptions::default();
        let longest = self.memory.memtable_bytes as u64 / 4;
        let longest = longest.clamp(wal.segment_bytes_min, wal.segment_bytes_max);
        let (first, longest) = self.segment_bytes.unwrap_or((wal.segment_bytes_min, longest));
        // A flush releases four, and one is in use ahead of the writer.
        WalOptions { segment_bytes_min: first, segment_bytes_max: longest, spares_max: 3 }
    }

    pub(crate) fn engine(&self, environment: &Environment) -> EngineOptions {
        let mut random = env::SeededRandom::new(environment.seed);
        EngineOptions {
            create: self.create,
            owner: format!("pid {}", std::process::id()),
            new_id: random_id(random.next_u64()),
            hash_seed: random.next_u64(),
            wal: self.wal(),
            table: self.table.clone(),
            memory: self.memory,
            compaction: self.compaction.clone().unwrap_or_else(|| {
                CompactionOptions::for_flush_bytes(self.memory.memtable_bytes as u64)
            }),
            log_bytes_max: self.log_bytes,
        }
    }
}

/// Returns the id of a new database.
pub(crate) fn random_id(seed: u64) -> [u8; 16] {
    let mut random = env::SeededRandom::new(seed);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&random.next_u64().to_le_bytes());
    id[8..].copy_from_slice(&random.next_u64().to_le_bytes());
    id
}
