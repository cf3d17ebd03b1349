//! Damage is found, named and never believed.

use base::{KeyRange, Timestamp};

use super::*;
use crate::table::BlockRole;
use crate::table::block::{Block, BlockBuilder, BlockCursor};
use crate::table::data::{DataBlock, DataBlockBuilder, DataCursor};
use crate::table::fuzzing::make_checksums_right;
use crate::table::position::Position;
use crate::{Error, Stored};

/// Reads all that a program could read: by scan, in reverse, and key by key.
fn read_everything(disk: &SimDisk, model: &Model) -> crate::Result<Vec<Owned>> {
    let table = open(disk)?;
    let mut found = Vec::new();
    let mut scan = table.scan(KeyRange::all());
    while let Some(entry) = scan.next()? {
        found.push(owned(entry));
    }
    let mut reversed = Vec::new();
    let mut scan = table.scan_reverse(KeyRange::all());
    while let Some(entry) = scan.next()? {
        reversed.push(owned(entry));
    }
    reversed.reverse();
    assert_eq!(found, reversed);
    for ((key, inverted_ts), value) in model {
        let ts = Timestamp::from_raw(!inverted_ts);
        let got = get(&table, key, ts)?;
        assert_eq!(
            got.map(|found| (found.ts, found.value.map(Vec::from))),
            Some((ts, value.clone()))
        );
    }
    Ok(found)
}

fn check_is_damage(disk: &SimDisk, what: &str) {
    match open(disk).and_then(|table| table.verify()) {
        Err(Error::Damaged { path, .. }) => assert_eq!(path, Path::new(PATH), "{what}"),
        other => panic!("{what}: {other:?}"),
    }
}

fn check_every_bit(options: TableOptions) {
    let (disk, model) = (SimDisk::new(), small_model());
    build(&disk, &model, options);
    let expected: Vec<Owned> = model.clone().into_iter().collect();
    assert_eq!(read_everything(&disk, &model).unwrap(), expected);
    let len = disk.read_file(PATH).unwrap().len() as u64;
    for (offset, bit) in (0..len).flat_map(|offset| (0..8).map(move |bit| (offset, bit))) {
        disk.flip_bit(PATH, offset, bit).unwrap();
        let what = format!("bit {bit} of byte {offset}");
        check_is_damage(&disk, &what);
        match read_everything(&disk, &model) {
            // What was not read cannot have been noticed: it must not matter then.
            Ok(found) => assert_eq!(found, expected, "{what}"),
            Err(Error::Damaged { .. }) => {}
            Err(other) => panic!("{what}: {other}"),
        }
        if let Ok(table) = open(&disk) {
            let lines = table.describe().unwrap().blocks;
            assert!(lines.iter().any(|line| line.damage.is_some()), "{what}");
        }
        disk.flip_bit(PATH, offset, bit).unwrap();
    }
}

#[test]
fn every_flipped_bit_is_found_and_none_is_believed() {
    check_every_bit(tiny_blocks());
    // Blocks that are large enough to be compressed, and no filter.
    for compression in [Compression::Lz4, Compression::Zstd] {
        check_every_bit(TableOptions {
            block_bytes: 400,
            compression,
            filter_bits_per_key: 0,
            ..tiny_blocks()
        });
    }
}

#[test]
fn a_table_that_is_cut_or_extended_is_damaged() {
    let disk = SimDisk::new();
    build(&disk, &small_model(), tiny_blocks());
    let bytes = disk.read_file(PATH).unwrap();
    for len in 0..bytes.len() {
        disk.write_file(PATH, &bytes[..len]).unwrap();
        check_is_damage(&disk, &format!("cut to {len} bytes"));
    }
    for extra in [&b"\0"[..], b"some more bytes", &bytes] {
        disk.write_file(PATH, &[&bytes, extra].concat()).unwrap();
        // The whole table twice has a footer at its end that points into its first half.
        check_is_damage(&disk, &format!("extended by {} bytes", extra.len()));
    }
}

#[test]
fn a_block_in_the_place_of_another_is_not_believed() {
    // Two blocks of the same length and shape: a write that went to the wrong place.
    let disk = SimDisk::new();
    let entry = |number: u8| ((vec![b'k', number], !7), Some(vec![number; 40]));
    let options = TableOptions { compression: Compression::None, ..tiny_blocks() };
    build(&disk, &(0..8).map(entry).collect(), options);
    let lines = open(&disk).unwrap().describe().unwrap().blocks;
    let (first, second) = (&lines[0], &lines[1]);
    assert_eq!((first.role, first.bytes), (second.role, second.bytes));
    let mut bytes = disk.read_file(PATH).unwrap();
    let (source, target) = (first.offset as usize, second.offset as usize);
    bytes.copy_within(source..source + first.bytes as usize, target);
    disk.write_file(PATH, &bytes).unwrap();
    match open(&disk).unwrap().verify() {
        Err(Error::Damaged { offset, .. }) => assert_eq!(offset, second.offset),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_newer_format_and_a_newer_compression_are_refused_by_name() {
    let disk = SimDisk::new();
    build(&disk, &small_model(), tiny_blocks());
    let bytes = disk.read_file(PATH).unwrap();
    let mut newer = bytes.clone();
    let footer = newer.len() - 48;
    newer[footer + 12] = 4;
    let crc = base::checksum::of(&[&newer[footer..footer + 44]]);
    newer[footer + 44..].copy_from_slice(&crc.to_le_bytes());
    disk.write_file(PATH, &newer).unwrap();
    assert!(matches!(open(&disk), Err(Error::NewerFormat { found: 4, known: 3, .. })));

    disk.write_file(PATH, &bytes).unwrap();
    let first = open(&disk).unwrap().describe().unwrap().blocks[0].clone();
    let mut compressed = bytes;
    let trailer = first.bytes as usize - 5;
    compressed[trailer] = 3;
    let crc = base::checksum::of(&[&compressed[..=trailer], &0u64.to_le_bytes()]);
    compressed[trailer + 1..trailer + 5].copy_from_slice(&crc.to_le_bytes());
    disk.write_file(PATH, &compressed).unwrap();
    let refused = get(&open(&disk).unwrap(), b"", Timestamp::MAX).unwrap_err().to_string();
    assert!(refused.contains("method 3") && refused.contains("newer program"), "{refused}");
}

#[test]
fn a_read_error_is_an_error_and_the_next_read_succeeds() {
    let disk = SimDisk::new();
    // More than the read-ahead takes at once.
    let entry = |number: u16| ((number.to_be_bytes().to_vec(), !7), Some(vec![1; 500]));
    let model: Model = (0..1000).map(entry).collect();
    let options = TableOptions {
        index_block_bytes: 500,
        compression: Compression::None,
        ..TableOptions::default()
    };
    build(&disk, &model, options);
    let table = open(&disk).unwrap();
    disk.count_reads(true);
    for number in 0..8 {
        let mut cursor = table.cursor();
        assert!(cursor.seek_first().unwrap());
        disk.fail_at(disk.operations() + number, std::io::ErrorKind::Other);
        let mut result = Ok(true);
        while let Ok(true) = result {
            result = cursor.next();
        }
        assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
        assert_eq!(cursor.entry(), None);
        assert!(cursor.seek_first().unwrap());
    }
    let expected: Vec<Owned> = model.clone().into_iter().collect();
    assert_eq!(read_everything(&disk, &model).unwrap(), expected);
}

/// Changes bytes of a block and makes the checksums right: what a bug of ours would write.
fn rewrite(disk: &SimDisk, role: BlockRole, change: impl FnOnce(&mut [u8])) -> u64 {
    let lines = open(disk).unwrap().describe().unwrap().blocks;
    let line = lines.iter().find(|line| line.role == role).unwrap();
    let mut bytes = disk.read_file(PATH).unwrap();
    change(&mut bytes[line.offset as usize..(line.offset + line.bytes - 5) as usize]);
    make_checksums_right(&mut bytes);
    disk.write_file(PATH, &bytes).unwrap();
    line.offset
}

#[test]
fn verify_finds_what_no_checksum_can() {
    let check = |role, change: fn(&mut [u8]), expected: &str| {
        let disk = SimDisk::new();
        build(&disk, &small_model(), tiny_blocks());
        let block_at = rewrite(&disk, role, change);
        match open(&disk).and_then(|table| table.verify()) {
            Err(Error::Damaged { what, offset, .. }) => {
                assert!(what.contains(expected), "{what}");
                assert!(expected.contains("filter") || offset >= block_at);
            }
            other => panic!("{expected}: {other:?}"),
        }
    };
    // See testdata/small.txt for the bytes.
    check(BlockRole::Filter, |filter| filter[..64].fill(0), "a key is not in its filter");
    check(BlockRole::Data, |block| block[1] = 3, "unknown kind 3");
    check(BlockRole::Data, |block| block[1] = 2, "where its value lies");
    check(BlockRole::Data, |block| block[25] ^= 1, "the tag of an entry");
    check(BlockRole::Index, |block| block[10] = 0, "a separator is before the last entry");
    check(BlockRole::TopIndex, |block| block[3] = b'z', "out of order or points to no block");
    check(BlockRole::TopIndex, |block| block[4] = b'z', "the top index separates a partition");
    check(BlockRole::Properties, |block| block[2] += 1, "the properties are");
}

#[test]
fn an_entry_at_a_restart_cannot_share_with_one_that_a_seek_has_not_seen() {
    let key = |number: u8| [&b"a key of it"[..], &[number]].concat();
    let mut builder = DataBlockBuilder::new(2, true);
    for number in 0..4 {
        let key = key(number);
        builder.add(Position::new(&key, Timestamp::ZERO), key_hash(&key), Stored::Put(b"v"));
    }
    let mut contents = Vec::new();
    builder.finish(&mut contents);
    assert_eq!(contents[..2], [0, 48], "the first entry has its whole key");
    assert_eq!(contents[23..25], [11, 4], "the second one shares eleven bytes");
    assert_eq!(contents[35..37], [0, 48], "the third one is a base again");
    contents[35..37].copy_from_slice(&[1, 44]);
    let block = DataBlock::new(contents.into()).unwrap();
    assert!(block.find(&key(3), key_hash(&key(3)), Timestamp::MAX).is_err());
    let mut cursor = DataCursor::new(block);
    // The cursor is on an entry before each, and could take bytes from that one's key.
    assert!(cursor.seek_first().unwrap());
    assert!(cursor.seek(Position::new(&key(3), Timestamp::ZERO)).is_err());
    assert!(cursor.seek_first().unwrap());
    assert!(cursor.seek_last().is_err());
    assert!(!cursor.is_valid());
}

#[test]
fn an_index_entry_at_the_start_cannot_share() {
    let mut builder = BlockBuilder::new(2);
    let mut key = Vec::new();
    Position::new(b"k", Timestamp::ZERO).encode(&mut key);
    builder.add(&key, Value::Put(b"v"));
    let mut bytes = Vec::new();
    let len = builder.finish(&mut bytes, 0).len as usize;
    bytes.truncate(len);
    bytes[0] = 1;
    assert!(BlockCursor::new(Block::new(bytes.into()).unwrap()).seek_first().is_err());
}
