//! The queries, by kind; each turns the events into lines.

mod joins;
mod stateless;
mod top;
mod windows;

use streamd::prelude::*;

use crate::events::{Auction, Bid, Event, Person};

type Query = fn(&DataStream<Event>) -> DataStream<String>;

/// By name, in order.
const QUERIES: [(&str, Query); 14] = [
    ("q0", stateless::q0),
    ("q1", stateless::q1),
    ("q2", stateless::q2),
    ("q3", joins::q3),
    ("q5", windows::q5),
    ("q7", windows::q7),
    ("q8", joins::q8),
    ("q11", windows::q11),
    ("q12", windows::q12),
    ("q13", joins::q13),
    ("q18", top::q18),
    ("q19", top::q19),
    ("q20", joins::q20),
    ("wsum", windows::wsum),
];

/// The names of all queries.
pub fn names() -> Vec<&'static str> {
    QUERIES.iter().map(|(name, _)| *name).collect()
}

/// The results of a query, as lines.
pub fn run(name: &str, events: &DataStream<Event>) -> DataStream<String> {
    let known = QUERIES.iter().find(|(known, _)| *known == name);
    let (_, query) = known.expect("the arguments were checked against these names");
    query(events)
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
