//! The life of a daemon: settings, logging, components, signal, end.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::keys;
use streamd_core::time::{Clock, SystemClock};
use streamd_jobmanager::HighAvailability;
use tokio::runtime::Runtime;
use tracing::{info, warn};

use crate::address::{AddressFile, address_file, find_address, job_manager_address};
use crate::arguments::{Arguments, ConfigArguments, Daemon, DaemonArguments, TaskManagerArguments};
use crate::configuration::Settings;
use crate::exposure::check_exposure;
use crate::job_manager;
use crate::lock::InstanceLock;
use crate::logging;
use crate::show::show;
use crate::signal::Termination;
use crate::task_manager;

/// Threads that move messages; work that blocks has threads of its own. A cluster of any size needs no more.
const IO_THREADS: usize = 2;

/// Runs the daemon that the arguments name until it is told to end.
pub fn main() -> ExitCode {
    forgo_huge_pages();
    match run(Arguments::parse().daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let hint = error
                .hint
                .as_ref()
                .map(|hint| format!("hint: {hint}\n"))
                .unwrap_or_default();
            // Where stderr is closed the exit code is all that is left to say.
            drop(write!(std::io::stderr().lock(), "error: {error}\n{hint}"));
            ExitCode::from(error.code.remedy().exit_code())
        }
    }
}

/// Has the kernel give small pages to this process and to those that it starts: a worker takes huge ones once a table is large.
fn forgo_huge_pages() {
    // They are memory saved, and nothing else.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

fn run(daemon: Daemon) -> Result<(), CodedError> {
    match daemon {
        Daemon::JobManager(arguments) => {
            let (settings, runtime) = prepare(&arguments)?;
            runtime.block_on(run_job_manager(&settings))
        }
        Daemon::TaskManager(TaskManagerArguments { job_manager, daemon }) => {
            let (settings, runtime) = prepare(&daemon)?;
            runtime.block_on(run_task_manager(&settings, job_manager))
        }
        Daemon::Local(arguments) => {
            let (settings, runtime) = prepare(&arguments)?;
            runtime.block_on(run_local(&settings))
        }
        Daemon::Config(ConfigArguments { key, daemon }) => show(&Settings::load(&daemon)?, key.as_deref()),
    }
}

fn prepare(arguments: &DaemonArguments) -> Result<(Settings, Runtime), CodedError> {
    logging::start(arguments.log_format)?;
    let settings = Settings::load(arguments)?;
    for notice in settings.configuration.notices() {
        warn!("{notice}");
    }
    for (key, value, origin) in settings.configuration.settings() {
        info!(key, value, %origin, "configured");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("streamd-io")
        .enable_all()
        .build()
        .map_err(|error| CodedError::caused(ErrorCode::Internal, "the asynchronous runtime does not start", &error))?;
    Ok((settings, runtime))
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

async fn run_job_manager(settings: &Settings) -> Result<(), CodedError> {
    let mut termination = Termination::listen()?;
    // What the configuration says is checked before anything is made.
    check_exposure(&settings.configuration, keys::JOB_MANAGER_BIND_HOST).await?;
    let options = job_manager::options(settings)?;
    // Several may share a directory where they find out by themselves who leads.
    let _lock = match &options.high_availability {
        HighAvailability::None => {
            let directory = &settings.directories.working;
            Some(InstanceLock::take(directory, "jobmanager.lock", "job manager")?)
        }
        HighAvailability::ObjectStore(_) | HighAvailability::Kubernetes(..) => None,
    };
    let job_manager = tokio::select! {
        started = job_manager::start(settings, options, clock()) => started?,
        () = termination.requested() => return Ok(()),
    };
    let address = job_manager_address(&settings.configuration, job_manager.address());
    let file = AddressFile::write(&settings.directories.pid, &address)?;
    announce(&format!("jobmanager {address}"));
    let superseded = tokio::select! {
        () = termination.requested() => None,
        superseded = job_manager.superseded() => Some(superseded),
    };
    match superseded {
        None => {
            file.remove();
            job_manager.shutdown().await;
            Ok(())
        }
        // The file names whoever leads now, or nobody.
        Some(error) => {
            job_manager.abandon().await;
            Err(error)
        }
    }
}

async fn run_task_manager(settings: &Settings, job_manager: Option<String>) -> Result<(), CodedError> {
    let mut termination = Termination::listen()?;
    check_exposure(&settings.configuration, keys::TASK_MANAGER_BIND_HOST).await?;
    let (address, file) = match job_manager {
        Some(address) => (address, None),
        None => tokio::select! {
            found = find_address(settings) => (found?, address_file(settings)),
            () = termination.requested() => return Ok(()),
        },
    };
    let task_manager = task_manager::start(settings, &address, file, clock()).await?;
    tokio::select! {
        registered = task_manager.registered() => {
            registered?;
            announce(&format!("taskmanager {}", task_manager.id()));
        }
        () = termination.requested() => return task_manager.shutdown().await,
    }
    tokio::select! {
        ended = task_manager.finished() => return ended,
        () = termination.requested() => {}
    }
    tokio::select! {
        () = task_manager.drain() => {}
        () = termination.requested_again() => {}
    }
    task_manager.shutdown().await
}

async fn run_local(settings: &Settings) -> Result<(), CodedError> {
    let mut termination = Termination::listen()?;
    check_exposure(&settings.configuration, keys::JOB_MANAGER_BIND_HOST).await?;
    check_exposure(&settings.configuration, keys::TASK_MANAGER_BIND_HOST).await?;
    let options = job_manager::options(settings)?;
    let _lock = InstanceLock::take(&settings.directories.working, "jobmanager.lock", "job manager")?;
    let job_manager = job_manager::start(settings, options, clock()).await?;
    let address = job_manager_address(&settings.configuration, job_manager.address());
    let task_manager = task_manager::start(settings, &address, None, clock()).await?;
    let file = AddressFile::write(&settings.directories.pid, &address)?;
    announce(&format!("jobmanager {address}"));
    let outcome = tokio::select! {
        outcome = async {
            task_manager.registered().await?;
            announce(&format!("taskmanager {}", task_manager.id()));
            task_manager.finished().await
        } => outcome,
        superseded = job_manager.superseded() => Err(superseded),
        () = termination.requested() => Ok(()),
    };
    file.remove();
    // The job manager first: it tells the workers of running jobs to exit, and the task manager then finds none left.
    job_manager.shutdown().await;
    let ended = task_manager.shutdown().await;
    outcome.and(ended)
}

/// A line on stdout. Nobody needs to read it: the address is in a file too.
fn announce(line: &str) {
    let mut stdout = std::io::stdout().lock();
    drop(writeln!(stdout, "{line}").and_then(|()| stdout.flush()));
}
