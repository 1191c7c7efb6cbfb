//! An application for tests that misbehaves in any way it is asked to: numbers the records of each key. (The example `torture` is another.)

mod held;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use streamd::prelude::*;

use crate::held::{HeldNumbers, Hold};

#[derive(Parser)]
struct Args {
    /// The folder for the output; without it, nothing is written
    #[arg(long)]
    output: Option<PathBuf>,
    /// The `host:port` of a server that sends the numbers, instead of making them
    #[arg(long, conflicts_with_all = ["records", "hold_at"])]
    socket: Option<std::net::SocketAddr>,
    /// A folder into which files with the numbers come
    #[arg(long, conflicts_with_all = ["records", "hold_at", "socket"])]
    folder: Option<PathBuf>,
    /// The URL of a ledger for the output
    #[arg(long, conflicts_with = "output")]
    ledger: Option<String>,
    /// Spread the output over folders by key, in files that live through checkpoints until they have so many bytes
    #[arg(long, requires = "output")]
    part_bytes: Option<u64>,
    /// Write the output as Parquet
    #[arg(long, requires = "output")]
    parquet: bool,
    /// How many records there are; without it, they do not end
    #[arg(long)]
    records: Option<u64>,
    /// How many keys they have
    #[arg(long, default_value_t = 10)]
    keys: u64,
    /// Records per second of each subtask; 0 is without limit
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Microseconds that the output takes for each record
    #[arg(long, default_value_t = 0)]
    slow_us: u64,
    /// No exchange between the subtasks: each numbers its own records, by what they are
    #[arg(long)]
    apart: bool,
    /// Print every record
    #[arg(long)]
    say: bool,
    /// The uid of the step that has state
    #[arg(long, default_value = "ordinals")]
    uid: String,
    /// A worker takes for ever to take over its state while this file exists
    #[arg(long)]
    restore_while: Option<PathBuf>,
    #[command(flatten)]
    hold: Hold,
    #[command(flatten)]
    misdeeds: Misdeeds,
    /// Misbehave before there is a plan
    #[arg(long, value_enum)]
    plan: Option<Plan>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Plan {
    Panic,
    Hang,
    Garbage,
    Differs,
}

#[derive(Clone, Serialize, Deserialize)]
struct Line {
    key: u64,
    ordinal: u64,
    number: u64,
}

#[derive(Clone)]
struct Number {
    ordinal: ValueState<u64>,
    keys: u64,
    restore_while: Option<PathBuf>,
    misdeeds: Misdeeds,
}

/// The records at which something goes wrong.
#[derive(Clone, clap::Args)]
struct Misdeeds {
    /// Return an error
    #[arg(long)]
    fail_at: Option<u64>,
    /// Panic
    #[arg(long)]
    panic_at: Option<u64>,
    /// End the process as if all were well
    #[arg(long)]
    exit_at: Option<u64>,
    /// Abort the process
    #[arg(long)]
    abort_at: Option<u64>,
    /// Wait for ever
    #[arg(long)]
    block_at: Option<u64>,
    /// Work for ever
    #[arg(long)]
    spin_at: Option<u64>,
    /// Do not end when asked to by SIGTERM
    #[arg(long)]
    ignore_sigterm: bool,
    /// Take memory without end
    #[arg(long)]
    swell_at: Option<u64>,
    /// All that only while this file exists
    #[arg(long)]
    misbehave_while: Option<PathBuf>,
}

impl Misdeeds {
    fn commit(&self, number: u64) -> Result<(), BoxError> {
        if self.misbehave_while.as_ref().is_some_and(|file| !file.exists()) {
            return Ok(());
        }
        let now = Some(number);
        assert_ne!(now, self.panic_at, "record {number} is poison");
        if now == self.exit_at {
            std::process::exit(0);
        }
        if now == self.abort_at {
            std::process::abort();
        }
        if now == self.swell_at {
            let mut taken = Vec::new();
            loop {
                taken.push(vec![1_u8; 1 << 20]);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if now == self.block_at || now == self.spin_at {
            println!("record {number} takes for ever");
        }
        if now == self.block_at {
            loop {
                std::thread::park();
            }
        }
        if now == self.spin_at {
            loop {
                std::hint::spin_loop();
            }
        }
        match now == self.fail_at {
            true => Err(format!("record {number} is bad").into()),
            false => Ok(()),
        }
    }
}

impl KeyedProcessFunction<u64, u64, Line> for Number {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Result<(), BoxError> {
        // Not where it is only asked what state there is.
        let restores = std::thread::current()
            .name()
            .is_some_and(|name| name.starts_with("slot"));
        while restores && self.restore_while.as_ref().is_some_and(|file| file.exists()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        state.register(&mut self.ordinal)
    }

    fn process_element(
        &mut self,
        number: u64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Line>,
    ) -> Result<(), BoxError> {
        self.misdeeds.commit(number)?;
        let ordinal = self.ordinal.get_or_default(context);
        *ordinal += 1;
        out.collect(Line {
            key: number % self.keys,
            ordinal: *ordinal,
            number,
        });
        Ok(())
    }
}

fn main() -> streamd::Result<()> {
    let args = Args::parse();
    let env = StreamExecutionEnvironment::new();
    let mut name = "torture".to_owned();
    match args.plan {
        Some(Plan::Panic) => panic!("no plan today"),
        Some(Plan::Hang) => loop {
            std::thread::park();
        },
        Some(Plan::Garbage) => garbage(),
        // The process id differs between the description and the workers.
        Some(Plan::Differs) => name.push_str(&std::process::id().to_string()),
        None => {}
    }

    let _deaf = args.misdeeds.ignore_sigterm.then(Deaf::become_so);

    let keys = args.keys;
    let read = |line: String| line.parse().expect("each line is a number");
    let numbers: DataStream<u64> = match (args.socket, args.folder) {
        (Some(server), _) => env
            .socket_text_stream(server.ip().to_string(), server.port())
            .name("numbers")
            .uid("numbers")
            .map(read),
        (None, Some(folder)) => env
            .from_source(
                FileSource::text_lines(folder).monitor_continuously(Duration::from_millis(50)),
                "numbers",
            )
            .uid("numbers")
            .map(read),
        (None, None) => {
            let numbers = HeldNumbers::new(args.records, args.rate, args.hold);
            env.from_source(numbers, "numbers").uid("numbers")
        }
    };
    let lines = match args.apart {
        true => numbers.map(move |number| {
            args.misdeeds.commit(number).expect("the record is good");
            Line {
                key: number % keys,
                ordinal: number / keys + 1,
                number,
            }
        }),
        false => numbers
            .key_by(move |number| number % keys)
            .process(Number {
                ordinal: ValueState::new("ordinal"),
                keys,
                restore_while: args.restore_while,
                misdeeds: args.misdeeds,
            })
            .uid(args.uid)
            .name(name),
    };
    let slow = Duration::from_micros(args.slow_us);
    let lines = match args.slow_us {
        0 => lines,
        _ => lines.map(move |line| {
            std::thread::sleep(slow);
            line
        }),
    };
    match (args.output, args.ledger) {
        (Some(folder), _) if args.parquet => lines.sink_to(FileSink::parquet(folder)).uid("lines"),
        (Some(folder), _) => lines.sink_to(files(folder, args.part_bytes)).uid("lines"),
        (None, Some(url)) => lines.sink_to(LedgerSink::json_lines(url)).uid("lines"),
        (None, None) => lines.sink_to(BlackholeSink::new()).name("nowhere"),
    };
    if args.say {
        lines
            .map(|line| format!("key {} has {} records", line.key, line.ordinal))
            .sink_to(PrintSink::new())
            .name("say");
    }

    env.execute("torture")?;
    Ok(())
}

/// A process that has taken SIGTERM for itself, and does nothing about it.
struct Deaf {
    _signals: tokio::signal::unix::Signal,
    _runtime: tokio::runtime::Runtime,
}

impl Deaf {
    fn become_so() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.expect("a runtime of its own");
        let _context = runtime.enter();
        let signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        Self {
            _signals: signals.expect("a signal that can be taken"),
            _runtime: {
                drop(_context);
                runtime
            },
        }
    }
}

fn files(folder: PathBuf, part_bytes: Option<u64>) -> FileSink<Line> {
    let sink = FileSink::json_lines(folder);
    match part_bytes {
        None => sink,
        Some(bytes) => sink
            .bucket_by(|line: &Line| format!("key={}", line.key))
            .max_open_buckets(4)
            .rolling(
                RollingPolicy::by_size_and_time()
                    .max_part_size(bytes)
                    .rollover_interval(Duration::MAX)
                    .inactivity_interval(Duration::MAX),
            ),
    }
}

/// Leaves a plan that is none.
fn garbage() -> ! {
    println!("\u{1b}[31mgarbage\u{7}");
    if let Some(file) = std::env::var_os("STREAMD_PLAN_FILE") {
        std::fs::write(file, b"\x00\xff garbage").expect("the plan file can be written");
    }
    std::process::exit(0)
}
