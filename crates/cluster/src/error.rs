//! Why a replica does not start.

use std::path::PathBuf;

use thiserror::Error;

/// A failure to open a replica.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk, or what is on it.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// What was found is no state that a replica can have left: its disk has forgotten or mixed up
    /// something, and it must not vote on it.
    #[error(
        "{}: this replica cannot go on: {what}; remove its directory, and add a new replica, \
         with a new id, in its place",
        path.display()
    )]
    Impossible {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// An option cannot be used.
    #[error("{0}")]
    Invalid(String),
}
