//! The words for what happens: one aligned line for each event.

use std::fmt;

/// The text that explains a trace; it stands above it.
pub(super) const LEGEND: &str = "\
# step  the number of the event, which is also the time that real-time order speaks of
# who    T3 transaction and its coordinator, S1 shard (the leader), R0 a recoverer, k2 a key (k0 k1
#        on S0, k2 k3 on S1, k4 k5 on S2)
# a -> b delivered: what `a` had sent to `b` (marked `again` if it is a late duplicate)
# !      a fault: change of leader, crash, silence (no answer in time), a new oracle
# ok     applied on a shard: the oldest entry in flight
";

/// The lines of a run, if it is traced.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn on() -> Trace {
        Trace { lines: Some(Vec::new()) }
    }

    pub(super) fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds a line; the arguments are only put into words if somebody will read them.
    pub(super) fn line(
        &mut self,
        step: u32,
        who: impl FnOnce() -> String,
        what: fmt::Arguments<'_>,
    ) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{step:>5}  {:<12}  {what}", who()));
        }
    }

    pub(super) fn text(&self) -> String {
        let lines = self.lines.iter().flatten();
        format!("{LEGEND}{:>5}  {:<12}  event\n", "step", "who")
            + &lines.map(|line| format!("{line}\n")).collect::<String>()
    }
}
