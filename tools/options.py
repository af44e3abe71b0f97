"""Words of the command line that several commands share: the directory, a database's number, JSON; and what a status means.

Law: an option has one name and one meaning in all commands.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmdbredis.errors import StorageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

OK: Final = 0
BROKEN: Final = 1  # something in the store is not what it must be
UNREADABLE: Final = 2  # there is no store, it cannot be opened, or the command line is wrong
MISSING: Final = 3  # all is well, but there is no such key

# What `int` takes as well is a slip here: signs, spaces, underscores, digits of other scripts, and more than any lsn or C's numbers hold.
_LSN: Final = re.compile(r"[0-9A-Fa-f]{1,16}")
_COUNT: Final = re.compile(r"[0-9]{1,18}")

Commands = Any  # what argparse's add_subparsers returns: it has no public name


def refuse_no_store(directory: Path) -> None:
    """Raise StorageError if there is no store in the directory, OSError if nobody lets us look."""
    try:
        (directory / "data.mdb").stat()
    except (FileNotFoundError, NotADirectoryError):
        raise StorageError(f"{directory} is not a store: there is no data.mdb in it") from None


def refuse_nothing_to_copy(directory: Path) -> None:
    """Raise StorageError if there is no store in the directory, or an empty file, of which the engine would make one. Raises OSError."""
    refuse_no_store(directory)
    if not (directory / "data.mdb").stat().st_size:
        raise StorageError(f"{directory}: data.mdb is empty")


def refuse_inside(target: Path, source: Path, kind: str) -> None:
    """Raise StorageError if `target`, by whatever name, is in the directory that it is to be made from. Raises OSError."""
    # `Path.resolve` would end with a RuntimeError at a link that leads to itself.
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(source)):
        raise StorageError(f"{target} is inside the {kind}: make it elsewhere")


def lsn(word: str) -> int:
    """Return the lsn that a word spells: hexadecimal, as in the names of segments and in every message. Raises ValueError."""
    if not _LSN.fullmatch(word):
        raise ValueError(word)
    return int(word, 16)


def count(word: str) -> int:
    """Return the number that a word spells. Raises ValueError."""
    if not _COUNT.fullmatch(word):
        raise ValueError(word)
    return int(word)


def name(word: str) -> bytes:
    """Return the bytes that the shell gave."""
    return os.fsencode(word)


def add_command(
    commands: Commands, name: str, summary: str, example: str, run: Callable[[argparse.Namespace], int], more: str = ""
) -> argparse.ArgumentParser:
    """Add a command that takes DIR first; `more` is told by its own help only. Return its parser, for what else it takes."""
    begins = f"{summary[0].upper()}{summary[1:]}."
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{begins} {more}".rstrip(), epilog=f"example: {example}"
    )
    made.add_argument("directory", metavar="DIR", type=Path, help="the server's directory")
    made.set_defaults(run=run)
    return made


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --json; `what` says what is printed then."""
    parser.add_argument(
        "--json", action="store_true", help=f"for programs: {what}; bytes as text, one character a byte"
    )


def add_database(parser: argparse.ArgumentParser, *, default: int | None = 0) -> None:
    """Add -n DB; without a default it means all of them."""
    told = "all" if default is None else str(default)
    parser.add_argument(
        "-n", "--db", metavar="DB", type=count, default=default, help=f"the database's number (default: {told})"
    )
