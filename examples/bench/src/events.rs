//! The events of the benchmark definitions.

use streamd::{ConnectorError, Guarantee, Source, SourceReader, SourceStatus};

use crate::Connect;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's finaliser.
#[inline]
pub fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Random number `index` of a sequence.
#[inline]
pub fn sm(seed: u64, index: u64) -> u64 {
    mix(seed.wrapping_add((index + 1).wrapping_mul(GOLDEN)))
}

/// Event `index` of *keyed-sum* over `keys` keys: key and value.
#[inline]
pub fn event(index: u64, keys: u64) -> (u64, i64) {
    let hash = sm(0, index);
    (mix((((hash >> 32) * keys) >> 32) + 1), (hash & 0xFFFF) as i64 - 32768)
}

/// The first value of a key in *bigstate*.
pub fn payload(key: u64, bytes: usize) -> Box<[u8]> {
    let mut hash = key;
    let blocks = std::iter::repeat_with(|| {
        hash = mix(hash.wrapping_add(GOLDEN));
        hash.to_le_bytes()
    });
    blocks.flatten().take(bytes).collect()
}

/// The keys of *bigstate*: each once, then 1 % of them round and round at a steady rate.
#[derive(Clone)]
pub struct LoadThenTrickle {
    /// How many keys.
    pub keys: u64,
    /// Events per second of each subtask once every key was seen; 0 is without limit.
    pub rate: u64,
    /// Whether they then are any of the keys, instead of the same 1 % of them.
    pub at_random: bool,
}

/// Reads a stride of the events.
pub struct Reader {
    source: LoadThenTrickle,
    splits: Vec<(u64, u64)>,
    trickle_began: Option<std::time::Instant>,
    trickled: u64,
}

impl Source for LoadThenTrickle {
    type Out = u64;
    /// The next event, and the stride.
    type Split = (u64, u64);
    type Reader = Reader;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn enumerate(&self, parallelism: u32) -> Connect<Vec<(u64, u64)>> {
        Ok((0..u64::from(parallelism))
            .map(|first| (first, u64::from(parallelism)))
            .collect())
    }

    fn reader(&self) -> Connect<Reader> {
        Ok(Reader {
            source: self.clone(),
            splits: Vec::new(),
            trickle_began: None,
            trickled: 0,
        })
    }
}

impl SourceReader for Reader {
    type Out = u64;
    type Split = (u64, u64);

    fn add_splits(&mut self, splits: Vec<(u64, u64)>) -> Connect<()> {
        self.splits.extend(splits);
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark is paced by the machine's clock")]
    fn poll(&mut self, out: &mut Vec<u64>, limit: usize) -> Result<SourceStatus, ConnectorError> {
        let Some((next, stride)) = self.splits.first_mut() else {
            return Ok(SourceStatus::Idle(std::time::Duration::from_secs(3600)));
        };
        let keys = self.source.keys;
        while *next < keys && out.len() < limit {
            out.push(mix(*next + 1));
            *next += *stride;
        }
        if *next < keys {
            return Ok(SourceStatus::More);
        }
        let began = *self.trickle_began.get_or_insert_with(std::time::Instant::now);
        let due = match self.source.rate {
            0 => u64::MAX,
            rate => (began.elapsed().as_secs_f64() * rate as f64) as u64,
        };
        while self.trickled < due && out.len() < limit {
            let key = match self.source.at_random {
                true => ((mix(next.wrapping_mul(GOLDEN)) >> 32) * keys) >> 32,
                false => *next % (keys / 100).max(1),
            };
            out.push(mix(key + 1));
            *next += *stride;
            self.trickled += 1;
        }
        Ok(if self.trickled < due {
            SourceStatus::More
        } else {
            SourceStatus::Idle(std::time::Duration::from_millis(1))
        })
    }

    fn snapshot(&self) -> Vec<(u64, u64)> {
        self.splits.clone()
    }
}
