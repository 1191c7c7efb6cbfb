//! What is left of a job when it ends: processes that may still write, and snapshots that are to be deleted after them.

use std::collections::BTreeMap;

use streamd_core::id::{TaskManagerId, WorkerId};

use super::effects::Deletion;

/// The worker processes of a job, and the deletions that wait for their end: a process that writes on while its snapshots are
/// deleted would leave files that nobody ever looks at again.
#[derive(Default)]
pub(super) struct Remains {
    processes: BTreeMap<WorkerId, TaskManagerId>,
    deletions: Vec<Deletion>,
}

impl Remains {
    /// A process is asked for.
    pub(super) fn started(&mut self, worker: WorkerId, task_manager: TaskManagerId) {
        self.processes.insert(worker, task_manager);
    }

    /// A process has ended, or never was.
    pub(super) fn ended(&mut self, worker: WorkerId) {
        self.processes.remove(&worker);
    }

    /// A task manager is lost: nobody can tell any more what its processes do, and they end with it.
    pub(super) fn lost(&mut self, task_manager: &TaskManagerId) {
        self.processes.retain(|_, on| on != task_manager);
    }

    /// Keeps a deletion for the end of the last process.
    pub(super) fn delete(&mut self, deletion: Deletion) {
        self.deletions.push(deletion);
    }

    /// Whether no process is left.
    pub(super) fn is_deserted(&self) -> bool {
        self.processes.is_empty()
    }

    /// What may be deleted now.
    pub(super) fn take_deletions(&mut self) -> Vec<Deletion> {
        match self.is_deserted() {
            true => std::mem::take(&mut self.deletions),
            false => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use streamd_core::id::CheckpointId;

    use super::*;
    use crate::job_master::effects::Extent;

    #[test]
    fn nothing_is_deleted_before_the_last_process_has_ended_or_is_lost() {
        let mut remains = Remains::default();
        let machine = |name: &str| TaskManagerId(name.to_owned());
        remains.started(WorkerId(1), machine("a"));
        remains.started(WorkerId(2), machine("b"));
        remains.delete(Deletion {
            checkpoint: CheckpointId(1),
            location: "memory://chk-1".to_owned(),
            extent: Extent::Folder,
        });
        assert!(remains.take_deletions().is_empty());
        remains.ended(WorkerId(1));
        assert!(remains.take_deletions().is_empty());
        remains.lost(&machine("b"));
        assert_eq!(remains.take_deletions().len(), 1);
        assert!(remains.take_deletions().is_empty());
    }
}
