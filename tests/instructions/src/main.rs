//! The paths that every record takes, each by itself on one thread, for whoever counts the instructions that they take.
//!
//! ```sh
//! instructions                       # names the paths
//! instructions keyed-sum-hot         # runs one, and says how many records it worked on
//! ```
//!
//! `bin/instructions` runs each under callgrind, which counts within [`counted`] alone, and compares with
//! `tests/instructions/instructions.toml`. It deliberately measures no time, no cache and no other thread: those depend on the
//! machine, and on what else it does.
//!
//! ```text
//!   prepare ──▶ counted { the path, over a fixed number of records } ──▶ how many records
//! ```
//!
//! Reading order: [`counted`], [`chains`] (operators), [`channels`] (the way between subtasks), [`state`] (checkpoints).

mod chains;
mod channels;
mod counted;
mod state;

/// As task managers and applications do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A path: prepares, runs what is counted, and answers how many records that worked on.
type Path = fn() -> u64;

const PATHS: &[(&str, Path)] = &[
    ("stateless", chains::stateless),
    ("word-split", chains::word_split),
    ("word-counts", chains::word_counts),
    ("keyed-sum-hot", chains::keyed_sum_hot),
    ("keyed-sum-many", chains::keyed_sum_many),
    ("keyed-sum-new", chains::keyed_sum_new),
    ("tumbling-window", chains::tumbling_window),
    ("sliding-window", chains::sliding_window),
    ("long-sliding-window", chains::long_sliding_window),
    ("exchange-partition", channels::partition),
    ("exchange-encode", channels::encode),
    ("exchange-decode", channels::decode),
    ("checkpoint-write", state::write_checkpoint),
    ("checkpoint-restore", state::restore_checkpoint),
];

fn main() {
    let Some(wanted) = std::env::args().nth(1) else {
        PATHS.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    let Some((_, path)) = PATHS.iter().find(|(name, _)| *name == wanted) else {
        eprintln!("error: there is no path `{wanted}`\nhint: without arguments, the paths are listed");
        std::process::exit(2);
    };
    println!("{}", path());
}
