"""How soon does an element reach a client that waits for it, and what do ten thousand that wait cost?

    python -m benchmarks waiting

Hand-over: ten clients wait in BLPOP of one list, one more pushes an element. Timed is from before the send of RPUSH until
the element is with whoever waited longest, who waits again before the next push. All in one process, one
element at a time, so that what is timed is the server and four system calls.

Ten thousand wait in BLPOP, each for a list of its own. Memory: what the server has more of its own (RssAnon) than
before, once with the connections open and once with all of them waiting. Idle: the part of a core that it uses while
nothing happens. Others: 50 clients of redis-benchmark SET random keys, beside the waiting and without them, in turn.
"""

import select
import time

from benchmarks import load
from benchmarks.client import Client, pack
from benchmarks.crowd import Held
from benchmarks.fanout import MORE_CLIENTS
from benchmarks.results import Bar, Options, Result, Row, Table, median, progress, question
from benchmarks.servers import BOTH, OURS, RIVAL, Server, pair, shown

POPPERS = 10
HANDOVERS, QUICK_HANDOVERS = 20_000, 300
WARM_UP = 100
BAR_RATIO = 2.0
CROWD, QUICK_CROWD = 10_000, 300
IDLE_S, QUICK_IDLE_S = 5.0, 0.5
BAR_IDLE_CPU = 0.05
BAR_OTHERS = 0.9
OTHERS, QUICK_OTHERS = 200_000, 5_000
OTHERS_KEYS = 10_000  # few, so that a run does not pay for what the one before it wrote
SILENCE_S = 30.0


# --- hand-over -----------------------------------------------------------------------------------------------------


def _handovers(server: Server, count: int) -> dict[str, float]:
    """Percentiles of so many hand-overs, in ms."""
    block, push = pack("BLPOP", "queue", 0), pack("RPUSH", "queue", "x" * 64)
    poppers = {popper.socket.fileno(): popper for popper in (server.client() for _ in range(POPPERS))}
    poll = select.epoll()
    for descriptor, popper in poppers.items():
        popper.socket.sendall(block)
        poll.register(descriptor, select.EPOLLIN)
    times_ns = []
    with server.client() as pusher:
        _wait_for(pusher, "blocked_clients", POPPERS)
        for _ in range(count + WARM_UP):
            begin = time.perf_counter_ns()
            pusher.socket.sendall(push)
            events = poll.poll(SILENCE_S)
            assert events, f"nobody was handed anything in {SILENCE_S} s"
            popper = poppers[events[0][0]]
            popper.reply()
            times_ns.append(time.perf_counter_ns() - begin)
            popper.socket.sendall(block)
            assert pusher.reply() == 1
    for popper in poppers.values():
        popper.socket.close()
    ordered = sorted(times_ns[WARM_UP:])
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return {name: ordered[int(len(ordered) * share)] / 1e6 for name, share in shares.items()} | {
        "max": ordered[-1] / 1e6
    }


def _wait_for(client: Client, name: str, count: int) -> None:
    """Wait until a figure of INFO clients is `count`."""
    deadline = time.monotonic() + SILENCE_S
    while (found := int(client.info("clients")[name])) != count:
        assert time.monotonic() < deadline, f"{name} is {found}, not {count}"
        time.sleep(0.01)


def _handover_rows(runs: dict[str, list[dict[str, float]]]) -> list[Row]:
    rows = []
    for name in runs[OURS][0]:
        medians = {kind: median([run[name] for run in runs[kind]]) for kind in BOTH}
        figures = {f"{kind}, ms": medians[kind] for kind in BOTH} | {"ratio": medians[OURS] / medians[RIVAL]}
        judged = name == "p99"
        bar = Bar("ratio", BAR_RATIO, at_least=False) if judged else None
        rows.append(Row(f"hand-over, {name}", figures, bar, dict(runs) if judged else {}))
    return rows


# --- ten thousand --------------------------------------------------------------------------------------------------


def _others(server: Server, options: Options) -> float:
    requests = QUICK_OTHERS if options.quick else OTHERS
    return load.run(server.port, "-t set", requests=requests, keyspace=OTHERS_KEYS).rps


def _crowd(server: Server, options: Options) -> dict[str, float]:
    """One server with and without ten thousand clients that wait."""
    count = QUICK_CROWD if options.quick else CROWD
    idle_s = QUICK_IDLE_S if options.quick else IDLE_S
    _others(server, options)  # warm: the keys are there, and the memory that a load needs
    server.settle()
    before = _others(server, options)
    server.settle()
    begin_mb = server.memory_mb()["anon"]
    with server.client() as client:
        with Held(server.port, count, later=pack("BLPOP", "queue:000000000000", 0)) as held:
            _wait_for(client, "connected_clients", count + 1)
            connected_mb = server.memory_mb()["anon"]
            held.send_later()
            _wait_for(client, "blocked_clients", count)
            waiting_mb = server.memory_mb()["anon"]
            server.settle()
            cpu_s = server.cpu_s()
            time.sleep(idle_s)
            idle_cpu = (server.cpu_s() - cpu_s) / idle_s
            beside = _others(server, options)
            assert held.report()["received"] == held.report()["closed"] == 0, "all are still waiting"
        _wait_for(client, "connected_clients", 1)
    server.settle()
    after = _others(server, options)
    return {
        "connected_kib": (connected_mb - begin_mb) * 1024 / count,
        "waiting_kib": (waiting_mb - begin_mb) * 1024 / count,
        "idle_cpu": idle_cpu,
        "alone_rps": (before + after) / 2,  # drift falls on both sides
        "beside_rps": beside,
    }


def _crowd_rows(runs: dict[str, list[dict[str, float]]], count: int) -> list[Row]:
    medians = {kind: {name: median([run[name] for run in runs[kind]]) for name in runs[kind][0]} for kind in BOTH}
    memory, idle, others = {}, {}, {}
    for kind in BOTH:
        memory[f"{kind}, connected KiB"] = medians[kind]["connected_kib"]
        memory[f"{kind}, waiting KiB"] = medians[kind]["waiting_kib"]
        idle[f"{kind}, cpu"] = medians[kind]["idle_cpu"]
        others[f"{kind}, SET/s alone"] = medians[kind]["alone_rps"]
        others[f"{kind}, SET/s beside"] = medians[kind]["beside_rps"]
        others[f"{kind}, share kept"] = median([run["beside_rps"] / run["alone_rps"] for run in runs[kind]])
    return [
        Row("memory for each", memory, None, dict(runs)),
        Row(f"{count:,} wait, nothing happens", idle, Bar("ours, cpu", BAR_IDLE_CPU, at_least=False)),
        Row("50 others SET beside them", others, Bar("ours, share kept", BAR_OTHERS)),
    ]


def _all(options: Options) -> tuple[dict[str, dict[str, list[dict[str, float]]]], dict[str, str]]:
    """What is measured -> kind -> a run per repeat; a fresh pair of servers for each."""
    runs: dict[str, dict[str, list[dict[str, float]]]] = {
        name: {kind: [] for kind in BOTH} for name in ("handover", "crowd")
    }
    for repeat in range(options.repeats):
        with options.directory() as scratch, pair(scratch, more=MORE_CLIENTS) as servers:
            versions = {kind: server.version() for kind, server in servers.items()}
            for kind in BOTH if repeat % 2 == 0 else BOTH[::-1]:
                servers[kind].settle()
                done = _handovers(servers[kind], QUICK_HANDOVERS if options.quick else HANDOVERS)
                runs["handover"][kind].append(done)
                progress(f"{repeat + 1}/{options.repeats} hand-over, {kind}: p99 {done['p99']:.3f} ms")
            for kind in BOTH if repeat % 2 == 0 else BOTH[::-1]:
                done = _crowd(servers[kind], options)
                runs["crowd"][kind].append(done)
                progress(
                    f"{repeat + 1}/{options.repeats} crowd, {kind}: {done['waiting_kib']:.1f} KiB each, idle {done['idle_cpu']:.3f}, "
                    f"others {done['beside_rps']:,.0f} of {done['alone_rps']:,.0f}"
                )
    return runs, versions


def run(options: Options) -> Result:
    """The hand-over, then the crowd."""
    count = QUICK_CROWD if options.quick else CROWD
    runs, versions = _all(options)
    tables = [
        Table(f"RPUSH until one of {POPPERS} that wait has it, medians", _handover_rows(runs["handover"])),
        Table(f"{count:,} clients that wait", _crowd_rows(runs["crowd"], count)),
    ]
    shown_load = f"redis-benchmark -p PORT -r {OTHERS_KEYS} -d 64 -c 50 -P 1 -n {OTHERS} -t set"
    lines = [*(shown(kind) for kind in BOTH), f"python -m benchmarks.crowd hold PORT {CROWD}", shown_load]
    notes = [f"Medians of {options.repeats} runs, a fresh pair of servers for each.", "Both with --maxclients 11000."]
    return Result("waiting", question(__doc__), lines, versions, tables, notes)
