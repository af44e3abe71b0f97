"""``lmdbredis bigkeys``: the biggest keys of each type, by bytes and by elements.

Theory. One walk over the keys finds the most elements, for the heads say them, and which ids are of keys that are there. A walk
over the elements sums up the bytes under each id; only the biggest are remembered. Whose they are, a second walk over the keys
tells.

Laws:

1. Bytes are those of all rows of a key, keys and values of rows together, as in `stats`. Nothing is sampled.
2. Memory is bounded by the number of collections (some four bytes each), and of streams with consumer groups.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from heapq import heappush, heappushpop
from itertools import compress
from operator import add
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import format as fmt

from .child import apart
from .options import OK, add_command, add_database, add_json, count
from .owners import Numbers, by_tag, heads, parts, times
from .show import Sheet, as_text, number, print_object, print_sheets, progress, short, size
from .view import TYPE_NAMES, View

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from .child import Report
    from .options import Commands

_CHUNK_KEY_BYTES: Final = 12
_TYPES: Final = {fmt.LIST: fmt.LISTS, fmt.SET: fmt.SETS, fmt.ZSET: fmt.ZSETS, fmt.HASH: fmt.HASHES}


class _Top:
    """The greatest of what is put in."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[int, Any]] = []
        self.least = 0

    def put(self, figure: int, what: Any) -> None:
        """Put something in; what has less than `least` need not be."""
        if len(self._heap) < self._most:
            heappush(self._heap, (figure, what))
        elif self._most:
            heappushpop(self._heap, (figure, what))
        if len(self._heap) == self._most and self._most:
            self.least = self._heap[0][0] + 1

    def get(self) -> list[tuple[int, Any]]:
        """Return (figure, what), the greatest first."""
        return sorted(self._heap, key=lambda one: (-one[0], one[1]))


class Big:
    """The three walks over one database."""

    def __init__(self, view: View, prefix: bytes, most: int) -> None:
        self._view = view
        self._prefix = prefix
        self._most = most
        self._is_there = Numbers()  # the type, for ids of keys that are there
        self._bytes = {kind: _Top(most) for kind in (*_TYPES, fmt.STREAM)}  # of ids
        self._strings = _Top(most)
        self._elements = {kind: _Top(most) for kind in (*_TYPES, fmt.STREAM)}

    def find(self) -> dict[str, Any]:
        """Return the biggest keys by type: by bytes, and by elements. O(rows). Raises Damaged."""
        self._walk_keys()
        for kind, table in _TYPES.items():
            self._walk_elements(kind, table, Counter())
        self._walk_elements(fmt.STREAM, fmt.STREAMS, self._groups())
        names = self._names()
        answer: dict[str, Any] = {}
        for kind, elements in self._elements.items():
            by_bytes = [
                {"key": as_text(names[ident][0]), "bytes": figure + names[ident][1], "elements": names[ident][2]}
                for figure, ident in self._bytes[kind].get()
                if ident in names
            ]
            by_elements = [{"key": as_text(key), "elements": figure} for figure, key in elements.get()]
            answer[TYPE_NAMES[kind]] = {"by_bytes": by_bytes, "by_elements": by_elements}
        answer["string"] = {
            "by_bytes": [{"key": as_text(key), "bytes": figure} for figure, key in self._strings.get()],
            "by_elements": [],
        }
        return answer

    def _walk_keys(self) -> None:
        now_ms = self._view.now_ms
        for all_keys, all_cells in self._view.slices(fmt.KEYS, self._prefix):
            for tag, (cells, keys) in by_tag(all_cells, all_keys):
                expire_at_ms = times(tag, cells)
                if expire_at_ms and min(expire_at_ms) <= now_ms:
                    there = [time_ms > now_ms for time_ms in expire_at_ms]
                    keys, cells = list(compress(keys, there)), list(compress(cells, there))
                self._take(
                    tag & fmt.TYPE_MASK, heads(tag, cells) if tag & fmt.TYPE_MASK != fmt.STRING else (), keys, cells
                )

    def _take(self, kind: int, found: tuple[int, ...], keys: Sequence[bytes], cells: Sequence[bytes]) -> None:
        """Take keys of one type; `found` is what their heads say."""
        if kind in {fmt.STRING, fmt.STRING_CHUNKS}:
            top, figures = self._strings, list(map(add, map(len, keys), map(len, cells)))
            for at, length in enumerate(found[1::2]):
                figures[at] += length - (-length // fmt.CHUNK_BYTES) * _CHUNK_KEY_BYTES
        else:
            top, figures = self._elements[kind], list(found[1::2])
            self._is_there.put(found[::2], kind)
        for key, cell, figure in zip(keys, cells, figures, strict=True) if max(figures, default=0) >= top.least else ():
            if figure >= top.least:
                top.put(figure, fmt.whole_of(cell) or key[4:])

    def _walk_elements(self, kind: int, table: int, more: Counter[int]) -> None:
        """Sum up the bytes of each collection, and what `more` says of it.

        Those of sorted sets count twice: a row of `zset.score` has as many bytes as one of `zset`.
        """
        ident, total, tables = 0, 0, 2 if kind == fmt.ZSET else 1
        for idents, sizes in parts(self._view, table, self._is_there):
            for following, found, size_bytes in zip(idents, self._is_there.get_many(idents), sizes, strict=True):
                if found != kind:
                    continue
                if following != ident and total:
                    self._bytes[kind].put(total * tables + more.pop(ident, 0), ident)
                    total = 0
                ident, total = following, total + size_bytes
        if total:
            self._bytes[kind].put(total * tables + more.pop(ident, 0), ident)
        for ident, total in more.items():  # streams without an entry
            self._bytes[kind].put(total, ident)

    def _groups(self) -> Counter[int]:
        """Return the bytes of groups, consumers and pending entries by the id of their stream."""
        totals: Counter[int] = Counter()
        stream_of: dict[int, int] = {}  # by the id of a group, of a consumer
        for key, row in self._view.rows(fmt.GROUPS, b""):
            stream = fmt.unpack_u64(key)
            if self._is_there.get(stream) == fmt.STREAM:
                stream_of[fmt.unpack_u64(row)] = stream
                totals[stream] += len(key) + len(row)
        for table in (fmt.CONSUMERS, fmt.PENDING, fmt.OWNED):
            for key, row in self._view.rows(table, b""):
                owner = stream_of.get(fmt.unpack_u64(key))
                if owner is not None:
                    totals[owner] += len(key) + len(row)
                    if table == fmt.CONSUMERS:
                        stream_of[fmt.unpack_u64(row)] = owner
        return totals

    def _names(self) -> dict[int, tuple[bytes, int, int]]:
        """Return (key, bytes of its own row, elements) by the id, of those that are the biggest by bytes."""
        wanted = {ident for top in self._bytes.values() for _, ident in top.get()}
        names = {}
        for all_keys, all_cells in self._view.slices(fmt.KEYS, self._prefix) if wanted else ():
            for tag, (cells, keys) in by_tag(all_cells, all_keys):
                if tag & fmt.TYPE_MASK not in self._bytes:
                    continue
                found = heads(tag, cells)
                for ident, elements, key, cell in zip(found[::2], found[1::2], keys, cells, strict=True):
                    if ident in wanted:
                        names[ident] = (fmt.whole_of(cell) or key[4:], len(key) + len(cell), elements)
        return names


def look(directory: Path, database: int, most: int, report: Report) -> dict[str, Any]:
    """Return the whole answer. Raises StorageError, Damaged. In a child."""
    with View(directory, report, is_walk=True) as view:
        prefix = view.prefix(database)
        answer = {} if prefix is None else Big(view, prefix, most).find()
        return {"db": database, "types": answer, "as_of": view.moment().as_object(), "moment": str(view.moment())}


def run_bigkeys(given: argparse.Namespace) -> int:
    """Print the answer; return the exit status. Raises StorageError, Damaged."""
    found = apart(partial(look, given.directory, given.db, given.top), progress)
    told = found.pop("moment")
    if given.json:
        print_object(found)
        return OK
    print(told)
    for kind, tops in found["types"].items():
        sheets = []
        if tops["by_bytes"]:
            rows = [
                (size(one["bytes"]), number(one["elements"]) if "elements" in one else "", _shown(one["key"]))
                for one in tops["by_bytes"]
            ]
            sheets.append(Sheet(f"{kind}: the most bytes", (">bytes", ">elements", "key"), rows))
        if tops["by_elements"]:
            counts = [(number(one["elements"]), _shown(one["key"])) for one in tops["by_elements"]]
            sheets.append(Sheet(f"{kind}: the most elements", (">elements", "key"), counts))
        if sheets:
            print()
            print_sheets(*sheets)
    return OK


def _shown(key: str) -> str:
    return short(key.encode("latin-1"))


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    made = add_command(
        commands, "bigkeys", "show the biggest keys of each type", "lmdbredis bigkeys ./data --top 3", run_bigkeys,
        "By bytes, those of all rows of a key, and by elements; exact, from a walk over all rows.",
    )  # fmt: skip
    add_database(made)
    made.add_argument("--top", metavar="N", type=count, default=10, help="how many of each type (default: 10)")
    add_json(made, "one object")
