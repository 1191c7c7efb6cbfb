//! The worker processes of one job: at most one on each task manager, kept over restarts.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::id::{TaskManagerId, WorkerId};
use streamd_core::protocol::WorkerRegistration;

#[derive(Debug, Clone)]
struct Worker {
    task_manager: TaskManagerId,
    presence: Presence,
}

/// How far a worker has come.
#[derive(Debug, Clone)]
enum Presence {
    /// Its start was asked for.
    Starting,
    /// It is there and can be given subtasks.
    Registered { data_address: String, process_id: u32 },
}

/// The live workers of a job. A number is given out once.
#[derive(Debug, Clone)]
pub struct Workers {
    next: WorkerId,
    live: BTreeMap<WorkerId, Worker>,
}

impl Workers {
    /// No workers yet; the first will have this number.
    pub fn new(first: WorkerId) -> Self {
        Self {
            next: first,
            live: BTreeMap::new(),
        }
    }

    /// The live worker on a task manager, or a new one that is to be started.
    pub fn find_or_create(&mut self, task_manager: &TaskManagerId) -> (WorkerId, Start) {
        let found = self
            .live
            .iter()
            .find(|(_, worker)| worker.task_manager == *task_manager);
        if let Some((id, _)) = found {
            return (*id, Start::NotNeeded);
        }
        let id = self.next;
        self.next = WorkerId(id.0 + 1);
        let worker = Worker {
            task_manager: task_manager.clone(),
            presence: Presence::Starting,
        };
        self.live.insert(id, worker);
        (id, Start::Needed)
    }

    /// A worker has come up. Returns whether that is news of a live worker.
    pub fn register(&mut self, id: WorkerId, registration: &WorkerRegistration) -> bool {
        match self.live.get_mut(&id) {
            Some(worker) if matches!(worker.presence, Presence::Starting) => {
                worker.presence = Presence::Registered {
                    data_address: registration.data_address.clone(),
                    process_id: registration.process_id,
                };
                true
            }
            Some(_) | None => false,
        }
    }

    /// A worker that another job manager started has come back.
    pub fn adopt(&mut self, registration: &WorkerRegistration) {
        let worker = Worker {
            task_manager: registration.task_manager.clone(),
            presence: Presence::Registered {
                data_address: registration.data_address.clone(),
                process_id: registration.process_id,
            },
        };
        self.live.insert(registration.worker, worker);
    }

    /// A worker is gone. Returns whether it was live.
    pub fn remove(&mut self, id: WorkerId) -> bool {
        self.live.remove(&id).is_some()
    }

    /// Whether a worker is live, registered or not.
    pub fn is_live(&self, id: WorkerId) -> bool {
        self.live.contains_key(&id)
    }

    /// Whether a worker is there and can be given subtasks.
    pub fn is_registered(&self, id: WorkerId) -> bool {
        self.data_address(id).is_some()
    }

    /// Where a worker's peers reach it, once it has registered.
    pub fn data_address(&self, id: WorkerId) -> Option<&str> {
        match &self.live.get(&id)?.presence {
            Presence::Starting => None,
            Presence::Registered { data_address, .. } => Some(data_address),
        }
    }

    /// Every live worker with its task manager and, once it has registered, its process id.
    pub fn live(&self) -> impl Iterator<Item = (WorkerId, &TaskManagerId, Option<u32>)> + '_ {
        self.live.iter().map(|(id, worker)| {
            let process_id = match worker.presence {
                Presence::Starting => None,
                Presence::Registered { process_id, .. } => Some(process_id),
            };
            (*id, &worker.task_manager, process_id)
        })
    }

    /// The live workers on a task manager.
    pub fn on(&self, task_manager: &TaskManagerId) -> BTreeSet<WorkerId> {
        self.live()
            .filter(|(_, on, _)| *on == task_manager)
            .map(|(id, _, _)| id)
            .collect()
    }
}

/// Whether a process has to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// There is none yet.
    Needed,
    /// It lives, or is being started.
    NotNeeded,
}
