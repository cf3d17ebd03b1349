//! YCSB's six core workloads, each operation a transaction where the store has them.
//!
//! | | reads | writes | of which records |
//! |---|---|---|---|
//! | A | 50 % | 50 % updates | zipfian |
//! | B | 95 % | 5 % updates | zipfian |
//! | C | 100 % | none | zipfian |
//! | D | 95 % | 5 % inserts | the latest, zipfian from the newest |
//! | E | 95 % scans of 1 to 100 rows | 5 % inserts | zipfian |
//! | F | 50 % | 50 % read-modify-writes | zipfian |
//!
//! An update writes the whole value. YCSB scatters popular records over the keys by hashing; keys
//! here are hashes already. Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", 2010.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cell::SCAN_ROWS;
use crate::lane::Done;
use crate::random::{Random, Zipfian};
use crate::records::{Values, count_up, key};
use crate::store::{Result, Session};

/// What a workload of YCSB is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    HalfUpdates,
    FewUpdates,
    OnlyReads,
    Latest,
    Scans,
    ReadModifyWrite,
}

impl Mix {
    pub(crate) const ALL: [Mix; 6] = [
        Mix::HalfUpdates,
        Mix::FewUpdates,
        Mix::OnlyReads,
        Mix::Latest,
        Mix::Scans,
        Mix::ReadModifyWrite,
    ];

    pub(crate) fn letter(self) -> char {
        match self {
            Mix::HalfUpdates => 'a',
            Mix::FewUpdates => 'b',
            Mix::OnlyReads => 'c',
            Mix::Latest => 'd',
            Mix::Scans => 'e',
            Mix::ReadModifyWrite => 'f',
        }
    }

    pub(crate) fn description(self) -> &'static str {
        match self {
            Mix::HalfUpdates => "YCSB A: half reads, half updates",
            Mix::FewUpdates => "YCSB B: 95 % reads, 5 % updates",
            Mix::OnlyReads => "YCSB C: reads",
            Mix::Latest => "YCSB D: 95 % reads of the latest records, 5 % inserts",
            Mix::Scans => "YCSB E: 95 % scans of up to 100 rows, 5 % inserts",
            Mix::ReadModifyWrite => "YCSB F: half reads, half read-modify-writes",
        }
    }

    /// The share of operations that write.
    fn writes(self) -> f64 {
        match self {
            Mix::HalfUpdates | Mix::ReadModifyWrite => 0.5,
            Mix::FewUpdates | Mix::Latest | Mix::Scans => 0.05,
            Mix::OnlyReads => 0.0,
        }
    }
}

/// What the threads of a cell share.
pub(crate) struct Ycsb<'a> {
    mix: Mix,
    zipfian: &'a Zipfian,
    records: u64,
    /// The number of the next record to insert.
    next: AtomicU64,
}

impl<'a> Ycsb<'a> {
    pub(crate) fn new(mix: Mix, zipfian: &'a Zipfian, records: u64) -> Ycsb<'a> {
        Ycsb { mix, zipfian, records, next: AtomicU64::new(records) }
    }

    /// Does one operation.
    pub(crate) fn operate(
        &self,
        session: &mut dyn Session,
        random: &mut Random,
        values: &mut Values,
        value: &mut Vec<u8>,
    ) -> Result<Done> {
        let writes = random.unit() < self.mix.writes();
        let row_bytes = values.row_bytes();
        match (self.mix, writes) {
            (Mix::HalfUpdates | Mix::FewUpdates | Mix::OnlyReads, true) => {
                session.put(&key(self.zipfian.rank(random)), values.next())?;
                Ok(Done::wrote(row_bytes))
            }
            (Mix::Latest | Mix::Scans, true) => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                session.put(&key(number), values.next())?;
                Ok(Done::wrote(row_bytes))
            }
            (Mix::ReadModifyWrite, true) => {
                let key = key(self.zipfian.rank(random));
                let aborts = session.read_modify_write(&key, &mut count_up)?;
                Ok(Done { ops: 1, aborts, bytes: row_bytes })
            }
            (Mix::Scans, false) => {
                let (from, rows) = (self.zipfian.rank(random), random.below(SCAN_ROWS as u64) + 1);
                session.scan(&key(from), rows as usize, &mut |_, _| ())?;
                Ok(Done::READ)
            }
            (Mix::Latest, false) => {
                let newest = self.next.load(Ordering::Relaxed) - 1;
                let number = newest.saturating_sub(self.zipfian.rank(random));
                // Another thread may not have committed the newest yet.
                let found = session.get(&key(number), value)? || number >= self.records;
                if found { Ok(Done::READ) } else { Err("a loaded key was not found".into()) }
            }
            (_, false) => {
                if session.get(&key(self.zipfian.rank(random)), value)? {
                    Ok(Done::READ)
                } else {
                    Err("a loaded key was not found".into())
                }
            }
        }
    }
}
