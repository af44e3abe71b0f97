"""Stores for the operator's tool: one with some of everything, each way to break it, and the tool run as a process."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import lmdb

from lmdbredis import wal
from tests.crash import Engine
from tests.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PAGE = 4096
SECONDS_MAX = 60
NOW_MS = 4_000_000_000_000  # the clock of the stores: in 2096, so that nothing expires unless a test wants it
FILES_OF_READERS = {"lock.mdb"}  # what LMDB's readers write to


def make(directory: Path) -> Path:
    """Return the directory of a closed store with some thousand rows and a log of several segments."""
    engine = Engine(directory)
    engine.clock_ms = NOW_MS
    for number in range(200):
        engine.run(
            *([b"SET", b"key%d" % index, b"value%d" % number * 9] for index in range(number, number + 10)),
            [b"HSET", b"hash", b"field%d" % number, b"v"],
            [b"ZADD", b"zset", b"%d" % number, b"member%d" % number],
            [b"RPUSH", b"list", b"%d" % number],
        )
        engine.tick(3)
    engine.run([b"SET", b"long" * 200, b"v", b"PX", b"100000000"], [b"SET", b"large", bytes(20_000)])
    engine.close()
    return directory


def tool(*words: object) -> tuple[int, str]:
    """Run the tool as a process; return its exit status and all it said."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.main", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, timeout=SECONDS_MAX, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


_SEVERAL = """
import json, sys
from tools.main import main
for line in json.load(sys.stdin):
    sys.stdout.flush(), sys.stderr.flush()
    try:
        status = main(line)
    except SystemExit as end:
        status = end.code
    sys.stdout.flush()
    print(f"\\n= {status}", flush=True)
"""


_AS_NOBODY = """
import concurrent.futures.thread, locale, os, sys
from tools import main as _  # before the interpreter's own files are out of reach
os.chdir(sys.argv[1])
if not os.getuid():
    os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
"""


def several_as_nobody(place: Path, *lines: list[object]) -> list[tuple[int, str]]:
    """Do as `several`, in the directory `place`, as a user who has no right but those that everybody has."""
    place.chmod(0o755)
    return several(*lines, program=_AS_NOBODY + _SEVERAL, words=[str(place)])


def several(*lines: list[object], program: str = _SEVERAL, words: Sequence[str] = ()) -> list[tuple[int, str]]:
    """Run command lines one after the other in one process; return the status of each, and all it said."""
    asked = json.dumps([[str(word) for word in line] for line in lines])
    done = subprocess.run(
        [sys.executable, "-c", program, *words], input=asked, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=SECONDS_MAX, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stdout, done.stdout
    assert done.returncode == 0
    said = re.split(r"\n= (\d+)\n", done.stdout)
    assert len(said) == 2 * len(lines) + 1
    return [(int(status), text) for text, status in zip(said[::2], said[1::2], strict=False)]


def contents(directory: Path) -> dict[str, bytes]:
    """Return every file of a directory, but what LMDB's readers write to."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in FILES_OF_READERS
    }


def edit(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def each_page_with(store: Path, text: bytes, at: int, content: bytes) -> None:
    """Write over all pages that hold some bytes: which of them are still in use only the engine knows."""
    data = (store / "data.mdb").read_bytes()
    for start in range(0, len(data), PAGE):
        if text in data[start : start + PAGE]:
            edit(store / "data.mdb", start + at, content)


def lose_pages(store: Path) -> None:
    size = (store / "data.mdb").stat().st_size
    edit(store / "data.mdb", 2 * PAGE, bytes(size - 2 * PAGE))


def lose_rows(store: Path, table: bytes) -> None:
    with lmdb.open(str(store), map_size=1 << 30, max_dbs=32) as env:
        handle = env.open_db(table)
        with env.begin(write=True) as transaction:
            transaction.drop(handle, delete=False)
    (store / "CONTROL").unlink()


def one_row(store: Path, table: bytes, key: bytes, row: bytes) -> None:
    with lmdb.open(str(store), map_size=1 << 30, max_dbs=32) as env:
        handle = env.open_db(table)
        with env.begin(write=True) as transaction:
            transaction.put(key, row, db=handle)
    (store / "CONTROL").unlink()


def last_segment(store: Path) -> Path:
    return wal.segment_path(store / "wal", wal.segments(store / "wal")[-1])


def synced_record(store: Path) -> None:
    """Break a record in the middle of the log after the synced snapshot; those behind it say that it had been safe."""
    engine = Engine(store)
    for number in range(5):
        engine.run([b"SET", b"k", b"%d" % number * 50])
        engine.store.wal.sync()
    lsn = engine.store.control.lsn
    engine.close(checkpoint=False)
    base = max(base for base in wal.segments(store / "wal") if base <= lsn)
    edit(wal.segment_path(store / "wal", base), lsn - base + 40, b"\xee")


def older_data(store: Path) -> None:
    content = (store / "data.mdb").read_bytes()
    engine = Engine(store)
    for number in range(3):
        engine.run([b"SET", b"k", b"%d" % number])
        engine.store.checkpoint()
    engine.close()
    (store / "data.mdb").write_bytes(content)


# What is broken -> (how, what the tool says of it).
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "CONTROL damaged": (lambda store: edit(store / "CONTROL", 60, b"?"), "the file CONTROL is damaged"),
    "CONTROL cut off": (lambda store: (store / "CONTROL").write_bytes(b"LR"), "the file CONTROL is damaged"),
    "a meta page lost": (lambda store: edit(store / "data.mdb", PAGE, bytes(PAGE)), ""),
    "data.mdb cut off": (lambda store: os.truncate(store / "data.mdb", 5 * PAGE), "which CONTROL names, "),
    "data.mdb older": (older_data, "an older state"),
    "all pages lost": (lose_pages, "data.mdb"),
    "leaf pages lost": (lambda store: each_page_with(store, b"field100", 0, bytes(PAGE)), ""),
    "leaf pages of noise": (
        lambda store: each_page_with(store, b"field100", 16, random.Random(1).randbytes(PAGE - 16)),
        "",
    ),
    "a value changed in the log": (synced_record, "a record that had been synced is not whole"),
    "the log lost": (lambda store: shutil.rmtree(store / "wal"), "the log ends before"),
    "the log shorter": (lambda store: last_segment(store).write_bytes(b""), "the log ends before"),
    "hash rows lost": (lambda store: lose_rows(store, b"hash"), "has no rows, its key says 200"),
    "counts lost": (lambda store: lose_rows(store, b"counts"), "there are none, though the owner is counted"),
    "expires lost": (lambda store: lose_rows(store, b"expires"), "there is no row of expires for that"),
    "a key too many": (lambda store: one_row(store, b"keys", bytes(4) + b"extra", b"\1v"), "its row says"),
    "an empty cell": (lambda store: one_row(store, b"keys", bytes(4) + b"key1", b""), "an empty cell"),
}
