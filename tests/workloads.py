"""Applications at work on a real server: their workers as processes, the marks of their jobs, and a crash in the middle.

Laws:
- A worker is a process of its own, started by its framework's own command, as its users start it. Like a supervisor
  `Worker.keep` starts it anew when it has ended. It is ended by its pid, and by the kernel when the tests end.
- What was done is known from the marks (see `jobs`), which no server holds.
- The server may be killed while a job is at work and others wait. Then every job that was accepted must be done at least
  once, and afterwards nothing may be left over that waits for ever.
- Waiting is for a condition, with an end.

A test is skipped where its framework is not installed, and as long as the README lists a command that it needs as missing.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests import jobs
from tests.servers import BY_NAME, POLL_SECONDS, ROOT, Server, _die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

OURS = os.environ.get("LMDBREDIS_TEST_OURS", "lmdbredis")  # as in conftest
WAIT_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 5.0
LOG_TAIL_BYTES = 6000
MISSING = re.compile(r"^## What is missing$(.*?)^## ", re.MULTILINE | re.DOTALL)


def needs(*commands: str) -> None:
    """Skip the test as long as one of the commands is said to be missing."""
    if OURS != "lmdbredis":
        return
    missing = MISSING.search((ROOT / "README.md").read_text(encoding="utf-8"))
    lacking = [name for name in commands if missing and f"`{name}`" in missing[1]]
    if lacking:
        pytest.skip(f"the README lists as missing: {', '.join(lacking)}")


@contextlib.contextmanager
def durable_server() -> Iterator[Server]:
    """Start our server, or what stands in for it: nothing acknowledged is lost when it is killed. Check it in the end."""
    kind = BY_NAME[OURS]
    if not kind.available():
        pytest.skip(f"{OURS} cannot be started here")
    with kind() if OURS == "lmdbredis" else kind("--appendfsync", "always") as server:
        yield server
        if OURS == "lmdbredis":
            assert server.client().call("DEBUG", "CHECK").value == b"OK"


def wait_until(condition: Callable[[], object], what: str, seconds_max: float = WAIT_SECONDS_MAX) -> None:
    """Return when the condition holds; fail, saying what was waited for, when it does not in time."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds_max} s for {what}")
        time.sleep(POLL_SECONDS)


class Worker:
    """A process of an application, in the environment that its jobs need."""

    def __init__(self, words: Sequence[str], directory: Path, port: int, **more: str) -> None:
        self.words = list(words)
        self.marks_path = directory / "marks"
        self.log_path = directory / "worker.log"
        self.env = os.environ | {
            jobs.MARKS_VARIABLE: str(self.marks_path),
            "LMDBREDIS_PORT": str(port),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            **more,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> Self:
        """Start it; it need not be ready."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self.env,
                start_new_session=True,  # what it forks is ended with it
                preexec_fn=_die_with_parent,  # noqa: PLW1509 -- one prctl, no Python state: safe after fork
            )
        self.starts += 1
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it in an orderly way, and by force what does not go, with all that it forked."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS_MAX)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def keep(self) -> None:
        """Start it again if it has ended, as a supervisor does."""
        assert self.process is not None
        if self.process.poll() is not None:
            self.start()

    def wait_end(self) -> None:
        """Wait until it has ended by itself, well."""
        assert self.process is not None
        try:
            status: int | None = self.process.wait(WAIT_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            status = None

        assert status == 0, self.log_tail()

    def marks(self, word: str) -> list[str]:
        """Return the names of the marks of a word, oldest first."""
        return [name for name, _ in jobs.marks(self.marks_path, word)]

    def times(self, word: str) -> dict[str, float]:
        """Return name -> when it was first marked."""
        return dict(reversed(jobs.marks(self.marks_path, word)))

    def log_tail(self) -> str:
        """Return the end of what it printed."""
        return self.log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")

    def wait_done(self, names: Iterable[str], seconds_max: float = WAIT_SECONDS_MAX) -> None:
        """Wait until all these jobs are done; start the worker again whenever it ends."""
        names = set(names)
        deadline = time.monotonic() + seconds_max
        while missing := names.difference(self.marks("done")):
            if time.monotonic() > deadline:
                shown = sorted(missing)[:10]
                pytest.fail(
                    f"{len(missing)} of {len(names)} not done after {seconds_max} s: {shown}\n{self.log_tail()}"
                )
            self.keep()
            time.sleep(POLL_SECONDS)

    def at_work(self) -> bool:
        """Tell whether a job has begun and is not done."""
        return len(self.marks("begin")) > len(self.marks("done"))


def crash_in_the_middle(server: Server, worker: Worker, accept: Callable[[str], Any], count: int = 30) -> set[str]:
    """Give the worker jobs to do, kill the server when some are done, one is at work and the others wait; start it again.

    `accept` hands in one job and returns when the server has acknowledged it. Returns the names of all jobs.
    """
    names = [f"job{number}" for number in range(count)]
    for name in names:
        accept(name)
    wait_until(lambda: len(worker.marks("done")) >= 3 and worker.at_work(), "a job at work", WAIT_SECONDS_MAX)
    server.kill9()
    assert len(worker.marks("done")) < count - 5, "jobs were waiting when the server was killed"
    server.start()
    return set(names)
