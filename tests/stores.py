"""Stores for tests: small ones, on disks that wait or fail when told, and copies of them as a killed process leaves them."""

from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lmdbredis import format as fmt
from lmdbredis.errors import SyncFailed
from lmdbredis.store import Store
from tests.crash import FaultyDisk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lmdbredis.disk import Disk

REPLID = "a" * 40


def open_store(directory: Path, disk: Disk | None = None, map_bytes: int = 1 << 30) -> Store:
    """Open a small store."""
    directory.mkdir(exist_ok=True)
    return Store(directory, REPLID, disk=disk, map_bytes=map_bytes, segment_bytes=1 << 16)


def rows(store: Store, number: int = fmt.SETS) -> dict[bytes, bytes]:
    """Return all rows of a table, read in order."""
    found = store.tables[number].take(b"", 1_000_000)
    assert found == sorted(found)
    return dict(found)


def put(store: Store, **values: str) -> None:
    """Put rows into a table, one batch."""
    for key, value in values.items():
        store.tables[fmt.SETS].put(key.encode(), value.encode())
    store.append(1)


def commit(store: Store) -> None:
    """Commit, and wait until that is done; no sync follows."""
    store.begin_commit()
    store.wait_for_commit(10)


def finish(store: Store) -> None:
    """Wait until the commit and the sync that are on their way are done."""
    store.wait_for_commit(10)
    if store._syncing is not None:
        store._syncing.exception(10)
        store.poll()


def plain(**values: str) -> dict[bytes, bytes]:
    """Return the rows that `put` makes."""
    return {key.encode(): value.encode() for key, value in values.items()}


def killed(directory: Path, copy: Path) -> Path:
    """Return a copy of the directory as a process leaves it that is killed now."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("lock.mdb", "LOCK"))
    return copy


def reopened(directory: Path, number: int = fmt.SETS) -> dict[bytes, bytes]:
    """Open a directory, read a table and close."""
    store = open_store(directory)
    try:
        return rows(store, number)
    finally:
        store.close(checkpoint=False)


class HeldDisk(FaultyDisk):
    """A disk whose commits and syncs wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = threading.Event()
        self.syncs = threading.Event()
        self.commits.set()
        self.syncs.set()

    def commit(self, transaction: object) -> None:
        """Commit when the test says so."""
        assert self.commits.wait(30)
        super().commit(transaction)

    def reached(self, point: str) -> None:
        """Wait before a snapshot's sync."""
        super().reached(point)
        if point == "sync":
            assert self.syncs.wait(30)


@contextmanager
def running(directory: Path, disk: HeldDisk) -> Iterator[Store]:
    """Open a store for a test; let its disk go at the end, whatever the test had it do, and close."""
    made = open_store(directory, disk)
    yield made
    disk.commits.set()
    disk.syncs.set()
    disk.commits_fail, disk.room_bytes, disk.syncs_fail = None, None, False
    with suppress(SyncFailed):  # one that has failed goes on failing
        made.close(checkpoint=False)
