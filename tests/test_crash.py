"""Crashes, for seconds: kill -9 at random and at named points, power cuts, full disks and failing syncs. See `tests.crash`.

`python -m tests.crash_campaign` plays the same rounds for as long as one likes.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from lmdbredis.errors import SyncFailed
from tests.crash import CRASH_POINTS, RECOVERY_POINTS, Engine, FaultyDisk, recover
from tests.crash_rounds import kill_at_point, kill_at_random, kill_in_recovery, lose_power

if TYPE_CHECKING:
    from pathlib import Path

POLICIES = ("always", "everysec", "no")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_killed_server_keeps_what_it_acknowledged(policy: str):
    """After kill -9 under load every acknowledged write is there, by any policy, and `check` finds nothing."""
    assert not kill_at_random(random.Random(), policy, kills=2)


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_killed_at_a_named_point(point: str):
    """The same, for a process that kills itself in the middle of a write, a commit, a sync, a rotation."""
    assert not kill_at_point(random.Random(), point, 2)


@pytest.mark.parametrize("point", RECOVERY_POINTS)
def test_killed_while_recovering(point: str):
    """A start that is killed at a named point leaves what the next start needs."""
    assert not kill_in_recovery(random.Random(), point)


@pytest.mark.parametrize("policy", POLICIES)
def test_power_is_lost(policy: str, tmp_path: Path):
    """After a power cut the state is one the store was in, and none that was promised to be on disk is missing."""
    for number in range(3):
        assert not lose_power(random.Random(), policy, tmp_path / str(number), batches=60)


def test_a_full_log_refuses_writes_and_recovers(tmp_path: Path):
    """No room for the log: writes are answered MISCONF and leave nothing, reads go on; with room again all is well."""
    disk = FaultyDisk()
    engine = Engine(tmp_path / "store", disk)
    engine.run((b"SET", b"a", b"1"))
    disk.room_bytes = 0
    refused, read = engine.run((b"SET", b"a", b"2"), (b"GET", b"a"))

    assert refused.is_error
    assert str(refused.value).startswith("b'MISCONF")
    assert read.value == b"1"

    disk.room_bytes = None
    deadline = time.monotonic() + 30
    while engine.executor.refusal is not None and time.monotonic() < deadline:
        engine.tick()
    assert engine.run((b"SET", b"a", b"3"), (b"GET", b"a"))[1].value == b"3"
    assert engine.check() == []
    engine.close()
    assert recover(tmp_path / "store").faults == []


def test_a_failing_sync_is_final(tmp_path: Path):
    """When a sync fails the upkeep raises, so the process ends; what was logged is there at the next start."""
    disk = FaultyDisk()
    engine = Engine(tmp_path / "store", disk)
    engine.run((b"SET", b"a", b"1"))
    disk.syncs_fail = True
    deadline = time.monotonic() + 30
    with pytest.raises(SyncFailed):
        while time.monotonic() < deadline:  # until the thread that syncs has said so
            engine.tick()
    disk.syncs_fail = False
    engine.close(checkpoint=False)
    found = recover(tmp_path / "store")

    assert found.faults == []
    assert found.state[b"a"] == ("string", 0, b"1")
