#!/usr/bin/env python3
"""Runs each path of the program `instructions` under callgrind and compares the instructions of a record with those that are stored.

check.py PROGRAM [--accept | --where] [PATH ...]

A count is of one thread, and the same in every run. It depends on the compiler, the C library and the kind of processor: where these
are others than those of the stored figures, no difference counts, and the output says so.
"""

import concurrent.futures
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib

STORED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "instructions.toml")
WORSE, BETTER = 0.05, 0.10
# Entering and leaving this function switches the count, however its name is mangled.
COUNTED = "*instructions*counted*counted*"


def main():
    arguments = sys.argv[1:]
    options = {argument for argument in arguments if argument.startswith("--")}
    program, *names = [argument for argument in arguments if argument not in options]
    if options - {"--accept", "--where"}:
        fail("there are the options --accept and --where", "bin/instructions [--accept | --where] [PATH ...]")
    known = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    for name in set(names) - set(known):
        fail(f"there is no path `{name}`", f"the paths are {', '.join(known)}")
    names = names or known
    if "--where" in options:
        for name in names:
            print(f"== {name}\n{count(program, name)[1]}")
        return
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
        counted = dict(zip(names, workers.map(lambda name: count(program, name)[0], names)))
    stored = read()
    if "--accept" in options:
        accept(stored, counted, known)
    else:
        compare(stored, counted)


def count(program, path):
    """Instructions of a record, and where they are."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "callgrind.out")
        command = ["valgrind", "--tool=callgrind", f"--toggle-collect={COUNTED}", f"--callgrind-out-file={out}", program, path]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            fail(f"path `{path}` failed:\n{run.stderr}", "run it without valgrind: " + " ".join(command[-2:]))
        with open(out, encoding="utf-8") as profile:
            total = re.search(r"^(?:totals|summary): (\d+)", profile.read(), re.MULTILINE)
        if total is None or int(total[1]) == 0:
            fail(f"callgrind has counted nothing of path `{path}`", f"is there still a function {COUNTED}?")
        where = subprocess.run(["callgrind_annotate", "--threshold=95", out], capture_output=True, text=True, check=False).stdout
    return int(total[1]) / int(run.stdout), where


def made_with():
    """All that a count depends on beside the code."""
    rust = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    version = rust.splitlines()[0]
    host = re.search(r"^host: (.*)$", rust, re.MULTILINE)[1]
    with open("/proc/cpuinfo", encoding="utf-8") as processors:
        avx2 = ", avx2" if " avx2" in processors.read() else ""
    flags = "".join(f", {name}={os.environ[name]}" for name in ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS") if os.environ.get(name))
    return f"{version}, {host}, {' '.join(platform.libc_ver())}{avx2}{flags}"


def read():
    with open(STORED, "rb") as file:
        return tomllib.load(file)


def accept(stored, counted, known):
    if stored["made_with"] != made_with() and set(counted) != set(known):
        fail(f"the other figures were made with {stored['made_with']}", "accept all of them: bin/instructions --accept")
    figures = {name: counted.get(name, stored["per_record"].get(name)) for name in known}
    with open(STORED, "w", encoding="utf-8") as file:
        file.write("# Instructions of a record on each path. Written by `bin/instructions --accept`: docs/performance/README.md.\n")
        file.write(f'made_with = "{made_with()}"\n\n[per_record]\n')
        file.writelines(f"{name} = {figure:.2f}\n" for name, figure in figures.items() if figure is not None)
    print(f"stored: {', '.join(counted)}")


def compare(stored, counted):
    same = stored["made_with"] == made_with()
    if not same:
        print(f"no difference counts: the stored figures are of {stored['made_with']}, these of {made_with()}\n")
    failed, better = [], []
    print(f"{'path':<20} {'instructions':>12} {'stored':>10} {'change':>9}")
    for name, figure in counted.items():
        before = stored["per_record"].get(name)
        change = figure / before - 1 if before else 0
        print(f"{name:<20} {figure:12.2f} {before or 0:10.2f} {change:+9.2%}{'' if before else '   not stored'}")
        if same and (before is None or change > WORSE):
            failed.append(name)
        if same and change < -BETTER:
            better.append(name)
    if better:
        print(f"\nfewer than are stored: store them, lest they come back: bin/instructions --accept {' '.join(better)}")
    if failed:
        fail(
            f"more instructions than are stored, or none stored: {', '.join(failed)}",
            f"bin/instructions --where {failed[0]} says where; if they are worth it: bin/instructions --accept {' '.join(failed)}",
        )


def fail(error, hint):
    sys.exit(f"error: {error}\nhint: {hint}")


if __name__ == "__main__":
    main()
