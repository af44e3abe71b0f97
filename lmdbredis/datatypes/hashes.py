"""Hashes: values by field, under a key.

Theory. A field is a row of `hash`: the id and the field's stored name lead to a tag and the value (see `format`). What needs one
field is a point read or write; what needs all of them is one walk of known length. Fields stand in the order of their names.

`get` takes a key and raises WRONGTYPE for one of another type; the other functions take an open `Entry`.
"""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING

from lmdbredis import format as fmt
from lmdbredis.datatypes import members
from lmdbredis.datatypes.members import LONG_ROW_BYTES, OWNER_BYTES
from lmdbredis.format import HASH, HASHES, NAME_BYTES_MAX, PLAIN_FIELD
from lmdbredis.ranks import BLOCK_ROWS

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    from lmdbredis.database import Database
    from lmdbredis.entry import Entry
    from lmdbredis.table import Row


# --- one field ---------------------------------------------------------------------------------------------------------------


def get(db: Database, key: bytes, field: bytes) -> bytes | None:
    """Return the value of a field, None if there is no such key or field. O(log n)."""
    entry = db.open(key, HASH)
    if entry is None:
        return None
    return value_of(db, entry, field)


def value_of(db: Database, entry: Entry, field: bytes) -> bytes | None:
    """Return the value of a field, None if there is no such field. O(log n)."""
    row_key = entry.owner + (field if len(field) <= NAME_BYTES_MAX else fmt.stored_name(field))
    row = db.keyspace.store.tables[HASHES].get(row_key)
    if row is None:
        return None
    return row[1:] if row[0] == 0 else fmt.field_value(row)


def put(db: Database, entry: Entry, field: bytes, value: bytes) -> int:
    """Let a field be `value`; return how many fields are new: 0 or 1. O(log n)."""
    table = db.keyspace.store.tables[HASHES]
    if len(field) <= NAME_BYTES_MAX:
        row_key = entry.owner + field
        row = PLAIN_FIELD + value
    else:
        row_key = entry.owner + fmt.stored_name(field)
        row = fmt.pack_field(field, value)
    if table.exchange(row_key, row) is not None:
        db.replaced(entry)
        return 0
    entry.count += 1
    if entry.flags or entry.count > BLOCK_ROWS:
        members.added(db, table, entry, row_key[OWNER_BYTES:])
    db.changed(entry)
    return 1


def put_each(db: Database, entry: Entry, pairs: Iterable[tuple[bytes, bytes]]) -> list[int]:
    """As `put` for each field and value in turn; return what it would."""
    table = db.keyspace.store.tables[HASHES]
    owner = entry.owner
    rows = [
        (owner + field, PLAIN_FIELD + value)
        if len(field) <= NAME_BYTES_MAX
        else (owner + fmt.stored_name(field), fmt.pack_field(field, value))
        for field, value in pairs
    ]
    new = [1 if old is None else 0 for old in table.exchange_many(rows)]
    if 1 in new:
        entry.count += new.count(1)
        members.added_many(db, table, entry, [row_key[OWNER_BYTES:] for row_key, _ in compress(rows, new)])
        db.changed(entry)
    else:
        db.replaced(entry)
    return new


def delete(db: Database, entry: Entry, fields: Sequence[bytes]) -> int:
    """Delete fields; return how many were there. O(fields * log n)."""
    table = db.keyspace.store.tables[HASHES]
    deleted = 0
    for field in fields:
        suffix = field if len(field) <= NAME_BYTES_MAX else fmt.stored_name(field)
        row_key = entry.owner + suffix
        if table.get(row_key) is not None:
            table.delete(row_key)
            deleted += 1
            if entry.flags:
                db.keyspace.ranks.open(table, entry.owner).discard(suffix)
    if deleted:
        entry.count -= deleted
        db.changed(entry)
    return deleted


# --- all fields --------------------------------------------------------------------------------------------------------------


def _rows(db: Database, entry: Entry) -> list[Row]:
    return db.keyspace.store.tables[HASHES].take(entry.owner, entry.count)


def everything(db: Database, entry: Entry) -> dict[bytes, bytes]:
    """Return all fields with their values. O(n)."""
    return unpack(_rows(db, entry))


def fields(db: Database, entry: Entry) -> list[bytes]:
    """Return all fields. O(n)."""
    row_keys = db.keyspace.store.tables[HASHES].take_keys(entry.owner, entry.count)
    return _names(db, row_keys)


def values(db: Database, entry: Entry) -> list[bytes]:
    """Return all values, in the order of their fields. O(n)."""
    return [row[1:] if row[0] == 0 else fmt.field_value(row) for _, row in _rows(db, entry)]


def unpack(rows: list[Row]) -> dict[bytes, bytes]:
    """Return the fields and values of rows."""
    return {
        row_key[OWNER_BYTES:] if row[0] == 0 else fmt.field_whole(row): row[1:] if row[0] == 0 else fmt.field_value(row)
        for row_key, row in rows
    }


def _names(db: Database, row_keys: list[bytes]) -> list[bytes]:
    """Return the fields of rows; only long ones need the row itself."""
    get_row = db.keyspace.store.tables[HASHES].get
    return [
        row_key[OWNER_BYTES:] if len(row_key) < LONG_ROW_BYTES else fmt.field_whole(get_row(row_key) or b"\0")
        for row_key in row_keys
    ]


def scan(
    db: Database, entry: Entry, position: bytes, prefix: bytes, rows_max: int
) -> tuple[dict[bytes, bytes], bytes | None]:
    """Return (some fields with their values, where to go on): see `members.scan`."""
    rows, following = members.scan(db.keyspace.store.tables[HASHES], entry, position, prefix, rows_max)
    return unpack(rows), following


# --- chance ------------------------------------------------------------------------------------------------------------------


def pick(db: Database, entry: Entry, random: random.Random) -> bytes:
    """Return one field, each as likely as any other. O(log n)."""
    table = db.keyspace.store.tables[HASHES]
    return _names(db, [members.pick(db, table, entry, random)])[0]


def draw(db: Database, entry: Entry, count: int, random: random.Random) -> list[bytes]:
    """Return `count` different fields, all if there are no more; -`count`, each drawn from all, if it is negative. O(count * log n)."""
    table = db.keyspace.store.tables[HASHES]
    if count < 0:
        return _names(db, members.draw_repeating(db, table, entry, -count, random))
    return _names(db, members.draw(db, table, entry, count, random))


def draw_pairs(db: Database, entry: Entry, count: int, random: random.Random) -> list[tuple[bytes, bytes | None]]:
    """As `draw`, each field with its value."""
    if count >= entry.count:
        return list(everything(db, entry).items())
    return [(field, value_of(db, entry, field)) for field in draw(db, entry, count, random)]


# --- copies ------------------------------------------------------------------------------------------------------------------


def copy(db: Database, entry: Entry, target: Database, new_key: bytes, expire_at_ms: int) -> None:
    """Let `new_key` in `target` be a copy of the hash, whatever it was before. O(n)."""
    copied = members.copy_head(entry, target, new_key, expire_at_ms)
    members.copy_rows(db, db.keyspace.store.tables[HASHES], entry, copied)
