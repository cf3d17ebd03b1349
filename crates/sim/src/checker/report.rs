//! What a checker found: each anomaly with the evidence for it, in words.

use std::collections::BTreeMap;
use std::fmt;

use super::{Class, Level};

/// How many anomalies of one class a report spells out. A broken database has thousands of each,
/// and a person reads the first few; the others are counted.
const ANOMALIES_PER_CLASS_MAX: usize = 8;

/// What to check a history against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The promise that the history is held to.
    pub level: Level,
    /// Whether a lost append, or a lost element of a set, violates it (it does by default).
    ///
    /// Losing an acknowledged write is a matter of durability, hence counts at each level. But
    /// where reads may be stale for ever (a replica cut off, say), an append can look lost and
    /// be well.
    pub durable: bool,
}

impl Options {
    /// Returns the options for a level, with durability.
    pub const fn at(level: Level) -> Options {
        Options { level, durable: true }
    }

    fn forbids(&self, class: Class) -> bool {
        self.level.forbids(class)
            && (self.durable || !matches!(class, Class::LostAppend | Class::LostElement))
    }
}

/// A departure from a serial execution, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// What kind it is.
    pub class: Class,
    /// What people call it, where its shape has a common name, such as "write skew".
    pub nickname: Option<&'static str>,
    /// The labels of the transactions in it, a cycle in its order.
    pub transactions: Vec<String>,
    /// The evidence, a sentence a line; of a cycle, one line for each dependency.
    pub lines: Vec<String>,
    /// Whether the level that was asked for forbids it.
    pub violates: bool,
}

/// The verdict on a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    options: Options,
    anomalies: Vec<Anomaly>,
    /// How many were found, the ones left out of `anomalies` too.
    counts: BTreeMap<Class, usize>,
}

impl Report {
    pub(super) fn new(options: &Options) -> Report {
        Report { options: *options, anomalies: Vec::new(), counts: BTreeMap::new() }
    }

    /// Adds an anomaly. The evidence is only asked for if there is room for it.
    pub(super) fn add(&mut self, class: Class, evidence: impl FnOnce() -> Evidence) {
        let count = self.counts.entry(class).or_default();
        *count += 1;
        if *count <= ANOMALIES_PER_CLASS_MAX {
            let Evidence { nickname, transactions, lines } = evidence();
            let violates = self.options.forbids(class);
            self.anomalies.push(Anomaly { class, nickname, transactions, lines, violates });
        }
    }

    /// Puts the anomalies in the order of their classes, so that a report is the same each time.
    pub(super) fn sort(&mut self) {
        self.anomalies.sort_by_key(|anomaly| (!anomaly.violates, anomaly.class));
    }

    /// Returns the level that the history was held to.
    pub fn level(&self) -> Level {
        self.options.level
    }

    /// Returns the anomalies, those that violate the level first; of each class only the first few.
    pub fn anomalies(&self) -> &[Anomaly] {
        &self.anomalies
    }

    /// Returns how many anomalies of a class were found, including those not spelled out.
    pub fn count(&self, class: Class) -> usize {
        self.counts.get(&class).copied().unwrap_or(0)
    }

    /// Returns true if nothing was found that the level forbids.
    ///
    /// This is no proof that the database is right; it is the absence of a proof that it is wrong.
    pub fn is_valid(&self) -> bool {
        !self.counts.keys().any(|class| self.options.forbids(*class))
    }

    /// Returns true if nothing was found that another level forbids.
    pub fn is_valid_at(&self, level: Level) -> bool {
        let options = Options { level, ..self.options };
        !self.counts.keys().any(|class| options.forbids(*class))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_valid() { "valid" } else { "invalid" };
        writeln!(f, "{verdict} under {}", self.options.level)?;
        let mut anomalies = self.anomalies.iter().peekable();
        while let Some(anomaly) = anomalies.next() {
            writeln!(f, "{anomaly}")?;
            if anomalies.peek().is_none_or(|next| next.class != anomaly.class) {
                match self.count(anomaly.class).saturating_sub(ANOMALIES_PER_CLASS_MAX) {
                    0 => {}
                    more => writeln!(f, "{}: {more} more", anomaly.class)?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class)?;
        if let Some(nickname) = self.nickname {
            write!(f, ", {nickname}")?;
        }
        f.write_str(if self.violates { ": forbidden" } else { ": permitted" })?;
        self.lines.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// What an anomaly says, before it is known whether it violates anything.
pub(super) struct Evidence {
    pub(super) nickname: Option<&'static str>,
    pub(super) transactions: Vec<String>,
    pub(super) lines: Vec<String>,
}

impl Evidence {
    /// Returns the evidence of one sentence about some transactions.
    pub(super) fn line<'a>(
        transactions: impl IntoIterator<Item = &'a str>,
        line: String,
    ) -> Evidence {
        Evidence {
            nickname: None,
            transactions: transactions.into_iter().map(str::to_owned).collect(),
            lines: vec![line],
        }
    }
}
