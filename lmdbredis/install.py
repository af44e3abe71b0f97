"""Installing: another state takes the place of the one in a directory, all of it or nothing.

Theory. The new state is made in ``DIR/incoming``, as a directory of its own: data.mdb, wal/, and CONTROL last, each of them synced. From
the moment that CONTROL stands there the old state is of no use, and `finish` moves the three to where they belong. Whoever opens a
store calls it first, so a process that is killed in the middle has moved the rest by its next start.

Laws:

1. ``incoming/CONTROL`` is there only if everything it names is there and on disk.
2. CONTROL is moved last, and after the names before it are on disk; what has been moved is not in ``incoming`` any more, so that doing
   it again does the rest.
3. A log that holds what the new state does not know is not thrown away: `begin` is told where the two part, and `finish` keeps the old
   log under a name that says so (``diverged-<lsn>``).

The other way to put a state in place is `restore`: the synced snapshot instead of whatever was committed after it, at every start.

It knows files; no row, no socket.
"""

from __future__ import annotations

import os
import shutil
from itertools import chain, count
from typing import TYPE_CHECKING, Final

from lmdbredis import control_file, wal
from lmdbredis.disk import NO_ROOM
from lmdbredis.errors import DiskFull, StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from lmdbredis.disk import Disk

_DIVERGED: Final = "DIVERGED"  # in `incoming`: the name under which the old log is kept


def begin(directory: Path) -> Path:
    """Return an empty place for a new state of the directory. Raises DiskFull, OSError."""
    place = incoming(directory)
    (place / "CONTROL").unlink(missing_ok=True)  # first: what is half gone must not be put in place
    shutil.rmtree(place, ignore_errors=True)
    try:
        (place / "wal").mkdir(parents=True)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull(str(error)) from error
        raise
    return place


def incoming(directory: Path) -> Path:
    """Return where the new state of the directory is made."""
    return directory / "incoming"


def compact(directory: Path) -> Path:
    """Return where a compact copy of the directory's data is made beside a server."""
    return directory / "compact"


def seal(directory: Path, disk: Disk, control: control_file.Control, diverged_lsn: int | None) -> None:
    """Say that the new state is whole: from now on it will be there. Its files have been synced. Raises DiskFull, SyncFailed.

    The old log is kept if it goes on after `diverged_lsn`, where the new history parts from it; None = it holds nothing else.
    """
    place = incoming(directory)
    if diverged_lsn is not None:
        disk.replace(place / _DIVERGED, _free_name(directory, f"diverged-{diverged_lsn:016x}").encode())
    if (place / "wal").exists():  # else the log stays where it is
        disk.sync_directory(place / "wal")
    disk.sync_directory(place)
    disk.replace(place / "CONTROL", control_file.pack(control))
    disk.sync_directory(directory)
    disk.reached("install.sealed")


def _free_name(directory: Path, name: str) -> str:
    """Return this name, or with a number behind it: what was kept before stays."""
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(free for free in names if not (directory / free).exists())


def finish(directory: Path, disk: Disk) -> str | None:
    """Put a new state that is whole in the place of the old one, and clear away one that is not.

    Returns the name of the directory in which the old log was kept, if it was (law 3). Raises DiskFull, SyncFailed; NotADirectoryError
    if the log is elsewhere: it is moved by its name, which would leave it there, or fail when the old state is half gone.
    """
    place, old, log = incoming(directory), directory / "wal.old", directory / "wal"
    if log.is_symlink() or log.is_mount():
        raise NotADirectoryError(
            f"{log} is a link or a mount point, and the log must stand in the store's own directory: put the whole store on the other disk"
        )
    if not (place / "CONTROL").exists():
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)  # all but this was done
        shutil.rmtree(compact(directory), ignore_errors=True)  # of a tool that was killed, or comes too late
        return None
    if (place / "data.mdb").exists():
        (directory / "lock.mdb").unlink(
            missing_ok=True
        )  # it tells of the old file; whoever reads that goes on with both
        disk.rename(place / "data.mdb", directory / "data.mdb")
        disk.reached("install.data")
    if (place / "wal").exists():
        if log.exists():
            shutil.rmtree(old, ignore_errors=True)
            disk.rename(log, old)
        disk.reached("install.old")
        disk.rename(place / "wal", log)
        disk.reached("install.wal")
    kept = None
    if (place / _DIVERGED).exists() and old.exists():
        kept = (place / _DIVERGED).read_text(encoding="ascii")
        disk.make_directory(directory / kept)
        disk.rename(old, directory / kept / "wal")
        disk.sync_directory(directory / kept)
    disk.sync_directory(directory)
    disk.rename(place / "CONTROL", directory / "CONTROL")
    disk.sync_directory(directory)
    disk.reached("install.done")
    shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(compact(directory), ignore_errors=True)  # last: a tool that waits for that looks at data.mdb then
    return kept


def restore(directory: Path, disk: Disk) -> control_file.Control | None:
    """Make data.mdb show the snapshot that CONTROL names; return CONTROL, None if there is none.

    Both meta pages are overwritten by the one that CONTROL kept: whatever was committed later may not be whole.
    """
    path = directory / "CONTROL"
    if not path.exists():
        return None
    control = control_file.unpack(path.read_bytes())
    data = directory / "data.mdb"
    if not data.exists():
        raise StorageError(f"{data} is missing, though CONTROL names a snapshot in it: restore a backup")
    if not wal.reaches(directory / "wal", control.lsn):
        raise StorageError(
            f"the log ends before {control.lsn:016x}, where CONTROL says it was safe: restore a backup. To start from data.mdb alone, move CONTROL and wal/ away"
        )
    fd = os.open(data, os.O_RDWR)
    try:
        pages = control_file.meta_pages(control.meta_body)
        bodies = [
            os.pread(fd, control_file.META_BODY_BYTES, offset + control_file.META_BODY_OFFSET) for offset, _ in pages
        ]
        valid = [body for body in bodies if control_file.meta_body_is_valid(body)]
        newest = max(map(control_file.meta_txnid, valid), default=0)
        if len(valid) == len(pages) and newest < control.txnid:
            raise StorageError(
                f"data.mdb holds an older state ({newest}) than CONTROL names ({control.txnid}). If data.mdb was restored from a copy, move CONTROL and wal/ away"
            )
        size, promised = os.fstat(fd).st_size, control_file.meta_file_bytes(control.meta_body)
        if size < promised:  # law 6 of `store`
            raise StorageError(
                f"data.mdb has {size} bytes, and the snapshot that CONTROL names {promised}: restore a backup"
            )
        if newest != control.txnid or len(valid) < len(pages):
            disk.reached("restore")
            for offset, head in pages:  # no sync: until CONTROL names a later snapshot, every start does this again
                disk.pwrite(fd, [head], offset)
    finally:
        os.close(fd)
    return control
