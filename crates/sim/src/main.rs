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

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use streamd::testing::{FaultProfile, SimulationPlan, SimulationReport, simulate_with};

use crate::application::{Sabotage, Topology, build};

/// Simulates a cluster in which everything goes wrong that can, as a seed decides
#[derive(Parser)]
#[command(name = "streamd-sim", version)]
struct Args {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other
    #[arg(long, default_value_t = 1)]
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
    /// Break the application on purpose, to see that it is found
    #[arg(long, value_enum)]
    sabotage: Option<Sabotage>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let plan = SimulationPlan {
        seeds: args.seed..args.seed.saturating_add(args.count),
        profile: args.fault_profile,
        trace: args.trace.clone(),
    };
    match simulate_with(&plan, |outside| build(outside, args.topology, args.sabotage)) {
        Ok(report) => tell(&args, &report),
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::from(2)
        }
    }
}

fn tell(args: &Args, report: &SimulationReport) -> ExitCode {
    if args.json {
        let document = serde_json::json!({
            "runs": report.runs,
            "violation": report.violation,
            "digest": format!("{:016x}", report.digest),
            "simulated_ms": report.simulated_ms,
            "sightings": report.sightings,
        });
        println!("{document}");
    } else {
        println!(
            "{} runs, {} s of simulated time, digest {:016x}",
            report.runs,
            report.simulated_ms / 1_000,
            report.digest
        );
        for (what, count) in &report.sightings {
            println!("{count:>8}  {what}");
        }
    }
    let Some((seed, what)) = &report.violation else {
        return ExitCode::SUCCESS;
    };
    let topology = args.topology.name();
    let sabotage = args
        .sabotage
        .map(|it| format!(" --sabotage {}", it.name()))
        .unwrap_or_default();
    eprintln!("seed {seed}: {what}");
    eprintln!(
        "replay: streamd-sim --seed {seed} --fault-profile {} --topology {topology}{sabotage} --trace trace.txt",
        args.fault_profile
    );
    ExitCode::FAILURE
}
