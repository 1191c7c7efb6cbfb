//! The DataStream API: write a stateful stream-processing application, and it runs by hand or on a cluster unchanged.
//!
//! ```no_run
//! use streamd::prelude::*;
//!
//! fn main() -> streamd::Result<()> {
//!     let env = StreamExecutionEnvironment::new();
//!     env.enable_checkpointing(Duration::from_secs(10));
//!     env.from_source(FileSource::text_lines("shakespeare.txt"), "lines")
//!         .uid("lines")
//!         .flat_map(|line: String, out: &mut Collector<'_, (String, u64)>| {
//!             line.split_whitespace().for_each(|word| out.collect((word.to_owned(), 1)));
//!         })
//!         .key_by(|(word, _)| word.clone())
//!         .reduce(|total, (_, count)| total.1 += count)
//!         .uid("counts")
//!         .print();
//!     env.execute("word count")?;
//!     Ok(())
//! }
//! ```
//!
//! The crate deliberately knows nothing of what happens inside a job manager. Started by hand, [`execute`] runs the whole
//! job in this process on an embedded cluster; asked to *describe*, it writes the plan and exits; started by a task
//! manager, it becomes a worker. Applications never write code that depends on which.
//!
//! ```text
//!   calls on streams ──▶ steps ──▶ Pipeline ──▶ describe │ worker │ embedded cluster
//! ```
//!
//! Reading order: [`StreamExecutionEnvironment`], [`DataStream`], [`KeyedStream`], then the ways to execute.
//!
//! [`execute`]: StreamExecutionEnvironment::execute

mod async_data_stream;
mod connected_streams;
mod data_stream;
mod environment;
mod error;
mod execute;
mod joined_streams;
mod keyed_stream;
mod partition;
#[cfg(feature = "simulation")]
mod simulate;
mod watermark_strategy;
mod windowed_stream;

pub use async_data_stream::AsyncDataStream;
pub use connected_streams::{
    BroadcastStreams, CoProcessFunction, ConnectedStreams, KeyOf, KeyedBroadcastStreams, KeyedCoProcessFunction,
    KeyedConnectedStreams,
};
pub use data_stream::{DataStream, DataStreamSink};
pub use environment::{CheckpointConfig, StreamExecutionEnvironment};
pub use error::{Error, Result};
pub use execute::{JobClient, JobExecutionResult};
pub use joined_streams::{IntervalJoin, IntervalJoined, JoinedKeys, JoinedStreams, JoinedWhere, JoinedWindows};
pub use keyed_stream::KeyedStream;
pub use watermark_strategy::{KeepTimestamps, TimestampAssigner, WatermarkStrategy};
pub use windowed_stream::{EvictingWindowedStream, WindowedStream};

pub use streamd_connectors as connectors;
pub use streamd_core::backend::{StateBackendKind, StateBackendSettings};
pub use streamd_core::barrier::Compression;
pub use streamd_core::graph::{
    CheckpointingMode, ExternalizedCheckpointRetention, Guarantee, RestartStrategy, StateDescriptor,
};
pub use streamd_core::sink::{NoCommit, Sink, SinkContext, SinkWriter, WriteContext};
pub use streamd_core::snapshot::ListState as StoredList;
pub use streamd_core::source::{ConnectorError, Source, SourceReader, SourceStatus, Stretch, Unit};
pub use streamd_core::state::{Key, SmolStr, State};
pub use streamd_core::time::{EventTime, WallTime};
pub use streamd_macros::State;
pub use streamd_runtime::async_function::{AsyncFunction, AsyncRetryStrategy};
pub use streamd_runtime::connected::Either;
pub use streamd_runtime::error::BoxError;
pub use streamd_runtime::keyed::{
    AggregatingState, AllKeys, KeyedContext, KeyedProcessFunction, KeyedStateStore, ListState, MapState, ReducingState,
    StateTtlConfig, StateVisibility, TimerService, UpdateType, ValueState,
};
pub use streamd_runtime::operator::{KeyedBroadcastContext, KeyedBroadcastProcessFunction};
pub use streamd_runtime::operator_state::{BroadcastState, OperatorListState, OperatorStateStore};
pub use streamd_runtime::process_function::{
    BroadcastContext, BroadcastProcessFunction, ProcessContext, ProcessFunction,
};
pub use streamd_runtime::record::{Collector, Record};
pub use streamd_runtime::runtime_context::RuntimeContext;
pub use streamd_runtime::side_output::OutputTag;
pub use streamd_runtime::timer::Timer;
pub use streamd_runtime::watermark::WatermarkGenerator;
pub use streamd_runtime::window;

/// Test harnesses: an operator driven by hand, without a job around it; and what every connector must do, as code to run.
pub mod testing {
    #[cfg(feature = "simulation")]
    pub use crate::simulate::{SimulationPlan, SimulationReport, simulate, simulate_crashes, simulate_with};
    pub use streamd_connectors::conformance;
    pub use streamd_runtime::async_function::{AsyncWaitOptions, OutputMode};
    pub use streamd_runtime::chain::Operator;
    pub use streamd_runtime::harness::{OperatorSnapshotHandle, OperatorTestHarness};
    pub use streamd_runtime::operator::{
        AsyncWait, BroadcastProcess, KeyedBroadcastProcess, KeyedProcess, Process, Reduce, SinkOperator,
    };
    pub use streamd_runtime::window::{Lateness, SlidingWindowOperator, WindowOperator, WindowOptions};
    #[cfg(feature = "simulation")]
    pub use streamd_simulation::{
        CrashKind, CrashPoint, CrashSide, FaultProfile, Outside, Sabotage, Sightings, SimulatedSink, SimulatedSource,
    };
}

/// Everything an application usually needs, in one `use`.
pub mod prelude {
    pub use std::time::Duration;

    pub use serde::{Deserialize, Serialize};

    pub use crate::connectors::file::sink::RollingPolicy;
    pub use crate::connectors::{
        BlackholeSink, CollectionSource, FileSink, FileSource, GeneratorSource, LedgerSink, PrintSink, SocketTextSource,
    };
    pub use crate::window::{
        AggregateFunction, EventTimeSessionWindows, GlobalWindows, ProcessWindowFunction, SlidingEventTimeWindows,
        SlidingProcessingTimeWindows, TimeWindow, TumblingEventTimeWindows, TumblingProcessingTimeWindows,
        WindowContext,
    };
    pub use crate::{
        AllKeys, BoxError, Collector, DataStream, EventTime, ExternalizedCheckpointRetention, KeyedContext,
        KeyedProcessFunction, KeyedStateStore, KeyedStream, ListState, MapState, OperatorListState, OperatorStateStore,
        OutputTag, ProcessContext, ProcessFunction, RestartStrategy, State, StreamExecutionEnvironment, Timer,
        ValueState, WallTime, WatermarkStrategy,
    };
}

/// The code in the documentation, compiled with the tests.
#[cfg(doctest)]
mod documentation {
    #[doc = include_str!("../../../README.md")]
    mod readme {}
    #[doc = include_str!("../../../docs/tutorial/first-job.md")]
    mod first_job {}
    #[doc = include_str!("../../../docs/explanation/event-time.md")]
    mod event_time {}
    #[doc = include_str!("../../../docs/how-to/evolve-state.md")]
    mod evolve_state {}
    #[doc = include_str!("../../../docs/how-to/recover-from-failure.md")]
    mod recover_from_failure {}
    #[doc = include_str!("../../../docs/how-to/test-an-application.md")]
    mod test_an_application {}
    #[cfg(feature = "simulation")]
    #[doc = include_str!("../../../docs/how-to/simulate-an-application.md")]
    mod simulate_an_application {}
    #[doc = include_str!("../../../docs/how-to/call-outside-services.md")]
    mod call_outside_services {}
    #[doc = include_str!("../../../docs/explanation/kinds-of-state.md")]
    mod kinds_of_state {}
    #[doc = include_str!("../../../docs/how-to/read-and-write-files.md")]
    mod read_and_write_files {}
    #[cfg(feature = "parquet")]
    #[doc = include_str!("../../../docs/how-to/read-and-write-parquet.md")]
    mod read_and_write_parquet {}
    #[doc = include_str!("../../../docs/how-to/write-a-connector.md")]
    mod write_a_connector {}
}

/// What the derive macros write paths to. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use streamd_core::{evolution, row, state};
}
