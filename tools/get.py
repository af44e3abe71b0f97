"""``lmdbredis get``: one key of any type, decoded.

Law: a person sees the beginning of long values and of many elements, and that there is more; `--all` and `--json` show everything.
Elements come in the order of their rows, sorted sets by score; they are printed as they are read, so a collection of any size will do.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import format as fmt
from lmdbredis.words import format_entry_id, format_float

from .child import Damaged, apart
from .keys import described
from .options import MISSING, OK, add_command, add_database, add_json, count, name
from .show import SHOWN_BYTES, Lines, as_text, counted, lasting, note, number, printable, short
from .view import View

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from .child import Report
    from .options import Commands

_SHOWN_ELEMENTS: Final = 100
_SHOWN_STRING_BYTES: Final = 2000

Element = dict[str, Any]  # its parts by name: bytes, numbers, or what stands under it


def _id(entry_id: int) -> bytes:
    return format_entry_id(entry_id)


def _string(view: View, cell: bytes, most: int | None) -> bytes:
    """Return a string, the first `most` bytes of it at least. Raises Damaged."""
    if cell[0] & fmt.TYPE_MASK == fmt.STRING:
        return cell[fmt.body_offset(cell) :]
    ident, length = fmt.unpack_chunks_head(cell)
    value = bytearray()
    for _, row in view.rows(fmt.CHUNKS, fmt.pack_u64(ident)):
        value += row
        if most is not None and len(value) >= most:
            return bytes(value)
    _compare(view, length, len(value), "bytes")
    return bytes(value)


def _compare(view: View, said: int, there: int, what: str) -> None:
    """Raise Damaged if a key says other than its rows, which were read to their end at the same moment."""
    if said != there and view.is_one_moment:
        raise Damaged(f"the key says that it has {said} {what}, there are {there}")


def _hash(view: View, owner: bytes, _: bytes) -> Iterator[Element]:
    for key, row in view.rows(fmt.HASHES, owner):
        yield {"field": fmt.field_whole(row) or key[8:], "value": fmt.field_value(row)}


def _set(view: View, owner: bytes, _: bytes) -> Iterator[Element]:
    for key, row in view.rows(fmt.SETS, owner):
        yield {"member": row or key[8:]}


def _list(view: View, owner: bytes, _: bytes) -> Iterator[Element]:
    for index, (_, row) in enumerate(view.rows(fmt.LISTS, owner)):
        yield {"index": index, "element": row}


def _zset(view: View, owner: bytes, _: bytes) -> Iterator[Element]:
    for key, row in view.rows(fmt.SCORES, owner):
        score = fmt.unsortable(key[8:16])
        if not score:  # only the other row tells whether it is -0.0
            other = view.get(fmt.ZSETS, owner + key[16:])
            score = fmt.unpack_f64(other) if other is not None else score
        yield {"score": format_float(score).decode(), "member": row or key[16:]}


def _stream(view: View, owner: bytes, cell: bytes) -> Iterator[Element]:
    for key, row in view.rows(fmt.STREAMS, owner):
        yield {"id": _id(fmt.unpack_entry_id(key)).decode(), "fields": fmt.unpack_entry(row)}


def _groups(view: View, owner: bytes, most: int | None) -> Iterator[Element]:
    """Yield a stream's groups, each with its consumers and what is pending, at most so many, and how many `more` there are."""
    for key, row in view.rows(fmt.GROUPS, owner):
        ident, last, read, pending, consumers, whole = fmt.unpack_group(row)
        yield {
            "group": whole or key[8:],
            "last_id": _id(last).decode(),
            "entries_read": None if read == fmt.UNKNOWN else read,
            "consumers": consumers,
            "pending": pending,
        }
        names = {}
        for consumer_key, consumer_row in view.rows(fmt.CONSUMERS, fmt.pack_u64(ident)):
            consumer, seen_ms, active_ms, owned, whole = fmt.unpack_consumer(consumer_row)
            names[consumer] = whole or consumer_key[8:]
            active = None if active_ms == fmt.UNKNOWN else active_ms
            yield {"consumer": names[consumer], "seen_ms": seen_ms, "active_ms": active, "pending": owned}
        for pending_key, pending_row in islice(view.rows(fmt.PENDING, fmt.pack_u64(ident)), most):
            consumer, delivered_ms, deliveries = fmt.unpack_pending(pending_row)
            yield {
                "pending_id": _id(fmt.unpack_entry_id(pending_key)).decode(),
                "consumer": names.get(consumer, b""),
                "delivered_ms": delivered_ms,
                "deliveries": deliveries,
            }
        if most is not None and pending > most:
            yield {"more": pending - most}


_ELEMENTS: Final[dict[int, Callable[[View, bytes, bytes], Iterator[Element]]]] = {
    fmt.HASH: _hash, fmt.SET: _set, fmt.LIST: _list, fmt.ZSET: _zset, fmt.STREAM: _stream,
}  # fmt: skip


def _as_json(part: Any) -> Any:
    if isinstance(part, bytes):
        return as_text(part)
    return [as_text(word) for word in part] if isinstance(part, list) else part


def _line(element: Element, limit: int | None) -> str:
    """Return an element as a line for a person: its parts two blanks apart, those of groups with their names."""
    is_group = "pending" in element or "pending_id" in element
    shown = []
    for part, held in element.items():
        words = [short(word, limit) for word in held] if isinstance(held, list) else []
        text = (
            " ".join(words)
            if isinstance(held, list)
            else short(held, limit)
            if isinstance(held, bytes)
            else _known(held)
        )
        shown.append(f"{part.replace('_', ' ')} {text}" if is_group else text)
    indent = "  " if not is_group or "group" in element else "    "
    return indent + ("  " if not is_group else ", ").join(shown)


def _known(held: object) -> str:
    return "unknown" if held is None else str(held)


def _head(one: dict[str, Any], now_ms: int) -> str:
    """Return the line above the value."""
    held = counted(one["bytes"], "byte") if "bytes" in one else counted(one["elements"], "element")
    expires = f", expires in {lasting(one['expire_at_ms'] - now_ms)}" if one["expire_at_ms"] else ""
    return f"{short(one['key'].encode('latin-1'))}: {one['type']}, {held}{expires}"


def _get(given: argparse.Namespace, report: Report) -> str | None:
    """Print the key; return the moment, None if there is no such key. Raises StorageError, Damaged, BrokenPipeError. In a child."""
    with View(given.directory, report) as view, Lines() as out:
        cell = view.key(given.db, given.key)
        if cell is None:
            return None
        one = described(given.key, cell)
        is_whole = given.all or given.json
        value = _string(view, cell, None if is_whole else _SHOWN_STRING_BYTES) if "bytes" in one else b""
        if one["type"] == "stream":
            one["last_id"] = _id(fmt.unpack_head(cell)[4]).decode()
        if given.json:
            more = {"value": as_text(value)} if "bytes" in one else {}
            out.add_object(one | more | {"as_of": view.moment().as_object()})
        else:
            out.add(_head(one, view.now_ms))
        if "elements" in one:
            _print_elements(view, cell, one, given, out)
        elif not given.json:
            text = printable(value if given.all else value[:_SHOWN_STRING_BYTES])
            is_cut = not given.all and one["bytes"] > _SHOWN_STRING_BYTES
            out.add(f"  {text}{'... --all shows the rest' * is_cut}")
        return str(view.moment())


def _print_elements(view: View, cell: bytes, one: dict[str, Any], given: argparse.Namespace, out: Lines) -> None:
    """Print the elements of a collection, as many as are wanted, and the groups of a stream. Raises Damaged."""
    owner = fmt.pack_u64(fmt.unpack_head(cell)[0])
    limit = None if given.all else SHOWN_BYTES
    most = given.limit if given.limit is not None or given.all or given.json else _SHOWN_ELEMENTS
    shown = 0
    for element in islice(_ELEMENTS[cell[0] & fmt.TYPE_MASK](view, owner, cell), most):
        _print(element, given, out, limit)
        shown += 1
    if most is None or shown < most:
        _compare(view, one["elements"], shown, "elements")
    elif shown < one["elements"] and not given.json:
        out.add(f"  ... {number(one['elements'] - shown)} more: --all shows them")
    if one["type"] == "stream":
        for element in _groups(view, owner, most):
            if "more" not in element:
                _print(element, given, out, limit)
            elif not given.json:
                out.add(f"    ... {number(element['more'])} more: --all shows them")


def _print(element: Element, given: argparse.Namespace, out: Lines, limit: int | None) -> None:
    if given.json:
        out.add_object({part: _as_json(held) for part, held in element.items()})
    else:
        out.add(_line(element, limit))


def run_get(given: argparse.Namespace) -> int:
    """Print the key; return the exit status. Raises StorageError, Damaged."""
    told = apart(partial(_get, given))
    if told is None:
        note(f"lmdbredis: there is no key {printable(given.key)} in database {given.db}")
        return MISSING
    if not given.json:
        note(told)
    return OK


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    made = add_command(
        commands, "get", "show one key of any type, decoded", "lmdbredis get ./data user:1 --all", run_get,
        "What is no printable text is escaped, the moment goes to standard error. Exit status 3 if there is no such key.",
    )  # fmt: skip
    made.add_argument("key", metavar="KEY", type=name, help="the key")
    add_database(made)
    made.add_argument(
        "--limit",
        metavar="N",
        type=count,
        help="at most N elements, and N that are pending in each group of a stream (default: 100, with --json all)",
    )
    made.add_argument("--all", action="store_true", help="whole values, all elements")
    add_json(made, "an object a line, the first for the key, then one for each element")
