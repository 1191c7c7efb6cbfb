//! Applications whose output tells what became of each record, whatever order records of different keys come in.

use clap::ValueEnum;
use streamd::prelude::*;
use streamd::testing::Outside;

/// Splits of the input, each with keys of its own: the records of a key come in one order.
const SPLITS: u64 = 3;

/// Keys of each split.
const KEYS: u64 = 4;

/// Records of each split.
const RECORDS: u64 = 1_200;

/// Milliseconds of event time between two records of a split.
const STEP_MS: u64 = 10;

/// What the application does.
#[derive(Clone, Copy, ValueEnum)]
pub enum Topology {
    /// Numbers the records of each key, and digests them in their order
    Ordinals,
    /// Sums the records of each key in windows of event time
    Windows,
}

/// How the application is broken.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sabotage {
    /// It counts in a field of its own instead of in state
    ForgetsState,
    /// It commits what it writes before the checkpoint is complete
    CommitsEarly,
}

impl Topology {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ordinals => "ordinals",
            Self::Windows => "windows",
        }
    }
}

impl Sabotage {
    pub fn name(self) -> &'static str {
        match self {
            Self::ForgetsState => "forgets-state",
            Self::CommitsEarly => "commits-early",
        }
    }
}

/// Key and number of a record.
type Number = (u64, u64);

/// Numbers the records of each key. The digest depends on all of them and on their order.
#[derive(Clone)]
struct Ordinals {
    seen: ValueState<(u64, u64)>,
    /// Where a careless author would count.
    field: Option<std::collections::BTreeMap<u64, (u64, u64)>>,
}

impl KeyedProcessFunction<u64, Number, (u64, u64, u64)> for Ordinals {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Result<(), BoxError> {
        state.register(&mut self.seen)
    }

    fn process_element(
        &mut self,
        (key, number): Number,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, (u64, u64, u64)>,
    ) -> Result<(), BoxError> {
        let seen = match &mut self.field {
            Some(field) => field.entry(key).or_default(),
            None => self.seen.get_or_default(context),
        };
        seen.0 += 1;
        seen.1 = (seen.1 ^ number).wrapping_mul(0x0000_0100_0000_01b3);
        out.collect((key, seen.0, seen.1));
        Ok(())
    }
}

/// Builds the application.
pub fn build(outside: &Outside, topology: Topology, sabotage: Option<Sabotage>) -> StreamExecutionEnvironment {
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(3);
    let split = |split: u64| {
        (0..RECORDS)
            .map(move |number| (split * KEYS + number % KEYS, number))
            .collect()
    };
    let source = outside.source((0..SPLITS).map(split).collect());
    match topology {
        Topology::Ordinals => {
            let function = Ordinals {
                seen: ValueState::new("seen"),
                field: (sabotage == Some(Sabotage::ForgetsState)).then(Default::default),
            };
            let numbers = env.from_source(source, "numbers").uid("numbers");
            let ordinals = numbers.key_by(|number| number.0).process(function).uid("ordinals");
            match sabotage == Some(Sabotage::CommitsEarly) {
                true => ordinals.sink_to(outside.hasty_sink("ordinals")).uid("output"),
                false => ordinals.sink_to(outside.sink("ordinals")).uid("output"),
            };
        }
        Topology::Windows => {
            let times = WatermarkStrategy::for_monotonous_timestamps()
                .with_timestamp_assigner(|number: &Number, _before| (number.1 * STEP_MS).cast_signed());
            env.from_source(source, "numbers")
                .uid("numbers")
                .assign_timestamps_and_watermarks(times)
                .key_by(|number| number.0)
                .window(TumblingEventTimeWindows::of(Duration::from_millis(25 * STEP_MS)))
                .reduce(|sum, number| sum.1 += number.1)
                .uid("sums")
                .sink_to(outside.sink("sums"))
                .uid("output");
        }
    }
    env
}
