//! What the fuzzers do with bytes that claim to be a value file: everything that reads.

use std::path::Path;

use base::checksum;
use env::SimDisk;

use super::reader::{FOOTER_BYTES, HEADER_BYTES, record_crc};
use super::{ValueHandle, ValuesFile};
use crate::Result;

/// Opens the bytes as a value file and reads it in all ways there are; then does so again with all
/// checksums made right, for the fuzzer to get past them. Decodes them as a handle, too.
pub fn values_file(bytes: &[u8]) {
    if let Ok(handle) = ValueHandle::decode(bytes) {
        let mut again = Vec::new();
        handle.encode(&mut again);
        assert_eq!(ValueHandle::decode(&again), Ok(handle), "a handle is encoded to mean the same");
    }
    let disk = SimDisk::new();
    let mut bytes = bytes.to_vec();
    for _ in 0..2 {
        if disk.write_file("values", &bytes).is_ok() {
            let _ = read(&disk);
        }
        make_checksums_right(&mut bytes);
    }
}

fn read(disk: &SimDisk) -> Result<()> {
    let file = ValuesFile::open(disk, Path::new("values"), 1)?;
    let _ = file.verify();
    for record in file.walk() {
        let record = record?;
        let mut handle = ValueHandle {
            file: 1,
            offset: record.offset,
            record_bytes: record.bytes,
            value_bytes: record.stored().len() as u32,
            crc: record.crc,
        };
        let _ = (file.read(&record.key, handle), file.check(&record.key, handle));
        handle.offset += 1;
        let _ = (file.read(&record.key, handle), file.check(&record.key, handle));
    }
    Ok(())
}

/// Corrects the checksum of each record that can be reached from the first, and of the footer.
fn make_checksums_right(bytes: &mut [u8]) {
    let Some(footer_at) = bytes.len().checked_sub(FOOTER_BYTES) else { return };
    let crc = checksum::of(&[&bytes[footer_at..footer_at + FOOTER_BYTES - 4]]);
    bytes[footer_at + FOOTER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    let mut at = 0;
    while at + HEADER_BYTES <= footer_at {
        let number = |from: usize, len: usize| {
            let bytes = bytes[at + from..at + from + len].iter().rev();
            bytes.fold(0usize, |number, &byte| number << 8 | usize::from(byte))
        };
        let len = HEADER_BYTES + number(4, 4) + number(8, 2);
        if len > footer_at - at {
            return;
        }
        let crc = record_crc(&bytes[at..at + len], at as u64);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at += len;
    }
}
