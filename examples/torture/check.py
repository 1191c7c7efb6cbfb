#!/usr/bin/env python3
"""Checks what the torture application has written against a plain computation over the same records.

    check.py TOPOLOGY --records N [--seed S] [--keys K] [--splits S] [--skew P] [--so-far] [--from-files] FOLDER…
        the files of the folders, together, must hold exactly what comes out of a job that has ended.
        --so-far: of one that still runs or was killed, for the topologies that number records (count, chain2):
        nothing doubled, nothing left out before anything that is there
        --from-files: of one with --source files. The records of a split are in several files, which the subtasks
        read side by side: the order of a split is not looked at
    check.py generate --records N [--seed S] [--keys K] [--splits S] [--skew P] FOLDER
        writes the records to files, for --source files

With `--topology twosinks` the folders of both sinks are checked, each by itself.
"""

import argparse
import collections
import glob
import json
import os
import sys

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
JITTER_MS = 50
TOTAL = MASK

Record = collections.namedtuple("Record", "split seq key time canary")


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def digest(before, value):
    return mix(((before * GOLDEN) & MASK) ^ value)


def records(seed, count, keys, splits, skew):
    for n in range(count):
        chance = mix((seed + (n + 1) * GOLDEN) & MASK)
        key = 0 if chance % 100 < skew else mix(chance) % keys
        seq, split = divmod(n, splits)
        canary = digest(digest(digest(seed, split), seq), key)
        yield Record(split, seq, key, n - (chance >> 32) % JITTER_MS, canary)


def read(folder):
    outputs = []
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "**", "[!.]*"), recursive=True)):
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as lines:
                outputs += [json.loads(line) for line in lines]
    return outputs


def fields(output):
    return tuple(output[name] for name in ("key", "ordinal", "digest", "split", "seq"))


def fail(what):
    sys.exit("wrong: " + what)


def same(found, expected):
    """Both hold the same, as often."""
    found, expected = collections.Counter(map(fields, found)), collections.Counter(expected)
    for what, difference in (("missing", expected - found), ("too many", found - expected)):
        if difference:
            fail("%d outputs %s, for example %s" % (sum(difference.values()), what, min(difference)))


def numbered(outputs, args):
    """The records of each key are numbered without a gap, each is there once, and those of a split are in order, but for files."""
    known = {(r.split, r.seq): r for r in records(args.seed, args.records, args.keys, args.splits, args.skew)}
    by_key = collections.defaultdict(list)
    for output in outputs:
        by_key[output["key"]].append(output)
    for key, outputs in by_key.items():
        outputs.sort(key=lambda output: output["ordinal"])
        running, last, times = 0, {}, {}
        for ordinal, output in enumerate(outputs, 1):
            if output["ordinal"] != ordinal:
                fail("key %d has ordinal %d where %d is due" % (key, output["ordinal"], ordinal))
            record = known.pop((output["split"], output["seq"]), None)
            if record is None or record.key != key:
                fail("record %d of split %d is there again, or not of key %d" % (output["seq"], output["split"], key))
            if output["seq"] <= last.get(output["split"], -1) and not args.from_files:
                fail("record %d of split %d has overtaken another" % (output["seq"], output["split"]))
            last[output["split"]] = output["seq"]
            time = -(1 << 63) if output["watermark"] is None else output["watermark"]
            if time < times.get(output["attempt"], time):
                fail("the watermark falls to %d in attempt %s" % (time, output["attempt"]))
            times[output["attempt"]] = time
            running = digest(running, record.canary)
            if output["digest"] != running:
                fail("the digest of key %d is wrong from ordinal %d on" % (key, ordinal))
    if known and not args.so_far:
        fail("%d records are missing, for example %s" % (len(known), min(known.values())))


def count(outputs, args):
    numbered(outputs, args)


def chain2(outputs, args):
    totals = [output["ordinal"] for output in outputs if output["key"] == TOTAL]
    numbered([output for output in outputs if output["key"] != TOTAL], args)
    if not args.so_far and sum(totals) != args.records:
        fail("%d outputs went by, and %d were counted" % (args.records, sum(totals)))


def all_records(args, seed=None):
    return records(seed or args.seed, args.records, args.keys, args.splits, args.skew)


def in_windows(outputs, args):
    windows = collections.defaultdict(lambda: [0, 0])
    for record in all_records(args):
        window = windows[record.key, record.time // 1000 * 1000]
        window[0] += 1
        window[1] = (window[1] + record.canary) & MASK
    same(outputs, [(key, count, total, 0, start) for (key, start), (count, total) in windows.items()])


def join(outputs, args):
    others = collections.defaultdict(list)
    for other in all_records(args, args.seed + 1):
        others[other.key, other.time // 100].append(other)
    pairs = []
    for record in all_records(args):
        for other in others[record.key, record.time // 100]:
            pairs.append((record.key, other.seq, digest(record.canary, other.canary), record.split, record.seq))
    same(outputs, pairs)


def broadcast(outputs, args):
    told = list(records(args.seed + 1, args.records // 100, args.keys, 1, args.skew))
    keys = collections.defaultdict(lambda: [0, sum(record.canary for record in told)])
    for record in all_records(args):
        keys[record.key][0] += 1
        keys[record.key][1] += record.canary
    same(outputs, [(key, count, total & MASK, 0, len(told)) for key, (count, total) in keys.items()])


def liststate(outputs, args):
    same(outputs, [(r.key, 0, r.canary, r.split, r.seq) for r in all_records(args)])


TOPOLOGIES = {
    "count": count,
    "twosinks": count,
    "chain2": chain2,
    "window": in_windows,
    "timers": in_windows,
    "join": join,
    "broadcast": broadcast,
    "liststate": liststate,
}


def generate(args):
    """As many files as splits. Each holds records that follow each other in time: files are read one after the other."""
    made = list(all_records(args))
    each = -(-len(made) // args.splits) or 1
    os.makedirs(args.folders[0], exist_ok=True)
    for number in range(args.splits):
        with open(os.path.join(args.folders[0], "records-%04d.jsonl" % number), "w", encoding="utf-8") as lines:
            for record in made[number * each : (number + 1) * each]:
                lines.write(json.dumps(record._asdict()) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("topology", choices=[*TOPOLOGIES, "generate"])
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--skew", type=int, default=0)
    parser.add_argument("--so-far", action="store_true")
    parser.add_argument("--from-files", action="store_true")
    parser.add_argument("folders", nargs="+")
    args = parser.parse_args()
    if args.topology == "generate":
        generate(args)
        return
    if args.so_far and args.topology not in ("count", "chain2", "twosinks"):
        parser.error("--so-far is for count, chain2 and twosinks")
    groups = [[folder] for folder in args.folders] if args.topology == "twosinks" else [args.folders]
    for folders in groups:
        outputs = [output for folder in folders for output in read(folder)]
        TOPOLOGIES[args.topology](outputs, args)
        print("%s: %d outputs: %s" % (args.topology, len(outputs), "right so far" if args.so_far else "exact"))


if __name__ == "__main__":
    main()
