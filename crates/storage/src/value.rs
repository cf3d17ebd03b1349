//! What one version of a key holds.

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
