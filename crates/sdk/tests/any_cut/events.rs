//! A source that reads no further than it is let.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use streamd::connectors::strided::StridedSplit;
use streamd::prelude::*;
use streamd::{ConnectorError, Guarantee, Source, SourceReader, SourceStatus};

/// A record: its number, its key, and its time in milliseconds.
pub type Event = (u64, u32, i64);

/// Into how many splits the stream is cut: not always as many as subtasks.
const SPLITS: u32 = 3;

/// Events, of which no more is read than is allowed. A clone reaches the same source.
#[derive(Clone)]
pub struct Events {
    events: Arc<[Event]>,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    upto: AtomicU64,
    ends: AtomicBool,
    read: AtomicU64,
}

impl Events {
    /// A source of these events that reads none of them yet.
    pub fn new(events: &Arc<[Event]>) -> Self {
        Self {
            events: Arc::clone(events),
            gate: Arc::default(),
        }
    }

    /// Lets it read so many, and then wait for more.
    pub fn let_read(&self, upto: u64) {
        self.gate.upto.store(upto, Ordering::SeqCst);
    }

    /// Lets it read all, and end.
    pub fn let_end(&self) {
        self.let_read(self.events.len() as u64);
        self.gate.ends.store(true, Ordering::SeqCst);
    }

    /// How many were read; those that were read again count again.
    pub fn read(&self) -> u64 {
        self.gate.read.load(Ordering::SeqCst)
    }

    fn ends(&self) -> bool {
        self.gate.ends.load(Ordering::SeqCst)
    }

    fn upto(&self) -> u64 {
        self.gate.upto.load(Ordering::SeqCst)
    }
}

pub struct EventsReader {
    source: Events,
    splits: Vec<StridedSplit>,
    polled: usize,
    polls: usize,
}

impl Source for Events {
    type Out = Event;
    type Split = StridedSplit;
    type Reader = EventsReader;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn enumerate(&self, _parallelism: u32) -> std::result::Result<Vec<StridedSplit>, ConnectorError> {
        Ok(StridedSplit::cut(SPLITS, None))
    }

    fn reader(&self) -> std::result::Result<EventsReader, ConnectorError> {
        Ok(EventsReader {
            source: self.clone(),
            splits: Vec::new(),
            polled: 0,
            polls: 0,
        })
    }
}

impl EventsReader {
    fn is_closed(&self, split: usize) -> bool {
        self.splits[split].next >= self.source.upto()
    }
}

impl SourceReader for EventsReader {
    type Out = Event;
    type Split = StridedSplit;

    fn add_splits(&mut self, splits: Vec<StridedSplit>) -> std::result::Result<(), ConnectorError> {
        self.splits.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<Event>, limit: usize) -> std::result::Result<SourceStatus, ConnectorError> {
        // In this order: once it ends, all may be read.
        let ends = self.source.ends();
        if (0..self.splits.len()).all(|split| self.is_closed(split)) {
            return Ok(match ends {
                true => SourceStatus::End,
                false => SourceStatus::Idle(Duration::from_millis(1)),
            });
        }
        self.polls += 1;
        self.polled = (0..self.splits.len())
            .map(|ahead| (self.polled + ahead + 1) % self.splits.len())
            .find(|split| !self.is_closed(*split))
            .unwrap_or(0);
        let split = &mut self.splits[self.polled];
        for _ in 0..limit.min(1 + self.polls % 5) {
            if split.next >= self.source.upto() {
                break;
            }
            out.push(self.source.events[split.next as usize]);
            split.next += split.stride;
            self.source.gate.read.fetch_add(1, Ordering::SeqCst);
        }
        Ok(SourceStatus::More)
    }

    fn polled_split(&self) -> Option<usize> {
        (!self.splits.is_empty()).then_some(self.polled)
    }

    fn is_at_end(&self, split: usize) -> bool {
        // As above.
        self.source.ends() && self.is_closed(split)
    }

    fn snapshot(&self) -> Vec<StridedSplit> {
        self.splits.clone()
    }
}
