//! Tells every subtask a hundredth of the numbers, and asks each key at the end what its subtask was told: the same, everywhere.

use streamd::prelude::*;
use streamd::{BroadcastState, KeyedBroadcastContext, KeyedBroadcastProcessFunction};

use crate::output::{Output, attempt};
use crate::record::{Numbers, Record};

/// One record in so many is told to everybody.
const TOLD_ONE_IN: u64 = 100;

/// When each key is asked: after everything else.
const LAST: EventTime = EventTime(i64::MAX - 1);

#[derive(Clone)]
struct Told {
    seen: ValueState<(u64, u64)>,
    told: BroadcastState<u64, u64>,
}

impl KeyedBroadcastProcessFunction<u64, Record, Record, Output> for Told {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Result<(), BoxError> {
        state.use_timers()?;
        state.register(&mut self.seen)?;
        state.operator_state().get_broadcast_state(&mut self.told)
    }

    fn process_element(
        &mut self,
        record: Record,
        context: &mut KeyedContext<'_, u64>,
        _out: &mut Collector<'_, Output>,
    ) -> Result<(), BoxError> {
        let (records, sum) = self.seen.get_or_default(context);
        *records += 1;
        *sum = sum.wrapping_add(record.canary);
        context.timer_service().register_event_time_timer(LAST);
        Ok(())
    }

    fn process_broadcast_element(
        &mut self,
        record: Record,
        context: &mut KeyedBroadcastContext<'_, u64>,
        _out: &mut Collector<'_, Output>,
    ) -> Result<(), BoxError> {
        match self.told.put(context, record.seq, record.canary) {
            None => Ok(()),
            Some(_) => Err(format!("{record:?} is told twice").into()),
        }
    }

    fn on_timer(
        &mut self,
        _timer: Timer,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Output>,
    ) -> Result<(), BoxError> {
        let (records, sum) = self.seen.get(context).copied().unwrap_or_default();
        let told = self.told.entries(context).values();
        out.collect(Output {
            key: *context.key(),
            ordinal: records,
            digest: told.fold(sum, |sum, canary| sum.wrapping_add(*canary)),
            split: 0,
            seq: self.told.entries(context).len() as i64,
            watermark: None,
            attempt: attempt(context.runtime_context()),
        });
        Ok(())
    }
}

/// An output for each key.
pub fn broadcast(records: &DataStream<Record>, numbers: &Numbers) -> DataStream<Output> {
    let told = Numbers {
        seed: numbers.seed + 1,
        records: numbers.records.map(|records| records / TOLD_ONE_IN),
        splits: 1,
        ..numbers.clone()
    };
    let make = told.clone();
    let source = GeneratorSource::new(told.records, move |number| make.record(number)).splits(1);
    let told = records
        .environment()
        .from_source(source, "told")
        .uid("told")
        .set_parallelism(1);
    records
        .key_by(|record| record.key)
        .connect_broadcast(&told)
        .process(Told {
            seen: ValueState::new("seen"),
            told: BroadcastState::new("told"),
        })
        .uid("asked")
}
