"""``lmdbredis keys``: the keys that a glob matches, in their order, found by the part of it that is literal."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import format as fmt
from lmdbredis import pattern as glob

from .child import apart
from .options import OK, add_command, add_database, add_json, count, name
from .show import Lines, as_text, counted, lasting, note, printable, size
from .view import TYPE_NAMES, View

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from .child import Report
    from .options import Commands

_LONG_WIDTHS: Final = (8, 14, 12)


def found(view: View, database: int, pattern: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, cell) of the keys that match, in the order of rows. Raises Damaged."""
    prefix = view.prefix(database)
    if prefix is None:
        return
    literal = glob.literal_prefix(pattern)
    if glob.matches(pattern, literal) and not glob.matches(pattern, literal + b"\0"):  # it names one key
        cell = view.key(database, literal)
        if cell is not None:
            yield literal, cell
        return
    is_match = glob.compile(pattern)
    for row_key, cell in view.rows(fmt.KEYS, prefix + literal[: fmt.PREFIX_BYTES]):
        key = fmt.whole_of(cell) or row_key[4:]
        if is_match(key) and not 0 < fmt.expire_of(cell) <= view.now_ms:
            yield key, cell


def described(key: bytes, cell: bytes) -> dict[str, Any]:
    """Return what a key's cell says, as JSON can hold it: type, time of expiry, bytes of a string or elements."""
    kind = cell[0] & fmt.TYPE_MASK
    content = {"key": as_text(key), "type": TYPE_NAMES[kind], "expire_at_ms": fmt.expire_of(cell) or None}
    if kind == fmt.STRING:
        return content | {"bytes": len(cell) - fmt.body_offset(cell)}
    if kind == fmt.STRING_CHUNKS:
        return content | {"bytes": fmt.unpack_chunks_head(cell)[1]}
    return content | {"elements": fmt.unpack_head(cell)[1]}


def _long(key: bytes, one: dict[str, Any], now_ms: int) -> str:
    """Return a line with all that the cell says."""
    held = size(one["bytes"]) if "bytes" in one else counted(one["elements"], "element")
    left = lasting(one["expire_at_ms"] - now_ms) if one["expire_at_ms"] else "-"
    cells = (text.ljust(width) for text, width in zip((one["type"], held, left), _LONG_WIDTHS, strict=True))
    return f"{'  '.join(cells)}  {printable(key)}"


def _list(given: argparse.Namespace, report: Report) -> str:
    """Print the keys; return the moment. Raises StorageError, Damaged, BrokenPipeError. In a child."""
    shown = 0
    with View(given.directory, report) as view, Lines() as out:
        for key, cell in found(view, given.db, given.pattern):
            if shown == given.limit:
                break
            shown += 1
            if given.json:
                out.add_object(described(key, cell))
            elif given.long:
                out.add(_long(key, described(key, cell), view.now_ms))
            else:
                out.add(printable(key))
        moment = view.moment()
        if given.json:
            out.add_object({"as_of": moment.as_object(), "keys": shown})
        return f"{counted(shown, 'key')} {moment}"


def run_keys(given: argparse.Namespace) -> int:
    """Print the keys; return the exit status. Raises StorageError, Damaged."""
    told = apart(partial(_list, given))
    if not given.json:
        note(told)
    return OK


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    made = add_command(
        commands, "keys", "list the keys that a pattern matches", "lmdbredis keys ./data 'user:*' --long --limit 10", run_keys,
        "The pattern is Redis's glob; what it begins with literally is looked up, not searched for. What is no printable text "
        "is escaped, the moment goes to standard error.",
    )  # fmt: skip
    made.add_argument("pattern", metavar="PATTERN", type=name, help="the glob; '*' is every key")
    add_database(made)
    made.add_argument("--limit", metavar="N", type=count, help="at most N keys (default: all)")
    made.add_argument("-l", "--long", action="store_true", help="with type, size and time to live")
    add_json(made, "an object a line for each key, and a last one with the moment")
