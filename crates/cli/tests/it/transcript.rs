//! Transcripts of sessions at a terminal, run again and compared.
//!
//! ```text
//! # A line of text.
//! $ holm put a 1            a command for sh; its next lines begin with "> "
//! ok @T                     what it said on both outputs, numbers that differ each time replaced
//! $ holm get b
//! [1]                       its exit code, if that is not 0
//! ```
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p cli transcripts` writes the answers anew.

use std::path::Path;

use crate::bed::Bed;

#[test]
fn transcripts_say_what_the_program_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/transcripts");
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 6, "the transcripts are missing: {paths:?}");
    let mut failed = Vec::new();
    for path in paths {
        let written = std::fs::read_to_string(&path).unwrap();
        let found = run(&written);
        if found == written {
            continue;
        }
        if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
            std::fs::write(&path, &found).unwrap();
            continue;
        }
        let line =
            found.lines().zip(written.lines()).take_while(|(found, old)| found == old).count();
        failed.push(format!(
            "{}:{}: it says {:?}, not {:?}",
            path.display(),
            line + 1,
            found.lines().nth(line).unwrap_or_default(),
            written.lines().nth(line).unwrap_or_default()
        ));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Returns the transcript with what its commands say now.
fn run(transcript: &str) -> String {
    let bed = Bed::new();
    let mut out = String::new();
    let mut lines = transcript.lines().peekable();
    while let Some(line) = lines.next() {
        // Answers are made anew.
        if !(line.starts_with("$ ") || line.starts_with('#') || line.is_empty()) {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let mut command = command.to_string();
        while let Some(more) = lines.next_if(|line| line.starts_with("> ") || *line == ">") {
            out.push_str(more);
            out.push('\n');
            command.push('\n');
            command.push_str(more.strip_prefix("> ").unwrap_or_default());
        }
        out.push_str(&answer(&bed, &command));
    }
    out
}

fn answer(bed: &Bed, command: &str) -> String {
    let output = bed.sh(command);
    let mut said = without_timestamps(&String::from_utf8_lossy(&output.stdout));
    if !said.is_empty() && !said.ends_with('\n') {
        said.push('\n');
    }
    // An empty line of an answer must not look like one of the transcript's own.
    said = said
        .lines()
        .map(|line| if line.is_empty() { "|\n".into() } else { format!("{line}\n") })
        .collect();
    if !output.status.success() {
        said.push_str(&format!("[{}]\n", output.status.code().unwrap_or(-1)));
    }
    said
}

/// Replaces timestamps, of 18 digits as long as we live, by `T`, database ids by `ID`, process ids
/// by `P`.
fn without_timestamps(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let is_number = rest[..word].bytes().all(|byte| byte.is_ascii_digit());
        let (taken, shown) = match word {
            18 if is_number => (word, "T"),
            32 => (word, "ID"),
            0 => (first.len_utf8(), &rest[..first.len_utf8()]),
            _ if is_number && out.ends_with("pid ") => (word, "P"),
            _ => (word, &rest[..word]),
        };
        out.push_str(shown);
        rest = &rest[taken..];
    }
    out
}
