"""The upkeep under load: however closely commits follow each other, snapshots become durable, and the log stays short."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from lmdbredis import wal
from tests.crash import Engine

if TYPE_CHECKING:
    from pathlib import Path

INTERVAL_MS = 20
SEGMENT_BYTES = 65536
ROUNDS = 300


@pytest.mark.parametrize("dirty", [1, 1_000_000])
def test_commits_without_a_pause(tmp_path: Path, dirty: int):
    """A commit is due at every look, because so much time has passed or so much was written: CONTROL is never far behind."""
    options = (
        "--checkpoint-interval",
        str(INTERVAL_MS),
        "--checkpoint-dirty",
        str(dirty),
        "--wal-segment-size",
        str(SEGMENT_BYTES),
    )
    engine = Engine(tmp_path / "store", None, *options)
    store, behind = engine.store, []
    for number in range(ROUNDS):
        engine.run(*([b"SET", b"k%d" % (10 * number + key), b"v" * 1000] for key in range(10)))
        store.wait_for_commit(10)
        while store.is_syncing:  # in a thread, which has its time
            time.sleep(0.001)
            store.poll()
        engine.tick(2 * INTERVAL_MS)
        store.trim_wal(0, 1 << 62)
        behind.append(store.wal.end_lsn - store.control.lsn)
    segments = wal.segments(engine.directory / "wal")
    engine.close()

    assert store.wal.end_lsn > 20 * SEGMENT_BYTES
    assert max(behind) < 10 * SEGMENT_BYTES
    assert len(segments) < 12


def test_a_save_that_is_wanted(tmp_path: Path):
    """BGSAVE does not wait for the next sync's time, though an older commit has not been synced either."""
    engine = Engine(tmp_path / "store", None, "--checkpoint-interval", "60000", "--checkpoint-dirty", "1")
    store = engine.store

    def write_and_look() -> None:
        engine.run([b"SET", b"k", b"v"])
        look()

    def look() -> None:
        engine.tick(1)
        store.wait_for_commit(10)
        while store.is_syncing:  # in a thread, which has its time
            time.sleep(0.001)
            store.poll()

    for _ in range(5):
        write_and_look()
    assert store.control.lsn < store.committed_lsn, "commits go on, and no sync is due"
    engine.run([b"SET", b"k", b"wanted"])
    engine.upkeep.save_soon()
    wanted_lsn = store.wal.end_lsn
    for _ in range(10):
        look()
    reached_lsn = store.control.lsn
    engine.close()

    assert reached_lsn >= wanted_lsn


def test_messages_alone(tmp_path: Path):
    """A log in which there are only messages for replicas, and no rows, is committed too: else it could never be trimmed."""
    engine = Engine(tmp_path / "store", None, "--checkpoint-interval", str(INTERVAL_MS))
    store = engine.store
    for _ in range(20):
        store.notes.append(("", b"channel", 0, b"m" * (1 << 20)))
        store.append(1)
        engine.tick(2 * INTERVAL_MS)
        store.wait_for_commit(10)
    committed_lsn, end_lsn = store.committed_lsn, store.wal.end_lsn
    engine.close()

    assert end_lsn > 20 << 20
    assert committed_lsn > 16 << 20
