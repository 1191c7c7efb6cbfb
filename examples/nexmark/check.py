#!/usr/bin/env python3
"""Compares the results of a Nexmark query with those of a plain computation over the same events.

    check.py QUERY EVENTS FOLDER     the files of FOLDER must hold exactly these lines, in any order
    check.py QUERY EVENTS            prints how many lines there must be, and the first of them
"""

import collections
import glob
import os
import sys

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
SEED = 0x6E65786D61726B

Person = collections.namedtuple("Person", "id name city state time")
Auction = collections.namedtuple("Auction", "id seller category time")
Bid = collections.namedtuple("Bid", "auction bidder price time")


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def event(n):
    def r(j):
        return mix((SEED + (n * 8 + j + 1) * GOLDEN) & MASK) >> 1

    epoch, off = divmod(n, 50)
    persons, time = epoch + 1, 1_700_000_000_000 + n // 10
    if off == 0:
        return Person(1000 + epoch, "p%016x" % r(0), r(1) % 10, r(2) % 6, time)
    if off <= 3:
        hot = r(0) % 4 != 0
        seller = 1000 + (persons - 1) // 100 * 100 if hot else 1000 + persons - 1 - r(1) % min(persons, 1000)
        return Auction(1000 + 3 * epoch + off - 1, seller, 10 + r(2) % 5, time)
    auctions = 3 * epoch + 3
    hot = r(0) % 2 != 0
    auction = 1000 + (auctions - 1) // 100 * 100 if hot else 1000 + auctions - 1 - r(1) % min(auctions, 100)
    hot = r(2) % 4 != 0
    bidder = 1000 + (persons - 1) // 100 * 100 + 1 if hot else 1000 + persons - 1 - r(3) % min(persons, 1000)
    return Bid(auction, bidder, 100 + r(4) % 10_000_000, time)


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def end_of(time, size):
    return (time // size + 1) * size


def q0(events):
    return ["%d,%d,%d,%d" % bid for bid in of(Bid, events)]


def q1(events):
    return ["%d,%d,%d,%d" % (b.auction, b.bidder, b.price * 908 // 1000, b.time) for b in of(Bid, events)]


def q2(events):
    return ["%d,%d" % (b.auction, b.price) for b in of(Bid, events) if b.auction % 123 == 0]


def q3(events):
    sellers = {p.id: p for p in of(Person, events) if p.state in (1, 2, 3)}
    found = [(sellers.get(a.seller), a) for a in of(Auction, events) if a.category == 10]
    return ["%s,%d,%d,%d" % (p.name, p.city, p.state, a.id) for p, a in found if p]


def q5(events):
    counts = collections.defaultdict(collections.Counter)
    for bid in of(Bid, events):
        first = end_of(bid.time, 2000)
        for end in range(first, first + 10000, 2000):
            counts[end][bid.auction] += 1
    lines = []
    for end, window in counts.items():
        most = max(window.values())
        lines += ["%d,%d,%d" % (end, auction, count) for auction, count in window.items() if count == most]
    return lines


def q7(events):
    best = {}
    for bid in of(Bid, events):
        end = end_of(bid.time, 10000)
        rank = (-bid.price, bid.auction, bid.bidder, bid.time)
        best[end] = min(best.get(end, rank), rank)
    return ["%d,%d,%d,%d,%d" % (end, -rank[0], *rank[1:]) for end, rank in best.items()]


def q8(events):
    sold = {(a.seller, end_of(a.time, 10000)) for a in of(Auction, events)}
    ends = [(end_of(p.time, 10000), p) for p in of(Person, events)]
    return ["%d,%d,%s" % (end, p.id, p.name) for end, p in ends if (p.id, end) in sold]


def q11(events):
    sessions = collections.defaultdict(list)
    for bid in of(Bid, events):
        known = sessions[bid.bidder]
        if known and bid.time <= known[-1][1]:
            known[-1][1] = bid.time + 10000
            known[-1][2] += 1
        else:
            known.append([bid.time, bid.time + 10000, 1])
    return ["%d,%d,%d,%d" % (key, n, start, end) for key, known in sessions.items() for start, end, n in known]


def q12(events):
    """Windows go by the clock of the machine: only the sums over all of them are known."""
    return ["%d,%d" % pair for pair in collections.Counter(bid.bidder for bid in of(Bid, events)).items()]


def sums_of_q12(lines):
    counts = collections.Counter()
    for line in lines:
        bidder, count, start, end = map(int, line.split(","))
        if (end - start, start % 10000) != (10000, 0):
            sys.exit("q12: no window of ten seconds: %s" % line)
        counts[bidder] += count
    return ["%d,%d" % pair for pair in counts.items()]


def q13(events):
    return ["%d,%d,%d,%d,%d" % (*bid, bid.auction % 10000) for bid in of(Bid, events)]


def q18(events):
    last = {}
    for bid in of(Bid, events):
        key = (bid.bidder, bid.auction)
        if key not in last or (bid.time, bid.price) > (last[key].time, last[key].price):
            last[key] = bid
    return ["%d,%d,%d,%d" % bid for bid in last.values()]


def q19(events):
    by_auction = collections.defaultdict(list)
    for bid in of(Bid, events):
        by_auction[bid.auction].append(bid)
    lines = []
    for bids in by_auction.values():
        bids.sort(key=lambda bid: (-bid.price, bid.time, bid.bidder))
        lines += ["%d,%d,%d,%d,%d" % (*bid, rank) for rank, bid in enumerate(bids[:10], 1)]
    return lines


def q20(events):
    auctions = {a.id: a for a in of(Auction, events) if a.category == 10}
    found = [(bid, auctions.get(bid.auction)) for bid in of(Bid, events)]
    return ["%d,%d,%d,%d,%d,%d" % (*bid, a.seller, a.category) for bid, a in found if a]


def wsum(events):
    sums = collections.Counter()
    for bid in of(Bid, events):
        sums[end_of(bid.time, 1000), bid.auction] += bid.price
    return ["%d,%d,%d" % (end, auction, price) for (end, auction), price in sums.items()]


def main():
    if len(sys.argv) not in (3, 4) or not callable(globals().get(sys.argv[1])):
        sys.exit(__doc__)
    query, count = sys.argv[1], int(sys.argv[2])
    expected = sorted(globals()[query]([event(n) for n in range(count)]))
    if len(sys.argv) == 3:
        print("%s: %d lines, the first: %s" % (query, len(expected), expected[:1]))
        return
    found = []
    for path in glob.glob(os.path.join(glob.escape(sys.argv[3]), "[!.]*")):
        with open(path, encoding="utf-8") as lines:
            found += lines.read().splitlines()
    if query == "q12":
        found = sums_of_q12(found)
    found.sort()
    if found != expected:
        wrong = next((pair for pair in zip(found, expected) if pair[0] != pair[1]), None)
        sys.exit("%s: %d lines instead of %d; first difference: %s" % (query, len(found), len(expected), wrong))
    print("%s: %d lines: exact" % (query, len(found)))


if __name__ == "__main__":
    main()
