"""The keyspace: all databases of a store, and what they share.

Theory. A database is a number that leads to a keyspace; FLUSHDB leads it to a new one, SWAPDB swaps two. What is kept in memory
of rows (decoded heads, counts, ids in reserve) is kept here, and written back before the batch is logged.

Laws:

1. A changed head is written back once for a batch, not once for a command; so is a changed `Part`.
2. `Entry` objects are shared by all commands of a batch and kept in the hot layer; nobody keeps one across batches.

`now_ms` is told by the executor. What a key's life is, `database` knows.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import format as fmt
from lmdbredis.cache import Cache
from lmdbredis.database import Database
from lmdbredis.due import Due
from lmdbredis.news import NO_WRITES, News, What
from lmdbredis.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from lmdbredis.entry import Entry, Part
    from lmdbredis.format import Rows, WriteSet
    from lmdbredis.store import Store
    from lmdbredis.table import Row

_IDS_RESERVED: Final = 1024  # ids are taken from the store in portions: one row for a thousand collections
_NOWHERE: Final = (1 << 32) - 1  # a number that no keyspace has
_PARTS_MAX: Final = 4096  # kept decoded from one batch to the next


class Keyspace:
    """All databases of a store."""

    def __init__(self, store: Store, databases: int, cache_bytes: int, *, is_copy: bool = False) -> None:
        self.store = store
        self.keys = store.tables[fmt.KEYS]
        self.expires = store.tables[fmt.EXPIRES]
        self.garbage = store.tables[fmt.GARBAGE]
        self.cache = Cache(cache_bytes)
        self.ranks = Ranks(store)
        self.dirty: dict[bytes, Entry] = {}  # entries to be written back
        self.parts: dict[bytes, Any] = {}  # by the key of their row: parts of collections, decoded
        self.dirty_parts: dict[bytes, Part] = {}  # those to be written back
        self.decks: dict[int, Any] = {}  # by id of a set: members drawn ahead, see `datatypes.sets`
        self.now_ms = 0  # told by the executor, once for a batch
        self.may_expire = True  # law 1 of `database`
        self.due = Due(self.expires)  # told of each row of `expires` that is put
        self.news: list[News] = []  # see `news`, as are the next four: read them anywhere, set them with `want_news`
        self.kinds: frozenset[What] = frozenset()  # what is told of every key
        self.waited: Container[tuple[int, bytes]] = ()  # the keys (database number, key) of which everything is told
        self.wants_news = False  # somebody wants to be told something
        self.wants_writes = False  # it may be that a key was written to
        self.databases_changed = False
        self.is_copy = is_copy  # rows come from another server (`take_over`), and none may be put here
        self.hits = 0
        self.loads = 0  # strings read from LMDB
        self.misses = 0
        self.expired_keys = 0
        self._ids = iter(range(0))  # reserved
        self.databases = [Database(self, number) for number in range(databases)]
        store.writebacks.append(self.write_back)
        store.forgets.append(self.load)
        self.load()

    def load(self) -> None:
        """Read what is kept in memory from the rows: at start, and after a repair."""
        self.cache.clear()
        self.dirty.clear()
        self.parts.clear()
        self.dirty_parts.clear()
        self.decks.clear()
        self.news.clear()
        self.due.forget()
        self.databases_changed = False
        self._ids = iter(range(0))
        meta = self.store.meta
        row = meta.get(fmt.META_DATABASES)
        keyspaces = fmt.unpack_databases(row) if row is not None else {}
        self._next_keyspace = fmt.unpack_u32(meta.get(fmt.META_NEXT_KEYSPACE) or b"\0\0\0\0")
        for database in self.databases:
            ident = keyspaces.pop(database.number, None)
            if ident is None and self.is_copy:  # until its server makes one
                database.lead_to(_NOWHERE - database.number, b"")
                database.is_dirty = False
            elif ident is None:
                database.lead_to(self.new_keyspace(), b"")
                self.databases_changed = True
            else:
                database.lead_to(ident, meta.get(fmt.META_KEYSPACE + fmt.pack_u32(ident)) or b"")
        # Beyond the configured number: kept, and their keys expire.
        hidden = [Database(self, number) for number in keyspaces]
        for database in hidden:
            ident = keyspaces[database.number]
            database.lead_to(ident, meta.get(fmt.META_KEYSPACE + fmt.pack_u32(ident)) or b"")
        self._all_databases = [*self.databases, *hidden]

    def write_back(self) -> None:
        """Put the rows of everything that changed in memory (law 1). Idempotent."""
        if self.dirty:
            put = self.keys.put
            for row_key, entry in self.dirty.items():
                put(row_key, entry.cell())
            self.dirty.clear()
        if self.dirty_parts:
            for row_key, part in self.dirty_parts.items():
                part.table.put(row_key, part.row())
            self.dirty_parts.clear()
        if len(self.parts) > _PARTS_MAX:
            self.parts.clear()
        for database in self._all_databases:
            if database.is_dirty:
                row = fmt.pack_keyspace(database.keys, database.volatile, database.expire_sum_ms, database.flags)
                self.store.meta.put(fmt.META_KEYSPACE + database.prefix, row)
                database.is_dirty = False
        if self.databases_changed:
            keyspaces = {database.number: database.id for database in self._all_databases}
            self.store.meta.put(fmt.META_DATABASES, fmt.pack_databases(keyspaces))
            self.databases_changed = False

    def want_news(self, kinds: frozenset[What], waited: Container[tuple[int, bytes]]) -> None:
        """Tell of these kinds of news whatever the key, and of these keys whatever the news."""
        self.kinds, self.waited = kinds, waited
        self.wants_news = bool(kinds or waited)
        self.wants_writes = bool(kinds - NO_WRITES or waited)

    def take_over(self, rows: WriteSet) -> None:
        """Take note of rows that another server has put: what is kept of them in memory is stale. O(rows)."""
        meta = rows.get(fmt.META, {})
        self.ranks.forget_rows(rows.get(fmt.COUNTS, ()))
        if fmt.META_DATABASES in meta:
            self.load()
            if self.wants_writes:
                self.news += [News(What.ALL, database, b"") for database in self.databases]
            return
        keys = rows.get(fmt.KEYS, {})
        self.cache.drop_all(keys)
        self.parts.clear()
        self.decks.clear()
        for database in self._all_databases:
            row = meta.get(fmt.META_KEYSPACE + database.prefix)
            if row is not None:
                database.lead_to(database.id, row)
        if self.wants_writes and keys:
            self._tell_of(keys)

    def _tell_of(self, keys: Rows) -> None:
        """Tell of the keys that somebody waits for, among rows of `keys`."""
        for database in self._all_databases:
            for row_key, cell in keys.items():
                if row_key[:4] == database.prefix:
                    key = database.name_of(row_key, cell or b"")
                    if (database.number, key) in self.waited:
                        self.news.append(News(What.CHANGED if cell else What.DELETED, database, key))

    # --- ids ---------------------------------------------------------------------------------------------------------------

    def next_id(self) -> int:
        """Return an id that was never used."""
        for ident in self._ids:
            return ident
        first = fmt.unpack_u64(self.store.meta.get(fmt.META_NEXT_ID) or fmt.pack_u64(1))
        self.store.meta.put(fmt.META_NEXT_ID, fmt.pack_u64(first + _IDS_RESERVED))
        self._ids = iter(range(first + 1, first + _IDS_RESERVED))
        return first

    def new_keyspace(self) -> int:
        """Return a keyspace number that was never used."""
        ident = self._next_keyspace
        self._next_keyspace += 1
        self.store.meta.put(fmt.META_NEXT_KEYSPACE, fmt.pack_u32(self._next_keyspace))
        return ident

    def discard_id(self, ident: int, kind: int) -> None:
        """Leave the rows under an id to the reclaimer."""
        self.garbage.put(fmt.pack_u64(ident), bytes((kind,)))

    def discard_keyspace(self, database: Database) -> None:
        """Leave all rows of a database's keyspace to the reclaimer."""
        self.write_back()  # the reclaimer finds collections through their rows
        self.cache.clear()
        self.garbage.put(database.prefix, bytes((fmt.GARBAGE_KEYSPACE,)))
        self.store.meta.delete(fmt.META_KEYSPACE + database.prefix)
        self.ranks.forget(self.keys, database.prefix)

    # --- databases -----------------------------------------------------------------------------------------------------------

    def every_database(self) -> Sequence[Database]:
        """Return all databases, also those beyond the configured number."""
        return self._all_databases

    def swap(self, one: int, other: int) -> None:
        """Let two databases exchange their keyspaces. O(1)."""
        a, b = self.databases[one], self.databases[other]
        for name in ("id", "prefix", "keys", "volatile", "expire_sum_ms", "flags", "is_dirty"):
            mine, his = getattr(a, name), getattr(b, name)
            setattr(a, name, his)
            setattr(b, name, mine)
        self.databases_changed = True
        if self.wants_writes:
            self.news += [News(What.ALL, a, b""), News(What.ALL, b, b"")]

    def flush(self) -> None:
        """Delete every key of every database. O(databases)."""
        for database in self.databases:
            database.flush()

    # --- time ---------------------------------------------------------------------------------------------------------------

    def expire_due(self, keys_max: int) -> None:
        """Delete keys whose time has come, `keys_max` at most. O(log n) each: the head of an ordered index."""
        for prefix, series in groupby(self.due.take(self.now_ms, keys_max), _prefix_of):
            owner = next((database for database in self._all_databases if database.prefix == prefix), None)
            if owner is not None:
                owner.expire_rows(list(series))
            else:  # of a keyspace that was flushed
                self.expires.delete_many(list(series))

    def expires_at_once(self) -> bool:
        """Tell whether keys can be deleted without a read in order: the directories of those that are counted are in memory."""
        return all(
            self.ranks.is_open(self.keys, database.prefix)
            for database in self._all_databases
            if database.volatile and database.flags & fmt.COUNTED
        )

    def oldest_garbage(self) -> Row | None:
        """Return the next row of `garbage`, None if there is none."""
        rows = self.garbage.take(b"", 1)
        return rows[0] if rows else None


def _prefix_of(expires_key: bytes) -> bytes:
    """Return what the keys of its keyspace begin with, of the key of a row of `expires`."""
    return expires_key[8:12]
