//! Building a whole tree from sorted entries, left to right, for recovery.

use super::super::entry::EntryRef;
use super::super::link::{Guard, Shared};
use super::inner::{Child, FANOUT, Inner, Parts};
use super::leaf::{Fence, LEAF_SLOTS, Leaf};
use super::{Outcome, make, separator};

/// Entries of a built leaf: 85 % of its slots, so that the first insertions find room.
const LEAF_FILL: usize = LEAF_SLOTS * 85 / 100;

/// Children of a built inner node.
const INNER_FILL: usize = FANOUT * 85 / 100;

/// Entries are touched this far behind their prefetch.
const AHEAD: usize = 32;

/// Returns the root of a new tree.
pub(super) fn root<'g>(
    entries: &[EntryRef<'_>],
    guard: &'g Guard,
    outcome: &mut Outcome,
) -> Shared<'g, Inner> {
    let mut parts = leaves(entries, guard, outcome);
    loop {
        let nodes = parts.len().div_ceil(INNER_FILL);
        if nodes <= 1 {
            return make(&parts, guard, outcome);
        }
        // Evenly, so that the last node does not end up with one child.
        let mut above = Parts::default();
        for node in 0..nodes {
            let end = parts.len() * (node + 1) / nodes;
            let start = parts.len() * node / nodes;
            let children = Parts {
                separators: parts.separators[start..end].to_vec(),
                children: parts.children[start..end].to_vec(),
            };
            above.push(children.separators[0], Child::Inner(make(&children, guard, outcome)));
        }
        parts = above;
    }
}

/// Builds the leaves and links them. An empty tree has one.
fn leaves<'g>(entries: &[EntryRef<'_>], guard: &'g Guard, outcome: &mut Outcome) -> Parts<'g> {
    let mut parts = Parts::default();
    let mut low = Shared::new(Fence(Box::default()), guard);
    let mut before: Option<Shared<'g, Leaf>> = None;
    let mut start = 0;
    loop {
        let end = (start + LEAF_FILL).min(entries.len());
        for entry in entries.iter().skip(end).take(LEAF_FILL + AHEAD) {
            entry.prefetch_key();
        }
        let high = (end < entries.len()).then(|| {
            let separator = separator(entries[end - 1].key(), entries[end].key());
            Shared::new(Fence(separator.into()), guard)
        });
        let leaf = Leaf::new(low, high, None);
        leaf.fill(&entries[start..end], guard);
        let leaf = Shared::new(leaf, guard);
        outcome.bytes += size_of::<Leaf>();
        if let Some(before) = before {
            before.next.store(Some(leaf));
        }
        parts.push(&low.get().0, Child::Leaf(leaf));
        let Some(high) = high else { return parts };
        (before, low, start) = (Some(leaf), high, end);
    }
}
