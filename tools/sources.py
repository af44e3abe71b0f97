"""Where a backup's bytes come from: the directory of a store, live or cold. (A server elsewhere: see `remote`.)

Theory. A source gives the pages of one snapshot, and the log from there on. Of a live store that is the newest commit, pinned by a
read transaction (`snapshots`), so the server goes on and nothing is held. Of a store that was killed it is the snapshot that CONTROL
names, as a start would take it: what was committed later may not be whole; then the directory is locked, so that no start comes
between. Segments of the log are opened before the pages are copied: whatever the server removes meanwhile, an open file stays.

A pin holds only while the store stays open: an opening goes back to the snapshot that CONTROL names, and writes over the pages of later
ones. So what was copied counts only if CONTROL named that snapshot when it was pinned, or if no store was opened between the pin and
the end of the copy. An opening shows in LOCK (`mark`). Rejected: the process number that stands there; in a container it is always the same.

Laws:

1. Everything that was acknowledged before the source was opened is in what it gives.
2. Nothing in the directory is changed, but for LMDB's table of readers; that, and LOCK, are made where they are missing, if anything can be.
3. What may have been written over while it was copied is refused (`Restarted`); whoever asks again gets it of a later moment.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from lmdbredis import control_file, ownership, wal
from lmdbredis import format as fmt
from lmdbredis.errors import StorageError
from lmdbredis.snapshots import ReadOnly

from . import copying
from .child import Damaged, apart
from .options import refuse_nothing_to_copy
from .remote import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmdbredis.snapshots import Copy

    from .child import Report
    from .copying import Target
    from .manifest import Tell

_TRIES: Final = 5
_PAUSE_S: Final = 0.05
_LOOK_S: Final = 0.1
_COPIES_MAX: Final = 4  # of a segment that is being written
_ADDRESS: Final = re.compile(r"(?P<host>[^/]*):(?P<port>[0-9]{1,5})")

Mark = tuple[int, int, bytes]  # of the file LOCK: its number, when it was written, what is in it


class Restarted(StorageError):
    """A store was opened in the directory while its pages were copied: they may be of two states. Later it may go well."""


class Source(Protocol):
    """What a backup is made from."""

    replid: str  # the history's name
    size_bytes: int  # of data.mdb, as it will be
    lsn: int  # the snapshot holds the log up to here
    txnid: int | None  # LMDB's number of the snapshot in what was written; None = nobody knows before

    def write_data(self, target: Target, log: Path, tell: Tell, *, compact: bool) -> None:
        """Write data.mdb into a new file, and into the directory `log` whatever of the log comes before it.

        Raises StorageError, OSError; Restarted.
        """

    def write_log(self, log: Path, tell: Tell) -> None:
        """Write the log from the snapshot to its end, as segments, into the directory. Raises StorageError, Damaged, OSError."""

    def close(self) -> None:
        """Let everything go."""


def open_source(word: str) -> Source:
    """Return the source that a word names: a directory, or host:port. Raises StorageError, OSError."""
    path = Path(word)
    if not path.exists() and (found := _ADDRESS.fullmatch(word)):
        return Server(found["host"].strip("[]") or "localhost", int(found["port"]))
    refuse_nothing_to_copy(path)
    return Directory(path)


class Promised:
    """The bytes of data.mdb as the snapshot that CONTROL names has them, while no process writes it: as `snapshots.Copy`."""

    def __init__(self, directory: Path, control: control_file.Control) -> None:
        self.lsn = control.lsn
        self.txnid = control.txnid
        self.size_bytes = control_file.meta_file_bytes(control.meta_body)
        self.fd = os.open(directory / "data.mdb", os.O_RDONLY)
        pages = control_file.meta_pages(control.meta_body)
        head = bytearray(os.pread(self.fd, len(pages) * control_file.meta_page_bytes(control.meta_body), 0))
        for offset, page in pages:
            head[offset : offset + len(page)] = page
        self.head = bytes(head)

    def close(self) -> None:
        """Let the file go."""
        os.close(self.fd)


class Directory:
    """A directory as a source. Raises StorageError if there is nothing in it that can be copied, Damaged."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._log = directory / "wal"
        self._data = directory / "data.mdb"
        self._reader: ReadOnly | None = None  # None: the store was killed
        self._copy: Copy | Promised | None = None
        self._segments: dict[int, int] = {}  # base -> descriptor
        path = directory / "CONTROL"
        control = control_file.unpack(path.read_bytes()) if path.exists() else None
        # A store that was restored from a bare copy has no CONTROL yet: its backup begins a history.
        self.replid = control.replid if control is not None else os.urandom(20).hex()
        self._lock_fd = lock(directory, shared=True)
        # Through a read-only mount nobody gets into the table of readers.
        is_pinned = not os.statvfs(directory).f_flag & os.ST_RDONLY
        self._mark: Mark | None = None  # from before the pin; None: what was pinned cannot be written over
        try:
            if self._lock_fd < 0 and not is_pinned:
                raise StorageError(
                    f"{directory}: a server has it open, and through a read-only mount its pages cannot be held"
                )
            self._mark = mark(directory)
            if control is not None and self._lock_fd >= 0 and self._newest(control) != control.txnid:
                self._copy = Promised(directory, control)
                if not self._hold_segments(self._copy.lsn):
                    raise _log_is_missing(self._copy.lsn)
            else:
                if is_pinned:  # else only the lock keeps the pages, where others may have mounted it to be written
                    self._unlock()
                apart(partial(_look, directory))
                self._reader = ReadOnly(directory)
                self._copy = self._copy_with_log(self._reader, needs_log=control is not None)
                if control is not None and self._copy.meta_body == control.meta_body:
                    self._mark = None
        except BaseException:
            self.close()
            raise
        self.size_bytes = self._copy.size_bytes
        self.lsn = self._copy.lsn
        self.txnid: int | None = self._copy.txnid

    def _newest(self, control: control_file.Control) -> int:
        """Return the number of the newest commit, 0 if the meta pages are not both whole."""
        with self._data.open("rb") as file:
            bodies = []
            for offset, _ in control_file.meta_pages(control.meta_body):
                file.seek(offset + control_file.META_BODY_OFFSET)
                bodies.append(file.read(control_file.META_BODY_BYTES))
        return max(map(control_file.meta_txnid, bodies)) if all(map(control_file.meta_body_is_valid, bodies)) else 0

    def _copy_with_log(self, reader: ReadOnly, *, needs_log: bool) -> Copy:
        """Return the newest commit, the log from there on being open; again, if that was removed meanwhile."""
        for tries in range(_TRIES):
            time.sleep(_PAUSE_S * tries)
            copy = reader.copy()
            if self._hold_segments(copy.lsn) or not needs_log:
                return copy
            copy.close()
        raise _log_is_missing(copy.lsn)

    def _hold_segments(self, lsn: int) -> bool:
        """Open the segments from the one that holds the log at `lsn` on; tell whether they are there, and reach it (as a start asks)."""
        bases = wal.segments(self._log) if self._log.is_dir() else []
        held = [base for base in bases if base <= lsn]
        try:
            if not held or not wal.reaches(self._log, lsn):
                return False
            for base in bases[len(held) - 1 :]:
                if base not in self._segments:
                    self._segments[base] = os.open(wal.segment_path(self._log, base), os.O_RDONLY)
        except FileNotFoundError:
            return False
        for base in [base for base in self._segments if base < held[-1]]:
            os.close(self._segments.pop(base))
        return True

    def write_data(self, target: Target, log: Path, tell: Tell, *, compact: bool) -> None:  # noqa: ARG002 -- as `Source` has it
        """See `Source`."""
        try:
            self._write(target, tell, compact=compact)
        except (StorageError, Damaged):  # it may be for pages that were written over
            self._refuse_if_opened()
            raise
        self._refuse_if_opened()

    def _write(self, target: Target, tell: Tell, *, compact: bool) -> None:
        assert self._copy is not None
        if not compact:
            target.write(self._copy.head)
            target.take(self._copy.fd, self._copy.size_bytes, tell)
            return
        if isinstance(self._copy, Promised):
            raise StorageError(
                "the store was killed, and its newest commit may not be whole: start and stop a server on it first"
            )
        self.txnid = None  # the engine numbers it anew
        write_compact(self._copy, target, tell)

    def _refuse_if_opened(self) -> None:
        """Raise Restarted if a store was opened since the mark was taken (law 3)."""
        if self._mark is not None and mark(self._directory) != self._mark:
            raise Restarted(f"the server on {self._directory} was restarted meanwhile: try again")

    def write_log(self, log: Path, tell: Tell) -> None:
        """See `Source`. Of a segment that is being written, what is whole by now; of later ones, those that follow on it."""
        bases = sorted(self._segments)
        for base in bases:
            self._copy_segment(base, log, tell)
        while bases:
            end_lsn = cut(log, bases[-1], self.lsn, partial(self._copy_segment, bases[-1], log, tell))
            if end_lsn in self._segments:  # not even its beginning was whole
                return
            try:
                self._segments[end_lsn] = os.open(wal.segment_path(self._log, end_lsn), os.O_RDONLY)
            except FileNotFoundError:
                return
            self._copy_segment(end_lsn, log, tell)
            bases.append(end_lsn)

    def _copy_segment(self, base: int, log: Path, tell: Tell) -> None:
        copying.copy_file(self._segments[base], wal.segment_path(log, base), tell)

    def _unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def close(self) -> None:
        """See `Source`."""
        if self._copy is not None:
            self._copy.close()
        if self._reader is not None:
            self._reader.close()
        for fd in self._segments.values():
            os.close(fd)
        self._segments = {}
        self._unlock()


def _log_is_missing(lsn: int) -> StorageError:
    return StorageError(f"the log does not reach back to {lsn:016x}: segments are missing")


def write_compact(copy: Copy, target: Target, tell: Tell) -> None:
    """Write a snapshot without its free pages into a new file, in a child. Raises Damaged, OSError."""
    seen = 0

    def told(done: int, _: int | None) -> None:
        nonlocal seen
        tell(done - seen)
        seen = done

    try:
        apart(partial(_write_compact, copy, target.path), lambda: nullcontext(told))
    except StorageError as error:
        raise Damaged(str(error)) from error
    target.passed(os.fstat(target.fd).st_size)


def _write_compact(copy: Copy, path: Path, report: Report) -> None:
    """Write the snapshot into the file that is there. Raises StorageError, OSError. In a child, which has the parent's snapshot."""
    with path.open("r+b", buffering=0) as file, ThreadPoolExecutor(1, "compact") as thread:
        work, seen = thread.submit(copy.compact_into, file.fileno()), 0
        while not work.done():
            wait([work], _LOOK_S)
            size = os.fstat(file.fileno()).st_size
            report(size - seen)
            seen = size
        work.result()


def _look(directory: Path, _: Report) -> None:
    """Do what opening a snapshot does. Raises StorageError. In a child: where the file ends too soon, the engine does not survive it."""
    with closing(ReadOnly(directory)) as reader, closing(reader.copy()):
        pass


def lock(directory: Path, *, shared: bool = False) -> int:
    """Take the directory as a server does, until the descriptor that is returned is closed; -1 if a server, or a tool, has it.

    To share it, LOCK need not be written to, or be there on a read-only mount.

    Raises OSError: PermissionError also if the file LOCK is missing and cannot be made for the store's owner.
    """
    ownership.make_missing(directory, "LOCK")
    try:
        fd = os.open(directory / "LOCK", (os.O_RDONLY if shared else os.O_RDWR) | os.O_CREAT, 0o644)
    except OSError as error:
        if not shared or error.errno != errno.EROFS:
            raise
        fd = os.open(directory, os.O_RDONLY)  # there is none, and nobody can make one
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return -1
    return fd


def mark(directory: Path) -> Mark | None:
    """Return what LOCK shows of the newest opening of the store: each writes it, whoever it is, and again when it goes back no more.

    None if there is no LOCK, as may be on a read-only mount: nothing was opened there.
    """
    try:
        with (directory / "LOCK").open("rb") as file:
            status = os.fstat(file.fileno())
            return status.st_ino, status.st_mtime_ns, file.read()
    except FileNotFoundError:
        return None


def cut(log: Path, base: int, from_lsn: int, copy_again: Callable[[], object]) -> int:
    """Cut off what stands in a copied segment, the log's last, behind its whole records, durably; return where it ends then.

    That is the room which was taken ahead, and what was being written while it was copied: there may be a gap before its newest
    records. Whether it is no gap but damage only they can tell, so they are asked before they go: copied again, what was being
    written is whole, since records are written one after another, and what is still not whole is damaged. Where there is another
    gap each time, what stands behind is newer than the source's opening. What stands before `from_lsn`, where the snapshot ends,
    nobody reads. Raises Damaged, OSError.
    """
    path, before_lsn, end_lsn = wal.segment_path(log, base), -1, _end_of(log, base, from_lsn)
    for _ in range(_COPIES_MAX - 1):
        try:
            wal.count_behind(log, [base], end_lsn)
            break
        except StorageError as error:
            if end_lsn == before_lsn:
                raise Damaged(str(error)) from error
        path.unlink()
        copy_again()
        before_lsn, end_lsn = end_lsn, _end_of(log, base, from_lsn)
    if end_lsn == base:
        path.unlink()
        return base
    with path.open("rb+") as file:
        file.truncate(end_lsn - base)
        os.fsync(file.fileno())
    return end_lsn


def _end_of(log: Path, base: int, from_lsn: int) -> int:
    """Return where the whole records of a segment end, from `from_lsn` on; `base` if not even its beginning is whole."""
    with wal.segment_path(log, base).open("rb") as file:
        if fmt.unpack_segment_header(file.read(fmt.SEGMENT_HEADER_BYTES)) is None:
            return base
    end_lsn = max(from_lsn, base + fmt.SEGMENT_HEADER_BYTES)
    for record in wal.read_segment(log, base, from_lsn):
        end_lsn = record.end_lsn
    return end_lsn
