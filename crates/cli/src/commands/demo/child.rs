//! The process that is killed: threads that move money, and a reader that counts it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use env::SeededRandom;
use holm::{Db, Error, Keyspace, Transaction};

use super::ledger::{ACCOUNTS, RECEIPTS, account_key, read_balance, receipt_key, receipt_text};
use crate::commands::Context;
use crate::exit::{Failure, Result};
use crate::victim::{tell, wait_for_end};

/// The process that `demo` kills.
#[derive(Debug, clap::Args)]
pub(crate) struct ChildArgs {
    #[arg(long)]
    threads: u32,
    #[arg(long)]
    accounts: u32,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    run: u32,
}

/// How long the reader rests between two sums: it shall be seen, and not be all that is done.
const REST: Duration = Duration::from_millis(2);

/// Most that is moved at once.
const AMOUNT_MAX: u64 = 100;

pub(crate) fn run(context: &Context, args: ChildArgs) -> Result {
    let db = context.target.open()?;
    let bank = Bank { accounts: db.keyspace(ACCOUNTS)?, receipts: db.keyspace(RECEIPTS)?, db };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut threads = vec![scope.spawn(|| bank.sum_until(&stop))];
        for thread in 0..args.threads {
            let (bank, stop, args) = (&bank, &stop, &args);
            threads.push(scope.spawn(move || bank.transfer_until(stop, thread, args)));
        }
        wait_for_end();
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| Failure::new("a thread of the demo panicked"))??;
        }
        Ok::<(), Failure>(())
    })?;
    Ok(bank.db.close()?)
}

struct Bank {
    db: Db,
    accounts: Keyspace,
    receipts: Keyspace,
}

impl Bank {
    /// Moves money until told to stop; says so of each transfer once it is durable.
    fn transfer_until(&self, stop: &AtomicBool, thread: u32, args: &ChildArgs) -> Result {
        let mut random = SeededRandom::new(args.seed ^ (u64::from(thread) + 1) << 32);
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let accounts = u64::from(args.accounts);
            let from = random.below(accounts);
            let to = (from + 1 + random.below(accounts - 1)) % accounts;
            let wanted = 1 + random.below(AMOUNT_MAX);
            let receipt = receipt_key(args.run, thread, number);
            let mut attempts = 0;
            let started = Instant::now();
            let text = self.db.transact(|txn| {
                attempts += 1;
                self.transfer(txn, from, to, wanted, &receipt)
            })?;
            let latency_us = started.elapsed().as_micros();
            tell(&format!("t {receipt} {text} {latency_us} {attempts}"))?;
        }
        Ok(())
    }

    /// Moves money, as much as there is, and leaves a receipt; returns its text.
    fn transfer(
        &self,
        txn: &mut Transaction,
        from: u64,
        to: u64,
        wanted: u64,
        receipt: &str,
    ) -> holm::Result<String> {
        let balance = |txn: &Transaction, account: u64| {
            let value = txn.get(&self.accounts, account_key(account))?;
            read_balance(value.as_deref()).ok_or_else(|| Error::abort("an account is gone"))
        };
        let (old_from, old_to) = (balance(txn, from)?, balance(txn, to)?);
        let amount = wanted.min(old_from);
        txn.put(&self.accounts, account_key(from), (old_from - amount).to_string())?;
        txn.put(&self.accounts, account_key(to), (old_to + amount).to_string())?;
        let text = receipt_text(from, to, amount);
        txn.put(&self.receipts, receipt, &text)?;
        Ok(text)
    }

    /// Sums all accounts at one moment after the other until told to stop.
    fn sum_until(&self, stop: &AtomicBool) -> Result {
        while !stop.load(Ordering::Relaxed) {
            let snapshot = self.db.snapshot();
            let mut sum = 0;
            for row in snapshot.scan(&self.accounts, ..) {
                sum += read_balance(Some(row?.value())).unwrap_or(0);
            }
            tell(&format!("s {sum}"))?;
            std::thread::sleep(REST);
        }
        Ok(())
    }
}
