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

from typing import TYPE_CHECKING, NamedTuple

from lmdbredis import format as fmt
from lmdbredis.datatypes.members import OWNER_BYTES
from lmdbredis.entry import Entry
from lmdbredis.session import NOTHING_WATCHED, Session

if TYPE_CHECKING:
    from lmdbredis.database import Database
    from lmdbredis.keyspace import Keyspace


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


class Watches:
    """All watches of all sessions."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._sessions: set[Session] = set()  # who watch something

    def watch(self, session: Session, database: Database, key: bytes) -> None:
        """Let the session watch one more key. Raises Later."""
        found = database.find(key)  # if its time has come, it goes now
        owner, table, expire_at_ms = b"", 0, 0
        if isinstance(found, Entry):
            owner, table, expire_at_ms = found.owner, fmt.ELEMENTS[found.kind], found.expire_at_ms
        watched = Watched(database, database.row_key(key), owner, table, found is not None, expire_at_ms)
        if self._is_in_batch(watched):
            raise Later
        self.let(session, session.watched | {(database.number, key): watched})

    def let(self, session: Session, watched: dict[tuple[int, bytes], Watched]) -> None:
        """Let the session watch these, and nothing else."""
        session.watched = watched
        if watched:
            if not self._sessions:
                self._keyspace.store.hooks.append(self._touch)
            self._sessions.add(session)
        elif session in self._sessions:
            self._sessions.discard(session)
            if not self._sessions:
                self._keyspace.store.hooks.remove(self._touch)

    def forget(self, session: Session) -> None:
        """Let the session watch nothing, and not be stale any more."""
        self.let(session, NOTHING_WATCHED)
        session.is_stale = False

    def is_touched(self, session: Session) -> bool:
        """Tell whether something that the session watches has changed, the batch in the making included. O(rows of the batch)."""
        if session.is_stale:
            return True
        for (_, key), watched in session.watched.items():
            found = watched.database.find(key)  # if its time has come, that is a change
            if watched.database.row_key(key) != watched.row_key:  # FLUSHALL, SWAPDB
                if watched.existed or found is not None:
                    return True
            elif self._is_in_batch(watched):
                return True
        return False

    def _is_in_batch(self, watched: Watched) -> bool:
        keyspace, row_key = self._keyspace, watched.row_key
        if (entry := keyspace.dirty.get(row_key)) is not None:
            if watched.is_counted(entry.cell()):
                return True
        elif row_key in keyspace.keys.batch and watched.is_counted(keyspace.keys.batch[row_key]):
            return True
        if watched.expires_key in keyspace.expires.batch:
            return True
        return bool(watched.owner) and any(
            key.startswith(watched.owner) for key in keyspace.store.tables[watched.table].batch
        )

    def _touch(self, write_set: fmt.WriteSet) -> None:
        """Hook: tell the sessions that watch what a record has changed."""
        keys, expires = write_set.get(fmt.KEYS, {}), write_set.get(fmt.EXPIRES, {})
        owners = {table: {key[:OWNER_BYTES] for key in write_set.get(table, ())} for table in fmt.ELEMENTS.values()}
        moved = fmt.META_DATABASES in write_set.get(fmt.META, {})
        for session in self._sessions:
            for name, watched in session.watched.items():
                if (
                    (watched.row_key in keys and watched.is_counted(keys[watched.row_key]))
                    or (watched.owner and watched.owner in owners[watched.table])
                    or watched.expires_key in expires
                ):
                    session.is_stale = True
                elif moved and (row_key := watched.database.row_key(name[1])) != watched.row_key:
                    if watched.existed or self._keyspace.keys.get(row_key) is not None:
                        session.is_stale = True
                    session.watched[name] = watched._replace(row_key=row_key)
