//! Measures walks over visible rows: one large run and three small ones, in memory.
//!
//! `cargo run --release -p storage --example scan_speed`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use base::{KeyRange, Timestamp};
use env::{Disk, OpenMode, SimDisk};
use storage::Value;
use storage::iterator::{Cursor, Merge, VisibleRows};
use storage::manifest::{Edit, TableMeta};
use storage::table::{Table, TableBuilder, TableOptions};
use storage::version::{Graveyard, Opened, Version};

const ROWS: u64 = 1_000_000;

/// Writes every so-manieth key as a table.
fn table(disk: &SimDisk, number: u64, every: u64, level: u8) -> TableMeta {
    let path = PathBuf::from(format!("{number}"));
    let file = disk.open(&path, OpenMode::CreateNew).expect("the disk is in memory");
    let mut builder = TableBuilder::new(file, &path, TableOptions::default());
    for key in (0..ROWS).step_by(every as usize) {
        let key = format!("{key:016}");
        let added = builder.add(key.as_bytes(), Timestamp::from_raw(number), Value::Put(&[7; 128]));
        added.expect("the disk is in memory");
    }
    TableMeta::new(number, level, &builder.finish().expect("the disk is in memory"))
}

#[expect(clippy::disallowed_methods, reason = "this measures time")]
fn main() {
    let disk = SimDisk::new();
    let added = vec![
        table(&disk, 1, 1, 6),
        table(&disk, 2, 41, 0),
        table(&disk, 3, 43, 0),
        table(&disk, 4, 47, 0),
    ];
    let open = |meta: &TableMeta| {
        let table = Table::open(&disk, &PathBuf::from(format!("{}", meta.number)));
        (meta.number, table.expect("it was just written"))
    };
    let opened = Opened { tables: added.iter().map(open).collect(), ..Opened::default() };
    let edit = Edit { added, ..Edit::default() };
    let version = Version::empty(Arc::new(Graveyard::default())).apply(&edit, opened);
    let cursors = || version.cursors(&KeyRange::all(), Timestamp::MAX);
    let print = |what: &str, rows: u64, since: Instant| {
        println!("{what:32} {:6.1} M/s", rows as f64 / since.elapsed().as_secs_f64() / 1e6);
    };
    for _ in 0..3 {
        let since = Instant::now();
        let mut cursor = cursors().pop().expect("there are runs");
        let mut entries = u64::from(cursor.seek_first().expect("sound"));
        while cursor.next().expect("sound") {
            entries += 1;
        }
        print("entries of the large run", entries, since);

        let since = Instant::now();
        let mut cursor = Merge::new(cursors());
        let mut entries = u64::from(cursor.seek_first().expect("sound"));
        while cursor.next().expect("sound") {
            entries += 1;
        }
        print("entries of a merge of four", entries, since);

        let since = Instant::now();
        let mut rows = VisibleRows::new(Merge::new(cursors()), Timestamp::MAX);
        let mut count = u64::from(rows.seek_first().expect("sound"));
        while rows.next().expect("sound") {
            count += 1;
        }
        print("visible rows", count, since);

        let since = Instant::now();
        let mut rows = VisibleRows::new(Merge::new(cursors()), Timestamp::MAX);
        let mut count = u64::from(rows.seek_last().expect("sound"));
        while rows.prev().expect("sound") {
            count += 1;
        }
        print("visible rows, backwards", count, since);

        let since = Instant::now();
        let mut rows = VisibleRows::new(Merge::new(cursors()), Timestamp::MAX);
        let mut key = 1u64;
        for _ in 0..20_000 {
            key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            rows.seek(format!("{:016}", (key >> 32) % ROWS).as_bytes()).expect("sound");
        }
        print("seeks", 20_000, since);
    }
}
