//! Directories that are new, old, foreign, shared, half made and damaged.

use base::Timestamp;
use env::{CrashMode, SimDisk};

use super::*;
use crate::Value;
use crate::table::{TableBuilder, TableOptions};

const ROOT: &str = "data/db";
const OLD_ID: [u8; 16] = [1; 16];
const NEW_ID: [u8; 16] = [2; 16];

fn root() -> &'static Path {
    Path::new(ROOT)
}

fn open_or_create(disk: &SimDisk, mode: CreateMode, id: [u8; 16]) -> Result<Directory> {
    Directory::open_or_create(Arc::new(disk.clone()), root(), mode, "pid 7", id)
}

fn open_existing(disk: &SimDisk) -> Result<Directory> {
    Directory::open_existing(Arc::new(disk.clone()), root(), "pid 8")
}

fn refusal(opened: Result<Directory>) -> String {
    opened.err().expect("it is refused").to_string()
}

fn created() -> SimDisk {
    let disk = SimDisk::new();
    open_or_create(&disk, CreateMode::MustBeNew, OLD_ID).unwrap();
    disk
}

#[test]
fn a_database_is_created_once_and_found_again() {
    let disk = SimDisk::new();
    assert!(
        refusal(Directory::open_existing(Arc::new(disk.clone()), root(), ""))
            .contains("not a Holm")
    );
    assert_eq!(disk.files(), [], "looking leaves nothing");
    let directory = open_or_create(&disk, CreateMode::IfMissing, OLD_ID).unwrap();
    assert!(directory.is_new());
    assert_eq!(directory.open_manifest().unwrap().state(), &State::default());
    drop(directory);
    let directory = open_or_create(&disk, CreateMode::IfMissing, NEW_ID).unwrap();
    assert_eq!((directory.id(), directory.is_new()), (DatabaseId(OLD_ID), false));
    directory.open_manifest().unwrap();
    drop(directory);
    assert_eq!(open_existing(&disk).unwrap().id(), DatabaseId(OLD_ID));
    assert_eq!(Directory::read_id(&disk, root()).unwrap(), DatabaseId(OLD_ID));
    assert!(refusal(open_or_create(&disk, CreateMode::MustBeNew, NEW_ID)).contains("one already"));
}

#[test]
fn the_format_file_is_text() {
    let text = created().read_file(root().join(FORMAT_NAME)).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text, "holm format 1\nid 01010101010101010101010101010101\ncrc32c f2077a88\n");
}

#[test]
fn only_one_has_it_open_and_the_other_is_told_who() {
    let disk = created();
    let first = open_or_create(&disk, CreateMode::IfMissing, NEW_ID).unwrap();
    match open_existing(&disk) {
        Err(Error::Locked { owner, .. }) => assert_eq!(owner, "pid 7"),
        other => panic!("{:?}", other.err()),
    }
    drop(first);
    open_existing(&disk).unwrap();
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let check = |files: &[(&str, &str)], expected: &str| {
        let disk = SimDisk::new();
        for (name, text) in files {
            let path = root().join(name);
            disk.create_dir_all(path.parent().unwrap()).unwrap();
            disk.write_file(&path, text.as_bytes()).unwrap();
        }
        let before = disk.files();
        for mode in [CreateMode::IfMissing, CreateMode::MustBeNew] {
            let refused = open_or_create(&disk, mode, NEW_ID);
            assert!(matches!(refused, Err(Error::NotADatabase { .. })));
            let text = refusal(refused);
            assert!(text.contains(expected), "{text}");
        }
        let existing = open_existing(&disk);
        assert!(matches!(existing, Err(Error::NotADatabase { .. })), "{:?}", existing.err());
        drop(existing);
        assert_eq!(disk.files(), before, "not even a LOCK is left");
    };
    check(&[("thesis.txt", "years of work")], "a file thesis.txt is in it");
    check(&[("FORMAT", "another format\n")], "another program");
    check(&[("wal/00000001.wal", "a log")], "there are files in wal/, and FORMAT is missing");
    check(&[("tables/0000000001.table", "a table")], "there are files in tables/");
    check(&[("0000000001.table", "a table")], "a file 0000000001.table is in it");
}

#[test]
fn what_systems_put_into_directories_does_not_hinder() {
    let disk = SimDisk::new();
    for folder in ["lost+found", ".snapshots"] {
        disk.create_dir_all(&root().join(folder)).unwrap();
    }
    disk.write_file(root().join(".DS_Store"), b"").unwrap();
    assert!(open_or_create(&disk, CreateMode::MustBeNew, NEW_ID).unwrap().is_new());
}

#[test]
fn a_crash_during_creation_leaves_all_of_it_or_nothing_in_the_way() {
    let operations = created().operations();
    assert!(operations > 8, "{operations}");
    for stop in 0..operations {
        let disk = SimDisk::new();
        disk.stop_at(stop);
        assert!(open_or_create(&disk, CreateMode::MustBeNew, OLD_ID).is_err());
        let torn = (0..30).map(CrashMode::Torn);
        for mode in torn.chain([CrashMode::LoseUnsynced, CrashMode::KeepUnsynced]) {
            let found = disk.crash(mode);
            let was_whole = found.exists(&root().join(FORMAT_NAME)).unwrap();
            let directory = open_or_create(&found, CreateMode::IfMissing, NEW_ID);
            let directory = directory.unwrap_or_else(|error| panic!("{stop} {mode:?}: {error}"));
            let id = DatabaseId(if was_whole { OLD_ID } else { NEW_ID });
            assert_eq!((directory.id(), directory.is_new()), (id, !was_whole), "{stop} {mode:?}");
            let manifest = directory.open_manifest().unwrap();
            assert_eq!(manifest.state(), &State::default());
            for folder in [directory.wal_path(), directory.tables_path()] {
                assert_eq!(found.list(&folder).unwrap(), [""; 0]);
            }
            // And what was just created is durable.
            let again = found.crash(CrashMode::LoseUnsynced);
            assert_eq!(open_existing(&again).unwrap().id(), id);
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_of_format_is_an_error() {
    let disk = created();
    let path = root().join(FORMAT_NAME);
    let bytes = disk.read_file(&path).unwrap();
    let check = |what: &str| match open_existing(&disk) {
        Err(Error::Damaged { .. } | Error::NotADatabase { .. }) => {}
        Err(other) => panic!("{what}: {other}"),
        Ok(_) => panic!("{what}: it opened"),
    };
    for (offset, bit) in (0..bytes.len() as u64).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        disk.flip_bit(&path, offset, bit).unwrap();
        check(&format!("bit {bit} of byte {offset}"));
        disk.flip_bit(&path, offset, bit).unwrap();
    }
    for len in 0..bytes.len() {
        disk.write_file(&path, &bytes[..len]).unwrap();
        check(&format!("cut to {len} bytes"));
    }
    disk.write_file(&path, &[&bytes[..], b"\n"].concat()).unwrap();
    check("with a line more");
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let disk = created();
    let head = "holm format 12\nanything that a newer program may write\n";
    let text = format!("{head}crc32c {:08x}\n", checksum::of(&[head.as_bytes()]));
    disk.write_file(root().join(FORMAT_NAME), text.as_bytes()).unwrap();
    assert!(matches!(open_existing(&disk), Err(Error::NewerFormat { found: 12, known: 1, .. })));
}

#[test]
fn names_mean_one_thing() {
    let check = |name: &str, expected| assert_eq!(FileName::parse(name), expected, "{name}");
    check("FORMAT", Some(FileName::Format));
    check("LOCK", Some(FileName::Lock));
    check("MANIFEST", Some(FileName::Manifest));
    check("MANIFEST.tmp", Some(FileName::Temporary));
    check("0000000012.table", Some(FileName::Table(12)));
    check("0000000012.table.tmp", Some(FileName::Temporary));
    check("18446744073709551615.table", Some(FileName::Table(u64::MAX)));
    for name in
        ["", ".tmp", "12.table", "+000000012.table", "0000000012.TABLE", "00000000012.table"]
    {
        check(name, None);
    }
    check("notes.tmp", None);
    for number in [0, 1, 9_999_999_999, 10_000_000_000, u64::MAX] {
        check(&table_name(number), Some(FileName::Table(number)));
    }
}

#[test]
fn orphans_are_what_the_state_does_not_name_and_we_could_have_made() {
    let disk = created();
    let directory = open_existing(&disk).unwrap();
    let tables = directory.tables_path();
    let put = |path: PathBuf| disk.write_file(path, b"x").unwrap();
    (1..=3).for_each(|number| put(directory.table_path(number)));
    put(tables.join("0000000004.table.tmp"));
    put(tables.join("README"));
    put(root().join("MANIFEST.tmp"));
    let mut state = State::default();
    let live = |number| crate::manifest::TableMeta { number, bytes: 1, ..Default::default() };
    state.apply(&crate::manifest::Edit { added: vec![live(2)], ..Default::default() });
    let expected = [
        root().join("MANIFEST.tmp"),
        directory.table_path(1),
        directory.table_path(3),
        tables.join("0000000004.table.tmp"),
    ];
    assert_eq!(directory.orphans(&state).unwrap(), expected);

    state.apply(&crate::manifest::Edit { added: vec![live(9)], ..Default::default() });
    match directory.orphans(&state) {
        Err(Error::Damaged { path, .. }) => assert_eq!(path, directory.table_path(9)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sound_table_that_is_not_the_one_meant_is_damage() {
    let disk = created();
    let directory = open_existing(&disk).unwrap();
    let build = |number: u64, text: &str| {
        let path = directory.table_path(number);
        let file = disk.open(&path, OpenMode::CreateNew).unwrap();
        let mut builder = TableBuilder::new(file, &path, TableOptions::default());
        builder.add(b"k", Timestamp::from_raw(number), Value::Put(text.as_bytes())).unwrap();
        TableMeta::new(number, 0, &builder.finish().unwrap())
    };
    let (first, second) = (build(1, "a"), build(2, "b"));
    assert_eq!(directory.open_table(&first).unwrap().properties().entries, 1);
    disk.rename(&directory.table_path(2), &directory.table_path(1)).unwrap();
    let refused = directory.open_table(&first).err().unwrap().to_string();
    assert!(refused.contains("@2") && refused.contains("@1"), "{refused}");
    assert!(matches!(directory.open_table(&second), Err(Error::Io { .. })));
}
