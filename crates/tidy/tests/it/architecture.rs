//! Who may import whom: the table in ARCHITECTURE.md against what Cargo says.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use tidy::root;

use crate::none;

/// A crate's imports from the workspace: those of the crate, and those of its tests only.
#[derive(Debug, Default, PartialEq, Eq)]
struct Imports {
    normal: BTreeSet<String>,
    dev: BTreeSet<String>,
}

#[test]
fn the_import_table_is_what_cargo_says() {
    let said = table(&std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    let real = metadata();
    let mut complaints = Vec::new();
    for (name, imports) in &real {
        match said.get(name) {
            None => complaints.push(format!("{name}: not in the import table: {imports:?}")),
            Some(row) if row != imports => complaints.push(format!(
                "{name}: the import table has {row:?}, its Cargo.toml {imports:?}: a new edge is a \
                 decision about the design, so change both or neither"
            )),
            Some(_) => {}
        }
    }
    let gone = said.keys().filter(|name| !real.contains_key(*name));
    complaints.extend(gone.map(|name| format!("{name}: in the import table, but not a crate")));
    none(&complaints);
}

#[test]
fn nobody_but_the_program_imports_the_ends() {
    // Not in the table's power: it could be changed together with a manifest.
    const ENDS: [&str; 3] = ["bench", "cli", "tidy"];
    let mut complaints = Vec::new();
    for (name, imports) in metadata() {
        let ends = imports.normal.union(&imports.dev).filter(|to| ENDS.contains(&to.as_str()));
        let forbidden = ends.filter(|to| name != "cli" || to.as_str() == "tidy");
        complaints.extend(forbidden.map(|to| format!("{name} must not import {to}")));
        if name == "base" && !(imports.normal.is_empty() && imports.dev.is_empty()) {
            complaints.push("base must not import any crate of the workspace".to_string());
        }
    }
    none(&complaints);
}

/// Reads the rows `| crate | imports | imports of its tests |` of the table.
fn table(text: &str) -> BTreeMap<String, Imports> {
    let (_, section) = text.split_once("## Who may import whom").expect("a section of this name");
    let rows = section.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        let [name, normal, dev] = cells[..] else { panic!("three cells are wanted: {row}") };
        let names = |cell: &str| cell.split_whitespace().map(unquoted).filter(is_name).collect();
        (unquoted(name.trim()), Imports { normal: names(normal), dev: names(dev) })
    })
    .collect()
}

fn unquoted(name: &str) -> String {
    name.trim_matches('`').to_string()
}

fn is_name(name: &String) -> bool {
    // A row without imports has a dash.
    name != "–"
}

fn metadata() -> BTreeMap<String, Imports> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_string());
    let out = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name_of = |value: &Value| value["name"].as_str().unwrap().to_string();
    let members: BTreeSet<_> = packages.iter().map(name_of).collect();
    let imports = |package: &Value| {
        let mut imports = Imports::default();
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = name_of(dependency);
            match dependency["kind"].as_str() {
                _ if !members.contains(&name) => continue,
                Some("dev") => imports.dev.insert(name),
                _ => imports.normal.insert(name),
            };
        }
        imports
    };
    packages.iter().map(|package| (name_of(package), imports(package))).collect()
}
