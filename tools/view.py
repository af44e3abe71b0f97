"""What the tools see of a store: its newest commit, read in slices, and which moment that is.

Theory. A reader pins the pages of its snapshot, so while a server writes, a long walk on one snapshot would make data.mdb grow.
Therefore a walk is cut: after `SLICE_MS` the snapshot is let go, the newest is taken, and the walk goes on behind the last key.

Laws:

1. What was there from the walk's beginning to its end is seen once; what came or went meanwhile, at most once. The answer says
   from which lsn to which it was read; a store that nobody writes to, and a short walk, are one moment.
2. How old the moment is: it lasted until the next record of the log was written, so its age is that record's. Without a next
   record it is the present; without a log nobody can tell.
3. Keys that have expired are no keys, although their rows may be there still.
4. A damaged tree ends the walk with `Damaged`: keys must ascend.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from operator import ge
from typing import TYPE_CHECKING, Any, Final, Self

from lmdbredis import format as fmt
from lmdbredis import wal
from lmdbredis.errors import StorageError
from lmdbredis.snapshots import ReadOnly

from .child import Damaged, Report
from .options import refuse_no_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLICE_ROWS: Final = 4096
_FAR_LSN: Final = (1 << 64) - 1
SLICE_MS: Final = 50
TYPE_NAMES: Final = {
    fmt.STRING: "string",
    fmt.STRING_CHUNKS: "string",
    fmt.LIST: "list",
    fmt.SET: "set",
    fmt.ZSET: "zset",
    fmt.HASH: "hash",
    fmt.STREAM: "stream",
}

Slice = tuple[tuple[bytes, ...], tuple[bytes, ...]]  # keys of rows, and their values


@dataclass(frozen=True)
class Moment:
    """The moment that an answer shows."""

    from_lsn: str  # hexadecimal; where the reading began
    lsn: str  # where it ended: the same if it was one snapshot
    snapshot: int  # LMDB's number of it
    age_ms: int | None  # law 2; None = nobody can tell

    def __str__(self) -> str:
        span = "" if self.from_lsn == self.lsn else f", read from lsn {self.from_lsn} on"
        ages = {None: "there is no log to tell when that was", 0: "now: the log holds nothing newer"}
        return (
            f"as of lsn {self.lsn} (snapshot {self.snapshot}), {ages.get(self.age_ms, f'{self.age_ms} ms ago')}{span}"
        )

    def as_object(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)


def present(log: Path, from_lsn: int) -> Iterator[wal.Record]:
    """Yield the records from address `from_lsn` on that can be read now; what follows the last one is not judged. O(what is read)."""
    with suppress(StorageError, FileNotFoundError):  # "ends before": it does; or a segment goes as we look
        yield from wal.read(log, from_lsn, _FAR_LSN)


def moment(directory: Path, from_lsn: int, lsn: int, txnid: int) -> Moment:
    """Return what the log says of a snapshot that holds it up to `lsn`. O(1)."""
    age_ms = None
    log = directory / "wal"
    with suppress(StorageError, OSError):  # damaged, or trimmed as we look: that is not what was asked for
        if wal.reaches(log, lsn):
            following = next(present(log, lsn), None)
            age_ms = 0 if following is None else max(time.time_ns() // 1_000_000 - following.time_ms, 1)
    return Moment(f"{from_lsn:016x}", f"{lsn:016x}", txnid, age_ms)


def refuse_newer(reader: ReadOnly) -> None:
    """Raise NewerFormat if a newer version wrote the rows."""
    version = reader.get(fmt.META, fmt.META_VERSION)
    if version is not None:
        fmt.refuse_newer(int.from_bytes(version, "big"), "data.mdb")


class View:
    """A store, open for reading. Raises StorageError if there is none, or it cannot be opened. In a child only (see `child`)."""

    def __init__(self, directory: Path, report: Report | None = None, *, is_walk: bool = False) -> None:
        """Open; `is_walk` if most of the rows will be read."""
        refuse_no_store(directory)
        self._report = report
        self._directory = directory
        self.reader = ReadOnly(directory, is_walk=is_walk)
        self._from_lsn = self.reader.lsn
        self._renew_at_s = time.monotonic() + SLICE_MS / 1000
        self.now_ms = time.time_ns() // 1_000_000  # what has expired by now is no key
        row = self.get(fmt.META, fmt.META_DATABASES)
        if self.get(fmt.META, fmt.META_VERSION) is None:
            raise StorageError(f"{directory} holds no rows of a store: its data.mdb is something else")
        refuse_newer(self.reader)
        self.keyspaces = fmt.unpack_databases(row) if row is not None else {}  # by the database's number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()

    def moment(self) -> Moment:
        """Return the moment that was read so far."""
        return moment(self._directory, self._from_lsn, self.reader.lsn, self.reader.txnid)

    @property
    def is_one_moment(self) -> bool:
        """Tell whether all that was read is of one snapshot."""
        return self._from_lsn == self.reader.lsn

    def prefix(self, database: int) -> bytes | None:
        """Return what the rows of a database's keys begin with, None if it was never written to."""
        keyspace = self.keyspaces.get(database)
        return None if keyspace is None else fmt.pack_u32(keyspace)

    def get(self, table: int, key: bytes) -> bytes | None:
        """Return the row's value, None if there is no such row. Raises Damaged."""
        try:
            return self.reader.get(table, key)
        except StorageError as error:
            raise Damaged(f"{table_name(table)}: the engine cannot read it: {error}") from error

    def key(self, database: int, key: bytes) -> bytes | None:
        """Return a key's cell, None if there is no such key (any more). Raises Damaged."""
        prefix = self.prefix(database)
        cell = None if prefix is None else self.get(fmt.KEYS, prefix + fmt.stored_name(key))
        return None if cell is None or 0 < fmt.expire_of(cell) <= self.now_ms else cell

    def slices(self, table: int, prefix: bytes = b"") -> Iterator[Slice]:
        """Yield the rows of a sub-database whose keys begin with `prefix`, ascending, in slices. Raises Damaged."""
        start, before = prefix, b""
        while True:
            try:
                part = self.reader.take(table, start, SLICE_ROWS)
            except StorageError as error:
                raise Damaged(f"{table_name(table)}: the engine cannot read on after {before!r}: {error}") from error
            is_last = len(part) < SLICE_ROWS
            if prefix and part and not part[-1][0].startswith(prefix):
                part = [row for row in part if row[0].startswith(prefix)]
                is_last = True
            if part:
                keys, rows = zip(*part, strict=True)
                if keys[0] < start or any(map(ge, keys, islice(keys, 1, None))):
                    raise Damaged(f"{table_name(table)}: keys out of order behind {before!r}")
                before = keys[-1]
                start = before + b"\0"  # the next key there can be
                yield keys, rows
            if self._report is not None:
                self._report(len(part))
            if is_last:
                return
            if time.monotonic() > self._renew_at_s:
                self.renew()

    def renew(self) -> None:
        """Go on with the newest commit. Between slices only. Raises Damaged."""
        try:
            self.reader.renew()
        except StorageError as error:
            raise Damaged(f"data.mdb: the engine cannot go on: {error}") from error
        self._renew_at_s = time.monotonic() + SLICE_MS / 1000

    def rows(self, table: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield what `slices` holds, one by one."""
        for keys, rows in self.slices(table, prefix):
            yield from zip(keys, rows, strict=True)


def table_name(number: int) -> str:
    """Return the name of a sub-database."""
    found = fmt.TABLE_NAMES.get(number)
    return found.decode() if found is not None else f"number {number}"
