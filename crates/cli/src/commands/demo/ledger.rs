//! What the bank was heard to have done, and whether the database agrees.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holm::{Db, Options, Recovery};

use crate::exit::{Failure, Result};

/// Keyspaces of the demo.
pub(super) const ACCOUNTS: &str = "accounts";
pub(super) const RECEIPTS: &str = "receipts";

/// What each account holds at first.
const OPENING_BALANCE: u64 = 1000;

pub(super) fn account_key(account: u64) -> String {
    format!("{account:06}")
}

pub(super) fn read_balance(value: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(value?).ok()?.parse().ok()
}

/// A receipt's key tells in which run which thread made its how-manieth transfer.
pub(super) fn receipt_key(run: u32, thread: u32, number: u64) -> String {
    format!("{run:04}-{thread:03}-{number:08}")
}

pub(super) fn receipt_text(from: u64, to: u64, amount: u64) -> String {
    format!("{from}>{to}:{amount}")
}

fn read_receipt(text: &str) -> Option<(usize, usize, u64)> {
    let (from, rest) = text.split_once('>')?;
    let (to, amount) = rest.split_once(':')?;
    Some((from.parse().ok()?, to.parse().ok()?, amount.parse().ok()?))
}

pub(super) fn wall_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The receipts that must be there.
pub(super) struct Ledger {
    accounts: usize,
    receipts: HashMap<String, String>,
}

/// What a comparison found.
pub(super) struct Comparison {
    pub(super) recovery: Recovery,
    pub(super) opening: Duration,
    /// Receipts that nobody had heard of, as many as could have been under way.
    pub(super) unheard: u64,
    /// Acknowledged transfers without their receipt.
    pub(super) lost: u64,
    /// What else is wrong, a sentence each.
    pub(super) wrong: Vec<String>,
}

impl Ledger {
    /// Makes the database.
    pub(super) fn open_accounts(directory: &Path, accounts: u32) -> Result<Ledger> {
        let db = Db::open(directory)?;
        let keyspace = db.keyspace(ACCOUNTS)?;
        db.keyspace(RECEIPTS)?;
        db.transact(|txn| {
            (0..u64::from(accounts)).try_for_each(|account| {
                txn.put(&keyspace, account_key(account), OPENING_BALANCE.to_string())
            })
        })?;
        db.close()?;
        Ok(Ledger { accounts: accounts as usize, receipts: HashMap::new() })
    }

    /// Returns what all accounts hold together, always.
    pub(super) fn total(&self) -> u64 {
        self.accounts as u64 * OPENING_BALANCE
    }

    pub(super) fn acknowledged(&mut self, key: &str, text: &str) {
        self.receipts.insert(key.to_string(), text.to_string());
    }

    /// Opens the database after a run and compares it with what was heard.
    pub(super) fn compare(
        &mut self,
        directory: &Path,
        run: u32,
        in_flight: u64,
    ) -> Result<Comparison> {
        let started = Instant::now();
        let db = Options::new().create_if_missing(false).open(directory)?;
        let opening = started.elapsed();
        let recovery = db.stats().recovery;
        let (accounts, receipts) = (db.keyspace(ACCOUNTS)?, db.keyspace(RECEIPTS)?);
        let snapshot = db.snapshot();
        let mut wrong = Vec::new();

        let mut expected = vec![OPENING_BALANCE as i64; self.accounts];
        let (mut found, mut changed, mut unheard) = (0, 0, Vec::new());
        for row in snapshot.scan(&receipts, ..) {
            let row = row?;
            let (key, text) = (text_of(row.key())?, text_of(row.value())?);
            let receipt = read_receipt(text).filter(|&(from, to, _)| from.max(to) < self.accounts);
            let Some((from, to, amount)) = receipt else {
                wrong.push(format!("receipt {key} is torn: {text:?}"));
                continue;
            };
            expected[from] -= amount as i64;
            expected[to] += amount as i64;
            match self.receipts.get(key) {
                Some(known) if known == text => found += 1,
                Some(known) => {
                    changed += 1;
                    wrong.push(format!("receipt {key} says {text}, not {known}"));
                }
                None if key.starts_with(&format!("{run:04}-")) => {
                    unheard.push((key.to_string(), text.to_string()));
                }
                None => {
                    wrong.push(format!("receipt {key} is a stranger: nobody wrote it in this run"))
                }
            }
        }
        let lost = self.receipts.len() as u64 - found - changed;
        let unheard_count = unheard.len() as u64;
        if unheard_count > in_flight {
            wrong.push(format!(
                "{unheard_count} transfers nobody heard of, {in_flight} were under way"
            ));
        }
        // From now on they must stay.
        self.receipts.extend(unheard);

        let mut sum = 0;
        for (account, expected) in expected.iter().enumerate() {
            let value = snapshot.get(&accounts, account_key(account as u64))?;
            let balance = read_balance(value.as_deref());
            sum += balance.unwrap_or(0);
            if balance != u64::try_from(*expected).ok() {
                wrong.push(format!(
                    "account {account} holds {balance:?}, its receipts make {expected}"
                ));
            }
        }
        if sum != self.total() {
            wrong.push(format!("the total is {sum}, not {}", self.total()));
        }
        drop(snapshot);
        db.close()?;
        Ok(Comparison { recovery, opening, unheard: unheard_count, lost, wrong })
    }
}

fn text_of(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| {
        Failure::new(format!("a receipt is torn: {}", base::text::escape_short(bytes, 40)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs two acknowledged transfers, lets somebody tamper with them, and compares.
    fn check(name: &str, tamper: impl Fn(&Db) -> holm::Result<()>, lost: u64, wrong: &[&str]) {
        let path = std::env::temp_dir().join(format!("holm-ledger-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let mut ledger = Ledger::open_accounts(&path, 2).unwrap();
        let db = Db::open(&path).unwrap();
        let (accounts, receipts) = (db.keyspace(ACCOUNTS).unwrap(), db.keyspace(RECEIPTS).unwrap());
        for (number, left) in [(0, 990), (1, 980)] {
            let (key, text) = (receipt_key(0, 0, number), receipt_text(0, 1, 10));
            db.put(&accounts, account_key(0), left.to_string()).unwrap();
            db.put(&accounts, account_key(1), (2000 - left).to_string()).unwrap();
            db.put(&receipts, &key, &text).unwrap();
            ledger.acknowledged(&key, &text);
        }
        tamper(&db).unwrap();
        db.close().unwrap();
        let found = ledger.compare(&path, 0, 1).unwrap();
        std::fs::remove_dir_all(path).unwrap();
        assert_eq!(found.lost, lost, "{name}");
        assert_eq!(found.wrong.len(), wrong.len(), "{name}: {:?}", found.wrong);
        for (found, part) in found.wrong.iter().zip(wrong) {
            assert!(found.contains(part), "{name}: {found}");
        }
    }

    #[test]
    fn a_missing_coin_is_found() {
        let put = |keyspace: &'static str, key: String, value: &'static str| {
            move |db: &Db| db.put(&db.keyspace(keyspace)?, &key, value).map(|_| ())
        };
        check("sound", |_| Ok(()), 0, &[]);
        let coin = put(ACCOUNTS, account_key(1), "1019");
        check("coin", coin, 0, &["account 1 holds Some(1019)", "the total is 1999"]);
        let changed = put(RECEIPTS, receipt_key(0, 0, 1), "1>0:0");
        check("changed", changed, 0, &["says 1>0:0", "account 0", "account 1"]);
        let stranger = put(RECEIPTS, receipt_key(7, 0, 0), "0>1:0");
        check("stranger", stranger, 0, &["is a stranger"]);
        let gone = |db: &Db| db.delete(&db.keyspace(RECEIPTS)?, receipt_key(0, 0, 1)).map(|_| ());
        check("gone", gone, 1, &["account 0", "account 1"]);
    }
}
