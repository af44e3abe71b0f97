"""The Dramatiq actors that leave marks: broker and results on the server whose port the environment names."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from tests import jobs

URL = f"redis://127.0.0.1:{os.environ.get('LMDBREDIS_PORT', '0')}"

# What a worker that is gone had fetched is given out again after a second; after a minute by default, and not always looked for.
broker = RedisBroker(url=URL, heartbeat_timeout=1000, maintenance_chance=1_000_000)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def work(name: str, seconds: float = 0.0) -> str:
    """Leave marks."""
    return jobs.work(name, seconds)


@dramatiq.actor(max_retries=3, min_backoff=100, max_backoff=200, store_results=True)
def work_at_last(name: str, failures: int) -> str:
    """Fail so many times, then leave marks."""
    return jobs.work_at_last(name, failures)
