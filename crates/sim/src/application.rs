//! Applications whose output tells what became of each record, whatever order records of different keys come in.

use clap::ValueEnum;
use streamd::prelude::*;
use streamd::testing::{Outside, Sabotage};

/// Splits of the input, each with keys of its own: the records of a key come in one order.
const SPLITS: u64 = 3;

/// Keys of each split.
const KEYS: u64 = 4;

/// Records of each split.
const RECORDS: u64 = 1_200;

/// Records of each split of the short topology: there are as many runs as there are messages.
const FEW_RECORDS: u64 = 160;

/// Milliseconds of event time between two records of a split.
const STEP_MS: u64 = 10;

/// What the application does.
#[derive(Clone, Copy, ValueEnum)]
pub enum Topology {
    /// Numbers the records of each key, and digests them in their order
    Ordinals,
    /// Sums the records of each key in windows of event time
    Windows,
    /// As the first, beside a pipeline without an exchange, in slots of its own: regions that restart alone
    Regions,
    /// As the first, on two workers and with few records: to crash at each thing that it does
    Short,
}

/// What is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Broken {
    /// The application counts in a field of its own instead of in state
    ForgetsState,
    /// The sink commits what it writes before the checkpoint is complete
    CommitsEarly,
    /// The source leaves a record out when it begins again
    SkipsRecords,
    /// The store forgets writes that it has confirmed
    LosesWrites,
    /// Channels deliver elements out of order
    Reorders,
    /// Workers that are told to end do not
    Lingers,
}

impl Topology {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ordinals => "ordinals",
            Self::Windows => "windows",
            Self::Regions => "regions",
            Self::Short => "short",
        }
    }
}

impl Broken {
    pub fn name(self) -> &'static str {
        match self {
            Self::ForgetsState => "forgets-state",
            Self::CommitsEarly => "commits-early",
            Self::SkipsRecords => "skips-records",
            Self::LosesWrites => "loses-writes",
            Self::Reorders => "reorders",
            Self::Lingers => "lingers",
        }
    }

    /// What of it is the cluster's, and not the application's.
    pub fn of_cluster(self) -> Option<Sabotage> {
        match self {
            Self::ForgetsState | Self::CommitsEarly | Self::SkipsRecords => None,
            Self::LosesWrites => Some(Sabotage::LosesWrites),
            Self::Reorders => Some(Sabotage::Reorders),
            Self::Lingers => Some(Sabotage::Lingers),
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

/// A pipeline in which each subtask has splits of its own, of which some end long before the others.
fn pass_on(env: &StreamExecutionEnvironment, outside: &Outside) {
    let split = |split: u64| (0..RECORDS / (split + 1)).map(move |number| (split, number)).collect();
    env.from_source(outside.source((0..SPLITS).map(split).collect()), "lines")
        .uid("lines")
        .slot_sharing_group("lines")
        .sink_to(outside.sink("lines"))
        .uid("copy");
}

/// Builds the application.
pub fn build(outside: &Outside, topology: Topology, broken: Option<Broken>) -> StreamExecutionEnvironment {
    let (parallelism, records) = match topology {
        Topology::Ordinals | Topology::Windows => (3, RECORDS),
        Topology::Regions => (2, RECORDS),
        Topology::Short => (2, FEW_RECORDS),
    };
    let env = StreamExecutionEnvironment::new();
    env.set_parallelism(parallelism);
    let split = |split: u64| {
        (0..records)
            .map(move |number| (split * KEYS + number % KEYS, number))
            .collect()
    };
    let splits = (0..SPLITS).map(split).collect();
    let source = match broken == Some(Broken::SkipsRecords) {
        true => outside.forgetful_source(splits),
        false => outside.source(splits),
    };
    match topology {
        Topology::Ordinals | Topology::Short | Topology::Regions => {
            if let Topology::Regions = topology {
                pass_on(&env, outside);
            }
            let function = Ordinals {
                seen: ValueState::new("seen"),
                field: (broken == Some(Broken::ForgetsState)).then(Default::default),
            };
            let numbers = env.from_source(source, "numbers").uid("numbers");
            let ordinals = numbers.key_by(|number| number.0).process(function).uid("ordinals");
            match broken == Some(Broken::CommitsEarly) {
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
