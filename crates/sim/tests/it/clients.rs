//! Clients that use one register, each operation taking effect at one step between its two ends.

use holm_sim::history::{History, Op, Outcome, Transaction};

use crate::executor::Rng;

/// A register, clients that use it, and how they do.
#[derive(Clone, Copy)]
pub(crate) struct Clients {
    pub(crate) operations: usize,
    pub(crate) clients: usize,
    pub(crate) values: usize,
    /// One of how many operations is never answered.
    pub(crate) unanswered: usize,
}

/// Plays clients on one register.
pub(crate) fn play(seed: u64, size: Clients) -> History {
    let mut rng = Rng(seed);
    let mut register: Option<u64> = None;
    let mut position = 0;
    let mut history = History::default();
    // Of each client its operation, and whether it has taken effect.
    let mut open: Vec<Option<(usize, bool)>> = vec![None; size.clients];
    while history.transactions.len() < size.operations || open.iter().any(Option::is_some) {
        let client = rng.below(size.clients);
        match open[client] {
            None if history.transactions.len() == size.operations => {}
            None => {
                position += 1;
                let value = 1 + rng.below(size.values) as u64;
                let op = match rng.below(5) {
                    0 | 1 => Op::read("x", None),
                    2 => Op::cas("x", Some(1 + rng.below(size.values) as u64), value, None),
                    _ => Op::write("x", value),
                };
                open[client] = Some((history.transactions.len(), false));
                history.transactions.push(Transaction {
                    label: format!("T{}", history.transactions.len() + 1),
                    session: client as u64,
                    invoke: position,
                    complete: None,
                    outcome: Outcome::Committed,
                    read_ts: None,
                    commit_ts: None,
                    ops: vec![op],
                });
            }
            Some((number, false)) => {
                let txn = &mut history.transactions[number];
                let is_lost = size.unanswered > 0 && rng.one_in(size.unanswered);
                if is_lost {
                    txn.outcome = Outcome::Unknown;
                    // It takes effect late, or never.
                    if rng.one_in(2) {
                        open[client] = None;
                        continue;
                    }
                    if rng.one_in(2) {
                        continue;
                    }
                }
                match &mut txn.ops[0] {
                    Op::Read { value, .. } => *value = register,
                    Op::Write { value, .. } => register = Some(*value),
                    Op::Cas { expected, new, swapped, .. } => {
                        let is_equal = register == *expected;
                        register = if is_equal { Some(*new) } else { register };
                        *swapped = (txn.outcome == Outcome::Committed).then_some(is_equal);
                    }
                    _ => {}
                }
                open[client] = Some((number, true));
            }
            Some((number, true)) => {
                let txn = &mut history.transactions[number];
                if txn.outcome == Outcome::Committed {
                    position += 1;
                    txn.complete = Some(position);
                }
                open[client] = None;
            }
        }
    }
    history
}
