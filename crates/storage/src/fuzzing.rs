//! The decoders as the fuzzers call them, each with any bytes. They return nothing and must not
//! panic, loop, or take memory beyond a small multiple of their input.
//!
//! Compiled only for the fuzzers (`fuzz/`) and for the test below, which does the same with a few
//! thousand seeded inputs.

pub use crate::batch::fuzz_batch as batch;
pub use crate::directory::fuzz_format as format;
pub use crate::manifest::fuzz_manifest as manifest;
pub use crate::table::fuzzing::{table_block, table_open};
pub use crate::values::fuzzing::values_file;
pub use crate::wal::fuzzing::wal_record;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use base::Timestamp;
    use env::{Disk, OpenMode, SeededRandom, SimDisk};

    use super::*;
    use crate::Value;
    use crate::batch::encode_batch;
    use crate::directory::{CreateMode, Directory};
    use crate::manifest::{Edit, TableMeta};
    use crate::table::{Compression, TableBuilder, TableOptions};
    use crate::values::ValuesBuilder;
    use crate::wal::{Recovered, Wal, WalOptions, segment_name};

    const SEED: u64 = 20_231;
    const ROUNDS: u64 = 4_000;

    /// Returns the bytes of a table, of a manifest that names it, of a FORMAT file, of a batch, and
    /// of the records of a log.
    fn valid_files() -> Vec<Vec<u8>> {
        let disk = SimDisk::new();
        let root = Path::new("db");
        let directory = Directory::open_or_create(
            Arc::new(disk.clone()),
            root,
            CreateMode::MustBeNew,
            "test",
            [7; 16],
        );
        let directory = directory.unwrap();
        let path = directory.table_path(1);
        let options = TableOptions {
            block_bytes: 100,
            index_block_bytes: 60,
            restart_interval: 4,
            ..TableOptions::default()
        };
        let file = disk.open(&path, OpenMode::CreateNew).unwrap();
        let mut builder = TableBuilder::new(file, &path, options);
        for number in 0..40u8 {
            let value = if number % 5 == 0 { Value::Tombstone } else { Value::Put(&[number; 9]) };
            builder
                .add(&[b'k', number / 3], Timestamp::from_raw(!u64::from(number)), value)
                .unwrap();
        }
        let table = TableMeta::new(1, 0, &builder.finish().unwrap());
        let mut manifest = directory.open_manifest().unwrap();
        manifest.apply(&Edit { added: vec![table], ..Edit::default() }).unwrap();
        let paths = [path, root.join("MANIFEST"), root.join("FORMAT")];
        let mut files = Vec::from(paths.map(|path| disk.read_file(path).unwrap()));
        files.push(valid_batch());
        files.push(valid_values());
        files.push(valid_records());
        files
    }

    fn valid_values() -> Vec<u8> {
        let (disk, path) = (SimDisk::new(), Path::new("values"));
        let file = disk.open(path, OpenMode::CreateNew).unwrap();
        let mut builder = ValuesBuilder::new(file, path, 1, Compression::Lz4);
        for number in 0..5 {
            builder.add(b"key", &[number; 60]).unwrap();
        }
        builder.finish().unwrap();
        disk.read_file(path).unwrap()
    }

    fn valid_batch() -> Vec<u8> {
        let writes = [(&b"a"[..], Value::Put(b"1")), (b"gone", Value::Tombstone)];
        encode_batch(writes.into_iter(), 0)
    }

    /// A few records as they lie in a segment, a mark of a clean close among them.
    fn valid_records() -> Vec<u8> {
        let disk = SimDisk::new();
        let folder = Path::new("wal");
        disk.create_dir_all(folder).unwrap();
        let options = WalOptions { segment_bytes_min: 8 << 10, ..WalOptions::default() };
        let log = Recovered::default();
        let wal = Wal::open(
            Arc::new(disk.clone()),
            folder.into(),
            *b"0123456789abcdef",
            options,
            &log,
            0,
        );
        let wal = wal.unwrap();
        for number in 1..=3 {
            let payload = valid_batch();
            let crc = base::checksum::of(&[&payload]);
            wal.append(Timestamp::from_raw(number), &payload, crc).unwrap();
        }
        wal.close().unwrap();
        let bytes = disk.read_file(folder.join(segment_name(1))).unwrap();
        bytes[4096..][..wal.next().0 as usize].to_vec()
    }

    fn call_all(bytes: &[u8]) {
        table_block(bytes);
        table_open(bytes);
        manifest(bytes);
        format(bytes);
        batch(bytes);
        wal_record(bytes);
        values_file(bytes);
    }

    #[test]
    fn decoders_survive_random_bytes() {
        let mut random = SeededRandom::new(SEED);
        for _ in 0..ROUNDS {
            let len = random.below(300) as usize;
            // Small numbers are more often lengths and counts that make sense.
            let is_small = random.chance(500);
            let mut byte =
                || if is_small { random.below(20) as u8 } else { random.next_u64() as u8 };
            let bytes: Vec<u8> = (0..len).map(|_| byte()).collect();
            call_all(&bytes);
        }
    }

    #[test]
    fn decoders_survive_changed_files() {
        let mut random = SeededRandom::new(SEED);
        let files = valid_files();
        for _ in 0..ROUNDS {
            let mut bytes = files[random.below(files.len() as u64) as usize].clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len() as u64 + 1) as usize;
                match random.below(8) {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, random.next_u64() as u8),
                    2 => {
                        let from = random.below(at as u64 + 1) as usize;
                        bytes.extend_from_within(from..at);
                    }
                    _ => {
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte = [0, 1, 0x7f, 0x80, 0xff, *byte ^ 1][random.below(6) as usize];
                        }
                    }
                }
            }
            call_all(&bytes);
        }
    }
}
