//! Checkers: could any execution at the promised isolation level have given these answers?
//!
//! Testing a database against a model would need to know in which order the transactions took
//! effect, and a client cannot see that. Elle (Kingsbury and Alvaro, VLDB 2020) turns the question
//! round: what clients saw *constrains* the order, and if the constraints run in a circle, no order
//! exists. The circle is the proof, and it is short enough to read.
//!
//! # An example
//! Two doctors are on call. Each checks that the other one is, and goes home:
//!
//! ```text
//! position  1    2    3    4    5    6
//! T1 (s1)   |---------|                    read alice []; append bob 1
//! T2 (s2)        |---------|               read bob []; append alice 2
//! T3 (s3)                       |----|     read alice [2]; read bob [1]
//! ```
//!
//! 1. **The order of versions.** T3 read the longest lists: `alice` was `[]`, then `[2]`; `bob` was
//!    `[]`, then `[1]`.
//! 2. **Dependencies.** T1 read `alice` as it was before the 2 of T2, so T1 came before T2: an
//!    anti-dependency, `rw`. And T2 came before T1, because of `bob`. T3 read the appends of both,
//!    so it came after both: `wr`.
//!
//!    ```text
//!            rw: alice
//!        T1 ----------> T2          T1 before T2 before T1:
//!        |  <----------  |          no serial order exists.
//!        |    rw: bob    |
//!        '---> T3 <------'          T3 is on no cycle, hence innocent.
//!          wr        wr
//!    ```
//! 3. **Components.** Tarjan's algorithm finds `{T1, T2}`, and a breadth-first search the shortest
//!    cycle in it.
//! 4. **A name for it.** Two `rw` in a row: `G2-item`, write skew. Snapshot isolation allows that,
//!    serializability does not ([`Level::forbids`]).
//!
//! Without any cycle, the history is valid at every level: some order explains it (with all
//! edges of `ww`, `wr` and `rw` known, a topological sort of the graph is one).
//!
//! # Reading order
//! [`list_append`] (start there), [`register`], [`timestamps`] and [`linearizable`] are what one
//! calls; [`bank`], [`set`], [`counter`] and [`long_fork`] prove less to more people. Below
//! them: `index` (who wrote what, who counts), `reads` (what is wrong with a read by itself),
//! `graph` (dependencies, time, components), `cycle` (the search), `explain` (the words), `level`
//! and `report` (the verdict).
//!
//! # Invariants
//! * **No false alarms.** Each edge holds in every execution at the level that could have given
//!   these answers. Where the history leaves something open, no edge is drawn.
//! * A valid report proves nothing: it says that this history hides the bug, or has none.
//! * The same history gives the same report, to the byte.
//!
//! # Not here
//! * Predicates and ranges: a scan is recorded as reads of its keys, so phantoms show only through
//!   keys that somebody reads (keep an index of the rows in a list).
//! * Linearizability of other kinds than registers (queues, locks).
//! * Histories too big for memory.
//!
//! References: Adya, "Weak Consistency: A Generalized Theory and Optimistic Implementations for
//! Distributed Transactions", MIT 1999, ch. 3 and 4; shorter in Adya, Liskov and O'Neil,
//! "Generalized Isolation Level Definitions", ICDE 2000, §4.4 and §5. Kingsbury and Alvaro,
//! "Elle: Inferring Isolation Anomalies from Experimental Observations", VLDB 2020.
//! Cerone and Gotsman, "Analysing Snapshot Isolation", PODC 2016.

mod cycle;
mod explain;
mod graph;
mod hash;
mod index;
mod level;
mod reads;
mod report;

pub mod bank;
pub mod counter;
pub mod linearizable;
pub mod list_append;
pub mod long_fork;
pub mod register;
pub mod set;
pub mod timestamps;

pub use level::{Class, Cycle, Level, Order};
pub use report::{Anomaly, Options, Report};

use std::collections::BTreeMap;

use graph::{Builder, PROCESS, REALTIME, RW};
use hash::FastMap;
use index::Index;

/// Adds the order of sessions and of real time to the dependencies, and reports the cycles.
fn check_cycles(index: &Index<'_>, mut builder: Builder, report: &mut Report) {
    add_time(index, &mut builder);
    for found in cycle::find(&builder.build()) {
        report.add(found.class, || explain::cycle(index, &found));
    }
}

/// Reports the cycles through one of the dependencies that need an order, each with its reason.
fn check_cycles_through(
    index: &Index<'_>,
    mut builder: Builder,
    order: Order,
    reasons: &FastMap<(u32, u32), String>,
    report: &mut Report,
) {
    add_time(index, &mut builder);
    for found in cycle::find(&builder.build()) {
        let lines: Vec<&String> = found
            .edges
            .iter()
            .filter(|edge| edge.kind == RW)
            .filter_map(|edge| reasons.get(&(edge.from, edge.to)))
            .collect();
        let Class::Cycle(cycle, needed) = found.class else { continue };
        if lines.is_empty() {
            continue;
        }
        let class = Class::Cycle(cycle, needed.max(order));
        let found = cycle::Found { class, ..found };
        report.add(class, || {
            let mut evidence = explain::cycle(index, &found);
            evidence.lines.extend(lines.into_iter().cloned());
            evidence
        });
    }
}

fn add_time(index: &Index<'_>, builder: &mut Builder) {
    // An unknown transaction that counts took place at some time after it began, perhaps after
    // the next one of its session: it has a beginning and no end.
    let span = |t: u32| (t, index.txn(t).invoke, index.txn(t).complete);
    let mut sessions: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for t in index.counting() {
        sessions.entry(index.txn(t).session).or_default().push(t);
    }
    for transactions in sessions.into_values() {
        builder.order(transactions.into_iter().map(span), PROCESS);
    }
    builder.order(index.counting().map(span), REALTIME);
}

#[cfg(test)]
mod tests;
