//! `streamd-sim`: runs applications made for it on simulated clusters, seed after seed, until something does not hold.
//!
//! This program deliberately knows nothing of clusters: the simulation is a library that every application's tests can use; here
//! are an application that can tell what became of each record, and a command line.
//!
//! ```text
//!   --seed 17 --count 1000 ──▶ testing::simulate_with(application) ──▶ 0, or 1 and the line that replays it
//! ```
//!
//! Reading order: this file, then `application`.

mod application;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use streamd::testing::{
    CrashKind, CrashPoint, FaultProfile, Outside, SimulationPlan, SimulationReport, simulate_crashes, simulate_with,
};

use crate::application::{Broken, Topology, build};

/// Simulates a cluster in which everything goes wrong that can, as a seed decides
#[derive(Parser)]
#[command(name = "streamd-sim", version)]
struct Args {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// What goes wrong: none, all, crashes, network, store
    #[arg(long, default_value = "all")]
    fault_profile: FaultProfile,
    /// What the application does
    #[arg(long, value_enum, default_value_t = Topology::Ordinals)]
    topology: Topology,
    /// A file that gets a line for everything that happens in the run of the last seed
    #[arg(long)]
    trace: Option<PathBuf>,
    /// One run for each store operation or message of a run of the first seed in which nothing else goes wrong, on either side of it:
    /// the process that does it dies there
    #[arg(long, value_name = "store|message", conflicts_with_all = ["count", "fault_profile", "crash_at", "trace", "sabotage"])]
    crash_at_each: Option<CrashKind>,
    /// The process that does this dies there: store:17:before, message:3:after
    #[arg(long, value_name = "POINT")]
    crash_at: Option<CrashPoint>,
    /// Break something on purpose, to see that it is found
    #[arg(long, value_enum)]
    sabotage: Option<Broken>,
    /// Have a client cancel the job at some time: once it is told that it will be, the job must end
    #[arg(long, conflicts_with = "crash_at_each")]
    cancel: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let application = |outside: &Outside| build(outside, args.topology, args.sabotage);
    let report = match args.crash_at_each {
        Some(kind) => simulate_crashes(args.seed, kind, application),
        None => simulate_with(&plan(&args), application),
    };
    match report {
        Ok(report) => tell(&args, &report),
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::from(2)
        }
    }
}

fn plan(args: &Args) -> SimulationPlan {
    SimulationPlan {
        profile: args.fault_profile,
        crash: args.crash_at,
        sabotage: args.sabotage.and_then(Broken::of_cluster),
        cancels: args.cancel,
        trace: args.trace.clone(),
        ..SimulationPlan::new(args.seed..args.seed.saturating_add(args.count))
    }
}

fn tell(args: &Args, report: &SimulationReport) -> ExitCode {
    let text = if args.json {
        let document = serde_json::json!({
            "runs": report.runs,
            "violation": report.violation,
            "digest": format!("{:016x}", report.digest),
            "simulated_ms": report.simulated_ms,
            "sightings": report.sightings,
        });
        format!("{document}\n")
    } else {
        let sightings = report.sightings.iter();
        let sightings: String = sightings.map(|(what, count)| format!("{count:>8}  {what}\n")).collect();
        format!(
            "{} runs, {} s of simulated time, digest {:016x}\n{sightings}",
            report.runs,
            report.simulated_ms / 1_000,
            report.digest
        )
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("the report cannot be written: {error}");
            return ExitCode::from(2);
        }
        Ok(()) | Err(_) => {}
    }
    let Some((seed, what)) = &report.violation else {
        return ExitCode::SUCCESS;
    };
    eprintln!("seed {seed}: {what}");
    eprintln!("replay: streamd-sim {} --trace trace.txt", replay(args, *seed, what));
    ExitCode::FAILURE
}

/// The arguments that have a violation again.
fn replay(args: &Args, seed: u64, what: &str) -> String {
    let mut words = vec![format!("--seed {seed} --topology {}", args.topology.name())];
    // A sweep says first where the process died.
    let crashed = what.strip_prefix("crash at ").and_then(|rest| rest.split_once(": "));
    match crashed.filter(|_| args.crash_at_each.is_some()) {
        Some((point, _)) => words.push(format!("--fault-profile none --crash-at {point}")),
        None => words.push(format!("--fault-profile {}", args.fault_profile)),
    }
    words.extend(args.cancel.then(|| "--cancel".to_owned()));
    words.extend(args.crash_at.map(|point| format!("--crash-at {point}")));
    words.extend(args.sabotage.map(|it| format!("--sabotage {}", it.name())));
    words.join(" ")
}
