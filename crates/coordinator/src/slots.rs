//! Slots of all task managers, dealt out to jobs.
//!
//! ```text
//!   register / remove ──▶ ┌─────────────┐
//!                         │ SlotManager │ ──▶ grants: (job, slots)
//!   request / release ──▶ └─────────────┘
//! ```
//!
//! A request is granted whole or waits. Waiting requests are looked at in the order in which they came; one that cannot
//! be met does not hold up smaller ones behind it. A job that waits holds nothing, so that two jobs can never wait for
//! each other's slots.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::id::{JobId, TaskManagerId};

use crate::event::SlotId;

/// Which free slots a job gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SlotAllocation {
    /// One task manager after the other: the fewest processes and the least network. Flink's default.
    #[default]
    Fill,
    /// In turn from the task manager with the most free slots.
    Spread,
}

/// All slots that a job asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotGrant {
    /// Whose.
    pub job: JobId,
    /// Every slot that the job holds now, in order.
    pub slots: Vec<SlotId>,
}

/// Who holds which slot, and who waits. Each method that can free a slot returns the grants that follow from it.
#[derive(Debug, Default)]
pub struct SlotManager {
    allocation: SlotAllocation,
    task_managers: BTreeMap<TaskManagerId, u32>,
    held: BTreeMap<SlotId, JobId>,
    waiting: BTreeMap<u64, (JobId, u32)>,
    requests: u64,
}

impl SlotManager {
    /// A manager of no slots.
    pub fn new(allocation: SlotAllocation) -> Self {
        Self {
            allocation,
            ..Self::default()
        }
    }

    /// A task manager offers its slots, `0..slots`. A second registration of the same name replaces the first.
    pub fn register(&mut self, task_manager: TaskManagerId, slots: u32) -> Vec<SlotGrant> {
        self.held
            .retain(|slot, _| slot.task_manager != task_manager || slot.slot < slots);
        self.task_managers.insert(task_manager, slots);
        self.grant_waiting()
    }

    /// A task manager is gone, and its slots with it. Jobs that held some of them ask again when they restart.
    pub fn remove(&mut self, task_manager: &TaskManagerId) {
        self.task_managers.remove(task_manager);
        self.held.retain(|slot, _| slot.task_manager != *task_manager);
    }

    /// A job wants `count` slots altogether. Slots that it holds count and stay with it where possible; a request that
    /// still waits is replaced, and goes to the end of the queue.
    pub fn request(&mut self, job: JobId, count: u32) -> Vec<SlotGrant> {
        self.waiting.retain(|_, (waiting, _)| *waiting != job);
        if let Some(grant) = self.try_grant(job, count) {
            // A smaller request than before frees slots for others.
            let mut grants = vec![grant];
            grants.extend(self.grant_waiting());
            return grants;
        }
        self.give_back(job);
        self.requests += 1;
        self.waiting.insert(self.requests, (job, count));
        self.grant_waiting()
    }

    /// A job wants nothing any more.
    pub fn release(&mut self, job: JobId) -> Vec<SlotGrant> {
        self.waiting.retain(|_, (waiting, _)| *waiting != job);
        self.give_back(job);
        self.grant_waiting()
    }

    /// How many slots there are.
    pub fn total(&self) -> u32 {
        self.task_managers
            .values()
            .fold(0, |sum, slots| sum.saturating_add(*slots))
    }

    /// How many slots nobody holds.
    pub fn free(&self) -> u32 {
        self.task_managers
            .keys()
            .map(|id| self.free_of(id))
            .fold(0, u32::saturating_add)
    }

    /// How many slots of one task manager nobody holds.
    pub fn free_of(&self, task_manager: &TaskManagerId) -> u32 {
        let slots = self.task_managers.get(task_manager).copied().unwrap_or(0);
        let held = self
            .held
            .keys()
            .filter(|slot| slot.task_manager == *task_manager)
            .count();
        slots.saturating_sub(u32::try_from(held).unwrap_or(u32::MAX))
    }

    /// The slots that a job holds, in order.
    pub fn slots_of(&self, job: JobId) -> Vec<SlotId> {
        self.held
            .iter()
            .filter(|(_, holder)| **holder == job)
            .map(|(slot, _)| slot.clone())
            .collect()
    }

    /// The jobs that wait, in the order in which they asked, with how many slots they want.
    pub fn waiting(&self) -> impl Iterator<Item = (JobId, u32)> + '_ {
        self.waiting.values().copied()
    }

    fn give_back(&mut self, job: JobId) {
        self.held.retain(|_, holder| *holder != job);
    }

    fn grant_waiting(&mut self) -> Vec<SlotGrant> {
        let mut grants = Vec::new();
        for (number, (job, count)) in self.waiting.clone() {
            if let Some(grant) = self.try_grant(job, count) {
                self.waiting.remove(&number);
                grants.push(grant);
            }
        }
        grants
    }

    fn try_grant(&mut self, job: JobId, count: u32) -> Option<SlotGrant> {
        let count = usize::try_from(count).ok()?;
        let mut chosen = self.slots_of(job);
        chosen.truncate(count);
        let missing = count - chosen.len();
        let fresh = self.choose(missing)?;
        chosen.extend(fresh);
        chosen.sort();
        self.give_back(job);
        for slot in &chosen {
            self.held.insert(slot.clone(), job);
        }
        Some(SlotGrant { job, slots: chosen })
    }

    /// `count` free slots, or none if there are fewer.
    fn choose(&self, count: usize) -> Option<Vec<SlotId>> {
        if count > usize::try_from(self.free()).ok()? {
            return None;
        }
        let mut free: Vec<Vec<SlotId>> = self
            .task_managers
            .iter()
            .map(|(id, slots)| self.free_slots(id, *slots))
            .collect();
        match self.allocation {
            SlotAllocation::Fill => Some(free.into_iter().flatten().take(count).collect()),
            SlotAllocation::Spread => {
                let mut chosen = Vec::with_capacity(count);
                for _ in 0..count {
                    // The first of those with the most free slots; `max_by_key` would return the last.
                    let roomiest = free.iter_mut().rev().max_by_key(|slots| slots.len())?;
                    chosen.push(roomiest.remove(0));
                }
                Some(chosen)
            }
        }
    }

    fn free_slots(&self, task_manager: &TaskManagerId, slots: u32) -> Vec<SlotId> {
        let held: BTreeSet<u32> = self
            .held
            .keys()
            .filter(|slot| slot.task_manager == *task_manager)
            .map(|slot| slot.slot)
            .collect();
        (0..slots)
            .filter(|slot| !held.contains(slot))
            .map(|slot| SlotId {
                task_manager: task_manager.clone(),
                slot,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
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
    fn a_smaller_second_request_frees_slots_for_those_who_wait() {
        let mut manager = SlotManager::default();
        manager.register(tm("a"), 2);
        manager.request(job(1), 2);
        manager.request(job(2), 1);
        assert_eq!(names(&manager.request(job(1), 1)), ["1 a:0", "2 a:1"]);
    }
}
