//! The commands, one file each: what can be written after the verb, and what it does.

mod cancel;
mod cluster;
mod completions;
mod info;
mod list;
mod logs;
mod man;
mod program;
mod run;
mod savepoint;
mod status;
mod stop;

pub use cancel::CancelCommand;
pub use cluster::ClusterCommand;
pub use completions::CompletionsCommand;
pub use info::InfoCommand;
pub use list::ListCommand;
pub use logs::LogsCommand;
pub use man::ManCommand;
pub use run::RunCommand;
pub use savepoint::SavepointCommand;
pub use status::StatusCommand;
pub use stop::StopCommand;
