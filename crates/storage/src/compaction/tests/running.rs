//! Plans carried out on a simulated disk: answers, failures, and stopping.

use std::ops::ControlFlow;
use std::path::Path;

use base::Timestamp;
use env::SimDisk;
use proptest::prelude::*;

use crate::compaction::{
    Choice, CompactionOptions, Failed, InProgress, PROGRESS_BYTES, Plan, RunOptions, Shape,
    ValuesShape, flush_plan, pick, run, write,
};
use crate::directory::FileId;
use crate::iterator::{Merge, RunCursor};
use crate::manifest::Edit;
use crate::table::{TableOptions, key_hash};
use crate::version::fixture::{self, Fixture, Versions, position};
use crate::version::{Run, TreeId};
use crate::{Error, Result};

fn small() -> CompactionOptions {
    CompactionOptions {
        table_bytes: 400,
        flush_bytes: 800,
        base_bytes: 3000,
        l0_runs_max: 3,
        ..CompactionOptions::for_flush_bytes(800)
    }
}

fn run_options(watermark: u64) -> RunOptions {
    RunOptions {
        watermark: Timestamp::from_raw(watermark),
        // About half of the values lie apart.
        table: TableOptions {
            separate_from: Some(12),
            value_file_bytes: 120,
            ..fixture::options()
        },
        coldest_table: None,
        progress_bytes: PROGRESS_BYTES,
    }
}

fn proceed(_: crate::compaction::Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Compacts until there is nothing to do.
fn settle(fixture: &mut Fixture, watermark: u64) {
    for step in 0.. {
        assert!(step < 1000, "compaction does not come to an end");
        let shape = Shape::from(&fixture.version);
        let at = Timestamp::from_raw(watermark);
        let edit = match pick(&shape, &small(), &InProgress::default(), at, 0) {
            Choice::Nothing => break,
            Choice::Move(plan) => plan.edit(true),
            Choice::Drop(plan) => plan.edit(false),
            Choice::Merge(plan) => {
                let version = fixture.version.clone();
                let create = |kind| Ok(fixture.create(kind));
                let done = run(&plan, &version, &run_options(watermark), create, proceed);
                done.unwrap().edit
            }
        };
        fixture.apply(&edit);
        assert_eq!(fixture.version.check_invariants(), Ok(()));
    }
}

/// Flushes a table that was written beside the version.
fn flush(fixture: &mut Fixture, versions: &Versions, watermark: u64) -> Edit {
    // A table stands in for the memtable.
    let mut memtable = Fixture::new();
    memtable.add_run(versions, 1);
    let run: Run = memtable.version.tree(TreeId::DEFAULT).unwrap().runs()[0].clone();
    let shape = Shape::from(&fixture.version);
    let plan = flush_plan(&shape, TreeId::DEFAULT, fixture.next, &small());
    let cursor = Merge::new(vec![RunCursor::new(run)]);
    let done =
        write(&plan, cursor, &run_options(watermark), |kind| Ok(fixture.create(kind)), proceed);
    done.unwrap().edit
}

fn histories() -> impl Strategy<Value = Vec<(Versions, u64)>> {
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..30));
    let writes = prop::collection::vec((0..40u8, value), 1..30);
    prop::collection::vec((writes, 0..40u64), 1..12).prop_map(|flushes| {
        let mut ts = 0;
        let mut number = |(key, value)| {
            ts += 1;
            (position(&[b'k', key], ts), value)
        };
        let flushes = flushes.into_iter();
        flushes.map(|(writes, lag)| (writes.into_iter().map(&mut number).collect(), lag)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn answers_stay_the_same_whatever_is_compacted(history in histories()) {
        let mut fixture = Fixture::new();
        let mut all = Versions::new();
        let mut watermark = 0;
        for (versions, lag) in &history {
            all.extend(versions.clone());
            watermark = watermark.max((all.len() as u64).saturating_sub(*lag));
            let edit = flush(&mut fixture, versions, watermark);
            fixture.apply(&edit);
            settle(&mut fixture, watermark);
            for key in 0..40 {
                let key = [b'k', key];
                for ts in watermark..=all.len() as u64 {
                    let expected = all.range(position(&key, ts)..).next();
                    let expected = expected.filter(|((found, _), _)| *found == key);
                    let expected =
                        expected.and_then(|((_, ts), value)| Some((!ts, value.clone()?)));
                    let at = Timestamp::from_raw(ts);
                    let found = fixture.version.get(&key, key_hash(&key), at).unwrap();
                    let found =
                        found.and_then(|found| Some((found.ts.raw(), found.value?.to_vec())));
                    prop_assert_eq!(found, expected);
                }
            }
            // Each file is either live or in the graveyard.
            for file in fixture.version.graveyard().drain() {
                fixture.disk.remove_file(file);
            }
            let live = fixture.version.tables().count() + fixture.version.values().iter().count();
            prop_assert_eq!(fixture.disk.files().len(), live);
            // And no more than half of what lies apart is garbage.
            let values = Shape::from(&fixture.version).values;
            let bytes: u64 = values.iter().map(|file| file.bytes).sum();
            let garbage: u64 = values.iter().map(ValuesShape::garbage_bytes).sum();
            prop_assert!(2 * garbage <= bytes, "{} of {} bytes are garbage", garbage, bytes);
        }
    }
}

trait RemoveFile {
    fn remove_file(&self, file: FileId);
}

impl RemoveFile for SimDisk {
    fn remove_file(&self, file: FileId) {
        env::Disk::remove(self, Path::new("tables").join(file.name()).as_ref()).unwrap();
    }
}

/// Two runs of the same keys, and the plan to merge them.
fn two_runs() -> (Fixture, Choice) {
    let mut fixture = Fixture::new();
    for ts in 1..=4u64 {
        let versions: Versions =
            (0..60u8).map(|key| (position(&[b'k', key], ts), Some(vec![1; 20]))).collect();
        fixture.add_run(&versions, 1);
    }
    let shape = Shape::from(&fixture.version);
    let choice = pick(&shape, &small(), &InProgress::default(), Timestamp::MAX, 0);
    (fixture, choice)
}

#[test]
fn a_run_that_is_stopped_names_the_files_it_made() {
    let (mut fixture, choice) = two_runs();
    let Choice::Merge(plan) = choice else {
        panic!("{choice:?}");
    };
    let version = fixture.version.clone();
    let before = fixture.next;
    let mut calls = 0;
    let options = RunOptions { progress_bytes: 500, ..run_options(9) };
    let stop = |_| {
        calls += 1;
        if calls == 8 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let failed = run(&plan, &version, &options, |kind| Ok(fixture.create(kind)), stop).unwrap_err();
    let Failed { error: None, created } = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(calls, 8);
    assert!(created.len() > 1);
    let numbers: Vec<u64> = created.iter().map(|file| file.number).collect();
    assert_eq!(numbers, (before..fixture.next).collect::<Vec<_>>());
}

#[test]
fn a_run_that_fails_names_the_files_it_made() {
    let (mut fixture, choice) = two_runs();
    let Choice::Merge(plan) = choice else {
        panic!("{choice:?}");
    };
    let version = fixture.version.clone();
    let before = fixture.next;
    // No file after the second.
    let create = |kind| -> Result<_> {
        if fixture.next - before == 2 {
            let cause = std::io::ErrorKind::StorageFull.into();
            return Err(Error::io("tables/x".as_ref(), "create")(cause));
        }
        Ok(fixture.create(kind))
    };
    let failed = run(&plan, &version, &run_options(9), create, proceed).unwrap_err();
    assert!(matches!(failed.error, Some(Error::DiskFull { .. })), "{failed:?}");
    assert_eq!(failed.created, [FileId::table(before), FileId::values(before + 1)]);
    // And a disk that cannot be read.
    let (mut fixture, _) = two_runs();
    let version = fixture.version.clone();
    let at = fixture.disk.operations() + 5;
    fixture.disk.fail_at(at, std::io::ErrorKind::Other);
    let failed = run(&plan, &version, &run_options(9), |kind| Ok(fixture.create(kind)), proceed);
    assert!(matches!(failed.unwrap_err().error, Some(Error::Io { .. })));
}

#[test]
fn outputs_are_cut_by_length_and_by_the_grandparents() {
    let (mut fixture, choice) = two_runs();
    let mut plan = choice.plan().unwrap().clone();
    let version = fixture.version.clone();
    let mut tables = |plan: &Plan| {
        let done =
            run(plan, &version, &run_options(9), |kind| Ok(fixture.create(kind)), proceed).unwrap();
        assert_eq!((done.entries_read, done.entries_written), (240, 60));
        done.edit.added
    };
    plan.cut_bytes = 1 << 20;
    assert_eq!(tables(&plan).len(), 1);
    plan.cut_keys = vec![b"k\x0a".to_vec().into(), b"k\x14".to_vec().into()];
    let cut = tables(&plan);
    let firsts: Vec<u8> = cut.iter().map(|table| table.first_key()[1]).collect();
    assert_eq!(firsts, [0, 0x0a, 0x14]);
    plan.cut_keys.clear();
    plan.cut_bytes = 800;
    assert!(tables(&plan).len() >= 2);
    plan.cut_bytes = 1000;
    plan.grandparents = (1..60).map(|key| (vec![b'k', key].into(), 100)).collect();
    plan.grandparent_bytes_max = 1000;
    assert!(tables(&plan).len() >= 4);
}
