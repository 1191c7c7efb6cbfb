//! `conf/streamd.yaml` and `docs/reference/configuration.md`, written from the table so that they cannot differ from it.
//!
//! `STREAMD_BLESS=1 cargo test -p streamd-core documents` writes them anew after a change of the table.

use std::path::PathBuf;

use super::*;

/// The parts of both documents: a title, and the beginnings of the keys that belong to it.
const SECTIONS: [(&str, &[&str]); 9] = [
    (
        "Job manager",
        &[
            "jobmanager.",
            "heartbeat.",
            "high-availability.",
            "kubernetes.",
            "jobstore.",
        ],
    ),
    ("Task managers", &["taskmanager.", "io.tmp."]),
    ("Jobs", &["parallelism.", "pipeline.", "application.", "slot.", "task."]),
    (
        "Checkpoints and savepoints",
        &["execution.checkpointing.", "execution.state-recovery."],
    ),
    ("State", &["state."]),
    ("Object storage", &["s3.", "gs.", "azure."]),
    ("Restarts", &["restart-strategy."]),
    ("Directories", &["process.", "env."]),
    ("Security", &["security."]),
];

fn section(prefixes: &[&str]) -> Vec<&'static Definition> {
    let belongs = |definition: &&&Definition| prefixes.iter().any(|prefix| definition.key.starts_with(prefix));
    keys::ALL.iter().filter(belongs).copied().collect()
}

fn sentences(definition: &Definition) -> String {
    definition.doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A value for a key that has no default.
fn example(definition: &Definition) -> &'static str {
    match definition.key {
        "taskmanager.numberOfTaskSlots" => "4",
        "taskmanager.memory.process.size" => "16 gb",
        "taskmanager.state.local.root-dirs" => "/var/lib/streamd/state",
        "execution.checkpointing.interval" => "10 s",
        "execution.state-recovery.from-local" => "true",
        "pipeline.max-parallelism" => "1024",
        "execution.checkpointing.storage" => "filesystem",
        "execution.checkpointing.dir" => "/var/lib/streamd/checkpoints",
        "execution.checkpointing.savepoint-dir" => "/var/lib/streamd/savepoints",
        "s3.endpoint" => "https://s3.example.org:9000",
        "s3.region" => "eu-central-1",
        "s3.access-key" => "AKIAEXAMPLE",
        "s3.secret-key" => "SECRET",
        "s3.path.style.access" => "true",
        "gs.auth.service.account.json.keyfile" => "/etc/streamd/gcs.json",
        "gs.storage.root.url" => "https://storage.example.org",
        "azure.account-name" => "ACCOUNT",
        "azure.account-key" => "SECRET",
        "azure.endpoint" => "https://ACCOUNT.blob.example.org",
        "restart-strategy.type" => "fixed-delay",
        "restart-strategy.exponential-delay.attempts-before-reset-backoff" => "10",
        "process.working-dir" => "/var/lib/streamd",
        "high-availability.storageDir" => "/var/lib/streamd/ha",
        "kubernetes.cluster-id" => "my-cluster",
        "kubernetes.namespace" => "streaming",
        "kubernetes.api-server.url" => "https://kubernetes.example.org:6443",
        "kubernetes.api-server.token-file" => "/etc/streamd/token",
        "kubernetes.api-server.ca-file" => "/etc/streamd/ca.crt",
        "io.tmp.dirs" => "/var/lib/streamd/tmp",
        "env.log.dir" => "/var/log/streamd",
        "env.pid.dir" => "/run/streamd",
        other => panic!("`{other}` has neither a default nor an example"),
    }
}

/// The spelling that Flink's users know best.
fn spelling(definition: &Definition) -> &'static str {
    match definition.aliases {
        [alias, ..] if alias.starts_with("state.") => alias,
        _ => definition.key,
    }
}

fn yaml() -> String {
    let mut text = "\
# The configuration of a streamd cluster: every key, with its default. To change one, remove the `#` before it.
#
# Keys are Flink's. They may be nested (`jobmanager:`, then `  rpc.port: 6123` indented) or written out with dots.
# Environment variables go before this file, `-D key=value` before both. An unknown key is refused.
# docs/reference/configuration.md says more.
"
    .to_owned();
    for (title, prefixes) in SECTIONS {
        text.push_str(&format!("\n#{}\n# {title}\n", "=".repeat(78)));
        for definition in section(prefixes) {
            text.push('\n');
            let (note, value) = match definition.fallback {
                Fallback::Value(value) => (String::new(), value),
                Fallback::Unset(meaning) => (format!(" Default: {meaning}."), example(definition)),
            };
            for line in wrapped(&format!("{}{note}", sentences(definition))) {
                text.push_str(&format!("# {line}\n"));
            }
            text.push_str(&format!("#{}: {value}\n", spelling(definition)));
        }
    }
    text
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one from the start");
        if line.len() + word.len() > 96 {
            lines.push(word.to_owned());
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines
}

fn markdown() -> String {
    let mut text = "\
# Configuration

Every key that streamd honours. The names are Flink's; a key that is not here is refused, with the nearest one that is.

* **Where**: `streamd.yaml` in the configuration directory (`--conf DIR` or `STREAMD_CONF_DIR`; the scripts in `bin/` use
  `conf/`). Nested keys and keys with dots mean the same. The file is at most 1 MiB of UTF-8.
* **What goes before what**: `-D key=value` goes before an environment variable, that before the file, that before the default.
  Of a job, `streamctl run -D` goes before what its code sets, and that before the cluster's settings
  ([why](../decisions/0012-the-command-line-has-the-last-word.md)). Keys marked *job* can be set by a job.
* **Values**: a duration has a unit (`500 ms`, `10 s`, `5 min`, `1 h`, `7 d`), and so has a size (`64 kb`, `128 mb`, `1 gb`,
  powers of 1024); the space may be left out. An enum is read in any case. A folder of snapshots is an absolute path or the
  URI of a store (docs/how-to/use-object-storage.md); a directory is an absolute path. A secret is never shown, and refused on a
  command line.

This page is written from the table in `crates/core/src/options/keys.rs`.
"
    .to_owned();
    for (title, prefixes) in SECTIONS {
        text.push_str(&format!(
            "\n## {title}\n\n| key | type | default | scope | meaning |\n|---|---|---|---|---|\n"
        ));
        for definition in section(prefixes) {
            text.push_str(&row(definition));
        }
    }
    text.push_str(
        "
## Keys of Flink that say what is so anyway

`savepoints.state.backend: filesystem` is accepted and changes nothing.
`execution.checkpointing.unaligned: false` is accepted too: checkpoints are always aligned, and `true` is refused.
`savepoints.state.backend: jobmanager` is refused: such savepoints died with the job manager's process.
",
    );
    text
}

fn row(definition: &Definition) -> String {
    let scope = match definition.scope {
        Scope::Cluster => "cluster",
        Scope::Job => "job",
    };
    let spellings = |title: &str, names: &[&str]| match names {
        [] => String::new(),
        names => format!(" {title}: `{}`.", names.join("`, `")),
    };
    let environment = definition
        .environment
        .map(|name| format!(" Environment: `{name}`."))
        .unwrap_or_default();
    let kind = match definition.kind {
        Kind::Choice(words) => format!("`{}`", words.join("`, `")),
        other => other.name().to_owned(),
    };
    format!(
        "| `{}` | {kind} | {} | {scope} | {}{}{}{environment} |\n",
        definition.key,
        definition.fallback.shown(),
        sentences(definition),
        spellings("Also", definition.aliases),
        spellings("Old spelling", definition.deprecated),
    )
}

/// The root of the workspace that the test runs in: the one that it was built in may be gone.
fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let start = package.unwrap_or_else(|| std::env::current_dir().unwrap());
    let root = start.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    root.expect("tests run in a folder of the workspace").to_owned()
}

fn check(path: &str, expected: &str) {
    let path = workspace().join(path);
    if std::env::var_os("STREAMD_BLESS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let actual = std::fs::read_to_string(&path).unwrap();
    assert!(
        actual == expected,
        "{} differs from the table: run this test with STREAMD_BLESS=1",
        path.display()
    );
}

#[test]
fn the_sections_hold_every_key_once() {
    let listed: usize = SECTIONS.iter().map(|(_, prefixes)| section(prefixes).len()).sum();
    assert_eq!(listed, keys::ALL.len());
}

#[test]
fn the_configuration_file_is_written_from_the_table() {
    check("conf/streamd.yaml", &yaml());
}

#[test]
fn the_reference_is_written_from_the_table() {
    check("docs/reference/configuration.md", &markdown());
}

#[test]
fn the_configuration_file_sets_nothing_and_every_key_once_its_comments_are_removed() {
    let file = |text: &str| {
        Configuration::default()
            .with_file("streamd.yaml", text.as_bytes())
            .unwrap()
    };
    assert_eq!(file(&yaml()), Configuration::default());
    let text = yaml();
    let is_setting = |line: &&str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
    let settings: Vec<&str> = text.lines().filter(is_setting).map(|line| &line[1..]).collect();
    let all = file(&settings.join("\n"));
    assert_eq!(all.settings().count(), keys::ALL.len());
    assert!(all.notices().is_empty());
    keys::read_all(&all);
}
