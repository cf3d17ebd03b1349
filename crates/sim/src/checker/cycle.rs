//! Finds short cycles of each class in the graph of dependencies.
//!
//! A component of a broken run can hold thousands of transactions, and a person wants to see two
//! or three. So within each component a breadth-first search starts with an edge that the class
//! needs and looks for the shortest way back that makes a cycle of that class:
//!
//! ```text
//!                  first edge    way back                         closes with
//! G0               ww            ww                               anything
//! G1c              wr            ww wr                            anything
//! G-single         rw            ww wr                            anything
//! G-nonadjacent    rw            ww wr rw, no two rw in a row     not rw, two rw in all
//! G2-item          rw            ww wr rw                         rw
//! ```
//!
//! The same once more with edges of sessions, and once more with edges of real time, of which a
//! cycle must then hold one. Whatever is found is named by what is in it (`classify`).
//!
//! # Invariants
//! * If the components say that a level is violated, some cycle that violates it is found, however
//!   the searches for single classes end: a component in which they found nothing is searched
//!   for any cycle, without a budget, and that cannot fail. (A class that is not needed for the
//!   verdict may be missed.)
//! * In a cycle found, no transaction appears twice.

use std::collections::VecDeque;

use super::graph::{Components, Edge, Graph, Kinds, PROCESS, REALTIME, RW, View, WR, WW};
use super::hash::{FastMap, FastSet};
use super::{Class, Cycle, Order};

/// How many states the searches for one class may visit in one component. It takes about a tenth
/// of a second to use up, and only components of thousands of transactions can.
const SEARCH_STEPS_MAX: usize = 300_000;

/// A cycle, as the edges from one transaction to the next, without barriers.
pub(super) struct Found {
    pub(super) class: Class,
    pub(super) edges: Vec<Edge>,
}

/// Returns short cycles of each class, at most one for each class and component.
pub(super) fn find(graph: &Graph) -> Vec<Found> {
    let mut finder = Finder { graph, found: Vec::new(), seen: FastMap::default() };
    for (order, kinds) in [(Order::Data, 0), (Order::Process, PROCESS), (Order::RealTime, REALTIME)]
    {
        let view =
            |kinds_of_data| View { graph, kinds: kinds_of_data | kinds, rw_may_follow_rw: true };
        let all = view(WW | WR | RW);
        let components = all.components();
        // Nearly every history that is valid ends here, after one pass.
        if components.members.is_empty() {
            continue;
        }
        let snapshot = View { rw_may_follow_rw: false, ..all };
        let search = |first| Search { first, back: all.kinds, closing: 0, rw_min: 0, order };
        finder.family(
            Cycle::G0,
            view(WW),
            &view(WW).components(),
            &[Search { back: WW | kinds, ..search(if kinds == 0 { WW } else { kinds }) }],
        );
        finder.family(
            Cycle::G1c,
            view(WW | WR),
            &view(WW | WR).components(),
            &[Search { back: WW | WR | kinds, ..search(WR) }],
        );
        finder.family(
            Cycle::GNonadjacent,
            snapshot,
            &snapshot.components(),
            &[Search { back: WW | WR | kinds, ..search(RW) }, Search { rw_min: 2, ..search(RW) }],
        );
        finder.family(Cycle::G2Item, all, &components, &[Search { closing: RW, ..search(RW) }]);
    }
    finder.found
}

/// What cycle to look for.
#[derive(Clone, Copy)]
struct Search {
    /// The kinds of its first edge.
    first: Kinds,
    /// The kinds of the other edges.
    back: Kinds,
    /// The kinds of the last edge, or 0 for any.
    closing: Kinds,
    rw_min: u8,
    /// Which order it must take an edge of.
    order: Order,
}

struct Finder<'a> {
    graph: &'a Graph,
    found: Vec<Found>,
    /// Of each ring of transactions, from its smallest on, the classes found on it.
    seen: FastMap<Vec<u32>, Vec<(Cycle, Order)>>,
}

impl Finder<'_> {
    /// Runs searches in each component of a view. If no cycle is known in it then, takes any: the
    /// components of each view are what some level forbids, which is
    /// all cycles up to `mildest`.
    fn family(
        &mut self,
        mildest: Cycle,
        view: View<'_>,
        components: &Components,
        searches: &[Search],
    ) {
        for (number, members) in components.members.iter().enumerate() {
            let space = Space { view, components, number: number as u32, members };
            for search in searches {
                if let Some(walk) = space.shortest(search, SEARCH_STEPS_MAX) {
                    self.add(view, walk);
                }
            }
        }
        let mut is_explained = vec![false; components.members.len()];
        for found in &self.found {
            let state = |edge: &Edge| view.state(edge.to, edge.kind) as usize;
            if let (Class::Cycle(cycle, _), Some(edge)) = (found.class, found.edges.first())
                && cycle <= mildest
                && let Some(flag) = is_explained.get_mut(components.of[state(edge)] as usize)
            {
                *flag = true;
            }
        }
        for (number, members) in components.members.iter().enumerate() {
            if !is_explained[number] {
                let space = Space { view, components, number: number as u32, members };
                let any = Search {
                    first: Kinds::MAX,
                    back: Kinds::MAX,
                    closing: 0,
                    rw_min: 0,
                    order: Order::Data,
                };
                let walk = space.shortest(&any, usize::MAX);
                self.add(view, walk.expect("a component of several states holds a cycle"));
            }
        }
    }

    fn add(&mut self, view: View<'_>, walk: Vec<Edge>) {
        let edges = simplify(without_barriers(self.graph, walk), view.rw_may_follow_rw);
        let (cycle, order) = classify(&edges);
        let smallest = (0..edges.len()).min_by_key(|i| edges[*i].from).unwrap_or(0);
        let ring: Vec<u32> =
            (0..edges.len()).map(|i| edges[(smallest + i) % edges.len()].from).collect();
        // The same transactions in the same ring are worth a second look only if the first does
        // not already violate each level that this one would.
        let seen = self.seen.entry(ring).or_default();
        if !seen.iter().any(|(c, o)| *c <= cycle && *o <= order) {
            seen.push((cycle, order));
            let mut edges = edges;
            edges.rotate_left(smallest);
            self.found.push(Found { class: Class::Cycle(cycle, order), edges });
        }
    }
}

/// Names a cycle by what is in it.
fn classify(edges: &[Edge]) -> (Cycle, Order) {
    let has = |kind| edges.iter().any(|edge| edge.kind == kind);
    let is_adjacent = |i: usize| edges[i].kind == RW && edges[(i + 1) % edges.len()].kind == RW;
    let cycle = match edges.iter().filter(|edge| edge.kind == RW).count() {
        0 if has(WR) => Cycle::G1c,
        0 => Cycle::G0,
        1 => Cycle::GSingle,
        _ if (0..edges.len()).any(is_adjacent) => Cycle::G2Item,
        _ => Cycle::GNonadjacent,
    };
    let order = match () {
        () if has(REALTIME) => Order::RealTime,
        () if has(PROCESS) => Order::Process,
        () => Order::Data,
    };
    (cycle, order)
}

/// Replaces each way through barriers by one edge between transactions.
fn without_barriers(graph: &Graph, walk: Vec<Edge>) -> Vec<Edge> {
    // The walk may begin on a barrier; begin it on a transaction.
    let mut walk = walk;
    let first = walk.iter().position(|edge| !graph.is_barrier(edge.from)).unwrap_or(0);
    walk.rotate_left(first);
    let mut edges: Vec<Edge> = Vec::new();
    for edge in walk {
        match edges.last_mut() {
            Some(last) if graph.is_barrier(last.to) => last.to = edge.to,
            _ => edges.push(edge),
        }
    }
    edges
}

/// Cuts a closed walk down to a cycle in which no transaction appears twice.
///
/// ```text
///    ... -in1-> N -out1-> ... -in2-> N -out2-> ...     two closed walks: out1..in2, out2..in1
/// ```
/// Where no two `rw` may be in a row, one of the two keeps to that: if `in2` and `out1` are both
/// `rw`, then `in1` is none, since it stood before `out1`.
fn simplify(walk: Vec<Edge>, rw_may_follow_rw: bool) -> Vec<Edge> {
    let mut walk = walk;
    loop {
        let mut places = FastMap::default();
        let repeated = walk.iter().enumerate().find_map(|(second, edge)| {
            places.insert(edge.from, second).map(|first| (first, second))
        });
        let Some((first, second)) = repeated else { return walk };
        let inner: Vec<Edge> = walk.drain(first..second).collect();
        let is_apart = inner.first().is_none_or(|edge| edge.kind != RW)
            || inner.last().is_none_or(|edge| edge.kind != RW);
        if rw_may_follow_rw || is_apart {
            walk = inner;
        }
    }
}

/// A component of a view, to search in.
struct Space<'a> {
    view: View<'a>,
    components: &'a Components,
    number: u32,
    members: &'a [u32],
}

/// A place of a search: where it stands, and what its path holds so far.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    state: u32,
    rws: u8,
    has_order: bool,
}

impl Space<'_> {
    /// Returns the shortest closed walk that a search asks for, as far as its budget reaches.
    fn shortest(&self, search: &Search, steps_max: usize) -> Option<Vec<Edge>> {
        let mut best: Option<Vec<Edge>> = None;
        let mut length_max = usize::MAX;
        let mut steps = 0;
        for &start in self.members {
            for first in self.edges_within(start) {
                // A walk that takes an edge of time need not begin on a barrier.
                let is_first = first.kind & search.first != 0
                    && (search.first == Kinds::MAX
                        || !self.view.graph.is_barrier(self.view.node(start)));
                if !is_first || steps > steps_max {
                    continue;
                }
                if let Some((length, walk)) =
                    self.way_back(search, start, first, length_max, steps_max, &mut steps)
                {
                    best = Some(walk);
                    length_max = length;
                    // Nothing is shorter than two, and one proof of any kind is enough.
                    if length <= 2 || search.first == Kinds::MAX {
                        return best;
                    }
                }
            }
        }
        best
    }

    /// Returns the shortest way back to `start` after an edge, if one is shorter than
    /// `length_max`, with its length. Edges out of barriers have no length.
    fn way_back(
        &self,
        search: &Search,
        start: u32,
        first: Edge,
        length_max: usize,
        steps_max: usize,
        steps: &mut usize,
    ) -> Option<(usize, Vec<Edge>)> {
        let graph = self.view.graph;
        let mut reached: FastMap<Place, (usize, Option<(Place, Edge)>)> = FastMap::default();
        let mut queue = VecDeque::new();
        let mut visited = FastSet::default();
        let place = self.step(search, Place { state: start, rws: 0, has_order: false }, first);
        let length = usize::from(!graph.is_barrier(first.from));
        reached.insert(place, (length, None));
        queue.push_back((length, place));
        while let Some((length, place)) = queue.pop_front() {
            if !visited.insert(place) {
                continue;
            }
            *steps += 1;
            if *steps > steps_max {
                return None;
            }
            let length = length + usize::from(!graph.is_barrier(self.view.node(place.state)));
            if length >= length_max {
                continue;
            }
            for edge in self.edges_within(place.state) {
                if edge.kind & search.back == 0 {
                    continue;
                }
                let next = self.step(search, place, edge);
                if edge.to == first.from {
                    if self.closes(search, first, edge, next) {
                        let mut walk = vec![edge];
                        let mut at = place;
                        while let Some((_, Some((previous, edge)))) = reached.get(&at) {
                            walk.push(*edge);
                            at = *previous;
                        }
                        walk.push(first);
                        walk.reverse();
                        return Some((length, walk));
                    }
                    continue;
                }
                if reached.get(&next).is_none_or(|(known, _)| length < *known) {
                    reached.insert(next, (length, Some((place, edge))));
                    if graph.is_barrier(self.view.node(place.state)) {
                        queue.push_front((length, next));
                    } else {
                        queue.push_back((length, next));
                    }
                }
            }
        }
        None
    }

    /// Returns the edges out of a state that stay in the component.
    fn edges_within(&self, state: u32) -> impl Iterator<Item = Edge> {
        let graph = self.view.graph;
        graph.edges_of(self.view.node(state)).map(|number| graph.edge(number)).filter(move |edge| {
            self.view.permits(state, *edge)
                && self.components.of[self.view.state(edge.to, edge.kind) as usize] == self.number
        })
    }

    /// Returns the place after an edge. It keeps only what the search asks for, so that places
    /// that make no difference to it are one.
    fn step(&self, search: &Search, place: Place, edge: Edge) -> Place {
        let is_order = edge.kind & (PROCESS | REALTIME) != 0;
        Place {
            state: self.view.state(edge.to, edge.kind),
            rws: (place.rws + u8::from(edge.kind == RW)).min(search.rw_min),
            has_order: search.order != Order::Data && (place.has_order || is_order),
        }
    }

    /// Returns true if the last edge completes a cycle of the kind asked for.
    fn closes(&self, search: &Search, first: Edge, last: Edge, end: Place) -> bool {
        let joins = self.view.rw_may_follow_rw || first.kind != RW || last.kind != RW;
        joins
            && (search.closing == 0 || search.closing == last.kind)
            && end.rws >= search.rw_min
            && end.has_order == (search.order != Order::Data)
    }
}
