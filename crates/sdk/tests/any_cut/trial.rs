//! A random stream, the legs of the job that reads it, and how it is run.

use std::sync::Arc;

use proptest::prelude::*;
use streamd::prelude::*;

use crate::committed::lines;
use crate::events::{Event, Events};
use crate::life::{JITTER, Keeping, Life, OFTEN, keepings};

pub type Done = std::result::Result<(), BoxError>;

/// Random streams for each operator: whole jobs cost more than steps by hand. `PROPTEST_CASES` makes it more.
const CASES: u32 = 12;

/// What happens to a job in one of its lives.
#[derive(Debug, Clone)]
struct Leg {
    /// How much of the stream may have been read when it is over, in percent.
    upto: u64,
    parallelism: u32,
    keeping: Keeping,
    /// Whether it fails on the way, and goes back to a checkpoint.
    fails: bool,
}

/// A stream, and the lives of the job that reads it. The last one reads to the end.
#[derive(Debug, Clone)]
pub struct Trial {
    events: Arc<[Event]>,
    legs: Vec<Leg>,
}

pub fn trials() -> impl Strategy<Value = Trial> {
    let events = prop::collection::vec((0u32..5, 0i64..4, 0..JITTER), 1..250);
    let leg = (
        0u64..100,
        1u32..5,
        prop::sample::select(keepings()),
        prop::bool::weighted(0.3),
    );
    let legs = leg.prop_map(|(upto, parallelism, keeping, fails)| Leg {
        upto,
        parallelism,
        keeping,
        fails,
    });
    (events, prop::collection::vec(legs, 1..4)).prop_map(|(steps, mut legs)| {
        let mut now = 0;
        let event = |(number, (key, step, behind)): (u64, (u32, i64, i64))| {
            now += step;
            (number, key, now - behind)
        };
        let events = (0..).zip(steps).map(event).collect();
        legs.sort_by_key(|leg| leg.upto);
        Trial { events, legs }
    })
}

pub fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(CASES),
        max_shrink_iters: 20,
        // A failure prints its trial: files of seeds would only fit this version of the strategy.
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

impl Trial {
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Runs the job leg by leg. Returns the lines that it has committed in the end, sorted.
    pub fn run(&self, build: impl Fn(&DataStream<Event>) -> DataStream<String>) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output");
        std::fs::create_dir(&output).unwrap();
        let mut left: Option<String> = None;
        let mut before = 0;
        for (number, leg) in (1..).zip(&self.legs) {
            let life = Life {
                keeping: leg.keeping,
                parallelism: leg.parallelism,
                checkpoint_every: OFTEN,
                events: Events::new(&self.events),
            };
            let is_last = number == self.legs.len();
            let upto = self.events.len() as u64 * leg.upto / 100;
            match is_last {
                true => life.events.let_end(),
                false => life.events.let_read(upto),
            }
            let client = life.start(&output, left.as_deref(), &build);
            if is_last {
                client.wait().unwrap();
                break;
            }
            client.wait_for_restarts(0).unwrap();
            life.wait_for_events(&client, upto - before);
            if leg.fails {
                client.wait_for_checkpoints(1).unwrap();
                client.fail("a trial").unwrap();
                client.wait_for_restarts(1).unwrap();
            }
            left = Some(life.leave(client, &folder.path().join(format!("left-{number}"))));
            before = upto;
        }
        lines(&output)
    }

    /// Runs the job, and compares its lines, one by one, with what they must be.
    pub fn check(
        &self,
        expected: impl IntoIterator<Item = String>,
        build: impl Fn(&DataStream<Event>) -> DataStream<String>,
    ) -> Result<(), TestCaseError> {
        let mut expected: Vec<_> = expected.into_iter().collect();
        expected.sort();
        prop_assert_eq!(self.run(build), expected);
        Ok(())
    }
}
