//! The profiles of the workers of a task manager: one at a time for each, and ended when nobody wants it any more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::WorkerId;
use streamd_rpc::proto;
use tokio_util::sync::CancellationToken;

use super::perf::Perf;
use crate::directory::{PrivateDirectory, not_writable};

/// Takes profiles.
#[derive(Debug)]
pub(crate) struct Profiler {
    /// Where each profile gets a directory of its own.
    directory: PathBuf,
    /// The workers that are looked at: by which request, and how that ends early.
    under_way: Mutex<BTreeMap<WorkerId, (u64, CancellationToken)>>,
}

/// The entry of a worker that is looked at, gone with this value.
struct UnderWay<'a> {
    profiler: &'a Profiler,
    worker: WorkerId,
    stopped: CancellationToken,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.profiler.lock().remove(&self.worker);
    }
}

impl Profiler {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            under_way: Mutex::default(),
        }
    }

    /// Looks at a worker, which runs as this process, for as long as the order says. Cancel safe: dropping the future ends the profiler
    /// and removes what it has written.
    pub(crate) async fn profile(
        &self,
        process: Option<u32>,
        order: &proto::ProfileWorker,
    ) -> Result<proto::Profile, CodedError> {
        let worker = WorkerId(order.worker_id);
        let process = process.ok_or_else(|| not_running(worker))?;
        let under_way = self.begin(worker, order.request_id)?;
        let stopped = under_way.stopped.clone();
        tokio::select! {
            profile = self.look(worker, process, order) => profile,
            () = stopped.cancelled() => Err(given_up(worker)),
        }
    }

    async fn look(
        &self,
        worker: WorkerId,
        process: u32,
        order: &proto::ProfileWorker,
    ) -> Result<proto::Profile, CodedError> {
        let directory = PrivateDirectory::new_in(&self.directory)
            .map_err(|error| not_writable("working directory", &self.directory, &error))?;
        let perf = Perf {
            worker,
            directory: directory.path(),
        };
        let cut_short = perf.record(process, order.duration_ms, order.frequency).await?;
        let stacks = perf.stacks().await?;
        Ok(proto::Profile {
            cut_short,
            ..stacks.profile()
        })
    }

    /// Ends the profile of a request.
    pub(crate) fn stop(&self, request: u64) {
        let under_way = self.lock();
        let stopped = under_way.values().find(|(number, _)| *number == request);
        stopped.inspect(|(_, stopped)| stopped.cancel());
    }

    /// Ends all: the workers are to go elsewhere.
    pub(crate) fn stop_all(&self) {
        self.lock().values().for_each(|(_, stopped)| stopped.cancel());
    }

    fn begin(&self, worker: WorkerId, request: u64) -> Result<UnderWay<'_>, CodedError> {
        let mut under_way = self.lock();
        if under_way.contains_key(&worker) {
            let message = format!("`{worker}` is being looked at already");
            return Err(CodedError::new(ErrorCode::ProfileUnderWay, message)
                .with_hint("wait for the other profile, or look at another task manager's worker"));
        }
        let stopped = CancellationToken::new();
        under_way.insert(worker, (request, stopped.clone()));
        Ok(UnderWay {
            profiler: self,
            worker,
            stopped,
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkerId, (u64, CancellationToken)>> {
        // No code that holds the lock can leave a half-made change behind.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error for a worker without a process.
pub(super) fn not_running(worker: WorkerId) -> CodedError {
    CodedError::new(
        ErrorCode::JobNotRunning,
        format!("`{worker}` has no process to look at"),
    )
    .with_hint("it starts, or has ended: see `streamctl status`, and try again")
}

fn given_up(worker: WorkerId) -> CodedError {
    let message = format!("the profile of `{worker}` was given up: its task manager is being drained");
    CodedError::new(ErrorCode::ProfileFailed, message).with_hint("try again once the job runs elsewhere")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_looked_at_by_one_request_at_a_time() {
        let profiler = Profiler::new(PathBuf::new());
        let first = profiler.begin(WorkerId(1), 7).ok();
        let refused = profiler.begin(WorkerId(1), 8).err();
        assert_eq!(refused.map(|error| error.code), Some(ErrorCode::ProfileUnderWay));
        assert!(profiler.begin(WorkerId(2), 9).is_ok());
        drop(first);
        assert!(profiler.begin(WorkerId(1), 10).is_ok());
    }

    #[test]
    fn a_request_ends_its_own_profile_and_a_drain_ends_all() {
        let profiler = Profiler::new(PathBuf::new());
        let both = [(1, 7), (2, 8)].map(|(worker, request)| profiler.begin(WorkerId(worker), request).ok());
        let stopped = || {
            both.iter()
                .flatten()
                .map(|it| it.stopped.is_cancelled())
                .collect::<Vec<_>>()
        };
        profiler.stop(8);
        assert_eq!(stopped(), [false, true]);
        profiler.stop_all();
        assert_eq!(stopped(), [true, true]);
    }

    #[tokio::test]
    async fn a_worker_without_a_process_is_not_looked_at() {
        let profiler = Profiler::new(PathBuf::new());
        let error = profiler
            .profile(None, &proto::ProfileWorker::default())
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::JobNotRunning);
    }
}
