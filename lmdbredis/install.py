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

It knows names of files; no row, no socket.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt

if TYPE_CHECKING:
    from pathlib import Path

    from lmdbredis.disk import Disk

_DIVERGED: Final = "DIVERGED"  # in `incoming`: the name under which the old log is kept


def begin(directory: Path) -> Path:
    """Return an empty place for a new state of the directory."""
    place = incoming(directory)
    shutil.rmtree(place, ignore_errors=True)
    (place / "wal").mkdir(parents=True)
    return place


def incoming(directory: Path) -> Path:
    """Return where the new state of the directory is made."""
    return directory / "incoming"


def seal(directory: Path, disk: Disk, control: fmt.Control, diverged_lsn: int | None) -> None:
    """Say that the new state is whole: from now on it will be there. Its files have been synced. Raises DiskFull, SyncFailed.

    The old log is kept if it goes on after `diverged_lsn`, where the new history parts from it; None = it holds nothing else.
    """
    place = incoming(directory)
    if diverged_lsn is not None:
        (place / _DIVERGED).write_text(f"diverged-{diverged_lsn:016x}", encoding="ascii")
    disk.sync_directory(place / "wal")
    disk.sync_directory(place)
    disk.replace(place / "CONTROL", fmt.pack_control(control))
    disk.sync_directory(directory)
    disk.reached("install.sealed")


def finish(directory: Path, disk: Disk) -> str | None:
    """Put a new state that is whole in the place of the old one, and clear away one that is not.

    Returns the name of the directory in which the old log was kept, if it was (law 3). Raises DiskFull, SyncFailed.
    """
    place, old = incoming(directory), directory / "wal.old"
    if not (place / "CONTROL").exists():
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)  # all but this was done
        return None
    if (place / "data.mdb").exists():
        (directory / "lock.mdb").unlink(
            missing_ok=True
        )  # it tells of the old file; whoever reads that goes on with both
        disk.rename(place / "data.mdb", directory / "data.mdb")
        disk.reached("install.data")
    if (place / "wal").exists():
        if (directory / "wal").exists():
            shutil.rmtree(old, ignore_errors=True)
            disk.rename(directory / "wal", old)
        disk.reached("install.old")
        disk.rename(place / "wal", directory / "wal")
        disk.reached("install.wal")
    kept = None
    if (place / _DIVERGED).exists() and old.exists():
        kept = (place / _DIVERGED).read_text(encoding="ascii")
        shutil.rmtree(directory / kept, ignore_errors=True)
        (directory / kept).mkdir()
        disk.rename(old, directory / kept / "wal")
    disk.sync_directory(directory)
    disk.rename(place / "CONTROL", directory / "CONTROL")
    disk.sync_directory(directory)
    disk.reached("install.done")
    shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return kept
