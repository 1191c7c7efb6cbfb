//! The queries, by kind; each turns the events into rows of numbers or into lines.

mod joins;
mod stateless;
mod top;
mod windows;

use streamd::prelude::*;

use crate::events::{Auction, Bid, Event, Person};
use crate::results::Results;

type Query = fn(&DataStream<Event>, &Results);

/// By name, in order.
const QUERIES: [(&str, Query); 14] = [
    ("q0", |events, results| results.rows(&stateless::q0(events))),
    ("q1", |events, results| results.rows(&stateless::q1(events))),
    ("q2", |events, results| results.rows(&stateless::q2(events))),
    ("q3", |events, results| results.lines(&joins::q3(events))),
    ("q5", |events, results| results.lines(&windows::q5(&in_time(events)))),
    ("q7", |events, results| results.lines(&windows::q7(&in_time(events)))),
    ("q8", |events, results| results.lines(&joins::q8(&in_time(events)))),
    ("q11", |events, results| results.lines(&windows::q11(&in_time(events)))),
    ("q12", |events, results| results.lines(&windows::q12(events))),
    ("q13", |events, results| results.lines(&joins::q13(events))),
    ("q18", |events, results| results.lines(&top::q18(events))),
    ("q19", |events, results| results.lines(&top::q19(events))),
    ("q20", |events, results| results.lines(&joins::q20(events))),
    ("wsum", |events, results| results.rows(&windows::wsum(&in_time(events)))),
];

/// The names of all queries.
pub fn names() -> Vec<&'static str> {
    QUERIES.iter().map(|(name, _)| *name).collect()
}

/// Puts a query between the events and where its results go.
pub fn run(name: &str, events: &DataStream<Event>, results: &Results) {
    let known = QUERIES.iter().find(|(known, _)| *known == name);
    let (_, query) = known.expect("the arguments were checked against these names");
    query(events, results);
}

/// The events with their timestamps, for the queries that have windows of them: the others need none.
fn in_time(events: &DataStream<Event>) -> DataStream<Event> {
    events.assign_timestamps_and_watermarks(
        WatermarkStrategy::for_monotonous_timestamps().with_timestamp_assigner(|event: &Event, _| event.time()),
    )
}

fn persons(events: &DataStream<Event>) -> DataStream<Person> {
    events.flat_map(|event, out: &mut Collector<'_, Person>| {
        if let Event::Person(person) = event {
            out.collect(person);
        }
    })
}

fn auctions(events: &DataStream<Event>) -> DataStream<Auction> {
    events.flat_map(|event, out: &mut Collector<'_, Auction>| {
        if let Event::Auction(auction) = event {
            out.collect(auction);
        }
    })
}

fn bids(events: &DataStream<Event>) -> DataStream<Bid> {
    events.flat_map(|event, out: &mut Collector<'_, Bid>| {
        if let Event::Bid(bid) = event {
            out.collect(bid);
        }
    })
}
