"""What does a replica cost its primary, how soon is it level again, and how long does a full copy take, beside valkey?

    redis-benchmark -r 1000000 -d 64 -c 50 -P 1|16 -n N -t set       alone, and with one replica on the same machine
    a minute of the same at P=16: from its end until the replica has everything
    a cut of five seconds under that load: the replica's password is wrong meanwhile
    a store of a gigabyte: from REPLICAOF until the link is up, beside `cp` of its data file

Share: requests a second with a replica, of those without; both servers in the same run, alternating. Three processes
share two cores with the load generator, so that a share of one cannot be had by a server that alone fills a core:
beside it stands what a request costs the primary, in microseconds of its own time on a core.

A cut heals when the right password is set again; the clock runs from there until the replica has what the primary
had logged at that moment.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load
from benchmarks.client import Client, strings
from benchmarks.results import Bar, Options, Result, Row, Table, median, progress, question
from benchmarks.servers import BOTH, OURS, RIVAL, Server, shown, started

SET = "-t set"
REQUESTS = {1: 300_000, 16: 1_500_000}
MINUTE_REQUESTS_PER_S = 250_000  # more than either server takes: the load ends by the clock
MINUTE_S, QUICK_MINUTE_S = 60.0, 1.0
CUT_S, QUICK_CUT_S = 5.0, 0.5
COPY_BYTES, QUICK_COPY_BYTES = 1 << 30, 4 << 20
VALUE_BYTES = 1000
BAR_SHARE = 0.9
BAR_LEVEL_S = 1.0
BAR_RESUMED_S = 1.0
BAR_COPY = 3.0
WAIT_S = 300.0
PASSWORD = "secret"
# valkey keeps what a replica missed in memory: room for the cut, and no delay before a full copy
RIVAL_MORE = (
    "--repl-backlog-size",
    "1gb",
    "--repl-diskless-sync-delay",
    "0",
    "--client-output-buffer-limit",
    "replica 0 0 0",
)


def _until(client: Client, test: Callable[[dict[str, str]], bool]) -> float:
    """Wait until INFO replication passes the test; returns seconds."""
    begin = time.monotonic()
    while not test(client.info("replication")):
        if time.monotonic() > begin + WAIT_S:
            reason = f"not within {WAIT_S} s: {client.info('replication')}"
            raise TimeoutError(reason)
        time.sleep(0.002)
    return time.monotonic() - begin


def _offset(client: Client) -> int:
    return int(client.info("replication")["master_repl_offset"])


def _is_up(info: dict[str, str]) -> bool:
    return info["master_link_status"] == "up"


@dataclass
class Two:
    """A primary, its replica, and a connection to each."""

    primary: Server
    replica: Server
    at_primary: Client
    at_replica: Client


@contextmanager
def _primary(kind: str, scratch: Path, *more: str) -> Iterator[Server]:
    with started(kind, scratch / f"{kind}-primary", more=(*(RIVAL_MORE if kind == RIVAL else ()), *more)) as server:
        yield server


@contextmanager
def _two(kind: str, scratch: Path, *more: str) -> Iterator[Two]:
    """A primary and a replica that is level with it."""
    with ExitStack() as stack:
        primary = stack.enter_context(_primary(kind, scratch, *more))
        follow = ("--replicaof", f"127.0.0.1 {primary.port}", *more)
        replica = stack.enter_context(started(kind, scratch / f"{kind}-replica", more=follow))
        two = Two(primary, replica, stack.enter_context(primary.client()), stack.enter_context(replica.client()))
        _until(two.at_replica, _is_up)
        yield two


# --- the share ---------------------------------------------------------------------------------------------------------


def _rate(server: Server, pipeline: int, requests: int) -> float:
    return load.run(server.port, SET, requests=requests, clients=50, pipeline=pipeline).rps


def _costs(server: Server, pipeline: int, requests: int) -> dict[str, float]:
    """Requests a second, and what each costs the server."""
    cpu_s = server.cpu_s()
    return {
        "rps": _rate(server, pipeline, requests),
        "us of the primary": (server.cpu_s() - cpu_s) / requests * 1e6,
    }


def _share(options: Options, pipeline: int) -> Row:
    requests = REQUESTS[pipeline] // (100 if options.quick else 1)
    runs: dict[str, dict[str, list[dict[str, float]]]] = {kind: {"alone": [], "with a replica": []} for kind in BOTH}
    for repeat in range(options.repeats):
        for kind in BOTH if repeat % 2 == 0 else BOTH[::-1]:
            with options.directory() as scratch, _primary(kind, scratch) as server:
                runs[kind]["alone"].append(_costs(server, pipeline, requests))
            with options.directory() as scratch, _two(kind, scratch) as two:
                runs[kind]["with a replica"].append(_costs(two.primary, pipeline, requests))
            last = {name: f"{done[-1]['rps']:,.0f}" for name, done in runs[kind].items()}
            progress(f"{repeat + 1}/{options.repeats} SET, P={pipeline}, {kind}: {last}")
    figures: dict[str, float | None] = {}
    for kind in BOTH:
        medians = {
            (name, figure): median([one[figure] for one in done])
            for name, done in runs[kind].items()
            for figure in done[0]
        }
        figures |= {f"{kind}, {name}, {figure}": value for (name, figure), value in medians.items()}
        figures[f"{kind}, share"] = medians["with a replica", "rps"] / medians["alone", "rps"]
    return Row(f"SET, P={pipeline}", figures, Bar("ours, share", BAR_SHARE), {kind: [runs[kind]] for kind in BOTH})


# --- lag, cuts, copies -------------------------------------------------------------------------------------------------


def _level_s(kind: str, scratch: Path, seconds: float) -> dict[str, float]:
    """How long after the end of a load until the replica has everything, and how far it was behind then."""
    with _two(kind, scratch) as two:
        begin, rps = time.monotonic(), 0.0
        while (left := seconds - (time.monotonic() - begin)) > 0:
            requests = int(min(rps or MINUTE_REQUESTS_PER_S / 10, MINUTE_REQUESTS_PER_S) * min(left, 10.0)) + 1000
            rps = _rate(two.primary, 16, requests)
        end = _offset(two.at_primary)
        behind = end - int(two.at_replica.info("replication")["slave_repl_offset"])
        level_s = _until(two.at_replica, lambda info: int(info["slave_repl_offset"]) >= end)
    return {"level_s": level_s, "behind_mb": behind / 1e6, "rps": rps}


def _resumed_s(kind: str, scratch: Path, seconds: float) -> dict[str, float]:
    """How long after a cut has healed until the replica has what the primary had then."""
    with _two(kind, scratch) as two:
        at_primary, at_replica = two.at_primary, two.at_replica
        at_replica.call("CONFIG", "SET", "masterauth", PASSWORD)
        at_primary.call("CONFIG", "SET", "requirepass", PASSWORD)
        at_replica.call("CONFIG", "SET", "masterauth", "wrong")
        at_primary.call("CLIENT", "KILL", "TYPE", "replica")
        _until(at_replica, lambda info: not _is_up(info))
        begin, number = time.monotonic(), 0
        while time.monotonic() < begin + seconds:
            at_primary.fill(strings(20_000, 64))
            number += 20_000
        end = _offset(at_primary)
        missed = end - int(at_replica.info("replication")["slave_repl_offset"])
        at_replica.call("CONFIG", "SET", "masterauth", PASSWORD)
        resumed_s = _until(at_replica, lambda info: _is_up(info) and int(info["slave_repl_offset"]) >= end)
        partial = int(at_primary.info("stats")["sync_partial_ok"])
    return {"resumed_s": resumed_s, "missed_mb": missed / 1e6, "partial": partial, "writes": number}


def _copy_s(kind: str, scratch: Path, size_bytes: int) -> dict[str, float]:
    """How long a full copy takes, and `cp` of what holds the data."""
    with ExitStack() as stack:
        primary = stack.enter_context(_primary(kind, scratch))
        replica = stack.enter_context(started(kind, scratch / f"{kind}-replica"))
        at_primary, at_replica = stack.enter_context(primary.client()), stack.enter_context(replica.client())
        at_primary.fill(strings(size_bytes // (VALUE_BYTES + 60), VALUE_BYTES))
        at_primary.call("SAVE")
        primary.settle()
        name = "data.mdb" if kind == OURS else "dump.rdb"
        source, target = primary.directory / name, scratch / "copied"
        begin = time.monotonic()
        shutil.copyfile(source, target)
        cp_s = time.monotonic() - begin
        target.unlink()
        begin = time.monotonic()
        at_replica.call("REPLICAOF", "127.0.0.1", str(primary.port))
        _until(at_replica, _is_up)
        copy_s = time.monotonic() - begin
        assert at_replica.call("DBSIZE") == at_primary.call("DBSIZE")
        size = source.stat().st_size
    return {"copy_s": copy_s, "cp_s": cp_s, "times_cp": copy_s / cp_s, "size_mb": size / 1e6}


def _row(title: str, options: Options, one: Callable[[str, Path], dict[str, float]], judged: str, bar: float) -> Row:
    """Run one measurement of both servers, alternating; medians of all its figures."""
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in BOTH}
    for repeat in range(options.repeats):
        for kind in BOTH if repeat % 2 == 0 else BOTH[::-1]:
            with options.directory() as scratch:
                runs[kind].append(one(kind, scratch))
            found = {name: round(value, 3) for name, value in runs[kind][-1].items()}
            progress(f"{repeat + 1}/{options.repeats} {title}, {kind}: {found}")
    figures = {f"{kind}, {name}": median([run[name] for run in runs[kind]]) for kind in BOTH for name in runs[OURS][0]}
    return Row(title, figures, Bar(f"ours, {judged}", bar, at_least=False), dict(runs))


def run(options: Options) -> Result:
    """The four questions."""
    with options.directory() as scratch, ExitStack() as stack:
        servers = {kind: stack.enter_context(started(kind, scratch / kind)) for kind in BOTH}
        versions = {kind: server.version() for kind, server in servers.items()}
    minute_s = QUICK_MINUTE_S if options.quick else MINUTE_S
    cut_s = QUICK_CUT_S if options.quick else CUT_S
    copy_bytes = QUICK_COPY_BYTES if options.quick else COPY_BYTES
    tables = [
        Table("requests a second, alone and with a replica", [_share(options, pipeline) for pipeline in REQUESTS]),
        Table(
            "until the replica is level",
            [_row(f"after {minute_s:g} s of SETs, P=16", options, lambda kind, at: _level_s(kind, at, minute_s), "level_s", BAR_LEVEL_S)],
        ),
        Table(
            "until the replica has gone on",
            [_row(f"after a cut of {cut_s:g} s", options, lambda kind, at: _resumed_s(kind, at, cut_s), "resumed_s", BAR_RESUMED_S)],
        ),
        Table(
            "a full copy, beside `cp`",
            [_row(f"{copy_bytes >> 20} MiB of strings", options, lambda kind, at: _copy_s(kind, at, copy_bytes), "times_cp", BAR_COPY)],
        ),
    ]  # fmt: skip
    notes = [
        f"Medians of {options.repeats} runs, fresh servers for each.",
        "valkey keeps a gigabyte of backlog in memory, so that it can go on after the cut; ours reads its log.",
        "cp: of data.mdb, or of the dump that valkey's SAVE wrote, which is smaller; both copies end on the replica's disk (ours synced).",
    ]
    own = [*(shown(kind) for kind in BOTH), f"valkey-server ... {' '.join(RIVAL_MORE)}"]
    return Result("replication", question(__doc__), own, versions, tables, notes)
