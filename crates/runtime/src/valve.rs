//! The event time of a subtask: the least of what its channels say, without those that say nothing for now.
//!
//! ```text
//!   channel 0  ──r──w7──r──▶
//!   channel 1  ──r──w5──r──▶    the subtask's time is 5: nothing up to 5 comes any more, from anywhere
//!   channel 2  ──idle─────▶     is not waited for
//! ```
//!
//! A channel may run ahead of the others, when its producer is faster: what it brings then has to be kept until the others have come as
//! far. The valve says which one has brought enough of that, to be read after the others.
//!
//! Pure: told of watermarks, answers with what to tell the operators. Flink calls it the status watermark valve.

use streamd_core::time::{EventTime, Watermark};

use crate::record::BATCH_RECORDS;

/// How many records a channel brings beyond the subtask's time before others are preferred: some batches, about as many as come between two
/// watermarks, so that the state of what waits for the time stays in the cache.
const RECORDS_AHEAD: u64 = 4 * BATCH_RECORDS as u64;

/// The watermarks of all channels of one subtask.
#[derive(Debug, Clone)]
pub struct WatermarkValve {
    channels: Vec<Channel>,
    /// What the operators were told last. It never falls.
    told: EventTime,
    idle: bool,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    time: EventTime,
    idle: bool,
    /// Whether it holds the others back: a channel that was idle catches up first.
    counts: bool,
    /// A time that it has come past while the subtask may not have.
    mark: EventTime,
    /// The records it has brought since then.
    beyond: u64,
}

impl WatermarkValve {
    /// For a subtask with this many channels.
    pub fn new(channels: usize) -> Self {
        let mut valve = Self {
            channels: Vec::new(),
            told: EventTime::MIN,
            idle: false,
        };
        (0..channels).for_each(|_| valve.add_channel());
        valve
    }

    /// One channel more. It holds the others back, unless all are idle.
    pub fn add_channel(&mut self) {
        self.channels.push(Channel {
            time: EventTime::MIN,
            idle: self.idle,
            counts: !self.idle,
            mark: EventTime::MIN,
            beyond: 0,
        });
    }

    /// A channel brings so many records.
    pub fn on_records(&mut self, channel: usize, count: u32) {
        self.channels[channel].beyond += u64::from(count);
    }

    /// Whether a channel has brought many records beyond the subtask's time, at most twice [`RECORDS_AHEAD`]: the channels that hold the
    /// time back should be read first. Not before all have said something of the time: some never do.
    pub fn is_ahead(&mut self, channel: usize) -> bool {
        let state = &mut self.channels[channel];
        if state.mark <= self.told || self.told == EventTime::MIN {
            state.mark = state.time;
            state.beyond = 0;
        }
        state.beyond >= RECORDS_AHEAD
    }

    /// A channel says something of its time. Answers what the operators are to be told, in order.
    pub fn on_watermark(&mut self, channel: usize, watermark: Watermark) -> Vec<Watermark> {
        match watermark {
            Watermark::Time(time) => self.on_time(channel, time),
            Watermark::Idle => self.on_idle(channel),
            Watermark::Active => self.on_active(channel),
        }
    }

    fn on_time(&mut self, channel: usize, time: EventTime) -> Vec<Watermark> {
        let mut tell = self.on_active(channel);
        let told = self.told;
        let state = &mut self.channels[channel];
        state.time = state.time.max(time);
        state.counts |= state.time >= told;
        tell.extend(self.advance());
        tell
    }

    fn on_idle(&mut self, channel: usize) -> Vec<Watermark> {
        if std::mem::replace(&mut self.channels[channel].idle, true) {
            return Vec::new();
        }
        self.channels[channel].counts = false;
        if !self.channels.iter().all(|channel| channel.idle) {
            return self.advance().into_iter().collect();
        }
        // Nobody holds anybody back any more: what the furthest has said holds for all.
        let furthest = self.channels.iter().map(|channel| channel.time).max();
        let furthest = furthest.unwrap_or(EventTime::MIN);
        self.idle = true;
        self.raise(furthest).into_iter().chain([Watermark::Idle]).collect()
    }

    fn on_active(&mut self, channel: usize) -> Vec<Watermark> {
        if !std::mem::replace(&mut self.channels[channel].idle, false) {
            return Vec::new();
        }
        let told = self.told;
        let state = &mut self.channels[channel];
        state.counts = state.time >= told;
        if std::mem::replace(&mut self.idle, false) {
            vec![Watermark::Active]
        } else {
            Vec::new()
        }
    }

    fn advance(&mut self) -> Option<Watermark> {
        let counting = self.channels.iter().filter(|channel| channel.counts);
        let least = counting.map(|channel| channel.time).min()?;
        self.raise(least)
    }

    fn raise(&mut self, time: EventTime) -> Option<Watermark> {
        if time <= self.told {
            return None;
        }
        self.told = time;
        Some(Watermark::Time(time))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(millis: i64) -> Watermark {
        Watermark::Time(EventTime(millis))
    }

    #[test]
    fn the_slowest_channel_sets_the_time() {
        let mut valve = WatermarkValve::new(2);
        assert_eq!(valve.on_watermark(0, time(7)), []);
        assert_eq!(valve.on_watermark(1, time(5)), [time(5)]);
        assert_eq!(valve.on_watermark(1, time(9)), [time(7)]);
        assert_eq!(
            valve.on_watermark(1, time(8)),
            [],
            "a watermark that falls means nothing"
        );
        assert_eq!(valve.on_watermark(0, Watermark::Time(EventTime::MAX)), [time(9)]);
    }

    #[test]
    fn a_channel_is_ahead_once_it_has_brought_many_records_that_the_others_time_is_short_of() {
        let mut valve = WatermarkValve::new(2);
        let many = u32::try_from(RECORDS_AHEAD).unwrap();
        valve.on_watermark(0, time(10));
        valve.on_records(0, many);
        assert!(!valve.is_ahead(0), "channel 1 may never say what time it is");
        valve.on_watermark(1, time(5));
        assert!(!valve.is_ahead(0), "what came before is not counted");
        valve.on_records(0, many - 1);
        assert!(!valve.is_ahead(0));
        valve.on_watermark(0, time(20));
        valve.on_records(0, 1);
        assert!(valve.is_ahead(0));
        valve.on_records(1, many);
        assert!(!valve.is_ahead(1), "whoever holds the time back is behind");

        valve.on_watermark(1, time(9));
        assert!(valve.is_ahead(0));
        valve.on_watermark(1, time(10));
        assert!(
            !valve.is_ahead(0),
            "those up to 10 are due now; the others are counted from 20 on"
        );
        valve.on_records(0, many);
        assert!(valve.is_ahead(0));
        valve.on_watermark(1, Watermark::Idle);
        assert!(!valve.is_ahead(0), "nobody waits for an idle channel");
    }

    #[test]
    fn an_idle_channel_is_not_waited_for_and_catches_up_before_it_counts_again() {
        let mut valve = WatermarkValve::new(2);
        assert_eq!(valve.on_watermark(0, time(10)), []);
        assert_eq!(valve.on_watermark(1, Watermark::Idle), [time(10)]);
        assert_eq!(valve.on_watermark(1, Watermark::Active), []);
        assert_eq!(
            valve.on_watermark(1, time(3)),
            [],
            "behind the others, it holds nobody back"
        );
        assert_eq!(valve.on_watermark(0, time(12)), [time(12)]);
        assert_eq!(valve.on_watermark(1, time(12)), []);
        assert_eq!(valve.on_watermark(0, time(20)), [], "it has caught up, and counts");
        assert_eq!(valve.on_watermark(1, time(15)), [time(15)]);
    }

    #[test]
    fn a_subtask_is_idle_when_all_its_channels_are() {
        let mut valve = WatermarkValve::new(2);
        assert_eq!(valve.on_watermark(0, time(4)), []);
        assert_eq!(valve.on_watermark(0, Watermark::Idle), []);
        assert_eq!(valve.on_watermark(1, Watermark::Idle), [time(4), Watermark::Idle]);
        assert_eq!(valve.on_watermark(1, Watermark::Idle), []);
        assert_eq!(valve.on_watermark(0, time(6)), [Watermark::Active, time(6)]);
    }

    fn said() -> impl Strategy<Value = Vec<(usize, Watermark)>> {
        let watermark = prop_oneof![
            4 => (-50i64..50).prop_map(time),
            1 => Just(Watermark::Idle),
            1 => Just(Watermark::Active),
        ];
        prop::collection::vec((0usize..3, watermark), 0..80)
    }

    proptest! {
        #[test]
        fn the_time_never_falls_nor_passes_a_channel_that_was_never_idle(said in said()) {
            let mut valve = WatermarkValve::new(3);
            let mut told = EventTime::MIN;
            let mut never_idle = [Some(EventTime::MIN); 3];
            for (channel, watermark) in said {
                match (watermark, &mut never_idle[channel]) {
                    (Watermark::Time(time), Some(known)) => *known = time.max(*known),
                    (Watermark::Idle, known) => *known = None,
                    (Watermark::Active, _) | (Watermark::Time(_), None) => {}
                }
                for answer in valve.on_watermark(channel, watermark) {
                    if let Watermark::Time(time) = answer {
                        prop_assert!(time > told);
                        told = time;
                    }
                }
                for known in never_idle.iter().flatten() {
                    prop_assert!(told <= *known);
                }
            }
        }
    }
}
