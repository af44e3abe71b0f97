"""RQ against the real process: its own worker command, results, retries, dependencies, the scheduler, and a crash in the middle."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import redis

from tests import jobs
from tests.workloads import Worker, crash_in_the_middle, durable_server, needs, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server

rq = pytest.importorskip("rq", reason="RQ is not installed: pip install '.[workloads]'")

COMMANDS = ("EVAL", "EVALSHA", "BLMOVE", "XADD", "XREVRANGE")


@pytest.fixture
def server() -> Iterator[Server]:
    needs(*COMMANDS)
    with durable_server() as made:
        yield made


@pytest.fixture
def queue(server: Server) -> Iterator[rq.Queue]:
    with redis.Redis(port=server.port) as connection:
        yield rq.Queue("jobs", connection=connection)


def worker(server: Server, directory: Path, *options: str) -> Worker:
    """Return a worker as `rq worker` starts it."""
    words = [sys.executable, "-m", "rq.cli", "worker", "--url", f"redis://127.0.0.1:{server.port}", *options, "jobs"]
    return Worker(words, directory, server.port)


def test_a_burst(server: Server, queue: rq.Queue, tmp_path: Path):
    """A burst worker does every job, again where it failed, in the order of dependencies, and leaves the results."""
    done = [queue.enqueue(jobs.work, f"n{n}") for n in range(10)]
    again = queue.enqueue(jobs.work_at_last, "again", 2, retry=rq.Retry(max=2))
    lost = queue.enqueue(jobs.work_at_last, "lost", 9, retry=rq.Retry(max=1))
    last = queue.enqueue(jobs.work, "last", depends_on=[*done, again])
    with worker(server, tmp_path, "--burst") as one:
        one.wait_end()

        assert [f"n{n} is done" for n in range(10)] == [job.return_value() for job in done]
        assert ("again is done", "last is done") == (again.return_value(), last.return_value())
        assert one.marks("done")[-1] == "last"
        assert (one.marks("try").count("again"), one.marks("try").count("lost")) == (3, 2)
    assert "lost fails for the 2. time" in lost.latest_result().exc_string
    assert (queue.count, queue.failed_job_registry.get_job_ids()) == (0, [lost.id])
    assert len(queue.finished_job_registry) == 12


def test_the_scheduler(server: Server, queue: rq.Queue, tmp_path: Path):
    """Jobs that are scheduled, and retries after an interval, run when their time has come, and not before."""
    soon = queue.enqueue_in(timedelta(seconds=1), jobs.work, "soon")
    queue.enqueue(jobs.work_at_last, "again", 1, retry=rq.Retry(max=1, interval=1))
    assert queue.scheduled_job_registry.get_job_ids() == [soon.id]
    due = queue.scheduled_job_registry.get_scheduled_time(soon).timestamp()
    with worker(server, tmp_path, "--with-scheduler") as one:
        one.wait_done(["soon", "again"])

        assert one.times("begin")["soon"] >= due
        assert one.times("begin")["again"] >= one.times("try")["again"] + 0.9  # its clock counts whole seconds
    assert len(queue.scheduled_job_registry) == 0


@pytest.mark.slow
def test_a_crash(server: Server, queue: rq.Queue, tmp_path: Path):
    """Killed in the middle of the work, the server forgets no job: the worker goes on, and every job is done."""
    with worker(server, tmp_path) as one:
        found = {}

        def accept(name: str) -> None:
            found[name] = queue.enqueue(jobs.work, name, 0.02)

        names = crash_in_the_middle(server, one, accept)
        one.wait_done(names)
        wait_until(lambda: queue.count == 0, "an empty queue")
        # The result of the one that was at work may have found no server; all others are known to have finished.
        wait_until(lambda: sum(job.get_status() == "finished" for job in found.values()) >= len(names) - 1, "results")
