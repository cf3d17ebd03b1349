//! Registers: keys that hold one number each. Clients read them, write them blindly, and replace
//! what they read.

use bytes::Bytes;

use super::{Workload, record, think, verdict};
use crate::checker::{Level, Options, register, timestamps};
use crate::history::{History, Op, Outcome};
use crate::world::client::{Client, Program, Snapshot};
use crate::world::judge::Violation;

const KEYS: [&str; 5] = ["r0", "r1", "r2", "r3", "r4"];

/// Reads, blind writes, and compare-and-set; checked for cycles in real time.
#[derive(Debug, Clone, Copy)]
pub struct RegisterWorkload;

impl Workload for RegisterWorkload {
    fn client(&self, client: Client) -> Program {
        Box::pin(run(client))
    }

    fn check(&self, history: &History) -> Result<(), Violation> {
        let options = Options::at(Level::StrictSerializable);
        verdict(&register::check(history, &options))?;
        verdict(&timestamps::check(history, &options))
    }
}

async fn run(client: Client) {
    let number = client.number();
    let mut session = number;
    let mut value = number * 1_000_000;
    while !client.is_closing() {
        value += 1;
        let key = KEYS[client.random(KEYS.len() as u64) as usize];
        match client.random(3) {
            0 => read(&client, session, &[key]).await,
            1 => write(&client, &mut session, key, value).await,
            _ => replace(&client, &mut session, key, value).await,
        }
        think(&client).await;
    }
    if number == 1 {
        read(&client, session, &KEYS).await;
    }
}

async fn read(client: &Client, session: u64, keys: &[&str]) {
    let txn = client.recorder().begin(session);
    let snapshot = client.read(keys).await;
    let recorder = client.recorder();
    match snapshot {
        Ok(snapshot) => {
            recorder.read_ts(txn, snapshot.read_ts);
            for (key, value) in keys.iter().zip(&snapshot.values) {
                recorder.op(txn, Op::read(*key, number(value.as_ref())));
            }
            recorder.end(txn, Outcome::Committed);
        }
        Err(_) => recorder.end(txn, Outcome::Aborted),
    }
}

async fn write(client: &Client, session: &mut u64, key: &str, value: u64) {
    let txn = client.recorder().begin(*session);
    client.recorder().op(txn, Op::write(key, value));
    let result = client.commit(0, &[], &[(key, Some(&value.to_le_bytes()))]).await;
    record(client, session, txn, result);
}

async fn replace(client: &Client, session: &mut u64, key: &str, value: u64) {
    let txn = client.recorder().begin(*session);
    let Ok(Snapshot { read_ts, values }) = client.read(&[key]).await else {
        return client.recorder().end(txn, Outcome::Aborted);
    };
    client.recorder().read_ts(txn, read_ts);
    client.recorder().op(txn, Op::read(key, number(values[0].as_ref())));
    client.recorder().op(txn, Op::write(key, value));
    let result = client.commit(read_ts, &[key], &[(key, Some(&value.to_le_bytes()))]).await;
    record(client, session, txn, result);
}

pub(super) fn number(value: Option<&Bytes>) -> Option<u64> {
    let bytes = value?.as_ref().try_into().ok()?;
    Some(u64::from_le_bytes(bytes))
}
