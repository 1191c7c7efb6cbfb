//! The world outside of the job: what readers of its output see, commit by commit.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use streamd_core::graph::Guarantee;
use streamd_core::sink::{Sink, SinkContext, SinkWriter};
use streamd_core::source::ConnectorError;
use streamd_core::time::ManualClock;

use crate::dice::Dice;
use crate::input::SimulatedSource;

/// Where the job's input comes from and its output goes. Cheap to clone; all processes of a simulation share it.
#[derive(Clone)]
pub struct Outside {
    world: Arc<Mutex<World>>,
    clock: Arc<ManualClock>,
}

#[derive(Default)]
struct World {
    outputs: BTreeMap<String, Output>,
    /// What must come out in the end, if that is known: nothing else may ever be seen.
    expected: Option<BTreeMap<String, BTreeMap<String, u64>>>,
    trouble: Option<(Dice, u64)>,
    violation: Option<String>,
    refused: u64,
    repeated: u64,
}

#[derive(Default)]
struct Output {
    /// The identities of transactions that are committed.
    committed: BTreeSet<String>,
    lines: BTreeMap<String, u64>,
}

impl Outside {
    pub(crate) fn new(clock: Arc<ManualClock>) -> Self {
        Self {
            world: Arc::default(),
            clock,
        }
    }

    /// A source with these splits, each of which is read in order by one subtask, a few records at a time.
    pub fn source<T>(&self, splits: Vec<Vec<T>>) -> SimulatedSource<T> {
        SimulatedSource::new(splits, Arc::clone(&self.clock))
    }

    /// A source that leaves a record out when it begins again: what no source must do, to see that it is found.
    pub fn forgetful_source<T>(&self, splits: Vec<Vec<T>>) -> SimulatedSource<T> {
        self.source(splits).forgetful()
    }

    /// A sink in two phases whose records are seen under this name, as JSON.
    pub fn sink<T>(&self, name: impl Into<String>) -> SimulatedSink<T> {
        SimulatedSink {
            name: name.into(),
            outside: self.clone(),
            is_hasty: false,
            records: PhantomData,
        }
    }

    /// A sink that shows what is written to it at once: what no sink must do, to see that it is found.
    pub fn hasty_sink<T>(&self, name: impl Into<String>) -> SimulatedSink<T> {
        SimulatedSink {
            is_hasty: true,
            ..self.sink(name)
        }
    }

    /// What readers see of each output, in order.
    pub(crate) fn outputs(&self) -> BTreeMap<String, Vec<String>> {
        let world = self.lock();
        let repeat = |(line, count): (&String, &u64)| std::iter::repeat_n(line.clone(), *count as usize);
        let outputs = world.outputs.iter();
        outputs
            .map(|(name, output)| (name.clone(), output.lines.iter().flat_map(repeat).collect()))
            .collect()
    }

    /// Nothing but this may ever be seen.
    pub(crate) fn expect(&self, outputs: &BTreeMap<String, Vec<String>>) {
        let mut expected: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for (name, lines) in outputs {
            let counts = expected.entry(name.clone()).or_default();
            for line in lines {
                *counts.entry(line.clone()).or_default() += 1;
            }
        }
        self.lock().expected = Some(expected);
    }

    /// From now on some commits fail, before or after the fact; with no dice, none does.
    pub(crate) fn trouble(&self, dice: Option<(Dice, u64)>) {
        self.lock().trouble = dice;
    }

    /// What was seen that must not be.
    pub(crate) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    /// How many commits failed, and how many came again.
    pub(crate) fn commits(&self) -> (u64, u64) {
        let world = self.lock();
        (world.refused, world.repeated)
    }

    fn commit(&self, name: &str, transaction: &(String, Vec<String>)) -> Result<(), ConnectorError> {
        let mut world = self.lock();
        // Whether it fails, and then whether it was done all the same.
        let fails = |(dice, rate): &mut (Dice, u64)| dice.happens(*rate).then(|| dice.happens(500));
        let fate = world.trouble.as_mut().and_then(fails);
        let failed = || ConnectorError::new(format!("output `{name}` did not answer to a commit"));
        if fate.is_some() {
            world.refused += 1;
        }
        if fate == Some(false) {
            return Err(failed());
        }
        world.apply(name, transaction);
        match fate {
            Some(_applied) => Err(failed()),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    fn apply(&mut self, name: &str, (id, lines): &(String, Vec<String>)) {
        let output = self.outputs.entry(name.to_owned()).or_default();
        if !output.committed.insert(id.clone()) {
            self.repeated += 1;
            return;
        }
        for line in lines {
            let count = output.lines.entry(line.clone()).or_default();
            *count += 1;
            let Some(expected) = &self.expected else { continue };
            let due = expected
                .get(name)
                .and_then(|lines| lines.get(line))
                .copied()
                .unwrap_or(0);
            if *count > due {
                let times = *count;
                let what = format!("I2: output `{name}` shows {line} {times} times, and {due} times are right");
                self.violation.get_or_insert(what);
            }
        }
    }
}

/// A sink whose output is seen by the simulation once it is committed.
pub struct SimulatedSink<T> {
    name: String,
    outside: Outside,
    is_hasty: bool,
    records: PhantomData<fn(T)>,
}

impl<T> Clone for SimulatedSink<T> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            outside: self.outside.clone(),
            is_hasty: self.is_hasty,
            records: PhantomData,
        }
    }
}

impl<T: Serialize + Send + 'static> Sink for SimulatedSink<T> {
    type In = T;
    /// The identity of the transaction, and its records.
    type Committable = (String, Vec<String>);
    type Writer = SimulatedWriter<T>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, context: &SinkContext) -> Result<Self::Writer, ConnectorError> {
        Ok(SimulatedWriter {
            identity: format!("{}-{}-{}", context.operator, context.subtask, context.nonce),
            transactions: 0,
            hastily: self.is_hasty.then(|| self.clone()),
            open: Vec::new(),
            records: PhantomData,
        })
    }

    fn commit(&self, committables: &[Self::Committable]) -> Result<(), ConnectorError> {
        committables
            .iter()
            .try_for_each(|transaction| self.outside.commit(&self.name, transaction))
    }
}

/// Writes for one subtask.
pub struct SimulatedWriter<T> {
    identity: String,
    transactions: u64,
    hastily: Option<SimulatedSink<T>>,
    open: Vec<String>,
    records: PhantomData<fn(T)>,
}

impl<T: Serialize + Send + 'static> SinkWriter for SimulatedWriter<T> {
    type In = T;
    type Committable = (String, Vec<String>);

    fn write(&mut self, batch: &mut Vec<T>) -> Result<(), ConnectorError> {
        for record in batch.drain(..) {
            let line = serde_json::to_string(&record);
            self.open
                .push(line.map_err(|error| ConnectorError::caused("a record cannot be shown as JSON", error))?);
        }
        if let Some(sink) = self.hastily.clone() {
            return sink.commit(&self.prepare_commit()?);
        }
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<Self::Committable>, ConnectorError> {
        if self.open.is_empty() {
            return Ok(Vec::new());
        }
        self.transactions += 1;
        let id = format!("{}-{}", self.identity, self.transactions);
        Ok(vec![(id, std::mem::take(&mut self.open))])
    }
}
