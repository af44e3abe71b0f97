"""Copying bytes from file to file at the speed of the kernel, their checksums along the way.

Theory. The kernel copies (copy_file_range: within a file system that can, it only shares blocks; else sendfile); meanwhile a thread
reads back what stands in the target by now, from the page cache, and sums it. What is summed is what is in the target: pages of
data.mdb that the snapshot does not use may change while they are copied, and it does not matter what they hold, only that it stays.

Each part is handed to the disk as soon as it is copied, without waiting for it, so that the sync at the end finds little left to do.
Rejected: syncs in a thread along the way, every 64 MB: they wait, and 4 GB took a third longer.

It knows files and bytes, nothing of what they mean.
"""

from __future__ import annotations

import errno
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from lmdbredis.disk import Writeback

from . import manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .manifest import Tell

NEW: Final = ".new"  # the end of the name under which a file is written that must be whole
_PIECE_BYTES: Final = 8 << 20
_NOT_HERE: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


def move(source_fd: int, target_fd: int, at: int, count: int) -> int:
    """Copy up to `count` bytes at offset `at` from one file to the same place in another; return how many, 0 at the source's end."""
    try:
        return os.copy_file_range(source_fd, target_fd, count, at, at)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    os.lseek(target_fd, at, os.SEEK_SET)
    return os.sendfile(target_fd, source_fd, at, count)


class Target:
    """A file that is being written, piece by piece from its beginning; its sum runs behind."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self.size_bytes = 0
        self._writeback = Writeback(self.fd)
        self._summer = ThreadPoolExecutor(1, "sum")
        self._sums: list[Future[None]] = []
        self._crc = 0

    def write(self, data: bytes) -> None:
        """Append bytes."""
        view = memoryview(data)
        while view:
            count = os.pwrite(self.fd, view, self.size_bytes)
            self.passed(count)
            view = view[count:]

    def take(self, source_fd: int, until_bytes: int | None, tell: Tell) -> None:
        """Append what the source has from where this file ends: up to `until_bytes`, zeros where the source ends before; or up to its end."""
        while until_bytes is None or self.size_bytes < until_bytes:
            wanted = _PIECE_BYTES if until_bytes is None else min(_PIECE_BYTES, until_bytes - self.size_bytes)
            count = move(source_fd, self.fd, self.size_bytes, wanted)
            if not count and until_bytes is None:
                return
            if not count:
                os.ftruncate(self.fd, until_bytes)  # type: ignore[arg-type] # it is a number here
                count = until_bytes - self.size_bytes  # type: ignore[operator]
            self.passed(count)
            tell(count)

    def passed(self, count: int) -> None:
        """Take note of bytes that have been appended: they are summed, and begin their way to the disk."""
        self._sums.append(self._summer.submit(self._add, self.size_bytes, count))
        self.size_bytes += count
        self._writeback.note(self.size_bytes)

    def _add(self, start: int, count: int) -> None:
        self._crc = manifest.sum_of(self.fd, start, count, self._crc)

    def close(self) -> dict[str, object]:
        """Put all of it on disk; return what a manifest says of it. Raises OSError."""
        try:
            os.fsync(self.fd)
            for one in self._sums:
                one.result()
            return manifest.entry(self.size_bytes, self._crc)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let the file go as it is."""
        self._summer.shutdown(cancel_futures=True)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def write_file(path: Path, content: bytes) -> dict[str, object]:
    """Write a new file durably; return what a manifest says of it. Raises OSError."""
    target = Target(path)
    try:
        target.write(content)
        return target.close()
    finally:
        target.abandon()


def write_whole(path: Path, content: bytes) -> None:
    """As `write_file`, but killed at any moment it leaves the whole file under that name, or none. The name is on disk with the directory."""
    new = path.with_name(path.name + NEW)
    write_file(new, content)
    new.rename(path)


def copy_file(source_fd: int, path: Path, tell: Tell) -> dict[str, object]:
    """Copy a file durably into a new one; return what a manifest says of it. Raises OSError."""
    target = Target(path)
    try:
        target.take(source_fd, None, tell)
        return target.close()
    finally:
        target.abandon()


def sync_directory(path: Path) -> None:
    """Put a directory's names on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def step_back() -> None:
    """Let whoever serves clients go first: on the processors, where there are fewer of them than work."""
    with suppress(OSError):
        os.nice(10)


@contextmanager
def bar(what: str, total_bytes: int | None) -> Iterator[Tell]:
    """Show how far the copying is, on a terminal; yield what is to be told of bytes that are done. None: nobody knows how many there will be."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console  # noqa: PLC0415 -- a tenth of a second that only a person waits for
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total_bytes)
        yield lambda count: progress.advance(task, count)
