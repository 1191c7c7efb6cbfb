use proptest::prelude::*;
use streamd_core::state::{State, from_row, to_row};

use crate::window::sliding::grid::Grid;
use crate::window::sliding::panes::Panes;

#[derive(Debug, Clone)]
enum Step {
    /// Something comes into a pane so long before or after the end of the last window.
    Add(i64),
    /// The next window is asked for.
    Fire,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![3 => (-60i64..30).prop_map(Step::Add), 2 => Just(Step::Fire)];
    prop::collection::vec(step, 0..200)
}

fn grids() -> impl Strategy<Value = Grid> {
    (9i64..50, 1i64..8).prop_map(|(size, slide)| Grid::new((size, slide, 0)))
}

/// Neither the order nor the grouping may change without changing the result.
fn grouped(to: &mut Option<u64>, piece: u64) {
    *to = Some(to.map_or(piece, |sum| {
        sum.wrapping_mul(31)
            .wrapping_add(piece.wrapping_mul(17))
            .wrapping_add(1)
    }));
}

fn joined(to: &mut Option<String>, piece: String) {
    to.get_or_insert_default().push_str(&piece);
}

/// Takes the steps, and hands each window that is asked for to `check`, with the panes as they are before.
fn run<A: State>(
    grid: Grid,
    steps: &[Step],
    piece: impl Fn(usize) -> A,
    mut check: impl FnMut(&mut Panes<A>, crate::window::TimeWindow),
    mut merge: impl FnMut(&mut Option<A>, A),
) {
    let mut panes = Panes::new();
    let mut now = 0;
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Add(since) => {
                let pane = grid.pane_of(now + since);
                if grid.last_end(pane) > now {
                    merge(panes.pane_at(pane).0, piece(number));
                }
            }
            Step::Fire => {
                let open = panes.starts().find(|start| grid.last_end(*start) > now);
                let Some(end) = open.and_then(|start| grid.end_after(start, now)) else {
                    continue;
                };
                check(&mut panes, grid.window(end));
                now = end;
                panes.forget_before(grid.first_covered_after(now));
            }
        }
    }
}

proptest! {
    #[test]
    fn a_window_is_the_same_to_the_last_bit_whatever_was_asked_before(grid in grids(), steps in steps()) {
        let check = |panes: &mut Panes<u64>, window| {
            let mut restored: Panes<u64> = from_row(&to_row(panes)).unwrap();
            let expected = restored.next_window(&grid, window, grouped);
            assert_eq!(panes.next_window(&grid, window, grouped), expected);
        };
        run(grid, &steps, |number| number as u64 + 1, check, grouped);
    }

    #[test]
    fn a_window_is_its_panes_oldest_first(grid in grids(), steps in steps()) {
        let check = |panes: &mut Panes<String>, window| {
            let expected = panes.window(window, joined);
            assert_eq!(panes.next_window(&grid, window, joined), expected);
        };
        run(grid, &steps, |number| format!("{number},"), check, joined);
    }
}

/// How many pieces are merged for a window, with so many panes in each and something in each pane.
fn merges_per_window<A: State>(panes_in_window: i64, piece: A, mut merge: impl FnMut(&mut Option<A>, A)) -> f64 {
    let grid = Grid::new((panes_in_window, 1, 0));
    let mut panes = Panes::new();
    let mut merges = 0_u32;
    let windows = 4 * panes_in_window;
    for end in 1..=windows {
        *panes.pane_at(end - 1).0 = Some(piece.clone());
        panes.next_window(&grid, grid.window(end), |to, piece| {
            merges += 1;
            merge(to, piece);
        });
        panes.forget_before(grid.first_covered_after(end));
    }
    f64::from(merges) / windows as f64
}

#[test]
fn the_work_of_a_window_does_not_grow_with_its_panes() {
    let longest = |to: &mut Option<String>, piece: String| {
        if to.as_ref().is_none_or(|longest| longest.len() < piece.len()) {
            *to = Some(piece);
        }
    };
    for panes in [10, 100, 1_000] {
        assert!(merges_per_window(panes, 1, grouped) < 3.0, "{panes} panes of numbers");
        assert!(
            merges_per_window(panes, "a text".to_owned(), longest) < 3.0,
            "{panes} panes of texts"
        );
    }
}

#[test]
fn sums_that_would_take_much_more_than_their_panes_are_not_kept() {
    // Lists: the panes are put together for each window.
    let merges = merges_per_window(100, vec![1_u64], |to, mut piece| {
        to.get_or_insert_default().append(&mut piece);
    });
    assert!(merges > 50.0, "{merges}");
}
