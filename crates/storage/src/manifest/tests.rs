//! The manifest under edits, crashes, failures and flipped bits.

use env::{CrashMode, SimDisk};
use proptest::prelude::*;

use super::*;

const ID: DatabaseId = DatabaseId([0xab; 16]);
const ROOT: &str = "db";

fn root() -> &'static Path {
    Path::new(ROOT)
}

fn path() -> PathBuf {
    root().join(MANIFEST_NAME)
}

fn create(disk: &SimDisk) -> Manifest {
    disk.create_dir_all(root()).unwrap();
    Manifest::create(Arc::new(disk.clone()), root(), ID).unwrap()
}

fn reopen(disk: &SimDisk) -> Result<Manifest> {
    Manifest::open(Arc::new(disk.clone()), root(), ID)
}

fn table(number: u64) -> TableMeta {
    let key = |end: &str| Bytes::from(format!("table {number} {end}"));
    TableMeta {
        number,
        bytes: 1000 * number,
        entries: 10 * number,
        tombstones: number,
        level: (number % 7) as u8,
        bounds: (number > 0).then(|| TableBounds {
            first_key: key("begins"),
            last_key: key("ends"),
            ts_min: Timestamp::from_raw(number),
            ts_max: Timestamp::from_raw(100 * number),
        }),
        tree: TreeId(if number == 5 { 4 } else { 0 }),
        run: number,
        distinct_keys: 9 * number,
        raw_bytes: 1234 * number,
        values: Vec::new(),
        ts_override: None,
    }
}

/// Returns edits that change everything there is, step by step.
fn edits() -> Vec<Edit> {
    let ts = |raw| Some(Timestamp::from_raw(raw));
    vec![
        Edit { added: vec![table(1), table(2)], log_start: Some(10), ..Edit::default() },
        Edit { checkpoint_ts: ts(7), last_ts: ts(1000), ..Edit::default() },
        Edit {
            added: vec![table(5), TableMeta { level: 3, ..table(2) }],
            removed: vec![1, 2],
            styles: vec![(TreeId(4), Style::Tiered), (TreeId(9), Style::Leveled)],
            ..Edit::default()
        },
        Edit { added: vec![table(6).committed_at(Timestamp::from_raw(1001))], ..Edit::default() },
        Edit { gc_watermark: ts(3), next_file_number: Some(40), ..Edit::default() },
        Edit {
            removed: vec![5, 6],
            log_start: Some(u64::MAX),
            last_ts: ts(u64::MAX),
            ..Edit::default()
        },
    ]
}

/// Returns the states before the first edit, after it, and so on.
fn states() -> Vec<State> {
    let mut states = vec![State::default()];
    for edit in edits() {
        let mut next = states[states.len() - 1].clone();
        next.apply(&edit);
        states.push(next);
    }
    states
}

#[test]
fn a_state_is_found_again() {
    let disk = SimDisk::new();
    let mut manifest = create(&disk);
    for (edit, state) in edits().iter().zip(&states()[1..]) {
        manifest.apply(edit).unwrap();
        assert_eq!(manifest.state(), state);
        assert_eq!(reopen(&disk).unwrap().state(), state);
    }
    assert_eq!(Manifest::read(&disk, root()).unwrap().1, ID);
    assert_eq!(disk.files().len(), 1, "nothing is left over: {:?}", disk.files());
}

#[test]
fn numbers_and_timestamps_rise_above_added_tables() {
    let mut state = State::default();
    state.apply(&Edit { added: vec![table(9)], ..Edit::default() });
    assert_eq!((state.next_file_number, state.last_ts), (10, Timestamp::from_raw(900)));
    state.apply(&Edit { next_file_number: Some(2), ..Edit::default() });
    assert_eq!(state.next_file_number, 10);
}

#[test]
#[should_panic(expected = "takes the log start back from 10 to 9")]
fn the_log_start_never_falls() {
    let mut state = State { log_start: 10, ..State::default() };
    state.apply(&Edit { log_start: Some(9), ..Edit::default() });
}

#[test]
fn a_crash_anywhere_leaves_the_last_acknowledged_state_or_the_next() {
    let states = states();
    let run = |disk: &SimDisk| {
        let mut acknowledged = 0;
        let mut manifest = reopen(disk).unwrap();
        for edit in edits() {
            if manifest.apply(&edit).is_err() {
                break;
            }
            acknowledged += 1;
        }
        acknowledged
    };
    let fresh = || {
        let disk = SimDisk::new();
        create(&disk);
        disk
    };
    let disk = fresh();
    let first = disk.operations();
    assert_eq!(run(&disk), edits().len());
    for stop in first..disk.operations() {
        let disk = fresh();
        disk.stop_at(stop);
        let acknowledged = run(&disk);
        let torn = (0..20).map(CrashMode::Torn);
        for mode in torn.chain([CrashMode::LoseUnsynced, CrashMode::KeepUnsynced]) {
            let found = disk.crash(mode);
            let manifest = reopen(&found).unwrap();
            let allowed = &states[acknowledged..=acknowledged + 1];
            assert!(allowed.contains(manifest.state()), "stop at {stop}, {mode:?}");
            // What the crash left in the way does not hinder the next edit.
            let mut manifest = manifest;
            manifest.apply(&Edit { next_file_number: Some(99), ..Edit::default() }).unwrap();
        }
    }
}

#[test]
fn a_failure_can_be_tried_again_and_a_late_one_is_remembered() {
    let disk = SimDisk::new();
    let mut manifest = create(&disk);
    let edit = &edits()[0];
    // create, write, sync | rename, sync folder; after a failure the file is removed first.
    for (step, is_early) in [(0, true), (1, true), (3, true), (3, true), (5, false)] {
        disk.fail_at(disk.operations() + step, std::io::ErrorKind::Other);
        assert!(matches!(manifest.apply(edit), Err(Error::Io { .. })), "step {step}");
        assert_eq!(manifest.state(), &State::default());
        assert_eq!(manifest.is_certain(), is_early, "step {step}");
    }
    let found = reopen(&disk).unwrap().state().clone();
    assert!(found == states()[1] || found == states()[0]);
    manifest.apply(edit).unwrap();
    assert!(manifest.is_certain());
    for seed in 0..20 {
        let found = reopen(&disk.crash(CrashMode::Torn(seed))).unwrap();
        assert_eq!(found.state(), &states()[1], "seed {seed}");
    }
    manifest.apply(&edits()[1]).unwrap();
}

#[test]
fn a_full_disk_leaves_the_old_state() {
    let disk = SimDisk::new();
    let mut manifest = create(&disk);
    disk.set_capacity_bytes(disk.allocated_bytes());
    assert!(matches!(manifest.apply(&edits()[0]), Err(Error::DiskFull { .. })));
    disk.set_capacity_bytes(1 << 20);
    manifest.apply(&edits()[0]).unwrap();
    assert_eq!(reopen(&disk).unwrap().state(), &states()[1]);
}

#[test]
fn every_flipped_bit_and_every_cut_is_damage() {
    let disk = SimDisk::new();
    let mut manifest = create(&disk);
    manifest.apply(&edits()[0]).unwrap();
    let bytes = disk.read_file(path()).unwrap();
    let check = |what: &str| match reopen(&disk) {
        Err(Error::Damaged { path: found, .. }) => assert_eq!(found, path(), "{what}"),
        Err(other) => panic!("{what}: {other}"),
        Ok(_) => panic!("{what}: it opened"),
    };
    for (offset, bit) in (0..bytes.len() as u64).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        disk.flip_bit(path(), offset, bit).unwrap();
        check(&format!("bit {bit} of byte {offset}"));
        disk.flip_bit(path(), offset, bit).unwrap();
    }
    for len in 0..bytes.len() {
        disk.write_file(path(), &bytes[..len]).unwrap();
        check(&format!("cut to {len} bytes"));
    }
    disk.write_file(path(), &[&bytes[..], b"x"].concat()).unwrap();
    check("with a byte more");
    disk.remove(&path()).unwrap();
    check("missing");
}

#[test]
fn another_databases_manifest_is_refused() {
    let disk = SimDisk::new();
    create(&disk);
    let other = DatabaseId([1; 16]);
    let opened = Manifest::open(Arc::new(disk), root(), other);
    let text = opened.err().unwrap().to_string();
    assert!(text.contains(&ID.to_string()) && text.contains(&other.to_string()), "{text}");
}

#[test]
fn a_newer_format_is_refused() {
    let disk = SimDisk::new();
    create(&disk);
    let mut bytes = disk.read_file(path()).unwrap();
    bytes[8] = 9;
    let crc = checksum::of(&[&bytes[8..16], &bytes[HEADER_BYTES..]]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    disk.write_file(path(), &bytes).unwrap();
    assert!(matches!(reopen(&disk), Err(Error::NewerFormat { found: 9, known: 3, .. })));
}

/// A manifest as the first format wrote it, with one table.
#[test]
fn the_first_format_is_read() {
    let mut body = ID.0.to_vec();
    // Checkpoint, log start and index, next file, watermark, last timestamp, count of tables.
    for number in [7, 10, 4, 3, 2, 99, 1] {
        codec::put_varint(&mut body, number);
    }
    for number in [2, 5000, 70, 3, 0, 1, 5, 7] {
        codec::put_varint(&mut body, number);
    }
    codec::put_bytes(&mut body, b"a");
    codec::put_bytes(&mut body, b"z");
    let mut bytes = MAGIC.to_vec();
    codec::put_u32(&mut bytes, 1);
    codec::put_u32(&mut bytes, body.len() as u32);
    let crc = checksum::of(&[&bytes[MAGIC.len()..], &body]);
    codec::put_u32(&mut bytes, crc);
    bytes.extend_from_slice(&body);
    let (state, id) = decode(&bytes).ok().unwrap();
    assert_eq!((id, state.log_start, state.last_ts.raw()), (ID, 10, 99));
    let table = TableMeta {
        number: 2,
        bytes: 5000,
        entries: 70,
        tombstones: 3,
        bounds: Some(TableBounds {
            first_key: Bytes::from_static(b"a"),
            last_key: Bytes::from_static(b"z"),
            ts_min: Timestamp::from_raw(5),
            ts_max: Timestamp::from_raw(7),
        }),
        run: 2,
        distinct_keys: 70,
        raw_bytes: 5000,
        ..TableMeta::default()
    };
    assert_eq!(state.tables, BTreeMap::from([(2, table)]));
    assert!(decode(&state.encode(ID)).is_ok_and(|again| again == (state, ID)));
}

/// A manifest as the second format wrote it, with a tiered tree and a table that was bulk-loaded.
#[test]
fn the_second_format_is_read() {
    let mut body = ID.0.to_vec();
    // As in the first, but then the trees.
    for number in [7, 10, 4, 3, 2, 99, 1, 4, 1, 1] {
        codec::put_varint(&mut body, number);
    }
    for number in [2, 5000, 70, 3, 0, 1, 8, 8] {
        codec::put_varint(&mut body, number);
    }
    codec::put_bytes(&mut body, b"a");
    codec::put_bytes(&mut body, b"z");
    // Tree, run, distinct keys, raw bytes, and its own timestamp.
    for number in [4, 2, 60, 9000, 1, 8] {
        codec::put_varint(&mut body, number);
    }
    let mut bytes = MAGIC.to_vec();
    codec::put_u32(&mut bytes, 2);
    codec::put_u32(&mut bytes, body.len() as u32);
    let crc = checksum::of(&[&bytes[MAGIC.len()..], &body]);
    codec::put_u32(&mut bytes, crc);
    bytes.extend_from_slice(&body);
    let (state, id) = decode(&bytes).ok().unwrap();
    assert_eq!((id, state.log_start, state.last_ts.raw()), (ID, 10, 99));
    assert_eq!(state.styles, BTreeMap::from([(TreeId(4), Style::Tiered)]));
    let table = &state.tables[&2];
    assert_eq!((table.tree, table.raw_bytes), (TreeId(4), 9000));
    assert_eq!(table.ts_override, Some(Timestamp::from_raw(8)));
    assert!(state.values.is_empty() && table.values.is_empty());
    assert!(decode(&state.encode(ID)).is_ok_and(|again| again == (state, ID)));
}

/// A value file comes with the tables that refer to it and goes with the last of them.
#[test]
fn a_value_file_is_live_as_long_as_a_table_refers_to_it() {
    let disk = SimDisk::new();
    let mut manifest = create(&disk);
    let refers = |number: u64, files: &[u64]| {
        let one = |&file| ValueUse { file, values: 2, bytes: 30 };
        TableMeta { values: files.iter().map(one).collect(), ..table(number) }
    };
    let file = |number| ValuesMeta { number, bytes: 70, values: 3, value_bytes: 40 };
    let live = |manifest: &Manifest| {
        assert_eq!(reopen(&disk).unwrap().state(), manifest.state());
        manifest.state().values.keys().copied().collect::<Vec<_>>()
    };
    let added = vec![refers(1, &[10]), refers(2, &[10, 11])];
    let added_values = vec![file(10), file(11)];
    manifest.apply(&Edit { added, added_values, ..Edit::default() }).unwrap();
    assert_eq!(live(&manifest), [10, 11]);
    assert_eq!(manifest.state().next_file_number, 12);
    let edit = Edit { removed: vec![2], added: vec![refers(3, &[10])], ..Edit::default() };
    manifest.apply(&edit).unwrap();
    assert_eq!(live(&manifest), [10]);
    let named: Vec<_> = manifest.state().files().collect();
    assert_eq!(named, [FileId::table(1), FileId::table(3), FileId::values(10)]);
    manifest.apply(&Edit { removed: vec![1, 3], ..Edit::default() }).unwrap();
    assert_eq!(live(&manifest), []);
    let mut state = State { next_file_number: 99, last_ts: Timestamp::MAX, ..State::default() };
    state.tables.insert(1, refers(1, &[10]));
    assert!(state.check_invariants().unwrap_err().contains("value file 10"));
    state.values.insert(10, file(10));
    assert_eq!(state.check_invariants(), Ok(()));
    state.tables.clear();
    assert!(state.check_invariants().unwrap_err().contains("value file 10"));
}

#[test]
fn a_table_of_a_tree_that_is_not_listed_is_refused() {
    let mut state = State { next_file_number: 9, last_ts: Timestamp::MAX, ..State::default() };
    state.tables.insert(5, table(5));
    assert!(state.check_invariants().unwrap_err().contains("not listed"));
    state.styles.insert(TreeId(4), Style::Tiered);
    assert_eq!(state.check_invariants(), Ok(()));
}

fn metas() -> impl Strategy<Value = TableMeta> {
    let key = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let bounds = (key(), key(), any::<u64>(), any::<u64>()).prop_map(|(a, b, x, y)| TableBounds {
        first_key: a,
        last_key: b,
        ts_min: Timestamp::from_raw(x),
        ts_max: Timestamp::from_raw(y),
    });
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), 0..LEVELS as u8);
    let more = (0..4u32, any::<u64>(), any::<u64>(), any::<u64>(), any::<Option<u64>>());
    let parts = (0..u64::MAX, numbers, more, prop::option::of(bounds));
    parts.prop_map(|(number, numbers, more, bounds)| TableMeta {
        number,
        bytes: numbers.0,
        entries: if bounds.is_some() { numbers.1.max(1) } else { 0 },
        tombstones: numbers.2,
        level: numbers.3,
        bounds,
        tree: TreeId(more.0),
        run: more.1,
        distinct_keys: more.2,
        raw_bytes: more.3,
        ts_override: more.4.map(Timestamp::from_raw),
        values: Vec::new(),
    })
}

proptest! {
    #[test]
    fn any_state_survives_the_round_trip(
        tables in prop::collection::vec(metas(), 0..10),
        numbers in prop::array::uniform5(any::<u64>()),
    ) {
        let mut state = State {
            checkpoint_ts: Timestamp::from_raw(numbers[0]),
            log_start: numbers[1],
            next_file_number: numbers[2],
            gc_watermark: Timestamp::from_raw(numbers[3]),
            last_ts: Timestamp::from_raw(numbers[4]),
            ..State::default()
        };
        let mut added = tables;
        added.sort_by_key(|table| table.number);
        added.dedup_by_key(|table| table.number);
        let styles = vec![
            (TreeId(1), Style::Tiered),
            (TreeId(2), Style::Leveled),
            (TreeId(3), Style::Tiered),
        ];
        state.apply(&Edit { added, styles, ..Edit::default() });
        let decoded = decode(&state.encode(ID));
        prop_assert_eq!(decoded.ok(), Some((state, ID)));
    }
}
