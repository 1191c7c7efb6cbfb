//! Where event time comes from: who says what time a record has, and how far the time of a stream has come.

use std::sync::Arc;
use std::time::Duration;

use streamd_core::time::{Clock, EventTime, MonotonicTime, WallTime, Watermark};
use streamd_exchange::Batch;

use crate::alarm::Alarm;
use crate::chain::{OpenContext, Operator, OperatorIdentity};
use crate::error::TaskError;
use crate::record::Record;

/// While records come without a pause, how often watermarks are sent, in milliseconds. When there is nothing to read for a moment
/// one is sent at once. Flink's default.
const AUTO_WATERMARK_INTERVAL_MS: i64 = 200;

/// Watches the timestamps of a stream and says how far its time has come. Flink's noun.
pub trait WatermarkGenerator<T>: Clone + Send + 'static {
    /// A record has passed. May answer with a watermark that is sent at once, behind the record: for streams in which records
    /// themselves say how far the time has come.
    fn on_event(&mut self, record: &T, timestamp: EventTime) -> Option<EventTime>;

    /// How far the time has come; [`EventTime::MIN`] while nothing is known. Asked now and then. One that is lower than the last changes
    /// nothing.
    fn on_periodic_emit(&mut self) -> EventTime;
}

/// Records come at most so much later than records with a higher timestamp.
#[derive(Debug, Clone)]
pub struct BoundedOutOfOrderness {
    latest: EventTime,
    bound_ms: i64,
}

impl BoundedOutOfOrderness {
    /// With this bound, in milliseconds; 0: timestamps never fall.
    pub fn new(bound_ms: i64) -> Self {
        Self {
            latest: EventTime::MIN,
            bound_ms,
        }
    }
}

impl<T> WatermarkGenerator<T> for BoundedOutOfOrderness {
    #[inline]
    fn on_event(&mut self, _record: &T, timestamp: EventTime) -> Option<EventTime> {
        self.latest = self.latest.max(timestamp);
        None
    }

    fn on_periodic_emit(&mut self) -> EventTime {
        match self.latest {
            EventTime::MIN => EventTime::MIN,
            latest => latest.plus(-self.bound_ms.saturating_add(1)),
        }
    }
}

/// Says nothing: a stream whose records have timestamps, and whose time ends with its input.
#[derive(Debug, Clone)]
pub struct NoWatermarks;

impl<T> WatermarkGenerator<T> for NoWatermarks {
    fn on_event(&mut self, _record: &T, _timestamp: EventTime) -> Option<EventTime> {
        None
    }

    fn on_periodic_emit(&mut self) -> EventTime {
        EventTime::MIN
    }
}

/// Gives records their timestamps, and the stream its watermarks. What came with the stream before is replaced, up to its end.
pub struct TimestampsAndWatermarks<A, G> {
    assign: A,
    generator: G,
    idle_after: Option<Duration>,
    clock: Option<Arc<dyn Clock>>,
    alarm: Alarm,
    /// What the consumers were told last.
    told: EventTime,
    /// A watermark that a record has set off.
    punctuated: EventTime,
    /// Whether it is time to tell them more.
    due: bool,
    /// Whether records have passed since the alarm last went off.
    moved: bool,
    armed: bool,
    idleness: Idleness,
    last_record: MonotonicTime,
}

/// Whether the stream is idle, and whether the consumers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Idleness {
    Active,
    BecameIdle,
    Idle,
    BecameActive,
}

impl<A, G> TimestampsAndWatermarks<A, G> {
    /// `assign` takes a record's timestamp from it and from the timestamp that it had. Without a record for as long as
    /// `idle_after` the stream counts as idle.
    pub fn new(assign: A, generator: G, idle_after: Option<Duration>) -> Self {
        Self {
            assign,
            generator,
            idle_after,
            clock: None,
            alarm: Alarm::default(),
            told: EventTime::MIN,
            punctuated: EventTime::MIN,
            due: false,
            moved: false,
            armed: false,
            idleness: Idleness::Active,
            last_record: MonotonicTime(0),
        }
    }

    fn arm(&mut self) {
        if let Some(clock) = &self.clock
            && !self.armed
        {
            self.armed = true;
            self.alarm
                .set(WallTime(clock.wall().0.saturating_add(AUTO_WATERMARK_INTERVAL_MS)));
        }
    }
}

impl<T, A, G> Operator<T, T> for TimestampsAndWatermarks<A, G>
where
    T: Record,
    A: FnMut(&T, EventTime) -> EventTime + Send + 'static,
    G: WatermarkGenerator<T>,
{
    fn open(&mut self, _identity: &OperatorIdentity, context: &mut OpenContext) -> Result<(), TaskError> {
        self.alarm = context.alarm.clone();
        self.last_record = context.clock.monotonic();
        self.clock = Some(Arc::clone(&context.clock));
        if self.idle_after.is_some() {
            self.arm();
        }
        Ok(())
    }

    fn process(&mut self, input: &mut Batch<T>, output: &mut Batch<T>) -> Result<(), TaskError> {
        if input.is_empty() {
            return Ok(());
        }
        input.assign_timestamps(&mut self.assign);
        for (record, timestamp) in input.records().iter().zip(input.timestamps()) {
            if let Some(watermark) = self.generator.on_event(record, *timestamp) {
                self.punctuated = self.punctuated.max(watermark);
                self.due = true;
            }
        }
        self.moved = true;
        if matches!(self.idleness, Idleness::Idle | Idleness::BecameIdle) {
            self.idleness = Idleness::BecameActive;
        }
        self.arm();
        std::mem::swap(input, output);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.due |= self.moved;
        Ok(())
    }

    fn forward(&mut self, watermark: Watermark) -> Option<Watermark> {
        // The end of time is the same for everybody.
        let ended = watermark == Watermark::Time(EventTime::MAX) && self.told < EventTime::MAX;
        if ended {
            self.told = EventTime::MAX;
        }
        ended.then_some(watermark)
    }

    fn own_watermark(&mut self) -> Option<Watermark> {
        match self.idleness {
            Idleness::BecameIdle => {
                self.idleness = Idleness::Idle;
                return Some(Watermark::Idle);
            }
            Idleness::BecameActive => {
                self.idleness = Idleness::Active;
                return Some(Watermark::Active);
            }
            Idleness::Active | Idleness::Idle => {}
        }
        if !std::mem::take(&mut self.due) {
            return None;
        }
        let watermark = self.generator.on_periodic_emit().max(self.punctuated);
        if watermark <= self.told {
            return None;
        }
        self.told = watermark;
        Some(Watermark::Time(watermark))
    }

    fn processing_time(&mut self, _now: WallTime, _output: &mut Batch<T>) -> Result<(), TaskError> {
        self.armed = false;
        self.due = true;
        let Some(now) = self.clock.as_ref().map(|clock| clock.monotonic()) else {
            return Ok(());
        };
        if std::mem::take(&mut self.moved) {
            self.last_record = now;
            self.arm();
        } else if let Some(idle_after) = self.idle_after {
            let silent = Duration::from_millis(now.since(self.last_record));
            if self.idleness == Idleness::Active && silent >= idle_after {
                self.idleness = Idleness::BecameIdle;
            }
            if self.idleness == Idleness::Active {
                self.arm();
            }
        }
        Ok(())
    }
}
