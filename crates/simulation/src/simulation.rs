//! How a simulation is run.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use streamd_core::error::CodedError;
use streamd_core::time::{ManualClock, WallTime};
use streamd_runtime::pipeline::Pipeline;

use crate::cluster::Cluster;
use crate::crash::CrashPoint;
use crate::outcome::Outcome;
use crate::outside::Outside;
use crate::profile::FaultProfile;
use crate::sabotage::Sabotage;

/// The date at the beginning of each simulation.
const BEGIN: WallTime = WallTime(1_700_000_000_000);

/// Why a simulation could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The application cannot be built, or no cluster would accept it.
    #[error("the application cannot be simulated: {0}")]
    Application(CodedError),
    /// The machine that simulates has no means left.
    #[error("the simulation cannot begin")]
    Runtime(#[from] std::io::Error),
}

/// Builds the pipeline, as each process of a cluster does. Its output must go to sinks of the [`Outside`] to be seen.
pub type Application<'a> = &'a dyn Fn(&Outside) -> Result<Pipeline, CodedError>;

/// One run of an application on a simulated cluster.
pub struct Simulation {
    arrangement: Arrangement,
    trace: Option<Box<dyn Write + Send>>,
    expected: Option<BTreeMap<String, Vec<String>>>,
}

/// What decides a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrangement {
    pub(crate) seed: u64,
    pub(crate) profile: FaultProfile,
    pub(crate) crash: Option<CrashPoint>,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) cancels: bool,
}

impl Simulation {
    /// What this seed decides.
    pub fn new(seed: u64) -> Self {
        let arrangement = Arrangement {
            seed,
            profile: FaultProfile::All,
            crash: None,
            sabotage: None,
            cancels: false,
        };
        Self {
            arrangement,
            trace: None,
            expected: None,
        }
    }

    /// The kinds of trouble.
    #[must_use]
    pub fn profile(mut self, profile: FaultProfile) -> Self {
        self.arrangement.profile = profile;
        self
    }

    /// Whoever comes to this point dies there.
    #[must_use]
    pub fn crashing_at(mut self, point: CrashPoint) -> Self {
        self.arrangement.crash = Some(point);
        self
    }

    /// Breaks the cluster on purpose.
    #[must_use]
    pub fn sabotaged(mut self, sabotage: Option<Sabotage>) -> Self {
        self.arrangement.sabotage = sabotage;
        self
    }

    /// A client has the job cancelled at some time. What comes out is a part then.
    #[must_use]
    pub fn cancelled(mut self, cancels: bool) -> Self {
        self.arrangement.cancels = cancels;
        self
    }

    /// Writes a line for everything that happens.
    #[must_use]
    pub fn trace(mut self, to: Box<dyn Write + Send>) -> Self {
        self.trace = Some(to);
        self
    }

    /// What must come out, no more at any moment and no less at the end: the outputs of a run without faults.
    #[must_use]
    pub fn expecting(mut self, outputs: BTreeMap<String, Vec<String>>) -> Self {
        self.expected = Some(outputs);
        self
    }

    /// Runs the application until it has ended, or something does not hold.
    pub fn run(self, application: Application<'_>) -> Result<Outcome, SimulationError> {
        let clock = Arc::new(ManualClock::showing(BEGIN));
        let outside = Outside::new(Arc::clone(&clock));
        if let Some(expected) = &self.expected {
            outside.expect(expected);
        }
        let (cluster, task_managers) = Cluster::new(self.arrangement, self.trace, clock, outside, application)?;
        Ok(cluster.run(task_managers, self.expected.as_ref()))
    }
}
