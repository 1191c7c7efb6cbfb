//! An application for tests in several versions: each keeps its state in other types than the one before.

mod held;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Parser;
use streamd::prelude::*;

use crate::held::{HeldNumbers, Hold};

#[derive(Parser)]
struct Args {
    /// The folder for the output
    #[arg(long)]
    output: PathBuf,
    /// Which version of the application this is
    #[arg(long)]
    version: u8,
    /// How many records there are
    #[arg(long)]
    records: u64,
    /// Records per second of each subtask; 0 is without limit
    #[arg(long, default_value_t = 0)]
    rate: u64,
    #[command(flatten)]
    hold: Hold,
}

const KEYS: u64 = 10;

#[derive(Clone, Serialize, Deserialize)]
struct Line {
    version: u8,
    key: u64,
    count: u64,
    legs: i64,
    phase: String,
    note: String,
}

/// What a version keeps for each key.
trait Tally: State {
    const VERSION: u8;

    fn first() -> Self;
    fn add(&mut self, number: u64);
    fn line(&self, key: u64) -> Line;
}

mod first {
    use super::*;

    #[derive(Clone, State)]
    pub struct Leg {
        pub minutes: i16,
    }

    #[derive(Clone, State)]
    pub enum Phase {
        Up,
        Down { since: u32 },
    }

    #[derive(Clone, State)]
    pub struct Tally {
        pub count: u32,
        pub gate: String,
        pub legs: Vec<Leg>,
        pub by_parity: BTreeMap<bool, Leg>,
        pub phase: Phase,
    }

    impl super::Tally for Tally {
        const VERSION: u8 = 1;

        fn first() -> Self {
            Self {
                count: 0,
                gate: "B12".to_owned(),
                legs: vec![Leg { minutes: 0 }, Leg { minutes: 0 }],
                by_parity: BTreeMap::new(),
                phase: Phase::Up,
            }
        }

        fn add(&mut self, number: u64) {
            self.count += 1;
            self.legs[1].minutes += 1;
            let parity = self
                .by_parity
                .entry((number / KEYS).is_multiple_of(2))
                .or_insert(Leg { minutes: 0 });
            parity.minutes += 1;
            if self.count == 3 {
                self.phase = Phase::Down { since: 3 };
            }
        }

        fn line(&self, key: u64) -> Line {
            let parities: i16 = self.by_parity.values().map(|leg| leg.minutes).sum();
            Line {
                version: 1,
                key,
                count: self.count.into(),
                legs: i64::from(self.legs[1].minutes).min(parities.into()),
                phase: match self.phase {
                    Phase::Up => "up".to_owned(),
                    Phase::Down { since } => format!("down since {since}"),
                },
                note: self.gate.clone(),
            }
        }
    }
}

/// Fields are renamed, widened, reordered, added and removed, at the top, in a list, in a map and in a variant.
mod second {
    use super::*;

    #[derive(Clone, State)]
    pub struct Leg {
        #[state(default = "unknown")]
        pub carrier: String,
        pub minutes: i64,
    }

    #[derive(Clone, State)]
    pub enum Phase {
        Parked,
        #[state(alias = "Up")]
        Climbing,
        Down {
            since: u64,
            runway: Option<u8>,
        },
    }

    #[derive(Clone, State)]
    pub struct Tally {
        pub phase: Phase,
        pub by_parity: BTreeMap<bool, Leg>,
        pub legs: Vec<Leg>,
        #[state(alias = "count")]
        pub flights: u64,
        #[state(default)]
        pub note: String,
        pub worst: Option<i64>,
    }

    impl super::Tally for Tally {
        const VERSION: u8 = 2;

        fn first() -> Self {
            Self {
                phase: Phase::Parked,
                by_parity: BTreeMap::new(),
                legs: Vec::new(),
                flights: 0,
                note: "new".to_owned(),
                worst: None,
            }
        }

        fn add(&mut self, number: u64) {
            self.flights += 1;
            self.legs[1].minutes += 1;
            if let Some(parity) = self.by_parity.get_mut(&((number / KEYS).is_multiple_of(2))) {
                parity.minutes += 1;
            }
        }

        fn line(&self, key: u64) -> Line {
            let parities: i64 = self.by_parity.values().map(|leg| leg.minutes).sum();
            Line {
                version: 2,
                key,
                count: self.flights,
                legs: self.legs[1].minutes.min(parities),
                phase: match &self.phase {
                    Phase::Parked => "parked".to_owned(),
                    Phase::Climbing => "up".to_owned(),
                    Phase::Down { since, runway } => format!("down since {since}, runway {runway:?}"),
                },
                note: format!("{}{}{:?}", self.note, self.legs[1].carrier, self.worst),
            }
        }
    }
}

/// A function makes the state of version 1 into something else altogether.
mod third {
    use super::*;

    #[derive(Clone, State)]
    #[state(migrate = of_first)]
    pub struct Tally(pub String);

    fn of_first(old: first::Tally) -> Tally {
        Tally(format!("{}/{}", old.count, old.legs[1].minutes))
    }

    impl super::Tally for Tally {
        const VERSION: u8 = 3;

        fn first() -> Self {
            Self("0/0".to_owned())
        }

        fn add(&mut self, _number: u64) {
            let (count, legs) = self.numbers();
            self.0 = format!("{}/{}", count + 1, legs + 1);
        }

        fn line(&self, key: u64) -> Line {
            let (count, legs) = self.numbers();
            Line {
                version: 3,
                key,
                count,
                legs,
                phase: String::new(),
                note: self.0.clone(),
            }
        }
    }

    impl Tally {
        fn numbers(&self) -> (u64, i64) {
            let numbers = self
                .0
                .split_once('/')
                .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            numbers.unwrap_or_default()
        }
    }
}

/// A number became narrower, which no rule covers.
mod fourth {
    use super::*;

    #[derive(Clone, State)]
    pub struct Tally {
        pub count: u16,
    }

    impl super::Tally for Tally {
        const VERSION: u8 = 4;

        fn first() -> Self {
            Self { count: 0 }
        }

        fn add(&mut self, _number: u64) {
            self.count += 1;
        }

        fn line(&self, key: u64) -> Line {
            Line {
                version: 4,
                key,
                count: self.count.into(),
                legs: 0,
                phase: String::new(),
                note: String::new(),
            }
        }
    }
}

#[derive(Clone)]
struct Count<T: State> {
    tally: ValueState<T>,
}

impl<T: Tally> KeyedProcessFunction<u64, u64, Line> for Count<T> {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Result<(), BoxError> {
        state.register(&mut self.tally)
    }

    fn process_element(
        &mut self,
        number: u64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Line>,
    ) -> Result<(), BoxError> {
        let tally = self.tally.get_or_insert_with(context, T::first);
        tally.add(number);
        out.collect(tally.line(number % KEYS));
        Ok(())
    }
}

fn run<T: Tally>(args: Args) -> streamd::Result<()> {
    let env = StreamExecutionEnvironment::new();
    let numbers = HeldNumbers::new(Some(args.records), args.rate, args.hold);
    env.from_source(numbers, "numbers")
        .uid("numbers")
        .key_by(|number| number % KEYS)
        .process(Count::<T> {
            tally: ValueState::new("tally"),
        })
        .uid("tallies")
        .sink_to(FileSink::json_lines(
            args.output.join(format!("version-{}", T::VERSION)),
        ))
        .uid("lines");
    env.execute("evolving")?;
    Ok(())
}

fn main() -> streamd::Result<()> {
    let args = Args::parse();
    match args.version {
        1 => run::<first::Tally>(args),
        2 => run::<second::Tally>(args),
        3 => run::<third::Tally>(args),
        _four => run::<fourth::Tally>(args),
    }
}
