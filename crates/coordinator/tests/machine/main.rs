//! The job machine from outside: scripts of events and the actions that must follow, every pair of situation and event, and
//! random lives of a job on a model cluster.

mod bench;
mod script;

mod alignment;
mod checkpoints;
mod evacuation;
mod failures;
mod lifecycle;
mod operations;
mod promotions;
mod recovery;
mod regions;
mod strangers;

mod matrix;
mod model;
mod simulation;
