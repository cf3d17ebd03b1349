//! Columns, ratios and what is made of files that are none.

use super::*;

/// A results file of one cell: stores with their roles, rates and ratios.
fn results(name: &str, cell: &str, rows: &[(&str, &str, f64, Option<f64>)]) -> PathBuf {
    let (workload, width) = cell.split_once('/').unwrap();
    let row = |(store, role, rate, of_best): &(&str, &str, f64, Option<f64>)| {
        Json::object([
            ("workload", Json::from(workload)),
            ("width", Json::from(width.parse::<f64>().unwrap())),
            ("store", Json::from(*store)),
            ("role", Json::from(*role)),
            ("of_best_peer", Json::from(*of_best)),
            ("ops_per_s", Json::from(*rate)),
        ])
    };
    let medians = Json::List(rows.iter().map(row).collect());
    let dir = std::env::temp_dir().join(format!("holm-bench-compare-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join(format!("{name}.json"));
    fs::write(&path, Json::object([("medians", medians)]).to_string()).unwrap();
    path
}

fn compare(files: Vec<PathBuf>) -> Compare {
    Compare { files, svg: None, markdown: false }
}

#[test]
fn files_with_other_cells_are_one_column() {
    let peers = [("rocksdb", "peer", 100.0, Some(1.0)), ("holm", "ours", 150.0, Some(1.6))];
    let get = results("one-get", "get/1", &peers);
    let scan = results("one-scan", "scan/1", &peers);
    let drawn = compare(vec![get, scan]).run().unwrap();
    let expected = "\
cell    best peer  ops/s  Holm  ratio  target
get/1     rocksdb    100   150   1.60    2.00
scan/1    rocksdb    100   150   1.60    1.00
";
    assert_eq!(drawn, expected);
}

#[test]
fn a_file_that_measures_again_is_the_next_column() {
    let before = results(
        "before",
        "get/1",
        &[
            ("fjall-plain", "plain peer", 200.0, Some(1.0)),
            ("lmdb", "peer", 100.0, Some(0.5)),
            ("holm", "ours", 150.0, Some(0.8)),
            ("holm-norow", "variant", 50.0, Some(0.25)),
        ],
    );
    // Without peers: the ratio is to the best of the file before.
    let after = results("after", "get/1", &[("holm", "ours", 300.0, None)]);
    let drawn = compare(vec![before, after]).run().unwrap();
    let expected = "\
cell                 best peer  ops/s  Holm before  ratio  Holm after  ratio  target
get/1              fjall-plain    200          150   0.80         300   1.50    2.00
get/1 holm-norow  fjall-plain    200           50   0.25           -      -       -
";
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&drawn), words(expected));
}

#[test]
fn some_cells_are_also_held_against_their_own_kind() {
    let file = results(
        "kind",
        "scan-all/1",
        &[
            ("lmdb", "peer", 200.0, Some(1.0)),
            ("rocksdb", "peer", 50.0, Some(0.25)),
            ("surrealkv", "peer", 80.0, Some(0.4)),
            ("holm", "ours", 120.0, Some(0.6)),
        ],
    );
    let drawn = compare(vec![file]).run().unwrap();
    let expected = "\
cell            best peer  ops/s  Holm  ratio  target
scan-all/1           lmdb    200   120   0.60       -
scan-all/1 LSM  surrealkv     80   120   1.50    1.00
";
    assert_eq!(drawn, expected);
}

#[test]
fn markdown_has_every_store() {
    let file = results(
        "markdown",
        "get/1",
        &[("lmdb", "peer", 100.0, Some(1.0)), ("holm", "ours", 150.0, Some(1.5))],
    );
    let drawn = Compare { markdown: true, ..compare(vec![file]) }.run().unwrap();
    assert!(drawn.contains("### get/1") && drawn.contains("| lmdb | 100 | 1.00 |"), "{drawn}");
}

#[test]
fn a_file_that_is_none_of_results_is_named() {
    let path = results("broken", "get/1", &[]);
    fs::write(&path, "{\"medians\": [").unwrap();
    let error = compare(vec![path]).run().unwrap_err().to_string();
    assert!(error.contains("broken.json"), "{error}");
}

#[test]
fn targets_are_of_cells_that_exist() {
    for (name, _) in TARGETS.into_iter().chain(TARGETS_OF_LOG_STRUCTURED) {
        assert!(Cell::all().iter().any(|cell| cell.name() == name), "{name}");
    }
}
