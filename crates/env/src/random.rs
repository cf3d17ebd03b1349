//! Randomness from a seed: the same seed gives the same numbers on every machine, for ever. It
//! decides which bytes a simulated crash loses; it is no source of secrets.
//!
//! The generator is xoshiro256**, its state filled by SplitMix64 as its authors advise.
//! Source: David Blackman and Sebastiano Vigna, "Scrambled linear pseudorandom number generators",
//! ACM TOMS 47 (2021); public domain code at <https://prng.di.unimi.it/xoshiro256starstar.c> and
//! <https://prng.di.unimi.it/splitmix64.c>.

/// A generator of numbers that its seed decides.
#[derive(Debug, Clone)]
pub struct SeededRandom {
    state: [u64; 4],
}

impl SeededRandom {
    /// Returns the generator of a seed; any seed is as good as any other.
    pub fn new(seed: u64) -> SeededRandom {
        let mut mix = seed;
        SeededRandom { state: std::array::from_fn(|_| split_mix_64(&mut mix)) }
    }

    /// Returns the next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= shifted;
        *s3 = s3.rotate_left(45);
        result
    }

    /// Returns a number in `0..n`.
    ///
    /// # Panics
    /// If `n` is 0: there is no such number.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "no number is below 0");
        // The high half of the product (Lemire, "Fast random integer generation in an interval",
        // 2019) without its rejection step: a bias of n / 2^64 changes no test.
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Returns true `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// Puts the items in a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        // Fisher and Yates: each item changes places with one at or before it.
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

fn split_mix_64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generators_are_the_published_ones() {
        // SplitMix64 of seed 1234567, as published with the code in many languages.
        let mut state = 1_234_567;
        assert_eq!(split_mix_64(&mut state), 6_457_827_717_110_365_317);
        assert_eq!(split_mix_64(&mut state), 3_203_168_211_198_807_973);
        // xoshiro256** of the state 1, 2, 3, 4, as in the tests of the rand_xoshiro crate.
        let mut random = SeededRandom { state: [1, 2, 3, 4] };
        let expected = [11520, 0, 1_509_978_240, 1_215_971_899_390_074_240];
        assert_eq!(expected.map(|_| random.next_u64()), expected);
    }

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        let draw = |seed| {
            let mut random = SeededRandom::new(seed);
            let mut items: Vec<u64> = (0..20).collect();
            random.shuffle(&mut items);
            (items, random.below(1 << 40), random.chance(500))
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut random = SeededRandom::new(1);
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            seen[random.below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
        assert!((0..1000).all(|_| random.chance(1000) && !random.chance(0)));
    }
}
