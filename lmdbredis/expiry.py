"""Upkeep: what happens without a request. Keys expire, orphaned rows are reclaimed, checkpoints are made.

Theory. The server calls `Upkeep.tick` every few milliseconds while there is work and every `IDLE_MS` while there is none; each
call does a small piece, so that no client waits long. Expiry knows what is due next (`due`): it never samples, so a key is gone within
a tick of its time however many keys have one.

A commit writes every page that its rows touched, once: the more rows it has, the fewer pages each costs. So it is made when its
time has come, and before that only for the sake of memory, where what has changed is held until then.

Reclaiming is local: neither the deletes of orphaned rows nor the end of their `garbage` row are logged. Both are in the same
LMDB snapshots, so after any crash they agree; and whoever replays the log reclaims by himself.

Law: nothing here runs while a commit is on its way if it needs rows in order: that would wait.
"""

from __future__ import annotations

import logging
from math import log1p
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis.errors import HOLD_BROKEN, HOLD_DISK_FULL, HOLD_ENDED, HOLD_OVERDUE, DiskFull, ReplyError
from lmdbredis.holds import Stage
from lmdbredis.resp import OK
from lmdbredis.table import Table, after_prefix

if TYPE_CHECKING:
    from lmdbredis.executor import Executor

IDLE_MS: Final = 20
BUSY_MS: Final = 1
# Keys deleted by one tick: a millisecond or two. Where the clients leave a tick only now and then, for each ms since the last one
# so many, a seventh of the time; but not more than what takes fifteen ms.
_EXPIRE_KEYS: Final = 200
_EXPIRE_KEYS_EACH_MS: Final = 20
_EXPIRE_KEYS_MAX: Final = 2000
# What makes a commit due before its time, besides checkpoint-dirty rows: so much of the log, or, since a row that is put makes its
# whole page dirty, rows that are on about so many pages (128 MB) if they may be anywhere.
_DIRTY_BYTES_MAX: Final = 64 << 20
_DIRTY_PAGES_MAX: Final = 32_768
# So much of the log makes the sync of what was committed due before its time: after a kill a start reads all that was not synced.
_UNSYNCED_BYTES_MAX: Final = 8 << 20
_WAITING_RATIO: Final = 2  # of what makes a commit due: so much may wait for it
_RECLAIM_ROWS: Final = 500
_ROWLESS_BYTES: Final = (
    16 << 20
)  # of the log, in which nothing but messages for replicas may be: then a commit lets it be trimmed
_PROBE_MS: Final = 1000  # how often a full disk is asked again

# Where the rows of a collection stand.
_TABLES_OF: Final = {
    fmt.STRING_CHUNKS: (fmt.CHUNKS,),
    fmt.LIST: (fmt.LISTS,),
    fmt.SET: (fmt.SETS,),
    fmt.ZSET: (fmt.ZSETS, fmt.SCORES),
    fmt.HASH: (fmt.HASHES,),
    fmt.STREAM: (fmt.STREAMS,),
    fmt.GROUP: (fmt.PENDING,),
    fmt.CONSUMER: (fmt.OWNED,),
}
# What else stands under an id: rows that begin with ids of this kind, under which there are rows again.
_LEADS_TO: Final = {fmt.STREAM: (fmt.GROUPS, fmt.GROUP), fmt.GROUP: (fmt.CONSUMERS, fmt.CONSUMER)}

log = logging.getLogger("lmdbredis")


class Upkeep:
    """See the module. `now_us` is the wall clock, `clock_ms` one that never jumps."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._store = executor.store
        self._keyspace = executor.keyspace
        self._ticked_ms = 0
        self._checkpoint_due_ms = 0
        self._sync_due_ms = 0
        self._probe_due_ms = 0
        self._limit_rows()
        self._saved_lsn = self._store.control.lsn  # of the checkpoint that `saved_at_ms` is of
        self._wanted_lsn: int | None = None  # BGSAVE: a checkpoint must hold the log up to here
        self.saves = 0  # checkpoints that were seen to be on disk
        self.saved_at_ms = 0  # when a checkpoint was last seen to be on disk; 0 = none since the opening
        self.active_expire = True  # DEBUG SET-ACTIVE-EXPIRE
        self.reclaimed_rows = 0

    def tick(self, now_us: int, clock_ms: int) -> int:
        """Do a small piece of each kind of work; return in how many ms to be called again. Raises SyncFailed."""
        busy = is_late = False
        try:
            self._store.poll()
            if self._executor.hold.is_on:
                self._hold(clock_ms)
            if self._executor.refusal is not None:
                self._probe(clock_ms)
            if self._executor.refusal is None:
                self._checkpoint(clock_ms)
                is_late = self._expire(now_us, clock_ms - self._ticked_ms)
                if self._store.is_settled:
                    busy = self._reclaim()
                self._store.drain()
                busy = busy or self._store.has_backlog
            self._note_save(now_us // 1000)
        except DiskFull as error:
            self._store.repair()
            self._executor.refuse_writes(error)
        self._ticked_ms = clock_ms
        return 0 if is_late else BUSY_MS if busy else IDLE_MS

    @property
    def is_commit_due(self) -> bool:
        """Tell whether so much has changed since the last commit began that there should be one before its time."""
        store = self._store
        return (
            not store.is_committing
            and (store.dirty_rows >= self._rows_max or store.dirty_bytes >= _DIRTY_BYTES_MAX)
            and not store.holds_back
        )

    @property
    def must_wait(self) -> bool:
        """Tell whether so much waits for the commit that is on its way that no more should be added: it is in memory."""
        store = self._store
        return store.is_committing and (
            store.dirty_rows > _WAITING_RATIO * self._rows_max or store.dirty_bytes > _WAITING_RATIO * _DIRTY_BYTES_MAX
        )

    def _checkpoint(self, clock_ms: int) -> None:
        """Begin what is due: a commit, and, not with every one of them, the sync of the last."""
        store = self._store
        if (
            not store.is_committing
            and (store.dirty_rows or store.dirty_bytes > _ROWLESS_BYTES)
            and (clock_ms >= self._checkpoint_due_ms or self.is_commit_due)
        ):
            self.commit(clock_ms)
        else:
            self._sync(clock_ms)

    def commit(self, clock_ms: int) -> None:
        """Go on towards a commit, and begin it. If a sync is due it begins first: else, where one commit follows the other, there would never be one."""
        self._sync(clock_ms)
        if self._store.prepare_commit():
            self._checkpoint_due_ms = clock_ms + self._executor.config.checkpoint_interval_ms
            self._limit_rows()
            self._store.begin_commit()

    def _limit_rows(self) -> None:
        """Find out how many rows make a commit due."""
        rows_max = self._executor.config.checkpoint_dirty
        pages = self._store.leaf_pages
        if pages > _DIRTY_PAGES_MAX:  # n rows anywhere are on pages * (1 - exp(-n / pages)) of them, about
            rows_max = min(rows_max, int(-pages * log1p(-_DIRTY_PAGES_MAX / pages)))
        self._rows_max = rows_max

    def _sync(self, clock_ms: int) -> None:
        """Begin to sync the last commit, if that is due: always, while BGSAVE wants what is not on disk yet."""
        store = self._store
        is_due = (
            clock_ms >= self._sync_due_ms
            or store.committed_lsn - store.control.lsn >= _UNSYNCED_BYTES_MAX
            or self._wanted_lsn is not None
        )
        if is_due and not store.is_held and store.begin_sync():
            self._sync_due_ms = clock_ms + self._executor.config.checkpoint_interval_ms

    def _hold(self, clock_ms: int) -> None:
        """Go on with a hold of checkpoints: towards its beginning, or to its end. Raises DiskFull, SyncFailed."""
        executor, store = self._executor, self._store
        hold = executor.hold
        asked = None if hold.session is None else executor.waiters.of(hold.session)
        why, is_made = "", False
        if executor.refusal is not None:
            why = HOLD_DISK_FULL
        elif hold.is_over(clock_ms, executor.config.backup_hold_max_s * 1000):
            why = HOLD_OVERDUE
        elif hold.stage is Stage.HELD:
            why = HOLD_BROKEN if hold.is_broken(store) else ""
        elif asked is None or asked.command.name != "backup|start":
            hold.end(store)  # who asked is gone
        else:
            is_made = hold.advance(store)
        if why:
            log.warning("The hold of checkpoints%s has ended by itself: %s", hold.called(), why)
            hold.end(store, why)
        if asked is not None and (why or is_made):
            executor.answer(asked, ReplyError(HOLD_ENDED % why) if why else OK)
            executor.end()

    @property
    def is_saving(self) -> bool:
        """Tell whether a checkpoint that BGSAVE wants is not on disk yet, and may be soon: a full disk takes none."""
        return self._wanted_lsn is not None and self._executor.refusal is None

    def save_soon(self) -> None:
        """Let the next tick begin a checkpoint: BGSAVE."""
        self._checkpoint_due_ms = 0
        self._wanted_lsn = self._store.wal.end_lsn

    def _note_save(self, now_ms: int) -> None:
        """Keep when a checkpoint came to be on disk: LASTSAVE. If one is wanted, an older one does not count."""
        store, wanted = self._store, self._wanted_lsn
        lsn = store.control.lsn
        if wanted is None:
            is_saved = lsn != self._saved_lsn
        else:
            is_saved = lsn >= wanted or not (store.dirty_rows or store.is_committing or lsn != store.committed_lsn)
        if is_saved:
            self._saved_lsn, self._wanted_lsn, self.saved_at_ms = lsn, None, now_ms
            self.saves += 1

    def _probe(self, clock_ms: int) -> None:
        """Look whether a full disk has room again. Raises DiskFull while it has not."""
        if clock_ms < self._probe_due_ms:
            return
        self._probe_due_ms = clock_ms + _PROBE_MS
        self._store.probe(self._executor.cx.now_ms)
        self._executor.accept_writes()

    def _expire(self, now_us: int, since_ms: int) -> bool:
        """Delete keys whose time has come, the last tick being `since_ms` ago; tell whether there may be more."""
        keyspace = self._keyspace
        if not self.active_expire or not keyspace.may_expire or not keyspace.due.is_any(now_us // 1000):
            return False
        if self.must_wait or (self._store.is_committing and not keyspace.expires_at_once()):
            return False
        keys_max = min(max(_EXPIRE_KEYS, _EXPIRE_KEYS_EACH_MS * since_ms), _EXPIRE_KEYS_MAX)
        self._executor.internal(lambda: keyspace.expire_due(keys_max), now_us)
        return keyspace.due.is_any(now_us // 1000)

    def _reclaim(self) -> bool:
        """Delete some orphaned rows; tell whether there are more."""
        row = self._keyspace.oldest_garbage()
        if row is None:
            return False
        name, kind = row[0], row[1][0]
        if kind == fmt.GARBAGE_KEYSPACE:
            done = self._reclaim_keyspace(name)
        elif kind in _LEADS_TO and not self._reclaim_leads(name, *_LEADS_TO[kind]):
            done = False
        else:
            done = all(self._reclaim_prefix(self._store.tables[number], name) for number in _TABLES_OF[kind])
            done = done and self._reclaim_counts(name, _TABLES_OF[kind][-1])
        if done:
            self._store.delete_unlogged(self._keyspace.garbage, [name])
        return True

    def _reclaim_prefix(self, table: Table, prefix: bytes) -> bool:
        """Delete some of the rows that begin with `prefix`; tell whether none is left."""
        stop = after_prefix(prefix)
        keys = [key for key in table.take_keys(prefix, _RECLAIM_ROWS) if key < stop]
        self._store.delete_unlogged(table, keys)
        self.reclaimed_rows += len(keys)
        return len(keys) < _RECLAIM_ROWS

    def _reclaim_leads(self, prefix: bytes, table_number: int, kind: int) -> bool:
        """Make garbage of what some of the rows that begin with `prefix` lead to; tell whether none is left."""
        table, stop = self._store.tables[table_number], after_prefix(prefix)
        rows = [row for row in table.take(prefix, _RECLAIM_ROWS) if row[0] < stop]
        for _, row in rows:
            self._store.put_unlogged(self._keyspace.garbage, row[:8], bytes((kind,)))
        self._store.delete_unlogged(table, [row_key for row_key, _ in rows])
        self.reclaimed_rows += len(rows)
        return len(rows) < _RECLAIM_ROWS

    def _reclaim_counts(self, owner: bytes, table_number: int) -> bool:
        """Delete the directory of an owner; tell whether none of it is left."""
        self._keyspace.ranks.forget(self._store.tables[table_number], owner)
        return self._reclaim_prefix(self._store.tables[fmt.COUNTS], bytes((table_number,)) + owner)

    def _reclaim_keyspace(self, prefix: bytes) -> bool:
        """Delete some keys of a keyspace that was flushed; tell whether none is left."""
        stop = after_prefix(prefix)
        rows = [row for row in self._keyspace.keys.take(prefix, _RECLAIM_ROWS) if row[0] < stop]
        for row_key, cell in rows:
            kind = cell[0] & fmt.TYPE_MASK
            if kind != fmt.STRING:
                ident = fmt.unpack_chunks_head(cell)[0] if kind == fmt.STRING_CHUNKS else fmt.unpack_head(cell)[0]
                self._store.put_unlogged(self._keyspace.garbage, fmt.pack_u64(ident), bytes((kind,)))
            if expire_at_ms := fmt.expire_of(cell):
                self._store.delete_unlogged(self._keyspace.expires, [fmt.pack_u64(expire_at_ms) + row_key])
        self._store.delete_unlogged(self._keyspace.keys, [row_key for row_key, _ in rows])
        self.reclaimed_rows += len(rows)
        return len(rows) < _RECLAIM_ROWS and self._reclaim_counts(prefix, fmt.KEYS)
