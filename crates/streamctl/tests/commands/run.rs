//! `run` and `info`. The application is streamctl itself: a program of this machine that nobody executes here.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::evolution::Evolution;
use streamd_core::graph::{
    CheckpointSettings, Guarantee, JobGraph, JobVertex, Operator, OperatorKind, PLAN_VERSION, StateDescriptor,
    StateKind,
};
use streamd_core::id::OperatorId;
use streamd_core::plan::{BuiltWith, PlanDescriptor};
use streamd_core::row::DataType;
use streamd_rpc::proto::{FailureRecord, JobState, JobSummary};

use crate::fake::{Fake, JOB, Ran, Script, command, done, job};

const APPLICATION: &str = env!("CARGO_BIN_EXE_streamctl");

fn running_to(end: JobSummary) -> Fake {
    Fake::start(Script {
        changes: vec![job("flights", JobState::Running), end],
        ..Script::default()
    })
}

#[test]
fn a_detached_run_submits_and_returns() {
    let fake = Fake::start(Script {
        warnings: vec!["operator `map` has no uid".to_owned()],
        ..Script::default()
    });
    let ran = fake.run(&[
        "run",
        "-d",
        "-n",
        "-p",
        "4",
        "-s",
        "/data/sp/savepoint-1",
        "-D",
        "execution.checkpointing.interval=1s",
        "--job-id",
        JOB,
        APPLICATION,
        "--input",
        "x",
        "-p",
        "9",
        "--",
        "-d",
    ]);
    assert_eq!(
        ran,
        Ran {
            code: 0,
            stdout: format!("Job has been submitted with JobID {JOB}\n"),
            stderr: "warning: operator `map` has no uid\n".to_owned(),
        }
    );
    let requests = fake.requests();
    let size = std::fs::metadata(APPLICATION).unwrap().len();
    assert_eq!(requests[0], format!("\"uploaded {size} bytes\""));
    for part in [
        "file_name: \"streamctl\"",
        "arguments: [\"--input\", \"x\", \"-p\", \"9\", \"--\", \"-d\"]",
        "parallelism: 4",
        "configuration: {\"execution.checkpointing.interval\": \"1s\"}",
        &format!("job_id: \"{JOB}\", savepoint_path: \"file:///data/sp/savepoint-1\", allow_non_restored_state: true"),
    ] {
        assert!(requests[1].contains(part), "{part} in {}", requests[1]);
    }
}

#[test]
fn the_parallelism_may_be_set_like_any_other_key() {
    let fake = Fake::start(Script::default());
    fake.run(&["run", "-d", "-D", "parallelism.default=3", APPLICATION]);
    assert!(fake.requests()[1].contains("parallelism: 3"), "{:?}", fake.requests());
}

#[test]
fn of_a_key_that_is_given_twice_the_last_counts_whatever_its_names() {
    let fake = Fake::start(Script::default());
    let (old, new) = ("state.checkpoints.dir=/old", "execution.checkpointing.dir=/new");
    fake.run(&["run", "-d", "-D", old, "-D", new, APPLICATION]);
    let asked = fake.requests().concat();
    assert!(
        asked.contains("configuration: {\"execution.checkpointing.dir\": \"/new\"}"),
        "{asked}"
    );
}

#[test]
fn an_attached_run_stays_until_the_job_has_finished() {
    let fake = running_to(job("flights", JobState::Finished));
    assert_eq!(
        fake.run(&["run", APPLICATION]),
        Ran {
            code: 0,
            stdout: format!(
                "\
Job has been submitted with JobID {JOB}
Program execution finished
Job with JobID {JOB} has finished.
Job Runtime: 390 ms
"
            ),
            stderr: "Job execution switched to status RUNNING.\nJob execution switched to status FINISHED.\n"
                .to_owned(),
        }
    );
    assert_eq!(
        fake.run(&["run", "--output", "json", APPLICATION]),
        done(format!(
            "{{\"job_id\":\"{JOB}\",\"job_name\":\"flights\",\"warnings\":[],\"restored_from\":null}}\n\
             {{\"job_id\":\"{JOB}\",\"state\":\"FINISHED\",\"runtime_ms\":390,\"restarts\":0,\"failure\":null,\"failure_class\":null,\"failure_code\":null}}\n"
        ))
    );
}

#[test]
fn an_attached_run_ends_with_1_when_the_job_fails_or_is_cancelled() {
    let failed = JobSummary {
        last_failure: "line 7 of `x.csv` is no flight".to_owned(),
        last_failure_record: Some(FailureRecord {
            hint: "correct the data".to_owned(),
            ..FailureRecord::default()
        }),
        ..job("flights", JobState::Failed)
    };
    let ran = running_to(failed).run(&["run", APPLICATION]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.ends_with(&format!(
            "error: job `{JOB}` failed: line 7 of `x.csv` is no flight [SD-0405]\n\
             hint: see what its workers wrote with `streamctl logs {JOB}`; correct the data\n"
        )),
        "{ran:?}"
    );
    let ran = running_to(job("flights", JobState::Canceled)).run(&["run", APPLICATION]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.ends_with(&format!(
            "error: job `{JOB}` was cancelled [SD-0406]\n\
             hint: somebody else ended it, with `streamctl cancel`\n"
        )),
        "{ran:?}"
    );
}

#[test]
fn ctrl_c_detaches_from_the_job_and_says_so() {
    let fake = Fake::start(Script {
        changes: vec![job("flights", JobState::Running)],
        ..Script::default()
    });
    let address = fake.address();
    let mut child = command(&[("STREAMD_JOBMANAGER", &address)], &["run", APPLICATION])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "Job execution switched to status RUNNING.\n");
    let interrupt = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupt.success());
    line.clear();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(
        line,
        format!("Detached from job {JOB}, which goes on. To end it: streamctl cancel {JOB}\n")
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_refused_submission_ends_with_the_code_of_the_refusal() {
    let error = CodedError::new(ErrorCode::SnapshotNotFound, "there is no snapshot at `file:///x`");
    let fake = Fake::start(Script {
        submit_error: Some(error),
        ..Script::default()
    });
    let ran = fake.run(&["run", "-s", "/x", APPLICATION]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (3, "error: there is no snapshot at `file:///x` [SD-0501]\n")
    );
}

#[test]
fn what_an_application_was_built_with_is_shown_with_its_plan() {
    let plan = PlanDescriptor {
        graph: graph(),
        built_with: Some(BuiltWith {
            state_backends: vec!["hashmap".to_owned(), "rocksdb".to_owned()],
            storage_schemes: vec!["file".to_owned(), "s3".to_owned()],
        }),
    };
    let fake = Fake::start(Script {
        plan: serde_json::to_vec(&plan).unwrap(),
        ..Script::default()
    });
    let shown = fake.run(&["info", APPLICATION]).stdout;
    assert!(
        shown.contains("\nState backends: hashmap, rocksdb\nStorage: file, s3\n"),
        "{shown}"
    );
    let json = fake.run(&["info", "--output", "json", APPLICATION]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["plan"]["built_with"]["state_backends"][1], "rocksdb");
}

#[test]
fn the_plan_is_shown_in_flinks_frame() {
    let graph = graph();
    let fake = Fake::start(Script {
        plan: serde_json::to_vec(&graph).unwrap(),
        warnings: vec!["operator `count` keeps state but has no uid".to_owned()],
        ..Script::default()
    });
    let ran = fake.run(&["info", APPLICATION]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        lines[0],
        "----------------------- Execution Plan -----------------------"
    );
    assert_eq!(lines[0].len(), 62);
    let plan: serde_json::Value = serde_json::from_str(&lines[1..lines.len() - 5].concat()).unwrap();
    assert_eq!(plan, serde_json::to_value(&graph).unwrap());
    assert_eq!(
        lines[lines.len() - 5..],
        [
            "--------------------------------------------------------------",
            "",
            "Job: flights",
            "Guarantee: at least once, because of sink `count`",
            "Warning: operator `count` keeps state but has no uid",
        ]
    );
    let json: serde_json::Value =
        serde_json::from_str(&fake.run(&["info", "--output", "json", APPLICATION]).stdout).unwrap();
    assert_eq!(
        (json["guarantee"].as_str(), json["job_name"].as_str()),
        (Some("at_least_once"), Some("flights"))
    );
    assert_eq!(
        json["connectors"],
        serde_json::json!([{"kind": "sink", "name": "count", "guarantee": "at_least_once"}])
    );
}

#[test]
fn the_mode_of_checkpoints_may_be_what_weakens_a_guarantee() {
    let mut graph = graph();
    graph.vertices[0].operators[0].guarantee = Some(Guarantee::ExactlyOnce);
    graph.checkpointing.mode = Some(streamd_core::graph::CheckpointingMode::AtLeastOnce);
    let fake = Fake::start(Script {
        plan: serde_json::to_vec(&graph).unwrap(),
        ..Script::default()
    });
    let shown = fake.run(&["info", APPLICATION]).stdout;
    assert!(
        shown.contains("\nGuarantee: at least once, because of the mode of its checkpoints\n"),
        "{shown}"
    );
}

#[test]
fn the_plan_is_the_one_that_run_would_have_with_the_same_settings() {
    let mut graph = graph();
    graph.vertices[0].operators[0].guarantee = Some(Guarantee::ExactlyOnce);
    graph.checkpointing.interval_ms = Some(60_000);
    graph.checkpointing.timeout_ms = Some(5_000);
    let fake = Fake::start(Script {
        plan: serde_json::to_vec(&graph).unwrap(),
        ..Script::default()
    });
    let settings = [
        "-D",
        "execution.checkpointing.interval=7s",
        "-D",
        "execution.checkpointing.mode=AT_LEAST_ONCE",
        "-D",
        "restart-strategy.type=fixed-delay",
        "-D",
        "restart-strategy.fixed-delay.attempts=9",
        "-D",
        "pipeline.max-parallelism=64",
        "-D",
        "state.backend.type=rocksdb",
        APPLICATION,
    ];
    let text = fake.run(&[&["info"], &settings as &[&str]].concat()).stdout;
    assert!(
        text.contains("\nGuarantee: at least once, because of the mode of its checkpoints\n")
            && text.contains("\nSetting: state.backend.type=rocksdb\n"),
        "{text}"
    );
    let json = fake
        .run(&[&["info", "--output", "json"], &settings as &[&str]].concat())
        .stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["guarantee"], "at_least_once");
    assert_eq!(json["settings"]["restart-strategy.fixed-delay.attempts"], "9");
    let checkpointing = &json["plan"]["checkpointing"];
    assert_eq!(
        (&checkpointing["interval_ms"], &checkpointing["timeout_ms"]),
        (&serde_json::json!(7_000), &serde_json::json!(5_000)),
        "the command line goes before the code, and the code holds where it says nothing"
    );
    assert_eq!(
        json["plan"]["restart_strategy"],
        serde_json::json!({"type": "fixed-delay", "attempts": 9, "delay_ms": 1_000})
    );
    let groups = graph.vertices[0].max_parallelism.unwrap_or(64);
    assert_eq!(json["plan"]["vertices"][0]["max_parallelism"], groups);
}

#[test]
fn an_old_name_of_a_setting_is_told() {
    let fake = Fake::start(Script::default());
    let old = ["-D", "state.backend.fs.checkpointdir=/c", APPLICATION];
    let note = "note: `-D`: `state.backend.fs.checkpointdir` is an old spelling of `execution.checkpointing.dir`\n";
    let ran = fake.run(&[&["run", "-d"], &old as &[&str]].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, note));
    for verb in [&["info"] as &[&str], &["run", "-d", "--output", "json"]] {
        let stderr = fake.run(&[verb, &old].concat()).stderr;
        assert!(stderr.starts_with(note), "{verb:?} {stderr}");
    }
    let now = fake.run(&["run", "-d", "-D", "execution.checkpointing.dir=/c", APPLICATION]);
    assert_eq!(now.stderr, "");
}

#[test]
fn a_folder_of_checkpoints_that_only_one_process_finds_is_refused_before_anything_is_sent() {
    for arguments in [
        &["run", "-D", "state.checkpoints.dir=memory:///c", APPLICATION] as &[&str],
        &["run", "-s", "memory:///c/chk-1", APPLICATION],
        &["savepoint", JOB, "memory:///s"],
    ] {
        let fake = Fake::start(Script::default());
        let ran = fake.run(arguments);
        assert!(
            ran.code == 2 && ran.stderr.contains("is in the memory of one process") && fake.requests().is_empty(),
            "{ran:?}"
        );
    }
}

fn graph() -> JobGraph {
    let operator = Operator {
        id: OperatorId::from_uid("count"),
        uid: None,
        name: "count".to_owned(),
        kind: OperatorKind::Sink,
        states: vec![StateDescriptor {
            name: "n".to_owned(),
            kind: StateKind::List,
            value: DataType::Int64,
            evolution: Evolution::default(),
        }],
        initial_splits: None,
        guarantee: Some(Guarantee::AtLeastOnce),
    };
    JobGraph {
        version: PLAN_VERSION,
        name: "flights".to_owned(),
        vertices: vec![JobVertex {
            id: operator.id,
            name: "count".to_owned(),
            parallelism: 1,
            max_parallelism: None,
            slot_sharing_group: "default".to_owned(),
            operators: vec![operator],
        }],
        edges: Vec::new(),
        checkpointing: CheckpointSettings::default(),
        restart_strategy: None,
    }
}

#[test]
fn what_a_resumed_job_starts_from_is_told() {
    let snapshot = streamd_rpc::proto::SnapshotReference {
        id: 17,
        uri: "file:///c/chk-17".to_owned(),
        ..streamd_rpc::proto::SnapshotReference::default()
    };
    let fake = Fake::start(Script {
        restored_from: Some(snapshot),
        ..Script::default()
    });
    let ran = fake.run(&[
        "run",
        "-d",
        "--resume",
        "flights",
        "-claim",
        "CLAIM",
        env!("CARGO_BIN_EXE_streamctl"),
    ]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (0, "Resuming from checkpoint 17 at file:///c/chk-17\n"),
        "{ran:?}"
    );
    let asked = fake.requests().concat();
    assert!(
        asked.contains("resume_job: \"flights\"") && asked.contains("claim_mode: Claim"),
        "{asked}"
    );
}

#[test]
fn what_needs_a_snapshot_is_refused_without_one() {
    let app = env!("CARGO_BIN_EXE_streamctl");
    for arguments in [
        ["run", "--claimMode", "CLAIM", app],
        ["run", "--claim-mode", "LEGACY", app],
        ["run", "--drop-state", "statistics", app],
    ] {
        let fake = Fake::start(Script::default());
        let ran = fake.run(&arguments);
        assert!(ran.code == 2 && fake.requests().is_empty(), "{ran:?}");
    }
}
