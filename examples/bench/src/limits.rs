//! What the machine can do at the best: the cases as loops written by hand, without streams, exchange, checkpoints or failures.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{self, BufRead, BufReader};
use std::sync::mpsc;
use std::time::Instant;

use streamd_prefetch::prefetch;

use crate::events::{event, mix};
use crate::stats::cpu_seconds;

/// Events that the two threads of [`keyed_sum_exchange`] hand to each other at a time.
const BATCH: usize = 1024;
/// Batches that may be between the two threads.
const BATCHES: usize = 16;
/// Events of which [`keyed_sum_prefetching`] asks for the buckets before it changes any.
const PREFETCHED: usize = 32;

/// A hash of one number, or of bytes by eights.
#[derive(Default)]
struct MixHasher(u64);

impl Hasher for MixHasher {
    fn write(&mut self, bytes: &[u8]) {
        for block in bytes.chunks(8) {
            let number = block.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            self.0 = mix(self.0 ^ number);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(number ^ 0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Sums = HashMap<u64, i64, BuildHasherDefault<MixHasher>>;

/// Time and CPU time since a moment.
struct Stopwatch {
    began: Instant,
    cpu: f64,
}

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
    fn start() -> Self {
        Self {
            began: Instant::now(),
            cpu: cpu_seconds(),
        }
    }

    /// The line of a case, like that of the job of the same name.
    fn report(&self, case: &str, events: u64, checksum: u64) {
        let seconds = self.began.elapsed().as_secs_f64();
        let (rate, cpu) = (
            events as f64 / seconds,
            (cpu_seconds() - self.cpu) * 1e9 / events as f64,
        );
        println!(
            "{{\"case\":\"{case}\",\"events\":{events},\"checksum\":{checksum},\"seconds\":{seconds:.3},\
             \"events_per_second\":{rate:.0},\"cpu_ns_per_event\":{cpu:.2}}}"
        );
    }
}

/// One thread, one hash map, one event at a time. Measured over the last 80 % of the events, as everything is.
pub fn keyed_sum(keys: u64, events: u64) {
    let mut sums = Sums::default();
    let mut checksum = 0u64;
    let mut add = |index: u64| {
        let (key, value) = event(index, keys);
        let sum = sums.entry(key).or_insert(0);
        *sum += value;
        checksum = checksum.wrapping_add(key ^ sum.cast_unsigned());
    };
    (0..events / 5).for_each(&mut add);
    let watch = Stopwatch::start();
    (events / 5..events).for_each(&mut add);
    watch.report(&format!("limit-keyed-sum-k{keys}"), events - events / 5, checksum);
}

/// One thread, one table with open addressing; the buckets of several events are asked for before any is changed, so that the machine
/// fetches them at once.
pub fn keyed_sum_prefetching(keys: u64, events: u64) {
    let slots = (keys as usize * 2).next_power_of_two();
    let mut table = vec![(0u64, 0i64); slots];
    let mut checksum = 0u64;
    let mut batch = [(0u64, 0i64, 0usize); PREFETCHED];
    let mut add = |first: u64| {
        for (index, place) in (first..).zip(&mut batch) {
            let (key, value) = event(index, keys);
            let slot = mix(key) as usize & (slots - 1);
            prefetch(&table[slot]);
            *place = (key, value, slot);
        }
        for (key, value, mut slot) in batch {
            while table[slot].0 != key && table[slot].0 != 0 {
                slot = (slot + 1) & (slots - 1);
            }
            table[slot].0 = key;
            table[slot].1 += value;
            checksum = checksum.wrapping_add(key ^ table[slot].1.cast_unsigned());
        }
    };
    let events = events / PREFETCHED as u64;
    let warm = events / 5;
    (0..warm).for_each(|batch| add(batch * PREFETCHED as u64));
    let watch = Stopwatch::start();
    (warm..events).for_each(|batch| add(batch * PREFETCHED as u64));
    watch.report(
        &format!("limit-keyed-sum-prefetching-k{keys}"),
        (events - warm) * PREFETCHED as u64,
        checksum,
    );
}

/// One thread makes the events, another has the hash map; full batches go over and come back empty.
pub fn keyed_sum_exchange(keys: u64, events: u64) {
    let (full, arriving) = mpsc::sync_channel::<Vec<(u64, i64)>>(BATCHES);
    let (spare, emptied) = mpsc::sync_channel::<Vec<(u64, i64)>>(BATCHES);
    let watch = Stopwatch::start();
    let summing = std::thread::spawn(move || {
        let mut sums = Sums::default();
        let mut checksum = 0u64;
        for mut batch in arriving {
            for (key, value) in batch.drain(..) {
                let sum = sums.entry(key).or_insert(0);
                *sum += value;
                checksum = checksum.wrapping_add(key ^ sum.cast_unsigned());
            }
            // The other thread has batches enough if there is no room.
            let _ = spare.try_send(batch);
        }
        checksum
    });
    for first in (0..events).step_by(BATCH) {
        let mut batch = emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH));
        batch.extend((first..events.min(first + BATCH as u64)).map(|index| event(index, keys)));
        if full.send(batch).is_err() {
            break;
        }
    }
    drop(full);
    let checksum = summing.join().unwrap_or_default();
    watch.report(&format!("limit-keyed-sum-exchange-k{keys}"), events, checksum);
}

/// The steps of *stateless* in one loop.
pub fn stateless(events: u64) {
    let watch = Stopwatch::start();
    let kept = (0..events)
        .map(|index| event(index, 1_000_000))
        .map(|(key, value)| (key, value.wrapping_mul(3).wrapping_add(1)))
        .filter(|event| event.0 & 7 != 0)
        .map(|(key, value)| (key ^ (key >> 7), value))
        .filter(|event| event.0 % 10 != 0);
    let checksum = kept.fold(0u64, |sum, (key, value)| {
        sum.wrapping_add(key.wrapping_add(value.cast_unsigned()))
    });
    watch.report("limit-stateless", events, checksum);
}

/// Reads the text line by line, cuts it, counts in a hash map. A word is copied when it is seen first.
pub fn wordcount(file: &str) {
    let watch = Stopwatch::start();
    let mut counts: HashMap<Box<[u8]>, u64, BuildHasherDefault<MixHasher>> = HashMap::default();
    let mut words = 0;
    let mut count = |word: &[u8]| {
        words += 1;
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(counts.insert(word.into(), 1)),
        }
    };
    let mut text = BufReader::with_capacity(1 << 20, readable(file, File::open(file)));
    let mut line = Vec::new();
    while readable(file, text.read_until(b'\n', &mut line)) > 0 {
        let words = line.split(|byte| matches!(byte, b' ' | b'\n'));
        words.filter(|word| !word.is_empty()).for_each(&mut count);
        line.clear();
    }
    watch.report("limit-wordcount", words, counts.len() as u64);
}

fn readable<T>(file: &str, read: io::Result<T>) -> T {
    read.unwrap_or_else(|error| crate::usage(&format!("cannot read `{file}`: {error}")))
}
