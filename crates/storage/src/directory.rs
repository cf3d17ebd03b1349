//! The directory of a database: what lies where in it, whose it is, and who has it open.
//!
//! ```text
//!  <directory>/
//!    FORMAT                   says that this is a database, of which format, and which one
//!    LOCK                     held by the process that has it open; names it, for people
//!    MANIFEST                 the live state: crate::manifest
//!    wal/00000007.wal …       the log: crate::wal
//!    tables/0000000012.table  sorted entries: crate::table
//!    tables/0000000013.values large values that tables refer to: crate::values
//!    *.tmp                    something that was being written; removed at the next open
//! ```
//!
//! FORMAT is text, so that people can read it with anything:
//!
//! ```text
//!  holm format 1
//!  id 00112233445566778899aabbccddeeff
//!  crc32c 1a2b3c4d
//! ```
//!
//! Its first line and its last one keep their form in all formats to come: `crc32c` and the masked
//! checksum of all that comes before that line. An old program can thus tell a newer database from
//! a damaged FORMAT.
//!
//! # Creation
//! ```text
//!  folder ── LOCK ── wal/ ── tables/ ── MANIFEST ── FORMAT.tmp ── rename to FORMAT ── sync
//!  <────────────── a crash here: not a database, create it anew ────────────────><─ whole ─>
//! ```
//! FORMAT comes last and atomically, so a directory that has it has everything. One without it in
//! which only the remains of an unfinished creation lie is free for a fresh one; but if there are
//! files in `wal/` or `tables/`, or anything foreign, it is left alone: somebody's data may be in
//! it.
//!
//! # Not here
//! The wal's file names ([`crate::wal`]); what a manifest means ([`crate::manifest`]).

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::checksum;
use env::{Disk, File, LockGuard, OpenMode};

use crate::manifest::{MANIFEST_NAME, Manifest, State, TableMeta};
use crate::table::Table;
use crate::{Error, Result};

/// The format of the directory that is written, and the newest that is read.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT_NAME: &str = "FORMAT";
const LOCK_NAME: &str = "LOCK";
pub(crate) const WAL_FOLDER: &str = "wal";
pub(crate) const TABLES_FOLDER: &str = "tables";
const TEMPORARY_SUFFIX: &str = ".tmp";
const TABLE_SUFFIX: &str = ".table";
const VALUES_SUFFIX: &str = ".values";

/// The random name that a database gets at birth, so that files of two databases are not mixed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatabaseId(pub [u8; 16]);

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a directory may be made a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateMode {
    /// Open the database that is there, or else create it.
    IfMissing,
    /// Create a database; one that is there already is an error.
    MustBeNew,
}

/// What a file name at the top of a database directory means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileName {
    /// `FORMAT`.
    Format,
    /// `LOCK`.
    Lock,
    /// `MANIFEST`.
    Manifest,
    /// `wal`, a folder.
    WalFolder,
    /// `tables`, a folder.
    TablesFolder,
    /// `0000000012.table`, in the folder of tables.
    Table(u64),
    /// `0000000013.values`, in the folder of tables.
    Values(u64),
    /// Something that was being written.
    Temporary,
}

impl FileName {
    /// Returns what a file name means; `None` if we never make such a name.
    pub fn parse(name: &str) -> Option<FileName> {
        match name {
            FORMAT_NAME => Some(FileName::Format),
            LOCK_NAME => Some(FileName::Lock),
            MANIFEST_NAME => Some(FileName::Manifest),
            WAL_FOLDER => Some(FileName::WalFolder),
            TABLES_FOLDER => Some(FileName::TablesFolder),
            _ => match name.strip_suffix(TEMPORARY_SUFFIX) {
                Some(target) => FileName::parse(target).map(|_| FileName::Temporary),
                None => [FileKind::Table, FileKind::Values].into_iter().find_map(|kind| {
                    let number = name.strip_suffix(kind.suffix())?.parse().ok()?;
                    // "+7" and "7" are numbers, too, and not names that we make.
                    (FileId { kind, number }.name() == name).then_some(match kind {
                        FileKind::Table => FileName::Table(number),
                        FileKind::Values => FileName::Values(number),
                    })
                }),
            },
        }
    }
}

/// The kinds of files in the folder of tables, which are numbered together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// Sorted entries.
    Table,
    /// Large values.
    Values,
}

impl FileKind {
    fn suffix(self) -> &'static str {
        match self {
            FileKind::Table => TABLE_SUFFIX,
            FileKind::Values => VALUES_SUFFIX,
        }
    }
}

/// One of the files in the folder of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// What it is.
    pub kind: FileKind,
    /// The number in its name.
    pub number: u64,
}

impl FileId {
    /// Returns the id of a table.
    pub fn table(number: u64) -> FileId {
        FileId { kind: FileKind::Table, number }
    }

    /// Returns the id of a value file.
    pub fn values(number: u64) -> FileId {
        FileId { kind: FileKind::Values, number }
    }

    /// Returns the name of the file.
    pub fn name(self) -> String {
        format!("{:010}{}", self.number, self.kind.suffix())
    }
}

/// A new, empty file in the folder of tables.
pub struct NewFile {
    /// The number in its name.
    pub number: u64,
    /// The file.
    pub file: Box<dyn File>,
    /// Its path, for error messages.
    pub path: PathBuf,
}

/// Returns the file name of a table.
pub fn table_name(number: u64) -> String {
    FileId::table(number).name()
}

/// Returns the file name of a value file.
pub fn values_name(number: u64) -> String {
    FileId::values(number).name()
}

/// A database directory that this process has locked.
pub struct Directory {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    id: DatabaseId,
    is_new: bool,
    _lock: Box<dyn LockGuard>,
}

impl Directory {
    /// Opens a database directory and locks it, creating it if the mode allows.
    ///
    /// `owner` is what others are told who has it open, as "pid 123"; `new_id` becomes the id of a
    /// database that is created, and must be random.
    ///
    /// # Durability
    /// A created database is durable, and empty, once this returns. A crash before that leaves
    /// either all of it or what the next call creates anew.
    ///
    /// # Errors
    /// * [`Error::Locked`] if another process has it open.
    /// * [`Error::NotADatabase`] if something else is in the directory.
    /// * [`Error::NewerFormat`] if a newer program wrote it.
    /// * [`Error::Damaged`] if FORMAT is not sound.
    /// * [`Error::Io`] otherwise; with `AlreadyExists` for [`CreateMode::MustBeNew`] if there is a
    ///   database already.
    pub fn open_or_create(
        disk: Arc<dyn Disk>,
        path: &Path,
        mode: CreateMode,
        owner: &str,
        new_id: [u8; 16],
    ) -> Result<Directory> {
        disk.create_dir_all(path).map_err(Error::io(path, "create"))?;
        Directory::lock_and_open(disk, path, owner, Some((mode, DatabaseId(new_id))))
    }

    /// Opens a database directory and locks it. One that is not there is an error.
    ///
    /// # Errors
    /// As [`Directory::open_or_create`], and [`Error::NotADatabase`] if there is none.
    pub fn open_existing(disk: Arc<dyn Disk>, path: &Path, owner: &str) -> Result<Directory> {
        Directory::lock_and_open(disk, path, owner, None)
    }

    /// Returns the id of the database in a directory without locking it, for tools.
    ///
    /// # Errors
    /// [`Error::NotADatabase`], [`Error::NewerFormat`], [`Error::Damaged`] and [`Error::Io`] as
    /// [`Directory::open_or_create`].
    pub fn read_id(disk: &dyn Disk, path: &Path) -> Result<DatabaseId> {
        let format_path = path.join(FORMAT_NAME);
        let file = match disk.open(&format_path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(not_a_database(path, "it has no FORMAT file"));
            }
            opened => opened.map_err(Error::io(&format_path, "open"))?,
        };
        let bytes = file.read_all().map_err(Error::io(&format_path, "read"))?;
        parse_format(&bytes).map_err(|bad| match bad {
            BadFormat::Foreign => not_a_database(path, "its FORMAT file is another program's"),
            BadFormat::Damaged(offset, what) => Error::damaged(&format_path, offset as u64, what),
            BadFormat::Newer(found) => {
                Error::NewerFormat { path: format_path, found, known: FORMAT_VERSION }
            }
        })
    }

    fn lock_and_open(
        disk: Arc<dyn Disk>,
        path: &Path,
        owner: &str,
        creation: Option<(CreateMode, DatabaseId)>,
    ) -> Result<Directory> {
        // Before the lock, which would leave a file in somebody else's directory.
        if has_format(&*disk, path)? {
            Directory::read_id(&*disk, path)?;
        } else if creation.is_none() {
            return Err(not_a_database(path, "it has no FORMAT file"));
        } else {
            check_is_free(&*disk, path)?;
        }
        let lock = lock(&*disk, path, owner)?;
        // Again under the lock: another process may have created it, or begun to.
        let (id, is_new) = match (has_format(&*disk, path)?, creation) {
            (true, Some((CreateMode::MustBeNew, _))) => {
                let source = io::Error::new(io::ErrorKind::AlreadyExists, "there is one already");
                let path = path.to_path_buf();
                return Err(Error::Io { path, action: "create a database", source });
            }
            (true, _) => (Directory::read_id(&*disk, path)?, false),
            (false, None) => return Err(not_a_database(path, "it has no FORMAT file")),
            (false, Some((_, new_id))) => {
                check_is_free(&*disk, path)?;
                create(&disk, path, new_id)?;
                (new_id, true)
            }
        };
        let path = path.to_path_buf();
        Ok(Directory { disk, path, id, is_new, _lock: lock })
    }

    /// Returns the id of the database.
    pub fn id(&self) -> DatabaseId {
        self.id
    }

    /// Returns true if the database was created by this opening.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the disk that the directory is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Returns the folder of the log.
    pub fn wal_path(&self) -> PathBuf {
        self.path.join(WAL_FOLDER)
    }

    /// Returns the folder of the tables.
    pub fn tables_path(&self) -> PathBuf {
        self.path.join(TABLES_FOLDER)
    }

    /// Returns the path of a table.
    pub fn table_path(&self, number: u64) -> PathBuf {
        self.tables_path().join(table_name(number))
    }

    /// Opens the manifest.
    ///
    /// # Errors
    /// As [`Manifest::open`].
    pub fn open_manifest(&self) -> Result<Manifest> {
        Manifest::open(self.disk.clone(), &self.path, self.id)
    }

    /// Opens a table that the manifest names, and checks that it is the one.
    ///
    /// # Errors
    /// As [`Table::open`] and [`TableMeta::check`].
    pub fn open_table(&self, meta: &TableMeta) -> Result<Table> {
        let table = Table::open(&*self.disk, &self.table_path(meta.number))?;
        meta.check(&table)?;
        Ok(table)
    }

    /// Returns the paths of files that a crash or a failed removal has left: tables and value files
    /// that the state does not name, and temporary files. They can be removed; what has no name that we make is
    /// not among them.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a table that the state names is not there, [`Error::Io`] if the
    /// folders cannot be listed.
    pub fn orphans(&self, state: &State) -> Result<Vec<PathBuf>> {
        let mut orphans = Vec::new();
        for name in list(&*self.disk, &self.path)? {
            if FileName::parse(&name) == Some(FileName::Temporary) {
                orphans.push(self.path.join(name));
            }
        }
        let mut missing: BTreeSet<FileId> = state.files().collect();
        for name in list(&*self.disk, &self.tables_path())? {
            match FileName::parse(&name) {
                Some(FileName::Table(number)) if missing.remove(&FileId::table(number)) => {}
                Some(FileName::Values(number)) if missing.remove(&FileId::values(number)) => {}
                Some(FileName::Table(_) | FileName::Values(_) | FileName::Temporary) => {
                    orphans.push(self.tables_path().join(name));
                }
                _ => {}
            }
        }
        match missing.first() {
            Some(&file) => {
                let what = match file.kind {
                    FileKind::Table => "the manifest names this table, and the file is missing",
                    FileKind::Values => {
                        "the manifest names this value file, and the file is missing"
                    }
                };
                Err(Error::damaged(&self.tables_path().join(file.name()), 0, what))
            }
            None => Ok(orphans),
        }
    }
}

/// Locks a directory that holds nothing, and creates the folders of a database in it.
pub(crate) fn begin(disk: &dyn Disk, path: &Path, owner: &str) -> Result<Box<dyn LockGuard>> {
    disk.create_dir_all(path).map_err(Error::io(path, "create"))?;
    if has_format(disk, path)? {
        return Err(not_a_database(path, "a database is in it already, and nothing is replaced"));
    }
    check_is_free(disk, path)?;
    let lock = lock(disk, path, owner)?;
    create_folders(disk, path)?;
    Ok(lock)
}

fn create_folders(disk: &dyn Disk, path: &Path) -> Result<()> {
    for folder in [WAL_FOLDER, TABLES_FOLDER] {
        let folder = path.join(folder);
        disk.create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
    }
    Ok(())
}

/// Copies a file to a new one, durably but for its name.
pub(crate) fn copy_file(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    /// Read and written at a time, in bytes.
    const CHUNK_BYTES: usize = 1 << 20;
    let source = disk.open(from, OpenMode::Read).map_err(Error::io(from, "open"))?;
    let target = disk.open(to, OpenMode::CreateNew).map_err(Error::io(to, "create"))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let read = source.read_at(&mut chunk, offset).map_err(Error::io(from, "read"))?;
        if read == 0 {
            return target.sync().map_err(Error::io(to, "sync"));
        }
        target.write_at(&chunk[..read], offset).map_err(Error::io(to, "write"))?;
        offset += read as u64;
    }
}

/// Makes a database of a directory that is free and locked.
fn create(disk: &Arc<dyn Disk>, path: &Path, id: DatabaseId) -> Result<()> {
    create_folders(&**disk, path)?;
    Manifest::create(disk.clone(), path, id)?;
    write_format(&**disk, path, id)
}

/// Refuses a directory in which anything lies but the remains of an unfinished creation.
fn check_is_free(disk: &dyn Disk, path: &Path) -> Result<()> {
    for name in list(disk, path)? {
        match FileName::parse(&name) {
            Some(FileName::WalFolder | FileName::TablesFolder) => {
                if !list(disk, &path.join(&name))?.is_empty() {
                    let what = format!("there are files in {name}/, and FORMAT is missing");
                    return Err(not_a_database(path, what));
                }
            }
            Some(FileName::Table(_) | FileName::Values(_)) => {
                return Err(not_a_database(path, format!("a file {name} is in it")));
            }
            Some(_) => {}
            // What systems put into any directory.
            None if name.starts_with('.') || name == "lost+found" => {}
            None => return Err(not_a_database(path, format!("a file {name} is in it"))),
        }
    }
    Ok(())
}

/// Takes the lock of a database directory.
pub(crate) fn lock(disk: &dyn Disk, path: &Path, owner: &str) -> Result<Box<dyn LockGuard>> {
    let path = path.join(LOCK_NAME);
    match disk.lock(&path, owner) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            // For people only: what cannot be read is not told.
            let bytes = disk.open(&path, OpenMode::Read).and_then(|file| file.read_all());
            let owner = bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
            let owner = owner.ok().filter(|owner| !owner.is_empty());
            Err(Error::Locked { path, owner: owner.unwrap_or_else(|| "unknown".to_owned()) })
        }
        locked => locked.map_err(Error::io(&path, "lock")),
    }
}

/// Gives a file that never changes a second name, or copies it where that is not possible.
pub(crate) fn link_or_copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    match disk.hard_link(from, to) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::CrossesDevices
                    | io::ErrorKind::Unsupported
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::TooManyLinks
            ) =>
        {
            copy_file(disk, from, to)
        }
        linked => linked.map_err(Error::io(to, "link")),
    }
}

/// Writes FORMAT anew.
pub(crate) fn write_format(disk: &dyn Disk, path: &Path, id: DatabaseId) -> Result<()> {
    Replacement::write(disk, path, FORMAT_NAME, format_text(id).as_bytes())?.switch()
}

fn has_format(disk: &dyn Disk, path: &Path) -> Result<bool> {
    let path = path.join(FORMAT_NAME);
    disk.exists(&path).map_err(Error::io(&path, "look for"))
}

fn list(disk: &dyn Disk, path: &Path) -> Result<Vec<String>> {
    disk.list(path).map_err(Error::io(path, "list"))
}

fn not_a_database(path: &Path, what: impl Into<String>) -> Error {
    Error::NotADatabase { path: path.to_path_buf(), what: what.into() }
}

/// Returns the text of FORMAT.
fn format_text(id: DatabaseId) -> String {
    let head = head_of(id);
    format!("{head}crc32c {:08x}\n", checksum::of(&[head.as_bytes()]))
}

fn head_of(id: DatabaseId) -> String {
    format!("holm format {FORMAT_VERSION}\nid {id}\n")
}

/// Why a FORMAT file cannot be used.
#[derive(Debug, PartialEq, Eq)]
enum BadFormat {
    Foreign,
    Damaged(usize, &'static str),
    Newer(u32),
}

fn parse_format(bytes: &[u8]) -> std::result::Result<DatabaseId, BadFormat> {
    const BEGINNING: &str = "holm format ";
    /// `crc32c `, eight digits, line feed.
    const LAST_LINE_BYTES: usize = 16;
    if !bytes.starts_with(BEGINNING.as_bytes()) {
        let is_torn = bytes.is_empty() || BEGINNING.as_bytes().starts_with(bytes);
        return Err(if is_torn {
            BadFormat::Damaged(0, "it is cut short")
        } else {
            BadFormat::Foreign
        });
    }
    let head_len = bytes.len().saturating_sub(LAST_LINE_BYTES);
    let (head, last_line) = bytes.split_at(head_len);
    if last_line != format!("crc32c {:08x}\n", checksum::of(&[head])).as_bytes() {
        return Err(BadFormat::Damaged(head_len, "its checksum does not match"));
    }
    let damaged = |what| BadFormat::Damaged(0, what);
    let head = std::str::from_utf8(head).map_err(|_| damaged("it is not text"))?;
    let mut lines = head.lines();
    let version = lines.next().and_then(|line| line.strip_prefix(BEGINNING));
    match version.and_then(|version| version.parse::<u32>().ok()) {
        Some(FORMAT_VERSION) => {}
        Some(newer) if newer > FORMAT_VERSION => return Err(BadFormat::Newer(newer)),
        _ => return Err(damaged("it has no format version")),
    }
    let digits = lines.next().and_then(|line| line.strip_prefix("id "));
    // This also takes signs, capitals and too few digits; the comparison below does not.
    let id = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
    let id = id.map(|id| DatabaseId(id.to_be_bytes())).ok_or(damaged("it has no database id"))?;
    if head != head_of(id) {
        return Err(damaged("it has more in it than a format and an id"));
    }
    Ok(id)
}

/// Decodes the bytes as FORMAT.
#[cfg(any(test, fuzzing))]
pub fn fuzz_format(bytes: &[u8]) {
    if let Ok(id) = parse_format(bytes) {
        assert_eq!(bytes, format_text(id).as_bytes(), "there is one text for each database");
    }
}

/// A file that is ready to take the place of another.
pub(crate) struct Replacement<'a> {
    disk: &'a dyn Disk,
    folder: &'a Path,
    temporary: PathBuf,
    path: PathBuf,
}

impl<'a> Replacement<'a> {
    /// Writes the new content next to the file of that name and syncs it.
    ///
    /// # Errors
    /// [`Error::DiskFull`] and [`Error::Io`]; the old file is as it was.
    pub(crate) fn write(
        disk: &'a dyn Disk,
        folder: &'a Path,
        name: &str,
        bytes: &[u8],
    ) -> Result<Replacement<'a>> {
        let path = folder.join(name);
        let temporary = folder.join(format!("{name}{TEMPORARY_SUFFIX}"));
        // A crash may have left one, of any content.
        if disk.exists(&temporary).map_err(Error::io(&temporary, "look for"))? {
            disk.remove(&temporary).map_err(Error::io(&temporary, "remove"))?;
        }
        let opened = disk.open(&temporary, OpenMode::CreateNew);
        let file = opened.map_err(Error::io(&temporary, "create"))?;
        file.write_at(bytes, 0).map_err(Error::io(&temporary, "write"))?;
        file.sync().map_err(Error::io(&temporary, "sync"))?;
        Ok(Replacement { disk, folder, temporary, path })
    }

    /// Puts the new file in place of the old one.
    ///
    /// # Durability
    /// The new content is durable under its name once this returns.
    ///
    /// # Errors
    /// [`Error::Io`]; a crash may then leave either file.
    pub(crate) fn switch(self) -> Result<()> {
        let renamed = self.disk.rename(&self.temporary, &self.path);
        renamed.map_err(Error::io(&self.path, "rename"))?;
        self.disk.sync_dir(self.folder).map_err(Error::io(self.folder, "sync"))
    }
}

#[cfg(test)]
mod tests;
