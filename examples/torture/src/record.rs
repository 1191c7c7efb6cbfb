//! The records: number `n` is a function of `n` and of the arguments.

use clap::Args;
use streamd::prelude::*;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// How much later than its number a record may be, in milliseconds of event time.
const JITTER_MS: u64 = 50;

/// No record comes later than this after one with a higher timestamp of its split.
pub const LATEST: Duration = Duration::from_millis(JITTER_MS);

/// Which records there are.
#[derive(Clone, Args)]
pub struct Numbers {
    /// Where chance begins
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// How many records there are; without it they do not end
    #[arg(long)]
    pub records: Option<u64>,

    /// How many keys they have
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,

    /// How many splits they are read from
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub splits: u32,

    /// Of a hundred records, how many have key 0, beside those that have it by chance
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=100))]
    pub skew: u64,
}

/// One record: `seq` counts within `split`, `canary` follows from the rest.
#[derive(Debug, Clone, PartialEq, State, Serialize, Deserialize)]
pub struct Record {
    pub split: u32,
    pub seq: u64,
    pub key: u64,
    /// When it happened, in milliseconds.
    pub time: i64,
    pub canary: u64,
}

impl Numbers {
    /// Record number `n`.
    pub fn record(&self, n: u64) -> Record {
        let splits = u64::from(self.splits);
        let chance = mix(self.seed.wrapping_add((n + 1).wrapping_mul(GOLDEN)));
        let key = match chance % 100 < self.skew {
            true => 0,
            false => mix(chance) % self.keys,
        };
        let (split, seq) = ((n % splits) as u32, n / splits);
        Record {
            split,
            seq,
            key,
            time: n as i64 - ((chance >> 32) % JITTER_MS) as i64,
            canary: self.canary(split, seq, key),
        }
    }

    /// The number of a record.
    pub fn number_of(&self, record: &Record) -> u64 {
        record.seq * u64::from(self.splits) + u64::from(record.split)
    }

    /// Panics if the record is not what it was.
    pub fn check(&self, record: &Record) {
        let canary = self.canary(record.split, record.seq, record.key);
        assert_eq!(record.canary, canary, "the canary of {record:?} is dead");
    }

    fn canary(&self, split: u32, seq: u64, key: u64) -> u64 {
        digest(digest(digest(self.seed, split.into()), seq), key)
    }
}

/// A digest that goes on with one more value. The order matters.
pub fn digest(before: u64, value: u64) -> u64 {
    mix(before.wrapping_mul(GOLDEN) ^ value)
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
