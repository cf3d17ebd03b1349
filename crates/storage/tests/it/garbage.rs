//! Batches and logs of arbitrary bytes: an error, never a panic, and never a stranger's record.

use std::path::Path;

use env::{Disk, SeededRandom, SimDisk};
use storage::batch::{decode_batch, encode_batch};
use storage::wal::{Lsn, RecordKind, read_log, segment_name};
use storage::{Error, Value};

#[test]
fn a_batch_of_any_bytes_is_an_error_or_what_encodes_to_it() {
    let mut random = SeededRandom::new(1);
    let mut whole = 0;
    for _ in 0..60_000 {
        let len = random.below(40) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| random.below(6) as u8).collect();
        if random.chance(900)
            && let Some(first) = bytes.first_mut()
        {
            *first = 1;
        }
        let mut writes = Vec::new();
        let Ok(count) = decode_batch(&bytes, |key, value| writes.push((key, value))) else {
            continue;
        };
        assert_eq!(count, writes.len() as u64);
        assert_eq!(encode_batch(writes.iter().copied(), 0), bytes);
        whole += 1;
    }
    assert!(whole > 100, "too few were whole: {whole}");
}

#[test]
fn a_batch_that_promises_more_than_there_is_does_not_reserve_it() {
    // A count of 2^63 writes, and a key of 2^62 bytes.
    let many = [&[1][..], &[0x80; 9], &[1]].concat();
    assert!(decode_batch(&many, |_, _: Value<'_>| ()).is_err());
    let long = [&[1, 1, 1][..], &[0xff; 8], &[0x3f]].concat();
    assert!(decode_batch(&long, |_, _: Value<'_>| ()).is_err());
}

#[test]
fn a_log_of_any_bytes_is_refused_or_empty() {
    let mut random = SeededRandom::new(2);
    for _ in 0..2_000 {
        let disk = SimDisk::new();
        let folder = Path::new("wal");
        disk.create_dir_all(folder).unwrap();
        for number in 1..=1 + random.below(3) {
            let len = random.below(9_000) as usize;
            let is_sparse = random.chance(500);
            let mut byte =
                || if is_sparse && random.chance(990) { 0 } else { random.next_u64() as u8 };
            let bytes: Vec<u8> = (0..len).map(|_| byte()).collect();
            disk.write_file(folder.join(segment_name(number)), &bytes).unwrap();
        }
        let read = read_log(&disk, folder, [7; 16], Lsn(0), |record| {
            assert_eq!(record.kind, RecordKind::Entry, "no record can be in it");
            panic!("a record was made of noise");
        });
        match read {
            Ok(recovered) => assert_eq!(recovered.records, 0),
            Err(Error::Damaged { path, .. }) => assert!(path.starts_with(folder)),
            Err(error) => panic!("{error}"),
        }
    }
}
