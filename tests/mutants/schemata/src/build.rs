//! The sources of a crate, and the programs of its tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The files of a crate that are mutated: all but tests, and what is named where anything is.
pub fn sources(folder: &Path, named: &[String]) -> Result<Vec<PathBuf>, String> {
    let mut all = Vec::new();
    walk(&folder.join("src"), &mut all)?;
    all.sort();
    let is_wanted = |path: &PathBuf| {
        let shown = path.display().to_string();
        let is_test = shown.ends_with("tests.rs") || shown.contains("/tests/") || shown.ends_with("/sample.rs");
        let is_named = named.is_empty() || named.iter().any(|name| shown.ends_with(name.as_str()));
        !is_test && is_named && !shown.ends_with("/faulty.rs") && !shown.ends_with("/hostile.rs")
    };
    all.retain(is_wanted);
    Ok(all)
}

fn walk(folder: &Path, all: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            walk(&path, all)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    Ok(())
}

/// Builds the tests. Returns their programs, or the mutants that the compiler refuses.
pub fn build(package: &str, tests: &[String]) -> Result<Result<Vec<PathBuf>, BTreeSet<u32>>, String> {
    let output = Command::new("cargo")
        .args(["test", "--no-run", "--message-format=json", "--package", package])
        .args(tests)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    if output.status.success() {
        let programs = messages.iter().filter(|message| message["profile"]["test"] == true);
        let programs = programs.filter_map(|message| message["executable"].as_str());
        return Ok(Ok(programs.map(PathBuf::from).collect()));
    }
    let mut refused = BTreeSet::new();
    for message in messages.iter().map(|message| &message["message"]) {
        if message["level"] != "error" {
            continue;
        }
        let spans = message["spans"].as_array().into_iter().flatten();
        let found: Vec<u32> = spans
            .filter(|span| span["is_primary"] == true)
            .filter_map(mutant_at)
            .collect();
        if found.is_empty() && !message["spans"].as_array().is_none_or(Vec::is_empty) {
            eprintln!("{}", message["rendered"].as_str().unwrap_or_default());
        }
        refused.extend(found);
    }
    Ok(Err(refused))
}

/// The mutant that a message of the compiler is about: the last one that begins before it.
fn mutant_at(span: &Value) -> Option<u32> {
    let text = fs::read_to_string(span["file_name"].as_str()?).ok()?;
    let before = &text.as_bytes()[..usize::try_from(span["byte_end"].as_u64()?).ok()?.min(text.len())];
    let before = String::from_utf8_lossy(before);
    let (_, behind) = before.rsplit_once(crate::rewrite::CALL)?;
    let digits: String = behind
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '(')
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}
