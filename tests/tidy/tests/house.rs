//! The rules of the house. A rule that is worth having is checked here; one that is not checked is not a rule.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use streamd_core::error::ErrorCode;

/// Which crates of the house each crate may import: downwards only.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("prefetch", &[]),
    ("core", &["prefetch"]),
    ("macros", &[]),
    ("rpc", &["core"]),
    ("snapshot", &["core"]),
    ("exchange", &["core"]),
    ("coordinator", &["core"]),
    ("connectors", &["core"]),
    ("rocksdb-env", &[]),
    ("state", &["core", "prefetch", "rocksdb-env", "snapshot"]),
    ("runtime", &["core", "exchange", "prefetch", "snapshot", "state"]),
    ("worker", &["core", "exchange", "rpc", "runtime", "snapshot", "state"]),
    ("jobmanager", &["coordinator", "core", "rpc", "snapshot"]),
    ("taskmanager", &["core", "rpc"]),
    (
        "simulation",
        &[
            "coordinator",
            "core",
            "exchange",
            "jobmanager",
            "runtime",
            "snapshot",
            "worker",
        ],
    ),
    ("sim", &["sdk"]),
    (
        "sdk",
        &[
            "connectors",
            "core",
            "exchange",
            "jobmanager",
            "macros",
            "runtime",
            "simulation",
            "snapshot",
            "state",
            "worker",
        ],
    ),
    // `state` by its feature `rocksdb` alone: for the rows of checkpoints that are the files of a database.
    ("streamctl", &["core", "rpc", "snapshot", "state"]),
    ("daemon", &["core", "jobmanager", "rpc", "taskmanager"]),
];

/// Libraries that a crate must never know, whatever the reason.
const MUST_NOT_KNOW: &[(&str, &[&str])] = &[
    ("core", &["tokio", "tonic", "object_store", "arrow-array", "parquet"]),
    ("coordinator", &["tokio", "tonic", "object_store", "uuid", "rand"]),
    ("runtime", &["tonic"]),
    ("jobmanager", &["arrow-array", "parquet"]),
];

/// The longest file, tests aside, that is still one thought.
const MAX_LINES: usize = 800;

#[test]
fn crates_import_only_downwards() {
    for (name, allowed) in MAY_IMPORT {
        let manifest = read(&root().join("crates").join(name).join("Cargo.toml"));
        let normal = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        let imported = dependencies(normal)
            .into_iter()
            .filter_map(|dependency| house_name(&dependency));
        for dependency in imported {
            assert!(
                allowed.contains(&dependency.as_str()),
                "crate `{name}` imports `{dependency}`: the house allows {allowed:?}"
            );
        }
    }
    let listed: BTreeSet<String> = MAY_IMPORT.iter().map(|(name, _)| (*name).to_owned()).collect();
    let found: BTreeSet<String> = children(&root().join("crates"))
        .iter()
        .map(|path| file_name(path))
        .collect();
    assert_eq!(
        found, listed,
        "every crate has a place in the table, and every row a crate"
    );
}

#[test]
fn crates_do_not_know_what_they_must_not() {
    for (name, forbidden) in MUST_NOT_KNOW {
        let known = dependencies(&read(&root().join("crates").join(name).join("Cargo.toml")));
        for library in *forbidden {
            assert!(!known.contains(*library), "crate `{name}` must not know `{library}`");
        }
    }
}

#[test]
fn versions_are_in_the_workspace_only() {
    for manifest in manifests() {
        for line in read(&manifest)
            .lines()
            .filter(|line| line.contains("= \"") && !line.starts_with('['))
        {
            let key = line.split('=').next().unwrap_or_default().trim();
            let plain = [
                "name",
                "path",
                "description",
                "harness",
                "test",
                "doctest",
                "proc-macro",
                "required-features",
            ];
            assert!(
                plain.contains(&key) || line.contains("workspace = true"),
                "{}: `{line}` names a version",
                shown(&manifest)
            );
        }
    }
}

#[test]
fn files_are_short_enough_to_read() {
    for file in sources().into_iter().filter(|file| !is_test(file)) {
        let text = read(&file);
        let lines = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default()
            .lines()
            .count();
        assert!(
            lines <= MAX_LINES,
            "{} has {lines} lines, more than {MAX_LINES}",
            shown(&file)
        );
    }
}

#[test]
fn every_crate_says_what_it_is_and_what_it_does_not_know() {
    for (name, _) in MAY_IMPORT.iter().filter(|(name, _)| *name != "macros") {
        let folder = root().join("crates").join(name).join("src");
        let text = ["lib.rs", "main.rs"]
            .map(|file| folder.join(file))
            .into_iter()
            .find(|path| path.exists())
            .map(|path| read(&path));
        let text = text.unwrap_or_default();
        assert!(
            text.starts_with("//! "),
            "crate `{name}` does not begin with what it is"
        );
        assert!(
            text.contains("deliberately"),
            "crate `{name}` does not say what it deliberately does not know"
        );
        assert!(text.contains("```text"), "crate `{name}` has no picture");
    }
}

#[test]
fn modules_are_named_after_what_they_hold() {
    for file in sources() {
        for part in file
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
        {
            let stem = part.trim_end_matches(".rs");
            assert!(
                !["utils", "util", "common", "helpers", "misc"].contains(&stem),
                "{}: `{stem}` says nothing",
                shown(&file)
            );
        }
    }
}

#[test]
fn nothing_is_left_unfinished_on_a_users_path() {
    for file in sources() {
        let text = read(&file);
        for word in ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "#[ignore"] {
            assert!(!text.contains(word), "{} contains `{word}`", shown(&file));
        }
    }
}

#[test]
fn yaml_is_known_to_one_file() {
    let users: Vec<_> = sources()
        .into_iter()
        .filter(|file| read(file).contains("serde_yaml::"))
        .map(|file| shown(&file))
        .collect();
    assert_eq!(users.len(), 1, "serde_yaml is used in {users:?}");
}

#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let folder = root().join("docs/errors");
    let pages: BTreeSet<String> = children(&folder)
        .iter()
        .map(|path| file_name(path))
        .filter(|name| name.starts_with("SD-"))
        .collect();
    let codes: BTreeSet<String> = ErrorCode::ALL.iter().map(|code| format!("{code}.md")).collect();
    assert_eq!(pages, codes);
    for code in ErrorCode::ALL {
        let page = read(&folder.join(format!("{code}.md")));
        assert!(
            page.contains(&code.to_string()) && page.len() > 200,
            "the page of {code} says too little"
        );
    }
}

#[test]
fn the_commands_can_be_run() {
    use std::os::unix::fs::PermissionsExt;
    let mut commands = children(&root().join("bin"));
    commands.push(root().join(".ci/run"));
    // What has no interpreter line is sourced, not run.
    for command in commands
        .into_iter()
        .filter(|path| path.is_file() && read(path).starts_with("#!"))
    {
        let mode = fs::metadata(&command).unwrap().permissions().mode();
        assert!(mode & 0o111 != 0, "{} has no run bit", shown(&command));
    }
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    let mut pages = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    pages.extend(files_below(&root().join("docs"), "md"));
    for page in pages {
        for target in links(&read(&page)) {
            let path = page
                .parent()
                .unwrap()
                .join(target.split('#').next().unwrap_or_default());
            assert!(
                path.exists(),
                "{} links to `{target}`, which does not exist",
                shown(&page)
            );
        }
    }
}

/// A page that says which test covers what is worth something only as long as the tests are there.
#[test]
fn tests_that_the_documentation_names_exist() {
    let page = read(&root().join("docs/explanation/regressions.md"));
    let named: Vec<(&str, &str)> = page.split('`').filter_map(|code| code.split_once(".rs::")).collect();
    assert!(named.len() > 50, "only {} tests are named", named.len());
    for (file, name) in named {
        let path = root().join(format!("{file}.rs"));
        assert!(path.is_file(), "`{file}.rs` does not exist");
        let (function, begun) = (format!("fn {name}("), format!("fn {name}<"));
        let source = read(&path);
        assert!(
            source.contains(&function) || source.contains(&begun),
            "`{file}.rs` has no test `{name}`"
        );
    }
}

/// The targets of Markdown links to files.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with('#') && !target.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The root of the workspace that the test runs in: the one that it was built in may be gone.
fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let start = package.unwrap_or_else(|| std::env::current_dir().unwrap());
    let root = start.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    root.expect("tests run in a folder of the workspace")
        .canonicalize()
        .unwrap()
}

/// The name within the house of a dependency on one of its crates.
fn house_name(dependency: &str) -> Option<String> {
    if dependency == "streamd" {
        Some("sdk".to_owned())
    } else {
        dependency.strip_prefix("streamd-").map(str::to_owned)
    }
}

fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.to_owned();
        } else if section.contains("dependencies") && !line.trim().is_empty() && !line.starts_with('#') {
            names.insert(line.split(['.', '=', ' ']).next().unwrap_or_default().to_owned());
        }
    }
    names
}

fn manifests() -> Vec<PathBuf> {
    let folders = ["crates", "examples", "tests"].map(|folder| children(&root().join(folder)));
    folders
        .into_iter()
        .flatten()
        .map(|folder| folder.join("Cargo.toml"))
        .filter(|path| path.exists())
        .collect()
}

/// Every source file of ours.
fn sources() -> Vec<PathBuf> {
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for folder in ["crates", "examples", "tests"] {
        for file in files_below(&root().join(folder), "rs") {
            files.insert(shown(&file), file);
        }
    }
    // This file names what it forbids.
    files.remove("tests/tidy/tests/house.rs");
    files.into_values().collect()
}

fn is_test(file: &Path) -> bool {
    let shown = shown(file);
    shown.contains("/tests/") || shown.ends_with("tests.rs")
}

fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in children(folder) {
        if path.is_dir() {
            files.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
