//! Numbers at random that can be had again.

/// xorshift64*: the same seed gives the same sequence, so that a failure can be looked at again.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        // The sequence of zero is zeroes.
        Self(if seed == 0 { 1 } else { seed })
    }

    /// A seed: `FLATNET_SEED` where it is set, else a new one. Print it, so that a failure can be repeated.
    ///
    /// # Panics
    /// `FLATNET_SEED` is not a number.
    #[must_use]
    pub fn seed() -> u64 {
        match std::env::var("FLATNET_SEED") {
            Ok(seed) => seed.parse().expect("FLATNET_SEED is a number"),
            Err(_) => std::process::id().into(),
        }
    }

    /// A number from 0 up to, but not, `n`; 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(drawn).unwrap_or(0) % n.max(1)
    }

    /// Spoils `bytes` in up to four places: cut, flipped, taken out, or something odd put in.
    pub fn spoil(&mut self, bytes: &mut Vec<u8>) {
        const PIECES: [&[u8]; 12] = [
            b"null",
            b"{}",
            b"[]",
            b"-1",
            b"1e99",
            b"\"",
            b"\xff",
            b"/../",
            b"999999999999",
            b"true",
            b"\0",
            b",",
        ];
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes.truncate(at),
                1 => drop(bytes.splice(at..at, PIECES[self.below(PIECES.len())].iter().copied())),
                2 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                _ => {
                    let end = (at + self.below(12)).min(bytes.len());
                    drop(bytes.drain(at..end));
                }
            }
        }
    }
}
