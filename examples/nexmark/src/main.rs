//! Nexmark: queries over the persons, auctions and bids of an online auction house.
//!
//! ```text
//!   generator ──▶ events ──▶ one of the queries ──▶ lines, in OUTPUT
//! ```
//!
//! By hand: `cargo run -p nexmark -- --query q5 --events 1000000 --output /tmp/q5`; on a cluster the same binary and arguments
//! go to `streamctl run`. `check.py` computes the same results in another way and compares them line by line.

mod events;
mod queries;
mod results;

use std::path::PathBuf;

use clap::Parser;
use streamd::prelude::*;

use crate::events::event;
use crate::results::Results;

#[derive(Parser)]
#[command(about = "Runs a query of the Nexmark benchmark")]
struct Args {
    /// Which query
    #[arg(long, value_parser = queries::names())]
    query: String,

    /// How many events there are: persons, auctions and bids together
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,

    /// At most this many events a second from each reader; 0: as fast as can be
    #[arg(long, default_value_t = 0)]
    rate: u64,

    /// How many subtasks each step has; without it, as many as there are processors
    #[arg(long)]
    parallelism: Option<u32>,

    /// The folder for the results, one line each; without it they are counted or thrown away, for measuring
    #[arg(long)]
    output: Option<PathBuf>,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> streamd::Result<()> {
    let args = Args::parse();
    let env = StreamExecutionEnvironment::new();
    if let Some(parallelism) = args.parallelism {
        env.set_parallelism(parallelism);
    }
    let source = GeneratorSource::new(Some(args.events), event).rate(args.rate);
    let events = env.from_source(source, "events").uid("events");
    queries::run(&args.query, &events, &Results { output: args.output });
    env.execute(format!("nexmark {}", args.query))?;
    Ok(())
}
