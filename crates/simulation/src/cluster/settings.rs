//! The settings of the job: its own where they say what it does, the simulation's where they say how fast.

use streamd_coordinator::event::JobOptions;
use streamd_core::error::CodedError;
use streamd_core::graph::{JobGraph, RestartStrategy};
use streamd_jobmanager::{JobDefaults, JobOptionsInputs, job_options};

use crate::dice::Dice;
use crate::store::SimulatedStore;

/// The settings of the job of this simulation.
pub(super) fn options(graph: &JobGraph, dice: &mut Dice, store: &SimulatedStore) -> Result<JobOptions, CodedError> {
    let mut options = job_options(graph, &JobOptionsInputs::default(), &JobDefaults::default(), 1)?;
    options.checkpoint_directory = Some(format!("{}/checkpoints", store.uri()));
    options.savepoint_directory = Some(format!("{}/savepoints", store.uri()));
    let checkpointing = &mut options.checkpointing;
    checkpointing.interval_ms = Some(dice.between(60, 300));
    checkpointing.timeout_ms = 1_500;
    checkpointing.min_pause_ms = 0;
    checkpointing.max_concurrent = dice.between(1, 2) as u32;
    checkpointing.tolerable_failed = *dice.pick(&[0, 2, 1_000]).unwrap_or(&0);
    checkpointing.num_retained = dice.between(1, 3) as u32;
    checkpointing.incremental = dice.happens(500);
    if dice.happens(500) {
        options.state_backend.inline_threshold = 0;
    }
    options.restart_strategy = RestartStrategy::FixedDelay {
        attempts: 100_000,
        delay_ms: dice.between(1, 200),
    };
    options.slot_request_timeout_ms = 20_000;
    options.worker_start_timeout_ms = 3_000;
    options.cancel_timeout_ms = 1_000;
    Ok(options)
}
