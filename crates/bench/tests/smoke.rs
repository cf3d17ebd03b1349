//! Runs the program for a few operations of every cell on every store that was compiled in. No
//! figure is asserted: what is held is that every cell works and is reported.

use std::process::Command;

#[test]
fn every_cell_runs_and_is_reported() {
    let dir = std::env::temp_dir().join(format!("holm-bench-smoke-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let json = dir.join("results.json");
    let output = Command::new(env!("CARGO_BIN_EXE_holm-bench"))
        .args(["--runs", "2", "--records", "3000", "--memory", "160", "--all-cells"])
        .args(["--seconds", "10", "--warm-up", "0", "--ops", "64"])
        .arg("--dir")
        .arg(&dir)
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let results = std::fs::read_to_string(&json).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();

    assert!(stdout.contains("fdatasync p50"), "the machine is named: {stdout}");
    let cells = ["load/1", "get/2", "get-view/1", "absent/1", "scan/1", "rmw/8", "commits/64"];
    for cell in cells {
        assert!(stdout.contains(&format!("\n{cell}: ")), "{cell} has a table: {stdout}");
        let (workload, width) = cell.split_once('/').unwrap();
        let labels =
            format!(r#""workload": "{workload}", "width": {width}, "store": "hash map", "run": 1"#);
        assert!(results.contains(&labels), "{cell} has its samples: {results}");
    }
}

#[test]
fn unknown_names_are_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_holm-bench"))
        .args(["--workloads", "commit"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("--list"));
}
