//! Keys of Flink that streamd has no use for: some are refused with the reason, some may say what is true anyway.

/// What becomes of a key that is not in the table.
pub(super) enum Verdict {
    /// It says what streamd does in any case; nothing to remember.
    AlwaysSo,
    /// Refused, for this reason.
    Refused(&'static str),
}

/// The verdict on a key of Flink's, if there is one.
pub(super) fn verdict(key: &str, value: &str) -> Option<Verdict> {
    let value = value.trim().to_ascii_lowercase();
    match (key, value.as_str()) {
        ("savepoints.state.backend", "filesystem") => Some(Verdict::AlwaysSo),
        ("savepoints.state.backend", "jobmanager") => Some(Verdict::Refused(
            "savepoints in the job manager's memory died with its process: set `state.savepoints.dir`",
        )),
        ("state.backend.rocksdb.memory.managed", "true") => Some(Verdict::AlwaysSo),
        ("state.backend.rocksdb.memory.managed", _) => Some(Verdict::Refused(
            "the memory of RocksDB is always bounded: remove the line, and set `state.backend.rocksdb.memory.fixed-per-slot`",
        )),
        _ => PREFIXES
            .iter()
            .find(|(prefix, _)| key.starts_with(prefix))
            .map(|(_, reason)| Verdict::Refused(reason)),
    }
}

/// Families of keys, by the beginning that they share.
const PREFIXES: &[(&str, &str)] = &[
    ("jobmanager.memory.", "streamd has no heap to size: remove the line"),
    ("jobmanager.heap.", "streamd has no heap to size: remove the line"),
    (
        "taskmanager.memory.",
        "streamd has no heap to size: `taskmanager.memory.process.size` limits workers",
    ),
    ("taskmanager.heap.", "streamd has no heap to size: remove the line"),
    ("env.java.", "there is no JVM: remove the line"),
    ("classloader.", "there is no JVM: remove the line"),
    ("akka.", "there is no actor system: remove the line"),
    ("pekko.", "there is no actor system: remove the line"),
    (
        "blob.",
        "applications are kept under `high-availability.storageDir`: remove the line",
    ),
    (
        "fs.azure.",
        "name the account in the location, and set `azure.account-key`",
    ),
    (
        "fs.hdfs.",
        "HDFS takes its settings from `HADOOP_CONF_DIR`: remove the line",
    ),
    (
        "env.hadoop.conf.dir",
        "set the environment variable `HADOOP_CONF_DIR` instead",
    ),
    ("presto.s3.", "write `s3.` for `presto.s3.`"),
    (
        "s3.entropy.",
        "names of objects are spread by job and nonce: remove the line",
    ),
    ("rest.", "this version has no REST endpoint: remove the line"),
    ("web.", "this version has no web console: remove the line"),
];
