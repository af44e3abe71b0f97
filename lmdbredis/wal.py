"""The log: an endless stream of bytes in segment files, addressed by lsn.

Theory: an lsn is a byte offset in the stream, as in PostgreSQL; a segment's file is named by the lsn of its first byte, so
address and file position differ by a constant. Records are appended with one write each; `sync` makes everything that was
appended before it durable and may run in another thread while appending goes on. Layouts are in `format`.

Laws:

1. A record never crosses segments; the next segment begins exactly where the last record ends.
2. Where the log ends: at the first address that holds no whole record with that address inside it.
3. A bad record is the torn tail of a power cut, and everything after it is dropped, unless a later whole record says that
   the bad one had been synced: then it is damage, and the log refuses to open (`StorageError`).
4. Room is taken ahead of need (a spare segment, preallocated by whoever calls `prepare`): on a full disk the append fails
   before anything of the record counts. It is given back to a commit that finds none (`give_back_room`).
5. While others copy the directory (`begin_growing`) no room is taken ahead, and no name goes away: a segment's file ends where the
   log does, so that whoever reads it from its beginning, however slowly, finds a piece of the log without holes.

It knows nothing of what records mean, or of time.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import re
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from lmdbredis import format as fmt
from lmdbredis.errors import DiskFull, StorageError, SyncFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from lmdbredis.disk import Disk

_PARTS_MAX: Final = 1000  # of one write: the system's limit is 1024
_ZEROS: Final = bytes(256 << 10)
_NAME: Final = re.compile(r"([0-9a-f]{16})\.wal")  # of a segment; whatever else is there is no part of the log
_LSN_MAX: Final = (1 << 63) - 1  # replicas are told addresses as Redis has them, with a sign

log = logging.getLogger("lmdbredis")


class Record(NamedTuple):
    """One record of the log."""

    lsn: int
    end_lsn: int
    time_ms: int
    flags: int
    payload: bytes


def segment_path(directory: Path, base_lsn: int) -> Path:
    """Return the file of the segment that begins at `base_lsn`."""
    return directory / f"{base_lsn:016x}.wal"


def segments(directory: Path) -> list[int]:
    """Return the base lsn of each segment in the directory, ascending; of a directory that is not there, none. Raises OSError."""
    try:
        names = [path.name for path in directory.iterdir()]  # a glob would find nothing where reading is forbidden
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(found[1], 16) for found in map(_NAME.fullmatch, names) if found)


def reaches(directory: Path, lsn: int) -> bool:
    """Tell whether the log has bytes up to address `lsn`: whether it can have ended there, or later."""
    held = [base for base in segments(directory) if base <= lsn]
    # The one that begins there may be torn.
    return any(_holds(segment_path(directory, base), lsn - base) for base in held[-2:])


def read(directory: Path, from_lsn: int, until_lsn: int | None = None) -> Iterator[Record]:
    """Yield the records from address `from_lsn` to the end of the log, or to `until_lsn` where the caller knows it to end.

    Raises StorageError for damage, a gap, or a log that ends before `until_lsn`.
    """
    bases = segments(directory)
    held = [base for base in bases if base <= from_lsn]
    if bases and not held:
        text = f"the log begins at {bases[0]:016x}, after {from_lsn:016x} where it is needed: segments are missing"
        raise StorageError(text)
    at = from_lsn
    for index in range(len(held) - 1, len(bases)) if held else ():
        base = bases[index]
        with segment_path(directory, base).open("rb") as file:
            if fmt.unpack_segment_header(file.read(fmt.SEGMENT_HEADER_BYTES)) is None:
                break
            at = max(at, base + fmt.SEGMENT_HEADER_BYTES)
            file.seek(at - base)
            while at != until_lsn and (record := _read_record(file.read, at)) is not None:
                yield record
                at = record.end_lsn
        if at == until_lsn or index + 1 == len(bases) or bases[index + 1] != at:
            break
    if until_lsn is None:
        if dropped := count_behind(directory, bases, at):
            text = "The log ends at %016x, where a record is not whole; records behind it that nobody promised to keep: %d, which a start drops"
            log.warning(text, at, dropped)
    elif at < until_lsn:
        raise StorageError(f"the log cannot be read back: it ends at {at:016x}, and was written up to {until_lsn:016x}")


def read_segment(
    directory: Path, base_lsn: int, from_lsn: int = 0, *, records_max: int | None = None
) -> Iterator[Record]:
    """Yield whole records of one segment, from address `from_lsn` on, until there is none: no judgement on why."""
    at = max(from_lsn, base_lsn + fmt.SEGMENT_HEADER_BYTES)
    with segment_path(directory, base_lsn).open("rb") as file:
        file.seek(at - base_lsn)
        count = 0
        while count != records_max and (record := _read_record(file.read, at)) is not None:
            yield record
            at, count = record.end_lsn, count + 1


def _read_record(read_bytes: Callable[[int], bytes], at: int) -> Record | None:
    """Return the whole record at address `at` of an open segment, or None."""
    head = read_bytes(fmt.RECORD_HEADER_BYTES)
    if len(head) < fmt.RECORD_HEADER_BYTES:
        return None
    header = fmt.unpack_record_header(head)
    if header.lsn != at:
        return None
    payload = read_bytes(header.payload_bytes)
    if len(payload) < header.payload_bytes or not fmt.record_is_whole(head, payload):
        return None
    return Record(at, at + fmt.RECORD_HEADER_BYTES + header.payload_bytes, header.time_ms, header.flags, payload)


def count_behind(directory: Path, bases: list[int], end_lsn: int) -> int:
    """Return how many whole records stand behind `end_lsn`, where none is, in the log whose segments begin at `bases`.

    Raises StorageError if one of them says that the log had been synced beyond `end_lsn`, or if a segment cannot be one.
    """
    found = 0
    if bases and bases[-1] > _LSN_MAX:
        name = segment_path(directory, bases[-1]).name
        raise StorageError(f"wal/{name} is no part of the log, which never gets to that address: move it away")
    for base in [*[base for base in bases if base <= end_lsn][-1:], *(base for base in bases if base > end_lsn)]:
        begins = max(end_lsn, base + fmt.SEGMENT_HEADER_BYTES)
        content = _written_after(segment_path(directory, base), begins - base)
        base, at = begins, 0  # from here on, content begins at address `base`
        while (at := _next_candidate(content, at, base)) >= 0:
            head = content[at : at + fmt.RECORD_HEADER_BYTES]
            header = fmt.unpack_record_header(head)
            payload = content[at + fmt.RECORD_HEADER_BYTES : at + fmt.RECORD_HEADER_BYTES + header.payload_bytes]
            if len(payload) == header.payload_bytes and fmt.record_is_whole(head, payload):
                if header.synced_lsn > end_lsn:
                    text = (
                        f"the log is damaged at {end_lsn:016x}: a record that had been synced is not whole, and records follow it. "
                        "Run `lmdbredis wal cat DIR` to see it, and restore a backup"
                    )
                    raise StorageError(text)
                found += 1
            at += 1
    return found


def _written_after(path: Path, offset: int) -> bytes:
    """Return what stands in the file from `offset` on, but for zeros at its end.

    Preallocated room is not even read where the file system tells it from zeros that were written; not all do, nor always.
    """
    content, zeros = bytearray(), 0  # so many bytes behind the content are zeros
    with path.open("rb") as file:
        fd, at = file.fileno(), offset
        while True:
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
                hole = os.lseek(fd, data, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing was written from there on
                    break
                data, hole = at, max(os.fstat(fd).st_size, at)
            zeros += data - at
            for start in range(data, hole, len(_ZEROS)):
                part = os.pread(fd, min(hole - start, len(_ZEROS)), start)
                if part == _ZEROS or not part.strip(b"\0"):
                    zeros += len(part)
                else:
                    content += bytes(zeros)
                    content += part
                    zeros = 0
            at = hole
            if at >= os.fstat(fd).st_size:
                break
    return bytes(content).rstrip(b"\0")


def _next_candidate(content: bytes, at: int, base: int) -> int:
    """Return the next position from `at` where a header holds its own address, or -1."""
    while at + fmt.RECORD_HEADER_BYTES <= len(content):
        high = fmt.pack_u64(base + at)[:5]  # these bytes change once in 16 MB: a fast search for them
        limit = min(len(content), ((base + at | 0xFFFFFF) + 1) - base + 13)
        found = content.find(high, at + 8, limit)
        if found < 0:
            at = max(limit - 13, at + 1)
            continue
        at = found - 8
        if at + fmt.RECORD_HEADER_BYTES > len(content):
            return -1
        if fmt.unpack_u64(content, at + 8) == base + at:
            return at
        at += 1
    return -1


def _holds(path: Path, size_bytes: int) -> bool:
    """Tell whether the segment has a whole header and at least `size_bytes` bytes."""
    with path.open("rb") as file:
        return (
            fmt.unpack_segment_header(file.read(fmt.SEGMENT_HEADER_BYTES)) is not None
            and path.stat().st_size >= size_bytes
        )


def close_all(fds: list[int]) -> None:
    """Close descriptors, and forget them."""
    while fds:
        os.close(fds.pop())


class Wal:
    """The log open for appending. Single writer; `sync` may run in any thread, `prepare` in one."""

    def __init__(self, directory: Path, disk: Disk, end_lsn: int, segment_bytes: int) -> None:
        """Open the log to append at `end_lsn`, its end: whatever stands after it is erased, so it cannot come back."""
        self.directory = directory
        self.end_lsn = end_lsn  # address of the next record
        self.synced_lsn = end_lsn  # everything before it is on disk
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._spare = directory / "spare"
        # Segments that are open: full ones that are not synced yet, and the current one, last.
        self._fds: list[int] = []
        self._names_changed = True  # the directory must be synced too
        self._sync_lock = threading.Lock()
        self._failure = ""  # why a sync failed: none succeeds after it
        self._prepare_lock = threading.Lock()
        self._prepare_lsn = 0  # no spare is wanted before
        self.grows = False  # law 5
        disk.make_directory(directory)
        bases = segments(directory)
        for base in bases:
            if base > end_lsn:
                segment_path(directory, base).unlink()
        current = [base for base in bases if base <= end_lsn]
        self.base_lsn = -1  # lsn where the current segment begins
        self._directory_fd = disk.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for base in current:  # what a crashed server wrote, in any segment, may not be on disk yet
                self._sync_closed(base)
            if current and _holds(segment_path(directory, current[-1]), end_lsn - current[-1]):
                self.base_lsn = current[-1]
                # A segment may have been all but begun.
                self.end_lsn = max(end_lsn, self.base_lsn + fmt.SEGMENT_HEADER_BYTES)
                self._fds.append(disk.open(segment_path(directory, self.base_lsn), os.O_RDWR))
                self._end_file()
                with suppress(DiskFull):  # law 4; but a full disk must not keep reads from being served
                    disk.allocate(self._fds[-1], segment_bytes)
            else:
                self._begin_segment()
            self.sync()
        except BaseException:
            self._close_all()
            raise

    def append(self, payload: bytes, time_ms: int, flags: int = 0) -> int:
        """Write one record and return the lsn after it. Raises DiskFull: then nothing was appended; SyncFailed."""
        lsn = self.end_lsn
        size = fmt.RECORD_HEADER_BYTES + len(payload)
        if len(payload) > fmt.RECORD_BYTES_MAX:
            raise DiskFull(f"a batch of {len(payload)} bytes is more than a record can hold")
        if lsn - self.base_lsn + size > self._segment_bytes and lsn - self.base_lsn > fmt.SEGMENT_HEADER_BYTES:
            self._begin_segment()
        lsn = self.end_lsn
        head = fmt.pack_record_header(payload, lsn, self.synced_lsn, time_ms, flags)
        self._disk.pwrite(self._fds[-1], (head, payload), lsn - self.base_lsn)
        self.end_lsn = lsn + fmt.RECORD_HEADER_BYTES + len(payload)
        return self.end_lsn

    def follow(self, records: Sequence[Record]) -> None:
        """Append records of the log that this one is a copy of, at the addresses that they have there; segments are cut where they are there.

        Raises StorageError if one belongs elsewhere, DiskFull, SyncFailed: then those before `end_lsn` have been appended.
        """
        parts: list[bytes] = []
        at = self.end_lsn
        for record in records:
            if record.lsn == at + fmt.SEGMENT_HEADER_BYTES:
                self._write(parts, at)
                self._begin_segment()
                parts, at = [], self.end_lsn
            if record.lsn != at:
                raise StorageError(f"a record for {record.lsn:016x} came, and the log ends at {at:016x}")
            head = fmt.pack_record_header(record.payload, at, self.synced_lsn, record.time_ms, record.flags)
            parts += (head, record.payload)
            at = record.end_lsn
            if len(parts) > _PARTS_MAX:
                self._write(parts, at)
                parts = []
        self._write(parts, at)

    def _write(self, parts: list[bytes], end_lsn: int) -> None:
        """Write what belongs at the end, up to `end_lsn`."""
        if parts:
            self._disk.pwrite(self._fds[-1], parts, self.end_lsn - self.base_lsn)
            self.end_lsn = end_lsn

    def _begin_segment(self) -> None:
        """Begin the segment at `end_lsn`, from the spare if there is one. Raises DiskFull: then nothing has changed."""
        self._disk.reached("wal.rotate")
        path = segment_path(self.directory, self.end_lsn)
        if self.grows:
            fd = self._disk.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        else:
            self.prepare()
            fd = self._disk.open(self._spare, os.O_RDWR)
        try:
            self._disk.pwrite(fd, (fmt.pack_segment_header(self.end_lsn),), 0)
            if not self.grows:
                self._disk.rename(self._spare, path)
        except BaseException:
            os.close(fd)
            if self.grows:
                path.unlink()
            raise
        self._disk.reached("wal.rotated")
        self._fds.append(fd)
        self.base_lsn = self.end_lsn
        self._names_changed = True
        self.end_lsn += fmt.SEGMENT_HEADER_BYTES

    def _end_file(self) -> None:
        """Let the current segment's file end where the log does: no room is taken ahead in it."""
        os.ftruncate(self._fds[-1], self.end_lsn - self.base_lsn)

    def begin_growing(self) -> None:
        """Let segments grow with what is appended (law 5), until `grows` is false again."""
        with self._prepare_lock:
            self.grows = True
        self._end_file()

    def give_back_room(self) -> None:
        """Give back what was taken ahead, until the next segment begins: a commit needs it more, and lets the log be trimmed."""
        with self._prepare_lock, suppress(OSError):
            self._prepare_lsn = self.end_lsn + self._segment_bytes // 16  # not taken at once again
            self._spare.unlink(missing_ok=True)
            self._end_file()

    def wants_spare(self) -> bool:
        """Tell whether the segment is half full and no spare is at hand: time to `prepare` one."""
        if self.grows:
            return False
        return (
            self.end_lsn > max(self.base_lsn + self._segment_bytes // 2, self._prepare_lsn) and not self._spare.exists()
        )

    def prepare(self) -> None:
        """Make the spare segment if there is none. Raises DiskFull. For a thread: it may take milliseconds."""
        making = self._spare.with_name("spare.new")
        with self._prepare_lock:  # the loop may need the spare that a thread is making
            if self.grows or self._spare.exists():
                return
            fd = self._disk.open(making, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            try:
                self._disk.allocate(fd, self._segment_bytes)
                self._disk.rename(making, self._spare)
            except BaseException:
                making.unlink(missing_ok=True)
                self._prepare_lsn = self.end_lsn + self._segment_bytes // 16  # not at once again
                raise
            finally:
                os.close(fd)

    def sync(self) -> int:
        """Put everything appended so far on disk; return the lsn up to which that is now true. Raises SyncFailed.

        For any thread: what is appended meanwhile is left to the next sync. The order of the first three reads is what makes
        that safe: a rotation opens the new segment and marks the directory before it moves `end_lsn`.
        """
        with self._sync_lock:
            if self._failure:  # whoever met it first: the system tells of it once, and calls the next sync a success
                raise SyncFailed(self._failure)
            target = self.end_lsn
            names_changed = self._names_changed
            if names_changed:  # only then: a rotation between a read and a write here must not be forgotten
                self._names_changed = False
            open_segments = list(self._fds)
            if target == self.synced_lsn and not names_changed:
                return target
            try:
                for fd in open_segments:
                    self._disk.fdatasync(fd)
                if names_changed:
                    self._disk.fdatasync(self._directory_fd)
            except SyncFailed as failure:
                self._failure = str(failure)
                raise
            for fd in open_segments[:-1]:  # full and synced; the last one may be in use
                self._fds.remove(fd)
                os.close(fd)
            self.synced_lsn = max(self.synced_lsn, target)
            return target

    def _sync_closed(self, base_lsn: int) -> None:
        """Put a full segment on disk. Raises SyncFailed."""
        fd = self._disk.open(segment_path(self.directory, base_lsn), os.O_RDWR)
        try:
            self._disk.fdatasync(fd)
        finally:
            os.close(fd)

    def trim(self, before_lsn: int) -> list[int]:
        """Remove the segments that end at or before `before_lsn`, never the current one; return what is to be given to `close_all`.

        A segment's room is given back when nobody has it open any more. That takes the kernel 20 ms, so it is not done here.
        """
        removed: list[int] = []
        with suppress(OSError):  # no descriptor is left, or somebody forbids it: they can go later
            for base, following in itertools.pairwise(segments(self.directory)):
                if following <= before_lsn and base < self.base_lsn:
                    path = segment_path(self.directory, base)
                    removed.append(os.open(path, os.O_RDONLY))
                    path.unlink()
        return removed

    def size_bytes(self) -> int:
        """Return how many bytes the log holds."""
        bases = segments(self.directory)
        return self.end_lsn - bases[0] if bases else 0

    def close(self) -> None:
        """Sync and close. Raises SyncFailed."""
        try:
            self.sync()
            with suppress(OSError):  # what was taken ahead is not left to whoever keeps the files
                self._end_file()
        finally:
            self._close_all()
        with suppress(OSError):  # a file system that has become read-only: the next opening takes it
            self._spare.unlink()

    def _close_all(self) -> None:
        os.close(self._directory_fd)
        close_all(self._fds)
