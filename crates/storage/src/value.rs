//! What one version of a key holds.

use crate::values::{HANDLE_BYTES_MAX, ValueHandle};

/// The content of a version: a value, or the mark that the key was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// The key has this value from the version's timestamp on.
    Put(&'a [u8]),
    /// The key is absent from the version's timestamp on.
    Tombstone,
}

impl<'a> Value<'a> {
    /// Returns the value; `None` for a tombstone.
    pub fn as_put(self) -> Option<&'a [u8]> {
        match self {
            Value::Put(bytes) => Some(bytes),
            Value::Tombstone => None,
        }
    }
}

/// The content of a version as tables have it: the value itself, or where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stored<'a> {
    /// The key has this value from the version's timestamp on.
    Put(&'a [u8]),
    /// The key has a value from the version's timestamp on, which lies in a value file.
    Apart(ValueHandle),
    /// The key is absent from the version's timestamp on.
    Tombstone,
}

impl<'a> Stored<'a> {
    /// Returns the value if it lies here; `None` if it lies apart, and for a tombstone.
    #[inline]
    pub fn as_inline(self) -> Option<&'a [u8]> {
        match self {
            Stored::Put(bytes) => Some(bytes),
            Stored::Apart(_) | Stored::Tombstone => None,
        }
    }

    /// Returns true for the mark that the key was deleted.
    #[inline]
    pub fn is_tombstone(self) -> bool {
        self == Stored::Tombstone
    }

    /// Returns the bytes that this adds to its entry, about: of a value that lies apart, those of
    /// its handle.
    #[inline]
    pub fn inline_bytes(self) -> usize {
        match self {
            Stored::Put(bytes) => bytes.len(),
            Stored::Apart(_) => HANDLE_BYTES_MAX / 2,
            Stored::Tombstone => 0,
        }
    }
}

impl<'a> From<Value<'a>> for Stored<'a> {
    #[inline]
    fn from(value: Value<'a>) -> Stored<'a> {
        match value {
            Value::Put(bytes) => Stored::Put(bytes),
            Value::Tombstone => Stored::Tombstone,
        }
    }
}
