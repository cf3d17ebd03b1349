//! What happened, line by line, and a digest of it that is always kept.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;

/// Explains the columns of a trace.
pub const LEGEND: &str = "\
time    virtual milliseconds since the world began
node    n1, n2, … are replicas, c0, c1, … clients, -- is the world
event   deliver  a message arrives          ask    a request arrives
        wake     a deadline of the node     disk   a write is known to be durable
        reply    an answer on its way       say    what a replica tells people
        fault    something goes wrong       begin  a client's transaction …
        end      … and how it ended         open   a life of a node begins";

/// The lines of a run. Clones are the same trace.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    lines: Option<Rc<RefCell<Vec<String>>>>,
    digest: u64,
}

impl Trace {
    pub(super) fn new(is_kept: bool) -> Trace {
        let lines = is_kept.then(|| Rc::new(RefCell::new(Vec::new())));
        Trace { lines, digest: 0xcbf2_9ce4_8422_2325 }
    }

    /// Adds a line, if lines are kept.
    pub(super) fn line(
        &mut self,
        now_us: u64,
        node: impl FnOnce() -> String,
        event: &str,
        what: impl FnOnce() -> String,
    ) {
        let Some(lines) = &self.lines else { return };
        let mut line = String::new();
        let (ms, us) = (now_us / 1000, now_us % 1000);
        // Writing to a string does not fail.
        let _ = write!(line, "{ms:>7}.{us:03}  {:<4} {event:<8} {}", node(), what());
        lines.borrow_mut().push(line);
    }

    /// Mixes something that happened into the digest.
    pub(super) fn mix(&mut self, number: u64) {
        self.digest = (self.digest ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    pub(super) fn mix_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(bytes.len() as u64);
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn take(&self) -> Vec<String> {
        self.lines.as_ref().map(|lines| lines.take()).unwrap_or_default()
    }
}
