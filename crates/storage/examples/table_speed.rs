//! Measures how fast a table is written, scanned and read at random points.
//!
//! ```text
//! cargo run --release -p storage --example table_speed -- FOLDER [MILLIONS] [VALUE BYTES]
//! ```
//!
//! The file lies in the given folder and is removed at the end. Reads mostly come from the page
//! cache: what is measured is our work, unless the table is larger than the memory.

#![expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use base::{KeyRange, Timestamp};
use env::{Disk, OpenMode, RealDisk};
use storage::Value;
use storage::table::{Table, TableBuilder, TableOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: table_speed FOLDER [MILLIONS] [VALUE BYTES]")?;
    let millions: f64 = arguments.next().map_or(Ok(5.0), |text| text.parse())?;
    let value_bytes: usize = arguments.next().map_or(Ok(16), |text| text.parse())?;
    let entries = (millions * 1e6) as u64;
    let path = Path::new(&folder).join("table_speed.table");

    let summary = measure("build and sync", entries, || {
        let file = RealDisk.open(&path, OpenMode::CreateNew)?;
        let mut builder = TableBuilder::new(file, &path, TableOptions::default());
        let mut value = vec![0; value_bytes];
        for number in 0..entries {
            value.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            let ts = Timestamp::from_parts(1_700_000_000_000 + number % 100_000, number % 7);
            builder.add(&key(number), ts, Value::Put(&value))?;
        }
        Ok(builder.finish()?)
    })?;
    let table = Table::open(&RealDisk, &path)?;
    println!(
        "  {} bytes, {:.2} per entry, {} blocks in {} partitions",
        summary.bytes,
        summary.bytes as f64 / entries as f64,
        summary.properties.data_blocks,
        summary.properties.partitions
    );
    for name in ["scan", "scan again"] {
        measure(name, entries, || {
            let (mut scan, mut count) = (table.scan(KeyRange::all()), 0);
            while let Some(entry) = scan.next()? {
                count += u64::from(entry.value != Value::Tombstone);
            }
            assert_eq!(count, entries);
            Ok(())
        })?;
    }
    measure("scan in reverse", entries, || {
        let (mut scan, mut count) = (table.scan_reverse(KeyRange::all()), 0);
        while scan.next()?.is_some() {
            count += 1;
        }
        assert_eq!(count, entries);
        Ok(())
    })?;
    measure("verify", entries, || Ok(table.verify()?))?;
    let gets = entries.min(500_000);
    for (name, is_there) in [("get", true), ("get of a stranger", false)] {
        measure(name, gets, || {
            for step in 0..gets {
                let mut wanted = key(step.wrapping_mul(0x9e37_79b9_7f4a_7c15) % entries);
                if !is_there {
                    wanted.push(b'x');
                }
                assert_eq!(table.get(&wanted, Timestamp::MAX)?.is_some(), is_there);
            }
            Ok(())
        })?;
    }
    drop(table);
    RealDisk.remove(&path)?;
    Ok(())
}

fn key(number: u64) -> Vec<u8> {
    format!("user/{number:012}").into_bytes()
}

fn measure<T>(
    name: &str,
    count: u64,
    work: impl FnOnce() -> Result<T, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    let start = Instant::now();
    let result = work()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{name:>18}  {:8.3} s  {:7.2} M/s", seconds, count as f64 / seconds / 1e6);
    Ok(result)
}
