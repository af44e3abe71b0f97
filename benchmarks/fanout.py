"""How many messages a second reach subscribers, beside valkey, and how long until one message has reached ten thousand?

    redis-benchmark -c 50 -P 1 -n N PUBLISH channel <64 bytes>      (beside 1 and 100 subscribers)
    python -m benchmarks.crowd hold PORT 1|100|10000

The subscribers are one process that reads and counts bytes. Messages a second: all that were delivered, from the
first that came until the last, so that a publisher who is ahead of the subscribers gains nothing; every message must come
to everybody. The columns of cpu tell whether the clients were the slower ones.

Ten thousand: one connection publishes to them again and again, each time when the last message has reached all. `all` is
the time from the send of PUBLISH until the last of them has the message, `reply` until the publisher has its reply.
"""

import time
from dataclasses import dataclass

from benchmarks import load
from benchmarks.client import pack
from benchmarks.crowd import Held
from benchmarks.results import Bar, Options, Result, Row, Table, median, progress, question
from benchmarks.servers import BOTH, OURS, RIVAL, Server, pair, shown

CHANNEL = "channel"
PAYLOAD = "x" * 64
PUBLISH = f"PUBLISH {CHANNEL} {PAYLOAD}"
PUBLISHERS = 50
REQUESTS = {1: 200_000, 100: 60_000}
BAR_RATIO = 0.5
ROOM, QUICK_ROOM = 10_000, 500
MESSAGES, QUICK_MESSAGES = 20, 3
BAR_ALL_RATIO = 2.0
MORE_CLIENTS = ("--maxclients", "11000")  # the default ends at ten thousand, the publisher not counted


def push(*words: str) -> bytes:
    """What a subscriber is sent."""
    return pack(*words)  # a message is an array of bulk strings, as a request is


SUBSCRIBE = pack("SUBSCRIBE", CHANNEL)
GREETING_BYTES = len(b"*3\r\n$9\r\nsubscribe\r\n$7\r\nchannel\r\n:1\r\n")
MESSAGE_BYTES = len(push("message", CHANNEL, PAYLOAD))


def subscribers(server: Server, count: int) -> Held:
    """So many subscribers of the channel."""
    return Held(server.port, count, SUBSCRIBE, GREETING_BYTES)


@dataclass
class Run:
    """What one load of PUBLISH brought."""

    delivered_per_s: float
    published_per_s: float
    server_cpu: float
    publisher_cpu: float
    subscriber_cpu: float
    words: list[str]


def _publish(server: Server, count: int, requests: int) -> Run:
    with subscribers(server, count) as held:
        cpu_s, held_cpu_s, begin = server.cpu_s(), held.report()["cpu_s"], time.monotonic()
        done = load.run(server.port, PUBLISH, requests=requests, clients=PUBLISHERS)
        report = held.wait_for(requests * count * MESSAGE_BYTES)
        seconds = time.monotonic() - begin
        cpu = [(server.cpu_s() - cpu_s) / seconds, done.client_cpu, (report["cpu_s"] - held_cpu_s) / seconds]
    delivered = report["received"] // MESSAGE_BYTES
    assert delivered == requests * count, f"{delivered:,} messages came of {requests * count:,}"
    return Run(delivered / (report["last_at"] - report["first_at"]), done.rps, *cpu, done.words)


def _rates(options: Options) -> tuple[list[Row], list[str], dict[str, str]]:
    rows, lines = [], []
    for count, requests in REQUESTS.items():
        requests = requests // 100 if options.quick else requests
        runs: dict[str, list[Run]] = {kind: [] for kind in BOTH}
        for repeat in range(options.repeats):
            with options.directory() as scratch, pair(scratch) as servers:
                versions = {kind: server.version() for kind, server in servers.items()}
                for kind in BOTH if repeat % 2 == 0 else BOTH[::-1]:
                    servers[kind].settle()
                    runs[kind].append(_publish(servers[kind], count, requests))
                    shown_rate = f"{runs[kind][-1].delivered_per_s:,.0f} messages a second"
                    progress(f"{repeat + 1}/{options.repeats} {count} subscribers, {kind}: {shown_rate}")
        medians = {kind: median([run.delivered_per_s for run in runs[kind]]) for kind in BOTH}
        figures = {f"{kind}, messages/s": medians[kind] for kind in BOTH} | {"ratio": medians[OURS] / medians[RIVAL]}
        figures |= {f"{kind}, PUBLISH/s": median([run.published_per_s for run in runs[kind]]) for kind in BOTH}
        for kind in BOTH:
            figures[f"{kind}, cpu"] = median([run.server_cpu for run in runs[kind]])
            figures[f"{kind}, publishers' cpu"] = median([run.publisher_cpu for run in runs[kind]])
            figures[f"{kind}, subscribers' cpu"] = median([run.subscriber_cpu for run in runs[kind]])
        every = {kind: [vars(run) | {"words": None} for run in runs[kind]] for kind in BOTH}
        title = f"PUBLISH to {count} subscriber{'s' if count > 1 else ''}"
        rows.append(Row(title, figures, Bar("ratio", BAR_RATIO), every))
        lines.append(" ".join(runs[OURS][-1].words))
    return rows, lines, versions


def _reach(server: Server, count: int, messages: int) -> list[dict[str, float]]:
    """Publish one message after another to so many; the times of each."""
    times = []
    with subscribers(server, count) as held, server.client() as client:
        for number in range(1, messages + 1):
            begin = time.monotonic()
            elapsed_ns, reached = client.timed(pack("PUBLISH", CHANNEL, PAYLOAD))
            assert reached == count
            report = held.wait_for(number * count * MESSAGE_BYTES)
            times.append({"reply_ms": elapsed_ns / 1e6, "all_ms": (report["last_at"] - begin) * 1000})
    return times


def _room(options: Options) -> Row:
    count = QUICK_ROOM if options.quick else ROOM
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in BOTH}
    with options.directory() as scratch, pair(scratch, more=MORE_CLIENTS) as servers:
        for repeat in range(options.repeats):
            for kind in BOTH if repeat % 2 == 0 else BOTH[::-1]:
                times = _reach(servers[kind], count, QUICK_MESSAGES if options.quick else MESSAGES)
                runs[kind] += times
                progress(
                    f"{repeat + 1}/{options.repeats} {count:,} subscribers, {kind}: "
                    f"all after {median([one['all_ms'] for one in times]):.1f} ms"
                )
    figures = {}
    for kind in BOTH:
        figures[f"{kind}, all ms"] = median([one["all_ms"] for one in runs[kind]])
        figures[f"{kind}, worst ms"] = max(one["all_ms"] for one in runs[kind])
        figures[f"{kind}, reply ms"] = median([one["reply_ms"] for one in runs[kind]])
    figures["ratio"] = figures["ours, all ms"] / figures["valkey, all ms"]
    bar = Bar("ratio", BAR_ALL_RATIO, at_least=False)
    return Row(f"one PUBLISH to {count:,} subscribers", figures, bar, dict(runs))


def run(options: Options) -> Result:
    """Rates, then the full room."""
    rows, lines, versions = _rates(options)
    tables = [Table("messages delivered a second", rows), Table("until all have it, median", [_room(options)])]
    notes = [
        f"Medians of {options.repeats} runs, a fresh pair of servers for each of the first table.",
        f"A message is {MESSAGE_BYTES} bytes. cpu: the part of a core that the server, the publishers and the subscribers used.",
    ]
    own = [*(shown(kind) for kind in (OURS, RIVAL)), *lines, f"python -m benchmarks.crowd hold PORT {ROOM}"]
    return Result("fanout", question(__doc__), own, versions, tables, notes)
