//! Queries over windows.

use streamd::prelude::*;

use super::bids;
use crate::events::{Bid, Event};

const TEN_SECONDS: Duration = Duration::from_secs(10);

/// Counts records.
#[derive(Clone)]
struct Count;

impl<T> AggregateFunction<T> for Count {
    type Accumulator = u64;
    type Output = u64;

    fn create_accumulator(&self) -> u64 {
        0
    }

    fn add(&self, _record: T, count: &mut u64) {
        *count += 1;
    }

    fn get_result(&self, count: &u64) -> u64 {
        *count
    }

    fn merge(&self, count: &mut u64, other: u64) {
        *count += other;
    }
}

/// Hot items: the auctions with the most bids in the last ten seconds, every two seconds.
pub fn q5(events: &DataStream<Event>) -> DataStream<String> {
    let slide = Duration::from_secs(2);
    let counts = bids(events)
        .key_by(|bid| bid.auction)
        .window(SlidingEventTimeWindows::of(TEN_SECONDS, slide))
        .aggregate_with(
            Count,
            |context: &mut WindowContext<'_, u64>, count: &[u64], out: &mut Collector<'_, (i64, u64, u64)>| {
                out.collect((context.window().end, *context.key(), count[0]));
                Ok(())
            },
        )
        .uid("counts");
    // The results of one window have one timestamp: they are alone in a window of one slide.
    counts
        .window_all(TumblingEventTimeWindows::of(slide))
        .process(
            |_: &mut WindowContext<'_, ()>, counts: &[(i64, u64, u64)], out: &mut Collector<'_, String>| {
                let most = counts.iter().map(|count| count.2).max();
                for (end, auction, count) in counts.iter().filter(|count| Some(count.2) == most) {
                    out.collect(format!("{end},{auction},{count}"));
                }
                Ok(())
            },
        )
        .uid("hottest")
}

/// Keeps the higher of two bids; of equal ones, that of the smaller auction, bidder and time.
fn higher(best: &mut Bid, bid: Bid) {
    let rank = |bid: &Bid| (std::cmp::Reverse(bid.price), bid.auction, bid.bidder, bid.time);
    if rank(&bid) < rank(best) {
        *best = bid;
    }
}

/// Highest bid of every ten seconds.
pub fn q7(events: &DataStream<Event>) -> DataStream<String> {
    let windows = || TumblingEventTimeWindows::of(TEN_SECONDS);
    // First among a part of the bids, in parallel, then among the best of the parts: by price, since half of the bids are for few auctions.
    let best_of_parts = bids(events)
        .key_by(|bid| bid.price % 64)
        .window(windows())
        .reduce(higher)
        .uid("best of parts");
    best_of_parts
        .window_all(windows())
        .reduce_with(
            higher,
            |context: &mut WindowContext<'_, ()>, best: &[Bid], out: &mut Collector<'_, String>| {
                let (end, bid) = (context.window().end, &best[0]);
                out.collect(format!(
                    "{end},{},{},{},{}",
                    bid.price, bid.auction, bid.bidder, bid.time
                ));
                Ok(())
            },
        )
        .uid("best")
}

/// User sessions: how many bids each person made until silent for ten seconds.
pub fn q11(events: &DataStream<Event>) -> DataStream<String> {
    bids(events)
        .key_by(|bid| bid.bidder)
        .window(EventTimeSessionWindows::of(TEN_SECONDS))
        .aggregate_with(
            Count,
            |context: &mut WindowContext<'_, u64>, count: &[u64], out: &mut Collector<'_, String>| {
                let TimeWindow { start, end } = context.window();
                out.collect(format!("{},{},{start},{end}", context.key(), count[0]));
                Ok(())
            },
        )
        .uid("sessions")
}

/// Processing time windows: how many bids each person made in every ten seconds of the machine's clock.
pub fn q12(events: &DataStream<Event>) -> DataStream<String> {
    bids(events)
        .key_by(|bid| bid.bidder)
        .window(TumblingProcessingTimeWindows::of(TEN_SECONDS))
        .aggregate_with(
            Count,
            |context: &mut WindowContext<'_, u64>, count: &[u64], out: &mut Collector<'_, String>| {
                let TimeWindow { start, end } = context.window();
                out.collect(format!("{},{},{start},{end}", context.key(), count[0]));
                Ok(())
            },
        )
        .uid("bids by the clock")
}

/// The sum of all prices per auction and second.
pub fn wsum(events: &DataStream<Event>) -> DataStream<(u64, u64, u64)> {
    bids(events)
        .map(|bid| (bid.auction, bid.price))
        .key_by(|bid| bid.0)
        .window(TumblingEventTimeWindows::of(Duration::from_secs(1)))
        .reduce_with(
            |sum: &mut (u64, u64), bid| sum.1 += bid.1,
            |context: &mut WindowContext<'_, u64>, sum: &[(u64, u64)], out: &mut Collector<'_, (u64, u64, u64)>| {
                out.collect((context.window().end.cast_unsigned(), *context.key(), sum[0].1));
                Ok(())
            },
        )
        .uid("sums")
}
