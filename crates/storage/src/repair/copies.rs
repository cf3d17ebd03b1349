//! The files as they were before a repair, beside what it makes of them.

use std::path::{Path, PathBuf};

use env::Disk;

use crate::directory::{FileName, TABLES_FOLDER, WAL_FOLDER, copy_file, link_or_copy};
use crate::error::{Error, Result};
use crate::wal;

/// The first `damaged-<n>` that does not exist.
pub(super) fn free_folder(disk: &dyn Disk, path: &Path) -> Result<PathBuf> {
    let mut number = 1;
    loop {
        let folder = path.join(format!("damaged-{number}"));
        if !disk.exists(&folder).map_err(Error::io(&folder, "look for"))? {
            return Ok(folder);
        }
        number += 1;
    }
}

/// Keeps the database's files as they are in a folder. Tables never change and only get a second
/// name, which takes no space; the rest is written again, and is copied.
pub(super) fn keep_files(disk: &dyn Disk, path: &Path, copies: &Path) -> Result<()> {
    for folder in [".", WAL_FOLDER, TABLES_FOLDER] {
        let (from, to) = match folder {
            "." => (path.to_path_buf(), copies.to_path_buf()),
            folder => (path.join(folder), copies.join(folder)),
        };
        disk.create_dir_all(&to).map_err(Error::io(&to, "create"))?;
        for name in disk.list(&from).map_err(Error::io(&from, "list"))? {
            let (source, target) = (from.join(&name), to.join(&name));
            match FileName::parse(&name) {
                Some(FileName::Lock | FileName::WalFolder | FileName::TablesFolder) => {}
                Some(FileName::Table(_) | FileName::Values(_)) => {
                    link_or_copy(disk, &source, &target)?
                }
                Some(_) => copy_file(disk, &source, &target)?,
                None if wal::segment_number(&name).is_some() => {
                    copy_file(disk, &source, &target)?;
                }
                None => {}
            }
        }
        disk.sync_dir(&to).map_err(Error::io(&to, "sync"))?;
    }
    Ok(())
}
