//! Calls of the outside world: made for each record, and not waited for.
//!
//! ```text
//!   record ──▶ waits ──▶ called (on the threads for I/O) ──▶ back ──▶ emitted ──▶ gone
//!              └────────── at most `capacity` of these ─────────┘
//!              └── in every snapshot: called anew after a restore ──┘
//! ```

use std::collections::VecDeque;

use streamd_core::barrier::Barrier;
use streamd_core::evolution::Evolution;
use streamd_core::graph::{StateDescriptor, StateKind};
use streamd_core::migration::read_items;
use streamd_core::row::{DataType, RowError, RowReader};
use streamd_core::snapshot::ListState;
use streamd_core::state::{State, to_row};
use streamd_core::time::{EventTime, Watermark};
use streamd_exchange::{Batch, Origin};

use crate::async_function::{AsyncFunction, AsyncWaitOptions, OutputMode};
use crate::at_hand::AtHand;
use crate::chain::{OpenContext, Operator, OperatorIdentity, OperatorSnapshot};
use crate::completions::Calls;
use crate::error::TaskError;
use crate::record::{BATCH_RECORDS, Record};

mod calling;

use calling::{Calling, Completion, Outcome};

/// The name of the list of records whose results were not emitted yet.
const IN_FLIGHT: &str = "~async_wait";

/// A record whose result was not emitted yet, as an element of the list.
#[derive(Clone)]
struct InFlight<In> {
    timestamp: Option<i64>,
    record: In,
}

impl<In: State> State for InFlight<In> {
    fn data_type() -> DataType {
        DataType::structure(
            "InFlight",
            [("timestamp", Option::<i64>::data_type()), ("record", In::data_type())],
        )
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.timestamp.encode(row);
        self.record.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            timestamp: Option::decode(row)?,
            record: In::decode(row)?,
        })
    }

    fn describe_evolution(evolution: &mut Evolution) {
        In::describe_evolution(evolution);
    }
}

/// What is in the queue, in the order in which it came.
enum Entry<In, Out> {
    /// A record, and how far its call is.
    Call(Call<In>, Progress<Out>),
    /// What consumers are to be told when everything before it is emitted.
    Watermark(Watermark),
    /// Its results are emitted.
    Gone,
}

/// A record that is to be called for.
struct Call<In> {
    record: In,
    timestamp: EventTime,
    origin: Origin,
}

enum Progress<Out> {
    /// Not made yet: there are as many as may be.
    Waits,
    Called,
    Back(Vec<Out>),
}

/// An [`AsyncFunction`] over a stream.
pub struct AsyncWait<In, Out, F> {
    label: String,
    function: F,
    options: AsyncWaitOptions<Out>,
    queue: VecDeque<Entry<In, Out>>,
    /// The number of the first entry of the queue; entries are numbered as they come.
    first: u64,
    /// The number of the first record that waits.
    next_call: u64,
    /// Calls that were made and are not emitted yet.
    open_calls: usize,
    /// Records in the queue that wait.
    waiting: usize,
    /// Watermarks in the queue.
    watermarks: usize,
    /// Unordered: calls that are back and may be emitted, in the order in which they came back.
    ready: VecDeque<u64>,
    calling: Option<Calling<Out>>,
    at_hand: AtHand,
}

impl<In: State, Out, F> AsyncWait<In, Out, F> {
    /// The operator of this function.
    pub fn new(function: F, options: AsyncWaitOptions<Out>) -> Self {
        Self {
            label: String::new(),
            function,
            options,
            queue: VecDeque::new(),
            first: 0,
            next_call: 0,
            open_calls: 0,
            waiting: 0,
            watermarks: 0,
            ready: VecDeque::new(),
            calling: None,
            at_hand: AtHand::default(),
        }
    }

    /// The state that such an operator keeps.
    pub fn states() -> Vec<StateDescriptor> {
        vec![StateDescriptor {
            name: IN_FLIGHT.to_owned(),
            kind: StateKind::List,
            value: InFlight::<In>::data_type(),
            evolution: Evolution::of::<InFlight<In>>(),
        }]
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry<In, Out>> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.queue.get_mut(index)
    }

    fn push(&mut self, call: Call<In>) {
        self.queue.push_back(Entry::Call(call, Progress::Waits));
        self.waiting += 1;
    }

    /// Forgets what is emitted at the front.
    fn trim(&mut self) {
        while let Some(Entry::Gone) = self.queue.front() {
            self.queue.pop_front();
            self.first += 1;
        }
    }

    /// Emits the results of a call that is back, if it is.
    fn emit(&mut self, number: u64, output: &mut Batch<Out>) -> bool {
        let Some(entry) = self.entry(number) else { return false };
        let Entry::Call(_, Progress::Back(_)) = entry else {
            return false;
        };
        if let Entry::Call(call, Progress::Back(results)) = std::mem::replace(entry, Entry::Gone) {
            results
                .into_iter()
                .for_each(|result| output.push(result, call.timestamp));
        }
        self.open_calls -= 1;
        self.trim();
        true
    }

    /// Emits what may be emitted now, about a batch. Answers whether there is more.
    fn emit_some(&mut self, output: &mut Batch<Out>) -> bool {
        self.trim();
        loop {
            let number = match self.options.mode {
                OutputMode::Ordered => Some(self.first),
                OutputMode::Unordered => self.ready.front().copied(),
            };
            let Some(number) = number else { return false };
            if output.len() >= BATCH_RECORDS {
                return true;
            }
            if !self.emit(number, output) {
                return false;
            }
            self.ready.pop_front();
        }
    }

    /// Unordered: what is back of the records up to the next watermark may be emitted.
    fn open_segment(&mut self) {
        if self.options.mode == OutputMode::Ordered {
            return;
        }
        let segment = self
            .queue
            .iter()
            .take_while(|entry| !matches!(entry, Entry::Watermark(_)));
        let back = (self.first..).zip(segment).filter_map(|(number, entry)| match entry {
            Entry::Call(_, Progress::Back(_)) => Some(number),
            Entry::Call(..) | Entry::Watermark(_) | Entry::Gone => None,
        });
        self.ready = back.collect();
    }

    /// Whether a watermark stands before this entry.
    fn is_behind_watermark(&self, number: u64) -> bool {
        if self.watermarks == 0 {
            return false;
        }
        let before = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let mut before = self.queue.iter().take(before);
        before.any(|entry| matches!(entry, Entry::Watermark(_)))
    }
}

impl<In, Out, F> AsyncWait<In, Out, F>
where
    In: State,
    Out: Record,
    F: AsyncFunction<In, Out>,
{
    /// Makes calls for records that wait, as many as may be.
    fn call_some(&mut self) {
        let Some(calling) = &self.calling else { return };
        while self.waiting > 0 && self.open_calls < self.options.capacity {
            let number = self.next_call.max(self.first);
            self.next_call = number + 1;
            let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
            let Some(Entry::Call(call, progress @ Progress::Waits)) = self.queue.get_mut(index) else {
                // A watermark stands between the records.
                continue;
            };
            *progress = Progress::Called;
            self.waiting -= 1;
            self.open_calls += 1;
            calling.call(number, (self.function.clone(), call.record.clone()), &self.options);
        }
    }

    /// Takes in what has come back.
    fn take_in(&mut self) -> Result<(), TaskError> {
        loop {
            let Some(Completion { call, outcome }) = self.calling.as_ref().and_then(Calling::take_back) else {
                return Ok(());
            };
            let Some(Entry::Call(called, _)) = self.entry(call) else {
                continue;
            };
            let (origin, record) = (called.origin.clone(), &called.record);
            let unanswered = matches!(outcome, Outcome::TimedOut).then(|| record.clone());
            // Stays there where the answer is a failure.
            self.at_hand.put(origin);
            let outcome = match (outcome, unanswered) {
                (Outcome::Panicked(error), _) => return Err(error),
                (Outcome::Done(outcome), _) => outcome,
                (Outcome::TimedOut, record) => record.map_or(Ok(Vec::new()), |record| self.function.timeout(record)),
            };
            let results = outcome.map_err(|error| {
                let context = format_args!("an asynchronous call of operator `{}` failed", self.label);
                TaskError::user(context, &*error)
            })?;
            self.at_hand.take();
            if let Some(Entry::Call(_, progress)) = self.entry(call) {
                *progress = Progress::Back(results);
            }
            if self.options.mode == OutputMode::Unordered && !self.is_behind_watermark(call) {
                self.ready.push_back(call);
            }
        }
    }

    fn look_again(&self) {
        if let Some(calling) = &self.calling {
            calling.notify();
        }
    }
}

impl<In, Out, F> Operator<In, Out> for AsyncWait<In, Out, F>
where
    In: Record + State,
    Out: Record,
    F: AsyncFunction<In, Out>,
{
    fn open(&mut self, identity: &OperatorIdentity, context: &mut OpenContext) -> Result<(), TaskError> {
        self.label = identity.label.to_string();
        // Answers come when they come: behind this step nobody knows whose split they are of.
        context.source = None;
        self.at_hand = context.at_hand.clone();
        self.calling = Some(Calling::new(context, self.options.capacity));
        let restored = context.take_state(identity.id).lists;
        for list in restored.iter().filter(|list| list.name == IN_FLIGHT) {
            let records = read_items::<InFlight<In>>(list).map_err(|error| {
                TaskError::external(
                    format_args!("the calls in flight of operator `{}` cannot be restored", self.label),
                    &error,
                )
            })?;
            for InFlight { timestamp, record } in records {
                self.push(Call {
                    record,
                    timestamp: timestamp.map_or(EventTime::MIN, EventTime),
                    origin: Origin::UNKNOWN,
                });
            }
        }
        self.call_some();
        Ok(())
    }

    fn process(&mut self, input: &mut Batch<In>, _output: &mut Batch<Out>) -> Result<(), TaskError> {
        let origin = self.at_hand.origin();
        for (record, timestamp) in input.drain(input.len()) {
            let origin = origin.clone();
            self.push(Call {
                record,
                timestamp,
                origin,
            });
        }
        self.call_some();
        Ok(())
    }

    fn calls(&self) -> Calls {
        if self.waiting > 0 {
            Calls::Full
        } else if self.queue.is_empty() {
            Calls::None
        } else {
            Calls::Some
        }
    }

    fn completed(&mut self, output: &mut Batch<Out>) -> Result<(), TaskError> {
        self.take_in()?;
        if self.emit_some(output) {
            self.look_again();
        }
        self.call_some();
        Ok(())
    }

    fn forward(&mut self, watermark: Watermark) -> Option<Watermark> {
        self.trim();
        if self.queue.is_empty() {
            return Some(watermark);
        }
        self.queue.push_back(Entry::Watermark(watermark));
        self.watermarks += 1;
        None
    }

    fn own_watermark(&mut self) -> Option<Watermark> {
        self.trim();
        let Some(Entry::Watermark(watermark)) = self.queue.front() else {
            return None;
        };
        let watermark = *watermark;
        self.queue.pop_front();
        self.first += 1;
        self.watermarks -= 1;
        self.trim();
        self.open_segment();
        if !self.queue.is_empty() {
            // What is behind it may be back already.
            self.look_again();
        }
        Some(watermark)
    }

    fn snapshot(
        &mut self,
        identity: &OperatorIdentity,
        _barrier: &Barrier,
    ) -> Result<Option<OperatorSnapshot>, TaskError> {
        let item = |entry: &Entry<In, Out>| match entry {
            Entry::Call(call, _) => Some(to_row(&InFlight {
                timestamp: (call.timestamp != EventTime::MIN).then_some(call.timestamp.0),
                record: call.record.clone(),
            })),
            Entry::Watermark(_) | Entry::Gone => None,
        };
        let items: Vec<_> = self.queue.iter().filter_map(item).collect();
        if items.is_empty() {
            return Ok(None);
        }
        let list = ListState {
            name: IN_FLIGHT.to_owned(),
            data_type: InFlight::<In>::data_type(),
            items,
        };
        Ok(Some(OperatorSnapshot::lists(identity, vec![list])))
    }
}
