//! What is wrong with a read by itself: it shows what nobody wrote, what was taken back, what was
//! not finished, or something twice. The same for lists and for registers, since the value of a
//! register is a list of at most one.

use super::explain::saw;
use super::hash::FastSet;
use super::index::{Index, Key, Read};
use super::report::Evidence;
use super::{Class, Report};
use crate::history::{Op, Outcome};

/// Where a list first shows something wrong, if it does.
#[derive(Clone, Copy, Default)]
pub(super) struct Flaws {
    garbage: Option<usize>,
    duplicate: Option<usize>,
    aborted: Option<usize>,
}

impl Flaws {
    /// Looks up each element of what was read from a key.
    pub(super) fn of(index: &Index<'_>, key: Key, list: &[u64]) -> Flaws {
        let mut flaws = Flaws::default();
        let mut elements = FastSet::default();
        for (i, element) in list.iter().enumerate() {
            match index.write(key, *element) {
                None => flaws.garbage = flaws.garbage.or(Some(i)),
                Some(write) if index.txn(write.txn).outcome == Outcome::Aborted => {
                    flaws.aborted = flaws.aborted.or(Some(i));
                }
                Some(_) => {}
            }
            if !elements.insert(*element) {
                flaws.duplicate = flaws.duplicate.or(Some(i));
            }
        }
        flaws
    }

    /// Reports the flaws of a list that show in a read of a prefix of it.
    pub(super) fn report(self, index: &Index<'_>, read: &Read<'_>, report: &mut Report) {
        let reader = index.label(read.txn);
        let op = index.op(read.txn, read.op);
        let wrote = verb(op);
        let at = |flaw: Option<usize>| flaw.and_then(|i| read.observed.get(i)).copied();
        if let Some(element) = at(self.garbage) {
            report.add(Class::GarbageRead, || {
                let line = format!("{reader} read {}, and nobody {wrote} {element}", saw(op));
                Evidence::line([reader], line)
            });
        }
        if let Some(element) = at(self.duplicate) {
            report.add(Class::DuplicateElements, || {
                Evidence::line([reader], format!("{reader} read {}, with {element} twice", saw(op)))
            });
        }
        if let Some(element) = at(self.aborted)
            && let Some(write) = index.write(read.key, element)
        {
            report.add(Class::AbortedRead, || {
                let (writer, saw) = (index.label(write.txn), saw(op));
                let line =
                    format!("{reader} read {saw}, and {writer}, which {wrote} {element}, aborted");
                Evidence::line([writer, reader], line)
            });
        }
    }
}

/// Reports a read of a write that its transaction then followed by another (G1b).
///
/// Only the last element counts: with another one after it, the two transactions were interleaved,
/// which is G0 and found as a cycle.
pub(super) fn check_intermediate(index: &Index<'_>, read: &Read<'_>, report: &mut Report) {
    let Some(last) = read.observed.last() else { return };
    let Some(write) = index.write(read.key, *last) else { return };
    if write.is_final || write.txn == read.txn {
        return;
    }
    report.add(Class::IntermediateRead, || {
        let (writer, reader) = (index.label(write.txn), index.label(read.txn));
        let (saw, key) = (saw(index.op(read.txn, read.op)), index.name(read.key));
        let wrote = verb(index.op(read.txn, read.op));
        let line = format!("{reader} read {saw}, and {writer} {wrote} to {key} again after {last}");
        Evidence::line([writer, reader], line)
    });
}

fn verb(read: &Op) -> &'static str {
    match read {
        Op::Append { .. } | Op::ReadList { .. } => "appended",
        Op::Write { .. } | Op::Read { .. } | Op::Cas { .. } | Op::Add { .. } => "wrote",
    }
}
