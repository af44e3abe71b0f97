"""How long does a backup of a store of 4 GB take beside cp of the same file, and what do clients feel of it meanwhile?

    python -m benchmarks backup [--keys 2100000] [--repeats 3]

Values of 1,000 bytes are loaded, and a checkpoint is made. Then, in turn, on a warm page cache: `cp` of data.mdb; `cp` and a sync of
the copy; `lmdbredis backup --quick`, which copies, sums, puts on disk and opens the copy; and once more with every row of the copy
checked, on which no bar is set: a row costs the same whoever copied it. A backup that is not on disk is none, so cp with its sync
is what it stands beside; plain cp is shown too, and both run at the priority that the tool gives itself.

One client, which sends a SET when the one before is answered, measures what others feel: alone, beside a backup, beside cp, and
while BACKUP START holds checkpoints. The two cores of a small machine are then shared by the server, the client and the copying.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.client import Client, pack, strings
from benchmarks.machine import ROOT
from benchmarks.results import Bar, Options, Result, Row, Table, median, progress, question
from benchmarks.servers import OURS, launch, shown

KEYS, QUICK_KEYS = 2_100_000, 20_000
SIZE_BYTES = 1000
BAR_TIMES_CP = 1.3
BAR_TIMES_P99 = 2.0
WINDOW_S, QUICK_WINDOW_S = 10.0, 1.0
BACKUP = (sys.executable, "-m", "tools.main", "backup")
# As at a user's: modules are compiled once.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _warm(path: Path) -> None:
    """Read a file, so that it is in the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(8 << 20):
            pass


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _cp(source: Path, target: Path, *, syncs: bool) -> None:
    subprocess.run(["nice", "-n", "10", "cp", source, target], check=True)
    if syncs:
        with target.open("rb") as file:
            os.fsync(file.fileno())


def _backup(source: Path, target: Path, *words: str) -> None:
    subprocess.run([*BACKUP, source, target, *words], check=True, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL)


def _copies(directory: Path, scratch: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, the ways in turn, each from a warm cache and with nothing left to write."""
    data, target = directory / "data.mdb", scratch / "copy"
    ways: dict[str, Callable[[], object]] = {
        "cp": lambda: _cp(data, target, syncs=False),
        "cp, synced": lambda: _cp(data, target, syncs=True),
        "backup --quick": lambda: _backup(directory, target, "--quick"),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name in ways if repeat % 2 == 0 else reversed(ways):
            os.sync()
            _warm(data)
            taken[name].append(_timed(ways[name]))
            progress(f"{repeat + 1}/{repeats} {name}: {taken[name][-1]:.2f} s")
            shutil.rmtree(target) if target.is_dir() else target.unlink()
    os.sync()
    taken["backup, every row checked"] = [_timed(lambda: _backup(directory, target))]
    progress(f"backup, every row checked: {taken['backup, every row checked'][0]:.2f} s")
    shutil.rmtree(target)
    return taken


def _latencies_ms(client: Client, keys: int, goes_on: Callable[[], bool]) -> list[float]:
    """Milliseconds of each SET, sorted."""
    value, chance, taken = b"y" * SIZE_BYTES, random.Random(1), []
    while goes_on():
        elapsed_ns, _ = client.timed(pack("SET", f"key:{chance.randrange(keys):012d}", value))
        taken.append(elapsed_ns / 1e6)
    return sorted(taken)


def _beside(client: Client, keys: int, words: list[str | Path]) -> list[float]:
    """Milliseconds of each SET while a process runs."""
    with subprocess.Popen(words, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL) as process:
        taken = _latencies_ms(client, keys, lambda: process.poll() is None)
    assert process.returncode == 0, words
    return taken


def _felt(client: Client, directory: Path, scratch: Path, keys: int, window_s: float) -> dict[str, list[float]]:
    """Milliseconds of each SET by what happens meanwhile, once each."""
    target = scratch / "copy"

    def alone() -> list[float]:
        end = time.perf_counter() + window_s
        return _latencies_ms(client, keys, lambda: time.perf_counter() < end)

    found = {"alone": alone()}
    found["beside a backup"] = _beside(client, keys, [*BACKUP, directory, target, "--quick"])
    shutil.rmtree(target)
    found["beside cp"] = _beside(client, keys, ["cp", directory / "data.mdb", target])
    target.unlink()
    with Client(client.socket.getpeername()[1]) as other:
        other.call("BACKUP", "START")
        found["checkpoints held"] = alone()
        other.call("BACKUP", "STOP")
    return found


def _percentile(values: list[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)]


def _felt_rows(runs: list[dict[str, list[float]]]) -> list[Row]:
    """Medians of the runs' percentiles, beside those of the client alone."""
    rows = []
    for name in runs[0]:
        figures = {
            f"p{share * 100:g}, ms": median([_percentile(one[name], share) for one in runs])
            for share in (0.5, 0.99, 0.999)
        }
        figures["times alone, p99"] = median(
            [_percentile(one[name], 0.99) / _percentile(one["alone"], 0.99) for one in runs]
        )
        figures["SETs a second"] = median([len(one[name]) / (sum(one[name]) / 1000) for one in runs])
        bar = (
            Bar("times alone, p99", BAR_TIMES_P99, at_least=False)
            if name in {"beside a backup", "checkpoints held"}
            else None
        )
        rows.append(Row(name, figures, bar))
    return rows


def run(options: Options) -> Result:
    """Fill, copy in turn, then look from a client."""
    keys = options.keys or (QUICK_KEYS if options.quick else KEYS)
    window_s = QUICK_WINDOW_S if options.quick else WINDOW_S
    with options.directory() as scratch:
        directory = scratch / OURS
        server = launch(OURS, directory)
        try:
            server.wait_ready()
            with server.client() as client:
                client.fill(strings(keys, SIZE_BYTES))
                client.call("SAVE")
                server.settle()
                size_mb = (directory / "data.mdb").stat().st_size / 1024**2
                progress(f"{keys:,} keys, {size_mb:,.0f} MiB")
                taken = _copies(directory, scratch, options.repeats)
                felt = [_felt(client, directory, scratch, keys, window_s) for _ in range(options.repeats)]
            versions = {OURS: server.version()}
        finally:
            server.kill()
    seconds = {name: median(values) for name, values in taken.items()}
    figures = {f"{name}, s": value for name, value in seconds.items()}
    figures |= {
        "times cp, synced": seconds["backup --quick"] / seconds["cp, synced"],
        "times cp": seconds["backup --quick"] / seconds["cp"],
    }
    row = Row(f"{size_mb:,.0f} MiB", figures, Bar("times cp, synced", BAR_TIMES_CP, at_least=False), {OURS: [taken]})
    tables = [
        Table("seconds to copy the store", [row]),
        Table("what one client feels of it", _felt_rows(felt)),
    ]
    own = f"python -m benchmarks backup --keys {keys}"
    words = ["lmdbredis backup DIR DEST --quick", "cp DIR/data.mdb DEST"]
    notes = [f"Medians of {options.repeats} runs; the rows of the copy are checked once."]
    return Result("backup", question(__doc__), [own, shown(OURS), *words], versions, tables, notes)
