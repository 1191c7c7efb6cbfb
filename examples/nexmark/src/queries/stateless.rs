//! Queries without state.

use streamd::prelude::*;

use super::bids;
use crate::events::{Bid, Event};

/// Auction, bidder, price and time of a bid.
type BidRow = (u64, u64, u64, u64);

fn row(bid: &Bid) -> BidRow {
    (bid.auction, bid.bidder, bid.price, bid.time.cast_unsigned())
}

/// Pass through: every bid.
pub fn q0(events: &DataStream<Event>) -> DataStream<BidRow> {
    bids(events).map(|bid| row(&bid))
}

/// Currency conversion: every bid with its price in another currency.
pub fn q1(events: &DataStream<Event>) -> DataStream<BidRow> {
    bids(events).map(|mut bid| {
        bid.price = bid.price * 908 / 1000;
        row(&bid)
    })
}

/// Selection: bids on certain auctions.
pub fn q2(events: &DataStream<Event>) -> DataStream<(u64, u64)> {
    bids(events)
        .filter(|bid| bid.auction.is_multiple_of(123))
        .map(|bid| (bid.auction, bid.price))
}
