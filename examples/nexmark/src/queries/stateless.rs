//! Queries without state.

use streamd::prelude::*;

use super::bids;
use crate::events::{Bid, Event};

fn line(bid: &Bid) -> String {
    format!("{},{},{},{}", bid.auction, bid.bidder, bid.price, bid.time)
}

/// Pass through: every bid.
pub fn q0(events: &DataStream<Event>) -> DataStream<String> {
    bids(events).map(|bid| line(&bid))
}

/// Currency conversion: every bid with its price in another currency.
pub fn q1(events: &DataStream<Event>) -> DataStream<String> {
    bids(events).map(|mut bid| {
        bid.price = bid.price * 908 / 1000;
        line(&bid)
    })
}

/// Selection: bids on certain auctions.
pub fn q2(events: &DataStream<Event>) -> DataStream<String> {
    bids(events)
        .filter(|bid| bid.auction.is_multiple_of(123))
        .map(|bid| format!("{},{}", bid.auction, bid.price))
}
