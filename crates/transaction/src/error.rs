//! What a transaction can meet, and what its caller should do next.

use std::fmt;
use std::sync::Arc;

use base::{KeyRange, KeyspaceId, Timestamp, text};
use bytes::Bytes;
use thiserror::Error;

/// The result of a database operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure. [`Error::is_retryable`] says whether running the transaction again can succeed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Another transaction committed first. Nothing of this one was kept.
    #[error("{0}")]
    Conflict(Box<Conflict>),
    /// Transactions waited for each other's locks, and this one was the youngest of them.
    #[error(
        "deadlock over {}: this transaction was the youngest of {parties} that waited for each \
         other and was rolled back; run it again",
        KeyName { keyspace, key }
    )]
    Deadlock {
        /// The keyspace of the key.
        keyspace: KeyspaceName,
        /// The key that this transaction waited for.
        key: Bytes,
        /// How many transactions stood in the circle.
        parties: usize,
    },
    /// The past that was asked for is no longer kept.
    #[error(
        "timestamp {asked} is older than what is kept (from {oldest}): read a later one, or open \
         the database with a longer retention"
    )]
    TooOld {
        /// What was asked for.
        asked: Timestamp,
        /// The oldest timestamp that can be read.
        oldest: Timestamp,
    },
    /// The timestamp that was asked for has not been reached.
    #[error("timestamp {asked} lies in the future: the newest commit is {newest}")]
    InTheFuture {
        /// What was asked for.
        asked: Timestamp,
        /// The newest timestamp that can be read.
        newest: Timestamp,
    },
    /// A key, value, transaction, name or label is longer than its limit. Nothing was written.
    #[error("the {what} has {bytes} bytes, {limit} are allowed: {advice}")]
    TooLarge {
        /// What is too large: "key", "value", "transaction".
        what: &'static str,
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
        /// What to do.
        advice: &'static str,
    },
    /// What was committed cannot be written to tables, and there is no memory left to wait for
    /// that. Nothing was written.
    #[error(
        "{used} of {budget} bytes of memory wait to be written to the disk, and it takes nothing \
         ({cause}): reads go on, and writes will once the disk does"
    )]
    MemoryFull {
        /// Bytes that wait.
        used: usize,
        /// The memory budget in bytes.
        budget: usize,
        /// Why they cannot be written.
        cause: String,
    },
    /// A write was tried in a read-only transaction.
    #[error("the transaction is read-only: begin one that may write")]
    ReadOnly,
    /// The transaction cannot go on: it was the victim of a conflict or deadlock before.
    #[error("the transaction failed before and can only be rolled back: begin a new one")]
    Finished,
    /// A value is not what the operation needs.
    #[error("{}: {what}", KeyName { keyspace, key })]
    WrongValue {
        /// The keyspace of the key.
        keyspace: KeyspaceName,
        /// The key.
        key: Bytes,
        /// What was found and what was needed.
        what: String,
    },
    /// A bulk load found rows where it was going to put its own. Nothing was loaded.
    #[error(
        "{} is in the range of the bulk load, which fills empty ranges only: delete what is there, \
         load into another keyspace, or write the rows in transactions",
        KeyName { keyspace, key }
    )]
    NotEmpty {
        /// The keyspace of the key.
        keyspace: KeyspaceName,
        /// The first key that is there.
        key: Bytes,
    },
    /// A name cannot be used for a keyspace.
    #[error("{name:?} cannot name a keyspace: {what}")]
    BadKeyspaceName {
        /// The name.
        name: String,
        /// Why not.
        what: &'static str,
    },
    /// A savepoint of another transaction, or one that was rolled back over.
    #[error("this savepoint is gone: it was rolled back over, or belongs to another transaction")]
    NoSuchSavepoint,
    /// `transact` gave up.
    #[error("gave up after {attempts} attempts; the last one: {last}")]
    AttemptsExhausted {
        /// How often the closure ran.
        attempts: u32,
        /// What the last attempt met.
        last: Box<Error>,
    },
    /// The program's own reason to roll back, from inside `transact`.
    #[error("{0}")]
    Aborted(Arc<dyn std::error::Error + Send + Sync>),
    /// An argument or option cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The disk or what is on it.
    #[error(transparent)]
    Storage(Arc<storage::Error>),
}

impl Error {
    /// Wraps the program's own reason to roll back a transaction.
    pub fn abort(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Aborted(Arc::from(reason.into()))
    }

    /// Returns true if nothing was written and the same transaction, run again from its start, may
    /// succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Error::Conflict(_) | Error::Deadlock { .. })
    }

    /// Fills in what the keyspaces are called.
    pub fn with_names(mut self, name_of: impl Fn(KeyspaceId) -> Option<Arc<str>>) -> Error {
        let keyspace = match &mut self {
            Error::Conflict(conflict) => &mut conflict.keyspace,
            Error::Deadlock { keyspace, .. }
            | Error::WrongValue { keyspace, .. }
            | Error::NotEmpty { keyspace, .. } => keyspace,
            _ => return self,
        };
        keyspace.name = keyspace.name.take().or_else(|| name_of(keyspace.id));
        self
    }

    /// Returns the conflict, if this is one.
    pub fn as_conflict(&self) -> Option<&Conflict> {
        match self {
            Error::Conflict(conflict) => Some(conflict),
            Error::AttemptsExhausted { last, .. } => last.as_conflict(),
            _ => None,
        }
    }

    /// Returns the storage failure, if this is one.
    pub fn as_storage(&self) -> Option<&storage::Error> {
        match self {
            Error::Storage(error) => Some(error),
            _ => None,
        }
    }
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Error {
        Error::Storage(Arc::new(error))
    }
}

/// A keyspace as errors show it: by its name, or by its number where the name is not known.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyspaceName {
    /// The number.
    pub id: KeyspaceId,
    /// The name.
    pub name: Option<Arc<str>>,
}

impl fmt::Display for KeyspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "keyspace {}", self.id.0),
        }
    }
}

impl fmt::Debug for KeyspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Longest key shown in a message, in characters: enough to recognise it on one line.
const SHOWN_CHARS_MAX: usize = 60;

struct KeyName<'a> {
    keyspace: &'a KeyspaceName,
    key: &'a Bytes,
}

impl fmt::Display for KeyName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.keyspace, text::escape_short(self.key, SHOWN_CHARS_MAX))
    }
}

/// Why a transaction could not commit, and who stood in its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// The keyspace of the key.
    pub keyspace: KeyspaceName,
    /// The key that the winner wrote.
    pub key: Bytes,
    /// What this transaction had done with it.
    pub touched: Touched,
    /// The winner's label, if it had one and is recent enough to be remembered.
    pub winner: Option<Arc<str>>,
    /// The winner's commit timestamp.
    pub winner_ts: Timestamp,
    /// This transaction's read timestamp.
    pub read_ts: Timestamp,
}

/// What the losing transaction had done with the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Touched {
    /// It wrote the key.
    Wrote,
    /// It read the key.
    Read,
    /// It scanned a range that the key lies in (of the keyspace's keys).
    Scanned(KeyRange),
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conflict { keyspace, key, touched, winner, winner_ts, read_ts } = self;
        write!(f, "conflict on {}: ", KeyName { keyspace, key })?;
        match touched {
            Touched::Wrote => write!(f, "written here and by ")?,
            Touched::Read => write!(f, "read here and written by ")?,
            Touched::Scanned(range) => write!(f, "in the range {range} scanned here, written by ")?,
        }
        match winner {
            Some(label) => write!(f, "transaction {label:?}")?,
            None => write!(f, "another transaction")?,
        }
        write!(f, " at {winner_ts}, after this one began reading at {read_ts}; run it again")
    }
}
