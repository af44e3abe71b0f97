"""The store: LMDB holds the state, the log holds the promise.

Theory. One LMDB write transaction stays open across many batches. A batch's rows are gathered in a write set, appended to
the log as one record (that is the promise), and put into the open transaction. A checkpoint commits the transaction without
sync, and later makes that snapshot durable in the background. After a crash: the newest synced snapshot, plus the log.

A row's way: ``put`` -> the open transaction and `Table.batch` (the write set) -> record in the log -> commit -> sync -> CONTROL.

Laws:

1. **A batch waits for no commit and no sync** of a snapshot. A thread commits; meanwhile reads see the `overlay` (every row since the
   last commit) over the last snapshot, and new rows go into the overlay instead of LMDB; when the commit is done, `drain` puts them
   there bit by bit, and `prepare_commit` the rest. Only work that needs rows in order waits (`settle`), and whoever asks to
   (`wait_for_commit`, `checkpoint`). LMDB's writer lock belongs to the thread, so that begins, commits and aborts every write
   transaction; it puts no rows.
2. **The synced snapshot stays whole.** A read transaction pins it, so LMDB reuses none of its pages, and CONTROL holds its
   meta page: recovery writes that back, whatever was committed or torn after it. (The simpler rule, not to commit N+1
   before N is synced, would let the dirty pages grow for as long as a sync takes.)
3. **The log first**: the log is synced through a snapshot's lsn before CONTROL names that snapshot.
4. **One self-repair path**: whenever the open transaction cannot be trusted, `repair` aborts it and applies the log after the
   last commit; recovery at start is the same code after the meta page is restored.
5. A failing sync is final (`SyncFailed`); a full disk is not (`DiskFull`): what was appended is kept, what was not is gone. A
   commit that fails leaves the snapshot before it as it was. LMDB says EIO where a write stopped half way, which a full disk does.
6. data.mdb has all pages of the snapshot that CONTROL names, also those that the engine has not written, because they were free again
   before they were: a file that is shorter has lost something, and nobody starts on it.

It does not know what rows mean, nor time, nor sockets. Only this room and `snapshots` import lmdb.
"""

from __future__ import annotations

import errno
import fcntl
import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import lmdb

from lmdbredis import control_file, install, wal
from lmdbredis import format as fmt
from lmdbredis.disk import Disk
from lmdbredis.errors import MORE_BY_CHECK, DiskFull, StorageError, SyncFailed
from lmdbredis.snapshots import MAP_BYTES_DEFAULT, READERS_MAX, Copy, Reader, Warmer, meta_body_of, take_readers_room
from lmdbredis.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

SEGMENT_BYTES_DEFAULT: Final = 64 << 20
# What one `drain` takes from the overlay into LMDB, and what it frees, at least: rows, of each table. More after a large batch.
_DRAIN_ROWS: Final = 128
_FREED_ROWS: Final = 1024
_LAZY_ROWS_MAX: Final = 16_384  # but for so many, and for a commit
_PREPARED_ROWS: Final = 2048  # what one `prepare_commit` puts, at least, and what a commit puts when it begins
_REPLAY_ROWS: Final = 200_000  # rows of the log that are held in memory while it is replayed at start
# What waits in memory for a commit while checkpoints are held, at most: rows, and bytes of the log.
_HELD_ROWS: Final = 200_000
_HELD_BYTES: Final = 256 << 20

_EngineFull = (lmdb.MapFullError, lmdb.DiskError)  # no room in the map or on the disk
NoRoom = (DiskFull, *_EngineFull)  # what is raised where there is none: `Table` leaves the engine's errors as they are
_FULL_CODES: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})  # law 5


def _failure(error: lmdb.Error) -> DiskFull | SyncFailed:
    """Return what an error of the engine means: no room for now, or an engine that cannot be trusted any more."""
    if isinstance(error, (*_EngineFull, lmdb.ReadersFullError)) or getattr(error, "code", 0) in _FULL_CODES:
        return DiskFull(str(error))
    return SyncFailed(f"the engine failed: {error}")


class Store:
    """The directory, open for the one writer. See the module for its laws.

    Raises StorageError if the directory is damaged, of a newer format, or locked by another server.
    """

    def __init__(
        self,
        directory: Path,
        replid: str,
        *,
        disk: Disk | None = None,
        map_bytes: int = MAP_BYTES_DEFAULT,
        segment_bytes: int = SEGMENT_BYTES_DEFAULT,
    ) -> None:
        """Open or create the store; a new one takes `replid` (40 hex characters) as the name of its history."""
        self.directory = directory
        self.disk = disk or Disk()
        self.replayed_rows = 0  # what the last opening took from the log
        self.dirty_rows = 0  # rows put since the last commit began
        # Called before the batch is logged: put the rows that were held back.
        self.writebacks: list[Callable[[], None]] = []
        self.hooks: list[Callable[[fmt.WriteSet], None]] = []  # called with each record's write set, once it is written
        self.forgets: list[Callable[[], None]] = []  # called after a repair: whatever was derived from rows is stale
        self.commits = 0
        self._time_ms = 0  # of the last record
        self._batch_rows = 0  # of the last batch
        self.record_flags = 0  # of every record
        self.notes: list[fmt.Note] = []  # of the batch, for replicas
        self.is_copy = False  # of another server's store: rows come by `follow`, and nothing else may be logged
        self._lock_fd = self._lock()
        self._writer = ThreadPoolExecutor(1, "lmdb-writer")  # law 1: owns LMDB's writer lock
        self._syncer = ThreadPoolExecutor(1, "checkpoint-sync")
        self._committing: Future[Any] | None = None
        self._committing_lsn = 0  # how much of the log the commit has that began last
        self._syncing: Future[control_file.Control] | None = None
        self.is_held = False  # checkpoints are held: see `holds`
        self._synced_commits = 0  # of `commits`, how many the sync that began last covers
        self.has_backlog = False  # the overlay may hold rows that the open transaction could take: `drain`
        self._spent: list[fmt.Rows] = []  # overlays of commits that are done
        self._snapshot: Any = None  # read transaction on the last commit while the next is being made
        self._pin: Any = None  # read transaction on the synced snapshot
        self._next_pin: Any = None
        self._env: Any = None
        self._txn: Any = None  # the open transaction
        self._data_fd = -1
        try:
            self.diverged = install.finish(directory, self.disk)  # where the log is kept that another state replaced
            self._open(replid, map_bytes, segment_bytes)
        except BaseException as error:
            self._close_all()
            if isinstance(error, lmdb.Error):
                raise StorageError(f"data.mdb cannot be opened: {error}{MORE_BY_CHECK}") from error
            raise

    def _open(self, replid: str, map_bytes: int, segment_bytes: int) -> None:
        """Open everything behind the lock, and recover. Raises StorageError, DiskFull, SyncFailed, or what the engine raises."""
        self.control = install.restore(self.directory, self.disk) or control_file.Control(replid)
        with suppress(OSError):  # whoever pins a snapshot from now on can tell that this opening went back before
            os.write(self._lock_fd, b"\n")
        take_readers_room(self.directory, self.disk, is_made=True)
        self._env = lmdb.open(
            str(self.directory), map_size=map_bytes, max_dbs=32, sync=False, metasync=False,
            readahead=False, meminit=False, max_readers=READERS_MAX,
        )  # fmt: skip
        self._env.reader_check()  # readers that were killed pin pages
        self._warmer = Warmer(self._env)
        self._data_fd = os.open(self.directory / "data.mdb", os.O_RDWR)
        self._pin = self._env.begin()
        self._txn = self._writer.submit(self._env.begin, write=True).result()
        self.tables = [
            Table(number, self._env.open_db(name, txn=self._txn), self.settle)
            for number, name in fmt.TABLE_NAMES.items()
        ]
        self.meta = self.tables[fmt.META]
        self._look_at(self._txn)
        self.committed_lsn = self._read_lsn()
        self._txn = self._writer.submit(self._commit, self._txn).result()  # handles live from their commit on
        self._look_at(self._txn)
        self.wal = wal.Wal(self.directory / "wal", self.disk, self._replay(), segment_bytes)
        if not self.control.meta_body:
            self.checkpoint()
            self.disk.sync_directory(self.directory.absolute().parent)  # the directory itself may be new

    # --- the directory --------------------------------------------------------------------------------------------------

    def _lock(self) -> int:
        """Take the directory, or raise StorageError if another server has it."""
        fd = os.open(self.directory / "LOCK", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            raise StorageError(
                f"another server (pid {holder or 'unknown'}) or a tool is using the directory {self.directory}"
            ) from None
        with suppress(OSError):  # a full disk: the number is for people, the lock is what counts
            os.ftruncate(fd, 0)
            os.write(fd, str(os.getpid()).encode())
        return fd

    def _read_lsn(self) -> int:
        """Return how far the log is in LMDB's rows; makes the meta rows of a new store."""
        version = self.meta.get(fmt.META_VERSION)
        if version is None:
            self._txn.put(fmt.META_VERSION, fmt.pack_u32(fmt.FORMAT_VERSION), db=self.meta.handle)
        else:
            fmt.refuse_newer(fmt.unpack_u32(version), "data.mdb")
        row = self.meta.get(fmt.META_LSN)
        return fmt.unpack_u64(row) if row is not None else 0

    def close(self, *, checkpoint: bool = True) -> None:
        """Close; with a checkpoint, so that the next opening replays nothing, unless they are held. Raises DiskFull, SyncFailed."""
        try:
            if checkpoint and not self.is_held:  # who copies the directory may go on: the log has everything
                self.checkpoint()
            else:
                self._wait_for_commit()
        finally:
            self._close_all()

    def _close_all(self) -> None:
        """Give back everything that is open; what is not in the log is forgotten. Raises SyncFailed."""
        with suppress(DiskFull, SyncFailed):
            self._wait_for_commit()
        if self._syncing is not None:
            self._syncing.exception()
        for pin in (self._pin, self._next_pin, self._snapshot):
            if pin is not None:
                pin.abort()
        if self._txn is not None:
            self._writer.submit(self._txn.abort).result()
        self._writer.shutdown()
        self._syncer.shutdown()
        if self._env is not None:
            self._warmer.close()
            self._env.close()
        if self._data_fd >= 0:
            os.close(self._data_fd)
        try:
            if hasattr(self, "wal"):
                self.wal.close()
        finally:
            os.close(self._lock_fd)

    # --- a batch ----------------------------------------------------------------------------------------------------------

    def append(self, time_ms: int) -> bool:
        """Log the batch as one record; tell whether there was anything to log. Raises DiskFull: then `repair`."""
        self._time_ms = time_ms
        for writeback in self.writebacks:
            writeback()
        write_set = {table.number: table.batch for table in self.tables if table.batch}
        if not write_set and not self.notes:
            return False
        assert not self.is_copy, "a copy has no rows of its own"
        self.wal.append(fmt.pack_write_set(write_set, self.notes), time_ms, self.record_flags)
        self.notes.clear()
        self.disk.reached("wal.appended")
        self._batch_rows = sum(map(len, write_set.values()))
        self.dirty_rows += self._batch_rows
        for table in self.tables:
            if table.batch:
                table.fresh.update(table.batch)
                table.batch = {}
        for hook in self.hooks:
            hook(write_set)
        return True

    def follow(self, records: Sequence[wal.Record]) -> tuple[fmt.WriteSet, list[fmt.Note]]:
        """Take records of the log that this store is a copy of: into the log, at their addresses, and their rows together.

        Returns those rows, and the records' notes; to call the hooks is the caller's part, once he has taken note of the rows.

        Between batches. Raises StorageError if they do not follow on what is there; DiskFull: then `repair`, and what is in the log
        by then is all that has come.
        """
        self.wal.follow(records)
        merged, notes = fmt.merge_payloads(record.payload for record in records)
        self.disk.reached("wal.appended")
        self._time_ms = records[-1].time_ms
        self._batch_rows = sum(map(len, merged.values()))
        self.dirty_rows += self._batch_rows
        for number, rows in merged.items():
            table = self.tables[number]
            if self._committing is not None or table.is_lazy:
                table.overlay.update(rows)
                self.has_backlog = True
            else:
                for key in table.overlay.keys() & rows.keys():  # what waits there is older
                    del table.overlay[key]
                self._put_rows(table, rows.items())
            table.fresh.update(rows)
        return merged, notes

    def drain(self) -> None:
        """Put some rows of the overlay into the open transaction, if they wait for that. Raises DiskFull: then `repair`."""
        if self._spent:
            self._free_some()
        if self._committing is not None:
            self.poll()
            return  # one thing at a time: clients wait for this
        if self.has_backlog:
            self._put_some(max(_DRAIN_ROWS, self._batch_rows), _LAZY_ROWS_MAX)

    def _put_some(self, count: int, lazy_max: int) -> None:
        """Put `count` rows of each overlay into the open transaction; none of a lazy table that has `lazy_max` at most."""
        self.has_backlog = False
        for table in self.tables:
            overlay = table.overlay
            if overlay and (not table.is_lazy or len(overlay) > lazy_max):
                self._put_rows(table, [overlay.popitem() for _ in range(min(count, len(overlay)))])
                self.has_backlog = True

    def _free_some(self) -> None:
        """Free some rows that nobody reads any more: twenty thousand at once would take a millisecond or two.

        Thrice as many as the batch had: a row is in two overlays where one commit follows on another, and the batches in which
        commits begin free none. So they cannot become more for as long as a load lasts.
        """
        left = max(_FREED_ROWS, 3 * self._batch_rows)
        while self._spent and left:
            spent = self._spent[-1]
            count = min(len(spent), left)
            for _ in range(count):
                spent.popitem()
            left -= count
            if not spent:
                self._spent.pop()

    def settle(self) -> None:
        """Make LMDB show every row, waiting for a commit that is on its way. For reads in order."""
        self._wait_for_commit()
        for table in self.tables:
            if table.overlay:
                self._put_rows(table, table.overlay.items())
                table.overlay = {}
        self.has_backlog = False

    def _put_rows(self, table: Table, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Put rows (None = delete; no key twice) into the open transaction, in key order: each page is visited once. Raises DiskFull, SyncFailed."""
        transaction, handle = self._txn, table.handle
        puts = sorted(rows, key=itemgetter(0))
        gone = [key for key, row in puts if row is None]
        try:
            if gone:
                for key in gone:
                    transaction.delete(key, b"", handle)
                puts = [(key, row) for key, row in puts if row is not None]
            with transaction.cursor(handle) as cursor:
                cursor.putmulti(puts)
        except lmdb.Error as error:
            raise _failure(error) from error

    def delete_unlogged(self, table: Table, keys: list[bytes]) -> None:
        """Delete rows that no name leads to any more, in LMDB only: whoever replays the log does this by himself."""
        self.settle()
        self._put_rows(table, dict.fromkeys(keys).items())
        self.dirty_rows += len(keys)

    def put_unlogged(self, table: Table, key: bytes, row: bytes) -> None:
        """Put a row of local bookkeeping (garbage), in LMDB only."""
        self.settle()
        self._put_rows(table, [(key, row)])
        self.dirty_rows += 1

    def warm(self, table: Table, keys: list[bytes]) -> None:
        """Read rows side by side, so that their pages are in memory when they are read for good: see `Warmer`."""
        self._warmer.warm(table.handle, keys)

    # --- checkpoints ----------------------------------------------------------------------------------------------------------

    @property
    def is_committing(self) -> bool:
        """Tell whether a commit is on its way: then reads in order would wait."""
        return self._committing is not None

    @property
    def is_settled(self) -> bool:
        """Tell whether reads in order begin at once: no commit is on its way, and no rows of the time of one wait in memory."""
        return self._committing is None and not self.has_backlog

    @property
    def is_syncing(self) -> bool:
        """Tell whether a snapshot is being made durable."""
        return self._syncing is not None

    @property
    def leaf_pages(self) -> int:
        """Return how many pages hold rows. O(1). Not while a commit is on its way."""
        return sum(self._txn.stat(table.handle)["leaf_pages"] for table in self.tables)

    @property
    def dirty_bytes(self) -> int:
        """Return how much of the log has come since the last commit began: rows, and what tells of none."""
        return self.wal.end_lsn - self._committing_lsn

    @property
    def holds_back(self) -> bool:
        """Tell whether no commit is made for now: checkpoints are held, and what waits in memory is not much yet."""
        return self.is_held and self.dirty_rows < _HELD_ROWS and self.dirty_bytes < _HELD_BYTES

    def wait_for_commit(self, seconds_max: float) -> None:
        """Wait for the commit that is on its way, so long at most. Raises DiskFull: then `repair`; SyncFailed."""
        if self._committing is not None:
            wait([self._committing], seconds_max)
            self.poll()

    def prepare_commit(self) -> bool:
        """Put more of the overlay into the open transaction; tell whether so little is left that a commit may begin. Raises DiskFull: then `repair`.

        Not when a commit is on its way. The rows are put here, bit by bit, and not by the writer thread: the engine's binding
        gives the interpreter's lock back for each of them, and beside a busy loop each waits for it (measured: 18 us, not 0.4).
        """
        if self._spent:
            self._free_some()
        count = max(_PREPARED_ROWS, 2 * self._batch_rows)
        self._put_some(count, 0)
        return sum(len(table.overlay) for table in self.tables) <= count

    def begin_commit(self, *, is_held_back: bool = True) -> None:
        """Begin to commit the open transaction in the writer thread. Between batches only. Raises DiskFull: then `repair`.

        While checkpoints are held it does so only when much waits in memory, unless it is not to be held back.

        Rows that no batch put (bookkeeping of an opening) are logged first: what only a commit holds, going back to the
        synced snapshot would lose.
        """
        if is_held_back and self.holds_back:
            return
        self.append(self._time_ms)
        self._begin_commit(self.wal.end_lsn)

    def _begin_commit(self, lsn: int) -> None:
        """Begin to commit a state that holds the log up to `lsn`."""
        self.settle()
        self._committing_lsn = lsn
        self._put_rows(self.meta, [(fmt.META_LSN, fmt.pack_u64(lsn))])
        try:
            self._snapshot = self._env.begin()
        except lmdb.Error as error:
            raise _failure(error) from error
        for table in self.tables:
            table.overlay, table.fresh = table.fresh, {}
            table.look_at(self._snapshot, is_open=False)
        self.dirty_rows = 0
        self._committing = self._writer.submit(self._commit, self._txn)

    def _commit(self, transaction: Any) -> Any:
        """Commit and begin the next transaction. Writer thread."""
        try:
            self.disk.commit(transaction)
        except BaseException:
            transaction.abort()  # this thread has the engine's lock
            raise
        return self._env.begin(write=True)

    def _look_at(self, transaction: Any) -> None:
        for table in self.tables:
            table.look_at(transaction, is_open=True)

    def poll(self) -> None:
        """Take note of a commit or a sync that has finished. Raises what they raised; after DiskFull, `repair`."""
        if self._committing is not None and self._committing.done():
            self._wait_for_commit()
        if self._syncing is not None and self._syncing.done():
            self._finish_sync()

    def _wait_for_commit(self) -> None:
        """Wait for the commit that is on its way, if any, and go on in the new transaction. Raises DiskFull: then `repair`."""
        if self._committing is None:
            return
        committing, self._committing = self._committing, None
        self._snapshot, snapshot = None, self._snapshot
        self._txn = None
        try:
            self._txn = committing.result()
        except lmdb.Error as error:
            raise _failure(error) from error
        finally:
            snapshot.abort()
        self.commits += 1
        self.committed_lsn = self._committing_lsn
        self.has_backlog = True
        self._spent += [table.overlay for table in self.tables if table.overlay]
        for table in self.tables:
            table.overlay = table.fresh | table.batch  # the wait may have come in the middle of a batch
        self._look_at(self._txn)

    def begin_sync(self) -> bool:
        """Begin to make the last commit durable in the sync thread; tell whether there was anything to do."""
        if self._syncing is not None or self._committing is not None or self.commits == self._synced_commits:
            return False
        self._env.reader_check()
        self._next_pin = self._env.begin()
        txnid = self._next_pin.id()
        try:
            meta_body = meta_body_of(self._data_fd, txnid)
            self.disk.extend(self._data_fd, control_file.meta_file_bytes(meta_body))  # law 6
        except BaseException as error:
            self._next_pin.abort()
            self._next_pin = None
            if isinstance(error, StorageError):
                raise SyncFailed(f"data.mdb was changed by someone else: {error}") from error
            raise
        control = control_file.Control(
            self.control.replid, self.control.replid2, self.control.replid2_lsn, self.committed_lsn, txnid, meta_body
        )
        self._synced_commits = self.commits
        self._syncing = self._syncer.submit(self._sync, control)
        return True

    def _sync(self, control: control_file.Control) -> control_file.Control:
        """Make the snapshot that `control` names durable, the log first. Sync thread."""
        self.wal.sync()
        self.disk.reached("sync")
        self.disk.fdatasync(self._data_fd)
        self.disk.reached("synced")
        self.disk.replace(self.directory / "CONTROL", control_file.pack(control))
        return control

    def _finish_sync(self) -> None:
        """Take note of a finished sync: the snapshot it made durable is pinned instead of the one before.

        Raises DiskFull: CONTROL still names the one before, so that stays pinned; SyncFailed.
        """
        assert self._syncing is not None
        syncing, self._syncing = self._syncing, None
        pin, self._next_pin = self._next_pin, None
        try:
            self.control = syncing.result()
        except BaseException:
            self._synced_commits = -1
            pin.abort()
            raise
        self._pin.abort()
        self._pin = pin

    def checkpoint(self) -> None:
        """Commit and sync everything, here and now, which ends a hold. Raises DiskFull, SyncFailed."""
        self.end_hold()
        self._wait_for_commit()
        self.begin_commit()
        self._wait_for_commit()
        if self._syncing is not None:
            self._syncing.exception()
            self._finish_sync()
        if self.begin_sync():
            assert self._syncing is not None
            self._syncing.exception()
            self._finish_sync()

    def hold(self) -> None:
        """Hold checkpoints: CONTROL's snapshot, and the log from there on but for its end, stand still until `end_hold`."""
        self.is_held = True
        self.wal.begin_growing()

    def end_hold(self) -> None:
        """Hold checkpoints no more."""
        self.is_held = self.wal.grows = False

    def rename_history(self, replid: str) -> None:
        """Give the history another name, durably, and forget the one before: nobody can go on with it. Raises DiskFull, SyncFailed."""
        self.set_history(replid, control_file.NO_REPLID, 0)

    def set_history(self, replid: str, replid2: str, replid2_lsn: int) -> None:
        """Let this be the history `replid`, which up to an address was called `replid2`; durably. Raises DiskFull, SyncFailed."""
        if self._syncing is not None:  # it will write CONTROL
            self._syncing.exception()
            self._finish_sync()
        control = replace(self.control, replid=replid, replid2=replid2, replid2_lsn=replid2_lsn)
        self.disk.replace(self.directory / "CONTROL", control_file.pack(control))
        self.control = control

    def probe(self, time_ms: int) -> None:
        """Find out whether the disk has room: commit and log an empty record. Raises DiskFull while it has not.

        The commit comes first, and is synced in the background: it may be what makes room, since log segments can go then. Before it
        comes the sync of the last one, whose pages the next may need; and it gets the room that the log has taken ahead.
        """
        self.wal.give_back_room()
        self._wait_for_commit()
        self.begin_sync()
        if self.dirty_rows:
            self.begin_commit()
            self._wait_for_commit()
            self.begin_sync()
        self.beat(time_ms)

    def beat(self, time_ms: int, flags: int = 0) -> None:
        """Log an empty record: replicas hear that this server lives. Raises DiskFull."""
        if not self.is_copy:
            self.wal.append(fmt.pack_write_set({}), time_ms, flags)

    def trim_wal(self, keep_bytes: int, keep_lsn: int) -> None:
        """Remove log segments that no synced snapshot needs, but for the last `keep_bytes` bytes, and what stands at `keep_lsn` or after; none while they are held."""
        if self.is_held:
            return
        before_lsn = min(self.control.lsn, self.wal.end_lsn - keep_bytes, keep_lsn)
        self._syncer.submit(wal.close_all, self.wal.trim(before_lsn))

    # --- recovery --------------------------------------------------------------------------------------------------------------

    def repair(self) -> None:
        """Forget what is not in the log: abort the open transaction and apply the log after the last commit (law 4)."""
        self.disk.reached("repair")
        if self._committing is not None:
            with suppress(DiskFull):  # the commit before is all that is needed
                self._wait_for_commit()
        self.notes.clear()
        for table in self.tables:
            table.overlay, table.batch, table.fresh = {}, {}, {}
        if self._txn is not None:
            self._writer.submit(self._txn.abort).result()
        self._txn = None
        self._txn = self._writer.submit(self._env.begin, write=True).result()
        self._look_at(self._txn)
        try:
            self._replay(self.wal.end_lsn)
        except StorageError as error:
            raise SyncFailed(str(error)) from error
        for forget in self.forgets:
            forget()

    def _replay(self, until_lsn: int | None = None) -> int:
        """Take the log from `committed_lsn` into the overlay; return the lsn of its end. Raises StorageError.

        LMDB gets the rows later, bit by bit: so a start is quick, and a full disk cannot stop a repair. At start (`until_lsn` is
        None) a long log is committed piece by piece, so that memory stays bounded; that may raise DiskFull.
        """
        end_lsn = self._committing_lsn = self.committed_lsn
        self.replayed_rows = self.dirty_rows = 0
        self.has_backlog = True
        for record in wal.read(self.directory / "wal", self.committed_lsn, until_lsn):
            self.disk.reached("replay")
            for number, part in fmt.unpack_write_set(record.payload).items():
                table = self.tables[number]
                table.overlay.update(part)
                table.fresh.update(part)
                self.dirty_rows += len(part)
                self.replayed_rows += len(part)
            end_lsn, self._time_ms = record.end_lsn, record.time_ms
            if until_lsn is None and self.dirty_rows > _REPLAY_ROWS:
                self._begin_commit(end_lsn)
                self._wait_for_commit()
        return end_lsn

    # --- inspection ------------------------------------------------------------------------------------------------------------

    def reader(self) -> Reader:
        """Return the rows as the open transaction holds them; `settle` first. Good until the next row is put."""
        return Reader(self._txn, {table.number: table.handle for table in self.tables})

    def copy(self) -> Copy:
        """Return the last commit's pages, to be copied. Raises StorageError."""
        try:
            return Copy(self.directory, self._env, self.meta.handle)
        except lmdb.Error as error:  # too many readers
            raise StorageError(f"data.mdb cannot be read: {error}") from error

    def info(self) -> dict[str, int]:
        """Return sizes in bytes and counts: the data file, the log, pages in use."""
        return {
            "data_bytes": os.fstat(self._data_fd).st_size,
            "wal_bytes": self.wal.size_bytes(),
            "used_bytes": (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"],
        }
