//! Decides by trying all orders what the checkers decide by cycles. For a handful of transactions.

use std::collections::BTreeMap;

use holm_sim::history::{History, Op, Outcome, Transaction};

type State = BTreeMap<String, Vec<u64>>;

/// Returns true if some serial order explains the history, in agreement with real time if `strict`.
pub(crate) fn is_serializable(history: &History, strict: bool) -> bool {
    let txns: Vec<&Transaction> = attempts(history);
    place(&txns, &mut vec![false; txns.len()], &State::new(), strict)
}

fn place(txns: &[&Transaction], placed: &mut Vec<bool>, state: &State, strict: bool) -> bool {
    let is_left = |i: usize, placed: &[bool]| !placed[i] && txns[i].outcome == Outcome::Committed;
    if !(0..txns.len()).any(|i| is_left(i, placed)) {
        return true;
    }
    for i in 0..txns.len() {
        let must_wait = strict && (0..txns.len()).any(|j| !placed[j] && txns[j].is_before(txns[i]));
        if placed[i] || must_wait {
            continue;
        }
        if let Some(next) = after(txns[i], state) {
            placed[i] = true;
            if place(txns, placed, &next, strict) {
                return true;
            }
            placed[i] = false;
        }
    }
    false
}

/// Returns true if snapshots and commits can be put in an order that explains the history: each
/// transaction reads the state at its snapshot, and no two of them that overlap write one key.
/// If `strict`, each snapshot comes after the commits of all that ended before it began.
pub(crate) fn is_snapshot_isolated(history: &History, strict: bool) -> bool {
    let txns: Vec<&Transaction> = attempts(history);
    let mut stages = vec![Stage::Waiting; txns.len()];
    advance(&txns, &mut stages, &State::new(), strict)
}

#[derive(Clone, PartialEq)]
enum Stage {
    Waiting,
    /// With the keys that others have written since.
    Begun(Vec<String>),
    Done,
}

fn advance(txns: &[&Transaction], stages: &mut Vec<Stage>, state: &State, strict: bool) -> bool {
    let is_done = |i: usize| stages[i] == Stage::Done || txns[i].outcome == Outcome::Unknown;
    if (0..txns.len()).all(is_done) {
        return true;
    }
    for i in 0..txns.len() {
        let before = stages.clone();
        match &stages[i] {
            Stage::Done => continue,
            Stage::Waiting => {
                let must_wait = strict
                    && (0..txns.len())
                        .any(|j| stages[j] != Stage::Done && txns[j].is_before(txns[i]));
                if must_wait || after(txns[i], state).is_none() {
                    continue;
                }
                stages[i] = Stage::Begun(Vec::new());
                if advance(txns, stages, state, strict) {
                    return true;
                }
            }
            Stage::Begun(written) => {
                let writes: Vec<_> =
                    txns[i].ops.iter().filter(|op| op.written().is_some()).collect();
                if writes.iter().any(|op| written.iter().any(|key| key == op.key())) {
                    continue;
                }
                let mut next = state.clone();
                for op in &writes {
                    next.entry(op.key().into()).or_default().extend(op.written());
                }
                stages[i] = Stage::Done;
                for stage in stages.iter_mut() {
                    if let Stage::Begun(written) = stage {
                        written.extend(writes.iter().map(|op| op.key().to_owned()));
                    }
                }
                if advance(txns, stages, &next, strict) {
                    return true;
                }
            }
        }
        *stages = before;
    }
    false
}

fn attempts(history: &History) -> Vec<&Transaction> {
    history.transactions.iter().filter(|txn| txn.outcome != Outcome::Aborted).collect()
}

/// Returns the state after a transaction, or `None` if it would have read something else.
fn after(txn: &Transaction, state: &State) -> Option<State> {
    let mut state = state.clone();
    for op in &txn.ops {
        match op {
            Op::Append { key, element } => state.entry(key.clone()).or_default().push(*element),
            Op::ReadList { key, observed } => {
                if state.get(key).map_or(&[][..], Vec::as_slice) != observed.as_slice() {
                    return None;
                }
            }
            // A register is the last of all that was written to it.
            Op::Write { key, value } => state.entry(key.clone()).or_default().push(*value),
            Op::Read { key, value } => {
                if state.get(key).and_then(|written| written.last()) != value.as_ref() {
                    return None;
                }
            }
            _ => unreachable!("lists and registers only"),
        }
    }
    Some(state)
}
