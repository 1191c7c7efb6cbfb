//! `streamd`: the daemons of a cluster, in the foreground.
//!
//! This program deliberately decides nothing: it reads the configuration, hands each component its options, prints the address,
//! waits for a signal, and has the components end in order.
//!
//! ```text
//!   conf/streamd.yaml ─┐
//!   environment ───────┼──▶ configuration ──▶ job manager options ───▶ JobManager ───┐
//!   -D key=value ──────┘                 └──▶ task manager options ──▶ TaskManager ──┴──▶ until SIGTERM
//! ```
//!
//! Reading order: [`arguments`], [`daemon`], then [`job_manager`] and [`task_manager`], one file each for how the
//! configuration becomes their options.

mod arguments;
mod configuration;
mod daemon;

mod high_availability;
mod job_manager;
mod job_settings;
mod task_manager;

mod address;
mod exposure;
mod lock;
mod logging;
mod show;
mod signal;

/// The allocator that returns memory soonest and shares it best between threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    daemon::main()
}
