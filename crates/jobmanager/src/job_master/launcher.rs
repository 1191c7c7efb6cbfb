//! Where a job's slots and worker processes come from: the daemon's resource manager, or a thread of the same process.

use futures::future::BoxFuture;
use streamd_coordinator::event::SlotId;
use streamd_core::id::{TaskManagerId, WorkerId};

use super::handle::JobMasterHandle;

/// What a job master asks of its launcher, one after the other, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchRequest {
    /// Find this many slots altogether, now or later, and report them by [`JobMasterHandle::slots_allocated`]. Replaces an
    /// earlier request; slots that the job holds count.
    RequestSlots {
        /// How many.
        count: u32,
    },
    /// A worker is back that another job manager started.
    AdoptWorker {
        /// Its number.
        worker: WorkerId,
        /// Where it runs.
        task_manager: TaskManagerId,
    },
    /// All of them are back, and with them these slots are the job's.
    AdoptSlots {
        /// All that it holds.
        slots: Vec<SlotId>,
    },
    /// The job needs no slots any more.
    ReleaseSlots,
    /// Start a worker, which then attaches itself by [`JobMasterHandle::attach_worker`]. Report its end, or that it could
    /// not be started, by [`JobMasterHandle::worker_lost`].
    StartWorker {
        /// The number that it gets.
        worker: WorkerId,
        /// Where it is started.
        task_manager: TaskManagerId,
    },
    /// End a worker, by force if it does not go by itself.
    StopWorker {
        /// Its number.
        worker: WorkerId,
    },
    /// The job has ended for good: nothing of it is needed any more.
    Forget,
}

/// Gives a job its slots and workers.
pub trait WorkerLauncher: Send + Sync + 'static {
    /// Carries out one request. May wait; the job master takes events meanwhile, and makes its next request when the
    /// future is done. Failures are reported through `job`, as the loss of the worker.
    fn launch(&self, job: JobMasterHandle, request: LaunchRequest) -> BoxFuture<'static, ()>;
}
