//! `cluster wait` and `cluster status`, and how the job manager is found.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use streamd_rpc::proto::{GetClusterResponse, JobState, TaskManager};

use crate::fake::{Fake, Ran, Script, command, done, job, run_with};

fn cluster() -> GetClusterResponse {
    GetClusterResponse {
        version: "0.1.0".to_owned(),
        incarnation: "jm-1".to_owned(),
        task_managers: vec![TaskManager {
            id: "tm-1".to_owned(),
            host: "localhost".to_owned(),
            slots: 4,
            free_slots: 3,
            process_id: 77,
            ..TaskManager::default()
        }],
        slots_total: 4,
        slots_free: 3,
    }
}

#[test]
fn the_cluster_shows_its_task_managers_and_slots() {
    let fake = Fake::start(Script {
        cluster: cluster(),
        ..Script::default()
    });
    let address = fake.address();
    assert_eq!(
        fake.run(&["cluster", "status"]),
        done(format!(
            "Job manager {address}, version 0.1.0: 1 task manager with 4 slots, 3 of them free\n\
             tm-1 : localhost : 4 slots, 3 free (process 77)\n"
        ))
    );
    assert_eq!(
        fake.run(&["cluster", "status", "--output", "json"]),
        done(format!(
            "{{\"address\":\"{address}\",\"version\":\"0.1.0\",\"incarnation\":\"jm-1\",\"slots_total\":4,\"slots_free\":3,\
             \"task_managers\":[{{\"id\":\"tm-1\",\"host\":\"localhost\",\"process_id\":77,\"slots\":4,\"free_slots\":3,\"drained\":false}}]}}\n"
        ))
    );
}

#[test]
fn waiting_ends_when_the_cluster_is_as_large_as_wanted() {
    let fake = Fake::start(Script {
        cluster: cluster(),
        ..Script::default()
    });
    assert_eq!(
        fake.run(&["cluster", "wait", "--task-managers", "1", "--slots", "4"])
            .code,
        0
    );
    let (ran, timeout) = patient(|timeout| fake.run(&["cluster", "wait", "--slots", "5", "--timeout", timeout]));
    let refused = Ran {
        code: 6,
        stdout: String::new(),
        stderr: format!(
            "error: the cluster is not ready after {timeout}: it has 1 task manager with 4 slots, 3 of them free [SD-0307]\n\
             hint: look into the logs of the job manager and task managers\n"
        ),
    };
    assert_eq!(ran, refused);
}

/// Waits for a cluster that does not get ready, with more and more patience until the job manager was asked at least once: how
/// long that takes is up to the machine. Returns how long it was.
fn patient(wait: impl Fn(&str) -> Ran) -> (Ran, String) {
    let millis = (0..10).map(|doublings| 50 << doublings);
    let waits = millis.map(|millis: u64| {
        let ran = wait(&format!("{millis}ms"));
        (ran, streamd_core::options::format_duration(millis))
    });
    let is_too_short = |ran: &Ran| ["it has not answered", "is not reached"].map(|words| ran.stderr.contains(words));
    let mut waits = waits.skip_while(|(ran, _)| is_too_short(ran).contains(&true));
    waits.next().expect("an answer comes in time")
}

#[test]
fn a_job_manager_that_is_down_is_named_with_what_to_do() {
    // Taken, so that nobody else takes it, and not listened on.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let ran = run_with(&[], &["-m", &address, "list", "-r"]);
    assert_eq!(ran.code, 6);
    assert_eq!(
        ran.stderr,
        format!(
            "error: the job manager at `{address}` cannot be reached: Connection refused (os error 111) [SD-0301]\n\
             hint: start a cluster with bin/start-cluster.sh, or name another with -m HOST:PORT\n"
        )
    );
    let (ran, timeout) = patient(|timeout| {
        let environment = [("STREAMD_JOBMANAGER", address.as_str())];
        run_with(&environment, &["cluster", "wait", "--timeout", timeout])
    });
    assert_eq!(ran.code, 6);
    let message = format!("not ready after {timeout}: the job manager at `{address}` cannot be reached");
    assert!(ran.stderr.contains(&message), "{ran:?}");
}

#[test]
fn the_job_manager_is_found_through_the_configuration() {
    let fake = Fake::start(Script {
        cluster: cluster(),
        ..Script::default()
    });
    let (host, port) = fake
        .address()
        .split_once(':')
        .map(|(host, port)| (host.to_owned(), port.to_owned()))
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let write = |text: &str| std::fs::write(directory.path().join("streamd.yaml"), text).unwrap();

    write(&format!("jobmanager.rpc:\n  address: {host}\n  port: {port}\n"));
    assert_eq!(run_with(&[("STREAMD_CONF_DIR", path)], &["cluster", "status"]).code, 0);
    assert_eq!(run_with(&[], &["--conf", path, "cluster", "status"]).code, 0);

    // Port 0: the job manager has written down the one that it picked.
    write(&format!(
        "jobmanager.rpc.port: 0\nenv.pid.dir: {path}\nprocess.working-dir: {path}\n"
    ));
    std::fs::write(
        directory.path().join("jobmanager.address"),
        format!("{}\n", fake.address()),
    )
    .unwrap();
    assert_eq!(run_with(&[("STREAMD_CONF_DIR", path)], &["cluster", "status"]).code, 0);

    std::fs::remove_file(directory.path().join("jobmanager.address")).unwrap();
    let ran = run_with(&[("STREAMD_CONF_DIR", path)], &["cluster", "status"]);
    assert_eq!(ran.code, 6);
    let message = format!("error: the job manager's address is not in `{path}/jobmanager.address`: No such file");
    assert!(ran.stderr.starts_with(&message), "{ran:?}");

    write("jobmanager.rpc.prot: 1\n");
    let ran = run_with(&[("STREAMD_CONF_DIR", path)], &["list"]);
    assert_eq!(
        ran,
        Ran {
            code: 2,
            stdout: String::new(),
            stderr: format!(
                "error: {path}/streamd.yaml:1: `jobmanager.rpc.prot`: unknown key [SD-0103]\n\
                 hint: did you mean `jobmanager.rpc.port`?\n"
            ),
        }
    );
}

/// Records in the storage of a cluster that this is its leader, in this epoch.
fn elect(directory: &std::path::Path, epoch: u64, leader: &str) {
    let storage = directory.join("ha/leaders");
    std::fs::create_dir_all(&storage).unwrap();
    let record = format!(
        "{{\"version\":1,\"epoch\":{epoch},\"address\":\"{leader}\",\"elected_at\":0,\"nonce\":\"0123456789abcdef\"}}"
    );
    std::fs::write(storage.join(format!("{epoch:020}.json")), record).unwrap();
}

/// The configuration of a cluster whose leader is at this address, by what is in its storage, and not at this port of the machine.
pub fn elected(leader: &str, port: u16) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    elect(path, 1, leader);
    let configuration = format!(
        "jobmanager.rpc.address: 127.0.0.1\njobmanager.rpc.port: {port}\nenv.pid.dir: {0}\nprocess.working-dir: {0}\n\
         high-availability.type: object-store\nhigh-availability.storageDir: {0}/ha\n",
        path.display()
    );
    std::fs::write(path.join("streamd.yaml"), configuration).unwrap();
    directory
}

#[test]
fn the_elected_job_manager_is_found_in_the_storage_and_shown_wherever_another_one_was_configured() {
    let fake = Fake::start(Script {
        cluster: cluster(),
        ..Script::default()
    });
    let address = fake.address();
    // Nobody listens on the one port, and the other says that a job manager picks one.
    for port in [1, 0] {
        let directory = elected(&address, port);
        let path = directory.path().to_str().unwrap();
        let ran = run_with(&[("STREAMD_CONF_DIR", path)], &["cluster", "status"]);
        let shown = format!("Job manager {address}, version 0.1.0: ");
        assert!(ran.code == 0 && ran.stdout.starts_with(&shown), "{ran:?}");
    }
}

#[test]
fn an_attached_run_goes_on_with_whoever_leads_next() {
    let leads = |state| {
        Fake::start(Script {
            changes: vec![job("flights", state)],
            ..Script::default()
        })
    };
    let (first, second) = (leads(JobState::Running), leads(JobState::Finished));
    let directory = elected(&first.address(), 0);
    let environment = [("STREAMD_CONF_DIR", directory.path().to_str().unwrap())];
    let mut run = command(&environment, &["run", env!("CARGO_BIN_EXE_streamctl")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(run.stderr.take().unwrap()).lines();
    assert_eq!(
        told.next().unwrap().unwrap(),
        "Job execution switched to status RUNNING."
    );
    elect(directory.path(), 2, &second.address());
    drop(first);
    let told: Vec<String> = told.map(Result::unwrap).collect();
    assert_eq!(told, ["Job execution switched to status FINISHED."]);
    assert_eq!(run.wait().unwrap().code(), Some(0));
}
