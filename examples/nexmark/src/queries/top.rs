//! Queries for the last or the best records of a key, told when the input has ended.

use streamd::prelude::*;

use super::bids;
use crate::events::{Bid, Event};

/// How many bids of an auction are kept.
const BEST: usize = 10;

fn line(bid: &Bid) -> String {
    format!("{},{},{},{}", bid.auction, bid.bidder, bid.price, bid.time)
}

/// Keeps the last bid of a key, by time and then by price.
#[derive(Clone)]
struct Last {
    last: ValueState<Bid>,
}

impl KeyedProcessFunction<(u64, u64), Bid, String> for Last {
    fn open(&mut self, state: &mut KeyedStateStore<'_, (u64, u64)>) -> Result<(), BoxError> {
        state.register(&mut self.last)
    }

    fn process_element(
        &mut self,
        bid: Bid,
        context: &mut KeyedContext<'_, (u64, u64)>,
        _out: &mut Collector<'_, String>,
    ) -> Result<(), BoxError> {
        let last = self.last.get_or_insert_with(context, || bid.clone());
        if (bid.time, bid.price) > (last.time, last.price) {
            *last = bid;
        }
        Ok(())
    }

    fn end_of_input(
        &mut self,
        all: &mut AllKeys<'_, (u64, u64)>,
        out: &mut Collector<'_, String>,
    ) -> Result<(), BoxError> {
        all.for_each(&self.last, |_, bid| out.collect(line(bid)));
        Ok(())
    }
}

/// Find the last bid of each bidder on each auction.
pub fn q18(events: &DataStream<Event>) -> DataStream<String> {
    let last = Last {
        last: ValueState::new("last"),
    };
    bids(events)
        .key_by(|bid| (bid.bidder, bid.auction))
        .process(last)
        .uid("last bids")
}

/// Keeps the highest bids of an auction; of equal ones, the earlier and then that of the smaller bidder.
#[derive(Clone)]
struct Highest {
    bids: ValueState<Vec<Bid>>,
}

impl KeyedProcessFunction<u64, Bid, String> for Highest {
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Result<(), BoxError> {
        state.register(&mut self.bids)
    }

    fn process_element(
        &mut self,
        bid: Bid,
        context: &mut KeyedContext<'_, u64>,
        _out: &mut Collector<'_, String>,
    ) -> Result<(), BoxError> {
        let rank = |bid: &Bid| (std::cmp::Reverse(bid.price), bid.time, bid.bidder);
        let bids = self.bids.get_or_default(context);
        let place = bids.partition_point(|other| rank(other) <= rank(&bid));
        if place < BEST {
            bids.truncate(BEST - 1);
            bids.insert(place, bid);
        }
        Ok(())
    }

    fn end_of_input(&mut self, all: &mut AllKeys<'_, u64>, out: &mut Collector<'_, String>) -> Result<(), BoxError> {
        all.for_each(&self.bids, |_, bids| {
            for (rank, bid) in (1..).zip(bids) {
                out.collect(format!("{},{rank}", line(bid)));
            }
        });
        Ok(())
    }
}

/// Auction top ten: the ten highest bids of each auction, with their rank.
pub fn q19(events: &DataStream<Event>) -> DataStream<String> {
    let highest = Highest {
        bids: ValueState::new("highest"),
    };
    bids(events)
        .key_by(|bid| bid.auction)
        .process(highest)
        .uid("highest bids")
}
