"""Holds: checkpoints that wait because somebody copies the directory: BACKUP START and STOP.

Theory. A directory may be copied file by file, in any order and however long that takes, if three things stand still meanwhile:
the snapshot that CONTROL names, CONTROL itself, and the log from that snapshot on, but for what is appended. So a hold is begun
by a checkpoint, and then no sync begins, CONTROL is not written and no segment is removed. A start on the copy does what a start
after a crash does: it goes back to that snapshot and takes the log from there, as far as the copy has it. Nor is anything
committed: data.mdb does not change at all, until so much waits in memory that it must (`store.Store.begin_commit`); even then the
snapshot's pages are pinned, so the copy is as good.

Laws:

1. Nobody waits for a hold but who asks for it: the checkpoint is made by the upkeep, step by step, and then he is answered.
2. A hold ends by itself: at the time limit, on a full disk (a checkpoint may be what makes room), and when a checkpoint is made
   that cannot wait. Why it ended is kept, and STOP says it: the copy may not be whole.
3. Who is gone before his hold is on, holds nothing.

It knows no clock: times are told, in ms; `since_ms` is wall clock, everything else is of a clock that never jumps.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmdbredis.session import Session
    from lmdbredis.store import Store


class Stage(Enum):
    """How far a hold is."""

    NONE = "none"
    BEGINNING = "beginning"  # its checkpoint is being made
    HELD = "held"


class Hold:
    """The hold that is on, if one is."""

    def __init__(self) -> None:
        self.stage = Stage.NONE
        self.name = b""
        self.session: Session | None = None  # who waits for it to be on
        self.since_ms = 0  # epoch: when it was asked for
        self.lsn = 0  # the checkpoint has the log up to here, or will have
        self.left_ms = 0  # until it ends by itself, when it was looked at last
        self.ended = ""  # why the last one ended by itself; empty: it was stopped
        self._began_ms = 0  # 0 = nobody has told the time yet

    @property
    def is_on(self) -> bool:
        """Tell whether checkpoints wait, or soon will."""
        return self.stage is not Stage.NONE

    def is_broken(self, store: Store) -> bool:
        """Tell whether a checkpoint was made all the same."""
        return self.stage is Stage.HELD and not store.is_held

    def called(self) -> str:
        """Return the name as it stands in an error, empty if there is none."""
        return f" ({self.name.decode()})" if self.name else ""

    def begin(self, name: bytes, session: Session, now_ms: int) -> None:
        """Let a hold begin, for a session that waits for it."""
        self.stage, self.name, self.session, self.since_ms = Stage.BEGINNING, name, session, now_ms
        self.lsn, self._began_ms, self.left_ms, self.ended = 0, 0, 0, ""

    def forget(self) -> None:
        """Be none, before anything was done for it."""
        self.stage, self.name, self.session, self.since_ms = Stage.NONE, b"", None, 0

    def end(self, store: Store, why: str = "") -> None:
        """Let checkpoints be made again; `why`, if nobody asked for that."""
        self.forget()
        self.lsn, self.left_ms, self.ended = 0, 0, why
        store.end_hold()

    def begin_anew(self) -> None:
        """Make the checkpoint of another store, which has taken the place of the one that was here, if none was made: addresses are others."""
        if self.stage is Stage.BEGINNING:
            self.lsn = 0

    def is_over(self, clock_ms: int, limit_ms: int) -> bool:
        """Tell whether it has lasted longer than it may."""
        self._began_ms = self._began_ms or clock_ms
        self.left_ms = max(self._began_ms + limit_ms - clock_ms, 0)
        return not self.left_ms

    def advance(self, store: Store) -> bool:
        """Take a step towards the checkpoint it begins with; tell whether that is made. Raises DiskFull, SyncFailed."""
        store.is_held = True  # from now on no other commit begins
        self.lsn = self.lsn or store.wal.end_lsn  # everything that was acknowledged before
        if store.is_committing:
            return False
        if store.committed_lsn < self.lsn:
            store.begin_commit(is_held_back=False)
            return False
        if store.is_syncing or (store.control.lsn < self.lsn and store.begin_sync()):
            return False
        store.hold()
        self.stage, self.session, self.lsn = Stage.HELD, None, store.control.lsn
        return True
