//! A small table on paper, byte by byte, so that a change of the format cannot go unnoticed.
//!
//! `testdata/small.txt` is what the current builder writes. `UPDATE_SCRIPTS=1 cargo test -p storage
//! golden` writes it anew, for review. `testdata/format_1.table` is the same table as the first
//! format wrote it: it is never written again, and has to open for ever.
//!
//! The printer here decodes by the drawings in `block`, `filter`, `index`, `properties` and
//! `footer`, on purpose without their code.

#![expect(clippy::disallowed_methods, reason = "the golden files lie in the repository")]

use std::fmt::Write;
use std::path::PathBuf;

use base::KeyRange;
use base::codec::Reader;
use base::text::escape;

use super::*;

const TEXT: &str = "small.txt";
const FORMAT_1: &str = "format_1.table";

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
        if !testdata(FORMAT_1).exists() {
            std::fs::write(testdata(FORMAT_1), &bytes).unwrap();
        }
    }
    let expected = std::fs::read_to_string(testdata(TEXT)).unwrap();
    assert_eq!(printed, expected, "if the change is meant: UPDATE_SCRIPTS=1, and review");
}

#[test]
fn the_first_format_opens_for_ever() {
    let bytes = std::fs::read(testdata(FORMAT_1)).unwrap();
    let disk = SimDisk::new();
    disk.write_file(PATH, &bytes).unwrap();
    let table = open(&disk).unwrap();
    table.verify().unwrap();
    let (mut scan, mut found) = (table.scan(KeyRange::all()), Model::new());
    while let Some(entry) = scan.next().unwrap() {
        found.extend([owned(entry)]);
    }
    assert_eq!(found, small_model());
    assert_eq!(table.properties().creator, "holm test");
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
        self.take(1, "compression: none");
        self.take(4, "crc32c, masked");
    }

    /// Prints a block of entries whose contents end at `end`, and returns the values.
    fn entries(&mut self, end: usize, is_index: bool) -> Vec<&'a [u8]> {
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
            let kind = match tag & 3 {
                0 => format!("value of {} bytes", tag >> 2),
                kind => ["", "tombstone"][kind].to_owned(),
            };
            let what = if is_index { "separator" } else { "entry" };
            self.take(header, format!("{what}: shared {shared}, unshared {unshared}, {kind}"));
            key.truncate(shared);
            key.extend_from_slice(&self.bytes[self.at..self.at + unshared]);
            let (user_key, suffix) = key.split_at(key.len() - 8);
            let ts = !u64::from_be_bytes(suffix.try_into().unwrap());
            let meaning = format!("  {} @{ts}", escape(user_key));
            self.take(unshared, meaning);
            values.push(&self.bytes[self.at..self.at + (tag >> 2)]);
            if is_index {
                let (mut reader, mut numbers) = (Reader::new(values[values.len() - 1]), Vec::new());
                while !reader.is_empty() {
                    numbers.push(reader.varint().unwrap().to_string());
                }
                let names = ["", "", "  at, length: ", "  filter at, length, index length: "];
                let meaning = format!("{}{}", names[numbers.len()], numbers.join(", "));
                self.take(tag >> 2, meaning);
            } else if tag >> 2 > 0 {
                let value = self.bytes[self.at..self.at + (tag >> 2)].to_vec();
                self.take(tag >> 2, format!("  {}", base::text::escape_short(&value, 24)));
            }
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
    let partitions = printer.entries(top_at + top_len, true);
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
        let handles = printer.entries(index_at + index_len, true);
        printer.trailer();
        let (index, index_end) = (std::mem::replace(&mut printer.out, before), printer.at);

        printer.at = data_at;
        for handle in handles {
            let [at, len] = varints(handle);
            assert_eq!(printer.at, at);
            printer.head(&format!("partition {number}: data"));
            printer.entries(at + len, false);
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
