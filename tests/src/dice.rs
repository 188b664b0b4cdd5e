//! Numbers that look random and are the same for the same seed.

/// Source: Steele, Lea and Flood, OOPSLA 2014 (SplitMix).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Different seeds give different numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below a bound, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).expect("it is below a usize")
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of several, of which there is at least one.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A word of lower-case letters that nobody else says.
    pub fn word(&mut self) -> String {
        let letter = |roll: u64| char::from(b'a' + (roll % 26) as u8);
        (0..16).map(|_| letter(self.roll())).collect()
    }

    /// So many hex digits.
    pub fn hex(&mut self, digits: usize) -> String {
        let digit = |roll: u64| char::from_digit((roll % 16) as u32, 16).expect("it is below 16");
        (0..digits).map(|_| digit(self.roll())).collect()
    }

    /// Any bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.roll() as u8).collect()
    }
}
