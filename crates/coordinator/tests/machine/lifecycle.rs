//! Scripts: a job's way from CREATED to its end.

use std::sync::Arc;

use streamd_core::graph::ExternalizedCheckpointRetention;

use crate::bench::restore_point;
use crate::script::{play, play_with};

#[test]
fn a_job_gets_slots_then_workers_then_its_subtasks() {
    play(
        "
        > start
        CREATED -> RUNNING
        request 2 slots
        assert execution 0/0 = SCHEDULED
        > slots a:0 b:0
        start 1 on a
        start 2 on b
        > registered 2
        assert deadline = +30000
        > registered 1
        to 1: deploy attempt 1 [0/0 1/0]
        to 2: deploy attempt 1 [0/1 1/1]
        assert execution 0/0 = DEPLOYING
        > state 0/0 INITIALIZING
        assert execution 0/0 = INITIALIZING
        assert deadline = none
        > running
        assert deadline = +1000
        assert state = RUNNING
        assert workers = 1 2
        ",
    );
}

#[test]
fn slots_of_one_task_manager_share_a_worker() {
    play(
        "
        >> start
        > slots a:0 a:1
        start 1 on a
        > registered 1
        to 1: deploy attempt 1 [0/0 1/0] [0/1 1/1]
        ",
    );
}

#[test]
fn groups_take_consecutive_slots() {
    play_with(
        |spec| {
            let graph = Arc::make_mut(&mut spec.graph);
            graph.vertices[1].slot_sharing_group = "heavy".to_owned();
            graph.vertices[1].parallelism = 3;
        },
        "
        > start
        CREATED -> RUNNING
        request 5 slots
        >> slots a:0 a:1 a:2 a:3 a:4
        > registered 1
        to 1: deploy attempt 1 [0/0] [0/1] [1/0] [1/1] [1/2]
        ",
    );
}

#[test]
fn a_job_that_is_cancelled_before_it_began_is_gone_at_once() {
    play(
        "
        > cancel
        CREATED -> CANCELLING
        release slots
        CANCELLING -> CANCELED
        > start
        assert state = CANCELED
        ",
    );
}

#[test]
fn a_running_job_that_is_cancelled_drops_its_subtasks_first() {
    play(
        "
        >> up; wait 1000; done 1; wait 1000
        > cancel
        to 1 2: cancel attempt 1
        RUNNING -> CANCELLING
        > cancel
        > canceled 1
        assert execution 0/0 = CANCELED
        assert execution 0/1 = CANCELING
        > canceled 2
        discard s3://c/chk-2
        to 1: shutdown
        stop 1
        to 2: shutdown
        stop 2
        release slots
        CANCELLING -> CANCELED
        discard s3://c/chk-1
        ",
    );
}

#[test]
fn a_worker_that_does_not_let_go_is_stopped() {
    play(
        "
        >> up
        >> cancel; canceled 1
        assert deadline = +10000
        > wait 10000
        to 2: shutdown
        stop 2
        to 1: shutdown
        stop 1
        release slots
        CANCELLING -> CANCELED
        ",
    );
}

#[test]
fn a_retained_checkpoint_survives_the_cancellation() {
    play_with(
        |spec| spec.options.checkpointing.retention = ExternalizedCheckpointRetention::RetainOnCancellation,
        "
        >> up; wait 1000; done 1; cancel; canceled 1
        > canceled 2
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
fn a_job_whose_input_ends_commits_a_last_checkpoint_before_it_finishes() {
    play_with(
        |spec| spec.options.checkpointing.min_pause_ms = 700,
        "
        >> up; wait 1000; ack 1 0/0; end 0/0; end 0/1; end 1/0
        # a checkpoint from before the end of all data does not cover it; neither does the pause hold the last one back
        > end 1/1
        to 1 2: checkpoint 2 at s3://c/chk-2
        > done 1
        publish 1 at s3://c/chk-1
        to 1 2: complete 1
        > ack 2
        publish 2 at s3://c/chk-2
        > published 2
        to 1 2: complete 2
        discard s3://c/chk-1
        to 1 2: finish
        assert state = RUNNING
        > finished
        to 1: shutdown
        stop 1
        to 2: shutdown
        stop 2
        release slots
        RUNNING -> FINISHED
        discard s3://c/chk-2
        ",
    );
}

#[test]
fn without_checkpoints_a_job_finishes_when_its_input_ends() {
    play_with(
        |spec| spec.options.checkpointing.interval_ms = None,
        "
        >> up
        assert deadline = none
        > end
        to 1 2: finish
        >> finished
        assert state = FINISHED
        ",
    );
}

#[test]
fn a_tolerated_failure_of_the_last_checkpoint_is_tried_again_after_the_interval() {
    play_with(
        |spec| spec.options.checkpointing.tolerable_failed = 1,
        "
        >> up; end
        > decline 1 0/0
        to 1 2: aborted 1
        discard s3://c/chk-1
        assert state = RUNNING
        > wait 1000
        to 1 2: checkpoint 2 at s3://c/chk-2
        > done 2
        publish 2 at s3://c/chk-2
        to 1 2: complete 2
        to 1 2: finish
        ",
    );
}

#[test]
fn a_failure_while_finishing_restores_the_last_checkpoint_and_ends_again() {
    play(
        "
        >> up; end; done 1; state 0/0 FINISHED
        > lost 2
        to 1: cancel attempt 1
        RUNNING -> RESTARTING: killed
        >> canceled 1; wait 500; slots a:0 b:0
        > registered 3
        to 1: deploy attempt 2 from 1 [0/0 1/0]
        to 3: deploy attempt 2 from 1 [0/1 1/1]
        >> running
        > end
        to 1 3: checkpoint 2 at s3://c/chk-2
        ",
    );
}

#[test]
fn ids_go_on_after_the_restored_snapshot() {
    play_with(
        |spec| spec.restore = Some(restore_point(41, [3, 4])),
        "
        >> start; slots a:0 a:1
        > registered 1
        to 1: deploy attempt 1 from 41 [0/0 1/0] [0/1 1/1]
        assert restored = 41
        >> running
        > wait 1000
        to 1: checkpoint 42 at s3://c/chk-42
        # the restored snapshot is somebody else's: it is never discarded
        > done 42
        publish 42 at s3://c/chk-42
        to 1: complete 42
        ",
    );
}

#[test]
fn a_worker_that_built_another_graph_fails_the_job_for_good() {
    play(
        "
        >> start; slots a:0 a:1
        > registered 1 vertex 9
        RUNNING -> FAILING: `worker-1` built a different job graph, so the application is not the same on every run [SD-0208]: \
expected (edge 0 -> 1 Hash), (vertex 0 `source` x2 operator `source` e836c87d821f68cda6423e2e23454dca), \
(vertex 1 `sink` x2 operator `sink` 22d8e7848d11396d74398515f9f751cc); but built (vertex 9)
        to 1: shutdown
        stop 1
        release slots
        FAILING -> FAILED: `worker-1` built a different job graph, so the application is not the same on every run [SD-0208]: \
expected (edge 0 -> 1 Hash), (vertex 0 `source` x2 operator `source` e836c87d821f68cda6423e2e23454dca), \
(vertex 1 `sink` x2 operator `sink` 22d8e7848d11396d74398515f9f751cc); but built (vertex 9)
        ",
    );
}
