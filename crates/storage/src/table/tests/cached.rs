//! What goes into the block cache, what does not, and what is counted.

use base::KeyRange;

use super::*;

const ROWS: u64 = 20_000;

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn large(disk: &SimDisk) -> TableSummary {
    let entry = |number: u64| ((key(number).to_vec(), !7), Some(vec![b'v'; 100]));
    let options = TableOptions { compression: Compression::None, ..TableOptions::default() };
    build(disk, &(0..ROWS).map(entry).collect(), options)
}

/// Returns the reads that some work takes.
fn reads(context: &TableContext, work: impl FnOnce()) -> u64 {
    let before = context.stats.counts().reads;
    work();
    context.stats.counts().reads - before
}

fn found(table: &Table, number: u64) -> bool {
    get(table, &key(number), Timestamp::MAX).unwrap().is_some()
}

#[test]
fn a_read_that_is_repeated_needs_no_disk() {
    let disk = SimDisk::new();
    large(&disk);
    let (table, context) = open_cached(&disk, 8 << 20);
    assert_eq!(reads(&context, || assert!(found(&table, 9_000))), 2);
    assert_eq!(reads(&context, || assert!(found(&table, 9_000))), 0);
    assert!(reads(&context, || (0..ROWS).for_each(|n| assert!(found(&table, n)))) > 500);
    assert_eq!(reads(&context, || (0..ROWS).for_each(|n| assert!(found(&table, n)))), 0);
    let stats = context.cache.as_ref().unwrap().stats();
    assert!(stats.bytes > 2_400_000 && stats.bytes < 2_700_000, "{stats:?}");
    assert!(stats.hits > 4 * ROWS - 2_000 && stats.misses < 1_000, "{stats:?}");
}

#[test]
fn metadata_that_is_pinned_is_not_in_the_cache() {
    let disk = SimDisk::new();
    let summary = large(&disk);
    let (table, context) = open_cached(&disk, 8 << 20);
    let without = table.metadata_bytes();
    assert_eq!(reads(&context, || table.pin_metadata().unwrap()), summary.properties.partitions);
    assert_eq!(context.cache.as_ref().unwrap().stats().entries, 0);
    // A filter of ten bits for each key, and what the index holds of each block.
    let pinned = (table.metadata_bytes() - without) as u64;
    let expected = ROWS * 10 / 8 + 44 * summary.properties.data_blocks;
    assert!(pinned > expected * 9 / 10 && pinned < expected * 11 / 10, "{pinned}, not {expected}");
    // A cold read is one read of the disk.
    assert_eq!(reads(&context, || assert!(found(&table, 9_000))), 1);

    let context = TableContext { is_metadata_pinned: true, ..context };
    context.cache.as_ref().unwrap().set_capacity(0);
    let table = Table::open_shared(&disk, Path::new(PATH), context.clone()).unwrap();
    assert_eq!(reads(&context, || assert!(found(&table, 9_000))), 2);
    assert_eq!(reads(&context, || assert!(found(&table, 9_000))), 1);
}

#[test]
fn filters_are_counted() {
    let disk = SimDisk::new();
    large(&disk);
    let (table, context) = open_cached(&disk, 8 << 20);
    (0..1000).for_each(|number| assert!(found(&table, number)));
    let absent = (0..1000).map(|number| [&key(number)[..], b"x"].concat());
    assert!(absent.into_iter().all(|key| get(&table, &key, Timestamp::MAX).unwrap().is_none()));
    let counts = context.stats.counts();
    assert_eq!(counts.filter_positives + counts.filter_negatives, 2000);
    assert_eq!(counts.filter_positives, 1000 + counts.filter_false_positives);
    assert!(counts.filter_false_positives < 40, "{counts:?}");
}

#[test]
fn a_long_scan_goes_around_the_cache_and_a_short_one_stays() {
    let disk = SimDisk::new();
    large(&disk);
    let (table, context) = open_cached(&disk, 8 << 20);
    let cache = context.cache.clone().unwrap();
    let scan = |table: &Table, range: KeyRange| {
        let (mut scan, mut count) = (table.scan(range), 0);
        while scan.next().unwrap().is_some() {
            count += 1;
        }
        count
    };
    assert_eq!(scan(&table, KeyRange::all()), ROWS);
    assert_eq!(cache.stats().entries, 0);
    // All but the first row: a scan that does not know how long it will be.
    assert_eq!(scan(&table, KeyRange::from(&key(1)[..]..)), ROWS - 1);
    assert!(cache.stats().entries <= 24 + 1, "{:?}", cache.stats());
    let range = KeyRange::new(key(5_000).to_vec(), key(5_100).to_vec());
    assert!(reads(&context, || assert_eq!(scan(&table, range.clone()), 100)) > 1);
    assert_eq!(reads(&context, || assert_eq!(scan(&table, range.clone()), 100)), 0);
    let mut cursor = table.sequential_cursor();
    assert!(reads(&context, || assert!(cursor.seek_first().unwrap())) > 0);
}

#[test]
fn damage_is_not_cached() {
    let disk = SimDisk::new();
    large(&disk);
    let (table, _) = open_cached(&disk, 8 << 20);
    disk.flip_bit(PATH, 100, 3).unwrap();
    assert!(get(&table, &key(0), Timestamp::MAX).is_err());
    assert!(get(&table, &key(0), Timestamp::MAX).is_err());
    disk.flip_bit(PATH, 100, 3).unwrap();
    assert!(found(&table, 0));
}
