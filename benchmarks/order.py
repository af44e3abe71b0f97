"""Do ranks, positions and random members cost O(log N), and does deleting a million elements stop anybody?

    python -m benchmarks order

One client, one request in flight, over a raw socket. Two databases of one server hold the same
collections with 10,000 and with 1,000,000 elements. PING, the small and the large collection are asked in
turn, so that drift meets all three; the figure is the median less PING's. Differences below what this clock
and wire can tell count as `FLOOR_US`. valkey's figures are for information: some of its own grow (LINDEX).

DEL: reply time of one DEL of a whole collection, while another process asks PING and GET ten thousand times
a second (without any pause it would hold one of two cores and be the delay itself) and keeps on while the
rows are reclaimed; a row says how long the server was still busy after that. The same process
beside the idle server is the control.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.client import Client, Word, collection, pack, strings
from benchmarks.probe import Probe
from benchmarks.results import Bar, Options, Result, Row, Table, median, progress, question
from benchmarks.servers import BOTH, OURS, RIVAL, Server, shown, started

SMALL, LARGE = 10_000, 1_000_000
QUICK_SMALL, QUICK_LARGE = 1_000, 20_000
CALLS, QUICK_CALLS = 3_000, 100
WARM_UP = 50
FLOOR_US = 1.0
BAR_GROWTH = 3.0
BAR_DEL_MS = 1.0
BAR_WAIT_MS = 10.0
PROBE_INTERVAL_MS = 0.1
RECLAIM_S, QUICK_RECLAIM_S = 8.0, 0.5  # how long the probe stays behind a DEL
NEAR = 10  # the pivot's distance from the list's head
COLLECTIONS = {"list": "RPUSH", "set": "SADD", "hash": "HSET", "zset": "ZADD"}

Words = tuple[Word, ...]


@dataclass
class Operation:
    """A request that is timed, and what puts the collection back as it was."""

    name: str
    words: Callable[[int, random.Random], Words]  # of the number of elements
    undo: Callable[[Words, Any], Words] | None = None  # of the request and its reply


def _member(number: int) -> str:
    return f"element:{number:012d}"


def _range_by_index(count: int, chance: random.Random) -> Words:
    first = chance.randrange(count - 10)
    return "ZRANGE", "zset", first, first + 9


def _count_by_score(count: int, chance: random.Random) -> Words:
    low, high = sorted((chance.randrange(count), chance.randrange(count)))
    return "ZCOUNT", "zset", low, high


OPERATIONS = (
    Operation("ZRANK", lambda count, chance: ("ZRANK", "zset", _member(chance.randrange(count)))),
    Operation("ZRANGE by index, 10 members", _range_by_index),
    Operation("ZCOUNT", _count_by_score),
    Operation("SPOP", lambda _, __: ("SPOP", "set"), lambda _, reply: ("SADD", "set", reply)),
    Operation("SRANDMEMBER", lambda _, __: ("SRANDMEMBER", "set")),
    Operation("HRANDFIELD", lambda _, __: ("HRANDFIELD", "hash")),
    Operation("LINDEX, middle", lambda count, chance: ("LINDEX", "list", count // 2 + chance.randrange(count // 10))),
    Operation(
        "LINSERT, near pivot",
        lambda _, __: ("LINSERT", "list", "BEFORE", _member(NEAR), "inserted"),
        lambda _, __: ("LREM", "list", 1, "inserted"),
    ),
    Operation("RANDOMKEY", lambda _, __: ("RANDOMKEY",)),
)


def _fill(server: Server, database: int, count: int) -> None:
    with server.client(database=database) as client:
        for key, command in COLLECTIONS.items():
            client.fill(collection(command, key, count, size_bytes=8))
        client.fill(strings(count, 8))  # for RANDOMKEY


def _time(operation: Operation, lanes: list[tuple[Client, int]], calls: int) -> list[float]:
    """Median microseconds less PING's, for each lane (connection, number of elements)."""
    ping = pack("PING")
    chance = random.Random(1)
    pings: list[int] = []
    taken: list[list[int]] = [[] for _ in lanes]
    for turn in range(calls + WARM_UP):
        elapsed, _ = lanes[0][0].timed(ping)
        if turn >= WARM_UP:
            pings.append(elapsed)
        for (client, count), times in zip(lanes, taken, strict=True):
            words = operation.words(count, chance)
            elapsed, reply = client.timed(pack(*words))
            assert reply is not None, f"{words} found nothing"
            if operation.undo is not None:
                client.call(*operation.undo(words, reply))
            if turn >= WARM_UP:
                times.append(elapsed)
    base = median(pings)
    return [(median(times) - base) / 1000 for times in taken]


def _operations(server: Server, sizes: tuple[int, int], options: Options) -> dict[str, list[list[float]]]:
    """Operation -> a run per repeat -> microseconds for each size."""
    for database, count in enumerate(sizes, 1):
        _fill(server, database, count)
    server.settle()
    calls = QUICK_CALLS if options.quick else CALLS
    runs: dict[str, list[list[float]]] = {operation.name: [] for operation in OPERATIONS}
    with server.client(database=1) as small, server.client(database=2) as large:
        lanes = [(small, sizes[0]), (large, sizes[1])]
        for repeat in range(options.repeats):
            for operation in OPERATIONS:
                runs[operation.name].append(_time(operation, lanes, calls))
            progress(f"{repeat + 1}/{options.repeats} operations, {server.kind}")
    return runs


def _deletes(server: Server, count: int, options: Options) -> dict[str, list[dict[str, float]]]:
    """Collection -> a run per repeat: DEL's reply time and the others' longest wait."""
    runs: dict[str, list[dict[str, float]]] = {key: [] for key in COLLECTIONS}
    with server.client() as client:
        client.call("SET", "probe", "x")
        for repeat in range(options.repeats):
            for key, command in COLLECTIONS.items():
                client.fill(collection(command, key, count, size_bytes=8))
                server.settle()
                asks = {"interval_ms": PROBE_INTERVAL_MS, "words": ("PING", "GET probe")}
                with Probe(server.port, **asks) as control:
                    time.sleep(1.0)
                with Probe(server.port, **asks) as probe:
                    # also wakes the connection: one that slept answers its first request late
                    pings = [client.timed(pack("PING"))[0] for _ in range(WARM_UP)]
                    elapsed, removed = client.timed(pack("DEL", key))
                    assert removed == 1
                    # the probe keeps the server busy, so that idleness cannot be waited for
                    time.sleep(QUICK_RECLAIM_S if options.quick else RECLAIM_S)
                runs[key].append(
                    {
                        "del_ms": elapsed / 1e6,
                        "ping_ms": median(pings) / 1e6,
                        "wait_ms": probe.figures["max_ms"],
                        "control_ms": control.figures["max_ms"],
                        "beyond_s": server.settle(),
                    }
                )
            progress(f"{repeat + 1}/{options.repeats} deletes, {server.kind}")
    return runs


def _operation_rows(runs: dict[str, dict[str, list[list[float]]]], sizes: tuple[int, int]) -> list[Row]:
    rows = []
    for operation in OPERATIONS:
        medians = {
            kind: [max(FLOOR_US, median(list(column))) for column in zip(*runs[kind][operation.name], strict=True)]
            for kind in BOTH
        }
        figures = {}
        for kind in BOTH:
            figures |= {f"{kind}, us at {count:,}": us for count, us in zip(sizes, medians[kind], strict=True)}
            figures["growth" if kind == OURS else f"{kind}, growth"] = medians[kind][1] / medians[kind][0]
        rows.append(
            Row(
                operation.name,
                figures,
                Bar("growth", BAR_GROWTH, at_least=False),
                {kind: runs[kind][operation.name] for kind in BOTH},
            )
        )
    return rows


def _delete_tables(runs: dict[str, dict[str, list[dict[str, float]]]], count: int) -> list[Table]:
    """Replies by their median; waits by the longest of all runs: a promise about pauses is about the longest."""
    replies, waits = [], []
    for key in COLLECTIONS:
        taken = {kind: runs[kind][key] for kind in BOTH}
        figures = {}
        for kind, done in taken.items():
            figures[f"{kind}, ms"] = median([run["del_ms"] for run in done])
            figures[f"{kind}, worst ms"] = max(run["del_ms"] for run in done)
        figures["ours, PING ms"] = median([run["ping_ms"] for run in taken[OURS]])
        replies.append(Row(f"DEL {key}", figures, Bar("ours, ms", BAR_DEL_MS, at_least=False), dict(taken)))
        figures = {f"{kind}, ms": max(run["wait_ms"] for run in done) for kind, done in taken.items()}
        figures["ours idle, ms"] = max(run["control_ms"] for run in taken[OURS])
        figures["ours, busy beyond the probe s"] = max(run["beyond_s"] for run in taken[OURS])
        waits.append(Row(f"DEL {key}", figures, Bar("ours, ms", BAR_WAIT_MS, at_least=False)))
    return [
        Table(f"DEL of {count:,} elements: its reply, median", replies),
        Table(f"DEL of {count:,} elements: the others' longest wait, of all runs", waits),
    ]


def _measure(kind: str, scratch: Path, sizes: tuple[int, int], options: Options) -> tuple[Any, Any, str]:
    with started(kind, scratch / kind) as server:
        return _operations(server, sizes, options), _deletes(server, sizes[1], options), server.version()


def run(options: Options) -> Result:
    """Measure one server after the other: the ratio is of two sizes in one server, so nothing need alternate."""
    sizes = (QUICK_SMALL, QUICK_LARGE) if options.quick else (SMALL, LARGE)
    operations, deletes, versions = {}, {}, {}
    for kind in BOTH:
        with options.directory() as scratch:
            operations[kind], deletes[kind], versions[kind] = _measure(kind, scratch, sizes, options)
    tables = [
        Table("server's time less PING's, median", _operation_rows(operations, sizes)),
        *_delete_tables(deletes, sizes[1]),
    ]
    servers = [shown(kind) for kind in (OURS, RIVAL)]
    notes = [f"Times below {FLOOR_US} us count as {FLOOR_US} us. growth = large / small."]
    return Result("order", question(__doc__), ["python -m benchmarks order", *servers], versions, tables, notes)
