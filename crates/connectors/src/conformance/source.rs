//! The suite for sources.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use streamd_core::source::{Source, SourceReader, SourceStatus};
use streamd_core::state::{from_row, to_row};

use super::random::Random;

/// Turns without a record after which a source that should have more is taken to hang.
const MAX_EMPTY_TURNS: u32 = 1000;

/// Turns that an endless source is given after all of its records have come.
const EXTRA_TURNS: u32 = 20;

/// The longest wait before an endless source is asked again, whatever it says.
const LONGEST_WAIT: Duration = Duration::from_millis(10);

/// How long an endless source may have nothing although more is to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The lives of a job: in each it has some readers, which take turns; all but the last end with a snapshot and a restore.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The lives that end with a restore.
    pub lives: Vec<Life>,
    /// The number of readers that read to the end.
    pub last: u32,
}

/// A life of a job.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// How many readers.
    pub readers: u32,
    /// How many turns before the snapshot, dealt to the readers one after the other.
    pub turns: u32,
    /// The most records of a turn.
    pub limit: usize,
}

impl Scenario {
    /// Lives that the seed decides. The same seed gives the same lives.
    pub fn seeded(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let lives = (0..random.below(5)).map(|_| Life {
            readers: 1 + random.below(4) as u32,
            turns: random.below(20) as u32,
            limit: 1 + random.below(40) as usize,
        });
        let lives = lives.collect();
        Self {
            lives,
            last: 1 + random.below(4) as u32,
        }
    }
}

/// Reads a source that does not end, of which so many records are known to come, all different, through all lives of the scenario.
/// Panics unless each comes exactly once, in the order of its split, and nothing else.
///
/// Where the source has nothing for now, this waits, for as long as the records are not all there and a minute is not over.
pub fn reads_every_record_once_without_end<S>(source: &S, records: usize, scenario: &Scenario)
where
    S: Source,
    S::Out: Ord + Clone + Debug,
{
    reads_within(PATIENCE, source, records, scenario);
}

/// The same, with another patience.
pub(super) fn reads_within<S>(patience: Duration, source: &S, records: usize, scenario: &Scenario)
where
    S: Source,
    S::Out: Ord + Clone + Debug,
{
    let first = scenario.lives.first().map_or(scenario.last, |life| life.readers);
    let mut splits = source.enumerate(first).expect("the source lists its splits");
    let alone = |split: &S::Split| deal(source, vec![split.clone()], 1);
    let mut by_split: Vec<Vec<S::Reader>> = splits.iter().map(alone).collect();
    let mut readers: Vec<&mut S::Reader> = by_split.iter_mut().flatten().collect();
    let expected = places(read_until(&mut readers, records, patience));
    let mut seen = Vec::new();
    for life in &scenario.lives {
        let mut readers = deal(source, splits, life.readers);
        seen.extend(take_turns(&mut readers, life));
        splits = readers.iter().flat_map(snapshot_of::<S>).collect();
        take_turns(&mut readers, life);
    }
    let mut last = deal(source, splits, scenario.last);
    let mut readers: Vec<&mut S::Reader> = last.iter_mut().collect();
    let missing = records.saturating_sub(seen.len());
    seen.extend(read_until(&mut readers, missing, patience).concat());
    let rest = last.iter().flat_map(snapshot_of::<S>).collect();
    let mut again = deal(source, rest, 1);
    let after = take_turns(
        &mut again,
        &Life {
            readers: 1,
            turns: EXTRA_TURNS,
            limit: 7,
        },
    );
    assert!(after.is_empty(), "records come again after all were read: {after:?}");
    assert_once_and_in_order(&seen, &expected);
}

/// Takes turns until so many records have come, and some more. Returns what came to each reader.
fn read_until<R: SourceReader>(readers: &mut [&mut R], records: usize, patience: Duration) -> Vec<Vec<R::Out>> {
    let mut came: Vec<Vec<R::Out>> = readers.iter().map(|_| Vec::new()).collect();
    let mut count = 0;
    let mut waited = Duration::ZERO;
    let mut extra = EXTRA_TURNS;
    while count < records || extra > 0 {
        extra -= u32::from(count >= records);
        let mut idle = Duration::MAX;
        for (reader, came) in readers.iter_mut().zip(&mut came) {
            let before = came.len();
            let status = reader.poll(came, 7).expect("the source can be read");
            count += came.len() - before;
            idle = idle.min(match status {
                SourceStatus::More => Duration::ZERO,
                SourceStatus::Idle(wait) => wait,
                SourceStatus::End => Duration::MAX,
            });
        }
        assert!(
            idle < Duration::MAX || count >= records,
            "all splits have ended, and {count} of {records} records came"
        );
        if count < records && !idle.is_zero() {
            let wait = idle.min(LONGEST_WAIT);
            std::thread::sleep(wait);
            waited += wait;
            assert!(waited < patience, "{count} of {records} records came in {patience:?}");
        }
    }
    assert_eq!(count, records, "more records came than there are");
    came
}

/// Reads a bounded source whose records are all different, through all lives of the scenario. Panics unless every record
/// comes exactly once, in the order of its split.
///
/// Before each restore the superseded readers read on, as they do in a real failure: what they read must not matter.
pub fn reads_every_record_once<S>(source: &S, scenario: &Scenario)
where
    S: Source,
    S::Out: Ord + Clone + Debug,
{
    let first = scenario.lives.first().map_or(scenario.last, |life| life.readers);
    let mut splits = source.enumerate(first).expect("the source lists its splits");
    let expected = expected_order(source, &splits);
    let mut seen = Vec::new();
    for life in &scenario.lives {
        let mut readers = deal(source, splits, life.readers);
        seen.extend(take_turns(&mut readers, life));
        splits = readers.iter().flat_map(snapshot_of::<S>).collect();
        take_turns(&mut readers, life);
    }
    for mut reader in deal(source, splits, scenario.last) {
        seen.extend(read_to_end::<S>(&mut reader));
        let rest = deal(source, snapshot_of::<S>(&reader), 1)
            .pop()
            .expect("one reader was asked for");
        assert!(
            read_to_end::<S>(&mut { rest }).is_empty(),
            "splits that were read to their end yield no record again"
        );
    }
    assert_once_and_in_order(&seen, &expected);
}

/// The split and place of each record.
fn expected_order<S>(source: &S, splits: &[S::Split]) -> BTreeMap<S::Out, (usize, usize)>
where
    S: Source,
    S::Out: Ord + Clone + Debug,
{
    let read = |split: &S::Split| {
        let mut readers = deal(source, vec![split.clone()], 1);
        readers.iter_mut().flat_map(read_to_end::<S>).collect()
    };
    places(splits.iter().map(read).collect())
}

fn places<T: Ord + Clone + Debug>(by_split: Vec<Vec<T>>) -> BTreeMap<T, (usize, usize)> {
    let mut expected = BTreeMap::new();
    for (index, records) in by_split.into_iter().enumerate() {
        for (place, record) in records.into_iter().enumerate() {
            let other = expected.insert(record.clone(), (index, place));
            assert!(
                other.is_none(),
                "the suite needs records that are all different, but has twice {record:?}"
            );
        }
    }
    expected
}

fn assert_once_and_in_order<T: Ord + Debug>(seen: &[T], expected: &BTreeMap<T, (usize, usize)>) {
    let mut next: BTreeMap<usize, usize> = BTreeMap::new();
    for record in seen {
        let (split, place) = expected
            .get(record)
            .unwrap_or_else(|| panic!("{record:?} is no record of the source"));
        let due = next.entry(*split).or_default();
        assert_eq!(
            place, due,
            "record {record:?} of split {split} is missing, doubled or out of order"
        );
        *due += 1;
    }
    assert_eq!(seen.len(), expected.len(), "records are lost at the end of a split");
}

/// Readers with the splits dealt out in turn, after a way through their encoding.
fn deal<S: Source>(source: &S, splits: Vec<S::Split>, readers: u32) -> Vec<S::Reader> {
    let mut dealt: Vec<Vec<S::Split>> = (0..readers).map(|_| Vec::new()).collect();
    for (index, split) in splits.iter().enumerate() {
        dealt[index % readers as usize].push(from_row(&to_row(split)).expect("a split survives its encoding"));
    }
    dealt
        .into_iter()
        .map(|splits| {
            let mut reader = source.reader().expect("the source makes a reader");
            reader.add_splits(splits).expect("the reader takes splits");
            reader
        })
        .collect()
}

fn take_turns<R: SourceReader>(readers: &mut [R], life: &Life) -> Vec<R::Out> {
    let mut records = Vec::new();
    let count = readers.len();
    for turn in 0..life.turns as usize {
        let before = records.len();
        readers[turn % count]
            .poll(&mut records, life.limit)
            .expect("the source can be read");
        assert!(
            records.len() <= before + life.limit,
            "a turn yields more records than allowed"
        );
    }
    records
}

fn snapshot_of<S: Source>(reader: &S::Reader) -> Vec<S::Split> {
    let snapshot = reader.snapshot();
    let encoded = |splits: &[S::Split]| splits.iter().map(to_row).collect::<Vec<_>>();
    assert_eq!(
        encoded(&snapshot),
        encoded(&reader.snapshot()),
        "a second snapshot without a turn between is the same"
    );
    snapshot
}

fn read_to_end<S: Source>(reader: &mut S::Reader) -> Vec<S::Out> {
    let mut records = Vec::new();
    let mut empty_turns = 0;
    loop {
        let before = records.len();
        let status = reader.poll(&mut records, 7).expect("the source can be read");
        if status == SourceStatus::End {
            break;
        }
        empty_turns = if records.len() > before { 0 } else { empty_turns + 1 };
        assert!(empty_turns < MAX_EMPTY_TURNS, "the source hangs");
    }
    let count = records.len();
    let again = reader
        .poll(&mut records, 7)
        .expect("a source at its end can be asked again");
    assert_eq!(
        (again, records.len()),
        (SourceStatus::End, count),
        "the end of a source is for good"
    );
    records
}

/// Scenarios for property tests.
#[cfg(test)]
impl proptest::arbitrary::Arbitrary for Scenario {
    type Parameters = ();
    type Strategy = proptest::strategy::BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        use proptest::prelude::*;
        let life = (1u32..5, 0u32..20, 1usize..40).prop_map(|(readers, turns, limit)| Life { readers, turns, limit });
        (proptest::collection::vec(life, 0..4), 1u32..5)
            .prop_map(|(lives, last)| Self { lives, last })
            .boxed()
    }
}
