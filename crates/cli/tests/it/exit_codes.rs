//! The exit codes that need more than a command line.

use std::io::{BufRead, BufReader, Read, Write};

use base::checksum;

use crate::bed::Bed;

#[test]
fn a_database_that_is_open_elsewhere_is_locked() {
    let bed = Bed::new();
    let mut shell = bed.start(&["shell"]);
    let mut stdin = shell.stdin.take().unwrap();
    stdin.write_all(b"put a 1\n").unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("ok @"), "{line}");

    let said = bed.holm(&["get", "a"], b"");
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains(&format!("pid {}", shell.id())), "{said:?}");
    // Looking at files needs no lock.
    assert!(bed.ok(&["inspect", "wal"]).contains("transaction"));

    drop(stdin);
    assert!(shell.wait().unwrap().success());
    assert_eq!(bed.ok(&["get", "a"]), "1\n");
}

#[test]
fn a_newer_format_is_refused() {
    let bed = Bed::new();
    bed.ok(&["put", "a", "1"]);
    let head = "holm format 99\nid 00112233445566778899aabbccddeeff\n";
    let crc = checksum::of(&[head.as_bytes()]);
    bed.write("holm-data/FORMAT", format!("{head}crc32c {crc:08x}\n"));
    let said = bed.holm(&["get", "a"], b"");
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.err.contains("use a newer program"), "{said:?}");
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let bed = Bed::new();
    let puts: String = (0..4000).map(|i| format!("put key{i:04} {}\n", "v".repeat(100))).collect();
    let script = format!("begin\n{puts}commit\n");
    assert_eq!(bed.holm(&["shell"], script.as_bytes()).code, 0);
    for arguments in [&["scan"][..], &["export"], &["export", "--format", "csv"]] {
        let mut child = bed.start(arguments);
        // 400 KB do not fit into a pipe, so the program is still writing when this end is closed.
        let mut some = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut some).unwrap();
        let said = crate::bed::Said::from(child.wait_with_output().unwrap());
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn help_completions_and_manuals_are_there() {
    let bed = Bed::new();
    for command in
        ["get", "put", "delete", "scan", "shell", "import", "export", "stats", "verify", "inspect"]
            .iter()
            .chain(&["repair", "demo", "completions", "man", "bench"])
    {
        assert!(bed.ok(&[command, "--help"]).contains("Usage:"), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(bed.ok(&["completions", shell]).contains("verify"), "{shell}");
    }
    assert!(bed.ok(&["man"]).starts_with(".ie"));
    bed.ok(&["man", "pages"]);
    assert!(bed.path.join("pages/holm-scan.1").exists());
    assert!(bed.ok(&["bench", "--list"]).contains("commits"));
    // Before the command and after it, as with all others.
    for arguments in [["-o", "json", "bench", "--list"], ["bench", "--list", "-o", "json"]] {
        assert!(bed.ok(&arguments).starts_with("{\"stores\": {\"holm\": "), "{arguments:?}");
    }
}
