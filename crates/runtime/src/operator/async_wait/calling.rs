//! One call after the other, made on the threads for I/O.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::Poll;

use streamd_core::state::State;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::async_function::{AsyncFunction, AsyncRetryStrategy, AsyncWaitOptions};
use crate::chain::OpenContext;
use crate::completions::Completions;
use crate::error::{BoxError, TaskError};
use crate::record::Record;

/// A call that has come back, by its number.
pub(super) struct Completion<Out> {
    pub(super) call: u64,
    pub(super) outcome: Outcome<Out>,
}

pub(super) enum Outcome<Out> {
    Done(Result<Vec<Out>, BoxError>),
    Panicked(TaskError),
    TimedOut,
}

/// What calls need to be made and to come back.
pub(super) struct Calling<Out> {
    io: tokio::runtime::Handle,
    completions: Completions,
    sender: SyncSender<Completion<Out>>,
    receiver: Receiver<Completion<Out>>,
    /// Dropped with the operator, and with it every future.
    canceled: CancellationToken,
    _guard: DropGuard,
}

impl<Out: Record> Calling<Out> {
    pub(super) fn new(context: &OpenContext, capacity: usize) -> Self {
        // Every call sends once, and is open until that is taken in: the channel is never full.
        let (sender, receiver) = sync_channel(capacity);
        let canceled = CancellationToken::new();
        Self {
            io: context.io.clone(),
            completions: context.completions.clone(),
            sender,
            receiver,
            _guard: canceled.clone().drop_guard(),
            canceled,
        }
    }

    /// A call that has come back.
    pub(super) fn take_back(&self) -> Option<Completion<Out>> {
        self.receiver.try_recv().ok()
    }

    /// Has the operator look again at what has come back.
    pub(super) fn notify(&self) {
        self.completions.notify();
    }

    /// Makes a call on the threads for I/O.
    pub(super) fn call<In, F>(&self, call: u64, (function, record): (F, In), options: &AsyncWaitOptions<Out>)
    where
        In: State,
        F: AsyncFunction<In, Out>,
    {
        let (sender, completions, canceled) = (self.sender.clone(), self.completions.clone(), self.canceled.clone());
        let (timeout, retry) = (options.timeout, options.retry.clone());
        self.io.spawn(async move {
            let attempts = caught(attempts(function, record, retry));
            let outcome = tokio::select! {
                // The operator is gone: nobody waits for the answer.
                () = canceled.cancelled() => return,
                outcome = tokio::time::timeout(timeout, attempts) => outcome.unwrap_or(Outcome::TimedOut),
            };
            if sender.try_send(Completion { call, outcome }).is_ok() {
                completions.notify();
            }
        });
    }
}

/// Makes a call, again and again where that is wanted.
async fn attempts<In, Out, F>(function: F, record: In, retry: AsyncRetryStrategy<Out>) -> Result<Vec<Out>, BoxError>
where
    In: State,
    F: AsyncFunction<In, Out>,
{
    let mut retries = 0;
    loop {
        let outcome = function.async_invoke(record.clone()).await;
        match retry.delay(retries, &outcome) {
            None => return outcome,
            Some(delay) => tokio::time::sleep(delay).await,
        }
        retries += 1;
    }
}

/// A panic of user code as an outcome.
async fn caught<Out>(attempts: impl Future<Output = Result<Vec<Out>, BoxError>>) -> Outcome<Out> {
    let mut attempts = pin!(attempts);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| attempts.as_mut().poll(context)));
        match polled {
            Ok(polled) => polled.map(Outcome::Done),
            Err(panic) => Poll::Ready(Outcome::Panicked(TaskError::panicked("an asynchronous call", &*panic))),
        }
    })
    .await
}
