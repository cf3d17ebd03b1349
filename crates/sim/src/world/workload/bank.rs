//! A bank: clients move money between accounts, and look at all of them.

use super::register::number;
use super::{Workload, record, think, verdict};
use crate::checker::bank::{self, Bank};
use crate::checker::{Level, Options};
use crate::history::{History, Op, Outcome};
use crate::world::client::{Client, Failure, Program, Snapshot};
use crate::world::judge::Violation;

const ACCOUNTS: [&str; 5] = ["a0", "a1", "a2", "a3", "a4"];

/// What each account holds at first.
const BALANCE: u64 = 100;

/// Transfers, and readers who add up.
#[derive(Debug, Clone, Copy)]
pub struct BankWorkload;

impl Workload for BankWorkload {
    fn client(&self, client: Client) -> Program {
        Box::pin(run(client))
    }

    fn check(&self, history: &History) -> Result<(), Violation> {
        let accounts = ACCOUNTS.map(str::to_owned).to_vec();
        let bank = Bank { accounts, total: BALANCE * ACCOUNTS.len() as u64 };
        verdict(&bank::check(history, &bank, &Options::at(Level::StrictSerializable)))
    }
}

async fn run(client: Client) {
    let mut session = client.number();
    // Whoever comes first fills the accounts; the others find them filled.
    while let Err(Failure::Conflict | Failure::NotDone | Failure::Unknown) = open(&client).await {
        if client.is_closing() {
            return;
        }
    }
    while !client.is_closing() {
        match client.random(3) {
            0 => look(&client, session).await,
            _ => transfer(&client, &mut session).await,
        }
        think(&client).await;
    }
    look(&client, session).await;
}

async fn open(client: &Client) -> Result<(), Failure> {
    let Snapshot { read_ts, values } = client.read(&ACCOUNTS).await?;
    if values.iter().all(Option::is_some) {
        return Ok(());
    }
    let balance = BALANCE.to_le_bytes();
    let writes = ACCOUNTS.map(|account| (account, Some(&balance[..])));
    client.commit(read_ts, &ACCOUNTS, &writes).await.map(|_| ())
}

async fn look(client: &Client, session: u64) {
    let txn = client.recorder().begin(session);
    let Ok(Snapshot { values, .. }) = client.read(&ACCOUNTS).await else {
        return client.recorder().end(txn, Outcome::Aborted);
    };
    for (account, value) in ACCOUNTS.iter().zip(&values) {
        client.recorder().op(txn, Op::read(*account, number(value.as_ref())));
    }
    client.recorder().end(txn, Outcome::Committed);
}

async fn transfer(client: &Client, session: &mut u64) {
    let source = client.random(ACCOUNTS.len() as u64) as usize;
    let target = (source + 1 + client.random(ACCOUNTS.len() as u64 - 1) as usize) % ACCOUNTS.len();
    let keys = [ACCOUNTS[source], ACCOUNTS[target]];
    let txn = client.recorder().begin(*session);
    let Ok(Snapshot { read_ts, values }) = client.read(&keys).await else {
        return client.recorder().end(txn, Outcome::Aborted);
    };
    let balance = |at: usize| number(values[at].as_ref()).unwrap_or(0);
    let amount = 1 + client.random(20);
    if balance(0) < amount {
        return client.recorder().end(txn, Outcome::Aborted);
    }
    let after = [balance(0) - amount, balance(1) + amount];
    for (key, after) in keys.iter().zip(after) {
        client.recorder().op(txn, Op::write(*key, after));
    }
    let (source, target) = (after[0].to_le_bytes(), after[1].to_le_bytes());
    let writes = [(keys[0], Some(&source[..])), (keys[1], Some(&target[..]))];
    let result = client.commit(read_ts, &keys, &writes).await;
    record(client, session, txn, result);
}
