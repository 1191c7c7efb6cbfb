//! The numbers of a [`GeneratorSource`], held back from some number on while a file exists.

use std::path::PathBuf;

use streamd::connectors::generator::Generated;
use streamd::connectors::strided::{StridedReader, StridedSplit};
use streamd::prelude::*;
use streamd::{ConnectorError, Guarantee, Source, SourceReader, SourceStatus, Stretch};

/// The pause between two looks at a gate that is closed.
const PAUSE: Duration = Duration::from_millis(10);

/// How many splits there are, at any parallelism.
const SPLITS: u32 = 4;

/// Where the numbers stop, and until when.
#[derive(Clone, clap::Args)]
pub struct Hold {
    /// Emit no number from this one on
    #[arg(long, requires = "hold_while")]
    hold_at: Option<u64>,
    /// For as long as this file exists
    #[arg(long, requires = "hold_at")]
    hold_while: Option<PathBuf>,
    /// In this one of the four splits only
    #[arg(long, requires = "hold_at")]
    hold_split: Option<u64>,
}

impl Hold {
    fn is_on(&self) -> bool {
        self.hold_while.as_ref().is_some_and(|file| file.exists())
    }

    /// A split as far as it is free now, and the rest of it.
    fn part(&self, split: StridedSplit) -> (StridedSplit, Option<StridedSplit>) {
        let is_meant = self.hold_split.is_none_or(|number| number == index_of(&split));
        let Some(first_held) = self.hold_at.filter(|_| is_meant && self.is_on()) else {
            return (split, None);
        };
        let steps = first_held.saturating_sub(split.next).div_ceil(split.stride);
        let free = StridedSplit {
            end: Some(split.end.map_or(first_held, |end| end.min(first_held))),
            ..split
        };
        let rest = StridedSplit {
            next: split.next + steps * split.stride,
            ..split
        };
        (free, Some(rest))
    }
}

/// The numbers from 0 on.
#[derive(Clone)]
pub struct HeldNumbers {
    numbers: GeneratorSource<fn(u64) -> u64>,
    hold: Hold,
}

impl HeldNumbers {
    /// `count` numbers, or numbers without end, this many per second in each subtask; 0 is without limit.
    pub fn new(count: Option<u64>, rate: u64, hold: Hold) -> Self {
        let identity: fn(u64) -> u64 = |number| number;
        Self {
            numbers: GeneratorSource::new(count, identity).rate(rate).splits(SPLITS),
            hold,
        }
    }
}

impl Source for HeldNumbers {
    type Out = u64;
    type Split = StridedSplit;
    type Reader = HeldReader;

    fn guarantee(&self) -> Guarantee {
        self.numbers.guarantee()
    }

    fn enumerate(&self, parallelism: u32) -> Result<Vec<StridedSplit>, ConnectorError> {
        self.numbers.enumerate(parallelism)
    }

    fn reader(&self) -> Result<HeldReader, ConnectorError> {
        Ok(HeldReader {
            numbers: self.numbers.clone(),
            free: self.numbers.reader()?,
            held: Vec::new(),
            hold: self.hold.clone(),
        })
    }
}

/// Reads what is free, and what is held once the gate is open.
pub struct HeldReader {
    numbers: GeneratorSource<fn(u64) -> u64>,
    free: StridedReader<Generated<fn(u64) -> u64>>,
    /// What comes behind the splits that end at the gate.
    held: Vec<StridedSplit>,
    hold: Hold,
}

impl SourceReader for HeldReader {
    type Out = u64;
    type Split = StridedSplit;

    fn add_splits(&mut self, splits: Vec<StridedSplit>) -> Result<(), ConnectorError> {
        let mut free = Vec::new();
        for split in splits {
            let (before, rest) = self.hold.part(split);
            free.push(before);
            self.held.extend(rest);
        }
        self.free.add_splits(free)
    }

    fn poll(&mut self, out: &mut Vec<u64>, limit: usize) -> Result<SourceStatus, ConnectorError> {
        match self.free.poll(out, limit)? {
            SourceStatus::End if self.held.is_empty() => Ok(SourceStatus::End),
            SourceStatus::End if self.hold.is_on() => Ok(SourceStatus::Idle(PAUSE)),
            SourceStatus::End => {
                let all = self.snapshot();
                self.held.clear();
                // Whole splits again, each in one piece.
                self.free = self.numbers.reader()?;
                self.free.add_splits(all)?;
                Ok(SourceStatus::More)
            }
            other => Ok(other),
        }
    }

    fn last_read(&self) -> &[Stretch] {
        self.free.last_read()
    }

    fn snapshot(&self) -> Vec<StridedSplit> {
        let whole = |free: StridedSplit| {
            let rest = self.held.iter().find(|rest| index_of(rest) == index_of(&free));
            match rest {
                // Not at the gate yet.
                Some(rest) if free.end.is_some_and(|end| free.next < end) => StridedSplit { end: rest.end, ..free },
                Some(rest) => *rest,
                None => free,
            }
        };
        self.free.snapshot().into_iter().map(whole).collect()
    }
}

/// Which of the splits of a source it is: the numbers of each leave another remainder.
fn index_of(split: &StridedSplit) -> u64 {
    split.next % split.stride
}
