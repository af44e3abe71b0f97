"""``lmdbredis compact``: data.mdb without its free pages, in order, so that it is as small as what it holds.

Theory. LMDB gives pages back to itself, never to the file system: after much was deleted the file stays large. A compact copy of the
newest snapshot is made beside it, with the same log, and takes its place as any other new state does (`install`). A running server is
asked to do that last step itself (`lmdbredis.compaction`).

Laws:

1. A store that no server has is locked as by a server, and closed in order first, as a server would (what was killed is recovered).
   Beside a server nothing of its own is written; segments of its log that it trims meanwhile are kept by another name (a link).
2. Whenever the process is killed there is the old state or the new one, and the next start works; it clears away what is left over.
   So the server's user must be able to: what is made belongs to the store's owner from its first moment on (`ownership`), and who
   may not give it to him is refused before anything has changed.
3. Beside a server the copy is made where the server does not look (``compact/making``); data.mdb and then CONTROL are moved to where
   it does when they are ready, and nothing else is left there. The server is not waited for without end: who takes data.mdb away from
   there first has decided, so a copy that was withdrawn is taken by nobody.
"""

from __future__ import annotations

import fcntl
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

from lmdbredis import control_file, install, ownership, wal
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

    from lmdbredis.ownership import Owner

    from .child import Report

_TRIES: Final = 3  # the server may have trimmed what the copy still needs
_ROUNDS: Final = 5
_NEAR_BYTES: Final = 4 << 20  # of the log, that the server takes by itself
_LOOK_S: Final = 0.02
_ANSWER_S: Final = 60  # until the server takes the copy: between two batches, and a script may be one
_FINISH_S: Final = 600  # until it goes on with it: a slow disk may be in the middle of a sync


def add_parser(commands: Any) -> None:
    """Add the command."""
    made = commands.add_parser(
        "compact", help="make data.mdb as small as what it holds",
        description="Write data.mdb anew without its free pages, and put it in the place of the old one. Beside a running server, too, "
        "which exchanges the two in milliseconds. Meanwhile the disk needs room for both. "
        "What is written belongs to the owner of data.mdb: run it as root, or as that user.",
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
        try:
            _make_place(directory).rmdir()  # who may not make anything here is told before anything has changed
        finally:
            os.close(lock_fd)
        after = _compact_cold(directory)
    print(f"data.mdb had {before:,} bytes, and has {after:,}")
    return 0


class _OwnersDisk(Disk):
    """A disk on which everything that is made belongs to the store's owner."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def open(self, path: Path, flags: int) -> int:
        """See `Disk`. Raises PermissionError, too."""
        if not flags & os.O_CREAT:
            return super().open(path, flags)
        fd = super().open(path, flags | os.O_NOFOLLOW)
        try:
            self._owner.give(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def make_directory(self, path: Path) -> None:
        """See `Disk`."""
        with suppress(FileExistsError):
            self._owner.make_directory(path)


def _make_place(directory: Path) -> Path:
    """Make an empty place beside the store, as its owner's; return it. Raises OSError."""
    place = install.compact(directory)
    shutil.rmtree(place, ignore_errors=True)
    ownership.owner_of(directory).make_directory(place)
    return place


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
        return compact(directory, _OwnersDisk(ownership.owner_of(directory)))
    except (DiskFull, SyncFailed) as error:
        raise OSError(f"{directory} was not compacted: {error}") from error
    finally:
        os.close(lock_fd)


def _close_in_order(directory: Path, _: Report) -> None:
    """Start and stop as a server does. Raises StorageError if the store is broken, OSError. In a child."""
    disk = _OwnersDisk(ownership.owner_of(directory))
    try:
        lock_fd = lock(directory)
        if lock_fd >= 0:  # else the store says who has it
            install.finish(directory, disk)  # it may remove lock.mdb, and the engine would make one of our own
            ownership.make_missing(directory, "lock.mdb")
            os.close(lock_fd)
        Store(directory, os.urandom(20).hex(), disk=disk).close()
    except (DiskFull, SyncFailed) as error:
        raise OSError(f"{directory} was not compacted: {error}") from error


def compact_beside(directory: Path) -> int:
    """Make the data file of a running server compact; return its size. Raises StorageError, Damaged, OSError."""
    copying.step_back()
    pid = _server(directory)
    lock_fd = _lock_place(directory)
    try:
        return _compact_beside(directory, pid)
    except (DiskFull, SyncFailed) as error:
        raise OSError(f"{directory} was not compacted: {error}") from error
    finally:
        os.close(lock_fd)


def _lock_place(directory: Path) -> int:
    """Let no other tool make a copy in the same place, until the descriptor that is returned is closed. Raises StorageError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)  # what is in the place comes and goes
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise StorageError(f"{directory} is being made compact already") from None
    return fd


def _compact_beside(directory: Path, pid: int) -> int:
    """Make copies until the server has taken one; return its size. Raises StorageError, Damaged, OSError."""
    for _ in range(_TRIES):
        place = _make_place(directory)
        try:
            lsn = _copy_beside(directory, place)
            made = (place / "data.mdb").stat()
            os.kill(pid, signal.SIGUSR2)
            _wait_for(pid, place)
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


def _wait_for(pid: int, place: Path) -> None:
    """Wait until the server has taken the copy, or has not. Raises ProcessLookupError, StorageError if it takes too long."""
    if _is_gone(pid, place, _ANSWER_S):
        return
    try:
        (place / "data.mdb").unlink()
    except FileNotFoundError:  # the server was first
        if not _is_gone(pid, place, _FINISH_S):
            raise StorageError(
                f"the server (pid {pid}) took the compact copy, and has not gone on for {_FINISH_S} s: its log file may say why"
            ) from None
    else:
        raise StorageError(
            f"the server (pid {pid}) has not answered for {_ANSWER_S} s, so nothing was done: is it stopped, or busy with a script? Its log file may say more"
        )


def _is_gone(pid: int, place: Path, seconds_max: float) -> bool:
    """Wait until the server has cleared the place away; tell whether it has in time. Raises ProcessLookupError if it ended."""
    until_s = time.monotonic() + seconds_max
    while place.exists():
        os.kill(pid, 0)
        if time.monotonic() > until_s:
            return False
        time.sleep(_LOOK_S)
    return True


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


def _copy_beside(directory: Path, place: Path) -> int:
    """Make a compact copy that has all but the last of the log, and its CONTROL; return how much of the log it has."""
    owner = ownership.owner_of(directory)
    making, segments = place / "making", place / "kept"
    for path in (making, segments):
        owner.make_directory(path)
    replid = control_file.unpack((directory / "CONTROL").read_bytes()).replid
    with Kept(directory / "wal", segments) as kept:
        _, lsn = _make(directory, making)
        for _ in range(_ROUNDS):  # each has less to do than the one before
            shutil.rmtree(making / "wal", ignore_errors=True)
            owner.make_directory(making / "wal")
            ahead_bytes = kept.copy_into(making / "wal", lsn)
            # A start takes what is in the log, and a close makes one snapshot of it.
            Store(making, replid, disk=_OwnersDisk(owner)).close()
            lsn = control_file.unpack((making / "CONTROL").read_bytes()).lsn
            if ahead_bytes < _NEAR_BYTES:
                break
    (making / "data.mdb").rename(place / "data.mdb")
    (making / "CONTROL").rename(place / "CONTROL.new")
    for path in (making, segments):
        shutil.rmtree(path)
    (place / "CONTROL.new").rename(place / "CONTROL")  # last: with it the copy is ready
    return lsn


class Kept:
    """The segments of a server's log from now on, kept from being trimmed by links to them in an empty directory."""

    def __init__(self, log: Path, place: Path) -> None:
        self._log = log
        self._place = place
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._keep_on, daemon=True)

    def __enter__(self) -> Self:
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
        """Copy the log from the segment that holds `lsn` on into an empty directory; return how many bytes follow `lsn`. Raises StorageError, Damaged."""
        self._keep()
        bases = wal.segments(self._place)
        held = [base for base in bases if base < lsn]
        if not held:
            raise StorageError("the log was trimmed too soon: try again")
        for base in bases:
            if base >= held[-1]:
                self._copy_segment(base, target)
        return max(cut(target, bases[-1], lsn, partial(self._copy_segment, bases[-1], target)) - lsn, 0)

    def _copy_segment(self, base: int, target: Path) -> None:
        shutil.copyfile(wal.segment_path(self._place, base), wal.segment_path(target, base))


def _make(directory: Path, place: Path) -> tuple[int, int]:
    """Write the data of the newest commit into `place`, free pages left out; return its txnid and its lsn."""
    with closing(ReadOnly(directory)) as reader, closing(reader.copy()) as copy:
        target = copying.Target(place / "data.mdb")
        try:
            owner = ownership.owner_of(directory)
            owner.give(target.fd, owner.rights)  # now: the sync at the end is of that, too
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
    control = control_file.unpack((directory / "CONTROL").read_bytes())
    place = install.begin(directory)
    try:
        for path in (place, place / "wal"):
            ownership.owner_of(directory).give_path(path)
        with closing(ReadOnly(directory)) as reader:
            keys = verify.keys_of(reader)
        expected = (*_make(directory, place), keys)
        for path in (directory / "wal").iterdir():
            os.link(path, place / "wal" / path.name)
        found = verify.look(place, rows=False)
        if (control.txnid, found["lsn"], found["keys"]) != expected or found["faults"]:
            raise Damaged(f"{directory}: the copy is not what it was made from, so nothing was done")
        after = (place / "data.mdb").stat().st_size
        install.seal(
            directory, disk, replace(control, txnid=found["txnid"], meta_body=bytes.fromhex(found["meta_body"])), None
        )
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    install.finish(directory, disk)
    return after
