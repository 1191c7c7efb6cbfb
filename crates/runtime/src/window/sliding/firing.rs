//! A time at which windows fire, in terms of panes: the same for all keys that are called then.

use streamd_core::state::State;

use super::grid::Grid;
use super::panes::Panes;

/// What a time means for the panes of the keys that are called at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Firing {
    /// The time: the last moment of the windows that end.
    pub(super) time: i64,
    /// Panes that start before are of no use any more; without it, all.
    pub(super) useful_from: Option<i64>,
    /// Panes that start before are in no window that ends later; without it, none is.
    open_from: Option<i64>,
    /// The end of the windows after those that end now, where both are within time.
    next_end: Option<i64>,
}

impl Firing {
    /// What this time means where windows take records for so many milliseconds after their end.
    pub(super) fn new(time: i64, grid: &Grid, allowed_ms: i64) -> Self {
        let end = time.saturating_add(1);
        let useful_from = match time.checked_sub(allowed_ms) {
            Some(_) if time == i64::MAX => None,
            Some(time) => grid.first_covered_after(time.saturating_add(1)),
            None => Some(i64::MIN),
        };
        Self {
            time,
            useful_from,
            open_from: grid.first_covered_after(end),
            next_end: grid.end_following(end),
        }
    }

    fn first_open<A: State>(&self, panes: &Panes<A>) -> Option<i64> {
        let from = self.open_from?;
        panes.starts().find(|start| *start >= from)
    }

    /// The end of the first window with anything in it that ends after those that end now.
    pub(super) fn end_after<A: State>(&self, panes: &Panes<A>, grid: &Grid) -> Option<i64> {
        let first = self.first_open(panes)?;
        match self.next_end {
            Some(next) if first < next => Some(next),
            Some(_) | None => grid.end_after(first, self.time.saturating_add(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times() -> impl Strategy<Value = i64> {
        let near = |time: i64| (-200i64..200).prop_map(move |by| time.saturating_add(by));
        prop_oneof![near(0), near(i64::MIN), near(i64::MAX)]
    }

    proptest! {
        #[test]
        fn what_holds_for_all_keys_holds_for_each_pane(
            time in times(), moments in proptest::collection::vec(times(), 1..5),
            slide in 1i64..40, more in 1i64..80, offset in -40i64..40, allowed in 0i64..50,
        ) {
            let grid = Grid::new((slide + more, slide, offset % slide));
            let firing = Firing::new(time, &grid, allowed);
            let mut panes = Panes::<u64>::new();
            for moment in moments {
                let start = grid.pane_of(moment);
                panes.pane_at(start);
                let last_moment = grid.last_end(start).saturating_sub(1).saturating_add(allowed);
                prop_assert_eq!(firing.useful_from.is_none_or(|from| start < from), last_moment <= time);
            }
            // Where it ends a window.
            let end = time.saturating_add(1);
            let ends_one = grid.end_after(grid.pane_of(time), time) == Some(end);
            if ends_one {
                let open = panes.starts().find(|start| grid.last_end(*start) > end);
                let expected = open.and_then(|start| grid.end_after(start, end));
                prop_assert_eq!(firing.end_after(&panes, &grid), expected);
            }
        }
    }
}
