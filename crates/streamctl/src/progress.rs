//! A line on the terminal that tells how far something is, written over and over. Nothing where stderr is no terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use streamd_core::time::{Clock, MonotonicTime, SystemClock};
use streamd_rpc::proto::{OperationProgress, OperationStage};

use crate::arguments::OutputFormat;

/// How often the line is written anew: a person sees it move, and the job manager hardly notices.
pub const REFRESH: Duration = Duration::from_millis(500);

/// Goes to the beginning of the line and removes what is there.
const CLEAR: &str = "\r\x1b[K";

/// Has the terminal cut what is too long for a line: [`CLEAR`] removes one line, and would leave the first of two.
const CUT: &str = "\x1b[?7l";

/// Has the terminal go on in the next line again.
const WRAP: &str = "\x1b[?7h";

/// The line of one command.
pub struct Progress {
    clock: SystemClock,
    began: MonotonicTime,
    is_shown: bool,
    has_written: bool,
}

impl Progress {
    /// A line that begins now. For people in front of a terminal only.
    pub fn new(format: OutputFormat) -> Self {
        let clock = SystemClock::new();
        Self {
            began: clock.monotonic(),
            clock,
            is_shown: format == OutputFormat::Text && std::io::stderr().is_terminal(),
            has_written: false,
        }
    }

    /// Whether anybody sees it.
    pub fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// Shows how far a savepoint is.
    pub fn operation(&mut self, progress: &OperationProgress) {
        let seconds = self.seconds();
        self.show(&operation_text(progress, seconds));
    }

    /// Shows how many subtasks have their state.
    pub fn restore(&mut self, running: usize, subtasks: usize) {
        let seconds = self.seconds();
        self.show(&format!("Restoring: {running} of {subtasks} subtasks, {seconds} s"));
    }

    /// Shows for how long a job has been looked at.
    pub fn profile(&mut self, duration: Duration) {
        let (seconds, wanted) = (self.seconds(), duration.as_secs());
        self.show(&match seconds <= wanted {
            true => format!("Looking at the job: {seconds} of {wanted} s"),
            false => format!("Reading what was seen, {} s", seconds - wanted),
        });
    }

    fn show(&mut self, text: &str) {
        if self.is_shown {
            self.has_written = true;
            // At once, so that the terminal is as it was whatever happens next. Nobody misses a line that cannot be written.
            let line = format!("{CLEAR}{CUT}{text}{WRAP}");
            drop(std::io::stderr().lock().write_all(line.as_bytes()));
        }
    }

    /// Removes the line, before anything else is written.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.has_written) {
            drop(write!(std::io::stderr().lock(), "{CLEAR}"));
        }
    }

    fn seconds(&self) -> u64 {
        self.clock.monotonic().since(self.began) / 1_000
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn operation_text(progress: &OperationProgress, seconds: u64) -> String {
    let OperationProgress {
        acknowledged_subtasks: done,
        subtasks,
        bytes,
        ..
    } = progress;
    match progress.stage() {
        OperationStage::Draining => format!("Draining the input, {seconds} s"),
        OperationStage::Publishing => format!("Savepoint: {}, being published, {seconds} s", size_text(*bytes)),
        OperationStage::Ending => format!("The savepoint is complete, the job is ending, {seconds} s"),
        OperationStage::Promoting => {
            format!("The job does not run: copying its last checkpoint, {seconds} s")
        }
        OperationStage::Writing | OperationStage::Unspecified => {
            format!(
                "Savepoint: {done} of {subtasks} subtasks, {}, {seconds} s",
                size_text(*bytes)
            )
        }
    }
}

/// A number of bytes for people.
pub fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths of the unit, so that no float is needed.
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while tenths >= 10 * 1024 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_people_would_choose() {
        let told = [0, 1023, 1024, 1536, 10 * 1024 * 1024, 5_000_000_000].map(size_text);
        assert_eq!(told, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10.0 MiB", "4.6 GiB"]);
        assert!(size_text(u64::MAX).ends_with(" PiB"));
    }

    #[test]
    fn each_stage_of_a_savepoint_is_told() {
        let at = |stage: OperationStage| {
            let progress = OperationProgress {
                acknowledged_subtasks: 3,
                subtasks: 8,
                stage: stage.into(),
                bytes: 2048,
            };
            operation_text(&progress, 12)
        };
        assert_eq!(at(OperationStage::Writing), "Savepoint: 3 of 8 subtasks, 2.0 KiB, 12 s");
        assert_eq!(at(OperationStage::Draining), "Draining the input, 12 s");
        assert!(at(OperationStage::Promoting).contains("does not run"));
        assert!(at(OperationStage::Publishing).contains("published"));
        assert!(at(OperationStage::Ending).contains("complete"));
    }
}
