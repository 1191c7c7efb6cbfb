//! Streams and what can be done with each record by itself.

use std::collections::BTreeSet;
use std::rc::Rc;

use streamd_connectors::PrintSink;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::{OperatorKind, PartitionerKind, StateDescriptor};
use streamd_core::sink::{NoCommit, Sink};
use streamd_core::state::Key;
use streamd_exchange::partition::{Partitioner, ResultPartition};
use streamd_runtime::chain::{AnyLink, Chained, Link, Operator};
use streamd_runtime::connected::{Either, first_exit, second_exit};
use streamd_runtime::error::TaskError;
use streamd_runtime::exit::Exit;
use streamd_runtime::head::{InputHead, InputTask};
use streamd_runtime::operator::{COMMITTABLES, Filter, FlatMap, Map, Process, SinkOperator};
use streamd_runtime::pipeline::{SideInput, Step, StepFactory, StepInput};
use streamd_runtime::process_function::ProcessFunction;
use streamd_runtime::record::{Collector, Record};
use streamd_runtime::side_output::{OutputTag, side_link};
use streamd_runtime::watermark::{TimestampsAndWatermarks, WatermarkGenerator};
use streamd_runtime::window::WindowAssigner;

use crate::connected_streams::{BroadcastStreams, ConnectedStreams};
use crate::environment::StreamExecutionEnvironment;
use crate::joined_streams::JoinedStreams;
use crate::keyed_stream::KeyedStream;
use crate::partition::{ByChance, ByFunction, HashByKey, HashFirst, MakeRoute, Partition};
use crate::watermark_strategy::{TimestampAssigner, WatermarkStrategy};
use crate::windowed_stream::{NoKey, WindowedStream};

/// A stream of records of one type. A cheap handle: streams can be used several times.
pub struct DataStream<T> {
    env: StreamExecutionEnvironment,
    inputs: Vec<Upstream<T>>,
}

/// One of the steps that a stream's records come from, and how they are dealt out to whatever follows.
struct Upstream<T> {
    step: usize,
    side: Option<SideInput>,
    partition: Partition<T>,
    exit: MakeTypedExit<T>,
}

/// Makes the way out of a subtask: for records of `T`, or for others that become such on the way.
type MakeTypedExit<T> = fn(ResultPartition<T>) -> AnyLink;

fn plain_exit<T: Record>(partition: ResultPartition<T>) -> AnyLink {
    let link: Box<dyn Link<T>> = Box::new(Exit::new(partition));
    AnyLink::new(link)
}

impl<T> Clone for Upstream<T> {
    fn clone(&self) -> Self {
        Self {
            step: self.step,
            side: self.side,
            partition: self.partition.clone(),
            exit: self.exit,
        }
    }
}

impl<T> Clone for DataStream<T> {
    fn clone(&self) -> Self {
        Self {
            env: self.env.clone(),
            inputs: self.inputs.clone(),
        }
    }
}

impl<T: Record> DataStream<T> {
    pub(crate) fn of_step(env: StreamExecutionEnvironment, step: usize) -> Self {
        Self {
            env,
            inputs: vec![Upstream {
                step,
                side: None,
                partition: Partition::Default,
                exit: plain_exit::<T>,
            }],
        }
    }

    /// The environment that the stream belongs to.
    pub fn environment(&self) -> &StreamExecutionEnvironment {
        &self.env
    }

    /// Turns each record into another.
    pub fn map<O, F>(&self, function: F) -> DataStream<O>
    where
        O: Record,
        F: FnMut(T) -> O + Clone + Send + 'static,
    {
        self.transform("map", Vec::new(), move || Map(function.clone()))
    }

    /// Keeps the records for which the predicate holds.
    pub fn filter<F>(&self, predicate: F) -> DataStream<T>
    where
        F: FnMut(&T) -> bool + Clone + Send + 'static,
    {
        self.transform("filter", Vec::new(), move || Filter(predicate.clone()))
    }

    /// Turns each record into any number of others.
    pub fn flat_map<O, F>(&self, function: F) -> DataStream<O>
    where
        O: Record,
        F: FnMut(T, &mut Collector<'_, O>) + Clone + Send + 'static,
    {
        self.transform("flat_map", Vec::new(), move || FlatMap(function.clone()))
    }

    /// Applies a function that may keep operator state: state that belongs to no key.
    pub fn process<O, F>(&self, function: F) -> DataStream<O>
    where
        O: Record,
        F: ProcessFunction<T, O>,
    {
        let states = Process::states::<T, O>(function.clone()).unwrap_or_else(|error| {
            self.env.fail(error);
            Vec::new()
        });
        self.transform("process", states, move || Process::new(function.clone()))
    }

    /// Groups the records by key: records of one key meet in one subtask, in order, with the state of that key.
    ///
    /// `key_of` must give the same key whenever it is called with the same record: it is called on both sides of the exchange.
    pub fn key_by<K, S>(&self, key_of: S) -> KeyedStream<K, T, S>
    where
        K: Key,
        S: Fn(&T) -> K + Clone + Send + 'static,
    {
        let make: Rc<dyn MakeRoute<T>> = Rc::new(HashByKey((key_of.clone(), std::marker::PhantomData::<fn() -> K>)));
        KeyedStream::new(self.partitioned(&Partition::Route(PartitionerKind::Hash, make)), key_of)
    }

    /// Gives the records timestamps, and the stream watermarks: the beginning of event time. Close to the source, so that what
    /// follows has them.
    ///
    /// In the chain of a source, which parsing and filtering may come before, watermarks are made for each split of the source, and
    /// the least of them holds: a subtask that reads several splits in turns loses nothing of the one that is behind.
    pub fn assign_timestamps_and_watermarks<G, A>(&self, strategy: WatermarkStrategy<G, A>) -> DataStream<T>
    where
        G: WatermarkGenerator<T>,
        A: TimestampAssigner<T>,
    {
        self.transform("timestamps", Vec::new(), move || {
            let WatermarkStrategy {
                generator,
                assigner,
                policy,
            } = strategy.clone();
            let assign = move |record: &T, timestamp| assigner.extract_timestamp(record, timestamp);
            TimestampsAndWatermarks::new(assign, generator, policy)
        })
    }

    /// This stream and another, for functions that see both.
    pub fn connect<B: Record>(&self, other: &DataStream<B>) -> ConnectedStreams<T, B> {
        ConnectedStreams::new(self, other)
    }

    /// This stream, and one that every subtask sees: rules, rates, settings.
    pub fn connect_broadcast<B: Record>(&self, broadcast: &DataStream<B>) -> BroadcastStreams<T, B> {
        BroadcastStreams::new(self, broadcast)
    }

    /// This stream and another, to be joined by key and window.
    pub fn join<B: Record>(&self, other: &DataStream<B>) -> JoinedStreams<T, B> {
        JoinedStreams::new(self, other)
    }

    /// Cuts the records of all keys together into windows: in one subtask, whatever the parallelism.
    pub fn window_all(&self, assigner: WindowAssigner) -> WindowedStream<(), T, NoKey<T>> {
        WindowedStream::<(), T, NoKey<T>>::of_all(self, assigner)
    }

    /// The records that the last step has emitted to a side output.
    pub fn get_side_output<X: Record>(&self, tag: &OutputTag<X>) -> DataStream<X> {
        let side = SideInput {
            id: tag.id(),
            link: side_link::<X>,
        };
        let inputs = self.inputs.iter().map(|input| Upstream {
            step: input.step,
            side: Some(side),
            partition: Partition::Default,
            exit: plain_exit::<X>,
        });
        DataStream {
            env: self.env.clone(),
            inputs: inputs.collect(),
        }
    }

    /// All records of this stream and of the others, in no particular order.
    pub fn union(&self, others: &[&DataStream<T>]) -> DataStream<T> {
        let inputs = self
            .inputs
            .iter()
            .chain(others.iter().flat_map(|other| &other.inputs))
            .cloned()
            .collect();
        Self {
            env: self.env.clone(),
            inputs,
        }
    }

    /// Deals the records out to all subtasks of the next step in turn.
    pub fn rebalance(&self) -> DataStream<T> {
        self.partitioned(&Partition::Kind(PartitionerKind::Rebalance))
    }

    /// Deals the records out in turn to a share of the subtasks of the next step, each subtask of the smaller step to as few of the larger
    /// as there are for it: fewer connections than [`rebalance`](Self::rebalance).
    pub fn rescale(&self) -> DataStream<T> {
        self.partitioned(&Partition::Kind(PartitionerKind::Rescale))
    }

    /// Sends each record to a subtask of the next step by chance, all alike.
    pub fn shuffle(&self) -> DataStream<T> {
        let make: Rc<dyn MakeRoute<T>> = Rc::new(ByChance);
        self.partitioned(&Partition::Route(PartitionerKind::Shuffle, make))
    }

    /// Sends each record to the subtask of the next step, counted from 0, that the function says, given the record and how many
    /// subtasks there are. One that there is not fails the job.
    pub fn partition_custom<F>(&self, partitioner: F) -> DataStream<T>
    where
        F: FnMut(&T, u32) -> u32 + Clone + Send + 'static,
    {
        let make: Rc<dyn MakeRoute<T>> = Rc::new(ByFunction(partitioner));
        self.partitioned(&Partition::Route(PartitionerKind::Custom, make))
    }

    /// Sends every record to every subtask of the next step.
    pub fn broadcast(&self) -> DataStream<T> {
        self.partitioned(&Partition::Kind(PartitionerKind::Broadcast))
    }

    /// Sends every record to the first subtask of the next step.
    pub fn global(&self) -> DataStream<T> {
        self.partitioned(&Partition::Kind(PartitionerKind::Global))
    }

    /// Sends every record to the subtask of the next step that has the same index. Both have the same parallelism.
    pub fn forward(&self) -> DataStream<T> {
        self.partitioned(&Partition::Kind(PartitionerKind::Forward))
    }

    /// Writes the records to a sink.
    pub fn sink_to<S>(&self, sink: S) -> DataStreamSink
    where
        S: Sink<In = T>,
    {
        // A sink that never commits, and whose writers keep nothing, has no state, and needs no uid.
        let commits = std::any::TypeId::of::<S::Committable>() != std::any::TypeId::of::<NoCommit>();
        let committables = commits.then(|| StateDescriptor::list::<S::Committable>(COMMITTABLES));
        let states: Vec<_> = sink.writer_states().into_iter().chain(committables).collect();
        let names: BTreeSet<_> = states.iter().map(|state| &state.name).collect();
        if names.len() < states.len() || (!commits && names.iter().any(|name| *name == COMMITTABLES)) {
            let message = "two states of a sink have one name, or the name of its committables";
            self.env.fail(CodedError::new(ErrorCode::InvalidJobGraph, message));
        }
        let guarantee = sink.guarantee();
        if let Err(error) = sink.check() {
            let error = CodedError::caused(ErrorCode::DescribeFailed, "the output cannot be written", &error);
            self.env.fail(error);
        }
        let output: DataStream<()> = self.transform("sink", states, move || SinkOperator::new(sink.clone()));
        output.change(|step| {
            step.kind = OperatorKind::Sink;
            step.guarantee = Some(guarantee);
        });
        DataStreamSink { stream: output }
    }

    /// Prints each record on a line of the worker's standard output, which is in the job's log (`streamctl logs`).
    pub fn print(&self) -> DataStreamSink
    where
        T: std::fmt::Debug,
    {
        self.sink_to(PrintSink::debug()).name("print")
    }

    /// Gives the last step its identity over versions of the application: its state in savepoints goes by this name. Give one
    /// to every step that keeps state.
    #[must_use]
    pub fn uid(self, uid: impl Into<String>) -> Self {
        let uid = uid.into();
        self.change(|step| step.uid = Some(uid));
        self
    }

    /// Names the last step, for people.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.change(|step| step.name = name);
        self
    }

    /// Sets the parallelism of the last step.
    #[must_use]
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        self.change(|step| step.parallelism = Some(parallelism));
        self
    }

    /// Sets the number of key groups of the last step.
    #[must_use]
    pub fn set_max_parallelism(self, max_parallelism: u32) -> Self {
        self.change(|step| step.max_parallelism = Some(max_parallelism));
        self
    }

    /// Puts the last step into a slot sharing group: steps of different groups never share a slot. Without it a step is in the group of its
    /// inputs if they agree, else in `default`, so that the steps behind this one follow it.
    #[must_use]
    pub fn slot_sharing_group(self, group: impl Into<String>) -> Self {
        let group = group.into();
        self.change(|step| step.slot_sharing_group = group);
        self
    }

    /// Starts a new chain with the last step: it gets subtasks of its own.
    #[must_use]
    pub fn start_new_chain(self) -> Self {
        self.change(|step| step.chained = false);
        self
    }

    /// Adds a step whose operator `make` makes for every subtask.
    pub(crate) fn transform<O, Op, M>(&self, name: &str, states: Vec<StateDescriptor>, mut make: M) -> DataStream<O>
    where
        O: Record,
        Op: Operator<T, O>,
        M: FnMut() -> Op + Send + 'static,
    {
        let step = Step {
            states,
            factory: StepFactory::Operator {
                make: Box::new(move |identity, next| {
                    let link: Box<dyn Link<T>> = Box::new(Chained::<Op, O>::new(identity, make(), next)?);
                    Ok(AnyLink::new(link))
                }),
                head: input_head::<T>,
            },
            ..self
                .env
                .step(name.to_owned(), self.inputs.iter().map(Upstream::input).collect())
        };
        self.env.add(step)
    }

    fn partitioned(&self, partition: &Partition<T>) -> Self {
        let inputs = self
            .inputs
            .iter()
            .map(|input| Upstream {
                step: input.step,
                side: input.side,
                partition: partition.clone(),
                exit: input.exit,
            })
            .collect();
        Self {
            env: self.env.clone(),
            inputs,
        }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Step)) {
        if let [input] = self.inputs.as_slice() {
            self.env.change(input.step, change);
        } else {
            let message = "a union has no uid, name or parallelism of its own";
            let error = streamd_core::error::CodedError::new(streamd_core::error::ErrorCode::InvalidJobGraph, message);
            self.env
                .fail(error.with_hint("set it on each of the streams, or on the step that follows"));
        }
    }
}

impl<A: Record, B: Record> DataStream<Either<A, B>> {
    /// The records of two streams, each partitioned as in its own.
    pub(crate) fn either(first: &DataStream<A>, second: &DataStream<B>) -> Self {
        let first_inputs = first.inputs.iter().map(|input| Upstream {
            step: input.step,
            side: input.side,
            partition: input.partition.without_key(),
            exit: first_exit::<A, B>,
        });
        let second_inputs = second.inputs.iter().map(|input| Upstream {
            step: input.step,
            side: input.side,
            partition: input.partition.without_key(),
            exit: second_exit::<A, B>,
        });
        Self {
            env: first.env.clone(),
            inputs: first_inputs.chain(second_inputs).collect(),
        }
    }

    /// The records of the first stream, which has as many inputs as `first`, as they come, those of the second to every
    /// subtask.
    pub(crate) fn and_broadcast(&self, first: &DataStream<A>) -> Self {
        let mut both = self.partitioned(&Partition::Kind(PartitionerKind::Broadcast));
        for (input, own) in both.inputs.iter_mut().zip(&self.inputs).take(first.inputs.len()) {
            input.partition = own.partition.clone();
        }
        both
    }

    /// The records of the first stream by their key, those of the second to every subtask. `key_of` gives records of the first
    /// stream, which has as many inputs as `first`, a key.
    pub(crate) fn keyed_and_broadcast<K, S>(&self, first: &DataStream<A>, key_of: S) -> Self
    where
        K: Key,
        S: Fn(&A) -> K + Clone + Send + 'static,
    {
        let make: Rc<dyn MakeRoute<Either<A, B>>> = Rc::new(HashFirst((key_of, std::marker::PhantomData::<fn() -> K>)));
        let mut keyed = self.partitioned(&Partition::Kind(PartitionerKind::Broadcast));
        for input in keyed.inputs.iter_mut().take(first.inputs.len()) {
            input.partition = Partition::Route(PartitionerKind::Hash, Rc::clone(&make));
        }
        keyed
    }
}

impl<T: Record> Upstream<T> {
    fn input(&self) -> StepInput {
        let exit = self.exit;
        let (partitioner, mut route) = match &self.partition {
            Partition::Default => (None, None),
            Partition::Kind(kind) => (Some(*kind), None),
            Partition::Route(kind, make) => (Some(*kind), Some(make.make())),
        };
        StepInput {
            from: self.step,
            side: self.side,
            partitioner,
            exit: Box::new(move |kind, senders, key_groups| {
                let partitioner = match kind {
                    PartitionerKind::Hash | PartitionerKind::Shuffle | PartitionerKind::Custom => {
                        let missing = || TaskError::internal("an edge without the function that it goes by");
                        route.as_mut().ok_or_else(missing)?(senders.len() as u32, key_groups)
                    }
                    PartitionerKind::Rebalance | PartitionerKind::Rescale => Partitioner::Rebalance,
                    PartitionerKind::Forward => Partitioner::Forward,
                    PartitionerKind::Broadcast => Partitioner::broadcast(),
                    PartitionerKind::Global => Partitioner::Global,
                };
                Ok(exit(ResultPartition::new(partitioner, senders)))
            }),
        }
    }
}

fn input_head<T: Record>(link: AnyLink) -> Result<Box<dyn InputTask>, TaskError> {
    Ok(Box::new(InputHead::new(link.downcast::<T>()?)))
}

/// A sink at the end of a stream.
pub struct DataStreamSink {
    stream: DataStream<()>,
}

impl DataStreamSink {
    /// Gives the sink its identity over versions of the application.
    pub fn uid(self, uid: impl Into<String>) -> Self {
        Self {
            stream: self.stream.uid(uid),
        }
    }

    /// Names the sink, for people.
    pub fn name(self, name: impl Into<String>) -> Self {
        Self {
            stream: self.stream.name(name),
        }
    }

    /// Sets the parallelism of the sink.
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        Self {
            stream: self.stream.set_parallelism(parallelism),
        }
    }
}
