"""``lmdbredis wal``: the log's segments and records, decoded."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lmdbredis import format as fmt
from lmdbredis import wal
from lmdbredis.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def run_wal(directory: Path, from_lsn: int | None, limit: int | None, *, as_json: bool) -> int:
    """Print the log from `from_lsn` on, at most `limit` records; return the exit status. Raises StorageError for a damaged log."""
    log = directory / "wal"
    bases = wal.segments(log) if log.is_dir() else []
    if not bases:
        raise StorageError(f"{directory} holds no log: there are no segments in {log}")
    if not as_json:
        for base in bases:
            print(f"segment {base:016x}  {wal.segment_path(log, base).stat().st_size} bytes")
    start = bases[0] if from_lsn is None else from_lsn
    for number, record in enumerate(wal.read(log, start)):
        if number == limit:
            break
        print(json.dumps(_as_object(record)) if as_json else "\n".join(_as_lines(record)))
    return 0


def _as_object(record: wal.Record) -> dict[str, object]:
    """Return a record as JSON can hold it: bytes as text, one character a byte."""
    tables = {
        fmt.TABLE_NAMES[number].decode(): {
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
    moment = datetime.fromtimestamp(record.time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    yield f"{record.lsn:016x}  {moment}  {record.end_lsn - record.lsn} bytes"
    for number, rows in fmt.unpack_write_set(record.payload).items():
        name = fmt.TABLE_NAMES[number].decode()
        for key, row in rows.items():
            yield f"    {name:10} delete {key!r}" if row is None else f"    {name:10} put    {key!r} = {len(row)} bytes"


def _text(word: bytes) -> str:
    return word.decode("latin-1")
