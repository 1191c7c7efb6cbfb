//! Files of the workspace, and files that applications wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A binary of this workspace, built in the profile of this test.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own path");
    // target/<profile>/deps/<test>
    let profile = own.parent().and_then(Path::parent).expect("cargo runs tests in `deps`");
    let path = profile.join(name);
    assert!(
        path.is_file(),
        "`{}` is missing: build it first with `cargo build --workspace --bins`, as bin/test does",
        path.display()
    );
    path
}

/// The input of the example `flights`.
pub fn flights_data() -> PathBuf {
    let path = servers::workspace().join("examples/data/flights");
    path.canonicalize().expect("the examples have their data")
}

/// Has the checker of an example compute in another language what must be in its output, and compare. Panics with what it says.
pub fn check_example(example: &str, arguments: &[&str]) {
    let checker = servers::workspace().join("examples").join(example).join("check.py");
    let checked = Command::new("python3").arg(checker).args(arguments).output();
    let checked = checked.expect("python3 runs");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{example} {arguments:?}: {said}");
}

/// A path as text; those of tests are UTF-8.
pub fn text(path: &Path) -> String {
    path.to_str().expect("paths of tests are UTF-8").to_owned()
}

/// The path of a `file://` URI.
pub fn path_of(uri: &str) -> PathBuf {
    PathBuf::from(
        uri.strip_prefix("file://")
            .unwrap_or_else(|| panic!("`{uri}` is no file URI")),
    )
}

/// Every file below a folder, sorted; none where there is no folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = everything_below(folder)
        .into_iter()
        .filter(|path| !path.is_dir())
        .collect();
    files.sort();
    files
}

/// Every file and folder below a folder. What vanishes meanwhile is left out.
pub fn everything_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(everything_below(&path));
        }
        found.push(path);
    }
    found
}

/// The complete checkpoints in the folder of a job, the latest last; none where there is no folder.
pub fn complete_checkpoints(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let numbered = entries.map(|entry| entry.path()).filter_map(|path| {
        let number: u64 = path.file_name()?.to_str()?.strip_prefix("chk-")?.parse().ok()?;
        path.join("_metadata").is_file().then_some((number, path))
    });
    let mut numbered: Vec<_> = numbered.collect();
    numbered.sort();
    numbered.into_iter().map(|(_, path)| path).collect()
}

/// The records that a JSON file sink has committed to a folder: hidden files do not count.
pub fn committed(folder: &Path) -> Vec<Value> {
    let visible = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
    };
    let files = files_below(folder).into_iter().filter(visible);
    let lines = files.flat_map(|file| {
        let content = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(
            content.ends_with('\n'),
            "{} does not end with a whole line",
            file.display()
        );
        content.lines().map(parse).collect::<Vec<_>>()
    });
    lines.collect()
}

/// The JSON value of a line.
pub fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("`{line}` is no JSON: {error}"))
}

/// The number in a field.
pub fn number(value: &Value, field: &str) -> u64 {
    value[field]
        .as_u64()
        .unwrap_or_else(|| panic!("`{field}` is no number in {value}"))
}

/// The text in a field.
pub fn string<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("`{field}` is no text in {value}"))
}
