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
    /// Task managers that are to be empty: nobody gets a slot there.
    drained: BTreeSet<TaskManagerId>,
    /// The held slots that a job has not moved to yet, each with the task manager that it is to leave.
    reserved: BTreeMap<SlotId, TaskManagerId>,
}

/// Too few slots elsewhere for the jobs of a task manager that is to be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its jobs hold {needed} slots there, and {free} are free elsewhere")]
pub struct Shortage {
    /// How many slots have to move.
    pub needed: u32,
    /// How many are free on the other task managers.
    pub free: u32,
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
        self.reserved.retain(|slot, _| slot.task_manager != *task_manager);
    }

    /// A task manager is gone for good: as [`remove`](Self::remove), and what was reserved for the jobs that were to leave it is theirs.
    pub fn leave(&mut self, task_manager: &TaskManagerId) {
        self.remove(task_manager);
        self.drained.remove(task_manager);
        self.reserved.retain(|_, leaves| leaves != task_manager);
    }

    /// Takes a task manager out of use: nobody gets a slot there any more, and slots elsewhere are reserved for the jobs that hold some.
    /// Each of those jobs, which are returned, has to ask again. All or nothing. A second call finds who has not moved yet.
    pub fn drain(&mut self, task_manager: &TaskManagerId) -> Result<Vec<JobId>, Shortage> {
        if !self.is_drained(task_manager) {
            let free = self.free().saturating_sub(self.free_of(task_manager));
            let needed = self.jobs_on(task_manager).values().sum();
            if usize::try_from(free).is_ok_and(|free| free < needed) {
                return Err(shortage(needed, free));
            }
            self.close(task_manager);
            self.reserve_elsewhere(task_manager, |_every_job| true);
        }
        Ok(self.jobs_on(task_manager).into_keys().collect())
    }

    /// Takes a task manager out of use, whether its jobs find room elsewhere or not.
    pub fn close(&mut self, task_manager: &TaskManagerId) {
        self.drained.insert(task_manager.clone());
        // Nobody moves there any more.
        let (held, reserved) = (&mut self.held, &mut self.reserved);
        reserved.retain(|slot, _| {
            let stays = slot.task_manager != *task_manager;
            if !stays {
                held.remove(slot);
            }
            stays
        });
    }

    /// Reserves slots elsewhere for those of `jobs` that hold some of a task manager that is out of use and have no place to go yet, job
    /// by job. Returns those that have one now: each of them has to ask again.
    pub fn reserve_elsewhere(&mut self, task_manager: &TaskManagerId, jobs: impl Fn(&JobId) -> bool) -> Vec<JobId> {
        let mut leaving = self.without_place(task_manager);
        leaving.retain(|job, _| jobs(job));
        let mut found = Vec::new();
        for (job, missing) in leaving {
            for slot in self.choose(missing).into_iter().flatten() {
                self.reserved.insert(slot.clone(), task_manager.clone());
                self.held.insert(slot, job);
                if found.last() != Some(&job) {
                    found.push(job);
                }
            }
        }
        found
    }

    /// What is missing for all jobs of a task manager that is out of use to have a place to go; nothing where they have.
    pub fn shortage_of(&self, task_manager: &TaskManagerId) -> Option<Shortage> {
        let needed = self.without_place(task_manager).values().sum();
        (needed > 0).then(|| shortage(needed, self.free()))
    }

    /// The jobs that hold more slots of a task manager than are reserved for them elsewhere, each with how many more.
    fn without_place(&self, task_manager: &TaskManagerId) -> BTreeMap<JobId, usize> {
        let mut missing = self.jobs_on(task_manager);
        for (slot, _) in self.reserved.iter().filter(|(_, leaves)| *leaves == task_manager) {
            if let Some(count) = self.held.get(slot).and_then(|job| missing.get_mut(job)) {
                *count = count.saturating_sub(1);
            }
        }
        missing.retain(|_, count| *count > 0);
        missing
    }

    /// Takes a task manager into use again. Jobs that have not moved yet stay.
    pub fn undrain(&mut self, task_manager: &TaskManagerId) -> Vec<SlotGrant> {
        self.drained.remove(task_manager);
        let (back, reserved) = std::mem::take(&mut self.reserved)
            .into_iter()
            .partition(|(_, leaves)| leaves == task_manager);
        self.reserved = reserved;
        let back: BTreeMap<SlotId, TaskManagerId> = back;
        self.held.retain(|slot, _| !back.contains_key(slot));
        self.grant_waiting()
    }

    /// Whether a task manager is out of use.
    pub fn is_drained(&self, task_manager: &TaskManagerId) -> bool {
        self.drained.contains(task_manager)
    }

    /// The jobs that hold slots of a task manager and do not only have them reserved, each with how many.
    pub fn jobs_on(&self, task_manager: &TaskManagerId) -> BTreeMap<JobId, usize> {
        let mut jobs = BTreeMap::new();
        for (slot, job) in &self.held {
            if slot.task_manager == *task_manager && !self.reserved.contains_key(slot) {
                *jobs.entry(*job).or_default() += 1;
            }
        }
        jobs
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

    /// These slots are a job's and no other's: its workers run in them. Others that it held are free.
    pub fn adopt(&mut self, job: JobId, slots: &[SlotId]) -> Vec<SlotGrant> {
        self.waiting.retain(|_, (waiting, _)| *waiting != job);
        self.give_back(job);
        for slot in slots {
            self.held.insert(slot.clone(), job);
        }
        self.grant_waiting()
    }

    /// Nobody gets the free slots of a task manager before `job` has said which are its own.
    pub fn reserve(&mut self, job: JobId, task_manager: &TaskManagerId) {
        let slots = self.task_managers.get(task_manager).copied().unwrap_or(0);
        for slot in self.free_slots(task_manager, slots) {
            self.held.insert(slot, job);
        }
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

    /// How many slots can be had.
    pub fn free(&self) -> u32 {
        self.task_managers
            .keys()
            .map(|id| self.free_of(id))
            .fold(0, u32::saturating_add)
    }

    /// How many slots of one task manager can be had: none where it is out of use.
    pub fn free_of(&self, task_manager: &TaskManagerId) -> u32 {
        if self.is_drained(task_manager) {
            return 0;
        }
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
        let (held, reserved) = (&mut self.held, &mut self.reserved);
        held.retain(|slot, holder| {
            let stays = *holder != job;
            if !stays {
                reserved.remove(slot);
            }
            stays
        });
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
        chosen.retain(|slot| !self.is_drained(&slot.task_manager));
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
            .filter(|(id, _)| !self.is_drained(id))
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

fn shortage(needed: usize, free: u32) -> Shortage {
    let needed = u32::try_from(needed).unwrap_or(u32::MAX);
    Shortage { needed, free }
}

#[cfg(test)]
mod tests;
