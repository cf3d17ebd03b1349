//! Merges and visible rows against a `BTreeMap` of versions, over tables with tiny blocks.

use std::ops::{Bound, ControlFlow};

use base::KeyRange;
use proptest::prelude::*;

use super::*;
use crate::Stored;
use crate::manifest::Edit;
use crate::version::fixture::{Fixture, Versions, position, value_of};

/// A step of a walk.
#[derive(Debug, Clone)]
enum Step {
    First,
    Last,
    Seek(Vec<u8>, u64),
    SeekBefore(Vec<u8>, u64),
    Next,
    Prev,
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xff)], 0..4)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::First),
        1 => Just(Step::Last),
        2 => (keys(), 0..60u64).prop_map(|(key, ts)| Step::Seek(key, ts)),
        2 => (keys(), 0..60u64).prop_map(|(key, ts)| Step::SeekBefore(key, ts)),
        8 => Just(Step::Next),
        8 => Just(Step::Prev),
    ];
    prop::collection::vec(step, 1..60)
}

/// Versions in the order of their timestamps, dealt to runs in turn; the number of tables of each.
fn runs() -> impl Strategy<Value = Vec<(Versions, usize)>> {
    let value = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Some),
        1 => Just(None),
        // Too long to be copied in reverse.
        1 => Just(Some(vec![7; 5000])),
    ];
    let version = (keys(), value);
    prop::collection::vec((prop::collection::vec(version, 0..30), 1..4usize), 1..5).prop_map(
        |runs| {
            let mut ts = 0;
            let mut number = |(key, value): (Vec<u8>, _)| {
                ts += 1;
                (position(&key, ts), value)
            };
            runs.into_iter()
                .map(|(versions, tables)| (versions.into_iter().map(&mut number).collect(), tables))
                .collect()
        },
    )
}

fn fixture(runs: &[(Versions, usize)]) -> (Fixture, Versions) {
    let mut fixture = Fixture::new();
    let mut all = Versions::new();
    for (versions, tables) in runs {
        fixture.add_run(versions, *tables);
        all.extend(versions.clone());
    }
    (fixture, all)
}

fn merge(fixture: &Fixture) -> Merge<RunCursor> {
    Merge::new(fixture.version.cursors(&KeyRange::all(), Timestamp::MAX))
}

/// Walks over a map.
struct MapCursor<'a> {
    map: &'a Versions,
    at: Option<(Vec<u8>, u64)>,
}

impl MapCursor<'_> {
    fn step(&mut self, step: &Step) {
        let after = |from| self.map.range((from, Bound::Unbounded)).next();
        let before = |to| self.map.range((Bound::Unbounded, to)).next_back();
        let found = match (step, &self.at) {
            (Step::First, _) => self.map.iter().next(),
            (Step::Last, _) => self.map.iter().next_back(),
            (Step::Seek(key, ts), _) => after(Bound::Included(position(key, *ts))),
            (Step::SeekBefore(key, ts), _) => before(Bound::Excluded(position(key, *ts))),
            (Step::Next, Some(at)) => after(Bound::Excluded(at.clone())),
            (Step::Prev, Some(at)) => before(Bound::Excluded(at.clone())),
            (Step::Next | Step::Prev, None) => None,
        };
        self.at = found.map(|(position, _)| position.clone());
    }
}

fn step(cursor: &mut impl Cursor, step: &Step) -> bool {
    let ts = Timestamp::from_raw;
    let moved = match step {
        Step::First => cursor.seek_first(),
        Step::Last => cursor.seek_last(),
        Step::Seek(key, at) => cursor.seek(key, ts(*at)),
        Step::SeekBefore(key, at) => cursor.seek_before(key, ts(*at)),
        Step::Next => cursor.next(),
        Step::Prev => cursor.prev(),
    };
    moved.unwrap()
}

fn check_walk(cursor: &mut impl Cursor, map: &Versions, steps: &[Step]) {
    let mut model = MapCursor { map, at: None };
    for (number, of) in steps.iter().enumerate() {
        model.step(of);
        assert_eq!(step(cursor, of), model.at.is_some(), "step {number}");
        let expected = model.at.as_ref().map(|at| Entry {
            key: &at.0,
            ts: Timestamp::from_raw(!at.1),
            value: value_of(&map[at]).into(),
        });
        assert_eq!(cursor.entry(), expected, "step {number}");
    }
}

/// Returns the rows of a map at a timestamp, as a map of its own.
fn visible(map: &Versions, ts: u64) -> Versions {
    let mut rows = Versions::new();
    let mut last: Option<&[u8]> = None;
    for ((key, inverted), value) in map {
        if !inverted <= ts && last != Some(key) {
            last = Some(key);
            if value.is_some() {
                rows.insert((key.clone(), *inverted), value.clone());
            }
        }
    }
    rows
}

fn check_rows(mut rows: VisibleRows<impl Cursor>, visible: &Versions, steps: &[Step]) {
    let mut model = MapCursor { map: visible, at: None };
    for (number, step) in steps.iter().enumerate() {
        // Rows are sought by their key alone: before or after all its versions.
        let step = match step {
            Step::Seek(key, _) => Step::Seek(key.clone(), u64::MAX),
            Step::SeekBefore(key, _) => Step::SeekBefore(key.clone(), u64::MAX),
            other => other.clone(),
        };
        model.step(&step);
        let moved = match &step {
            Step::First => rows.seek_first(),
            Step::Last => rows.seek_last(),
            Step::Seek(key, _) => rows.seek(key),
            Step::SeekBefore(key, _) => rows.seek_before(key),
            Step::Next => rows.next(),
            Step::Prev => rows.prev(),
        };
        assert_eq!(moved.unwrap(), model.at.is_some(), "step {number} {step:?}");
        let expected = model.at.as_ref().map(|at| Row {
            key: &at.0,
            ts: Timestamp::from_raw(!at.1),
            value: Stored::Put(visible[at].as_deref().unwrap()),
        });
        assert_eq!(rows.row(), expected, "step {number} {step:?}");
    }
}

/// Visits a run, stopping after some rows and going on behind them, as batches of a scan do.
fn check_visit(
    fixture: &Fixture,
    visible: &Versions,
    (start, end): (&[u8], Option<&[u8]>),
    ts: u64,
    batch: usize,
) {
    let mut cursors = fixture.version.cursors(&KeyRange::all(), Timestamp::MAX);
    let Some(cursor) = cursors.first_mut() else { return };
    let mut expected = visible
        .iter()
        .filter(|((key, _), _)| start <= &key[..] && end.is_none_or(|end| &key[..] < end));
    let mut start = start.to_vec();
    // What is behind its first row is known by then, if it is in the cache, and is elsewhere.
    cursor.visit(b"", None, Timestamp::MAX, |_, _, _| ControlFlow::Break(())).unwrap();
    loop {
        let mut left = batch;
        let from = start.clone();
        let take = |key: &[u8], ts: Timestamp, value: Stored<'_>| {
            let value = value.as_inline().unwrap();
            let row = ((key.to_vec(), !ts.raw()), Some(value.to_vec()));
            assert_eq!(Some((&row.0, &row.1)), expected.next());
            start = base::range::successor(key).to_vec();
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        cursor.visit(&from, end, Timestamp::from_raw(ts), take).unwrap();
        if left > 0 {
            break;
        }
    }
    assert_eq!(expected.next(), None);
}

proptest! {
    #[test]
    fn a_visit_hands_out_the_rows_of_a_map(
        versions in prop::collection::btree_map(
            (keys(), 0..60u64),
            prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..20)),
            0..80,
        ),
        tables in 1..4usize, start in keys(), end in prop::option::of(keys()), ts in 0..70u64,
        batch in 1..9usize,
    ) {
        let run = versions.into_iter().map(|((key, ts), value)| (position(&key, ts), value));
        let (fixture, all) = fixture(&[(run.collect(), tables)]);
        let rows = visible(&all, ts);
        for _ in 0..2 {
            check_visit(&fixture, &rows, (b"", None), ts, usize::MAX);
            check_visit(&fixture, &rows, (&start, end.as_deref()), ts, batch);
        }
    }

    #[test]
    fn a_merge_walks_as_a_map_of_everything(runs in runs(), steps in steps()) {
        let (fixture, all) = fixture(&runs);
        check_walk(&mut merge(&fixture), &all, &steps);
    }

    #[test]
    fn what_two_sources_have_comes_once(runs in runs(), steps in steps()) {
        let (fixture, all) = fixture(&runs);
        let mut sources = fixture.version.cursors(&KeyRange::all(), Timestamp::MAX);
        sources.extend(fixture.version.cursors(&KeyRange::all(), Timestamp::MAX));
        check_walk(&mut Merge::new(sources), &all, &steps);
    }

    #[test]
    fn rows_are_those_of_a_map_at_the_timestamp(
        runs in runs(), steps in steps(), ts in 0..150u64,
    ) {
        let (fixture, all) = fixture(&runs);
        let rows = VisibleRows::new(merge(&fixture), Timestamp::from_raw(ts));
        check_rows(rows, &visible(&all, ts), &steps);
    }

    #[test]
    fn a_bulk_loaded_table_has_the_timestamp_of_the_manifest(
        keys in prop::collection::btree_set(keys(), 1..20), steps in steps(),
    ) {
        let mut fixture = Fixture::new();
        let versions: Vec<_> = keys.iter().map(|key| (&key[..], 30, Some(&b"v"[..]))).collect();
        let meta = fixture.table(6, 1, &versions, Some(30));
        fixture.apply(&Edit { added: vec![meta], ..Edit::default() });
        let all = keys.iter().map(|key| (position(key, 30), Some(b"v".to_vec()))).collect();
        check_walk(&mut merge(&fixture), &all, &steps);
        for ts in [29, 30, 31] {
            check_visit(&fixture, &visible(&all, ts), (b"", None), ts, 3);
        }
    }
}

/// One key with many versions amid others: the walk over rows seeks past them.
#[test]
fn thousands_of_versions_are_stepped_over() {
    let mut runs = Vec::new();
    for run in 0..3u64 {
        let mut versions = Versions::new();
        for number in 0..1000 {
            let ts = run * 1002 + number + 2;
            let value = (number % 3 > 0).then(|| vec![number as u8]);
            versions.insert(position(b"m", ts), value);
        }
        versions.insert(position(b"a", run * 1002), Some(vec![1]));
        versions.insert(position(b"z", run * 1002 + 1), Some(vec![1]));
        runs.push((versions, 1));
    }
    let (fixture, all) = fixture(&runs);
    let walk = [Step::First, Step::Next, Step::Next, Step::Next, Step::Last];
    let back = [Step::Prev, Step::Prev, Step::Next, Step::Prev, Step::Prev];
    for ts in [0, 1, 2, 3, 500, 1000, 1001, 1500, 2500, 3003, 3004, 3005, 9999] {
        let rows = VisibleRows::new(merge(&fixture), Timestamp::from_raw(ts));
        let steps: Vec<Step> = walk.iter().chain(&back).cloned().collect();
        check_rows(rows, &visible(&all, ts), &steps);
    }
    let newest = runs.pop().expect("there are three runs");
    let (fixture, all) = self::fixture(&[newest]);
    for ts in [0, 2005, 2006, 2007, 2500, 3003, 3004, 3005, 9999] {
        check_visit(&fixture, &visible(&all, ts), (b"", None), ts, 2);
    }
}
