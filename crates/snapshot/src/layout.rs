//! The names of all objects. No other module makes one.
//!
//! ```text
//! <checkpoints>/claimed-by.json
//! <checkpoints>/<job id>/chk-<N>/_metadata
//!                       /chk-<N>/<vertex>-<subtask>-a<attempt>-<nonce>.state
//!                       /chk-<N>/<vertex>-<subtask>-a<attempt>-<nonce>-<8 digits of the operator's id>-<file of a database>
//!                       /completed/<N, 20 digits>.json
//! <savepoints>/savepoint-<6 digits of the job id>-<12 digits>/_metadata
//!                       /<operator>-<8 digits of its id>/<state>/<subtask>-<nonce>.parquet
//!                       /<operator>-<8 digits of its id>/<state>.list.parquet
//! <artifacts>/artifacts/<sha256>
//! <storage>/operations/<operation id>.{begun,ended}.json
//! <storage>/jobs/<job id>/{job,result}.json
//!                        /attempts/<n, 10 digits>.json
//!                        /epochs/<epoch, 20 digits>{,.cancelled,.suspended,.ended}.json
//!                        /committed/<id, 20 digits>.json
//! <storage>/leaders/<epoch, 20 digits>{,-<n, 20 digits>.alive}.json
//! <storage>/cluster.json
//! ```
//!
//! Names are never reused: whatever a stale writer may write carries his attempt and nonce.

use streamd_core::id::{Attempt, CheckpointId, JobId, OperationId, OperatorId};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::StoreError;
use crate::store::Location;

/// The name of the metadata file in the folder of a snapshot.
pub const METADATA: &str = "_metadata";

/// The folder of the records of completion, beside the checkpoint folders of a job.
pub const COMPLETED: &str = "completed";

/// The record of whose a folder of checkpoints is.
pub const CLAIM: &str = "claimed-by.json";

/// The record of who a cluster is, in the storage that outlives job managers.
pub const CLUSTER: &str = "cluster.json";

/// What the names of checkpoint folders begin with.
const CHECKPOINT_PREFIX: &str = "chk-";

/// The longest name of an operator or state that is kept whole: file systems take 255 bytes, and other parts join it.
const MAX_SANITIZED: usize = 120;

/// The folder of a job's checkpoints.
pub fn job_folder(base: &Location, job: JobId) -> Result<Location, StoreError> {
    base.child(&job.to_string())
}

/// The name of a checkpoint's folder within its job's.
pub fn checkpoint_name(id: CheckpointId) -> String {
    format!("{CHECKPOINT_PREFIX}{id}")
}

/// The folder of a checkpoint.
pub fn checkpoint_folder(base: &Location, job: JobId, id: CheckpointId) -> Result<Location, StoreError> {
    job_folder(base, job)?.child(&checkpoint_name(id))
}

/// The folder of the snapshot that a pointer names: the pointer itself, or the folder that its `_metadata` file is in.
pub fn snapshot_folder(pointer: &Location) -> Location {
    match pointer.parent() {
        Some(parent) if pointer.name() == Some(METADATA) => parent,
        _a_folder => pointer.clone(),
    }
}

/// Whether a folder has the name of a checkpoint's.
pub fn is_checkpoint_folder(folder: &Location) -> bool {
    checkpoint_of(folder).is_some()
}

/// The checkpoint whose folder this is, by its name.
pub fn checkpoint_of(folder: &Location) -> Option<CheckpointId> {
    checkpoint_number(folder.name()?)
}

/// The checkpoint whose folder has this name.
pub fn checkpoint_number(name: &str) -> Option<CheckpointId> {
    name.strip_prefix(CHECKPOINT_PREFIX)?.parse().ok().map(CheckpointId)
}

/// The name of a savepoint's folder; `random` are 12 hexadecimal digits.
pub fn savepoint_name(job: JobId, random: &str) -> String {
    let job = job.to_string();
    format!("savepoint-{}-{random}", &job[..6])
}

/// Whether a folder has the name of a savepoint's.
pub fn is_savepoint_name(name: &str) -> bool {
    let is_hexadecimal =
        |text: &str, digits: usize| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    let parts = name.strip_prefix("savepoint-").and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(job, random)| is_hexadecimal(job, 6) && is_hexadecimal(random, 12))
}

/// The record that a checkpoint is complete, within the job's folder.
pub fn completion_record(id: CheckpointId) -> String {
    format!("{COMPLETED}/{:020}.json", id.0)
}

/// The folder of the records of operations, in the storage that outlives job managers.
pub const OPERATIONS: &str = "operations";

/// The record that an operation has begun.
pub fn operation_begun(id: OperationId) -> String {
    format!("{OPERATIONS}/{id}.begun.json")
}

/// The record of how an operation ended.
pub fn operation_ended(id: OperationId) -> String {
    format!("{OPERATIONS}/{id}.ended.json")
}

/// The operation whose beginning a record in the folder of operations is, by its name.
pub fn operation_of(name: &str) -> Option<OperationId> {
    name.strip_suffix(".begun.json")?.parse().ok()
}

/// The folder of the records of jobs, in the storage that outlives job managers.
pub const JOBS: &str = "jobs";

/// The record of a submission, among the records of its job.
pub const JOB: &str = "job.json";

/// The record of how a job ended, as earlier builds named it.
pub const JOB_RESULT: &str = "result.json";

/// The folder of the records of one job.
pub fn job_records(job: JobId) -> String {
    format!("{JOBS}/{job}")
}

/// The record that an attempt is about to begin.
pub(crate) fn attempt(attempt: Attempt) -> String {
    format!("attempts/{:010}.json", attempt.0)
}

/// The attempt whose record has this name.
pub(crate) fn attempt_of(name: &str) -> Option<Attempt> {
    let number = name.strip_prefix("attempts/")?.strip_suffix(".json")?;
    number.parse().ok().map(Attempt)
}

/// The record that the leader of an epoch has taken a job over.
pub(crate) fn takeover(epoch: u64) -> String {
    format!("epochs/{epoch:020}.json")
}

/// The epoch whose record of a takeover has this name.
pub(crate) fn takeover_of(name: &str) -> Option<u64> {
    name.strip_prefix("epochs/")?.strip_suffix(".json")?.parse().ok()
}

/// The record that the leader of an epoch cancels a job.
pub(crate) fn cancellation(epoch: u64) -> String {
    format!("epochs/{epoch:020}.cancelled.json")
}

/// The record that the leader of an epoch has let go of a job in order.
pub(crate) fn suspension(epoch: u64) -> String {
    format!("epochs/{epoch:020}.suspended.json")
}

/// The record that a job has ended under the leader of an epoch.
pub(crate) fn end(epoch: u64) -> String {
    format!("epochs/{epoch:020}.ended.json")
}

/// The epoch whose leader has cancelled or ended a job, where the record of that has this name.
pub(crate) fn decision_of(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("epochs/")?;
    let epoch = rest
        .strip_suffix(".cancelled.json")
        .or_else(|| rest.strip_suffix(".ended.json"));
    epoch?.parse().ok()
}

/// The record of a savepoint that is committed.
pub(crate) fn committed(id: CheckpointId) -> String {
    format!("committed/{:020}.json", id.0)
}

/// Whether a name is that of the record of a savepoint that is committed.
pub(crate) fn is_committed(name: &str) -> bool {
    name.starts_with("committed/")
}

/// The folder of the records of leaders, in the storage that outlives job managers.
pub const LEADERS: &str = "leaders";

/// The record of who leads in an epoch.
pub(crate) fn leader_record(epoch: u64) -> String {
    format!("{LEADERS}/{epoch:020}.json")
}

/// The epoch whose leader's record has this name in the folder of leaders.
pub(crate) fn leader_epoch(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".json")?;
    number.parse().ok().filter(|epoch| format!("{epoch:020}") == number)
}

/// A sign of life of the leader of an epoch.
pub(crate) fn sign_of_life(epoch: u64, number: u64) -> String {
    format!("{LEADERS}/{epoch:020}-{number:020}.alive.json")
}

/// The number of the sign of life that has this name in the folder of leaders, if it is one of this epoch.
pub(crate) fn sign_of_life_of(name: &str, epoch: u64) -> Option<u64> {
    let number = name
        .strip_prefix(&format!("{epoch:020}-"))?
        .strip_suffix(".alive.json")?;
    number.parse().ok()
}

/// An application, by the 64 hexadecimal digits of its SHA-256.
pub fn artifact(base: &Location, sha256: &str) -> Result<Location, StoreError> {
    base.child(&format!("artifacts/{sha256}"))
}

/// The name by which a checkpoint refers to an object of the checkpoint in the folder `name` beside its own.
pub(crate) fn beside(name: &str, object: &str) -> String {
    format!("../{name}/{object}")
}

/// Folder and object of such a name. Nothing else leads out of the folder of a snapshot: the folder must be one that
/// [`checkpoint_name`] makes, the object a single name.
pub(crate) fn split_beside(path: &str) -> Option<(&str, &str)> {
    let (folder, object) = path.strip_prefix("../")?.split_once('/')?;
    let id: u64 = folder.strip_prefix(CHECKPOINT_PREFIX)?.parse().ok()?;
    let is_ours = checkpoint_name(CheckpointId(id)) == folder && !object.contains('/');
    is_ours.then_some((folder, object))
}

/// Who writes the objects of one subtask.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The vertex.
    pub vertex: u32,
    /// The index of the subtask in it.
    pub subtask: u32,
    /// The attempt of the job.
    pub attempt: Attempt,
    /// Unique to this writing.
    pub nonce: &'a str,
}

impl Writer<'_> {
    /// What the names of all of its objects in a checkpoint begin with.
    fn beginning(&self) -> String {
        let Self {
            vertex,
            subtask,
            attempt,
            nonce,
        } = self;
        format!("{vertex}-{subtask}-a{attempt}-{}", sanitize(nonce))
    }
}

/// The one object of a subtask in a checkpoint.
pub fn native_object(writer: Writer<'_>) -> String {
    format!("{}.state", writer.beginning())
}

/// A file of the database that an operator's state is in, in a checkpoint.
pub(crate) fn database_file(writer: Writer<'_>, operator: OperatorId, name: &str) -> String {
    let operator = operator.to_string();
    format!("{}-{}-{name}", writer.beginning(), &operator[..8])
}

/// Whether a file can have this name within a database: its table files, and its manifest.
pub(crate) fn is_database_file(name: &str) -> bool {
    let number = name.strip_prefix("MANIFEST-").or_else(|| name.strip_suffix(".sst"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The checkpoint in whose folder the object of this URI is.
pub fn checkpoint_of_object(uri: &str) -> Option<CheckpointId> {
    checkpoint_of(&Location::open(uri).ok()?.parent()?)
}

/// A table of keyed state in a savepoint.
pub fn keyed_table(operator: OperatorId, label: &str, state: &str, writer: Writer<'_>) -> String {
    let folder = operator_folder(operator, label);
    format!(
        "{folder}/{}/{}-{}.parquet",
        sanitize(state),
        writer.subtask,
        sanitize(writer.nonce)
    )
}

/// A table of operator state in a savepoint.
pub fn list_table(operator: OperatorId, label: &str, state: &str) -> String {
    format!("{}/{}.list.parquet", operator_folder(operator, label), sanitize(state))
}

pub(crate) fn operator_folder(operator: OperatorId, label: &str) -> String {
    let id = operator.to_string();
    format!("{}-{}", sanitize(label), &id[..8])
}

/// A segment of a path for any text, different for different texts: letters, digits, `-`, `_` and inner dots stay, every other
/// byte becomes `~` and two hexadecimal digits; what is too long is cut and ends with `~~` and its hash.
pub fn sanitize(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => segment.push(char::from(byte)),
            b'.' if index > 0 => segment.push('.'),
            other => segment.push_str(&format!("~{other:02x}")),
        }
    }
    if segment.is_empty() {
        return "~".to_owned();
    }
    if segment.len() > MAX_SANITIZED {
        segment.truncate(MAX_SANITIZED - 40);
        segment.push_str(&format!("~~{:032x}", xxh3_128(text.as_bytes())));
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JOB: &str = "fd72014d4c864993a2e5a9287b4a9c5d";

    #[test]
    fn the_names_are_those_of_the_documentation() {
        let base = Location::open("/data").unwrap();
        let job: JobId = JOB.parse().unwrap();
        let writer = Writer {
            vertex: 1,
            subtask: 2,
            attempt: Attempt(3),
            nonce: "0a1b",
        };
        let operator = OperatorId::from_uid("x");
        let id = operator.to_string();
        assert_eq!(
            checkpoint_folder(&base, job, CheckpointId(17)).unwrap().uri(),
            format!("file:///data/{JOB}/chk-17")
        );
        assert_eq!(
            completion_record(CheckpointId(17)),
            "completed/00000000000000000017.json"
        );
        assert_eq!(savepoint_name(job, "0123456789ab"), "savepoint-fd7201-0123456789ab");
        assert_eq!(native_object(writer), "1-2-a3-0a1b.state");
        assert_eq!(
            keyed_table(operator, "x", "count", writer),
            format!("x-{}/count/2-0a1b.parquet", &id[..8])
        );
        assert_eq!(
            list_table(operator, "x", "splits"),
            format!("x-{}/splits.list.parquet", &id[..8])
        );
        assert_eq!(
            database_file(writer, operator, "000007.sst"),
            format!("1-2-a3-0a1b-{}-000007.sst", &id[..8])
        );
    }

    #[test]
    fn a_database_has_table_files_and_a_manifest() {
        for good in ["000007.sst", "MANIFEST-000004"] {
            assert!(is_database_file(good), "{good}");
        }
        for bad in [".sst", "MANIFEST-", "a7.sst", "../7.sst", "7.log", "CURRENT", "000007"] {
            assert!(!is_database_file(bad), "{bad}");
        }
    }

    #[test]
    fn a_savepoint_is_known_by_its_job_and_twelve_digits() {
        assert!(is_savepoint_name("savepoint-fd7201-0123456789ab"));
        for bad in [
            "fd7201-0123456789ab",
            "savepoint-fd720-0123456789ab",
            "savepoint-fd7201-0123456789a",
            "savepoint-gd7201-0123456789ab",
            "savepoint-fd7201-0123456789xy",
            "savepoint-fd72010123456789ab",
        ] {
            assert!(!is_savepoint_name(bad), "{bad}");
        }
    }

    #[test]
    fn an_object_belongs_to_the_checkpoint_in_whose_folder_it_is() {
        assert_eq!(
            checkpoint_of_object("file:///data/chk-17/a.state"),
            Some(CheckpointId(17))
        );
        assert_eq!(checkpoint_of_object("file:///data/sp/a.state"), None);
    }

    #[test]
    fn what_is_no_letter_or_too_long_is_written_otherwise() {
        for (text, segment) in [
            ("", "~"),
            ("a.b", "a.b"),
            (".b", "~2eb"),
            ("..", "~2e."),
            ("a/b c", "a~2fb~20c"),
        ] {
            assert_eq!(sanitize(text), segment);
        }
        let longest = "x".repeat(MAX_SANITIZED);
        assert_eq!(sanitize(&longest), longest);
        let (cut, hash) = (&longest[..MAX_SANITIZED - 40], sanitize(&format!("{longest}x")));
        assert_eq!(
            hash.strip_prefix(cut).map(|hash| (&hash[..2], hash.len())),
            Some(("~~", 34))
        );
        assert_ne!(sanitize(&format!("{longest}y")), hash);
    }

    #[test]
    fn only_an_object_of_a_checkpoint_beside_is_reached_outside_of_the_folder() {
        assert_eq!(split_beside(&beside("chk-17", "a.state")), Some(("chk-17", "a.state")));
        for bad in [
            "a.state",
            "../a.state",
            "../chk-17",
            "../chk-/a",
            "../chk-017/a",
            "../chk-+17/a",
            "../chk-17/../../a",
            "../chk-17/b/a",
            "../../chk-17/a",
            "../completed/00000000000000000017.json",
            "../chk-99999999999999999999/a",
        ] {
            assert_eq!(split_beside(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_checkpoint_is_known_by_the_name_of_its_folder() {
        let folder = |name| Location::open(&format!("/data/{name}")).unwrap();
        assert_eq!(checkpoint_of(&folder("chk-17")), Some(CheckpointId(17)));
        assert_eq!(checkpoint_of(&folder("savepoint-fd7201-0123456789ab")), None);
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_segment_that_the_store_takes(text: String) {
            let segment = sanitize(&text);
            prop_assert!(segment.len() <= MAX_SANITIZED && !segment.contains(['/', '#', '%']) && segment != "." && segment != "..");
            prop_assert!(Location::open("/data").unwrap().child(&segment).is_ok());
        }

        #[test]
        fn different_texts_become_different_segments(a in ".{0,4}|[~/.a0]{0,6}", b in ".{0,4}|[~/.a0]{0,6}") {
            prop_assert_eq!(a == b, sanitize(&a) == sanitize(&b));
        }
    }
}
