//! Small changes to inputs, the same in every run.

/// Makes inputs from seeds.
pub struct Mutator {
    state: u64,
}

/// Bytes and numbers that often break things.
const INTERESTING: &[&[u8]] =
    &[b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x80\x80\x80\x01", b"'", b".", b"\r\n"];

impl Mutator {
    /// A mutator; the same number makes the same changes.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self { state: number | 1 }
    }

    /// Changes one to four places of an input, sometimes with pieces of another one.
    #[must_use]
    pub fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(input.len() + 1);
            let end = (at + 1 + self.below(8)).min(input.len());
            match self.below(6) {
                0 if at < input.len() => input[at] ^= 1 << self.below(8),
                1 => drop(input.drain(at.min(end)..end)),
                2 => {
                    let repeated = input[at.min(end)..end].repeat(1 + self.below(40));
                    input.splice(at..at, repeated);
                }
                3 => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len() + 1);
                    let piece = other[from..].to_vec();
                    input.splice(at.., piece);
                }
                _ => {
                    let piece = INTERESTING[self.below(INTERESTING.len())];
                    input.splice(at..at, piece.iter().copied());
                }
            }
        }
        input
    }

    // Xorshift is random enough here.
    fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 33).expect("31 bits") % limit.max(1)
    }
}
