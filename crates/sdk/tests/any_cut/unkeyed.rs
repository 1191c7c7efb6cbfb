//! Operator state, broadcast state, and calls in flight.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use streamd::prelude::*;
use streamd::{
    AsyncDataStream, AsyncFunction, BroadcastContext, BroadcastProcessFunction, BroadcastState, KeyedBroadcastContext,
    KeyedBroadcastProcessFunction,
};

use crate::events::Event;
use crate::trial::{Done, config, trials};

/// Keeps what it gets in a list until the end, and counts it in a union list: of that one subtask takes on what all had.
#[derive(Clone)]
struct Keeps {
    waiting: OperatorListState<Event>,
    counts: OperatorListState<u64>,
}

impl ProcessFunction<Event, String> for Keeps {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Done {
        state.get_list_state(&mut self.waiting)?;
        state.get_union_list_state(&mut self.counts)
    }

    fn initialize_state(&mut self, context: &mut ProcessContext<'_>) -> Done {
        let all = self.counts.clear(context).iter().sum();
        if context.runtime_context().index_of_this_subtask() == 0 {
            self.counts.add(context, all);
        }
        Ok(())
    }

    fn process_element(
        &mut self,
        event: Event,
        context: &mut ProcessContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Done {
        self.waiting.add(context, event);
        self.counts.add(context, 1);
        Ok(())
    }

    fn end_of_input(&mut self, context: &mut ProcessContext<'_>, out: &mut Collector<'_, String>) -> Done {
        self.waiting
            .clear(context)
            .into_iter()
            .for_each(|event| out.collect(event.0.to_string()));
        // One line each, to be counted.
        let count: u64 = self.counts.clear(context).iter().sum();
        (0..count).for_each(|_| out.collect("counted".to_owned()));
        Ok(())
    }
}

/// Keeps events until the end; then each is told with all numbers that were broadcast.
#[derive(Clone)]
struct Told {
    waiting: OperatorListState<u64>,
    numbers: BroadcastState<u64, u32>,
}

impl BroadcastProcessFunction<Event, Event, String> for Told {
    fn open(&mut self, state: &mut OperatorStateStore<'_>) -> Done {
        state.get_list_state(&mut self.waiting)?;
        state.get_broadcast_state(&mut self.numbers)
    }

    fn process_element(
        &mut self,
        event: Event,
        context: &mut ProcessContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Done {
        self.waiting.add(context, event.0);
        Ok(())
    }

    fn process_broadcast_element(
        &mut self,
        event: Event,
        context: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Done {
        self.numbers.put(context, event.0, event.1);
        Ok(())
    }

    fn end_of_input(&mut self, context: &mut ProcessContext<'_>, out: &mut Collector<'_, String>) -> Done {
        for number in self.waiting.clear(context) {
            out.collect(told(number, self.numbers.entries(context).keys()));
        }
        Ok(())
    }
}

/// As [`Told`], with the events in the state of their keys.
#[derive(Clone)]
struct ToldByKey {
    waiting: ListState<u64>,
    numbers: BroadcastState<u64, u32>,
}

impl KeyedBroadcastProcessFunction<u32, Event, Event, String> for ToldByKey {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u32>) -> Done {
        state.register(&mut self.waiting)?;
        state.use_timers()?;
        state.operator_state().get_broadcast_state(&mut self.numbers)
    }

    fn process_element(
        &mut self,
        event: Event,
        context: &mut KeyedContext<'_, u32>,
        _: &mut Collector<'_, String>,
    ) -> Done {
        self.waiting.add(context, event.0);
        context.timer_service().register_event_time_timer(EventTime(i64::MAX));
        Ok(())
    }

    fn process_broadcast_element(
        &mut self,
        event: Event,
        context: &mut KeyedBroadcastContext<'_, u32>,
        _: &mut Collector<'_, String>,
    ) -> Done {
        self.numbers.put(context, event.0, event.1);
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, context: &mut KeyedContext<'_, u32>, out: &mut Collector<'_, String>) -> Done {
        for number in self.waiting.get(context).to_vec() {
            out.collect(told(number, self.numbers.entries(context).keys()));
        }
        Ok(())
    }
}

fn told<'a>(number: u64, numbers: impl Iterator<Item = &'a u64>) -> String {
    format!("{number} {:?}", numbers.collect::<Vec<_>>())
}

/// Answers in a while, once it may, and some calls later than those after them.
#[derive(Clone)]
pub struct LookUp {
    pub may_answer: Arc<AtomicBool>,
}

impl AsyncFunction<Event, String> for LookUp {
    async fn async_invoke(&self, event: Event) -> std::result::Result<Vec<String>, BoxError> {
        tokio::time::sleep(Duration::from_millis(event.0 % 4)).await;
        while !self.may_answer.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok((0..event.0 % 3).map(|answer| format!("{} {answer}", event.0)).collect())
    }
}

/// How long anything may take: for ever.
const HOUR: Duration = Duration::from_secs(3600);

pub fn kept_in_lists(events: &DataStream<Event>) -> DataStream<String> {
    let waiting = OperatorListState::new("waiting");
    let counts = OperatorListState::new("counts");
    events.process(Keeps { waiting, counts }).uid("kept in lists")
}

pub fn kept(events: &[Event]) -> impl Iterator<Item = String> {
    events
        .iter()
        .flat_map(|event| [event.0.to_string(), "counted".to_owned()])
}

/// The numbers that are broadcast, and the events that are told with them.
fn rules(events: &DataStream<Event>) -> (DataStream<Event>, DataStream<Event>) {
    (events.filter(|event| event.1 == 0), events.filter(|event| event.1 != 0))
}

pub fn broadcast(events: &DataStream<Event>) -> DataStream<String> {
    let (waiting, numbers) = (OperatorListState::new("waiting"), BroadcastState::new("numbers"));
    let (rules, events) = rules(events);
    let told = events.connect_broadcast(&rules).process(Told { waiting, numbers });
    told.uid("broadcast")
}

pub fn broadcast_to_keys(events: &DataStream<Event>) -> DataStream<String> {
    let (waiting, numbers) = (ListState::new("waiting"), BroadcastState::new("numbers"));
    let (rules, events) = rules(events);
    let keyed = events.key_by(|event| event.1).connect_broadcast(&rules);
    keyed.process(ToldByKey { waiting, numbers }).uid("broadcast to keys")
}

pub fn all_told(events: &[Event]) -> impl Iterator<Item = String> {
    let of_rules = events.iter().filter(|event| event.1 == 0);
    let numbers: BTreeSet<u64> = of_rules.map(|event| event.0).collect();
    let others = events.iter().filter(|event| event.1 != 0);
    others.map(move |event| told(event.0, numbers.iter()))
}

pub fn answered_in_order(events: &DataStream<Event>, look_up: LookUp, capacity: usize) -> DataStream<String> {
    AsyncDataStream::ordered_wait(events, look_up, HOUR, capacity).uid("answered in order")
}

pub fn answered(events: &DataStream<Event>, look_up: LookUp, capacity: usize) -> DataStream<String> {
    AsyncDataStream::unordered_wait(events, look_up, HOUR, capacity).uid("answered")
}

pub fn answers(events: &[Event]) -> impl Iterator<Item = String> {
    let answers = |number: u64| (0..number % 3).map(move |answer| format!("{number} {answer}"));
    events.iter().flat_map(move |event| answers(event.0))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn lists_are_dealt_out_and_given_to_all(trial in trials()) {
        trial.check(kept(trial.events()), kept_in_lists)?;
    }

    #[test]
    fn what_is_broadcast_is_known_everywhere(trial in trials(), keyed in any::<bool>()) {
        trial.check(all_told(trial.events()), if keyed { broadcast_to_keys } else { broadcast })?;
    }

    #[test]
    fn calls_in_flight_are_made_again(trial in trials(), ordered in any::<bool>(), capacity in 1usize..20) {
        trial.check(answers(trial.events()), |events| {
            let look_up = LookUp { may_answer: Arc::new(AtomicBool::new(true)) };
            match ordered {
                true => answered_in_order(events, look_up, capacity),
                false => answered(events, look_up, capacity),
            }
        })?;
    }
}
