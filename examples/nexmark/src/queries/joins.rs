//! Queries over two kinds of events.

use streamd::KeyedCoProcessFunction;
use streamd::prelude::*;

use super::{auctions, bids, persons};
use crate::events::{Auction, Bid, Event, Person};

/// A category of auctions.
const CATEGORY: u64 = 10;

/// California, Idaho and Oregon, by their place in the list of states.
const STATES: [u64; 3] = [1, 2, 3];

/// The one record of the first stream that a key has, joined with all records of the second, whichever comes first.
#[derive(Clone)]
struct JoinWithOne<A: State, B: State, F> {
    one: ValueState<A>,
    waiting: ListState<B>,
    join: F,
}

impl<A: State, B: State, F> JoinWithOne<A, B, F> {
    fn new(join: F) -> Self {
        Self {
            one: ValueState::new("one"),
            waiting: ListState::new("waiting"),
            join,
        }
    }
}

impl<A, B, F> KeyedCoProcessFunction<u64, A, B, String> for JoinWithOne<A, B, F>
where
    A: State,
    B: State,
    F: Fn(&A, &B) -> String + Clone + Send + 'static,
{
    fn open(&mut self, state: &mut KeyedStateStore<'_, u64>) -> Result<(), BoxError> {
        state.register(&mut self.one)?;
        state.register(&mut self.waiting)
    }

    fn process_element1(
        &mut self,
        one: A,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<(), BoxError> {
        let waiting = self.waiting.get(context);
        waiting.iter().for_each(|other| out.collect((self.join)(&one, other)));
        self.waiting.clear(context);
        self.one.update(context, one);
        Ok(())
    }

    fn process_element2(
        &mut self,
        other: B,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<(), BoxError> {
        match self.one.get(context) {
            Some(one) => out.collect((self.join)(one, &other)),
            None => self.waiting.add(context, other),
        }
        Ok(())
    }
}

/// Local item suggestion: what people in three states sell in one category.
pub fn q3(events: &DataStream<Event>) -> DataStream<String> {
    let sellers = persons(events).filter(|person| STATES.contains(&person.state));
    let auctions = auctions(events).filter(|auction| auction.category == CATEGORY);
    let join = JoinWithOne::new(|person: &Person, auction: &Auction| {
        format!("{},{},{},{}", person.name, person.city, person.state, auction.id)
    });
    sellers
        .connect(&auctions)
        .key_by(|person: &Person| person.id, |auction: &Auction| auction.seller)
        .process(join)
        .uid("local items")
}

/// Monitor new users: who registered and sold something within the same ten seconds.
pub fn q8(events: &DataStream<Event>) -> DataStream<String> {
    const WINDOW_MS: i64 = 10_000;
    persons(events)
        .join(&auctions(events))
        .where_key(|person: &Person| person.id)
        .equal_to(|auction: &Auction| auction.seller)
        .window(TumblingEventTimeWindows::of(Duration::from_millis(
            WINDOW_MS.unsigned_abs(),
        )))
        .co_group(
            |persons: &[&Person], auctions: &[&Auction], out: &mut Collector<'_, String>| {
                for person in persons.iter().filter(|_| !auctions.is_empty()) {
                    let end = (person.time.div_euclid(WINDOW_MS) + 1) * WINDOW_MS;
                    out.collect(format!("{end},{},{}", person.id, person.name));
                }
            },
        )
        .uid("new sellers")
}

/// How many rows the side input of query 13 has. Their values are their numbers, as text.
const SIDE_ROWS: u64 = 10_000;

/// Bounded side input join: bids with a row of a table that does not change.
pub fn q13(events: &DataStream<Event>) -> DataStream<String> {
    let side = events.environment().from_sequence(0, SIDE_ROWS - 1).uid("side input");
    let join = JoinWithOne::new(|(_, value): &(u64, String), bid: &Bid| {
        format!("{},{},{},{},{value}", bid.auction, bid.bidder, bid.price, bid.time)
    });
    side.map(|row| (row, row.to_string()))
        .connect(&bids(events))
        .key_by(|row: &(u64, String)| row.0, |bid: &Bid| bid.auction % SIDE_ROWS)
        .process(join)
        .uid("bids with rows")
}

/// Expand bids with their auction, for one category.
pub fn q20(events: &DataStream<Event>) -> DataStream<String> {
    let auctions = auctions(events).filter(|auction| auction.category == CATEGORY);
    // Bids on auctions of other categories would wait for ever: the category follows from the auction's own record, so that
    // only the join knows. Their state is the price of an unbounded join, as in the original.
    let join = JoinWithOne::new(|auction: &Auction, bid: &Bid| {
        format!(
            "{},{},{},{},{},{}",
            bid.auction, bid.bidder, bid.price, bid.time, auction.seller, auction.category
        )
    });
    auctions
        .connect(&bids(events))
        .key_by(|auction: &Auction| auction.id, |bid: &Bid| bid.auction)
        .process(join)
        .uid("expanded bids")
}
