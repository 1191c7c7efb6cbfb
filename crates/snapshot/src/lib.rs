//! Durable bytes: every object that streamd writes or reads, and the formats of snapshots.
//!
//! This crate deliberately knows no operators, no RPC, no scheduling: it is told what to write and where, and says exactly
//! what it found. It is the only one that touches the object store and the only one that makes the names of objects.
//!
//! ```text
//!   subtask ──▶ SubtaskSnapshotWriter ──▶ state objects ┐
//!                                                       ├─▶ publish ──▶ _metadata ──▶ record of completion
//!   job manager ──▶ lists (positions, committables) ────┘                   │
//!                                                                           ▼
//!   subtask ◀── read_keyed_state ◀── handles by key group ◀────────── read_snapshot
//! ```
//!
//! Checkpoints are written in the native form ([`native`]), savepoints as Parquet tables ([`table`]); one metadata file
//! ([`metadata`]) ties either together. Both formats are specified in `docs/reference`.
//!
//! Reading order: [`error`], [`store`], [`layout`], [`background`], [`row_batch`], [`object_files`], [`local_copies`], [`native`], [`table`], [`subtask`] (what a subtask writes),
//! [`restore`] (what it reads back), [`database_reader`], [`coverage`], [`metadata`], [`publish`], [`read`], [`completed`], [`discard`], [`artifact`].

pub mod error;
pub mod store;

pub mod layout;

pub mod background;

pub mod row_batch;

pub mod object_files;

pub mod local_copies;

pub mod native;
pub mod table;

pub mod database;
pub mod database_reader;
pub mod restore;
pub mod subtask;

pub mod coverage;
pub mod metadata;
pub mod publish;
pub mod read;

pub mod completed;
pub mod discard;

pub mod artifact;

pub mod disposal;
pub mod edit;
pub mod fsck;
pub mod inspect;
pub mod json;

pub mod catalogue;
pub mod folder_claim;
pub mod job_store;
pub mod leader;
pub mod promote;
mod record;
pub mod retained;

#[doc(hidden)]
pub mod hostile;

pub use artifact::{ArtifactError, ArtifactStore, MAX_ARTIFACT_BYTES};
pub use background::lower_priority;
pub use catalogue::{
    OperationBegun, OperationCatalogue, OperationEnded, OperationOutcome, OperationVerb, RecordedOperation,
};
pub use completed::{CompletedCheckpoint, CompletedCheckpointStore, CompletionRecord, list_completed};
pub use coverage::{Uncovered, check_coverage};
pub use database::{DatabaseTable, DatabaseWriter, LocalFile, WrittenFiles, database_objects};
pub use database_reader::{DatabaseReader, install_database_reader};
pub use discard::{delete_objects, discard, discard_claimed, dispose, unpublish};
pub use disposal::{Sharing, dispose_unused};
pub use edit::{Changes, Edited, edit_snapshot};
pub use error::{SnapshotError, StoreError};
pub use folder_claim::{ClusterIdentity, FolderClaim, claim_folder, claim_of, cluster_identity, release_folder};
pub use fsck::{FsckOptions, FsckReport, fsck, sweep};
pub use job_store::{
    Cancellation, CommittedSavepoint, JobRecord, JobResultRecord, JobStore, RecordedFailure, StartSnapshot, StoredJob,
    TakeoverRecord,
};
pub use layout::checkpoint_of_object;
pub use leader::{LeaderRecord, LeaderRecords, Sighting};
pub use local_copies::{CheckpointCopies, LocalCopies};
pub use native::{
    InOrder, LoadedSegment, LoadingSegments, NativeReader, NextSegment, SegmentKeys, SegmentSink, WrittenObject,
    WrittenSegment,
};
pub use object_files::{check_file, download_all, link_object, read_piece};
pub use promote::{Abandon, promote};
pub use publish::{PublishError, Published, publish, random_nonce};
pub use read::{StoredSnapshot, check_objects, read_snapshot, verify_objects};
pub use record::Creation;
pub use restore::{ObjectSource, RowVisitor, absolute, read_keyed_state, read_savepoint_state};
pub use retained::{RetainedCheckpoint, list_retained};
pub use row_batch::RowBatch;
pub use store::{Created, Location};
pub use subtask::{KeyedStateSink, KeyedTable, SubtaskContext, SubtaskSnapshotWriter};
