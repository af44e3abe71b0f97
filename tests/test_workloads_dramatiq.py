"""Dramatiq against the real process: its own worker command, results, delays, retries, and a crash in the middle."""

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

dramatiq = pytest.importorskip("dramatiq", reason="Dramatiq is not installed: pip install '.[workloads]'")

COMMANDS = ("EVALSHA", "SCRIPT", "BRPOPLPUSH")
RESULT_MS_MAX = 20_000
WORDS = [sys.executable, "-m", "dramatiq", "tests.jobs_dramatiq", "--processes", "1", "--threads", "1"]


@pytest.fixture
def server() -> Iterator[Server]:
    needs(*COMMANDS)
    with durable_server() as made:
        yield made


@pytest.fixture
def actors(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of actors, as a program imports it that sends them messages."""
    monkeypatch.setenv("LMDBREDIS_PORT", str(server.port))
    module = importlib.reload(importlib.import_module("tests.jobs_dramatiq"))
    yield module
    module.broker.close()


def worker(server: Server, directory: Path) -> Worker:
    """Return a worker that is back a fifth of a second after it lost its server, not three."""
    return Worker(WORDS, directory, server.port, dramatiq_restart_delay="200")


def test_messages(server: Server, actors: Any, tmp_path: Path):
    """Results come back; delayed messages and retries are done when it is time; what fails for good is kept as dead."""
    with worker(server, tmp_path) as one:
        sent_at = time.time()
        later = actors.work.send_with_options(args=("later",), delay=1000)
        again = actors.work_at_last.send("again", 2)
        lost = actors.work_at_last.send("lost", 9)
        plain = [actors.work.send(f"n{n}") for n in range(20)]
        results = [message.get_result(block=True, timeout=RESULT_MS_MAX) for message in (*plain, again, later)]

        assert [*(f"n{n} is done" for n in range(20)), "again is done", "later is done"] == results
        assert one.times("begin")["later"] >= sent_at + 1.0
        assert one.marks("try").count("again") == 3
        with redis.Redis(port=server.port) as connection:
            wait_until(lambda: connection.zcard("dramatiq:default.XQ") == 1, "a dead message")
            assert connection.hlen("dramatiq:default.msgs") == 0
        assert one.marks("try").count("lost") == 4
        assert lost.actor_name == "work_at_last"


@pytest.mark.slow
def test_a_crash(server: Server, actors: Any, tmp_path: Path):
    """Killed in the middle of the work, the server forgets no message: the worker goes on, and every one is done and acknowledged."""
    with worker(server, tmp_path) as one:
        names = crash_in_the_middle(server, one, lambda name: actors.work.send(name, 0.02))
        one.wait_done(names)
        with redis.Redis(port=server.port) as connection:
            wait_until(lambda: connection.hlen("dramatiq:default.msgs") == 0, "all to be acknowledged")
