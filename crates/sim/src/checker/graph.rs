//! The graph of dependencies between transactions (Adya, thesis ch. 3), and its components.
//!
//! An edge says that in any serial order that explains the history, one transaction comes before
//! another. Three kinds come from the data, two from the clock:
//!
//! ```text
//! T1 -ww-> T2        T2 wrote the version after the one of T1
//! T1 -wr-> T2        T2 read the version of T1
//! T1 -rw-> T2        T1 read the version that T2 wrote over: T1 saw the world before T2
//! T1 -process-> T2   the same session ran T1 before T2
//! T1 -realtime-> T2  T1 had ended before T2 began
//! ```
//!
//! A cycle therefore excludes every serial order. All cycles lie within the strongly connected
//! components, which Tarjan's algorithm finds in one pass.
//!
//! # Real time without n² edges
//! "Ended before it began" relates nearly all pairs. Instead of edges between them, time becomes a
//! chain of barriers: one stands wherever a beginning follows an end. A transaction leads into the
//! first barrier after its end, and follows from the last one before its beginning. That is
//! at most three edges for each transaction, however many run side by side:
//!
//! ```text
//!   T1 |------|                            T1 ------+
//!   T2   |--------|                        T2 ------+
//!   T3              |------|                        v
//!   T4                 |-------|                  (b1) ---> T3, T4
//!   T5                           |---|      T3, T4 -|---+
//!                ^             ^                    v   v
//!                b1            b2                 (b2)<-+  ---> T5
//! ```
//!
//! # Not here
//! Edges from reads of predicates: a range read is recorded as a read of each of its keys.

use super::hash::FastSet;
use crate::history::Position;

/// The kinds of edges, as a set of bits.
pub(super) type Kinds = u8;
pub(super) const WW: Kinds = 1;
pub(super) const WR: Kinds = 2;
pub(super) const RW: Kinds = 4;
pub(super) const PROCESS: Kinds = 8;
pub(super) const REALTIME: Kinds = 16;

/// A dependency. Nodes from [`Graph::transactions`] up are barriers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) kind: Kinds,
    /// The operation that shows it: of `rw` the read in `from`, else the operation in `to`.
    pub(super) op: u32,
}

/// Collects edges until the graph is complete.
pub(super) struct Builder {
    transactions: u32,
    nodes: u32,
    edges: Vec<Edge>,
}

impl Builder {
    pub(super) fn new(transactions: usize) -> Builder {
        let nodes = u32::try_from(transactions).expect("a history fits in memory, and 2^31 do not");
        Builder { transactions: nodes, nodes, edges: Vec::new() }
    }

    /// Returns which transactions an edge of some kind leads from and to.
    pub(super) fn pairs(&self, kind: Kinds) -> FastSet<(u32, u32)> {
        let edges = self.edges.iter().filter(|edge| edge.kind == kind);
        edges.map(|edge| (edge.from, edge.to)).collect()
    }

    /// Adds an edge, unless it would lead from a transaction to itself.
    pub(super) fn edge(&mut self, from: u32, to: u32, kind: Kinds, op: u32) {
        if from != to {
            self.edges.push(Edge { from, to, kind, op });
        }
    }

    /// Adds the order in time among some transactions, each with its beginning and its end.
    pub(super) fn order(
        &mut self,
        spans: impl IntoIterator<Item = (u32, Position, Option<Position>)>,
        kind: Kinds,
    ) {
        // At equal positions, beginnings come first: such transactions overlap.
        const BEGIN: u8 = 0;
        const END: u8 = 1;
        let mut events = Vec::new();
        for (txn, invoke, complete) in spans {
            events.push((invoke, BEGIN, txn));
            events.extend(complete.map(|complete| (complete, END, txn)));
        }
        events.sort_unstable();
        let (mut barrier, mut ended) = (None, Vec::new());
        for (_, event, txn) in events {
            if event == END {
                ended.push(txn);
                continue;
            }
            if !ended.is_empty() {
                let next = self.nodes;
                self.nodes += 1;
                for from in ended.drain(..).chain(barrier) {
                    self.edge(from, next, kind, 0);
                }
                barrier = Some(next);
            }
            if let Some(barrier) = barrier {
                self.edge(barrier, txn, kind, 0);
            }
        }
    }

    pub(super) fn build(mut self) -> Graph {
        self.edges.sort_unstable();
        self.edges.dedup_by_key(|edge| (edge.from, edge.to, edge.kind));
        let mut starts = vec![0; self.nodes as usize + 1];
        for edge in &self.edges {
            starts[edge.from as usize + 1] += 1;
        }
        for node in 0..self.nodes as usize {
            starts[node + 1] += starts[node];
        }
        Graph { transactions: self.transactions, starts, edges: self.edges }
    }
}

/// The graph: its edges sorted by source, and where those of each node start.
pub(super) struct Graph {
    /// How many of the nodes are transactions.
    pub(super) transactions: u32,
    pub(super) edges: Vec<Edge>,
    starts: Vec<u32>,
}

impl Graph {
    /// Returns the numbers of the edges out of a node.
    pub(super) fn edges_of(&self, node: u32) -> std::ops::Range<u32> {
        self.starts[node as usize]..self.starts[node as usize + 1]
    }

    pub(super) fn edge(&self, number: u32) -> Edge {
        self.edges[number as usize]
    }

    pub(super) fn is_barrier(&self, node: u32) -> bool {
        node >= self.transactions
    }

    fn nodes(&self) -> u32 {
        self.starts.len() as u32 - 1
    }
}

/// A graph with some of its edges, and perhaps without paths of two `rw` in a row.
///
/// To exclude those, each node becomes two states: one reached by `rw`, one reached otherwise, and
/// no `rw` leads out of the first. A closed walk through the states is then just what snapshot
/// isolation forbids.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) graph: &'a Graph,
    pub(super) kinds: Kinds,
    pub(super) rw_may_follow_rw: bool,
}

impl View<'_> {
    /// Returns the state of being at a node after an edge of some kind.
    pub(super) fn state(&self, node: u32, after: Kinds) -> u32 {
        if self.rw_may_follow_rw { node } else { 2 * node + u32::from(after == RW) }
    }

    pub(super) fn node(&self, state: u32) -> u32 {
        if self.rw_may_follow_rw { state } else { state / 2 }
    }

    /// Returns true if the edge may be taken from a state.
    pub(super) fn permits(&self, state: u32, edge: Edge) -> bool {
        let after_rw = !self.rw_may_follow_rw && state % 2 == 1;
        edge.kind & self.kinds != 0 && !(after_rw && edge.kind == RW)
    }

    /// Returns the strongly connected components with more than one state: of each state the
    /// number of its component, or [`Components::NONE`], and the states of each.
    ///
    /// Tarjan, "Depth-first search and linear graph algorithms", 1972, with its own stack, since
    /// a path can be as long as the history.
    pub(super) fn components(&self) -> Components {
        const UNSEEN: u32 = u32::MAX;
        const DONE: u32 = u32::MAX - 1;
        let states = self.graph.nodes() as usize * if self.rw_may_follow_rw { 1 } else { 2 };
        // Of each state: unseen, done, or the lowest state on the stack that it can reach.
        let mut low = vec![UNSEEN; states];
        let mut of = vec![Components::NONE; states];
        let mut members: Vec<Vec<u32>> = Vec::new();
        let mut stack: Vec<u32> = Vec::new();
        // The path from the root: a state, its index on the stack, and its next edge.
        let mut path: Vec<(u32, u32, u32)> = Vec::new();
        for root in 0..states as u32 {
            if low[root as usize] != UNSEEN {
                continue;
            }
            path.push((root, 0, self.graph.edges_of(self.node(root)).start));
            low[root as usize] = 0;
            stack.push(root);
            while let Some((state, index, cursor)) = path.last_mut() {
                let (state, index) = (*state, *index);
                if *cursor < self.graph.edges_of(self.node(state)).end {
                    let edge = self.graph.edge(*cursor);
                    *cursor += 1;
                    if !self.permits(state, edge) {
                        continue;
                    }
                    let next = self.state(edge.to, edge.kind);
                    match low[next as usize] {
                        DONE => {}
                        UNSEEN => {
                            low[next as usize] = stack.len() as u32;
                            path.push((
                                next,
                                stack.len() as u32,
                                self.graph.edges_of(edge.to).start,
                            ));
                            stack.push(next);
                        }
                        reached => low[state as usize] = low[state as usize].min(reached),
                    }
                    continue;
                }
                path.pop();
                let lowest = low[state as usize];
                if let Some((parent, _, _)) = path.last() {
                    low[*parent as usize] = low[*parent as usize].min(lowest);
                }
                if lowest == index {
                    let component = stack.split_off(index as usize);
                    for state in &component {
                        low[*state as usize] = DONE;
                    }
                    if component.len() > 1 {
                        for state in &component {
                            of[*state as usize] = members.len() as u32;
                        }
                        members.push(component);
                    }
                }
            }
        }
        Components { of, members }
    }
}

/// The strongly connected components of a view that hold a cycle.
pub(super) struct Components {
    /// The component of each state.
    pub(super) of: Vec<u32>,
    /// The states of each component.
    pub(super) members: Vec<Vec<u32>>,
}

impl Components {
    /// Stands for "on no cycle".
    pub(super) const NONE: u32 = u32::MAX;
}
