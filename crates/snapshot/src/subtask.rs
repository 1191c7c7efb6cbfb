//! What one subtask writes into a snapshot: the rows of its keyed states, table by table.

use std::collections::BTreeMap;

use streamd_core::backend::Inlining;
use streamd_core::barrier::{SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, JobId, OperatorId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::row::DataType;
use streamd_core::snapshot::KeyedStateHandle;
use tokio::runtime::Handle;

use crate::database::DatabaseWriter;
use crate::error::SnapshotError;
use crate::layout::{self, Writer};
use crate::local_copies::CheckpointCopies;
use crate::native::{NativeWriter, SegmentSink};
use crate::row_batch::RowBatch;
use crate::store::Location;
use crate::table::SavepointWriter;

/// A keyed state of an operator in one subtask.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyedTable {
    /// Whose state it is.
    pub operator: OperatorId,
    /// What people call the operator: its uid, or its name and id.
    pub label: String,
    /// The name that the operator gave to the state.
    pub state: String,
    /// The schema of the keys.
    pub key: DataType,
    /// The schema of what tells several rows of one key apart, if there is any. It is encoded directly behind the key.
    pub namespace: Option<DataType>,
    /// The schema of the values.
    pub value: DataType,
    /// The key groups that the subtask owns.
    pub key_groups: KeyGroupRange,
}

/// Whoever takes the rows of keyed states, table by table. For each table: `begin`, then its rows by rising key group, then `end`.
pub trait KeyedStateSink {
    /// Begins a table.
    fn begin(&mut self, table: &KeyedTable) -> Result<(), SnapshotError>;

    /// Adds a row: key and value in the canonical encoding of their types.
    fn row(&mut self, key_group: u32, key: &[u8], value: &[u8]) -> Result<(), SnapshotError>;

    /// Adds the rows of a batch, and leaves it to be cleared. May take memory of it.
    fn rows(&mut self, batch: &mut RowBatch) -> Result<(), SnapshotError> {
        batch
            .iter()
            .try_for_each(|(key_group, key, value)| self.row(key_group, key, value))
    }

    /// Ends the table.
    fn end(&mut self) -> Result<(), SnapshotError>;

    /// The way to write the table as segments that later checkpoints can build upon, where the snapshot consists of such. Then none
    /// of its rows goes to [`row`](Self::row).
    fn segments(&mut self) -> Option<&mut dyn SegmentSink> {
        None
    }

    /// The way to write the table as files of a database, where the snapshot can consist of such.
    fn database(&mut self) -> Option<&mut DatabaseWriter> {
        None
    }
}

/// Which writing this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubtaskContext {
    /// The job.
    pub job: JobId,
    /// The vertex.
    pub vertex: u32,
    /// The index of the subtask in it.
    pub subtask: u32,
    /// The attempt of the job.
    pub attempt: Attempt,
    /// Unique to this writing (see [`random_nonce`](crate::publish::random_nonce)): names are never reused.
    pub nonce: String,
}

/// Writes the keyed states of one subtask: into one native object for a checkpoint, into Parquet tables for a savepoint.
///
/// Synchronous: call it on a thread that is not tokio's; the bytes travel on `runtime`. Memory is bounded by the parts of
/// an upload (8 MiB each) and one block, or five row groups (16 MiB each at most): one being filled, two being encoded, two to be
/// written. Dropping or [aborting](Self::abort) it leaves no object that is visible under the name of one being written; tables that were already complete stay, and go with the snapshot's folder.
pub struct SubtaskSnapshotWriter {
    form: Form,
    databases: DatabaseWriter,
}

enum Form {
    Native(Box<NativeWriter>),
    Savepoint(Box<SavepointWriter>),
}

impl SubtaskSnapshotWriter {
    /// A writer into the folder that the options name. Nothing is written until the first table begins.
    pub fn new(options: &SnapshotOptions, context: SubtaskContext, runtime: Handle) -> Result<Self, SnapshotError> {
        let folder = Location::open(&options.location)?;
        let databases = DatabaseWriter::new(folder.clone(), options.increment, context.clone(), runtime.clone());
        let form = match options.kind {
            SnapshotKind::Checkpoint => {
                let path = layout::native_object(context.writer());
                Form::Native(Box::new(NativeWriter::new(
                    &folder,
                    path,
                    options.compression,
                    runtime,
                )?))
            }
            SnapshotKind::Savepoint => {
                let writer = SavepointWriter::new(folder, context, runtime).compressed(options.compression);
                Form::Savepoint(Box::new(writer))
            }
        };
        Ok(Self { form, databases })
    }

    /// The same writer, which leaves what may travel inside of the metadata to whoever publishes it. A savepoint is always files.
    #[must_use]
    pub fn inlining(mut self, inlining: Inlining) -> Self {
        if let Form::Native(writer) = &mut self.form {
            writer.set_inlining(inlining);
        }
        self
    }

    /// The same writer, which leaves copies of what it writes on the local disk. A savepoint has none.
    #[must_use]
    pub fn keeping(mut self, copies: Option<CheckpointCopies>) -> Self {
        if let (Form::Native(writer), Some(copies)) = (&mut self.form, copies) {
            writer.keep_copy(copies.clone());
            self.databases.keep_copies(copies);
        }
        self
    }

    /// Makes everything durable, and says what was written, by operator. Blocks until it is.
    pub fn finish(self) -> Result<BTreeMap<OperatorId, Vec<KeyedStateHandle>>, SnapshotError> {
        let mut written = match self.form {
            Form::Native(writer) => writer.finish()?,
            Form::Savepoint(writer) => writer.finish()?,
        };
        for (operator, handles) in self.databases.finish() {
            written.entry(operator).or_default().extend(handles);
        }
        Ok(written)
    }

    /// Gives up what is being written.
    pub fn abort(self) -> Result<(), SnapshotError> {
        match self.form {
            Form::Native(writer) => writer.abort(),
            Form::Savepoint(writer) => writer.abort(),
        }
    }
}

impl KeyedStateSink for SubtaskSnapshotWriter {
    fn begin(&mut self, table: &KeyedTable) -> Result<(), SnapshotError> {
        match &mut self.form {
            Form::Native(writer) => writer.begin(table),
            Form::Savepoint(writer) => writer.begin(table),
        }
    }

    #[inline]
    fn row(&mut self, key_group: u32, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        match &mut self.form {
            Form::Native(writer) => writer.row(key_group, key, value),
            Form::Savepoint(writer) => writer.row(key_group, key, value),
        }
    }

    fn rows(&mut self, batch: &mut RowBatch) -> Result<(), SnapshotError> {
        match &mut self.form {
            Form::Native(writer) => batch
                .iter()
                .try_for_each(|(key_group, key, value)| writer.row(key_group, key, value)),
            Form::Savepoint(writer) => writer.rows(batch),
        }
    }

    fn end(&mut self) -> Result<(), SnapshotError> {
        match &mut self.form {
            Form::Native(writer) => writer.end(),
            Form::Savepoint(writer) => writer.end(),
        }
    }

    fn segments(&mut self) -> Option<&mut dyn SegmentSink> {
        match &mut self.form {
            Form::Native(writer) => Some(&mut **writer),
            Form::Savepoint(_) => None,
        }
    }

    fn database(&mut self) -> Option<&mut DatabaseWriter> {
        match &self.form {
            Form::Native(_) => Some(&mut self.databases),
            Form::Savepoint(_) => None,
        }
    }
}

impl SubtaskContext {
    pub(crate) fn writer(&self) -> Writer<'_> {
        Writer {
            vertex: self.vertex,
            subtask: self.subtask,
            attempt: self.attempt,
            nonce: &self.nonce,
        }
    }
}

pub(crate) fn misuse(state: &str, reason: impl Into<String>) -> SnapshotError {
    SnapshotError::Misuse {
        state: state.to_owned(),
        reason: reason.into(),
    }
}
