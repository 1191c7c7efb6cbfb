//! Where sliding windows and their panes begin and end.

use crate::window::TimeWindow;
use crate::window::assigner::{floor_to, since_multiple};

/// What is to be known of a pane for a record, until more windows have fired.
#[derive(Debug, Clone, Copy)]
pub(super) struct PaneEnds {
    /// The moments in it.
    pane: TimeWindow,
    passed: i64,
    /// The end of the last window that covers it.
    pub(super) last: i64,
    /// The end of the first window that covers it and has not fired.
    pub(super) next: Option<i64>,
}

impl PaneEnds {
    pub(super) fn start(&self) -> i64 {
        self.pane.start
    }
}

/// Where windows and panes begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    size: i64,
    slide: i64,
    offset: i64,
    pane: i64,
}

impl Grid {
    pub(super) fn new((size, slide, offset): (i64, i64, i64)) -> Self {
        let (mut pane, mut rest) = (size, slide);
        while rest != 0 {
            (pane, rest) = (rest, pane % rest);
        }
        Self {
            size,
            slide,
            offset,
            pane,
        }
    }

    /// From the start of a window to that of the next.
    pub(super) fn slide(&self) -> i64 {
        self.slide
    }

    /// The start of the pane of a moment.
    pub(super) fn pane_of(&self, time: i64) -> i64 {
        floor_to(time, self.pane, self.offset)
    }

    /// The pane of a moment, where all windows up to the end `passed` have fired. Mostly it is that of the record before, `known`.
    #[inline]
    pub(super) fn pane_ends(&self, time: i64, passed: i64, known: Option<PaneEnds>) -> PaneEnds {
        match known {
            Some(known) if known.pane.contains(time) && known.passed == passed => known,
            Some(_) | None => self.pane_ends_anew(time, passed),
        }
    }

    fn pane_ends_anew(&self, time: i64, passed: i64) -> PaneEnds {
        let start = self.pane_of(time);
        let end = start.saturating_add(self.pane);
        PaneEnds {
            pane: TimeWindow { start, end },
            passed,
            last: self.last_end(start),
            next: self.end_after(start, passed),
        }
    }

    /// The first moment whose pane is covered by a window that ends after this time; nothing if there is none before the end of time.
    pub(super) fn first_covered_after(&self, time: i64) -> Option<i64> {
        match time.checked_sub(self.size) {
            // The windows that begin up to there end in time.
            Some(start) if time < i64::MAX => {
                start.checked_add(self.slide - since_multiple(start, self.slide, self.offset))
            }
            Some(_end_of_time) => None,
            None => Some(i64::MIN),
        }
    }

    /// The end of the window after the one that ends there, where neither is cut off by the ends of time.
    pub(super) fn end_following(&self, end: i64) -> Option<i64> {
        let start = end.checked_sub(self.size)?;
        start.checked_sub(self.slide).and(end.checked_add(self.slide))
    }

    /// The end of the first window that covers a pane.
    pub(super) fn first_end(&self, pane: i64) -> i64 {
        // The latest start of a window that is over when the pane begins, and one slide more.
        let over = pane
            .saturating_add(self.pane)
            .saturating_sub(self.size)
            .saturating_sub(1);
        let first = floor_to(over, self.slide, self.offset)
            .saturating_add(self.slide)
            .saturating_add(self.size);
        // Where windows would begin before time does, the last one is the first.
        first.min(self.last_end(pane))
    }

    /// The end of the last window that covers a pane.
    pub(super) fn last_end(&self, pane: i64) -> i64 {
        floor_to(pane, self.slide, self.offset).saturating_add(self.size)
    }

    /// The end of the first window that covers a pane and ends after this time.
    pub(super) fn end_after(&self, pane: i64, time: i64) -> Option<i64> {
        let first = self.first_end(pane);
        let later =
            floor_to(time, self.slide, self.offset.saturating_add(self.size) % self.slide).saturating_add(self.slide);
        let end = first.max(later);
        // At the end of time ends no longer grow.
        (end > time && end <= self.last_end(pane)).then_some(end)
    }

    /// The window that ends there.
    pub(super) fn window(&self, end: i64) -> TimeWindow {
        TimeWindow {
            start: end.saturating_sub(self.size),
            end,
        }
    }

    /// The one multiple of the size within a window or at its end, where its panes are cut in two for partial sums. Windows
    /// have the same for as long as a window lasts.
    pub(super) fn boundary(&self, window: TimeWindow) -> i64 {
        floor_to(window.end, self.size, self.offset)
    }

    /// How many panes a window has.
    pub(super) fn panes_in_window(&self) -> i64 {
        self.size / self.pane
    }
}
