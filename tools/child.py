"""Work that reads pages runs in a child: the engine trusts its pages, so a damaged one may end the process that reads it.

Theory. The child is forked before anything of the store is open, or it shares one snapshot that its parent holds and only reads it. It may print its answer for itself; what it returns, and how far it
is, come to the parent through a pipe, a JSON text a line. The parent owns the terminal: it draws the progress, and it is
there to say how the child ended.

Laws:

1. Whatever ends the child, the parent goes on with a verdict: what the work returned, StorageError if there is nothing that
   could be read, OSError if the system does not let it, or `Damaged` with a line for a person.
2. Nobody is left alone: if the parent is gone, the child ends with its next report.
3. Of what the parent has open the child has only its standard streams: a lock that a killed parent had is free at once.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final, TextIO

from lmdbredis.errors import NewerFormat, StorageError

_REPORT_S: Final = 0.1  # between two reports


class Damaged(Exception):
    """The store can be opened, but what it holds is not what it must be: a line for a person."""


# How the work may end by an exception: what the pipe calls it. The first that fits.
_ENDINGS: Final[dict[str, type[Exception]]] = {
    "pipe": BrokenPipeError,
    "system": OSError,
    "newer": NewerFormat,
    "refusal": StorageError,
    "damage": Damaged,
}


def plain(error: Exception) -> str:
    """Return what an error says, for a person: of the system's errors the file and the reason, without its number.

    >>> plain(PermissionError(13, "Permission denied", "data/wal")), plain(OSError(28, "No space left on device")), plain(OSError("no"))
    ('data/wal: Permission denied', 'No space left on device', 'no')
    """
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"


class Report:
    """What the work tells while it runs: how many rows were read since it told last."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._rows = 0
        self._total: int | None = None
        self._due_s = 0.0

    def expect(self, rows: int) -> None:
        """Tell how many rows there will be."""
        self._total = rows

    def __call__(self, rows: int) -> None:
        """Take note of so many rows more."""
        self._rows += rows
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + _REPORT_S
            self._send({"rows": self._rows, "total": self._total})


Told = Callable[
    [int, "int | None"], None
]  # called with the number of rows that were read so far, and of all where that is known


def apart(
    work: Callable[[Report], Any], progress: Callable[[], AbstractContextManager[Told | None]] = nullcontext
) -> Any:
    """Do the work in a child and return what it returns, which JSON must be able to hold.

    `progress` is entered after the fork, since it may start threads. Raises StorageError and OSError as the work does,
    BrokenPipeError if nobody reads what it prints, and Damaged.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        with suppress(BaseException):
            os.close(receiver)
            os.closerange(3, sender)  # what the parent holds, locks among it, ends with the parent (law 3)
            os.closerange(sender + 1, os.sysconf("SC_OPEN_MAX"))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where the engine gives up, it says so here in its own way
            with os.fdopen(sender, "w", encoding="utf-8") as file:
                _work(work, file)
        os._exit(0)  # whatever happened: what was not sent is missed by the parent
    os.close(sender)
    ending: dict[str, Any] = {}
    try:
        with os.fdopen(receiver, encoding="utf-8") as file, progress() as told:
            for line in file:
                ending = json.loads(line) if line.endswith("\n") else {}
                if told is not None and "rows" in ending:
                    told(ending["rows"], ending["total"])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if "result" in ending:
        return ending["result"]
    for name, kind in _ENDINGS.items():
        if name in ending:
            raise kind(ending[name])
    if "fault" in ending:
        raise Damaged(f"data.mdb: rows that cannot be decoded ({ending['fault']})")
    how = signal.Signals(-status).name if status < 0 else "it ended without a word"
    raise Damaged(f"data.mdb: the engine did not survive its pages ({how})")


def _work(work: Callable[[Report], Any], file: TextIO) -> None:
    """Do the work and send how it ended. In the child."""
    gc.disable()  # rows come by the million and hold no cycles

    def send(message: dict[str, Any]) -> None:
        file.write(json.dumps(message) + "\n")
        file.flush()

    try:
        result = work(Report(send))
        sys.stdout.flush()
        send({"result": result})
    except Exception as error:  # noqa: BLE001 - rows that cannot be decoded: any of them, and never a traceback
        with suppress(OSError):
            sys.stdout.flush()  # what came before
        for name, kind in _ENDINGS.items():
            if isinstance(error, kind):
                send({name: plain(error)})
                return
        send({"fault": f"{type(error).__name__}: {error}"})
