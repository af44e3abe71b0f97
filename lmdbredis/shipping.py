"""Shipping: the log's bytes on their way from one server to another.

Theory. The log is the replication stream, and an address in it the replication offset. What is shipped are its bytes as they are,
headers of segments too: so the copy has every record at the same address, cuts its segments at the same places, and either of the two
can go on where the other ended.

Laws:

1. Two logs agree up to an address if they have the same history's name, or if the record that ends there is the same in both
   (`last_record`): a server that lost its last second with the power has the name, but not the bytes.
2. What comes is believed only if it is a whole record at the address where it must stand; anything else ends the link.

It knows files of the log and bytes; no socket, no session, no time.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, NamedTuple

from lmdbredis import format as fmt
from lmdbredis import wal
from lmdbredis.errors import StorageError
from lmdbredis.wal import Record

if TYPE_CHECKING:
    from pathlib import Path


class Outgoing:
    """The bytes of a log that is being written, from an address on."""

    def __init__(self, log: wal.Wal, lsn: int) -> None:
        """Begin at `lsn`. Raises StorageError if the log does not reach back so far."""
        self.lsn = lsn  # of the next byte
        self._log = log
        self._fd = -1
        self._base = self._end = 0  # of the segment that is open; it ends nowhere yet: 0
        self._open()

    def _open(self) -> None:
        """Open the segment that holds the next byte."""
        self.close()
        bases = wal.segments(self._log.directory)
        held = [base for base in bases if base <= self.lsn]
        if not held:
            raise StorageError(f"the log does not reach back to {self.lsn:016x}")
        self._base = held[-1]
        self._end = min((base for base in bases if base > self._base), default=0)
        self._fd = os.open(wal.segment_path(self._log.directory, self._base), os.O_RDONLY)

    def read(self, bytes_max: int) -> bytes:
        """Return the next bytes that have been appended, empty if there are none. Raises StorageError, OSError."""
        end_lsn = self._log.end_lsn
        if self.lsn >= end_lsn:
            return b""
        if not self._end and self._base != self._log.base_lsn:
            self._open()  # the log has gone on in another segment
        if self.lsn == self._end:
            self._open()
        data = os.pread(self._fd, min((self._end or end_lsn) - self.lsn, bytes_max), self.lsn - self._base)
        self.lsn += len(data)
        return data

    def close(self) -> None:
        """Let the file go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Incoming:
    """A log as it comes from another server: bytes in, records out."""

    def __init__(self, lsn: int) -> None:
        self.lsn = lsn  # of the first byte that is in no record yet
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Record]:
        """Return the records that are whole by now. Raises StorageError (law 2)."""
        held = self._held
        held += data
        records, at = [], 0
        while len(held) - at >= fmt.SEGMENT_HEADER_BYTES:
            if held.startswith(fmt.SEGMENT_MAGIC, at):
                if fmt.unpack_segment_header(bytes(held[at : at + fmt.SEGMENT_HEADER_BYTES])) != self.lsn:
                    raise StorageError(f"what came for address {self.lsn:016x} is another segment's beginning")
                at += fmt.SEGMENT_HEADER_BYTES
                self.lsn += fmt.SEGMENT_HEADER_BYTES
                continue
            if len(held) - at < fmt.RECORD_HEADER_BYTES:
                break
            head = bytes(held[at : at + fmt.RECORD_HEADER_BYTES])
            header = fmt.unpack_record_header(head)
            if header.lsn != self.lsn:
                raise StorageError(f"what came for address {self.lsn:016x} is no record of it")
            end = at + fmt.RECORD_HEADER_BYTES + header.payload_bytes
            if end > len(held):
                break
            payload = bytes(held[at + fmt.RECORD_HEADER_BYTES : end])
            if not fmt.record_is_whole(head, payload):
                raise StorageError(f"the record that came for address {self.lsn:016x} is damaged")
            self.lsn += end - at
            records.append(Record(header.lsn, self.lsn, header.time_ms, header.flags, payload))
            at = end
        del held[:at]
        return records


class LastRecord(NamedTuple):
    """What tells one log's end from another's: where its last record stands, where it ends, and a sum of what it holds."""

    lsn: int
    end_lsn: int
    crc: int


def last_record(directory: Path, end_lsn: int) -> LastRecord | None:
    """Return the last record before `end_lsn`, None if there is none at hand. O(a segment)."""
    for base in reversed([base for base in wal.segments(directory) if base < end_lsn]):
        last = None
        for record in wal.read_segment(directory, base):
            if record.end_lsn > end_lsn:
                break
            last = record
        if last is not None:
            return _seen(last)
    return None


def agrees(directory: Path, last: LastRecord) -> bool:
    """Tell whether the log in the directory has the same record at the same place (law 1)."""
    held = [base for base in wal.segments(directory) if base <= last.lsn]
    if not held:
        return False
    return any(_seen(record) == last for record in wal.read_segment(directory, held[-1], last.lsn, records_max=1))


def parting(own: Path, other: Path) -> int | None:
    """Return the address after which the log in `own` may hold what the history does not know that `other` is the newest segment of.

    None only if everything is there. Where the two cannot be compared, that is the beginning of the own log. O(a segment).
    """
    base, bases = wal.segments(other)[0], wal.segments(own)
    if base not in bases:  # logs with one past are cut at the same places
        return bases[0]
    parted = bases[0]
    theirs = wal.read_segment(other, base)
    for record in wal.read_segment(own, base):
        their = next(theirs, None)
        if their is None or _seen(their) != _seen(record):
            return parted
        parted = record.end_lsn
    if bases[-1] > base:
        return parted
    return None if parted > bases[0] or base == bases[0] else bases[0]  # else nothing there was alike


def _seen(record: Record) -> LastRecord:
    crc = zlib.crc32(record.payload, zlib.crc32(b"%d %d" % (record.time_ms, record.flags)))
    return LastRecord(record.lsn, record.end_lsn, crc)


def segment_before(directory: Path, lsn: int) -> int:
    """Return the base of the segment whose records end at `lsn` or beyond. Raises StorageError if it is gone."""
    held = [base for base in wal.segments(directory) if base + fmt.SEGMENT_HEADER_BYTES <= lsn]
    if not held:
        raise StorageError(f"the log does not reach back to {lsn:016x}")
    return held[-1]
