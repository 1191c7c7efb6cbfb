//! The events, bit for bit those of every other implementation of the definition: event `n` is a function of `n`.

use std::hint::select_unpredictable;

use streamd::prelude::*;

/// The constant of the definition's generator.
pub const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const SEED: u64 = 0x6E_6578_6D61_726B;
/// The time of the first event.
const BASE_TIME_MS: i64 = 1_700_000_000_000;
/// Events per millisecond.
const EVENTS_PER_MS: u64 = 10;

/// A person, an auction or a bid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    Person(Person),
    Auction(Auction),
    Bid(Bid),
}

/// Somebody who has registered.
#[derive(Debug, Clone, PartialEq, State, Serialize, Deserialize)]
pub struct Person {
    pub id: u64,
    pub name: String,
    pub city: u64,
    pub state: u64,
    pub time: i64,
}

/// Something that is for sale.
#[derive(Debug, Clone, PartialEq, State, Serialize, Deserialize)]
pub struct Auction {
    pub id: u64,
    pub seller: u64,
    pub category: u64,
    pub time: i64,
}

/// An offer for it.
#[derive(Debug, Clone, PartialEq, State, Serialize, Deserialize)]
pub struct Bid {
    pub auction: u64,
    pub bidder: u64,
    pub price: u64,
    pub time: i64,
}

impl Event {
    /// When it happened, in milliseconds since 1970.
    pub fn time(&self) -> i64 {
        match self {
            Self::Person(person) => person.time,
            Self::Auction(auction) => auction.time,
            Self::Bid(bid) => bid.time,
        }
    }
}

/// The definition's hash of a number.
pub fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// Random number `j` of event `n`, below 2^63.
fn random(n: u64, j: u64) -> u64 {
    let index = n.wrapping_mul(8).wrapping_add(j);
    mix(SEED.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN))) >> 1
}

/// The first of the last hundred, three times in four, else one of the last so many.
#[inline]
fn person_for(n: u64, persons: u64, (chance, choice): (u64, u64), hot: u64) -> u64 {
    let first = 1000 + (persons - 1) / 100 * 100 + hot;
    let other = 1000 + persons - 1 - below::<1000>(random(n, choice), persons);
    select_unpredictable(!random(n, chance).is_multiple_of(4), first, other)
}

/// A random number below `count`, and below `MOST`: dividing by a constant takes a fraction of the time.
#[inline]
fn below<const MOST: u64>(random: u64, count: u64) -> u64 {
    if count < MOST {
        remainder(random, count)
    } else {
        random % MOST
    }
}

/// For the first few events. Out of line, or the compiler would make one division by a variable of the two.
#[cold]
#[inline(never)]
fn remainder(random: u64, count: u64) -> u64 {
    random % count
}

/// `p` and the sixteen hexadecimal digits of a number: `format!` would take a twentieth of the time of all events.
fn name(number: u64) -> String {
    let digit = |place: u32| char::from(b"0123456789abcdef"[(number >> (4 * place)) as usize & 0xF]);
    let mut name = String::with_capacity(17);
    name.push('p');
    name.extend((0..16).rev().map(digit));
    name
}

/// Event number `n`.
#[inline]
pub fn event(n: u64) -> Event {
    let (epoch, offset) = (n / 50, n % 50);
    let persons = epoch + 1;
    let time = BASE_TIME_MS + (n / EVENTS_PER_MS) as i64;
    match offset {
        0 => Event::Person(Person {
            id: 1000 + epoch,
            name: name(random(n, 0)),
            city: random(n, 1) % 10,
            state: random(n, 2) % 6,
            time,
        }),
        1..=3 => Event::Auction(Auction {
            id: 1000 + 3 * epoch + offset - 1,
            seller: person_for(n, persons, (0, 1), 0),
            category: 10 + random(n, 2) % 5,
            time,
        }),
        _bid => {
            let auctions = 3 * epoch + 3;
            let first = 1000 + (auctions - 1) / 100 * 100;
            let other = 1000 + auctions - 1 - below::<100>(random(n, 1), auctions);
            let auction = select_unpredictable(!random(n, 0).is_multiple_of(2), first, other);
            Event::Bid(Bid {
                auction,
                bidder: person_for(n, persons, (2, 3), 1),
                price: 100 + random(n, 4) % 10_000_000,
                time,
            })
        }
    }
}
