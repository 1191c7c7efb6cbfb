//! Random lives of a job on a model cluster: faults for a while, then none, and the job must come to its end with every
//! record seen exactly once. The onlooker checks every invariant after every event.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::model::{Life, Model, Sometimes};

/// How many steps a healed cluster may need to bring the job to its end.
const PATIENCE: usize = 20_000;

/// What every run must have seen, so that nobody believes in a test that looks away.
const MUST_HAPPEN: [&str; 32] = [
    "FINISHED",
    "CANCELED",
    "RESTARTING",
    "a checkpoint became a savepoint",
    "a checkpoint was to become a savepoint",
    "a claimed snapshot was deleted",
    "a drain was asked for",
    "a notification came twice",
    "a publication failed",
    "a publication's outcome was unknown",
    "a region restarted",
    "a region's restart became the job's",
    "a report came twice",
    "a savepoint was asked for",
    "a restart waited for a publication",
    "a snapshot expired",
    "a snapshot was subsumed or not published",
    "a stop was asked for",
    "a stop was left half way",
    "a subtask declined",
    "a subtask failed",
    "a task manager was drained",
    "a task manager was lost",
    "a worker died",
    "a zombie did its last work",
    "an acknowledgement came late",
    "an operation failed",
    "an operation's time was up",
    "an operation succeeded",
    "an operation was refused",
    "the job was restarted",
    "two attempts restored the same snapshot",
];

fn live(picks: &[u32]) -> Sometimes {
    let mut model = Model::new(match picks.len() % 4 {
        0 => Life::Claiming,
        1 => Life::Fresh,
        _ => Life::InRegions,
    });
    for pick in picks {
        if !model.is_over() {
            model.step(*pick, true);
        }
    }
    // Healed: a fixed, fair-enough order of moves.
    model.heal();
    let mut pick = 1u32;
    for _ in 0..PATIENCE {
        if model.is_over() {
            break;
        }
        pick = pick.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        model.step(pick >> 4, false);
    }
    model.check_end();
    model.sometimes
}

#[test]
fn whatever_happens_every_record_is_seen_once_and_the_job_ends() {
    let total = RefCell::new(Sometimes::new());
    let config = Config {
        cases: 2_000,
        failure_persistence: None,
        max_shrink_iters: 500,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let outcome = runner.run(&prop::collection::vec(any::<u32>(), 50..500), |picks| {
        for (what, count) in live(&picks) {
            *total.borrow_mut().entry(what).or_default() += count;
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let total = total.into_inner();
    let never: Vec<&str> = MUST_HAPPEN
        .into_iter()
        .filter(|what| !total.contains_key(what))
        .collect();
    assert!(never.is_empty(), "never happened: {never:?}; happened: {total:#?}");
}
