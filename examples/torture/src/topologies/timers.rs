//! What the window does, by timers: one that is lost leaves its second out, one that fires twice finds nothing the second time, and
//! one that fires early does not find all.

use streamd::prelude::*;

use crate::output::{Output, attempt, watermark};
use crate::record::Record;

const SECOND_MS: i64 = 1_000;

#[derive(Clone)]
struct Seconds {
    /// Records and sum of canaries, by the second they are in.
    seconds: MapState<i64, (u64, u64)>,
}

impl KeyedProcessFunction<u64, Record, Output> for Seconds {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Result<(), BoxError> {
        state.use_timers()?;
        state.register(&mut self.seconds)
    }

    fn process_element(
        &mut self,
        record: Record,
        context: &mut KeyedContext<'_, u64>,
        _out: &mut Collector<'_, Output>,
    ) -> Result<(), BoxError> {
        let start = record.time.div_euclid(SECOND_MS) * SECOND_MS;
        let (records, sum) = self.seconds.get_or_default(context, start);
        *records += 1;
        *sum = sum.wrapping_add(record.canary);
        let last = EventTime(start + SECOND_MS - 1);
        context.timer_service().register_event_time_timer(last);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Output>,
    ) -> Result<(), BoxError> {
        let Timer::EventTime(last) = timer else {
            return Err("a timer that nobody has registered".into());
        };
        let now = context.timer_service().current_watermark();
        if now < last {
            return Err(format!("the timer of {} fires at {}", last.0, now.0).into());
        }
        let start = last.0 + 1 - SECOND_MS;
        let Some((records, sum)) = self.seconds.remove(context, &start) else {
            return Err(format!("the timer of {} fires again", last.0).into());
        };
        out.collect(Output {
            key: *context.key(),
            ordinal: records,
            digest: sum,
            split: 0,
            seq: start,
            watermark: watermark(now),
            attempt: attempt(context.runtime_context()),
        });
        Ok(())
    }
}

/// An output for each key and second.
pub fn timers(records: &DataStream<Record>) -> DataStream<Output> {
    records
        .key_by(|record| record.key)
        .process(Seconds {
            seconds: MapState::new("seconds"),
        })
        .uid("timers")
}
