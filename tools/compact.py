"""``lmdbredis compact``: data.mdb without its free pages, in order, so that it is as small as what it holds.

Theory. LMDB gives pages back to itself, never to the file system: after much was deleted the file stays large. A compact copy of the
newest snapshot is made beside it, with the same log, and takes its place as any other new state does (`install`). A running server is
asked to do that last step itself (`lmdbredis.compaction`).

Laws:

1. A store that no server has is locked as by a server, and closed in order first, as a server would (what was killed is recovered).
   Beside a server nothing of its own is written; segments of its log that it trims meanwhile are kept by another name (a link).
2. Whenever the process is killed there is the old state or the new one, and the next start works; it clears away what is left over.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from lmdbredis import control_file, install, wal
from lmdbredis.disk import Disk
from lmdbredis.errors import MORE_BY_CHECK, DiskFull, NewerFormat, StorageError, SyncFailed
from lmdbredis.snapshots import ReadOnly
from lmdbredis.store import Store

from . import copying, manifest, verify
from .child import Damaged, apart
from .options import refuse_nothing_to_copy
from .sources import cut, lock, write_compact

if TYPE_CHECKING:
    import argparse

    from .child import Report

_TRIES: Final = 3  # the server may have trimmed what the copy still needs
_ROUNDS: Final = 5
_NEAR_BYTES: Final = 4 << 20  # of the log, that the server takes by itself
_LOOK_S: Final = 0.02


def add_parser(commands: Any) -> None:
    """Add the command."""
    made = commands.add_parser(
        "compact", help="make data.mdb as small as what it holds",
        description="Write data.mdb anew without its free pages, and put it in the place of the old one. Beside a running server, too, "
        "which exchanges the two in milliseconds. Meanwhile the disk needs room for both.",
        epilog="example: lmdbredis compact /var/lib/lmdbredis",
    )  # fmt: skip
    made.add_argument("directory", metavar="DIR", type=Path, help="the server's directory")
    made.set_defaults(run=run, json=False)


def run(given: argparse.Namespace) -> int:
    """Compact a store and say what that gained; return the exit status. Raises StorageError, Damaged, OSError."""
    directory: Path = given.directory
    refuse_nothing_to_copy(directory)
    before = (directory / "data.mdb").stat().st_size
    if manifest.is_backup(directory):
        raise StorageError(f"{directory} is a backup: compact what `lmdbredis restore` makes of it")
    lock_fd = lock(directory)
    if lock_fd < 0:
        after = compact_beside(directory)
    else:
        os.close(lock_fd)
        after = _compact_cold(directory)
    print(f"data.mdb had {before:,} bytes, and has {after:,}")
    return 0


def _compact_cold(directory: Path) -> int:
    """Make the data file of a store that no server has compact; return its size. Raises StorageError, Damaged, OSError."""
    try:
        apart(partial(_close_in_order, directory))  # one snapshot has everything
    except NewerFormat:
        raise
    except StorageError as error:
        raise Damaged(str(error).replace(MORE_BY_CHECK, "")) from error
    lock_fd = lock(directory)
    if lock_fd < 0:
        raise StorageError(f"a server was started on {directory} meanwhile")
    try:
        return compact(directory, Disk())
    except (DiskFull, SyncFailed) as error:
        raise OSError(f"{directory} was not compacted: {error}") from error
    finally:
        os.close(lock_fd)


def _close_in_order(directory: Path, _: Report) -> None:
    """Start and stop as a server does. Raises StorageError if the store is broken, OSError. In a child."""
    try:
        Store(directory, os.urandom(20).hex()).close()
    except (DiskFull, SyncFailed) as error:
        raise OSError(f"{directory} was not compacted: {error}") from error


def compact_beside(directory: Path) -> int:
    """Make the data file of a running server compact; return its size. Raises StorageError, Damaged, OSError."""
    copying.step_back()
    pid = _server(directory)
    place = install.compact(directory)
    for _ in range(_TRIES):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        try:
            with Kept(directory / "wal", place / "kept") as kept:
                lsn = _copy_beside(directory, place, kept)
            made = (place / "data.mdb").stat()
            os.kill(pid, signal.SIGUSR2)
            while place.exists():  # until it has taken it, or not
                os.kill(pid, 0)
                time.sleep(_LOOK_S)
        except ProcessLookupError:
            raise StorageError("the server has ended meanwhile: nothing was done") from None
        finally:
            shutil.rmtree(place, ignore_errors=True)
        if (directory / "data.mdb").stat().st_ino == made.st_ino:
            return made.st_size
        if wal.segments(directory / "wal")[0] < lsn:  # nothing is missing, and another copy would fare no better
            raise StorageError(
                "the server did not take the compact copy: its log file says why. Most likely it holds checkpoints: "
                "`redis-cli BACKUP STATUS` shows that, BACKUP STOP ends it"
            )
    raise StorageError(f"the server did not take the compact copy, {_TRIES} times: its log file says why")


def _server(directory: Path) -> int:
    """Return the pid of the server that has the directory. Raises StorageError if it is none that exchanges files."""
    word = (directory / "LOCK").read_bytes()[:32].strip()
    try:
        pid = int(word)
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (ValueError, OSError):
        raise StorageError(f"{directory} belongs to a server that cannot be seen from here") from None
    caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:"))
    if not caught >> (signal.SIGUSR2 - 1) & 1:
        raise StorageError(
            f"{directory} belongs to a process that does not exchange files (pid {pid}): is it a backup, or an older server?"
        )
    return pid


def _copy_beside(directory: Path, place: Path, kept: Kept) -> int:
    """Make a compact copy that has all but the last of the log, and its CONTROL; return how much of the log it has."""
    replid = control_file.unpack((directory / "CONTROL").read_bytes()).replid
    _, lsn = _make(directory, place)
    for _ in range(_ROUNDS):  # each has less to do than the one before
        ahead_bytes = kept.copy_into(place / "wal", lsn)
        Store(place, replid).close()  # a start takes what is in the log, and a close makes one snapshot of it
        lsn = control_file.unpack((place / "CONTROL").read_bytes()).lsn
        if ahead_bytes < _NEAR_BYTES:
            break
    shutil.copymode(directory / "data.mdb", place / "data.mdb")
    return lsn


class Kept:
    """The segments of a server's log from now on, kept from being trimmed by links to them."""

    def __init__(self, log: Path, place: Path) -> None:
        self._log = log
        self._place = place
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._keep_on, daemon=True)

    def __enter__(self) -> Self:
        self._place.mkdir()
        self._keep()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _keep_on(self) -> None:
        while not self._ends.wait(_LOOK_S):
            self._keep()

    def _keep(self) -> None:
        for base in wal.segments(self._log):
            path = wal.segment_path(self._place, base)
            if not path.exists():
                with suppress(FileNotFoundError):  # trimmed as we look: a later one is not
                    os.link(wal.segment_path(self._log, base), path)

    def copy_into(self, target: Path, lsn: int) -> int:
        """Copy the log from the segment that holds `lsn` on; return how many bytes follow `lsn`. Raises StorageError."""
        self._keep()
        bases = wal.segments(self._place)
        held = [base for base in bases if base < lsn]
        if not held:
            raise StorageError("the log was trimmed too soon: try again")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for base in bases:
            if base >= held[-1]:
                shutil.copyfile(wal.segment_path(self._place, base), wal.segment_path(target, base))
        return max(cut(target, bases[-1]) - lsn, 0)


def _make(directory: Path, place: Path) -> tuple[int, int]:
    """Write the data of the newest commit into `place`, free pages left out; return its txnid and its lsn."""
    with closing(ReadOnly(directory)) as reader, closing(reader.copy()) as copy:
        target = copying.Target(place / "data.mdb")
        try:
            with copying.bar("compacting", (directory / "data.mdb").stat().st_size) as tell:
                write_compact(copy, target, tell)
            target.close()
        finally:
            target.abandon()
        return copy.txnid, copy.lsn


def compact(directory: Path, disk: Disk) -> int:
    """Make the data file of a locked store that was closed in order compact; return its size.

    Raises StorageError, Damaged, OSError, DiskFull, SyncFailed: then nothing has changed, or the next start does the rest.
    """
    copying.step_back()
    data = directory / "data.mdb"
    control = control_file.unpack((directory / "CONTROL").read_bytes())
    place = install.begin(directory)
    try:
        with closing(ReadOnly(directory)) as reader:
            keys = verify.keys_of(reader)
        expected = (*_make(directory, place), keys)
        for path in (directory / "wal").iterdir():
            os.link(path, place / "wal" / path.name)
        found = verify.look(place, rows=False)
        if (control.txnid, found["lsn"], found["keys"]) != expected or found["faults"]:
            raise Damaged(f"{directory}: the copy is not what it was made from, so nothing was done")
        shutil.copymode(data, place / "data.mdb")
        after = (place / "data.mdb").stat().st_size
        install.seal(
            directory, disk, replace(control, txnid=found["txnid"], meta_body=bytes.fromhex(found["meta_body"])), None
        )
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    install.finish(directory, disk)
    return after
