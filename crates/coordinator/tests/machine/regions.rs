//! Scripts: a region that restarts while the others go on, and all that makes it a restart of the whole job.

use streamd_core::graph::RestartStrategy;
use streamd_core::id::{SubtaskId, WorkerId};
use streamd_core::protocol::WorkerCommand;

use crate::bench::{read_split, restore_point, source_id, without_exchange};
use crate::script::{follow, play_with, reach};

fn regions(spec: &mut streamd_coordinator::event::JobSpec) {
    without_exchange(spec, 2);
}

#[test]
fn a_failed_subtask_restarts_its_region_and_the_others_go_on() {
    play_with(
        regions,
        "
        >> up; wait 1000; done 1; wait 1000
        > state 0/1 FAILED boom
        to 1: cancel attempt 1 but slots [0]
        to 2: cancel attempt 1
        to 1 2: aborted 2
        RUNNING -> RESTARTING: boom
        assert execution 0/0 = RUNNING
        # its neighbour in the slot; the folder of the checkpoint goes when nobody of the region can write any more
        > state 1/1 CANCELED
        discard s3://c/chk-2
        # whoever goes on may have written into it since
        > ack 2 0/0
        discard s3://c/chk-2
        assert deadline = +500
        > wait 500
        RESTARTING -> RUNNING
        request 2 slots
        assert attempt = 1
        assert restarts = 1
        > slots a:0 b:0
        to 1: deploy attempt 2 from 1 kept [0/0 1/0]
        to 2: deploy attempt 2 from 1 [0/1 1/1]
        assert attempt = 2
        # no checkpoint before everybody runs
        > wait 5000
        > state 0/1 RUNNING
        > state 1/1 RUNNING
        > wait 1000
        to 1 2: checkpoint 3 at s3://c/chk-3
        assert failures = boom
        ",
    );
}

#[test]
fn a_lost_worker_restarts_the_regions_that_it_ran() {
    play_with(
        regions,
        "
        >> up; wait 1000; done 1
        > lost 2
        to 1: cancel attempt 1 but slots [0]
        RUNNING -> RESTARTING: killed
        > wait 500
        RESTARTING -> RUNNING
        request 2 slots
        > slots a:0 c:0
        start 3 on c
        > registered 3
        to 1: deploy attempt 2 from 1 kept [0/0 1/0]
        to 3: deploy attempt 2 from 1 [0/1 1/1]
        >> state 0/1 RUNNING; state 1/1 RUNNING
        > wait 1000
        to 1 3: checkpoint 2 at s3://c/chk-2
        ",
    );
}

#[test]
fn who_goes_on_hears_of_the_checkpoint_that_was_being_published() {
    play_with(
        regions,
        "
        >> up; wait 1000; ack 1
        > lost 2
        to 1: cancel attempt 1 but slots [0]
        RUNNING -> RESTARTING: killed
        > wait 500
        > published 1
        to 1: complete 1
        RESTARTING -> RUNNING
        request 2 slots
        >> slots a:0 b:0
        > registered 3
        to 1: deploy attempt 2 from 1 kept [0/0 1/0]
        to 3: deploy attempt 2 from 1 [0/1 1/1]
        ",
    );
}

#[test]
fn a_region_can_restart_again_from_the_same_checkpoint() {
    play_with(
        regions,
        "
        >> up; wait 1000; done 1; lost 2; wait 500; slots a:0 b:0; registered 3; state 0/1 RUNNING; state 1/1 RUNNING
        > state 0/0 FAILED boom
        to 1: cancel attempt 2
        to 3: cancel attempt 2 but slots [0]
        RUNNING -> RESTARTING: boom
        >> state 1/0 CANCELED; wait 500
        > slots a:0 b:0
        to 1: deploy attempt 3 from 1 [0/0 1/0]
        to 3: deploy attempt 3 from 1 kept [0/1 1/1]
        ",
    );
}

/// What the first subtask of the source is given when its region restarts: split and offset.
fn given(events: &str) -> Vec<(u32, u32)> {
    let mut bench = reach(|spec| without_exchange(spec, 3), events);
    let actions = follow(&mut bench, "slots a:0 b:0");
    let subtask = SubtaskId { vertex: 0, index: 0 };
    let deployed = actions.iter().find_map(|action| match action {
        streamd_coordinator::action::Action::Send {
            worker: WorkerId(1),
            command: WorkerCommand::Deploy(deployment),
        } => deployment
            .slots
            .iter()
            .flat_map(|slot| &slot.subtasks)
            .find(|it| it.subtask == subtask)
            .cloned(),
        _other => None,
    });
    let state = deployed.expect("the first region begins again").state;
    let lists = state
        .get(&source_id())
        .map(|state| state.lists.as_slice())
        .unwrap_or_default();
    lists
        .iter()
        .flat_map(|list| &list.items)
        .map(|item| read_split(item))
        .collect()
}

#[test]
fn a_region_gets_the_elements_that_its_own_subtasks_had() {
    const FAILS: &str = "state 0/0 FAILED boom; state 1/0 CANCELED; wait 500";
    // Before the first checkpoint: the initial splits, dealt in turn.
    assert_eq!(given(&format!("up; {FAILS}")), [(0, 0), (2, 0)]);
    // The other subtask had two of three splits: as many as `assign` would deal to this one.
    assert_eq!(
        given(&format!(
            "up; wait 1000; ack 1 0/0 0; ack 1 0/1 1 2; ack 1; published 1; {FAILS}"
        )),
        [(0, 1)]
    );
    // It had read all that it had.
    assert_eq!(
        given(&format!(
            "up; wait 1000; ack 1 0/0 none; ack 1 0/1 1; ack 1; published 1; {FAILS}"
        )),
        []
    );
    // The whole job has restarted since: what counts is what was dealt out then.
    let whole = "state 0/0 FAILED one; state 0/1 FAILED two; canceled; wait 500; slots a:0 b:0; running";
    let uneven = "up; wait 1000; ack 1 0/0 0; ack 1 0/1 1 2; ack 1; published 1";
    assert_eq!(given(&format!("{uneven}; {whole}; {FAILS}")), [(0, 1), (1, 1)]);
}

#[test]
fn a_job_that_has_no_own_checkpoint_restarts_a_region_from_its_start() {
    play_with(
        |spec| {
            regions(spec);
            spec.restore = Some(restore_point(7, [1, 2]));
        },
        "
        >> up; state 0/1 FAILED boom; state 1/1 CANCELED; wait 500
        > slots a:0 b:0
        to 1: deploy attempt 2 from 7 kept [0/0 1/0]
        to 2: deploy attempt 2 from 7 [0/1 1/1]
        ",
    );
}

/// Plays a script to a job of two regions, of which the second has failed after the first checkpoint.
fn while_a_region_restarts(script: &str) {
    play_with(
        |spec| {
            regions(spec);
            spec.options.restart_strategy = RestartStrategy::FixedDelay {
                attempts: 9,
                delay_ms: 500,
            };
        },
        &format!(">> up; wait 1000; done 1; state 0/1 FAILED boom\n{script}"),
    );
}

#[test]
fn a_failure_of_who_goes_on_makes_it_the_whole_job() {
    while_a_region_restarts(
        "
        > state 1/0 FAILED too
        to 1 2: cancel attempt 1
        >> state 0/0 CANCELED; state 1/1 CANCELED
        assert deadline = +500
        >> wait 500
        > slots a:0 b:0
        to 1: deploy attempt 2 from 1 [0/0 1/0]
        to 2: deploy attempt 2 from 1 [0/1 1/1]
        ",
    );
    while_a_region_restarts(
        "
        >> state 1/1 CANCELED; wait 200
        # nobody is left to be dropped
        > lost 1
        assert deadline = +300
        >> wait 300
        > slots a:0 b:0
        start 3 on a
        > registered 3
        to 2: deploy attempt 2 from 1 [0/1 1/1]
        to 3: deploy attempt 2 from 1 [0/0 1/0]
        ",
    );
    // Once slots are asked for, it is a failure as any other.
    while_a_region_restarts(
        "
        >> state 1/1 CANCELED; wait 500
        > state 1/0 FAILED too
        to 1: cancel attempt 1
        RUNNING -> RESTARTING: too
        >> state 0/0 CANCELED; wait 500; slots a:0 b:0
        assert attempt = 2
        ",
    );
    while_a_region_restarts(
        "
        >> state 1/1 CANCELED; wait 500; slots a:0 b:0
        > state 0/1 FAILED again
        to 1 2: cancel attempt 2
        RUNNING -> RESTARTING: again
        ",
    );
}

#[test]
fn other_slots_for_who_goes_on_make_it_the_whole_job() {
    while_a_region_restarts(
        "
        >> state 1/1 CANCELED; wait 500
        > slots b:0 c:0
        to 1: cancel attempt 1
        RUNNING -> RESTARTING
        > state 0/0 CANCELED
        > state 1/0 CANCELED
        RESTARTING -> RUNNING
        request 2 slots
        > slots b:0 c:0
        start 3 on c
        to 1: shutdown
        stop 1
        > registered 3
        to 2: deploy attempt 2 from 1 [0/1 1/1]
        to 3: deploy attempt 2 from 1 [0/0 1/0]
        ",
    );
}

#[test]
fn slots_that_do_not_come_at_once_make_it_the_whole_job() {
    while_a_region_restarts(
        "
        >> state 1/1 CANCELED; wait 500
        assert deadline = +1000
        > wait 1000
        to 1: cancel attempt 1
        RUNNING -> RESTARTING
        >> state 0/0 CANCELED; state 1/0 CANCELED
        # the whole job has the time that slots take
        assert deadline = +60000
        assert failures = boom
        ",
    );
}

#[test]
fn a_region_that_does_not_let_go_makes_it_the_whole_job() {
    while_a_region_restarts(
        "
        > wait 10000
        to 1 2: cancel attempt 1
        > wait 10000
        to 1: shutdown
        stop 1
        to 2: shutdown
        stop 2
        ",
    );
}

#[test]
fn a_cancelled_job_drops_everybody() {
    while_a_region_restarts(
        "
        > cancel
        to 1 2: cancel attempt 1
        RESTARTING -> CANCELLING
        > canceled
        to 1: shutdown
        stop 1
        to 2: shutdown
        stop 2
        release slots
        CANCELLING -> CANCELED
        discard s3://c/chk-1
        ",
    );
    while_a_region_restarts(
        "
        >> state 1/1 CANCELED; wait 200
        > cancel
        to 1 2: cancel attempt 1
        RESTARTING -> CANCELLING
        ",
    );
}

#[test]
fn a_savepoint_is_made_of_a_job_of_which_nothing_goes_on() {
    while_a_region_restarts(
        "
        >> state 1/1 CANCELED
        > savepoint 1
        to 1 2: cancel attempt 1
        promote 1 to s3://s/sp-1 within 5000
        ",
    );
}

#[test]
fn a_failure_that_is_no_subtasks_restarts_the_whole_job() {
    play_with(
        regions,
        "
        >> up; wait 1000
        # the checkpoint is declined, and none may fail
        > decline 1 0/0
        to 1 2: aborted 1
        discard s3://c/chk-1
        to 1 2: cancel attempt 1
        RUNNING -> RESTARTING: Exceeded checkpoint tolerable failure threshold: checkpoint `1` was declined by subtask `0/0`: disk full (0 of 4 subtasks had acknowledged)
        ",
    );
}

#[test]
fn a_job_that_is_ending_restarts_whole() {
    for ends in ["stop 1", "drain 1", "end"] {
        play_with(
            regions,
            &format!(
                "
                >> up; wait 1000; done 1; {ends}
                >> state 0/1 FAILED boom
                assert execution 0/0 = CANCELING
                "
            ),
        );
    }
    play_with(
        regions,
        "
        >> up; evacuate a
        >> state 0/1 FAILED boom
        assert execution 0/0 = CANCELING
        ",
    );
}
