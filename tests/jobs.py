"""What jobs do: they leave a mark in a file, outside of every server, so that what was done is known whatever a server forgets.

Imported by workers of all frameworks, so it imports nothing but Python's own. A mark is one line, written at once: `word name time`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

MARKS_VARIABLE = "LMDBREDIS_MARKS"  # the environment of a worker: where its jobs leave their marks


def mark(word: str, name: object) -> None:
    """Leave a mark."""
    line = f"{word} {name} {time.time():.6f}\n".encode()
    descriptor = os.open(os.environ[MARKS_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        assert os.write(descriptor, line) == len(line)
    finally:
        os.close(descriptor)


def marks(path: str | Path, word: str) -> list[tuple[str, float]]:
    """Return (name, time) of all marks of a word, oldest first."""
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    return [(line.split()[1], float(line.split()[2])) for line in lines if line.split()[0] == word]


def work(name: str, seconds: float = 0.0) -> str:
    """Begin, take some time, be done."""
    mark("begin", name)
    time.sleep(seconds)
    mark("done", name)
    return f"{name} is done"


def work_at_last(name: str, failures: int) -> str:
    """Fail so many times, whoever tries, then be done."""
    mark("try", name)
    tried = [one for one, _ in marks(os.environ[MARKS_VARIABLE], "try") if one == name]
    if len(tried) <= failures:
        raise ValueError(f"{name} fails for the {len(tried)}. time")
    return work(name)
