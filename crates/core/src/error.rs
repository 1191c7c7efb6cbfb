//! Errors as a person meets them: a stable code, one line that says what happened to which object, and what to do next.
//!
//! Libraries keep exact enums of their own; at the edge (a gRPC handler, a command, a daemon's start) they become a
//! [`CodedError`]. Every code has a page `docs/errors/SD-nnnn.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the caller can do about an error; decides the exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// The job or operation itself failed. Exit code 1.
    Failed,
    /// The call is malformed: correct it. Exit code 2.
    Usage,
    /// The object does not exist. Exit code 3.
    NotFound,
    /// The object is in a state that does not allow it. Exit code 4.
    Conflict,
    /// Not authenticated or not allowed. Exit code 5.
    Denied,
    /// Nobody answered in time: try again. Exit code 6.
    Unavailable,
    /// A snapshot is corrupt or does not fit the application. Exit code 7.
    Snapshot,
    /// It may or may not have happened: look before trying again. Exit code 8.
    Unknown,
    /// A bug in streamd: report it. Exit code 70.
    Internal,
}

impl Remedy {
    /// The exit code of a command that ends with such an error.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Denied => 5,
            Self::Unavailable => 6,
            Self::Snapshot => 7,
            Self::Unknown => 8,
            Self::Internal => 70,
        }
    }
}

macro_rules! codes {
    ($($name:ident = $number:literal, $remedy:ident, $title:literal;)*) => {
        /// A stable error code. Never renumbered, never reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum ErrorCode {
            $(#[doc = $title] $name = $number,)*
        }

        impl ErrorCode {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What the caller can do.
            pub fn remedy(self) -> Remedy {
                match self { $(Self::$name => Remedy::$remedy,)* }
            }

            /// The title of the code's page.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    // 01xx: commands and configuration
    InvalidArgument = 101, Usage, "an argument is malformed";
    InvalidConfiguration = 102, Usage, "the configuration is malformed";
    UnknownConfigurationKey = 103, Usage, "the configuration holds an unknown key";
    OutputFailed = 104, Failed, "the output cannot be written";
    // 02xx: applications and their submission
    ApplicationNotFound = 201, NotFound, "the application file does not exist";
    ApplicationNotExecutable = 202, Usage, "the application file cannot be executed";
    ApplicationTooLarge = 203, Usage, "the application file is larger than the limit";
    NotAnApplication = 204, Usage, "the program is no streamd application";
    DescribeFailed = 205, Failed, "the application failed while describing its job";
    DescribeTimeout = 206, Failed, "the application did not describe its job in time";
    InvalidJobGraph = 207, Usage, "the application describes an impossible job";
    GraphMismatch = 208, Failed, "a worker built a different job graph";
    WorkerMemoryExceeded = 209, Failed, "a worker took more memory than it may";
    // 03xx: the cluster and its resources
    JobManagerUnreachable = 301, Unavailable, "the job manager cannot be reached";
    NoTaskManager = 302, Unavailable, "no task manager is registered";
    NotEnoughSlots = 303, Unavailable, "there are not enough free slots";
    AddressInUse = 304, Conflict, "the address is in use";
    DirectoryNotWritable = 305, Denied, "a directory cannot be written";
    AlreadyRunning = 306, Conflict, "another instance uses the same directory";
    NotReady = 307, Unavailable, "the cluster is not ready in time";
    ClusterShuttingDown = 308, Unavailable, "the cluster is shutting down";
    ProtocolMismatch = 309, Unavailable, "the other side does not speak this protocol";
    InsecureBind = 310, Denied, "other machines could reach the address";
    // 04xx: jobs and operations on them
    JobNotFound = 401, NotFound, "there is no such job";
    JobTerminated = 402, Conflict, "the job has ended";
    JobNotRunning = 403, Conflict, "the job is not running";
    DuplicateJob = 404, Conflict, "the job id is taken";
    JobFailed = 405, Failed, "the job failed";
    JobCanceled = 406, Failed, "the job was cancelled";
    OperationNotFound = 407, NotFound, "there is no such operation";
    DeadlineExceeded = 408, Unavailable, "the operation did not end in time";
    OutcomeUnknown = 409, Unknown, "it is not known whether the request took effect";
    OperationTimedOut = 411, Unavailable, "the operation was given up because its time was up";
    ClaimRefused = 412, Usage, "the claim mode is not possible";
    ResumeNotFound = 413, NotFound, "the job has left no snapshot to resume from";
    ResumeAmbiguous = 414, Conflict, "it is not clear which snapshot the job is to resume from";
    OperationNotRecorded = 415, Unavailable, "the operation cannot be recorded";
    DropRefused = 416, Usage, "the snapshot holds no such state to drop";
    UserCodeFailed = 421, Failed, "the application's code or its data failed";
    SurroundingsFailed = 422, Failed, "something around the job failed";
    DrainRefused = 423, Conflict, "the task manager cannot be drained";
    TaskManagerNotFound = 424, NotFound, "there is no such task manager";
    DrainTimedOut = 425, Unavailable, "the task manager is not drained in time";
    ProfilerMissing = 426, Failed, "the profiler is not installed";
    ProfilerDenied = 427, Denied, "the kernel does not allow the profile";
    ProfileUnderWay = 428, Conflict, "a profile of the worker is being taken";
    NothingSampled = 429, Failed, "the job did not work while it was looked at";
    ProfileFailed = 430, Failed, "the profile could not be taken";
    // 05xx: snapshots
    SnapshotNotFound = 501, NotFound, "there is no snapshot at the path";
    SnapshotCorrupt = 502, Snapshot, "the snapshot is corrupt";
    SnapshotVersion = 503, Snapshot, "the snapshot was written by a newer streamd";
    UnclaimedState = 504, Snapshot, "the snapshot holds state that no operator claims";
    IncompatibleState = 505, Snapshot, "the snapshot's state does not fit the application";
    MaxParallelism = 506, Snapshot, "the parallelism does not fit the snapshot's number of key groups";
    CheckpointingDisabled = 507, Conflict, "checkpointing is disabled";
    SavepointDirectoryMissing = 508, Usage, "no savepoint directory is configured";
    SavepointFailed = 509, Failed, "the savepoint failed";
    StopFailed = 510, Unknown, "the savepoint is complete but the job did not stop";
    StorageSchemeNotBuilt = 511, Usage, "the program was built without this kind of store";
    InsecureStorageEndpoint = 512, Denied, "the endpoint of the store is not encrypted";
    InvalidStorageSettings = 513, Usage, "the settings of the store do not fit together";
    SnapshotInUse = 515, Conflict, "the snapshot is in use";
    StateNotFound = 516, NotFound, "the snapshot holds no such state or key";
    InvalidStateValue = 517, Usage, "a key or value does not fit the state";
    OrphansUnknown = 518, Snapshot, "orphans cannot be told while snapshots are unreadable";
    TargetExists = 519, Conflict, "something exists at the target";
    StateWouldBeDropped = 520, Conflict, "starting the application would drop state of the snapshot";
    FolderClaimed = 521, Conflict, "the folder of checkpoints belongs to another cluster";
    // 06xx: storage
    StorageUnavailable = 601, Unavailable, "the object store does not answer";
    InvalidStorageUri = 602, Usage, "the storage location is malformed";
    StorageDenied = 603, Denied, "the object store refuses access";
    BackendNotBuilt = 604, Usage, "the application was built without the state backend";
    LocalStateFailed = 605, Unavailable, "local state cannot be read or written";
    StateTooLarge = 606, Failed, "the state is too large for the metadata of a checkpoint";
    // 07xx: leadership and recovery of jobs
    NotLeader = 701, Unavailable, "the job manager is a standby";
    LeadershipLost = 702, Unavailable, "another job manager has taken over";
    JobRecovering = 703, Unavailable, "the job is still being recovered";
    JobRecordUnreadable = 704, Snapshot, "the record of a job cannot be read";
    JobNotRecorded = 705, Unavailable, "a job could not be recorded";
    HighAvailabilityUnsupported = 706, Usage, "this kind of high availability is not built";
    KubernetesUnavailable = 707, Unavailable, "the Kubernetes API server does not answer";
    KubernetesRefused = 708, Denied, "the Kubernetes API server refuses the Lease";
    // 09xx: bugs
    Internal = 901, Internal, "a bug in streamd";
}

impl ErrorCode {
    /// The code with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| *code as u16 == number)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SD-{:04}", *self as u16)
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.strip_prefix("SD-")
            .and_then(|digits| digits.parse().ok())
            .and_then(Self::from_number)
            .ok_or_else(|| serde::de::Error::custom("no error code of this version"))
    }
}

/// An error for a person: code, one line, and a hint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodedError {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened, to which object: a lower-case fragment without a full stop.
    pub message: String,
    /// What to do next, as an action.
    pub hint: Option<String>,
}

impl CodedError {
    /// An error without a hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// The same error with a hint.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Message, code and hint where there is only one line: in the reason of something else.
    pub fn on_one_line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{self} ({hint})"),
            None => self.to_string(),
        }
    }

    /// An error whose message is `context` followed by the whole chain of causes of `error`.
    pub fn caused(code: ErrorCode, context: impl fmt::Display, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(code, format!("{context}: {}", chain(error)))
    }
}

impl fmt::Display for CodedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}

impl std::error::Error for CodedError {}

/// An error with all of its causes on one line, outermost first. A cause that the line ends with already is not repeated.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !line.ends_with(&words) {
            line.push_str(": ");
            line.push_str(&words);
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Failed {
        words: &'static str,
        source: Option<Box<Failed>>,
    }

    fn failed(words: &[&'static str]) -> Option<Box<Failed>> {
        let (words, causes) = words.split_first()?;
        let source = failed(causes);
        Some(Box::new(Failed { words, source }))
    }

    #[test]
    fn a_cause_is_told_once_even_if_its_effect_tells_it_too() {
        let error = failed(&["cannot write", "disk: full", "full"]).unwrap();
        assert_eq!(chain(&*error), "cannot write: disk: full");
    }

    #[test]
    fn a_code_is_found_by_its_number_and_prints_with_four_digits() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(*code as u16), Some(*code));
            assert_eq!(code.to_string().len(), "SD-0101".len());
        }
    }
}
