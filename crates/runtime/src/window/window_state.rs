//! What is kept of the windows of a key, and how it lies in snapshots.

use streamd_core::row::{DataType, RowError, RowReader, write_count};
use streamd_core::state::State;
use streamd_state::Timed;

use super::TimeWindow;
use super::time_window::field;
use super::trigger::{Times, WindowTimers};

/// The windows of one key, in no particular order: there are few, and mostly one, which takes no allocation.
#[derive(Debug, Clone)]
pub(super) struct Windows<A, S> {
    first: Option<WindowState<A, S>>,
    /// None where there is no first.
    others: Vec<WindowState<A, S>>,
}

impl<A, S> Windows<A, S> {
    pub(super) const fn new() -> Self {
        Self {
            first: None,
            others: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &WindowState<A, S>> + Clone {
        self.first.iter().chain(&self.others)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut WindowState<A, S>> {
        self.first.iter_mut().chain(&mut self.others)
    }

    /// What is kept of a window, and whether it is new.
    #[inline]
    pub(super) fn of(&mut self, window: TimeWindow) -> (&mut WindowState<A, S>, bool)
    where
        S: Default,
    {
        let Self { first, others } = self;
        if first.as_ref().is_none_or(|first| first.window == window) {
            let is_new = first.is_none();
            return (first.get_or_insert_with(|| WindowState::new(window)), is_new);
        }
        let known = others.iter().position(|other| other.window == window);
        let position = known.unwrap_or_else(|| {
            others.push(WindowState::new(window));
            others.len() - 1
        });
        (&mut others[position], known.is_none())
    }

    pub(super) fn push(&mut self, window: WindowState<A, S>) {
        match self.first {
            None => self.first = Some(window),
            Some(_) => self.others.push(window),
        }
    }

    /// Takes those out for which the predicate holds.
    pub(super) fn take_if(&mut self, is_taken: impl FnMut(&WindowState<A, S>) -> bool) -> Vec<WindowState<A, S>> {
        let all = std::mem::replace(self, Self::new());
        let (taken, kept) = all.first.into_iter().chain(all.others).partition(is_taken);
        *self = Self::from(kept);
        taken
    }

    /// Forgets those for which the predicate does not hold.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&WindowState<A, S>) -> bool) {
        self.others.retain(&mut keep);
        if self.first.as_ref().is_some_and(|first| !keep(first)) {
            self.first = (!self.others.is_empty()).then(|| self.others.remove(0));
        }
    }
}

impl<A, S> From<Vec<WindowState<A, S>>> for Windows<A, S> {
    fn from(windows: Vec<WindowState<A, S>>) -> Self {
        let mut windows = windows.into_iter();
        Self {
            first: windows.next(),
            others: windows.collect(),
        }
    }
}

/// A timer of the event time.
pub(super) const EVENT_TIMER: usize = 0;
/// A timer of the clock.
pub(super) const PROCESSING_TIMER: usize = 1;
/// The end of a window, but of the global one.
pub(super) const END: usize = 2;

impl<A: State, S: State> Timed for Windows<A, S> {
    const KINDS: usize = 3;

    fn moments(&self, visit: &mut dyn FnMut(usize, i64)) {
        for WindowState { window, timers, .. } in self.iter() {
            let event = timers.event.as_slice().iter();
            event.for_each(|time| visit(EVENT_TIMER, *time));
            let processing = timers.processing.as_slice().iter();
            processing.for_each(|time| visit(PROCESSING_TIMER, *time));
            if *window != TimeWindow::GLOBAL {
                visit(END, window.end);
            }
        }
    }
}

/// In rows, a list.
impl<A: State, S: State> State for Windows<A, S> {
    fn data_type() -> DataType {
        WindowState::<A, S>::list_data_type()
    }

    fn encode(&self, row: &mut Vec<u8>) {
        write_count(row, self.iter().count());
        self.iter().for_each(|window| window.encode(row));
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        WindowState::decode_list(row).map(Self::from)
    }

    /// Of what is asked for below: that a key has several windows at a time is not the rule.
    const OWNS_MEMORY: bool = A::OWNS_MEMORY;

    #[inline]
    fn prefetch(&self) {
        if let Some(first) = &self.first {
            first.contents.prefetch();
        }
    }

    fn describe_evolution(evolution: &mut streamd_core::evolution::Evolution) {
        WindowState::<A, S>::describe_evolution(evolution);
    }
}

/// A window of a key.
#[derive(Debug, Clone)]
pub(super) struct WindowState<A, S> {
    pub(super) window: TimeWindow,
    /// `None` where they were purged.
    pub(super) contents: Option<A>,
    pub(super) trigger: S,
    pub(super) timers: WindowTimers,
}

impl<A, S: Default> WindowState<A, S> {
    fn new(window: TimeWindow) -> Self {
        Self {
            window,
            contents: None,
            trigger: S::default(),
            timers: WindowTimers::default(),
        }
    }
}

impl<A: State, S: State> State for WindowState<A, S> {
    fn data_type() -> DataType {
        DataType::Struct {
            name: "Window".to_owned(),
            fields: vec![
                field::<i64>("start"),
                field::<i64>("end"),
                field::<Option<A>>("contents"),
                field::<S>("trigger"),
                field::<Vec<i64>>("event_timers"),
                field::<Vec<i64>>("processing_timers"),
            ],
        }
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.window.encode(row);
        self.contents.encode(row);
        self.trigger.encode(row);
        self.timers.event.encode(row);
        self.timers.processing.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            window: TimeWindow::decode(row)?,
            contents: Option::decode(row)?,
            trigger: S::decode(row)?,
            timers: WindowTimers {
                event: Times::decode(row)?,
                processing: Times::decode(row)?,
            },
        })
    }

    fn describe_evolution(evolution: &mut streamd_core::evolution::Evolution) {
        A::describe_evolution(evolution);
        S::describe_evolution(evolution);
    }
}
