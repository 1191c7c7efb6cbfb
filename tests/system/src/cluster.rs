//! A cluster of a job manager and task managers, each a process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{Ran, Running};
use crate::files::{complete_checkpoints, everything_below, number, path_of, string, text};
use crate::process::{self, Daemon, Worker};
use crate::wait::{PATIENCE, until};

/// Clusters that run at once: each has several processes that want a processor.
const AT_ONCE: usize = 3;

/// The free places for clusters.
static PLACES: (Mutex<usize>, Condvar) = (Mutex::new(AT_ONCE), Condvar::new());

/// How much of each log a failed test shows.
const SHOWN_LINES: usize = 40;

/// What a cluster is to have.
pub struct ClusterBuilder {
    task_managers: usize,
    slots: u32,
    settings: Vec<(String, String)>,
    /// Variables that only its daemons see.
    variables: Vec<(String, String)>,
}

impl ClusterBuilder {
    /// This many task managers with this many slots each.
    pub fn new(task_managers: usize, slots: u32) -> Self {
        let settings = [
            // Nobody else takes a port there while a job manager is away.
            ("jobmanager.bind-host", servers::own_address().to_string().as_str()),
            ("jobmanager.rpc.port", "0"),
            // What dies is missed at once all the same: this is for a machine that stops for a while.
            ("heartbeat.timeout", "2 min"),
            // Counts of records come with it.
            ("heartbeat.interval", "200 ms"),
            // One after the other ends with the test: jobs need not move on to the next.
            ("taskmanager.shutdown.drain-timeout", "0 s"),
            ("restart-strategy.type", "fixed-delay"),
            ("restart-strategy.fixed-delay.attempts", "5"),
            ("restart-strategy.fixed-delay.delay", "50 ms"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut settings: Vec<_> = settings.into();
        if cfg!(feature = "rocksdb") {
            settings.push(("state.backend.type".to_owned(), "rocksdb".to_owned()));
        }
        Self {
            task_managers,
            slots,
            settings,
            variables: Vec::new(),
        }
    }

    /// A line of its `streamd.yaml`.
    pub fn setting(mut self, key: &str, value: &str) -> Self {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A variable of the environment of its daemons.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it, and waits until it is ready.
    pub fn start(self) -> Cluster {
        self.start_in(Place::take(1))
    }

    /// Starts two of the kind, side by side.
    pub fn start_two(self) -> (Cluster, Cluster) {
        let address = servers::own_address().to_string();
        let other = Self {
            settings: self.settings.clone(),
            variables: self.variables.clone(),
            ..self
        }
        .setting("jobmanager.bind-host", &address);
        let mut place = Place::take(2);
        let first = self.start_in(place.split());
        (first, other.start_in(place))
    }

    /// Prepares it, without a process.
    pub fn unstarted(self) -> Cluster {
        self.prepare(Place::take(1))
    }

    fn start_in(self, place: Place) -> Cluster {
        let count = self.task_managers;
        let mut cluster = self.prepare(place);
        cluster.start_daemon("jobmanager", &["jobmanager"]);
        (0..count).for_each(|_| cluster.add_task_manager());
        cluster.wait_until_ready(count);
        cluster
    }

    fn prepare(self, place: Place) -> Cluster {
        let directory = tempfile::Builder::new()
            .prefix("streamd-system-")
            .tempdir()
            .expect("a temporary directory");
        for name in ["conf", "daemons"] {
            fs::create_dir(directory.path().join(name)).expect("a new directory");
        }
        self.configure(&directory.path().join("conf/streamd.yaml"));
        Cluster {
            environment: environment(directory.path()),
            variables: self.variables,
            slots: self.slots,
            daemons: Vec::new(),
            task_managers: 0,
            directory,
            _place: place,
        }
    }

    fn configure(&self, file: &Path) {
        let mut yaml = format!("taskmanager.numberOfTaskSlots: {}\n", self.slots);
        for (key, value) in &self.settings {
            yaml.push_str(&format!("{key}: {value}\n"));
        }
        fs::write(file, yaml).expect("a new file");
        // It may hold a secret, and is refused then if everybody can read it.
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("a file of our own");
    }
}

fn environment(directory: &Path) -> Vec<(String, String)> {
    let in_directory = |name: &str| text(&directory.join(name));
    [
        ("STREAMD_CONF_DIR", in_directory("conf")),
        ("STREAMD_DATA_DIR", in_directory("data")),
        ("STREAMD_LOG_DIR", in_directory("log")),
        ("STREAMD_PID_DIR", in_directory("pid")),
        // Nothing may be written here.
        ("HOME", in_directory("home")),
        ("PATH", "/usr/bin:/bin".to_owned()),
        ("TZ", "UTC".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// A cluster. Ends with this value; panics then if a process of it is left, or if a daemon logged an error.
pub struct Cluster {
    environment: Vec<(String, String)>,
    variables: Vec<(String, String)>,
    slots: u32,
    daemons: Vec<Daemon>,
    task_managers: usize,
    directory: TempDir,
    _place: Place,
}

/// What `streamctl list` says of a job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its state, in capitals.
    pub state: String,
    /// How often it was restarted.
    pub restarts: u64,
    /// When it started, in milliseconds since 1970.
    pub start_time_ms: i64,
    /// Why it last failed; empty if it never did.
    pub last_failure: String,
}

impl Cluster {
    /// Starts a cluster of this many task managers with this many slots each.
    pub fn start(task_managers: usize, slots: u32) -> Self {
        ClusterBuilder::new(task_managers, slots).start()
    }

    /// The directory of everything that belongs to it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// A path in its directory, as an argument.
    pub fn place(&self, name: &str) -> String {
        text(&self.path(name))
    }

    /// The variables that its processes and commands see.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The `host:port` of its job manager.
    pub fn address(&self) -> String {
        let file = self.path("pid/jobmanager.address");
        let address = until("the job manager writes its address", || fs::read_to_string(&file).ok());
        address.trim().to_owned()
    }

    /// A daemon: `jobmanager`, `taskmanager-0`, ….
    pub fn daemon(&mut self, name: &str) -> &mut Daemon {
        let found = self.daemons.iter_mut().find(|daemon| daemon.name == name);
        found.unwrap_or_else(|| panic!("there is no daemon `{name}`"))
    }

    /// The name of the daemon that is this task manager.
    pub fn name_of(&self, task_manager: &str) -> String {
        let is_it = |daemon: &&Daemon| {
            let said = self.path("daemons").join(format!("{}.out", daemon.name));
            fs::read_to_string(said).is_ok_and(|said| said.contains(task_manager))
        };
        let found = self.daemons.iter().find(is_it);
        let found = found.unwrap_or_else(|| panic!("no daemon is the task manager `{task_manager}`"));
        found.name.clone()
    }

    /// Starts one more process of `streamd`.
    pub fn start_daemon(&mut self, name: &str, arguments: &[&str]) -> &mut Daemon {
        let environment = [&self.environment[..], &self.variables].concat();
        let daemon = Daemon::start(name, arguments, &environment, &self.path("daemons"));
        self.daemons.push(daemon);
        self.daemon(name)
    }

    /// Starts the job manager again that is gone, where it was, without waiting for it.
    pub fn start_job_manager_again(&mut self) {
        let address = self.address();
        let (_, port) = address.rsplit_once(':').expect("an address ends with its port");
        let port = format!("jobmanager.rpc.port={port}");
        self.start_daemon("jobmanager-again", &["jobmanager", "-D", &port]);
    }

    /// Starts one more task manager, without waiting for it.
    pub fn add_task_manager(&mut self) {
        let name = format!("taskmanager-{}", self.task_managers);
        self.task_managers += 1;
        self.start_daemon(&name, &["taskmanager"]);
    }

    /// Waits until this many task managers are registered.
    pub fn wait_until_ready(&self, task_managers: usize) {
        let (count, slots) = (task_managers.to_string(), self.slots as usize * task_managers);
        let arguments = [
            "cluster",
            "wait",
            "--task-managers",
            &count,
            "--slots",
            &slots.to_string(),
            "--timeout",
            &format!("{}s", PATIENCE.as_secs()),
        ];
        self.streamctl(&arguments).succeeded();
    }

    /// Calls `streamctl`, and waits for its end.
    pub fn streamctl(&self, arguments: &[&str]) -> Ran {
        self.start_streamctl(arguments).finish()
    }

    /// Calls `streamctl`.
    pub fn start_streamctl(&self, arguments: &[&str]) -> Running {
        Running::start(arguments, &self.environment)
    }

    /// Calls `streamctl run`.
    pub fn run(&self, options: &[&str], application: &[String]) -> Ran {
        self.start_run(options, application).finish()
    }

    /// Calls `streamctl run`, without waiting for its end.
    pub fn start_run(&self, options: &[&str], application: &[String]) -> Running {
        let application = application.iter().map(String::as_str);
        let arguments: Vec<&str> = ["run"].iter().chain(options).copied().chain(application).collect();
        self.start_streamctl(&arguments)
    }

    /// Submits an application, detached. Returns the id of the job.
    pub fn submit(&self, options: &[&str], application: &[String]) -> String {
        let options: Vec<&str> = ["-d"].iter().chain(options).copied().collect();
        let ran = self.run(&options, application).succeeded();
        let id = ran.stdout.strip_prefix("Job has been submitted with JobID ");
        id.unwrap_or_else(|| panic!("{ran:#?}")).trim_end().to_owned()
    }

    /// Submits an application, detached, and waits until all of its subtasks run.
    pub fn submit_and_wait(&self, options: &[&str], application: &[String]) -> String {
        let id = self.submit(options, application);
        self.wait_for_subtasks(&id, 0);
        id
    }

    /// Every job, with its id.
    pub fn jobs(&self) -> Vec<(String, Job)> {
        let listed = self.streamctl(&["list", "-a", "--output", "json"]).succeeded();
        listed.objects().iter().map(job).collect()
    }

    /// A job that is listed.
    pub fn job(&self, id: &str) -> Job {
        let mut jobs = self.jobs().into_iter();
        let found = jobs.find(|(listed, _)| listed == id);
        found.unwrap_or_else(|| panic!("job `{id}` is not listed")).1
    }

    /// Waits until a job is in a state. Panics at once if it ends in another.
    pub fn wait_for(&self, id: &str, state: &str) -> Job {
        until(&format!("job `{id}` is {state}"), || {
            let job = self.job(id);
            let has_ended = ["FINISHED", "CANCELED", "FAILED"].contains(&job.state.as_str());
            assert!(job.state == state || !has_ended, "job `{id}` is not {state}: {job:?}");
            (job.state == state).then_some(job)
        })
    }

    /// Waits until all subtasks of a job run again that was restarted this often. Panics at once if it ends instead.
    pub fn wait_for_restart(&self, id: &str, restarts: u64) -> Job {
        self.wait_for_subtasks(id, restarts);
        self.job(id)
    }

    fn wait_for_subtasks(&self, id: &str, restarts: u64) {
        until(
            &format!("all subtasks of job `{id}` run after {restarts} restarts"),
            || {
                let job = self.status(id);
                let state = string(&job, "state");
                assert!(!["FINISHED", "CANCELED", "FAILED"].contains(&state), "{job:#}");
                let vertices = job["vertices"].as_array().expect("the vertices are a list");
                let mut subtasks = vertices
                    .iter()
                    .flat_map(|vertex| vertex["subtasks"].as_array())
                    .flatten();
                let all_run = subtasks.all(|subtask| string(subtask, "state") == "RUNNING");
                (state == "RUNNING" && all_run && number(&job, "restarts") >= restarts).then_some(())
            },
        );
    }

    /// Waits until every subtask of every source of a job has read this many records.
    pub fn wait_for_records(&self, id: &str, records: u64) {
        until(
            &format!("every source of job `{id}` has read {records} records"),
            || {
                let job = self.status(id);
                let vertices = job["vertices"].as_array().expect("the vertices are a list");
                let mut readers = vertices
                    .iter()
                    .filter(|vertex| string(vertex, "name").starts_with("Source"))
                    .flat_map(|vertex| vertex["subtasks"].as_array())
                    .flatten();
                readers
                    .all(|subtask| number(subtask, "records_in") >= records)
                    .then_some(())
            },
        );
    }

    /// Everything there is to know about a job.
    pub fn status(&self, id: &str) -> Value {
        let status = self.streamctl(&["status", id, "--output", "json"]).succeeded();
        status.objects().remove(0)
    }

    /// Its worker processes, those on their way out included.
    pub fn workers(&self) -> Vec<Worker> {
        process::workers(self.directory())
    }

    /// The workers that a job has now.
    pub fn workers_of(&self, id: &str) -> Vec<Worker> {
        let job = self.status(id);
        let named = job["workers"].as_array().expect("the workers are a list");
        let ids: Vec<u64> = named.iter().map(|worker| number(worker, "process_id")).collect();
        let mut processes = self.workers();
        processes.retain(|process| ids.contains(&process.process_id.into()));
        processes
    }

    /// One worker that a job has now.
    pub fn worker_of(&self, id: &str) -> Worker {
        until(&format!("job `{id}` has a worker"), || {
            self.workers_of(id).into_iter().next()
        })
    }

    /// The complete checkpoints of a job in the folder that a cluster has for them by default, the latest last.
    pub fn checkpoints(&self, id: &str) -> Vec<PathBuf> {
        complete_checkpoints(&self.path("data/checkpoints").join(id))
    }

    /// Waits until no worker process is left.
    pub fn wait_for_no_workers(&self) {
        until("no worker process is left", || self.workers().is_empty().then_some(()));
    }

    /// How many slots are free.
    pub fn free_slots(&self) -> u64 {
        let status = self.streamctl(&["cluster", "status", "--output", "json"]).succeeded();
        number(&status.objects()[0], "slots_free")
    }

    /// Waits until this many slots are free.
    pub fn wait_for_free_slots(&self, slots: u64) {
        until(&format!("{slots} slots are free"), || {
            (self.free_slots() == slots).then_some(())
        });
    }

    /// Takes a savepoint below a folder. Returns the savepoint's own folder.
    pub fn savepoint(&self, id: &str, folder: &str) -> PathBuf {
        self.savepoint_of(&["savepoint", id, folder])
    }

    /// Calls a command that ends with a savepoint. Returns the savepoint's folder.
    pub fn savepoint_of(&self, arguments: &[&str]) -> PathBuf {
        let arguments: Vec<&str> = arguments.iter().chain(&["--output", "json"]).copied().collect();
        let done = self.streamctl(&arguments).succeeded();
        path_of(string(&done.objects()[0], "savepoint_path"))
    }

    fn shutdown(&mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        // The job manager last, as `bin/stop-cluster.sh` has it.
        for daemon in self.daemons.iter_mut().rev() {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| daemon.terminate()));
            if outcome.is_err() {
                complaints.push(format!("{} did not end when asked to", daemon.name));
            }
            let log = daemon.log();
            let errors = log
                .lines()
                .filter(|line| line.contains(" ERROR ") || line.starts_with("thread '"));
            complaints.extend(errors.map(|line| format!("{} logged: {line}", daemon.name)));
        }
        complaints.extend(process::kill_survivors(self.directory()).into_iter().map(|survivor| {
            // Invariant I21: no remains.
            format!("outlived the cluster: {survivor}")
        }));
        complaints
    }

    /// The last lines of every log of the cluster.
    fn show_logs(&self) {
        let mut logs: Vec<PathBuf> = everything_below(&self.path("daemons"))
            .into_iter()
            .chain(everything_below(&self.path("log")))
            .filter(|path| path.is_file())
            .collect();
        logs.sort();
        for path in logs {
            let content = fs::read(&path).unwrap_or_default();
            let content = String::from_utf8_lossy(&content);
            let lines: Vec<&str> = content.lines().collect();
            eprintln!("==> {} <==", path.display());
            for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
                eprintln!("{line}");
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let complaints = self.shutdown();
        if std::thread::panicking() {
            complaints.iter().for_each(|complaint| eprintln!("{complaint}"));
            self.show_logs();
        } else if !complaints.is_empty() {
            self.show_logs();
            panic!("{}", complaints.join("\n"));
        }
    }
}

fn job(row: &Value) -> (String, Job) {
    let job = Job {
        state: string(row, "state").to_owned(),
        restarts: number(row, "restarts"),
        start_time_ms: row["start_time_ms"].as_i64().expect("the time is a number"),
        last_failure: row["last_failure"].as_str().unwrap_or_default().to_owned(),
    };
    (string(row, "job_id").to_owned(), job)
}

/// Room for clusters, given back with the value.
struct Place(usize);

impl Place {
    fn take(count: usize) -> Self {
        let (free, freed) = &PLACES;
        let free = free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = freed
            .wait_while(free, |free| *free < count)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= count;
        Self(count)
    }

    fn split(&mut self) -> Self {
        self.0 -= 1;
        Self(1)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (free, freed) = &PLACES;
        *free.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        freed.notify_all();
    }
}
