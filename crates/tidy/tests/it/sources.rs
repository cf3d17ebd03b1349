//! What every source file has, and what none of them has.

use tidy::{files_ending, root, text_files};

use crate::none;

/// Widest line of a source file, in characters: two files side by side on a laptop.
const COLUMNS_MAX: usize = 100;

/// Longest source file, in lines: beyond that there are two files in it.
const LINES_MAX: usize = 900;

/// Crates that touch the outside world only through `env`, and what each of them must ban.
const PURE: [&str; 4] = ["base", "storage", "transaction", "sim"];

#[test]
fn every_source_file_says_first_what_lives_in_it() {
    // Attributes of the whole file may stand before it.
    let first = |text: &str| text.lines().find(|line| !line.starts_with("#![")).map(str::to_string);
    let has_header = |text: &str| first(text).is_some_and(|line| line.starts_with("//! "));
    let files = files_ending(".rs").into_iter().filter(|file| !has_header(&file.text));
    let complaints = files.map(|file| format!("{}: begin it with `//! `", file.name));
    none(&complaints.collect::<Vec<_>>());
}

#[test]
fn no_line_is_wider_than_a_hundred_columns() {
    let mut complaints = Vec::new();
    for file in files_ending(".rs") {
        for (index, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                complaints.push(format!("{}:{}: {columns} columns", file.name, index + 1));
            }
        }
    }
    none(&complaints);
}

#[test]
fn no_source_file_is_two_files() {
    let count = |text: &str| text.lines().count();
    let files = files_ending(".rs").into_iter().filter(|file| count(&file.text) > LINES_MAX);
    let complaints = files.map(|file| format!("{}: {} lines", file.name, count(&file.text)));
    none(&complaints.collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_to_do_in_the_sources() {
    const WORDS: [&str; 3] = ["todo!(", "unimplemented!(", "dbg!("];
    let mut complaints = Vec::new();
    for file in files_ending(".rs").into_iter().filter(|file| file.name.contains("/src/")) {
        for (index, line) in file.text.lines().enumerate() {
            let found = WORDS.iter().filter(|word| line.contains(**word));
            complaints.extend(found.map(|word| format!("{}:{}: {word}", file.name, index + 1)));
        }
    }
    none(&complaints);
}

#[test]
fn no_path_of_a_machine_is_written_down() {
    // Put together here, so that this file does not have them.
    let folders = ["work", "tmp", "home", "root", "Users"].map(|name| format!("/{name}/"));
    let mut complaints = Vec::new();
    for file in text_files() {
        for (index, line) in file.text.lines().enumerate() {
            for folder in &folders {
                let mut starts = line.match_indices(folder.as_str()).map(|(at, _)| at);
                // A folder of this name inside another one is none of a machine.
                let is_inside = |at: usize| {
                    let before = line[..at].chars().next_back();
                    before.is_some_and(|c| c.is_alphanumeric() || "._-/>}*".contains(c))
                };
                if starts.any(|at| !is_inside(at)) {
                    complaints.push(format!("{}:{}: {folder}", file.name, index + 1));
                }
            }
        }
    }
    none(&complaints);
}

#[test]
fn pure_crates_ban_the_outside_world() {
    let mut complaints = Vec::new();
    for name in PURE {
        let path = format!("crates/{name}/clippy.toml");
        let text = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
        // A crate's own file replaces the one of the root.
        let needed =
            ["std::time::Instant::now", "std::fs::", "std::net::", "allow-unwrap-in-tests"];
        let missing = needed.iter().filter(|what| !text.contains(**what));
        complaints.extend(missing.map(|what| format!("{path}: says nothing of {what}")));
        let bans = text.lines().filter(|line| line.contains("path ="));
        let bare = bans.filter(|line| !line.contains("reason ="));
        complaints.extend(bare.map(|line| format!("{path}: say what to use instead: {line}")));
    }
    none(&complaints);
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let manifests = files_ending("/Cargo.toml").into_iter();
    let crates = manifests.filter(|file| file.name.starts_with("crates/"));
    let lax = crates.filter(|file| !file.text.contains("[lints]\nworkspace = true"));
    let complaints = lax.map(|file| format!("{}: add `[lints] workspace = true`", file.name));
    none(&complaints.collect::<Vec<_>>());
}
