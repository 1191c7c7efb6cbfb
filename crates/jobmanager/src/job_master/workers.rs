//! The workers of one job: which are expected, how to reach each, and which have been silent for too long.

use std::collections::BTreeMap;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{Attempt, TaskManagerId, WorkerId};
use streamd_core::protocol::{Failure, FaultDomain, WorkerCommand, WorkerEvent, WorkerRegistration, WorkerReturn};
use streamd_core::time::MonotonicTime;
use tokio::sync::mpsc;

/// Milliseconds that a closed link waits for its task manager to say how the process ended: the link closes and the process is
/// reaped at the same moment, and "killed by signal 9" helps a person more than "the connection closed". On a machine that is busy the
/// word of it takes its time; a task manager that is gone as well is seen by its own link, which nobody waits for.
const LINK_CLOSED_GRACE_MS: u64 = 500;

/// How long workers may be silent, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct WorkerTimeouts {
    /// From the start of the process until it reports for work.
    pub start_ms: u64,
    /// From one sign of life to the next.
    pub heartbeat_ms: u64,
}

/// The workers of one job.
pub(super) struct Workers {
    /// `None`: they may be silent for ever.
    timeouts: Option<WorkerTimeouts>,
    known: BTreeMap<WorkerId, Worker>,
}

struct Worker {
    task_manager: TaskManagerId,
    state: WorkerState,
}

/// ```text
///   Starting ─▶ Attached ─▶ LinkClosed ─▶ (gone)
///       └───────────┴─▶ Stopping ─────────▶ (gone)
/// ```
enum WorkerState {
    /// The process is asked for, and perhaps it runs since this moment.
    Starting { since: Option<MonotonicTime> },
    /// It has a link.
    Attached {
        commands: mpsc::Sender<WorkerCommand>,
        /// When it was last heard, while it owes signs of life: from its deployment to the end of that attempt. A worker that
        /// runs nothing may be silent.
        last_heard: Option<MonotonicTime>,
        /// Heartbeats of earlier attempts are leftovers.
        beats_from: Attempt,
    },
    /// Its link is closed; at this moment it counts as lost.
    LinkClosed { lost_at: MonotonicTime },
    /// It has been told to go.
    Stopping,
}

impl Workers {
    pub(super) fn new(timeouts: Option<WorkerTimeouts>) -> Self {
        Self {
            timeouts,
            known: BTreeMap::new(),
        }
    }

    /// A worker is asked for.
    pub(super) fn start(&mut self, worker: WorkerId, task_manager: TaskManagerId) {
        let state = WorkerState::Starting { since: None };
        self.known.insert(worker, Worker { task_manager, state });
    }

    /// The process of a worker runs.
    pub(super) fn started(&mut self, worker: WorkerId, now: MonotonicTime) {
        if let Some(WorkerState::Starting { since }) = self.known.get_mut(&worker).map(|worker| &mut worker.state) {
            *since = Some(now);
        }
    }

    /// A worker has a link. Errors if it is not expected, or has had one.
    pub(super) fn attach(
        &mut self,
        registration: &WorkerRegistration,
        commands: mpsc::Sender<WorkerCommand>,
    ) -> Result<(), CodedError> {
        match self.known.get_mut(&registration.worker) {
            Some(Worker {
                state: state @ WorkerState::Starting { .. },
                ..
            }) => {
                *state = WorkerState::Attached {
                    commands,
                    last_heard: None,
                    beats_from: Attempt::NONE,
                };
                Ok(())
            }
            Some(_) | None => Err(not_expected(registration)),
        }
    }

    /// A worker is back that another job manager started.
    pub(super) fn adopt(&mut self, returned: &WorkerReturn, commands: mpsc::Sender<WorkerCommand>, now: MonotonicTime) {
        let state = WorkerState::Attached {
            commands,
            last_heard: Some(now),
            beats_from: returned.attempt,
        };
        let task_manager = returned.registration.task_manager.clone();
        self.known
            .insert(returned.registration.worker, Worker { task_manager, state });
    }

    /// A worker said something. `false` if it has no link (any more): its words count for nothing.
    pub(super) fn heard(&mut self, worker: WorkerId, event: &WorkerEvent, now: MonotonicTime) -> bool {
        match self.known.get_mut(&worker).map(|worker| &mut worker.state) {
            Some(WorkerState::Attached {
                last_heard, beats_from, ..
            }) => {
                let is_old = matches!(event, WorkerEvent::Heartbeat { attempt, .. } if attempt < beats_from);
                if last_heard.is_some() && !is_old {
                    *last_heard = Some(now);
                }
                true
            }
            Some(WorkerState::Stopping) => true,
            Some(WorkerState::Starting { .. } | WorkerState::LinkClosed { .. }) | None => false,
        }
    }

    /// Hands a command to a worker without waiting. Errors if it has no link, or does not take its commands.
    pub(super) fn send(&mut self, worker: WorkerId, command: WorkerCommand, now: MonotonicTime) -> Result<(), Failure> {
        let Some(Worker {
            state:
                WorkerState::Attached {
                    commands,
                    last_heard,
                    beats_from,
                },
            ..
        }) = self.known.get_mut(&worker)
        else {
            return Err(external(format!("`{worker}` has no link")));
        };
        if let Some(attempt) = next_beats(&command) {
            // From here on, not from its first heartbeat: it may hang before that.
            *last_heard = matches!(command, WorkerCommand::Deploy(_)).then_some(now);
            *beats_from = attempt;
        }
        commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => external(format!("`{worker}` does not take its commands")),
            mpsc::error::TrySendError::Closed(_) => external(format!("the link to `{worker}` is closed")),
        })
    }

    /// The link of a worker is closed.
    pub(super) fn link_closed(&mut self, worker: WorkerId, now: MonotonicTime) {
        if let Some(Worker { state, .. }) = self.known.get_mut(&worker) {
            let lost_at = match state {
                WorkerState::Stopping => now,
                WorkerState::LinkClosed { lost_at } => *lost_at,
                WorkerState::Starting { .. } | WorkerState::Attached { .. } => now.plus(LINK_CLOSED_GRACE_MS),
            };
            *state = WorkerState::LinkClosed { lost_at };
        }
    }

    /// A worker is told to go: its link closes once it has taken the commands that were sent before.
    pub(super) fn stop(&mut self, worker: WorkerId) {
        if let Some(Worker { state, .. }) = self.known.get_mut(&worker) {
            *state = WorkerState::Stopping;
        }
    }

    /// A worker is gone. `false` if that was known.
    pub(super) fn remove(&mut self, worker: WorkerId) -> bool {
        self.known.remove(&worker).is_some()
    }

    /// A task manager is gone with its workers.
    pub(super) fn remove_task_manager(&mut self, task_manager: &TaskManagerId) {
        self.known.retain(|_, worker| worker.task_manager != *task_manager);
    }

    /// Every worker, attached or not.
    pub(super) fn ids(&self) -> Vec<WorkerId> {
        self.known.keys().copied().collect()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// When [`take_lost`](Self::take_lost) has something to say next, unless something happens before.
    pub(super) fn next_deadline(&self) -> Option<MonotonicTime> {
        self.known.values().filter_map(|worker| self.lost_at(worker)).min()
    }

    /// Removes the workers that count as lost by now, each with the reason.
    pub(super) fn take_lost(&mut self, now: MonotonicTime) -> Vec<(WorkerId, Failure)> {
        let is_lost = |worker: &Worker| self.lost_at(worker).is_some_and(|at| at <= now);
        let lost: Vec<WorkerId> = self
            .known
            .iter()
            .filter(|(_, worker)| is_lost(worker))
            .map(|(id, _)| *id)
            .collect();
        lost.into_iter()
            .filter_map(|id| {
                self.known
                    .remove(&id)
                    .map(|worker| (id, external(self.reason(id, &worker))))
            })
            .collect()
    }

    fn lost_at(&self, worker: &Worker) -> Option<MonotonicTime> {
        let (since, timeout_ms) = match &worker.state {
            WorkerState::Starting { since } => (*since, self.timeouts?.start_ms),
            WorkerState::Attached { last_heard, .. } => (*last_heard, self.timeouts?.heartbeat_ms),
            WorkerState::LinkClosed { lost_at } => (Some(*lost_at), 0),
            WorkerState::Stopping => (None, 0),
        };
        Some(since?.plus(timeout_ms))
    }

    /// Why a worker counts as lost.
    fn reason(&self, id: WorkerId, worker: &Worker) -> String {
        let who = format!("`{id}` on task manager `{}`", worker.task_manager);
        match (&worker.state, self.timeouts) {
            (WorkerState::Starting { .. }, Some(timeouts)) => format!(
                "{who} runs for {} ms and has not reported for work: does its main call env.execute()?",
                timeouts.start_ms
            ),
            (WorkerState::Attached { .. }, Some(timeouts)) => {
                format!("{who} gave no sign of life for {} ms", timeouts.heartbeat_ms)
            }
            (WorkerState::Starting { .. } | WorkerState::Attached { .. }, None)
            | (WorkerState::LinkClosed { .. } | WorkerState::Stopping, _) => {
                format!("{who} closed its link without a word")
            }
        }
    }
}

/// The first attempt that the worker owes signs of life for after a command; nothing where the command changes nothing.
fn next_beats(command: &WorkerCommand) -> Option<Attempt> {
    match command {
        WorkerCommand::Deploy(deployment) => Some(deployment.attempt),
        // Those that go on give signs of life.
        WorkerCommand::Cancel { kept, .. } if !kept.is_empty() => None,
        WorkerCommand::Cancel { attempt, .. } | WorkerCommand::Finish { attempt } => Some(attempt.next()),
        WorkerCommand::Shutdown => Some(Attempt(u32::MAX)),
        WorkerCommand::TriggerCheckpoint { .. }
        | WorkerCommand::NotifyCheckpointComplete { .. }
        | WorkerCommand::NotifyCheckpointAborted { .. }
        | WorkerCommand::AlignWatermarks { .. }
        | WorkerCommand::Drain { .. } => None,
    }
}

/// The answer to a worker that the job does not know, or know any more.
pub(super) fn not_expected(registration: &WorkerRegistration) -> CodedError {
    let WorkerRegistration { job_id, worker, .. } = registration;
    CodedError::new(
        ErrorCode::JobNotRunning,
        format!("job `{job_id}` does not expect `{worker}`"),
    )
}

fn external(message: String) -> Failure {
    Failure::new(FaultDomain::External, message)
}

#[cfg(test)]
mod tests {
    use streamd_core::backend::StateBackendOptions;
    use streamd_core::id::JobId;
    use streamd_core::protocol::Deployment;

    use super::*;

    const WORKER: WorkerId = WorkerId(7);

    fn attached() -> (Workers, mpsc::Receiver<WorkerCommand>) {
        let mut workers = Workers::new(Some(WorkerTimeouts {
            start_ms: 300,
            heartbeat_ms: 1_000,
        }));
        let (commands, queue) = mpsc::channel(1);
        workers.start(WORKER, TaskManagerId("tm".to_owned()));
        workers.attach(&registration(), commands).unwrap();
        (workers, queue)
    }

    fn registration() -> WorkerRegistration {
        WorkerRegistration {
            job_id: JobId::from_bytes([1; 16]),
            worker: WORKER,
            task_manager: TaskManagerId("tm".to_owned()),
            data_address: "127.0.0.1:1".to_owned(),
            fingerprint: String::new(),
            graph_outline: String::new(),
            process_id: 1,
        }
    }

    fn deploy(attempt: u32) -> WorkerCommand {
        WorkerCommand::Deploy(Box::new(Deployment {
            job_id: JobId::from_bytes([1; 16]),
            attempt: Attempt(attempt),
            slots: Vec::new(),
            kept: Vec::new(),
            placement: Vec::new(),
            max_parallelism: Vec::new(),
            restored: None,
            state_backend: StateBackendOptions::default(),
        }))
    }

    fn heartbeat(attempt: u32) -> WorkerEvent {
        WorkerEvent::Heartbeat {
            attempt: Attempt(attempt),
            subtasks: Vec::new(),
        }
    }

    #[test]
    fn a_worker_that_stops_its_heartbeats_is_lost_after_the_timeout() {
        let (mut workers, _queue) = attached();
        // Nothing is deployed: it owes no sign of life.
        assert!(workers.heard(WORKER, &heartbeat(0), MonotonicTime(100)));
        assert_eq!(workers.next_deadline(), None);
        workers.send(WORKER, deploy(1), MonotonicTime(200)).unwrap();
        assert!(workers.heard(WORKER, &heartbeat(1), MonotonicTime(500)));
        assert_eq!(workers.next_deadline(), Some(MonotonicTime(1_500)));
        assert!(workers.take_lost(MonotonicTime(1_499)).is_empty());
        let lost = workers.take_lost(MonotonicTime(1_500));
        assert!(lost[0].1.message.contains("no sign of life"), "{lost:?}");
        assert!(workers.is_empty());
    }

    #[test]
    fn a_worker_that_hangs_before_its_first_heartbeat_is_lost_after_the_timeout() {
        let (mut workers, _queue) = attached();
        workers.send(WORKER, deploy(1), MonotonicTime(200)).unwrap();
        assert!(workers.take_lost(MonotonicTime(1_199)).is_empty());
        // A leftover of the attempt before is no sign of life of this one.
        workers.heard(WORKER, &heartbeat(0), MonotonicTime(1_199));
        let lost = workers.take_lost(MonotonicTime(1_200));
        assert!(lost[0].1.message.contains("no sign of life"), "{lost:?}");
    }

    #[test]
    fn a_process_that_never_reports_for_work_is_lost_after_its_timeout() {
        let (mut workers, _queue) = attached();
        let slow = WorkerId(8);
        workers.start(slow, TaskManagerId("tm".to_owned()));
        // Its application may still be on its way to the task manager.
        assert_eq!(workers.next_deadline(), None);
        workers.started(slow, MonotonicTime(100));
        assert_eq!(workers.next_deadline(), Some(MonotonicTime(400)));
        // The report of the task manager may come after the worker's own.
        workers.started(WORKER, MonotonicTime(100));
        let lost = workers.take_lost(MonotonicTime(400));
        assert!(lost[0].1.message.contains("has not reported for work"), "{lost:?}");
        assert_eq!((lost.len(), workers.ids()), (1, vec![WORKER]));
    }

    #[test]
    fn a_worker_whose_attempt_is_cancelled_may_be_silent() {
        let (mut workers, mut queue) = attached();
        workers.send(WORKER, deploy(1), MonotonicTime(0)).unwrap();
        drop(queue.try_recv().unwrap());
        workers.heard(WORKER, &heartbeat(1), MonotonicTime(0));
        let cancel = WorkerCommand::Cancel {
            attempt: Attempt(1),
            kept: Vec::new(),
        };
        workers.send(WORKER, cancel.clone(), MonotonicTime(0)).unwrap();
        assert_eq!(queue.try_recv().unwrap(), cancel);
        // A heartbeat that was on its way.
        workers.heard(WORKER, &heartbeat(1), MonotonicTime(1));
        assert_eq!(workers.next_deadline(), None);
        workers.send(WORKER, deploy(2), MonotonicTime(2)).unwrap();
        assert_eq!(workers.next_deadline(), Some(MonotonicTime(1_002)));
    }

    #[test]
    fn a_closed_link_waits_a_moment_for_the_reason() {
        let (mut workers, _queue) = attached();
        workers.link_closed(WORKER, MonotonicTime(0));
        assert!(!workers.heard(WORKER, &heartbeat(1), MonotonicTime(1)));
        assert_eq!(workers.next_deadline(), Some(MonotonicTime(LINK_CLOSED_GRACE_MS)));
        assert!(workers.remove(WORKER));
        assert!(workers.take_lost(MonotonicTime(u64::MAX)).is_empty());
    }

    #[test]
    fn a_worker_has_one_link_in_its_life() {
        let (mut workers, _queue) = attached();
        let (commands, _) = mpsc::channel(1);
        assert!(workers.attach(&registration(), commands.clone()).is_err());
        workers.remove(WORKER);
        assert!(workers.attach(&registration(), commands).is_err());
    }

    #[test]
    fn a_worker_that_does_not_take_its_commands_is_given_up() {
        let (mut workers, _queue) = attached();
        workers.send(WORKER, WorkerCommand::Shutdown, MonotonicTime(0)).unwrap();
        assert!(workers.send(WORKER, WorkerCommand::Shutdown, MonotonicTime(0)).is_err());
    }
}
