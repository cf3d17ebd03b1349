//! Where chance comes from: a seed, or a list of choices made before.
//!
//! A run is a function of its choices. A failing one is made short by taking choices out of its
//! list and running it again, as long as it fails the same way (MacIver and Donaldson, "Test-Case
//! Reduction via Test-Case Generation", ECOOP 2020). Zero is always the dullest choice: no fault,
//! the oldest message.

/// A source of choices.
#[derive(Debug)]
pub struct Choices {
    state: u64,
    source: Source,
    /// What was chosen, where asked for.
    pub(super) record: Vec<u32>,
    records: bool,
}

#[derive(Debug)]
enum Source {
    Seed,
    List { choices: Vec<u32>, next: usize },
}

impl Choices {
    /// Returns the choices of a seed; `records` keeps them for [`Choices::list`].
    pub fn seed(seed: u64, records: bool) -> Choices {
        // Neighbouring seeds must not give neighbouring runs.
        let state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Choices { state, source: Source::Seed, record: Vec::new(), records }
    }

    /// Returns choices made before; after the last one, the dullest.
    pub fn list(choices: Vec<u32>) -> Choices {
        let source = Source::List { choices, next: 0 };
        Choices { state: 0, source, record: Vec::new(), records: true }
    }

    /// Returns a number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        let choice = match &mut self.source {
            Source::Seed => {
                // SplitMix64 (Steele, Lea, Flood 2014), its upper half scaled to the bound.
                self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = self.state;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (((z >> 32) * bound as u64) >> 32) as usize
            }
            Source::List { choices, next } => {
                let choice = choices.get(*next).copied().unwrap_or(0) as usize;
                *next += 1;
                choice.min(bound - 1)
            }
        };
        if self.records {
            self.record.push(choice as u32);
        }
        choice
    }

    /// Returns true in `n` of `of` cases.
    pub fn chance(&mut self, n: usize, of: usize) -> bool {
        // Zero has to be the dull one.
        self.below(of) >= of - n
    }
}

/// Makes a list of choices short, as long as `fails` says that it does.
pub(super) fn shrink(
    mut best: Vec<u32>,
    tries_max: usize,
    fails: impl Fn(&[u32]) -> bool,
) -> Vec<u32> {
    let mut tries = 0;
    let mut attempt = |best: &mut Vec<u32>, candidate: Vec<u32>| {
        tries += 1;
        if tries <= tries_max && fails(&candidate) {
            *best = candidate;
            return true;
        }
        false
    };
    loop {
        let before = best.clone();
        let mut width = (best.len() / 2).max(1);
        while width > 0 {
            let mut at = best.len().saturating_sub(width);
            loop {
                if at + width <= best.len() {
                    let mut shorter = best.clone();
                    shorter.drain(at..at + width);
                    if !attempt(&mut best, shorter) && best[at..at + width].iter().any(|c| *c > 0) {
                        let mut duller = best.clone();
                        duller[at..at + width].fill(0);
                        attempt(&mut best, duller);
                    }
                }
                if at == 0 {
                    break;
                }
                at = at.saturating_sub(width.div_ceil(2));
            }
            width = if width <= 4 { width - 1 } else { width / 2 };
        }
        // A smaller number may need fewer choices behind it: those of a transaction less.
        let mut at = 0;
        while at < best.len() {
            let value = best[at];
            'lower: for lower in [0, value / 2, value.saturating_sub(1)] {
                for dropped in 0..=8.min(best.len() - at - 1) {
                    if lower < value {
                        let mut candidate = best.clone();
                        candidate[at] = lower;
                        candidate.drain(at + 1..at + 1 + dropped);
                        if attempt(&mut best, candidate) {
                            break 'lower;
                        }
                    }
                }
            }
            at += 1;
        }
        if best == before {
            return best;
        }
    }
}
