//! What can go wrong on a disk, each with the file, and with what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The result of a storage operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A storage failure.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused a call.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: "open", "write", "sync".
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// There is no space left for the log; nothing of the refused write was kept.
    #[error("{}: the disk is full: free some space and try again; reads go on", path.display())]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// Bytes that were once durable are wrong.
    #[error(
        "{}: damaged at offset {offset}: {what}; restore a copy, or see what `holm repair` could \
         save",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// Another process has the directory open.
    #[error(
        "{}: the database is open in another process ({owner}): close that one first",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the lock file says of its owner.
        owner: String,
    },
    /// The directory holds no database.
    #[error("{}: this is not a Holm database: {what}", path.display())]
    NotADatabase {
        /// The directory.
        path: PathBuf,
        /// What is missing or foreign.
        what: String,
    },
    /// A newer program wrote the directory.
    #[error(
        "{}: format {found} is newer than this program knows (up to {known}): use a newer program",
        path.display()
    )]
    NewerFormat {
        /// The FORMAT file.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version this program reads.
        known: u32,
    },
    /// An earlier write or sync of the log failed: the database takes no more writes.
    #[error(
        "the log failed earlier ({cause}): no more writes are taken, reads go on; \
         check the disk, then close the database and open it again"
    )]
    LogFailed {
        /// What failed first.
        cause: String,
    },
}

impl Error {
    /// Wraps an I/O error with its file and what was tried.
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull { path },
            _ => Error::Io { path, action, source },
        }
    }

    /// Reports damage in a file.
    pub fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Error {
        Error::Damaged { path: path.to_path_buf(), offset, what: what.into() }
    }
}
