//! Random streams through the operator, cut and rescaled anywhere, and through the definition.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use streamd_core::backend::StateBackendOptions;
use streamd_core::state::State;
use streamd_runtime::harness::OperatorTestHarness;
use streamd_runtime::window::{
    DefaultTrigger, EventTimeSessionWindows, EventTimeTrigger, Lateness, ListContents, PurgingTrigger, ReduceContents,
    SlidingEventTimeWindows, SlidingWindowOperator, Trigger, TumblingEventTimeWindows, WindowAssigner, WindowContext,
    WindowOperator, WindowOptions,
};
use streamd_runtime::{error::BoxError, record::Collector};

/// A key, and a number that tells records apart.
type Event = (u32, u64);

/// A key, a window's start and end, and the numbers in it, sorted.
type Result_ = (u32, i64, i64, Vec<u64>);

#[derive(Debug, Clone)]
enum Step {
    Record {
        key: u32,
        time: i64,
    },
    Watermark(i64),
    /// Everything is written, and read back by so many subtasks.
    Rescale(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0u32..4, 0i64..100).prop_map(|(key, time)| Step::Record { key, time }),
        3 => (0i64..110).prop_map(Step::Watermark),
        1 => (1u32..4).prop_map(Step::Rescale),
    ];
    prop::collection::vec(step, 0..70)
}

fn windows() -> impl Strategy<Value = WindowAssigner> {
    let millis = Duration::from_millis;
    prop_oneof![
        (1u64..40).prop_map(move |size| TumblingEventTimeWindows::of(millis(size))),
        (1u64..40, 1u64..20).prop_map(move |(size, slide)| SlidingEventTimeWindows::of(millis(size), millis(slide))),
        (1u64..20).prop_map(move |gap| EventTimeSessionWindows::of(millis(gap))),
    ]
}

fn collected(
    context: &mut WindowContext<'_, u32>,
    elements: &[Event],
    out: &mut Collector<'_, Result_>,
) -> Result<(), BoxError> {
    let mut numbers: Vec<u64> = elements.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    let window = context.window();
    out.collect((*context.key(), window.start, window.end, numbers));
    Ok(())
}

/// The subtasks of an operator, as if hash partitioned.
struct Job<Op, M> {
    make: M,
    subtasks: Vec<OperatorTestHarness<Op, Event, Result_>>,
    backend: StateBackendOptions,
    checkpoint: u64,
}

impl<Op, M> Job<Op, M>
where
    Op: streamd_runtime::chain::Operator<Event, Result_>,
    M: Fn() -> Op,
{
    fn new(make: M) -> Self {
        Self::on(StateBackendOptions::default(), make)
    }

    fn on(backend: StateBackendOptions, make: M) -> Self {
        Self {
            subtasks: vec![OperatorTestHarness::new(make()).state_backend(backend.clone())],
            make,
            backend,
            checkpoint: 0,
        }
    }

    fn record(&mut self, event: Event, time: i64) {
        let owner = self
            .subtasks
            .iter_mut()
            .find(|subtask| subtask.owns(event.0.stable_hash()));
        owner.unwrap().process_element(event, time).unwrap();
    }

    fn watermark(&mut self, time: i64) {
        self.subtasks
            .iter_mut()
            .for_each(|subtask| subtask.process_watermark(time).unwrap());
    }

    fn output(&mut self) -> Vec<Result_> {
        let output = self.subtasks.iter_mut().flat_map(|subtask| subtask.extract_output());
        output
            .map(|(result, timestamp)| {
                assert_eq!(timestamp.0, result.2 - 1, "a result has the last moment of its window");
                result
            })
            .collect()
    }

    fn rescale(&mut self, parallelism: u32) {
        self.checkpoint += 1;
        let checkpoint = self.checkpoint;
        let snapshots: Vec<_> = self
            .subtasks
            .iter_mut()
            .map(|subtask| match checkpoint % 2 {
                0 => subtask.savepoint(checkpoint).unwrap(),
                _odd => subtask.snapshot(checkpoint).unwrap(),
            })
            .collect();
        self.subtasks = (0..parallelism)
            .map(|index| {
                OperatorTestHarness::new((self.make)())
                    .state_backend(self.backend.clone())
                    .subtask(index, parallelism)
                    .restore(&snapshots)
            })
            .collect();
    }

    /// The last result of each window, and how often each was given.
    fn run(mut self, steps: &[Step]) -> BTreeMap<(u32, i64, i64), (Vec<u64>, usize)> {
        let mut results: BTreeMap<(u32, i64, i64), (Vec<u64>, usize)> = BTreeMap::new();
        let mut watermark = i64::MIN;
        let end = [Step::Watermark(i64::MAX)];
        for (number, step) in (0..).zip(steps.iter().chain(&end)) {
            match step {
                Step::Record { key, time } => self.record((*key, number), *time),
                Step::Watermark(time) => {
                    watermark = watermark.max(*time);
                    self.watermark(watermark);
                }
                Step::Rescale(parallelism) => {
                    let rest = self.output();
                    gather(&mut results, rest);
                    self.rescale(*parallelism);
                }
            }
            let output = self.output();
            gather(&mut results, output);
        }
        results
    }
}

fn gather(results: &mut BTreeMap<(u32, i64, i64), (Vec<u64>, usize)>, output: Vec<Result_>) {
    for (key, start, end, numbers) in output {
        let entry = results.entry((key, start, end)).or_default();
        *entry = (numbers, entry.1 + 1);
    }
}

/// The definition, for windows that do not merge: a record is in each of its windows that is not over when it comes.
fn defined(
    assign: impl Fn(i64) -> Vec<(i64, i64)>,
    lateness: i64,
    steps: &[Step],
) -> BTreeMap<(u32, i64, i64), Vec<u64>> {
    let mut windows: BTreeMap<(u32, i64, i64), Vec<u64>> = BTreeMap::new();
    let mut watermark = i64::MIN;
    for (number, step) in (0..).zip(steps) {
        match step {
            Step::Record { key, time } => {
                for (start, end) in assign(*time) {
                    if end - 1 + lateness > watermark {
                        windows.entry((*key, start, end)).or_default().push(number);
                    }
                }
            }
            Step::Watermark(time) => watermark = watermark.max(*time),
            Step::Rescale(_) => {}
        }
    }
    windows
}

fn options<G: Trigger<Event>>(assigner: WindowAssigner, trigger: G, allowed_ms: i64) -> WindowOptions<Event, G> {
    WindowOptions {
        assigner,
        trigger,
        lateness: Lateness {
            allowed_ms,
            output: None,
        },
    }
}

fn key_of(event: &Event) -> u32 {
    event.0
}

/// What an operator with these windows and the default trigger gives.
fn general(assigner: WindowAssigner, lateness: i64, steps: &[Step]) -> BTreeMap<(u32, i64, i64), (Vec<u64>, usize)> {
    general_on(StateBackendOptions::default(), assigner, lateness, steps)
}

/// The same on a state backend.
fn general_on(
    backend: StateBackendOptions,
    assigner: WindowAssigner,
    lateness: i64,
    steps: &[Step],
) -> BTreeMap<(u32, i64, i64), (Vec<u64>, usize)> {
    let make = || {
        WindowOperator::new(
            options(assigner, EventTimeTrigger, lateness),
            ListContents(collected),
            key_of,
        )
    };
    Job::on(backend, make).run(steps)
}

// Each subtask opens a database: fewer cases, of the same kind.
#[cfg(feature = "rocksdb")]
proptest! {
    #![proptest_config(ProptestConfig { cases: 25, ..ProptestConfig::default() })]

    #[test]
    fn windows_on_disk_are_those_on_the_heap(assigner in windows(), lateness in 0i64..20, steps in steps()) {
        let disk = StateBackendOptions {
            kind: streamd_core::backend::StateBackendKind::RocksDb,
            rocksdb_memory_per_slot: 1 << 20,
            ..StateBackendOptions::default()
        };
        prop_assert_eq!(general_on(disk, assigner, lateness, &steps), general(assigner, lateness, &steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn sliding_windows_hold_what_they_are_defined_to_hold_with_and_without_panes(
        size in 1i64..40, slide in 1i64..25, lateness in prop_oneof![Just(0i64), 1i64..30], steps in steps(),
    ) {
        let millis = |length: i64| Duration::from_millis(length.unsigned_abs());
        let assigner = SlidingEventTimeWindows::of(millis(size), millis(slide));
        let assign = |time: i64| -> Vec<(i64, i64)> {
            (-100..=time).filter(|start| start % slide == 0 && time < start + size).map(|start| (start, start + size)).collect()
        };
        let defined = defined(assign, lateness, &steps);
        let given = general(assigner, lateness, &steps);
        let contents: BTreeMap<_, _> = given.iter().map(|(window, (numbers, _))| (*window, numbers.clone())).collect();
        prop_assert_eq!(&contents, &defined);
        if lateness == 0 {
            prop_assert!(given.values().all(|(_, times)| *times == 1), "without lateness a window fires once");
        }
        if slide < size {
            let make = || {
                let lateness = Lateness { allowed_ms: lateness, output: None };
                SlidingWindowOperator::new(assigner, ListContents(collected), lateness, key_of).unwrap()
            };
            prop_assert_eq!(Job::new(make).run(&steps), given);
        }
    }

    #[test]
    fn sessions_hold_what_lies_close_together(gap in 1i64..20, records in prop::collection::vec((0u32..3, 0i64..200), 0..60), cut in any::<prop::sample::Index>()) {
        let mut steps: Vec<Step> = records.iter().map(|(key, time)| Step::Record { key: *key, time: *time }).collect();
        steps.insert(cut.index(steps.len() + 1), Step::Rescale(3));
        let given = general(EventTimeSessionWindows::of(Duration::from_millis(gap.unsigned_abs())), 0, &steps);
        let mut by_key: BTreeMap<u32, Vec<(i64, u64)>> = BTreeMap::new();
        for (number, step) in (0..).zip(&steps) {
            if let Step::Record { key, time } = step {
                by_key.entry(*key).or_default().push((*time, number));
            }
        }
        let mut defined: BTreeMap<(u32, i64, i64), (Vec<u64>, usize)> = BTreeMap::new();
        for (key, mut times) in by_key {
            times.sort_unstable();
            let mut sessions: Vec<(i64, i64, Vec<u64>)> = Vec::new();
            for (time, number) in times {
                match sessions.last_mut().filter(|(_, end, _)| time <= *end) {
                    Some((_, end, numbers)) => {
                        *end = time + gap;
                        numbers.push(number);
                    }
                    None => sessions.push((time, time + gap, vec![number])),
                }
            }
            for (start, end, mut numbers) in sessions {
                numbers.sort_unstable();
                defined.insert((key, start, end), (numbers, 1));
            }
        }
        prop_assert_eq!(given, defined);
    }

    #[test]
    fn results_do_not_depend_on_where_a_job_was_cut(assigner in windows(), lateness in 0i64..20, steps in steps()) {
        let unbroken: Vec<Step> = steps.iter().map(|step| match step {
            // Numbers tell records apart: a step that does nothing stays in its place.
            Step::Rescale(_) => Step::Watermark(i64::MIN),
            step => step.clone(),
        }).collect();
        prop_assert_eq!(general(assigner, lateness, &steps), general(assigner, lateness, &unbroken));
    }

    #[test]
    fn a_reduction_gives_what_all_records_together_give(assigner in windows(), steps in steps()) {
        let make = || {
            let contents = streamd_runtime::window::Applied::<_, _, Event>::new(
                ReduceContents(|sum: &mut Event, event: Event| sum.1 += event.1),
                |context: &mut WindowContext<'_, u32>, sums: &[Event], out: &mut Collector<'_, Result_>| {
                    let window = context.window();
                    out.collect((*context.key(), window.start, window.end, vec![sums[0].1]));
                    Ok(())
                },
            );
            WindowOperator::new(options(assigner, DefaultTrigger::EventTime, 0), contents, key_of)
        };
        let sums: BTreeMap<_, _> = Job::new(make).run(&steps);
        let all = general(assigner, 0, &steps);
        let summed: BTreeMap<_, _> = all.into_iter().map(|(window, (numbers, times))| (window, (vec![numbers.iter().sum()], times))).collect();
        prop_assert_eq!(sums, summed);
    }

    #[test]
    fn a_purged_window_gives_each_record_once(assigner in windows(), lateness in 0i64..20, steps in steps()) {
        let make = || {
            let trigger = PurgingTrigger::of(EventTimeTrigger);
            WindowOperator::new(options(assigner, trigger, lateness), ListContents(collected), key_of)
        };
        if !assigner.is_merging() {
            let mut job = Job::new(make);
            let mut seen = Vec::new();
            let mut watermark = i64::MIN;
            for (number, step) in (0..).zip(steps.iter().chain(&[Step::Watermark(i64::MAX)])) {
                match step {
                    Step::Record { key, time } => job.record((*key, number), *time),
                    Step::Watermark(time) => { watermark = watermark.max(*time); job.watermark(watermark); }
                    Step::Rescale(_) => {}
                }
                for (key, start, end, numbers) in job.output() {
                    seen.extend(numbers.into_iter().map(|number| (key, start, end, number)));
                }
            }
            let count = seen.len();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), count);
        }
    }
}
