//! Damage to inputs: always the same for the same number.

/// Bytes that parsers stumble over.
const BYTES: &[u8] = b"\0\x01\x7f\x80\xff\"[{}]-9:,=.\n";

/// Words that counts and lengths stumble over.
const WORDS: [u64; 6] = [0, 1, u32::MAX as u64, i32::MAX as u64, u64::MAX, i64::MAX as u64];

/// Numbers that parsers of text stumble over.
const NUMBERS: [&str; 6] = [
    "0",
    "-1",
    "4294967296",
    "18446744073709551615",
    "1e309",
    "99999999999999999999",
];

/// A source of damage.
pub struct Damage {
    state: u64,
}

impl Damage {
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// A number below `end`; 0 where there is none.
    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % end.max(1) as u64) as usize
    }

    /// The input with one to four damages, some of them by pieces of another.
    pub fn apply(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut damaged = input.to_vec();
        for _ in 0..=self.below(4) {
            self.once(&mut damaged, other);
        }
        damaged
    }

    fn once(&mut self, damaged: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(damaged.len());
        let length = self.below(16).min(damaged.len() - at);
        match self.below(9) {
            0 if at < damaged.len() => damaged[at] ^= 1 << self.below(8),
            1 if at < damaged.len() => damaged[at] = BYTES[self.below(BYTES.len())],
            2 => damaged.truncate(at),
            3 => drop(damaged.drain(at..at + length)),
            4 => {
                let again = damaged[at..at + length].to_vec();
                damaged.splice(at..at, again);
            }
            5 => {
                let from = self.below(other.len());
                let piece = &other[from..(from + self.below(64)).min(other.len())];
                damaged.splice(at..at + length, piece.iter().copied());
            }
            6 => {
                let word = WORDS[self.below(WORDS.len())].to_le_bytes();
                let end = (at + [1, 2, 4, 8][self.below(4)]).min(damaged.len());
                let width = end - at;
                damaged[at..end].copy_from_slice(&word[..width]);
            }
            7 => {
                let is_number = |byte: &u8| byte.is_ascii_digit();
                let Some(start) = damaged[at..].iter().position(is_number).map(|start| at + start) else {
                    return;
                };
                let digits = damaged[start..].iter().take_while(|byte| is_number(byte)).count();
                let number = NUMBERS[self.below(NUMBERS.len())];
                damaged.splice(start..start + digits, number.bytes());
            }
            _ => damaged.insert(at, BYTES[self.below(BYTES.len())]),
        }
    }
}
