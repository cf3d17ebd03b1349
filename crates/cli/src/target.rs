//! What `--db` names, and opening it.

use std::path::Path;

use holm::{Db, Keyspace, Options};

use crate::exit::{Code, Failure, Result};

/// The keyspace that commands work in unless told otherwise.
pub(crate) const DEFAULT_KEYSPACE: &str = "default";

/// A database, and the keyspace in it that a command works in.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) db: String,
    pub(crate) keyspace: String,
    /// How much memory it may take.
    pub(crate) memory_bytes: usize,
}

impl Target {
    /// Returns the directory.
    ///
    /// # Errors
    /// If a server is named: this version has none.
    pub(crate) fn directory(&self) -> Result<&Path> {
        if self.db.contains("://") {
            return Err(Failure::with_code(
                Code::NotConnected,
                format!("{}: servers come in a later version: give --db a directory", self.db),
            ));
        }
        Ok(Path::new(&self.db))
    }

    /// Opens a database that is there, to read it or to change what is in it.
    pub(crate) fn open(&self) -> Result<Db> {
        self.open_with(Options::new().create_if_missing(false))
    }

    /// Opens the database, and creates it if there is none.
    pub(crate) fn open_or_create(&self) -> Result<Db> {
        self.open_with(Options::new())
    }

    fn open_with(&self, options: Options) -> Result<Db> {
        let directory = self.directory()?;
        if let Ok(found) = directory.metadata()
            && !found.is_dir()
        {
            let message = format!("{}: this is a file: give --db a directory", self.db);
            return Err(Failure::new(message));
        }
        options.memory(self.memory_bytes).open(directory).map_err(|error| {
            match error.as_storage() {
                Some(storage::Error::NotADatabase { .. }) if is_empty(directory) => self.missing(),
                Some(storage::Error::NotADatabase { .. }) => {
                    Failure::new(format!("{error}: name another directory with --db"))
                }
                _ => error.into(),
            }
        })
    }

    /// Returns the failure of a directory in which there is no database.
    pub(crate) fn missing(&self) -> Failure {
        Failure::new(format!(
            "{}: there is no database here: `holm put` and `holm import` create one, --db names \
             another",
            self.db
        ))
    }

    /// Returns the keyspace to read; `None` if it is the default one and holds nothing yet.
    ///
    /// # Errors
    /// If there is no such keyspace: more likely misspelt than meant to be empty.
    pub(crate) fn keyspace_to_read(&self, db: &Db) -> Result<Option<Keyspace>> {
        match db.find_keyspace(&self.keyspace) {
            Some(keyspace) => Ok(Some(keyspace)),
            None if self.keyspace == DEFAULT_KEYSPACE => Ok(None),
            None => {
                let all = db.keyspaces();
                let names: Vec<&str> = all.iter().map(Keyspace::name).collect();
                let known = match &names[..] {
                    [] => "it has none yet".to_string(),
                    names => format!("it has {}", names.join(", ")),
                };
                Err(Failure::new(format!(
                    "{}: there is no keyspace {:?} in the database: {known}",
                    self.db, self.keyspace
                )))
            }
        }
    }

    /// Returns the keyspace to write, and creates it if there is none.
    pub(crate) fn keyspace_to_write(&self, db: &Db) -> Result<Keyspace> {
        Ok(db.keyspace(&self.keyspace)?)
    }
}

/// Returns true if nothing is there: no directory, or none with anything in it.
fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}
