"""How late do keys disappear, and their `expired` events come, when a million of them have a time to live?

    python -m benchmarks expiry [--keys 1000000]

Every key gets its time with PXAT before the first is due. `spread`: times even over 60 s, 16,667 keys a second.
`at once`: all in the same millisecond. DBSIZE, which counts what is still stored, is asked every 20 ms.

Lateness of one sample: if `gone` keys have disappeared, then the key due at place `gone` (in order of
time), or an earlier one, is still stored; now minus its time is how late the server is, never more than how
late it truly is. For a server that expires in order the figure is exact; one that samples at random
gets off more lightly. `now` is read after the reply, against us. The longest wait for DBSIZE itself tells
whether expiring stopped other clients.

Events: one subscriber of `__keyevent@0__:expired` compares its clock, when a message has come, with the time of the key that
the message names. Once with all the times spread as above, once with a million keys of which two in a hundred
are due within ten seconds and the others in an hour: who looks for due keys at random seldom meets one. An
event that has not come when the server is given up counts as that late.
"""

import time
from itertools import starmap

from benchmarks.client import strings_until
from benchmarks.results import Bar, Options, Result, Row, Table, median, progress, question
from benchmarks.servers import BOTH, OURS, RIVAL, Server, pair, shown

KEYS, QUICK_KEYS = 1_000_000, 20_000
SPREAD_MS, QUICK_SPREAD_MS = 60_000, 1_500
LOAD_KEYS_PER_SECOND = 35_000  # slower than any server here: all must be there before the first is due
SAMPLE_S = 0.020
GIVE_UP_S = 60.0  # past the last key's time
FEW = 50  # one key of so many is due
FEW_SPREAD_MS = 10_000
FAR_MS = 3_600_000  # the others' time
EVENTS_GIVE_UP_S, QUICK_EVENTS_GIVE_UP_S = 20.0, 2.0
BAR_LATE_MS = 100.0


def _sample(server: Server, expire_at_ms: list[int]) -> dict[str, float]:
    """Load, then ask until all are gone; `late_ms_max`, `last_gone_ms` behind the last time, `wait_ms_max`."""
    total = len(expire_at_ms)
    late_ms_max = wait_ms_max = 0.0
    samples = 0
    with server.client() as client:
        client.fill(strings_until(expire_at_ms))
        if time.time() * 1000 > expire_at_ms[0]:
            reason = f"{server.kind} loaded {total} keys too slowly: the first was due before the last was there"
            raise RuntimeError(reason)
        time.sleep(max(0.0, expire_at_ms[0] / 1000 - 0.5 - time.time()))
        end = expire_at_ms[-1] / 1000 + GIVE_UP_S
        while time.time() < end:
            begin = time.perf_counter()
            left = client.call("DBSIZE")
            wait_ms_max = max(wait_ms_max, (time.perf_counter() - begin) * 1000)
            now_ms = time.time() * 1000
            samples += 1
            if left == 0:
                break
            late_ms_max = max(late_ms_max, now_ms - expire_at_ms[total - left])
            time.sleep(SAMPLE_S)
    last_gone_ms = time.time() * 1000 - expire_at_ms[-1]
    late_ms_max = max(late_ms_max, last_gone_ms if left else 0.0)
    return {
        "late_ms_max": late_ms_max,
        "last_gone_ms": last_gone_ms,
        "left": left,
        "wait_ms_max": wait_ms_max,
        "samples": samples,
    }


def _run(server: Server, keys: int, spread_ms: int) -> dict[str, float]:
    first_ms = int(time.time() * 1000) + 1000 + keys * 1000 // LOAD_KEYS_PER_SECOND
    return _sample(server, [first_ms + number * spread_ms // keys for number in range(keys)])


def _event_run(server: Server, expire_at_ms: list[int], give_up_s: float) -> dict[str, float]:
    """Load, then take the event of every key that is due before the far ones; lateness in ms."""
    first_ms = min(expire_at_ms)
    pending = {b"key:%012d" % number: at_ms for number, at_ms in enumerate(expire_at_ms) if at_ms < first_ms + FAR_MS}
    end = max(pending.values()) / 1000 + give_up_s
    late_ms: list[float] = []
    with server.client() as client, server.client() as subscriber:
        client.call("CONFIG", "SET", "notify-keyspace-events", "Ex")
        subscriber.call("SUBSCRIBE", "__keyevent@0__:expired")
        client.fill(strings_until(expire_at_ms))
        if time.time() * 1000 > first_ms:
            reason = (
                f"{server.kind} loaded {len(expire_at_ms)} keys too slowly: the first was due before the last was there"
            )
            raise RuntimeError(reason)
        subscriber.socket.settimeout(SAMPLE_S)
        while pending and time.time() < end:
            try:
                data = subscriber.socket.recv(1 << 18)
            except TimeoutError:
                continue
            now_ms = time.time() * 1000
            subscriber.reader.feed(data)
            while (message := subscriber.reader.gets()) is not False:
                late_ms.append(now_ms - pending.pop(message[2]))
    came = len(late_ms)
    late_ms += [time.time() * 1000 - at_ms for at_ms in pending.values()]
    late_ms.sort()
    return {
        "late_ms_max": late_ms[-1],
        "late_ms_p99": late_ms[len(late_ms) * 99 // 100],
        "late_ms_median": late_ms[len(late_ms) // 2],
        "came": came,
        "missing": len(pending),
    }


def _event_times(keys: int, spread_ms: int, one_in: int) -> list[int]:
    """The time of each key: one in so many is due, in order, within the spread, the others far from it."""
    first_ms = int(time.time() * 1000) + 1000 + keys * 1000 // LOAD_KEYS_PER_SECOND
    return [
        first_ms + (number * spread_ms // keys if number % one_in == 0 else spread_ms + FAR_MS)
        for number in range(keys)
    ]


def _events(options: Options, keys: int, spread_ms: int) -> list[Row]:
    """Both cases of events."""
    give_up_s = QUICK_EVENTS_GIVE_UP_S if options.quick else EVENTS_GIVE_UP_S
    few_ms = spread_ms * FEW_SPREAD_MS // SPREAD_MS
    cases = {
        f"{keys:,} due over {spread_ms / 1000:g} s": (spread_ms, 1),
        f"{keys // FEW:,} of {keys:,} due over {few_ms / 1000:g} s": (few_ms, FEW),
    }
    rows = []
    for case, (width_ms, one_in) in cases.items():
        runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in BOTH}
        for repeat in range(options.repeats):
            with options.directory() as scratch, pair(scratch) as servers:
                for kind in BOTH if repeat % 2 == 0 else BOTH[::-1]:
                    figures = _event_run(servers[kind], _event_times(keys, width_ms, one_in), give_up_s)
                    runs[kind].append(figures)
                    progress(
                        f"{repeat + 1}/{options.repeats} events, {case}, {kind}: "
                        f"{figures['late_ms_max']:.0f} ms late, {figures['missing']} missing"
                    )
        figures = {}
        for kind in BOTH:
            figures[f"{kind}, latest ms"] = max(run["late_ms_max"] for run in runs[kind])
            figures[f"{kind}, p99 ms"] = median([run["late_ms_p99"] for run in runs[kind]])
            figures[f"{kind}, given up"] = max(run["missing"] for run in runs[kind])
        rows.append(Row(case, figures, Bar("ours, latest ms", BAR_LATE_MS, at_least=False), dict(runs)))
    return rows


def _row(case: str, runs: dict[str, list[dict[str, float]]], bar: Bar | None) -> Row:
    """The worst run counts; `all gone` is a median."""
    figures = {}
    for kind in BOTH:
        figures[f"{kind}, latest ms"] = max(run["late_ms_max"] for run in runs[kind])
        figures[f"{kind}, all gone after ms"] = median([run["last_gone_ms"] for run in runs[kind]])
        figures[f"{kind}, longest wait ms"] = max(run["wait_ms_max"] for run in runs[kind])
    return Row(case, figures, bar, dict(runs))


def run(options: Options) -> Result:
    """Both cases, the servers in turn."""
    keys = options.keys or (QUICK_KEYS if options.quick else KEYS)
    spread_ms = QUICK_SPREAD_MS if options.quick else SPREAD_MS
    cases = {f"{keys:,} keys over {spread_ms / 1000:g} s": spread_ms, f"{keys:,} keys at once": 0}
    runs: dict[str, dict[str, list[dict[str, float]]]] = {case: {kind: [] for kind in BOTH} for case in cases}
    for repeat in range(options.repeats):
        for case, width_ms in cases.items():
            with options.directory() as scratch, pair(scratch) as servers:
                versions = {kind: server.version() for kind, server in servers.items()}
                for kind in BOTH if repeat % 2 == 0 else BOTH[::-1]:
                    figures = _run(servers[kind], keys, width_ms)
                    runs[case][kind].append(figures)
                    progress(
                        f"{repeat + 1}/{options.repeats} {case}, {kind}: {figures['late_ms_max']:.0f} ms late, {figures['left']} left"
                    )
    # at once: a million rows cannot go in 100 ms on any server here; reads see them gone at once all the same
    bars = {
        case: Bar("ours, latest ms", BAR_LATE_MS, at_least=False) if width_ms else None
        for case, width_ms in cases.items()
    }
    rows = list(starmap(_row, ((case, runs[case], bars[case]) for case in cases)))
    notes = [
        f"Sampled every {SAMPLE_S * 1000:.0f} ms; the worst of {options.repeats} runs. valkey's lateness is a lower limit (random order)."
    ]
    servers_lines = [shown(kind) for kind in (OURS, RIVAL)]
    own = f"python -m benchmarks expiry --keys {keys}"
    tables = [Table("lateness", rows), Table("lateness of `expired` events", _events(options, keys, spread_ms))]
    return Result("expiry", question(__doc__), [own, *servers_lines], versions, tables, notes)
