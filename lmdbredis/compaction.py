"""Compaction beside the server: a smaller data.mdb, made by somebody else, takes the place of the own one.

Theory. The operator's tool makes a compact copy of a snapshot in ``DIR/compact``, lets it catch up with the log until little is missing,
and says so with a signal (SIGUSR2). The server then exchanges the files as it does with any new state (`install`) and takes what is
missing from its own log, as at a start: that takes milliseconds, and nobody's connection is lost but a replica's, which goes on.

Laws: the log stays where it is, and must reach back to where the copy ends; otherwise nothing is done. It is on disk up to there
before the copy is sealed. A copy is ready when its CONTROL is there, and gone afterwards, whether it was taken or not; what is not
ready is left alone: a signal may come late, of a tool that has withdrawn its copy, while another makes one. Whoever takes data.mdb
out of the place first, the server or the tool that waits no longer, has decided.

It belongs to the server's room: one room, several files.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from lmdbredis import control_file, install, wal
from lmdbredis.errors import DiskFull, StorageError, SyncFailed
from lmdbredis.replication import SYNC

if TYPE_CHECKING:
    from pathlib import Path

    from lmdbredis.server import RedisServer
    from lmdbredis.store import Store

log = logging.getLogger("lmdbredis")


def take(server: RedisServer) -> None:
    """Take a compact copy that is ready. Between batches."""
    store = server.store
    place = install.compact(store.directory)
    if not os.access(place / "CONTROL", os.R_OK):
        log.warning("There is no compact copy of the data that can be taken")
        return
    try:
        control = control_file.unpack((place / "CONTROL").read_bytes())
        if server.role.following is not None and server.role.following.state == SYNC:
            raise StorageError("a snapshot is coming")
        _refuse_if_late(store, control.lsn)
        before = (store.directory / "data.mdb").stat().st_size
        _seal(store, place, control)
        server.exchange()
        after = (server.store.directory / "data.mdb").stat().st_size
        log.info("data.mdb was made compact: it had %d bytes, and has %d", before, after)
    except (StorageError, DiskFull, OSError) as error:
        log.warning("A compact copy of the data was not taken: %s", error)
    except SyncFailed as failure:
        server.die(failure)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _refuse_if_late(store: Store, lsn: int) -> None:
    """Raise StorageError if the log does not lead from the copy to what is here."""
    if store.is_held:
        raise StorageError("checkpoints are held: BACKUP STOP first")
    bases = wal.segments(store.wal.directory)
    if not bases[0] < lsn <= store.wal.end_lsn or not wal.reaches(store.wal.directory, lsn):
        raise StorageError(f"it ends at {lsn:016x}, and the log does not lead from there to here")


def _seal(store: Store, place: Path, control: control_file.Control) -> None:
    """Make the copy the new state. Raises DiskFull, SyncFailed, OSError: then it is not."""
    store.wal.sync()  # the log first: a copy of the newest commit may be ahead of it, and CONTROL will name it
    own = store.control
    fresh = install.begin(store.directory)
    (place / "data.mdb").rename(fresh / "data.mdb")
    (fresh / "wal").rmdir()
    named = replace(control, replid=own.replid, replid2=own.replid2, replid2_lsn=own.replid2_lsn)
    install.seal(store.directory, store.disk, named, None)
