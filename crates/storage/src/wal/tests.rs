//! The log on a simulated disk: stopped at every operation, torn, flipped, filled up, and shared by
//! threads.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Timestamp, checksum};
use env::{CrashMode, Disk, SeededRandom, SimDisk};

use super::*;
use crate::error::{Error, Result};
use crate::sync::spawn;

const ID: [u8; 16] = *b"0123456789abcdef";

fn folder() -> PathBuf {
    PathBuf::from("wal")
}

/// Segments so small that a handful of records fills one.
fn options() -> WalOptions {
    WalOptions { segment_bytes_min: 8 << 10, segment_bytes_max: 16 << 10, spares_max: 1 }
}

fn new_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(&folder()).unwrap();
    disk
}

/// Opens the log and returns the payloads in it.
fn open(disk: &SimDisk, start: Lsn) -> Result<(Wal, Vec<Vec<u8>>)> {
    open_with(disk, start, options())
}

fn open_with(disk: &SimDisk, start: Lsn, options: WalOptions) -> Result<(Wal, Vec<Vec<u8>>)> {
    let mut payloads = Vec::new();
    let recovered = read_log(disk, &folder(), ID, start, |record| {
        if record.kind == RecordKind::Entry {
            payloads.push(record.payload.to_vec());
        }
        Ok(())
    })?;
    let last_index = recovered.end.last_index.unwrap_or(0);
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let wal = Wal::open(disk, folder(), ID, options, &recovered, last_index)?;
    Ok((wal, payloads))
}

/// A payload that says which one it is, of a length that depends on it.
fn payload(number: u64) -> Vec<u8> {
    let mut random = SeededRandom::new(number);
    let len = [3, 40, 400, 2500, 9000][random.below(5) as usize] + random.below(9) as usize;
    let mut bytes = format!("{number}:").into_bytes();
    bytes.resize(bytes.len() + len, number as u8);
    bytes
}

fn append(wal: &Wal, number: u64) -> Result<Lsn> {
    let payload = payload(number);
    wal.append(Timestamp::from_raw(number), &payload, checksum::of(&[&payload]))
}

fn expect_prefix(payloads: &[Vec<u8>], acked: u64, tried: u64, context: &str) {
    let found = payloads.len() as u64;
    assert!(found >= acked, "{context}: {acked} were acknowledged, {found} are there");
    assert!(found <= tried, "{context}: {tried} were appended, {found} are there");
    for (index, bytes) in payloads.iter().enumerate() {
        assert_eq!(bytes, &payload(index as u64 + 1), "{context}: record {index}");
    }
}

/// Appends records `from..` in groups, each group synced; returns (acknowledged, tried).
fn work(wal: &Wal, from: u64, groups: u64) -> (u64, u64) {
    let (mut acked, mut number) = (from - 1, from - 1);
    for group in 0..groups {
        let mut end = Lsn(0);
        for _ in 0..=group % 3 {
            match append(wal, number + 1) {
                Ok(lsn) => (end, number) = (lsn, number + 1),
                Err(_) => return (acked, number),
            }
        }
        if wal.sync_to(end).is_err() {
            return (acked, number);
        }
        acked = number;
        if group % 2 == 1 && wal.prepare_segment().is_err() {
            return (acked, number);
        }
    }
    (acked, number)
}

#[test]
fn records_come_back_in_order_over_many_segments() {
    let disk = new_disk();
    let (wal, payloads) = open(&disk, Lsn(0)).unwrap();
    assert!(payloads.is_empty());
    let (acked, tried) = work(&wal, 1, 60);
    assert_eq!(acked, tried);
    assert!(wal.stats().segments > 5, "{:?}", wal.stats());
    assert_eq!(wal.last_index(), acked);
    drop(wal);
    let (wal, payloads) = open(&disk, Lsn(0)).unwrap();
    expect_prefix(&payloads, acked, acked, "reopened");
    let (acked, _) = work(&wal, acked + 1, 30);
    drop(wal);
    let (_, payloads) = open(&disk, Lsn(0)).unwrap();
    expect_prefix(&payloads, acked, acked, "reopened again");
}

#[test]
fn whatever_operation_the_machine_stops_at_what_was_acknowledged_is_there() {
    let modes = [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced];
    let torn = (1..=6).map(CrashMode::Torn);
    let modes: Vec<CrashMode> = modes.into_iter().chain(torn).collect();
    let mut stop = 0;
    loop {
        let disk = new_disk();
        disk.stop_at(disk.operations() + stop);
        let (acked, tried) = match open(&disk, Lsn(0)) {
            Ok((wal, _)) => work(&wal, 1, 16),
            Err(_) => (0, 0),
        };
        for mode in &modes {
            let context = format!("stop at {stop}, {mode:?}");
            let crashed = disk.crash(*mode);
            // A second life after the crash, stopped somewhere too, must not bring back the first.
            let (wal, payloads) = open(&crashed, Lsn(0)).expect(&context);
            expect_prefix(&payloads, acked, tried + 1, &context);
            let first = payloads.len() as u64 + 1;
            crashed.stop_at(crashed.operations() + stop % 7);
            let (acked, tried) = work(&wal, first, 5);
            let again = crashed.crash(CrashMode::Torn(stop));
            let (_, payloads) = open(&again, Lsn(0)).expect(&context);
            expect_prefix(&payloads, acked, tried + 1, &format!("{context}, second life"));
        }
        if !disk.is_stopped() {
            break;
        }
        stop += 1;
    }
    assert!(stop > 40, "the workload is shorter than thought: {stop} operations");
}

#[test]
fn remains_of_an_unsynced_write_are_not_brought_back_by_later_records() {
    // Records of exactly one aligned write: new ones end just where old remains begin, and their
    // padding does not cover those.
    let append = |wal: &Wal, text: &[u8; 4040]| {
        wal.append(Timestamp::from_raw(1), text, checksum::of(&[text])).unwrap()
    };
    for seed in 0..200 {
        let disk = new_disk();
        let (wal, _) = open_with(&disk, Lsn(0), WalOptions::default()).unwrap();
        wal.sync_to(append(&wal, &[1; 4040])).unwrap();
        disk.stop_at(disk.operations());
        append(&wal, &[2; 4040]);
        wal.sync_to(append(&wal, &[3; 4040])).unwrap_err();
        let disk = disk.crash(CrashMode::Torn(seed));
        let (wal, payloads) = open_with(&disk, Lsn(0), WalOptions::default()).unwrap();
        let known = payloads.len();
        wal.sync_to(append(&wal, &[4; 4040])).unwrap();
        drop(wal);
        let (_, payloads) = open_with(&disk, Lsn(0), WalOptions::default()).unwrap();
        assert_eq!(payloads.len(), known + 1, "seed {seed}");
        assert_eq!(payloads[known], [4; 4040], "seed {seed}");
    }
}

#[test]
fn every_flipped_bit_below_a_voucher_is_damage() {
    let disk = new_disk();
    let (wal, _) = open(&disk, Lsn(0)).unwrap();
    for number in [1, 2, 3] {
        let text = format!("payload {number}").into_bytes();
        let crc = checksum::of(&[&text]);
        wal.sync_to(wal.append(Timestamp::from_raw(number), &text, crc).unwrap()).unwrap();
    }
    wal.close().unwrap();
    // The stream begins at position 8.
    let until = 4096 - 8 + wal.next().0;
    drop(wal);
    let path = folder().join(segment_name(1));
    let close_from = until - record::record_bytes(0);
    for offset in (0..48).chain(4096..close_from) {
        let padding = (4096..close_from).contains(&offset) && {
            let in_record = (offset - 4096) % 72;
            in_record >= 56 + 9
        };
        disk.flip_bit(&path, offset, (offset % 8) as u8).unwrap();
        let found = open_count(&disk);
        match found {
            Err(Error::Damaged { path: found, offset: at, .. }) => {
                assert_eq!(found, path);
                assert!(at <= offset && (offset < 4096 || at + 72 > offset), "{offset}: {at}");
            }
            Ok(4) if padding => {}
            other => panic!("offset {offset}: {other:?}"),
        }
        disk.flip_bit(&path, offset, (offset % 8) as u8).unwrap();
    }
    assert_eq!(open_count(&disk).unwrap(), 4);
}

fn open_count(disk: &SimDisk) -> Result<u64> {
    Ok(read_log(disk, &folder(), ID, Lsn(0), |_| Ok(()))?.records)
}

#[test]
fn a_damaged_last_record_is_found_after_a_clean_close_only() {
    let disk = new_disk();
    let (wal, _) = open(&disk, Lsn(0)).unwrap();
    let first = append(&wal, 1).unwrap();
    wal.sync_to(append(&wal, 2).unwrap()).unwrap();
    let path = folder().join(segment_name(1));
    disk.flip_bit(&path, 4096 - 8 + first.0 + 60, 3).unwrap();
    assert_eq!(open_count(&disk).unwrap(), 1, "nothing vouches for it: a torn tail");
    disk.flip_bit(&path, 4096 - 8 + first.0 + 60, 3).unwrap();
    wal.close().unwrap();
    disk.flip_bit(&path, 4096 - 8 + first.0 + 60, 3).unwrap();
    assert!(matches!(open_count(&disk), Err(Error::Damaged { .. })));
}

#[test]
fn opening_and_closing_alone_appends_one_mark() {
    let disk = new_disk();
    let (wal, _) = open(&disk, Lsn(0)).unwrap();
    wal.sync_to(append(&wal, 1).unwrap()).unwrap();
    wal.close().unwrap();
    let end = wal.next();
    for _ in 0..3 {
        let (wal, payloads) = open(&disk, Lsn(0)).unwrap();
        wal.close().unwrap();
        assert_eq!((payloads.len(), wal.next()), (1, end));
    }
    let (wal, _) = open(&disk, Lsn(0)).unwrap();
    append(&wal, 2).unwrap();
    wal.close().unwrap();
    assert!(wal.next() > end);
}

#[test]
fn a_missing_segment_is_damage() {
    let disk = new_disk();
    let (wal, _) = open(&disk, Lsn(0)).unwrap();
    work(&wal, 1, 30);
    drop(wal);
    let newest = *segment::list_segments(&disk, &folder()).unwrap().last().unwrap();
    for number in [1, 3, newest] {
        let path = folder().join(segment_name(number));
        let bytes = disk.read_file(&path).unwrap();
        disk.remove(&path).unwrap();
        let said = open_count(&disk).unwrap_err().to_string();
        assert!(said.contains("missing"), "segment {number}: {said}");
        // What lies beyond the last record of an older one was never anybody's.
        let cuts = [0, 1, 4096].into_iter().chain((number == newest).then_some(bytes.len() - 1));
        for kept in cuts {
            disk.write_file(&path, &bytes[..kept]).unwrap();
            let is_damage = matches!(open_count(&disk), Err(Error::Damaged { .. }));
            assert!(is_damage, "{kept} bytes of segment {number}");
        }
        disk.write_file(&path, &bytes).unwrap();
    }
    assert!(open_count(&disk).is_ok());
}

/// The machine may stop between the record that names the next segment and that segment's header,
/// and again while the log is opened after that.
#[test]
fn a_segment_that_was_named_and_not_begun_is_begun_by_the_next_record() {
    let disk = new_disk();
    let (wal, _) = open(&disk, Lsn(0)).unwrap();
    let (acked, tried) = work(&wal, 1, 30);
    assert_eq!(acked, tried);
    drop(wal);
    let newest = *segment::list_segments(&disk, &folder()).unwrap().last().unwrap();
    let path = folder().join(segment_name(newest));
    let zeros = vec![0; disk.read_file(&path).unwrap().len()];
    disk.write_file(&path, &zeros).unwrap();
    for _ in 0..2 {
        let (_, payloads) = open(&disk, Lsn(0)).unwrap();
        assert!((payloads.len() as u64) < acked);
        assert!(disk.exists(&path).unwrap());
    }
    let (wal, payloads) = open(&disk, Lsn(0)).unwrap();
    let count = payloads.len() as u64;
    append(&wal, count + 1).unwrap();
    wal.close().unwrap();
    drop(wal);
    let (_, payloads) = open(&disk, Lsn(0)).unwrap();
    expect_prefix(&payloads, count + 1, count + 1, "after the segment was begun");
}

#[test]
fn a_failed_sync_ends_the_log() {
    let disk = new_disk();
    let (wal, _) = open(&disk, Lsn(0)).unwrap();
    wal.sync_to(append(&wal, 1).unwrap()).unwrap();
    let before = wal.durable();
    let second = append(&wal, 2).unwrap();
    disk.fail_at(disk.operations(), ErrorKind::Other);
    assert!(matches!(wal.sync_to(second), Err(Error::LogFailed { .. })));
    assert!(matches!(wal.sync_to(second), Err(Error::LogFailed { .. })), "never retried");
    assert!(matches!(append(&wal, 3), Err(Error::LogFailed { .. })));
    assert_eq!(wal.durable(), before);
    assert!(wal.failure().is_some());
}

#[test]
fn a_full_disk_refuses_the_record_and_takes_it_once_there_is_space() {
    let disk = new_disk();
    let (wal, _) = open(&disk, Lsn(0)).unwrap();
    disk.set_capacity_bytes(disk.allocated_bytes() + 1000);
    let mut number = 0;
    let refused = loop {
        match append(&wal, number + 1) {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::DiskFull { .. }), "{refused}");
    wal.sync_to(wal.next()).unwrap();
    assert!(wal.failure().is_none());
    disk.set_capacity_bytes(u64::MAX);
    wal.sync_to(append(&wal, number + 1).unwrap()).unwrap();
    drop(wal);
    let (_, payloads) = open(&disk, Lsn(0)).unwrap();
    expect_prefix(&payloads, number + 1, number + 1, "after the disk was full");
}

#[test]
fn released_segments_are_used_again_and_their_old_records_stay_dead() {
    let disk = new_disk();
    let (wal, _) = open(&disk, Lsn(0)).unwrap();
    let (mut acked, _) = work(&wal, 1, 20);
    for _ in 0..20 {
        let start = wal.next();
        wal.release_before(start).unwrap();
        let released = acked;
        (acked, _) = work(&wal, acked + 1, 4);
        let crashed = disk.crash(CrashMode::KeepUnsynced);
        let (_, payloads) = open(&crashed, start).unwrap();
        let numbers: Vec<Vec<u8>> = (released + 1..=acked).map(payload).collect();
        assert!(payloads == numbers, "records {released}..{acked}");
    }
    assert!(disk.list(&folder()).unwrap().len() <= 4, "{:?}", disk.files());
}

#[test]
fn a_record_longer_than_a_segment_gets_a_longer_one() {
    let disk = new_disk();
    let (wal, _) = open(&disk, Lsn(0)).unwrap();
    append(&wal, 1).unwrap();
    let long = vec![7; 100 << 10];
    wal.append(Timestamp::from_raw(2), &long, checksum::of(&[&long])).unwrap();
    wal.sync_to(wal.next()).unwrap();
    drop(wal);
    let (_, payloads) = open(&disk, Lsn(0)).unwrap();
    assert!(payloads.len() == 2 && payloads[1] == long);
}

#[test]
fn a_segment_of_another_database_is_refused() {
    let disk = new_disk();
    let (wal, _) = open(&disk, Lsn(0)).unwrap();
    wal.sync_to(append(&wal, 1).unwrap()).unwrap();
    let foreign = read_log(&disk, &folder(), [9; 16], Lsn(0), |_| Ok(()));
    assert!(matches!(foreign, Err(Error::Damaged { .. })));
}

/// Each of `threads` appends `rounds` records, syncs each, and looks on a crashed copy of the disk
/// for it.
fn share_syncs(disk: &SimDisk, threads: u64, rounds: u64) {
    let (wal, _) = open_with(disk, Lsn(0), WalOptions::default()).unwrap();
    let wal = Arc::new(wal);
    let workers: Vec<_> = (0..threads)
        .map(|worker| {
            let (wal, disk) = (wal.clone(), disk.clone());
            spawn(move || {
                for round in 0..rounds {
                    let text = [worker.to_le_bytes(), round.to_le_bytes()].concat();
                    let crc = checksum::of(&[&text]);
                    let end = wal.append(Timestamp::from_raw(1), &text, crc).unwrap();
                    wal.sync_to(end).unwrap();
                    let mut found = false;
                    let crashed = disk.crash(CrashMode::LoseUnsynced);
                    let read = read_log(&crashed, &folder(), ID, Lsn(0), |record| {
                        found |= record.payload == text;
                        Ok(())
                    });
                    read.unwrap();
                    assert!(found, "acknowledged before it was durable");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!(wal.stats().records, threads * rounds);
    assert!(wal.stats().syncs <= threads * rounds);
}

#[test]
#[cfg(not(shuttle))]
fn threads_share_syncs_and_each_finds_its_own_record_durable() {
    let disk = new_disk();
    share_syncs(&disk, 8, 60);
    let (_, payloads) = open(&disk, Lsn(0)).unwrap();
    assert_eq!(payloads.len(), 8 * 60);
}

#[test]
#[cfg(shuttle)]
fn shuttle_finds_no_schedule_that_acknowledges_early_or_sleeps_for_ever() {
    let explore = || share_syncs(&new_disk(), 3, 2);
    shuttle::check_random(explore, 3_000);
    shuttle::check_pct(explore, 3_000, 3);
}

#[test]
fn arbitrary_bytes_are_never_a_record() {
    let mut random = SeededRandom::new(1);
    for _ in 0..20_000 {
        let len = random.below(200) as usize;
        let bytes: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
        assert!(record::decode(Lsn(random.next_u64() % 64 * 8), &bytes).is_none());
    }
}

#[test]
fn a_record_is_only_valid_where_it_was_written() {
    let header = record::encode_header(
        Lsn(64),
        RecordKind::Entry,
        1,
        1,
        1,
        Lsn(0),
        Timestamp::ZERO,
        0,
        checksum::of(&[]),
    );
    assert!(record::decode(Lsn(64), &header).is_some());
    assert!(record::decode(Lsn(72), &header).is_none());
    assert!(Path::new(&segment_name(7)).extension().is_some());
    assert_eq!(segment_number(&segment_name(7)), Some(7));
    assert_eq!(segment_number("7.wal"), None);
}

/// The index after the highest was computed, and overflowed. No log of ours has one, and a checksum
/// is no proof against somebody who makes it fit.
#[test]
fn a_record_of_the_highest_index_is_followed_by_none() {
    let disk = new_disk();
    let mut bytes = segment::encode_segment_header(1, Lsn(8), ID, 0);
    for (lsn, index) in [(8, u64::MAX), (64, 0)] {
        let kind = RecordKind::Entry;
        let crc = checksum::of(&[]);
        let ts = Timestamp::from_raw(lsn);
        let header = record::encode_header(Lsn(lsn), kind, 1, 1, index, Lsn(0), ts, 0, crc);
        bytes.extend_from_slice(&header);
    }
    disk.write_file(folder().join(segment_name(1)), &bytes).unwrap();
    let read = read_log(&disk, &folder(), ID, Lsn(8), |_| Ok(()));
    assert!(matches!(read, Err(Error::Damaged { .. })));
}

/// A record that is whole, at its place, and of another index than the one before it promises.
#[test]
fn a_gap_in_the_indexes_is_damage() {
    for (second, is_damage) in [(8, false), (7, true), (9, true), (10, true), (1, true)] {
        let disk = new_disk();
        let mut bytes = segment::encode_segment_header(1, Lsn(8), ID, 0);
        for (lsn, index) in [(8, 7), (64, second)] {
            let kind = RecordKind::Entry;
            let crc = checksum::of(&[]);
            let ts = Timestamp::from_raw(lsn);
            let header = record::encode_header(Lsn(lsn), kind, 1, 1, index, Lsn(0), ts, 0, crc);
            bytes.extend_from_slice(&header);
        }
        disk.write_file(folder().join(segment_name(1)), &bytes).unwrap();
        let read = read_log(&disk, &folder(), ID, Lsn(8), |_| Ok(()));
        assert_eq!(matches!(read, Err(Error::Damaged { .. })), is_damage, "index {second}");
    }
}

/// A log whose last file was cut read as one that a crash had ended early: what had been
/// acknowledged was gone without a word.
#[test]
fn a_last_segment_that_was_cut_is_damage() {
    let disk = new_disk();
    let (wal, _) = open_with(&disk, Lsn(0), WalOptions::default()).unwrap();
    work(&wal, 1, 9);
    drop(wal);
    let path = folder().join(segment_name(1));
    let bytes = disk.read_file(&path).unwrap();
    for kept in [bytes.len() - 1, bytes.len() / 2, 4096] {
        disk.write_file(&path, &bytes[..kept]).unwrap();
        let said = open(&disk, Lsn(0)).map(|_| ()).unwrap_err().to_string();
        assert!(said.contains(&format!("{kept} of {} bytes are left", bytes.len())), "{said}");
    }
    disk.write_file(&path, &bytes).unwrap();
    assert!(open(&disk, Lsn(0)).is_ok());
}
