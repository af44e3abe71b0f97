"""The upkeep under load: however closely commits follow each other, snapshots become durable, and the log stays short."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from lmdbredis import expiry, wal
from tests.crash import Engine
from tests.stores import finish

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server

INTERVAL_MS = 20
SEGMENT_BYTES = 65536
ROUNDS = 300


def settle(engine: Engine) -> None:
    """Let the upkeep do what is due now."""
    engine.tick(1)
    finish(engine.store)


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
        finish(store)
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

    for _ in range(5):
        engine.run([b"SET", b"k", b"v"])
        settle(engine)
    assert store.control.lsn < store.committed_lsn, "commits go on, and no sync is due"
    engine.run([b"SET", b"k", b"wanted"])
    engine.upkeep.save_soon()
    wanted_lsn = store.wal.end_lsn
    for _ in range(10):
        settle(engine)
    reached_lsn = store.control.lsn
    engine.close()

    assert reached_lsn >= wanted_lsn


def test_a_save_in_the_background(ours: Server):
    """INFO shows it from the reply to BGSAVE until it is on disk, and meanwhile there is no other."""
    with ours.connect() as client:
        rows = [("SET", f"k{number}", "v" * 1000) for number in range(1000)]
        *_, began, persistence, again = client.pipeline(
            [*rows, ("BGSAVE",), ("INFO", "persistence"), ("BGSAVE", "SCHEDULE")]
        )

        assert began.value == b"Background saving started"
        assert b"rdb_bgsave_in_progress:1\r\n" in persistence.value
        assert again.value == b"ERR Background save already in progress"
        while b"rdb_bgsave_in_progress:0\r\n" not in (text := client.call("INFO").value):
            time.sleep(0.001)
        checkpoint, end = (int(re.search(rb"\b%s:(\d+)" % name, text)[1]) for name in (b"checkpoint_lsn", b"wal_lsn"))
        assert checkpoint > end - 1000, "what was written before is on disk"
        assert client.pipeline([("MULTI",), ("BGSAVE",), ("EXEC",)])[2].plain() == [b"Background saving scheduled"]


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


# --- before its time ----------------------------------------------------------------------------------------------------------

LONG_MS = "60000"  # no commit and no sync is due by the clock but the first


def _engine(directory: Path, *options: str) -> Engine:
    """Return an engine whose clock makes nothing due any more."""
    engine = Engine(directory, None, "--checkpoint-interval", LONG_MS, *options)
    engine.run([b"SET", b"first", b"v"])
    settle(engine)
    settle(engine)
    return engine


def _rows_until_commit(engine: Engine, value: bytes = b"v") -> int:
    """Return how many rows are put, by SETs of new keys, before a commit begins."""
    commits = engine.store.commits
    for number in range(5000):
        engine.run([b"SET", b"%032d" % (number * 2_654_435_761 % (1 << 32)), value])
        dirty_rows = engine.store.dirty_rows
        settle(engine)
        if engine.store.commits > commits:
            return dirty_rows
    raise AssertionError("none began")


def test_rows_make_a_commit_due(tmp_path: Path):
    """As many rows as checkpoint-dirty says make a commit due, whatever the clock says."""
    engine = _engine(tmp_path / "store", "--checkpoint-dirty", "500")
    assert 500 <= _rows_until_commit(engine) < 510
    engine.close()


def test_bytes_make_a_commit_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So much of the log makes a commit due, however few rows that is: they are in memory."""
    monkeypatch.setattr(expiry, "_DIRTY_BYTES_MAX", 1 << 20)
    engine = _engine(tmp_path / "store", "--checkpoint-dirty", "100000")
    assert 50 < _rows_until_commit(engine, b"v" * 10_000) < 500
    engine.close()


def test_pages_make_a_commit_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where there are more pages than may be dirty, fewer rows make a commit due: as many as are on so many pages if they are anywhere."""
    engine = _engine(tmp_path / "store", "--checkpoint-dirty", "1000")
    assert 1000 <= _rows_until_commit(engine, b"v" * 300) < 1010
    pages = engine.store.leaf_pages
    assert pages > 20
    monkeypatch.setattr(expiry, "_DIRTY_PAGES_MAX", pages // 2)
    assert _rows_until_commit(engine) >= 1000, "what is due was found out when the last commit began"
    assert pages // 2 < _rows_until_commit(engine) < 2 * pages
    engine.close()


def test_what_is_not_synced_makes_a_sync_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A start after a kill reads the log that no synced snapshot has: when that is much, the sync does not wait for its time."""
    monkeypatch.setattr(expiry, "_UNSYNCED_BYTES_MAX", 1 << 16)
    engine = _engine(tmp_path / "store", "--checkpoint-dirty", "100")
    store, behind, waits = engine.store, [], 0
    for number in range(300):
        engine.run(*([b"SET", b"k%d" % (10 * number + key), b"v" * 100] for key in range(10)))
        settle(engine)
        behind.append(store.committed_lsn - store.control.lsn)
        waits += behind[-1] > 0
    engine.close()

    assert store.wal.end_lsn > 4 * (1 << 16)
    assert waits, "a little may wait for its time"
    assert max(behind) < 2 * (1 << 16)
