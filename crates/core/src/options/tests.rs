//! The configuration, as its users write it: right and wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::error::ErrorCode;
use crate::graph::ExternalizedCheckpointRetention;

fn file(text: &str) -> Result<Configuration, ConfigurationError> {
    Configuration::default().with_file("streamd.yaml", text.as_bytes())
}

/// The refusal of a file as a person sees it: message, code, hint.
fn refusal(text: impl AsRef<[u8]>) -> String {
    let error = Configuration::default()
        .with_file("streamd.yaml", text.as_ref())
        .unwrap_err()
        .coded();
    match &error.hint {
        Some(hint) => format!("{error}; hint: {hint}"),
        None => error.to_string(),
    }
}

#[test]
fn every_default_is_a_value_of_its_key() {
    keys::read_all(&Configuration::default());
    for definition in keys::ALL {
        if let Fallback::Value(text) = definition.fallback {
            assert_eq!(definition.kind.check(text).as_deref(), Ok(text), "{}", definition.key);
        }
    }
}

#[test]
fn every_value_that_a_key_accepts_can_be_read() {
    for definition in keys::ALL {
        let examples: Vec<String> = match definition.kind {
            Kind::Duration { min_ms, max_ms } => [min_ms, max_ms].iter().map(|ms| format!("{ms} ms")).collect(),
            Kind::Size { min, max } => vec![format!("{min} b"), format!("{max} b")],
            Kind::Integer { min, max } => vec![min.to_string(), max.to_string()],
            Kind::Float { min, max } => vec![min.to_string(), max.to_string()],
            Kind::Choice(words) => words.iter().map(|word| word.to_lowercase()).collect(),
            Kind::Host => vec!["::1".to_owned(), "node-1.example.org".to_owned()],
            Kind::Address => vec!["::1".to_owned(), "10.0.0.1".to_owned()],
            Kind::Directory => vec!["/data/".to_owned()],
            Kind::Location => vec![
                "file:///data/".to_owned(),
                "/data".to_owned(),
                "s3://bucket/data".to_owned(),
            ],
            Kind::Endpoint => vec!["https://s3.example.org".to_owned(), "http://127.0.0.1:9000/".to_owned()],
            Kind::Text => vec!["a word".to_owned()],
            // Not from a command line.
            Kind::Secret => vec![],
        };
        for value in examples {
            let argument = format!("{}={value}", definition.key);
            keys::read_all(&Configuration::default().with_arguments([argument]).unwrap());
        }
    }
}

#[test]
fn no_two_keys_share_a_spelling() {
    let mut seen = BTreeSet::new();
    for spelling in keys::ALL.iter().flat_map(|definition| definition.spellings()) {
        assert!(seen.insert(spelling), "{spelling}");
    }
}

#[test]
fn nested_and_dotted_keys_mean_the_same() {
    let nested = file("execution:\n  checkpointing:\n    interval: 10 s\n    num-retained: 3\n").unwrap();
    let dotted = file("execution.checkpointing.interval: 10 s\nexecution.checkpointing.num-retained: 3\n").unwrap();
    let mixed = file("execution.checkpointing: {interval: 10 s}\nstate:\n  checkpoints.num-retained: 3\n").unwrap();
    assert_eq!(nested, dotted);
    assert_eq!(nested, mixed);
    assert_eq!(nested.get(keys::CHECKPOINTING_INTERVAL), Some(Duration::from_secs(10)));
    assert_eq!(nested.get(keys::NUM_RETAINED_CHECKPOINTS), 3);
}

#[test]
fn a_file_may_be_empty_commented_out_windows_made_or_absent_of_values_in_blocks() {
    for text in [
        "",
        "\n\n",
        "# nothing\n",
        "execution:\n  # interval: 10 s\n",
        "{}",
        "execution: {}",
        "---\n",
    ] {
        assert_eq!(file(text).unwrap(), Configuration::default(), "{text:?}");
    }
    let windows = file("\u{feff}jobmanager.rpc.port: 7000\r\nparallelism.default: 4\r\n").unwrap();
    assert_eq!(
        (windows.get(keys::JOB_MANAGER_PORT), windows.get(keys::PARALLELISM)),
        (7000, 4)
    );
}

#[test]
fn flinks_spellings_of_the_directories_are_as_good_as_its_new_ones_and_older_ones_bring_a_notice() {
    let flink = file("state.checkpoints.dir: /data/cp/\nstate.savepoints.dir: file:/data/sp\n").unwrap();
    assert_eq!(
        flink.get(keys::CHECKPOINTS_DIRECTORY).as_deref(),
        Some("file:///data/cp")
    );
    assert_eq!(
        flink.get(keys::SAVEPOINTS_DIRECTORY).as_deref(),
        Some("file:///data/sp")
    );
    assert!(flink.notices().is_empty());

    let old = file(
        "state.backend.fs.checkpointdir: /cp\nsavepoints.state.backend: filesystem\nsavepoints.state.backend.fs.dir: /sp\n",
    );
    let old = old.unwrap();
    assert_eq!(old.get(keys::SAVEPOINTS_DIRECTORY).as_deref(), Some("file:///sp"));
    assert_eq!(
        old.notices(),
        [
            "streamd.yaml: `state.backend.fs.checkpointdir` is an old spelling of `execution.checkpointing.dir`",
            "streamd.yaml: `savepoints.state.backend.fs.dir` is an old spelling of `execution.checkpointing.savepoint-dir`",
        ]
    );
}

#[test]
fn later_sources_win_and_each_value_knows_its_own() {
    let environment = |name: &str| (name == "STREAMD_LOG_DIR").then(|| "/env/log".to_owned());
    let configuration = file("env.log.dir: /file/log\nenv.pid.dir: /file/pid\nparallelism.default: 2\n")
        .unwrap()
        .with_environment(environment)
        .unwrap()
        .with_arguments(["parallelism.default=3", "parallelism.default=4"])
        .unwrap();
    assert_eq!(configuration.get(keys::LOG_DIRECTORY), Some(PathBuf::from("/env/log")));
    assert_eq!(configuration.get(keys::PARALLELISM), 4);
    assert_eq!(
        configuration.origin(keys::LOG_DIRECTORY),
        Origin::Environment("STREAMD_LOG_DIR")
    );
    assert_eq!(
        configuration.origin(keys::PID_DIRECTORY),
        Origin::File("streamd.yaml".to_owned())
    );
    assert_eq!(configuration.origin(keys::PARALLELISM), Origin::Argument);
    assert_eq!(configuration.origin(keys::JOB_MANAGER_PORT), Origin::Default);
    assert_eq!(configuration.explicit(keys::JOB_MANAGER_PORT), None);
    assert_eq!(configuration.explicit(keys::PARALLELISM), Some(4));
}

#[test]
fn words_are_known_in_any_case() {
    let configuration =
        file("execution.checkpointing.externalized-checkpoint-retention: retain-on-cancellation").unwrap();
    assert_eq!(
        configuration.get(keys::EXTERNALIZED_RETENTION),
        ExternalizedCheckpointRetention::RetainOnCancellation
    );
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
    assert_eq!(
        refusal("parallelism.default: 1\n\nexecution:\n  checkpointing:\n    intervall: 10 s\n"),
        "streamd.yaml:5: `execution.checkpointing.intervall`: unknown key [SD-0103]; \
         hint: did you mean `execution.checkpointing.interval`?"
    );
    assert_eq!(
        refusal("checkpointing.interval: 10 s"),
        "streamd.yaml:1: `checkpointing.interval`: unknown key [SD-0103]; \
         hint: did you mean `execution.checkpointing.interval`?"
    );
    assert_eq!(
        refusal("taskmanager.numberoftaskslots: 1"),
        "streamd.yaml:1: `taskmanager.numberoftaskslots`: unknown key [SD-0103]; \
         hint: did you mean `taskmanager.numberOfTaskSlots`?"
    );
    assert_eq!(
        refusal("colour: blue"),
        "streamd.yaml:1: `colour`: unknown key [SD-0103]; hint: docs/reference/configuration.md lists every key"
    );
}

#[test]
fn savepoints_in_the_job_managers_memory_are_refused_with_the_reason() {
    assert_eq!(
        refusal("savepoints:\n  state.backend: jobmanager\n"),
        "streamd.yaml:2: `savepoints.state.backend`: this key is not supported [SD-0103]; \
         hint: savepoints in the job manager's memory died with its process: set `state.savepoints.dir`"
    );
    assert!(refusal("taskmanager.memory.flink.size: 1728m").contains("no heap to size"));
}

#[test]
fn a_wrong_value_is_refused_with_file_line_and_key() {
    let cases = [
        (
            "jobmanager.rpc.port: 65536",
            "`jobmanager.rpc.port`: expected a whole number from 0 to 65535, found `65536`",
        ),
        (
            "jobmanager.rpc.port: -1",
            "expected a whole number from 0 to 65535, found `-1`",
        ),
        (
            "parallelism.default: 1e3",
            "expected a whole number from 1 to 32768, found `1000",
        ),
        (
            "parallelism.default: 99999999999999999999999",
            "expected a whole number from 1 to 32768, found `99999999999999999999999`",
        ),
        (
            "parallelism.default: ٣",
            "expected a whole number from 1 to 32768, found `٣`",
        ),
        (
            "parallelism.default: 0",
            "expected a whole number from 1 to 32768, found `0`",
        ),
        (
            "heartbeat.interval: ten",
            "expected a duration with its unit, like `10 s`, from 10 ms to 1 h, found `ten`",
        ),
        ("slot.request.timeout: -5 s", "found `-5 s`"),
        (
            "slot.request.timeout: 0 s",
            "expected a duration with its unit, like `10 s`, of at least 1 ms, found `0 s`",
        ),
        (
            "restart-strategy.exponential-delay.backoff-multiplier: .nan",
            "found `NaN`",
        ),
        (
            "restart-strategy.exponential-delay.backoff-multiplier: 1e309",
            "found `",
        ),
        (
            "execution.checkpointing.mode: TWICE",
            "expected one of `EXACTLY_ONCE`, `AT_LEAST_ONCE`, found `TWICE`",
        ),
        (
            "jobmanager.rpc.address: http://x",
            "expected a host name or IP address, found `http://x`",
        ),
        ("taskmanager.bind-host: here", "expected an IP address, found `here`"),
        ("state.checkpoints.dir: data/cp", "the path `data/cp` is relative"),
        (
            "state.checkpoints.dir: s3://me:secret@bucket/cp",
            "the URI `s3://bucket/cp` holds a user name or password",
        ),
        (
            "state.checkpoints.dir: file://other/cp",
            "the URI `file://other/cp` names a host",
        ),
        ("state.checkpoints.dir: /data/../etc", "holds a `..`"),
        ("env.log.dir: file:///log", "`file:///log` is a URI"),
        (
            "parallelism.default:",
            "the key has no value [SD-0102]; hint: give it a value, or remove the line",
        ),
        ("parallelism.default: [1]", "expected one value, found a list"),
    ];
    for (text, expected) in cases {
        let refusal = refusal(text);
        assert!(
            refusal.starts_with("streamd.yaml:1: `") && refusal.contains(expected),
            "{text} → {refusal}"
        );
    }
}

#[test]
fn a_duration_without_a_unit_is_refused_with_the_ways_to_write_it() {
    assert!(
        refusal("execution.checkpointing.interval: 60000")
            .ends_with("hint: add the unit: `60000 ms`, `60000 s` or `60000 min`")
    );
}

#[test]
fn a_key_that_is_set_twice_is_refused_whatever_the_spelling() {
    for text in [
        "parallelism.default: 1\nparallelism.default: 1\n",
        "parallelism.default: 1\nparallelism:\n  default: 1\n",
        "execution.checkpointing.dir: /a\nstate.checkpoints.dir: /a\n",
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains("the key is set twice"), "{text} → {refusal}");
        assert!(
            refusal.starts_with("streamd.yaml:2:") || refusal.starts_with("streamd.yaml:3:"),
            "{refusal}"
        );
    }
}

#[test]
fn hostile_files_are_refused_quickly() {
    let bomb = format!(
        "a: &a {{x: 1, y: 1}}\n{}",
        (0..60)
            .map(|i| format!("b{i}: &b{i} {{x: *a, y: *a}}\n"))
            .collect::<String>()
    );
    let deep_block: String = (0..600).map(|depth| format!("{}k:\n", " ".repeat(depth))).collect();
    for text in [
        bomb,
        "[".repeat(1 << 20),
        "{".repeat(1 << 20),
        deep_block,
        "- ".repeat(100_000),
        "\tparallelism.default: 1\n".to_owned(),
        "parallelism.default: 1\n---\nparallelism.default: 2\n".to_owned(),
        "parallelism.default: 1\n<<: {a: 1}\n".to_owned(),
        "just text".to_owned(),
        "? {a: b}\n: c\n".to_owned(),
        "\u{1b}[2J: 1".to_owned(),
    ] {
        let refusal = refusal(&text);
        assert!(refusal.len() < 600 && !refusal.contains(char::is_control), "{refusal}");
    }
}

#[test]
fn a_file_that_is_no_configuration_is_refused_before_it_is_parsed() {
    assert!(refusal(vec![b'#'; (1 << 20) + 1]).contains("the file is longer than 1048576 bytes"));
    assert!(refusal([0xff, 0xfe, 0x00]).contains("the file is not UTF-8"));
    let endless = Configuration::default()
        .with_file("streamd.yaml", std::io::repeat(b'#'))
        .unwrap_err();
    assert_eq!(endless.problem, Problem::TooLarge(1 << 20));
}

#[test]
fn a_faulty_argument_is_named_whole() {
    let refusal = |argument: &str| Configuration::default().with_arguments([argument]).unwrap_err().coded();
    assert_eq!(
        refusal("parallelism").to_string(),
        "`-D parallelism`: expected `key=value` [SD-0101]"
    );
    assert_eq!(refusal("=1").to_string(), "`-D =1`: expected `key=value` [SD-0101]");
    assert_eq!(
        refusal("parallelism.default=x").to_string(),
        "`-D parallelism.default=x`: `parallelism.default`: expected a whole number from 1 to 32768, found `x` [SD-0102]"
    );
    assert_eq!(
        refusal("paralelism.default=1").hint.as_deref(),
        Some("did you mean `parallelism.default`?")
    );
}

#[test]
fn a_faulty_environment_variable_is_named() {
    let error = Configuration::default().with_environment(|name| (name == "STREAMD_PID_DIR").then(|| "run".to_owned()));
    assert_eq!(
        error.unwrap_err().to_string(),
        "environment variable `STREAMD_PID_DIR`: the path `run` is relative"
    );
}

#[test]
fn a_job_sets_its_own_keys_and_none_of_the_clusters() {
    let settings = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let job = Configuration::default()
        .with_job_settings(&settings("execution.checkpointing.interval", "1 s"))
        .unwrap();
    assert_eq!(job.get(keys::CHECKPOINTING_INTERVAL), Some(Duration::from_secs(1)));
    let error = Configuration::default()
        .with_job_settings(&settings("heartbeat.timeout", "1 s"))
        .unwrap_err();
    assert_eq!(
        (error.problem.clone(), error.coded().code),
        (Problem::ClusterKey, ErrorCode::InvalidConfiguration)
    );
}

#[test]
fn durations_are_written_with_flinks_units() {
    for (text, millis) in [
        ("10 s", 10_000),
        ("10s", 10_000),
        ("5 min", 300_000),
        ("5m", 300_000),
        ("500ms", 500),
        ("2 Hours", 7_200_000),
        ("1 d", 86_400_000),
        ("0", 0),
    ] {
        assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
    }
    for text in [
        "",
        "s",
        "10",
        "10 parsecs",
        "-1 s",
        "1.5 s",
        "1 s 2",
        "99999999999999999999 s",
        "18446744073709551615 d",
    ] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
}

#[test]
fn sizes_are_written_with_flinks_units() {
    for (text, bytes) in [
        ("128 mb", 128 << 20),
        ("64k", 64 << 10),
        ("1 GB", 1 << 30),
        ("7 bytes", 7),
        ("0", 0),
    ] {
        assert_eq!(parse_size(text), Some(bytes), "{text}");
    }
    for text in ["", "128", "1.5 gb", "-1 b", "99999999 tb", "1 mib b"] {
        assert_eq!(parse_size(text), None, "{text}");
    }
}

#[test]
fn a_path_becomes_a_uri_that_names_the_same_place() {
    assert_eq!(
        absolute_location("/with space/50%/a?b#c").as_deref(),
        Ok("file:///with%20space/50%25/a%3Fb%23c")
    );
    assert_eq!(
        absolute_location("file:///with%20space/").as_deref(),
        Ok("file:///with%20space")
    );
}

#[test]
fn directories_lie_in_the_working_directory_unless_they_are_set() {
    let home = |name: &str| (name == "HOME").then(|| "/home/ada".to_owned());
    let directories = Directories::of(&Configuration::default(), home).unwrap();
    assert_eq!(directories.working, PathBuf::from("/home/ada/.local/state/streamd"));
    assert_eq!(directories.log, PathBuf::from("/home/ada/.local/state/streamd/log"));
    assert_eq!(directories.ha_storage, "file:///home/ada/.local/state/streamd/ha");

    let set = Configuration::default()
        .with_arguments(["process.working-dir=/w", "env.pid.dir=/p"])
        .unwrap();
    let directories = Directories::of(&set, |_| None).unwrap();
    assert_eq!(
        (directories.pid, directories.temporary),
        (PathBuf::from("/p"), PathBuf::from("/w/tmp"))
    );
    assert_eq!(directories.checkpoints, "file:///w/checkpoints");

    let error = Directories::of(&Configuration::default(), |_| None).unwrap_err();
    assert_eq!(
        error.hint.as_deref(),
        Some("set `process.working-dir`, or the environment variable `STREAMD_DATA_DIR`")
    );
}

proptest! {
    #[test]
    fn a_printed_size_reads_back(bytes: u64) {
        prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
    }

    #[test]
    fn a_printed_duration_reads_back(millis: u64) {
        prop_assert_eq!(parse_duration(&format_duration(millis)), Some(Duration::from_millis(millis)));
    }

    #[test]
    fn no_file_makes_the_reader_panic(text in "[a-z:{}&*!|>\\[\\]\"'#,.\\- \n\t]{0,200}") {
        let _ = file(&text);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        let _ = Configuration::default().with_file("streamd.yaml", bytes.as_slice());
    }

    #[test]
    fn no_location_makes_the_reader_panic(text: String) {
        let _ = absolute_location(&text);
    }
}
