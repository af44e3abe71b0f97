"""What a row of any sub-database says, as a line for a person.

Law: whatever the bytes are, there is a text: what does not have the layout that `format` gives is shown as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis.words import format_entry_id

from .show import counted, short
from .view import table_name

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN_BYTES: Final = 60
_KINDS: Final = {
    fmt.STRING: "string",
    fmt.STRING_CHUNKS: "string in chunks",
    fmt.LIST: "list",
    fmt.SET: "set",
    fmt.ZSET: "zset",
    fmt.HASH: "hash",
    fmt.STREAM: "stream",
}


def readable(table: int, key: bytes) -> str:
    r"""Return what a row's key says.

    >>> readable(fmt.KEYS, bytes(4) + b"user:1")
    'keyspace 0, user:1'
    >>> readable(fmt.SCORES, fmt.pack_u64(7) + fmt.sortable(1.5) + b"ann")
    'id 7, 1.5, ann'
    >>> readable(fmt.LISTS, fmt.pack_u64(7) + fmt.pack_u64(255))
    'id 7, position 0xff'
    """
    try:
        if table == fmt.META:
            prefix = fmt.META_KEYSPACE
            return f"{prefix.decode()} {fmt.unpack_u32(key, len(prefix))}" if key.startswith(prefix) else key.decode()
        if table == fmt.KEYS:
            return f"keyspace {fmt.unpack_u32(key)}, {_short(key[4:])}"
        if table == fmt.EXPIRES:
            return f"at {fmt.unpack_u64(key)} ms, keyspace {fmt.unpack_u32(key, 8)}, {_short(key[12:])}"
        if table == fmt.GARBAGE:
            return f"keyspace {fmt.unpack_u32(key)}" if len(key) == 4 else f"id {fmt.unpack_u64(key)}"
        if table == fmt.COUNTS:
            owner = f"keyspace {fmt.unpack_u32(key, 1)}" if key[0] == fmt.KEYS else f"id {fmt.unpack_u64(key, 1)}"
            return f"{table_name(key[0])}, {owner}, block {_short(key[5 if key[0] == fmt.KEYS else 9 :])}"
        ident, rest = fmt.unpack_u64(key), key[8:]
        if table == fmt.LISTS:
            return f"id {ident}, position {fmt.unpack_u64(rest):#x}"
        if table == fmt.CHUNKS:
            return f"id {ident}, chunk {fmt.unpack_u32(rest)}"
        if table == fmt.SCORES:
            return f"id {ident}, {fmt.unsortable(rest[:8])!r}, {_short(rest[8:])}"
        if table in {fmt.STREAMS, fmt.PENDING} or (table == fmt.OWNED and rest):
            return f"id {ident}, entry {_entry_id(fmt.unpack_entry_id(key))}"
        return f"id {ident}, {_short(rest)}"
    except (fmt.UnpackError, IndexError, UnicodeDecodeError):
        return _short(key)


def value(table: int, key: bytes, row: bytes) -> str:
    """Return what a row's value says."""
    try:
        if table == fmt.META and key.startswith(fmt.META_KEYSPACE):
            keys, volatile, _, _ = fmt.unpack_keyspace(row)
            return f"{counted(keys, 'key')}, {volatile} with a TTL"
        if table == fmt.META:
            return str(fmt.unpack_databases(row)) if key == fmt.META_DATABASES else str(int.from_bytes(row, "big"))
        if table == fmt.KEYS and row:
            kind = row[0] & fmt.TYPE_MASK
            expiry = f", expires at {fmt.expire_of(row)} ms" if fmt.expire_of(row) else ""
            if kind == fmt.STRING:
                return f"string {_short(row[fmt.body_offset(row) :])}{expiry}"
            if kind == fmt.STRING_CHUNKS:
                ident, length = fmt.unpack_chunks_head(row)
                return f"{_KINDS[kind]}, id {ident}, {counted(length, 'byte')}{expiry}"
            ident, count, *_ = fmt.unpack_head(row)
            return f"{_KINDS[kind]}, id {ident}, {counted(count, 'element')}{expiry}"
        if table == fmt.HASHES and row:
            return _short(fmt.field_value(row))
        if table == fmt.ZSETS:
            return repr(fmt.unpack_f64(row))
        if table == fmt.COUNTS:
            return counted(fmt.unpack_u32(row), "row")
        if table in _STREAM_VALUES and row:
            return _STREAM_VALUES[table](row)
    except (fmt.UnpackError, IndexError, KeyError, ValueError):
        pass
    return _short(row)


def _entry_id(entry_id: int) -> str:
    return format_entry_id(entry_id).decode()


def _group(row: bytes) -> str:
    ident, last, read, pending, consumers, _ = fmt.unpack_group(row)
    delivered = f"delivered up to {_entry_id(last)}, {_known(read)} read"
    return f"group, id {ident}, {delivered}, {pending} pending, {counted(consumers, 'consumer')}"


def _consumer(row: bytes) -> str:
    ident, seen_ms, active_ms, pending, _ = fmt.unpack_consumer(row)
    return f"consumer, id {ident}, seen at {seen_ms} ms, active at {_known(active_ms)} ms, {pending} pending"


def _pending(row: bytes) -> str:
    consumer, delivered_ms, deliveries = fmt.unpack_pending(row)
    return f"consumer's id {consumer}, delivered at {delivered_ms} ms, {counted(deliveries, 'time')}"


_STREAM_VALUES: Final[dict[int, Callable[[bytes], str]]] = {
    fmt.STREAMS: lambda row: " ".join(map(_short, fmt.unpack_entry(row))),
    fmt.GROUPS: _group,
    fmt.CONSUMERS: _consumer,
    fmt.PENDING: _pending,
}


def _known(number: int) -> str:
    return "unknown" if number == fmt.UNKNOWN else str(number)


def _short(word: bytes) -> str:
    return short(word, _SHOWN_BYTES) if word else "(empty)"
