"""A client that only waits: it sends one request after another and reports the longest wait.

    python -m benchmarks.probe PORT [--interval-ms 1] [--words PING "GET probe"]

A process of its own, because a thread would wait for its neighbours' interpreter lock and call that a
pause of the server. It runs until its standard input closes, then prints one JSON line. With raised
priority where that is allowed (the line says so): on a full machine it would otherwise measure the
scheduler's queue. What is left of that shows the same probe against an idle server.
"""

import argparse
import gc
import itertools
import json
import os
import select
import shlex
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Self

from benchmarks.client import pack
from benchmarks.machine import ROOT

WORST_KEPT = 10
PRIORITY = -10


def _waits(port: int, requests: list[bytes], interval_s: float) -> list[tuple[float, float]]:
    """(seconds since the start, wait in ms) of each request; every reply is one short line or bulk."""
    waits = []
    with socket.create_connection(("127.0.0.1", port), 60.0) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.perf_counter()
        for request in itertools.cycle(requests):
            if select.select([sys.stdin], [], [], interval_s)[0]:
                return waits
            begin = time.perf_counter()
            connection.sendall(request)
            while not connection.recv(4096).endswith(b"\r\n"):
                pass
            waits.append((begin - start, (time.perf_counter() - begin) * 1000))
    return waits


def main() -> None:
    """Probe until the standard input closes; print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--interval-ms", type=float, default=1.0)
    parser.add_argument("--words", nargs="+", default=["PING"])
    options = parser.parse_args()
    gc.disable()
    try:
        os.nice(PRIORITY)
        raised = True
    except OSError:
        raised = False
    requests = [pack(*shlex.split(words)) for words in options.words]
    waits = _waits(options.port, requests, options.interval_ms / 1000)
    if not waits:
        sys.exit("not one request was answered")
    ordered = sorted(wait_ms for _, wait_ms in waits)
    worst = sorted(waits, key=lambda sample: -sample[1])[:WORST_KEPT]
    figures: dict[str, Any] = {
        "count": len(waits),
        "p50_ms": ordered[len(ordered) // 2],
        "p99_ms": ordered[len(ordered) * 99 // 100],
        "p999_ms": ordered[len(ordered) * 999 // 1000],
        "max_ms": ordered[-1],
        "worst": [[round(at_s, 4), round(wait_ms, 3)] for at_s, wait_ms in worst],
        "raised_priority": raised,
    }
    print(json.dumps(figures))


class Probe:
    """The process above as a context manager; `figures` is there after the block."""

    def __init__(self, port: int, *, interval_ms: float = 1.0, words: tuple[str, ...] = ("PING",)) -> None:
        self.words = [
            sys.executable,
            "-m",
            "benchmarks.probe",
            str(port),
            "--interval-ms",
            str(interval_ms),
            "--words",
            *words,
        ]
        self.figures: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        time.sleep(0.3)  # for its interpreter to start: the caller's load must not begin unwatched
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            text, _ = self.process.communicate("", timeout=90)
        finally:
            self.process.kill()
            self.process.wait()
        if kind is None:
            self.figures = json.loads(text)


if __name__ == "__main__":
    main()
