//! Files in and out: whatever bytes there are, they come back.

use crate::bed::Bed;

/// Keys and values of every kind, as export lines without order.
fn all_kinds(bed: &Bed) {
    let escape = |bytes: &[u8]| base::text::escape(bytes).replace('"', "\\\"");
    let mut script = String::from("begin\n");
    for byte in 0..=255u8 {
        script.push_str(&format!(
            "put \"{}\" \"{}\"\n",
            escape(&[byte]),
            escape(&[byte, b'\n', byte])
        ));
    }
    for (key, value) in [
        ("", ""),
        ("\u{feff}mark", "\u{feff}"),
        (" spaces ", " \t "),
        ("a,b;\"c\"", "\"\"\r\n\"\""),
        ("{\"key\":1}", "\\u0000\\"),
        ("\r", "\r\n"),
        ("🚀", "\u{2028}"),
    ] {
        script.push_str(&format!(
            "put \"{}\" \"{}\"\n",
            escape(key.as_bytes()),
            escape(value.as_bytes())
        ));
    }
    script.push_str("commit\n");
    let said = bed.holm(&["shell"], script.as_bytes());
    assert_eq!(said.code, 0, "{}", String::from_utf8_lossy(&said.out));
}

#[test]
fn what_is_exported_is_imported_byte_for_byte() {
    let bed = Bed::new();
    all_kinds(&bed);
    for (name, value) in [("zeros", vec![0; 8 << 20]), ("ones", vec![0xff; 8 << 20])] {
        assert_eq!(bed.holm(&["put", name, "--file", "-"], &value).code, 0);
    }
    let said = bed.holm(&["put", "more", "--file", "-"], &vec![0; (8 << 20) + 1]);
    assert!(said.code == 1 && said.err.contains("8388608 are allowed"), "{said:?}");

    bed.ok(&["export", "all.jsonl"]);
    bed.ok(&["export", "all.csv"]);
    for (file, copy) in [("all.jsonl", "from-jsonl"), ("all.csv", "from-csv")] {
        bed.ok(&["--db", copy, "import", file]);
        bed.ok(&["--db", copy, "export", "again.jsonl"]);
        assert!(bed.read("again.jsonl") == bed.read("all.jsonl"), "{file}");
    }
    assert_eq!(bed.holm(&["get", "zeros", "--raw"], b"").out, vec![0; 8 << 20]);
    assert!(!bed.path.join("all.csv.partial").exists());
}

#[test]
fn exports_are_of_one_moment_even_a_past_one() {
    let bed = Bed::new();
    let acknowledged = bed.ok(&["put", "a", "old"]);
    bed.ok(&["put", "a", "new"]);
    let then = acknowledged.trim().strip_prefix("ok @").unwrap();
    let said = bed.holm(&["export", "--at", then], b"");
    assert_eq!(String::from_utf8_lossy(&said.out), "{\"key\":\"a\",\"value\":\"old\"}\n");
    assert!(said.err.ends_with(&format!("as of @{then}\n")), "{said:?}");
}

#[test]
fn a_line_without_an_end_is_not_held_in_memory() {
    let bed = Bed::new();
    let mut input = b"{\"key\":\"".to_vec();
    input.resize(80 << 20, b'x');
    input.extend_from_slice(b"\n{\"key\":\"a\",\"value\":\"1\"}\n");
    let said = bed.holm(&["import", "-", "--skip-bad"], &input);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("line 1: it has more than"), "{said:?}");
    assert_eq!(bed.ok(&["scan"]), "a\t1\n");
}

#[test]
fn whichever_way_an_import_takes_the_result_is_the_same() {
    let bed = Bed::new();
    // Keys in no order, many of them twice, and some lines that are none.
    let mut lines = String::new();
    for number in 0..5000u32 {
        let key = number.wrapping_mul(2_654_435_761) % 3000;
        lines.push_str(&format!("{{\"key\":\"k{key}\",\"value\":\"v{number}\"}}\n"));
        if number % 1000 == 7 {
            lines.push_str("nonsense\n");
        }
    }
    bed.write("all.jsonl", &lines);
    let ways: [&[&str]; 4] = [
        &["--batches"],
        &[],
        // A run for some thirty records: two generations of them.
        &["--sort-memory", "3KiB"],
        &["--sort-memory", "64KiB", "--tmp", "tmp"],
    ];
    std::fs::create_dir(bed.path.join("tmp")).unwrap();
    let mut results = Vec::new();
    for (number, way) in ways.iter().enumerate() {
        let db = format!("db{number}");
        let import = ["--db", &db, "import", "all.jsonl", "--skip-bad", "-o", "json"];
        let said = bed.holm(&[&import, *way].concat(), b"");
        assert_eq!((said.code, said.err.lines().count()), (0, 5), "{way:?}: {said:?}");
        bed.ok(&["--db", &db, "export", "found.jsonl"]);
        bed.ok(&["--db", &db, "verify"]);
        results.push((said.out, bed.read("found.jsonl")));
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(std::fs::read_dir(bed.path.join("tmp")).unwrap().count(), 0);

    // A line that is none ends it, and of a bulk load nothing is there then.
    let said = bed.holm(&["--db", "none", "import", "all.jsonl"], b"");
    assert!(said.code == 1 && said.err.contains("nothing was imported"), "{said:?}");
    assert_eq!(bed.ok(&["--db", "none", "scan"]), "");
    // The same file again, over what is there, comes in batches.
    bed.ok(&["--db", "db1", "import", "all.jsonl", "--skip-bad"]);
    bed.ok(&["--db", "db1", "export", "found.jsonl"]);
    assert!(bed.read("found.jsonl") == results[0].1);
}

#[test]
fn packages_are_imported_and_queried() {
    let bed = Bed::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/packages.jsonl");
    assert_eq!(
        bed.ok(&["import", file, "--key", "package"]),
        "imported 200 records into default\n"
    );
    let line = std::fs::read_to_string(file).unwrap();
    let line = line.lines().find(|line| line.starts_with("{\"package\":\"ripgrep\"")).unwrap();
    // The record is the value, as it stood in its line.
    assert_eq!(bed.holm(&["get", "ripgrep", "--raw"], b"").out, line.as_bytes());
}
