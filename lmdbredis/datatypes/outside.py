"""A value seen from outside, whatever its type: the encoding a Redis would have chosen for it, and the bytes it takes here.

Theory. Redis packs small collections (a listpack, an intset) and tells by OBJECT ENCODING; tools and tests ask for it. Here a
collection is rows whatever its size, so the answer is worked out when it is asked for: from the count, and from the elements
only if they are few enough to be packed at all. Redis remembers that a value was large once; rows do not, so an answer may
say listpack where a Redis that saw the value shrink would not. Source: Redis 7.2, t_hash.c, t_set.c, t_zset.c, t_list.c.

Law: O(elements that could be packed), never O(elements).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis.datatypes import strings
from lmdbredis.entry import Entry
from lmdbredis.format import LONG_NAME_BYTES, STRING, TYPE_MASK
from lmdbredis.words import parse_int

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmdbredis.config import Config
    from lmdbredis.database import Database, Found
    from lmdbredis.table import Row

EMBSTR_BYTES_MAX: Final = 44
ROW_BYTES: Final = 10  # what LMDB adds to a row: a node's header and its place in the page

_OWNER_BYTES: Final = 8
_SCORE_BYTES: Final = 8
# list-max-listpack-size -1 to -5: bytes of a listpack; a positive one counts elements, and then this many bytes are the limit.
_LIST_BYTES: Final = (4096, 8192, 16384, 32768, 65536)
_LIST_BYTES_SAFE: Final = 8192
_LISTPACK_BYTES: Final = 7  # an empty listpack
_INTEGER_ENTRIES: Final = (
    (0, 127, 1),
    (-4096, 4095, 2),
    (-(2**15), 2**15 - 1, 3),
    (-(2**23), 2**23 - 1, 4),
    (-(2**31), 2**31 - 1, 5),
)

# Which rows of a collection hold its elements, once each.


# --- encodings --------------------------------------------------------------------------------------------------------------


def encoding(db: Database, found: Found, config: Config) -> bytes:
    """Return the name of the encoding Redis 7.2 would choose for what was found, by the limits in `config`."""
    if isinstance(found, Entry):
        return _ENCODINGS[found.kind](db, found, config)
    if found[0] & TYPE_MASK != STRING:
        return b"raw"
    value = strings.value_of(db, found)
    if parse_int(value) is not None:
        return b"int"
    return b"embstr" if len(value) <= EMBSTR_BYTES_MAX else b"raw"


def _hash(db: Database, entry: Entry, config: Config) -> bytes:
    limit = config.hash_max_listpack_value_bytes
    if entry.count <= config.hash_max_listpack_entries and all(
        _name_bytes(key, fmt.field_whole(row)) <= limit and len(fmt.field_value(row)) <= limit
        for key, row in _rows(db, entry, entry.count)
    ):
        return b"listpack"
    return b"hashtable"


def _set(db: Database, entry: Entry, config: Config) -> bytes:
    count, limit = entry.count, config.set_max_listpack_value_bytes
    if count > max(config.set_max_intset_entries, config.set_max_listpack_entries):
        return b"hashtable"
    rows = _rows(db, entry, count)
    if count <= config.set_max_intset_entries and all(parse_int(key[_OWNER_BYTES:]) is not None for key, _ in rows):
        return b"intset"
    if count <= config.set_max_listpack_entries and all(_name_bytes(key, row) <= limit for key, row in rows):
        return b"listpack"
    return b"hashtable"


def _zset(db: Database, entry: Entry, config: Config) -> bytes:
    limit = config.zset_max_listpack_value_bytes
    if entry.count <= config.zset_max_listpack_entries and all(
        _name_bytes(key, row[_SCORE_BYTES:]) <= limit for key, row in _rows(db, entry, entry.count)
    ):
        return b"listpack"
    return b"skiplist"


def _list(db: Database, entry: Entry, config: Config) -> bytes:
    fill = config.list_max_listpack_size
    limit = _LIST_BYTES_SAFE if fill >= 0 else _LIST_BYTES[min(-fill, 5) - 1]
    if entry.count > (fill if fill >= 0 else limit // 2):  # an element takes two bytes at least
        return b"quicklist"
    size = _LISTPACK_BYTES + sum(_listpack_entry_bytes(row) for _, row in _rows(db, entry, entry.count))
    return b"listpack" if size <= limit else b"quicklist"


_ENCODINGS: Final[dict[int, Callable[[Database, Entry, Config], bytes]]] = {
    fmt.HASH: _hash,
    fmt.SET: _set,
    fmt.ZSET: _zset,
    fmt.LIST: _list,
    fmt.STREAM: lambda _db, _entry, _config: b"stream",
}


def _rows(db: Database, entry: Entry, rows_max: int) -> list[Row]:
    """Return up to `rows_max` rows that hold the elements of a collection."""
    return db.keyspace.store.tables[fmt.ELEMENTS[entry.kind]].take(entry.owner, min(rows_max, entry.count))


def _name_bytes(row_key: bytes, whole: bytes) -> int:
    """Return how many bytes a field or member has, from its row's key and the whole of it, if that stands in the row."""
    length = len(row_key) - _OWNER_BYTES
    return length if length != LONG_NAME_BYTES else len(whole)


def _listpack_entry_bytes(value: bytes) -> int:
    """Return how many bytes a listpack takes for a value."""
    number = parse_int(value)
    if number is not None:
        length = next((size for least, most, size in _INTEGER_ENTRIES if least <= number <= most), 9)
    else:
        length = len(value) + (1 if len(value) < 64 else 2 if len(value) < 4096 else 5)
    return length + (1 if length < 128 else 2 if length < 16384 else 3 if length < 2097152 else 5)


# --- sizes ------------------------------------------------------------------------------------------------------------------


def size_bytes(db: Database, key: bytes, found: Found, samples: int) -> int:
    """Return about how many bytes a key and its value take in the data file, pages' unused room not counted.

    Of a collection `samples` elements are looked at, all of them if it is 0, and the others taken to be like them.
    """
    head = ROW_BYTES + len(db.row_key(key))
    if not isinstance(found, Entry):
        if found[0] & TYPE_MASK == STRING:
            return head + len(found)
        length = strings.length_of(found)
        return head + len(found) + length + -(-length // fmt.CHUNK_BYTES) * (ROW_BYTES + _OWNER_BYTES + 4)
    return head + len(found.cell()) + elements_bytes(db, found, samples)


def elements_bytes(db: Database, entry: Entry, samples: int) -> int:
    """Return about how many bytes the elements of a collection take: see `size_bytes`."""
    if samples and samples < entry.count:
        rows = _rows(db, entry, samples)
        return sum(map(_row_bytes[entry.kind], rows)) * entry.count // len(rows)
    table = db.keyspace.store.tables[fmt.ELEMENTS[entry.kind]]
    return sum(map(_row_bytes[entry.kind], table.prefix(entry.owner)))


def _plain_row_bytes(row: Row) -> int:
    return ROW_BYTES + len(row[0]) + len(row[1])


def _zset_row_bytes(row: Row) -> int:
    """Count the row and its twin in score order."""
    return 2 * (ROW_BYTES + len(row[0]) + len(row[1]))


_row_bytes: Final[dict[int, Callable[[Row], int]]] = {
    fmt.LIST: _plain_row_bytes,
    fmt.SET: _plain_row_bytes,
    fmt.HASH: _plain_row_bytes,
    fmt.ZSET: _zset_row_bytes,
    fmt.STREAM: _plain_row_bytes,
}
