#!/usr/bin/env python3
"""Makes the flight records under examples/data: the committed extract, or a larger set.

    fetch.py                 rebuilds flights/ (20,000 flights, 6 CSV files) beside this script
    fetch.py --large DIR     writes all 3 million flights to DIR, one CSV file per day (needs: pip install pyarrow)

The records come from the npm package `vega-datasets`, fetched with `npm pack`. Nothing else is installed or left behind.
"""
import argparse
import csv
import itertools
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "vega-datasets@3.2.1"
HEADER = ["date", "delay", "distance", "origin", "destination"]


def member(name, folder):
    """Fetches the package and unpacks one of its data files into the folder."""
    pack = ["npm", "pack", "--silent", "--pack-destination", folder, PACKAGE]
    archive = subprocess.run(pack, check=True, capture_output=True, text=True).stdout.split()[-1]
    with tarfile.open(pathlib.Path(folder, archive)) as package:
        content = package.extractfile(f"package/data/{name}").read()
    path = pathlib.Path(folder, name)
    path.write_bytes(content)
    return path


def write_files(flights, folder, name_of):
    """Writes the flights, which are in the order of time, into one CSV file for each run of equal names."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for name, group in itertools.groupby(flights, key=name_of):
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            for flight in group:
                writer.writerow(flight)
                count += 1
    print(f"{count} flights in {folder}")


def half_month(flight):
    """The first day of the flight's half of the month: `2001-01-01` or `2001-01-16`."""
    date = flight[0]
    return date[:8] + ("01" if int(date[8:10]) < 16 else "16")


def extract(folder):
    """The 20,000 flights that are committed."""
    with tempfile.TemporaryDirectory() as scratch:
        records = json.loads(member("flights-20k.json", scratch).read_text())
    flights = [[r["date"].replace("/", "-")] + [r[column] for column in HEADER[1:]] for r in records]
    flights.sort(key=lambda flight: flight[0])
    write_files(flights, folder, half_month)


def large(folder):
    """The 3 million flights from which the others were drawn."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        sys.exit("the large set is a Parquet file: install its reader with `pip install pyarrow`")
    with tempfile.TemporaryDirectory() as scratch:
        table = parquet.read_table(member("flights-3m.parquet", scratch))
    table = table.rename_columns([name.lower() for name in table.column_names]).select(HEADER).sort_by("date")
    rows = ([when.strftime("%Y-%m-%d %H:%M"), *rest] for batch in table.to_batches(max_chunksize=65_536)
            for when, *rest in zip(*(column.to_pylist() for column in batch.columns)))
    write_files(rows, folder, lambda flight: flight[0][:10])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", metavar="DIR", type=pathlib.Path, help="write the 3 million flights to DIR")
    arguments = parser.parse_args()
    if arguments.large:
        large(arguments.large)
    else:
        extract(pathlib.Path(__file__).resolve().parent / "flights")
