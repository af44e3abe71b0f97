"""News: what has happened to keys, for whoever waits for that: key events, blocked clients.

Theory. Whatever a command does to a key, it does through a few functions of the keyspace. While somebody wants the news
(`Keyspace.news` is a list, else None), those functions tell what they did, in order, and the executor reads the list after each
command. So no command and no datatype knows of key events or of clients that wait.

Law: news name what happened to keys, not which command did it; that, the reader knows.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

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


class News(NamedTuple):
    """One thing that has happened."""

    what: What
    database: Database
    key: bytes
    source: tuple[Database, bytes] | None = None  # of MOVED
