"""The command ``lmdbredis``: look at a store, live or cold; back it up, restore it, compact it.

Laws: what looks at a store only reads, so it may run beside a server; it says which moment it shows; only the table of readers and LOCK
are made, where they are missing. What writes says so, and writes all or nothing. What is made in a store is its owner's, whoever runs
this (`lmdbredis.ownership`). Damage is a line for a person and an exit status, never a traceback. Exit status: see `options`;
130 if it was interrupted, be it while its modules were still loaded.

Each command is a module with `add_parser(commands)`; this one is the list of them, and the one place where they end.
"""

from __future__ import annotations

import sys

_INTERRUPTED = 130  # as a shell says it
try:
    import argparse
    import io
    import json
    import os
    from typing import TYPE_CHECKING, Final

    from lmdbredis.config import VERSION
    from lmdbredis.errors import MORE_BY_CHECK, StorageError

    from . import backup, bigkeys, check, compact, get, keys, restore, stats, verify, wal
    from .child import Damaged, plain
    from .options import BROKEN, OK, UNREADABLE
except KeyboardInterrupt:  # a tenth of a second is long enough for it, and nobody has called `main` yet
    sys.exit(_INTERRUPTED)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_STANDARD_ERROR: Final = 2
MODULES = (stats, keys, bigkeys, get, check, wal, backup, verify, restore, compact)  # in the order of the help


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition; the README's section is made from it."""
    made = argparse.ArgumentParser(
        prog="lmdbredis",
        description="Look at a store of lmdbredis, live or cold; back it up, restore it, compact it. Only backup, restore and compact write anything; "
        "lock.mdb and LOCK, if they are missing, are made for the owner of data.mdb.",
        epilog="exit status: 0 all is well, 1 something is broken, 2 it cannot be read, or wrong usage, 3 there is no such key",
    )
    made.add_argument("--version", action="version", version=f"lmdbredis {VERSION}")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in MODULES:
        module.add_parser(commands)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    try:
        return _run(argv)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(argv: Sequence[str] | None) -> int:
    """Read the command line and do what it says; return the exit status."""
    _mend_streams()
    given = parser().parse_args(argv)
    try:
        status = _status(given)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `| head`
        _let_output_go()
        return OK
    except OSError as error:
        print(f"lmdbredis: {plain(error)}", file=sys.stderr)
        _let_output_go()  # the disk behind it may be full
        return UNREADABLE


def _status(given: argparse.Namespace) -> int:
    """Run a command and say how it ended; return its exit status. Raises OSError."""
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        return run(given)
    except Damaged as error:
        hint = "" if given.command in {"wal", "verify", "restore"} else MORE_BY_CHECK
        print(json.dumps({"broken": str(error)}) if getattr(given, "json", False) else f"broken: {error}{hint}")
        return BROKEN
    except StorageError as error:
        print(f"lmdbredis: {error}", file=sys.stderr)
        return UNREADABLE


def _mend_streams() -> None:
    """Let a terminal that has not all characters show those it lacks escaped, and what was closed (`>&-`) lead nowhere.

    A file that is opened later must not get the number of standard output.
    """
    if None in {sys.stdin, sys.stdout, sys.stderr}:
        while (fd := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
            pass
        os.close(fd)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # standard error does so by itself


def _let_output_go() -> None:
    """Write what was printed; where that is not possible, let it lead nowhere, or the end of the process would fail at it."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
