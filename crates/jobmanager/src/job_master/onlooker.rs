//! The invariants, held up to the machines of jobs while they run: for simulations.

use std::fmt;
use std::sync::Arc;

use streamd_coordinator::action::Action;
use streamd_coordinator::event::{Event, JobSpec};
use streamd_coordinator::invariant::{Audit, Violation};
use streamd_coordinator::job::{JobMachine, Recovery};
use streamd_core::time::MonotonicTime;

/// Looks at every job of a job manager, and tells what must not be.
#[derive(Clone)]
pub struct Onlookers(Arc<dyn Fn(Violation) + Send + Sync>);

/// Sees every event and action of one job, from the beginning of its master.
pub(crate) struct Onlooker {
    audit: Audit,
    all: Onlookers,
}

impl Onlookers {
    /// Onlookers that tell of each invariant that does not hold.
    pub fn new(tell: impl Fn(Violation) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// One for a job that has not begun.
    pub(crate) fn of(&self, spec: &JobSpec) -> Onlooker {
        Onlooker {
            audit: Audit::new(spec),
            all: self.clone(),
        }
    }

    /// One for a job that another job manager ran before.
    pub(crate) fn of_recovered(&self, spec: &JobSpec, recovery: &Recovery) -> Onlooker {
        Onlooker {
            audit: Audit::recovered(spec, recovery),
            all: self.clone(),
        }
    }
}

impl fmt::Debug for Onlookers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Onlookers")
    }
}

impl Onlooker {
    /// Looks at one event, what the machine made of it, and the machine after it.
    pub(super) fn look(&mut self, machine: &JobMachine, now: MonotonicTime, event: &Event, actions: &[Action]) {
        if let Err(violation) = self.audit.observe(machine, now, event, actions) {
            (self.all.0)(violation);
        }
    }
}
