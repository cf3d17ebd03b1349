//! The ordered index: a B-link tree (Lehman and Yao, 1981) with immutable inner nodes.
//!
//! Leaves are changed in place under their own lock and read optimistically (`leaf.rs`); inner
//! nodes are replaced (`inner.rs`). New versions of a known key do not come here at all, and of 64
//! new keys one splits a leaf. So everything that changes the *structure*, splits and merges, runs
//! under one mutex, which keeps the argument short:
//!
//! ```text
//!        [ inner ]              split of B: 1. C gets B's upper half, B.high, B.next
//!         /  |                              2. B.high = C.low, B.next = C      (C is reachable)
//!      [A]->[B]- - ->[D]                    3. the inner nodes learn of C
//!             `->[C]-^
//!                               merge of B into C: 1. C takes B's entries and B.low; B is dead
//!                                                  2. A.next = C
//!                                                  3. the inner nodes forget B
//! ```
//!
//! Between the steps, and for a reader whose inner node is an old one: it is led to a leaf whose
//! low fence is at or below its key, for a leaf's low fence never rises. If the leaf is dead, or
//! the key lies at or above its high fence, the reader goes right until neither holds. Right links
//! of live leaves lead to the next live leaf, or for a moment through a dead one; links of dead
//! leaves lead right, too, so the walk ends.
//!
//! There are no left links. A walk to the left searches anew for what lies below the low fence,
//! once per leaf, which costs little beside 64 rows.
//!
//! # Invariants
//! * Under the structure lock, the separators are exactly the low fences of the leaves.
//! * An inner node other than the root has at least two children.
//! * Locks are taken in this order: structure, then leaves from left to right. Holding a leaf's
//!   lock only, nobody waits for another.

mod build;
mod inner;
mod leaf;
mod walk;

pub(super) use inner::Inner;
pub(super) use leaf::{Fence, Leaf};
pub(super) use walk::Walk;

use self::inner::{Child, Children, Parts, Side};
use self::leaf::{LEAF_SLOTS, common_prefix};
use super::entry::EntryRef;
use super::link::{Guard, Link, Shared};
use super::reclaim::Retired;
use super::sync::{Mutex, MutexGuard};

/// A leaf is merged when it is this empty, if the pair then fills at most [`MERGED_MAX`].
const MERGE_BELOW: usize = LEAF_SLOTS / 4;
/// Leaves room, so that the next insertion does not split what was merged.
const MERGED_MAX: usize = LEAF_SLOTS * 3 / 4;

/// The tree.
pub(super) struct Tree {
    root: Link<Inner>,
    structure: Mutex<()>,
}

/// What a change of the tree leaves for the caller to count and to retire: by then, nothing leads
/// to it any more.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) retired: Vec<Retired>,
    /// Bytes of new nodes.
    pub(super) bytes: usize,
}

/// Where the last of some rising entries went: the next one is likely to go there, too, or beside.
#[derive(Default)]
pub(super) struct Finger<'g>(Option<Shared<'g, Leaf>>);

/// The inner nodes from the root down, and the child taken in each.
type Path<'g> = Vec<(Shared<'g, Inner>, usize)>;

impl Tree {
    pub(super) fn new(guard: &Guard) -> Tree {
        let root = build::root(&[], guard, &mut Outcome::default());
        Tree { root: Link::to(root), structure: Mutex::new(()) }
    }

    fn root<'g>(&self, guard: &'g Guard) -> Shared<'g, Inner> {
        self.root.load(guard).expect("a tree always has a root")
    }

    /// Returns a leaf at or left of the one for `key`; exactly that one under the structure lock.
    fn leaf_for<'g>(&self, key: &[u8], side: Side, guard: &'g Guard) -> Shared<'g, Leaf> {
        let mut node = self.root(guard).get();
        loop {
            match node.child(node.route(key, side), guard) {
                Child::Leaf(leaf) => {
                    leaf.prefetch_heads();
                    return leaf;
                }
                Child::Inner(inner) => node = inner.get(),
            }
        }
    }

    fn last_leaf<'g>(&self, guard: &'g Guard) -> Shared<'g, Leaf> {
        let mut node = self.root(guard).get();
        loop {
            match node.child(node.len() - 1, guard) {
                Child::Leaf(leaf) => return leaf,
                Child::Inner(inner) => node = inner.get(),
            }
        }
    }

    /// Locks the leaf whose range holds the key.
    fn lock_leaf<'g>(
        &self,
        key: &[u8],
        guard: &'g Guard,
    ) -> (Shared<'g, Leaf>, MutexGuard<'g, ()>) {
        let mut leaf = self.leaf_for(key, Side::At, guard);
        loop {
            let lock = leaf.get().lock.lock();
            if !leaf.is_dead() && leaf.high_cmp(key, guard).is_gt() {
                return (leaf, lock);
            }
            drop(lock);
            leaf = leaf.next.load(guard).expect("the last leaf is unbounded and never dies");
        }
    }

    /// As [`Tree::lock_leaf`], for a key above the one that the finger was left at: looks there and
    /// in the next leaf first.
    fn lock_leaf_near<'g>(
        &self,
        key: &[u8],
        finger: &mut Finger<'g>,
        guard: &'g Guard,
    ) -> (Shared<'g, Leaf>, MutexGuard<'g, ()>) {
        // A low fence never rises, so the leaf is at the key's or left of it, whatever it became.
        let mut near = finger.0;
        let rises = near.is_none_or(|leaf| *leaf.low(guard).get().0 <= *key);
        debug_assert!(rises, "keys do not rise");
        for _ in 0..2 {
            let Some(leaf) = near else { break };
            let lock = leaf.get().lock.lock();
            if !leaf.is_dead() && leaf.high_cmp(key, guard).is_gt() {
                finger.0 = Some(leaf);
                return (leaf, lock);
            }
            drop(lock);
            near = leaf.next.load(guard);
        }
        let (leaf, lock) = self.lock_leaf(key, guard);
        finger.0 = Some(leaf);
        (leaf, lock)
    }

    /// Adds an entry, in the place of a dead one with the same key if there is one. Entries that
    /// come with one finger rise.
    pub(super) fn insert<'g>(
        &self,
        entry: EntryRef<'_>,
        finger: &mut Finger<'g>,
        guard: &'g Guard,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let key = entry.key();
        loop {
            let (leaf, lock) = self.lock_leaf_near(key, finger, guard);
            let place = leaf.place(key, guard);
            if place.found {
                leaf.replace(place.at, entry);
                return outcome;
            }
            if leaf.count() < LEAF_SLOTS {
                leaf.insert(place.at, entry);
                return outcome;
            }
            // The structure lock comes before the leaf's.
            drop(lock);
            self.split(key, guard, &mut outcome);
        }
    }

    /// Splits the leaf of a key, if it is full.
    fn split(&self, key: &[u8], guard: &Guard, outcome: &mut Outcome) {
        let _structure = self.structure.lock();
        let (leaf, lock) = self.lock_leaf(key, guard);
        let count = leaf.count();
        if count < LEAF_SLOTS {
            return;
        }
        // Keys that only ever rise leave full leaves behind them.
        let appends = leaf.high(guard).is_none() && leaf.place(key, guard).at == count;
        let at = if appends { count } else { count / 2 };
        let last = leaf.entry(at - 1, guard).expect("a full leaf has no empty slot").key();
        let first = leaf.entry(at.min(count - 1), guard).filter(|_| !appends);
        let separator = separator(last, first.map_or(key, |entry| entry.key()));
        let fence = Shared::new(Fence(separator.into()), guard);
        let right = leaf.split(at, fence, guard);
        drop(lock);

        let path = self.path(separator, guard);
        let (parent, at) = *path.last().expect("a path begins at the root");
        let mut parts = parent.get().parts(guard);
        parts.insert(at + 1, &fence.get().0, Child::Leaf(right));
        outcome.bytes += size_of::<Leaf>();
        self.grow(path, parts, guard, outcome);
    }

    /// Removes an entry, unless another took its place.
    pub(super) fn remove(&self, entry: EntryRef<'_>, guard: &Guard) -> Outcome {
        let mut outcome = Outcome::default();
        let key = entry.key();
        let (leaf, lock) = self.lock_leaf(key, guard);
        let place = leaf.place(key, guard);
        if place.found && leaf.entry(place.at, guard).is_some_and(|found| found.is(entry)) {
            leaf.remove(place.at);
            let count = leaf.count();
            drop(lock);
            if count <= MERGE_BELOW {
                self.merge(key, guard, &mut outcome);
            }
        }
        outcome
    }

    /// Merges the leaf of a key with a neighbour under the same parent, if both are empty enough.
    fn merge(&self, key: &[u8], guard: &Guard, outcome: &mut Outcome) {
        let _structure = self.structure.lock();
        let path = self.path(key, guard);
        let (parent, at) = *path.last().expect("a path begins at the root");
        if parent.len() < 2 {
            return;
        }
        let at = at.min(parent.len() - 2);
        let (Child::Leaf(left), Child::Leaf(right)) =
            (parent.child(at, guard), parent.child(at + 1, guard))
        else {
            unreachable!("a path ends above the leaves")
        };
        let left_lock = left.get().lock.lock();
        let right_lock = right.get().lock.lock();
        if left.count() + right.count() > MERGED_MAX {
            return;
        }
        let fence = left.merge_into(&right, guard);
        drop((left_lock, right_lock));

        let low = &left.low(guard).get().0;
        if !low.is_empty() {
            let before = self.leaf_for(low, Side::Below, guard);
            debug_assert!(before.next.load(guard).is_some_and(|next| next.is(left)));
            before.next.store(Some(right));
        }
        // The survivor keeps the separator of the one that died.
        let mut parts = parent.get().parts(guard);
        parts.children.remove(at);
        parts.separators.remove(at + 1);
        self.shrink(path, parts, guard, outcome);
        outcome.retired.extend([Retired::leaf(left), Retired::fence(fence)]);
    }

    fn path<'g>(&self, key: &[u8], guard: &'g Guard) -> Path<'g> {
        let mut node = self.root(guard);
        let mut path = Vec::new();
        loop {
            let at = node.route(key, Side::At);
            path.push((node, at));
            match node.child(at, guard) {
                Child::Leaf(_) => return path,
                Child::Inner(inner) => node = inner,
            }
        }
    }

    /// Replaces the last node of the path by one with more children, and those above as needed.
    fn grow<'g>(
        &self,
        mut path: Path<'g>,
        mut parts: Parts<'g>,
        guard: &'g Guard,
        outcome: &mut Outcome,
    ) {
        let mut old = Vec::new();
        while let Some((node, _)) = path.pop() {
            old.push(node);
            if parts.len() <= inner::FANOUT {
                let node = make(&parts, guard, outcome);
                self.publish(path.last(), node);
                break;
            }
            let upper = parts.split();
            let separator = upper.separators[0];
            let left = Child::Inner(make(&parts, guard, outcome));
            let right = Child::Inner(make(&upper, guard, outcome));
            match path.last() {
                Some((parent, at)) => {
                    parts = parent.get().parts(guard);
                    parts.children[*at] = left;
                    parts.insert(*at + 1, separator, right);
                }
                None => {
                    parts = Parts::default();
                    parts.push(&[], left);
                    parts.push(separator, right);
                    let node = make(&parts, guard, outcome);
                    self.publish(None, node);
                }
            }
        }
        outcome.retired.extend(old.into_iter().map(Retired::inner));
    }

    /// Replaces the last node of the path by one with fewer children; joins nodes that got too
    /// small with a neighbour.
    fn shrink<'g>(
        &self,
        mut path: Path<'g>,
        mut parts: Parts<'g>,
        guard: &'g Guard,
        outcome: &mut Outcome,
    ) {
        let mut old = Vec::new();
        while let Some((node, _)) = path.pop() {
            old.push(node);
            let Some((parent, at)) = path.last() else {
                let only = if parts.len() == 1 { parts.children.first() } else { None };
                match only {
                    Some(Child::Inner(inner)) => self.publish(None, *inner),
                    _ => self.publish(None, make(&parts, guard, outcome)),
                }
                break;
            };
            let left = (*at).min(parent.len() - 2);
            let other = if *at == left { left + 1 } else { left };
            let Child::Inner(sibling) = parent.get().child(other, guard) else {
                unreachable!("the neighbour of an inner node is an inner node")
            };
            let together = parts.len() + sibling.len();
            if parts.len() > 1 && (parts.len() > inner::FANOUT / 4 || together > inner::FANOUT) {
                self.publish(path.last(), make(&parts, guard, outcome));
                break;
            }
            let mut up = parent.get().parts(guard);
            let between = up.separators[left + 1];
            let mut sibling_parts = sibling.get().parts(guard);
            let mut joined = if *at == left {
                parts.append(between, sibling_parts);
                parts
            } else {
                sibling_parts.append(between, parts);
                sibling_parts
            };
            old.push(sibling);
            if together <= inner::FANOUT {
                up.children.remove(left + 1);
                up.separators.remove(left + 1);
            } else {
                let upper = joined.split();
                up.separators[left + 1] = upper.separators[0];
                up.children[left + 1] = Child::Inner(make(&upper, guard, outcome));
            }
            up.children[left] = Child::Inner(make(&joined, guard, outcome));
            parts = up;
        }
        outcome.retired.extend(old.into_iter().map(Retired::inner));
    }

    /// Makes a node reachable, from its place in the parent or as the root.
    fn publish(&self, parent: Option<&(Shared<'_, Inner>, usize)>, node: Shared<'_, Inner>) {
        match parent {
            None => self.root.store(Some(node)),
            Some((parent, at)) => match &parent.children {
                Children::Inners(inners) => inners[*at].store(Some(node)),
                Children::Leaves(_) => unreachable!("leaves are never replaced in place"),
            },
        }
    }

    /// Walks the leaves from left to right. Exact only if nobody writes.
    pub(super) fn leaves<'g>(&self, guard: &'g Guard) -> impl Iterator<Item = Shared<'g, Leaf>> {
        let first = self.leaf_for(&[], Side::At, guard);
        std::iter::successors(Some(first), |leaf| leaf.next.load(guard))
    }

    /// Returns all entries in order. Exact only if nobody writes.
    pub(super) fn entries<'g>(&self, guard: &'g Guard) -> Vec<EntryRef<'g>> {
        let leaf_entries = |leaf: Shared<'g, Leaf>| {
            (0..leaf.count()).filter_map(move |at| leaf.get().entry(at, guard))
        };
        self.leaves(guard).flat_map(leaf_entries).collect()
    }

    /// Replaces the whole tree by one with these entries, which rise. Nobody else may be writing.
    pub(super) fn rebuild(&self, entries: &[EntryRef<'_>], guard: &Guard) -> Outcome {
        let mut outcome = Outcome::default();
        let root = build::root(entries, guard, &mut outcome);
        self.each_node(guard, &mut |node| outcome.retired.push(node));
        self.root.store(Some(root));
        outcome
    }

    /// Shows every node, each after all that is needed to find the others was read from it.
    pub(super) fn each_node(&self, guard: &Guard, show: &mut impl FnMut(Retired)) {
        let mut leaf = Some(self.leaf_for(&[], Side::At, guard));
        let mut level = vec![self.root(guard)];
        while !level.is_empty() {
            let children = |node: &Shared<'_, Inner>| -> Vec<_> {
                (0..node.len()).map(|at| node.get().child(at, guard)).collect()
            };
            let below = level.iter().flat_map(children).filter_map(|child| match child {
                Child::Inner(inner) => Some(inner),
                Child::Leaf(_) => None,
            });
            let below = below.collect();
            level.drain(..).for_each(|node| show(Retired::inner(node)));
            level = below;
        }
        while let Some(node) = leaf {
            leaf = node.next.load(guard);
            show(Retired::fence(node.low(guard)));
            show(Retired::leaf(node));
        }
    }

    /// Checks the tree. Nobody may be writing.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub(super) fn check_invariants(&self, guard: &Guard) {
        let mut low = &[][..];
        for leaf in self.leaves(guard) {
            leaf.check_invariants(guard);
            assert_eq!(&*leaf.low(guard).0, low, "a leaf does not begin where the last ended");
            assert!(self.leaf_for(low, Side::At, guard).is(leaf), "no way leads to a leaf");
            low = leaf.high(guard).map_or(&[][..], |high| &high.get().0);
        }
        let mut level = vec![Child::Inner(self.root(guard))];
        while let Some(Child::Inner(_)) = level.first() {
            let mut below = Vec::new();
            for node in &level {
                let Child::Inner(node) = node else { unreachable!("a level is of one kind") };
                assert!(level.len() == 1 || node.len() > 1, "an inner node has one child");
                assert!(node.len() <= inner::FANOUT, "an inner node is too large");
                below.extend((0..node.len()).map(|at| node.get().child(at, guard)));
            }
            level = below;
        }
        let leaves = self.leaves(guard).count();
        assert_eq!(level.len(), leaves, "the inner nodes know other leaves than the chain");
    }
}

fn make<'g>(parts: &Parts<'_>, guard: &'g Guard, outcome: &mut Outcome) -> Shared<'g, Inner> {
    outcome.bytes += size_of::<Inner>();
    Shared::new(Inner::new(parts), guard)
}

/// Returns the shortest key above `last` and not above `first`.
fn separator<'a>(last: &[u8], first: &'a [u8]) -> &'a [u8] {
    &first[..first.len().min(common_prefix(last, first) + 1)]
}
