//! Says in words what a cycle of dependencies is made of.

use super::cycle::Found;
use super::graph::{Edge, PROCESS, RW, WR, WW};
use super::index::Index;
use super::report::Evidence;
use super::{Class, Cycle, Order};
use crate::history::Op;
use crate::history::text::{List, Name};

/// How many elements of a list are printed. The last ones are where the reads differ.
const ELEMENTS_MAX: usize = 12;

/// Returns the evidence for a cycle: its common name and a line for each dependency.
pub(super) fn cycle(index: &Index<'_>, found: &Found) -> Evidence {
    Evidence {
        nickname: nickname(index, found),
        transactions: found.edges.iter().map(|e| index.label(e.from).to_owned()).collect(),
        lines: found.edges.iter().map(|edge| line(index, *edge)).collect(),
    }
}

/// Prints what a read saw, as `x=[1 2]` or `x=1`.
pub(super) fn saw(op: &Op) -> String {
    match op {
        Op::ReadList { key, observed } => {
            let from = observed.len().saturating_sub(ELEMENTS_MAX);
            let list = List(&observed[from..]).to_string();
            let list = if from == 0 { list } else { list.replacen('[', "[... ", 1) };
            format!("{}={list}", Name(key))
        }
        Op::Read { key, value: Some(value) } => format!("{}={value}", Name(key)),
        Op::Read { key, value: None } => format!("{}=nil", Name(key)),
        Op::Append { .. } | Op::Write { .. } | Op::Cas { .. } | Op::Add { .. } => op.to_string(),
    }
}

/// Prints what a write did, as `appended 1 to x` or `wrote 1 to x`.
fn did(op: &Op) -> String {
    match op {
        Op::Append { key, element } => format!("appended {element} to {}", Name(key)),
        Op::Write { key, value } => format!("wrote {value} to {}", Name(key)),
        Op::ReadList { .. } | Op::Read { .. } => format!("read {}", saw(op)),
        Op::Cas { .. } | Op::Add { .. } => op.to_string(),
    }
}

fn line(index: &Index<'_>, edge: Edge) -> String {
    let (from, to) = (index.label(edge.from), index.label(edge.to));
    // The other side's operation is a write to the same key; where it has several, the one next
    // to this edge: the last that was written over, the one that was read, the first missed.
    let writes = |t: u32, key: &str| {
        let ops = index.txn(t).ops.iter();
        ops.filter(|op| op.written().is_some() && op.key() == key).map(did).collect::<Vec<_>>()
    };
    match edge.kind {
        WW => {
            let later = index.op(edge.to, edge.op);
            let earlier = writes(edge.from, later.key()).pop().unwrap_or_default();
            format!("{from} {earlier}, and {to} {} after it: {from} -ww-> {to}", did(later))
        }
        WR => {
            let read = index.op(edge.to, edge.op);
            let value = super::index::observed(read).and_then(|list| list.last().copied());
            let ops = index.txn(edge.from).ops.iter();
            let write = ops.rev().find(|op| op.key() == read.key() && op.written() == value);
            let write = write.map(did).unwrap_or_default();
            format!("{from} {write}, and {to} read {}: {from} -wr-> {to}", saw(read))
        }
        RW => {
            let read = index.op(edge.from, edge.op);
            let missed = writes(edge.to, read.key()).into_iter().next().unwrap_or_default();
            format!("{from} read {}, and {to} {missed}: {from} -rw-> {to}", saw(read))
        }
        kind => {
            let end = index.txn(edge.from).complete.unwrap_or_default();
            let begin = index.txn(edge.to).invoke;
            if kind == PROCESS {
                let session = index.txn(edge.to).session;
                format!(
                    "{from} ended at {end}, and {to} of the same session s{session} began at \
                     {begin}: {from} -process-> {to}"
                )
            } else {
                format!("{from} ended at {end}, and {to} began at {begin}: {from} -realtime-> {to}")
            }
        }
    }
}

/// Returns what people call a cycle of this shape.
fn nickname(index: &Index<'_>, found: &Found) -> Option<&'static str> {
    let Class::Cycle(cycle, order) = found.class else { return None };
    let edges = &found.edges;
    let count = |kind| edges.iter().filter(|edge| edge.kind == kind).count();
    let key_of = |edge: &Edge| {
        let txn = if edge.kind == RW { edge.from } else { edge.to };
        index.op(txn, edge.op).key()
    };
    match (cycle, order, edges.len()) {
        (Cycle::G0, Order::Data, _) => Some("dirty write"),
        (Cycle::G1c, Order::Data, _) => Some("circular information flow"),
        (Cycle::GSingle, Order::Data, 2)
            if count(WW) == 1 && key_of(&edges[0]) == key_of(&edges[1]) =>
        {
            Some("lost update")
        }
        (Cycle::GSingle, Order::Data, _) if count(WR) > 0 => Some("read skew"),
        (Cycle::GSingle, Order::Process | Order::RealTime, 2) => Some("stale read"),
        (Cycle::GNonadjacent, Order::Data, 4) if count(WR) == 2 => Some("long fork"),
        (Cycle::G2Item, Order::Data, 2) if key_of(&edges[0]) != key_of(&edges[1]) => {
            Some("write skew")
        }
        _ => None,
    }
}
