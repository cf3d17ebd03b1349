//! The picker under random histories, and in the situations it was made for.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::model::{ENTRY_BYTES, Model};
use crate::compaction::{Choice, CompactionOptions, END_OF_TIME_MS, Plan, Reason, debt_bytes};
use crate::version::Style;

/// Memtables of a hundred entries.
const FLUSH_BYTES: u64 = 100 * ENTRY_BYTES;

fn options() -> CompactionOptions {
    CompactionOptions {
        table_bytes: FLUSH_BYTES / 2,
        base_bytes: 4 * FLUSH_BYTES,
        ..CompactionOptions::for_flush_bytes(FLUSH_BYTES)
    }
}

fn model(style: Style) -> Model {
    Model::new(options(), style)
}

#[derive(Debug, Clone)]
enum Op {
    /// Writes keys from one on, so many, so far apart.
    Write(u32, u32, u32),
    Delete(u32, u32),
    Flush,
    /// Picks something and begins it.
    Begin,
    /// Ends one of what was begun.
    End(usize),
    Lag(u64),
    Wait,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..800u32, 1..150u32, 1..6u32).prop_map(|(a, n, by)| Op::Write(a, n, by)),
        2 => (0..800u32, 1..150u32).prop_map(|(a, n)| Op::Delete(a, n)),
        4 => Just(Op::Flush),
        8 => Just(Op::Begin),
        8 => (0..4usize).prop_map(Op::End),
        1 => (0..400u64).prop_map(Op::Lag),
        1 => Just(Op::Wait),
    ];
    prop::collection::vec(op, 1..120)
}

/// Reads of the model against all that was ever written.
fn check_reads(model: &Model, all: &BTreeMap<(u32, u64), bool>) {
    let keys: BTreeSet<u32> = all.keys().map(|(key, _)| *key).collect();
    for key in keys.into_iter().step_by(7) {
        let watermark = model.watermark();
        for ts in [watermark, watermark + (model.ts - watermark) / 2, model.ts] {
            let newest = all.range((key, 0)..=(key, ts)).next_back();
            let expected = newest.filter(|(_, is_put)| **is_put).map(|((_, ts), _)| *ts);
            let found = model.get(key, ts).filter(|version| !version.is_tombstone);
            assert_eq!(found.map(|version| version.ts), expected, "key {key} at {ts}");
        }
    }
}

fn check_history(style: Style, ops: &[Op]) {
    let mut model = model(style);
    // Nothing is garbage before the first lag is set.
    model.lag = 1 << 40;
    let mut all = BTreeMap::new();
    let mut begun: Vec<Choice> = Vec::new();
    let end = |model: &mut Model, choice: Choice| {
        model.busy.end(choice.plan().unwrap());
        assert!(model.apply(&choice));
        model.check();
    };
    for op in ops {
        match *op {
            Op::Write(from, count, by) => {
                for key in (0..count).map(|number| from + number * by) {
                    model.write(key, false);
                    all.insert((key, model.ts), true);
                }
            }
            Op::Delete(from, count) => {
                for key in from..from + count {
                    model.write(key, true);
                    all.insert((key, model.ts), false);
                }
            }
            Op::Flush => {
                model.flush();
                model.check();
            }
            Op::Begin => {
                let choice = model.pick();
                if let Some(plan) = choice.plan() {
                    // Panics if it conflicts with what is in progress.
                    model.busy.begin(plan);
                    begun.push(choice);
                }
            }
            Op::End(which) if !begun.is_empty() => {
                let choice = begun.remove(which % begun.len());
                end(&mut model, choice);
                check_reads(&model, &all);
            }
            Op::End(_) => {}
            // The watermark does not go back.
            Op::Lag(lag) => model.lag = model.lag.min(lag),
            Op::Wait => model.now_ms += options().age_ms,
        }
    }
    begun.into_iter().for_each(|choice| end(&mut model, choice));
    assert!(model.busy.is_empty());
    model.flush();
    model.settle();
    model.check();
    check_reads(&model, &all);
    assert!(matches!(model.pick(), Choice::Nothing));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn leveled_histories_keep_every_answer(ops in ops()) {
        check_history(Style::Leveled, &ops);
    }

    #[test]
    fn tiered_histories_keep_every_answer(ops in ops()) {
        check_history(Style::Tiered, &ops);
    }
}

/// Writes keys, with a flush and all compaction whenever the memtable is full.
fn write_all(model: &mut Model, keys: impl IntoIterator<Item = u32>, is_tombstone: bool) {
    for key in keys {
        model.write(key, is_tombstone);
        if model.memtable_bytes >= FLUSH_BYTES {
            model.flush();
            model.settle();
        }
    }
}

/// Keys in an order that is as good as random.
fn scattered(keys: u32) -> impl Iterator<Item = u32> {
    (0..keys).map(move |number| (u64::from(number) * 7919 % u64::from(keys)) as u32)
}

fn live_bytes(keys: u32) -> u64 {
    u64::from(keys) * ENTRY_BYTES
}

#[test]
fn rising_keys_are_moved_and_never_rewritten() {
    let mut model = model(Style::Leveled);
    write_all(&mut model, 0..20_000, false);
    assert_eq!(model.written.compaction, 0, "{}", model.picture());
    assert!(model.tree_shape().levels[0].len() <= 2, "{}", model.picture());
}

#[test]
fn sizes_come_to_rest_near_their_targets() {
    let mut model = model(Style::Leveled);
    for _ in 0..4 {
        write_all(&mut model, scattered(20_011), false);
    }
    let shape = model.tree_shape();
    let sizes = crate::compaction::leveled::sizes(&shape, &model.options);
    // Two hundred memtables: levels have come in between.
    assert!(sizes.base < 6, "{}", model.picture());
    for level in sizes.base..6 {
        assert!(shape.bytes(level) <= sizes.bytes_max[level], "{}", model.picture());
    }
    let space = model.disk_bytes() as f64 / live_bytes(20_011) as f64;
    assert!(space < 1.4, "{space} {}", model.picture());
    let tables = model.tables.len() as u64;
    let average = model.disk_bytes() / tables;
    assert!(average * 4 > model.options.table_bytes, "tables of {average} bytes");
    assert_eq!(debt_bytes(&model.shape(), &model.options), 0);
}

#[test]
fn a_million_deletes_at_the_head_of_a_queue_do_not_stay() {
    for style in [Style::Leveled, Style::Tiered] {
        let mut model = model(style);
        write_all(&mut model, 0..10_000, false);
        let mut tombstones_most = 0;
        for head in (0..9_000).step_by(100) {
            write_all(&mut model, head..head + 100, true);
            model.flush();
            model.settle();
            // What a seek to the head of the queue has to step over.
            let passed = model.tables.values().flat_map(|(_, versions)| versions.iter());
            let passed = passed.filter(|version| version.key < head + 100).count();
            tombstones_most = tombstones_most.max(passed);
        }
        assert!(tombstones_most <= 400, "{style:?}: {tombstones_most} {}", model.picture());
        write_all(&mut model, 9_000..10_000, true);
        model.flush();
        model.settle();
        assert_eq!(model.disk_bytes(), 0, "{style:?}: {}", model.picture());
    }
}

#[test]
fn space_comes_back_when_the_watermark_passes_and_nobody_writes() {
    for style in [Style::Leveled, Style::Tiered] {
        let mut model = model(style);
        // A reader stays at the beginning.
        model.lag = 1 << 40;
        for _ in 0..3 {
            write_all(&mut model, scattered(3_001), false);
        }
        model.flush();
        model.settle();
        assert!(model.disk_bytes() >= 3 * live_bytes(3_001), "{style:?}: nothing may go");
        model.lag = 0;
        model.settle();
        let space = model.disk_bytes() as f64 / live_bytes(3_001) as f64;
        assert!(space < 1.7, "{style:?}: {space} {}", model.picture());
        // And what is spread too thin goes with time.
        model.now_ms = model.options.age_ms;
        model.settle();
        let space = model.disk_bytes() as f64 / live_bytes(3_001) as f64;
        assert!(space < 1.01, "{style:?}: {space} {}", model.picture());
    }
}

#[test]
fn at_the_end_of_time_all_is_one_run_in_proportion_or_not() {
    for style in [Style::Leveled, Style::Tiered] {
        let mut model = model(style);
        write_all(&mut model, scattered(3_001), false);
        model.flush();
        model.settle();
        // Few, and all over what there is.
        write_all(&mut model, (0..3_001).step_by(300), false);
        model.flush();
        let runs = |model: &Model| model.tree_shape().levels.iter().flatten().count();
        model.now_ms = model.options.age_ms;
        model.settle();
        assert!(style == Style::Tiered || runs(&model) > 1, "{}", model.picture());
        model.now_ms = END_OF_TIME_MS;
        model.settle();
        assert_eq!(runs(&model), 1, "{style:?}: {}", model.picture());
        assert!(matches!(model.pick(), Choice::Nothing));
    }
}

#[test]
fn a_table_of_nothing_but_old_tombstones_is_dropped_unread() {
    let mut model = model(Style::Leveled);
    // A reader from before keeps the flush from dropping them.
    model.lag = 1 << 40;
    (0..100).for_each(|key| model.write(key, true));
    model.flush();
    model.settle();
    assert_eq!(model.tables.len(), 1);
    model.lag = 0;
    let choice = model.pick();
    let Choice::Drop(plan) = &choice else {
        panic!("{choice:?}");
    };
    assert_eq!(plan.reason, Reason::Garbage);
    model.apply(&choice);
    assert!(model.tables.is_empty());
}

#[test]
fn a_tombstone_with_nothing_beneath_is_not_even_flushed() {
    let mut model = model(Style::Leveled);
    (0..100).for_each(|key| model.write(key, true));
    model.flush();
    assert!(model.tables.is_empty());
}

#[test]
fn several_compactions_at_once_take_different_columns() {
    let mut model = model(Style::Leveled);
    model.options.base_bytes = 1 << 40;
    write_all(&mut model, scattered(1_009), false);
    // Flushes pile up.
    for round in 0..6 {
        scattered(1_009).skip(round * 100).take(100).for_each(|key| model.write(key, false));
        model.flush();
    }
    let mut plans: Vec<Plan> = Vec::new();
    while let Some(plan) = model.pick().plan() {
        model.busy.begin(plan);
        plans.push(plan.clone());
    }
    assert!(plans.len() >= 3, "{} at once: {}", plans.len(), model.picture());
    for plan in &plans {
        assert!(model.busy.has(plan.inputs[0].number));
        assert!(!model.busy.is_free(plan.tree, (0, 6), &plan.keys));
    }
    let mut spans: Vec<_> = plans.iter().map(Model::keys_of).collect();
    spans.sort_unstable();
    assert!(spans.windows(2).all(|pair| pair[0].1 < pair[1].0), "{spans:?}");
    assert!(debt_bytes(&model.shape(), &model.options) > 0);
}

#[test]
fn tiny_flushes_do_not_rewrite_everything() {
    let mut model = model(Style::Leveled);
    model.options.base_bytes = 1 << 40;
    write_all(&mut model, scattered(5_003), false);
    model.written = Default::default();
    for chunk in scattered(5_003).collect::<Vec<_>>().chunks(4) {
        chunk.iter().for_each(|&key| model.write(key, false));
        model.flush();
        model.settle();
        let runs = model.tree_shape().levels[0].len();
        assert!(runs <= 2 * model.options.l0_runs_max, "{runs} runs: {}", model.picture());
    }
    let amplification = model.written.compaction as f64 / model.written.user as f64;
    // A hundred, were each ten of them merged into what lies beneath.
    assert!(amplification < 20.0, "{amplification}");
}
