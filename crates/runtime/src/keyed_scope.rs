//! What the keys of one operator in one subtask share.

use std::cell::RefCell;

use streamd_core::barrier::Barrier;
use streamd_core::graph::StateDescriptor;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{ListState, OperatorSubtaskState};
use streamd_core::state::Key;
use streamd_core::time::EventTime;
use streamd_exchange::Batch;
use streamd_state::{KeyedStateBackend, OperatorStateBackend, Restoring};

use crate::chain::{OpenContext, OperatorIdentity, OperatorSnapshot};
use crate::error::{BoxError, TaskError};
use crate::keyed::{KeyedContext, KeyedStateStore};
use crate::process_function::restore_states;
use crate::record::{BATCH_RECORDS, Collector};
use crate::runtime_context::RuntimeContext;
use crate::side_output::SideOutputs;
use crate::snapshot::{descriptors, open_backend, restore_keyed, state_failed};
use crate::timer::{TimeService, Timer, Timers};

/// State, timers, the time, and the way out beside the main stream.
pub(crate) struct KeyedScope<K: Key> {
    pub(crate) backend: KeyedStateBackend<K>,
    /// State that belongs to no key.
    pub(crate) states: OperatorStateBackend,
    pub(crate) timers: Option<Timers<K>>,
    /// `None` until the operator is opened.
    pub(crate) time: Option<TimeService>,
    pub(crate) runtime: Option<RuntimeContext>,
    pub(crate) sides: SideOutputs,
    /// What is to be done with the state of the key at hand when the call is over: values with a time to live change by being read.
    afterwards: RefCell<Vec<Afterwards<K>>>,
}

type Afterwards<K> = Box<dyn FnOnce(&mut KeyedStateBackend<K>, u64, &K) + Send>;

impl<K: Key> KeyedScope<K> {
    /// Before the operator is opened.
    pub(crate) fn new(backend: KeyedStateBackend<K>) -> Self {
        Self {
            backend,
            states: OperatorStateBackend::new(),
            timers: None,
            time: None,
            runtime: None,
            sides: SideOutputs::default(),
            afterwards: RefCell::default(),
        }
    }

    /// The state that a function registers, and whether it uses timers.
    pub(crate) fn describe(
        register: impl FnOnce(&mut KeyedStateStore<'_, K>) -> Result<(), BoxError>,
    ) -> Result<(Vec<StateDescriptor>, bool), TaskError> {
        let mut backend = KeyedStateBackend::<K>::new(KeyGroupRange::all(1), 1);
        let mut states = OperatorStateBackend::new();
        let mut store = KeyedStateStore::new(&mut backend, &mut states);
        register(&mut store).map_err(|error| TaskError::user("`open` failed", &*error))?;
        let has_timers = store.into_timers().is_some();
        let mut all = descriptors(&backend);
        all.extend(states.descriptors());
        Ok((all, has_timers))
    }

    /// The scope of an operator whose function registers its state, with what was restored.
    pub(crate) fn open(
        identity: &OperatorIdentity,
        context: &OpenContext,
        restored: &OperatorSubtaskState,
        register: impl FnOnce(&mut KeyedStateStore<'_, K>) -> Result<(), BoxError>,
    ) -> Result<Self, TaskError> {
        let mut backend = open_backend(identity, context)?;
        let mut states = OperatorStateBackend::new();
        let mut store = KeyedStateStore::new(&mut backend, &mut states);
        register(&mut store).map_err(|error| {
            TaskError::user(format_args!("`open` of operator `{}` failed", identity.label), &*error)
        })?;
        let timers = store.into_timers();
        restore_states(&mut states, &restored.lists, &identity.label)?;
        let mut scope = Self {
            states,
            ..Self::restored(identity, context, restored, backend)?
        };
        if let (Some(mut timers), Some(time)) = (timers, &scope.time) {
            let filled = timers.open(&mut scope.backend, time);
            filled.map_err(|error| state_failed(&identity.label, &error))?;
            scope.timers = Some(timers);
        }
        Ok(scope)
    }

    /// The scope of an operator without timers of its function, with what was restored into the states of this backend.
    pub(crate) fn restored(
        identity: &OperatorIdentity,
        context: &OpenContext,
        restored: &OperatorSubtaskState,
        mut backend: KeyedStateBackend<K>,
    ) -> Result<Self, TaskError> {
        restore_keyed(&mut backend, &restored.keyed, identity, context)?;
        Ok(Self {
            time: Some(restored_time(identity, context, &restored.lists)?),
            runtime: Some(RuntimeContext::new(context)),
            ..Self::new(backend)
        })
    }

    pub(crate) fn time(&self) -> &TimeService {
        self.time.as_ref().expect("an operator is opened before it is called")
    }

    pub(crate) fn watermark(&self) -> EventTime {
        self.time.as_ref().map_or(EventTime::MIN, |time| time.watermark)
    }

    /// The event time has come to here. It never falls: after a restore the first watermarks are behind it.
    pub(crate) fn advance(&mut self, time: EventTime) {
        if let Some(known) = &mut self.time {
            known.watermark = known.watermark.max(time);
        }
    }

    /// Restores a little of what is still in the snapshot.
    pub(crate) fn restore_more(&mut self, label: &str) -> Result<Restoring, TaskError> {
        let restoring = self.backend.restore_more();
        let restoring = restoring.map_err(|error| state_failed(label, &error))?;
        if let Some(timers) = &mut self.timers {
            timers.collect(&mut self.backend);
        }
        Ok(restoring)
    }

    /// Prepares the next accesses to these keys.
    #[inline]
    pub(crate) fn touch(&mut self, keys: &[(u64, K)], label: &str) -> Result<(), TaskError> {
        self.read_clock();
        self.backend.touch(keys).map_err(|error| state_failed(label, &error))
    }

    /// Tells values with a time to live, if there are any, what time it is.
    #[inline]
    pub(crate) fn read_clock(&mut self) {
        if let (true, Some(time)) = (self.backend.expires(), &self.time) {
            self.backend.set_time(time.now());
        }
    }

    /// Has something done with the state of the key at hand when the call is over.
    pub(crate) fn afterwards(&self, act: impl FnOnce(&mut KeyedStateBackend<K>, u64, &K) + Send + 'static) {
        self.afterwards.borrow_mut().push(Box::new(act));
    }

    /// A call for this key is over.
    #[inline]
    pub(crate) fn settle(&mut self, hash: u64, key: &K) {
        if !self.afterwards.get_mut().is_empty() {
            for act in self.afterwards.take() {
                act(&mut self.backend, hash, key);
            }
        }
    }

    /// Freezes keyed state, and the lists that belong to no key.
    pub(crate) fn snapshot_all(&mut self, identity: &OperatorIdentity, barrier: &Barrier) -> OperatorSnapshot {
        let mut snapshot = self.snapshot(identity, barrier);
        let subtask = self.runtime.map_or(0, |runtime| runtime.index_of_this_subtask());
        snapshot.lists.extend(self.states.snapshot(subtask));
        snapshot
    }

    /// Freezes keyed state.
    pub(crate) fn snapshot(&mut self, identity: &OperatorIdentity, barrier: &Barrier) -> OperatorSnapshot {
        self.read_clock();
        OperatorSnapshot::keyed(identity, &mut self.backend, barrier)
    }

    /// The time has come to here: calls `on_timer` as [`fire_timers`](Self::fire_timers) does.
    pub(crate) fn come_to<Out>(
        &mut self,
        until: Timer,
        label: &str,
        output: &mut Batch<Out>,
        on_timer: impl FnMut(Timer, &mut KeyedContext<'_, K>, &mut Collector<'_, Out>) -> Result<(), BoxError>,
    ) -> Result<bool, TaskError> {
        if let Timer::EventTime(time) = until {
            self.advance(time);
        }
        let done = self.fire_timers(until, label, output, on_timer)?;
        if let Timer::ProcessingTime(_) = until {
            self.set_alarm();
        }
        Ok(done)
    }

    /// Calls `on_timer` for the timers that are due at `until`, those that still stand, until a batch of output is full. Answers whether all
    /// were called.
    pub(crate) fn fire_timers<Out>(
        &mut self,
        until: Timer,
        label: &str,
        output: &mut Batch<Out>,
        mut on_timer: impl FnMut(Timer, &mut KeyedContext<'_, K>, &mut Collector<'_, Out>) -> Result<(), BoxError>,
    ) -> Result<bool, TaskError> {
        if let Some(timers) = &mut self.timers {
            let restored = timers.restore(&mut self.backend, until);
            restored.map_err(|error| state_failed(label, &error))?;
        }
        while output.len() < BATCH_RECORDS {
            let due = self.timers.as_mut().and_then(|timers| timers.take_due(until));
            let Some((timer, keys)) = due else {
                return Ok(true);
            };
            let timestamp = match timer {
                Timer::EventTime(time) => time,
                Timer::ProcessingTime(_) => EventTime::MIN,
            };
            self.touch(&keys, label)?;
            for (hash, key) in &keys {
                let Self { backend, timers, .. } = self;
                let stands = timers
                    .as_ref()
                    .is_some_and(|timers| timers.remove(backend, (*hash, key), timer));
                if stands {
                    let mut context = KeyedContext::new(self, key, *hash, timestamp);
                    let called = on_timer(timer, &mut context, &mut Collector::new(output, timestamp));
                    called.map_err(|error| {
                        TaskError::user(format_args!("`on_timer` of operator `{label}` failed"), &*error)
                    })?;
                }
            }
        }
        Ok(false)
    }

    /// Asks to be called at the next timer of the clock. One that is due already is called in the next turn.
    pub(crate) fn set_alarm(&self) {
        if let (Some(timers), Some(time)) = (&self.timers, &self.time) {
            timers.set_alarm(time);
        }
    }
}

/// The time of an operator that is opened, from where it had come to.
fn restored_time(
    identity: &OperatorIdentity,
    context: &OpenContext,
    lists: &[ListState],
) -> Result<TimeService, TaskError> {
    let mut time = TimeService::new(context);
    time.restore(lists).map_err(|error| {
        TaskError::external(
            format_args!("the event time of operator `{}` cannot be restored", identity.label),
            &error,
        )
    })?;
    Ok(time)
}
