//! Runs the program for a few operations of every cell on every store that was compiled in. No
//! figure is asserted: what is held is that every cell works and is reported.

use std::path::PathBuf;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holm-bench")).args(arguments).output().expect("it is built")
}

/// Runs the program, which has to end well, and returns what it printed.
fn ok(arguments: &[&str]) -> String {
    let output = bench(arguments);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}\n{stdout}\n{stderr}");
    stdout
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("holm-bench-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory can be made");
    dir
}

#[test]
fn every_cell_runs_and_is_reported() {
    let dir = scratch("smoke");
    let (json, svg) = (dir.join("results.json"), dir.join("ratios.svg"));
    let [dir_text, json_text, svg_text] =
        [&dir, &json, &svg].map(|path| path.to_str().unwrap().to_owned());
    let stdout = ok(&["--smoke", "--all-cells", "--dir", &dir_text, "--json", &json_text]);
    let compared = ok(&["compare", &json_text, "--svg", &svg_text]);
    let markdown = ok(&["compare", &json_text, "--markdown"]);
    let results = std::fs::read_to_string(&json).unwrap();
    let picture = std::fs::read_to_string(&svg).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();

    assert!(stdout.contains("fdatasync p50"), "the machine is named: {stdout}");
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    let listed = ok(&["--list"]);
    let cells = listed.lines().filter_map(|line| {
        let word = line.split_whitespace().next()?;
        word.split_once('/').map(|(workload, width)| (word, workload, width))
    });
    let mut count = 0;
    for (cell, workload, width) in cells {
        count += 1;
        assert!(stdout.contains(&format!("\n{cell}: ")), "{cell} has a table: {stdout}");
        let labels =
            format!(r#""workload": "{workload}", "width": {width}, "store": "holm", "run": 0"#);
        assert!(results.contains(&labels), "{cell} has its sample: {results}");
        assert!(compared.contains(&format!("{cell} ")), "{cell} is compared: {compared}");
        assert!(markdown.contains(&format!("### {cell}\n")), "{cell} has a heading: {markdown}");
    }
    assert!(count > 40, "{listed}");
}

#[test]
fn variants_run_when_they_are_named() {
    let dir = scratch("variants");
    let stores = "holm-norow,holm-defaults";
    let dir_text = dir.to_str().unwrap();
    let stdout =
        ok(&["--smoke", "--dir", dir_text, "--stores", stores, "--workloads", "get/1,overwrite"]);
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(stdout.contains("\nholm-norow ") && stdout.contains("\nholm-defaults "), "{stdout}");
    assert!(!stdout.contains("\nholm "), "{stdout}");
}

#[test]
fn unknown_names_are_refused() {
    for arguments in [["--workloads", "comits"], ["--stores", "holm-typo"]] {
        let output = bench(&arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("--list"), "{arguments:?}");
    }
}
