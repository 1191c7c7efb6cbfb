//! Where a function runs.

use streamd_core::id::{Attempt, JobId};

use crate::chain::OpenContext;

/// The job, and which of its subtasks this is. Flink's noun.
#[derive(Debug, Clone, Copy)]
pub struct RuntimeContext {
    job_id: JobId,
    index: u32,
    parallelism: u32,
    max_parallelism: u32,
    attempt: Attempt,
}

impl RuntimeContext {
    pub(crate) fn new(context: &OpenContext) -> Self {
        Self {
            job_id: context.job_id,
            index: context.subtask.index,
            parallelism: context.parallelism,
            max_parallelism: context.max_parallelism,
            attempt: context.attempt,
        }
    }

    /// The job. It has a new id when it is resumed from a savepoint.
    pub fn job_id(&self) -> JobId {
        self.job_id
    }

    /// Which of the parallel subtasks, from 0.
    pub fn index_of_this_subtask(&self) -> u32 {
        self.index
    }

    /// How many there are.
    pub fn number_of_parallel_subtasks(&self) -> u32 {
        self.parallelism
    }

    /// How many there can be: the number of key groups.
    pub fn max_number_of_parallel_subtasks(&self) -> u32 {
        self.max_parallelism
    }

    /// How often the job was started, this time included: 1 until something fails, as `streamctl status` shows it.
    pub fn attempt_number(&self) -> u32 {
        self.attempt.0
    }
}
