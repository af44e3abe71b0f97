"""How long do the slowest requests wait, and does a checkpoint stop anybody?

    redis-benchmark -r 1000000 -d 64 -c 50 -P 1 -n N -t set      (N for twenty seconds)
    python -m benchmarks.probe PORT --interval-ms 1              (beside it)

Random SETs over 1,000,000 keys that are all there, appendfsync everysec, long enough for some twenty
checkpoints. The percentiles are redis-benchmark's own; the pause is the longest wait of a separate client
that asks PING every millisecond. The same probe beside the idle server tells how much of it is the machine's.
"""

import time
from typing import Any

from benchmarks import load
from benchmarks.client import strings
from benchmarks.probe import Probe
from benchmarks.results import Bar, Options, Result, Row, Table, median, progress, question
from benchmarks.servers import BOTH, OURS, RIVAL, Server, pair, shown

SECONDS, QUICK_SECONDS = 20.0, 0.5
CALIBRATION, QUICK_CALIBRATION = 100_000, 2_000
QUICK_KEYS = 10_000
CLIENTS = 50
BAR_RATIO = 2.0
BAR_PAUSE_MS = 50.0
PERCENTILES = ("p50", "p99", "p99.9", "max")
LOAD = "-t set"


def _one(server: Server, keys: int, options: Options) -> tuple[dict[str, Any], list[str]]:
    """Find the rate, then load and probe together."""
    count = QUICK_CALIBRATION if options.quick else CALIBRATION
    rate = load.run(server.port, LOAD, requests=count, clients=CLIENTS, keyspace=keys).rps
    with Probe(server.port) as control:
        time.sleep(0.3 if options.quick else 2.0)
    # more than the wished time: under the probe's eyes it may be quicker than the calibration
    requests = int(rate * (QUICK_SECONDS if options.quick else SECONDS * 1.15))
    with Probe(server.port) as probe:
        done = load.run(server.port, LOAD, requests=requests, clients=CLIENTS, keyspace=keys)
    figures = {
        "rps": done.rps,
        "seconds": done.seconds,
        **done.latency_ms,
        "probe": probe.figures,
        "idle_probe": control.figures,
    }
    return figures, done.words


def run(options: Options) -> Result:
    """Alternate the servers; medians for percentiles, the worst of all runs for the pause."""
    keys = QUICK_KEYS if options.quick else load.KEYSPACE
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in BOTH}
    lines: list[str] = []
    with options.directory() as scratch, pair(scratch) as servers:
        versions = {kind: server.version() for kind, server in servers.items()}
        for server in servers.values():
            with server.client() as client:
                client.fill(strings(keys, 64))
        for repeat in range(options.repeats):
            for kind in BOTH if repeat % 2 == 0 else BOTH[::-1]:
                servers[kind].settle()
                figures, words = _one(servers[kind], keys, options)
                runs[kind].append(figures)
                lines = [" ".join(words)]
                progress(
                    f"{repeat + 1}/{options.repeats} {kind}: p99.9 {figures['p99.9']} ms, pause {figures['probe']['max_ms']:.1f} ms"
                )
    rows = []
    for name in (*PERCENTILES, "rps"):
        medians = {kind: median([run[name] for run in runs[kind]]) for kind in BOTH}
        figures = {"ours": medians[OURS], "valkey": medians[RIVAL], "ratio": medians[OURS] / medians[RIVAL]}
        bar = Bar("ratio", BAR_RATIO, at_least=False) if name == "p99.9" else None
        rows.append(Row(f"SET {name}{'' if name == 'rps' else ', ms'}", figures, bar, runs if name == "p99.9" else {}))
    pauses = {kind: max(run["probe"]["max_ms"] for run in runs[kind]) for kind in BOTH}
    idle = max(run["idle_probe"]["max_ms"] for run in runs[OURS])
    figures = {"ours, ms": pauses[OURS], "valkey, ms": pauses[RIVAL], "ours idle, ms": idle}
    pause = Row("longest wait for PING under load", figures, Bar("ours, ms", BAR_PAUSE_MS, at_least=False))
    tables = [
        Table(f"{CLIENTS} clients, random SETs, medians", rows),
        Table("pauses, the longest of all runs", [pause]),
    ]
    own = [shown(kind) for kind in BOTH]
    probe_line = "python -m benchmarks.probe PORT --interval-ms 1"
    notes = [
        f"{options.repeats} runs of at least {min(run['seconds'] for kind in BOTH for run in runs[kind]):.1f} s each."
    ]
    return Result("latency", question(__doc__), [*own, *lines, probe_line], versions, tables, notes)
