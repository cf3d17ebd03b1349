//! The writes a transaction has buffered, in key order, with savepoints.
//!
//! Nothing leaves this buffer before the commit, so rolling back is forgetting. A savepoint is a
//! position in an undo list; the list is only kept once there is a savepoint.
//!
//! Keys and values that the buffer copies lie behind each other in chunks: an allocation for each
//! would take longer than all else that is done to it here.

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use base::KeyRange;
use base::limits::TRANSACTION_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use storage::Value;

use crate::error::{Error, Result};
use crate::sorted::Sorted;

/// Numbers the savepoints of all transactions, so that none takes another's for its own.
static SAVEPOINTS: AtomicU64 = AtomicU64::new(1);

/// Length at which chunks stop growing, in bytes. Who keeps a key or value keeps its chunk.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Key and value that are longer together get allocations of their own, in bytes: these do not
/// show beside copying so much, and the ends of chunks would be wasted.
const CHUNKED_BYTES_MAX: usize = 4 << 10;

/// Buffered writes by engine key; `None` deletes.
#[derive(Default, Debug)]
pub struct WriteSet {
    writes: Sorted,
    /// What is left of the last chunk, and how long that was.
    chunk: BytesMut,
    chunk_bytes: usize,
    /// Bytes of all keys and values.
    bytes: usize,
    /// What each write since the first savepoint replaced, oldest first.
    undo: Vec<(Bytes, Option<Option<Bytes>>)>,
    /// The serial number and undo position of each live savepoint, oldest first.
    live: Vec<(u64, usize)>,
    /// One bit for each key: two sets without a common bit have no common key.
    signature: u64,
}

/// A mark in a transaction that it can be rolled back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint(u64);

impl WriteSet {
    /// Buffers a write.
    ///
    /// # Errors
    /// `TooLarge` if the transaction would exceed its limit; the buffer is as before then.
    pub fn write(&mut self, key: Bytes, value: Option<Bytes>) -> Result<()> {
        let value_bytes = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let place = self.writes.find(&key);
        let old = place.ok().map(|place| &self.writes.at(place).1);
        let replaced = old.map_or(0, |old| key.len() + value_bytes(old));
        let bytes = self.bytes - replaced + key.len() + value_bytes(&value);
        if bytes > TRANSACTION_BYTES_MAX {
            return Err(Error::TooLarge {
                what: "transaction",
                bytes,
                limit: TRANSACTION_BYTES_MAX,
                advice: "commit it in several transactions",
            });
        }
        if !self.live.is_empty() {
            self.undo.push((key.clone(), old.cloned()));
        }
        self.bytes = bytes;
        self.signature |= signature_of(&key);
        match place {
            Ok(place) => drop(self.writes.replace(place, value)),
            Err(place) => self.writes.insert(place, (key, value)),
        }
        Ok(())
    }

    /// Copies a key, which comes in two parts, and a value, to be buffered by
    /// [`WriteSet::write`].
    pub fn copy(&mut self, prefix: &[u8], key: &[u8], value: &[u8]) -> (Bytes, Bytes) {
        let bytes = prefix.len() + key.len() + value.len();
        // Most transactions have a single write.
        if bytes > CHUNKED_BYTES_MAX || self.is_empty() {
            return (Bytes::from([prefix, key].concat()), Bytes::copy_from_slice(value));
        }
        if self.chunk.capacity() < bytes {
            self.chunk_bytes = (2 * self.chunk_bytes).min(CHUNK_BYTES_MAX).max(4 * bytes);
            self.chunk = BytesMut::with_capacity(self.chunk_bytes);
        }
        self.chunk.extend_from_slice(prefix);
        self.chunk.extend_from_slice(key);
        let key = self.chunk.split().freeze();
        self.chunk.extend_from_slice(value);
        (key, self.chunk.split().freeze())
    }

    /// Returns the buffered write of a key: `None` if there is none, `Some(None)` if it deletes.
    pub fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        Some(&self.writes.at(self.writes.find(key).ok()?).1)
    }

    /// Returns true if the key was written.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.writes.find(key).is_ok()
    }

    /// Returns true if nothing was written.
    pub fn is_empty(&self) -> bool {
        self.writes.len() == 0
    }

    /// Returns the number of keys written.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Returns the bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns a word in which each written key has set one bit.
    pub fn signature(&self) -> u64 {
        self.signature
    }

    /// Returns the writes in key order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, Value<'_>)> + Clone {
        self.writes.iter().map(|(key, value)| (key, as_value(value)))
    }

    /// Returns the first write at or after (or after) a key that lies before `end`.
    pub fn first(
        &self,
        from: Bound<&[u8]>,
        end: Option<&[u8]>,
    ) -> Option<(&Bytes, &Option<Bytes>)> {
        let (key, value) = self.writes.first(from)?;
        end.is_none_or(|end| &key[..] < end).then_some((key, value))
    }

    /// Returns the last write before (or at) a key that lies at or after `start`.
    pub fn last(&self, start: &[u8], until: Bound<&[u8]>) -> Option<(&Bytes, &Option<Bytes>)> {
        let (key, value) = self.writes.last(until)?;
        (&key[..] >= start).then_some((key, value))
    }

    /// Returns a written key in the range, if there is one.
    pub fn key_in(&self, range: &KeyRange) -> Option<&Bytes> {
        self.first(Bound::Included(&range.start), range.end.as_deref()).map(|(key, _)| key)
    }

    /// Sets a mark to roll back to.
    pub fn savepoint(&mut self) -> Savepoint {
        let serial = SAVEPOINTS.fetch_add(1, Ordering::Relaxed);
        self.live.push((serial, self.undo.len()));
        Savepoint(serial)
    }

    /// Gives a savepoint up, and keeps the writes since.
    pub fn release(&mut self, savepoint: Savepoint) {
        self.live.retain(|(serial, _)| *serial != savepoint.0);
        if self.live.is_empty() {
            self.undo.clear();
        }
    }

    /// Returns true if what is written over is kept.
    #[cfg(all(test, not(shuttle)))]
    pub(crate) fn keeps_undo(&self) -> bool {
        !self.live.is_empty() || !self.undo.is_empty()
    }

    /// Forgets all writes since the savepoint; it stays, the later ones are gone.
    ///
    /// # Errors
    /// `NoSuchSavepoint` if it was rolled back over.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        let found = self.live.iter().position(|(serial, _)| *serial == savepoint.0);
        let position = found.ok_or(Error::NoSuchSavepoint)?;
        let (_, undo_len) = self.live[position];
        self.live.truncate(position + 1);
        let size = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        for (key, old) in self.undo.drain(undo_len..).rev() {
            let len = key.len();
            let place = self.writes.find(&key).expect("what may be undone was written");
            let replaced = match old {
                Some(old) => {
                    self.bytes += len + size(&old);
                    self.writes.replace(place, old)
                }
                None => self.writes.remove(place).1,
            };
            self.bytes -= len + size(&replaced);
        }
        // The signature may keep bits of forgotten keys: that costs a comparison, never an answer.
        Ok(())
    }
}

fn as_value(value: &Option<Bytes>) -> Value<'_> {
    value.as_ref().map_or(Value::Tombstone, |value| Value::Put(value))
}

/// Returns one of 64 bits for a key, by a multiplicative hash of its last bytes and length: keys
/// mostly differ at their end.
pub(crate) fn signature_of(key: &[u8]) -> u64 {
    let tail = &key[key.len().saturating_sub(8)..];
    let word = tail.iter().fold(key.len() as u64, |word, &byte| word << 8 | u64::from(byte));
    1 << (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn rolling_back_restores_values_sizes_and_absence() {
        let mut set = WriteSet::default();
        set.write(bytes("a"), Some(bytes("1"))).unwrap();
        let outer = set.savepoint();
        set.write(bytes("a"), Some(bytes("22"))).unwrap();
        set.write(bytes("b"), None).unwrap();
        let inner = set.savepoint();
        set.write(bytes("b"), Some(bytes("3"))).unwrap();
        set.write(bytes("b"), Some(bytes("4"))).unwrap();
        assert_eq!(set.bytes(), 5);

        set.rollback_to(inner).unwrap();
        assert_eq!((set.get(b"b"), set.bytes()), (Some(&None), 4));
        set.rollback_to(outer).unwrap();
        assert_eq!((set.get(b"a"), set.get(b"b"), set.bytes()), (Some(&Some(bytes("1"))), None, 2));
        assert!(matches!(set.rollback_to(inner), Err(Error::NoSuchSavepoint)));
        set.write(bytes("c"), None).unwrap();
        set.rollback_to(outer).unwrap();
        assert_eq!(set.len(), 1);
    }

    #[test]
    fn the_limit_refuses_the_write_that_would_exceed_it() {
        let mut set = WriteSet::default();
        let value = Bytes::from(vec![0; TRANSACTION_BYTES_MAX - 1]);
        set.write(bytes("k"), Some(value.clone())).unwrap();
        assert!(matches!(set.write(bytes("l"), None), Err(Error::TooLarge { .. })));
        assert_eq!((set.len(), set.bytes()), (1, TRANSACTION_BYTES_MAX));
        set.write(bytes("k"), Some(value)).unwrap();
    }
}
