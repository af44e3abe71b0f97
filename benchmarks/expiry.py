"""How late do keys disappear when a million of them have a time to live?

    python -m benchmarks expiry [--keys 1000000]

Every key gets its time with PXAT before the first is due. `spread`: times even over 60 s, 16,667 keys a second.
`at once`: all in the same millisecond. DBSIZE, which counts what is still stored, is asked every 20 ms.

Lateness of one sample: if `gone` keys have disappeared, then the key due at place `gone` (in order of
time), or an earlier one, is still stored; now minus its time is how late the server is, never more than how
late it truly is. For a server that expires in order the figure is exact; one that samples at random
gets off more lightly. `now` is read after the reply, against us. The longest wait for DBSIZE itself tells
whether expiring stopped other clients.
"""

import time
from itertools import starmap

from benchmarks.client import strings_until
from benchmarks.results import Bar, Options, Result, Row, Table, median, progress, question
from benchmarks.servers import BOTH, OURS, RIVAL, Server, pair, shown

KEYS, QUICK_KEYS = 1_000_000, 20_000
SPREAD_MS, QUICK_SPREAD_MS = 60_000, 1_500
LOAD_KEYS_PER_SECOND = 50_000  # the first key is due after the load at this speed; a slower load is an error
SAMPLE_S = 0.020
GIVE_UP_S = 60.0  # past the last key's time
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
    return Result("expiry", question(__doc__), [own, *servers_lines], versions, [Table("lateness", rows)], notes)
