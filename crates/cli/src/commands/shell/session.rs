//! What a shell remembers between its commands, and what each command does.

use base::Timestamp;
use holm::{Db, KeyRange, Keyspace, Savepoint, Scan, Transaction};

use super::grammar::{Command, Mode};
use super::screen::Screen;
use crate::commands::scan::What;
use crate::exit::{Failure, Result};
use crate::when::{self, When};

/// A shell's state.
pub(super) struct Session {
    pub(super) db: Db,
    pub(super) keyspace: String,
    open: Option<Open>,
    at: Option<When>,
    /// Whether a failed command keeps its transaction from being committed: right for a script,
    /// which does not read what it is answered, and a nuisance for a person.
    is_strict: bool,
}

/// The open transaction.
struct Open {
    txn: Transaction,
    modes: Vec<Mode>,
    savepoints: Vec<(String, Savepoint)>,
    has_failed: bool,
}

impl Session {
    pub(super) fn new(db: Db, keyspace: String, is_strict: bool) -> Session {
        Session { db, keyspace, open: None, at: None, is_strict }
    }

    pub(super) fn is_in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// Returns what the prompt says beside the keyspace.
    pub(super) fn state(&self) -> String {
        match (&self.open, self.at) {
            (Some(open), _) => {
                let mut state = "transaction".to_string();
                for (mode, name) in [(Mode::Readonly, " readonly"), (Mode::Snapshot, " snapshot")] {
                    if open.modes.contains(&mode) {
                        state.push_str(name);
                    }
                }
                state
            }
            (None, Some(_)) => "past".to_string(),
            (None, None) => String::new(),
        }
    }

    /// Takes note that a line failed.
    pub(super) fn failed(&mut self) {
        if let Some(open) = &mut self.open {
            open.has_failed |= self.is_strict;
        }
    }

    /// Runs a command and shows its answer. `Exit` is the caller's business.
    pub(super) fn run(&mut self, command: Command, screen: &mut dyn Screen) -> Result {
        match command {
            Command::Get { key, at } => {
                let value = self.get(&key.0, at)?;
                screen.value(value.as_deref())
            }
            Command::Put { key, value } => {
                let keyspace = self.db.keyspace(&self.keyspace)?;
                self.write(screen, |txn| Ok(txn.put(&keyspace, &key, &value)?))
            }
            Command::Delete { key } => match self.db.find_keyspace(&self.keyspace) {
                Some(keyspace) => self.write(screen, |txn| Ok(txn.delete(&keyspace, &key)?)),
                None => self.write(screen, |_| Ok(())),
            },
            Command::Scan { what, at } => self.scan(&what, at, screen),
            Command::Begin { modes } => self.begin(modes).and_then(|()| screen.done()),
            Command::Commit => screen.committed(self.commit()?),
            Command::Rollback { to } => self.rollback(&to).and_then(|()| screen.done()),
            Command::Savepoint { name } => {
                let open = self.open.as_mut().ok_or_else(no_transaction)?;
                let savepoint = open.txn.savepoint();
                open.savepoints.push((name, savepoint));
                screen.done()
            }
            Command::Use { keyspace } => {
                self.keyspace = keyspace;
                screen.done()
            }
            Command::Keyspaces => {
                let all = self.db.keyspaces();
                let names: Vec<&str> = all.iter().map(Keyspace::name).collect();
                screen.names(&names)
            }
            Command::At { when } => self.set_at(&when).and_then(|()| screen.done()),
            Command::Stats => screen.stats(&self.db.stats()),
            Command::Help => screen.help(),
            Command::Exit => screen.done(),
        }
    }

    fn get(&self, key: &[u8], at: Option<When>) -> Result<Option<holm::Bytes>> {
        let Some(keyspace) = self.db.find_keyspace(&self.keyspace) else { return Ok(None) };
        match &self.open {
            Some(open) => {
                refuse_past(at)?;
                Ok(open.txn.get(&keyspace, key)?)
            }
            None => Ok(when::snapshot(&self.db, at.or(self.at))?.get(&keyspace, key)?),
        }
    }

    fn scan(&self, what: &What, at: Option<When>, screen: &mut dyn Screen) -> Result {
        let range: KeyRange = what.range();
        let mut show = |scan: Scan<'_>| screen.rows(&mut what.apply(scan), what.keys_only);
        let Some(keyspace) = self.db.find_keyspace(&self.keyspace) else {
            return screen.rows(&mut std::iter::empty(), what.keys_only);
        };
        match &self.open {
            Some(open) => {
                refuse_past(at)?;
                show(open.txn.scan(&keyspace, range))
            }
            None => show(when::snapshot(&self.db, at.or(self.at))?.scan(&keyspace, range)),
        }
    }

    /// Writes in the open transaction, or in one of its own.
    fn write(
        &mut self,
        screen: &mut dyn Screen,
        write: impl FnOnce(&mut Transaction) -> Result,
    ) -> Result {
        if let Some(open) = &mut self.open {
            write(&mut open.txn)?;
            return screen.done();
        }
        if self.at.is_some() {
            return Err(Failure::new("the past cannot be changed: `at now` comes back first"));
        }
        let mut txn = self.db.begin();
        write(&mut txn)?;
        screen.committed(txn.commit()?)
    }

    fn begin(&mut self, modes: Vec<Mode>) -> Result {
        if self.open.is_some() {
            return Err(Failure::new("a transaction is open: commit it or roll it back first"));
        }
        if self.at.is_some() {
            return Err(Failure::new("a transaction reads the present: `at now` comes back first"));
        }
        let mut builder = self.db.transaction().label("shell");
        if modes.contains(&Mode::Readonly) {
            builder = builder.read_only();
        }
        if modes.contains(&Mode::Snapshot) {
            builder = builder.snapshot_isolation();
        }
        let (txn, savepoints) = (builder.begin(), Vec::new());
        self.open = Some(Open { txn, modes, savepoints, has_failed: false });
        Ok(())
    }

    fn commit(&mut self) -> Result<Timestamp> {
        let open = self.open.take().ok_or_else(no_transaction)?;
        if open.has_failed {
            open.txn.rollback();
            return Err(Failure::new(
                "an earlier command of this transaction failed, so it was rolled back: run it \
                 again",
            ));
        }
        Ok(open.txn.commit()?)
    }

    fn rollback(&mut self, to: &[String]) -> Result {
        match to {
            [] => {
                self.open.take().ok_or_else(no_transaction)?.txn.rollback();
                Ok(())
            }
            [word, name] if word == "to" => {
                let open = self.open.as_mut().ok_or_else(no_transaction)?;
                let found = open.savepoints.iter().rposition(|(known, _)| known == name);
                let position = found.ok_or_else(|| {
                    Failure::new(format!("there is no savepoint {name:?} in this transaction"))
                })?;
                open.txn.rollback_to(open.savepoints[position].1)?;
                // Those set later are gone with what they marked.
                open.savepoints.truncate(position + 1);
                open.has_failed = false;
                Ok(())
            }
            _ => Err(Failure::new("write `rollback`, or `rollback to NAME`")),
        }
    }

    fn set_at(&mut self, when: &str) -> Result {
        if self.open.is_some() {
            return Err(Failure::new("a transaction is open: commit it or roll it back first"));
        }
        if when == "now" {
            self.at = None;
            return Ok(());
        }
        let when: When = when.parse().map_err(Failure::new)?;
        // An age is a moment from now on, not one that moves along.
        let moment = when.snapshot(&self.db)?.timestamp();
        self.at = Some(When::Exactly(moment));
        Ok(())
    }
}

fn no_transaction() -> Failure {
    Failure::new("there is no transaction: `begin` starts one")
}

fn refuse_past(at: Option<When>) -> Result {
    match at {
        Some(_) => {
            Err(Failure::new("a transaction reads one moment: commit it or roll it back first"))
        }
        None => Ok(()),
    }
}
