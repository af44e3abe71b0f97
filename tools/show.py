"""How answers look: tables by `rich` on a terminal, plain aligned text in a pipe, and bytes that anybody may have chosen.

Laws:

1. What is not a terminal gets no colours, no frames and no progress.
2. No byte of a key or a value reaches the terminal as it is: what is no printable text is escaped, a backslash too, so the text
   can be read back. JSON holds bytes as text, one character a byte.
3. Lines are written whole: whoever reads them never sees a part of one, even if the process that prints is killed.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.table import Table

SHOWN_BYTES: Final = 200  # of a value, but for --all
_LINES_AT_ONCE: Final = 1000
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def as_text(word: bytes) -> str:
    """Return bytes as JSON holds them."""
    return word.decode("latin-1")


def printable(word: bytes) -> str:
    r"""Return bytes as a line shows them.

    >>> printable("caf\u00e9".encode()), printable(b"\x1b[31m\\"), printable(b"\xff")
    ('café', '\\x1b[31m\\\\', '\\xff')
    """
    text = word.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        char if char.isprintable() and char != "\\" else "\\\\" if char == "\\" else _escaped(char) for char in text
    )


def _escaped(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def short(word: bytes, limit: int | None = SHOWN_BYTES) -> str:
    """Return bytes as a line shows them, cut after `limit` bytes."""
    if limit is None or len(word) <= limit:
        return printable(word)
    return f"{printable(word[:limit])}... ({len(word)} bytes)"


def size(count_bytes: int) -> str:
    """Return a size for a person.

    >>> size(17), size(2048), size(5_000_000_000)
    ('17 B', '2.0 KiB', '4.7 GiB')
    """
    value, unit = float(count_bytes), 0
    while value >= 1024 and unit + 1 < len(_UNITS):
        value, unit = value / 1024, unit + 1
    return f"{count_bytes} B" if not unit else f"{value:.1f} {_UNITS[unit]}"


def lasting(duration_ms: int) -> str:
    """Return a duration for a person.

    >>> lasting(999), lasting(61_000), lasting(90_061_000)
    ('999 ms', '1 min 1 s', '1 d 1 h')
    """
    if duration_ms < 1000:
        return f"{duration_ms} ms"
    rest, parts = duration_ms // 1000, []
    for unit, seconds in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        number, rest = divmod(rest, seconds)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])


def number(value: int) -> str:
    """Return a number with its thousands apart."""
    return f"{value:,}"


def counted(value: int, what: str) -> str:
    """Return how many there are of something.

    >>> counted(1, "key"), counted(2000, "key")
    ('1 key', '2,000 keys')
    """
    return f"{value:,} {what}{'s' * (value != 1)}"


@dataclass
class Sheet:
    """A table of an answer; columns whose names begin with ``>`` hold numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def lines(self) -> list[str]:
        """Return it as plain text, two blanks between columns."""
        cells = [[name.lstrip(">") for name in self.columns], *self.rows]
        widths = [max(len(row[at]) for row in cells) for at in range(len(self.columns))]
        shown = [
            "  ".join(
                cell.rjust(width) if name.startswith(">") else cell.ljust(width)
                for cell, width, name in zip(row, widths, self.columns, strict=True)
            ).rstrip()
            for row in cells
        ]
        return [self.title, *(f"  {line}" for line in shown)]

    def rich(self) -> Table:
        """Return it as `rich` draws it."""
        from rich import box  # noqa: PLC0415 -- a tenth of a second that only a person waits for
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        made = Table(title=Text(self.title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for name in self.columns:
            made.add_column(
                Text(name.lstrip(">")), justify="right" if name.startswith(">") else "left", overflow="fold"
            )
        for row in self.rows:
            made.add_row(*map(Text, row))
        return made


def print_sheets(*sheets: Sheet) -> None:
    """Print tables, as standard output likes them."""
    if not sys.stdout.isatty():
        print("\n".join("\n".join([""] * bool(at) + sheet.lines()) for at, sheet in enumerate(sheets)))
        return
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    for sheet in sheets:
        console.print(sheet.rich())


def print_object(content: dict[str, Any]) -> None:
    """Print a line of JSON."""
    print(json.dumps(content))


def note(text: str) -> None:
    """Tell what is no part of the answer, on standard error."""
    print(text, file=sys.stderr)


class Lines:
    """Standard output for many lines: they are written by the thousand, and always whole (law 3). What was taken is not lost."""

    def __init__(self) -> None:
        self._held: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, line: str) -> None:
        """Take a line."""
        self._held.append(line)
        if len(self._held) == _LINES_AT_ONCE:
            self.flush()

    def add_object(self, content: dict[str, Any]) -> None:
        """Take an object, as a line of JSON."""
        self.add(json.dumps(content))

    def flush(self) -> None:
        """Write what is held. Raises BrokenPipeError if nobody reads it."""
        if self._held:
            sys.stdout.write("\n".join(self._held) + "\n")
            sys.stdout.flush()
            self._held.clear()


@contextmanager
def progress() -> Iterator[Callable[[int, int | None], None] | None]:
    """Show how many rows were read while the block runs, if a person watches; else there is nothing to call."""
    if not (sys.stderr.isatty() and sys.stdout.isatty()):
        yield None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("reading rows", total=None)
        yield lambda rows, total: shown.update(task, completed=rows, total=total)
