//! Lists that belong to no key: split and union.

use proptest::prelude::*;
use streamd_runtime::error::BoxError;
use streamd_runtime::harness::{OperatorSnapshotHandle, OperatorTestHarness};
use streamd_runtime::keyed::{KeyedContext, KeyedProcessFunction, KeyedStateStore, MapState, ValueState};
use streamd_runtime::operator::{KeyedProcess, Process};
use streamd_runtime::operator_state::{OperatorListState, OperatorStateStore};
use streamd_runtime::process_function::{ProcessContext, ProcessFunction};
use streamd_runtime::record::Collector;

/// Keeps numbers until it is told to hand one on, and the last number that each subtask has seen in a union list.
#[derive(Clone)]
struct Hoard {
    kept: OperatorListState<u64>,
    seen: OperatorListState<u64>,
    /// What the subtasks before the restore had seen last.
    restored: Vec<u64>,
    last: Option<u64>,
}

/// `None`: hand on the number that was kept last.
type Ask = Option<u64>;

impl Hoard {
    fn new() -> Self {
        Self {
            kept: OperatorListState::new("kept"),
            seen: OperatorListState::new("seen"),
            restored: Vec::new(),
            last: None,
        }
    }
}

impl ProcessFunction<Ask, u64> for Hoard {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Result<(), BoxError> {
        state.get_list_state(&mut self.kept)?;
        state.get_union_list_state(&mut self.seen)
    }

    fn initialize_state(&mut self, context: &mut ProcessContext<'_>) -> Result<(), BoxError> {
        self.restored = self.seen.clear(context);
        self.last = self.restored.iter().max().copied();
        Ok(())
    }

    fn process_element(
        &mut self,
        ask: Ask,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, u64>,
    ) -> Result<(), BoxError> {
        match ask {
            Some(number) => {
                self.kept.add(context, number);
                self.last = self.last.max(Some(number));
            }
            None => {
                let kept = self.kept.get_mut(context);
                kept.pop().into_iter().for_each(|number| out.collect(number));
            }
        }
        Ok(())
    }

    fn snapshot_state(&mut self, context: &mut ProcessContext<'_>) -> Result<(), BoxError> {
        self.seen.update(context, self.last.into_iter().collect());
        Ok(())
    }

    fn end_of_input(&mut self, context: &mut ProcessContext<'_>, out: &mut Collector<'_, u64>) -> Result<(), BoxError> {
        self.kept
            .clear(context)
            .into_iter()
            .for_each(|number| out.collect(number));
        self.last.into_iter().for_each(|last| out.collect(1_000_000 + last));
        Ok(())
    }
}

type Harness = OperatorTestHarness<Process<Hoard>, Ask, u64>;

fn subtasks(parallelism: u32, snapshots: &[OperatorSnapshotHandle]) -> Vec<Harness> {
    let states = Process::states::<Ask, u64>(Hoard::new()).unwrap();
    let subtask = |index| {
        let harness = Harness::new(Process::new(Hoard::new()));
        harness.subtask(index, parallelism).declare(&states).restore(snapshots)
    };
    (0..parallelism).map(subtask).collect()
}

fn emitted(harness: &mut Harness) -> Vec<u64> {
    harness.extract_output().into_iter().map(|(number, _)| number).collect()
}

/// What subtask `index` gets of a list: a contiguous block.
fn block(all: &[u64], index: usize, parallelism: usize) -> Vec<u64> {
    all[all.len() * index / parallelism..all.len() * (index + 1) / parallelism].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Invariant I19: a list is neither lost nor doubled at any cut, through checkpoints and savepoints, at any parallelism.
    #[test]
    fn lists_are_dealt_out_and_union_lists_are_everywhere(
        asks in prop::collection::vec((any::<prop::sample::Index>(), prop::option::weighted(0.7, 0u64..1000)), 0..40),
        rescales in prop::collection::vec((any::<prop::sample::Index>(), 1u32..4, any::<bool>()), 0..3),
    ) {
        let mut running = subtasks(2, &[]);
        let mut model: Vec<(Vec<u64>, Option<u64>)> = vec![Default::default(); 2];
        let (mut seen, mut expected) = (Vec::new(), Vec::new());
        for (position, (to, ask)) in asks.iter().enumerate() {
            for (at, parallelism, savepoint) in &rescales {
                if at.index(asks.len()) != position {
                    continue;
                }
                let cut = |harness: &mut Harness| if *savepoint { harness.savepoint(1) } else { harness.snapshot(1) };
                let snapshots: Vec<_> = running.iter_mut().map(|harness| cut(harness).unwrap()).collect();
                running = subtasks(*parallelism, &snapshots);
                let kept: Vec<u64> = model.iter().flat_map(|(kept, _)| kept.clone()).collect();
                let last = model.iter().filter_map(|(_, last)| *last).max();
                model = (0..*parallelism as usize).map(|index| (block(&kept, index, *parallelism as usize), last)).collect();
            }
            let subtask = to.index(running.len());
            running[subtask].process_element(*ask, None).unwrap();
            seen.extend(emitted(&mut running[subtask]));
            let (kept, last) = &mut model[subtask];
            match ask {
                Some(number) => { kept.push(*number); *last = (*last).max(Some(*number)); }
                None => expected.extend(kept.pop()),
            }
            prop_assert_eq!(&seen, &expected);
        }
        for (harness, (kept, last)) in running.iter_mut().zip(model) {
            harness.end_of_input().unwrap();
            let mut owed = kept;
            owed.extend(last.map(|last| 1_000_000 + last));
            prop_assert_eq!(emitted(harness), owed);
        }
    }
}

/// Registers two states of one name.
#[derive(Clone)]
struct Collision(&'static str, &'static str);

impl ProcessFunction<u64, u64> for Collision {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Result<(), BoxError> {
        state.get_list_state(&mut OperatorListState::<u64>::new(self.0))?;
        state.get_union_list_state(&mut OperatorListState::<u64>::new(self.1))
    }

    fn process_element(
        &mut self,
        _: u64,
        _: &mut ProcessContext<'_>,
        _: &mut Collector<'_, u64>,
    ) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn names_that_collide_are_empty_or_streamds_own_are_refused_where_the_job_is_described() {
    for (first, second, message) in [
        ("kept", "kept", "state `kept` is registered twice by one operator"),
        ("kept", "~kept", "the name of state `~kept` begins with `~`"),
        ("kept", "", "a state has an empty name"),
    ] {
        let error = Process::states::<u64, u64>(Collision(first, second)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn a_list_that_could_not_be_sent_to_whoever_restores_it_declines_the_snapshot() {
    let mut harness = Harness::new(Process::new(Hoard::new()));
    for number in 0..1_000_000 {
        harness.process_element(Some(number), None).unwrap();
    }
    for error in [harness.snapshot(1).unwrap_err(), harness.savepoint(2).unwrap_err()] {
        let message = "the operator state of a subtask takes 16000016 bytes, most of them in operator `under test`";
        assert!(error.to_string().contains(message), "{error}");
    }
    for _ in 0..20_000 {
        harness.process_element(None, None).unwrap();
    }
    harness.snapshot(3).unwrap();
}

/// Registers keyed state of the first name, then operator state of the second, then keyed state of the third.
#[derive(Clone)]
struct Mixed([&'static str; 3]);

impl KeyedProcessFunction<u64, u64, u64> for Mixed {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Result<(), BoxError> {
        let [first, second, third] = self.0;
        state.register(&mut ValueState::<u64>::new(first))?;
        let mut store = state.operator_state();
        store.get_list_state(&mut OperatorListState::<u64>::new(second))?;
        state.register(&mut MapState::<u64, u64>::new(third))
    }

    fn process_element(
        &mut self,
        _: u64,
        _: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn states_of_different_kinds_do_not_share_a_name_either() {
    let states = |names| KeyedProcess::<u64, Mixed, fn(&u64) -> u64>::states::<u64, u64>(Mixed(names));
    assert!(states(["first", "second", "third"]).is_ok());
    for (names, name) in [
        (["same", "same", "third"], "same"),
        (["first", "same", "same"], "same"),
        (["same", "second", "same"], "same"),
        (["end-of-input", "second", "third"], "end-of-input"),
        (["first", "end-of-input", "third"], "end-of-input"),
        (["~timers.event_time", "second", "third"], "~timers.event_time"),
    ] {
        let error = states(names).unwrap_err().to_string();
        assert!(error.contains(&format!("state `{name}`")), "{error}");
    }
    for names in [["", "second", "third"], ["first", "", "third"], ["first", "second", ""]] {
        let error = states(names).unwrap_err().to_string();
        assert!(error.contains("a state has an empty name"), "{error}");
    }
}
