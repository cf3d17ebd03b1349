//! A sorted run: disjoint tables in the order of their keys, and the search for the one in which a
//! key lies.
//!
//! The search does not follow a pointer per table: the eight bytes of each table's last key that
//! follow the prefix they all share stand in one array.

use std::sync::Arc;

use base::KeyRange;

use super::LiveTable;
use crate::table::common_prefix;

/// Disjoint tables in the order of their keys. Clones share them.
#[derive(Clone)]
pub struct Run {
    inner: Arc<Inner>,
}

struct Inner {
    tables: Box<[Arc<LiveTable>]>,
    /// What all last keys begin with.
    prefix: Box<[u8]>,
    /// Of each table, what follows the prefix in its last key, as a number that sorts as the bytes
    /// do. Equal numbers say nothing.
    fences: Box<[u64]>,
}

impl Run {
    pub(crate) fn new(tables: Vec<Arc<LiveTable>>) -> Run {
        let prefix: &[u8] = match (tables.first(), tables.last()) {
            (Some(first), Some(last)) => {
                let key = first.meta.last_key();
                &key[..common_prefix(key, last.meta.last_key())]
            }
            _ => &[],
        };
        let prefix: Box<[u8]> = prefix.into();
        let fences =
            tables.iter().map(|table| fence(&table.meta.last_key()[prefix.len()..])).collect();
        Run { inner: Arc::new(Inner { tables: tables.into(), prefix, fences }) }
    }

    /// Returns the tables in the order of their keys.
    pub fn tables(&self) -> &[Arc<LiveTable>] {
        &self.inner.tables
    }

    /// Returns the length of all files.
    pub fn bytes(&self) -> u64 {
        self.tables().iter().map(|table| table.meta.bytes).sum()
    }

    /// Returns the number of the first table that does not end before a key; that is the number of
    /// tables if there is none.
    #[inline]
    pub fn position_of(&self, key: &[u8]) -> usize {
        let Inner { tables, prefix, fences } = &*self.inner;
        let len = prefix.len().min(key.len());
        let (start, end) = match key[..len].cmp(&prefix[..len]) {
            std::cmp::Ordering::Less => return 0,
            std::cmp::Ordering::Greater => return tables.len(),
            std::cmp::Ordering::Equal => {
                let wanted = fence(&key[len..]);
                let start = fences.partition_point(|&fence| fence < wanted);
                let same = fences[start..].partition_point(|&fence| fence == wanted);
                (start, start + same)
            }
        };
        start + tables[start..end].partition_point(|table| &table.meta.last_key()[..] < key)
    }

    /// Returns the table between whose ends a key lies.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<&Arc<LiveTable>> {
        let table = self.inner.tables.get(self.position_of(key))?;
        (&table.meta.first_key()[..] <= key).then_some(table)
    }

    /// Returns the tables that may have keys in a range.
    pub fn overlapping(&self, range: &KeyRange) -> &[Arc<LiveTable>] {
        let tables = &self.tables()[self.position_of(&range.start)..];
        let end = match &range.end {
            None => tables.len(),
            Some(end) => tables.partition_point(|table| table.meta.first_key() < end),
        };
        &tables[..end]
    }

    pub(crate) fn check_invariants(&self) -> Result<(), String> {
        for pair in self.tables().windows(2) {
            if pair[0].meta.last_key() >= pair[1].meta.first_key() {
                return Err(format!("{} and {} overlap", pair[0].meta, pair[1].meta));
            }
        }
        Ok(())
    }
}

/// Returns the first eight bytes as a number; missing ones are zero.
fn fence(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = key.len().min(8);
    bytes[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(bytes)
}
