//! Scripts: a job moves off a task manager that is to be empty.

use streamd_core::graph::RestartStrategy;

use crate::script::{play, play_with};

#[test]
fn a_job_takes_a_checkpoint_and_goes_on_from_it_elsewhere() {
    play_with(
        // No failure: nothing is left for one.
        |spec| spec.options.restart_strategy = RestartStrategy::None,
        "
        >> up
        > evacuate a
        to 1 2: checkpoint 1 at s3://c/chk-1
        # asked twice, done once
        > evacuate a
        > ack 1
        publish 1 at s3://c/chk-1
        > published 1
        to 1 2: complete 1
        to 1 2: cancel attempt 1
        RUNNING -> RESTARTING
        > canceled
        RESTARTING -> RUNNING
        request 2 slots
        > slots b:0 c:0
        start 3 on c
        to 1: shutdown
        stop 1
        > registered 3
        to 2: deploy attempt 2 from 1 [0/1 1/1]
        to 3: deploy attempt 2 from 1 [0/0 1/0]
        >> running
        assert state = RUNNING
        assert failures =
        # it has moved
        > wait 999
        ",
    );
}

#[test]
fn a_checkpoint_that_is_under_way_serves_as_well() {
    play(
        "
        >> up; wait 1000; ack 1
        > evacuate a
        > published 1
        to 1 2: complete 1
        to 1 2: cancel attempt 1
        RUNNING -> RESTARTING
        ",
    );
}

#[test]
fn a_checkpoint_that_fails_is_taken_again_after_a_moment() {
    play_with(
        |spec| {
            spec.options.checkpointing.tolerable_failed = 5;
            spec.options.checkpointing.interval_ms = Some(100_000);
        },
        "
        >> up
        > evacuate b
        to 1 2: checkpoint 1 at s3://c/chk-1
        > decline 1 0/0
        to 1 2: aborted 1
        discard s3://c/chk-1
        assert deadline = +1000
        > wait 1000
        to 1 2: checkpoint 2 at s3://c/chk-2
        > ack 2
        publish 2 at s3://c/chk-2
        > published 2
        to 1 2: complete 2
        to 1 2: cancel attempt 1
        RUNNING -> RESTARTING
        ",
    );
}

#[test]
fn a_savepoint_under_way_is_waited_for() {
    play(
        "
        >> up; savepoint 1
        > evacuate a
        to 1 2: checkpoint 2 at s3://c/chk-2
        >> ack 2
        > published 2
        to 1 2: complete 2
        >> ack 1
        > published 1
        operation 1 has s3://published/1
        to 1 2: cancel attempt 1
        RUNNING -> RESTARTING
        ",
    );
}

#[test]
fn a_job_without_periodic_checkpoints_takes_one_to_move() {
    play_with(
        |spec| spec.options.checkpointing.interval_ms = None,
        "
        >> up
        > evacuate a
        to 1 2: checkpoint 1 at s3://c/chk-1
        >> ack 1
        > published 1
        to 1 2: complete 1
        to 1 2: cancel attempt 1
        RUNNING -> RESTARTING
        ",
    );
}

#[test]
fn a_job_that_has_no_place_for_checkpoints_or_does_not_run_there_stays() {
    play_with(
        |spec| spec.options.checkpoint_directory = None,
        "
        >> up
        > evacuate a
        ",
    );
    play(
        "
        >> up
        > evacuate z
        ",
    );
}

#[test]
fn a_failure_moves_the_job_just_as_well() {
    play(
        "
        >> up; evacuate a
        >> state 0/0 FAILED boom; canceled; wait 500; slots b:0 c:0; registered 3; running
        assert attempt = 2
        # nothing is left to be done
        > tick
        assert deadline = +1000
        ",
    );
}

#[test]
fn a_job_that_is_ending_ends_where_it_is() {
    play(
        "
        >> up; stop 1
        > evacuate a
        >> ack 1
        > published 1
        to 1 2: complete 1
        to 1 2: finish
        ",
    );
}
