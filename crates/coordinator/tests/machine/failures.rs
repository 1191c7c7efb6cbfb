//! Scripts: failures, restarts, and what they begin from.

use streamd_core::graph::{ExternalizedCheckpointRetention, RestartStrategy};

use crate::bench::restore_point;
use crate::script::{play, play_with, reach};

#[test]
fn a_failed_subtask_restarts_the_whole_job_on_the_same_workers() {
    play(
        "
        >> up; wait 1000; done 1; wait 1000
        > state 0/1 FAILED boom
        to 1 2: cancel attempt 1
        RUNNING -> RESTARTING: boom
        # failures of an attempt that is being dropped are part of the first
        > state 1/1 FAILED too
        > canceled
        discard s3://c/chk-2
        assert deadline = +500
        > wait 500
        RESTARTING -> RUNNING
        request 2 slots
        > slots a:0 b:0
        to 1: deploy attempt 2 from 1 [0/0 1/0]
        to 2: deploy attempt 2 from 1 [0/1 1/1]
        assert restarts = 1
        assert failures = boom
        >> running
        > wait 1000
        to 1 2: checkpoint 3 at s3://c/chk-3
        ",
    );
}

#[test]
fn the_last_sixteen_failures_are_remembered() {
    let lives = (0..20).map(|n| format!("state 0/0 FAILED {n}; canceled; slots a:0 b:0; running"));
    let bench = reach(
        |spec| {
            spec.options.restart_strategy = RestartStrategy::FixedDelay {
                attempts: 100,
                delay_ms: 0,
            }
        },
        &format!("up; {}", lives.collect::<Vec<_>>().join("; ")),
    );
    let failures = bench.machine.failures().map(|it| it.failure.message.parse().unwrap());
    assert_eq!(failures.collect::<Vec<u32>>(), Vec::from_iter(4..20));
}

#[test]
fn a_lost_worker_is_replaced_and_the_others_stay() {
    play(
        "
        >> up
        > lost 1
        to 2: cancel attempt 1
        RUNNING -> RESTARTING: killed
        > lost 1
        > canceled
        > wait 500
        RESTARTING -> RUNNING
        request 2 slots
        > slots b:0 c:0
        start 3 on c
        > registered 3
        # what stays keeps its subtasks, and what they have left on its disk
        to 2: deploy attempt 2 [0/1 1/1]
        to 3: deploy attempt 2 [0/0 1/0]
        ",
    );
}

#[test]
fn a_worker_whose_task_manager_offers_no_slot_any_more_is_stopped() {
    play(
        "
        >> up; state 0/0 FAILED boom; canceled; wait 500
        > slots c:0 c:1
        start 3 on c
        to 1: shutdown
        stop 1
        to 2: shutdown
        stop 2
        ",
    );
}

#[test]
fn a_lost_task_manager_takes_its_workers_along() {
    play(
        "
        >> up
        > lost-tm a
        to 2: cancel attempt 1
        RUNNING -> RESTARTING: task manager `a` is lost, and `worker-1` with it
        > lost-tm z
        assert workers = 2
        ",
    );
}

#[test]
fn a_failure_before_the_first_own_checkpoint_restores_what_the_job_started_from() {
    play_with(
        |spec| spec.restore = Some(restore_point(7, [1, 2])),
        "
        >> start; slots a:0 a:1; registered 1
        # RS20, RS43: again and again, before and after the subtasks run
        > lost 1
        RUNNING -> RESTARTING: killed
        >> wait 500; slots a:0 a:1
        > registered 2
        to 2: deploy attempt 2 from 7 [0/0 1/0] [0/1 1/1]
        >> running; wait 1000; lost 2; wait 500; slots a:0 a:1
        > registered 3
        to 3: deploy attempt 3 from 7 [0/0 1/0] [0/1 1/1]
        >> running; wait 1000; done 9; lost 3; wait 500; slots a:0 a:1
        > registered 4
        to 4: deploy attempt 4 from 9 [0/0 1/0] [0/1 1/1]
        ",
    );
}

#[test]
fn when_no_restart_is_left_the_job_fails() {
    play_with(
        |spec| {
            spec.options.restart_strategy = RestartStrategy::FixedDelay {
                attempts: 1,
                delay_ms: 0,
            }
        },
        "
        >> up
        >> state 0/0 FAILED first; canceled; tick; slots a:0 b:0; running
        assert attempt = 2
        > state 0/0 FAILED second
        to 1 2: cancel attempt 2
        RUNNING -> FAILING: Recovery is suppressed by FixedDelayRestartBackoffTimeStrategy(maxNumberRestartAttempts=1, \
backoffTimeMS=0): second
        > canceled
        to 1: shutdown
        stop 1
        to 2: shutdown
        stop 2
        release slots
        FAILING -> FAILED: Recovery is suppressed by FixedDelayRestartBackoffTimeStrategy(maxNumberRestartAttempts=1, \
backoffTimeMS=0): second
        > lost 1; slots a:0; start; cancel; tick; savepoint 1
        assert state = FAILED
        ",
    );
}

#[test]
fn a_job_that_finds_no_slots_fails_its_attempt_and_asks_again() {
    play(
        "
        >> start
        assert deadline = +60000
        > wait 60000
        RUNNING -> RESTARTING: NoResourceAvailable: could not acquire the minimum required resources: 2 slots were not free \
within 60000 ms
        > slots a:0 b:0
        > wait 500
        RESTARTING -> RUNNING
        request 2 slots
        ",
    );
}

#[test]
fn a_worker_that_does_not_come_up_is_stopped_and_the_attempt_fails() {
    play(
        "
        >> start; slots a:0 b:0; registered 1
        > wait 30000
        stop 2
        RUNNING -> RESTARTING: workers `worker-2` did not register within 30000 ms
        >> wait 500
        > slots a:0 b:0
        start 3 on b
        ",
    );
}

#[test]
fn a_worker_lost_between_attempts_is_no_failure() {
    play(
        "
        >> up; state 0/0 FAILED boom; canceled
        > lost 1
        >> wait 500
        > lost 2
        assert failures = boom
        > slots a:0 b:0
        start 3 on a
        start 4 on b
        ",
    );
}

#[test]
fn a_subtask_that_stops_without_being_told_has_failed() {
    for state in ["FINISHED", "CANCELED"] {
        play(&format!(
            "
        >> up
        > state 0/0 {state}
        to 1 2: cancel attempt 1
        RUNNING -> RESTARTING: subtask `0/0` is {state} without being told to
        "
        ));
    }
}

#[test]
fn the_next_attempt_waits_for_the_outcome_of_a_publication() {
    play(
        "
        >> up; wait 1000; done 1; wait 1000; ack 2; lost 1; canceled
        > wait 500
        assert state = RESTARTING
        assert deadline = none
        > published 2
        discard s3://c/chk-1
        RESTARTING -> RUNNING
        request 2 slots
        assert restored = 2
        ",
    );
}

#[test]
fn a_publication_that_fails_after_the_attempt_counts_towards_nothing() {
    play(
        "
        >> up; wait 1000; ack 1; lost 1; canceled; wait 500
        > unpublished 1
        discard s3://c/chk-1
        RESTARTING -> RUNNING
        request 2 slots
        assert restored = none
        assert failures = killed
        ",
    );
}

#[test]
fn a_failing_job_can_be_cancelled() {
    play_with(
        |spec| spec.options.restart_strategy = RestartStrategy::None,
        "
        >> up; state 0/0 FAILED boom
        > cancel
        FAILING -> CANCELLING
        >> canceled
        assert state = CANCELED
        ",
    );
}

#[test]
fn a_restarting_job_can_be_cancelled_at_any_moment() {
    for moment in [
        "lost 1",
        "lost 1; canceled",
        "lost 1; canceled; wait 500",
        "lost 1; canceled; wait 500; slots a:0 b:0",
    ] {
        play(&format!(
            "
        >> up; {moment}; cancel; canceled
        assert state = CANCELED
        assert workers = {}
        ",
            ""
        ));
    }
}

/// RS52.
#[test]
fn output_that_is_lost_ends_the_job_whatever_its_strategy_and_nothing_is_deleted() {
    let lost = "sink `results` failed: output is lost: the ledger has given up `tx-1`";
    ends_for_good(
        "up; wait 1000; done 1",
        &format!("lost 0/1 FAILED {lost}"),
        1,
        &format!("Recovery is suppressed, no attempt could commit what is lost: {lost}"),
    );
}

#[test]
fn a_damaged_snapshot_is_not_read_again_and_nothing_is_deleted() {
    let damaged = "the state of operator `sum` cannot be restored [SD-0502]: `s3://c/chk-1/x` is corrupt";
    ends_for_good(
        "up; wait 1000; done 1; state 0/1 FAILED boom; canceled; wait 500; slots a:0 b:0",
        &format!("damaged 0/1 FAILED {damaged}"),
        2,
        &format!("Recovery is suppressed, it would read the same snapshot: {damaged}"),
    );
}

/// After `before`, this failure in this attempt ends the job at once, with `told`, and its checkpoints stay though none is to be kept.
fn ends_for_good(before: &str, failure: &str, attempt: u32, told: &str) {
    play_with(
        |spec| spec.options.checkpointing.retention = ExternalizedCheckpointRetention::NoExternalizedCheckpoints,
        &format!(
            "
            >> {before}
            > {failure}
            to 1 2: cancel attempt {attempt}
            RUNNING -> FAILING: {told}
            > canceled
            to 1: shutdown
            stop 1
            to 2: shutdown
            stop 2
            release slots
            FAILING -> FAILED: {told}
            "
        ),
    );
}
