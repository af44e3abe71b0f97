"""The Celery application whose tasks leave marks: broker and results on the server whose port the environment names."""

from __future__ import annotations

import os

from celery import Celery

from tests import jobs

URL = f"redis://127.0.0.1:{os.environ.get('LMDBREDIS_PORT', '0')}"

app = Celery("jobs", broker=f"{URL}/0", backend=f"{URL}/1")
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_max_retries=None,
    # What a crash left unacknowledged is given out again after this many seconds; an hour by default.
    broker_transport_options={
        "visibility_timeout": 3,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 2,  # a lock that its holder cannot give back after a crash
    },
    # Acknowledged when done: a task whose worker lost its server is done again rather than not at all.
    task_acks_late=True,
    worker_prefetch_multiplier=2,
    result_expires=600,
)


@app.task
def work(name: str, seconds: float = 0.0) -> str:
    """Leave marks."""
    return jobs.work(name, seconds)


@app.task
def add(a: int, b: int) -> int:
    """Return a sum."""
    return a + b


@app.task
def total(numbers: list[int]) -> int:
    """Return the sum of what a chord's parts returned."""
    jobs.mark("done", "total")
    return sum(numbers)


@app.task(bind=True, max_retries=3)
def work_at_last(self: object, name: str, failures: int) -> str:
    """Fail so many times, then leave marks."""
    try:
        return jobs.work_at_last(name, failures)
    except ValueError as error:
        raise self.retry(exc=error, countdown=0.2) from error  # type: ignore[attr-defined]
