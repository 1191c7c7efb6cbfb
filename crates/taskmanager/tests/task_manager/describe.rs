//! Every way in which a description can end.

use std::time::Duration;

use streamd_core::error::ErrorCode;
use streamd_rpc::proto::Program;

use crate::harness::{Stage, assert_goes, names_in};

/// Describes one program on a stage of its own; nothing of it may be left in the working directory.
async fn refused(make: impl FnOnce(&Stage) -> Program) -> (ErrorCode, String, String) {
    let mut stage = Stage::set_with(|options| options.describe.plan_bytes = 1000).await;
    let program = make(&stage);
    let error = stage.link.describe(program, 20_000).await.unwrap_err();
    assert!(!error.message.contains(char::is_control), "{error:?}");
    assert_eq!(names_in(&stage.work_dir().join("describe")), Vec::<String>::new());
    stage.end().await;
    (error.code, error.message, error.hint.unwrap_or_default())
}

async fn refused_script(text: &str) -> (ErrorCode, String, String) {
    refused(|stage| stage.manager.script(text)).await
}

#[tokio::test]
async fn a_description_is_what_the_program_wrote_into_the_plan_file() {
    let mut stage = Stage::set().await;
    let program = Program {
        arguments: vec!["--input".to_owned(), "a file".to_owned()],
        parallelism: 3,
        configuration: [("state.backend.type".to_owned(), "heap".to_owned())].into(),
        ..stage.manager.script(
            r#"echo noise; echo more noise >&2
printf '{"version":1,"mode":"%s","parallelism":"%s","configuration":%s,"arguments":"%s|%s|%s","names":"%s","input":"%s"}' \
  "$STREAMD_MODE" "$STREAMD_PARALLELISM" "$STREAMD_CONFIGURATION" "$#" "$1" "$2" "$(env | cut -d= -f1 | sort | tr '\n' ' ')" "$(cat)" \
  > "$STREAMD_PLAN_FILE""#,
        )
    };
    let plan = stage.link.describe(program, 20_000).await.unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&plan).unwrap();
    assert_eq!(plan["mode"], "describe");
    assert_eq!(plan["parallelism"], "3");
    assert_eq!(plan["configuration"]["state.backend.type"], "heap");
    assert_eq!(plan["arguments"], "2|--input|a file");
    assert_eq!(plan["input"], "");
    // What the task manager passes on or tells, and what a shell sets itself.
    let known = [
        "HADOOP_CONF_DIR",
        "HADOOP_HOME",
        "HADOOP_USER_NAME",
        "HOME",
        "KRB5CCNAME",
        "KRB5_CONFIG",
        "LANG",
        "LC_ALL",
        "PATH",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TZ",
        "USER",
        "TMPDIR",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    ];
    for name in plan["names"].as_str().unwrap().split_whitespace() {
        let told = name.starts_with("STREAMD_") || name.starts_with("RUST_");
        assert!(told || known.contains(&name), "variable `{name}` is not hidden");
    }
    assert_eq!(names_in(&stage.work_dir().join("describe")), Vec::<String>::new());
    stage.end().await;
}

#[tokio::test]
async fn the_error_of_a_failed_program_carries_its_last_lines() {
    let (code, message, _) =
        refused_script("echo 'error: --input is missing' >&2; echo 'see --help' >&2; exit 2").await;
    assert_eq!(code, ErrorCode::DescribeFailed);
    assert_eq!(
        message,
        "application `app` exited with code 2 while describing its job: error: --input is missing; see --help"
    );
}

#[tokio::test]
async fn a_panic_is_told_with_its_place_and_message() {
    let panic = r#"printf "\nthread 'main' (7) panicked at src/main.rs:3:5:\nno such column\nnote: run with RUST_BACKTRACE=1\n" >&2
exit 101"#;
    let (code, message, _) = refused_script(panic).await;
    assert_eq!(code, ErrorCode::DescribeFailed);
    assert!(
        message.ends_with("exited with code 101 while describing its job: panicked at src/main.rs:3:5: no such column"),
        "{message}"
    );
}

#[tokio::test]
async fn a_program_killed_by_a_signal_is_told_by_its_name() {
    let (code, message, _) = refused_script("kill -SEGV $$").await;
    assert_eq!(code, ErrorCode::DescribeFailed);
    assert!(message.contains("was killed by signal 11 (SIGSEGV)"), "{message}");
}

#[tokio::test]
async fn a_program_that_describes_nothing_is_no_application() {
    let (code, message, hint) = refused_script("echo hello").await;
    assert_eq!(code, ErrorCode::NotAnApplication);
    assert!(
        message.contains("ended without describing a job, and printed: hello"),
        "{message}"
    );
    assert!(hint.contains("env.execute()"));
}

#[tokio::test]
async fn a_plan_that_is_garbage_is_no_plan() {
    for garbage in ["hello", "{", "[]", r#"{"name":"x"}"#, r#"{"version":"one"}"#] {
        let (code, message, _) = refused_script(&format!("echo '{garbage}' > \"$STREAMD_PLAN_FILE\"")).await;
        assert_eq!(code, ErrorCode::NotAnApplication);
        assert!(message.contains("what it wrote is no plan"), "{message}");
    }
}

#[tokio::test]
async fn a_plan_of_another_version_is_told_as_such() {
    let (code, message, hint) = refused_script(r#"echo '{"version":999}' > "$STREAMD_PLAN_FILE""#).await;
    assert_eq!(code, ErrorCode::NotAnApplication);
    assert!(message.contains("its plan has version 999"), "{message}");
    assert!(hint.contains("streamd version"));
}

#[tokio::test]
async fn a_plan_that_is_too_long_or_no_file_is_refused() {
    let (code, message, _) = refused_script(r#"head -c 1001 /dev/zero > "$STREAMD_PLAN_FILE""#).await;
    assert_eq!(code, ErrorCode::InvalidJobGraph);
    assert!(message.contains("longer than 1000 bytes"), "{message}");
    let (code, message, _) = refused_script(r#"mkfifo "$STREAMD_PLAN_FILE""#).await;
    assert_eq!(code, ErrorCode::NotAnApplication);
    assert!(message.contains("no regular file"), "{message}");
}

#[tokio::test]
async fn a_file_that_is_no_program_of_this_host_is_refused_before_it_runs() {
    let (code, message, hint) = refused(|stage| stage.manager.program("fn main() {}")).await;
    assert_eq!(code, ErrorCode::ApplicationNotExecutable);
    assert!(
        message.contains("no program") && hint.contains("not of its source"),
        "{message}"
    );

    let mut foreign = b"\x7fELF\x02\x01\x01".to_vec();
    foreign.resize(18, 0);
    foreign.extend_from_slice(&21u16.to_le_bytes());
    let (code, message, _) = refused(|stage| stage.manager.program(foreign)).await;
    assert_eq!(code, ErrorCode::ApplicationNotExecutable);
    assert!(message.contains("is built for Linux on powerpc64"), "{message}");
}

#[tokio::test]
async fn a_program_that_the_kernel_refuses_is_told_in_words() {
    let (code, message, _) = refused(|stage| stage.manager.program("#!/no/such/interpreter\n")).await;
    assert_eq!(code, ErrorCode::ApplicationNotExecutable);
    assert!(message.contains("interpreter or dynamic loader"), "{message}");

    let mut truncated = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    truncated.truncate(40);
    let (code, message, _) = refused(|stage| stage.manager.program(truncated)).await;
    assert_eq!(code, ErrorCode::ApplicationNotExecutable);
    assert!(message.contains("does not know its format"), "{message}");

    let zero = |stage: &Stage| Program {
        arguments: vec!["a\0b".to_owned()],
        ..stage.manager.script("exit 0")
    };
    let (code, message, _) = refused(zero).await;
    assert_eq!(code, ErrorCode::InvalidArgument);
    assert!(message.contains("zero byte"), "{message}");
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_killed_with_all_that_it_started() {
    let mut stage = Stage::set().await;
    // Time enough for the program to print something, however slow the machine is.
    for doublings in 0..8 {
        let program = stage.manager.script("trap '' TERM; sleep 1000 & echo $! >&2; wait");
        let timeout_ms = 500 << doublings;
        let error = stage.link.describe(program, timeout_ms).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::DescribeTimeout);
        let timeout = Duration::from_millis(timeout_ms);
        let words = format!("did not describe its job within {timeout:?}");
        assert!(error.message.contains(&words), "{error}");
        if let Some((_, child)) = error.message.rsplit_once("it printed last: ") {
            assert_goes(child.parse().unwrap()).await;
            return stage.end().await;
        }
    }
    panic!("the program never printed anything");
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_killed_and_does_not_delay_its_plan() {
    let mut stage = Stage::set().await;
    let program = stage
        .manager
        .script(r#"sleep 1000 & echo "{\"version\":1,\"child\":$!}" > "$STREAMD_PLAN_FILE""#);
    let plan = stage.link.describe(program, 20_000).await.unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&plan).unwrap();
    assert_goes(u32::try_from(plan["child"].as_u64().unwrap()).unwrap()).await;
    stage.end().await;
}

#[tokio::test]
async fn a_flood_of_output_is_drained_and_only_its_end_is_kept() {
    let (code, message, _) = refused_script("yes streamd | head -c 3000000 >&2; echo the end >&2; exit 1").await;
    assert_eq!(code, ErrorCode::DescribeFailed);
    assert!(message.ends_with("the end") && message.len() < 4096, "{message}");
}

#[tokio::test]
async fn a_describing_program_is_limited_in_what_it_can_write() {
    let mut stage = Stage::set().await;
    // Limits arrive a moment after the start.
    let program = stage.manager.script(
        r#"while [ "$(ulimit -f)" = unlimited ] || [ "$(ulimit -d)" = unlimited ]; do :; done
echo '{"version":1}' > "$STREAMD_PLAN_FILE""#,
    );
    stage.link.describe(program, 20_000).await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn descriptions_end_with_the_task_manager() {
    let mut stage = Stage::set().await;
    let marker = stage.folder.path().join("pid");
    let program = stage.manager.script(&format!(
        "echo $$ > {0}.new; mv {0}.new {0}; sleep 1000",
        marker.display()
    ));
    let command = streamd_rpc::proto::DescribeCommand {
        request_id: 1,
        program: Some(program),
        timeout_ms: 1_000_000,
    };
    stage
        .link
        .tell(streamd_rpc::proto::task_manager_command::Command::Describe(command))
        .await;
    crate::harness::until("the program runs", || marker.exists()).await;
    let process: u32 = std::fs::read_to_string(&marker).unwrap().trim().parse().unwrap();
    stage.link.heartbeat().await;
    stage.end().await;
    assert_goes(process).await;
}

#[tokio::test]
async fn a_process_that_left_the_group_of_a_description_ends_with_it() {
    // The stray becomes no other program, and so can be recognised from its first breath.
    let leave = r#"mkfifo told never
setsid sh -c 'echo stray $$ >&2; echo > told; exec > /dev/null 2>&1; read line < never' &
read line < told
exit 1"#;
    let (_, message, _) = refused_script(leave).await;
    let stray = message.rsplit(' ').next().unwrap().parse().unwrap();
    assert_goes(stray).await;
}

#[tokio::test]
async fn the_hint_of_a_failed_application_is_the_hint_of_its_refusal() {
    let script = "printf 'Error: cannot read `x` [SD-0205]\\nhint: give it from the root\\n' >&2; exit 1";
    let (code, message, hint) = refused_script(script).await;
    assert_eq!(code, ErrorCode::DescribeFailed);
    assert!(
        message.ends_with("while describing its job: cannot read `x`"),
        "{message}"
    );
    assert_eq!(hint, "give it from the root");
}
