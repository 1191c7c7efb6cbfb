//! Everything that can happen to a small job, tried out: a model checker takes the real machine through every order of events.
//!
//! Two subtasks read a split each and commit in two phases; there are checkpoints, a savepoint, a worker that dies, messages
//! that are lost, come twice or late, a store that lies about what it did, and an election: a second leader goes on from what
//! is published while the first, which knows nothing of it, still acts.
//!
//! ```text
//!   World (what is where) ──actions──▶ moves (what may happen next) ──▶ World'
//!     └── leaders: JobMachine + Audit      └── sabotage: one promise of the surroundings is broken
//! ```
//!
//! A model that finds nothing proves nothing by itself, so each promise that the machine relies on is broken in turn, and
//! the checker has to find out.

#[path = "../machine/bench.rs"]
#[allow(dead_code, reason = "the scripts need more of the bench than the model")]
mod bench;

mod moves;
mod outside;
mod world;

use stateright::{Checker, HasDiscoveries, Model};

use crate::moves::{JobModel, Sabotage};
use crate::world::Budget;

/// Explores one budget to its end. `must_happen` keeps anybody from believing in a model that looks away.
fn holds(budget: Budget, must_happen: &[&str]) {
    let checker = JobModel::new(budget, Sabotage::Nothing)
        .checker()
        .threads(2)
        .spawn_bfs()
        .join();
    println!(
        "{budget:?}: {} states, {} of them different, {} moves deep",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    if let Some(path) = checker.discovery(moves::HOLDS) {
        panic!("{}", explain(&path));
    }
    let seen = checker.model().seen();
    let never: Vec<_> = must_happen.iter().filter(|what| !seen.contains(*what)).collect();
    assert!(never.is_empty(), "never happened: {never:?}; happened: {seen:?}");
}

#[test]
fn two_checkpoints_an_election_and_a_store_that_lies_break_no_invariant() {
    let budget = Budget {
        ticks: 2,
        records: 1,
        elections: 1,
        lies: 1,
        ..Budget::default()
    };
    holds(
        budget,
        &[
            "a checkpoint is complete",
            "a second leader restores a checkpoint",
            "a second leader completes a checkpoint",
            "a stale leader is refused",
            "an outcome is unknown",
            "an attempt restores what another had prepared",
        ],
    );
}

#[test]
fn a_checkpoint_a_savepoint_and_messages_lost_and_doubled_break_no_invariant() {
    let budget = Budget {
        ticks: 1,
        records: 1,
        savepoints: 1,
        losses: 1,
        doubles: 1,
        ..Budget::default()
    };
    holds(
        budget,
        &[
            "a checkpoint is complete",
            "a savepoint is complete",
            "an acknowledgement comes twice",
            "an acknowledgement is lost",
        ],
    );
}

#[test]
fn two_checkpoints_and_a_savepoint_break_no_invariant() {
    let budget = Budget {
        ticks: 2,
        savepoints: 1,
        ..Budget::default()
    };
    holds(budget, &["a checkpoint is complete", "a savepoint is complete"]);
}

#[test]
fn a_worker_that_dies_between_two_checkpoints_breaks_no_invariant() {
    let budget = Budget {
        ticks: 2,
        records: 1,
        crashes: 1,
        ..Budget::default()
    };
    holds(
        budget,
        &[
            "a checkpoint is complete",
            "an attempt restores what another had prepared",
        ],
    );
}

#[test]
fn checkpoints_that_expire_while_messages_are_late_break_no_invariant() {
    let budget = Budget {
        ticks: 3,
        records: 1,
        ..Budget::default()
    };
    holds(budget, &["a checkpoint is complete", "a snapshot is given up"]);
}

#[test]
fn a_worker_that_dies_and_an_election_break_no_invariant() {
    let budget = Budget {
        ticks: 1,
        records: 2,
        crashes: 1,
        elections: 1,
        ..Budget::default()
    };
    holds(
        budget,
        &[
            "a checkpoint is complete",
            "a second leader restores a checkpoint",
            "an attempt restores what another had prepared",
        ],
    );
}

/// The checker has to find what follows from a broken promise, and to call it by this invariant.
fn is_found(sabotage: Sabotage, ticks: u8, invariants: &[&str]) {
    let budget = Budget {
        ticks,
        records: 1,
        elections: 1,
        ..Budget::default()
    };
    let checker = JobModel::new(budget, sabotage)
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let path = checker.discovery(moves::HOLDS).expect("what is broken is found");
    let told = explain(&path);
    println!("{sabotage:?} is found after {} states: {told}", checker.state_count());
    assert!(invariants.iter().any(|name| told.starts_with(name)), "{told}");
}

#[test]
fn a_store_that_lets_a_stale_leader_overwrite_is_found() {
    is_found(Sabotage::StoreTakesStaleEpochs, 2, &["I6", "I11"]);
}

#[test]
fn a_completion_that_is_told_before_the_publication_is_found() {
    is_found(Sabotage::AnswersBeforeWriting, 1, &["I1", "I2"]);
}

#[test]
fn an_acknowledgement_that_counts_for_two_subtasks_is_found() {
    is_found(Sabotage::CountsAcknowledgementsTwice, 1, &["I3"]);
}

#[test]
fn a_sink_that_commits_before_its_checkpoint_is_complete_is_found() {
    is_found(Sabotage::CommitsAtTheBarrier, 1, &["I2"]);
}

#[test]
fn a_store_that_forgets_what_it_acknowledged_is_found() {
    is_found(Sabotage::ForgetsWhatItAcknowledged, 1, &["I1", "I2"]);
}

fn explain(path: &stateright::Path<world::World, moves::Move>) -> String {
    let world = path.last_state();
    let moves: Vec<String> = path
        .clone()
        .into_actions()
        .iter()
        .map(|step| format!("  {step:?}"))
        .collect();
    let violation = world.violation.clone().unwrap_or_default();
    format!("{violation}\n{}", moves.join("\n"))
}
