"""News: what has happened to keys, for whoever waits for that: key events, blocked clients.

Theory. Whatever a command does to a key, it does through a few functions of the keyspace. Those functions tell what they did, in
order (`Keyspace.news`), if somebody wants to know (`Keyspace.want_news`), and the executor reads the list after each command. So no
command and no datatype knows of key events or of clients that wait.

Laws:

1. News name what happened to keys, not which command did it; that, the reader knows.
2. Who wants one kind of news does not have the others made: above all, who wants to hear of keys that expire does not slow down
   writes (`NO_WRITES`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from lmdbredis.database import Database


class What(IntEnum):
    """What has happened."""

    NEW = 0  # there was no such key
    CHANGED = 1  # its value was replaced, or elements of it
    DELETED = 2  # on purpose, or because its last element went
    EXPIRED = 3
    EXPIRY = 4  # it was given a time to expire
    PERSISTED = 5  # it will not expire any more
    MOVED = 6  # it has come from another name or database: `source`
    MISSED = 7  # it was to be read, and is not there
    REPLACED = 8  # as CHANGED, but there is not more of it than before: nobody who waits has something to find
    ALL = 9  # every key of the database may be another: FLUSHDB, SWAPDB


NO_WRITES: Final = frozenset({What.EXPIRED, What.MISSED})  # what may happen to a key without a command that writes it


class News(NamedTuple):
    """One thing that has happened."""

    what: What
    database: Database
    key: bytes
    source: tuple[Database, bytes] | None = None  # of MOVED
