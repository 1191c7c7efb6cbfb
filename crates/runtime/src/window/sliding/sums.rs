//! Partial sums of panes, so that a window is put together from two of them, however many panes it has.
//!
//! ```text
//!                    boundary, a multiple of the size: each window has one
//!                        │
//!   panes   │ a │ b │ c │ d │ e │ f │
//!   before   abc  bc   c │                   made once, from the boundary back
//!   after                │ d, then de, …     grows with each window
//!                        │
//!   windows  ├─── abc ───┤                   the first with this boundary
//!                ├── bc + d ─┤
//!                    ├── c + de ─┤           the last
//! ```
//!
//! Each pane is put into `before` once and into `after` once, so a window costs the same however many panes it has. Where the
//! boundary is depends on the window alone, and so does the order in which panes are put together: sums of fractions are
//! the same to the last bit before and after a restore.

use std::collections::VecDeque;
use std::mem;

use streamd_core::state::State;

use super::panes::{Pane, between};
use crate::window::TimeWindow;

/// Sums take at most so many times the bytes of their panes. Numbers, maxima and the like take as many as their panes; lists
/// and sets of many values, which grow with each pane, come to many times that.
const BYTES_TO_PANES: usize = 2;

/// Sums would take much more memory than their panes.
#[derive(Debug)]
pub(super) struct TooLarge;

/// Partial sums of the panes of a key, on both sides of a boundary.
#[derive(Debug, Clone)]
pub(super) struct Sums<A> {
    boundary: i64,
    /// For each pane before the boundary, its start and the sum from it to the boundary. The latest pane first.
    before: Vec<(i64, A)>,
    /// The sum from the boundary to `until`.
    after: Option<A>,
    until: i64,
    too_large: bool,
}

impl<A: State> Sums<A> {
    pub(super) fn new(boundary: i64) -> Self {
        Self {
            boundary,
            before: Vec::new(),
            after: None,
            until: boundary,
            too_large: false,
        }
    }

    /// The pane that starts there changes: forgets what it is in.
    #[inline]
    pub(super) fn forget(&mut self, start: i64) {
        if start < self.boundary {
            while self.before.last().is_some_and(|(from, _)| *from <= start) {
                self.before.pop();
            }
        } else if start < self.until {
            self.after = None;
            self.until = self.boundary;
        }
    }

    /// What is in a window that has this boundary.
    pub(super) fn window(
        &mut self,
        panes: &VecDeque<Pane<A>>,
        boundary: i64,
        window: TimeWindow,
        merge: &mut impl FnMut(&mut Option<A>, A),
    ) -> Result<Option<A>, TooLarge> {
        if boundary != self.boundary || self.until > window.end {
            *self = Self::new(boundary);
        }
        self.sum_before(panes, window.start, merge)?;
        for piece in between(panes, self.until, window.end).filter_map(|pane| pane.contents.clone()) {
            merge(&mut self.after, piece);
        }
        self.until = window.end;
        let mut contents = self.before.last().map(|(_, sum)| sum.clone());
        if let Some(after) = self.after.clone() {
            merge(&mut contents, after);
        }
        Ok(contents)
    }

    /// Has `before` end with the sum from `start` to the boundary.
    fn sum_before(
        &mut self,
        panes: &VecDeque<Pane<A>>,
        start: i64,
        merge: &mut impl FnMut(&mut Option<A>, A),
    ) -> Result<(), TooLarge> {
        if self.too_large {
            return Err(TooLarge);
        }
        while self.before.last().is_some_and(|(from, _)| *from < start) {
            self.before.pop();
        }
        let known_from = self.before.last().map_or(self.boundary, |(from, _)| *from);
        let unknown = between(panes, start, known_from).filter_map(|pane| Some((pane.start, pane.contents.as_ref()?)));
        let mut room = Room::of(unknown.clone().map(|(_, piece)| piece));
        for (from, piece) in unknown.rev() {
            let mut sum = Some(piece.clone());
            if let Some((_, later)) = self.before.last() {
                merge(&mut sum, later.clone());
            }
            let Some(sum) = sum else { continue };
            if !room.has(&sum) {
                *self = Self {
                    too_large: true,
                    ..Self::new(self.boundary)
                };
                return Err(TooLarge);
            }
            self.before.push((from, sum));
        }
        Ok(())
    }
}

/// The bytes that sums may take yet.
struct Room {
    bytes: usize,
    /// What is measured is written here.
    row: Vec<u8>,
}

impl Room {
    /// The room for sums of these.
    fn of<'a, A: State + 'a>(pieces: impl Iterator<Item = &'a A>) -> Self {
        let mut row = Vec::new();
        if mem::needs_drop::<A>() {
            pieces.for_each(|piece| piece.encode(&mut row));
        }
        Self {
            bytes: BYTES_TO_PANES * row.len(),
            row,
        }
    }

    /// Whether there is room for this sum too, which it takes. What owns no memory is never too large.
    fn has<A: State>(&mut self, sum: &A) -> bool {
        if !mem::needs_drop::<A>() {
            return true;
        }
        self.row.clear();
        sum.encode(&mut self.row);
        let left = self.bytes.checked_sub(self.row.len());
        self.bytes = left.unwrap_or(0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests;
