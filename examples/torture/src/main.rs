//! An application to be killed, saved, moved and resumed: every record can be told from every other, and what must come out is known
//! beforehand.
//!
//! ```text
//!   numbers ──▶ records (split, seq, key, canary) ──▶ one of the topologies ──▶ outputs (key, ordinal, digest, …), exactly once
//! ```
//!
//! By hand: `cargo run -p torture -- --topology count --records 100000 --output /tmp/out`; on a cluster the same binary and arguments
//! go to `streamctl run`. `check.py`, with the same arguments, computes what must be in the output, and compares.

mod output;
mod record;
mod topologies;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use streamd::{Compression, prelude::*};

use crate::output::SinkKind;
use crate::record::{Numbers, Record};
use crate::topologies::Topology;

#[derive(Parser)]
#[command(about = "Runs a job of which everything that must come out is known")]
struct Args {
    /// What the job does
    #[arg(long, value_enum)]
    topology: Topology,

    #[command(flatten)]
    numbers: Numbers,

    /// Where the records come from
    #[arg(long, value_enum, default_value_t = SourceKind::Generator)]
    source: SourceKind,

    /// The folder of `--source files`, as `check.py generate` fills it
    #[arg(long, required_if_eq("source", "files"))]
    input: Option<PathBuf>,

    /// At most this many records a second in each subtask; 0: as fast as can be
    #[arg(long, default_value_t = 0)]
    rate: u64,

    /// What the results are written to
    #[arg(long, value_enum, default_value_t = SinkKind::File2pc)]
    sink: SinkKind,

    /// The folder of `--sink file2pc`, or the URL of `--sink ledger`; without it the results go nowhere
    #[arg(long)]
    output: Option<String>,

    /// How many bytes each key keeps beside what it counts
    #[arg(long, default_value_t = 0)]
    state_bytes: usize,

    /// The number of a record that panics, every time
    #[arg(long)]
    poison_at: Option<u64>,

    /// Panic before there is a plan
    #[arg(long)]
    panic_plan: bool,

    /// Never finish the plan
    #[arg(long)]
    hang_plan: bool,

    /// Make another graph in every process
    #[arg(long)]
    graph_nonce: bool,

    /// Compress snapshots
    #[arg(long)]
    compress: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SourceKind {
    Generator,
    Files,
}

fn main() -> streamd::Result<()> {
    let args = Args::parse();
    assert!(!args.panic_plan, "there is no plan");
    if args.hang_plan {
        loop {
            std::thread::park();
        }
    }
    let env = StreamExecutionEnvironment::new();
    if args.compress {
        env.checkpoint_config().set_snapshot_compression(Compression::Zstd);
    }
    let records = records(&env, &args);
    let outputs = args.topology.build(&records, &args.numbers, args.state_bytes);
    match &args.output {
        None => {
            outputs.sink_to(BlackholeSink::new()).name("nowhere");
        }
        Some(place) => {
            args.sink.add(&outputs, place, "results");
            if args.topology == Topology::Twosinks {
                args.sink.add(&outputs, &format!("{place}-again"), "results again");
            }
        }
    }
    let nonce = if args.graph_nonce { std::process::id() } else { 0 };
    outputs
        .environment()
        .execute(format!("torture {:?} {nonce}", args.topology))?;
    Ok(())
}

/// The records with their time, each looked at for what may have happened to it on the way.
fn records(env: &StreamExecutionEnvironment, args: &Args) -> DataStream<Record> {
    let numbers = args.numbers.clone();
    let records = match (&args.input, args.source) {
        (Some(folder), SourceKind::Files) => env
            .from_source(FileSource::json_lines::<Record>(folder), "records")
            .uid("records"),
        _generator => {
            let source = GeneratorSource::new(numbers.records, move |number| numbers.record(number))
                .splits(args.numbers.splits)
                .rate(args.rate);
            env.from_source(source, "records").uid("records")
        }
    };
    let (numbers, poison_at) = (args.numbers.clone(), args.poison_at);
    records
        .map(move |record| {
            let number = numbers.number_of(&record);
            assert_ne!(Some(number), poison_at, "record {number} is poison");
            numbers.check(&record);
            record
        })
        .assign_timestamps_and_watermarks(
            WatermarkStrategy::for_bounded_out_of_orderness(record::LATEST)
                .with_timestamp_assigner(|record: &Record, _| record.time),
        )
}
