//! Random numbers that a failed test can repeat: everything follows from the seed it printed.

/// A small generator (SplitMix64); good enough to shuffle a test, never for secrets.
pub struct Random(u64);

impl Random {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A generator whose seed is the environment's `TEST_SEED`, or else taken from the clock; prints the seed.
    pub fn of_the_day() -> Random {
        let seed = std::env::var("TEST_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| Random::of_the_clock().0);
        println!("TEST_SEED={seed}");
        Random(seed)
    }

    /// A generator that is different every time.
    pub fn of_the_clock() -> Random {
        let since = std::time::UNIX_EPOCH
            .elapsed()
            .expect("the clock stands after 1970");
        Random(since.as_nanos() as u64)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// `len` random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.bits() as u8).collect()
    }
}
