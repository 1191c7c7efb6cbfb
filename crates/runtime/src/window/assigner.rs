//! Which windows a record is in.

use std::time::Duration;

use super::{DefaultTrigger, TimeWindow};

/// Which time windows are cut in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeDomain {
    /// The timestamps of the records; a window is over when the watermark says so.
    Event,
    /// The clock of the machine at the moment when a record is processed.
    Processing,
}

/// Which windows a record is in. Made by the types of this module that are called as in Flink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowAssigner {
    pub(super) domain: TimeDomain,
    pub(super) shape: Shape,
}

/// How time is cut; all lengths in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Sliding { size: i64, slide: i64, offset: i64 },
    Session { gap: i64 },
    Global,
}

impl WindowAssigner {
    /// Which time the windows are cut in.
    pub fn domain(&self) -> TimeDomain {
        self.domain
    }

    /// Whether a record without a timestamp has no window.
    pub(crate) fn needs_timestamps(&self) -> bool {
        self.domain == TimeDomain::Event && self.shape != Shape::Global
    }

    /// The trigger of windows that were given none.
    pub fn default_trigger(&self) -> DefaultTrigger {
        match (self.shape, self.domain) {
            (Shape::Global, _) => DefaultTrigger::Never,
            (_, TimeDomain::Event) => DefaultTrigger::EventTime,
            (_, TimeDomain::Processing) => DefaultTrigger::ProcessingTime,
        }
    }

    /// Whether windows that touch become one.
    pub fn is_merging(&self) -> bool {
        matches!(self.shape, Shape::Session { .. })
    }

    /// Size, slide and offset, if the windows overlap.
    pub(crate) fn overlapping(&self) -> Option<(i64, i64, i64)> {
        match self.shape {
            Shape::Sliding { size, slide, offset } if slide < size => Some((size, slide, offset)),
            Shape::Sliding { .. } | Shape::Session { .. } | Shape::Global => None,
        }
    }

    /// What is wrong with it, if anything.
    pub fn check(&self) -> Result<(), String> {
        let positive = |what: &str, millis: i64| match millis {
            NO_MILLIS => Err(format!("a window whose {what} is no whole number of milliseconds")),
            1.. => Ok(()),
            _less => Err(format!(
                "a window with a {what} of {millis} ms: at least 1 ms is needed"
            )),
        };
        match self.shape {
            Shape::Sliding { size, slide, offset } => {
                positive("size", size)?;
                positive("slide", slide)?;
                if offset.unsigned_abs() >= slide.unsigned_abs() {
                    return Err(format!(
                        "a window with an offset of {offset} ms: it must be shorter than the slide of {slide} ms"
                    ));
                }
                Ok(())
            }
            Shape::Session { gap } => positive("gap", gap),
            Shape::Global => Ok(()),
        }
    }

    /// Puts the windows of a record with this time into the list, the earliest first. The list has those of another record, or none.
    #[inline]
    pub(super) fn assign(&self, time: i64, windows: &mut Vec<TimeWindow>) {
        // Most records are of the window of the one before.
        if self.is_disjoint() && windows.first().is_some_and(|window| window.contains(time)) {
            return;
        }
        self.assign_anew(time, windows);
    }

    /// Whether no moment is in two windows.
    fn is_disjoint(&self) -> bool {
        match self.shape {
            Shape::Sliding { size, slide, .. } => size <= slide,
            Shape::Session { .. } => false,
            Shape::Global => true,
        }
    }

    fn assign_anew(&self, time: i64, windows: &mut Vec<TimeWindow>) {
        windows.clear();
        match self.shape {
            Shape::Sliding { size, slide, offset } => {
                let last = floor_to(time, slide, offset);
                let mut start = last;
                // Windows that would begin before time does are left out, but for one.
                while time.checked_sub(start).is_some_and(|since| since < size) {
                    windows.push(TimeWindow {
                        start,
                        end: start.saturating_add(size),
                    });
                    match start.checked_sub(slide) {
                        Some(earlier) => start = earlier,
                        None => break,
                    }
                }
                windows.reverse();
            }
            Shape::Session { gap } => windows.push(TimeWindow {
                start: time,
                end: time.saturating_add(gap),
            }),
            Shape::Global => windows.push(TimeWindow::GLOBAL),
        }
    }
}

/// The greatest multiple of `step`, counted from `offset`, that is not after `time`; the beginning of time at worst.
pub(super) fn floor_to(time: i64, step: i64, offset: i64) -> i64 {
    time.saturating_sub(since_multiple(time, step, offset))
}

/// How far such a multiple is in the past: less than `step`.
pub(super) fn since_multiple(time: i64, step: i64, offset: i64) -> i64 {
    match time.checked_sub(offset) {
        Some(since) => since.rem_euclid(step),
        // Only at the ends of time, since it takes ten times as long. Between 0 and `step`, which is an i64.
        None => (i128::from(time) - i128::from(offset)).rem_euclid(i128::from(step)) as i64,
    }
}

/// What stands for a length that is no whole number of milliseconds, until it is refused.
const NO_MILLIS: i64 = i64::MIN;

fn millis(duration: Duration) -> i64 {
    match i64::try_from(duration.as_millis()) {
        Ok(_) if !duration.subsec_nanos().is_multiple_of(1_000_000) => NO_MILLIS,
        Ok(millis) => millis,
        Err(_) => i64::MAX,
    }
}

macro_rules! windows {
    ($($(#[$doc:meta])* $name:ident { $domain:ident, ($($length:ident: $what:literal),+) => $shape:expr })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl $name {
            #[doc = concat!("Windows with ", $($what, " "),+)]
            #[expect(clippy::new_ret_no_self, reason = "Flink's way to make them: `of`")]
            #[allow(clippy::new_ret_no_self, unfulfilled_lint_expectations)]
            pub fn of($($length: Duration),+) -> WindowAssigner {
                $(let $length = millis($length);)+
                WindowAssigner { domain: TimeDomain::$domain, shape: $shape }
            }
        }
    )+};
}

windows! {
    /// Windows of event time that follow each other without gap or overlap, beginning with the epoch.
    TumblingEventTimeWindows { Event, (size: "a size") => Shape::Sliding { size, slide: size, offset: 0 } }
    /// Windows of processing time that follow each other without gap or overlap.
    TumblingProcessingTimeWindows { Processing, (size: "a size") => Shape::Sliding { size, slide: size, offset: 0 } }
    /// Windows of event time of one size, one beginning every `slide`.
    SlidingEventTimeWindows { Event, (size: "a size", slide: "and a slide") => Shape::Sliding { size, slide, offset: 0 } }
    /// Windows of processing time of one size, one beginning every `slide`.
    SlidingProcessingTimeWindows { Processing, (size: "a size", slide: "and a slide") => Shape::Sliding { size, slide, offset: 0 } }
    /// Windows of event time that end when nothing has come for a while.
    EventTimeSessionWindows { Event, (gap: "a gap") => Shape::Session { gap } }
    /// Windows of processing time that end when nothing has come for a while.
    ProcessingTimeSessionWindows { Processing, (gap: "a gap") => Shape::Session { gap } }
}

impl WindowAssigner {
    /// The same windows, moved: with a size of a day and an offset of -8 hours, days begin at midnight in China. Sessions and global
    /// windows have no place to begin, and stay as they are.
    #[must_use]
    pub fn with_offset_ms(self, offset: i64) -> Self {
        let shape = match self.shape {
            Shape::Sliding { size, slide, .. } => Shape::Sliding { size, slide, offset },
            shape @ (Shape::Session { .. } | Shape::Global) => shape,
        };
        Self { shape, ..self }
    }
}

/// One window for all records of a key, which never ends by itself: only a trigger of the application's choice makes it fire.
#[derive(Debug, Clone, Copy)]
pub struct GlobalWindows;

impl GlobalWindows {
    /// The global window.
    pub fn create() -> WindowAssigner {
        WindowAssigner {
            domain: TimeDomain::Event,
            shape: Shape::Global,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sliding(size: i64, slide: i64, offset: i64) -> WindowAssigner {
        WindowAssigner {
            domain: TimeDomain::Event,
            shape: Shape::Sliding { size, slide, offset },
        }
    }

    proptest! {
        #[test]
        fn a_record_is_in_every_window_that_covers_its_time(
            before in -1000i64..1000, time in -1000i64..1000, size in 1i64..60, slide in 1i64..60, offset in -60i64..60,
        ) {
            let offset = offset % slide;
            let mut windows = Vec::new();
            let assigner = sliding(size, slide, offset);
            assigner.assign(before, &mut windows);
            assigner.assign(time, &mut windows);
            let all: Vec<_> = (-1100i64..1100)
                .filter(|start| (start - offset).rem_euclid(slide) == 0 && *start <= time && time < start + size)
                .map(|start| TimeWindow { start, end: start + size })
                .collect();
            prop_assert_eq!(windows, all);
        }

        #[test]
        fn no_time_is_too_extreme(
            time in prop_oneof![Just(i64::MIN), Just(i64::MIN + 1), Just(i64::MAX), Just(i64::MAX - 1), any::<i64>()],
            size in 1i64..1000, slide in 500i64..1000,
        ) {
            let mut windows = Vec::new();
            sliding(size, slide, 7).assign(time, &mut windows);
            prop_assert!(windows.len() <= 2 && windows.iter().all(|window| window.start <= time));
            EventTimeSessionWindows::of(Duration::MAX).assign(time, &mut windows);
            prop_assert!(windows[0].end >= time);
        }
    }

    #[test]
    fn windows_without_length_are_refused() {
        assert!(TumblingEventTimeWindows::of(Duration::ZERO).check().is_err());
        assert!(
            SlidingEventTimeWindows::of(Duration::from_secs(1), Duration::ZERO)
                .check()
                .is_err()
        );
        assert!(EventTimeSessionWindows::of(Duration::from_micros(1)).check().is_err());
        assert!(sliding(10, 10, 10).check().is_err());
        assert!(sliding(-5, 10, 0).check().is_err());
        assert!(sliding(10, 5, -4).check().is_ok());
    }
}
