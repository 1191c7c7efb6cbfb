//! Processes that left their group, as daemons do: known by the temporary directory that every program is given, and ended
//! with the program that started them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tracing::info;

/// Looks at all processes: one that was just being started is seen by a later one.
const LOOKS: usize = 20;

/// The pause between two looks where some process cannot be told yet.
const PAUSE: Duration = Duration::from_millis(1);

/// Which directories are meant.
#[derive(Debug, Clone, Copy)]
enum Reach {
    /// The one.
    Exact,
    /// Those below it.
    Below,
}

/// What the environment of a process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Meant,
    Foreign,
    /// Nothing: in the midst of its `exec` a process has none.
    Unknown,
}

/// Ends what left the group of a program that has ended.
pub(crate) async fn sweep(directory: PathBuf) {
    // A panic has been told by its hook, and costs at most a stray.
    let _panicked = tokio::task::spawn_blocking(move || end_strays(&directory)).await;
}

/// Ends the processes whose temporary directory is this one. Blocks for a few milliseconds.
fn end_strays(directory: &Path) {
    end_all(directory, Reach::Exact);
}

/// Ends the processes whose temporary directory is below this one: leftovers of a task manager that was killed.
pub(crate) fn end_strays_below(directory: &Path) {
    end_all(directory, Reach::Below);
}

fn end_all(directory: &Path, reach: Reach) {
    let mut ended = BTreeSet::new();
    for _ in 0..LOOKS {
        let Ok(entries) = fs::read_dir("/proc") else { return };
        let ids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let (known, mut has_unknown) = (ended.len(), false);
        for id in ids {
            match end_if_meant(id, directory, reach) {
                Verdict::Meant => drop(ended.insert(id)),
                Verdict::Foreign => {}
                Verdict::Unknown => has_unknown = true,
            }
        }
        if ended.len() == known && !has_unknown {
            break;
        }
        if has_unknown {
            std::thread::sleep(PAUSE);
        }
    }
    if !ended.is_empty() {
        info!(directory = %directory.display(), processes = ended.len(), "ended processes that a program left behind");
    }
}

/// Ends a process if its environment says that it is meant.
fn end_if_meant(id: i32, directory: &Path, reach: Reach) -> Verdict {
    let Some(id) = Pid::from_raw(id) else {
        return Verdict::Foreign;
    };
    let verdict = verdict_on(id, directory, reach);
    if verdict != Verdict::Meant {
        return verdict;
    }
    // The number may go to another process at any time. The descriptor stays with the one that is looked at now.
    let Ok(process) = pidfd_open(id, PidfdFlags::empty()) else {
        return Verdict::Foreign;
    };
    match verdict_on(id, directory, reach) {
        Verdict::Meant if pidfd_send_signal(&process, Signal::KILL).is_err() => Verdict::Foreign,
        verdict => verdict,
    }
}

/// What cannot be read belongs to somebody else, or is gone; what has no file is the kernel's.
fn verdict_on(id: Pid, directory: &Path, reach: Reach) -> Verdict {
    let of_process = |name: &str| format!("/proc/{}/{name}", id.as_raw_nonzero());
    let Ok(environment) = fs::read(of_process("environ")) else {
        return Verdict::Foreign;
    };
    if environment.is_empty() && fs::read_link(of_process("exe")).is_ok() {
        return Verdict::Unknown;
    }
    let is_meant = names(&environment, directory, reach);
    if is_meant { Verdict::Meant } else { Verdict::Foreign }
}

/// Whether the temporary directory in an environment is one that is meant.
fn names(environment: &[u8], directory: &Path, reach: Reach) -> bool {
    let mut variables = environment.split(|byte| *byte == 0);
    let temporary = variables.find_map(|variable| variable.strip_prefix(b"TMPDIR="));
    let rest = temporary.and_then(|temporary| temporary.strip_prefix(directory.as_os_str().as_bytes()));
    rest.is_some_and(|rest| match reach {
        Reach::Exact => rest.is_empty(),
        Reach::Below => rest.starts_with(b"/"),
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper(temporary: &Path) -> Child {
        let mut command = Command::new("sleep");
        let process = command.arg("1000").env("TMPDIR", temporary).spawn().unwrap();
        // In the midst of its `exec` it has no environment yet.
        while fs::read(format!("/proc/{}/environ", process.id())).unwrap().is_empty() {
            std::thread::yield_now();
        }
        process
    }

    fn is_killed(mut process: Child) -> bool {
        use std::os::unix::process::ExitStatusExt;
        process.wait().unwrap().signal() == Some(9)
    }

    #[test]
    fn processes_of_the_directory_are_ended_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let (mine, other) = (root.path().join("worker-1"), root.path().join("worker-10"));
        let (stray, mut neighbour) = (sleeper(&mine), sleeper(&other));
        end_strays(&mine);
        assert!(is_killed(stray));
        assert!(neighbour.try_wait().unwrap().is_none());
        end_strays_below(&other);
        assert!(neighbour.try_wait().unwrap().is_none());
        end_strays_below(root.path());
        assert!(is_killed(neighbour));
    }
}
