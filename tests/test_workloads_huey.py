"""Huey against the real process: its own consumer, results, the schedule, retries, priorities, and a crash in the middle."""

from __future__ import annotations

import importlib
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.workloads import Worker, crash_in_the_middle, durable_server, needs, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server

pytest.importorskip("huey", reason="Huey is not installed: pip install '.[workloads]'")

from huey.exceptions import TaskException

COMMANDS = ("EVALSHA", "BRPOP", "BZPOPMIN")
RESULT_SECONDS_MAX = 20


@pytest.fixture
def server() -> Iterator[Server]:
    needs(*COMMANDS)
    with durable_server() as made:
        yield made


@pytest.fixture(params=["plain", "priority"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which queue: a list, or a sorted set by priority."""
    return request.param


@pytest.fixture
def tasks(server: Server, kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of tasks, as a program imports it that calls them."""
    monkeypatch.setenv("LMDBREDIS_PORT", str(server.port))
    monkeypatch.setenv("LMDBREDIS_HUEY", kind)
    module = importlib.reload(importlib.import_module("tests.jobs_huey"))
    yield module
    module.huey.storage.pool.disconnect()


def consumer(server: Server, directory: Path, kind: str) -> Worker:
    """Return a consumer with one thread, as `huey_consumer` starts it."""
    words = [sys.executable, "-m", "huey.bin.huey_consumer", "tests.jobs_huey.huey", "--workers", "1"]
    return Worker([*words, "--delay", "0.05", "--max-delay", "0.2"], directory, server.port, LMDBREDIS_HUEY=kind)


def succeeded(result: Any) -> bool:
    """Tell whether a task has come to its end, after however many tries; its result stays."""
    try:
        return result.get(preserve=True) is not None
    except TaskException:
        result.reset()
        return False


def test_tasks(server: Server, tasks: Any, kind: str, tmp_path: Path):
    """Results come back; scheduled tasks and retries are done, not before their time; nothing is left in queue or schedule."""
    with consumer(server, tmp_path, kind) as one:
        called_at = time.time()
        later = tasks.work.schedule(("later",), delay=1)
        again = tasks.work_at_last("again", 2)
        plain = [tasks.work(f"n{n}") for n in range(20)]
        wait_until(lambda: succeeded(again), "the last try")  # before, its result is the error of a try
        results = [result.get(blocking=True, timeout=RESULT_SECONDS_MAX) for result in (*plain, again, later)]

        assert [*(f"n{n} is done" for n in range(20)), "again is done", "later is done"] == results
        assert one.times("begin")["later"] >= called_at + 0.9
        assert len(one.marks("try")) == 3
    assert (tasks.huey.pending_count(), tasks.huey.scheduled_count()) == (0, 0)


@pytest.mark.slow
def test_a_crash(server: Server, tasks: Any, kind: str, tmp_path: Path):
    """Killed while one task is at work and others wait, the server forgets none: the consumer goes on, and every task is done.

    Huey takes a task off the queue before it does it, so what is on its way to a consumer in a crash is lost by Huey's own
    rules. Here the only consumer is at work, and nothing is on its way.
    """
    with consumer(server, tmp_path, kind) as one:
        names = crash_in_the_middle(server, one, lambda name: tasks.work(name, 0.05))
        one.wait_done(names)
    wait_until(lambda: tasks.huey.pending_count() == 0, "an empty queue")
