//! The stacks of a profile, counted: what `perf script` prints, folded into one line for each stack.
//!
//! ```text
//!   slot-0                                     slot-0;clone3;turn;process 2
//!           563ce8 process
//!           592364 turn               ──▶
//!           1098eb clone3
//!
//!   slot-0   …the same once more
//! ```

use std::collections::BTreeMap;
use std::io;

use streamd_rpc::limits::STACKS_BYTES;
use streamd_rpc::proto;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// What parts the frames of a folded stack.
const SEPARATOR: char = ';';

/// Bytes of different stacks that are kept while they are counted: a task manager has other things to keep. Those that are seen often
/// come early.
const KEPT_BYTES: usize = 4 * STACKS_BYTES;

/// How often each stack was seen.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    counts: BTreeMap<String, u64>,
    /// Bytes of those stacks.
    bytes: usize,
    /// How often one was seen that is not kept.
    left_out: u64,
}

/// A stack that is being read.
#[derive(Default)]
struct Reading {
    thread: String,
    /// The innermost first.
    frames: Vec<String>,
}

impl Stacks {
    /// Reads what `perf script -F comm,ip,sym` prints, to its end.
    pub(super) async fn read(mut printed: impl AsyncBufRead + Unpin) -> io::Result<Self> {
        let mut stacks = Self::default();
        let mut reading = Reading::default();
        let mut line = Vec::new();
        while printed.read_until(b'\n', &mut line).await? > 0 {
            stacks.take(&mut reading, &String::from_utf8_lossy(&line));
            line.clear();
        }
        stacks.end(&mut reading);
        Ok(stacks)
    }

    /// Whether no thread was seen at work.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The profile, with the stacks that were seen most often where all are too long.
    pub(super) fn profile(self) -> proto::Profile {
        self.within(STACKS_BYTES)
    }

    fn take(&mut self, reading: &mut Reading, line: &str) {
        let is_frame = line.starts_with(char::is_whitespace);
        match line.trim() {
            "" => self.end(reading),
            frame if is_frame => reading.frames.push(function(frame)),
            thread => {
                self.end(reading);
                reading.thread = thread.replace(SEPARATOR, ",");
            }
        }
    }

    fn end(&mut self, reading: &mut Reading) {
        let Reading { thread, frames } = std::mem::take(reading);
        if thread.is_empty() {
            return;
        }
        let mut stack = thread;
        for frame in frames.iter().rev() {
            stack.push(SEPARATOR);
            stack.push_str(frame);
        }
        self.count(stack, KEPT_BYTES);
    }

    fn count(&mut self, stack: String, most_bytes: usize) {
        if let Some(count) = self.counts.get_mut(&stack) {
            *count += 1;
        } else if self.bytes + stack.len() <= most_bytes {
            self.bytes += stack.len();
            self.counts.insert(stack, 1);
        } else {
            self.left_out += 1;
        }
    }

    fn within(self, limit: usize) -> proto::Profile {
        let samples = self.counts.values().sum::<u64>() + self.left_out;
        let mut counted: Vec<(String, u64)> = self.counts.into_iter().collect();
        counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let (mut stacks, mut left_out) = (String::new(), self.left_out);
        for (stack, count) in counted {
            let line = format!("{stack} {count}\n");
            match stacks.len() + line.len() <= limit {
                true => stacks.push_str(&line),
                false => left_out += count,
            }
        }
        proto::Profile {
            stacks: stacks.into(),
            samples,
            left_out,
            cut_short: false,
        }
    }
}

/// The function of a frame, which is an address and a name.
fn function(frame: &str) -> String {
    let name = frame
        .split_once(' ')
        .map_or("[unknown]", |(_address, name)| name.trim());
    name.replace(SEPARATOR, ",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
slot-0
\t   563ce8 <[T; 4] as Operator>::process
\t   592364 turn
\t   1098eb clone3

slot-0
\t   563cff <[T; 4] as Operator>::process
\t   592364 turn
\t   1098eb clone3

tokio rt
\t   7f0000 [unknown]
";

    async fn read(printed: &str) -> Stacks {
        Stacks::read(printed.as_bytes()).await.unwrap()
    }

    #[tokio::test]
    async fn equal_stacks_are_counted_and_begin_with_the_thread() {
        let profile = read(PRINTED).await.profile();
        let expected = "slot-0;clone3;turn;<[T, 4] as Operator>::process 2\ntokio rt;[unknown] 1\n";
        assert_eq!(profile.stacks, expected);
        assert_eq!((profile.samples, profile.left_out), (3, 0));
    }

    #[tokio::test]
    async fn where_all_stacks_are_too_long_the_rarest_are_left_out_and_counted() {
        let profile = read(PRINTED).await.within(60);
        assert_eq!(profile.stacks, "slot-0;clone3;turn;<[T, 4] as Operator>::process 2\n");
        assert_eq!((profile.samples, profile.left_out), (3, 1));
    }

    #[test]
    fn more_different_stacks_than_there_is_room_for_are_counted_and_not_kept() {
        let mut stacks = Stacks::default();
        for stack in ["one", "two", "three", "one", "three"] {
            stacks.count(stack.to_owned(), 6);
        }
        let profile = stacks.profile();
        assert_eq!(profile.stacks, "one 2\ntwo 1\n");
        assert_eq!((profile.samples, profile.left_out), (5, 2));
    }

    #[tokio::test]
    async fn of_an_idle_worker_there_is_nothing() {
        assert!(read("").await.is_empty());
        assert!(read("\n\n").await.is_empty());
    }
}
