//! The job machine: the life of one job from CREATED to its end.

mod machine;
mod views;

pub use machine::JobMachine;
pub use views::{CheckpointStatistics, CompletedSnapshot, OperationStatus, RestoredFrom, WorkerView};
