//! A disk in memory that loses, tears and refuses exactly what it is told to.
//!
//! A file has a durable content and a current one, and so have the names. Between the two stand
//! the changes that nobody synced; a crash decides what becomes of each of them.
//!
//! ```text
//!    write_at, set_len                     open(CreateNew), rename, remove
//!          |                                     |
//!          v                                     v
//!    +-----------------------+             +-----------------------+
//!    | current content       | what        | current names         | what
//!    | of one file           | read_at     | of all folders        | open, list
//!    +-----------------------+ sees        +-----------------------+ see
//!    | W  W  L  W? W         | unsynced    | C  M  C  X            | unsynced
//!    +-----------------------+             +-----------------------+
//!          |                                     |
//!        sync, of this file                    sync_dir, of this folder
//!          v                                     v
//!    +-----------------------+             +-----------------------+
//!    | durable content       |             | durable names         |
//!    +-----------------------+             +-----------------------+
//!       ^                                     ^
//!       '-- write_durable, its own bytes      '-- create_dir_all
//!
//!    W write   W? write that a failed sync dropped   L length
//!    C create, link  M rename   X remove
//!
//!    crash(LoseUnsynced)   durable, nothing else
//!    crash(KeepUnsynced)   current
//!    crash(Torn(seed))     durable, some sectors of some W and W?, some of L, C, M and X
//! ```
//!
//! Operations are numbered from 0, and faults are set by number, so that a test can stop at every
//! one of them:
//!
//! ```
//! use std::path::Path;
//! use env::{CrashMode, Disk, OpenMode, SimDisk};
//!
//! let save = |disk: &SimDisk| -> std::io::Result<()> {
//!     let file = disk.open(Path::new("new"), OpenMode::CreateNew)?;
//!     file.write_at(b"text", 0)?;
//!     file.sync()?;
//!     disk.rename(Path::new("new"), Path::new("saved"))?;
//!     disk.sync_dir(Path::new(""))
//! };
//! for number in 0..5 {
//!     let disk = SimDisk::new();
//!     disk.stop_at(number);
//!     assert!(save(&disk).is_err());
//!     for seed in 0..20 {
//!         let found = disk.crash(CrashMode::Torn(seed));
//!         // The file is there whole or not at all.
//!         assert!(found.read_file("saved").is_ok_and(|text| text == b"text")
//!             || !found.exists(Path::new("saved")).unwrap());
//!     }
//! }
//! ```
//!
//! # Invariants
//! * The same calls and the same seeds give the same disk. (Threads that race give other calls.)
//! * What was synced is in every crash copy; what was never written is in none.
//! * A file that was renamed has one of its two names after a crash.
//! * A file whose name was removed lives on while it is open, and dies with the machine.
//! * Bytes that a failed sync covered are not made durable by a later sync; writing them again is
//!   what helps.
//!
//! # Not here
//! * Latency and queues: every call returns at once.
//! * Reordering across a sync, and disks that lie about a sync. No program can survive the second.
//! * Readers that see the old bytes after a failed sync, as they may once the page leaves memory.
//! * Torn sectors, stale bytes of deleted files in a grown file, links, rights, folder removal.
//! * A failed `sync_dir` drops nothing: the journal of a file system either commits later or takes
//!   the file system down.

mod content;
mod crash;
mod faults;
mod file;
mod handle;
mod names;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use crash::CrashMode;

use crate::disk::{Disk, File, LockGuard, OpenMode};
use crate::real::held_by;
use content::Content;
use faults::{Course, FaultPlan};
use file::SimFile;
use handle::{SimHandle, SimLock};
use names::{Entry, FileId, NameChange, Names, clean, parent_of};

/// A simulated disk. Clones are handles to the same disk; [`SimDisk::crash`] makes another disk.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    names: Names,
    files: BTreeMap<FileId, SimFile>,
    next_file_id: u64,
    locks: BTreeSet<FileId>,
    faults: FaultPlan,
    capacity_bytes: Option<u64>,
}

impl SimDisk {
    /// Returns an empty disk without limits and faults.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// Returns another disk, as it is found after the power is lost now. This one goes on.
    pub fn crash(&self, mode: CrashMode) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(self.state().crashed(mode))) }
    }

    /// Returns the number of operations so far, which is the number of the next one. Whatever
    /// changes or syncs something is an operation: `write_at`, `write_durable`, `sync`, `set_len`,
    /// `open` with `CreateNew`, `rename`, `remove`, `sync_dir`, `create_dir_all` and `lock`.
    pub fn operations(&self) -> u64 {
        self.state().faults.operations
    }

    /// Makes reads operations as well: `read_at`, `len`, `list`, `exists`, `open` of what is there.
    pub fn count_reads(&self, reads_count: bool) {
        self.state().faults.reads_count = reads_count;
    }

    /// Stops the machine at an operation: this one is left in flight, unsynced, and it and
    /// everything after it fail, reads included. The way on is [`SimDisk::crash`].
    pub fn stop_at(&self, operation: u64) {
        self.state().faults.stop_at = Some(operation);
    }

    /// Returns true once the machine has stopped.
    pub fn is_stopped(&self) -> bool {
        self.state().faults.is_stopped
    }

    /// Lets one operation fail: `StorageFull` is `ENOSPC`, any other kind stands for `EIO`.
    ///
    /// A failed write has written its first half, a failed sync has dropped the unsynced bytes of
    /// its file (see the head of this module), a failed durable write may have written any of its
    /// bytes, and of anything else that fails nothing has happened.
    pub fn fail_at(&self, operation: u64, kind: ErrorKind) {
        self.state().faults.fail_at(operation, kind);
    }

    /// Lets all operations from a number on fail, until [`SimDisk::heal`].
    pub fn fail_from(&self, operation: u64, kind: ErrorKind) {
        self.state().faults.fail_from(operation, kind);
    }

    /// Takes back what [`SimDisk::fail_at`] and [`SimDisk::fail_from`] asked for.
    pub fn heal(&self) {
        self.state().faults.heal();
    }

    /// Sets how many bytes the files may take; writes beyond fail with `StorageFull` and have
    /// written what fitted. Space is given out in pages of 4096 bytes, when they are written
    /// first: growing by `set_len` takes none, overwriting takes none.
    pub fn set_capacity_bytes(&self, capacity_bytes: u64) {
        self.state().capacity_bytes = Some(capacity_bytes);
    }

    /// Returns how many bytes the files take.
    pub fn allocated_bytes(&self) -> u64 {
        self.state().allocated_bytes()
    }

    /// Starts or ends the recording of operations; either forgets what was recorded.
    pub fn record_trace(&self, is_recorded: bool) {
        self.state().faults.trace = is_recorded.then(Vec::new);
    }

    /// Returns a line for each recorded operation: number, call, path, detail, failure.
    pub fn trace(&self) -> Vec<String> {
        self.state().faults.trace.clone().unwrap_or_default()
    }

    /// Inverts one bit of a file, durably. Not an operation.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` beyond the end of the file.
    ///
    /// # Panics
    /// If `bit` is not below 8.
    pub fn flip_bit(&self, path: impl AsRef<Path>, offset: u64, bit: u8) -> io::Result<()> {
        assert!(bit < 8, "a byte has 8 bits");
        let mut state = self.state();
        let id = state.file_at(&clean(path.as_ref()))?;
        let file = state.file_mut(id);
        if offset >= file.current().len() {
            return Err(ErrorKind::InvalidInput.into());
        }
        file.flip(offset, bit);
        Ok(())
    }

    /// Returns the bytes of a file as programs see them, also when the machine has stopped. Not an
    /// operation.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read_file(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let state = self.state();
        let id = state.file_at(&clean(path.as_ref()))?;
        Ok(state.file(id).current().to_vec())
    }

    /// Replaces a file or creates it. Not an operation.
    ///
    /// # Durability
    /// Name and bytes are durable once this returns.
    ///
    /// # Errors
    /// `NotFound` if there is no such folder; `IsADirectory` if the path is one.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let (mut state, path) = (self.state(), clean(path.as_ref()));
        let mut content = Content::default();
        content.write(bytes, 0);
        let id = match state.names.get(&path) {
            Some(_) => state.file_at(&path)?,
            None => {
                state.folder_at(&parent_of(&path))?;
                state.next_id()
            }
        };
        // An unsynced change of this name would undo the durable one in a crash.
        state.names.sync_name(&path);
        state.names.change_durably(NameChange::Create { path, entry: Entry::File(id) });
        state.files.entry(id).or_default().replace_durably(content);
        Ok(())
    }

    /// Returns the files and their lengths as programs see them, sorted by path. Not an operation.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let files = state.names.current().iter().filter_map(|(path, entry)| match entry {
            Entry::File(id) => Some((path.clone(), state.file(*id).current().len())),
            Entry::Folder => None,
        });
        files.collect()
    }

    /// A panic elsewhere does not change what is on a disk.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, state: &mut State, id: FileId, path: PathBuf, mode: OpenMode) -> SimHandle {
        state.file_mut(id).handles += 1;
        SimHandle { disk: self.clone(), id, path, is_writable: mode != OpenMode::Read }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let (mut state, path) = (self.state(), clean(path));
        let id = match mode {
            OpenMode::CreateNew => {
                let detail = || path.display().to_string();
                state.change("create", detail, |state| state.create(&path))?
            }
            OpenMode::Read | OpenMode::Write | OpenMode::WriteDurable => {
                state.faults.begin_read("open", || path.display().to_string())?;
                state.file_at(&path)?
            }
        };
        Ok(Box::new(self.handle(&mut state, id, path, mode)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let (mut state, path) = (self.state(), clean(path));
        let course = state.faults.begin("create_dir_all", || path.display().to_string())?;
        let mut folders: Vec<&Path> = path.ancestors().collect();
        folders.reverse();
        for folder in folders {
            match state.names.get(folder) {
                Some(Entry::Folder) => continue,
                Some(Entry::File(_)) => return Err(ErrorKind::AlreadyExists.into()),
                None => {}
            }
            let change = NameChange::Create { path: folder.to_path_buf(), entry: Entry::Folder };
            match &course {
                Course::Done => state.names.change_durably(change),
                Course::InFlight(_) => state.names.change(change),
                Course::Fails(_) => break,
            }
        }
        course.into_result()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let (mut state, path) = (self.state(), clean(path));
        state.faults.begin_read("list", || path.display().to_string())?;
        state.folder_at(&path)?;
        let inside = state.names.current().keys().filter(|name| parent_of(name) == path);
        let names = inside.filter_map(|name| name.file_name());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let (mut state, path) = (self.state(), clean(path));
        state.faults.begin_read("exists", || path.display().to_string())?;
        Ok(state.names.get(&path).is_some())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, from, to) = (self.state(), clean(from), clean(to));
        let detail = || format!("{} -> {}", from.display(), to.display());
        state.change("rename", detail, |state| {
            let file = state.file_at(&from)?;
            state.folder_at(&parent_of(&to))?;
            if state.names.get(&to).is_some() {
                state.file_at(&to)?;
            }
            if from != to {
                if state.names.count_of(file) > 1 {
                    // What a crash leaves of such a file is not worked out here.
                    return Err(ErrorKind::Unsupported.into());
                }
                let (from, to) = (from.clone(), to.clone());
                state.names.change(NameChange::Rename { from, to, file });
            }
            state.forget_nameless();
            Ok(())
        })
    }

    fn hard_link(&self, existing: &Path, new: &Path) -> io::Result<()> {
        let (mut state, existing, new) = (self.state(), clean(existing), clean(new));
        let detail = || format!("{} = {}", new.display(), existing.display());
        state.change("link", detail, |state| {
            let file = state.file_at(&existing)?;
            state.folder_at(&parent_of(&new))?;
            if state.names.get(&new).is_some() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            let (path, entry) = (new.clone(), Entry::File(file));
            state.names.change(NameChange::Create { path, entry });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, path) = (self.state(), clean(path));
        let detail = || path.display().to_string();
        state.change("remove", detail, |state| {
            let file = state.file_at(&path)?;
            state.names.change(NameChange::Remove { path: path.clone(), file });
            state.forget_nameless();
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let (mut state, path) = (self.state(), clean(path));
        let course = state.faults.begin("sync_dir", || path.display().to_string())?;
        state.folder_at(&path)?;
        if matches!(course, Course::Done) {
            state.names.sync_folder(&path);
            state.forget_nameless();
        }
        course.into_result()
    }

    fn lock(&self, path: &Path, owner: &str) -> io::Result<Box<dyn LockGuard>> {
        let (mut state, path) = (self.state(), clean(path));
        let detail = || path.display().to_string();
        let id = state.change("lock", detail, |state| {
            let id = match state.names.get(&path) {
                Some(_) => state.file_at(&path)?,
                None => state.create(&path)?,
            };
            if state.locks.contains(&id) {
                return Err(held_by(&path, &state.file(id).current().to_vec()));
            }
            state.file_mut(id).set_len(0);
            state.file_mut(id).write(owner.as_bytes(), 0);
            Ok(id)
        })?;
        state.locks.insert(id);
        let handle = self.handle(&mut state, id, path, OpenMode::Write);
        Ok(Box::new(SimLock { handle }))
    }
}

impl State {
    #[cfg(test)]
    fn check_invariants(&self) {
        self.names.check_invariants();
        self.files.values().for_each(SimFile::check_invariants);
        let current = self.names.current().values().filter_map(Entry::file);
        assert!(current.into_iter().all(|id| self.files.contains_key(&id)), "a file is missing");
    }

    /// Runs an operation whose effect is unsynced in any case: in flight, it is the same effect.
    fn change<T>(
        &mut self,
        what: &str,
        detail: impl FnOnce() -> String,
        effect: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        match self.faults.begin(what, detail)? {
            Course::Done => effect(self),
            Course::Fails(error) => Err(error),
            Course::InFlight(error) => {
                // What it would have returned is nobody's business any more.
                let _ = effect(self);
                Err(error)
            }
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<FileId> {
        self.folder_at(&parent_of(path))?;
        if self.names.get(path).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let id = self.next_id();
        self.files.insert(id, SimFile::default());
        self.names.change(NameChange::Create { path: path.to_path_buf(), entry: Entry::File(id) });
        Ok(id)
    }

    fn next_id(&mut self) -> FileId {
        self.next_file_id += 1;
        FileId(self.next_file_id)
    }

    fn file_at(&self, path: &Path) -> io::Result<FileId> {
        match self.names.get(path) {
            Some(Entry::File(id)) => Ok(id),
            Some(Entry::Folder) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn folder_at(&self, path: &Path) -> io::Result<()> {
        match self.names.get(path) {
            Some(Entry::Folder) => Ok(()),
            Some(Entry::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn file(&self, id: FileId) -> &SimFile {
        self.files.get(&id).expect("a file that is named or open is kept")
    }

    fn file_mut(&mut self, id: FileId) -> &mut SimFile {
        self.files.get_mut(&id).expect("a file that is named or open is kept")
    }

    /// Drops the files that nobody has open and that no crash can give a name again.
    fn forget_nameless(&mut self) {
        let named = self.names.files();
        self.files.retain(|id, file| file.handles > 0 || named.contains(id));
    }

    /// A removed file that only a crash can bring back takes no space: file systems commit their
    /// journal before they call themselves full.
    fn allocated_bytes(&self) -> u64 {
        let named: BTreeSet<FileId> =
            self.names.current().values().filter_map(Entry::file).collect();
        let files = self.files.iter().filter(|(id, file)| file.handles > 0 || named.contains(id));
        files.map(|(_, file)| file.current().allocated_bytes()).sum()
    }

    /// Returns how many more bytes can be allocated.
    fn free_bytes(&self) -> u64 {
        match self.capacity_bytes {
            Some(capacity) => capacity.saturating_sub(self.allocated_bytes()),
            None => u64::MAX,
        }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operations = self.operations();
        f.debug_struct("SimDisk").field("operations", &operations).finish_non_exhaustive()
    }
}
