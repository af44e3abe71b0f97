"""Strings: bytes under a key.

Theory. A string of up to `format.INLINE_BYTES_MAX` bytes is the body of its key's cell: one row. A longer one has an id and
lies in chunks of `format.CHUNK_BYTES` under it, every chunk but the last full, so that APPEND, SETRANGE and GETRANGE touch the
pieces they mean and not the whole. A string that has become long stays in chunks until it is set anew.

Every function takes a `Database` and a key; a key of another type raises WRONGTYPE; `put` alone does not look at the type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmdbredis import format as fmt
from lmdbredis.format import (
    CHUNK_BYTES,
    INLINE_BYTES_MAX,
    NAME_BYTES_MAX,
    PLAIN_STRING,
    STRING,
    STRING_CHUNKS,
    TYPE_MASK,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmdbredis.database import Database


def get(db: Database, key: bytes) -> bytes | None:
    """Return the string, None if there is no such key. O(log n + length)."""
    cell = db.read_string(key)
    if cell is None:
        return None
    if cell[0] == STRING:
        return cell[1:]
    return _value(db, cell)


def get_many(db: Database, keys: Sequence[bytes]) -> list[bytes | None]:
    """Return the string of each key, None where there is none. Raises WRONGTYPE if one is of another type.

    Raises ValueError if one is in chunks: long strings are read one at a time, so that memory never holds many of them.
    """
    return [cell if cell is None else cell[1:] if cell[0] == STRING else _short(cell) for cell in db.read_strings(keys)]


def _short(cell: bytes) -> bytes:
    """Return the string of a cell that has it all."""
    if cell[0] & TYPE_MASK != STRING:
        raise ValueError("in chunks")
    return cell[fmt.body_offset(cell) :]


def value_of(db: Database, cell: bytes) -> bytes:
    """Return the string whose cell was found."""
    return cell[1:] if cell[0] == STRING else _value(db, cell)


def _value(db: Database, cell: bytes) -> bytes:
    """Return the string of a cell that is not the plain one."""
    if cell[0] & TYPE_MASK == STRING:
        return cell[fmt.body_offset(cell) :]
    ident, length = fmt.unpack_chunks_head(cell)
    chunks = db.keyspace.store.tables[fmt.CHUNKS]
    return b"".join(row for _, row in chunks.take(fmt.pack_u64(ident), -(-length // CHUNK_BYTES)))


def length_of(cell: bytes) -> int:
    """Return how many bytes the string has whose cell was found."""
    if cell[0] & TYPE_MASK == STRING:
        return len(cell) - fmt.body_offset(cell)
    return fmt.unpack_chunks_head(cell)[1]


def put(db: Database, key: bytes, value: bytes, expire_at_ms: int = 0) -> None:
    """Let the key be this string, whatever it was before. O(log n + length)."""
    if len(value) <= INLINE_BYTES_MAX:
        db.put_string(key, value, expire_at_ms)
    else:
        db.put_chunks_head(key, _put_chunks(db, value), len(value), expire_at_ms)


def put_many(db: Database, pairs: Sequence[tuple[bytes, bytes]]) -> None:
    """As `put` for each key and value in turn."""
    if all(len(key) <= NAME_BYTES_MAX and len(value) <= INLINE_BYTES_MAX for key, value in pairs):
        db.put_strings(pairs)
    else:
        for key, value in pairs:
            put(db, key, value)


def _put_chunks(db: Database, value: bytes) -> int:
    """Put the chunks of a long string and return their id."""
    ident = db.keyspace.next_id()
    owner = fmt.pack_u64(ident)
    chunks = db.keyspace.store.tables[fmt.CHUNKS]
    for number, at in enumerate(range(0, len(value), CHUNK_BYTES)):
        chunks.put(owner + fmt.pack_u32(number), value[at : at + CHUNK_BYTES])
    return ident


def replace(db: Database, key: bytes, cell: bytes, value: bytes) -> None:
    """Let the existing string, whose cell was found, be `value`; its expiry stays. O(log n + length)."""
    if cell[0] == STRING and len(value) <= INLINE_BYTES_MAX:
        db.put_cell(key, PLAIN_STRING + value)
    elif cell[0] & TYPE_MASK == STRING and len(value) <= INLINE_BYTES_MAX:
        db.put_cell(key, cell[: fmt.body_offset(cell)] + value)
    else:
        put(db, key, value, fmt.expire_of(cell))


def append(db: Database, key: bytes, tail: bytes) -> int:
    """Append to the string, a new one if there is no such key; return its length. O(log n + bytes appended)."""
    cell = db.edit_string(key)
    if cell is None:
        put(db, key, tail)
        return len(tail)
    length = length_of(cell)
    if cell[0] & TYPE_MASK == STRING:
        replace(db, key, cell, _value(db, cell) + tail)
    elif tail:
        _write(db, key, cell, length, tail)
    return length + len(tail)


def get_range(db: Database, key: bytes, start: int, stop: int) -> bytes:
    """Return the bytes from `start` to `stop`, both inside, counted from the end if negative; empty if there are none."""
    cell = db.read_string(key)
    if cell is None:
        return b""
    length = length_of(cell)
    if start < 0 and stop < 0 and start > stop:
        return b""
    start = max(start + length, 0) if start < 0 else start
    stop = max(stop + length, 0) if stop < 0 else stop
    stop = min(stop, length - 1)
    if start > stop or not length:
        return b""
    if cell[0] & TYPE_MASK == STRING:
        at = fmt.body_offset(cell)
        return cell[at + start : at + stop + 1]
    ident, _ = fmt.unpack_chunks_head(cell)
    first, last = start // CHUNK_BYTES, stop // CHUNK_BYTES
    rows = db.keyspace.store.tables[fmt.CHUNKS].take(fmt.pack_u64(ident) + fmt.pack_u32(first), last - first + 1)
    skip = start - first * CHUNK_BYTES
    return b"".join(row for _, row in rows)[skip : skip + stop - start + 1]


def set_range(db: Database, key: bytes, offset: int, value: bytes) -> int:
    """Write `value` over the string from `offset` on, zeros before it where there was nothing; return the length."""
    cell = db.edit_string(key)
    if cell is None:
        if not value:
            return 0
        put(db, key, bytes(offset) + value)
        return offset + len(value)
    length = length_of(cell)
    if not value:
        return length
    if cell[0] & TYPE_MASK == STRING:
        old = _value(db, cell)
        replace(db, key, cell, old[:offset].ljust(offset, b"\0") + value + old[offset + len(value) :])
    else:
        _write(db, key, cell, offset, value)
    return max(length, offset + len(value))


def _write(db: Database, key: bytes, cell: bytes, offset: int, value: bytes) -> None:
    """Write into a string in chunks, extending it with zeros if need be; touches the chunks concerned."""
    ident, length = fmt.unpack_chunks_head(cell)
    owner = fmt.pack_u64(ident)
    chunks = db.keyspace.store.tables[fmt.CHUNKS]
    start = min(offset, length)  # from here on bytes change: zeros first, if the string ends before the offset
    data = bytes(offset - start) + value
    for number in range(start // CHUNK_BYTES, (start + len(data) - 1) // CHUNK_BYTES + 1):
        base = number * CHUNK_BYTES
        row_key = owner + fmt.pack_u32(number)
        skip = max(start - base, 0)
        piece = data[max(base - start, 0) : base + CHUNK_BYTES - start]
        if skip or len(piece) < CHUNK_BYTES:
            old = chunks.get(row_key) or b""
            piece = old[:skip] + piece + old[skip + len(piece) :]
        chunks.put(row_key, piece)
    head = fmt.pack_chunks_head(ident, max(length, offset + len(value)))
    db.put_cell(key, fmt.pack_cell(STRING_CHUNKS, head, fmt.expire_of(cell), fmt.whole_if_long(key)))


def copy(db: Database, cell: bytes, target: Database, new_key: bytes, expire_at_ms: int) -> None:
    """Let `new_key` be a copy of the string whose cell was found. O(log n + length)."""
    put(target, new_key, value_of(db, cell), expire_at_ms)
