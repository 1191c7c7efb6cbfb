//! Job managers: how they begin, lead, are stopped and go on, and die. A client submits the job to whoever leads.

use std::sync::Arc;

use streamd_coordinator::event::{OperationKind, OperationRequest};
use streamd_core::id::OperationId;
use streamd_core::time::Clock;
use streamd_jobmanager::unlinked::UnlinkedJobManager;

use super::{Cluster, Happening};
use crate::job_manager::{JobManager, News};
use crate::store::Actor;

/// The longest time until a job manager that is gone is started again, in milliseconds.
const LONGEST_ABSENCE_MS: u64 = 1_500;

/// The pause before a client asks again, in milliseconds.
const CLIENT_PAUSE_MS: u64 = 200;

impl Cluster<'_> {
    /// Starts one in a place, unless there is one that is not known to be gone: a stopped one does not answer who looks after it.
    pub(super) fn manager_starts(&mut self, place: u32) {
        let is_taken = |manager: &JobManager| manager.place == place && !manager.is_stopped();
        if self.managers.values().any(is_taken) {
            return;
        }
        self.next_manager += 1;
        let number = self.next_manager;
        let mut options = self.settings.managers.clone();
        // One that takes the place of a stopped one runs elsewhere: the address is not free.
        let is_free = self.managers.values().all(|manager| manager.place != place);
        options.bind_address = match is_free {
            true => format!("place-{place}:6123"),
            false => format!("instead-of-{place}-{number}:6123"),
        };
        let started = JobManager::start(
            place,
            options,
            Arc::clone(&self.clock),
            Arc::clone(&self.settings.resolve),
        );
        match started {
            Ok(manager) => {
                self.line(format_args!("job manager {number} starts in place {place}"));
                self.managers.insert(number, manager);
            }
            Err(error) => self.violated(format_args!("no job manager can be simulated: {error}")),
        }
    }

    pub(super) fn drive_managers(&mut self) {
        let numbers: Vec<u32> = self.managers.keys().copied().collect();
        for number in numbers {
            self.store.acts(Actor::Manager(number));
            let manager = self.managers.get_mut(&number);
            let (news, answer, cancelled) = manager.map_or((None, None, None), |manager| {
                (manager.drive(), manager.submitted(), manager.cancelled())
            });
            self.store.acts(Actor::Nobody);
            self.bury_whoever_crashed();
            match answer {
                Some(Ok(())) => {
                    self.line("the job is accepted");
                    self.accepted = true;
                }
                Some(Err(error)) => self.line(format_args!("the job is not accepted: {}", error.code)),
                None => {}
            }
            if let Some(cancelled) = cancelled {
                self.hear_of_cancellation(number, cancelled);
            }
            match news {
                Some(News::Leads(epoch)) => self.manager_leads(number, epoch),
                Some(News::CannotBegin(error)) => {
                    self.kill_manager(number, &format!("cannot begin: {}", error.code));
                }
                Some(News::Superseded(epoch)) => {
                    self.saw("a leader of the past ended");
                    self.kill_manager(number, &format!("led in epoch {epoch}, and ends"));
                }
                None => {}
            }
        }
    }

    pub(super) fn advance_managers(&mut self, millis: u64) {
        for (number, manager) in &mut self.managers {
            self.store.acts(Actor::Manager(*number));
            manager.advance(millis);
        }
        self.store.acts(Actor::Nobody);
        self.bury_whoever_crashed();
    }

    fn manager_leads(&mut self, number: u32, epoch: u64) {
        self.line(format_args!("job manager {number} leads in epoch {epoch}"));
        if epoch > 1 {
            self.saw("the leader changed");
            if self.watch.is_any_pending() {
                self.saw("the leader changed while a snapshot was pending");
            }
        }
        self.watch.forget();
        self.store.is_led_by(number);
    }

    /// Says something to a job manager. Nothing comes of it unless it serves.
    pub(super) fn ask<R>(&mut self, number: u32, act: impl AsyncFnOnce(&UnlinkedJobManager) -> R) -> Option<R> {
        self.store.acts(Actor::Manager(number));
        let answer = self.managers.get(&number).and_then(|manager| manager.with(act));
        self.store.acts(Actor::Nobody);
        self.bury_whoever_crashed();
        answer
    }

    /// One that serves, as somebody finds it who looks for one: its number and epoch.
    pub(super) fn find_manager(&mut self) -> Option<(u32, u64)> {
        let serving = self.managers.iter().filter(|(_, manager)| manager.is_serving());
        let found: Vec<(u32, u64)> = serving
            .filter_map(|(number, manager)| Some((*number, manager.epoch()?)))
            .collect();
        self.dice.pick(&found).copied()
    }

    /// The last that was elected, if it serves.
    pub(super) fn leader(&mut self) -> Option<&mut JobManager> {
        let leading = self.managers.values_mut().filter(|manager| manager.is_serving());
        leading.max_by_key(|manager| manager.epoch())
    }

    pub(super) fn submit(&mut self) {
        if self.accepted {
            return;
        }
        self.later(CLIENT_PAUSE_MS, Happening::Submit);
        let request = self.request.clone();
        if let Some(leader) = self.leader().filter(|leader| !leader.is_submitting()) {
            leader.submit(request);
        }
    }

    pub(super) fn any_manager(&mut self) -> Option<u32> {
        let numbers: Vec<u32> = self.managers.keys().copied().collect();
        self.dice.pick(&numbers).copied()
    }

    /// The process dies; another one is started in its place before long.
    pub(super) fn kill_manager(&mut self, number: u32, why: &str) {
        let Some(manager) = self.managers.remove(&number) else {
            return;
        };
        self.line(format_args!("job manager {number} {why}"));
        let place = manager.place;
        manager.kill();
        self.links_are_gone(number);
        let pause = self.dice.between(20, LONGEST_ABSENCE_MS);
        self.later(pause, Happening::ManagerStarts(place));
    }

    /// The process is stopped, and goes on later as if nothing had been. Whoever looks after job managers starts another one in its
    /// place meanwhile, sometimes.
    pub(super) fn stop_manager(&mut self, number: u32, millis: u64) {
        let Some(manager) = self.managers.get_mut(&number) else {
            return;
        };
        manager.stop();
        let place = manager.place;
        self.line(format_args!("job manager {number} is stopped"));
        self.later(millis, Happening::ManagerGoesOn(number));
        let pause = self.dice.between(100, LONGEST_ABSENCE_MS);
        self.later(pause, Happening::ManagerStarts(place));
        self.links_hang(number);
    }

    pub(super) fn manager_goes_on(&mut self, number: u32) {
        self.store.acts(Actor::Manager(number));
        if let Some(manager) = self.managers.get_mut(&number).filter(|manager| manager.is_stopped()) {
            manager.go_on();
            let is_of_the_past = manager.epoch().is_some() && !self.store.is_leader(number);
            self.trace
                .line(self.clock.monotonic().0, format_args!("job manager {number} goes on"));
            self.trace.saw(match is_of_the_past {
                true => "a leader of the past went on",
                false => "a stopped job manager went on",
            });
        }
        self.store.acts(Actor::Nobody);
        self.bury_whoever_crashed();
    }

    /// Asks for a savepoint if the whole job runs. One of a job that does not run is made of a checkpoint on threads of its own,
    /// whose time is not simulated.
    pub(super) fn ask_for_savepoint(&mut self) {
        self.savepoints += 1;
        let request = OperationRequest {
            id: OperationId::from_bytes(self.dice.id()),
            kind: OperationKind::Savepoint,
            target: Some(format!("{}/savepoints", self.store.uri())),
            folder: format!("savepoint-{}", self.savepoints),
            timeout_ms: None,
        };
        let leading = self.managers.iter().filter(|(_, manager)| manager.is_serving());
        let Some((number, manager)) = leading.max_by_key(|(_, manager)| manager.epoch()) else {
            return;
        };
        self.store.acts(Actor::Manager(*number));
        if manager.with_running_job(async |job| drop(job.start_operation(request).await)) {
            self.trace.saw("a savepoint was asked for");
        }
        self.store.acts(Actor::Nobody);
        self.bury_whoever_crashed();
    }
}
