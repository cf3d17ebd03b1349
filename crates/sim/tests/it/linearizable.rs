//! Linearizability: against all orders for small histories, and at the size it is made for.

use holm_sim::checker::linearizable::{self, longest_prefix};
use holm_sim::checker::{Level, Options};
use holm_sim::history::{History, Op, Outcome, Transaction};

use crate::clients::{Clients, play};
use crate::executor::Rng;

/// Decides by trying all orders.
fn is_linearizable(txns: &[Transaction], placed: &mut Vec<bool>, register: Option<u64>) -> bool {
    let is_left = |i: usize| !placed[i] && txns[i].outcome == Outcome::Committed;
    if !(0..txns.len()).any(is_left) {
        return true;
    }
    for i in 0..txns.len() {
        let must_wait = (0..txns.len()).any(|j| !placed[j] && txns[j].is_before(&txns[i]));
        if placed[i] || must_wait {
            continue;
        }
        let next = match &txns[i].ops[0] {
            Op::Read { value, .. } if txns[i].outcome == Outcome::Unknown || *value == register => {
                register
            }
            Op::Write { value, .. } => Some(*value),
            Op::Cas { expected, new, swapped, .. } => {
                let is_equal = register == *expected;
                if swapped.is_some_and(|swapped| swapped != is_equal) {
                    continue;
                }
                if is_equal { Some(*new) } else { register }
            }
            _ => continue,
        };
        placed[i] = true;
        if is_linearizable(txns, placed, next) {
            return true;
        }
        placed[i] = false;
    }
    false
}

/// Turns one answer round.
fn mutate(history: &mut History, rng: &mut Rng, values: usize) {
    let number = rng.below(history.transactions.len());
    match &mut history.transactions[number].ops[0] {
        Op::Read { value, .. } => {
            let other = rng.below(values + 1) as u64;
            *value = (other > 0).then_some(other);
        }
        Op::Cas { swapped: Some(swapped), .. } => *swapped = !*swapped,
        Op::Write { value, .. } => *value = 1 + rng.below(values) as u64,
        _ => {}
    }
}

fn is_valid(history: &History) -> bool {
    linearizable::check(history, &Options::at(Level::StrictSerializable)).is_valid()
}

#[test]
fn checker_agrees_with_all_orders_on_small_histories() {
    let (mut right, mut wrong) = (0, 0);
    for seed in 0..12_000 {
        let unanswered = [0, 3, 6][seed as usize % 3];
        let size = Clients { operations: 7, clients: 4, values: 3, unanswered };
        let mut history = play(seed, size);
        let mut rng = Rng(seed ^ 0x5eed);
        for _ in 0..seed % 4 {
            mutate(&mut history, &mut rng, size.values);
        }
        let txns = &history.transactions;
        let expected = is_linearizable(txns, &mut vec![false; txns.len()], None);
        assert_eq!(is_valid(&history), expected, "seed {seed}\n{history}");
        if seed % 4 == 0 {
            assert!(expected, "seed {seed}\n{history}");
        }
        if expected { right += 1 } else { wrong += 1 }
    }
    println!("{right} right, {wrong} wrong");
    assert!(right > 3_000 && wrong > 3_000, "{right} right, {wrong} wrong");
}

#[test]
fn thousands_of_operations_on_one_register() {
    for seed in 0..2 {
        let size = Clients { operations: 4_000, clients: 8, values: 1_000_000, unanswered: 40 };
        let mut history = play(seed, size);
        assert!(is_valid(&history), "seed {seed}");
        let text = history.to_string();
        assert_eq!(text.parse::<History>().unwrap(), history);
        // One read of what was never written, near the end.
        let read = history.transactions.iter_mut().skip(3_900).find_map(|txn| {
            let is_answered = txn.outcome == Outcome::Committed;
            match &mut txn.ops[0] {
                Op::Read { value, .. } if is_answered => Some(value),
                _ => None,
            }
        });
        *read.unwrap() = Some(2_000_000);
        assert!(!is_valid(&history), "seed {seed}");
        let (fitted, of) = longest_prefix(&history, "x");
        assert!(fitted > 3_000 && fitted < of, "{fitted} of {of}");
    }
}
