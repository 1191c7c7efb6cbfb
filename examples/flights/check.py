#!/usr/bin/env python3
"""Compares the output of the flights job with a plain computation of the same files.

    check.py INPUT OUTPUT

INPUT is what the job's --input was, OUTPUT its --output. Prints `220 airports, 20000 flights: exact`, or the first
differences (and exits with 1). It knows nothing of the job but its output: hidden files are not looked at.
"""
import collections
import csv
import json
import pathlib
import sys

MOST_SHOWN = 10


def files(path):
    """The file, or the files at or below the folder, without hidden ones."""
    if path.is_file():
        return [path]
    found = (p for p in path.rglob("*") if p.is_file())
    return sorted(p for p in found if not any(part[0] in "._" for part in p.relative_to(path).parts))


def flights_of_airports(path):
    """For each airport: the hour and the delay of each of its flights."""
    airports = collections.defaultdict(list)
    for file in files(path):
        with open(file, newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                airports[row["origin"]].append((int(row["date"][11:13]), int(row["delay"])))
    return airports


def reports_of_airports(path):
    """For each airport: the statistics in all lines about it."""
    airports = collections.defaultdict(list)
    for file in files(path):
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    report = json.loads(line)
                    airports[report["airport"]].append(report["statistics"])
                except (ValueError, KeyError, TypeError) as error:
                    sys.exit(f"line {number} of {file} is no report of the job: {error}")
    return airports


def expected_result(flights):
    """The statistics that the job must report of an airport in the end."""
    delays = [delay for _, delay in flights]
    by_hour = collections.Counter(hour for hour, _ in flights)
    return {
        "flights": len(flights),
        "total_delay": sum(delays),
        "mean_delay": sum(delays) / len(flights),
        "worst_delay": max(delays),
        "flights_by_hour": [by_hour[hour] for hour in range(24)],
    }


def check_result(airport, flights, results):
    """Exactly one result, and the right one."""
    if not flights:
        yield from (f"airport {airport} is not in the input, but in the results" for _ in results)
        return
    if len(results) != 1:
        yield f"airport {airport} has {len(results)} results instead of 1"
    expected = expected_result(flights)
    for result in results:
        if result != expected:
            yield f"airport {airport} has the result {json.dumps(result)} instead of {json.dumps(expected)}"


def check_updates(airport, flights, updates):
    """One update for each flight: numbered from 1 without gap or double, each adding one flight of the input."""
    updates.sort(key=lambda update: update["flights"])
    numbers = [update["flights"] for update in updates]
    for number, times in (collections.Counter(range(1, len(flights) + 1)) - collections.Counter(numbers)).items():
        yield f"airport {airport}: update {number} of {len(flights)} is missing ({times} time)"
    for number, times in (collections.Counter(numbers) - collections.Counter(range(1, len(flights) + 1))).items():
        yield f"airport {airport}: update {number} of {len(flights)} comes {times} times too often"
    if numbers != list(range(1, len(flights) + 1)):
        return
    added, before = [], {"flights_by_hour": [0] * 24, "total_delay": 0, "worst_delay": -1_000_000}
    for update in updates:
        hours = [hour for hour in range(24) if update["flights_by_hour"][hour] != before["flights_by_hour"][hour]]
        delay = update["total_delay"] - before["total_delay"]
        is_sound = (
            len(hours) == 1
            and sum(update["flights_by_hour"]) == update["flights"]
            and update["worst_delay"] == max(delay, before["worst_delay"])
            and update["mean_delay"] == update["total_delay"] / update["flights"]
        )
        if not is_sound:
            yield f"airport {airport}: update {update['flights']} does not follow from the one before"
            return
        added.append((hours[0], delay))
        before = update
    for flight, times in (collections.Counter(flights) - collections.Counter(added)).items():
        yield f"airport {airport}: {times} flights (hour, delay) {flight} were not counted, but others instead"


def main(arguments):
    if len(arguments) != 2:
        sys.exit("usage: check.py INPUT OUTPUT")
    source, output = map(pathlib.Path, arguments)
    flights = flights_of_airports(source)
    results, updates = reports_of_airports(output / "results"), reports_of_airports(output / "updates")
    differences = [
        difference
        for airport in sorted({*flights, *results, *updates})
        for difference in (
            *check_updates(airport, flights[airport], updates[airport]),
            *check_result(airport, flights[airport], results[airport]),
        )
    ]
    summary = f"{len([a for a in flights.values() if a])} airports, {sum(map(len, flights.values()))} flights"
    if not differences:
        print(f"{summary}: exact")
        return 0
    print(f"{summary}: {len(differences)} differences")
    for difference in differences[:MOST_SHOWN]:
        print(f"  {difference}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
