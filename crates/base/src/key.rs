//! How a user's key becomes a key of the storage engine.
//!
//! ```text
//!  0    1                5
//!  +----+----------------+--------- - -
//!  | 03 | keyspace (BE)  | user key            data: versioned
//!  +----+----------------+--------- - -
//! ```
//!
//! The first byte is the kind of key: `01` (state of a shard) and `02` (transaction records) are
//! reserved for the cluster, `03` is data. The keyspace is big-endian so that one keyspace is one
//! contiguous range. Nothing is escaped: the prefix has a fixed width and the user key comes last.

/// Kind byte of versioned data.
const DATA: u8 = 3;

/// Bytes in front of the user key.
pub const PREFIX_BYTES: usize = 5;

/// The number of a keyspace inside one database. Names map to numbers in the catalogue, which
/// itself is data in keyspace [`KeyspaceId::CATALOGUE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyspaceId(pub u32);

impl KeyspaceId {
    /// Holds the names of all other keyspaces.
    pub const CATALOGUE: KeyspaceId = KeyspaceId(0);

    /// Returns the five bytes that begin each key of this keyspace.
    pub fn prefix(self) -> [u8; PREFIX_BYTES] {
        let [a, b, c, d] = self.0.to_be_bytes();
        [DATA, a, b, c, d]
    }

    /// Returns the engine's key for a user key.
    pub fn encode(self, user_key: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(PREFIX_BYTES + user_key.len());
        key.extend_from_slice(&self.prefix());
        key.extend_from_slice(user_key);
        key
    }
}

/// Splits an engine key into its keyspace and the user key; `None` if it is not a data key.
pub fn decode(key: &[u8]) -> Option<(KeyspaceId, &[u8])> {
    let (&[kind, a, b, c, d], user_key) = key.split_first_chunk::<PREFIX_BYTES>()?;
    (kind == DATA).then_some((KeyspaceId(u32::from_be_bytes([a, b, c, d])), user_key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyspaces_sort_by_number_and_do_not_touch() {
        let low = KeyspaceId(1).encode(&[0xff; 9]);
        let high = KeyspaceId(256).encode(b"");
        assert!(low < high);
        assert_eq!(decode(&low), Some((KeyspaceId(1), &[0xff; 9][..])));
        assert_eq!(decode(&high), Some((KeyspaceId(256), &b""[..])));
        assert_eq!(decode(b"\x02abcdef"), None);
        assert_eq!(decode(b"\x03ab"), None);
    }
}
