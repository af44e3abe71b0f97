"""Watches: who watches which keys, and whether they have changed since: WATCH.

Theory. A key has changed if the write set says so: the row of the key, or a row under the id of the collection that stood there
when it was watched. So no command and no datatype knows of watches; whatever way a change comes (another client, expiry, a
script, FLUSHALL), it comes through the write set. As long as nobody watches, nothing looks at it.

Laws:

1. A session is stale once a record was written that touches what it watches; `Watches.is_touched` looks at the batch in the
   making as well.
2. WATCH asks for the state between two batches: a key that the running batch has touched already can only be watched in the
   next (`Later`).
3. A key that does not exist, and does not come to exist, has not changed, whatever happens to its database.
4. The row of a stream is written for its groups and for XSETID as well, which are no change in Redis: it counts if the id or the
   expiry is another. So what one batch does to it and undoes again (EXPIRE and PERSIST, RENAME there and back) is no change here.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from lmdbredis import format as fmt
from lmdbredis.datatypes.members import OWNER_BYTES
from lmdbredis.entry import Entry
from lmdbredis.session import NOTHING_WATCHED, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lmdbredis.database import Database
    from lmdbredis.keyspace import Keyspace


Name = tuple[int, bytes]  # database number, key


class Later(Exception):
    """A request cannot be run in this batch: it will be the first of its session in the next."""


class Watched(NamedTuple):
    """One key as it was when WATCH named it."""

    database: Database
    row_key: bytes
    owner: bytes  # before the rows of its elements; empty if it was no collection
    table: int  # of its elements
    existed: bool
    expire_at_ms: int  # of a collection

    def is_counted(self, cell: bytes | None) -> bool:
        """Tell whether a row of the key that was written, None if it was deleted, is a change (law 4)."""
        if cell is None or self.table != fmt.STREAMS or cell[0] & fmt.TYPE_MASK != fmt.STREAM:
            return True
        return fmt.expire_of(cell) != self.expire_at_ms or not cell.startswith(self.owner, fmt.body_offset(cell))

    @property
    def expires_key(self) -> bytes:
        """Return the key of the row of `expires`, which is also written by who sets the expiry that was there."""
        return fmt.pack_u64(self.expire_at_ms) + self.row_key


_Marks = dict[bytes, dict[Session, Watched]]


class Watches:
    """All watches of all sessions: found by what a record writes, so that a record costs no more for whatever else is watched."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._by_row: _Marks = {}  # by the key of the row of `keys`
        self._by_expiry: _Marks = {}  # of `expires`
        self._by_owner: _Marks = {}  # by what the rows of the elements begin with
        self._hears = False  # of every record

    def watch(self, session: Session, database: Database, keys: Iterable[bytes]) -> list[Name]:
        """Let the session watch more keys; return those that it did not watch before. O(log n) each. Raises Later: then it watches none more."""
        found: dict[Name, Watched] = {}
        owners = cache(self._owners_in_batch)
        for key in keys:
            name = (database.number, key)
            if name not in session.watched:
                watched = self._look_at(database, key)
                if self._is_in_batch(watched, owners):
                    raise Later
                found[name] = watched
        if found and not session.watched:
            session.watched = {}
        for name, watched in found.items():
            session.watched[name] = watched
            self._mark(session, watched)
        self._attend()
        return list(found)

    @staticmethod
    def _look_at(database: Database, key: bytes) -> Watched:
        """Return a key as it is now."""
        found = database.find(key)  # if its time has come, it goes now
        owner, table, expire_at_ms = b"", 0, 0
        if isinstance(found, Entry):
            owner, table, expire_at_ms = found.owner, fmt.ELEMENTS[found.kind], found.expire_at_ms
        return Watched(database, database.row_key(key), owner, table, found is not None, expire_at_ms)

    def unwatch(self, session: Session, names: Iterable[Name]) -> None:
        """Let the session watch these keys no more."""
        for name in names:
            self._unmark(session, session.watched.pop(name))
        self._attend()

    def let(self, session: Session, watched: dict[Name, Watched]) -> None:
        """Let the session watch these, and nothing else."""
        for one in session.watched.values():
            self._unmark(session, one)
        session.watched = watched
        for one in watched.values():
            self._mark(session, one)
        self._attend()

    def forget(self, session: Session) -> None:
        """Let the session watch nothing, and not be stale any more."""
        self.let(session, NOTHING_WATCHED)
        session.is_stale = False

    def is_touched(self, session: Session) -> bool:
        """Tell whether something that the session watches has changed, the batch in the making included. O(watched + rows of the batch)."""
        if session.is_stale:
            return True
        owners = cache(self._owners_in_batch)
        for (_, key), watched in session.watched.items():
            found = watched.database.find(key)  # if its time has come, that is a change
            if watched.database.row_key(key) != watched.row_key:  # FLUSHALL, SWAPDB
                if watched.existed or found is not None:
                    return True
            elif self._is_in_batch(watched, owners):
                return True
        return False

    def _owners_in_batch(self) -> set[bytes]:
        """Return whose elements the batch in the making has written."""
        tables = self._keyspace.store.tables
        return {key[:OWNER_BYTES] for table in fmt.ELEMENTS.values() for key in tables[table].batch}

    def _is_in_batch(self, watched: Watched, owners: Callable[[], set[bytes]]) -> bool:
        """Tell whether the batch in the making has changed what is watched; `owners` returns whose elements it has written."""
        keyspace, row_key = self._keyspace, watched.row_key
        if (entry := keyspace.dirty.get(row_key)) is not None:
            if watched.is_counted(entry.cell()):
                return True
        elif row_key in keyspace.keys.batch and watched.is_counted(keyspace.keys.batch[row_key]):
            return True
        return watched.expires_key in keyspace.expires.batch or (bool(watched.owner) and watched.owner in owners())

    def names(self) -> list[Name]:
        """Return what is watched. O(watches)."""
        return list({name for session in self._sessions() for name in session.watched})

    def _sessions(self) -> set[Session]:
        """Return who watches something."""
        return {session for sessions in self._by_row.values() for session in sessions}

    # --- what a record has changed ------------------------------------------------------------------------------------------

    def _marks_of(self, watched: Watched) -> Iterator[tuple[_Marks, bytes]]:
        """Yield by what a watched key is found, and where."""
        yield self._by_row, watched.row_key
        yield self._by_expiry, watched.expires_key
        if watched.owner:
            yield self._by_owner, watched.owner

    def _mark(self, session: Session, watched: Watched) -> None:
        for marks, mark in self._marks_of(watched):
            marks.setdefault(mark, {})[session] = watched

    def _unmark(self, session: Session, watched: Watched) -> None:
        for marks, mark in self._marks_of(watched):
            del marks[mark][session]
            if not marks[mark]:
                del marks[mark]

    def _attend(self) -> None:
        """Hear of records while somebody watches."""
        if self._hears != bool(self._by_row):
            self._hears = not self._hears
            hooks = self._keyspace.store.hooks
            if self._hears:
                hooks.append(self._touch)
            else:
                hooks.remove(self._touch)

    def _touch(self, write_set: fmt.WriteSet) -> None:
        """Hook: tell the sessions that watch what a record has changed."""
        keys, expires = write_set.get(fmt.KEYS, {}), write_set.get(fmt.EXPIRES, {})
        for row_key in keys.keys() & self._by_row.keys():
            for session, watched in self._by_row[row_key].items():
                session.is_stale = session.is_stale or watched.is_counted(keys[row_key])
        touched = [self._by_expiry[mark] for mark in expires.keys() & self._by_expiry.keys()]
        if self._by_owner:
            owners = {key[:OWNER_BYTES] for table in fmt.ELEMENTS.values() for key in write_set.get(table, ())}
            touched += [self._by_owner[owner] for owner in owners & self._by_owner.keys()]
        for sessions in touched:
            for session in sessions:
                session.is_stale = True
        if fmt.META_DATABASES in write_set.get(fmt.META, {}):
            for session in self._sessions():
                self._follow(session)

    def _follow(self, session: Session) -> None:
        """Watch the keys where they are now: FLUSHALL, SWAPDB and their like have led databases elsewhere."""
        moved: dict[Name, Watched] = {}
        for name, watched in session.watched.items():
            row_key = watched.database.row_key(name[1])
            if row_key != watched.row_key and (watched.existed or self._keyspace.keys.get(row_key) is not None):
                session.is_stale = True
            moved[name] = watched._replace(row_key=row_key)
        self.let(session, moved)
