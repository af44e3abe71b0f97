"""Recovery: what is done to a directory before the engine opens it.

Theory. A store is taken by a lock on a file of its own, which the system lets go when the process ends, however it ends. CONTROL names
the newest synced snapshot and holds its meta page; whatever was committed later may not be whole after a power cut, so both meta
pages are overwritten by that one. The log from there on is the store's affair (`store.Store`: the same code repairs).

It knows files and the format; no engine, no rows.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from lmdbredis import format as fmt
from lmdbredis import wal
from lmdbredis.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from lmdbredis.disk import Disk


def lock(directory: Path) -> int:
    """Take the directory until the descriptor that is returned is closed, or raise StorageError if another server has it."""
    fd = os.open(directory / "LOCK", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        raise StorageError(f"another server (pid {holder or 'unknown'}) is using the directory {directory}") from None
    with suppress(OSError):  # a full disk: the number is for people, the lock is what counts
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def restore_synced_snapshot(directory: Path, disk: Disk) -> fmt.Control | None:
    """Make data.mdb show the snapshot that CONTROL names; return CONTROL, None if there is none.

    Both meta pages are overwritten by the one that CONTROL kept: whatever was committed later may not be whole.
    """
    path = directory / "CONTROL"
    if not path.exists():
        return None
    control = fmt.unpack_control(path.read_bytes())
    data = directory / "data.mdb"
    if not data.exists():
        raise StorageError(f"{data} is missing, though CONTROL names a snapshot in it: restore a backup")
    if not wal.reaches(directory / "wal", control.lsn):
        raise StorageError(
            f"the log ends before {control.lsn:016x}, where CONTROL says it was safe: restore a backup. To start from data.mdb alone, move CONTROL and wal/ away"
        )
    fd = os.open(data, os.O_RDWR)
    try:
        pages = fmt.meta_pages(control.meta_body)
        bodies = [os.pread(fd, fmt.META_BODY_BYTES, offset + fmt.META_BODY_OFFSET) for offset, _ in pages]
        valid = [body for body in bodies if fmt.meta_body_is_valid(body)]
        newest = max(map(fmt.meta_txnid, valid), default=0)
        if len(valid) == len(pages) and newest < control.txnid:
            raise StorageError(
                f"data.mdb holds an older state ({newest}) than CONTROL names ({control.txnid}). If data.mdb was restored from a copy, move CONTROL and wal/ away"
            )
        if newest != control.txnid or len(valid) < len(pages):
            disk.reached("restore")
            for offset, head in pages:  # no sync: until CONTROL names a later snapshot, every start does this again
                disk.pwrite(fd, [head], offset)
        # A page behind the end would kill the process.
        os.ftruncate(fd, max(os.fstat(fd).st_size, fmt.meta_file_bytes(control.meta_body)))
    finally:
        os.close(fd)
    return control
