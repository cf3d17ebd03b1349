//! Value files: which are worn, and which table is rewritten to be rid of them.
//!
//! ```text
//!   file   12       15       19       23            garbage of all: 55 %, allowed: 50 %
//!          [##....] [####..] [#.....] [#####.]      19 is worn: without it 43 % are left
//! ```
//!
//! All files together are looked at, and not each by itself. Which file an overwritten value lay in
//! is chance, and the more of a file is garbage the less it costs to be rid of it: so the worst goes
//! first, and nothing is written anew before there is too much garbage in all. With uniform
//! overwriting and half of all bytes garbage, a file that goes is four fifths garbage, so a quarter
//! of a byte is copied for each that is committed. Going by a share of one half in each file would
//! copy a whole one.
//!
//! What is garbage shows only when the entry that referred to it was left out of a merge. Tables of
//! references are small beside what they refer to, so they are merged early (see `leveled`).

use super::picker::{END_OF_TIME_MS, Target, View};
use super::shape::ValuesShape;
use super::{Choice, CompactionOptions, Reason};

/// A file with less garbage than this share of it, in percent, is not worth copying the rest.
const WORN_PERCENT_MIN: u64 = 10;

/// Returns the numbers of the files that are worn, in order: the worst of them, until what is left
/// has no more garbage than is allowed. By hand a tenth of that is allowed.
pub(super) fn worn(values: &[ValuesShape], options: &CompactionOptions, now_ms: u64) -> Vec<u64> {
    let percent = match now_ms {
        END_OF_TIME_MS => options.values_garbage_percent / 10,
        _ => options.values_garbage_percent,
    };
    let mut bytes: u64 = values.iter().map(|file| file.bytes).sum();
    let mut garbage: u64 = values.iter().map(ValuesShape::garbage_bytes).sum();
    let share = |file: &ValuesShape| file.garbage_bytes() as f64 / file.bytes.max(1) as f64;
    let mut worst: Vec<&ValuesShape> = values.iter().collect();
    worst.sort_by(|a, b| share(b).total_cmp(&share(a)).then(a.number.cmp(&b.number)));
    let mut worn = Vec::new();
    for file in worst {
        let is_too_much = u128::from(garbage) * 100 > u128::from(bytes) * u128::from(percent);
        let is_worth_it =
            u128::from(file.garbage_bytes()) * 100 >= u128::from(file.bytes * WORN_PERCENT_MIN);
        if !is_too_much || !is_worth_it {
            break;
        }
        worn.push(file.number);
        bytes -= file.bytes.min(bytes);
        // What is live in it will be without garbage.
        bytes += file.live_bytes;
        garbage -= file.garbage_bytes().min(garbage);
    }
    worn.sort_unstable();
    worn
}

/// Returns the choice to rewrite the table that refers to most of what is in worn files.
pub(super) fn rewrite<'a>(views: impl Iterator<Item = View<'a>>) -> Option<Choice> {
    let views: Vec<View<'_>> = views.collect();
    let mut candidates = Vec::new();
    for view in views.iter().filter(|view| !view.worn.is_empty()) {
        for table in view.tree.levels.iter().flatten().flatten() {
            let is_worn = |file: u64| view.worn.binary_search(&file).is_ok();
            let uses = table.values.iter().filter(|of| is_worn(of.file));
            let bytes: u64 = uses.map(|of| of.bytes).sum();
            if bytes > 0 && !view.busy.has(table.number) {
                candidates.push((bytes, view, table));
            }
        }
    }
    candidates.sort_by_key(|(bytes, ..)| std::cmp::Reverse(*bytes));
    candidates.into_iter().find_map(|(_, view, table)| {
        let target = Target { level: usize::from(table.level), run: table.run };
        view.plan(vec![table.clone()], target, Reason::Garbage).map(Choice::Merge)
    })
}

/// Returns how much more garbage there is than is allowed.
pub(super) fn debt_bytes(values: &[ValuesShape], options: &CompactionOptions) -> u64 {
    let bytes: u64 = values.iter().map(|file| file.bytes).sum();
    let garbage: u64 = values.iter().map(ValuesShape::garbage_bytes).sum();
    let allowed = u128::from(bytes) * u128::from(options.values_garbage_percent) / 100;
    // A file that has just become worn is no debt yet.
    garbage.saturating_sub(allowed as u64 + 2 * options.flush_bytes)
}
