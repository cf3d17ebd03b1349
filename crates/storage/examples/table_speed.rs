//! Measures how fast a table is written, scanned and read at random points, with each compression,
//! with the page cache alone and with the block cache.
//!
//! ```text
//! cargo run --release -p storage --example table_speed -- FOLDER [MILLIONS] [VALUE BYTES]
//! ```
//!
//! The file lies in the given folder and is removed at the end. Keys have 16 bytes; half of each
//! value can be compressed. Reads without the block cache mostly come from the page cache: what is
//! measured is our work, unless the table is larger than the memory.

#![expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use base::{KeyRange, Timestamp};
use env::{Disk, OpenMode, RealDisk};
use storage::Value;
use storage::row_cache::RowCache;
use storage::table::{
    BlockCache, Compression, Table, TableBuilder, TableContext, TableOptions, key_hash,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: table_speed FOLDER [MILLIONS] [VALUE BYTES]")?;
    let millions: f64 = arguments.next().map_or(Ok(1.0), |text| text.parse())?;
    let value_bytes: usize = arguments.next().map_or(Ok(128), |text| text.parse())?;
    let entries = (millions * 1e6) as u64;
    let path = Path::new(&folder).join("table_speed.table");
    let mut keys: Vec<[u8; 16]> = (0..entries).map(key).collect();
    keys.sort_unstable();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        println!("{compression:?}");
        build(&path, &keys, compression, value_bytes)?;
        read(&path, &keys)?;
        RealDisk.remove(&path)?;
    }
    rows(&keys, value_bytes)
}

fn build(path: &Path, keys: &[[u8; 16]], compression: Compression, len: usize) -> Outcome<()> {
    let summary = measure("build and sync", keys.len(), || {
        let file = RealDisk.open(path, OpenMode::CreateNew)?;
        let options = TableOptions { compression, ..TableOptions::default() };
        let mut builder = TableBuilder::new(file, path, options);
        let text = b"what people and programs write repeats itself after some words, or soon after";
        let mut value = vec![0; len];
        for (number, key) in (0u64..).zip(keys) {
            let (noise, mut state) = (value.len() / 2, number);
            for byte in &mut value[..noise] {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            for (at, byte) in value[noise..].iter_mut().enumerate() {
                *byte = text[(at + number as usize % 13 * 5) % text.len()];
            }
            let ts = Timestamp::from_parts(1_700_000_000_000 + number % 100_000, number % 7);
            builder.add(key, ts, Value::Put(&value))?;
        }
        Ok(builder.finish()?)
    })?;
    println!(
        "  {} bytes, {:.2} per entry, {} blocks in {} partitions",
        summary.bytes,
        summary.bytes as f64 / keys.len() as f64,
        summary.properties.data_blocks,
        summary.properties.partitions
    );
    Ok(())
}

fn read(path: &Path, keys: &[[u8; 16]]) -> Outcome<()> {
    let plain = Table::open(&RealDisk, path)?;
    measure("scan", keys.len(), || scan(&plain, KeyRange::all(), keys.len()))?;
    measure("scan in reverse", keys.len(), || {
        let (mut scan, mut count) = (plain.scan_reverse(KeyRange::all()), 0);
        while scan.next()?.is_some() {
            count += 1;
        }
        assert_eq!(count, keys.len());
        Ok(())
    })?;
    measure("verify", keys.len(), || Ok(plain.verify()?))?;
    measure("get, no cache", keys.len() / 4, || get(&plain, keys, keys.len() / 4, true))?;
    for is_metadata_pinned in [true, false] {
        let cache = Arc::new(BlockCache::new(keys.len() * 512 + (64 << 20)));
        let cache = Some(cache);
        let context =
            TableContext { number: 1, cache, is_metadata_pinned, ..TableContext::default() };
        let table = Table::open_shared(&RealDisk, path, context.clone())?;
        println!("  filters and indexes {}", if is_metadata_pinned { "pinned" } else { "cached" });
        // Each block once, to have them all in the cache.
        get(&table, keys, keys.len(), true)?;
        let gets = 2 * keys.len();
        measure("get, cached", gets, || get(&table, keys, gets, true))?;
        measure("get, absent", gets, || get(&table, keys, gets, false))?;
        let range = KeyRange::from(&b"\0"[..]..);
        measure("scan, cached", keys.len(), || scan(&table, range, keys.len()))?;
        let cache = context.cache.map(|cache| cache.stats());
        println!("  {} bytes of metadata, {cache:?}", table.metadata_bytes());
    }
    Ok(())
}

fn scan(table: &Table, range: KeyRange, expected: usize) -> Outcome<()> {
    let (mut scan, mut count) = (table.scan(range), 0);
    while let Some(entry) = scan.next()? {
        count += usize::from(!entry.value.is_tombstone());
    }
    assert_eq!(count, expected);
    Ok(())
}

fn get(table: &Table, keys: &[[u8; 16]], gets: usize, is_there: bool) -> Outcome<()> {
    for step in 0..gets {
        let mut wanted = keys[step.wrapping_mul(0x9e37_79b9) % keys.len()];
        if !is_there {
            wanted[15] ^= 0x55;
        }
        let found = table.get(&wanted, key_hash(&wanted), Timestamp::MAX)?;
        assert_eq!(found.is_some(), is_there);
    }
    Ok(())
}

fn rows(keys: &[[u8; 16]], value_bytes: usize) -> Outcome<()> {
    let cache = RowCache::new(keys.len() * (value_bytes + 512));
    let (now, value) = (cache.generation(), vec![b'v'; value_bytes]);
    println!("row cache");
    measure("insert", keys.len(), || {
        for key in keys {
            let value = Value::Put(&value);
            assert!(cache.insert(now, key_hash(key), key, Timestamp::ZERO, value));
        }
        Ok(())
    })?;
    for (name, count) in [("get all", keys.len()), ("get a thousand", 1000)] {
        measure(name, 2 * keys.len(), || {
            for step in 0..2 * keys.len() {
                let key = &keys[step.wrapping_mul(0x9e37_79b9) % count.min(keys.len())];
                assert!(cache.get(key_hash(key), key, Timestamp::MAX).is_some());
            }
            Ok(())
        })?;
    }
    println!("  {:?}", cache.stats());
    measure("invalidate", keys.len(), || {
        drop(cache.invalidate(keys.iter().map(|key| &key[..])));
        Ok(())
    })?;
    Ok(())
}

/// Spreads the keys over all bytes, as hashes or random identifiers are.
fn key(number: u64) -> [u8; 16] {
    let mut state = u128::from(number) + 1;
    for _ in 0..3 {
        state = state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645);
        state ^= state >> 67;
    }
    state.to_be_bytes()
}

fn measure<T>(name: &str, count: usize, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let start = Instant::now();
    let result = work()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{name:>18}  {:8.3} s  {:7.2} M/s", seconds, count as f64 / seconds / 1e6);
    Ok(result)
}
