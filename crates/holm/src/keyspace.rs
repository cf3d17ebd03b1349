//! Named keyspaces: each a map of its own from keys to values, all in the same transactions.

use std::fmt;
use std::sync::Arc;

use base::key::PREFIX_BYTES;
use base::limits::KEYSPACE_NAME_BYTES_MAX;
use base::range::prefix_end;
use base::{KeyRange, KeyspaceId};
use bytes::Bytes;
use storage::version::Style;
use transaction::{Error, Result};

/// A keyspace of an open database. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyspace {
    pub(crate) id: KeyspaceId,
    pub(crate) name: Arc<str>,
}

impl Keyspace {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn key(&self, user_key: &[u8]) -> Bytes {
        Bytes::from(self.id.encode(user_key))
    }

    pub(crate) fn range(&self, range: &KeyRange) -> KeyRange {
        let end = match &range.end {
            Some(end) => Some(self.id.encode(end)),
            None => prefix_end(&self.id.prefix()),
        };
        KeyRange { start: self.key(&range.start), end: end.map(Bytes::from) }
    }
}

/// What a keyspace is made like. What exists already stays as it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyspaceOptions {
    pub(crate) style: Style,
}

impl KeyspaceOptions {
    /// The defaults: compacted in levels, in one tree with all other keyspaces.
    pub fn new() -> KeyspaceOptions {
        KeyspaceOptions::default()
    }

    /// Gives it a tree of its own that merges tables of similar size: a row that is written once is
    /// merged fewer times, and one that is overwritten takes more space until its versions meet.
    /// For what is added to and seldom read or changed: events, logs, measurements.
    pub fn tiered(mut self) -> KeyspaceOptions {
        self.style = Style::Tiered;
        self
    }
}

/// Bytes in front of each key that name the keyspace.
pub(crate) const HIDDEN: usize = PREFIX_BYTES;

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyspace({})", self.name)
    }
}

/// Checks a keyspace's name: printable, without what would make it hard to write in a command.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let bad = |what| Err(Error::BadKeyspaceName { name: name.to_string(), what });
    if name.is_empty() {
        return bad("it is empty");
    }
    if name.len() > KEYSPACE_NAME_BYTES_MAX {
        return bad("it has more than 255 bytes");
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace() || c == '/') {
        return bad("it has a space, a slash or a control character in it");
    }
    Ok(())
}
