"""The one door through which bytes become durable.

Law: whatever makes data durable or fails to (writes to the log, syncs, renames, commits of the engine) passes here, so that
one object decides what a test's disk does: run full, fail to sync, or lose power at a named point. The real disk does what
the operating system does and `reached` does nothing.

There are two ways to fail. `DiskFull`: there is no room (or no file descriptor, no memory), and later there may be; nothing
of what was asked counts. `SyncFailed`: a sync failed, or a write did for any other reason; what is on disk is unknown.

The points that `reached` names, in the order of a row's way: ``wal.rotate wal.rotated wal.appended``, ``commit committed``,
``sync synced control.written``; of a new state that takes the place of the old one (see `install`) ``install.sealed install.data
install.old install.wal install.done``; and of recovery ``restore replay repair``.
"""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from lmdbredis.errors import DiskFull, SyncFailed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_WRITEBACK_BYTES: Final = 16 << 20


def _failure(error: OSError) -> DiskFull | SyncFailed:
    """Return which of the two ways to fail an error of the operating system is."""
    return DiskFull(str(error)) if error.errno in NO_ROOM else SyncFailed(str(error))


class Writeback:
    """The way to the disk of a large file that is being written: it begins part by part, so that the sync at the end is short."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._begun_bytes = 0

    def note(self, size_bytes: int) -> None:
        """Take note that so much of the file has been written by now. Waits for nothing.

        The kernel is told that a part is not needed: then it writes its dirty pages, and drops those that are clean, which just after
        they were written none of them are.
        """
        count = size_bytes - self._begun_bytes
        if count >= _WRITEBACK_BYTES:
            with suppress(OSError):  # advice
                os.posix_fadvise(self._fd, self._begun_bytes, count, os.POSIX_FADV_DONTNEED)
            self._begun_bytes = size_bytes


class Disk:
    """The real disk."""

    def reached(self, point: str) -> None:
        """Say that execution reached the named `point`; a test may end the process here."""

    def pwrite(self, fd: int, parts: Sequence[bytes | memoryview], offset: int) -> None:
        """Write all of `parts` at `offset`. Raises DiskFull: what was written before that is of no account; SyncFailed."""
        try:
            total = sum(map(len, parts))
            written = os.pwritev(fd, parts, offset)
            if written < total:
                rest = memoryview(b"".join(parts))
                while written < total:
                    written += os.pwrite(fd, rest[written:], offset + written)
        except OSError as error:
            raise _failure(error) from error

    def allocate(self, fd: int, size_bytes: int) -> None:
        """Reserve room for `size_bytes` from the beginning of the file. Raises DiskFull, SyncFailed."""
        try:
            os.posix_fallocate(fd, 0, size_bytes)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:  # a file system without it only loses speed
                raise _failure(error) from error

    def extend(self, fd: int, size_bytes: int) -> None:
        """Let a file that nobody is writing have at least so many bytes. Raises DiskFull, SyncFailed."""
        try:
            if os.fstat(fd).st_size < size_bytes:
                os.ftruncate(fd, size_bytes)
        except OSError as error:
            raise _failure(error) from error

    def open(self, path: Path, flags: int) -> int:
        """Open a file of the log. Raises DiskFull, SyncFailed."""
        try:
            return os.open(path, flags, 0o644)
        except OSError as error:
            raise _failure(error) from error

    def make_directory(self, path: Path) -> None:
        """Make a directory of the store, if it is not there. Raises OSError."""
        path.mkdir(exist_ok=True)

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file, over another if there is one; durable once the directory is synced. Raises DiskFull, SyncFailed."""
        try:
            old.rename(new)
        except OSError as error:
            raise _failure(error) from error

    def commit(self, transaction: Any) -> None:
        """Commit a transaction of the engine. Raises what the engine raises."""
        self.reached("commit")
        transaction.commit()
        self.reached("committed")

    def fdatasync(self, fd: int) -> None:
        """Put the file's bytes on disk. Raises SyncFailed: after that nothing about the file is known."""
        try:
            os.fdatasync(fd)
        except OSError as error:
            raise SyncFailed(str(error)) from error

    def sync_directory(self, path: Path) -> None:
        """Put the directory's names on disk. Raises SyncFailed, DiskFull."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.fdatasync(fd)
        finally:
            os.close(fd)

    def replace(self, path: Path, content: bytes) -> None:
        """Replace the file `path` by one that holds `content`, durably: after a crash it is the old or the new one.

        Raises DiskFull: it is the old one; SyncFailed.
        """
        new = path.with_name(path.name + ".new")
        fd = self.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self.pwrite(fd, [content], 0)
            self.fdatasync(fd)
        finally:
            os.close(fd)
        self.reached("control.written")
        self.rename(new, path)
        try:
            self.sync_directory(path.parent)
        except DiskFull as error:  # it was the file that may be either
            raise SyncFailed(str(error)) from error


CRASH_AT: Final = "LMDBREDIS_CRASH_AT"  # the environment variable of `CrashingDisk`


class CrashingDisk(Disk):
    """A disk that ends the process with SIGKILL when it reaches a named point: for crash tests.

    ``LMDBREDIS_CRASH_AT=commit:3`` ends it at the third commit, before it; see the module for the points.
    """

    def __init__(self, where: str) -> None:
        """Take "point:n". Raises ValueError if it is not of that form."""
        self._point, _, number = where.partition(":")
        self._crash_at = int(number)
        self._times = count(1)

    def reached(self, point: str) -> None:
        """End the process if this is the moment."""
        if point == self._point and next(self._times) == self._crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
