//! What a person sees who sits in front of a terminal, a real one: lines of progress that leave no trace, and what Ctrl-C leaves.

use std::process::Command;

use streamd_rpc::proto::wait_operation_response::Outcome;
use streamd_rpc::proto::{
    ExecutionState, JobDetails, JobState, OperationCompleted, OperationProgress, OperationStage, SnapshotReference,
    SubtaskDetails, VertexDetails,
};

use crate::fake::{Fake, JOB, Script, job};

const PATH: &str = "file:///data/sp/savepoint-fd7201-5103fe515a4d";

/// Runs a command in a terminal of its own, presses Ctrl-C once the screen has shown a text, and prints all that came.
const PERSON: &str = r#"
import fcntl, os, pty, struct, sys, termios
columns, wanted, environment = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3]
command = sys.argv[4:]
child, terminal = pty.fork()
if child == 0:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    # By default Ctrl-C throws away what has not been shown yet, an answer that comes at once included.
    modes = termios.tcgetattr(0)
    modes[3] |= termios.NOFLSH
    termios.tcsetattr(0, termios.TCSANOW, modes)
    os.execve(command[0], command, {"STREAMD_JOBMANAGER": environment, "TZ": "UTC"})
seen, pressed = b"", False
while True:
    try:
        data = os.read(terminal, 65536)
    except OSError:
        break
    if not data:
        break
    seen += data
    if wanted and wanted in seen and not pressed:
        os.write(terminal, b"\x03")
        pressed = True
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

/// What came of a command in a terminal.
struct Seen {
    code: i32,
    /// Every byte that the terminal got.
    raw: String,
    /// The lines that are left on the screen.
    screen: Vec<String>,
}

fn watch(fake: &Fake, columns: usize, pressed_at: &str, arguments: &[&str]) -> Seen {
    let ran = Command::new("python3")
        .args(["-c", PERSON, &columns.to_string(), pressed_at, &fake.address()])
        .arg(env!("CARGO_BIN_EXE_streamctl"))
        .args(arguments)
        .output()
        .expect("python3 is installed");
    let raw = String::from_utf8(ran.stdout).unwrap();
    // The terminal itself says that Ctrl-C was pressed, sooner or later than the command hears of it.
    let screen = screen(&raw.replace("^C", ""), columns);
    assert!(ran.stderr.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr));
    Seen {
        code: ran.status.code().unwrap(),
        raw,
        screen,
    }
}

/// A terminal that knows what ours need it to know.
fn screen(raw: &str, columns: usize) -> Vec<String> {
    let (mut lines, mut column, mut wraps) = (vec![Vec::new()], 0, true);
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        let line = lines.last_mut().unwrap();
        if let Some(after) = rest.strip_prefix("\x1b[K") {
            line.truncate(column);
            rest = after;
            continue;
        } else if let Some(after) = rest.strip_prefix("\x1b[?7") {
            wraps = after.starts_with('h');
            rest = &after[1..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '\r' => column = 0,
            '\n' => lines.push(Vec::new()),
            c => {
                if column == columns && wraps {
                    lines.push(Vec::new());
                    column = 0;
                }
                let line = lines.last_mut().unwrap();
                let at = column.min(columns - 1);
                line.resize(line.len().max(at + 1), ' ');
                line[at] = c;
                column = at + 1;
            }
        }
    }
    let lines = lines.into_iter().map(|line| line.into_iter().collect::<String>());
    lines.filter(|line| !line.is_empty()).collect()
}

fn progress(stage: OperationStage, done: u32) -> OperationProgress {
    OperationProgress {
        acknowledged_subtasks: done,
        subtasks: 4,
        stage: stage.into(),
        bytes: 2048 * u64::from(done),
    }
}

fn slow() -> Script {
    let completed = OperationCompleted {
        savepoint_path: PATH.to_owned(),
        bytes: 1234,
        duration_ms: 56,
        promoted_checkpoint: 0,
    };
    Script {
        outcome: Some(Outcome::Completed(completed)),
        progress: vec![
            progress(OperationStage::Writing, 1),
            progress(OperationStage::Writing, 3),
            progress(OperationStage::Publishing, 4),
            progress(OperationStage::Ending, 4),
        ],
        ..Script::default()
    }
}

#[test]
fn a_person_sees_how_far_a_savepoint_is_and_nothing_of_it_stays() {
    let commands: [&[&str]; 4] = [
        &["savepoint", JOB],
        &["cancel", "-s", "/data/sp", JOB],
        &["stop", JOB],
        &["stop", "--drain", JOB],
    ];
    for arguments in commands {
        // Too narrow for a line of progress as well: the normal lines take several then.
        for columns in [120, 24] {
            let fake = Fake::start(slow());
            let seen = watch(&fake, columns, "", arguments);
            assert_eq!(seen.code, 0, "{:?}", seen.raw);
            for text in [
                "Savepoint: 1 of 4 subtasks, 2.0 KiB, 0 s",
                "Savepoint: 3 of 4 subtasks, 6.0 KiB, ",
                "8.0 KiB, being published",
                "the job is ending",
            ] {
                assert!(
                    seen.raw.contains(text),
                    "{arguments:?} never says {text}: {:?}",
                    seen.raw
                );
            }
            let left = seen.screen.concat();
            assert!(left.contains(PATH), "{arguments:?}: {left}");
            assert!(
                !left.contains("Savepoint: ") && !left.contains("being published") && !left.contains("job is ending"),
                "{arguments:?} in {columns} columns leaves: {:#?}",
                seen.screen
            );
        }
    }
}

#[test]
fn ctrl_c_in_the_middle_leaves_the_operation_and_how_to_ask_for_it() {
    let endless = || Script {
        outcome: Some(Outcome::InProgress(progress(OperationStage::Writing, 2))),
        ..Script::default()
    };
    for arguments in [&["savepoint", JOB][..], &["cancel", "-s", JOB], &["stop", JOB]] {
        let fake = Fake::start(endless());
        let seen = watch(&fake, 200, "2 of 4 subtasks", arguments);
        assert_eq!(seen.code, 130, "{:?}", seen.raw);
        let told = seen.screen.iter().find_map(|line| line.strip_prefix("Operation "));
        let id = told.and_then(|told| told.split_once(':')).unwrap().0;
        assert_eq!(
            seen.screen.last().unwrap(),
            &format!(
                "Interrupted: operation {id} goes on. To see what becomes of it: streamctl savepoint status --wait {id}"
            ),
            "{:?}",
            seen.raw
        );
        assert!(!seen.screen.concat().contains("subtasks"), "{:#?}", seen.screen);
        assert!(fake.requests().concat().contains(id), "{:?}", fake.requests());
    }
}

#[test]
fn a_person_sees_how_many_subtasks_have_their_state_and_nothing_of_it_stays() {
    let details = |running: usize| {
        let state = |at: usize| {
            if at < running {
                ExecutionState::Running
            } else {
                ExecutionState::Initializing
            }
        };
        let subtasks = (0..4).map(|at| SubtaskDetails {
            state: state(at).into(),
            ..SubtaskDetails::default()
        });
        JobDetails {
            summary: Some(job("flights", JobState::Running)),
            vertices: vec![VertexDetails {
                subtasks: subtasks.collect(),
                ..VertexDetails::default()
            }],
            ..JobDetails::default()
        }
    };
    let script = Script {
        details_before: vec![details(0), details(3)],
        details: Some(details(4)),
        changes: vec![job("flights", JobState::Running), job("flights", JobState::Finished)],
        restored_from: Some(SnapshotReference {
            id: 7,
            uri: PATH.to_owned(),
            savepoint: true,
            ..SnapshotReference::default()
        }),
        ..Script::default()
    };
    let fake = Fake::start(script.clone());
    let program = std::env::current_exe().unwrap();
    let arguments = ["run", "-s", PATH, program.to_str().unwrap()];
    let seen = watch(&fake, 120, "", &arguments);
    assert_eq!(seen.code, 0, "{:?}", seen.raw);
    for text in ["Restoring: 0 of 4 subtasks, 0 s", "Restoring: 3 of 4 subtasks, "] {
        assert!(seen.raw.contains(text), "{:?}", seen.raw);
    }
    assert!(!seen.screen.concat().contains("Restoring"), "{:#?}", seen.screen);

    let stuck = Fake::start(Script {
        details: Some(details(1)),
        ..script
    });
    let seen = watch(&stuck, 200, "1 of 4 subtasks", &arguments);
    assert_eq!(seen.code, 130, "{:?}", seen.raw);
    let last = seen.screen.last().unwrap();
    assert!(last.contains(&format!("streamctl cancel {JOB}")), "{:?}", seen.raw);
    assert!(!seen.screen.concat().contains("Restoring"), "{:#?}", seen.screen);
}
