//! The memory of the workers of a task manager: looked at so often that one that takes ever more is ended by name, before the kernel
//! picks a process by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use streamd_core::error::ErrorCode;
use tracing::debug;

/// How often a worker's memory is looked at: it takes some tens of microseconds, and a process that does nothing else fills some
/// hundred megabytes meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The part of the machine's memory that workers may take together unless they are told, in percent: the rest is for the daemons and
/// the kernel.
const DEFAULT_PERCENT: u64 = 80;

/// How gladly the kernel ends a worker where memory is short all the same: far more than a daemon, less than what asks to be first.
const KERNEL_SCORE: &str = "500";

/// What workers may take together, and what each has.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    /// `None` where the machine does not say what it has.
    limit: Option<u64>,
    /// By process id.
    taken: Mutex<BTreeMap<u32, u64>>,
}

/// A worker that was too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMuch {
    own: u64,
    all: u64,
    limit: u64,
}

impl MemoryWatch {
    /// A watch for this limit in bytes, or for most of what the machine has.
    pub(crate) fn new(limit: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            limit: limit.or_else(most_of_the_machine),
            taken: Mutex::default(),
        })
    }

    /// Returns once the workers take more than they may, and this process the most of them. Never where memory cannot be looked at.
    pub(crate) async fn too_much(self: Arc<Self>, process_id: u32) -> TooMuch {
        offer_to_kernel(process_id);
        let process = Watched {
            watch: self,
            process_id,
        };
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let own = memory_of(process_id).unwrap_or(0);
            if let Some(too_much) = process.watch.note(process_id, own) {
                return too_much;
            }
        }
    }

    /// Notes what a process has now. Answers if it has to go.
    fn note(&self, process_id: u32, own: u64) -> Option<TooMuch> {
        let mut taken = self.taken();
        taken.insert(process_id, own);
        let all: u64 = taken.values().sum();
        let largest = taken.values().max().copied().unwrap_or(0);
        let limit = self.limit?;
        (all > limit && own == largest).then_some(TooMuch { own, all, limit })
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<u32, u64>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process that is looked at, until its end.
struct Watched {
    watch: Arc<MemoryWatch>,
    process_id: u32,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.taken().remove(&self.process_id);
    }
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { own, all, limit } = self;
        let code = ErrorCode::WorkerMemoryExceeded;
        write!(f, "was killed because it took {} of memory", Bytes(*own))?;
        if all > own {
            write!(f, ", and all workers of the task manager {}", Bytes(*all))?;
        }
        write!(
            f,
            ", more than the {} of `taskmanager.memory.process.size` [{code}]",
            Bytes(*limit)
        )
    }
}

/// A size for people.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0 >> 20)
    }
}

/// Has the kernel end this process before a daemon. Not being able to is no reason not to run.
fn offer_to_kernel(process_id: u32) {
    if let Err(error) = std::fs::write(format!("/proc/{process_id}/oom_score_adj"), KERNEL_SCORE) {
        debug!(process_id, %error, "the kernel was not told which process to end first");
    }
}

/// Bytes that a process has to itself: what it has written to, without files that it reads.
fn memory_of(process_id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process_id}/status")).ok()?;
    kilobytes(&status, "RssAnon:")
}

fn most_of_the_machine() -> Option<u64> {
    let machine = kilobytes(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    // A container has less; `max` is no number.
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let container = container.and_then(|text| text.trim().parse().ok());
    Some(container.map_or(machine, |bytes: u64| bytes.min(machine)) / 100 * DEFAULT_PERCENT)
}

/// The value of a line like `RssAnon:     1024 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_goes_once_all_together_have_more_than_they_may() {
        let watch = MemoryWatch::new(Some(100 << 20));
        assert_eq!(watch.note(1, 60 << 20), None);
        assert_eq!(watch.note(2, 40 << 20), None, "as much as they may");
        assert_eq!(watch.note(2, 41 << 20), None, "it is not the largest");
        let too_much = watch.note(1, 60 << 20).unwrap();
        assert_eq!(
            too_much.to_string(),
            "was killed because it took 60 MiB of memory, and all workers of the task manager 101 MiB, more than the 100 MiB of \
             `taskmanager.memory.process.size` [SD-0209]"
        );
        drop(Watched {
            watch: Arc::clone(&watch),
            process_id: 1,
        });
        assert_eq!(watch.note(2, 99 << 20), None, "the other is gone");
        let alone = watch.note(2, 101 << 20).unwrap();
        assert!(!alone.to_string().contains("all workers"), "{alone}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_memory_of_this_process_and_of_the_machine_can_be_read() {
        let before = memory_of(std::process::id()).unwrap();
        let block = vec![1_u8; 64 << 20];
        let after = memory_of(std::process::id()).unwrap();
        assert!(
            after >= before + (60 << 20) && block.len() < usize::MAX,
            "{before} {after}"
        );
        assert!(most_of_the_machine().unwrap() > after);
        assert_eq!(memory_of(u32::MAX), None);
    }

    #[test]
    fn a_line_that_says_something_else_is_not_taken_for_a_number() {
        assert_eq!(kilobytes("RssAnon:\t  12 kB\n", "RssAnon:"), Some(12 * 1024));
        for text in ["", "RssAnon:", "RssAnon: 12", "RssAnon: x kB", "RssFile: 12 kB"] {
            assert_eq!(kilobytes(text, "RssAnon:"), None, "{text}");
        }
    }
}
