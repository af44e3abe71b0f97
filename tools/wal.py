"""``lmdbredis wal``: the log's segments and records, decoded."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis import wal
from lmdbredis.errors import StorageError
from lmdbredis.words import format_entry_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_TRIES: Final = 5  # a log that is being written may look torn for a moment
_PAUSE_S: Final = 0.05
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


def records(log: Path, from_lsn: int) -> Iterator[wal.Record]:
    """Yield the records from address `from_lsn` on, also of a log that is being written. Raises StorageError for damage."""
    at, tries = from_lsn, 0
    while True:
        try:
            for record in wal.read(log, at):
                at, tries = record.end_lsn, 0
                yield record
            return
        except StorageError:
            tries += 1
            if tries == _TRIES:
                raise
            time.sleep(_PAUSE_S)


def run_wal(directory: Path, from_lsn: int | None, limit: int | None, *, as_json: bool) -> int:
    """Print the log from `from_lsn` on, at most `limit` records; return the exit status: 1 if the log is damaged.

    `from_lsn` need not be a record's address. Raises StorageError if there is no log, or none that old.
    """
    log = directory / "wal"
    bases = wal.segments(log) if log.is_dir() else []
    if not bases:
        raise StorageError(f"{directory} holds no log: there are no segments in {log}")
    start = bases[0] if from_lsn is None else from_lsn
    if start < bases[0]:
        raise StorageError(f"the log begins at {bases[0]:016x}, after {start:016x}")
    if not as_json:
        for base in bases:
            print(f"segment {base:016x}  {wal.segment_path(log, base).stat().st_size} bytes")
    shown, end_lsn = 0, bases[-1] + fmt.SEGMENT_HEADER_BYTES
    control = directory / "CONTROL"
    try:
        safe_lsn = fmt.unpack_control(control.read_bytes()).lsn if control.exists() else 0
        for record in records(log, max(base for base in bases if base <= start)):
            end_lsn = record.end_lsn
            if record.lsn < start:
                continue
            if shown == limit:
                return 0
            shown += 1
            print(json.dumps(_as_object(record)) if as_json else "\n".join(_as_lines(record)))
        if end_lsn < safe_lsn:
            raise StorageError(
                f"the log is damaged at {end_lsn:016x}: CONTROL says that it was safe up to {safe_lsn:016x}"
            )
    except StorageError as error:
        print(json.dumps({"broken": str(error)}) if as_json else f"broken: {error}")
        return 1
    return 0


def _as_object(record: wal.Record) -> dict[str, object]:
    """Return a record as JSON can hold it: bytes as text, one character a byte."""
    tables = {
        _table(number): {
            "put": {_text(key): _text(row) for key, row in rows.items() if row is not None},
            "delete": [_text(key) for key, row in rows.items() if row is None],
        }
        for number, rows in fmt.unpack_write_set(record.payload).items()
    }
    return {
        "lsn": f"{record.lsn:016x}",
        "end_lsn": f"{record.end_lsn:016x}",
        "time_ms": record.time_ms,
        "tables": tables,
    }


def _as_lines(record: wal.Record) -> Iterator[str]:
    """Yield a record as lines for a person."""
    try:
        moment = datetime.fromtimestamp(record.time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        moment = f"{record.time_ms} ms"
    yield f"{record.lsn:016x}  {moment}  {record.end_lsn - record.lsn} bytes"
    for number, rows in fmt.unpack_write_set(record.payload).items():
        name = _table(number)
        for key, row in rows.items():
            change = "delete" if row is None else "put   "
            yield f"    {name:10} {change} {readable(number, key)}" + (
                "" if row is None else f" = {_value(number, key, row)}"
            )


def readable(table: int, key: bytes) -> str:
    r"""Return what a row's key says.

    >>> readable(fmt.KEYS, bytes(4) + b"user:1")
    "keyspace 0, b'user:1'"
    >>> readable(fmt.SCORES, fmt.pack_u64(7) + fmt.sortable(1.5) + b"ann")
    "id 7, 1.5, b'ann'"
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
            return f"{_table(key[0])}, {owner}, block {_short(key[5 if key[0] == fmt.KEYS else 9 :])}"
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
        return repr(key)


def _value(table: int, key: bytes, row: bytes) -> str:
    """Return what a row's value says."""
    try:
        if table == fmt.META and key.startswith(fmt.META_KEYSPACE):
            keys, volatile, _, _ = fmt.unpack_keyspace(row)
            return f"{keys} keys, {volatile} with a TTL"
        if table == fmt.META:
            return str(fmt.unpack_databases(row)) if key == fmt.META_DATABASES else str(int.from_bytes(row, "big"))
        if table == fmt.KEYS and row:
            kind = row[0] & fmt.TYPE_MASK
            expiry = f", expires at {fmt.expire_of(row)} ms" if fmt.expire_of(row) else ""
            if kind == fmt.STRING:
                return f"string {_short(row[fmt.body_offset(row) :])}{expiry}"
            if kind == fmt.STRING_CHUNKS:
                ident, length = fmt.unpack_chunks_head(row)
                return f"{_KINDS[kind]}, id {ident}, {length} bytes{expiry}"
            ident, count, *_ = fmt.unpack_head(row)
            return f"{_KINDS[kind]}, id {ident}, {count} elements{expiry}"
        if table == fmt.HASHES and row:
            return _short(fmt.field_value(row))
        if table == fmt.ZSETS:
            return repr(fmt.unpack_f64(row))
        if table == fmt.COUNTS:
            return f"{fmt.unpack_u32(row)} rows"
        if table in _STREAM_VALUES and row:
            return _STREAM_VALUES[table](row)
    except (fmt.UnpackError, IndexError, KeyError, ValueError):
        pass
    return _short(row)


def _entry_id(entry_id: int) -> str:
    return format_entry_id(entry_id).decode()


def _group(row: bytes) -> str:
    ident, last, read, pending, consumers, _ = fmt.unpack_group(row)
    return (
        f"group, id {ident}, delivered up to {_entry_id(last)}, {read} read, {pending} pending, {consumers} consumers"
    )


def _consumer(row: bytes) -> str:
    ident, seen_ms, active_ms, pending, _ = fmt.unpack_consumer(row)
    return f"consumer, id {ident}, seen at {seen_ms} ms, active at {active_ms} ms, {pending} pending"


def _pending(row: bytes) -> str:
    consumer, delivered_ms, deliveries = fmt.unpack_pending(row)
    return f"consumer's id {consumer}, delivered at {delivered_ms} ms, {deliveries} times"


_STREAM_VALUES: Final[dict[int, Callable[[bytes], str]]] = {
    fmt.STREAMS: lambda row: " ".join(map(_short, fmt.unpack_entry(row))),
    fmt.GROUPS: _group,
    fmt.CONSUMERS: _consumer,
    fmt.PENDING: _pending,
}


def _table(number: int) -> str:
    name = fmt.TABLE_NAMES.get(number)
    return name.decode() if name is not None else f"number {number}"


def _short(word: bytes) -> str:
    return repr(word) if len(word) <= _SHOWN_BYTES else f"{word[:_SHOWN_BYTES]!r}... ({len(word)} bytes)"


def _text(word: bytes) -> str:
    return word.decode("latin-1")
