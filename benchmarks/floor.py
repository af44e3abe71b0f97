"""What would the parts of this server take if there were nothing else, beside the whole server and valkey?

    python -m benchmarks.prototype sockets|parser|engine PORT DIR
    redis-benchmark -r 1000000 -d 64 -c 50 -P 1|16 -n N -t set|get

Three servers of a hundred lines (see `prototype`): one that only answers, one that also reads the requests, and one that does
them, with one LMDB transaction that never ends and a log that nobody syncs. They show how much of valkey's speed the loop, the
parser and the engine leave; no bar is on them. Beside them, what the engine takes for a row, without any server: random rows
of 64 bytes among a million, the same transaction, one call each.
"""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from benchmarks import load
from benchmarks.client import strings
from benchmarks.machine import ROOT
from benchmarks.prototype import LEVELS
from benchmarks.results import Options, Result, Row, Table, median, progress, question
from benchmarks.servers import BOTH, OURS, RIVAL, Server, free_port, shown, started

REQUESTS = {1: 350_000, 16: 1_500_000}
Asked = tuple[str, int]  # a command, and how many requests are in flight
LOADS: list[Asked] = [(command, pipeline) for command in ("set", "get") for pipeline in REQUESTS]
VALUE = b"x" * 64
BATCH = 200  # rows that the engine is asked for in a row
PREFIX_BYTES = 4  # of the keyspace, before each key


@contextmanager
def _prototype(level: str, directory: Path) -> Iterator[Server]:
    """A prototype at this level, listening."""
    directory.mkdir()
    port = free_port()
    words = [sys.executable, "-m", "benchmarks.prototype", level, str(port), str(directory)]
    with directory.with_suffix(".log").open("wb") as log:
        launched_at = time.perf_counter()
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=ROOT)
    server = Server(level, port, directory, process, launched_at)
    try:
        server.wait_ready()
        yield server
    finally:
        server.kill()


def _rate(server: Server, command: str, pipeline: int, requests: int) -> float:
    """Requests a second, of rows that are there."""
    return load.run(server.port, f"-t {command}", requests=requests, clients=50, pipeline=pipeline).rps


def _rates(options: Options, kind: str) -> dict[Asked, float]:
    """Requests a second of one server, for each load in turn."""
    keys = 10_000 if options.quick else load.KEYSPACE
    with options.directory() as scratch:
        made = started(kind, scratch / kind) if kind in BOTH else _prototype(kind, scratch / kind)
        with made as server:
            if kind not in ("sockets", "parser"):
                with server.client() as client:
                    client.fill(strings(keys, len(VALUE)))
            rates = {}
            for command, pipeline in LOADS:
                if kind in BOTH:
                    server.settle()
                rates[command, pipeline] = _rate(
                    server, command, pipeline, REQUESTS[pipeline] // (100 if options.quick else 1)
                )
    progress(f"{kind}: {', '.join(f'{rate:,.0f}' for rate in rates.values())}")
    return rates


def _row(command: str, pipeline: int, runs: dict[str, list[dict[Asked, float]]]) -> Row:
    rates = {kind: [run[command, pipeline] for run in done] for kind, done in runs.items()}
    figures: dict[str, float | None] = {f"{kind}, rps": median(done) for kind, done in rates.items()}
    for kind in (*LEVELS, OURS):
        figures[f"{kind} / valkey"] = figures[f"{kind}, rps"] / figures[f"{RIVAL}, rps"]
    return Row(f"{command.upper()}, P={pipeline}", figures, runs=rates)


def _engine_us(options: Options) -> dict[str, float]:
    """What a random row takes in an open transaction, in us."""
    keys = 10_000 if options.quick else load.KEYSPACE
    names = [b"\0" * PREFIX_BYTES + b"key:%012d" % number for number in range(keys)]
    chance = random.Random(1)
    taken: dict[str, list[float]] = {"get": [], "put": [], "replace": []}
    with (
        options.directory() as scratch,
        lmdb.open(str(scratch), map_size=1 << 34, sync=False, meminit=False) as environment,
    ):
        with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti([(name, VALUE) for name in names], append=True)
        with environment.begin(write=True) as transaction:
            get, put, replace = transaction.get, transaction.put, transaction.replace
            for _ in range(keys // BATCH // 4):
                for kind, times in taken.items():
                    asked = chance.choices(names, k=BATCH)
                    begin = time.perf_counter()
                    if kind == "get":
                        _ = [get(name) for name in asked]
                    elif kind == "put":
                        _ = [put(name, VALUE) for name in asked]
                    else:
                        _ = [replace(name, VALUE) for name in asked]
                    times.append((time.perf_counter() - begin) / BATCH * 1e6)
    return {f"{kind}, us": median(times) for kind, times in taken.items()}


def run(options: Options) -> Result:
    """Measure the parts."""
    runs: dict[str, list[dict[Asked, float]]] = {kind: [] for kind in (*LEVELS, *BOTH)}
    for repeat in range(options.repeats):
        for kind in runs if repeat % 2 == 0 else reversed(runs):
            runs[kind].append(_rates(options, kind))
    rows = [_row(command, pipeline, runs) for command, pipeline in LOADS]
    engine = Row("a random row among a million", dict(_engine_us(options)))
    with (
        options.directory() as scratch,
        started(RIVAL, scratch / RIVAL) as rival,
        started(OURS, scratch / OURS) as ours,
    ):
        versions = {RIVAL: rival.version(), OURS: ours.version()}
    lines = [
        *(f"python -m benchmarks.prototype {level} PORT DIR" for level in LEVELS),
        *(shown(kind) for kind in BOTH),
        "redis-benchmark -h 127.0.0.1 -p PORT -r 1000000 -d 64 -c 50 -P 1|16 -n 350000|1500000 --precision 3 -t set|get",
    ]
    notes = [
        f"Medians of {options.repeats} runs, a fresh server for each; all rows are there before.",
        "replace: put a row and learn what was there before, as SET must, whose keys are counted.",
    ]
    tables = [Table("requests a second", rows), Table("the engine alone", [engine])]
    return Result("floor", question(__doc__), lines, versions, tables, notes)
