//! Delay statistics of US airports, kept up to date flight by flight.
//!
//! ```text
//!   CSV files ──▶ flights ──by origin──▶ statistics ─┬─▶ OUTPUT/updates    one line per flight
//!                                                    ├─▶ OUTPUT/results    one line per airport, when all is read
//!                                                    └─▶ the log           every 100th flight of an airport
//! ```
//!
//! By hand, it runs in one process: `cargo run -p flights -- --output /tmp/flights`. On a cluster, give the same binary and
//! the same arguments to `streamctl run`. Either way `check.py` finds every flight counted exactly once, whatever fails.

mod statistics;

use std::path::PathBuf;

use clap::Parser;
use streamd::prelude::*;

use crate::statistics::{AirportStatistics, Flight};

#[derive(Parser)]
#[command(about = "Delay statistics of US airports, kept up to date flight by flight")]
struct Args {
    /// The flights: a CSV file, or a folder of them
    #[arg(long, default_value = "examples/data/flights")]
    input: PathBuf,
    /// The folder for the output
    #[arg(long)]
    output: PathBuf,
    /// Flights to read per second in each subtask; 0 reads as fast as it goes
    #[arg(long, default_value_t = 0)]
    rate: u64,
}

fn main() -> streamd::Result<()> {
    let args = Args::parse();
    let env = StreamExecutionEnvironment::new();
    env.enable_checkpointing(Duration::from_secs(1))
        .enable_externalized_checkpoints(ExternalizedCheckpointRetention::RetainOnCancellation);

    let flights = FileSource::csv::<Flight>(args.input).rate(args.rate);
    let reports = env
        .from_source(flights, "flights")
        .uid("flights")
        .key_by(|flight| flight.origin.clone())
        .process(AirportStatistics::new())
        .uid("statistics")
        .name("statistics");

    let (updates, results) = (reports.filter(|r| !r.is_result), reports.filter(|r| r.is_result));
    updates
        .sink_to(FileSink::json_lines(args.output.join("updates")))
        .uid("updates")
        .name("updates");
    results
        .sink_to(FileSink::json_lines(args.output.join("results")))
        .uid("results")
        .name("results");
    updates
        .filter(|r| r.flights() % 100 == 0)
        .sink_to(PrintSink::new())
        .name("log");

    env.execute("flights")?;
    Ok(())
}
