//! Fast random numbers for choices and request ids; nothing secret is made of them.

use std::io;

/// A generator with 128 bits of state (xoroshiro128++), seeded by the system.
#[derive(Debug)]
pub(crate) struct Random {
    low: u64,
    high: u64,
}

impl Random {
    /// Seeds a generator.
    pub(crate) fn seeded() -> io::Result<Self> {
        let mut seed = [0_u8; 16];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let seed = u128::from_le_bytes(seed);
        Ok(Self::from_seed(seed))
    }

    /// Makes a generator that always yields the same numbers.
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
    pub(crate) const fn from_seed(seed: u128) -> Self {
        // An all-zero state would only ever yield zeros.
        Self { low: seed as u64 | 1, high: (seed >> 64) as u64 }
    }

    /// Returns the next number.
    pub(crate) const fn next(&mut self) -> u64 {
        let (low, mut high) = (self.low, self.high);
        let result = low.wrapping_add(high).rotate_left(17).wrapping_add(low);
        high ^= low;
        self.low = low.rotate_left(49) ^ high ^ (high << 21);
        self.high = high.rotate_left(28);
        result
    }

    /// Returns a number below `bound`; zero when `bound` is zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * u128::try_from(bound).unwrap_or(0);
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// Returns 128 random bits as 32 hexadecimal digits.
    pub(crate) fn hex_id(&mut self) -> [u8; 32] {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let mut bits = u128::from(self.next()) << 64 | u128::from(self.next());
        let mut text = [0_u8; 32];
        for place in &mut text {
            let digit = usize::try_from(bits & 15).unwrap_or(0);
            *place = DIGITS.get(digit).copied().unwrap_or(b'0');
            bits >>= 4;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut random = Random::from_seed(7);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[random.below(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn ids_are_hexadecimal_and_differ() {
        let mut random = Random::from_seed(0);
        let (first, second) = (random.hex_id(), random.hex_id());
        assert_ne!(first, second);
        assert!(first.iter().all(u8::is_ascii_hexdigit));
    }
}
