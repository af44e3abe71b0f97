"""The same load at both servers, in turn: fill, settle, measure one, settle, measure the other.

Each case of each repeat gets a fresh pair of servers, so that no case pays for what an earlier one left
behind. Who goes first changes from repeat to repeat. The first repeat also finds the number of requests: a
measurement of either server that was over too soon is thrown away and made again with more.
"""

import math
import shlex
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hiredis

from benchmarks import load
from benchmarks.client import Chunk
from benchmarks.results import Bar, Options, Row, median, progress
from benchmarks.servers import BOTH, OURS, RIVAL, Server, pair

SECONDS_MIN = 1.0
QUICK_SECONDS_MIN = 0.02
GROWTH = 1.25  # aim past the minimum: the next run may be quicker
GROWTHS_MAX = 4
CPU_NOTE = (
    "cpu: the part of a core that a server, or the client at most, used. Where the client's is near 1 and a server's is not, "
    "the client was the slower one, and the ratio is nearer to 1 than the servers': `ratio by cpu` is that of requests to a "
    "second of the server's own time. Where neither is near 1, somebody else had the machine, and the run is worth little. "
    "able: what the client would reach if the server took no time."
)


@dataclass
class Case:
    """One load."""

    name: str
    load: str  # redis-benchmark's "-t set", or a command
    requests: int  # a first guess
    bar: float
    clients: int = 50
    pipeline: int = 1
    appendfsync: str = "everysec"
    fill: Callable[[int], Iterator[Chunk]] | None = None  # of the number of requests -> what must be there before
    count_left: tuple[str, ...] = ()  # a command whose reply must not be 0 afterwards: pops that still hit
    runner: Callable[[int, int], load.Load] | None = None  # of port and requests; None: redis-benchmark

    def title(self) -> str:
        """As it stands in the table."""
        return f"{self.name}, P={self.pipeline}"


def _measure(case: Case, server: Server, requests: int) -> load.Load:
    cpu_s, begin = server.cpu_s(), time.monotonic()
    if case.runner is not None:
        done = case.runner(server.port, requests)
    else:
        done = load.run(server.port, case.load, requests=requests, clients=case.clients, pipeline=case.pipeline)
    done.server_cpu = (server.cpu_s() - cpu_s) / (time.monotonic() - begin)
    if case.count_left:
        with server.client() as client:
            if not client.call(*case.count_left):
                reason = f"{case.title()}: the pops ran dry on {server.kind}"
                raise RuntimeError(reason)
    return done


def _once(case: Case, scratch: Path, requests: int, order: tuple[str, ...]) -> dict[str, load.Load]:
    """One fresh pair, measured in `order`."""
    with pair(scratch, appendfsync=case.appendfsync) as servers:
        if case.fill is not None:
            for server in servers.values():
                with server.client() as client:
                    # slack: every client may have one pipeline more under way than was counted
                    client.fill(case.fill(requests + 2 * case.clients * case.pipeline))
        for server in servers.values():
            server.settle()
        done = {}
        for kind in order:
            done[kind] = _measure(case, servers[kind], requests)
            servers[kind].settle()
        return done


def _row(case: Case, loads: list[dict[str, load.Load]]) -> Row:
    bar = Bar("ratio", case.bar)
    if not loads:
        return Row(case.title(), {"ours, rps": None, "valkey, rps": None, "ratio": None}, bar)
    rps = {kind: median([done[kind].rps for done in loads]) for kind in BOTH}
    p99_ms = {kind: median([done[kind].latency_ms["p99"] for done in loads]) for kind in BOTH}
    figures = {
        "ours, rps": rps[OURS],
        "valkey, rps": rps[RIVAL],
        "ratio": rps[OURS] / rps[RIVAL],
        "ours, p99 ms": p99_ms[OURS],
        "valkey, p99 ms": p99_ms[RIVAL],
    }
    if case.runner is not None:  # a client that may be the slower one: who was busy?
        cpu = {kind: median([done[kind].server_cpu for done in loads]) for kind in BOTH}
        figures |= {f"{kind}, cpu": cpu[kind] for kind in BOTH}
        figures["client, cpu"] = max(done[kind].client_cpu for done in loads for kind in BOTH)
        figures["client, able rps"] = median([done[kind].able_rps for done in loads for kind in BOTH])
        if all(cpu.values()):
            figures["ratio by cpu"] = rps[OURS] / cpu[OURS] / (rps[RIVAL] / cpu[RIVAL])
    runs = {
        kind: [
            {"rps": one.rps, "server's cpu": one.server_cpu, "client's cpu": one.client_cpu, **one.latency_ms}
            for one in (done[kind] for done in loads)
        ]
        for kind in BOTH
    }
    return Row(case.title(), figures, bar, {**runs, "requests": [loads[-1][OURS].requests]})


def _long_enough(
    case: Case, requests: int, order: tuple[str, ...], options: Options, seconds_min: float
) -> tuple[dict[str, load.Load], int]:
    """One measurement of both that took `seconds_min`, and the number of requests that makes it so."""
    for _ in range(GROWTHS_MAX):
        with options.directory() as scratch:
            done = _once(case, scratch, requests, order)
        seconds = min(each.seconds for each in done.values())
        if seconds >= seconds_min:
            break
        requests = math.ceil(requests * seconds_min * GROWTH / seconds)
    return done, done[OURS].requests


@dataclass
class Duel:
    """What came out."""

    rows: list[Row]  # one per case; without figures, so a miss, where every run failed
    command_lines: list[str]  # the load generator's
    versions: dict[str, str]
    failures: list[str]  # runs that ended in an error: no figure hides them


def duel(cases: list[Case], options: Options) -> Duel:
    """All cases, `options.repeats` times."""
    failures: list[str] = []
    seconds_min = QUICK_SECONDS_MIN if options.quick else SECONDS_MIN
    requests = {case.title(): case.requests // 100 if options.quick else case.requests for case in cases}
    loads: dict[str, list[dict[str, load.Load]]] = {title: [] for title in requests}
    for repeat in range(options.repeats):
        order = BOTH if repeat % 2 == 0 else BOTH[::-1]
        for case in cases:
            title = case.title()
            try:
                done, requests[title] = _long_enough(
                    case, requests[title], order, options, 0.0 if repeat else seconds_min
                )
            except (RuntimeError, OSError, hiredis.ReplyError) as error:
                # hours of other cases must not be lost with this one
                traceback.print_exc()
                failures.append(f"{title}, run {repeat + 1} FAILED: {error}")
                continue
            loads[title].append(done)
            rps = {kind: done[kind].rps for kind in BOTH}
            progress(
                f"{repeat + 1}/{options.repeats} {title}: {rps[OURS]:,.0f} / {rps[RIVAL]:,.0f} = {rps[OURS] / rps[RIVAL]:.2f}"
            )
    lines = [shlex.join(loads[case.title()][-1][OURS].words) for case in cases if loads[case.title()]]
    with options.directory() as scratch, pair(scratch) as servers:
        versions = {kind: server.version() for kind, server in servers.items()}
    return Duel([_row(case, loads[case.title()]) for case in cases], lines, versions, failures)
