//! A small table on paper, byte by byte, so that a change of the format cannot go unnoticed.
//!
//! `testdata/small.txt` is what the current builder writes. `UPDATE_SCRIPTS=1 cargo test -p storage
//! golden` writes it anew, for review. `testdata/format_1.table` and `format_2.table` are the same
//! table as these formats wrote it, `format_2_zstd.table` as the second one did with the other
//! compression; `format_3.table` refers to values. They are never written again, and have to open
//! for ever.
//!
//! The printer here decodes by the drawings in `block`, `data`, `filter`, `index`, `properties` and
//! `footer`, on purpose without their code.

#![expect(clippy::disallowed_methods, reason = "the golden files lie in the repository")]

use std::fmt::Write;
use std::path::PathBuf;

use base::KeyRange;
use base::codec::Reader;
use base::text::escape;

use super::*;
use crate::Stored;
use crate::table::BlockLine;
use crate::values::{ValueHandle, ValueUse};

const TEXT: &str = "small.txt";
const FORMAT_1: &str = "format_1.table";
const FORMAT_2: &str = "format_2.table";
const FORMAT_3: &str = "format_3.table";
const FORMAT_2_ZSTD: &str = "format_2_zstd.table";

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/table/testdata").join(name)
}

fn is_update() -> bool {
    std::env::var_os("UPDATE_SCRIPTS").is_some()
}

#[test]
fn a_small_table_is_written_as_on_paper() {
    let disk = SimDisk::new();
    build(&disk, &small_model(), tiny_blocks());
    let bytes = disk.read_file(PATH).unwrap();
    let printed = print_table(&bytes);
    if is_update() {
        std::fs::write(testdata(TEXT), &printed).unwrap();
        if !testdata(FORMAT_2).exists() {
            std::fs::write(testdata(FORMAT_2), &bytes).unwrap();
        }
        if !testdata(FORMAT_2_ZSTD).exists() {
            let disk = SimDisk::new();
            let compression = Compression::Zstd;
            build(&disk, &small_model(), TableOptions { compression, ..tiny_blocks() });
            std::fs::write(testdata(FORMAT_2_ZSTD), disk.read_file(PATH).unwrap()).unwrap();
        }
    }
    let expected = std::fs::read_to_string(testdata(TEXT)).unwrap();
    assert_eq!(printed, expected, "if the change is meant: UPDATE_SCRIPTS=1, and review");
}

/// A table that refers to values in two files, as this format writes it.
#[test]
fn a_table_that_refers_to_values_opens_for_ever() {
    let handle = |file, offset, crc| {
        Stored::Apart(ValueHandle { file, offset, record_bytes: 700, value_bytes: 650, crc })
    };
    let entries = [
        (&b"apple"[..], 9, handle(12, 0, 0x0102_0304)),
        (b"apple", 4, handle(7, 1400, 5)),
        (b"pear", 6, Stored::Put(b"short")),
        (b"plum", 8, Stored::Tombstone),
        (b"quince", 2, handle(7, 700, u32::MAX)),
    ];
    let disk = SimDisk::new();
    if is_update() && !testdata(FORMAT_3).exists() {
        let file = disk.open(PATH.as_ref(), OpenMode::CreateNew).unwrap();
        let mut builder = TableBuilder::new(file, PATH.as_ref(), tiny_blocks());
        for (key, ts, value) in entries {
            builder.add(key, Timestamp::from_raw(ts), value).unwrap();
        }
        builder.finish().unwrap();
        std::fs::write(testdata(FORMAT_3), disk.read_file(PATH).unwrap()).unwrap();
    }
    let bytes = std::fs::read(testdata(FORMAT_3)).unwrap();
    // The handle of the first entry, by the drawing: file, offset, two lengths, checksum.
    let drawn = [12, 0, 0xbc, 5, 0x8a, 5, 4, 3, 2, 1];
    assert!(bytes.windows(drawn.len()).any(|window| window == drawn));
    disk.write_file(PATH, &bytes).unwrap();
    let table = open(&disk).unwrap();
    table.verify().unwrap();
    let mut scan = table.scan(KeyRange::all());
    for (key, ts, value) in entries {
        let entry = scan.next().unwrap().unwrap();
        assert_eq!((entry.key, entry.ts.raw(), entry.value), (key, ts, value));
        let found = table.get(key, key_hash(key), entry.ts).unwrap().unwrap();
        match (found.value, value) {
            (Place::Apart(found), Stored::Apart(expected)) => assert_eq!(found, expected),
            (Place::Inline(found), Stored::Put(expected)) => assert_eq!(found, expected),
            (Place::Tombstone, Stored::Tombstone) => {}
            other => panic!("{other:?}"),
        }
    }
    let uses = [(7, 2, 1400), (12, 1, 700)];
    let uses = uses.map(|(file, values, bytes)| ValueUse { file, values, bytes });
    assert_eq!(table.properties().values, uses);
    assert_eq!(table.describe().unwrap().format_version, 3);
}

#[test]
fn every_format_opens_for_ever() {
    for (name, format_version) in [(FORMAT_1, 1), (FORMAT_2, 2), (FORMAT_2_ZSTD, 2)] {
        let bytes = std::fs::read(testdata(name)).unwrap();
        let disk = SimDisk::new();
        disk.write_file(PATH, &bytes).unwrap();
        let table = open(&disk).unwrap();
        table.verify().unwrap();
        let (mut scan, mut found) = (table.scan(KeyRange::all()), Model::new());
        while let Some(entry) = scan.next().unwrap() {
            found.extend([owned(entry)]);
        }
        assert_eq!(found, small_model(), "{name}");
        for ((key, inverted_ts), value) in small_model() {
            let ts = Timestamp::from_raw(!inverted_ts);
            let expected = Found { ts, value: value.map(bytes::Bytes::from) };
            assert_eq!(get(&table, &key, ts).unwrap(), Some(expected), "{name}");
        }
        assert_eq!(table.properties().creator, "holm test");
        let description = table.describe().unwrap();
        assert_eq!(description.format_version, format_version);
        assert!(description.blocks.iter().all(|line| line.damage.is_none()), "{name}");
        let is_zstd = |line: &BlockLine| line.compression == Compression::Zstd;
        assert_eq!(description.blocks.iter().any(is_zstd), name == FORMAT_2_ZSTD);
    }
}

/// Prints bytes with their offset, in hexadecimal, and with their meaning.
struct Printer<'a> {
    bytes: &'a [u8],
    at: usize,
    out: String,
}

impl<'a> Printer<'a> {
    /// Prints the next bytes and returns them.
    fn take(&mut self, len: usize, meaning: impl std::fmt::Display) -> &'a [u8] {
        let taken = &self.bytes[self.at..self.at + len];
        for (row, chunk) in taken.chunks(16).enumerate() {
            let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
            let meaning = if row == 0 { meaning.to_string() } else { String::new() };
            let line = format!("{:5}  {:<47}  {meaning}", self.at + 16 * row, hex.join(" "));
            writeln!(self.out, "{}", line.trim_end()).unwrap();
        }
        self.at += len;
        taken
    }

    fn head(&mut self, text: &str) {
        writeln!(self.out, "\n{text}").unwrap();
    }

    fn varint(&mut self, name: &str) -> usize {
        let mut reader = Reader::new(&self.bytes[self.at..]);
        let value = reader.varint().unwrap();
        let len = self.bytes.len() - self.at - reader.rest().len();
        self.take(len, format!("{name} {value}"));
        value as usize
    }

    fn number(&mut self, len: usize, name: &str) -> u64 {
        let bytes = self.bytes[self.at..self.at + len].iter().rev();
        let value = bytes.fold(0, |value, &byte| value << 8 | u64::from(byte));
        self.take(len, format!("{name} {value}"));
        value
    }

    fn trailer(&mut self) {
        let names = ["none", "LZ4", "Zstandard"];
        self.take(1, format!("compression: {}", names[usize::from(self.bytes[self.at])]));
        self.take(4, "crc32c, masked");
    }

    /// Prints a data block whose stored contents end at `end`.
    fn data(&mut self, end: usize) {
        if self.bytes[end] != 0 {
            self.number(4, "bytes before compression:");
            self.take(end - self.at, "compressed");
            return;
        }
        let [interval, flags] = self.bytes[end - 2..end].try_into().unwrap();
        let count = u32::from_le_bytes(self.bytes[end - 6..end - 2].try_into().unwrap()) as usize;
        assert_eq!(flags, 1, "a small block has tags and narrow offsets");
        let start = self.at;
        let entries_end = end - 6 - 3 * count;
        let offset = |number: usize| {
            let at = entries_end + 2 * number;
            let offset = u16::from_le_bytes(self.bytes[at..at + 2].try_into().unwrap());
            if number == count { entries_end } else { start + usize::from(offset) }
        };
        let ends: Vec<usize> = (1..=count).map(offset).collect();
        let mut base = Vec::new();
        for (number, entry_end) in ends.into_iter().enumerate() {
            let mut reader = Reader::new(&self.bytes[self.at..]);
            let shared = reader.varint().unwrap() as usize;
            let rest = reader.varint().unwrap() as usize;
            let header = self.bytes.len() - self.at - reader.rest().len();
            let (rest, kind) = (rest >> 2, ["value", "tombstone"][rest & 3]);
            self.take(header, format!("entry: shared {shared}, rest {rest}, {kind}"));
            self.number(8, "  timestamp");
            let key = [&base[..shared], &self.bytes[self.at..self.at + rest]].concat();
            if rest > 0 {
                self.take(rest, format!("  {}", escape(&key)));
            }
            if number.is_multiple_of(usize::from(interval)) {
                assert_eq!(shared, 0);
                base = key;
            }
            let value = &self.bytes[self.at..entry_end];
            if !value.is_empty() {
                self.take(value.len(), format!("  {}", escape(value)));
            }
        }
        for _ in 0..count {
            self.number(2, "offset of an entry");
        }
        self.take(count, "tags");
        self.number(4, "entries:");
        self.number(1, "interval:");
        self.take(1, "flags: tags");
    }

    /// Prints an index block whose contents end at `end`, and returns the values.
    fn index(&mut self, end: usize) -> Vec<&'a [u8]> {
        let count = u32::from_le_bytes(self.bytes[end - 4..end].try_into().unwrap()) as usize;
        let entries_end = end - 4 - 4 * count;
        let (mut key, mut values) = (Vec::new(), Vec::new());
        while self.at < entries_end {
            let mut reader = Reader::new(&self.bytes[self.at..]);
            let (shared, unshared, tag) = (
                reader.varint().unwrap() as usize,
                reader.varint().unwrap() as usize,
                reader.varint().unwrap() as usize,
            );
            let header = self.bytes.len() - self.at - reader.rest().len();
            assert_eq!(tag & 3, 0);
            let value_len = tag >> 2;
            let meaning = format!("value of {value_len} bytes");
            self.take(
                header,
                format!("separator: shared {shared}, unshared {unshared}, {meaning}"),
            );
            key.truncate(shared);
            key.extend_from_slice(&self.bytes[self.at..self.at + unshared]);
            let (user_key, suffix) = key.split_at(key.len() - 8);
            let ts = !u64::from_be_bytes(suffix.try_into().unwrap());
            let meaning = format!("  {} @{ts}", escape(user_key));
            self.take(unshared, meaning);
            values.push(&self.bytes[self.at..self.at + value_len]);
            let (mut reader, mut numbers) = (Reader::new(values[values.len() - 1]), Vec::new());
            while !reader.is_empty() {
                numbers.push(reader.varint().unwrap().to_string());
            }
            let names = ["", "", "  at, length: ", "  filter at, length, index length: "];
            self.take(value_len, format!("{}{}", names[numbers.len()], numbers.join(", ")));
        }
        for _ in 0..count {
            self.number(4, "restart at");
        }
        self.number(4, "restarts:");
        values
    }
}

fn varints<const N: usize>(value: &[u8]) -> [usize; N] {
    let mut reader = Reader::new(value);
    [(); N].map(|()| reader.varint().unwrap() as usize)
}

fn print_table(bytes: &[u8]) -> String {
    let footer_at = bytes.len() - 48;
    let mut printer = Printer { bytes, at: footer_at, out: String::new() };
    printer.head("footer");
    let top_at = printer.number(8, "top index at") as usize;
    let top_len = printer.number(4, "  length") as usize;
    printer.number(4, "format version");
    let properties_at = printer.number(8, "properties at") as usize;
    let properties_len = printer.number(4, "  length") as usize;
    printer.take(4, "zero");
    printer.take(8, "magic");
    printer.take(4, "zero");
    printer.take(4, "crc32c, masked");
    let footer = std::mem::take(&mut printer.out);

    printer.at = top_at;
    printer.head("top index");
    let partitions = printer.index(top_at + top_len);
    printer.trailer();
    let top_index = std::mem::take(&mut printer.out);

    printer.head("properties");
    assert_eq!(printer.at, properties_at);
    while printer.at < properties_at + properties_len {
        let tag = printer.varint("tag");
        let len = printer.varint("  length");
        let value = &bytes[printer.at..printer.at + len];
        let is_text = matches!(tag, 8..=10);
        let number = || Reader::new(value).varint().unwrap().to_string();
        let meaning = if is_text { escape(value) } else { number() };
        if len > 0 {
            printer.take(len, format!("  {meaning}"));
        }
    }
    printer.trailer();
    assert_eq!(printer.at, footer_at);
    let properties = std::mem::take(&mut printer.out);

    printer.at = 0;
    for (number, partition) in partitions.into_iter().enumerate() {
        let [filter_at, filter_len, index_len] = varints(partition);
        let (data_at, index_at) = (printer.at, filter_at + filter_len + 5);
        // The index first, to learn where the data blocks are; then all in the order of the file.
        printer.at = index_at;
        let before = std::mem::take(&mut printer.out);
        printer.head(&format!("partition {number}: index"));
        let handles = printer.index(index_at + index_len);
        printer.trailer();
        let (index, index_end) = (std::mem::replace(&mut printer.out, before), printer.at);

        printer.at = data_at;
        for handle in handles {
            let [at, len] = varints(handle);
            assert_eq!(printer.at, at);
            printer.head(&format!("partition {number}: data"));
            printer.data(at + len);
            printer.trailer();
        }
        printer.head(&format!("partition {number}: filter"));
        for _ in 0..filter_len / 64 {
            printer.take(64, "line");
        }
        printer.number(1, "probes:");
        printer.trailer();
        assert_eq!(printer.at, index_at);
        printer.out += &index;
        printer.at = index_end;
    }
    assert_eq!(printer.at, top_at);
    let header =
        "# A table, byte by byte: offset, bytes, meaning. See src/table/tests/golden.rs.\n";
    format!("{header}{}{top_index}{properties}{footer}", printer.out)
}
