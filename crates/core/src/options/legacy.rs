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
        ("execution.checkpointing.unaligned" | "execution.checkpointing.unaligned.enabled", "false") => {
            Some(Verdict::AlwaysSo)
        }
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

/// Why a value of a known key is refused, where it is one of Flink's that makes no sense here.
pub(super) fn refused_value(key: &str, value: &str) -> Option<&'static str> {
    match (key, value.trim().to_ascii_uppercase().as_str()) {
        ("execution.state-recovery.claim-mode", "LEGACY") => Some(
            "in LEGACY nobody owns the snapshot, so nobody knows when it may be deleted: NO_CLAIM leaves it to you, \
             CLAIM to streamd",
        ),
        _ => None,
    }
}

/// Families of keys, by the beginning that they share.
const PREFIXES: &[(&str, &str)] = &[
    (
        "execution.checkpointing.unaligned",
        "checkpoints are always aligned: leave it out",
    ),
    (
        "execution.checkpointing.aligned-checkpoint-timeout",
        "checkpoints are always aligned: leave it out",
    ),
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

#[cfg(test)]
mod tests {
    use crate::options::Configuration;

    fn refusal(argument: &str) -> String {
        let refused = Configuration::default().with_arguments([argument]).unwrap_err().coded();
        format!("{refused}; hint: {}", refused.hint.as_deref().unwrap_or_default())
    }

    #[test]
    fn unaligned_checkpoints_are_refused_with_the_reason() {
        assert_eq!(
            refusal("execution.checkpointing.unaligned=true"),
            "`-D execution.checkpointing.unaligned=true`: `execution.checkpointing.unaligned`: this key is not supported [SD-0103]; \
             hint: checkpoints are always aligned: leave it out"
        );
        for key in ["unaligned.enabled", "unaligned.forced", "aligned-checkpoint-timeout"] {
            assert!(
                refusal(&format!("execution.checkpointing.{key}=1 s")).contains("always aligned"),
                "{key}"
            );
        }
        let what_is_so = Configuration::default()
            .with_arguments(["execution.checkpointing.unaligned=false"])
            .unwrap();
        assert_eq!(what_is_so.settings().count(), 0);
    }

    #[test]
    fn a_snapshot_that_nobody_owns_is_refused_with_the_reason() {
        for key in [
            "execution.savepoint-restore-mode",
            "execution.state-recovery.claim-mode",
        ] {
            let refused = refusal(&format!("{key}=legacy"));
            assert!(
                refused.contains("found `legacy` [SD-0102]; hint: in LEGACY nobody owns the snapshot"),
                "{refused}"
            );
        }
        assert!(refusal("execution.state-recovery.claim-mode=MINE").contains("correct it"));
    }

    #[test]
    fn a_place_in_the_memory_of_one_process_is_refused() {
        for key in [
            "state.checkpoints.dir",
            "state.savepoints.dir",
            "high-availability.storageDir",
        ] {
            let refused = refusal(&format!("{key}=memory:///x"));
            assert!(
                refused.contains("`memory:///x` is in the memory of one process"),
                "{refused}"
            );
            assert!(refused.contains("[SD-0102]; hint: name a folder"), "{refused}");
        }
    }
}
