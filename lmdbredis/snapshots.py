"""Snapshots: the newest commit of a store, to be read or copied while the server goes on writing.

Theory. LMDB never writes to a page of a snapshot that a read transaction pins. So whoever holds one reads a state that stands
still; and the file itself, read from its beginning to the snapshot's last page, is a copy of that state, whatever is written
meanwhile to other pages. Only the two meta pages move: a copy gets its own (`Copy.head`). One mechanism for backups and for
replicas that need everything: no fork, no lock, no walk over the tree, and the speed of a file copy.

Law: a pinned snapshot keeps its pages from being used again, so data.mdb grows while it is held: hold it no longer than needed.

It reads and never writes, but for the table of readers, lock.mdb: where that is missing it is made (see `ownership`). Beside `store` only this room imports lmdb.
"""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, Final

import lmdb

from lmdbredis import control_file, ownership
from lmdbredis import format as fmt
from lmdbredis.disk import Disk
from lmdbredis.errors import DiskFull, StorageError, SyncFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lmdbredis.table import Row

MAP_BYTES_DEFAULT: Final = 1 << 40
READERS_MAX: Final = 1022  # tools, snapshots for replicas and backups, and the server's own
_READERS_BYTES: Final = 128 + 64 * READERS_MAX  # of lock.mdb, as the engine lays it out
_BLOCK_BYTES: Final = 512  # of which `stat` counts how many a file has
_WARM_THREADS: Final = 4
_KEY_BYTES_MAX: Final = 511
_TRIES: Final = 5
_NO_ROOM_CODES: Final = frozenset({errno.EDQUOT, errno.EFBIG})  # where there is none; a full disk is a DiskError
_FIRST_BYTES: Final = control_file.META_BODY_OFFSET + control_file.META_BODY_BYTES


class Reader:
    """The rows of one snapshot, for whoever reads them all: a check, a copy. Raises StorageError where the engine fails."""

    def __init__(self, transaction: Any, handles: dict[int, Any]) -> None:
        self._transaction = transaction
        self._handles = handles  # by number; a table that was never made is absent

    def get(self, table: int, key: bytes) -> bytes | None:
        """Return the row's value, None if there is no such row."""
        if table not in self._handles or not 0 < len(key) <= _KEY_BYTES_MAX:
            return None
        try:
            return self._transaction.get(key, None, self._handles[table])  # type: ignore[no-any-return]
        except lmdb.Error as error:
            raise StorageError(str(error)) from error

    def rows(self, table: int, start: bytes = b"") -> Iterator[Row]:
        """Yield the rows from the first whose key is >= `start`, ascending."""
        if table not in self._handles:
            return
        try:
            with self._transaction.cursor(self._handles[table]) as cursor:
                if cursor.set_range(start):
                    yield from cursor.iternext()
        except lmdb.Error as error:
            raise StorageError(str(error)) from error


class Warmer:
    """Threads that read rows of the last commit ahead, for the sake of their pages."""

    def __init__(self, env: Any) -> None:
        self._env = env
        self._threads = ThreadPoolExecutor(_WARM_THREADS, "warm")  # they start when they are first needed

    def warm(self, handle: Any, keys: list[bytes]) -> None:
        """Read rows side by side, so that their pages are in memory when they are read for good. O(keys / threads) disk reads.

        The engine's reads release the interpreter's lock while a page comes from the disk; more threads than this only fight for
        that lock (measured: 4 threads 13,900 cold reads a second, 16 threads 7,800, none 9,400).
        """
        portions = [keys[at::_WARM_THREADS] for at in range(_WARM_THREADS)]
        list(self._threads.map(self._read_all, repeat(handle), portions))

    def _read_all(self, handle: Any, keys: list[bytes]) -> None:
        """Read rows; what is wrong with them, whoever reads them for good will find."""
        with suppress(lmdb.Error), self._env.begin() as transaction, transaction.cursor(handle) as cursor:
            cursor.getmulti(keys)

    def close(self) -> None:
        """End the threads. Before the environment is closed."""
        self._threads.shutdown()


def meta_body_of(fd: int, txnid: int) -> bytes:
    """Return the body of the meta page that leads to snapshot `txnid`, one of the last two. Raises StorageError if none does."""
    page_bytes = control_file.meta_page_bytes(os.pread(fd, _FIRST_BYTES, 0)[control_file.META_BODY_OFFSET :])
    at = (txnid & 1) * page_bytes + control_file.META_BODY_OFFSET
    body = os.pread(fd, control_file.META_BODY_BYTES, at)
    if not control_file.meta_body_is_valid(body) or control_file.meta_txnid(body) != txnid:
        raise StorageError(f"data.mdb: its meta page is not that of snapshot {txnid}")
    return body


def take_readers_room(directory: Path, disk: Disk, *, is_made: bool = False) -> None:
    """Let the table of readers, lock.mdb, have its room on the disk, before the engine opens it. Raises DiskFull, SyncFailed.

    The engine maps it, and makes it with holes: on a full disk the first look into one ends the process (SIGBUS), without a word. A file
    that is not there is made if `is_made` says so.
    """
    path = directory / "lock.mdb"
    fd = disk.open(path, os.O_RDWR | os.O_CREAT if is_made and not path.exists() else os.O_RDWR)
    try:
        if os.fstat(fd).st_blocks * _BLOCK_BYTES < _READERS_BYTES:
            disk.allocate(fd, _READERS_BYTES)
    except DiskFull as full:
        raise DiskFull(f"{path}: there is no room for LMDB's table of readers: {full}") from full
    finally:
        os.close(fd)


def _kind_of(error: lmdb.Error) -> type[Exception]:
    """Return as what an error of the engine is raised: OSError where there is no room, which is no damage."""
    has_no_room = isinstance(error, lmdb.DiskError) or getattr(error, "code", 0) in _NO_ROOM_CODES
    return OSError if has_no_room else StorageError


class Copy:
    """The bytes of data.mdb as one snapshot has them. Raises StorageError if the file is not what the transaction says.

    They are `head`, the pages at the beginning with meta pages that lead to this snapshot, then the file from `len(head)` to
    `size_bytes` (where the file is shorter, zeros).
    """

    def __init__(self, directory: Path, env: Any, meta_handle: Any) -> None:
        """Take the newest commit of an open environment, and pin it until `close`."""
        self._env = env
        self._transaction = transaction = env.begin()
        self.fd = os.open(directory / "data.mdb", os.O_RDONLY)
        try:
            self.txnid = int(transaction.id())
            row = transaction.get(fmt.META_LSN, None, meta_handle)
            self.lsn = fmt.unpack_u64(row) if row is not None else 0  # it holds the log up to here
            self.meta_body = meta_body_of(self.fd, self.txnid)
            self.size_bytes = control_file.meta_file_bytes(self.meta_body)
            head = bytearray(os.pread(self.fd, 2 * control_file.meta_page_bytes(self.meta_body), 0))
            for offset, page in control_file.meta_pages(self.meta_body):
                head[offset : offset + len(page)] = page
            self.head = bytes(head)
        except BaseException:
            self.close()
            raise

    def compact_into(self, fd: int) -> None:
        """Write the snapshot into an empty file, free pages left out. For a thread: it takes long. Raises StorageError, OSError."""
        try:
            self._env.copyfd(fd, compact=True, txn=self._transaction)
        except lmdb.Error as error:
            raise _kind_of(error)(f"data.mdb cannot be copied: {error}") from error

    def close(self) -> None:
        """Let the snapshot go."""
        self._transaction.abort()
        os.close(self.fd)


class ReadOnly(Reader):
    """The newest commit in a directory, to be read while a server may go on writing. Raises StorageError, OSError: PermissionError, or no room.

    It is one moment: the batch that ended at `lsn`, which is LMDB's snapshot number `txnid`.
    """

    def __init__(self, directory: Path, *, is_walk: bool = False) -> None:
        """Open; for a walk over most of it the kernel reads ahead, which point reads do not want (see `store`)."""
        self._directory = directory
        ownership.make_missing(directory, "lock.mdb")  # the engine would make one of our own
        try:
            take_readers_room(directory, Disk())
        except DiskFull as full:
            raise OSError(str(full)) from full
        except SyncFailed:  # it may not be written, or is not there: the engine says what that means
            pass
        try:
            self._env = lmdb.open(
                str(directory), map_size=MAP_BYTES_DEFAULT, max_dbs=32, readonly=True, create=False, readahead=is_walk, max_readers=READERS_MAX,
            )  # fmt: skip
        except lmdb.ReadonlyError as error:
            raise PermissionError(
                f"{directory}: permission denied: a reader needs read access to data.mdb, and write access to lock.mdb, LMDB's table of readers"
            ) from error
        except lmdb.Error as error:
            data = directory / "data.mdb"
            is_empty = data.exists() and data.stat().st_size == 0  # of that the engine says: Bad file descriptor
            text = f"{directory}: data.mdb is empty" if is_empty else f"data.mdb cannot be opened: {error}"
            raise _kind_of(error)(text) from error
        try:
            handles = {}
            for number, name in fmt.TABLE_NAMES.items():
                with suppress(lmdb.NotFoundError):
                    handles[number] = self._env.open_db(name, create=False)
            super().__init__(self._env.begin(), handles)
        except lmdb.Error as error:
            self._env.close()
            raise StorageError(f"data.mdb cannot be read: {error}") from error
        self._take_note()

    def _take_note(self) -> None:
        row = self.get(fmt.META, fmt.META_LSN)
        self.lsn = fmt.unpack_u64(row) if row is not None and len(row) == 8 else 0
        self.txnid = int(self._transaction.id())

    def take(self, table: int, start: bytes, count: int) -> list[Row]:
        """Return the rows from the first whose key is >= `start`, `count` at most; a third faster than one by one."""
        if table not in self._handles:
            return []
        try:
            with self._transaction.cursor(self._handles[table]) as cursor:
                return list(islice(cursor.iternext(), count)) if cursor.set_range(start) else []
        except lmdb.Error as error:
            raise StorageError(str(error)) from error

    def renew(self) -> None:
        """Let the snapshot go and take the newest commit: for long walks, which would pin pages. Ends what `rows` yields."""
        try:
            self._transaction.abort()
            self._transaction = self._env.begin()
        except lmdb.Error as error:
            raise StorageError(str(error)) from error
        self._take_note()

    def sizes(self) -> dict[int, dict[str, int]]:
        """Return what the engine knows of each sub-database by its number: psize, depth, pages by kind, entries. O(1)."""
        try:
            return {number: self._transaction.stat(handle) for number, handle in self._handles.items()}
        except lmdb.Error as error:
            raise StorageError(str(error)) from error

    def copy(self) -> Copy:
        """Return the newest commit's pages, to be copied; good until it is closed, and no longer than this object."""
        for _ in range(_TRIES - 1):  # two commits between the two looks are rare, and harmless
            with suppress(StorageError):
                return Copy(self._directory, self._env, self._handles.get(fmt.META))
        return Copy(self._directory, self._env, self._handles.get(fmt.META))

    def close(self) -> None:
        """Let the snapshot go: until then the server cannot reuse its pages."""
        self._transaction.abort()
        self._env.close()
