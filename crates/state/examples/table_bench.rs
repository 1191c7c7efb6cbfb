//! Nanoseconds per read-modify-write of an `i64` by a `u64` key: [`HeapTable`] beside a plain hash table.
//!
//! The events are those of the keyed-sum benchmark: key and value derived from the event's number, K keys in all. Every
//! figure includes making the event and hashing the key; the line `events` says how much that is.
//!
//! ```text
//! cargo run --release -p streamd-state --example table_bench [K ...]
//! ```
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(missing_docs, reason = "a benchmark has no callers")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::state::State;
use streamd_state::{FrozenTable, HeapTable};

/// As task managers and applications do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MAX_PARALLELISM: u32 = 128;
const BATCH: usize = 1024;
const RUNS: usize = 3;

type Table = HeapTable<u64, i64>;
type Plain = HashTable<(u64, i64)>;

fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).filter_map(|k| k.parse().ok()).collect();
    let sizes = if sizes.is_empty() {
        vec![1_000, 1_000_000, 10_000_000]
    } else {
        sizes
    };
    for k in sizes {
        measure_size(k);
    }
}

fn measure_size(k: u64) {
    println!("K = {k}");
    let events = 10_000_000;
    report("events and key hash", events, || {
        run_batches(events, k, |batch| {
            batch.iter().fold(0, |x, e| x ^ e.hash as i64 ^ e.value)
        })
    });

    let mut plain = Plain::new();
    (0..k).for_each(|index| *plain_slot(&mut plain, mix(index + 1)) = 0);
    report("plain table", events, || {
        run_batches(events, k, |batch| plain_sum(&mut plain, batch))
    });
    for touched in [32, 64] {
        report(&format!("plain table, {touched} touched"), events, || {
            run_batches(events, k, |batch| {
                batch.chunks(touched).fold(0, |x, some| {
                    some.iter().for_each(|e| {
                        black_box(plain.find(fold(e.key), |entry| entry.0 == e.key).is_some());
                    });
                    x ^ plain_sum(&mut plain, some)
                })
            })
        });
    }
    drop(plain);

    let start = Instant::now();
    let mut table = Table::new(KeyGroupRange::all(MAX_PARALLELISM), MAX_PARALLELISM);
    (0..k).for_each(|index| {
        let key = mix(index + 1);
        table.get_or_insert_with(key.stable_hash(), &key, || 0);
    });
    println!("  filled in {:.1?}: {} shards", start.elapsed(), table.shard_count());
    report("heap table", events, || {
        run_batches(events, k, |batch| table_sum(&mut table, batch))
    });
    for touched in [32, 64] {
        report(&format!("heap table, {touched} prefetched"), events, || {
            run_batches(events, k, |batch| {
                batch.chunks(touched).fold(0, |x, some| {
                    table.prefetch(&keys_of(some));
                    x ^ table_sum(&mut table, some)
                })
            })
        });
    }
    measure_snapshot(k, table);
}

fn measure_snapshot(k: u64, mut table: Table) {
    measure_beside(k, "i64", &mut table);
    let mut payloads = HeapTable::new(KeyGroupRange::all(MAX_PARALLELISM), MAX_PARALLELISM);
    (0..k).for_each(|index| {
        let key = mix(index + 1);
        payloads.insert(key.stable_hash(), &key, vec![7u8; 100]);
    });
    measure_beside(k, "100 bytes of their own", &mut payloads);
    drop(payloads);

    let start = Instant::now();
    println!("  {} rows encoded in {:.1?}", rows(&table.freeze()), start.elapsed());
    let start = Instant::now();
    let mut reserved = Table::new(KeyGroupRange::all(MAX_PARALLELISM), MAX_PARALLELISM);
    reserved.reserve(k);
    for index in 0..k {
        let key = mix(index + 1);
        reserved.insert(key.stable_hash(), &key, 0);
    }
    println!(
        "  filled with room reserved in {:.1?}: {} shards",
        start.elapsed(),
        reserved.shard_count()
    );
}

/// What writes cost while a snapshot holds the table, and once it has let go.
fn measure_beside<V: Summed>(k: u64, values: &str, table: &mut HeapTable<u64, V>) {
    let start = Instant::now();
    let frozen = table.freeze();
    println!("  values of {values}: frozen in {:.2?}", start.elapsed());
    let events = 2_000_000.min(k);
    let pass = |what: &str, table: &mut HeapTable<u64, V>| {
        let start = cpu_time_ns();
        let mut slowest: Vec<u64> = Vec::new();
        let mut last = start;
        black_box(run_batches(events, k, |batch| {
            let sum = batch.chunks(32).fold(0, |x, some| {
                table.prefetch(&keys_of(some));
                some.iter().fold(x, |x, e| {
                    x ^ table.get_mut(e.hash, &e.key).map_or(0, |value| value.add(e.value))
                })
            });
            let now = cpu_time_ns();
            slowest.push(now - last);
            last = now;
            sum
        }));
        slowest.sort_unstable();
        println!(
            "    {what:<34} {:6.1} ns/event, slowest batch of {BATCH}: {:.2?}",
            (last - start) as f64 / (events) as f64,
            Duration::from_nanos(slowest.last().copied().unwrap_or_default())
        );
    };
    pass("first writes beside the snapshot", table);
    pass("second writes beside it", table);
    drop(frozen);
    pass("first writes after it", table);
    pass("second writes after it", table);
}

/// Values that can be added to.
trait Summed: State {
    fn add(&mut self, value: i64) -> i64;
}

impl Summed for i64 {
    fn add(&mut self, value: i64) -> i64 {
        *self += value;
        *self
    }
}

impl Summed for Vec<u8> {
    fn add(&mut self, value: i64) -> i64 {
        self[0] = self[0].wrapping_add(value as u8);
        i64::from(self[0])
    }
}

fn rows(frozen: &FrozenTable<u64, i64>) -> u64 {
    let mut rows = 0;
    frozen.for_each_row(&mut |_, key, value| rows += u64::from(key.len() + value.len() == 16));
    rows
}

struct Event {
    key: u64,
    value: i64,
    hash: u64,
}

fn run_batches(events: u64, k: u64, mut work: impl FnMut(&[Event]) -> i64) -> i64 {
    let mut batch = Vec::with_capacity(BATCH);
    let mut x = 0;
    for first in (0..events).step_by(BATCH) {
        batch.clear();
        batch.extend((first..first + BATCH as u64).map(|i| event(i, k)));
        x ^= work(&batch);
    }
    x
}

fn keys_of(events: &[Event]) -> Vec<(u64, u64)> {
    events.iter().map(|e| (e.hash, e.key)).collect()
}

fn table_sum(table: &mut Table, events: &[Event]) -> i64 {
    events.iter().fold(0, |x, e| {
        let sum = table.get_or_insert_with(e.hash, &e.key, || 0);
        *sum += e.value;
        x ^ *sum
    })
}

fn plain_sum(table: &mut Plain, events: &[Event]) -> i64 {
    events.iter().fold(0, |x, e| {
        let sum = plain_slot(table, e.key);
        *sum += e.value;
        x ^ *sum
    })
}

fn plain_slot(table: &mut Plain, key: u64) -> &mut i64 {
    let entry = table.entry(fold(key), |entry| entry.0 == key, |entry| fold(entry.0));
    &mut entry.or_insert((key, 0)).into_mut().1
}

/// A hash as fast as any: the two halves of one long multiplication, folded (as foldhash and ahash do).
fn fold(key: u64) -> u64 {
    let product = u128::from(key ^ 0x243F_6A88_85A3_08D3) * 0x1319_8A2E_0370_7344_A409_3822_299F_31D1_u128;
    (product as u64) ^ ((product >> 64) as u64)
}

fn event(i: u64, k: u64) -> Event {
    let h = mix((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let key = mix((((h >> 32) * k) >> 32) + 1);
    Event {
        key,
        value: (h & 0xFFFF) as i64 - 32_768,
        hash: key.stable_hash(),
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The time that the thread has spent on a processor: neighbours on the machine do not count.
fn cpu_time_ns() -> u64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts scheduler time");
    let first = statistics.split(' ').next().expect("the file has three numbers");
    first.parse().expect("the file has three numbers")
}

fn report(what: &str, events: u64, mut run: impl FnMut() -> i64) {
    let mut best = f64::MAX;
    for _ in 0..RUNS {
        let start = cpu_time_ns();
        black_box(run());
        best = best.min((cpu_time_ns() - start) as f64 / events as f64);
    }
    println!("  {what:<28} {best:6.1} ns/event");
}
