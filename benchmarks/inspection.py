"""How long does it take to learn what ten million keys are, and how much memory, without asking the server?

    python -m benchmarks inspection [--keys 10000000]

Of ten keys six are strings of 64 bytes, two are such strings with a time to live, one is a hash of three fields, one a set
or a sorted set of three members, under five prefixes. `lmdbredis stats` and `lmdbredis bigkeys` read every row of that, beside
the server that holds it, which is idle; nothing is sampled. The rival is `redis-cli --bigkeys` on valkey with the same keys, which
asks for the size of each key and tells less: no bytes of collections, no prefixes, no times to live.

Memory is the most RssAnon that the tool's processes had together, looked at fifty times a second: the pages of
data.mdb that are mapped are the kernel's. Cold means that the server was stopped and the file's pages were dropped from the page
cache before.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.client import Chunk, pack
from benchmarks.machine import ROOT
from benchmarks.results import Bar, Options, Result, Row, Table, median, progress, question
from benchmarks.servers import BOTH, OURS, RIVAL, launch, shown

KEYS, QUICK_KEYS = 10_000_000, 10_000
BAR_S = 20.0
BAR_ANON_MB = 300.0
SAMPLE_S = 0.02
GROUP = 10  # keys
GROUPS_PER_CHUNK = 100
VALUE = b"x" * 64
SPREAD_MS = 30 * 86_400_000
COLD = "stats, cold"
WORDS = {
    "stats": ("-m", "tools.main", "stats", "{directory}", "--json"),
    "bigkeys": ("-m", "tools.main", "bigkeys", "{directory}", "--json"),
}
SHOWN = ["lmdbredis stats DIR", "lmdbredis bigkeys DIR", "redis-cli -p PORT --bigkeys"]


def _group(number: int, now_ms: int) -> Iterator[bytes]:
    """The requests that make ten keys."""
    for one in range(6 * number, 6 * number + 6):
        yield pack("SET", f"user:{one:012d}", VALUE)
    for one in (2 * number, 2 * number + 1):
        yield pack("SET", f"session:{one:012d}", VALUE, "PXAT", now_ms + 3_600_000 + one * 7919 % SPREAD_MS)
    yield pack("HSET", f"profile:{number:012d}", "name", VALUE[:20], "mail", VALUE[:20], "age", "42")
    if number % 2:
        yield pack("SADD", f"tags:{number:012d}", "red", "green", "blue")
    else:
        yield pack("ZADD", f"board:{number:012d}", 1, "ann", 2, "ben", 3, "cat")


def _chunks(keys: int) -> Iterator[Chunk]:
    now_ms = time.time_ns() // 1_000_000
    for first in range(0, keys // GROUP, GROUPS_PER_CHUNK):
        last = min(first + GROUPS_PER_CHUNK, keys // GROUP)
        requests = [request for number in range(first, last) for request in _group(number, now_ms)]
        yield Chunk(b"".join(requests), len(requests))


def _anon_mb(pid: int) -> float:
    """RssAnon of a process and its children, MiB."""
    total = 0.0
    with suppress(OSError):  # one may end as we look
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (str(pid), *children):
            found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{one}/status").read_text(), re.MULTILINE)
            total += int(found.group(1)) / 1024 if found else 0.0
    return total


class Looked(NamedTuple):
    """What one run took."""

    seconds: float
    cpu_s: float
    anon_mb: float


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _run(words: Sequence[str]) -> tuple[Looked, str]:
    """What a program took, and what it printed."""
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }  # as at a user's
    cpu_s = _children_cpu_s()  # of those that have ended: servers have not
    begin = time.perf_counter()
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(words, stdout=said, stdin=subprocess.DEVNULL, cwd=ROOT, env=environment) as process,
    ):
        most = 0.0
        while process.poll() is None:
            most = max(most, _anon_mb(process.pid))
            time.sleep(SAMPLE_S)
        elapsed = time.perf_counter() - begin
        said.seek(0)
        text = said.read().decode(errors="replace")
    if process.returncode:
        reason = f"{words} ended with {process.returncode}: {text[-500:]}"
        raise RuntimeError(reason)
    return Looked(elapsed, _children_cpu_s() - cpu_s, most), text


def _drop_pages(path: Path) -> None:
    """Let the kernel forget the pages of a file that nobody has mapped."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _inspect(name: str, directory: Path, keys: int) -> Looked:
    words = [sys.executable, *(word.format(directory=directory) for word in WORDS[name])]
    looked, said = _run(words)
    found = json.loads(said)
    if name == "stats":
        assert sum(one["keys"] for one in found["types"].values()) == keys, "it missed some"
    progress(f"{name}: {looked.seconds:.1f} s, of a core {looked.cpu_s:.1f} s, RssAnon {looked.anon_mb:.0f} MiB")
    return looked


def _ours(keys: int, options: Options, versions: dict[str, str]) -> dict[str, list[Looked]]:
    """Load, look, stop the server, look again."""
    runs: dict[str, list[Looked]] = {"stats": [], "bigkeys": [], COLD: []}
    with options.directory() as scratch:
        server = launch(OURS, scratch / OURS)
        try:
            server.wait_ready()
            versions[server.kind] = server.version()
            with server.client() as client:
                client.fill(_chunks(keys))
                assert client.call("DBSIZE") == keys
                client.call("SAVE")  # a tool sees what is committed
            server.settle()
            for _ in range(options.repeats):
                for name in WORDS:
                    runs[name].append(_inspect(name, server.directory, keys))
        finally:
            server.kill()
        for _ in range(options.repeats):
            _drop_pages(server.directory / "data.mdb")
            runs[COLD].append(_inspect("stats", server.directory, keys))
    return runs


def _rival(keys: int, options: Options, versions: dict[str, str]) -> list[Looked]:
    """The same keys, and redis-cli's way to learn of them."""
    runs = []
    with options.directory() as scratch:
        server = launch(RIVAL, scratch / RIVAL)
        try:
            server.wait_ready()
            versions[server.kind] = server.version()
            with server.client() as client:
                client.fill(_chunks(keys))
            server.settle()
            for _ in range(options.repeats):
                looked, _ = _run(["redis-cli", "-p", str(server.port), "--bigkeys"])
                progress(f"redis-cli --bigkeys: {looked.seconds:.1f} s")
                runs.append(looked)
        finally:
            server.kill()
    return runs


def run(options: Options) -> Result:
    """Ours first; both servers would not fit into the page cache of a small machine at once."""
    keys = (options.keys or (QUICK_KEYS if options.quick else KEYS)) // GROUP * GROUP
    versions: dict[str, str] = {}
    runs = _ours(keys, options, versions)
    runs["redis-cli --bigkeys"] = _rival(keys, options, versions)
    rows = []
    for name, taken in runs.items():
        figures = {
            "s": median([looked.seconds for looked in taken]),
            "s of a core": median([looked.cpu_s for looked in taken]),
            "RssAnon, MiB": max(looked.anon_mb for looked in taken),
        }
        bar = Bar("s", BAR_S, at_least=False) if name == "stats" else None
        rows.append(Row(name, figures, bar, {name: [looked._asdict() for looked in taken]}))
    memory = [
        Row(row.case, {"RssAnon, MiB": row.figures["RssAnon, MiB"]}, Bar("RssAnon, MiB", BAR_ANON_MB, at_least=False))
        for row in rows
        if "redis-cli" not in row.case
    ]
    commands = [f"python -m benchmarks inspection --keys {keys}", *SHOWN, *map(shown, BOTH)]
    return Result(
        "inspection",
        question(__doc__),
        commands,
        versions,
        [Table(f"{keys:,} keys", rows), Table("memory, the largest of all runs", memory)],
        [f"Times are medians of {options.repeats} runs."],
    )
