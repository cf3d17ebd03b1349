//! Limit: a sharded hash map in memory. What point operations cost when nothing is kept, nothing
//! is ordered and nobody asks for a snapshot; a transactional store cannot beat it and shows how
//! near it comes.
//!
//! Durability: none whatever is asked. Scans sort a copy, so that the tests can hold this store to
//! the same answers as the others; they are never timed.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::peer::{Peer, Role};
use crate::random::mix;
use crate::records::KEY_BYTES;
use crate::store::{Change, Reader, Result, Row, Session, Setup, Store};

pub(crate) const PEER: Peer = Peer {
    name: "hash map",
    role: Role::MemoryLimit,
    settings: "64 shards of RwLock<HashMap>, not durable, not ordered",
    open,
};

/// Many more than threads, so that two rarely meet; few enough to walk for a scan.
const SHARDS: usize = 64;

/// Keys stand in the table itself: one cache miss less than behind a pointer.
type Key = [u8; KEY_BYTES];
type Shard = HashMap<Key, Vec<u8>, BuildHasherDefault<KeyHasher>>;

/// Keys are random already; eight of their bytes mixed once spread them.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.0 = self.0.rotate_left(23) ^ u64::from_le_bytes(word);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        mix(self.0)
    }
}

struct Map {
    shards: Vec<RwLock<Shard>>,
}

fn open(_setup: &Setup<'_>) -> Result<Box<dyn Store>> {
    Ok(Box::new(Map { shards: (0..SHARDS).map(|_| RwLock::default()).collect() }))
}

impl Map {
    fn shard(&self, key: &[u8]) -> &RwLock<Shard> {
        // The first byte of a key is as good as a hash, see `records::key`.
        &self.shards[key.first().map_or(0, |&byte| usize::from(byte) % SHARDS)]
    }

    fn read(&self, key: &[u8]) -> RwLockReadGuard<'_, Shard> {
        self.shard(key).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &[u8]) -> RwLockWriteGuard<'_, Shard> {
        self.shard(key).write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Map {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Session for &Map {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(key).insert(key.try_into()?, value.to_vec());
        Ok(())
    }

    fn write_batch(&mut self, rows: &[(&[u8], &[u8])]) -> Result<()> {
        rows.iter().try_for_each(|&(key, value)| self.put(key, value))
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.write(key).remove(key);
        Ok(())
    }

    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let shard = self.read(key);
        let found = shard.get(key);
        if let Some(found) = found {
            value.clear();
            value.extend_from_slice(found);
        }
        Ok(found.is_some())
    }

    fn reader(&mut self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(MapReader(self)))
    }

    fn scan(&mut self, from: &[u8], limit: usize, row: Row<'_>) -> Result<usize> {
        let mut rows: Vec<(Key, Vec<u8>)> = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let after = shard.iter().filter(|(key, _)| key.as_slice() >= from);
            rows.extend(after.map(|(key, value)| (*key, value.clone())));
        }
        rows.sort_unstable();
        rows.truncate(limit);
        rows.iter().for_each(|(key, value)| row(key, value));
        Ok(rows.len())
    }

    fn read_modify_write(&mut self, key: &[u8], change: Change<'_>) -> Result<u64> {
        let mut shard = self.write(key);
        let mut new = Vec::new();
        change(shard.get(key).map(Vec::as_slice), &mut new);
        shard.insert(key.try_into()?, new);
        Ok(0)
    }
}

struct MapReader<'a>(&'a Map);

impl Reader for MapReader<'_> {
    fn get(&mut self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let mut map = self.0;
        Session::get(&mut map, key, value)
    }
}
