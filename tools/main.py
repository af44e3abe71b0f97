"""The command ``lmdbredis``: look at a store, live or cold; back it up, restore it, compact it.

Laws: what looks at a store only reads, so it may run beside a server; it says which moment it shows; what writes says so, and writes
all or nothing; damage is a line for a person and an exit status, never a traceback. Exit status: see `options`.

Each command is a module with `add_parser(commands)`; this one is the list of them, and the one place where they end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from lmdbredis.errors import StorageError

from . import backup, bigkeys, check, compact, get, keys, restore, stats, verify, wal
from .child import Damaged
from .options import BROKEN, INTERRUPTED, OK, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MODULES = (stats, keys, bigkeys, get, check, wal, backup, verify, restore, compact)  # in the order of the help


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition; the README's section is made from it."""
    made = argparse.ArgumentParser(
        prog="lmdbredis",
        description="Look at a store of lmdbredis, live or cold; back it up, restore it, compact it. Only the last three write anything.",
        epilog="exit status: 0 all is well, 1 something is broken, 2 it cannot be read, or wrong usage, 3 there is no such key",
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in MODULES:
        module.add_parser(commands)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    given = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        status = run(given)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Damaged as error:
        hint = "" if given.command in {"wal", "verify", "restore"} else "; `lmdbredis check DIR` tells more"
        print(json.dumps({"broken": str(error)}) if getattr(given, "json", False) else f"broken: {error}{hint}")
        return BROKEN
    except (StorageError, OSError) as error:
        print(f"lmdbredis: {error}", file=sys.stderr)
        return UNREADABLE
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
