//! The job manager: it begins, goes on from what is published, and dies.

use std::sync::Arc;

use streamd_coordinator::event::{JobSpec, OperationKind, OperationRequest, RestorePoint};
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::ClaimMode;
use streamd_core::id::{OperationId, WorkerId};
use streamd_jobmanager::{Dropping, JobRequest, job_spec};

use super::{Cluster, Happening};
use crate::job_manager::{self, JobManager};

impl Cluster<'_> {
    pub(super) fn manager_starts(&mut self) {
        if self.manager.is_some() || self.state.is_terminal() {
            return;
        }
        self.epoch += 1;
        match self.start_manager() {
            Ok(()) => {}
            Err(error) if self.is_healed() => self.violated(format_args!("I13: the job manager cannot begin: {error}")),
            // As a daemon that is started again and again.
            Err(error) => {
                self.line(format_args!("the job manager cannot begin: {}", error.code));
                self.later(200, Happening::ManagerStarts);
            }
        }
    }

    fn start_manager(&mut self) -> Result<(), CodedError> {
        let runtime = job_manager::still_runtime()
            .map_err(|error| CodedError::caused(ErrorCode::Internal, "no runtime can be made", &error))?;
        let restore = match (self.epoch, &self.options.checkpoint_directory) {
            (1, _) | (_, None) => None,
            (_, Some(directory)) => {
                self.store.set_control(true);
                let found = runtime.block_on(job_manager::find_latest(directory, self.job_id));
                self.store.set_control(false);
                found?
            }
        };
        if self.epoch > 1 {
            let from = restore.as_ref().map(|point| point.metadata.checkpoint_id);
            self.line(format_args!("epoch {} goes on from {from:?}", self.epoch));
        }
        let spec = self.spec(restore)?;
        let (clock, trace) = (Arc::clone(&self.clock), Arc::clone(&self.trace));
        self.manager = Some(JobManager::start(runtime, spec, clock, trace));
        Ok(())
    }

    fn spec(&self, restore: Option<RestorePoint>) -> Result<JobSpec, CodedError> {
        let mut options = self.options.clone();
        options.leader_epoch = self.epoch;
        options.claim_mode = ClaimMode::Claim;
        let request = JobRequest {
            job_id: self.job_id,
            graph: self.graph.clone(),
            restore,
            dropping: Dropping::Nothing,
            max_parallelism: None,
            options,
            first_worker: WorkerId(self.next_worker),
        };
        job_spec(request).map(|(spec, _warnings)| spec)
    }

    /// `false` if there is none, or its job is over: what follows an end is another story.
    pub(super) fn kill_manager(&mut self) -> bool {
        if self.state.is_terminal() {
            return false;
        }
        let Some(manager) = self.manager.take() else {
            return false;
        };
        self.saw("the job manager was killed");
        if self.watch.is_any_pending() {
            self.saw("the leader changed while a snapshot was pending");
        }
        self.watch.forget();
        self.line("the job manager is killed");
        manager.kill();
        self.slots.release(self.job_id);
        true
    }

    /// Asks for a savepoint if the whole job runs. One of a job that does not run is made of a checkpoint on threads of its own,
    /// whose time is not simulated.
    pub(super) fn ask_for_savepoint(&mut self) {
        if !self.manager.as_ref().is_some_and(JobManager::runs_wholly) {
            return;
        }
        self.savepoints += 1;
        let request = OperationRequest {
            id: OperationId::from_bytes(self.dice.id()),
            kind: OperationKind::Savepoint,
            target: Some(format!("{}/savepoints", self.store.uri())),
            folder: format!("savepoint-{}", self.savepoints),
            timeout_ms: None,
        };
        self.saw("a savepoint was asked for");
        let epoch = self.epoch;
        self.tell(epoch, async |job| drop(job.start_operation(request).await));
    }
}
