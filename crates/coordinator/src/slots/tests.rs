use super::*;

fn job(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

fn tm(name: &str) -> TaskManagerId {
    TaskManagerId(name.to_owned())
}

fn names(grants: &[SlotGrant]) -> Vec<String> {
    grants
        .iter()
        .map(|grant| {
            let slots: Vec<String> = grant
                .slots
                .iter()
                .map(|slot| format!("{}:{}", slot.task_manager, slot.slot))
                .collect();
            format!("{} {}", grant.job.as_bytes()[0], slots.join(" "))
        })
        .collect()
}

#[test]
fn a_request_waits_until_there_are_enough_slots_and_is_granted_whole() {
    let mut manager = SlotManager::default();
    assert!(manager.request(job(1), 3).is_empty());
    assert!(manager.register(tm("a"), 2).is_empty());
    assert_eq!(names(&manager.register(tm("b"), 2)), ["1 a:0 a:1 b:0"]);
    assert_eq!((manager.total(), manager.free()), (4, 1));
}

#[test]
fn a_request_that_cannot_be_met_does_not_hold_up_a_smaller_one() {
    let mut manager = SlotManager::default();
    manager.register(tm("a"), 2);
    assert!(manager.request(job(1), 100).is_empty());
    assert_eq!(names(&manager.request(job(2), 1)), ["2 a:0"]);
}

#[test]
fn waiting_requests_are_met_in_the_order_in_which_they_came() {
    let mut manager = SlotManager::default();
    manager.register(tm("a"), 1);
    manager.request(job(9), 1);
    assert!(manager.request(job(2), 1).is_empty());
    assert!(manager.request(job(1), 1).is_empty());
    assert_eq!(names(&manager.release(job(9))), ["2 a:0"]);
}

#[test]
fn a_job_that_asks_again_keeps_its_slots_and_loses_those_of_a_lost_task_manager() {
    let mut manager = SlotManager::default();
    manager.register(tm("a"), 1);
    manager.register(tm("b"), 1);
    assert_eq!(names(&manager.request(job(1), 2)), ["1 a:0 b:0"]);
    manager.remove(&tm("a"));
    assert_eq!(manager.slots_of(job(1)).len(), 1);
    assert!(manager.request(job(1), 2).is_empty());
    assert_eq!(names(&manager.register(tm("c"), 1)), ["1 b:0 c:0"]);
}

#[test]
fn two_jobs_never_wait_for_each_others_slots() {
    let mut manager = SlotManager::default();
    for name in ["a", "b", "c", "d"] {
        manager.register(tm(name), 1);
    }
    manager.request(job(1), 2);
    manager.request(job(2), 2);
    manager.remove(&tm("a"));
    manager.remove(&tm("c"));
    assert!(manager.request(job(1), 2).is_empty());
    assert_eq!(names(&manager.request(job(2), 2)), ["2 b:0 d:0"]);
}

#[test]
fn spreading_takes_slots_in_turn_from_the_roomiest_task_manager() {
    let mut manager = SlotManager::new(SlotAllocation::Spread);
    manager.register(tm("a"), 2);
    manager.register(tm("b"), 2);
    assert_eq!(names(&manager.request(job(1), 2)), ["1 a:0 b:0"]);
    assert_eq!(names(&manager.request(job(2), 2)), ["2 a:1 b:1"]);
}

#[test]
fn a_task_manager_that_is_drained_gets_no_job_and_its_jobs_find_room_elsewhere() {
    let mut manager = SlotManager::default();
    manager.register(tm("a"), 2);
    manager.register(tm("b"), 3);
    assert_eq!(names(&manager.request(job(1), 2)), ["1 a:0 a:1"]);
    assert_eq!(manager.drain(&tm("a")), Ok(vec![job(1)]));
    // What is reserved is nobody else's.
    assert_eq!(manager.free(), 1);
    assert!(manager.request(job(2), 2).is_empty());
    assert_eq!(manager.drain(&tm("a")), Ok(vec![job(1)]));
    assert_eq!(names(&manager.request(job(1), 2)), ["1 b:0 b:1"]);
    assert_eq!(manager.drain(&tm("a")), Ok(vec![]));
    assert_eq!((manager.free_of(&tm("a")), manager.free()), (0, 1));
    assert_eq!(names(&manager.undrain(&tm("a"))), ["2 a:0 a:1"]);
}

#[test]
fn a_task_manager_whose_jobs_find_no_room_is_not_drained() {
    let mut manager = SlotManager::default();
    manager.register(tm("a"), 2);
    manager.register(tm("b"), 2);
    manager.request(job(1), 3);
    let shortage = Shortage { needed: 2, free: 1 };
    assert_eq!(manager.drain(&tm("a")), Err(shortage));
    assert_eq!((manager.is_drained(&tm("a")), manager.free()), (false, 1));
    assert_eq!(manager.slots_of(job(1)).len(), 3);
}

#[test]
fn a_drain_that_is_called_off_gives_back_what_it_reserved() {
    let mut manager = SlotManager::default();
    manager.register(tm("a"), 1);
    manager.register(tm("b"), 1);
    manager.request(job(1), 1);
    assert_eq!(manager.drain(&tm("a")), Ok(vec![job(1)]));
    assert_eq!(manager.free(), 0);
    manager.undrain(&tm("a"));
    assert_eq!((manager.free(), manager.slots_of(job(1)).len()), (1, 1));
    // A job that ends in the meantime gives back both.
    manager.drain(&tm("a")).unwrap();
    manager.release(job(1));
    manager.undrain(&tm("a"));
    assert_eq!(manager.free(), 2);
}

#[test]
fn a_job_moves_off_a_drained_task_manager_when_it_restarts_for_another_reason() {
    let mut manager = SlotManager::default();
    manager.register(tm("a"), 1);
    manager.register(tm("b"), 1);
    manager.register(tm("c"), 1);
    manager.request(job(1), 1);
    manager.drain(&tm("a")).unwrap();
    // What was reserved for it is lost: it takes what there is.
    manager.remove(&tm("b"));
    assert_eq!(names(&manager.request(job(1), 1)), ["1 c:0"]);
}

#[test]
fn nobody_moves_to_a_task_manager_that_is_drained_too() {
    let mut manager = SlotManager::default();
    manager.register(tm("a"), 1);
    manager.register(tm("b"), 1);
    manager.request(job(1), 1);
    manager.drain(&tm("a")).unwrap();
    assert_eq!(manager.shortage_of(&tm("a")), None);
    assert_eq!(manager.drain(&tm("b")), Ok(vec![]));
    let shortage = Shortage { needed: 1, free: 0 };
    assert_eq!(manager.shortage_of(&tm("a")), Some(shortage));
    assert!(manager.request(job(1), 1).is_empty());
    assert_eq!(names(&manager.undrain(&tm("b"))), ["1 b:0"]);
    assert_eq!(manager.shortage_of(&tm("a")), None);
}

#[test]
fn what_was_reserved_for_a_job_stays_its_own_when_its_task_manager_ends_before_it_has_moved() {
    let mut manager = SlotManager::default();
    manager.register(tm("a"), 1);
    manager.register(tm("b"), 1);
    manager.request(job(1), 1);
    manager.drain(&tm("a")).unwrap();
    assert!(manager.request(job(2), 1).is_empty());
    manager.leave(&tm("a"));
    assert_eq!((manager.total(), manager.free()), (1, 0));
    assert_eq!(names(&manager.request(job(1), 1)), ["1 b:0"]);
    // The name is as good as new.
    assert_eq!(names(&manager.register(tm("a"), 1)), ["2 a:0"]);
}

#[test]
fn a_task_manager_that_is_closed_without_room_elsewhere_is_left_once_there_is_some() {
    let mut manager = SlotManager::default();
    manager.register(tm("a"), 3);
    manager.request(job(1), 1);
    manager.request(job(2), 2);
    manager.close(&tm("a"));
    assert!(manager.reserve_elsewhere(&tm("a"), |_| true).is_empty());
    manager.register(tm("b"), 2);
    // Job 1 may not move yet.
    assert_eq!(manager.reserve_elsewhere(&tm("a"), |it| *it == job(2)), [job(2)]);
    assert!(manager.reserve_elsewhere(&tm("a"), |_| true).is_empty());
    assert_eq!(manager.shortage_of(&tm("a")), Some(Shortage { needed: 1, free: 0 }));
    manager.register(tm("c"), 1);
    assert_eq!(manager.reserve_elsewhere(&tm("a"), |_| true), [job(1)]);
    assert_eq!(names(&manager.request(job(1), 1)), ["1 c:0"]);
    assert_eq!(names(&manager.request(job(2), 2)), ["2 b:0 b:1"]);
    assert_eq!(manager.drain(&tm("a")), Ok(vec![]));
}

#[test]
fn a_smaller_second_request_frees_slots_for_those_who_wait() {
    let mut manager = SlotManager::default();
    manager.register(tm("a"), 2);
    manager.request(job(1), 2);
    manager.request(job(2), 1);
    assert_eq!(names(&manager.request(job(1), 1)), ["1 a:0", "2 a:1"]);
}
