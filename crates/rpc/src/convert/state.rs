//! States, failures and small shared words.

use streamd_core::id::SubtaskId;
use streamd_core::key_group::{KeyGroupRange, UPPER_BOUND_MAX_PARALLELISM};
use streamd_core::protocol::{ExecutionState, Failure, FailureKind, FaultDomain};

use super::ConvertError;
use super::field::required;
use crate::proto;

impl From<ExecutionState> for proto::ExecutionState {
    fn from(state: ExecutionState) -> Self {
        match state {
            ExecutionState::Created => Self::Created,
            ExecutionState::Scheduled => Self::Scheduled,
            ExecutionState::Deploying => Self::Deploying,
            ExecutionState::Initializing => Self::Initializing,
            ExecutionState::Running => Self::Running,
            ExecutionState::Finished => Self::Finished,
            ExecutionState::Canceling => Self::Canceling,
            ExecutionState::Canceled => Self::Canceled,
            ExecutionState::Failed => Self::Failed,
        }
    }
}

impl TryFrom<proto::ExecutionState> for ExecutionState {
    type Error = ConvertError;

    fn try_from(state: proto::ExecutionState) -> Result<Self, ConvertError> {
        Ok(match state {
            proto::ExecutionState::Unspecified => {
                return Err(ConvertError::Missing {
                    field: "ExecutionState",
                });
            }
            proto::ExecutionState::Created => Self::Created,
            proto::ExecutionState::Scheduled => Self::Scheduled,
            proto::ExecutionState::Deploying => Self::Deploying,
            proto::ExecutionState::Initializing => Self::Initializing,
            proto::ExecutionState::Running => Self::Running,
            proto::ExecutionState::Finished => Self::Finished,
            proto::ExecutionState::Canceling => Self::Canceling,
            proto::ExecutionState::Canceled => Self::Canceled,
            proto::ExecutionState::Failed => Self::Failed,
        })
    }
}

/// The execution state with this number on the wire.
pub(super) fn execution_state(number: i32, field: &'static str) -> Result<ExecutionState, ConvertError> {
    let state = proto::ExecutionState::try_from(number)
        .map_err(|_| ConvertError::invalid(field, format!("{number} is no execution state")))?;
    ExecutionState::try_from(state).map_err(|_| ConvertError::Missing { field })
}

/// The prefix that proto3 style asks of the values of `JobState`.
const JOB_STATE_PREFIX: &str = "JOB_STATE_";

/// Flink's name of a job state, like `RUNNING`; `UNSPECIFIED` where the peer named none.
pub fn job_state_name(state: proto::JobState) -> &'static str {
    state
        .as_str_name()
        .strip_prefix(JOB_STATE_PREFIX)
        .expect("every value of the enum carries its prefix")
}

/// The job state with Flink's name, like `RUNNING`.
pub fn job_state_of_name(name: &str) -> Option<proto::JobState> {
    proto::JobState::from_str_name(&format!("{JOB_STATE_PREFIX}{name}"))
        .filter(|state| *state != proto::JobState::Unspecified)
}

impl From<FaultDomain> for proto::FaultDomain {
    fn from(domain: FaultDomain) -> Self {
        match domain {
            FaultDomain::User => Self::User,
            FaultDomain::External => Self::External,
            FaultDomain::Internal => Self::Internal,
        }
    }
}

/// The class of a failure in a word; `unknown` where the peer named none.
pub fn failure_class(failure: Option<&proto::Failure>) -> &'static str {
    match failure.map_or(proto::FaultDomain::Unspecified, |failure| failure.domain()) {
        proto::FaultDomain::User => "user",
        proto::FaultDomain::External => "external",
        proto::FaultDomain::Internal => "internal",
        proto::FaultDomain::Unspecified => "unknown",
    }
}

impl From<FailureKind> for proto::FailureKind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Recoverable => Self::Unspecified,
            FailureKind::DamagedSnapshot => Self::DamagedSnapshot,
            FailureKind::OutputLost => Self::OutputLost,
        }
    }
}

impl From<proto::FailureKind> for FailureKind {
    fn from(kind: proto::FailureKind) -> Self {
        match kind {
            proto::FailureKind::Unspecified => Self::Recoverable,
            proto::FailureKind::DamagedSnapshot => Self::DamagedSnapshot,
            proto::FailureKind::OutputLost => Self::OutputLost,
        }
    }
}

impl From<Failure> for proto::Failure {
    fn from(failure: Failure) -> Self {
        Self {
            domain: proto::FaultDomain::from(failure.domain).into(),
            kind: proto::FailureKind::from(failure.kind).into(),
            message: failure.message,
        }
    }
}

impl TryFrom<proto::Failure> for Failure {
    type Error = ConvertError;

    fn try_from(failure: proto::Failure) -> Result<Self, ConvertError> {
        const FIELD: &str = "Failure.domain";
        let domain = match proto::FaultDomain::try_from(failure.domain) {
            Ok(proto::FaultDomain::User) => FaultDomain::User,
            Ok(proto::FaultDomain::External) => FaultDomain::External,
            Ok(proto::FaultDomain::Internal) => FaultDomain::Internal,
            Ok(proto::FaultDomain::Unspecified) => return Err(ConvertError::Missing { field: FIELD }),
            Err(_) => {
                let reason = format!("{} is no fault domain", failure.domain);
                return Err(ConvertError::invalid(FIELD, reason));
            }
        };
        Ok(Self {
            domain,
            kind: failure.kind().into(),
            message: failure.message,
        })
    }
}

impl From<SubtaskId> for proto::Subtask {
    fn from(subtask: SubtaskId) -> Self {
        Self {
            vertex: subtask.vertex,
            index: subtask.index,
        }
    }
}

impl From<proto::Subtask> for SubtaskId {
    fn from(subtask: proto::Subtask) -> Self {
        Self {
            vertex: subtask.vertex,
            index: subtask.index,
        }
    }
}

/// The subtask that a message must name.
pub(super) fn subtask(value: Option<proto::Subtask>, field: &'static str) -> Result<SubtaskId, ConvertError> {
    Ok(required(value, field)?.into())
}

impl From<KeyGroupRange> for proto::KeyGroupRange {
    fn from(range: KeyGroupRange) -> Self {
        Self {
            start: range.start,
            end: range.end,
        }
    }
}

/// A range of key groups that a message must hold: not reversed, and within the largest number of groups.
pub(super) fn key_groups(
    value: Option<proto::KeyGroupRange>,
    field: &'static str,
) -> Result<KeyGroupRange, ConvertError> {
    let proto::KeyGroupRange { start, end } = required(value, field)?;
    let range = KeyGroupRange { start, end };
    if start > end || end > UPPER_BOUND_MAX_PARALLELISM {
        return Err(ConvertError::invalid(
            field,
            format!("{range} is no range of key groups"),
        ));
    }
    Ok(range)
}
