//! Counts the words of a text: the first program of every stream processor.
//!
//! ```text
//!   text files ──▶ lines ──▶ words ──by word──▶ counts ──▶ printed, or files in OUTPUT
//! ```
//!
//! By hand, it runs in one process: `cargo run -p word_count -- --input README.md`. On a cluster, give the same binary and
//! the same arguments to `streamctl run`.

use std::path::PathBuf;

use clap::Parser;
use smol_str::{SmolStr, StrExt};
use streamd::prelude::*;

#[derive(Parser)]
#[command(about = "Counts the words of a text")]
struct Args {
    /// The text: a file, or a folder of files
    #[arg(long)]
    input: PathBuf,

    /// The folder for the counts, as CSV files; without it they are printed
    #[arg(long)]
    output: Option<PathBuf>,

    /// Emit one total per word at the end, instead of a new count with every word
    #[arg(long)]
    quiet: bool,
}

/// How often a word was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct WordCount {
    word: SmolStr,
    count: u64,
}

/// Counts each word in the state of its key.
#[derive(Clone)]
struct CountWords {
    count: ValueState<u64>,
    totals_only: bool,
}

impl KeyedProcessFunction<SmolStr, SmolStr, WordCount> for CountWords {
    fn open(&mut self, state: &mut KeyedStateStore<'_, SmolStr>) -> Result<(), BoxError> {
        state.register(&mut self.count)
    }

    fn process_element(
        &mut self,
        word: SmolStr,
        context: &mut KeyedContext<'_, SmolStr>,
        out: &mut Collector<'_, WordCount>,
    ) -> Result<(), BoxError> {
        let count = self.count.get_or_default(context);
        *count += 1;
        if !self.totals_only {
            out.collect(WordCount { word, count: *count });
        }
        Ok(())
    }

    fn end_of_input(
        &mut self,
        state: &mut AllKeys<'_, SmolStr>,
        out: &mut Collector<'_, WordCount>,
    ) -> Result<(), BoxError> {
        if self.totals_only {
            state.for_each(&self.count, |word, count| {
                out.collect(WordCount {
                    word: word.clone(),
                    count: *count,
                });
            });
        }
        Ok(())
    }
}

/// Emits the words of a line: runs of letters and digits, in lower case.
fn split_words(line: String, out: &mut Collector<'_, SmolStr>) {
    line.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .for_each(|word| out.collect(word.to_lowercase_smolstr()));
}

/// Faster than the system's where many small things are made, as here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> streamd::Result<()> {
    let args = Args::parse();

    let env = StreamExecutionEnvironment::new();
    env.enable_checkpointing(Duration::from_secs(10));

    let counts = env
        .from_source(FileSource::text_lines(args.input), "lines")
        .uid("lines")
        .flat_map(split_words)
        .name("words")
        .key_by(|word| word.clone())
        .process(CountWords {
            count: ValueState::new("count"),
            totals_only: args.quiet,
        })
        .uid("counts")
        .name("counts");

    match args.output {
        Some(folder) => counts.sink_to(FileSink::csv(folder)).uid("results"),
        None => counts.print(),
    };

    env.execute("word count")?;
    Ok(())
}
