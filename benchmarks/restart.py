"""How soon does a killed server answer again, and how much memory does it need that is not the file's own pages?

    python -m benchmarks restart [--keys 3000000] [--large]

Values of 64 bytes are loaded; the server is killed with -9 right behind the last reply, when the newest writes
are in its log alone, and started on the same directory. The time runs from the fork
until PING and a GET of the last key written are both answered. Ours, and valkey twice: with the append-only
file as the load left it, and, kinder, after BGREWRITEAOF. The quicker of the two is the rival.

Memory is RssAnon of /proc/PID/status; RssFile, the mapped pages of the data file, which the kernel takes
back whenever it wants them, stands beside it. `--large` loads 30,000,000 keys as well, into ours only.
"""

import time
from pathlib import Path

from benchmarks.client import strings
from benchmarks.results import Bar, Options, Result, Row, Table, median, progress, question
from benchmarks.servers import OURS, RIVAL, Server, launch, shown

KEYS, QUICK_KEYS, LARGE_KEYS = 3_000_000, 30_000, 30_000_000
SIZE_BYTES = 64
READY_S = 600.0
BAR_FIRST_REPLY_S = 0.3
BAR_SHARE = 0.1
BAR_ANON_MB = 200.0
BAR_GROWTH = 1.25  # "the same with 30,000,000"
REWRITTEN = "valkey, rewritten"


def _again(server: Server, keys: int, directory: Path) -> tuple[Server, float]:
    """Kill, start, wait for PING and the last key; (the new process, seconds)."""
    server.kill()
    again = launch(server.kind, directory)
    try:
        again.wait_ready(pause_s=0.001, limit_s=READY_S)
        with again.client() as client:
            value = client.call("GET", f"key:{keys - 1:012d}")
            elapsed = time.perf_counter() - again.launched_at
            assert len(value) == SIZE_BYTES, "the last acknowledged write is gone"
            assert client.call("DBSIZE") == keys
    except BaseException:
        again.kill()
        raise
    return again, elapsed


def _rewrite(server: Server) -> None:
    with server.client() as client:
        client.call("BGREWRITEAOF")
        time.sleep(0.2)
    server.settle()


def _one(who: str, kind: str, keys: int, options: Options) -> dict[str, float]:
    """Load, kill, start again."""
    with options.directory() as scratch:
        directory = scratch / kind
        server = launch(kind, directory)
        try:
            server.wait_ready()
            begin = time.perf_counter()
            with server.client() as client:
                client.fill(strings(keys, SIZE_BYTES))
            load_s = time.perf_counter() - begin
            loaded = server.memory_mb()
            if who == REWRITTEN:
                _rewrite(server)
            server, first_reply_s = _again(server, keys, directory)
            restarted = server.memory_mb()
            disk_mb = server.disk_mb()
        finally:
            server.kill()
    progress(f"{who}, {keys:,} keys: first reply after {first_reply_s:.3f} s, RssAnon {loaded['anon']:.0f} MiB loaded")
    return {
        "first_reply_s": first_reply_s,
        "load_s": load_s,
        "loaded_anon_mb": loaded["anon"],
        "loaded_file_mb": loaded["file"],
        "restarted_anon_mb": restarted["anon"],
        "restarted_file_mb": restarted["file"],
        "disk_mb": disk_mb,
    }


def _memory_rows(runs: dict[str, list[dict[str, float]]]) -> list[Row]:
    """The largest of all runs against the bar."""
    rows = []
    for who, taken in runs.items():
        for when in ("loaded", "restarted"):
            figures = {
                "RssAnon, MiB": max(run[f"{when}_anon_mb"] for run in taken),
                "RssFile, MiB": max(run[f"{when}_file_mb"] for run in taken),
                "on disk, MiB": max(run["disk_mb"] for run in taken),
            }
            bar = Bar("RssAnon, MiB", BAR_ANON_MB, at_least=False) if who.startswith(OURS) else None
            rows.append(Row(f"{who}, {when}", figures, bar))
    return rows


def run(options: Options) -> Result:
    """Alternate the servers within a repeat."""
    keys = options.keys or (QUICK_KEYS if options.quick else KEYS)
    kinds = {OURS: OURS, RIVAL: RIVAL, REWRITTEN: RIVAL}
    runs: dict[str, list[dict[str, float]]] = {who: [] for who in kinds}
    for _ in range(options.repeats):
        for who, kind in kinds.items():
            runs[who].append(_one(who, kind, keys, options))
    times_s = {who: median([run["first_reply_s"] for run in taken]) for who, taken in runs.items()}
    rival_s = min(times_s[RIVAL], times_s[REWRITTEN])
    figures = {
        "ours, s": times_s[OURS],
        "valkey, s": times_s[RIVAL],
        f"{REWRITTEN}, s": times_s[REWRITTEN],
        "share": times_s[OURS] / rival_s,
    }
    rows = [
        Row("first reply", figures, Bar("ours, s", BAR_FIRST_REPLY_S, at_least=False), dict(runs)),
        Row("the same, beside valkey's better time", figures, Bar("share", BAR_SHARE, at_least=False)),
    ]
    named = {f"{who}, {keys:,} keys": taken for who, taken in runs.items()}
    growth = []
    if options.large:
        many = LARGE_KEYS if not options.quick else 10 * keys
        large = [_one(OURS, OURS, many, options)]
        named[f"{OURS}, {many:,} keys"] = large
        for when in ("loaded", "restarted"):
            anon = {
                count: max(run[f"{when}_anon_mb"] for run in taken)
                for count, taken in ((keys, runs[OURS]), (many, large))
            }
            shares = {f"MiB, {count:,} keys": value for count, value in anon.items()} | {
                "growth": anon[many] / anon[keys]
            }
            growth.append(Row(f"RssAnon, {when}", shares, Bar("growth", BAR_GROWTH, at_least=False), {OURS: large}))
        reply = {f"s, {keys:,} keys": times_s[OURS], f"s, {many:,} keys": large[0]["first_reply_s"]}
        growth_times = [Row("first reply", reply, Bar(f"s, {many:,} keys", BAR_FIRST_REPLY_S, at_least=False))]
    tables = [
        Table(f"seconds from start to the first reply, {keys:,} keys", rows),
        Table("memory, the largest of all runs", _memory_rows(named)),
    ]
    if growth:
        tables += [Table("ten times the keys: memory", growth), Table("ten times the keys: time", growth_times)]
    servers = [shown(kind) for kind in (OURS, RIVAL)]
    versions = _versions(options)
    own = f"python -m benchmarks restart --keys {keys}{' --large' if options.large else ''}"
    return Result(
        "restart",
        question(__doc__),
        [own, *servers],
        versions,
        tables,
        [f"Times are medians of {options.repeats} runs."],
    )


def _versions(options: Options) -> dict[str, str]:
    versions = {}
    for kind in (OURS, RIVAL):
        with options.directory() as scratch:
            server = launch(kind, scratch / kind)
            try:
                server.wait_ready()
                versions[kind] = server.version()
            finally:
                server.kill()
    return versions
