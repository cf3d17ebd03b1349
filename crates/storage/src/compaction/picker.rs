//! Chooses what to compact next.

use base::Timestamp;

use super::{Choice, CompactionOptions, InProgress, Shape};

/// Returns what to do next, beside what is in progress.
pub fn pick(
    _shape: &Shape,
    _options: &CompactionOptions,
    _busy: &InProgress,
    _watermark: Timestamp,
    _now_ms: u64,
) -> Choice {
    Choice::Nothing
}

/// Returns how many bytes have to be compacted before all is well.
pub fn debt_bytes(_shape: &Shape, _options: &CompactionOptions) -> u64 {
    0
}
