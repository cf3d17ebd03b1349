//! The names on a simulated disk: what is durable, what programs see, and the changes between.
//!
//! # Which changes depend on which
//! Changes of different names are independent, and a crash may keep any of them. A rename is one
//! change of two names. A change that puts a file where another one stood before it was renamed
//! away is lost if that rename is: otherwise a file that was only ever renamed would have no name.
//!
//! ```text
//!   durable: A -> 1          rename A to B          rename C to A
//!            C -> 2
//!   kept:                    neither, the first, or both, but never the second alone
//! ```
//!
//! # Invariants
//! * `durable` with all of `unsynced` applied in order is `current`.
//! * A file that is renamed has one name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::random::SeededRandom;

/// What is called inode number elsewhere. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(pub(super) u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Folder,
    File(FileId),
}

impl Entry {
    /// Returns the file, if it is one.
    pub(super) fn file(&self) -> Option<FileId> {
        match self {
            Entry::File(id) => Some(*id),
            Entry::Folder => None,
        }
    }
}

pub(super) type Tree = BTreeMap<PathBuf, Entry>;

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Create { path: PathBuf, entry: Entry },
    Rename { from: PathBuf, to: PathBuf, file: FileId },
    Remove { path: PathBuf, file: FileId },
}

#[derive(Default)]
pub(super) struct Names {
    durable: Tree,
    current: Tree,
    unsynced: Vec<NameChange>,
}

impl Names {
    /// Returns names that are durable as they are.
    pub(super) fn durable(tree: Tree) -> Names {
        Names { durable: tree.clone(), current: tree, unsynced: Vec::new() }
    }

    pub(super) fn current(&self) -> &Tree {
        &self.current
    }

    pub(super) fn get(&self, path: &Path) -> Option<Entry> {
        entry_of(&self.current, path)
    }

    /// Returns how many names a file has now.
    pub(super) fn count_of(&self, file: FileId) -> usize {
        self.current.values().filter(|entry| entry.file() == Some(file)).count()
    }

    /// Returns the files that have a name now or may have one after a crash.
    pub(super) fn files(&self) -> BTreeSet<FileId> {
        let unsynced = self.unsynced.iter().filter_map(|change| match change {
            NameChange::Create { entry, .. } => entry.file(),
            NameChange::Rename { file, .. } | NameChange::Remove { file, .. } => Some(*file),
        });
        let named = self.current.values().chain(self.durable.values()).filter_map(Entry::file);
        named.chain(unsynced).collect()
    }

    pub(super) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }

    pub(super) fn change_durably(&mut self, change: NameChange) {
        change.apply(&mut self.current);
        change.apply(&mut self.durable);
    }

    /// Makes the changes in a folder durable.
    pub(super) fn sync_folder(&mut self, folder: &Path) {
        self.sync_where(|path| parent_of(path) == folder);
    }

    /// Makes the changes of one name durable.
    pub(super) fn sync_name(&mut self, name: &Path) {
        self.sync_where(|path| path == name);
    }

    /// Makes some changes durable, and the earlier ones that they depend on: a journal keeps the
    /// changes of one name in order.
    fn sync_where(&mut self, is_asked_for: impl Fn(&Path) -> bool) {
        let mut needed = BTreeSet::new();
        let mut synced = vec![false; self.unsynced.len()];
        for (change, is_synced) in self.unsynced.iter().zip(&mut synced).rev() {
            *is_synced = change.paths().any(|path| is_asked_for(path) || needed.contains(path));
            if *is_synced {
                needed.extend(change.paths().cloned());
            }
        }
        let mut synced = synced.into_iter();
        let durable = &mut self.durable;
        self.unsynced.retain(|change| {
            let is_synced = synced.next().unwrap_or(false);
            if is_synced {
                change.apply(durable);
            }
            !is_synced
        });
    }

    pub(super) fn crash_lost(&self) -> Tree {
        self.durable.clone()
    }

    pub(super) fn crash_kept(&self) -> Tree {
        self.current.clone()
    }

    pub(super) fn crash_torn(&self, random: &mut SeededRandom) -> Tree {
        let (mut tree, mut truth) = (self.durable.clone(), self.durable.clone());
        for change in &self.unsynced {
            change.apply(&mut truth);
            if random.chance(500) && change.is_possible(&tree, &truth) {
                change.apply(&mut tree);
            }
        }
        tree
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let mut tree = self.durable.clone();
        self.unsynced.iter().for_each(|change| change.apply(&mut tree));
        assert_eq!(tree, self.current, "the changes do not lead to the view");
    }
}

impl NameChange {
    fn apply(&self, tree: &mut Tree) {
        match self {
            NameChange::Create { path, entry } => {
                tree.insert(path.clone(), *entry);
            }
            NameChange::Rename { to, file, .. } => {
                // Not only the old name of this change: a rename before it may have been lost.
                tree.retain(|_, entry| *entry != Entry::File(*file));
                tree.insert(to.clone(), Entry::File(*file));
            }
            NameChange::Remove { path, file } => {
                if tree.get(path) == Some(&Entry::File(*file)) {
                    tree.remove(path);
                }
            }
        }
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        match self {
            NameChange::Create { path, .. } | NameChange::Remove { path, .. } => [Some(path), None],
            NameChange::Rename { from, to, .. } => [Some(from), Some(to)],
        }
        .into_iter()
        .flatten()
    }

    /// Returns false if this change depends on one that `tree` does not hold. `truth` holds all
    /// changes up to this one.
    fn is_possible(&self, tree: &Tree, truth: &Tree) -> bool {
        let (path, own) = match self {
            NameChange::Create { path, entry } => (path, *entry),
            NameChange::Rename { to, file, .. } => (to, Entry::File(*file)),
            NameChange::Remove { .. } => return true,
        };
        let tramples = tree
            .get(path)
            .is_some_and(|other| *other != own && truth.values().any(|entry| entry == other));
        !tramples && entry_of(tree, &parent_of(path)) == Some(Entry::Folder)
    }
}

fn entry_of(tree: &Tree, path: &Path) -> Option<Entry> {
    // The working folder and the root are always there.
    if path.parent().is_none() { Some(Entry::Folder) } else { tree.get(path).copied() }
}

/// Returns the folder of a clean path.
pub(super) fn parent_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Returns the one spelling of a path that names are kept under. There are no links, so that `..`
/// can be resolved by the letters.
pub(super) fn clean(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut clean, component| {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => {
                clean.push(component)
            }
        }
        clean
    })
}
