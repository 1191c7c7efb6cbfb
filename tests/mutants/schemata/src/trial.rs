//! Running the tests with one mutant, or with none.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How much longer than without a mutant the tests may take before they are taken to hang, and how much longer at least.
const PATIENCE: (u32, Duration) = (5, Duration::from_secs(20));

/// What became of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A test failed.
    Killed,
    /// The tests did not end.
    Hangs,
    /// All tests passed.
    Lives,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Hangs => "hangs",
            Self::Lives => "lives",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Killed, Self::Hangs, Self::Lives]
            .into_iter()
            .find(|outcome| outcome.name() == name)
    }
}

/// A program of tests.
pub struct Program {
    path: PathBuf,
    /// Of the crate.
    folder: PathBuf,
    /// The mutants that its tests come by.
    pub reached: BTreeSet<u32>,
    limit: Duration,
}

/// Runs all tests without a mutant: they must pass.
pub fn baseline(programs: Vec<PathBuf>, folder: &Path) -> Result<Vec<Program>, String> {
    let mut known = Vec::new();
    for path in programs {
        let log = std::env::temp_dir().join(format!("reached-{}", std::process::id()));
        let mut program = Program {
            path,
            folder: folder.to_owned(),
            reached: BTreeSet::new(),
            limit: Duration::from_secs(600),
        };
        let begun = Instant::now();
        // Number 0 is none.
        let outcome = program.started(0, Some(&log))?.wait(program.limit)?;
        if outcome != Outcome::Lives {
            return Err(format!("{} fails without a mutant", program.path.display()));
        }
        program.limit = PATIENCE.1.max(begun.elapsed() * PATIENCE.0);
        let reached = fs::read_to_string(&log).unwrap_or_default();
        program.reached = reached.lines().filter_map(|line| line.parse().ok()).collect();
        let _was_never_made = fs::remove_file(&log);
        known.push(program);
    }
    // What ends soon is asked first.
    known.sort_by_key(|program| program.limit);
    Ok(known)
}

impl Program {
    /// Runs its tests with a mutant, until the first fails.
    pub fn run(&self, mutant: u32) -> Result<Outcome, String> {
        self.started(mutant, None)?.wait(self.limit)
    }

    fn started(&self, mutant: u32, log: Option<&PathBuf>) -> Result<Run, String> {
        let mut command = Command::new(&self.path);
        command.env("MUTANT", mutant.to_string()).env("RUST_BACKTRACE", "0");
        if let Some(log) = log {
            command.env("MUTANTS_REACHED", log);
        }
        // As cargo does: tests look for their files there.
        command
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .current_dir(&self.folder);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Ok(Run(child.map_err(|error| format!("{}: {error}", self.path.display()))?))
    }
}

struct Run(Child);

impl Run {
    fn wait(mut self, limit: Duration) -> Result<Outcome, String> {
        let output = self.0.stdout.take().ok_or("a program without output")?;
        let (sender, failed) = mpsc::channel();
        let reading = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.ends_with(" ... FAILED") {
                    let _nobody_waits = sender.send(());
                    return;
                }
            }
        });
        // A failure, the end of the output, or no patience any more.
        let heard = failed.recv_timeout(limit);
        let outcome = match heard {
            Ok(()) => Outcome::Killed,
            Err(mpsc::RecvTimeoutError::Timeout) => Outcome::Hangs,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = self.0.wait().map_err(|error| error.to_string())?;
                if status.success() {
                    Outcome::Lives
                } else {
                    Outcome::Killed
                }
            }
        };
        let _has_ended = self.0.kill();
        self.0.wait().map_err(|error| error.to_string())?;
        let _nothing_to_say = reading.join();
        Ok(outcome)
    }
}
