//! Streams whose records ask something outside.

use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::state::State;
use streamd_runtime::async_function::{AsyncFunction, AsyncRetryStrategy, AsyncWaitOptions, OutputMode};
use streamd_runtime::operator::AsyncWait;
use streamd_runtime::record::Record;

use crate::data_stream::DataStream;

/// Applies functions that call the outside world and do not wait for the answer. Flink's noun.
///
/// `capacity` is how many calls a subtask may have under way, or waiting to be emitted: then it takes no more records. `timeout` is how
/// long a call may take, all its attempts together. Records whose results are not emitted are part of every snapshot, and their calls are
/// made again by whoever starts from it; so records are [`State`].
pub struct AsyncDataStream;

impl AsyncDataStream {
    /// Results are emitted as calls come back, but never across a watermark.
    pub fn unordered_wait<In, Out, F>(
        stream: &DataStream<In>,
        function: F,
        timeout: Duration,
        capacity: usize,
    ) -> DataStream<Out>
    where
        In: Record + State,
        Out: Record,
        F: AsyncFunction<In, Out>,
    {
        Self::unordered_wait_with_retry(stream, function, timeout, capacity, AsyncRetryStrategy::none())
    }

    /// Results are emitted in the order of the records.
    pub fn ordered_wait<In, Out, F>(
        stream: &DataStream<In>,
        function: F,
        timeout: Duration,
        capacity: usize,
    ) -> DataStream<Out>
    where
        In: Record + State,
        Out: Record,
        F: AsyncFunction<In, Out>,
    {
        Self::ordered_wait_with_retry(stream, function, timeout, capacity, AsyncRetryStrategy::none())
    }

    /// As [`unordered_wait`](Self::unordered_wait), making calls again.
    pub fn unordered_wait_with_retry<In, Out, F>(
        stream: &DataStream<In>,
        function: F,
        timeout: Duration,
        capacity: usize,
        retry: AsyncRetryStrategy<Out>,
    ) -> DataStream<Out>
    where
        In: Record + State,
        Out: Record,
        F: AsyncFunction<In, Out>,
    {
        let options = AsyncWaitOptions {
            mode: OutputMode::Unordered,
            capacity,
            timeout,
            retry,
        };
        wait(stream, function, options)
    }

    /// As [`ordered_wait`](Self::ordered_wait), making calls again.
    pub fn ordered_wait_with_retry<In, Out, F>(
        stream: &DataStream<In>,
        function: F,
        timeout: Duration,
        capacity: usize,
        retry: AsyncRetryStrategy<Out>,
    ) -> DataStream<Out>
    where
        In: Record + State,
        Out: Record,
        F: AsyncFunction<In, Out>,
    {
        let options = AsyncWaitOptions {
            mode: OutputMode::Ordered,
            capacity,
            timeout,
            retry,
        };
        wait(stream, function, options)
    }
}

fn wait<In, Out, F>(stream: &DataStream<In>, function: F, options: AsyncWaitOptions<Out>) -> DataStream<Out>
where
    In: Record + State,
    Out: Record,
    F: AsyncFunction<In, Out>,
{
    if options.capacity == 0 {
        let message = "an asynchronous function with a capacity of 0 can make no call";
        let error = CodedError::new(ErrorCode::InvalidJobGraph, message);
        stream
            .environment()
            .fail(error.with_hint("give it a capacity of at least 1"));
    }
    let name = match options.mode {
        OutputMode::Ordered => "ordered wait",
        OutputMode::Unordered => "unordered wait",
    };
    let states = AsyncWait::<In, Out, F>::states();
    stream.transform(name, states, move || AsyncWait::new(function.clone(), options.clone()))
}
