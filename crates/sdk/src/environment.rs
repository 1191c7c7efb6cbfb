//! Where an application begins: sources, settings, and `execute`.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use streamd_connectors::{CollectionSource, FileSource, GeneratorSource, SocketTextSource};
use streamd_core::backend::StateBackendSettings;
use streamd_core::barrier::Compression;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::evolution::Evolution;
use streamd_core::graph::{
    CheckpointingMode, ExternalizedCheckpointRetention, OperatorKind, RestartStrategy, StateDescriptor, StateKind,
};
use streamd_core::snapshot::ListState;
use streamd_core::source::Source;
use streamd_core::state::{State, to_row};
use streamd_runtime::fan::Fan;
use streamd_runtime::operator::{SPLITS, SourceHead};
use streamd_runtime::pipeline::{JobSettings, Pipeline, Step, StepFactory, StepInput};
use streamd_runtime::record::Record;

use crate::data_stream::DataStream;
use crate::error::{Error, Result};
use crate::execute::{self, JobClient, JobExecutionResult, Mode};

/// The slot sharing group of steps that are in no other.
const DEFAULT_SLOT_SHARING_GROUP: &str = "default";

/// The context in which a streaming application is built and executed. Flink's noun; a cheap handle.
#[derive(Clone)]
pub struct StreamExecutionEnvironment {
    inner: Rc<RefCell<Inner>>,
}

struct Inner {
    steps: Vec<Step>,
    settings: JobSettings,
    by_hand: ByHand,
    failed: Option<Error>,
}

/// What whoever submits a job says on a cluster, and the program itself where it is run by hand.
#[derive(Clone, Default)]
pub(crate) struct ByHand {
    /// The snapshot that the job starts from.
    pub(crate) restore: Option<String>,
    /// Where keyed state lives.
    pub(crate) state_backend: Option<StateBackendSettings>,
}

impl Default for StreamExecutionEnvironment {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamExecutionEnvironment {
    /// The environment that fits the way this process was started. Flink calls it `getExecutionEnvironment`.
    pub fn new() -> Self {
        let settings = JobSettings {
            parallelism: execute::default_parallelism(),
            chaining: true,
            ..JobSettings::default()
        };
        Self {
            inner: Rc::new(RefCell::new(Inner {
                steps: Vec::new(),
                settings,
                by_hand: ByHand::default(),
                failed: None,
            })),
        }
    }

    /// Sets the parallelism of every step that sets none itself. Takes precedence over `streamctl run -p`.
    pub fn set_parallelism(&self, parallelism: u32) -> &Self {
        self.inner.borrow_mut().settings.parallelism = parallelism;
        self
    }

    /// The parallelism of steps that set none: from code, `streamctl run -p`, or the configuration.
    pub fn parallelism(&self) -> u32 {
        self.inner.borrow().settings.parallelism
    }

    /// Sets the number of key groups, the largest parallelism that the job can ever be resumed at. Without it streamd
    /// chooses 128 times the first parallelism.
    pub fn set_max_parallelism(&self, max_parallelism: u32) -> &Self {
        self.inner.borrow_mut().settings.max_parallelism = Some(max_parallelism);
        self
    }

    /// Turns chaining off: every step becomes subtasks of its own. For debugging.
    pub fn disable_operator_chaining(&self) -> &Self {
        self.inner.borrow_mut().settings.chaining = false;
        self
    }

    /// Takes a checkpoint every `interval`. Without this (or the configuration key `execution.checkpointing.interval`) there
    /// are no checkpoints, a failed job starts from nothing, and savepoints are refused.
    pub fn enable_checkpointing(&self, interval: Duration) -> CheckpointConfig {
        self.inner.borrow_mut().settings.checkpointing.interval_ms = Some(millis(interval));
        self.checkpoint_config()
    }

    /// The settings of checkpoints.
    pub fn checkpoint_config(&self) -> CheckpointConfig {
        CheckpointConfig { env: self.clone() }
    }

    /// Sets what happens when the job fails. Goes before the configuration; `streamctl run -D` goes before it.
    pub fn set_restart_strategy(&self, strategy: RestartStrategy) -> &Self {
        self.inner.borrow_mut().settings.restart_strategy = Some(strategy);
        self
    }

    /// A stream of the source's records.
    pub fn from_source<S>(&self, source: S, name: impl Into<String>) -> DataStream<S::Out>
    where
        S: Source,
        S::Out: Record,
    {
        let for_splits = source.clone();
        let step = Step {
            kind: OperatorKind::Source,
            guarantee: Some(source.guarantee()),
            states: vec![StateDescriptor {
                name: SPLITS.to_owned(),
                kind: StateKind::List,
                value: S::Split::data_type(),
                evolution: Evolution::of::<S::Split>(),
            }],
            factory: StepFactory::Source {
                make: Box::new(move |identity, next| {
                    Ok(Box::new(SourceHead::new(identity, source.clone(), Fan::new(next)?)))
                }),
                splits: Box::new(move |parallelism| find_splits(&for_splits, parallelism)),
            },
            ..self.step(name.into(), Vec::new())
        };
        self.add(step)
    }

    /// A stream of these records.
    pub fn from_collection<T: Record + Sync>(&self, records: Vec<T>) -> DataStream<T> {
        self.from_source(CollectionSource::new(records), "collection")
    }

    /// A stream of the numbers from `first` to `last`, both included.
    pub fn from_sequence(&self, first: u64, last: u64) -> DataStream<u64> {
        let count = (last + 1).saturating_sub(first);
        self.from_source(
            GeneratorSource::new(Some(count), move |index| first + index),
            "sequence",
        )
    }

    /// A stream of the lines of a text file, or of every file in a folder.
    pub fn read_text_file(&self, path: impl AsRef<std::path::Path>) -> DataStream<String> {
        self.from_source(FileSource::text_lines(path.as_ref()), "text file")
    }

    /// A stream of the lines that the server at this host and port sends, until it closes the connection. At-most-once: lines that
    /// were read before a failure are gone.
    pub fn socket_text_stream(&self, host: impl Into<String>, port: u16) -> DataStream<String> {
        self.from_source(SocketTextSource::new(host, port), "socket")
    }

    /// Starts the job from this savepoint or retained checkpoint, a path or URI, when it is run by hand: in tests above all. On a
    /// cluster whoever submits the job says where it begins (`streamctl run -s`), and an application that says so too is refused.
    pub fn restore_from(&self, path: impl Into<String>) -> &Self {
        self.inner.borrow_mut().by_hand.restore = Some(path.into());
        self
    }

    /// Keeps the keyed state of the job in this backend when it is run by hand: in tests above all. On a cluster `state.backend.type`
    /// says it, and an application that says so too is refused. `rocksdb` needs the feature of that name.
    pub fn set_state_backend(&self, settings: StateBackendSettings) -> &Self {
        self.inner.borrow_mut().by_hand.state_backend = Some(settings);
        self
    }

    /// Starts the job in this process, and returns a client of it at once: to look at it, to take savepoints of it, to cancel it. For
    /// tests of whole jobs, and for programs that contain one. On a cluster this call never returns, as [`execute`](Self::execute).
    pub fn execute_async(&self, name: impl Into<String>) -> Result<JobClient> {
        let by_hand = self.inner.borrow().by_hand.clone();
        let pipeline = self.pipeline(name.into())?;
        match Mode::of_this_process()? {
            Mode::Describe(plan_file) => {
                by_hand.refuse()?;
                execute::describe(pipeline, &plan_file)
            }
            Mode::Worker(options) => execute::worker(pipeline, *options),
            Mode::Embedded => JobClient::start(pipeline, by_hand),
        }
    }

    /// Runs the job, and returns when it has ended. On a cluster this call never returns: the process is a worker, or has
    /// been asked for its plan, and ends here.
    pub fn execute(&self, name: impl Into<String>) -> Result<JobExecutionResult> {
        self.execute_async(name)?.wait()
    }

    pub(crate) fn pipeline(&self, name: String) -> Result<Pipeline> {
        let mut inner = self.inner.borrow_mut();
        if let Some(error) = inner.failed.take() {
            return Err(error);
        }
        let steps = std::mem::take(&mut inner.steps);
        if steps.is_empty() {
            let error = CodedError::new(ErrorCode::InvalidJobGraph, format!("job `{name}` has no steps"));
            return Err(error.with_hint("add a source and a sink before `execute`").into());
        }
        Ok(Pipeline::new(
            steps,
            JobSettings {
                name,
                ..inner.settings.clone()
            },
        ))
    }

    /// A step with this environment's defaults.
    pub(crate) fn step(&self, name: String, inputs: Vec<StepInput>) -> Step {
        Step {
            name,
            uid: None,
            kind: OperatorKind::Transformation,
            parallelism: None,
            max_parallelism: None,
            chained: true,
            slot_sharing_group: self.group_of(&inputs),
            states: Vec::new(),
            guarantee: None,
            factory: StepFactory::Operator {
                make: Box::new(|_, _| Err(streamd_runtime::error::TaskError::internal("a step without a factory"))),
                head: |_| Err(streamd_runtime::error::TaskError::internal("a step without a factory")),
            },
            inputs,
        }
    }

    /// The slot sharing group of a step that names none: that of its inputs if they agree, as in Flink.
    fn group_of(&self, inputs: &[StepInput]) -> String {
        let inner = self.inner.borrow();
        let mut groups = inputs.iter().map(|input| &inner.steps[input.from].slot_sharing_group);
        match groups.next() {
            Some(first) if groups.all(|group| group == first) => first.clone(),
            Some(_) | None => DEFAULT_SLOT_SHARING_GROUP.to_owned(),
        }
    }

    /// Adds a step, and returns its output.
    pub(crate) fn add<T: Record>(&self, step: Step) -> DataStream<T> {
        let mut inner = self.inner.borrow_mut();
        inner.steps.push(step);
        DataStream::of_step(self.clone(), inner.steps.len() - 1)
    }

    /// Changes a step.
    pub(crate) fn change(&self, step: usize, change: impl FnOnce(&mut Step)) {
        change(&mut self.inner.borrow_mut().steps[step]);
    }

    /// Remembers the first error made while building: `execute` returns it.
    pub(crate) fn fail(&self, error: impl Into<Error>) {
        self.inner.borrow_mut().failed.get_or_insert(error.into());
    }
}

impl ByHand {
    /// Errors if the application decides what is its submitter's to decide.
    fn refuse(self) -> Result<()> {
        let (message, hint) = match (self.restore, self.state_backend) {
            (None, None) => return Ok(()),
            (Some(path), _) => (
                format!("the application wants to start from `{path}` by itself"),
                "remove `restore_from`, and submit it with: streamctl run -s PATH",
            ),
            (None, Some(_)) => (
                "the application wants to choose its state backend by itself".to_owned(),
                "remove `set_state_backend`, and submit it with: streamctl run -D state.backend.type=NAME",
            ),
        };
        Err(CodedError::new(ErrorCode::InvalidJobGraph, message)
            .with_hint(hint)
            .into())
    }
}

fn find_splits<S: Source>(source: &S, parallelism: u32) -> Result<ListState, CodedError> {
    let splits = source.enumerate(parallelism).map_err(|error| {
        CodedError::caused(ErrorCode::DescribeFailed, "the input cannot be listed", &error)
            .with_hint("task managers must see the input under the same path")
    })?;
    Ok(ListState {
        name: SPLITS.to_owned(),
        data_type: S::Split::data_type(),
        items: splits.iter().map(to_row).collect(),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How checkpoints are taken. Each setting goes before its key in the configuration; `streamctl run -D` goes before both.
pub struct CheckpointConfig {
    env: StreamExecutionEnvironment,
}

impl CheckpointConfig {
    /// Exactly-once (the default) or at-least-once.
    pub fn set_mode(&self, mode: CheckpointingMode) -> &Self {
        self.set(|checkpointing| checkpointing.mode = Some(mode))
    }

    /// The time after which a checkpoint or savepoint that is not complete is given up.
    pub fn set_checkpoint_timeout(&self, timeout: Duration) -> &Self {
        self.set(|checkpointing| checkpointing.timeout_ms = Some(millis(timeout)))
    }

    /// The least time between the end of one checkpoint and the start of the next.
    pub fn set_min_pause_between_checkpoints(&self, pause: Duration) -> &Self {
        self.set(|checkpointing| checkpointing.min_pause_ms = Some(millis(pause)))
    }

    /// How many checkpoints may be under way at once.
    pub fn set_max_concurrent_checkpoints(&self, count: u32) -> &Self {
        self.set(|checkpointing| checkpointing.max_concurrent = Some(count))
    }

    /// How many checkpoints in a row may fail before the job does.
    pub fn set_tolerable_checkpoint_failure_number(&self, count: u32) -> &Self {
        self.set(|checkpointing| checkpointing.tolerable_failed = Some(count))
    }

    /// Keeps the last checkpoint outside of the job's life ("externalized"): when it fails, and, in the retaining mode, when
    /// it is cancelled.
    pub fn enable_externalized_checkpoints(&self, retention: ExternalizedCheckpointRetention) -> &Self {
        self.set(|checkpointing| checkpointing.retention = Some(retention))
    }

    /// Lets a checkpoint refer to the one before for what has not changed since, and write only the rest. Savepoints always hold
    /// everything.
    pub fn enable_incremental_checkpoints(&self) -> &Self {
        self.set(|checkpointing| checkpointing.incremental = Some(true))
    }

    /// How keyed state is compressed in checkpoints.
    pub fn set_snapshot_compression(&self, compression: Compression) -> &Self {
        self.set(|checkpointing| checkpointing.compression = Some(compression))
    }

    fn set(&self, change: impl FnOnce(&mut streamd_core::graph::CheckpointSettings)) -> &Self {
        change(&mut self.env.inner.borrow_mut().settings.checkpointing);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_without_a_slot_sharing_group_is_in_that_of_its_inputs_if_they_agree() {
        let env = StreamExecutionEnvironment::new();
        let numbers = env.from_sequence(0, 9);
        let apart = numbers.clone().map(|number| number).slot_sharing_group("apart");
        let behind = apart.map(|number| number);
        let back = behind.clone().map(|number| number).slot_sharing_group("default");
        let _joined = behind.union(&[&numbers]).map(|number| number);
        let _after = back.map(|number| number);
        let inner = env.inner.borrow();
        let groups: Vec<&str> = inner
            .steps
            .iter()
            .map(|step| step.slot_sharing_group.as_str())
            .collect();
        assert_eq!(groups, ["default", "apart", "apart", "default", "default", "default"]);
    }

    #[test]
    fn an_application_leaves_to_its_submitter_what_is_the_submitters() {
        let refused = |by_hand: ByHand| by_hand.refuse().unwrap_err().coded().clone();
        assert!(ByHand::default().refuse().is_ok());
        let restoring = refused(ByHand {
            restore: Some("/saved".to_owned()),
            ..ByHand::default()
        });
        assert!(restoring.message.contains("`/saved`"), "{restoring}");
        let choosing = refused(ByHand {
            state_backend: Some(StateBackendSettings::default()),
            ..ByHand::default()
        });
        assert_eq!(choosing.code, ErrorCode::InvalidJobGraph);
        assert!(choosing.hint.unwrap().contains("state.backend.type"));
    }
}
