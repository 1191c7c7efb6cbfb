//! The job machine: the life of one job from CREATED to its end.
//!
//! Reading order: [`JobMachine`], its phases, then the four stretches of its road: `attempt` (slots, workers,
//! deployment), `recovery` (the attempt of another job manager), `reports` (what workers say), `snapshots` and `operations`,
//! `ending` and `evacuation`, `regions` (a part of the job restarts); `status` is what others may see.

mod machine;
mod phase;

mod attempt;
mod recovery;
mod reports;

mod operations;
mod snapshots;

mod ending;
mod evacuation;
mod regions;

mod status;
mod views;

pub use machine::JobMachine;
pub use recovery::Recovery;
pub use views::{
    CheckpointStatistics, CompletedSnapshot, OperationProgress, OperationStage, OperationStatus, RestoredFrom,
    WorkerView,
};
