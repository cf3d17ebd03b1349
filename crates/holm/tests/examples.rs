//! Runs every program of `examples/` in a fresh directory and compares what it prints with what its
//! header says.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn every_example_prints_what_its_header_says() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut names: Vec<String> = fs::read_dir(&sources)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string())
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for name in names {
        let source = fs::read_to_string(sources.join(format!("{name}.rs"))).unwrap();
        assert_eq!(run(&name), promised(&source), "examples/{name}.rs: its header is the left one");
    }
}

/// Returns what an example prints.
fn run(name: &str) -> String {
    let program = built().join(name);
    assert!(
        program.exists(),
        "{name}: not built: `cargo test -p holm` builds examples, `--test examples` does not, \
         or it is no [[example]] in crates/holm/Cargo.toml"
    );
    let directory =
        std::env::temp_dir().join(format!("holm-example-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let out = Command::new(program).current_dir(&directory).output().unwrap();
    fs::remove_dir_all(&directory).unwrap();
    assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Returns the text block of an example's header.
fn promised(source: &str) -> String {
    let header = source.lines().map_while(|line| line.strip_prefix("//!"));
    let block = header.skip_while(|line| *line != " ```text").skip(1);
    let block = block.take_while(|line| *line != " ```");
    block.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

/// Returns where Cargo puts examples: beside the folder of this test. `cargo test` builds them
/// first.
fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples")
}
