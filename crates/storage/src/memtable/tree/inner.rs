//! Inner nodes of the ordered index: immutable, so that readers need not check anything.
//!
//! A node is replaced as a whole whenever its separators change, which happens once per split or
//! merge below it; only the pointers to *inner* children are overwritten in place, when a child is
//! replaced. A reader in a replaced node is led to leaves as they were some time ago, and the
//! leaves' own fences and right links take it from there.
//!
//! ```text
//!   separators:       s1       s2       s3              common prefix cut off, 8-byte heads first
//!   children:    c0   |   c1   |   c2   |   c3          c1 has the keys with s1 <= key < s2
//! ```

use std::cmp::Ordering as Compare;

use super::super::link::{Guard, Link, Shared};
use super::leaf::{Leaf, common_prefix, head_of, partition};

/// Children of an inner node.
pub(super) const FANOUT: usize = if cfg!(any(test, shuttle)) { 4 } else { 64 };

pub(in crate::memtable) struct Inner {
    prefix: Box<[u8]>,
    heads: [u64; FANOUT],
    /// Separator `i` is `bytes[ends[i]..ends[i + 1]]`.
    ends: [u32; FANOUT],
    bytes: Box<[u8]>,
    pub(super) children: Children,
}

/// What lies below.
pub(super) enum Children {
    Leaves(Vec<Link<Leaf>>),
    Inners(Vec<Link<Inner>>),
}

/// A child, on either level.
#[derive(Clone, Copy)]
pub(super) enum Child<'g> {
    Leaf(Shared<'g, Leaf>),
    Inner(Shared<'g, Inner>),
}

/// The content of a node, taken apart to be changed. `separators[i]` stands before `children[i]`;
/// the first one is not used.
#[derive(Default)]
pub(super) struct Parts<'g> {
    pub(super) separators: Vec<&'g [u8]>,
    pub(super) children: Vec<Child<'g>>,
}

/// Which child a key leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// The one that would hold the key.
    At,
    /// The one that would hold the greatest key below it.
    Below,
}

impl<'g> Parts<'g> {
    pub(super) fn push(&mut self, separator: &'g [u8], child: Child<'g>) {
        self.separators.push(separator);
        self.children.push(child);
    }

    pub(super) fn insert(&mut self, at: usize, separator: &'g [u8], child: Child<'g>) {
        self.separators.insert(at, separator);
        self.children.insert(at, child);
    }

    pub(super) fn len(&self) -> usize {
        self.children.len()
    }

    /// Appends the parts of the next node; `separator` stands between.
    pub(super) fn append(&mut self, separator: &'g [u8], mut right: Parts<'g>) {
        right.separators[0] = separator;
        self.separators.append(&mut right.separators);
        self.children.append(&mut right.children);
    }

    /// Cuts off the upper half. Its first separator belongs above.
    pub(super) fn split(&mut self) -> Parts<'g> {
        let at = self.len() / 2;
        Parts { separators: self.separators.split_off(at), children: self.children.split_off(at) }
    }
}

impl Inner {
    pub(super) fn new(parts: &Parts<'_>) -> Inner {
        let separators = parts.separators.get(1..).unwrap_or_default();
        let (first, last) = match separators {
            [first, .., last] => (*first, *last),
            [only] => (*only, *only),
            [] => (&[][..], &[][..]),
        };
        let prefix: Box<[u8]> = first[..common_prefix(first, last)].into();
        let mut heads = [0; FANOUT];
        let mut ends = [0; FANOUT];
        let mut bytes = Vec::with_capacity(separators.iter().map(|s| s.len()).sum());
        for (at, separator) in separators.iter().enumerate() {
            heads[at] = head_of(separator, prefix.len());
            bytes.extend_from_slice(separator);
            ends[at + 1] = bytes.len() as u32;
        }
        let children = if let Some(Child::Leaf(_)) = parts.children.first() {
            let leaf = |child: &Child<'_>| match child {
                Child::Leaf(leaf) => Link::to(*leaf),
                Child::Inner(_) => unreachable!("the children of a node are on one level"),
            };
            Children::Leaves(parts.children.iter().map(leaf).collect())
        } else {
            let inner = |child: &Child<'_>| match child {
                Child::Inner(inner) => Link::to(*inner),
                Child::Leaf(_) => unreachable!("the children of a node are on one level"),
            };
            Children::Inners(parts.children.iter().map(inner).collect())
        };
        Inner { prefix, heads, ends, bytes: bytes.into(), children }
    }

    pub(super) fn len(&self) -> usize {
        match &self.children {
            Children::Leaves(leaves) => leaves.len(),
            Children::Inners(inners) => inners.len(),
        }
    }

    pub(super) fn child<'g>(&self, at: usize, guard: &'g Guard) -> Child<'g> {
        let child = match &self.children {
            Children::Leaves(leaves) => leaves[at].load(guard).map(Child::Leaf),
            Children::Inners(inners) => inners[at].load(guard).map(Child::Inner),
        };
        child.expect("an inner node has no empty links")
    }

    /// Returns the separator before a child other than the first.
    pub(super) fn separator(&self, child: usize) -> &[u8] {
        &self.bytes[self.ends[child - 1] as usize..self.ends[child] as usize]
    }

    /// Returns the child a key leads to.
    pub(super) fn route(&self, key: &[u8], side: Side) -> usize {
        let count = self.len() - 1;
        let prefix = &self.prefix[..];
        match key[..prefix.len().min(key.len())].cmp(prefix) {
            Compare::Less => return 0,
            Compare::Greater => return count,
            Compare::Equal => {}
        }
        let head = head_of(key, prefix.len());
        let at = partition(0, count, |at| self.heads[at] < head);
        if at == count || self.heads[at] != head {
            return at;
        }
        partition(at, count, |at| {
            self.heads[at] == head
                && match side {
                    Side::At => self.separator(at + 1) <= key,
                    Side::Below => self.separator(at + 1) < key,
                }
        })
    }

    /// Takes the node apart.
    pub(super) fn parts<'g>(&'g self, guard: &'g Guard) -> Parts<'g> {
        let mut parts = Parts::default();
        for at in 0..self.len() {
            let separator = if at == 0 { &[][..] } else { self.separator(at) };
            parts.push(separator, self.child(at, guard));
        }
        parts
    }
}
