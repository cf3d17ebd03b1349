//! Tables against a `BTreeMap`.

use std::collections::BTreeMap;
use std::path::Path;

use base::{KeyRange, Timestamp};
use env::{Disk, OpenMode, SimDisk};

use super::{Entry, Found, Table, TableBuilder, TableOptions, TableSummary};
use crate::Value;

/// Entries in table order: the timestamp is inverted.
type Model = BTreeMap<(Vec<u8>, u64), Option<Vec<u8>>>;

const PATH: &str = "t";

fn value(stored: &Option<Vec<u8>>) -> Value<'_> {
    stored.as_deref().map_or(Value::Tombstone, Value::Put)
}

fn build(disk: &SimDisk, model: &Model, options: TableOptions) -> TableSummary {
    let path = Path::new(PATH);
    let mut builder =
        TableBuilder::new(disk.open(path, OpenMode::CreateNew).unwrap(), path, options);
    for ((key, inverted_ts), stored) in model {
        builder.add(key, Timestamp::from_raw(!inverted_ts), value(stored)).unwrap();
    }
    builder.finish().unwrap()
}

fn owned(entry: Entry<'_>) -> ((Vec<u8>, u64), Option<Vec<u8>>) {
    ((entry.key.to_vec(), !entry.ts.raw()), entry.value.as_put().map(<[u8]>::to_vec))
}

#[test]
fn smoke() {
    let disk = SimDisk::new();
    let mut model = Model::new();
    for n in 0..20_000u64 {
        for v in 0..n % 3 + 1 {
            let value = (v != 1).then(|| format!("value {n}").into_bytes());
            model.insert((format!("key{:06}", n * 7).into_bytes(), !(1000 + v * 10)), value);
        }
    }
    let summary = build(&disk, &model, TableOptions::default());
    let table = Table::open(&disk, Path::new(PATH)).unwrap();
    assert_eq!(table.properties(), &summary.properties);
    println!("{summary:?} {:?}", table.verify().unwrap());
    let mut scan = table.scan(KeyRange::all());
    let mut found = Model::new();
    while let Some(entry) = scan.next().unwrap() {
        found.extend([owned(entry)]);
    }
    assert!(found == model);
    let mut scan = table.scan_reverse(KeyRange::all());
    let mut expected = model.iter().rev();
    while let Some(entry) = scan.next().unwrap() {
        let (k, v) = expected.next().unwrap();
        assert_eq!(owned(entry), (k.clone(), v.clone()));
    }
    assert!(expected.next().is_none());
    for ((key, ts), v) in &model {
        let f = table.get(key, Timestamp::from_raw(!ts)).unwrap();
        let v = v.clone().map(|v| v.into());
        assert_eq!(f, Some(Found { ts: Timestamp::from_raw(!ts), value: v }));
    }
}
