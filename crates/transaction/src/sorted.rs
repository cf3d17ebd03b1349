//! A sorted list of writes: what a transaction buffers is mostly little, mostly written in order or
//! all over the place, and read in order at the end.
//!
//! ```text
//!   runs   [a c d f] [h k] [m n p r s]        sorted; a full one is cut in two, an empty one goes
//! ```
//!
//! Two levels are enough: a run is short, so that putting a write in its middle moves little, and
//! even the largest transaction has few enough runs. Against a tree of nodes, writes that come in
//! order cost one comparison, and there is less to allocate and to give back.

use std::ops::Bound;

use bytes::Bytes;

/// Writes of a run at most. Half of them are moved by an insertion on average, some thousand bytes.
const RUN_WRITES_MAX: usize = if cfg!(test) { 4 } else { 64 };

/// A key and its value; `None` deletes.
pub(crate) type Write = (Bytes, Option<Bytes>);

/// Writes in the order of their keys, one for each.
#[derive(Default, Debug)]
pub(crate) struct Sorted {
    /// The first run, by itself: a transaction of one write needs no list of runs.
    first: Vec<Write>,
    more: Vec<Vec<Write>>,
    len: usize,
}

/// Where a write stands, or would: a run, and a place in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    run: usize,
    at: usize,
}

impl Sorted {
    /// Returns the number of writes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Finds the write of a key, or where it would be put.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Place, Place> {
        let last = self.more.last().unwrap_or(&self.first);
        if last.last().is_none_or(|(greatest, _)| &greatest[..] < key) {
            return Err(Place { run: self.more.len(), at: last.len() });
        }
        let run = self.more.partition_point(|run| run.first().is_some_and(|w| &w.0[..] <= key));
        match self.run(run).binary_search_by(|write| write.0[..].cmp(key)) {
            Ok(at) => Ok(Place { run, at }),
            Err(at) => Err(Place { run, at }),
        }
    }

    /// Returns the write at a place that has one.
    pub(crate) fn at(&self, place: Place) -> &Write {
        &self.run(place.run)[place.at]
    }

    /// Replaces the value at a place that has one.
    pub(crate) fn replace(&mut self, place: Place, value: Option<Bytes>) -> Option<Bytes> {
        std::mem::replace(&mut self.run_mut(place.run)[place.at].1, value)
    }

    /// Puts a write where [`Sorted::find`] said that it would be.
    pub(crate) fn insert(&mut self, place: Place, write: Write) {
        let Place { run, at } = place;
        self.len += 1;
        let is_last = run == self.more.len();
        let full = self.run_mut(run);
        if full.len() < RUN_WRITES_MAX {
            full.insert(at, write);
            return;
        }
        // Keys that only ever rise leave full runs behind them.
        let cut = if is_last && at == full.len() { at } else { full.len() / 2 };
        let mut upper = Vec::with_capacity(RUN_WRITES_MAX);
        upper.extend(full.drain(cut..));
        if at < cut {
            full.insert(at, write)
        } else {
            upper.insert(at - cut, write)
        }
        self.more.insert(run, upper);
    }

    /// Takes out the write at a place that has one.
    pub(crate) fn remove(&mut self, place: Place) -> Write {
        self.len -= 1;
        let write = self.run_mut(place.run).remove(place.at);
        if self.run(place.run).is_empty() && !self.more.is_empty() {
            if place.run == 0 {
                self.first = self.more.remove(0);
            } else {
                self.more.remove(place.run - 1);
            }
        }
        write
    }

    /// Walks all writes in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Write> + Clone {
        Iter { writes: self.first.iter().chain(self.more.iter().flatten()), left: self.len }
    }

    /// Returns the first write at or after a bound.
    pub(crate) fn first(&self, from: Bound<&[u8]>) -> Option<&Write> {
        let (key, passes_equal) = match from {
            Bound::Unbounded => return self.first.first(),
            Bound::Included(key) => (key, false),
            Bound::Excluded(key) => (key, true),
        };
        let Place { run, at } = self.bound(key, passes_equal);
        match self.run(run).get(at) {
            Some(write) => Some(write),
            None => self.more.get(run)?.first(),
        }
    }

    /// Returns the last write at or before a bound.
    pub(crate) fn last(&self, until: Bound<&[u8]>) -> Option<&Write> {
        let (key, passes_equal) = match until {
            Bound::Unbounded => return self.more.last().unwrap_or(&self.first).last(),
            Bound::Included(key) => (key, true),
            Bound::Excluded(key) => (key, false),
        };
        let Place { run, at } = self.bound(key, passes_equal);
        match at.checked_sub(1) {
            Some(at) => self.run(run).get(at),
            None => self.run(run.checked_sub(1)?).last(),
        }
    }

    fn run(&self, run: usize) -> &Vec<Write> {
        run.checked_sub(1).map_or(&self.first, |run| &self.more[run])
    }

    fn run_mut(&mut self, run: usize) -> &mut Vec<Write> {
        match run.checked_sub(1) {
            None => &mut self.first,
            Some(run) => &mut self.more[run],
        }
    }

    /// Returns the place behind all keys below `key`, and behind `key` itself if that is passed.
    fn bound(&self, key: &[u8], passes_equal: bool) -> Place {
        match self.find(key) {
            Ok(Place { run, at }) => Place { run, at: at + usize::from(passes_equal) },
            Err(place) => place,
        }
    }
}

#[derive(Clone)]
struct Iter<'w> {
    writes: std::iter::Chain<
        std::slice::Iter<'w, Write>,
        std::iter::Flatten<std::slice::Iter<'w, Vec<Write>>>,
    >,
    left: usize,
}

impl<'w> Iterator for Iter<'w> {
    type Item = &'w Write;

    fn next(&mut self) -> Option<&'w Write> {
        self.left = self.left.saturating_sub(1);
        self.writes.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_list_agrees_with_a_map(
            ops in proptest::collection::vec((0..4u8, 0..60u8, any::<u8>()), 1..200),
        ) {
            let mut list = Sorted::default();
            let mut map: BTreeMap<Vec<u8>, Option<Bytes>> = BTreeMap::new();
            for (kind, key, value) in ops {
                let key = vec![b'k', key];
                let value = (kind > 1).then(|| Bytes::copy_from_slice(&[value]));
                let found = list.find(&key);
                prop_assert_eq!(found.is_ok(), map.contains_key(&key));
                match (kind, found) {
                    (0, Ok(place)) => {
                        prop_assert_eq!(Some(list.remove(place).1), map.remove(&key));
                    }
                    (0, Err(_)) => {}
                    (_, Ok(place)) => {
                        prop_assert_eq!(&list.at(place).0[..], &key[..]);
                        let old = list.replace(place, value.clone());
                        prop_assert_eq!(Some(old), map.insert(key, value));
                    }
                    (_, Err(place)) => {
                        list.insert(place, (Bytes::from(key.clone()), value.clone()));
                        map.insert(key, value);
                    }
                }
            }
            prop_assert!(list.more.iter().all(|run| (1..=RUN_WRITES_MAX).contains(&run.len())));
            prop_assert!(list.first.len() <= RUN_WRITES_MAX);
            prop_assert!(!list.first.is_empty() || list.more.is_empty());
            prop_assert_eq!(list.iter().len(), map.len());
            let all = list.iter().map(|(key, value)| (key.to_vec(), value.clone()));
            prop_assert_eq!(all.collect::<BTreeMap<_, _>>(), map.clone());
            prop_assert!(list.iter().is_sorted());
            for key in 0..61u8 {
                let key = &[b'k', key][..];
                for bound in [Bound::Included(key), Bound::Excluded(key), Bound::Unbounded] {
                    let first = map.range::<[u8], _>((bound, Bound::Unbounded)).next();
                    prop_assert_eq!(list.first(bound).map(|w| &w.0[..]), first.map(|w| &w.0[..]));
                    let last = map.range::<[u8], _>((Bound::Unbounded, bound)).next_back();
                    prop_assert_eq!(list.last(bound).map(|w| &w.0[..]), last.map(|w| &w.0[..]));
                }
            }
        }
    }
}
