use std::collections::BTreeMap;

use streamd_core::barrier::{AfterBarrier, Barrier};
use streamd_core::id::{CheckpointId, OperatorId};
use streamd_core::migration::read_items;
use streamd_core::sink::{Sink, SinkContext, SinkWriter, WriteContext};
use streamd_core::snapshot::ListState;
use streamd_core::source::ConnectorError;
use streamd_core::state::{State, to_row};
use streamd_core::time::EventTime;
use streamd_exchange::Batch;

use crate::chain::{OpenContext, Operator, OperatorIdentity, OperatorSnapshot};
use crate::error::TaskError;

/// The name of the state that holds prepared output.
pub const COMMITTABLES: &str = "committables";

/// A [`Sink`] at the end of a chain: writes, prepares with the barrier, commits when the checkpoint is complete.
pub struct SinkOperator<S: Sink> {
    label: String,
    sink: S,
    writer: Option<S::Writer>,
    /// Prepared output by the checkpoint that it was prepared for. Kept in every later snapshot until it is committed.
    prepared: BTreeMap<CheckpointId, Vec<S::Committable>>,
    wrote: bool,
    watermark: EventTime,
}

impl<S: Sink> SinkOperator<S> {
    /// The operator of this sink.
    pub fn new(sink: S) -> Self {
        Self {
            label: String::new(),
            sink,
            writer: None,
            prepared: BTreeMap::new(),
            wrote: false,
            watermark: EventTime::MIN,
        }
    }

    fn failed(&self, error: &ConnectorError) -> TaskError {
        let context = format_args!("sink `{}` failed", self.label);
        match error.is_output_lost() {
            true => TaskError::output_lost(context, error),
            false => TaskError::external(context, error),
        }
    }

    fn prepare(&mut self) -> Result<Vec<S::Committable>, TaskError> {
        match self.writer.as_mut().map(SinkWriter::prepare_commit) {
            None => Ok(Vec::new()),
            Some(prepared) => prepared.map_err(|error| self.failed(&error)),
        }
    }

    /// Output that goes on to grow: for the snapshot that is being taken, and no other.
    fn unfinished(&mut self) -> Result<Vec<S::Committable>, TaskError> {
        match self.writer.as_mut().map(SinkWriter::unfinished) {
            None => Ok(Vec::new()),
            Some(unfinished) => unfinished.map_err(|error| self.failed(&error)),
        }
    }

    fn restored(&self, lists: &[ListState]) -> Result<Vec<S::Committable>, TaskError> {
        let lists = lists.iter().filter(|list| list.name == COMMITTABLES);
        let committables = lists.map(read_items::<S::Committable>).collect::<Result<Vec<_>, _>>();
        let committables = committables.map_err(|error| {
            TaskError::external(
                format_args!("prepared output of sink `{}` cannot be read", self.label),
                &error,
            )
        })?;
        Ok(committables.concat())
    }

    fn commit(&mut self, committables: &[S::Committable]) -> Result<(), TaskError> {
        if committables.is_empty() {
            return Ok(());
        }
        self.sink.commit(committables).map_err(|error| self.failed(&error))
    }
}

impl<S: Sink> Operator<S::In, ()> for SinkOperator<S> {
    fn open(&mut self, identity: &OperatorIdentity, context: &mut OpenContext) -> Result<(), TaskError> {
        self.label = identity.label.to_string();
        // What the restored checkpoint holds is complete: commit it again before anything new is written (I17).
        let lists = context.take_state(identity.id).lists;
        let restored = self.restored(&lists)?;
        self.commit(&restored)?;
        let writer = SinkContext {
            job_id: context.job_id,
            operator: self.label.clone(),
            subtask: context.subtask,
            // Two sinks of one subtask may have one label, and must never write under one name (RS51).
            nonce: format!("{}-{}", context.nonce, short(identity.id)),
        };
        let mut writer = self.sink.writer(&writer).map_err(|error| self.failed(&error))?;
        let lists: Vec<_> = lists.into_iter().filter(|list| list.name != COMMITTABLES).collect();
        if !lists.is_empty() {
            writer.restore_state(&lists).map_err(|error| self.failed(&error))?;
        }
        self.writer = Some(writer);
        Ok(())
    }

    fn process(&mut self, input: &mut Batch<S::In>, _output: &mut Batch<()>) -> Result<(), TaskError> {
        self.wrote = true;
        let Some(writer) = self.writer.as_mut() else {
            return Err(TaskError::internal(format!(
                "sink `{}` was given records before it was opened",
                self.label
            )));
        };
        let (records, timestamps) = input.parts_mut();
        let written = writer.write_in_time(records, &WriteContext::new(timestamps, self.watermark));
        input.clear();
        written.map_err(|error| self.failed(&error))
    }

    fn event_time(&mut self, time: EventTime, _output: &mut Batch<()>) -> Result<bool, TaskError> {
        self.watermark = self.watermark.max(time);
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        if !std::mem::take(&mut self.wrote) {
            return Ok(());
        }
        match self.writer.as_mut().map(SinkWriter::flush) {
            Some(Err(error)) => Err(self.failed(&error)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    fn end_of_data(&mut self, _output: &mut Batch<()>) -> Result<(), TaskError> {
        if let Some(writer) = self.writer.as_mut() {
            writer.leave_nothing_unfinished();
        }
        Ok(())
    }

    fn snapshot(
        &mut self,
        identity: &OperatorIdentity,
        barrier: &Barrier,
    ) -> Result<Option<OperatorSnapshot>, TaskError> {
        if let (AfterBarrier::Halt, Some(writer)) = (barrier.options.sources, self.writer.as_mut()) {
            // A job that stops has nothing hidden left.
            writer.leave_nothing_unfinished();
        }
        let prepared = self.prepare()?;
        if !prepared.is_empty() {
            self.prepared.insert(barrier.checkpoint, prepared);
        }
        let unfinished = self.unfinished()?;
        let items: Vec<_> = self
            .prepared
            .values()
            .flatten()
            .chain(&unfinished)
            .map(to_row)
            .collect();
        let mut lists = self.writer.as_mut().map(SinkWriter::snapshot_state).unwrap_or_default();
        lists.push(ListState {
            name: COMMITTABLES.to_owned(),
            data_type: S::Committable::data_type(),
            items,
        });
        lists.retain(|list| !list.items.is_empty());
        Ok((!lists.is_empty()).then(|| OperatorSnapshot::lists(identity, lists)))
    }

    fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<(), TaskError> {
        // A completion implies the completion of everything prepared before it: notifications may be lost (RS37).
        let later = self.prepared.split_off(&CheckpointId(checkpoint.0 + 1));
        let complete = std::mem::replace(&mut self.prepared, later);
        let committables: Vec<_> = complete.into_values().flatten().collect();
        self.commit(&committables)
    }

    fn finish(&mut self) -> Result<(), TaskError> {
        let mut committables: Vec<_> = std::mem::take(&mut self.prepared).into_values().flatten().collect();
        committables.extend(self.prepare()?);
        self.commit(&committables)
    }
}

/// Enough of an operator's id to tell it from the others of a job.
fn short(operator: OperatorId) -> String {
    operator.to_string().chars().take(8).collect()
}
