"""Celery against the real process as broker and as result backend: its own worker command, a chord, retries, countdowns, a crash."""

from __future__ import annotations

import importlib
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.workloads import Worker, crash_in_the_middle, durable_server, needs, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server

celery = pytest.importorskip("celery", reason="Celery is not installed: pip install '.[workloads]'")

COMMANDS = ("BRPOP", "EVALSHA")
RESULT_SECONDS_MAX = 20
WORDS = [
    sys.executable, "-m", "celery", "-A", "tests.jobs_celery", "worker", "--pool", "solo", "--loglevel", "INFO",
    "--without-gossip", "--without-mingle",
]  # fmt: skip


@pytest.fixture
def server() -> Iterator[Server]:
    needs(*COMMANDS)
    with durable_server() as made:
        yield made


@pytest.fixture
def application(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of tasks, as a program imports it that hands them in."""
    monkeypatch.setenv("LMDBREDIS_PORT", str(server.port))
    module = importlib.reload(importlib.import_module("tests.jobs_celery"))
    yield module
    module.app.close()


def test_tasks(server: Server, application: Any, tmp_path: Path):
    """Results come back, a chord's end gets what its parts returned, retries and countdowns are done when it is time."""
    with Worker(WORDS, tmp_path, server.port) as worker:
        handed_in_at = time.time()  # before: the first task connects, which takes its time
        later = application.work.apply_async(("later",), countdown=1)
        again = application.work_at_last.delay("again", 2)
        numbers = [application.add.delay(n, n) for n in range(20)]
        total = celery.chord(application.add.s(n, 1) for n in range(10))(application.total.s())

        assert [n + n for n in range(20)] == [one.get(timeout=RESULT_SECONDS_MAX) for one in numbers]
        assert sum(range(1, 11)) == total.get(timeout=RESULT_SECONDS_MAX)
        assert again.get(timeout=RESULT_SECONDS_MAX) == "again is done"
        assert later.get(timeout=RESULT_SECONDS_MAX) == "later is done"
        assert worker.times("begin")["later"] >= handed_in_at + 1
        assert len(worker.marks("try")) == 3
        assert worker.marks("done").count("total") == 1


@pytest.mark.slow
def test_a_crash(server: Server, application: Any, tmp_path: Path):
    """Killed in the middle of the work, the server forgets no task: the worker goes on, and every task is done and acknowledged."""
    with Worker(WORDS, tmp_path, server.port) as worker:
        accepted = {}

        def accept(name: str) -> None:
            accepted[name] = application.work.delay(name, 0.02)

        names = crash_in_the_middle(server, worker, accept)
        worker.wait_done(names)
        with redis.Redis(port=server.port) as connection:
            wait_until(lambda: connection.llen("celery") + connection.hlen("unacked") == 0, "all to be acknowledged")
        # The result of the one that was at work may have found no server.
        ready = [name for name, result in accepted.items() if result.successful()]
        assert len(ready) >= len(names) - 1
