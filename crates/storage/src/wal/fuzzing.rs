//! The reader of the log as the fuzzers call it.

use std::path::Path;

use base::checksum;
use env::{Disk, SimDisk};

use super::record::{HEADER_BYTES, decode_header, encode_header, record_bytes};
use super::segment::{SEGMENT_HEADER_BYTES, encode_segment_header};
use super::{Lsn, Record, RecordKind, read_log_through_damage, segment_name};
use crate::batch::decode_batch;

const ID: [u8; 16] = *b"0123456789abcdef";

/// Where the records of the segment that is read begin.
const BASE: Lsn = Lsn(8);

/// Reads the bytes as a log of one segment; then as the records of a sound segment, as they are and
/// with the checksums of their headers and payloads made right.
pub fn wal_record(bytes: &[u8]) {
    read(bytes);
    let file_bytes = SEGMENT_HEADER_BYTES + bytes.len() as u64;
    let mut segment = encode_segment_header(1, BASE, ID, file_bytes);
    segment.extend_from_slice(bytes);
    read(&segment);
    seal_records(&mut segment[SEGMENT_HEADER_BYTES as usize..]);
    read(&segment);
}

fn read(segment: &[u8]) {
    let disk = SimDisk::new();
    let folder = Path::new("wal");
    let file = folder.join(segment_name(1));
    if disk.create_dir_all(folder).and_then(|()| disk.write_file(file, segment)).is_err() {
        return;
    }
    let mut next = BASE;
    let outcome = read_log_through_damage(&disk, folder, ID, BASE, |record: Record<'_>| {
        assert_eq!(record.lsn, next, "records follow each other");
        next = Lsn(next.0 + record_bytes(record.payload.len()));
        if record.kind == RecordKind::Entry {
            let _ = decode_batch(record.payload, |_, _| ());
        }
        Ok(())
    });
    if let Ok((recovered, _)) = outcome {
        assert!(recovered.torn_bytes <= segment.len() as u64);
    }
}

/// Makes a sound record of each stretch of bytes that could be one: the fields stay, the checksums
/// and the length come to fit.
fn seal_records(mut bytes: &mut [u8]) {
    let mut lsn = BASE;
    while bytes.len() >= HEADER_BYTES {
        let u64_at = |at: usize| {
            bytes
                .get(at..at + 8)
                .map_or(0, |b| b.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
        };
        let payload_len = (u64_at(4) as usize % 256).min(bytes.len() - HEADER_BYTES);
        let payload = &bytes[HEADER_BYTES..HEADER_BYTES + payload_len];
        let kind = if bytes[12] % 4 == 3 { RecordKind::Close } else { RecordKind::Entry };
        let header = encode_header(
            lsn,
            kind,
            u64_at(16),
            u64_at(24),
            u64_at(32),
            Lsn(u64_at(40)),
            base::Timestamp::from_raw(u64_at(48)),
            payload_len,
            checksum::of(&[payload]),
        );
        assert!(decode_header(lsn, &header).is_some());
        bytes[..HEADER_BYTES].copy_from_slice(&header);
        let taken = record_bytes(payload_len);
        lsn = Lsn(lsn.0 + taken);
        bytes = bytes.get_mut(taken as usize..).unwrap_or_default();
    }
}
