//! Tries many mutants of a crate with one build: all of them are compiled in, and a variable chooses one at run time.
//!
//! cargo-mutants builds once for each mutant, which is a day's work for a crate of a thousand. This makes the same kinds of changes
//! to the syntax, so that a mutant costs no more than a run of the tests that reach it.
//!
//! ```text
//!   source ──rewrite──▶ `a < b` as `if mutant(7) { a <= b } else { a < b }` ──cargo test --no-run──▶ test programs
//!   for each mutant: MUTANT=7 test program ──▶ fails or hangs: killed; passes: it lives, and is listed
//! ```
//!
//! **Rewrites the sources that it is given**: for a copy of the repository only. `bin/mutants` makes one.
//!
//! Reading order: `rewrite` (the mutants), `build`, `trial`.

mod build;
mod rewrite;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rewrite::{Mutant, rewrite};
use trial::{Outcome, Program};

/// What was asked for.
struct Wanted {
    package: String,
    folder: PathBuf,
    files: Vec<String>,
    tests: Vec<String>,
    /// Every how-manieth mutant, from which on.
    shard: (usize, usize),
    minutes: u64,
    results: PathBuf,
    /// Kinds of mutants that no test can kill, as they change nothing; each with the reason.
    equivalent: Option<PathBuf>,
}

const USAGE: &str = "usage: schemata --package NAME --folder CRATE [--file=SRC/FILE]… [--shard K/N] [--minutes M] \
                     [--equivalent FILE] --results FILE -- TESTS, as for cargo test";

fn wanted() -> Option<Wanted> {
    let mut wanted = Wanted {
        package: String::new(),
        folder: PathBuf::new(),
        files: Vec::new(),
        tests: Vec::new(),
        shard: (0, 1),
        minutes: u64::MAX / 60,
        results: PathBuf::new(),
        equivalent: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--package" => wanted.package = arguments.next()?,
            "--folder" => wanted.folder = fs::canonicalize(arguments.next()?).ok()?,
            "--equivalent" => wanted.equivalent = Some(arguments.next()?.into()),
            file if file.starts_with("--file=") => wanted.files.push(file["--file=".len()..].to_owned()),
            "--shard" => {
                let shard = arguments.next()?;
                let (part, parts) = shard.split_once('/')?;
                wanted.shard = (part.parse().ok()?, parts.parse().ok().filter(|parts| *parts > 0)?);
            }
            "--minutes" => wanted.minutes = arguments.next()?.parse().ok()?,
            "--results" => wanted.results = arguments.next()?.into(),
            "--" => wanted.tests = arguments.by_ref().collect(),
            _unknown => return None,
        }
    }
    let is_complete = !wanted.package.is_empty() && !wanted.tests.is_empty() && !wanted.results.as_os_str().is_empty();
    is_complete.then_some(wanted)
}

fn main() -> ExitCode {
    let Some(wanted) = wanted() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Tries the mutants, in pieces if time runs out: what the results have is not tried again. Returns whether all are killed.
fn run(wanted: &Wanted) -> Result<bool, String> {
    let begun = Instant::now();
    let sources = build::sources(&wanted.folder, &wanted.files)?;
    let mut unviable = BTreeSet::new();
    let (mutants, programs) = loop {
        let mutants = rewrite(&wanted.folder, &sources, &unviable)?;
        match build::build(&wanted.package, &wanted.tests)? {
            Ok(programs) => break (mutants, programs),
            Err(refused) if refused.is_subset(&unviable) => return Err("the build fails for another reason".to_owned()),
            Err(refused) => {
                eprintln!("{} mutants do not compile", refused.len());
                unviable.extend(refused);
            }
        }
    };
    let programs = trial::baseline(programs, &wanted.folder)?;
    eprintln!(
        "{} mutants, {} of them compile",
        mutants.len(),
        mutants.len() - unviable.len()
    );
    let equivalent = equivalent(wanted)?;
    let mut results = read(wanted)?;
    let (part, parts) = wanted.shard;
    for mutant in mutants.iter().skip(part).step_by(parts) {
        let name = mutant.to_string();
        let is_left_out = unviable.contains(&mutant.id) || equivalent.contains(&mutant.kind());
        if is_left_out || results.contains_key(&name) {
            continue;
        }
        if begun.elapsed() > Duration::from_secs(wanted.minutes.saturating_mul(60)) {
            eprintln!("time is over; run again to go on");
            break;
        }
        let outcome = try_one(mutant, &programs)?;
        if outcome == Outcome::Lives {
            say(&format!("lives: {name}"));
        }
        results.insert(name, outcome);
        write(wanted, &results)?;
    }
    Ok(report(&results))
}

fn try_one(mutant: &Mutant, programs: &[Program]) -> Result<Outcome, String> {
    let mut reached = programs
        .iter()
        .filter(|program| program.reached.contains(&mutant.id))
        .peekable();
    if reached.peek().is_none() {
        return Ok(Outcome::Lives);
    }
    for program in reached {
        match program.run(mutant.id)? {
            Outcome::Lives => {}
            ended => return Ok(ended),
        }
    }
    Ok(Outcome::Lives)
}

/// The kinds that are left out: a line each, with ` -- ` and the reason behind it.
fn equivalent(wanted: &Wanted) -> Result<BTreeSet<String>, String> {
    let Some(path) = &wanted.equivalent else {
        return Ok(BTreeSet::new());
    };
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let kinds = text.lines().filter_map(|line| line.split_once(" -- "));
    Ok(kinds.map(|(kind, _reason)| kind.trim().to_owned()).collect())
}

/// The outcomes so far, by mutant: one on each line, the outcome first.
fn read(wanted: &Wanted) -> Result<BTreeMap<String, Outcome>, String> {
    let text = match fs::read_to_string(&wanted.results) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(format!("{}: {error}", wanted.results.display())),
    };
    let line = |line: &str| {
        let (outcome, name) = line.split_once(' ')?;
        Some((name.to_owned(), Outcome::of_name(outcome)?))
    };
    Ok(text.lines().filter_map(line).collect())
}

fn write(wanted: &Wanted, results: &BTreeMap<String, Outcome>) -> Result<(), String> {
    let lines = results
        .iter()
        .map(|(name, outcome)| format!("{} {name}\n", outcome.name()));
    let text: String = lines.collect();
    fs::write(&wanted.results, text).map_err(|error| format!("{}: {error}", wanted.results.display()))
}

/// A line for whoever still reads.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

fn report(results: &BTreeMap<String, Outcome>) -> bool {
    let mut files: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (name, outcome) in results {
        let file = name.split(':').next().unwrap_or_default();
        let (killed, all) = files.entry(file).or_default();
        *all += 1;
        *killed += usize::from(*outcome != Outcome::Lives);
    }
    let (mut killed, mut all) = (0, 0);
    for (file, (of_file, all_of_file)) in &files {
        say(&format!("{of_file:>5} of {all_of_file:>5} killed  {file}"));
        killed += of_file;
        all += all_of_file;
    }
    say(&format!("{killed:>5} of {all:>5} killed"));
    killed == all
}
