//! Whatever is put into a table, however it is laid out, comes out of it.

use base::{KeyRange, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::Error;
use crate::table::TableCursor;

/// Keys that share prefixes, follow each other directly, and touch the ends of the byte range.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), Just(b'c'), Just(0xfe), Just(0xff)];
    let short = prop::collection::vec(byte, 0..5);
    prop_oneof![
        4 => short,
        1 => (0..200u32).prop_map(|number| format!("user/{number:08}/name").into_bytes()),
    ]
}

fn timestamps() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 1..8u64, 1 => Just(0), 1 => Just(u64::MAX)]
}

fn values() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        1 => Just(None),
        4 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Some),
        1 => (0..300usize).prop_map(|len| Some(vec![b'v'; len])),
    ]
}

fn models() -> impl Strategy<Value = Model> {
    let position = (keys(), timestamps().prop_map(|ts| !ts));
    prop::collection::btree_map(position, values(), 0..120)
}

fn layouts() -> impl Strategy<Value = TableOptions> {
    let blocks = prop_oneof![Just(1), 30..300usize, Just(4096)];
    let index_blocks = prop_oneof![Just(1), 20..200usize, Just(16 << 10)];
    let compressions =
        prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)];
    (blocks, 1..20usize, index_blocks, 0..20usize, any::<bool>(), compressions).prop_map(
        |(block, restart, index, bits, has_hash_index, compression)| TableOptions {
            block_bytes: block,
            restart_interval: restart,
            index_block_bytes: index,
            filter_bits_per_key: bits,
            has_hash_index,
            compression,
            ..TableOptions::default()
        },
    )
}

fn forward(table: &Table, range: KeyRange) -> Vec<Owned> {
    let (mut scan, mut found) = (table.scan(range), Vec::new());
    while let Some(entry) = scan.next().unwrap() {
        found.push(owned(entry));
    }
    assert_eq!(scan.next().unwrap(), None);
    found
}

fn reverse(table: &Table, range: KeyRange) -> Vec<Owned> {
    let (mut scan, mut found) = (table.scan_reverse(range), Vec::new());
    while let Some(entry) = scan.next().unwrap() {
        found.push(owned(entry));
    }
    assert_eq!(scan.next().unwrap(), None);
    found.reverse();
    found
}

fn expected_get(model: &Model, key: &[u8], ts: u64) -> Option<Found> {
    let mut versions = model.range((key.to_vec(), !ts)..=(key.to_vec(), u64::MAX));
    versions.next().map(|((_, inverted_ts), value)| Found {
        ts: Timestamp::from_raw(!inverted_ts),
        value: value.clone().map(bytes::Bytes::from),
    })
}

/// A step of a cursor.
#[derive(Debug, Clone)]
enum Step {
    First,
    Last,
    Seek(Vec<u8>, u64),
    SeekBefore(Vec<u8>, u64),
    Next(usize),
    Prev(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::First),
        1 => Just(Step::Last),
        3 => (keys(), timestamps()).prop_map(|(key, ts)| Step::Seek(key, ts)),
        2 => (keys(), timestamps()).prop_map(|(key, ts)| Step::SeekBefore(key, ts)),
        4 => (1..40usize).prop_map(Step::Next),
        4 => (1..40usize).prop_map(Step::Prev),
    ]
}

/// Does the same with a cursor and with a position in the sorted entries; `None` is off the table.
fn step(cursor: &mut TableCursor, entries: &[Owned], at: &mut Option<usize>, step: &Step) {
    let first_from = |key: &[u8], ts: u64| {
        entries.partition_point(|((other, inverted), _)| (&other[..], *inverted) < (key, !ts))
    };
    let moved = match step {
        Step::First => {
            *at = Some(0);
            cursor.seek_first().unwrap()
        }
        Step::Last => {
            *at = entries.len().checked_sub(1);
            cursor.seek_last().unwrap()
        }
        Step::Seek(key, ts) => {
            *at = Some(first_from(key, *ts));
            cursor.seek(key, Timestamp::from_raw(*ts)).unwrap()
        }
        Step::SeekBefore(key, ts) => {
            *at = first_from(key, *ts).checked_sub(1);
            cursor.seek_before(key, Timestamp::from_raw(*ts)).unwrap()
        }
        Step::Next(count) => {
            let mut moved = false;
            for _ in 0..*count {
                moved = cursor.next().unwrap();
                *at = at.map(|at| at + 1).filter(|&at| at < entries.len());
            }
            moved
        }
        Step::Prev(count) => {
            let mut moved = false;
            for _ in 0..*count {
                moved = cursor.prev().unwrap();
                *at = at.and_then(|at| at.checked_sub(1));
            }
            moved
        }
    };
    *at = at.filter(|&at| at < entries.len());
    assert_eq!(moved, at.is_some(), "after {step:?}");
    assert_eq!(cursor.entry().map(owned).as_ref(), at.map(|at| &entries[at]), "after {step:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_table_is_a_sorted_map(
        model in models(),
        layout in layouts(),
        (start, end) in (keys(), keys()),
        wanted in prop::collection::vec((keys(), timestamps()), 20),
        walk in prop::collection::vec(steps(), 0..30),
    ) {
        let disk = SimDisk::new();
        let summary = build(&disk, &model, layout);
        let table = open(&disk).unwrap();
        prop_assert_eq!(table.properties(), &summary.properties);
        prop_assert_eq!(table.bytes(), summary.bytes);
        prop_assert_eq!(table.bytes(), disk.read_file(PATH).unwrap().len() as u64);
        let verified = table.verify().unwrap();
        prop_assert_eq!(verified.entries, model.len() as u64);

        let entries: Vec<Owned> = model.clone().into_iter().collect();
        // Without a cache, with one that holds all, and with one that puts out most.
        let tables = [table, open_cached(&disk, 1 << 20).0, open_cached(&disk, 16 << 10).0];
        for table in tables {
            prop_assert_eq!(&forward(&table, KeyRange::all()), &entries);
            prop_assert_eq!(&reverse(&table, KeyRange::all()), &entries);
            for range in [
                KeyRange::new(start.clone(), end.clone()),
                KeyRange::from(&start..),
                KeyRange::point(&start),
                KeyRange::prefix(&start),
            ] {
                let within = entries.iter().filter(|((key, _), _)| range.contains(key));
                let within: Vec<Owned> = within.cloned().collect();
                prop_assert_eq!(&forward(&table, range.clone()), &within, "in {}", &range);
                prop_assert_eq!(&reverse(&table, range.clone()), &within, "back, {}", &range);
            }

            let there = entries.iter().flat_map(|((key, inverted_ts), _)| {
                let ts = !inverted_ts;
                [ts, ts.saturating_add(1), ts.saturating_sub(1)].map(|ts| (key.clone(), ts))
            });
            for (key, ts) in there.chain(wanted.clone()) {
                let found = get(&table, &key, Timestamp::from_raw(ts)).unwrap();
                prop_assert_eq!(found, expected_get(&model, &key, ts));
            }

            let (mut cursor, mut at) = (table.cursor(), None);
            for one in &walk {
                step(&mut cursor, &entries, &mut at, one);
            }
        }
    }
}

#[test]
fn an_empty_table_is_a_table() {
    let disk = SimDisk::new();
    let summary = build(&disk, &Model::new(), TableOptions::default());
    assert_eq!((summary.properties.entries, &summary.properties.bounds), (0, &None));
    let table = open(&disk).unwrap();
    assert_eq!(table.verify().unwrap().entries, 0);
    assert_eq!(get(&table, b"", Timestamp::MAX).unwrap(), None);
    assert!(forward(&table, KeyRange::all()).is_empty());
    assert!(reverse(&table, KeyRange::all()).is_empty());
}

#[test]
fn large_values_lie_in_blocks_of_their_own() {
    let disk = SimDisk::new();
    let large = vec![b'x'; base::limits::VALUE_BYTES_MAX];
    let mut model = small_model();
    model.insert((b"blob".to_vec(), !9), Some(large.clone()));
    model.insert((b"blob".to_vec(), !8), Some(large));
    let options = TableOptions { compression: Compression::None, ..TableOptions::default() };
    build(&disk, &model, options);
    let table = open(&disk).unwrap();
    table.verify().unwrap();
    let entries: Vec<Owned> = model.clone().into_iter().collect();
    assert!(forward(&table, KeyRange::all()) == entries);
    assert!(reverse(&table, KeyRange::all()) == entries);
    assert!(
        get(&table, b"blob", Timestamp::from_raw(8)).unwrap() == expected_get(&model, b"blob", 8)
    );
    let blocks = table.describe().unwrap().blocks;
    assert_eq!(blocks.iter().filter(|block| block.bytes > 1 << 20).count(), 2);
    assert!(blocks.iter().all(|block| block.bytes < 1 << 20 || block.entries == 1));
}

#[test]
fn opening_and_a_point_read_touch_little_of_a_large_table() {
    let disk = SimDisk::new();
    let entry = |number: u64| ((number.to_be_bytes().to_vec(), !7), Some(vec![b'v'; 100]));
    let model: Model = (0..50_000).map(entry).collect();
    let options = TableOptions { compression: Compression::None, ..TableOptions::default() };
    let summary = build(&disk, &model, options);
    assert!(summary.bytes > 5_000_000 && summary.properties.partitions > 1, "{summary:?}");
    disk.count_reads(true);
    disk.record_trace(true);
    let table = open(&disk).unwrap();
    get(&table, &25_000u64.to_be_bytes(), Timestamp::MAX).unwrap().unwrap();
    let reads = disk.trace().iter().filter(|line| line.contains("read_at")).count();
    // The tail; then filter and index, and data.
    assert_eq!(reads, 3, "{:#?}", disk.trace());
}

#[test]
fn a_scan_reads_large_pieces_in_either_direction() {
    let disk = SimDisk::new();
    let entry = |number: u64| ((number.to_be_bytes().to_vec(), !7), Some(vec![b'v'; 1000]));
    let options = TableOptions { compression: Compression::None, ..TableOptions::default() };
    let summary = build(&disk, &(0..8_000).map(entry).collect(), options);
    let table = open(&disk).unwrap();
    disk.count_reads(true);
    let reads = |read: &dyn Fn()| {
        let before = disk.operations();
        read();
        disk.operations() - before
    };
    // One for each MiB, one for the index of each partition, and some to get going.
    let most = (summary.bytes >> 20) + summary.properties.partitions + 10;
    let forward = reads(&|| assert_eq!(forward(&table, KeyRange::all()).len(), 8_000));
    let reverse = reads(&|| assert_eq!(reverse(&table, KeyRange::all()).len(), 8_000));
    assert!(forward <= most && reverse <= most, "{forward} and {reverse}, at most {most}");
}

#[test]
fn a_description_lists_every_byte_of_the_file() {
    let disk = SimDisk::new();
    build(&disk, &small_model(), tiny_blocks());
    let description = open(&disk).unwrap().describe().unwrap();
    let mut end = 0;
    for block in &description.blocks {
        assert_eq!(block.offset, end, "{block:?}");
        assert_eq!(block.damage, None);
        end += block.bytes;
    }
    assert_eq!(end, description.bytes);
    let data =
        description.blocks.iter().filter(|block| block.role == crate::table::BlockRole::Data);
    let counted = data.fold((0, 0), |(a, b), block| (a + block.entries, b + block.tombstones));
    assert_eq!(counted, (description.properties.entries, description.properties.tombstones));
}

#[test]
#[should_panic(expected = "entries of a table come in order")]
fn an_older_entry_cannot_come_before_a_newer_one() {
    let disk = SimDisk::new();
    let file = disk.open(Path::new(PATH), OpenMode::CreateNew).unwrap();
    let mut builder = TableBuilder::new(file, Path::new(PATH), TableOptions::default());
    builder.add(b"k", Timestamp::from_raw(1), Value::Put(b"old")).unwrap();
    let _ = builder.add(b"k", Timestamp::from_raw(2), Value::Put(b"new"));
}

#[test]
fn a_full_disk_fails_the_build_and_says_so() {
    let disk = SimDisk::new();
    disk.set_capacity_bytes(100_000);
    let path = Path::new(PATH);
    let options = TableOptions { compression: Compression::None, ..TableOptions::default() };
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    let mut builder = TableBuilder::new(file, path, options);
    for number in 0..10_000u64 {
        builder.add(&number.to_be_bytes(), Timestamp::ZERO, Value::Put(&[7; 20])).unwrap();
    }
    assert!(matches!(builder.finish(), Err(Error::DiskFull { .. })));
}

#[test]
fn a_finished_table_survives_any_crash() {
    let disk = SimDisk::new();
    build(&disk, &small_model(), tiny_blocks());
    disk.sync_dir(Path::new("")).unwrap();
    for seed in 0..20 {
        let found = disk.crash(env::CrashMode::Torn(seed));
        open(&found).unwrap().verify().unwrap();
    }
}
