//! Every parser takes every input that there is, whole and damaged, or refuses it, and does nothing else (invariant I23).
//!
//! `STREAMD_DAMAGES=10000 cargo test -p fuzz` damages each of them so often instead of some dozens of times; what a parser does not
//! survive is written to a file, whose name the failure tells.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fuzz::{TARGETS, Target};

#[path = "corpus/damage.rs"]
mod damage;
#[path = "corpus/seeds.rs"]
mod seeds;

use damage::Damage;

/// How often each input is damaged, unless `STREAMD_DAMAGES` says otherwise: some seconds for all of them.
const DAMAGES: u64 = 48;

/// The folder of this crate: that of the workspace that the test runs in.
fn here() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
}

/// The inputs of a target in a folder, by name.
fn inputs(folder: &str, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = here().join(folder).join(target);
    let mut inputs: Vec<(PathBuf, Vec<u8>)> = names(&folder)
        .into_iter()
        .map(|name| folder.join(name))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

/// The names in a folder; none where there is no folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Runs a target; where it panics, keeps the input and says where it is.
fn run(target: &Target, origin: &Path, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).unwrap_or_else(|_panic| {
        let kept = std::env::temp_dir().join(format!("crash-{}-{}", target.name, std::process::id()));
        fs::write(&kept, input).unwrap();
        panic!(
            "target `{}` does not survive {}, made of {}; once mended, keep it in regressions/{}",
            target.name,
            kept.display(),
            origin.display(),
            target.name
        );
    })
}

#[test]
fn every_parser_accepts_something_of_its_corpus() {
    for target in TARGETS {
        let inputs = inputs("corpus", target.name);
        let accepted: Vec<bool> = inputs.iter().map(|(path, input)| run(target, path, input)).collect();
        assert!(
            accepted.contains(&true),
            "target `{}` refuses all of its corpus",
            target.name
        );
    }
}

#[test]
fn inputs_that_did_harm_once_do_none_any_more() {
    for target in TARGETS {
        for (path, input) in inputs("regressions", target.name) {
            run(target, &path, &input);
        }
    }
}

#[test]
fn damaged_inputs_are_taken_or_refused() {
    let damages = std::env::var("STREAMD_DAMAGES").map_or(DAMAGES, |damages| damages.parse().unwrap());
    let only = std::env::var("STREAMD_TARGET").ok();
    for target in TARGETS
        .iter()
        .filter(|target| only.as_deref().is_none_or(|only| only == target.name))
    {
        let all = [inputs("corpus", target.name), inputs("regressions", target.name)].concat();
        for (index, (path, input)) in all.iter().enumerate() {
            let (_path, other) = &all[(index + 1) % all.len()];
            let mut damage = Damage::new(index as u64 + 1);
            for _ in 0..damages {
                run(target, path, &damage.apply(input, other));
            }
        }
    }
}

#[test]
fn every_parser_has_a_program_a_corpus_and_nothing_is_left_of_parsers_that_are_gone() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "two targets have one name");
    assert_eq!(names(&here().join("corpus")), targets);
    assert!(names(&here().join("regressions")).is_subset(&targets));
    let programs = names(&here().join("libfuzzer/fuzz_targets"));
    let programs: BTreeSet<String> = programs
        .iter()
        .filter_map(|name| name.strip_suffix(".rs"))
        .map(str::to_owned)
        .collect();
    assert_eq!(programs, targets);
    let manifest = fs::read_to_string(here().join("libfuzzer/Cargo.toml")).unwrap();
    for target in &targets {
        assert!(
            manifest.contains(&format!("name = \"{target}\"")),
            "`{target}` is no program of the fuzzer"
        );
    }
}

/// `STREAMD_WRITE_SEEDS=1` writes those inputs of the corpus anew that code makes.
#[test]
fn the_inputs_that_code_makes_are_accepted() {
    for (target, name, input) in seeds::all() {
        let target = TARGETS.iter().find(|known| known.name == target).unwrap();
        let path = here().join("corpus").join(target.name).join(name);
        assert!(run(target, &path, &input), "{} is refused", path.display());
        if std::env::var_os("STREAMD_WRITE_SEEDS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &input).unwrap();
        }
    }
}
