"""``lmdbredis verify``: whether a backup is what was written into it, and a store that a server would start on.

Three steps: the checksums of all files; the snapshot can be opened and is the one that the manifest names, with as many keys, and the
log goes on from there to where it says; every invariant of the store, row by row (`lmdbredis.check`), unless that is to be left out.
Rows are read in a child (see `child`).
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmdbredis import format as fmt
from lmdbredis import wal
from lmdbredis.check import check
from lmdbredis.errors import NewerFormat, StorageError
from lmdbredis.snapshots import ReadOnly

from . import manifest
from .child import apart
from .copying import bar
from .view import refuse_newer

if TYPE_CHECKING:
    import argparse

    from .manifest import Manifest


def look(directory: Path, *, rows: bool) -> dict[str, Any]:
    """Return what a copy of a store holds: lsn, txnid, meta_body, keys, end_lsn, newest_record_ms; and the faults, `rows` by row if so wanted.

    Raises StorageError if it cannot be opened, Damaged if the engine does not survive it.
    """
    lock = directory / "lock.mdb"
    was_there = lock.exists()
    try:
        found: dict[str, Any] = apart(partial(_look, directory, rows))
        return found
    finally:
        if not was_there:
            with suppress(OSError):
                lock.unlink()


def _look(directory: Path, rows: bool, _report: object) -> dict[str, Any]:
    reader = ReadOnly(directory)
    refuse_newer(reader)
    copy = reader.copy()
    lsn, txnid, meta_body, keys = copy.lsn, copy.txnid, copy.meta_body.hex(), keys_of(reader)
    faults = check(reader) if rows else []
    copy.close()
    reader.close()
    end_lsn, newest_record_ms = lsn, None
    try:
        if wal.segments(directory / "wal") and not wal.reaches(directory / "wal", lsn):
            faults.append(f"the log does not reach {lsn:016x}, where the snapshot ends")
        for record in wal.read(directory / "wal", lsn):
            end_lsn, newest_record_ms = record.end_lsn, record.time_ms
    except NewerFormat:
        raise
    except StorageError as error:
        faults.append(str(error))
    return {
        "lsn": lsn, "txnid": txnid, "meta_body": meta_body, "keys": keys,
        "end_lsn": end_lsn, "newest_record_ms": newest_record_ms, "faults": faults,
    }  # fmt: skip


def keys_of(reader: ReadOnly) -> dict[str, int]:
    """Return how many keys each database has."""
    row = reader.get(fmt.META, fmt.META_DATABASES)
    keys = {}
    for number, keyspace in sorted(fmt.unpack_databases(row).items() if row is not None else ()):
        counts = reader.get(fmt.META, fmt.META_KEYSPACE + fmt.pack_u32(keyspace))
        if counts is not None and (count := fmt.unpack_keyspace(counts)[0]):
            keys[str(number)] = count
    return keys


def compared(directory: Path, said: Manifest, *, rows: bool) -> list[str]:
    """Return what is wrong with a backup, and with a store that was restored from one. Raises StorageError, Damaged."""
    found = look(directory, rows=rows)
    wrong = list(found["faults"])
    is_as_said = {
        "lsn": f"{found['lsn']:016x}" == said.lsn,
        "txnid": found["txnid"] == said.txnid,
        "keys": found["keys"] == said.keys,
        "end_lsn": f"{found['end_lsn']:016x}" == said.end_lsn,
    }
    wrong += [f"{name} is not what {manifest.NAME} says" for name, is_true in is_as_said.items() if not is_true]
    return wrong


def add_parser(commands: Any) -> None:
    """Add the command."""
    made = commands.add_parser(
        "verify", help="check a backup: checksums, and every invariant of the store in it",
        description="Check a backup: the checksums of its files, and every invariant of the store in it, row by row.",
        epilog="example: lmdbredis verify /backups/monday",
    )  # fmt: skip
    made.add_argument("backup", metavar="BACKUP", type=Path, help="a directory that `lmdbredis backup` made")
    made.add_argument(
        "--quick", action="store_true", help="leave out the rows: checksums, the snapshot and the log only"
    )
    made.set_defaults(run=run, json=False)


def run(given: argparse.Namespace) -> int:
    """Print what is wrong with a backup, or that nothing is; return the exit status."""
    said = manifest.read(given.backup)
    with bar("checksums", said.size_bytes) as tell:
        found = manifest.faults(given.backup, said, tell)
    if not found:
        found = compared(given.backup, said, rows=not given.quick)
    for fault in found:
        print(f"broken: {fault}")
    if found:
        print("This backup is broken: use another, and keep this one for whoever looks into it.")
        return 1
    print(told(said))
    print("ok")
    return 0


def told(said: Manifest) -> str:
    """Return in one line what a backup holds."""
    keys = sum(said.keys.values())
    return f"{said.size_bytes:,} bytes of {said.made_at}: snapshot {said.txnid} at lsn {said.lsn} with {keys:,} keys, and the log to {said.end_lsn}"
