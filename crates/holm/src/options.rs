//! How a database is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use env::{Clock, Disk, RealDisk, SystemClock};
use storage::EngineOptions;
use storage::table::TableOptions;
use storage::wal::WalOptions;
use transaction::{Durability, Result};

use crate::Db;

/// How long the past can be read unless told otherwise. Long enough for a person to look at what
/// just went wrong, short enough that a busy key does not pile up versions.
const RETENTION_DEFAULT: Duration = Duration::from_secs(600);

/// How long a `Buffered` commit may stay off the disk unless told otherwise.
const BUFFERED_INTERVAL_DEFAULT: Duration = Duration::from_millis(100);

/// How many bytes of `Buffered` commits may stay off the disk unless told otherwise.
const BUFFERED_BYTES_DEFAULT: u64 = 1 << 20;

/// How long the log may get before a checkpoint is written, in bytes, for a small database; a large
/// one waits until the log is as long as its last checkpoint, so that checkpoints never cost more
/// than the log itself.
const CHECKPOINT_LOG_BYTES_DEFAULT: u64 = 64 << 20;

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
    pub(crate) memory_bytes_max: usize,
    pub(crate) retention: Duration,
    pub(crate) buffered_interval: Duration,
    pub(crate) buffered_bytes: u64,
    pub(crate) checkpoint_log_bytes: u64,
    pub(crate) create: bool,
    pub(crate) wal: WalOptions,
    pub(crate) table: TableOptions,
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}

impl Options {
    /// The defaults: commits are durable, memory is not bounded, ten minutes of the past are kept.
    pub fn new() -> Options {
        Options {
            durability: Durability::Sync,
            memory_bytes_max: usize::MAX,
            retention: RETENTION_DEFAULT,
            buffered_interval: BUFFERED_INTERVAL_DEFAULT,
            buffered_bytes: BUFFERED_BYTES_DEFAULT,
            checkpoint_log_bytes: CHECKPOINT_LOG_BYTES_DEFAULT,
            create: true,
            wal: WalOptions::default(),
            table: TableOptions::default(),
        }
    }

    /// What a commit has survived when it returns, unless the transaction says otherwise.
    pub fn durability(mut self, durability: Durability) -> Options {
        self.durability = durability;
        self
    }

    /// The memory that data may take, in bytes. Commits beyond it are refused with
    /// [`crate::Error::MemoryFull`]. In this version all data is held in memory.
    pub fn memory(mut self, bytes: usize) -> Options {
        self.memory_bytes_max = bytes;
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

    /// How long the log may get, in bytes, before a checkpoint is written.
    pub fn checkpoint_log_bytes(mut self, bytes: u64) -> Options {
        self.checkpoint_log_bytes = bytes;
        self
    }

    /// Whether a database is created where there is none. It is, unless told otherwise.
    pub fn create_if_missing(mut self, creates: bool) -> Options {
        self.create = creates;
        self
    }

    /// Lengths of the log's segments, in bytes: the first one, and the longest.
    pub fn segment_bytes(mut self, first: u64, longest: u64) -> Options {
        self.wal.segment_bytes_min = first;
        self.wal.segment_bytes_max = longest;
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

    pub(crate) fn engine(&self, environment: &Environment) -> EngineOptions {
        let mut random = env::SeededRandom::new(environment.seed);
        let mut new_id = [0; 16];
        new_id[..8].copy_from_slice(&random.next_u64().to_le_bytes());
        new_id[8..].copy_from_slice(&random.next_u64().to_le_bytes());
        EngineOptions {
            create: self.create,
            owner: format!("pid {}", std::process::id()),
            new_id,
            hash_seed: random.next_u64(),
            wal: self.wal.clone(),
            table: self.table.clone(),
        }
    }
}
