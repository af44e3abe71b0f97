"""``lmdbredis restore``: a store from a backup, checked byte for byte, under a name of its own.

Theory. The restored store goes another way than the one it was copied from, so its history gets a new name (replication id): no
replica of the old one goes on with it by mistake.

Laws:

1. Only into a directory that is not there, or empty, and not in the backup: that stays as it was made.
2. It is written so that no server starts on half of it: CONTROL comes first, and a server refuses CONTROL without data.mdb; data.mdb
   gets its name last, when everything is on disk and the checksums are right. (A directory cannot always be renamed into place:
   it may be a mount point.)
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import control_file
from lmdbredis.errors import StorageError

from . import copying, manifest, verify
from .options import refuse_inside
from .sources import lock

if TYPE_CHECKING:
    import argparse

    from .manifest import Manifest, Tell

_PARTIAL: Final = "data.mdb.partial"


def add_parser(commands: Any) -> None:
    """Add the command."""
    made = commands.add_parser(
        "restore", help="make a store from a backup",
        description="Make a store from a backup, checking every byte. The new store is a history of its own: it gets a new replication id. "
        "Its files belong to whoever restores it, as with cp: if that is not the server's user, chown -R them to him.",
        epilog="example: lmdbredis restore /backups/monday -o /var/lib/lmdbredis",
    )  # fmt: skip
    made.add_argument("backup", metavar="BACKUP", type=Path, help="a directory that `lmdbredis backup` made")
    made.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        required=True,
        help="the directory to be made; it may be there, empty",
    )
    made.set_defaults(run=run, json=False)


def run(given: argparse.Namespace) -> int:
    """Restore a backup and say what it held; return the exit status. Raises StorageError, Damaged, OSError."""
    target: Path = given.output.absolute()
    said = manifest.read(given.backup)
    is_new = not target.exists()
    if not is_new and (not target.is_dir() or any(target.iterdir())):
        raise StorageError(f"{given.output} is not empty: a store is restored into a new or empty directory")
    refuse_inside(given.output, given.backup, "backup")
    target.mkdir(parents=True, exist_ok=True)
    lock_fd = lock(target)
    if lock_fd < 0:
        raise StorageError(f"{given.output}: a server, or another restore, has just taken it")
    try:
        with copying.bar("restoring", said.size_bytes) as tell:
            found = _write(given.backup, target, said, tell)
    except BaseException:
        _clear(target, is_new=is_new)
        raise
    finally:
        os.close(lock_fd)
    if found:
        _clear(target, is_new=is_new)
        for fault in found:
            print(f"broken: {fault}")
        print("Nothing was restored: this backup is broken. Use another.")
        return 1
    print(verify.told(said))
    print(f"restored into {given.output}")
    return 0


def _write(backup: Path, target: Path, said: Manifest, tell: Tell) -> list[str]:
    """Write the store, durably; return what is wrong with the backup, empty if the store is whole."""
    found = []
    old = (backup / "CONTROL").read_bytes() if (backup / "CONTROL").exists() else b""
    log = target / "wal"
    log.mkdir()
    copying.write_file(target / "CONTROL", old)  # its sum is compared below; it keeps servers away
    copying.sync_directory(target)
    for name, expected in said.files.items():
        place = {"data.mdb": target / _PARTIAL, "CONTROL": target / "CONTROL.partial"}.get(name, target / name)
        try:
            fd = os.open(backup / name, os.O_RDONLY)
        except FileNotFoundError:
            found.append(f"{name} is missing")
            continue
        try:
            if copying.copy_file(fd, place, tell) != expected:
                found.append(f"{name} is damaged: it is not what was written into the backup")
        finally:
            os.close(fd)
    if found:
        return found
    control = replace(
        control_file.unpack(old), replid=os.urandom(20).hex(), replid2=control_file.NO_REPLID, replid2_lsn=0
    )
    (target / "CONTROL.partial").unlink()
    copying.write_whole(target / "CONTROL", control_file.pack(control))
    copying.sync_directory(log)
    copying.sync_directory(target)
    (target / _PARTIAL).rename(target / "data.mdb")
    copying.sync_directory(target)
    copying.sync_directory(target.parent)
    return verify.compared(target, said, rows=False)


def _clear(target: Path, *, is_new: bool) -> None:
    """Leave nothing behind."""
    for path in target.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if is_new:
        target.rmdir()
