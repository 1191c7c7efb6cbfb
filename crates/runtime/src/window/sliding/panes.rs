//! The panes of a key, as they lie in memory and in snapshots.

use std::collections::VecDeque;

use streamd_core::row::{DataType, RowError, RowReader};
use streamd_core::state::State;
use streamd_prefetch::prefetch;
use streamd_state::Timed;

use super::grid::Grid;
use super::sums::Sums;
use crate::window::TimeWindow;
use crate::window::time_window::field;

/// The panes of a key.
#[derive(Debug, Clone)]
pub(super) struct Panes<A> {
    /// The end of the next window that fires.
    pub(super) next_end: Option<i64>,
    /// By start.
    panes: VecDeque<Pane<A>>,
    /// Made from the panes when a window fires. Not in snapshots.
    sums: Option<Box<Sums<A>>>,
}

/// A piece of all windows that cover it.
#[derive(Debug, Clone)]
pub(super) struct Pane<A> {
    pub(super) start: i64,
    pub(super) contents: Option<A>,
}

impl<A: State> Panes<A> {
    /// From so many panes in a window on, sums take less work than they make.
    const SUMMED_FROM: i64 = 9;

    pub(super) fn new() -> Self {
        Self {
            next_end: None,
            panes: VecDeque::new(),
            sums: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    /// The contents of the pane that starts there, to be added to, and whether the pane is new.
    #[inline]
    pub(super) fn pane_at(&mut self, start: i64) -> (&mut Option<A>, bool) {
        if let Some(sums) = &mut self.sums {
            sums.forget(start);
        }
        // Most records are of the latest pane.
        let before = self.panes.iter().rposition(|pane| pane.start <= start);
        let known = before.filter(|position| self.panes[*position].start == start);
        let position = known.unwrap_or_else(|| {
            let position = before.map_or(0, |before| before + 1);
            self.panes.insert(position, Pane { start, contents: None });
            position
        });
        (&mut self.panes[position].contents, known.is_none())
    }

    /// What is in a window. Takes the less work, the more windows were asked for in their order.
    pub(super) fn next_window(
        &mut self,
        grid: &Grid,
        window: TimeWindow,
        mut merge: impl FnMut(&mut Option<A>, A),
    ) -> Option<A> {
        if grid.panes_in_window() < Self::SUMMED_FROM {
            return self.window(window, merge);
        }
        let boundary = grid.boundary(window);
        let sums = self.sums.get_or_insert_with(|| Box::new(Sums::new(boundary)));
        match sums.window(&self.panes, boundary, window, &mut merge) {
            Ok(contents) => contents,
            Err(_too_large) => self.window(window, merge),
        }
    }

    /// What is in a window: its panes put together, oldest first.
    pub(super) fn window(&self, window: TimeWindow, mut merge: impl FnMut(&mut Option<A>, A)) -> Option<A> {
        let mut contents = None;
        for piece in between(&self.panes, window.start, window.end).filter_map(|pane| pane.contents.clone()) {
            merge(&mut contents, piece);
        }
        contents
    }

    /// Forgets the panes that start before this; all if there is no such time.
    pub(super) fn forget_before(&mut self, start: Option<i64>) {
        while self
            .panes
            .front()
            .is_some_and(|pane| start.is_none_or(|start| pane.start < start))
        {
            self.panes.pop_front();
        }
    }

    /// When the panes start.
    pub(super) fn starts(&self) -> impl Iterator<Item = i64> {
        self.panes.iter().map(|pane| pane.start)
    }
}

/// The panes that start between the two.
#[inline]
pub(super) fn between<A>(
    panes: &VecDeque<Pane<A>>,
    start: i64,
    end: i64,
) -> impl DoubleEndedIterator<Item = &Pane<A>> + Clone {
    let first = panes.partition_point(|pane| pane.start < start);
    let end = panes.partition_point(|pane| pane.start < end);
    panes.range(first..end.max(first))
}

impl<A: State> State for Pane<A> {
    fn data_type() -> DataType {
        DataType::Struct {
            name: "Pane".to_owned(),
            fields: vec![field::<i64>("start"), field::<Option<A>>("contents")],
        }
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.start.encode(row);
        self.contents.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            start: i64::decode(row)?,
            contents: Option::decode(row)?,
        })
    }

    fn describe_evolution(evolution: &mut streamd_core::evolution::Evolution) {
        A::describe_evolution(evolution);
    }
}

/// The end of the next window that fires.
pub(super) const NEXT_END: usize = 0;
/// The start of a pane.
pub(super) const PANE: usize = 1;

impl<A: State> Timed for Panes<A> {
    const KINDS: usize = 2;

    fn moments(&self, visit: &mut dyn FnMut(usize, i64)) {
        self.next_end.iter().for_each(|end| visit(NEXT_END, *end));
        self.panes.iter().for_each(|pane| visit(PANE, pane.start));
    }
}

impl<A: State> State for Panes<A> {
    fn data_type() -> DataType {
        DataType::Struct {
            name: "Panes".to_owned(),
            fields: vec![field::<Option<i64>>("next_end"), field::<VecDeque<Pane<A>>>("panes")],
        }
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.next_end.encode(row);
        self.panes.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            next_end: Option::decode(row)?,
            panes: VecDeque::decode(row)?,
            sums: None,
        })
    }

    #[inline]
    fn prefetch(&self) {
        if let Some(latest) = self.panes.back() {
            prefetch(latest);
        }
    }

    fn describe_evolution(evolution: &mut streamd_core::evolution::Evolution) {
        A::describe_evolution(evolution);
    }
}
