"""What expires next: nothing is late, forgotten or taken twice, whatever else goes on.

The engine's clock is told, so a moment can be taken apart: a commit that does not end, rows put and deleted meanwhile.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from lmdbredis import due
from tests.crash import Engine
from tests.stores import HeldDisk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TTL_MS = 5000
MANY = 2 * due._ROWS_MAX + 100  # more than one look takes in
TICKS_MAX = 1000


@pytest.fixture(params=[100_000])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine whose commits can be held; the parameter is how many rows make one due."""
    disk = HeldDisk()
    made = Engine(tmp_path / "data", disk, "--checkpoint-dirty", str(request.param))
    yield made
    disk.commits.set()
    assert made.check() == []
    made.close()


def disk_of(engine: Engine) -> HeldDisk:
    """Return the disk that holds the engine's commits."""
    disk = engine.store.disk
    assert isinstance(disk, HeldDisk)
    return disk


def set_all(engine: Engine, *keys: str, ttl_ms: int = TTL_MS) -> None:
    """Let keys be strings that expire."""
    engine.run(*([b"SET", key.encode(), b"v", b"PX", b"%d" % ttl_ms] for key in keys))


def left(engine: Engine) -> int:
    """Return how many keys are stored, expired or not."""
    return sum(database.keys for database in engine.keyspace.databases)


def wait(engine: Engine, milliseconds: int) -> None:
    """Let time pass, and the upkeep do what it has to."""
    engine.tick(milliseconds)
    for _ in range(TICKS_MAX):
        if engine.keyspace.due.next_ms > engine.clock_ms:
            return
        if disk_of(engine).commits.is_set():
            engine.store.wait_for_commit(10)
        engine.tick(0)
    raise AssertionError("there is no end of it")


def hold_a_commit(engine: Engine) -> None:
    """Begin a commit that does not end until the disk lets it go."""
    engine.store.settle()
    disk_of(engine).commits.clear()
    engine.store.begin_commit()
    assert engine.store.is_committing


@pytest.mark.parametrize("when", ["before", "after"])
def test_in_time_during_a_commit(engine: Engine, when: str):
    """A commit that takes for ever keeps no key: neither one that it holds, nor one that was written since."""
    set_all(engine, "old", "other")
    if when == "before":
        wait(engine, TTL_MS - 2 * due.AHEAD_MS)
    hold_a_commit(engine)
    if when == "after":
        wait(engine, TTL_MS - 2 * due.AHEAD_MS)
    set_all(engine, "new", ttl_ms=2 * due.AHEAD_MS)
    engine.run([b"DEL", b"other"], [b"RPUSH", b"list", b"x"], [b"PEXPIRE", b"list", b"%d" % (2 * due.AHEAD_MS)])
    wait(engine, 2 * due.AHEAD_MS - 1)
    assert left(engine) == 3
    wait(engine, 1)
    assert left(engine) == 0
    assert engine.store.is_committing
    assert engine.keyspace.expired_keys == 3


def test_near_times_are_heard_of(engine: Engine):
    """A key that is to expire sooner than all that is kept is not forgotten, nor one whose time is moved there."""
    set_all(engine, "far", "moved")
    wait(engine, 1)
    set_all(engine, "near", ttl_ms=10)
    engine.run([b"PEXPIRE", b"moved", b"20"])
    wait(engine, 10)
    assert left(engine) == 2
    wait(engine, 10)
    assert left(engine) == 1


def test_what_is_kept_may_be_wrong(engine: Engine):
    """A key that was deleted, made to stay, set again, renamed, moved or flushed since it was kept expires as it is now."""
    set_all(engine, *"abcdefg", ttl_ms=due.AHEAD_MS // 2)
    wait(engine, 1)
    assert len(list(engine.keyspace.due)) == 7
    set_all(engine, "c", "c", ttl_ms=TTL_MS)
    set_all(engine, "d", "d", ttl_ms=due.AHEAD_MS // 2 - 1)  # as before
    engine.run([b"DEL", b"a"], [b"PERSIST", b"b"], [b"RENAME", b"e", b"new"], [b"MOVE", b"f", b"1"], [b"DEL", b"g"])
    engine.run([b"RPUSH", b"g", b"x"])
    wait(engine, due.AHEAD_MS // 2)
    assert left(engine) == 3  # b, c, g
    assert engine.keyspace.expired_keys == 3
    wait(engine, TTL_MS)
    assert left(engine) == 2
    set_all(engine, *"xyz", ttl_ms=due.AHEAD_MS // 2)
    wait(engine, 1)
    engine.run([b"FLUSHALL"])
    set_all(engine, "x", ttl_ms=due.AHEAD_MS // 2)
    wait(engine, due.AHEAD_MS)
    assert left(engine) == 0
    assert engine.keyspace.expires.take(b"", 1) == []


@pytest.mark.parametrize("is_held", [False, True])
def test_many_at_once(engine: Engine, is_held: bool):
    """More keys than one look takes in, some deleted meanwhile: all go, the oldest first, and none before its time."""
    chance = random.Random(3)
    keys = [f"k{number}" for number in range(MANY)]
    times = {key: TTL_MS + chance.choice((0, 0, 1, 700)) for key in keys}
    for key in keys:
        set_all(engine, key, ttl_ms=times[key])
    gone = chance.sample(keys, MANY // 3)
    if is_held:
        hold_a_commit(engine)
    for key in gone:
        engine.run([b"DEL", key.encode()])
        del times[key]
    wait(engine, TTL_MS - 1)
    assert left(engine) == len(times)
    for at, milliseconds in ((TTL_MS, 1), (TTL_MS + 1, 1), (TTL_MS + 700, 699)):
        wait(engine, milliseconds)
        assert left(engine) == sum(time > at for time in times.values())
    assert engine.store.is_committing or not is_held


@pytest.mark.parametrize("engine", [200], indirect=True)
def test_memory_is_bounded(engine: Engine):
    """While a commit takes for ever, no more keys are deleted than may wait for it; those that are left go when it ends."""
    keys = [f"k{number}" for number in range(MANY)]
    for at in range(0, MANY, 500):
        set_all(engine, *keys[at : at + 500])
    engine.store.settle()
    hold_a_commit(engine)
    engine.clock_ms += TTL_MS
    for _ in range(100):
        engine.tick(0)
    assert MANY > left(engine) > MANY // 2
    assert engine.upkeep.must_wait
    disk_of(engine).commits.set()
    wait(engine, 0)
    assert left(engine) == 0


def test_the_clock_goes_back(engine: Engine):
    """After the clock has gone back no more is kept than what is due within a second of it."""
    set_all(engine, "k")
    wait(engine, 10)
    engine.clock_ms -= 100_000
    engine.tick(0)
    for _ in range(10):
        set_all(engine, "later", ttl_ms=50_000)
    assert list(engine.keyspace.due) == []
    wait(engine, 50_000)
    assert left(engine) == 1
    wait(engine, 60_000)
    assert left(engine) == 0


def test_directories_are_not_waited_for(engine: Engine):
    """A key whose database's directory is not in memory waits for the commit, and not the server."""
    set_all(engine, *(f"k{number}" for number in range(300)))
    hold_a_commit(engine)
    engine.run([b"SET", b"new", b"v"])
    engine.keyspace.ranks.forget(engine.keyspace.keys, engine.keyspace.databases[0].prefix)
    engine.tick(TTL_MS)
    assert left(engine) == 301
    assert engine.store.is_committing
    disk_of(engine).commits.set()
    wait(engine, 0)
    assert left(engine) == 1


def test_rows_that_are_gone_cost_little(engine: Engine):
    """A key whose time is put off again and again leaves nothing that others would have to wait for."""
    for _ in range(1000):
        set_all(engine, "again", ttl_ms=500)
        engine.tick(0)
    set_all(engine, "again", ttl_ms=TTL_MS)
    set_all(engine, "other", ttl_ms=600)
    engine.tick(599)
    engine.tick(1)
    assert left(engine) == 1


def test_begun_again(tmp_path: Path):
    """After a start what is due is found, in what is replayed from the log as well."""
    engine = Engine(tmp_path / "data")
    set_all(engine, "a", ttl_ms=10)
    engine.store.checkpoint()
    set_all(engine, "b", ttl_ms=10)
    now_ms = engine.clock_ms
    engine.close(checkpoint=False)
    engine = Engine(tmp_path / "data")
    engine.clock_ms = now_ms
    wait(engine, 9)
    assert left(engine) == 2
    wait(engine, 1)
    assert left(engine) == 0
    assert engine.check() == []
    engine.close()
