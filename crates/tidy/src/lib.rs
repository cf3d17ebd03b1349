//! What the tests of this crate look at: the files of the repository.
//!
//! The tests stand in for the reviewer who would have to notice that a crate imports what it must
//! not, that a file has no header, or that a link leads nowhere. They read text and `cargo
//! metadata`, and nothing here is part of Holm.
//!
//! The programs in the book are run as documentation tests of this crate.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

#[cfg(doctest)]
mod book {
    #![doc = include_str!("../../../docs/book/src/guide.md")]
}

/// Folders that hold what was made, not what was written.
const MADE: [&str; 4] = ["target", "holm-data", "holm-demo", "corpus"];

/// A text file of the repository.
#[derive(Debug)]
pub struct TextFile {
    /// Where it lies, from the root, with forward slashes.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Returns the root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_path_buf()
}

/// Returns the text files of the repository, sorted by name. Hidden folders are left out, but for
/// `.ci`; so is whatever is not UTF-8.
///
/// # Panics
/// If a folder cannot be read.
pub fn text_files() -> Vec<TextFile> {
    let mut files = Vec::new();
    collect(&root(), "", &mut files);
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

/// Returns the text files whose names end so.
pub fn files_ending(end: &str) -> Vec<TextFile> {
    text_files().into_iter().filter(|file| file.name.ends_with(end)).collect()
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<TextFile>) {
    let entries = fs::read_dir(folder).expect("folders of the repository can be read");
    for entry in entries.map(|entry| entry.expect("folders of the repository can be read")) {
        let Ok(name) = entry.file_name().into_string() else { continue };
        // In a linked work tree of git's this is a file, and says where the other one lies.
        if name == ".git" {
            continue;
        }
        let path = entry.path();
        let full = format!("{prefix}{name}");
        if path.is_dir() {
            let is_hidden = name.starts_with('.') && name != ".ci";
            if !is_hidden && !MADE.contains(&name.as_str()) {
                collect(&path, &format!("{full}/"), files);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            files.push(TextFile { name: full, text });
        }
    }
}
