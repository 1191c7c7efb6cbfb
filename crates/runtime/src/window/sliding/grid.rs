//! Where sliding windows and their panes begin and end.

use crate::window::TimeWindow;
use crate::window::assigner::floor_to;

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
