"""The one door through which bytes become durable.

Law: whatever makes data durable or fails to (writes to the log, syncs, renames, commits of the engine) passes here, so that
one object decides what a test's disk does: run full, fail to sync, or lose power at a named point. The real disk does what
the operating system does and `reached` does nothing.

`SyncFailed` is raised for a failing sync, `DiskFull` for a write without room; other errors stay `OSError`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from lmdbredis.errors import DiskFull, SyncFailed

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Disk:
    """The real disk."""

    def reached(self, point: str) -> None:
        """Say that execution reached the named `point`; a test may end the process here."""

    def pwrite(self, fd: int, parts: Sequence[bytes], offset: int) -> None:
        """Write all of `parts` at `offset`. Raises DiskFull; what was written before that is of no account."""
        try:
            total = sum(map(len, parts))
            written = os.pwritev(fd, parts, offset)
            if written < total:
                rest = memoryview(b"".join(parts))
                while written < total:
                    written += os.pwrite(fd, rest[written:], offset + written)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise DiskFull(str(error)) from error
            raise

    def allocate(self, fd: int, size_bytes: int) -> None:
        """Reserve room for `size_bytes` from the beginning of the file. Raises DiskFull."""
        try:
            os.posix_fallocate(fd, 0, size_bytes)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise DiskFull(str(error)) from error
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system without it only loses speed
                raise

    def fdatasync(self, fd: int) -> None:
        """Put the file's bytes on disk. Raises SyncFailed: after that nothing about the file is known."""
        try:
            os.fdatasync(fd)
        except OSError as error:
            raise SyncFailed(str(error)) from error

    def sync_directory(self, path: Path) -> None:
        """Put the directory's names on disk. Raises SyncFailed."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.fdatasync(fd)
        finally:
            os.close(fd)

    def replace(self, path: Path, content: bytes) -> None:
        """Replace the file `path` by one that holds `content`, durably: after a crash it is the old or the new one."""
        new = path.with_name(path.name + ".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            self.pwrite(fd, [content], 0)
            self.fdatasync(fd)
        finally:
            os.close(fd)
        self.reached("control.written")
        new.replace(path)
        self.sync_directory(path.parent)
