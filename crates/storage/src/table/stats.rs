//! What readers of tables count, for `stats`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters are spread over this many cache lines, so that two readers seldom meet in one.
const STRIPES: usize = 16;

/// Counters that all tables of an engine share. They are raised without order among them: a sum
/// taken while readers are at work may be a few behind.
#[derive(Debug, Default)]
pub struct TableStats {
    stripes: [Stripe; STRIPES],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    filter_negatives: AtomicU64,
    filter_positives: AtomicU64,
    filter_false_positives: AtomicU64,
}

/// What was counted up to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableCounts {
    /// Calls to the disk.
    pub reads: u64,
    /// Bytes that these returned.
    pub read_bytes: u64,
    /// Point reads that a filter ended.
    pub filter_negatives: u64,
    /// Point reads that a filter let pass.
    pub filter_positives: u64,
    /// Those of them that found nothing, at any timestamp or at theirs.
    pub filter_false_positives: u64,
}

impl TableStats {
    /// Returns what was counted up to now.
    pub fn counts(&self) -> TableCounts {
        let sum = |counter: fn(&Stripe) -> &AtomicU64| {
            self.stripes.iter().map(|stripe| counter(stripe).load(Ordering::Relaxed)).sum()
        };
        TableCounts {
            reads: sum(|stripe| &stripe.reads),
            read_bytes: sum(|stripe| &stripe.read_bytes),
            filter_negatives: sum(|stripe| &stripe.filter_negatives),
            filter_positives: sum(|stripe| &stripe.filter_positives),
            filter_false_positives: sum(|stripe| &stripe.filter_false_positives),
        }
    }

    pub(crate) fn add_read(&self, offset: u64, bytes: usize) {
        let stripe = self.stripe(offset >> 12);
        stripe.reads.fetch_add(1, Ordering::Relaxed);
        stripe.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn add_probe(&self, hash: u64, is_positive: bool) {
        let stripe = self.stripe(hash);
        let counter = if is_positive { &stripe.filter_positives } else { &stripe.filter_negatives };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_false_positive(&self, hash: u64) {
        self.stripe(hash).filter_false_positives.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    fn stripe(&self, spread: u64) -> &Stripe {
        &self.stripes[spread as usize % STRIPES]
    }
}
