//! Scripts: savepoint, stop, drain, cancel with savepoint.

use streamd_core::graph::RestartStrategy;

use crate::script::{play, play_with};

const JOB: &str = "abababababababababababababababab";

#[test]
fn a_savepoint_commits_nothing_and_the_job_goes_on() {
    play(
        "
        >> up
        > savepoint 1
        to 1 2: savepoint 1 at s3://s/sp-1
        > ack 1 0/0
        assert operation 1 = 1 of 4
        > ack 1
        publish 1 at s3://s/sp-1
        assert operation 1 = 4 of 4
        > published 1
        operation 1 has s3://published/1
        assert state = RUNNING
        assert checkpoints = 0 completed, 0 failed, 0 in progress
        ",
    );
}

#[test]
fn the_same_request_twice_is_one_savepoint_and_is_answered_again() {
    play(
        "
        >> up; savepoint 1
        > savepoint 1
        >> done 1
        > savepoint 1
        operation 1 has s3://published/1
        assert operation 1 = s3://published/1
        assert operation 2 = unknown
        ",
    );
}

#[test]
fn a_stop_commits_its_savepoint_and_finishes() {
    play(
        "
        >> up; wait 1000; done 1
        > stop 1
        to 1 2: halting savepoint 2 at s3://s/sp-1
        > wait 3000
        > ack 2
        publish 2 at s3://s/sp-1
        > published 2
        to 1 2: complete 2
        to 1 2: finish
        assert operation 1 = 4 of 4
        > finished
        to 1: shutdown
        stop 1
        to 2: shutdown
        stop 2
        release slots
        RUNNING -> FINISHED
        operation 1 has s3://published/2
        discard s3://c/chk-1
        ",
    );
}

#[test]
fn a_stop_whose_savepoint_fails_leaves_the_job_as_it_was() {
    play(&format!(
        "
        >> up; stop 1
        > decline 1 1/0
        to 1 2: aborted 1
        discard s3://s/sp-1
        operation 1 failed: stop with savepoint of job {JOB} failed: savepoint `1` was declined by subtask `1/0`: \
disk full (0 of 4 subtasks had acknowledged) [SD-0509]
        assert state = RUNNING
        assert deadline = +1000
        > wait 1000
        to 1 2: checkpoint 2 at s3://c/chk-2
        "
    ));
}

#[test]
fn a_failure_after_a_committed_stop_names_the_savepoint_and_goes_on_from_it() {
    play(
        "
        >> up; wait 1000; done 1; stop 1; done 2; state 0/0 FINISHED
        > state 0/1 FAILED boom
        operation 1 failed: the savepoint `s3://published/2` is complete, but the job did not stop: boom [SD-0510]
        to 1 2: cancel attempt 1
        RUNNING -> RESTARTING: boom
        >> canceled; wait 500
        # sinks may have committed what the savepoint covers: starting from checkpoint 1 would commit it again
        > slots a:0 b:0
        to 1: deploy attempt 2 from 2 [0/0 1/0]
        to 2: deploy attempt 2 from 2 [0/1 1/1]
        >> running
        > wait 1000; done 3
        to 1 2: checkpoint 3 at s3://c/chk-3
        publish 3 at s3://c/chk-3
        to 1 2: complete 3
        discard s3://c/chk-1
        ",
    );
}

#[test]
fn a_failure_before_the_stop_is_published_fails_the_stop() {
    play(&format!(
        "
        >> up; stop 1; ack 1 0/0
        > state 0/1 FAILED boom
        operation 1 failed: stop with savepoint of job {JOB} failed: boom [SD-0509]
        to 1 2: cancel attempt 1
        RUNNING -> RESTARTING: boom
        > canceled
        discard s3://s/sp-1
        "
    ));
}

#[test]
fn a_stop_that_is_published_after_the_job_failed_names_the_savepoint_but_does_not_move_the_job() {
    play(
        "
        >> up; stop 1; ack 1; lost 1
        > published 1
        operation 1 failed: the savepoint `s3://published/1` is complete, but the job did not stop: the job was RESTARTING \
before it was told to finish [SD-0510]
        >> canceled; wait 500; slots b:0 b:1
        assert restored = none
        ",
    );
}

#[test]
fn a_drain_ends_the_input_before_its_savepoint() {
    play(
        "
        >> up
        > drain 1
        to 1 2: drain
        assert operation 1 = 0 of 4
        > wait 2000
        > end 0/0; end 0/1; end 1/0
        > end 1/1
        to 1 2: halting savepoint 1 at s3://s/sp-1
        > done 1
        publish 1 at s3://s/sp-1
        to 1 2: complete 1
        to 1 2: finish
        >> finished
        assert operation 1 = s3://published/1
        assert state = FINISHED
        ",
    );
}

#[test]
fn a_checkpoint_under_way_when_a_drain_begins_expires_in_its_time() {
    play_with(
        |spec| spec.options.checkpointing.tolerable_failed = 1,
        "
        >> up; wait 1000
        >> drain 1
        assert deadline = +5000
        >> wait 5000
        assert checkpoints = 0 completed, 1 failed, 0 in progress
        assert operation 1 = 0 of 4
        assert state = RUNNING
        ",
    );
}

#[test]
fn a_drain_whose_savepoint_fails_goes_back_to_the_last_checkpoint() {
    play(
        "
        >> up; wait 1000; done 1; drain 1; end
        >> decline 2 0/0
        assert state = RESTARTING
        assert operation 1 = SD-0509
        >> canceled; wait 500; slots a:0 b:0
        assert restored = 1
        ",
    );
}

#[test]
fn a_job_that_fails_while_it_drains_goes_on_as_before() {
    play(&format!(
        "
        >> up; drain 1
        > lost 1
        operation 1 failed: drain with savepoint of job {JOB} failed: killed [SD-0509]
        to 2: cancel attempt 1
        RUNNING -> RESTARTING: killed
        "
    ));
}

#[test]
fn a_cancellation_with_savepoint_commits_nothing() {
    play(
        "
        >> up
        > cancel-savepoint 1
        to 1 2: halting savepoint 1 at s3://s/sp-1
        > ack 1
        publish 1 at s3://s/sp-1
        > published 1
        to 1 2: cancel attempt 1
        RUNNING -> CANCELLING
        assert operation 1 = 4 of 4
        > canceled
        to 1: shutdown
        stop 1
        to 2: shutdown
        stop 2
        release slots
        CANCELLING -> CANCELED
        operation 1 has s3://published/1
        ",
    );
}

#[test]
fn a_cancellation_whose_savepoint_fails_does_not_cancel() {
    play(
        "
        >> up; cancel-savepoint 1; ack 1
        >> unpublished 1
        assert operation 1 = SD-0509
        assert state = RUNNING
        assert deadline = +1000
        ",
    );
}

#[test]
fn a_cancellation_whose_savepoint_is_published_after_the_job_failed_still_cancels() {
    play(
        "
        >> up; cancel-savepoint 1; ack 1; lost 1
        > published 1
        RESTARTING -> CANCELLING
        >> canceled
        assert state = CANCELED
        assert operation 1 = s3://published/1
        ",
    );
}

#[test]
fn a_cancel_ends_pending_savepoints() {
    play(&format!(
        "
        >> up; savepoint 1
        > cancel
        operation 1 failed: savepoint of job {JOB} failed: the job was cancelled [SD-0509]
        to 1 2: cancel attempt 1
        RUNNING -> CANCELLING
        "
    ));
}

#[test]
fn a_job_that_is_stopping_takes_no_other_operation() {
    play(
        "
        >> up; stop 1
        >> savepoint 2; stop 3; drain 4
        assert operation 2 = SD-0403
        assert operation 3 = SD-0403
        assert operation 4 = SD-0403
        >> done 1; savepoint 5
        assert operation 5 = SD-0403
        >> finished
        assert operation 1 = s3://published/1
        ",
    );
}

#[test]
fn a_savepoint_of_a_job_that_does_not_run_is_refused() {
    play(&format!(
        "
        >> start; slots a:0 b:0; registered 1; registered 2; state 0/0 RUNNING
        > savepoint 1
        operation 1 failed: job {JOB} is RUNNING, but only 1 of its 4 subtasks are [SD-0403]
        >> running; lost 1
        > savepoint 2
        operation 2 failed: job {JOB} is RESTARTING, and has completed no checkpoint [SD-0403]
        "
    ));
}

#[test]
fn without_checkpointing_there_are_no_savepoints() {
    for command in ["savepoint", "stop", "drain", "cancel-savepoint"] {
        play_with(
            |spec| spec.options.checkpointing.interval_ms = None,
            &format!(
                "
            >> up
            > {command} 1
            operation 1 failed: Checkpointing disabled. You can enable it via the execution environment of your job [SD-0507]
            assert state = RUNNING
            "
            ),
        );
    }
}

#[test]
fn without_a_directory_a_target_must_be_named() {
    play_with(
        |spec| spec.options.savepoint_directory = None,
        "
        >> up
        > savepoint 1
        operation 1 failed: no savepoint directory is named and none is configured [SD-0508]
        > savepoint 2 s3://mine
        to 1 2: savepoint 1 at s3://mine/sp-2
        ",
    );
}

#[test]
fn a_stop_of_a_job_whose_input_has_ended_replaces_its_last_checkpoint() {
    play(
        "
        >> up; end
        > stop 1
        to 1 2: halting savepoint 2 at s3://s/sp-1
        # the last checkpoint completes meanwhile: it is an ordinary one now
        > done 1
        publish 1 at s3://c/chk-1
        to 1 2: complete 1
        > done 2
        publish 2 at s3://s/sp-1
        to 1 2: complete 2
        to 1 2: finish
        >> finished
        assert operation 1 = s3://published/2
        ",
    );
}

#[test]
fn a_failed_stop_of_a_job_whose_input_has_ended_goes_back_to_the_last_checkpoint() {
    play(
        "
        >> up; end; stop 1; done 1
        > decline 2 0/0
        to 1 2: aborted 2
        discard s3://s/sp-1
        operation 1 failed: stop with savepoint of job abababababababababababababababab failed: savepoint `2` was declined by \
subtask `0/0`: disk full (0 of 4 subtasks had acknowledged) [SD-0509]
        to 1 2: checkpoint 3 at s3://c/chk-3
        ",
    );
}

#[test]
fn a_committed_stop_of_a_job_without_restarts_fails_with_its_own_code() {
    play_with(
        |spec| spec.options.restart_strategy = RestartStrategy::None,
        "
        >> up; stop 1; done 1; lost 1; canceled
        assert state = FAILED
        assert operation 1 = SD-0510
        ",
    );
}
