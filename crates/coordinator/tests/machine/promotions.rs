//! Scripts: savepoints of jobs that do not run, snapshots that jobs take over, operations with a time of their own.

use streamd_core::graph::{CheckpointingMode, ClaimMode, ExternalizedCheckpointRetention, RestartStrategy};

use crate::bench::restore_point;
use crate::script::{play, play_with};

const JOB: &str = "abababababababababababababababab";

#[test]
fn a_savepoint_of_a_restarting_job_is_made_of_its_last_checkpoint_without_subtasks() {
    play(
        "
        >> up; wait 1000; done 1; lost 1
        assert state = RESTARTING
        > savepoint 1
        promote 1 to s3://s/sp-1 within 5000
        > promoted 1
        operation 1 has s3://promoted/1
        # the job is none the worse
        >> canceled; wait 500; slots b:0 b:1; running
        assert state = RUNNING
        assert restored = 1
        ",
    );
}

#[test]
fn a_checkpoint_that_becomes_a_savepoint_stays_until_it_has() {
    play(
        "
        >> up; wait 1000; done 1; lost 1; savepoint 1; canceled; wait 500; slots b:0 b:1; registered 3; running; wait 1000
        > done 2
        publish 2 at s3://c/chk-2
        to 2: complete 2
        > promoted 1
        operation 1 has s3://promoted/1
        discard s3://c/chk-1
        ",
    );
}

#[test]
fn a_failing_job_fails_for_good_only_after_its_savepoint_is_made() {
    play_with(
        |spec| spec.options.restart_strategy = RestartStrategy::None,
        "
        >> up; wait 1000; done 1; state 0/0 FAILED boom
        assert state = FAILING
        > savepoint 1
        promote 1 to s3://s/sp-1 within 5000
        > canceled
        assert state = FAILING
        > promoted 1
        operation 1 has s3://promoted/1
        to 1: shutdown
        stop 1
        to 2: shutdown
        stop 2
        release slots
        FAILING -> FAILED: Recovery is suppressed by NoRestartBackoffTimeStrategy: boom
        discard s3://c/chk-1
        ",
    );
}

#[test]
fn a_savepoint_that_cannot_be_made_of_a_checkpoint_leaves_nothing_and_touches_no_job() {
    play(&format!(
        "
        >> up; wait 1000; done 1; lost 1; savepoint 1; savepoint 2
        > unpromoted 1
        operation 1 failed: savepoint of job {JOB} failed: checkpoint `1` was not made a savepoint: store says no [SD-0509]
        discard s3://s/sp-1
        > unpromoted 2 unknown
        operation 2 failed: savepoint of job {JOB} failed: checkpoint `1` was not made a savepoint: store says no [SD-0409]
        assert state = RESTARTING
        assert restarts = 0
        "
    ));
}

#[test]
fn a_stop_needs_the_subtasks_that_commit() {
    play(&format!(
        "
        >> up; wait 1000; done 1; lost 1
        > stop 1
        operation 1 failed: job {JOB} is RESTARTING: nobody can commit its output [SD-0403]
        > drain 2
        operation 2 failed: job {JOB} is RESTARTING: nobody can commit its output [SD-0403]
        "
    ));
}

#[test]
fn a_restarting_job_is_cancelled_with_its_last_checkpoint_as_savepoint_and_never_runs_again() {
    play(&format!(
        "
        >> up; wait 1000; done 1; lost 1
        > cancel-savepoint 1
        promote 1 to s3://s/sp-1 within 5000
        > cancel-savepoint 2
        operation 2 failed: job {JOB} is being stopped by operation 01010101010101010101010101010101 [SD-0403]
        # Another attempt could commit what the savepoint does not cover.
        > canceled
        > wait 500
        > wait 60000
        assert state = RESTARTING
        > promoted 1
        RESTARTING -> CANCELLING
        to 2: shutdown
        stop 2
        release slots
        CANCELLING -> CANCELED
        operation 1 has s3://promoted/1
        discard s3://c/chk-1
        "
    ));
}

#[test]
fn a_cancellation_whose_copy_fails_lets_the_job_restart() {
    play(&format!(
        "
        >> up; wait 1000; done 1; lost 1; cancel-savepoint 1; canceled; wait 500
        > unpromoted 1
        operation 1 failed: cancellation with savepoint of job {JOB} failed: checkpoint `1` was not made a savepoint: store says \
no [SD-0509]
        discard s3://s/sp-1
        RESTARTING -> RUNNING
        request 2 slots
        >> slots b:0 b:1; running
        assert restored = 1
        assert state = RUNNING
        "
    ));
}

#[test]
fn a_job_that_comes_up_while_it_is_copied_takes_no_checkpoint_and_goes_on_if_the_copy_fails() {
    let running =
        "up; wait 1000; done 1; lost-tm a; lost 2; wait 500; cancel-savepoint 1; slots b:0 b:1; registered 3; running";
    play(&format!(
        "
        >> {running}
        assert state = RUNNING
        > wait 3000
        >> unpromoted 1
        assert operation 1 = SD-0509
        assert deadline = +1000
        "
    ));
    play(&format!(
        "
        >> {running}; promoted 1; canceled
        assert state = CANCELED
        assert operation 1 = s3://promoted/1
        "
    ));
}

#[test]
fn a_failing_job_that_is_cancelled_with_a_savepoint_is_cancelled() {
    play_with(
        |spec| spec.options.restart_strategy = RestartStrategy::None,
        "
        >> up; wait 1000; done 1; state 0/0 FAILED boom; cancel-savepoint 1; promoted 1; canceled
        assert state = CANCELED
        ",
    );
    play_with(
        |spec| spec.options.restart_strategy = RestartStrategy::None,
        "
        >> up; wait 1000; done 1; state 0/0 FAILED boom; cancel-savepoint 1; canceled; unpromoted 1
        assert state = FAILED
        ",
    );
}

#[test]
fn a_job_without_a_checkpoint_is_not_cancelled_with_one() {
    play(&format!(
        "
        >> up; lost 1
        > cancel-savepoint 1
        operation 1 failed: job {JOB} is RESTARTING, and has completed no checkpoint [SD-0403]
        "
    ));
}

#[test]
fn a_job_that_restarts_and_waits_for_slots_gives_a_savepoint_too() {
    play(
        "
        >> up; wait 1000; done 1; lost-tm a; lost 2; wait 500
        assert state = RUNNING
        > savepoint 1
        promote 1 to s3://s/sp-1 within 5000
        ",
    );
}

#[test]
fn a_job_that_never_completed_a_checkpoint_gives_the_savepoint_that_it_started_from() {
    play_with(
        |spec| spec.restore = Some(restore_point(7, [3, 4])),
        "
        >> up; lost 1
        > savepoint 1
        promote 7 to s3://s/sp-1 within 5000
        ",
    );
}

#[test]
fn a_savepoint_that_was_given_less_time_is_given_up_sooner_and_the_job_goes_on() {
    play(&format!(
        "
        >> up; savepoint 1 within 300; savepoint 2
        assert deadline = +300
        > wait 300
        to 1 2: aborted 1
        discard s3://s/sp-1
        operation 1 failed: savepoint of job {JOB} failed: savepoint `1` expired before all subtasks acknowledged it (0 of 4 \
subtasks had acknowledged) [SD-0411]
        assert operation 2 = 0 of 4
        assert state = RUNNING
        "
    ));
}

#[test]
fn a_stop_whose_time_is_up_leaves_the_job_running() {
    play(
        "
        >> up; stop 1 within 300
        >> wait 300
        assert operation 1 = SD-0411
        assert state = RUNNING
        assert deadline = +1000
        ",
    );
}

#[test]
fn a_drain_whose_time_is_up_goes_back_to_the_last_checkpoint() {
    play(
        "
        >> up; wait 1000; done 1; drain 1 within 300
        assert deadline = +300
        >> wait 300
        assert operation 1 = SD-0411
        assert state = RESTARTING
        >> canceled; wait 500; slots a:0 b:0
        assert restored = 1
        ",
    );
}

#[test]
fn a_snapshot_of_the_users_is_never_deleted() {
    play_with(
        |spec| spec.restore = Some(restore_point(7, [3, 4])),
        "
        >> up; wait 1000; done 8; wait 1000
        > done 9
        publish 9 at s3://c/chk-9
        to 1 2: complete 9
        discard s3://c/chk-8
        ",
    );
}

#[test]
fn a_claimed_snapshot_is_deleted_as_soon_as_it_is_subsumed() {
    play_with(
        |spec| {
            spec.restore = Some(restore_point(7, [3, 4]));
            spec.options.claim_mode = ClaimMode::Claim;
        },
        "
        >> up
        assert last checkpoint = 7
        >> wait 1000; ack 8
        > published 8
        to 1 2: complete 8
        discard claimed s3://old/sp
        ",
    );
}

#[test]
fn a_claimed_snapshot_counts_as_one_that_is_retained() {
    play_with(
        |spec| {
            spec.restore = Some(restore_point(7, [3, 4]));
            spec.options.claim_mode = ClaimMode::Claim;
            spec.options.checkpointing.num_retained = 2;
        },
        "
        >> up; wait 1000; done 8; wait 1000
        > done 9
        publish 9 at s3://c/chk-9
        to 1 2: complete 9
        discard claimed s3://old/sp
        ",
    );
}

#[test]
fn a_claimed_snapshot_goes_or_stays_with_its_job_as_a_checkpoint_does() {
    for (retention, last) in [
        (
            ExternalizedCheckpointRetention::NoExternalizedCheckpoints,
            "discard claimed s3://old/sp",
        ),
        (ExternalizedCheckpointRetention::RetainOnCancellation, ""),
    ] {
        play_with(
            |spec| {
                spec.restore = Some(restore_point(7, [3, 4]));
                spec.options.claim_mode = ClaimMode::Claim;
                spec.options.checkpointing.retention = retention;
            },
            &format!(
                "
            >> up; cancel
            > canceled
            to 1: shutdown
            stop 1
            to 2: shutdown
            stop 2
            release slots
            CANCELLING -> CANCELED
            {last}
            "
            ),
        );
    }
}

#[test]
fn barriers_of_a_job_that_counts_at_least_once_hold_nothing_back() {
    for (mode, aligned) in [
        (CheckpointingMode::AtLeastOnce, false),
        (CheckpointingMode::ExactlyOnce, true),
    ] {
        let mut bench = crate::script::reach(|spec| spec.options.checkpointing.mode = mode, "up");
        bench.now += 1_000;
        let actions = bench.event(streamd_coordinator::event::Event::Tick);
        let found = actions.iter().find_map(|action| match action {
            streamd_coordinator::action::Action::Send {
                command: streamd_core::protocol::WorkerCommand::TriggerCheckpoint { barrier, .. },
                ..
            } => Some(barrier.options.aligned),
            _ => None,
        });
        assert_eq!(found, Some(aligned), "{mode:?}");
    }
}

#[test]
fn no_checkpoint_builds_upon_a_snapshot_that_another_job_wrote() {
    let claim = |spec: &mut streamd_coordinator::event::JobSpec| {
        spec.restore = Some(restore_point(7, [3, 4]));
        spec.options.claim_mode = ClaimMode::Claim;
        spec.options.checkpointing.incremental = true;
    };
    for (events, expected) in [
        ("up", streamd_core::barrier::Increment::First),
        (
            "up; wait 1000; done 8",
            streamd_core::barrier::Increment::Since(streamd_core::id::CheckpointId(8)),
        ),
    ] {
        let mut bench = crate::script::reach(claim, events);
        bench.now += 1_000;
        let actions = bench.event(streamd_coordinator::event::Event::Tick);
        let found = actions.iter().find_map(|action| match action {
            streamd_coordinator::action::Action::Send {
                command: streamd_core::protocol::WorkerCommand::TriggerCheckpoint { barrier, .. },
                ..
            } => Some(barrier.options.increment),
            _ => None,
        });
        assert_eq!(found, Some(expected), "{events}");
    }
}
