//! The suite for sinks, over whole lives of jobs that are made up from a number.

use std::collections::BTreeMap;
use std::fmt::Debug;

use streamd_core::sink::{Sink, SinkWriter};
use streamd_core::state::{from_row, to_row};

use super::random::Random;
use super::sink::{Suite, context};

/// Records from this number on were written by writers that were superseded: they must never be seen.
const STRAY: u64 = 1_000_000;

/// The most steps of a life.
const STEPS: u64 = 40;

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// So many records are written.
    Write(u64),
    /// A checkpoint is taken, and becomes complete.
    Checkpoint(Notification),
    /// A checkpoint is taken, and given up.
    AbortedCheckpoint,
    /// The job fails, and goes on from its last complete checkpoint with so many subtasks.
    Fail(u32, Superseded),
}

/// What becomes of the writers of a job that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Superseded {
    /// They end before others take over.
    End,
    /// They go on for a while, and end then.
    GoOn,
}

/// How sinks hear of a checkpoint that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notification {
    Once,
    Twice,
    Never,
}

/// A job with nothing but a sink, run as the runtime runs it.
struct Life<'a, S: Sink, V> {
    suite: &'a Suite<'a, S, V>,
    subtasks: Vec<Subtask<S>>,
    /// Names that no two writers share.
    attempt: u64,
    checkpoint: u64,
    written: u64,
    /// The rows of the last complete checkpoint, and how many records came before it.
    restorable: (Vec<Vec<u8>>, u64),
}

struct Subtask<S: Sink> {
    writer: S::Writer,
    prepared: BTreeMap<u64, Vec<S::Committable>>,
}

impl<S: Sink, V: Ord + Debug> Suite<'_, S, V> {
    /// Runs a job through a life that `seed` decides: records, checkpoints that complete or do not, notifications that are late,
    /// lost or repeated, failures between any two of them, writers that go on after they were superseded, and restores at other
    /// parallelisms. Panics, with the life up to then, unless every record before the last restored checkpoint is visible once after
    /// a restore, nothing ever is that no complete checkpoint holds, and all is at the end.
    ///
    /// The sink must be empty.
    pub fn survives(&self, seed: u64) {
        let mut random = Random::new(seed);
        let mut life = Life {
            suite: self,
            subtasks: Vec::new(),
            attempt: 0,
            checkpoint: 0,
            written: 0,
            restorable: (Vec::new(), 0),
        };
        let mut story = Vec::new();
        life.start(1 + random.below(3) as u32);
        for _ in 0..random.below(STEPS) {
            let step = Step::random(&mut random);
            story.push(step);
            life.take(step, &story);
        }
        life.end(&story);
    }
}

impl Step {
    fn random(random: &mut Random) -> Self {
        match random.below(10) {
            0..=3 => Self::Write(1 + random.below(12)),
            4 | 5 => Self::Checkpoint(Notification::Once),
            6 => Self::Checkpoint(Notification::Twice),
            7 => Self::Checkpoint(Notification::Never),
            8 => Self::AbortedCheckpoint,
            _ => {
                let superseded = [Superseded::End, Superseded::GoOn][random.below(2) as usize];
                Self::Fail(1 + random.below(3) as u32, superseded)
            }
        }
    }
}

impl<S: Sink, V: Ord + Debug> Life<'_, S, V> {
    fn take(&mut self, step: Step, story: &[Step]) {
        match step {
            Step::Write(count) => {
                self.write(self.written..self.written + count);
                self.written += count;
            }
            Step::Checkpoint(notification) => {
                let snapshot = self.snapshot();
                self.restorable = (snapshot, self.written);
                let times = match notification {
                    Notification::Once => 1,
                    Notification::Twice => 2,
                    Notification::Never => 0,
                };
                (0..times).for_each(|_| self.notify());
            }
            Step::AbortedCheckpoint => {
                self.snapshot();
            }
            Step::Fail(subtasks, superseded) => {
                self.fail(subtasks, superseded);
                let visible = self.visible();
                self.assert_is(&visible, self.restorable.1, "after a restore", story);
            }
        }
        let (visible, cut) = (self.visible(), self.restorable.1);
        let mut due: Vec<V> = (0..cut).map(self.suite.view).collect();
        due.sort_unstable();
        let mut due = due.into_iter();
        for seen in &visible {
            let is_due = due.by_ref().any(|record| record == *seen);
            assert!(
                is_due,
                "{seen:?} is visible, and is there twice or not in a complete checkpoint, after {story:?}"
            );
        }
    }

    fn start(&mut self, subtasks: u32) {
        self.attempt += 1;
        self.written = self.restorable.1;
        // Each subtask commits what it was dealt before it makes a writer.
        let mut dealt: Vec<Vec<S::Committable>> = (0..subtasks).map(|_| Vec::new()).collect();
        for (index, row) in self.restorable.0.iter().enumerate() {
            let committable = from_row(row).expect("a committable survives its encoding");
            dealt[index % subtasks as usize].push(committable);
        }
        let attempt = self.attempt;
        let sink = self.suite.sink;
        let started = (0..).zip(dealt).map(|(index, restored)| {
            if !restored.is_empty() {
                sink.commit(&restored).expect("the sink commits what is restored");
            }
            let writer = sink.writer(&context(index, &format!("attempt{attempt}")));
            Subtask {
                writer: writer.expect("the sink makes a writer"),
                prepared: BTreeMap::new(),
            }
        });
        self.subtasks = started.collect();
    }

    fn write(&mut self, numbers: std::ops::Range<u64>) {
        let count = self.subtasks.len() as u64;
        for number in numbers {
            let writer = &mut self.subtasks[(number % count) as usize].writer;
            let mut batch = vec![(self.suite.record)(number)];
            writer.write(&mut batch).expect("the sink can be written");
            assert!(batch.is_empty(), "a writer takes all records out of the batch");
            writer.flush().expect("the sink can be flushed");
        }
    }

    /// Takes a checkpoint; returns what it holds.
    fn snapshot(&mut self) -> Vec<Vec<u8>> {
        self.checkpoint += 1;
        let mut rows = Vec::new();
        for subtask in &mut self.subtasks {
            let prepared = subtask.writer.prepare_commit().expect("the sink prepares");
            subtask.prepared.insert(self.checkpoint, prepared);
            let unfinished = subtask.writer.unfinished().expect("the sink tells what is unfinished");
            rows.extend(subtask.prepared.values().flatten().chain(&unfinished).map(to_row));
        }
        rows
    }

    /// The last checkpoint is complete, and everything before it with it.
    fn notify(&mut self) {
        for subtask in &mut self.subtasks {
            let committables: Vec<_> = subtask.prepared.values().flatten().cloned().collect();
            self.suite.sink.commit(&committables).expect("the sink commits");
        }
        // The second time, they come once more.
        let checkpoint = self.checkpoint;
        for subtask in &mut self.subtasks {
            subtask.prepared.retain(|prepared_for, _| *prepared_for == checkpoint);
        }
    }

    fn fail(&mut self, subtasks: u32, superseded: Superseded) {
        let mut going_on = std::mem::take(&mut self.subtasks);
        if superseded == Superseded::End {
            going_on.clear();
        }
        self.start(subtasks);
        for mut subtask in going_on {
            // It does not know yet. What fails here fails a subtask that is over.
            let mut batch = vec![(self.suite.record)(STRAY + self.attempt)];
            let _ = subtask.writer.write(&mut batch);
            let _ = subtask.writer.prepare_commit();
        }
    }

    fn end(mut self, story: &[Step]) {
        for subtask in &mut self.subtasks {
            subtask.writer.leave_nothing_unfinished();
        }
        self.snapshot();
        self.notify();
        for subtask in &mut self.subtasks {
            let rest = subtask.writer.prepare_commit().expect("the sink prepares");
            self.suite.sink.commit(&rest).expect("the sink commits");
        }
        self.assert_is(&self.visible(), self.written, "at the end", story);
    }

    fn visible(&self) -> Vec<V> {
        let mut visible = (self.suite.visible)();
        visible.sort_unstable();
        visible
    }

    fn assert_is(&self, visible: &[V], count: u64, when: &str, story: &[Step]) {
        let mut expected: Vec<V> = (0..count).map(self.suite.view).collect();
        expected.sort_unstable();
        assert_eq!(visible, expected, "{when}, after {story:?}");
    }
}
