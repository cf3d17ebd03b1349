//! Runs the walk of README.md, line by line, on the small piece of its data in `testdata/`.
//!
//! In a `console` block a line that begins with `$ ` is a command for `sh`, and the lines after it
//! are what it prints. They have to be the same, with three exceptions:
//!
//! * a number with a thousands separator stands for any number: the piece is smaller;
//! * a number of 15 digits or more stands for any timestamp, but always for the same one: where a
//!   later command names it, the one that was really printed is put there;
//! * runs of spaces are one space.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::bed::Bed;

#[test]
fn every_line_of_the_walk_is_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let steps = steps(&fs::read_to_string(root.join("README.md")).unwrap());
    assert!(steps.len() > 10, "README.md has lost its walk: {steps:?}");

    let bed = folder_like_the_root(&root);
    let mut timestamps = BTreeMap::new();
    for Step { line, command, promised } in steps {
        let command = replace_all(&command, &timestamps);
        let printed = printed_by(&bed, &command);
        let agree = printed.len() == promised.len()
            && printed.iter().zip(&promised).all(|(a, b)| is_like(a, b, &mut timestamps));
        assert!(
            agree,
            "README.md:{line}: $ {command}\nREADME.md says:\n{}\nbut it prints:\n{}\n",
            promised.join("\n"),
            printed.join("\n")
        );
    }
}

/// A command, and what README.md says that it prints.
#[derive(Debug)]
struct Step {
    line: usize,
    command: String,
    promised: Vec<String>,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_console = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            is_console = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| is_console) {
            steps.push(Step { line: index + 1, command: command.into(), promised: Vec::new() });
        } else if is_console {
            let step = steps.last_mut().expect("a block begins with a command");
            step.promised.push(line.to_string());
        }
    }
    steps
}

/// Returns a folder that looks like the root of the repository, but has the small piece of data.
fn folder_like_the_root(root: &Path) -> Bed {
    let bed = Bed::new();
    let data = fs::canonicalize(root.join("testdata")).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n--depends) cat '{0}/depends.jsonl' ;;\n\
         '') cat '{0}/packages.jsonl' ;;\n*) exit 2 ;;\nesac\n",
        data.display()
    );
    fs::create_dir(bed.path.join("scripts")).unwrap();
    let name = bed.path.join("scripts/package-index");
    fs::write(&name, script).unwrap();
    fs::set_permissions(&name, fs::Permissions::from_mode(0o755)).unwrap();
    bed
}

fn printed_by(bed: &Bed, command: &str) -> Vec<String> {
    let text = String::from_utf8(bed.sh(command).stdout).unwrap();
    // Some shells remark that a process was killed, some do not.
    text.lines().filter(|line| *line != "Killed").map(str::to_string).collect()
}

/// A piece of a line: a number, or what stands between two of them.
#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Number(&'a str),
    Text(&'a str),
}

fn pieces(line: &str) -> Vec<Piece<'_>> {
    let is_number = |c: char| c.is_ascii_digit() || c == ',';
    let mut pieces = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        // A comma alone is no number.
        let is_first = first.is_ascii_digit();
        let same = |c: char| if is_first { is_number(c) } else { !c.is_ascii_digit() };
        let (piece, after) = rest.split_at(rest.find(|c| !same(c)).unwrap_or(rest.len()));
        pieces.push(if is_first { Piece::Number(piece) } else { Piece::Text(piece) });
        rest = after;
    }
    pieces
}

/// Returns true if a printed line is what was promised; takes note of timestamps.
fn is_like(printed: &str, promised: &str, timestamps: &mut BTreeMap<String, String>) -> bool {
    let spaces = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (printed, promised) = (spaces(printed), spaces(promised));
    let (printed, promised) = (pieces(&printed), pieces(&promised));
    printed.len() == promised.len()
        && printed.iter().zip(&promised).all(|pair| match pair {
            (Piece::Number(real), Piece::Number(said)) if is_timestamp(said) => {
                is_timestamp(real)
                    && timestamps.entry(said.to_string()).or_insert(real.to_string()) == real
            }
            (Piece::Number(_), Piece::Number(said)) if has_separator(said) => true,
            (real, said) => real == said,
        })
}

fn is_timestamp(number: &str) -> bool {
    number.len() >= 15 && !number.contains(',')
}

fn has_separator(number: &str) -> bool {
    let groups: Vec<_> = number.split(',').collect();
    groups.len() > 1 && groups[1..].iter().all(|group| group.len() == 3)
}

fn replace_all(command: &str, timestamps: &BTreeMap<String, String>) -> String {
    timestamps.iter().fold(command.to_string(), |command, (said, real)| command.replace(said, real))
}

#[test]
fn lines_are_compared_as_the_header_says() {
    let check = |printed, promised| is_like(printed, promised, &mut BTreeMap::new());
    assert!(check("imported 200 records", "imported 63,666 records"));
    assert!(!check("imported 200 rows", "imported 63,666 records"));
    assert!(check("ok @111111111111111111", "ok @222222222222222222"));
    assert!(!check("ok @1", "ok @222222222222222222"));
    assert!(!check("5.2.15-2+b13", "5.2.15-2+b14"));
    assert!(check("a  b", "a b"));

    let mut timestamps = BTreeMap::new();
    assert!(is_like("@111111111111111111", "@222222222222222222", &mut timestamps));
    assert!(!is_like("@111111111111111112", "@222222222222222222", &mut timestamps));
    assert_eq!(replace_all("--at 222222222222222222", &timestamps), "--at 111111111111111111");
}
