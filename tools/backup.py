"""``lmdbredis backup``: a copy of a store, live or cold, that a server starts on; all of it or nothing.

Theory. A backup is a directory as a server has it: data.mdb with one snapshot, CONTROL that names it, and the log from there on. So
its state is that of the log's end: everything that was acknowledged before the backup began is in it, and of each batch all or
nothing. `backup.json` says what it is (`manifest`).

Laws:

1. It is made as ``DEST.partial``, checked there, put on disk, and only then renamed to ``DEST``: whenever the process is killed, there is
   no ``DEST``. The next backup to the same place clears the remains away.
2. The source is not touched, and its server neither waits nor holds checkpoints: only the snapshot's pages are not reused meanwhile.
3. Where the bytes come from is one class (`sources`, `remote`); everything else is the same for all.
4. What is found in the copy is what was copied, else there is no backup. Beside a server that is restarted meanwhile it is made again.
"""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import control_file, wal
from lmdbredis import format as fmt
from lmdbredis.config import VERSION
from lmdbredis.errors import StorageError

from . import copying, manifest, verify
from .options import refuse_inside
from .sources import Restarted, lock, open_source

if TYPE_CHECKING:
    import argparse

    from .sources import Source

_TRIES: Final = 3  # a server that is restarted more often has other troubles
# What a backup consists of while it is made.
_OURS: Final = frozenset({"data.mdb", "lock.mdb", "CONTROL", "LOCK", "wal", manifest.NAME, manifest.NAME + copying.NEW})


def add_parser(commands: Any) -> None:
    """Add the command."""
    made = commands.add_parser(
        "backup", help="copy a store, beside its running server, from elsewhere, or cold",
        description="Make a copy of a store, also beside its running server, which goes on. It is checked before it gets its name; "
        "a server can be started on it, or on what `restore` makes of it.",
        epilog="example: lmdbredis backup /var/lib/lmdbredis /backups/monday",
    )  # fmt: skip
    made.add_argument(
        "source",
        metavar="DIR|HOST:PORT",
        help="the server's directory, or where it listens (its password: REDISCLI_AUTH)",
    )
    made.add_argument("target", metavar="DEST", type=Path, help="the directory to be made")
    made.add_argument("--compact", action="store_true", help="leave out free pages: smaller, and slower to make")
    made.add_argument(
        "--quick", action="store_true", help="check the copy's snapshot and log, but not its rows one by one"
    )
    made.set_defaults(run=run, json=False)


def run(given: argparse.Namespace) -> int:
    """Make a backup and say what it holds; return the exit status. Raises StorageError, Damaged, OSError."""
    target: Path = given.target.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StorageError(f"{given.target} is there already")
    store = Path(given.source)
    if (store / "data.mdb").exists():
        refuse_inside(given.target, store, "store")
    copying.step_back()
    for tries in range(1, _TRIES + 1):
        try:
            found = _backup(given, target)
            break
        except Restarted:
            if tries == _TRIES:
                raise
    if found["faults"]:
        for fault in found["faults"]:
            print(f"broken: {fault}")
        print(f"No backup was made: {given.source} is broken. Keep it, and restore the last good backup.")
        return 1
    print(verify.told(manifest.read(target)))
    print(
        f"copied in {found['copied_s']:.2f} s, checked in {found['checked_s']:.2f} s{' but for the rows' if given.quick else ''}"
    )
    return 0


def _backup(given: argparse.Namespace, target: Path) -> dict[str, Any]:
    """Make the backup and return what was found in it; nothing is left if there are faults. Raises StorageError, Damaged, OSError; Restarted."""
    source = open_source(given.source)
    partial = target.with_name(f"{target.name}.partial")
    try:
        lock_fd = _begin(partial)
        try:
            found = _make(source, partial, compact=given.compact, rows=not given.quick)
            if found["faults"]:
                shutil.rmtree(partial)
                return found
            (partial / "LOCK").unlink()
            copying.sync_directory(partial)
            partial.rename(target)
            copying.sync_directory(target.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            os.close(lock_fd)
    finally:
        source.close()
    return found


def _begin(partial: Path) -> int:
    """Make the directory to write into, the remains of a killed backup cleared away; return its lock. Raises StorageError."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    if partial.exists():
        if not partial.is_dir() or {path.name for path in partial.iterdir()} - _OURS:
            raise StorageError(f"{partial} is in the way: remove it")
        lock_fd = lock(partial)
        if lock_fd < 0:
            raise StorageError(f"{partial}: another backup is being made there")
        os.close(lock_fd)
        shutil.rmtree(partial)
    partial.mkdir()
    return lock(partial)


def _make(source: Source, partial: Path, *, compact: bool, rows: bool) -> dict[str, Any]:
    """Write all files of a backup, put them on disk, and return what was found in them. Raises StorageError, Damaged, OSError."""
    began_s = time.monotonic()
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    log = partial / "wal"
    log.mkdir()
    files = {}
    with copying.bar("copying", source.size_bytes or None) as tell:
        target = copying.Target(partial / "data.mdb")
        try:
            source.write_data(target, log, tell, compact=compact)
            source.write_log(log, tell)
            files["data.mdb"] = target.close()
        finally:
            target.abandon()
    copied_s = time.monotonic()
    found = verify.look(partial, rows=rows)
    found["faults"] += _compared(source, found)
    if not wal.segments(log):
        copying.write_file(wal.segment_path(log, found["lsn"]), fmt.pack_segment_header(found["lsn"]))
    for base in wal.segments(log):
        path = wal.segment_path(log, base)
        files[f"wal/{path.name}"] = _entry(path)
    control = control_file.Control(
        source.replid, lsn=found["lsn"], txnid=found["txnid"], meta_body=bytes.fromhex(found["meta_body"])
    )
    files["CONTROL"] = copying.write_file(partial / "CONTROL", control_file.pack(control))
    said = manifest.Manifest(
        made_at, f"lmdbredis {VERSION}", source.replid, f"{found['lsn']:016x}", found["txnid"], f"{found['end_lsn']:016x}",
        found["newest_record_ms"], found["keys"], files,
    )  # fmt: skip
    copying.sync_directory(log)
    copying.write_whole(partial / manifest.NAME, said.text().encode())
    return found | {"copied_s": copied_s - began_s, "checked_s": time.monotonic() - copied_s}


def _compared(source: Source, found: dict[str, Any]) -> list[str]:
    """Return what is wrong if the copy shows another snapshot than the one that was copied (law 4)."""
    txnid = found["txnid"] if source.txnid is None else source.txnid
    if (found["lsn"], found["txnid"]) == (source.lsn, txnid):
        return []
    return [
        f"the copy shows snapshot {found['txnid']} at lsn {found['lsn']:016x}, though snapshot {txnid} at lsn {source.lsn:016x} was copied"
    ]


def _entry(path: Path) -> dict[str, Any]:
    """Return what the manifest says of a file that stands already."""
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        return manifest.entry(size, manifest.sum_of(fd, 0, size, 0))
    finally:
        os.close(fd)
