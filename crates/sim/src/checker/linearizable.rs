//! Checks that each register is linearizable: that every operation on it took effect at one point
//! between its request and its answer.
//!
//! ```text
//!  position  1    2    3    4    5    6    7    8
//!  T1        |-- write 1 --|                              T1 first; then T3, for T2 read 2;
//!  T2                  |--- read 2 ---|                   then T2. T4 read 1, which T3 had
//!  T3             |-------- write 2 --------|             written over: it does not fit.
//!  T4                                  |- read 1 -|
//! ```
//!
//! # The search
//! Wing and Gong ("Testing and Verifying Concurrent Objects", JPDC 1993) try all orders, and Lowe
//! ("Testing for Linearizability", CCPE 2017) remembers what was tried. Here the search goes
//! forward in time with all possibilities at once (Lowe's just-in-time order; Knossos calls it
//! `linear`): a **configuration** is the value of the register and which of the open operations
//! have taken effect. An operation takes effect only when an answer asks for it.
//!
//! ```text
//!  event            configurations {value, effects of open operations}
//!  T1 asks          {nil, -}
//!  T3 asks          {nil, -}
//!  T2 asks          {nil, -}
//!  T1 is answered   {1, -}  {1, T3}  {2, T3} ...      T1 before or after T3
//!  T2 is answered   {2, T3}                           only these let T2 read 2
//! ```
//!
//! So the memory is bounded by how many operations are open at once, and not by the length of the
//! history. Three things keep the configurations few:
//! * A read changes nothing, so that it takes effect as soon as it can in each configuration.
//! * Registers are independent (linearizability is local: Herlihy and Wing 1990, theorem 1).
//! * An operation that was never answered may take effect at any later time, or never. It stays
//!   open only until the last answer that could depend on what it writes; and a configuration
//!   that has spent fewer of them, all else equal, stands for those that have spent more.
//!
//! # Transactions
//! What a transaction does to one register counts as one operation: a read, a write, or a read and
//! a write at once. In a strictly serializable history each register passes; that it fails
//! convicts, and that it passes says nothing about transactions over several registers.
//!
//! # Invariants
//! * Exact: a register passes if and only if a linearization exists, as long as no more than
//!   [`OPEN_MAX`] operations are open at once. (Beyond, the report says so, and accuses nobody.)

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use super::hash::FastMap;
use super::report::Evidence;
use super::{Class, Options, Report};
use crate::history::text::Name;
use crate::history::{History, Op, Outcome, Position, Transaction};

/// How many operations on one register may be open at once: a bit each.
pub const OPEN_MAX: usize = 128;

/// How many configurations are followed. Some ten writers at once need as many; twenty that all
/// overlap need more than any machine has.
pub const CONFIGURATIONS_MAX: usize = 2_000_000;

/// How many operations of the prefix that fits are printed: where it goes wrong is at its end.
const PREFIX_PRINTED: usize = 6;

/// The value of a register.
type Value = Option<u64>;

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Anything,
    Is(Value),
    /// A compare-and-set that failed.
    IsNot(Value),
}

impl Needs {
    fn holds(self, value: Value) -> bool {
        match self {
            Needs::Anything => true,
            Needs::Is(needed) => needed == value,
            Needs::IsNot(refused) => refused != value,
        }
    }
}

/// What a transaction did to one register.
#[derive(Clone, Copy, Debug)]
struct Operation<'a> {
    txn: &'a Transaction,
    needs: Needs,
    sets: Option<u64>,
    /// When it has to have taken effect; of one without an answer, `None`.
    must_by: Option<Position>,
    /// When it may be forgotten.
    closes: Option<Position>,
}

/// Checks each register of a history; see the module.
///
/// Operations on lists and counters are ignored.
pub fn check(history: &History, options: &Options) -> Report {
    let mut report = Report::new(options);
    for (key, mut operations) in by_register(history) {
        close_unanswered(&mut operations);
        if let Err(failure) = search(&operations) {
            explain(key, &operations, &failure, &mut report);
        }
    }
    report.sort();
    report
}

/// Returns how many operations the longest prefix of a register has that is linearizable, and of
/// how many: for a figure, where [`check`] gives a verdict.
pub fn longest_prefix(history: &History, key: &str) -> (usize, usize) {
    let mut registers = by_register(history);
    let mut operations = registers.remove(key).unwrap_or_default();
    close_unanswered(&mut operations);
    let answered = operations.iter().filter(|op| op.must_by.is_some()).count();
    match search(&operations) {
        Ok(()) | Err(Failure { misfit: None, .. }) => (answered, answered),
        Err(failure) => (failure.fitted, answered),
    }
}

fn by_register(history: &History) -> BTreeMap<&str, Vec<Operation<'_>>> {
    let mut registers: BTreeMap<&str, Vec<Operation<'_>>> = BTreeMap::new();
    for txn in history.transactions.iter().filter(|txn| txn.outcome != Outcome::Aborted) {
        // Of each key what was read before the first own write, and the last write.
        let mut parts: Vec<(&str, Needs, Option<u64>)> = Vec::new();
        for op in &txn.ops {
            let (needs, sets) = match op {
                Op::Read { value, .. } => (Needs::Is(*value), None),
                Op::Write { value, .. } => (Needs::Anything, Some(*value)),
                Op::Cas { expected, new, swapped: Some(true) | None, .. } => {
                    (Needs::Is(*expected), Some(*new))
                }
                Op::Cas { expected, .. } => (Needs::IsNot(*expected), None),
                Op::Append { .. } | Op::ReadList { .. } | Op::Add { .. } => continue,
            };
            match parts.iter_mut().find(|(key, ..)| *key == op.key()) {
                None => parts.push((op.key(), needs, sets)),
                Some((_, first, last)) => {
                    if *first == Needs::Anything && last.is_none() {
                        *first = needs;
                    }
                    *last = sets.or(*last);
                }
            }
        }
        for (key, needs, sets) in parts {
            let is_unknown = txn.outcome == Outcome::Unknown;
            // A compare-and-set whose answer is missing may have failed, which changed nothing.
            let no_answer = txn
                .ops
                .iter()
                .any(|op| matches!(op, Op::Cas { key: k, swapped: None, .. } if k.as_str() == key));
            if (is_unknown || no_answer) && sets.is_none() {
                continue;
            }
            let must_by = txn.complete.filter(|_| !is_unknown && !no_answer);
            // A committed transaction whose end was not recorded took effect at some time.
            let must_by = must_by.or((!is_unknown && !no_answer).then_some(Position::MAX));
            let operation = Operation { txn, needs, sets, must_by, closes: must_by };
            registers.entry(key).or_default().push(operation);
        }
    }
    registers
}

/// Finds out until when an operation without an answer can make a difference.
fn close_unanswered(operations: &mut [Operation<'_>]) {
    let written: HashSet<Value> = operations.iter().map(|op| op.sets).chain([None]).collect();
    for operation in operations.iter_mut() {
        // That a register did not hold what nobody ever wrote needs no explanation.
        if let Needs::IsNot(refused) = operation.needs
            && !written.contains(&refused)
        {
            operation.needs = Needs::Anything;
        }
    }
    let mut last_read: HashMap<u64, Position> = HashMap::new();
    let mut last_refusal = None;
    for operation in operations.iter() {
        let until = operation.must_by.unwrap_or(Position::MAX);
        match operation.needs {
            Needs::Is(Some(value)) => {
                let last = last_read.entry(value).or_insert(0);
                *last = until.max(*last);
            }
            // Any write of another value lets it fail.
            Needs::IsNot(_) => last_refusal = last_refusal.max(Some(until)),
            // Of nothing at all no write makes a difference.
            Needs::Is(None) | Needs::Anything => {}
        }
    }
    for operation in operations.iter_mut().filter(|operation| operation.must_by.is_none()) {
        let read = operation.sets.and_then(|value| last_read.get(&value).copied());
        operation.closes = read.max(last_refusal);
    }
}

/// What is possible at some time: the value, and which of the open operations have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Configuration {
    value: Value,
    /// Of those that were answered later.
    effects: u128,
    /// Of those that never were. Whoever has spent fewer of them can do whatever another can.
    spent: u128,
}

/// Configurations, without those of which another can do all that they can.
#[derive(Default)]
struct Possible {
    by_state: FastMap<(Value, u128), Vec<(u128, u32)>>,
    count: usize,
}

impl Possible {
    /// Adds a configuration and the step that led to it. Returns false if another one covers it.
    fn add(&mut self, at: Configuration, step: u32) -> bool {
        let spent = self.by_state.entry((at.value, at.effects)).or_default();
        if spent.iter().any(|(other, _)| other & at.spent == *other) {
            return false;
        }
        self.count -= spent.len();
        spent.retain(|(other, _)| other & at.spent != at.spent);
        spent.push((at.spent, step));
        self.count += spent.len();
        true
    }

    /// Returns them in order, so that what is printed does not depend on a table.
    fn sorted(&self) -> Vec<(Configuration, u32)> {
        let states = self.by_state.iter().flat_map(|((value, effects), spent)| {
            spent.iter().map(|(spent, step)| {
                (Configuration { value: *value, effects: *effects, spent: *spent }, *step)
            })
        });
        let mut sorted: Vec<_> = states.collect();
        sorted.sort_unstable();
        sorted
    }
}

/// Where the search ended.
struct Failure {
    /// The operation that does not fit, or none if there was too much to search.
    misfit: Option<usize>,
    /// How many operations were answered and fitted before it.
    fitted: usize,
    /// What was possible before it.
    before: Vec<Configuration>,
    /// The operations that were open then, by slot.
    open: Vec<(usize, usize)>,
    /// One way to order what came before, its last operations.
    order: Vec<usize>,
}

/// A step of an order that was found: the operation, and the step before it.
type Steps = Vec<(u32, u32)>;
const NO_STEP: u32 = u32::MAX;

fn search(operations: &[Operation<'_>]) -> Result<(), Failure> {
    // At equal positions beginnings come first: such operations overlap.
    const BEGIN: u8 = 0;
    const END: u8 = 1;
    // What was never answered closes after all answers that may depend on it.
    const CLOSE: u8 = 2;
    let mut events = Vec::with_capacity(2 * operations.len());
    for (number, operation) in operations.iter().enumerate() {
        // What cannot make a difference is left out.
        if let Some(closes) = operation.closes.filter(|closes| *closes >= operation.txn.invoke) {
            events.push((operation.txn.invoke, BEGIN, number));
            let end = if operation.must_by.is_some() { END } else { CLOSE };
            events.push((closes, end, number));
        }
    }
    events.sort_unstable();
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut steps: Steps = Vec::new();
    let mut possible = Possible::default();
    possible.add(Configuration { value: None, effects: 0, spent: 0 }, NO_STEP);
    let mut fitted = 0;
    for (_, event, number) in events {
        if event == BEGIN {
            let slot = (0..OPEN_MAX).find(|slot| !open.iter().any(|(other, _)| other == slot));
            let Some(slot) = slot else {
                return Err(Failure::new(None, fitted, &possible, open, &steps));
            };
            open.push((slot, number));
            continue;
        }
        let place = open.iter().position(|(_, other)| *other == number);
        let place = place.expect("what ends has begun");
        let (slot, _) = open[place];
        let next = if event == CLOSE {
            // Whether it took effect makes no difference from here on.
            let mut next = Possible::default();
            for (at, step) in possible.sorted() {
                next.add(Configuration { spent: at.spent & !(1 << slot), ..at }, step);
            }
            next
        } else {
            fitted += 1;
            match take_effect(operations, &open, slot, &possible, &mut steps) {
                Some(next) if next.count > 0 => next,
                next => {
                    let misfit = next.map(|_| number);
                    return Err(Failure::new(misfit, fitted - 1, &possible, open, &steps));
                }
            }
        };
        possible = next;
        open.remove(place);
    }
    Ok(())
}

/// Follows each configuration until the operation in a slot has taken effect. Returns `None` if
/// there are too many.
fn take_effect(
    operations: &[Operation<'_>],
    open: &[(usize, usize)],
    slot: usize,
    possible: &Possible,
    steps: &mut Steps,
) -> Option<Possible> {
    let wanted = 1_u128 << slot;
    let (mut done, mut tried) = (Possible::default(), Possible::default());
    // Those that have spent less come first, since they cover others.
    let mut queues: Vec<Vec<(Configuration, u32)>> = vec![Vec::new(); OPEN_MAX + 1];
    for (at, step) in possible.sorted() {
        queues[at.spent.count_ones() as usize].push((at, step));
    }
    let mut spent = 0;
    while spent <= OPEN_MAX {
        let Some((at, step)) = queues[spent].pop() else {
            spent += 1;
            continue;
        };
        let (at, step) = read_all(operations, open, at, step, steps);
        if at.effects & wanted != 0 {
            done.add(Configuration { effects: at.effects & !wanted, ..at }, step);
            continue;
        }
        if !tried.add(at, step) {
            continue;
        }
        if tried.count > CONFIGURATIONS_MAX {
            return None;
        }
        for (other, number) in open {
            let operation = &operations[*number];
            let bit = 1_u128 << other;
            let Some(sets) = operation.sets else { continue };
            if (at.effects | at.spent) & bit != 0 || !operation.needs.holds(at.value) {
                continue;
            }
            let mut next = Configuration { value: Some(sets), ..at };
            if operation.must_by.is_some() {
                next.effects |= bit;
            } else {
                next.spent |= bit;
            }
            steps.push((*number as u32, step));
            queues[next.spent.count_ones() as usize].push((next, steps.len() as u32 - 1));
        }
    }
    Some(done)
}

/// Lets all open reads take effect that see what they saw.
fn read_all(
    operations: &[Operation<'_>],
    open: &[(usize, usize)],
    mut at: Configuration,
    mut step: u32,
    steps: &mut Steps,
) -> (Configuration, u32) {
    for (slot, number) in open {
        let operation = &operations[*number];
        if operation.sets.is_none()
            && at.effects & (1 << slot) == 0
            && operation.needs.holds(at.value)
        {
            at.effects |= 1 << slot;
            steps.push((*number as u32, step));
            step = steps.len() as u32 - 1;
        }
    }
    (at, step)
}

impl Failure {
    fn new(
        misfit: Option<usize>,
        fitted: usize,
        possible: &Possible,
        open: Vec<(usize, usize)>,
        steps: &Steps,
    ) -> Failure {
        let sorted = possible.sorted();
        let order = order_to(sorted.first().map_or(NO_STEP, |(_, step)| *step), steps);
        let before = sorted.into_iter().map(|(at, _)| at).collect();
        Failure { misfit, fitted, before, open, order }
    }
}

fn order_to(last: u32, steps: &Steps) -> Vec<usize> {
    let mut order = Vec::new();
    let mut at = last;
    while at != NO_STEP && order.len() <= PREFIX_PRINTED {
        order.push(steps[at as usize].0 as usize);
        at = steps[at as usize].1;
    }
    order.reverse();
    order
}

fn explain(key: &str, operations: &[Operation<'_>], failure: &Failure, report: &mut Report) {
    let Some(misfit) = failure.misfit else {
        // Too much to search is no accusation.
        report.add(Class::Undecided, || {
            let (count, open) = (failure.fitted, failure.open.len());
            let line = format!(
                "{count} answers of {} fit; then {open} operations were open at once, and the \
                 orders of them are too many",
                Name(key)
            );
            Evidence::line([], line)
        });
        return;
    };
    report.add(Class::NotLinearizable, || {
        let (key, misfit) = (Name(key), &operations[misfit]);
        let mut lines = Vec::new();
        let count = failure.fitted;
        let mut order = failure.order.iter().map(|n| words(&operations[*n])).collect::<Vec<_>>();
        if order.len() > PREFIX_PRINTED {
            order[0] = "...".into();
        }
        lines.push(match order.len() {
            0 => format!("the first answer of {key} does not fit"),
            _ => format!("{count} answers of {key} fit, such as in the order {}", order.join(", ")),
        });
        let mut values: Vec<Value> = failure.before.iter().map(|c| c.value).collect();
        values.dedup();
        let mut line = format!("then {} does not fit: {key} may be", span(misfit));
        for (i, value) in values.iter().take(8).enumerate() {
            let _ = write!(line, "{} {}", if i == 0 { "" } else { " or" }, shown(*value));
        }
        lines.push(line);
        let mut transactions = vec![misfit.txn.label.clone()];
        for (slot, number) in &failure.open {
            let operation = &operations[*number];
            if operation.txn.label == misfit.txn.label {
                continue;
            }
            let bit = 1_u128 << slot;
            let may_wait = failure.before.iter().any(|c| (c.effects | c.spent) & bit == 0);
            let note = if may_wait { "open, and may take effect" } else { "open, and took effect" };
            lines.push(format!("{} is {note}", span(operation)));
            transactions.push(operation.txn.label.clone());
        }
        Evidence { nickname: None, transactions, lines }
    });
}

fn shown(value: Value) -> String {
    value.map_or("nil".into(), |value| value.to_string())
}

fn words(operation: &Operation<'_>) -> String {
    let label = Name(&operation.txn.label);
    match (operation.needs, operation.sets) {
        (Needs::Is(value), None) => format!("{label} read {}", shown(value)),
        (Needs::IsNot(value), None) => format!("{label} found not {}", shown(value)),
        (Needs::Is(value), Some(new)) => format!("{label} read {} wrote {new}", shown(value)),
        (Needs::IsNot(value), Some(new)) => {
            format!("{label} found not {} wrote {new}", shown(value))
        }
        (Needs::Anything, Some(new)) => format!("{label} wrote {new}"),
        (Needs::Anything, None) => format!("{label} did nothing"),
    }
}

/// Prints an operation with its span, as `T4 read 1 (7..8)`.
fn span(operation: &Operation<'_>) -> String {
    let invoke = operation.txn.invoke;
    let complete = operation.txn.complete.map_or("?".into(), |complete| complete.to_string());
    format!("{} ({invoke}..{complete})", words(operation))
}
