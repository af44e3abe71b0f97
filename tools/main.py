"""The command ``lmdbredis``: check a store, read its log.

Laws: a tool only reads, so it may run beside a server; it says which moment it shows; damage is a line for a person and an
exit status, never a traceback. Exit status: 0 all is well, 1 something is broken, 2 this cannot be read, or wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmdbredis.errors import StorageError

from .check import run_check
from .wal import run_wal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNREADABLE: Final = 2


def _lsn(word: str) -> int:
    """Return the lsn that a word spells: hexadecimal, as in the names of segments and in every message."""
    return int(word, 16)


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition; the README's section is made from it."""
    made = argparse.ArgumentParser(
        prog="lmdbredis", description="Look at a store of lmdbredis, live or cold. Nothing is ever written."
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    check = commands.add_parser(
        "check", help="check every invariant of the store, row by row",
        description="Check every invariant of the newest commit, row by row, and the log after it. Also beside a running server.",
        epilog="example: lmdbredis check /var/lib/lmdbredis",
    )  # fmt: skip
    check.add_argument("directory", metavar="DIR", type=Path, help="the server's directory")
    check.set_defaults(run=lambda given: run_check(given.directory))

    wal = commands.add_parser(
        "wal", help="list the log: segments, records, changed rows",
        description="List the log's segments, and its records with the rows they change.",
        epilog="example: lmdbredis wal ./data --limit 10 --json",
    )  # fmt: skip
    wal.add_argument("directory", metavar="DIR", type=Path, help="the server's directory")
    wal.add_argument(
        "--from",
        dest="from_lsn",
        metavar="LSN",
        type=_lsn,
        help="begin at this record, in hexadecimal (default: the oldest)",
    )
    wal.add_argument("--limit", metavar="N", type=int, help="at most N records (default: all)")
    wal.add_argument("--json", action="store_true", help="one JSON object a line, for programs")
    wal.set_defaults(run=lambda given: run_wal(given.directory, given.from_lsn, given.limit, as_json=given.json))
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    given = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        return run(given)
    except BrokenPipeError:  # `| head`
        sys.stderr.close()
        return 0
    except (StorageError, OSError) as error:
        print(f"lmdbredis: {error}", file=sys.stderr)
        return UNREADABLE


if __name__ == "__main__":
    sys.exit(main())
