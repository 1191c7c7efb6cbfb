//! The test kit: an application on simulated clusters, in which everything goes wrong that can.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::path::PathBuf;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_runtime::pipeline::Pipeline;
use streamd_simulation::crash::CRASHED;
use streamd_simulation::{CrashKind, CrashPoint, FaultProfile, Outcome, Outside, Sabotage, Sightings, Simulation};

use crate::environment::StreamExecutionEnvironment;
use crate::error::Result;

/// The name of the job in simulations.
const JOB: &str = "simulated";

/// What is simulated.
#[derive(Debug, Clone)]
pub struct SimulationPlan {
    /// One run for each. A seed decides everything that happens in its run.
    pub seeds: Range<u64>,
    /// What goes wrong.
    pub profile: FaultProfile,
    /// Whoever comes to this point dies there.
    pub crash: Option<CrashPoint>,
    /// What is broken on purpose, to see that it is found.
    pub sabotage: Option<Sabotage>,
    /// Whether a client has the job cancelled at some time: a part comes out then, and the job must end once the client is told that it
    /// will.
    pub cancels: bool,
    /// A file that gets a line for everything that happens, in the run of the last seed.
    pub trace: Option<PathBuf>,
}

impl SimulationPlan {
    /// These seeds, and everything goes wrong.
    pub fn new(seeds: Range<u64>) -> Self {
        Self {
            seeds,
            profile: FaultProfile::All,
            crash: None,
            sabotage: None,
            cancels: false,
            trace: None,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct SimulationReport {
    /// How many runs there were.
    pub runs: u64,
    /// The first run in which something did not hold: its seed, and what.
    pub violation: Option<(u64, String)>,
    /// What comes out, by the name of the sink, as JSON and in order: the same in every run.
    pub outputs: BTreeMap<String, Vec<String>>,
    /// How often each thing happened in all runs together. What never happened was not tested.
    pub sightings: Sightings,
    /// A digest of everything that happened, in order: the same plan has the same digest, always.
    pub digest: u64,
    /// Milliseconds of simulated time in all runs together.
    pub simulated_ms: u64,
}

/// Runs an application on a simulated cluster, once for each seed, and panics if the output of any run differs from that of a run
/// in which nothing goes wrong.
///
/// In each run workers, machines and job managers die, job managers are stopped and go on when others lead, links break and stall,
/// writes to the store fail or say that they have, commits are answered with errors, savepoints are asked for. Not simulated are the
/// network's bytes, the processes of a task manager and the command line.
///
/// `application` is called in every process of the cluster, as `main` is: it must build the same graph each time. Its output must
/// go to [sinks of the outside](Outside::sink), its input must be there again after a failure: [sources of the
/// outside](Outside::source) are paced so that much can happen between two records. What comes out must not depend on the order in which records of different keys or
/// splits arrive, or every run is right in its own way.
pub fn simulate(seeds: Range<u64>, application: impl Fn(&Outside) -> StreamExecutionEnvironment) -> SimulationReport {
    let report = simulate_with(&SimulationPlan::new(seeds), application).unwrap_or_else(|error| panic!("{error}"));
    if let Some((seed, violation)) = &report.violation {
        panic!(
            "seed {seed}: {violation}\nreplay: simulate({seed}..{}, ..), or simulate_with a trace to read",
            seed + 1
        );
    }
    report
}

/// As [`simulate`], with a choice of what goes wrong, and a trace. It ends with the first run in which something does not hold.
pub fn simulate_with(
    plan: &SimulationPlan,
    application: impl Fn(&Outside) -> StreamExecutionEnvironment,
) -> Result<SimulationReport> {
    let build = |outside: &Outside| pipeline(&application, outside);
    let mut report = SimulationReport::of_reference(run(reference(plan.seeds.start), &build)?);
    for seed in plan.seeds.clone() {
        if report.violation.is_some() {
            break;
        }
        let mut simulation = Simulation::new(seed)
            .profile(plan.profile)
            .sabotaged(plan.sabotage)
            .cancelled(plan.cancels)
            .expecting(report.outputs.clone());
        if let Some(point) = plan.crash {
            simulation = simulation.crashing_at(point);
        }
        if let Some(path) = plan.trace.as_ref().filter(|_| seed + 1 == plan.seeds.end) {
            let file = File::create(path).map_err(|error| {
                let what = format!("the trace `{}` cannot be written", path.display());
                CodedError::caused(ErrorCode::DirectoryNotWritable, what, &error)
            })?;
            simulation = simulation.trace(Box::new(BufWriter::new(file)));
        }
        report.add(run(simulation, &build)?);
    }
    Ok(report)
}

/// Runs an application in which nothing goes wrong, and then once for each operation of the store or each message of that run and
/// either side of it, where the process that does it dies. It ends with the first run in which something does not hold, and says
/// where that one crashed: [`SimulationPlan::crash`] with the profile [`FaultProfile::None`] has it again.
pub fn simulate_crashes(
    seed: u64,
    at_each: CrashKind,
    application: impl Fn(&Outside) -> StreamExecutionEnvironment,
) -> Result<SimulationReport> {
    let build = |outside: &Outside| pipeline(&application, outside);
    let whole = run(reference(seed), &build)?;
    let moments = match at_each {
        CrashKind::Store => whole.store_operations,
        CrashKind::Message => whole.messages,
    };
    let mut report = SimulationReport::of_reference(whole);
    for point in CrashPoint::all(at_each, moments) {
        if report.violation.is_some() {
            break;
        }
        let simulation = reference(seed).expecting(report.outputs.clone()).crashing_at(point);
        let mut outcome = run(simulation, &build)?;
        if outcome.violation.is_none() && !outcome.sightings.contains_key(CRASHED) {
            outcome.violation = Some("nobody came to the crash point".to_owned());
        }
        outcome.violation = outcome.violation.map(|what| format!("crash at {point}: {what}"));
        report.add(outcome);
    }
    Ok(report)
}

/// The run that shows what must come out.
fn reference(seed: u64) -> Simulation {
    Simulation::new(seed).profile(FaultProfile::None)
}

fn pipeline(
    application: &dyn Fn(&Outside) -> StreamExecutionEnvironment,
    outside: &Outside,
) -> std::result::Result<Pipeline, CodedError> {
    let pipeline = application(outside).pipeline(JOB.to_owned());
    pipeline.map_err(|error| error.coded().clone())
}

fn run(
    simulation: Simulation,
    build: &dyn Fn(&Outside) -> std::result::Result<Pipeline, CodedError>,
) -> Result<Outcome> {
    let outcome = simulation.run(build);
    Ok(outcome.map_err(|error| CodedError::caused(ErrorCode::Internal, "no cluster can be simulated", &error))?)
}

impl SimulationReport {
    fn of_reference(reference: Outcome) -> Self {
        Self {
            runs: 0,
            violation: reference.violation.map(|what| (reference.seed, what)),
            outputs: reference.outputs,
            sightings: Sightings::new(),
            digest: 0,
            simulated_ms: 0,
        }
    }

    fn add(&mut self, outcome: Outcome) {
        self.runs += 1;
        for (what, count) in outcome.sightings {
            *self.sightings.entry(what).or_default() += count;
        }
        self.digest = self.digest.rotate_left(1) ^ outcome.digest;
        self.simulated_ms += outcome.simulated_ms;
        self.violation = outcome.violation.map(|what| (outcome.seed, what));
    }
}
