"""The Huey tasks that leave marks: queue, schedule and results on the server whose port the environment names."""

from __future__ import annotations

import os

from huey import PriorityRedisHuey, RedisHuey, crontab

from tests import jobs

PORT = int(os.environ.get("LMDBREDIS_PORT", "0"))
KINDS = {"plain": RedisHuey, "priority": PriorityRedisHuey}

huey = KINDS[os.environ.get("LMDBREDIS_HUEY", "plain")]("jobs", port=PORT, immediate=False)


@huey.task()
def work(name: str, seconds: float = 0.0) -> str:
    """Leave marks."""
    return jobs.work(name, seconds)


@huey.task(retries=3)
def work_at_last(name: str, failures: int) -> str:
    """Fail so many times, then leave marks."""
    return jobs.work_at_last(name, failures)


@huey.periodic_task(crontab(minute="*"))
def every_minute() -> None:
    """Be a periodic task, so that the consumer's scheduler has one."""
