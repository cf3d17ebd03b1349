//! Seeded randomness: the same seed gives every store the same keys in the same order.

/// SplitMix64: a counter through a mixing function. Enough for access patterns, and one
/// multiplication cheaper than the store operation it drives would notice.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { state: mix(seed) }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// Returns a number in `0..bound`. The bias of the multiplication is below 2^-40 for the
    /// bounds used here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns a number in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// SplitMix64's finalizer: a bijection of 64-bit numbers, so distinct record numbers make
/// distinct keys.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Ranks `0..count` with Zipf's law: rank `r` is drawn in proportion to `1 / (r + 1)^theta`.
///
/// Gray et al., "Quickly Generating Billion-Record Synthetic Databases", SIGMOD 1994, as YCSB
/// uses it. Two ranks are exact and the rest come from an approximate inverse.
#[derive(Clone, Debug)]
pub(crate) struct Zipfian {
    count: f64,
    theta: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

impl Zipfian {
    /// The skew of YCSB, in which the hottest of a million keys takes 6.5 % of all accesses.
    pub(crate) const YCSB_THETA: f64 = 0.99;

    pub(crate) fn new(count: u64, theta: f64) -> Zipfian {
        assert!(count >= 2 && theta > 0.0 && theta < 1.0, "a zipfian needs 2 ranks, 0 < theta < 1");
        let zeta: f64 = (1..=count).map(|rank| 1.0 / (rank as f64).powf(theta)).sum();
        let zeta_of_two = 1.0 + 0.5f64.powf(theta);
        let count = count as f64;
        let eta = (1.0 - (2.0 / count).powf(1.0 - theta)) / (1.0 - zeta_of_two / zeta);
        Zipfian { count, theta, alpha: 1.0 / (1.0 - theta), zeta, eta }
    }

    pub(crate) fn rank(&self, random: &mut Random) -> u64 {
        let unit = random.unit();
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(self.theta) {
            return 1;
        }
        let rank = self.count * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_numbers() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..8).map(|_| random.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn below_stays_below_and_reaches_all() {
        let mut random = Random::new(1);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[random.below(10) as usize] = true;
        }
        assert_eq!(seen, [true; 10]);
    }

    #[test]
    fn zipfian_frequencies_follow_the_law() {
        let (count, draws) = (1000, 400_000);
        let zipfian = Zipfian::new(count, Zipfian::YCSB_THETA);
        let mut random = Random::new(42);
        let mut seen = vec![0u32; count as usize];
        for _ in 0..draws {
            seen[zipfian.rank(&mut random) as usize] += 1;
        }
        let share = |rank: usize| f64::from(seen[rank]) / f64::from(draws);
        let law = |rank: usize| 1.0 / ((rank + 1) as f64).powf(0.99) / zipfian.zeta;
        for rank in [0, 1] {
            assert!((share(rank) / law(rank) - 1.0).abs() < 0.03, "rank {rank}: {}", share(rank));
        }
        // The approximate part is held to its sum: ranks 10 to 99 together.
        let (drawn, expected): (f64, f64) = ((10..100).map(share).sum(), (10..100).map(law).sum());
        assert!((drawn / expected - 1.0).abs() < 0.1, "{drawn} against {expected}");
        assert!(seen.iter().rposition(|&times| times > 0) > Some(900), "the tail is reached");
    }
}
