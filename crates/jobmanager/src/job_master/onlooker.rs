//! The invariants, held up to the machine of a job while it runs: for simulations.

use std::sync::Arc;

use streamd_coordinator::action::Action;
use streamd_coordinator::event::{Event, JobSpec};
use streamd_coordinator::invariant::{Audit, Violation};
use streamd_coordinator::job::JobMachine;
use streamd_core::time::MonotonicTime;

/// Sees every event and action of one job from its beginning, and tells what must not be.
#[derive(Clone)]
pub struct Onlooker {
    audit: Audit,
    tell: Arc<dyn Fn(Violation) + Send + Sync>,
}

impl Onlooker {
    /// An onlooker of a job that has not begun.
    pub fn new(spec: &JobSpec, tell: impl Fn(Violation) + Send + Sync + 'static) -> Self {
        Self {
            audit: Audit::new(spec),
            tell: Arc::new(tell),
        }
    }

    /// Looks at one event, what the machine made of it, and the machine after it.
    pub(super) fn look(&mut self, machine: &JobMachine, now: MonotonicTime, event: &Event, actions: &[Action]) {
        if let Err(violation) = self.audit.observe(machine, now, event, actions) {
            (self.tell)(violation);
        }
    }
}
