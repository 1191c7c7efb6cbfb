//! Round trips of every message, and refusals of mutilated ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use prost::Message;
use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, CheckpointId, JobId, OperatorId, SubtaskId, TaskManagerId, WorkerId};
use streamd_core::key_group::{HashRange, KeyGroupRange};
use streamd_core::protocol::*;
use streamd_core::row::{DataType, Field};
use streamd_core::snapshot::*;

use super::ConvertError;
use super::{job_state_name, job_state_of_name};
use crate::proto;

fn job_id() -> JobId {
    JobId::from_bytes([7; 16])
}

fn subtask() -> SubtaskId {
    SubtaskId { vertex: 1, index: 2 }
}

fn key_groups() -> KeyGroupRange {
    KeyGroupRange { start: 3, end: 9 }
}

fn object() -> ObjectHandle {
    ObjectHandle {
        path: "file:///chk-4/state".to_owned(),
        length: 100,
        digest: "0".repeat(32),
        inline: None,
    }
}

fn inlined(inline: Inline) -> ObjectHandle {
    ObjectHandle {
        path: "inlined.state".to_owned(),
        inline: Some(inline),
        ..object()
    }
}

/// Two states in one object that is on its way into the metadata, and one that is there already.
fn inlined_states() -> BTreeMap<OperatorId, OperatorSubtaskState> {
    let here = || inlined(Inline::Here([7; 100].as_slice().into()));
    let handle = |objects| KeyedStateHandle {
        objects,
        ..keyed(KeyedStateFormat::Native { segments: Vec::new() })
    };
    let state = OperatorSubtaskState {
        keyed: vec![
            handle(vec![here()]),
            handle(vec![here(), inlined(Inline::BeforeEnd(30))]),
        ],
        lists: Vec::new(),
    };
    BTreeMap::from([(OperatorId::from_uid("inlined"), state)])
}

#[test]
fn the_bytes_of_an_inlined_object_travel_once() {
    let sent = super::snapshot::operators_to_proto(inlined_states());
    let size: usize = sent.iter().map(prost::Message::encoded_len).sum();
    assert!(size < 2 * 100 + 2_000, "{size} bytes travel");
    let contents = sent[0].keyed.iter().flat_map(|handle| &handle.objects);
    let contents = contents.filter(|object| matches!(object.inline, Some(proto::object_handle::Inline::Content(_))));
    assert_eq!(contents.count(), 1);
    assert_eq!(super::snapshot::operators(sent).unwrap(), inlined_states());
}

#[test]
fn an_inlined_object_of_another_length_or_without_bytes_is_refused() {
    let changed = |inline: proto::object_handle::Inline| {
        let mut sent = super::snapshot::operators_to_proto(inlined_states());
        sent[0].keyed[0].objects[0].inline = Some(inline);
        super::snapshot::operators(sent).unwrap_err().to_string()
    };
    use proto::object_handle::Inline::{Content, Repeated};
    assert!(changed(Content(vec![7; 99].into())).contains("99 bytes came of 100"));
    assert!(changed(Repeated(true)).contains("did not come before"));
}

fn keyed(format: KeyedStateFormat) -> KeyedStateHandle {
    KeyedStateHandle {
        state: "count".to_owned(),
        key: DataType::String,
        namespace: Some(DataType::UInt64),
        value: DataType::Struct {
            name: "Statistics".to_owned(),
            fields: vec![Field {
                name: "delays".to_owned(),
                data_type: DataType::List(Box::new(DataType::Option(Box::new(DataType::Float64)))),
            }],
        },
        key_groups: key_groups(),
        format,
        objects: vec![object()],
        rows: 12,
        bytes: 99,
    }
}

fn operator_state() -> OperatorSubtaskState {
    OperatorSubtaskState {
        keyed: vec![
            keyed(KeyedStateFormat::Native {
                segments: vec![NativeSegment {
                    key_groups: key_groups(),
                    hashes: Some(HashRange { start: 5, end: 1 << 32 }),
                    earliest: vec![-3, i64::MAX],
                    blocks: vec![NativeBlock {
                        object: 0,
                        layer: 3,
                        offset: 5,
                        length: 94,
                    }],
                }],
            }),
            keyed(KeyedStateFormat::Parquet),
        ],
        lists: vec![ListState {
            name: "splits".to_owned(),
            data_type: DataType::Bytes,
            items: vec![vec![1, 2], vec![]],
        }],
    }
}

fn operators() -> BTreeMap<OperatorId, OperatorSubtaskState> {
    BTreeMap::from([
        (OperatorId::from_uid("a"), operator_state()),
        (OperatorId::from_uid("b"), OperatorSubtaskState::default()),
    ])
}

fn deployment() -> Deployment {
    Deployment {
        job_id: job_id(),
        attempt: Attempt(3),
        slots: vec![SlotDeployment {
            slot: 1,
            subtasks: vec![SubtaskDeployment {
                subtask: subtask(),
                key_groups: key_groups(),
                state: operators(),
            }],
        }],
        kept: vec![KeptSlot {
            slot: 2,
            subtasks: vec![subtask()],
        }],
        placement: vec![WorkerPlacement {
            worker: WorkerId(8),
            data_address: "127.0.0.1:4000".to_owned(),
            subtasks: vec![subtask()],
        }],
        max_parallelism: vec![128, 256],
        state_backend: streamd_core::backend::StateBackendOptions::default(),
        restored: Some(CheckpointId(4)),
    }
}

fn commands() -> Vec<WorkerCommand> {
    let attempt = Attempt(3);
    let checkpoint = CheckpointId(17);
    let barrier = |kind, sources| Barrier {
        checkpoint,
        options: Arc::new(SnapshotOptions {
            kind,
            location: "file:///savepoints/x".to_owned(),
            sources,
            aligned: kind == SnapshotKind::Savepoint,
            increment: Increment::Off,
            compression: Compression::None,
        }),
    };
    vec![
        WorkerCommand::Deploy(Box::new(deployment())),
        WorkerCommand::Deploy(Box::new(Deployment {
            state_backend: streamd_core::backend::StateBackendOptions::default(),
            restored: None,
            ..deployment()
        })),
        WorkerCommand::TriggerCheckpoint {
            attempt,
            barrier: barrier(SnapshotKind::Savepoint, AfterBarrier::Halt),
        },
        WorkerCommand::TriggerCheckpoint {
            attempt,
            barrier: barrier(SnapshotKind::Checkpoint, AfterBarrier::Continue),
        },
        WorkerCommand::NotifyCheckpointComplete { attempt, checkpoint },
        WorkerCommand::NotifyCheckpointAborted { attempt, checkpoint },
        WorkerCommand::Drain { attempt },
        WorkerCommand::AlignWatermarks {
            attempt,
            groups: [("clocks".to_owned(), streamd_core::time::EventTime(-9))].into(),
        },
        WorkerCommand::Finish { attempt },
        WorkerCommand::Cancel { attempt, kept: vec![2] },
        WorkerCommand::Shutdown,
    ]
}

fn events() -> Vec<WorkerEvent> {
    let attempt = Attempt(3);
    let failure = |domain| Some(Failure::new(domain, "source `flights`: line 7 has 3 fields"));
    let state = |state, failure| WorkerEvent::SubtaskState {
        attempt,
        subtask: subtask(),
        state,
        failure,
    };
    vec![
        WorkerEvent::Registered(WorkerRegistration {
            job_id: job_id(),
            worker: WorkerId(8),
            task_manager: TaskManagerId("tm-1".to_owned()),
            data_address: "127.0.0.1:4000".to_owned(),
            fingerprint: "abc".to_owned(),
            graph_outline: "Source: x".to_owned(),
            process_id: 77,
        }),
        state(ExecutionState::Created, None),
        state(ExecutionState::Scheduled, None),
        state(ExecutionState::Deploying, None),
        state(ExecutionState::Initializing, None),
        state(ExecutionState::Running, None),
        state(ExecutionState::Finished, None),
        state(ExecutionState::Canceling, None),
        state(ExecutionState::Canceled, None),
        state(ExecutionState::Failed, failure(FaultDomain::User)),
        state(ExecutionState::Failed, failure(FaultDomain::External)),
        state(ExecutionState::Failed, failure(FaultDomain::Internal)),
        state(
            ExecutionState::Failed,
            Some(Failure {
                kind: FailureKind::DamagedSnapshot,
                ..Failure::new(FaultDomain::External, "`s3://c/chk-1/x` is corrupt")
            }),
        ),
        state(
            ExecutionState::Failed,
            Some(Failure {
                kind: FailureKind::OutputLost,
                ..Failure::new(FaultDomain::External, "output is lost")
            }),
        ),
        WorkerEvent::Acknowledge {
            attempt,
            checkpoint: CheckpointId(17),
            subtask: subtask(),
            snapshot: SubtaskSnapshot { operators: operators() },
        },
        WorkerEvent::Decline {
            attempt,
            checkpoint: CheckpointId(17),
            subtask: subtask(),
            reason: "disk full".to_owned(),
        },
        WorkerEvent::EndOfData {
            attempt,
            subtask: subtask(),
        },
        WorkerEvent::Heartbeat {
            attempt,
            subtasks: vec![SubtaskMetrics {
                vertex: 1,
                index: 2,
                records_in: 3,
                busy_ns: 5,
                backpressured_ns: 6,
                late_dropped: 7,
                watermark: Some(-8),
                alignment: [("clocks".to_owned(), streamd_core::time::EventTime(-9))].into(),
            }],
        },
    ]
}

#[test]
fn every_command_survives_the_way_over_the_wire() {
    for command in commands() {
        let bytes = proto::WorkerCommand::from(command.clone()).encode_to_vec();
        let back = proto::WorkerCommand::decode(bytes.as_slice()).unwrap();
        assert_eq!(WorkerCommand::try_from(back).unwrap(), command);
    }
}

#[test]
fn every_event_survives_the_way_over_the_wire() {
    for event in events() {
        let bytes = proto::WorkerEvent::from(event.clone()).encode_to_vec();
        let back = proto::WorkerEvent::decode(bytes.as_slice()).unwrap();
        assert_eq!(WorkerEvent::try_from(back).unwrap(), event);
    }
}

#[test]
fn an_empty_message_is_refused_by_the_name_of_its_field() {
    let error = WorkerCommand::try_from(proto::WorkerCommand { command: None }).unwrap_err();
    assert_eq!(error.to_string(), "message lacks field `WorkerCommand.command`");
    let error = WorkerEvent::try_from(proto::WorkerEvent { event: None }).unwrap_err();
    assert_eq!(
        error,
        ConvertError::Missing {
            field: "WorkerEvent.event"
        }
    );
    let error = KeyedStateHandle::try_from(proto::KeyedStateHandle::default()).unwrap_err();
    assert_eq!(
        error,
        ConvertError::Missing {
            field: "KeyedStateHandle.format"
        }
    );
}

#[test]
fn a_failed_subtask_must_say_why() {
    let change = proto::SubtaskStateChanged {
        attempt: 1,
        subtask: Some(subtask().into()),
        state: proto::ExecutionState::Failed.into(),
        failure: None,
    };
    let event = proto::WorkerEvent {
        event: Some(proto::worker_event::Event::SubtaskState(change)),
    };
    let error = WorkerEvent::try_from(event).unwrap_err();
    assert_eq!(
        error,
        ConvertError::Missing {
            field: "SubtaskStateChanged.failure"
        }
    );
}

fn refused(change: impl FnOnce(&mut proto::KeyedStateHandle)) -> String {
    let mut handle = proto::KeyedStateHandle::from(keyed(KeyedStateFormat::Parquet));
    change(&mut handle);
    KeyedStateHandle::try_from(handle).unwrap_err().to_string()
}

#[test]
fn impossible_state_handles_are_refused() {
    assert!(refused(|h| h.format = 99).contains("99 is no format"));
    assert!(refused(|h| h.format = 0).contains("lacks field `KeyedStateHandle.format`"));
    assert!(refused(|h| h.objects[0].path.clear()).contains("ObjectHandle.path"));
    assert!(refused(|h| h.state.clear()).contains("KeyedStateHandle.state"));
    assert!(refused(|h| h.key_type = "{".to_owned()).contains("KeyedStateHandle.key_type"));
    assert!(refused(|h| h.key_groups = Some(proto::KeyGroupRange { start: 9, end: 3 })).contains("no range"));
    assert!(
        refused(|h| h.key_groups = Some(proto::KeyGroupRange {
            start: 0,
            end: u32::MAX
        }))
        .contains("no range")
    );
    assert!(refused(|h| h.segments.push(proto::NativeSegment::default())).contains("no native segments"));
    let deep = format!("{}\"bool\"{}", "{\"option\":".repeat(40), "}".repeat(40));
    assert!(refused(|h| h.value_type = deep).contains("deeper than 32"));
    let deepest = format!("{}\"bool\"{}", "{\"option\":".repeat(100_000), "}".repeat(100_000));
    assert!(refused(|h| h.value_type = deepest).contains("KeyedStateHandle.value_type"));
}

#[test]
fn an_operator_that_comes_twice_is_refused() {
    let mut deployment = proto::SubtaskDeployment::from(deployment().slots.remove(0).subtasks.remove(0));
    let twin = deployment.state[0].clone();
    deployment.state.push(twin);
    let error = SubtaskDeployment::try_from(deployment).unwrap_err();
    assert!(error.to_string().contains("comes twice"), "{error}");
}

#[test]
fn job_states_have_the_names_that_flink_gives_them() {
    for name in [
        "INITIALIZING",
        "CREATED",
        "RUNNING",
        "RESTARTING",
        "FAILING",
        "FAILED",
        "CANCELLING",
        "CANCELED",
        "FINISHED",
    ] {
        assert_eq!(job_state_name(job_state_of_name(name).unwrap()), name);
    }
    assert_eq!(job_state_of_name("UNSPECIFIED"), None);
    assert_eq!(job_state_of_name("RUNNING "), None);
}

proptest! {
    #[test]
    fn mutilated_messages_are_refused_or_read_but_never_panic(
        which in 0usize..26,
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut messages: Vec<Vec<u8>> = commands().into_iter().map(|c| proto::WorkerCommand::from(c).encode_to_vec()).collect();
        messages.extend(events().into_iter().map(|e| proto::WorkerEvent::from(e).encode_to_vec()));
        let mut bytes = messages[which % messages.len()].clone();
        if !bytes.is_empty() {
            let position = at.index(bytes.len());
            bytes[position] = value;
            bytes.truncate(cut.index(bytes.len() + 1).max(position));
        }
        if let Ok(message) = proto::WorkerCommand::decode(bytes.as_slice()) {
            drop(WorkerCommand::try_from(message));
        }
        if let Ok(message) = proto::WorkerEvent::decode(bytes.as_slice()) {
            drop(WorkerEvent::try_from(message));
        }
    }
}
