//! The commands, one file each: what can be written after the verb, and what it does.

mod cancel;
mod checkpoint;
mod cluster;
mod completions;
mod fsck;
mod info;
mod list;
mod logs;
mod man;
mod profile;
mod program;
mod run;
mod savepoint;
mod savepoint_check;
mod savepoint_query;
mod state;
mod status;
mod stop;
mod task_manager;

pub use cancel::CancelCommand;
pub use checkpoint::CheckpointCommand;
pub use cluster::ClusterCommand;
pub use completions::CompletionsCommand;
pub use fsck::FsckCommand;
pub use info::InfoCommand;
pub use list::ListCommand;
pub use logs::LogsCommand;
pub use man::ManCommand;
pub use profile::ProfileCommand;
pub use run::RunCommand;
pub use savepoint::SavepointCommand;
pub use state::StateCommand;
pub use status::StatusCommand;
pub use stop::StopCommand;
pub use task_manager::TaskManagerCommand;
