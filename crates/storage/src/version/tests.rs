//! Versions against a map of everything, and what becomes of files.

use proptest::prelude::*;

use super::fixture::{Fixture, Versions, position};
use super::*;
use crate::directory::FileId;
use crate::iterator::{Cursor, Merge};
use crate::table::key_hash;

fn ts(raw: u64) -> Timestamp {
    Timestamp::from_raw(raw)
}

/// Runs from the oldest to the newest, of few keys; how many tables each is cut into.
fn runs() -> impl Strategy<Value = Vec<(Versions, usize)>> {
    let version = (0..30u8, prop::option::weighted(0.8, any::<u8>()));
    let run = (prop::collection::vec(version, 1..25), 1..4usize);
    prop::collection::vec(run, 1..7).prop_map(|runs| {
        let mut now = 0;
        let mut number = |(key, value): (u8, Option<u8>)| {
            now += 2;
            (position(&[b'k', key], now), value.map(|value| vec![value]))
        };
        let runs = runs.into_iter();
        runs.map(|(run, tables)| (run.into_iter().map(&mut number).collect(), tables)).collect()
    })
}

proptest! {
    #[test]
    fn a_version_answers_as_a_map(runs in runs()) {
        let mut fixture = Fixture::new();
        let mut all = Versions::new();
        for (versions, tables) in &runs {
            fixture.add_run(versions, *tables);
            all.extend(versions.clone());
        }
        // The oldest run becomes a deeper level: a move.
        let oldest = fixture.version.tree(TreeId::DEFAULT).unwrap().levels[0].runs.last().cloned();
        let metas = oldest.iter().flat_map(Run::tables).map(|table| TableMeta::clone(&table.meta));
        let metas: Vec<TableMeta> = metas.collect();
        fixture.apply(&Edit {
            removed: metas.iter().map(|meta| meta.number).collect(),
            added: metas.into_iter().map(|meta| TableMeta { level: 6, ..meta }).collect(),
            ..Edit::default()
        });
        let version = &fixture.version;
        prop_assert_eq!(version.check_invariants(), Ok(()));
        prop_assert_eq!(version.graveyard().drain(), Vec::<FileId>::new());
        for key in 0..31 {
            let key = [b'k', key];
            for at in 0..=2 * all.len() as u64 + 1 {
                let expected = all.range(position(&key, at)..).next();
                let expected = expected.filter(|((found, _), _)| *found == key);
                let found = version.get(&key, key_hash(&key), ts(at)).unwrap();
                let found = found.map(|found| (found.ts.raw(), found.value.map(|v| v.to_vec())));
                let expected = expected.map(|((_, inverted), value)| (!inverted, value.clone()));
                prop_assert_eq!(found, expected);

                let newest = all.range(position(&key, u64::MAX)..).next();
                let newest = newest.filter(|((found, _), _)| *found == key);
                let newest = newest.map(|((_, inverted), _)| !inverted).filter(|&ts| ts > at);
                let found = version.newest(&key, key_hash(&key), ts(at)).unwrap();
                prop_assert_eq!(found.map(Timestamp::raw), newest);
            }
        }
        // What was moved is as alive as the rest.
        drop(oldest);
        let graveyard = Arc::clone(version.graveyard());
        drop(fixture);
        prop_assert_eq!(graveyard.drain(), Vec::<FileId>::new());
    }

    #[test]
    fn a_run_finds_the_table_of_a_key(
        mut keys in prop::collection::btree_set(prop::collection::vec(any::<u8>(), 0..12), 2..20),
        wanted in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 1..20),
        prefix in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        keys = keys.into_iter().map(|key| [&prefix[..], &key].concat()).collect();
        let mut fixture = Fixture::new();
        let versions: Versions = keys.iter().map(|key| (position(key, 1), None)).collect();
        fixture.add_run(&versions, keys.len());
        let run = &fixture.version.tree(TreeId::DEFAULT).unwrap().runs()[0];
        prop_assert_eq!(run.tables().len(), keys.len());
        let prefixed = wanted.iter().map(|key| [&prefix[..], key].concat());
        for key in prefixed.chain(wanted.clone()).chain(keys.iter().cloned()) {
            let expected = keys.iter().take_while(|of| **of < key).count();
            prop_assert_eq!(run.position_of(&key), expected);
            prop_assert_eq!(run.find(&key).is_some(), keys.contains(&key));
        }
    }
}

#[test]
fn a_file_is_buried_when_the_last_reader_lets_go() {
    let mut fixture = Fixture::new();
    let run: Versions = [(position(b"a", 1), None)].into();
    fixture.add_run(&run, 1);
    let old = fixture.version.clone();
    let mut cursor = Merge::new(old.cursors(&KeyRange::all(), Timestamp::MAX));
    let number = old.tables().next().unwrap().meta.number;
    fixture.apply(&Edit { removed: vec![number], ..Edit::default() });
    let graveyard = Arc::clone(fixture.version.graveyard());
    assert!(graveyard.drain().is_empty());
    drop(old);
    assert!(cursor.seek_first().unwrap());
    assert!(graveyard.drain().is_empty(), "the cursor still reads it");
    drop(cursor);
    assert_eq!(graveyard.drain(), [FileId::table(number)]);
}

#[test]
fn a_version_that_is_only_let_go_buries_nothing() {
    let mut fixture = Fixture::new();
    fixture.add_run(&[(position(b"a", 1), None)].into(), 1);
    let graveyard = Arc::clone(fixture.version.graveyard());
    drop(fixture);
    assert!(graveyard.drain().is_empty());
}

#[test]
fn what_cannot_be_is_noticed() {
    let mut fixture = Fixture::new();
    let low = fixture.table(5, 1, &[(b"a", 1, None), (b"f", 1, None)], None);
    let high = fixture.table(5, 2, &[(b"f", 2, None), (b"k", 1, None)], None);
    let check = |fixture: &Fixture, added: Vec<TableMeta>, what: &str| {
        let state = State {
            tables: added.into_iter().map(|meta| (meta.number, meta)).collect(),
            styles: [(TreeId(3), Style::Tiered)].into(),
            ..State::default()
        };
        let graveyard = Arc::new(Graveyard::default());
        // Debug builds would stop in the middle.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Version::open(
                &state,
                graveyard,
                |meta| Ok(fixture.open(meta.number)),
                |_| unreachable!("there are no value files"),
            )
        }));
        let message = match opened {
            Ok(opened) => opened.err().unwrap().to_string(),
            Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_default(),
        };
        assert!(message.contains(what), "{message}");
    };
    check(&fixture, vec![low.clone(), high.clone()], "overlap");
    let at_top = |meta: &TableMeta, run| TableMeta { level: 0, run, ..meta.clone() };
    let stranger = TableMeta { tree: TreeId(3), ..at_top(&low, 9) };
    check(&fixture, vec![stranger], "not those of its tree");
}

#[test]
fn keys_go_to_the_trees_of_their_keyspaces() {
    let version = Version::empty(Arc::new(Graveyard::default()));
    let styles = vec![(TreeId(4), Style::Tiered), (TreeId(7), Style::Leveled)];
    let version = version.apply(&Edit { styles, ..Edit::default() }, Opened::default());
    let tree_of = |keyspace| version.tree_of(&KeyspaceId(keyspace).encode(b"key")).id.0;
    assert_eq!([0, 3, 4, 5, 7, 8].map(tree_of), [0, 0, 4, 0, 7, 0]);
    assert_eq!(version.tree_of(b"").id, TreeId::DEFAULT);
}
