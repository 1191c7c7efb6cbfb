//! Processes: the daemons that a test starts, and the workers that these start in turn.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::files::binary;
use crate::wait::within;

/// How long a daemon may take to end once it is asked to, on whatever machine. Only a test that fails waits this long.
const GRACE: Duration = Duration::from_secs(120);

/// A daemon that a test has started, the leader of a process group of its own.
pub struct Daemon {
    /// `jobmanager`, `taskmanager-0`, …
    pub name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `streamd` with these arguments and nothing but this environment. It logs to `<logs>/<name>.err`.
    pub fn start(name: &str, arguments: &[&str], environment: &[(String, String)], logs: &Path) -> Self {
        let log = logs.join(format!("{name}.err"));
        let output = |path: &Path| File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let child = Command::new(binary("streamd"))
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(output(&logs.join(format!("{name}.out"))))
            .stderr(output(&log))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("`streamd` does not start: {error}"));
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        signal(self.id(), Signal::KILL);
        self.wait();
    }

    /// Stops it where it is, as a machine does that hangs.
    pub fn pause(&self) {
        signal(self.id(), Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        signal(self.id(), Signal::CONT);
    }

    /// Asks it to end.
    pub fn ask_to_end(&self) {
        signal(self.id(), Signal::TERM);
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        if self.has_ended() {
            return self.wait();
        }
        signal(self.id(), Signal::TERM);
        // One that a test has paused hears of it only when it goes on.
        self.resume();
        if within(GRACE, || self.has_ended().then_some(())).is_none() {
            signal(self.id(), Signal::KILL);
            self.wait();
            panic!("{} did not end within {GRACE:?} of SIGTERM", self.name);
        }
        self.wait()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let ended = within(GRACE, || self.child.try_wait().expect("a child can be waited for"));
        ended.unwrap_or_else(|| panic!("{} does not end", self.name))
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("a child can be waited for")
    }
}

/// A worker process, found among all processes of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// The process id.
    pub process_id: u32,
    /// The id of the job it works for.
    pub job_id: String,
    /// Its number within the cluster.
    pub number: String,
    /// The id of the task manager that started it.
    pub task_manager: String,
}

impl Worker {
    /// Ends it at once, as `kill -9` does.
    pub fn kill(&self) {
        signal(self.process_id, Signal::KILL);
    }

    /// Stops it where it is, as a machine does that hangs.
    pub fn pause(&self) {
        signal(self.process_id, Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        signal(self.process_id, Signal::CONT);
    }
}

/// Every worker process of the cluster whose files are in this directory.
pub fn workers(directory: &Path) -> Vec<Worker> {
    let owned = processes_in(directory).into_iter();
    let mut workers: Vec<Worker> = owned
        .filter(|(_, environment)| variable(environment, "STREAMD_MODE") == "worker")
        .map(|(process_id, environment)| Worker {
            process_id,
            job_id: variable(&environment, "STREAMD_JOB_ID"),
            number: variable(&environment, "STREAMD_WORKER_ID"),
            task_manager: variable(&environment, "STREAMD_TASK_MANAGER_ID"),
        })
        .collect();
    workers.sort_by_key(|worker| worker.process_id);
    workers
}

/// The ids of the processes that describe a job for the cluster whose files are in this directory.
pub fn descriptions(directory: &Path) -> Vec<u32> {
    let owned = processes_in(directory).into_iter();
    owned
        .filter(|(_, environment)| variable(environment, "STREAMD_MODE") == "describe")
        .map(|(process_id, _)| process_id)
        .collect()
}

/// Ends every process whose files are in this directory, and says which there were.
pub fn kill_survivors(directory: &Path) -> Vec<String> {
    let survivors = processes_in(directory);
    survivors
        .into_iter()
        .map(|(process_id, environment)| {
            let words = fs::read(format!("/proc/{process_id}/cmdline")).unwrap_or_default();
            signal(process_id, Signal::KILL);
            format!(
                "process {process_id} ({}): {}",
                variable(&environment, "STREAMD_MODE"),
                String::from_utf8_lossy(&words).replace('\0', " ")
            )
        })
        .collect()
}

type Environment = Vec<u8>;

/// The processes whose environment names this directory or whose working directory is in it, with their environments.
fn processes_in(directory: &Path) -> Vec<(u32, Environment)> {
    let entries = fs::read_dir("/proc").expect("these tests run on Linux").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| *id != std::process::id())
        .filter_map(|id| {
            let environment = fs::read(format!("/proc/{id}/environ")).ok()?;
            let named = contains(&environment, directory.as_os_str().as_bytes());
            let inside = || fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|at| at.starts_with(directory));
            (named || inside()).then_some((id, environment))
        })
        .collect()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn variable(environment: &[u8], name: &str) -> String {
    let prefix = format!("{name}=");
    let mut pairs = environment.split(|byte| *byte == 0);
    let value = pairs.find_map(|pair| pair.strip_prefix(prefix.as_bytes()));
    value
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .unwrap_or_default()
}

/// Sends a signal to a process; one that is gone is no error.
pub(crate) fn signal(process_id: u32, signal: Signal) {
    let pid = i32::try_from(process_id).ok().and_then(Pid::from_raw);
    let pid = pid.expect("a process id is a positive i32");
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("process {process_id} cannot be signalled: {error}"),
    }
}
