//! Scripts: when checkpoints are taken, completed, given up and kept. The names are those of Flink's own scenarios.

use streamd_core::graph::ExternalizedCheckpointRetention;

use crate::script::{play, play_with};

#[test]
fn a_checkpoint_is_triggered_collected_published_and_notified() {
    play(
        "
        >> up
        > wait 999
        > wait 1
        to 1 2: checkpoint 1 at s3://c/chk-1
        assert checkpoints = 0 completed, 0 failed, 1 in progress
        > ack 1 0/0; ack 1 0/1; ack 1 1/0
        > ack 1 1/1
        publish 1 at s3://c/chk-1
        > published 1
        to 1 2: complete 1
        assert checkpoints = 1 completed, 0 failed, 0 in progress
        assert last checkpoint = 1
        > wait 1000; done 2
        to 1 2: checkpoint 2 at s3://c/chk-2
        publish 2 at s3://c/chk-2
        to 1 2: complete 2
        discard s3://c/chk-1
        ",
    );
}

#[test]
fn duplicate_late_and_unknown_acknowledgements_change_nothing() {
    play(
        "
        >> up; wait 1000
        > ack 1 0/0; ack 1 0/0; ack 9 0/0
        assert checkpoints = 0 completed, 0 failed, 1 in progress
        >> done 1
        > ack 1 0/0; published 1; decline 1 0/0
        assert checkpoints = 1 completed, 0 failed, 0 in progress
        ",
    );
}

#[test]
fn a_late_acknowledgement_of_a_given_up_checkpoint_has_its_files_deleted() {
    play_with(
        |spec| spec.options.checkpointing.tolerable_failed = 9,
        "
        >> up; wait 1000; decline 1 0/0
        > ack 1 1/1
        discard s3://c/chk-1
        ",
    );
}

/// Its file may come into the folder after this was deleted, and whoever wrote it can tell nobody any more.
#[test]
fn what_a_dying_subtask_writes_into_a_checkpoint_that_was_given_up_is_deleted_with_its_attempt() {
    play_with(
        |spec| spec.options.checkpointing.tolerable_failed = 9,
        "
        >> up; wait 1000; decline 1 0/0; ack 1 0/1; ack 1 1/0; ack 1 1/1; wait 1000; decline 2 0/0; ack 2 1/1
        # of checkpoint 1 everybody has been heard
        >> lost 1
        > canceled
        discard s3://c/chk-2
        >> wait 500; slots a:0 b:0
        # and that is the end of it
        > lost 2; canceled
        RUNNING -> RESTARTING: killed
        ",
    );
}

/// Its subtask is gone, but not the thread that writes: the worker goes on, and so does the job, in its next attempt.
#[test]
fn what_comes_into_a_checkpoint_of_an_attempt_that_is_over_is_deleted() {
    play(
        "
        >> up; wait 1000; state 0/0 FAILED boom
        > canceled
        discard s3://c/chk-1
        >> wait 500; slots a:0 b:0; running
        > old-ack 1 1/1
        discard s3://c/chk-1
        > old-ack 1 1/1
        ",
    );
}

#[test]
fn words_of_an_older_attempt_are_ignored() {
    play(
        "
        >> up; wait 1000; state 0/0 FAILED boom; canceled; wait 500; slots a:0 b:0; running; wait 1000
        > old-ack 2 0/0; old-ack 2 0/1; old-ack 2 1/0; old-ack 2 1/1
        assert checkpoints = 0 completed, 1 failed, 1 in progress
        ",
    );
}

#[test]
fn a_decline_ends_the_checkpoint_and_beyond_tolerance_the_attempt() {
    play(
        "
        >> up; wait 1000
        > decline 1 0/0
        to 1 2: aborted 1
        discard s3://c/chk-1
        to 1 2: cancel attempt 1
        RUNNING -> RESTARTING: Exceeded checkpoint tolerable failure threshold: checkpoint `1` was declined by subtask `0/0`: \
disk full (0 of 4 subtasks had acknowledged)
        ",
    );
}

#[test]
fn a_snapshot_that_cannot_be_taken_is_not_taken_for_a_damaged_one() {
    play(
        "
        >> up; wait 1000; ack 1
        > unpublished 1 missing
        to 1 2: aborted 1
        discard s3://c/chk-1
        to 1 2: cancel attempt 1
        RUNNING -> RESTARTING: Exceeded checkpoint tolerable failure threshold: checkpoint `1` was not published: \
an object does not exist [SD-0502]
        assert last failed checkpoint = checkpoint `1` was not published: an object does not exist [SD-0502]
        ",
    );
}

#[test]
fn a_repeated_decline_of_one_checkpoint_counts_once_and_a_success_resets_the_count() {
    play_with(
        |spec| spec.options.checkpointing.tolerable_failed = 1,
        "
        >> up; wait 1000
        >> decline 1 0/0; decline 1 0/1; decline 1 1/1
        assert state = RUNNING
        >> wait 1000; done 2; wait 1000; decline 3 0/0
        assert state = RUNNING
        >> wait 1000; decline 4 0/0
        assert state = RESTARTING
        ",
    );
}

#[test]
fn an_expired_checkpoint_is_given_up_and_others_are_not() {
    play_with(
        |spec| {
            spec.options.checkpointing.tolerable_failed = 1;
            spec.options.checkpointing.max_concurrent = 9;
        },
        "
        >> up; wait 1000; wait 1000
        assert deadline = +1000
        >> wait 1000; wait 1000; wait 1000
        > wait 1000
        to 1 2: aborted 1
        discard s3://c/chk-1
        to 1 2: checkpoint 6 at s3://c/chk-6
        > done 2
        publish 2 at s3://c/chk-2
        to 1 2: complete 2
        assert checkpoints = 1 completed, 1 failed, 4 in progress
        ",
    );
}

#[test]
fn the_end_of_a_checkpoint_lets_the_next_begin_that_was_held_back() {
    play(
        "
        >> up; wait 1000
        > wait 1500
        assert deadline = +3500
        > done 1
        publish 1 at s3://c/chk-1
        to 1 2: complete 1
        to 1 2: checkpoint 2 at s3://c/chk-2
        assert deadline = +5000
        ",
    );
}

#[test]
fn the_minimum_pause_runs_from_the_end_of_a_checkpoint() {
    play_with(
        |spec| spec.options.checkpointing.min_pause_ms = 800,
        "
        >> up; wait 1000; wait 700; done 1
        > wait 300
        assert deadline = +500
        > wait 500
        to 1 2: checkpoint 2 at s3://c/chk-2
        ",
    );
}

#[test]
fn a_newer_checkpoint_that_completes_aborts_older_ones_but_no_savepoint() {
    play_with(
        |spec| spec.options.checkpointing.max_concurrent = 9,
        "
        >> up; wait 1000; savepoint 1; wait 1000
        > done 3
        publish 3 at s3://c/chk-3
        to 1 2: complete 3
        to 1 2: aborted 1
        discard s3://c/chk-1
        assert operation 1 = 0 of 4
        > done 2
        publish 2 at s3://s/sp-1
        operation 1 has s3://published/2
        ",
    );
}

#[test]
fn a_late_completion_of_an_older_checkpoint_does_not_become_the_latest() {
    play_with(
        |spec| spec.options.checkpointing.max_concurrent = 9,
        "
        >> up; wait 1000; wait 1000; ack 1; ack 2; published 2
        > published 1
        to 1 2: complete 1
        discard s3://c/chk-1
        assert last checkpoint = 2
        >> lost 1; canceled; wait 500; slots b:0 b:1
        assert restored = 2
        ",
    );
}

#[test]
fn as_many_checkpoints_are_retained_as_asked_for() {
    play_with(
        |spec| spec.options.checkpointing.num_retained = 2,
        "
        >> up; wait 1000; done 1; wait 1000; done 2; wait 1000; ack 3
        > published 3
        to 1 2: complete 3
        discard s3://c/chk-1
        ",
    );
}

#[test]
fn a_publication_that_failed_is_a_failed_checkpoint_and_its_files_go() {
    play_with(
        |spec| spec.options.checkpointing.tolerable_failed = 1,
        "
        >> up; wait 1000; ack 1
        > unpublished 1
        to 1 2: aborted 1
        discard s3://c/chk-1
        assert checkpoints = 0 completed, 1 failed, 0 in progress
        ",
    );
}

#[test]
fn a_publication_of_unknown_outcome_keeps_its_files() {
    play_with(
        |spec| spec.options.checkpointing.tolerable_failed = 1,
        "
        >> up; wait 1000; ack 1
        > unpublished 1 unknown
        to 1 2: aborted 1
        assert checkpoints = 0 completed, 1 failed, 0 in progress
        >> cancel
        > canceled
        to 1: shutdown
        stop 1
        to 2: shutdown
        stop 2
        release slots
        CANCELLING -> CANCELED
        ",
    );
}

#[test]
fn a_publication_under_way_does_not_expire() {
    play(
        "
        >> up; wait 1000; ack 1
        > wait 60000
        > published 1
        to 1 2: complete 1
        to 1 2: checkpoint 2 at s3://c/chk-2
        ",
    );
}

#[test]
fn savepoints_ignore_the_pause_the_limit_and_each_other() {
    play_with(
        |spec| spec.options.checkpointing.min_pause_ms = 900,
        "
        >> up; wait 1000
        > savepoint 1; savepoint 2 s3://mine/
        to 1 2: savepoint 2 at s3://s/sp-1
        to 1 2: savepoint 3 at s3://mine/sp-2
        > done 3
        publish 3 at s3://mine/sp-2
        operation 2 has s3://published/3
        > done 2
        publish 2 at s3://s/sp-1
        operation 1 has s3://published/2
        # neither is counted, and neither has taken a periodic checkpoint's place
        assert checkpoints = 0 completed, 0 failed, 1 in progress
        >> done 1; wait 500
        > wait 500
        to 1 2: checkpoint 4 at s3://c/chk-4
        ",
    );
}

#[test]
fn a_savepoint_is_never_what_a_restart_begins_from() {
    play(
        "
        >> up; wait 1000; done 1; savepoint 1; done 2; lost 1; canceled; wait 500; slots b:0 b:1
        assert restored = 1
        ",
    );
}

#[test]
fn a_failed_savepoint_is_no_failed_checkpoint() {
    play(
        "
        >> up; savepoint 1; savepoint 2; savepoint 3
        > decline 1 0/0
        to 1 2: aborted 1
        discard s3://s/sp-1
        operation 1 failed: savepoint of job abababababababababababababababab failed: savepoint `1` was declined by subtask `0/0`: \
disk full (0 of 4 subtasks had acknowledged) [SD-0509]
        >> ack 2; unpublished 2
        assert operation 2 = SD-0509
        >> wait 1000; done 4; wait 1000; done 5; wait 1000; done 6; wait 1000; done 7; wait 1000
        assert operation 3 = SD-0411
        assert checkpoints = 4 completed, 0 failed, 1 in progress
        assert state = RUNNING
        ",
    );
}

#[test]
fn nothing_is_triggered_while_a_job_is_not_running() {
    play(
        "
        >> up; state 0/0 FAILED boom; canceled
        assert deadline = +500
        >> wait 500; slots a:0 b:0
        > wait 5000
        > running
        assert deadline = +1000
        ",
    );
}

#[test]
fn a_failed_job_keeps_its_last_checkpoint_if_it_is_externalized() {
    let script = |last: &str| {
        format!(
            "
        >> up; wait 1000; done 1; state 0/0 FAILED boom
        > canceled
        to 1: shutdown
        stop 1
        to 2: shutdown
        stop 2
        release slots
        FAILING -> FAILED: Recovery is suppressed by NoRestartBackoffTimeStrategy: boom
        {last}
        "
        )
    };
    for (retention, last) in [
        (
            ExternalizedCheckpointRetention::NoExternalizedCheckpoints,
            "discard s3://c/chk-1",
        ),
        (ExternalizedCheckpointRetention::DeleteOnCancellation, ""),
        (ExternalizedCheckpointRetention::RetainOnCancellation, ""),
    ] {
        play_with(
            |spec| {
                spec.options.checkpointing.retention = retention;
                spec.options.restart_strategy = streamd_core::graph::RestartStrategy::None;
            },
            &script(last),
        );
    }
}

#[test]
fn checkpoints_are_taken_after_some_subtasks_have_read_everything() {
    play(
        "
        >> up; end 0/0; end 1/0
        > wait 1000
        to 1 2: checkpoint 1 at s3://c/chk-1
        > done 1
        publish 1 at s3://c/chk-1
        to 1 2: complete 1
        >> wait 1000; done 2; lost 1; canceled; wait 500; slots b:0 b:1
        assert restored = 2
        ",
    );
}

#[test]
fn what_ends_a_checkpoint_without_saying_anything_of_it_counts_towards_nothing() {
    // Subsumed by a newer one; ended with its attempt; older than the last success: none is a failure of checkpointing.
    play_with(
        |spec| {
            spec.options.checkpointing.max_concurrent = 9;
            spec.options.checkpointing.tolerable_failed = 1;
        },
        "
        >> up; wait 1000; wait 1000; done 2
        assert checkpoints = 1 completed, 1 failed, 0 in progress
        >> wait 1000; wait 1000; ack 3; done 4; unpublished 3
        assert state = RUNNING
        >> wait 1000; lost 1; canceled; wait 500; slots b:0 b:1; registered 3; running
        # one failure is tolerated, whatever happened to the attempt before
        >> wait 1000; decline 6 0/0
        assert state = RUNNING
        >> wait 1000; decline 7 0/0
        assert state = RESTARTING
        ",
    );
}
