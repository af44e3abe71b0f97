"""``lmdbredis compact``: data.mdb without its free pages, in order, so that it is as small as what it holds.

Theory. LMDB gives pages back to itself, never to the file system: after much was deleted the file stays large. A compact copy of the
newest snapshot is made beside it, with the same log, and takes its place as any other new state does (`install`).

Laws:

1. Only for a store that no server has: it is locked as by a server, and closed in order first, as a server would (what was killed is
   recovered). The form for a running server is not there yet; whoever asks for it is told so.
2. Whenever the process is killed there is the old state or the new one, and the next start works; it clears away what is left over.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmdbredis import control_file, install
from lmdbredis.disk import Disk
from lmdbredis.errors import DiskFull, StorageError, SyncFailed
from lmdbredis.snapshots import ReadOnly
from lmdbredis.store import Store

from . import copying, verify
from .sources import lock, write_compact

if TYPE_CHECKING:
    import argparse


def add_parser(commands: Any) -> None:
    """Add the command."""
    made = commands.add_parser(
        "compact", help="make data.mdb of a stopped store as small as what it holds",
        description="Write data.mdb anew without its free pages, and put it in the place of the old one. The server must be stopped; "
        "meanwhile the disk needs room for both.",
        epilog="example: lmdbredis compact /var/lib/lmdbredis",
    )  # fmt: skip
    made.add_argument("directory", metavar="DIR", type=Path, help="the server's directory")
    made.set_defaults(run=run, json=False)


def run(given: argparse.Namespace) -> int:
    """Compact a store and say what that gained; return the exit status. Raises StorageError, OSError."""
    directory: Path = given.directory
    if not (directory / "data.mdb").exists():
        raise StorageError(f"{directory} is not a store: there is no data.mdb in it")
    lock_fd = lock(directory)
    if lock_fd < 0:
        raise StorageError(
            f"{directory} belongs to a running server: stop it first. To compact beside a running server is not there yet; "
            "`lmdbredis backup --compact` makes a compact copy beside one"
        )
    os.close(lock_fd)
    try:
        Store(directory, os.urandom(20).hex()).close()  # in order: one snapshot has everything
        lock_fd = lock(directory)
        if lock_fd < 0:
            raise StorageError(f"a server was started on {directory} meanwhile")
        try:
            before, after = compact(directory, Disk())
        finally:
            os.close(lock_fd)
    except (DiskFull, SyncFailed) as error:
        raise StorageError(f"{directory} was not compacted: {error}") from error
    print(f"data.mdb had {before:,} bytes, and has {after:,}")
    return 0


def compact(directory: Path, disk: Disk) -> tuple[int, int]:
    """Make the data file of a locked store that was closed in order compact; return its size before and after.

    Raises StorageError, OSError, DiskFull, SyncFailed: then nothing has changed, or the next start does the rest.
    """
    copying.step_back()
    data = directory / "data.mdb"
    control = control_file.unpack((directory / "CONTROL").read_bytes())
    place = install.begin(directory)
    try:
        reader = ReadOnly(directory)
        target = copying.Target(place / "data.mdb")
        try:
            expected = (reader.txnid, reader.lsn, verify.keys_of(reader))
            with copying.bar("compacting", data.stat().st_size) as tell:
                write_compact(reader, target, tell)
            target.close()
        finally:
            target.abandon()
            reader.close()
        for path in (directory / "wal").iterdir():
            os.link(path, place / "wal" / path.name)
        found = verify.look(place, rows=False)
        if (control.txnid, found["lsn"], found["keys"]) != expected or found["faults"]:
            raise StorageError(
                f"{directory}: the copy is not what it was made from, so nothing was done. `lmdbredis check` tells more"
            )
        shutil.copymode(data, place / "data.mdb")
        before, after = data.stat().st_size, (place / "data.mdb").stat().st_size
        install.seal(
            directory, disk, replace(control, txnid=found["txnid"], meta_body=bytes.fromhex(found["meta_body"])), None
        )
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    install.finish(directory, disk)
    return before, after
