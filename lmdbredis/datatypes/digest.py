"""A digest of values, as Redis computes it: two servers with the same data have the same, whatever encodings and orders they chose.

Theory. SHA-1 sums are put together in two ways: `mix` where order counts (elements of a list, a field and its value), `xor` where it
does not (members of a set, keys of a database). All keys together are one `xor`, so nothing has to be sorted. Source: Redis 7.2, debug.c.

Law: what has expired does not count, though its row may still be there: a replica has it for longer than its primary.
"""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis.database import kind_of
from lmdbredis.datatypes import hashes, lists, sets, streams, strings, zsets
from lmdbredis.entry import Entry
from lmdbredis.words import format_digits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmdbredis.database import Database, Found
    from lmdbredis.keyspace import Keyspace

_BYTES: Final = 20
_KEYS_AT_ONCE: Final = 1000
_ROWS_AT_ONCE: Final = 1000
_HAS_EXPIRY: Final = b"!!expire!!"
# Redis's numbers of types.
_NUMBERS: Final = {
    fmt.STRING: 0,
    fmt.STRING_CHUNKS: 0,
    fmt.LIST: 1,
    fmt.SET: 2,
    fmt.ZSET: 3,
    fmt.HASH: 4,
    fmt.STREAM: 6,
}


def _sum(data: bytes) -> int:
    return int.from_bytes(sha1(data, usedforsecurity=False).digest(), "big")


def _packed(digest: int) -> bytes:
    return digest.to_bytes(_BYTES, "big")


def mix(digest: int, *parts: bytes) -> int:
    """Return the digest with parts in it, in this order."""
    for part in parts:
        digest = _sum(_packed(digest ^ _sum(part)))
    return digest


def xor(digest: int, part: bytes) -> int:
    """Return the digest with a part in it, in whatever order parts come."""
    return digest ^ _sum(part)


def of_all(keyspace: Keyspace) -> str:
    """Return the digest of every key of every database, as 40 hexadecimal digits. O(everything)."""
    total = 0
    for database in keyspace.every_database():
        is_empty = True
        for key, found in _everything(database):
            if is_empty:
                is_empty, total = False, mix(total, fmt.pack_u32(database.number))
            total = xor(total, _packed(_add_value(mix(0, key), database, found)))
    return shown(total)


def of_value(db: Database, key: bytes) -> str:
    """Return the digest of a key's value, of zeros if there is no such key. O(n)."""
    found = db.find(key)
    return shown(0 if found is None else _add_value(0, db, found))


def shown(digest: int) -> str:
    """Return the digest as it is shown."""
    return _packed(digest).hex()


def _everything(db: Database) -> Iterator[tuple[bytes, Found]]:
    """Yield every key with what it leads to."""
    position: bytes | None = b""
    while position is not None:
        rows, position = db.scan(position, b"", _KEYS_AT_ONCE)
        for key, cell in rows:
            is_string = cell[0] & fmt.TYPE_MASK in {fmt.STRING, fmt.STRING_CHUNKS}
            found: Found | None = cell if is_string else db.find(key)
            assert found is not None, "it was there in the same batch"
            yield key, found


def _add_value(digest: int, db: Database, found: Found) -> int:
    kind = kind_of(found)
    digest = mix(digest, fmt.pack_u32(_NUMBERS[kind]))
    if isinstance(found, Entry):
        digest = _ADD[kind](digest, db, found)
    else:
        digest = mix(digest, strings.value_of(db, found))
    return xor(digest, _HAS_EXPIRY) if db.expire_at(found) else digest


def _add_list(digest: int, db: Database, entry: Entry) -> int:
    for element in lists.everything(db, entry):
        digest = mix(digest, element)
    return digest


def _add_set(digest: int, db: Database, entry: Entry) -> int:
    position: bytes | None = b""
    while position is not None:
        found, position = sets.scan(db, entry, position, b"", _ROWS_AT_ONCE)
        for member in found:
            digest = xor(digest, member)
    return digest


def _add_zset(digest: int, db: Database, entry: Entry) -> int:
    position: bytes | None = b""
    while position is not None:
        found, position = zsets.scan(db, entry, position, b"", _ROWS_AT_ONCE)
        for member, score in found:
            digest = xor(digest, _packed(mix(0, member, format_digits(score))))
    return digest


def _add_hash(digest: int, db: Database, entry: Entry) -> int:
    position: bytes | None = b""
    while position is not None:
        found, position = hashes.scan(db, entry, position, b"", _ROWS_AT_ONCE)
        for field, value in found.items():
            digest = xor(digest, _packed(mix(0, field, value)))
    return digest


def _add_stream(digest: int, db: Database, entry: Entry) -> int:
    low = entry.first
    while found := streams.get_range(db, entry, low, entry.last, _ROWS_AT_ONCE):
        for entry_id, words in found:
            digest = mix(digest, b"%d.%d" % divmod(entry_id, 1 << 64), *words)
        low = found[-1][0] + 1
    return digest


_ADD: Final[dict[int, Callable[[int, Database, Entry], int]]] = {
    fmt.LIST: _add_list,
    fmt.SET: _add_set,
    fmt.ZSET: _add_zset,
    fmt.HASH: _add_hash,
    fmt.STREAM: _add_stream,
}
