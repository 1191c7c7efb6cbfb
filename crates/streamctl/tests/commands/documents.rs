//! The documents that tell of commands and errors, held against the program.
//!
//! `STREAMD_BLESS=1 cargo test -p streamctl documents` writes `docs/reference/cli.md` anew.

use std::path::PathBuf;

use streamd_core::error::ErrorCode;

use crate::fake::run_with;

const PREFACE: &str = "\
# streamctl

Results are on stdout, in Flink's words or, with `--output json`, as one JSON object a line; everything else is on stderr.
An error is two lines, `error: … [SD-0401]` and `hint: …`, or with `--output json` one object
`{\"error\":{\"code\":…,\"message\":…,\"hint\":…}}`. [Every code](../errors/README.md) has a page.

Paths of savepoints may be relative: they are resolved where the command runs. Control characters in what others wrote (job
names, log lines) are escaped.

As in Flink, `cancel -s X` and `stop -p X` with nothing else mean job `X` and the configured directory.

This page is written from the program's own help.
";

const COMMANDS: &[&[&str]] = &[
    &[],
    &["run"],
    &["info"],
    &["list"],
    &["status"],
    &["savepoint"],
    &["savepoint", "status"],
    &["savepoint", "list"],
    &["savepoint", "check"],
    &["savepoint", "show"],
    &["savepoint", "verify"],
    &["cancel"],
    &["stop"],
    &["checkpoint"],
    &["checkpoint", "list"],
    &["checkpoint", "show"],
    &["checkpoint", "verify"],
    &["checkpoint", "dispose"],
    &["checkpoint", "release"],
    &["state"],
    &["state", "list"],
    &["state", "show"],
    &["state", "query"],
    &["state", "diff"],
    &["state", "export"],
    &["state", "edit"],
    &["fsck"],
    &["logs"],
    &["profile"],
    &["cluster"],
    &["cluster", "wait"],
    &["cluster", "status"],
    &["taskmanager"],
    &["taskmanager", "list"],
    &["taskmanager", "drain"],
    &["taskmanager", "undrain"],
    &["completions"],
];

/// A document of the workspace that the test runs in: the one that it was built in may be gone.
fn document(path: &str) -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let start = package.unwrap_or_else(|| std::env::current_dir().unwrap());
    let root = start.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    root.expect("tests run in a folder of the workspace")
        .join("docs")
        .join(path)
}

#[test]
fn the_reference_of_commands_is_the_help_of_the_program() {
    let mut text = PREFACE.to_owned();
    for command in COMMANDS {
        let title = [&["streamctl"][..], *command].concat().join(" ");
        let help = run_with(&[], &[*command, &["--help"][..]].concat()).stdout;
        let help: String = help.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        text.push_str(&format!("\n## {title}\n\n```text\n{}\n```\n", help.trim_end()));
    }
    let path = document("reference/cli.md");
    if std::env::var_os("STREAMD_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let actual = std::fs::read_to_string(&path).unwrap();
    assert!(
        actual == text,
        "{} differs from the help: run this test with STREAMD_BLESS=1",
        path.display()
    );
}

#[test]
fn every_error_code_has_a_page_with_its_title_and_what_to_do() {
    let index = std::fs::read_to_string(document("errors/README.md")).unwrap();
    for code in ErrorCode::ALL {
        let page = std::fs::read_to_string(document(&format!("errors/{code}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {code}: {}\n", code.title())), "{code}");
        assert!(
            page.contains(&format!("Exit code of a command: {}.", code.remedy().exit_code())),
            "{code}"
        );
        assert!(
            page.contains("## Usual causes\n\n* ") && page.contains("## What to do\n\n* "),
            "{code}"
        );
        assert!(
            index.contains(&format!("| [{code}]({code}.md) | {} |", code.title())),
            "{code}"
        );
    }
}
