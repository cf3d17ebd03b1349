//! The program killed in the middle.

use std::fmt::Write as _;
use std::io::Write;

use crate::bed::Bed;

#[test]
fn an_import_that_was_killed_goes_on() {
    let bed = Bed::new();
    let mut lines = String::new();
    for number in 0..20_000 {
        writeln!(lines, "{{\"key\":\"k{number:05}\",\"value\":\"v{number}\"}}").unwrap();
    }
    bed.write("all.jsonl", &lines);
    // Wherever it is when it is killed, the rest completes it. It cannot end before it is killed:
    // its input stays open.
    let places = [0, 100_000, 400_000, lines.len()];
    let ways = places.into_iter().flat_map(|bytes| [(bytes, true), (bytes, false)]);
    for (bytes, in_batches) in ways {
        let db = format!("killed-after-{bytes}-{in_batches}");
        let mut arguments = vec!["--db", &db, "import", "-"];
        arguments.extend(in_batches.then_some("--batches"));
        let mut import = bed.start(&arguments);
        let mut stdin = import.stdin.take().unwrap();
        stdin.write_all(&lines.as_bytes()[..bytes]).unwrap();
        import.kill().unwrap();
        import.wait().unwrap();
        drop(stdin);

        let said =
            bed.holm(&["--db", &db, "import", "-", "--continue", "-o", "json"], lines.as_bytes());
        assert_eq!(said.code, 0, "{said:?}");
        let out = String::from_utf8(said.out).unwrap();
        assert!(out.starts_with("{\"records\":20000,\"continued_after\":"), "{out}");
        bed.ok(&["--db", &db, "export", "found.jsonl"]);
        assert!(bed.read("found.jsonl") == lines.as_bytes(), "killed after {bytes} bytes");
    }
}

#[test]
fn what_the_shell_acknowledged_survives_its_death() {
    let bed = Bed::new();
    let mut shell = bed.start(&["shell"]);
    let mut stdin = shell.stdin.take().unwrap();
    let mut answers = std::io::BufReader::new(shell.stdout.take().unwrap());
    for number in 0..20 {
        writeln!(stdin, "put k{number} v{number}").unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut answers, &mut line).unwrap();
        assert!(line.starts_with("ok @"), "{line}");
    }
    // An open transaction is nobody's promise.
    write!(stdin, "begin\nput k0 changed\n").unwrap();
    for _ in 0..2 {
        std::io::BufRead::read_line(&mut answers, &mut String::new()).unwrap();
    }
    shell.kill().unwrap();
    shell.wait().unwrap();
    for number in 0..20 {
        assert_eq!(bed.ok(&["get", &format!("k{number}")]), format!("v{number}\n"));
    }
}

#[test]
fn the_demo_loses_no_coin() {
    let bed = Bed::new();
    let arguments = ["demo", "--seconds", "1", "--kills", "3", "--seed", "7", "-o", "json"];
    let result = bed.ok(&arguments);
    for part in
        ["\"kills_survived\":3", "\"lost\":0", "\"total_always_exact\":true", "\"wrong\":[]"]
    {
        assert!(result.contains(part), "{result}");
    }
    // Nothing is left behind.
    assert_eq!(std::fs::read_dir(&bed.path).unwrap().count(), 0);
}

#[test]
fn a_few_kills_tear_nothing() {
    let bed = Bed::new();
    let result = bed.ok(&["kill-test", "--kills", "6", "--seed", "3", "-o", "json"]);
    assert!(result.contains("\"kills\":6"), "{result}");
}
