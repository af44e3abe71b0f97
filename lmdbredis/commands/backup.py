"""BACKUP: hold checkpoints, so that the directory can be copied with cp, rsync or a volume snapshot. Ours: no Redis has it.

What a hold is stands in `holds`; it is made and ended by the upkeep. Who asks for one waits until the checkpoint that it begins with
is on disk, as BLPOP waits for an element: nobody else does.
"""

from __future__ import annotations

from typing import Any, Final

from lmdbredis.blocking import Wait
from lmdbredis.errors import HOLD_BEGINS, HOLD_BROKEN, HOLD_ENDED, HOLD_NAME, HOLD_NONE, HOLD_TAKEN, ReplyError
from lmdbredis.holds import Stage
from lmdbredis.registry import ADMIN, NO_MULTI, NOSCRIPT, Context, command, container
from lmdbredis.resp import OK

_FLAGS: Final = ADMIN | NOSCRIPT | NO_MULTI


@container("BACKUP", help_since="0.2.0")
def backup(cx: Context) -> None:
    """BACKUP -- A container for the commands that let the directory be copied. Ours. Since 0.2.0."""


@command("BACKUP|START", flags=_FLAGS)
def backup_start(cx: Context, name: bytes = b"") -> Any:
    """BACKUP START [name] -- Makes a checkpoint and holds all others until BACKUP STOP, but not longer than backup-hold-max: meanwhile any copy of the directory is whole. O(N) where N is the number of rows that have changed since the last checkpoint. Since 0.2.0."""
    executor = cx.executor
    hold = executor.hold
    if not all(33 <= byte <= 126 for byte in name):
        raise ReplyError(HOLD_NAME)
    if executor.refusal is not None:
        raise ReplyError(executor.refusal)
    if hold.is_on and not hold.is_broken(executor.store):
        raise ReplyError(HOLD_TAKEN % hold.called())
    session = cx.session
    hold.begin(name, session, cx.now_ms)
    executor.if_undone.append(hold.forget)
    raise Wait((), 0, 0, None)


@command("BACKUP|STOP", flags=_FLAGS)
def backup_stop(cx: Context) -> Any:
    """BACKUP STOP -- Lets checkpoints be made again; an error says that the hold has ended by itself and the copy may not be whole. O(1). Since 0.2.0."""
    executor = cx.executor
    hold = executor.hold
    if not hold.is_on:
        raise ReplyError(HOLD_ENDED % hold.ended if hold.ended else HOLD_NONE)
    if hold.stage is Stage.BEGINNING:
        raise ReplyError(HOLD_BEGINS)
    if hold.is_broken(executor.store):  # and the upkeep has not seen it yet
        raise ReplyError(HOLD_ENDED % HOLD_BROKEN)
    cx.session.pauses = True
    executor.after_batch.append(lambda: hold.end(executor.store))
    return OK


@command("BACKUP|STATUS", flags=_FLAGS)
def backup_status(cx: Context) -> dict[bytes, Any]:
    """BACKUP STATUS -- Tells whether checkpoints are held, for whom, since when (seconds since 1970) and how long at most, what the copy will have at least, and why the last hold ended if it did by itself. O(1). Since 0.2.0."""
    hold = cx.executor.hold
    return {
        b"state": hold.stage.value.encode(),
        b"name": hold.name,
        b"since": hold.since_ms // 1000,
        b"seconds_left": hold.left_ms // 1000,
        b"lsn": hold.lsn,
        b"ended": hold.ended.encode(),
    }
