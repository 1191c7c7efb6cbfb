use std::cell::RefCell;
use std::time::Duration;

use streamd_core::barrier::Barrier;
use streamd_core::migration::read_items;
use streamd_core::source::{ConnectorError, Source, SourceReader, SourceStatus};
use streamd_core::state::{State, to_row};

use streamd_exchange::{Batch, Origin};
use streamd_snapshot::json::Renderer;

use crate::at_hand::AtHand;
use crate::chain::{ControlEvent, OpenContext, OperatorIdentity, OperatorSnapshot};
use crate::completions::Calls;
use crate::error::TaskError;
use crate::fan::Fan;
use crate::head::SourceTurn;
use crate::record::{BATCH_RECORDS, Record};
use crate::source_progress::SourceProgress;
use streamd_core::snapshot::ListState;

/// The name of the state that holds a source's splits.
pub const SPLITS: &str = "splits";

/// How many splits an error names: it is to be read.
const NAMED_SPLITS: usize = 3;

/// The head of a source's chain: reads batches and pushes them down.
pub struct SourceHead<S: Source> {
    identity: OperatorIdentity,
    source: S,
    reader: Option<S::Reader>,
    progress: SourceProgress,
    batch: Batch<S::Out>,
    /// How many records are on their way down the chain.
    under_way: usize,
    at_hand: AtHand,
    subtask: u32,
    /// Where records come from of which the reader says nothing.
    somewhere: Origin,
    /// The splits as they were written last: those that differ now have been read since.
    written: RefCell<Vec<Vec<u8>>>,
    next: Fan<S::Out>,
}

impl<S: Source> SourceHead<S>
where
    S::Out: Record,
{
    /// The head of this source.
    pub fn new(identity: OperatorIdentity, source: S, next: Fan<S::Out>) -> Self {
        Self {
            identity,
            source,
            reader: None,
            progress: SourceProgress::default(),
            batch: Batch::new(),
            under_way: 0,
            at_hand: AtHand::default(),
            subtask: 0,
            somewhere: Origin::UNKNOWN,
            written: RefCell::default(),
            next,
        }
    }

    fn failed(&self, error: &ConnectorError) -> TaskError {
        TaskError::external(format_args!("source `{}` failed", self.identity.label), error)
    }

    fn open(&mut self, context: &mut OpenContext) -> Result<(), TaskError> {
        let lists = context.take_state(self.identity.id).lists;
        let lists = lists.iter().filter(|list| list.name == SPLITS);
        let splits = lists.map(read_items::<S::Split>).collect::<Result<Vec<_>, _>>();
        let splits = splits.map_err(|error| {
            TaskError::external(
                format_args!("the splits of source `{}` cannot be read", self.identity.label),
                &error,
            )
        })?;
        let mut reader = self.source.reader().map_err(|error| self.failed(&error))?;
        let splits = splits.concat();
        let count = splits.len();
        *self.written.borrow_mut() = splits.iter().map(to_row).collect();
        reader.add_splits(splits).map_err(|error| self.failed(&error))?;
        if reader.polled_split().is_some() {
            self.progress = SourceProgress::of_splits(count);
            (0..count).for_each(|split| self.progress.on_polled(split, reader.is_at_end(split)));
        }
        self.reader = Some(reader);
        self.at_hand = context.at_hand.clone();
        self.subtask = context.subtask.index;
        self.somewhere = Origin::read(&self.identity.label, self.subtask, &[]);
        context.source = Some(self.progress.clone());
        Ok(())
    }

    fn snapshot(&self) -> OperatorSnapshot {
        let splits = self.reader.as_ref().map(SourceReader::snapshot).unwrap_or_default();
        let list = ListState {
            name: SPLITS.to_owned(),
            data_type: S::Split::data_type(),
            items: splits.iter().map(to_row).collect(),
        };
        self.written.borrow_mut().clone_from(&list.items);
        OperatorSnapshot::lists(&self.identity, vec![list])
    }

    /// What the records are that are on their way down the chain, if there are any, by what has changed in the splits: for readers
    /// that do not say what they have read.
    pub fn position(&self) -> Option<String> {
        let splits = self.reader.as_ref().filter(|_| self.under_way > 0)?.snapshot();
        let rows: Vec<_> = splits.iter().map(to_row).collect();
        let polled = self.reader.as_ref().and_then(SourceReader::polled_split);
        let written = self.written.borrow();
        let is_read = |(index, row): &(usize, &Vec<u8>)| match polled {
            Some(polled) => *index == polled,
            None => !written.contains(row),
        };
        let read: Vec<_> = rows.iter().enumerate().filter(is_read).collect();
        let renderer = Renderer::new(&S::Split::data_type());
        let named = read
            .iter()
            .take(NAMED_SPLITS)
            .filter_map(|(_, row)| renderer.render(row).ok());
        let mut position = format!(
            "while processing one of the last {} records before {} of source `{}` (subtask {})",
            self.under_way,
            named.collect::<Vec<_>>().join(", "),
            self.identity.label,
            self.subtask + 1
        );
        if let Some(more @ 1..) = read.len().checked_sub(NAMED_SPLITS) {
            position.push_str(&format!(", and {more} more splits"));
        }
        Some(position)
    }

    /// Whether an operator behind it wants it to wait.
    pub fn is_held(&self) -> bool {
        self.progress.is_held()
    }

    /// Reads one batch and pushes it down the chain.
    pub fn poll(&mut self) -> Result<SourceTurn, TaskError> {
        let Some(reader) = self.reader.as_mut() else {
            return Err(TaskError::internal(format!(
                "source `{}` was polled before it was opened",
                self.identity.label
            )));
        };
        let status = match reader.poll(self.batch.untimed(), BATCH_RECORDS) {
            Ok(status) => status,
            Err(error) => return Err(self.failed(&error)),
        };
        if let Some(split) = reader.polled_split() {
            self.progress.on_polled(split, reader.is_at_end(split));
        }
        let records = self.batch.len() as u64;
        self.under_way = self.batch.len();
        self.at_hand.put(match reader.last_read() {
            [] => self.somewhere.clone(),
            stretches => Origin::read(&self.identity.label, self.subtask, stretches),
        });
        self.next.process(&mut self.batch)?;
        self.at_hand.take();
        self.under_way = 0;
        Ok(match status {
            SourceStatus::More => SourceTurn {
                records,
                wait: Duration::ZERO,
                ended: false,
            },
            SourceStatus::Idle(wait) => SourceTurn {
                records,
                wait,
                ended: false,
            },
            SourceStatus::End => SourceTurn {
                records,
                wait: Duration::MAX,
                ended: true,
            },
        })
    }

    /// Handles a control event, and passes it on.
    pub fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        match event {
            ControlEvent::Open(context) => self.open(context)?,
            ControlEvent::Barrier(Barrier { .. }, snapshots) => snapshots.push(self.snapshot()),
            ControlEvent::Flush
            | ControlEvent::Watermark(..)
            | ControlEvent::ProcessingTime(_)
            | ControlEvent::Restore(_)
            | ControlEvent::Completed
            | ControlEvent::EndOfData
            | ControlEvent::CheckpointComplete(_)
            | ControlEvent::Finish => {}
        }
        self.next.control(event)
    }

    /// As for [`Link::resume`](crate::chain::Link::resume).
    pub fn resume(&mut self) -> Result<bool, TaskError> {
        self.next.resume()
    }

    /// Whether every exit has room.
    pub fn has_room(&self) -> bool {
        self.next.has_room()
    }

    /// How many calls have not come back.
    pub fn calls(&self) -> Calls {
        self.next.calls()
    }
}
