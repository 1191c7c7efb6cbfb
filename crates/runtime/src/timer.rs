//! Timers: moments at which a key wants to be called, in event time or in processing time.
//!
//! ```text
//!   state (what is true)      key ──▶ [10, 20, 50]            in every snapshot, with the key
//!   queue (what is next)      10 ──▶ keys, 20 ──▶ keys …      made anew from the state
//! ```
//!
//! What is still in the snapshot that the state is restored from comes into the queue before its time does.
//!
//! A timer that was deleted stays in the queue and is found to be no more when its time comes. So a key's timers are each
//! in the state once, and fire once, whatever was registered how often (I5).

use std::collections::BTreeMap;
use std::sync::Arc;

use streamd_core::graph::{StateDescriptor, StateKind};
use streamd_core::row::RowError;
use streamd_core::snapshot::ListState;
use streamd_core::state::{Key, State, from_row, to_row};
use streamd_core::time::{Clock, EventTime, WallTime};
use streamd_state::{KeyedStateBackend, Moment, StateError, StateId};

use crate::alarm::Alarm;
use crate::chain::OpenContext;

/// Keys that are called together: their state is fetched at once.
pub(crate) const FIRED_TOGETHER: usize = 64;

/// The names of the states that hold timers.
const EVENT_TIMERS: &str = "~timers.event_time";
const PROCESSING_TIMERS: &str = "~timers.processing_time";

/// The union list that holds the event time that an operator had come to: what was late before a restore is late after it.
pub(crate) const WATERMARK: &str = "~watermark";

/// A timer that fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The watermark has come to this time, or past it.
    EventTime(EventTime),
    /// The clock of the machine has come to this time, or past it.
    ProcessingTime(WallTime),
}

/// Which keys are to be called when.
#[derive(Debug)]
pub(crate) struct TimerQueue<K> {
    due: BTreeMap<i64, Vec<(u64, K)>>,
    /// Nothing is due before this time that is still in a snapshot.
    stored: i64,
}

impl<K> TimerQueue<K> {
    pub(crate) fn new() -> Self {
        Self {
            due: BTreeMap::new(),
            stored: i64::MAX,
        }
    }

    /// Whether something that is due up to `until` may still be in a snapshot.
    #[inline]
    pub(crate) fn lacks(&self, until: i64) -> bool {
        self.stored <= until
    }

    /// A time before which nothing is due that is still in a snapshot, if anything is.
    pub(crate) fn stored(&self) -> Option<i64> {
        Some(self.stored).filter(|stored| *stored < i64::MAX)
    }

    /// Everything has come out of the snapshot that is due before this time.
    pub(crate) fn set_stored(&mut self, stored: i64) {
        self.stored = stored;
    }

    pub(crate) fn push(&mut self, time: i64, hash: u64, key: K) {
        self.due.entry(time).or_default().push((hash, key));
    }

    /// The next time that something is due, or may be.
    pub(crate) fn next(&self) -> Option<i64> {
        let first = self.due.first_key_value().map(|(time, _)| *time);
        first.into_iter().chain(self.stored()).min()
    }

    /// The last time that something is due.
    pub(crate) fn last(&self) -> Option<i64> {
        self.due.last_key_value().map(|(time, _)| *time)
    }

    /// Some of the keys of the earliest time up to `until`, with that time.
    pub(crate) fn take_due(&mut self, until: i64) -> Option<(i64, Vec<(u64, K)>)> {
        let mut first = self.due.first_entry().filter(|first| *first.key() <= until)?;
        let time = *first.key();
        let keys = first.get_mut();
        if keys.len() <= FIRED_TOGETHER {
            return Some((time, first.remove()));
        }
        Some((time, keys.split_off(keys.len() - FIRED_TOGETHER)))
    }
}

/// The timers of one operator: times by key, in state, and the queue.
pub(crate) struct KeyTimers<K> {
    state: StateId<Vec<i64>>,
    queue: TimerQueue<K>,
}

impl<K: Key> KeyTimers<K> {
    fn register(backend: &mut KeyedStateBackend<K>, name: &str) -> Result<Self, StateError> {
        Ok(Self {
            state: backend.register_timed(name)?,
            queue: TimerQueue::new(),
        })
    }

    fn add(&mut self, backend: &mut KeyedStateBackend<K>, (hash, key): (u64, &K), time: i64) -> bool {
        let times = backend.table_mut(self.state).get_or_insert_with(hash, key, Vec::new);
        match times.binary_search(&time) {
            Ok(_) => false,
            Err(position) => {
                times.insert(position, time);
                self.queue.push(time, hash, key.clone());
                true
            }
        }
    }

    fn remove(&self, backend: &mut KeyedStateBackend<K>, (hash, key): (u64, &K), time: i64) -> bool {
        let table = backend.table_mut(self.state);
        let Some(times) = table.get_mut(hash, key) else {
            return false;
        };
        let Ok(position) = times.binary_search(&time) else {
            return false;
        };
        times.remove(position);
        if times.is_empty() {
            table.remove(hash, key);
        }
        true
    }

    /// Has what is due up to `until` come out of the snapshot into the queue.
    fn restore(&mut self, backend: &mut KeyedStateBackend<K>, until: i64) -> Result<(), StateError> {
        let left = backend.restore_due(self.state, until, &|_, time| time)?;
        self.queue.set_stored(left);
        self.collect(backend);
        Ok(())
    }

    /// Puts what has come out of the snapshot into the queue.
    fn collect(&mut self, backend: &mut KeyedStateBackend<K>) {
        for Moment { time, hash, key, .. } in backend.take_arrived(self.state) {
            self.queue.push(time, hash, key);
        }
    }
}

/// The timers of both domains, and the time that it is in each.
pub(crate) struct Timers<K> {
    event: KeyTimers<K>,
    processing: KeyTimers<K>,
}

impl<K: Key> Timers<K> {
    pub(crate) fn register(backend: &mut KeyedStateBackend<K>) -> Result<Self, StateError> {
        Ok(Self {
            event: KeyTimers::register(backend, EVENT_TIMERS)?,
            processing: KeyTimers::register(backend, PROCESSING_TIMERS)?,
        })
    }

    /// Fills the queues with what has been restored at once.
    pub(crate) fn open(&mut self, backend: &mut KeyedStateBackend<K>, time: &TimeService) -> Result<(), StateError> {
        self.event.restore(backend, i64::MIN)?;
        self.processing.restore(backend, i64::MIN)?;
        self.set_alarm(time);
        Ok(())
    }

    /// Has everything in the queue that is due at `until`, by its clock.
    #[inline]
    pub(crate) fn restore(&mut self, backend: &mut KeyedStateBackend<K>, until: Timer) -> Result<(), StateError> {
        let (timers, until) = match until {
            Timer::EventTime(until) => (&mut self.event, until.0),
            Timer::ProcessingTime(until) => (&mut self.processing, until.0),
        };
        match timers.queue.lacks(until) {
            true => timers.restore(backend, until),
            false => Ok(()),
        }
    }

    /// Puts what has come out of the snapshot into the queues.
    pub(crate) fn collect(&mut self, backend: &mut KeyedStateBackend<K>) {
        self.event.collect(backend);
        self.processing.collect(backend);
    }

    pub(crate) fn add(&mut self, backend: &mut KeyedStateBackend<K>, key: (u64, &K), timer: Timer, time: &TimeService) {
        match timer {
            Timer::EventTime(at) => {
                self.event.add(backend, key, at.0);
            }
            Timer::ProcessingTime(at) => {
                if self.processing.add(backend, key, at.0) {
                    time.alarm.set(at);
                }
            }
        }
    }

    /// Forgets a timer. Answers whether it stood.
    pub(crate) fn remove(&self, backend: &mut KeyedStateBackend<K>, key: (u64, &K), timer: Timer) -> bool {
        match timer {
            Timer::EventTime(at) => self.event.remove(backend, key, at.0),
            Timer::ProcessingTime(at) => self.processing.remove(backend, key, at.0),
        }
    }

    /// Some keys whose timers are due at `until`, by its clock, the earliest first; each timer is to be [removed](Self::remove).
    pub(crate) fn take_due(&mut self, until: Timer) -> Option<(Timer, Vec<(u64, K)>)> {
        Some(match until {
            Timer::EventTime(until) => {
                let (time, keys) = self.event.queue.take_due(until.0)?;
                (Timer::EventTime(EventTime(time)), keys)
            }
            Timer::ProcessingTime(until) => {
                let (time, keys) = self.processing.queue.take_due(until.0)?;
                (Timer::ProcessingTime(WallTime(time)), keys)
            }
        })
    }

    /// Asks to be called at the next timer of the clock.
    pub(crate) fn set_alarm(&self, time: &TimeService) {
        if let Some(next) = self.processing.queue.next() {
            time.alarm.set(WallTime(next));
        }
    }
}

/// What an operator knows of the time.
pub(crate) struct TimeService {
    /// How far the event time has come.
    pub(crate) watermark: EventTime,
    clock: Arc<dyn Clock>,
    pub(crate) alarm: Alarm,
}

impl TimeService {
    /// Before the operator is opened there is no time.
    pub(crate) fn new(context: &OpenContext) -> Self {
        Self {
            watermark: EventTime::MIN,
            clock: Arc::clone(&context.clock),
            alarm: context.alarm.clone(),
        }
    }

    pub(crate) fn now(&self) -> WallTime {
        self.clock.wall()
    }

    /// Goes on from the event time that a restored operator had come to: the least of its subtasks'.
    pub(crate) fn restore(&mut self, lists: &[ListState]) -> Result<(), RowError> {
        let items = lists
            .iter()
            .filter(|list| list.name == WATERMARK)
            .flat_map(|list| &list.items);
        let times = items.map(|item| from_row::<i64>(item)).collect::<Result<Vec<_>, _>>()?;
        if let Some(least) = times.into_iter().min() {
            self.watermark = EventTime(least);
        }
        Ok(())
    }

    /// How far the event time has come, as operator state.
    pub(crate) fn to_list(&self) -> ListState {
        ListState {
            name: WATERMARK.to_owned(),
            data_type: i64::data_type(),
            items: vec![to_row(&self.watermark.0)],
        }
    }

    /// The operator state of [`to_list`](Self::to_list), as the plan describes it.
    pub(crate) fn descriptor() -> StateDescriptor {
        StateDescriptor {
            name: WATERMARK.to_owned(),
            kind: StateKind::Union,
            value: i64::data_type(),
            evolution: streamd_core::evolution::Evolution::default(),
        }
    }
}
