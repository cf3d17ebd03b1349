//! A small value file on paper, byte by byte; what flipped bits and foreign handles do.
//!
//! `testdata/small.txt` is what the current builder writes; `UPDATE_SCRIPTS=1 cargo test -p storage
//! values` writes it anew, for review. `testdata/format_1.values` is the same file as that format
//! wrote it: it is never written again, and has to open for ever.

#![expect(clippy::disallowed_methods, reason = "the golden files lie in the repository")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use env::{Disk, OpenMode, SimDisk};

use super::reader::{FOOTER_BYTES, HEADER_BYTES};
use super::*;
use crate::Error;
use crate::directory::NewFile;
use crate::table::{Compression, TableOptions};

const PATH: &str = "7.values";
const NUMBER: u64 = 7;

fn rows() -> Vec<(&'static [u8], Vec<u8>)> {
    vec![
        (b"apple", b"plain bytes, too few to shrink".to_vec()),
        (b"", Vec::new()),
        (b"pear", b"again ".repeat(12)),
    ]
}

fn build(disk: &SimDisk, compression: Compression) -> (ValuesMeta, Vec<ValueHandle>) {
    let file = disk.open(PATH.as_ref(), OpenMode::CreateNew).unwrap();
    let mut builder = ValuesBuilder::new(file, PATH.as_ref(), NUMBER, compression);
    let handles = rows().iter().map(|(key, value)| builder.add(key, value).unwrap()).collect();
    (builder.finish().unwrap(), handles)
}

fn open(disk: &SimDisk) -> crate::Result<ValuesFile> {
    ValuesFile::open(disk, Path::new(PATH), NUMBER)
}

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/values/testdata").join(name)
}

/// Prints the bytes by the drawing in `mod.rs`, on purpose without its code.
fn print(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut line = |at: usize, len: usize, meaning: String| {
        for (row, chunk) in bytes[at..at + len].chunks(16).enumerate() {
            let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
            let meaning = if row == 0 { &meaning[..] } else { "" };
            let line = format!("{:5}  {:<47}  {meaning}", at + 16 * row, hex.join(" "));
            writeln!(out, "{}", line.trim_end()).unwrap();
        }
    };
    let number = |at: usize, len: usize| {
        let bytes = bytes[at..at + len].iter().rev();
        bytes.fold(0usize, |number, &byte| number << 8 | usize::from(byte))
    };
    let (mut at, footer_at) = (0, bytes.len() - 40);
    while at < footer_at {
        let (len, key_len) = (number(at + 4, 4), number(at + 8, 2));
        let record = &bytes[at..at + 12 + key_len + len];
        let crc = base::checksum::of(&[&record[4..], &(at as u64).to_le_bytes()]);
        line(
            at,
            4,
            format!("crc32c {}", if crc as usize == number(at, 4) { "right" } else { "?" }),
        );
        line(at + 4, 4, format!("value of {len} bytes"));
        line(at + 8, 2, format!("key of {key_len} bytes"));
        line(at + 10, 2, format!("method {}", record[10]));
        line(at + 12, key_len, base::text::escape(&record[12..12 + key_len]));
        line(at + 12 + key_len, len, base::text::escape(&record[12 + key_len..]));
        at += record.len();
    }
    line(at, 8, format!("{} values", number(at, 8)));
    line(at + 8, 8, format!("{} bytes", number(at + 8, 8)));
    line(at + 16, 8, format!("version {}", number(at + 16, 8)));
    line(at + 24, 12, "magic".to_owned());
    let crc = base::checksum::of(&[&bytes[at..at + 36]]);
    line(
        at + 36,
        4,
        format!("crc32c {}", if crc as usize == number(at + 36, 4) { "right" } else { "?" }),
    );
    out
}

#[test]
fn a_small_value_file_is_written_as_on_paper() {
    let disk = SimDisk::new();
    build(&disk, Compression::Lz4);
    let bytes = disk.read_file(PATH).unwrap();
    let printed = print(&bytes);
    if std::env::var_os("UPDATE_SCRIPTS").is_some() {
        std::fs::create_dir_all(testdata("")).unwrap();
        std::fs::write(testdata("small.txt"), &printed).unwrap();
        if !testdata("format_1.values").exists() {
            std::fs::write(testdata("format_1.values"), &bytes).unwrap();
        }
    }
    let expected = std::fs::read_to_string(testdata("small.txt")).unwrap();
    assert_eq!(printed, expected, "if the change is meant: UPDATE_SCRIPTS=1, and review");
}

#[test]
fn every_format_opens_for_ever() {
    let disk = SimDisk::new();
    disk.write_file(PATH, &std::fs::read(testdata("format_1.values")).unwrap()).unwrap();
    let file = open(&disk).unwrap();
    file.verify().unwrap();
    let found: Vec<_> = file
        .walk()
        .map(|record| {
            let record = record.unwrap();
            (record.key.to_vec(), record.value().unwrap().to_vec())
        })
        .collect();
    let expected: Vec<_> = rows().into_iter().map(|(key, value)| (key.to_vec(), value)).collect();
    assert_eq!(found, expected);
}

#[test]
fn values_come_back_however_they_are_stored() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let disk = SimDisk::new();
        let (meta, handles) = build(&disk, compression);
        let file = open(&disk).unwrap();
        assert_eq!(file.meta(), meta);
        assert_eq!(meta.values, 3);
        file.verify().unwrap();
        let mut end = 0;
        for ((key, value), handle) in rows().into_iter().zip(handles) {
            assert_eq!(file.read(key, handle).unwrap(), value);
            file.check(key, handle).unwrap();
            assert_eq!(handle.offset, end);
            end = handle.end().unwrap();
            let mut encoded = Vec::new();
            handle.encode(&mut encoded);
            assert!(encoded.len() <= HANDLE_BYTES_MAX);
            assert_eq!(ValueHandle::decode(&encoded), Ok(handle));
            assert!(ValueHandle::decode(&encoded[1..]).is_err());
        }
        assert_eq!(meta.bytes, end + FOOTER_BYTES as u64);
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for compression in [Compression::None, Compression::Lz4] {
        let disk = SimDisk::new();
        let (meta, handles) = build(&disk, compression);
        for offset in 0..meta.bytes {
            for bit in 0..8 {
                disk.flip_bit(PATH, offset, bit).unwrap();
                let verified = open(&disk).and_then(|file| file.verify());
                assert!(verified.is_err(), "byte {offset} bit {bit}");
                // Whoever reads a value gets that or an error.
                if let Ok(file) = open(&disk) {
                    for ((key, value), handle) in rows().into_iter().zip(&handles) {
                        let is_hit = (handle.offset..handle.end().unwrap()).contains(&offset);
                        match file.read(key, *handle) {
                            Ok(found) => assert!(found == value && !is_hit, "byte {offset}"),
                            Err(Error::Damaged { .. }) => assert!(is_hit, "byte {offset}"),
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                disk.flip_bit(PATH, offset, bit).unwrap();
            }
        }
        for len in 0..meta.bytes {
            let bytes = disk.read_file(PATH).unwrap();
            let cut = SimDisk::new();
            cut.write_file(PATH, &bytes[..len as usize]).unwrap();
            assert!(open(&cut).is_err(), "cut to {len} bytes");
        }
    }
}

#[test]
fn a_handle_means_one_record_and_no_other() {
    let disk = SimDisk::new();
    let (_, handles) = build(&disk, Compression::None);
    let file = open(&disk).unwrap();
    let [apple, _, pear] = handles[..] else { panic!("three rows") };
    let refused = |key: &[u8], handle: ValueHandle| {
        assert!(matches!(file.read(key, handle), Err(Error::Damaged { .. })), "{handle:?}");
        assert!(matches!(file.check(key, handle), Err(Error::Damaged { .. })), "{handle:?}");
    };
    refused(b"pear", apple);
    refused(b"apple", pear);
    refused(b"apple", ValueHandle { offset: 1, ..apple });
    refused(b"apple", ValueHandle { offset: u64::MAX, ..apple });
    refused(b"apple", ValueHandle { crc: apple.crc ^ 1, ..apple });
    refused(b"apple", ValueHandle { record_bytes: apple.record_bytes + 1, ..apple });
    refused(b"apple", ValueHandle { record_bytes: HEADER_BYTES as u32 - 1, ..apple });
    let wrong = ValueHandle { value_bytes: 1, ..apple };
    assert!(matches!(file.read(b"apple", wrong), Err(Error::Damaged { .. })));
}

#[test]
fn a_writer_begins_a_file_when_one_is_full_and_keeps_small_values_out() {
    let disk = SimDisk::new();
    let options =
        TableOptions { separate_from: Some(10), value_file_bytes: 100, ..TableOptions::default() };
    let mut writer = ValueWriter::new(options);
    assert!(!writer.is_apart(b"k", &[1; 9]) && writer.is_apart(b"k", &[1; 10]));
    assert!(!writer.is_apart(&[0; 1 << 16], &[1; 10]), "the key fits no record");
    let mut next = 0;
    let mut create = || {
        next += 1;
        let path = PathBuf::from(format!("{next}"));
        let file = disk.open(&path, OpenMode::CreateNew).unwrap();
        Ok(NewFile { number: next, file, path })
    };
    let handles: Vec<_> =
        (0..6u8).map(|n| writer.put(&[n], &[n; 40], &mut create).unwrap()).collect();
    let files = writer.finish().unwrap();
    assert_eq!(files.iter().map(|file| file.values).collect::<Vec<_>>(), [4, 2]);
    assert_eq!(writer.bytes(), files.iter().map(|file| file.bytes).sum::<u64>());
    for (n, handle) in (0..6u8).zip(handles) {
        let path = PathBuf::from(format!("{}", handle.file));
        let file = ValuesFile::open(&disk, &path, handle.file).unwrap();
        assert_eq!(file.read(&[n], handle).unwrap(), vec![n; 40]);
    }
    let never = TableOptions { separate_from: None, ..TableOptions::default() };
    assert!(!ValueWriter::new(never).is_apart(b"k", &[1; 1 << 20]));
}

/// More than is collected before it is written.
#[test]
fn values_of_a_long_file_lie_where_their_handles_say() {
    let disk = SimDisk::new();
    let file = disk.open(PATH.as_ref(), OpenMode::CreateNew).unwrap();
    let mut builder = ValuesBuilder::new(file, PATH.as_ref(), NUMBER, Compression::None);
    let value = |n: u8| vec![n; 200_000 + usize::from(n)];
    let handles: Vec<_> = (0..12).map(|n| builder.add(&[n], &value(n)).unwrap()).collect();
    let meta = builder.finish().unwrap();
    assert_eq!(meta.bytes, disk.read_file(PATH).unwrap().len() as u64);
    let file = open(&disk).unwrap();
    file.verify().unwrap();
    for (n, handle) in (0..12).zip(handles) {
        assert_eq!(file.read(&[n], handle).unwrap(), value(n));
        file.check(&[n], handle).unwrap();
    }
}
