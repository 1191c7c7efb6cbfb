//! The operator that gives records their timestamps, and a stream its watermarks.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use streamd_core::id::SubtaskId;
use streamd_core::time::{Clock, EventTime, MonotonicTime, WallTime, Watermark};
use streamd_exchange::Batch;

use crate::alarm::Alarm;
use crate::chain::{OpenContext, Operator, OperatorIdentity};
use crate::error::TaskError;
use crate::record::{BATCH_RECORDS, Record};
use crate::source_progress::SourceProgress;
use crate::valve::WatermarkValve;
use crate::watermark::alignment::{AlignmentGroups, WatermarkAlignment};
use crate::watermark::generator::WatermarkGenerator;

/// While records come without a pause, how often watermarks are sent, in milliseconds. When there is nothing to read for a moment
/// one is sent at once. Flink's default.
const AUTO_WATERMARK_INTERVAL_MS: i64 = 200;

/// After how many batches one is sent at the latest: what waits for it, such as windows, should find place in the cache. Where there are more
/// subtasks than that, after as many batches as there are: each consumer is to get a whole one between two watermarks.
const BATCHES_PER_WATERMARK: usize = 16;

/// How much of the time between two looks at a silent stream counts as silence, in milliseconds: twice what lies between them
/// while the stream runs.
const LONGEST_LOOK_MS: u64 = 400;

/// Who does not hold others back, and who waits for whom.
#[derive(Debug, Clone, Default)]
pub struct WatermarkPolicy {
    /// Without a record for this long a split does not count.
    pub idle_after: Option<Duration>,
    /// The group in which sources wait for each other.
    pub alignment: Option<WatermarkAlignment>,
}

/// Gives records their timestamps, and the stream its watermarks: for each split of the source that it is chained to, and the least
/// of them for the stream. What came with the stream before is replaced, up to its end.
pub struct TimestampsAndWatermarks<A, G> {
    assign: A,
    generator: G,
    policy: WatermarkPolicy,
    splits: Vec<SplitTime<G>>,
    valve: WatermarkValve,
    /// What the consumers are to be told.
    tell: VecDeque<Watermark>,
    /// What they were told last.
    told: EventTime,
    /// Whether it is time to tell them more.
    due: bool,
    /// How many records have passed since they were told.
    untold: usize,
    /// How many may.
    told_after: usize,
    /// Whether the records of the batch at hand have their timestamps: the first of them were handed on already.
    is_assigned: bool,
    surroundings: Option<Surroundings>,
    armed: bool,
    /// When splits were last looked at for idleness.
    looked: MonotonicTime,
    /// Whether the source is told to wait.
    held: bool,
    ended: bool,
}

/// The time of one split. A stream that does not come from a source straight is one.
struct SplitTime<G> {
    generator: G,
    /// A watermark that a record has set off.
    punctuated: EventTime,
    /// Whether records have passed since it was last looked at for idleness.
    moved: bool,
    /// For how long none have.
    silent_ms: u64,
    idle: bool,
    at_end: bool,
    /// Whether the valve knows that it is at its end.
    closed: bool,
}

struct Surroundings {
    clock: Arc<dyn Clock>,
    alarm: Alarm,
    source: Option<SourceProgress>,
    subtask: SubtaskId,
    groups: AlignmentGroups,
}

impl<A, G: Clone> TimestampsAndWatermarks<A, G> {
    /// `assign` takes a record's timestamp from it and from the timestamp that it had.
    pub fn new(assign: A, generator: G, policy: WatermarkPolicy) -> Self {
        Self {
            assign,
            generator,
            policy,
            splits: Vec::new(),
            valve: WatermarkValve::new(0),
            tell: VecDeque::new(),
            told: EventTime::MIN,
            due: false,
            untold: 0,
            told_after: BATCHES_PER_WATERMARK * BATCH_RECORDS,
            is_assigned: false,
            surroundings: None,
            armed: false,
            looked: MonotonicTime(0),
            held: false,
            ended: false,
        }
    }

    fn arm(&mut self) {
        if let Some(Surroundings { clock, alarm, .. }) = &self.surroundings
            && !std::mem::replace(&mut self.armed, true)
        {
            alarm.set(WallTime(clock.wall().0.saturating_add(AUTO_WATERMARK_INTERVAL_MS)));
        }
    }

    fn now(&self) -> MonotonicTime {
        let surroundings = self.surroundings.as_ref();
        surroundings.map_or(MonotonicTime(0), |around| around.clock.monotonic())
    }

    fn source(&self) -> Option<&SourceProgress> {
        self.surroundings.as_ref()?.source.as_ref()
    }

    /// Takes note of splits that are new or read to their end.
    fn look_at_splits(&mut self) {
        let at_end = self.source().map_or_else(|| vec![false], SourceProgress::at_end);
        for (number, at_end) in at_end.into_iter().enumerate() {
            if number == self.splits.len() {
                self.valve.add_channel();
                self.splits.push(SplitTime {
                    generator: self.generator.clone(),
                    punctuated: EventTime::MIN,
                    moved: false,
                    silent_ms: 0,
                    idle: false,
                    at_end: false,
                    closed: false,
                });
            }
            self.splits[number].at_end = at_end;
        }
    }

    fn on_watermark(&mut self, split: usize, watermark: Watermark) {
        let tell = self.valve.on_watermark(split, watermark);
        for watermark in &tell {
            if let Watermark::Time(time) = watermark {
                self.told = *time;
            }
        }
        self.tell.extend(tell);
    }

    /// Splits that have been silent for too long are idle. Only time in which records could have come counts: not what the stream
    /// stood still for want of room, nor while the source was told to wait.
    fn look_for_idleness(&mut self) {
        let now = self.now();
        let since = now.since(std::mem::replace(&mut self.looked, now)).min(LONGEST_LOOK_MS);
        let passed = if self.held { 0 } else { since };
        for split in &mut self.splits {
            split.silent_ms = if std::mem::take(&mut split.moved) {
                0
            } else {
                split.silent_ms.saturating_add(passed)
            };
            let silent = Duration::from_millis(split.silent_ms);
            split.idle = self.policy.idle_after.is_some_and(|idle_after| silent >= idle_after);
        }
    }

    /// Waits if it is too far ahead of its group. Streams that are idle or at their end hold nobody back.
    fn align(&mut self) {
        let (Some(around), Some(alignment)) = (&self.surroundings, &self.policy.alignment) else {
            return;
        };
        let silent = self.ended || self.splits.iter().all(|split| split.idle || split.at_end);
        let time = if silent { EventTime::MAX } else { self.told };
        let ahead = around.groups.is_ahead(around.subtask, alignment, time) && !silent;
        if let Some(source) = &around.source {
            match (self.held, ahead) {
                (false, true) => source.hold(),
                (true, false) => source.release(),
                (false, false) | (true, true) => {}
            }
            self.held = ahead;
        }
    }

    /// Asks every split how far its time has come.
    fn ask<T>(&mut self)
    where
        G: WatermarkGenerator<T>,
    {
        self.untold = 0;
        self.look_at_splits();
        for number in 0..self.splits.len() {
            let split = &mut self.splits[number];
            // Its last records may be at hand.
            let at_end = split.at_end && !self.is_assigned;
            if std::mem::replace(&mut split.closed, at_end) {
                continue;
            }
            let time = split.generator.on_periodic_emit().max(split.punctuated);
            let idle = split.idle;
            if !idle {
                self.on_watermark(number, Watermark::Active);
                self.on_watermark(number, Watermark::Time(time));
            }
            if idle || at_end {
                self.on_watermark(number, Watermark::Idle);
            }
        }
    }
}

impl<T, A, G> Operator<T, T> for TimestampsAndWatermarks<A, G>
where
    T: Record,
    A: FnMut(&T, EventTime) -> EventTime + Send + 'static,
    G: WatermarkGenerator<T>,
{
    fn open(&mut self, identity: &OperatorIdentity, context: &mut OpenContext) -> Result<(), TaskError> {
        self.surroundings = Some(Surroundings {
            clock: Arc::clone(&context.clock),
            alarm: context.alarm.clone(),
            // From here on it is the time of the stream, not of its splits.
            source: context.source.take(),
            subtask: context.subtask,
            groups: context.alignment.clone(),
        });
        if self.policy.alignment.is_some() && self.source().is_none() {
            let reason: Box<dyn Error> = "watermarks are aligned by making their source wait: call \
                `assign_timestamps_and_watermarks` in the chain of the source, before the stream is redistributed"
                .into();
            return Err(TaskError::user(
                format_args!("operator `{}` cannot run", identity.label),
                reason.as_ref(),
            ));
        }
        self.told_after = BATCHES_PER_WATERMARK.max(context.parallelism as usize) * BATCH_RECORDS;
        self.looked = context.clock.monotonic();
        self.look_at_splits();
        self.align();
        if self.policy.idle_after.is_some() || self.policy.alignment.is_some() {
            self.arm();
        }
        Ok(())
    }

    fn process(&mut self, input: &mut Batch<T>, output: &mut Batch<T>) -> Result<(), TaskError> {
        if input.is_empty() {
            return Ok(());
        }
        let number = self.source().map_or(0, SourceProgress::polled);
        if number >= self.splits.len() {
            self.look_at_splits();
        }
        if !std::mem::take(&mut self.is_assigned) {
            input.assign_timestamps(&mut self.assign);
        }
        let split = &mut self.splits[number];
        let mut records = input.records().iter().zip(input.timestamps());
        let answered = records.position(|(record, timestamp)| {
            let answer = split.generator.on_event(record, *timestamp);
            match answer.filter(|watermark| *watermark > split.punctuated) {
                Some(watermark) => {
                    split.punctuated = watermark;
                    true
                }
                None => false,
            }
        });
        split.moved = true;
        if std::mem::take(&mut split.idle) {
            self.on_watermark(number, Watermark::Active);
        }
        self.arm();
        self.untold += answered.map_or(input.len(), |last| last + 1);
        self.due |= answered.is_some() || self.untold >= self.told_after;
        match answered.map(|last| last + 1) {
            // What a record says of the time holds for the next one already: those behind it are for the next call.
            Some(count) if count < input.len() => {
                self.is_assigned = true;
                for (record, timestamp) in input.drain(count) {
                    output.push(record, timestamp);
                }
            }
            Some(_) | None => std::mem::swap(input, output),
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.due |= self.splits.iter().any(|split| split.moved);
        Ok(())
    }

    fn forward(&mut self, watermark: Watermark) -> Option<Watermark> {
        // The end of time is the same for everybody.
        let ends = watermark == Watermark::Time(EventTime::MAX) && !std::mem::replace(&mut self.ended, true);
        if ends {
            self.told = EventTime::MAX;
            self.align();
        }
        ends.then_some(watermark)
    }

    fn own_watermark(&mut self) -> Option<Watermark> {
        if std::mem::take(&mut self.due) && !self.ended {
            self.ask::<T>();
            self.align();
        }
        self.tell.pop_front()
    }

    fn processing_time(&mut self, _now: WallTime, _output: &mut Batch<T>) -> Result<(), TaskError> {
        self.armed = false;
        self.due = true;
        let moved = self.splits.iter().any(|split| split.moved);
        self.look_for_idleness();
        let waits_for_idleness = self.policy.idle_after.is_some() && self.splits.iter().any(|split| !split.idle);
        if !self.ended && (moved || waits_for_idleness || self.policy.alignment.is_some()) {
            self.arm();
        }
        Ok(())
    }
}
