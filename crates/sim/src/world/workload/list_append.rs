//! Lists that transactions read and append to: every read shows the whole past of its key.

use bytes::Bytes;

use super::{Workload, record, think, verdict};
use crate::checker::{Level, Options, list_append, timestamps};
use crate::history::{History, Op, Outcome};
use crate::world::client::{Client, Program, Snapshot};
use crate::world::judge::Violation;

/// Lists in use at a time: few, so that transactions meet.
const LISTS: u64 = 4;

/// How long a list may become before another one takes its place: they are copied whole.
const ELEMENTS_MAX: usize = 40;

/// Transactions over several lists; checked for all anomalies of Adya, in real time.
#[derive(Debug, Clone, Copy)]
pub struct ListAppendWorkload;

impl Workload for ListAppendWorkload {
    fn client(&self, client: Client) -> Program {
        Box::pin(run(client))
    }

    fn check(&self, history: &History) -> Result<(), Violation> {
        let options = Options::at(Level::StrictSerializable);
        verdict(&list_append::check(history, &options))?;
        verdict(&timestamps::check(history, &options))
    }
}

async fn run(client: Client) {
    let mut session = client.number();
    let mut element = client.number() * 1_000_000;
    // Which list is in use in each place.
    let mut rounds = [0; LISTS as usize];
    while !client.is_closing() {
        let first = client.random(LISTS);
        let second = client.random(LISTS);
        let places = if first == second { vec![first] } else { vec![first, second] };
        let names = places.iter().map(|place| format!("l{place}-{}", rounds[*place as usize]));
        let names: Vec<_> = names.collect();
        let appends = client.random(3);
        let read = transaction(&client, &mut session, &names, appends, &mut element).await;
        for (place, list) in places.iter().zip(read) {
            if list.len() >= ELEMENTS_MAX {
                rounds[*place as usize] += 1;
            }
        }
        think(&client).await;
    }
    if client.number() == 1 {
        for place in 0..LISTS {
            let names = (0..=rounds[place as usize]).map(|round| format!("l{place}-{round}"));
            let names: Vec<_> = names.collect();
            transaction(&client, &mut session, &names, 0, &mut element).await;
        }
    }
}

/// Reads all, appends to some of them. Returns what was read.
async fn transaction(
    client: &Client,
    session: &mut u64,
    names: &[String],
    appends: u64,
    element: &mut u64,
) -> Vec<Vec<u64>> {
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let txn = client.recorder().begin(*session);
    let Ok(Snapshot { read_ts, values }) = client.read(&keys).await else {
        client.recorder().end(txn, Outcome::Aborted);
        return Vec::new();
    };
    client.recorder().read_ts(txn, read_ts);
    let lists: Vec<Vec<u64>> = values.iter().map(|value| decode(value.as_ref())).collect();
    for (name, list) in names.iter().zip(&lists) {
        client.recorder().op(txn, Op::read_list(name, list.clone()));
    }
    let mut writes = Vec::new();
    for (name, list) in names.iter().zip(&lists).take(appends as usize) {
        *element += 1;
        client.recorder().op(txn, Op::append(name, *element));
        let all = list.iter().chain([&*element]);
        writes.push((name, all.flat_map(|element| element.to_le_bytes()).collect::<Vec<u8>>()));
    }
    if writes.is_empty() {
        client.recorder().end(txn, Outcome::Committed);
        return lists;
    }
    let writes: Vec<_> =
        writes.iter().map(|(name, list)| (name.as_str(), Some(list.as_slice()))).collect();
    let result = client.commit(read_ts, &keys, &writes).await;
    record(client, session, txn, result);
    lists
}

fn decode(value: Option<&Bytes>) -> Vec<u64> {
    let bytes = value.map_or(&[][..], |bytes| bytes);
    let elements = bytes.chunks_exact(8).map(|chunk| chunk.try_into());
    elements.filter_map(Result::ok).map(u64::from_le_bytes).collect()
}
