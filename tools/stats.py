"""``lmdbredis stats``: what a store holds, by sub-database, database, type, prefix of the key, and time to live.

Theory. Keys stand in order, so those with one prefix are a run: found by bisection, counted and summed by the run, not one by
one. Of a cell only the tag, the time of expiry and the head are decoded. Elements' rows lead back to their key by the id
(`owners`). All figures are exact; nothing is sampled.

Laws:

1. Memory is bounded by the number of collections (some four bytes each) and of prefixes that are told apart: beyond
   `PREFIXES_MAX` those with the fewest keys and elements are one line.
2. Bytes are those of a key's rows, keys and values together, elements included. Not included, and shown by sub-database: the rows
   that find keys and elements (expires, counts), and the engine's pages around all of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from functools import partial
from itertools import compress
from operator import add
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import control_file, wal
from lmdbredis import format as fmt
from lmdbredis.table import after_prefix

from .child import apart
from .options import OK, add_command, add_database, add_json, count, name
from .owners import UNDER_IDS, Numbers, by_tag, heads, parts, times
from .show import Sheet, as_text, counted, number, print_object, print_sheets, printable, progress, size
from .view import TYPE_NAMES, View, table_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from .child import Report
    from .options import Commands

PREFIXES_MAX: Final = 10_000
_PREFIX_END: Final = 4 + fmt.PREFIX_BYTES  # of a long key no more stands in its row's key as it is
_NOBODY, _EXPIRED, _OTHERS = 0, 1, 2  # numbers of owners that are no prefix
_SPANS: Final = (
    ("less than a minute", 60_000),
    ("less than an hour", 3_600_000),
    ("less than a day", 86_400_000),
    ("less than a week", 7 * 86_400_000),
    ("less than 30 days", 30 * 86_400_000),
    ("longer", 1 << 63),
)
_TYPE_OF: Final = {
    fmt.HASHES: "hash", fmt.SETS: "set", fmt.LISTS: "list", fmt.ZSETS: "zset", fmt.SCORES: "zset", fmt.CHUNKS: "string",
}  # fmt: skip


class _Tally:
    """What the keys of a type or of a prefix add up to."""

    __slots__ = ("bytes", "elements", "keys")

    def __init__(self) -> None:
        self.keys = self.elements = self.bytes = 0

    def add(self, keys: int, elements: int, size_bytes: int) -> None:
        self.keys += keys
        self.elements += elements
        self.bytes += size_bytes

    def as_object(self) -> dict[str, int]:
        return {"keys": self.keys, "elements": self.elements, "bytes": self.bytes}


class Stats:
    """The walk over all keys and elements of some databases."""

    def __init__(self, view: View, delimiter: bytes, databases: Sequence[int]) -> None:
        self._view = view
        self._delimiter = delimiter
        self._databases = {prefix: one for one in databases if (prefix := view.prefix(one)) is not None}
        self._bounds_ms = [view.now_ms + span_ms for _, span_ms in _SPANS]
        self._numbers = Numbers()
        self.types = {one: _Tally() for one in sorted(set(TYPE_NAMES.values()))}
        self.expired = _Tally()
        self.nobody_bytes = 0  # of flushed databases, and under ids that no key leads to
        self.spans: Counter[int] = Counter()  # by number in _SPANS
        self.volatile = 0
        self.by_name: dict[tuple[int, bytes], int] = {}  # (database, prefix; empty = none) -> number
        self.prefixes: dict[int, _Tally] = {_OTHERS: _Tally()}
        self.merged = 0  # prefixes that were given to _OTHERS
        self._next_number = _OTHERS + 1
        self._floor = 0  # prefixes with so many keys and elements were given to _OTHERS

    def walk(self) -> None:
        """Walk everything. O(rows). Raises Damaged, and whatever rows raise that cannot be decoded."""
        for keys, cells in self._view.slices(fmt.KEYS):
            self._take_keys(keys, cells)
        for table in UNDER_IDS:
            totals: defaultdict[int, int] = defaultdict(int)
            for idents, sizes in parts(self._view, table, self._numbers):
                for owner, size_bytes in zip(self._numbers.get_many(idents), sizes, strict=True):
                    totals[owner] += size_bytes
            self.nobody_bytes += totals.pop(_NOBODY, 0)
            self.expired.bytes += totals.pop(_EXPIRED, 0)
            self.types[_TYPE_OF.get(table, "stream")].bytes += sum(totals.values())
            for owner, size_bytes in totals.items():
                (self.prefixes.get(owner) or self.prefixes[_OTHERS]).bytes += size_bytes

    def _take_keys(self, keys: Sequence[bytes], cells: Sequence[bytes]) -> None:
        """Cut a slice into databases."""
        at = 0
        while at < len(keys):
            keyspace = keys[at][:4]
            end = len(keys) if keys[-1][:4] == keyspace else bisect_left(keys, after_prefix(keyspace), at)
            sizes = list(map(add, map(len, keys[at:end]), map(len, cells[at:end])))
            database = self._databases.get(keyspace)
            if database is None:
                self.nobody_bytes += sum(sizes)
            else:
                self._take_database(database, keys[at:end], cells[at:end], sizes)
            at = end

    def _take_database(
        self, database: int, keys: Sequence[bytes], cells: Sequence[bytes], sizes: Sequence[int]
    ) -> None:
        """Take keys of one database: those that have expired apart from the others."""
        groups = list(by_tag(cells, range(len(keys)), sizes))
        gone = bytearray(len(keys))
        for tag, (its_cells, indexes, _) in groups:
            expire_at_ms = times(tag, its_cells)
            if expire_at_ms and min(expire_at_ms) <= self._view.now_ms:
                for index in compress(indexes, [time_ms <= self._view.now_ms for time_ms in expire_at_ms]):
                    gone[index] = 1
        if any(gone):
            dead_cells, dead_sizes = list(compress(cells, gone)), list(compress(sizes, gone))
            dead = by_tag(dead_cells, range(len(dead_cells)), dead_sizes)
            for its, _ in self._heads(dead, [0] * len(dead_cells), self.expired):
                self._numbers.put(its, _EXPIRED)
            there = [not one for one in gone]
            keys, cells, sizes = list(compress(keys, there)), list(compress(cells, there)), list(compress(sizes, there))
            groups = list(by_tag(cells, range(len(keys)), sizes)) if keys else []
        elements = [0] * len(keys)
        idents = self._heads(groups, elements, None)
        owners = self._owners(database, keys, sizes, elements)
        for its, indexes in idents:
            self._numbers.put_each(its, map(owners.__getitem__, indexes))

    def _heads(
        self, groups: Iterable[tuple[int, list[Sequence[Any]]]], elements: list[int], only: _Tally | None
    ) -> list[tuple[Sequence[int], Sequence[int]]]:
        """Add keys up by type, or into `only`, and take note of each one's elements; return (ids, indexes of their keys)."""
        idents: list[tuple[Sequence[int], Sequence[int]]] = []
        for tag, (cells, indexes, sizes) in groups:
            kind, count = tag & fmt.TYPE_MASK, 0
            if kind != fmt.STRING:
                found = heads(tag, cells)
                idents.append((found[::2], indexes))
                if kind != fmt.STRING_CHUNKS:
                    count = sum(found[1::2])
                    for index, one in zip(indexes, found[1::2], strict=True):
                        elements[index] = one
            (only or self.types[TYPE_NAMES[kind]]).add(len(cells), count, sum(sizes))
            if only is None and tag & fmt.HAS_EXPIRE:
                self.volatile += len(cells)
                self.spans.update(map(partial(bisect_right, self._bounds_ms), times(tag, cells)))
        return idents

    def _owners(self, database: int, keys: Sequence[bytes], sizes: Sequence[int], elements: Sequence[int]) -> list[int]:
        """Cut keys into runs of one prefix, add those up, and return the number of each key's prefix."""
        owners: list[int] = []
        at, end, delimiter = 0, len(keys), self._delimiter
        while at < end:
            key = keys[at]
            cut = key.find(delimiter, 4, _PREFIX_END) + len(delimiter)
            following = at + 1
            if cut < 4:  # none: up to the next key that has one
                cut = 4
                while following < end and keys[following].find(delimiter, 4, _PREFIX_END) < 0:
                    following += 1
            elif keys[-1].startswith(key[:cut]):
                following = end
            elif keys[following].startswith(key[:cut]):
                following = bisect_left(keys, after_prefix(key[:cut]), following)
            weight = sum(elements[at:following])
            count, size_bytes = following - at, sum(sizes[at:following])
            if count + weight <= self._floor and at > 0 and following < end and cut > 4:
                owner = _OTHERS  # it is complete, and would be among those with the fewest
                self.merged += 1
            else:
                owner = self._number((database, key[4:cut]))
            self.prefixes[owner].add(count, weight, size_bytes)
            owners += [owner] * count
            at = following
        return owners

    def _number(self, prefix: tuple[int, bytes]) -> int:
        """Return the number of a prefix, which may be new."""
        owner = self.by_name.get(prefix)
        if owner is None:
            owner = self.by_name[prefix] = self._next_number
            self.prefixes[owner] = _Tally()
            self._next_number += 1
            if len(self.prefixes) > 2 * PREFIXES_MAX:
                self._merge(owner)
        return owner

    def _merge(self, current: int) -> None:
        """Give the prefixes with the fewest keys and elements to the others (law 1); the current one is not complete yet."""
        weights = {owner: self.prefixes[owner].keys + self.prefixes[owner].elements for owner in self.by_name.values()}
        names = {owner: prefix for prefix, owner in self.by_name.items()}
        order = sorted(weights, key=weights.__getitem__)
        for owner in order[: len(order) - PREFIXES_MAX]:
            if owner != current and names[owner][1]:
                tally = self.prefixes.pop(owner)
                self.prefixes[_OTHERS].add(tally.keys, tally.elements, tally.bytes)
                del self.by_name[names[owner]]
                self.merged += 1
                self._floor = max(self._floor, weights[owner])

    def as_object(self, top: int) -> dict[str, Any]:
        """Return what was found; of the prefixes, those with the most bytes."""
        names = {owner: prefix for prefix, owner in self.by_name.items() if self.prefixes[owner].keys}
        order = sorted(names, key=lambda owner: (-self.prefixes[owner].bytes, names[owner]))
        rest, rest_count = self.prefixes[_OTHERS], self.merged + len(order[top:])
        for owner in order[top:]:
            tally = self.prefixes[owner]
            rest.add(tally.keys, tally.elements, tally.bytes)
        return {
            "types": {one: tally.as_object() for one, tally in self.types.items()},
            "prefixes": [
                {"db": names[owner][0], "prefix": as_text(names[owner][1]), **self.prefixes[owner].as_object()}
                for owner in order[:top]
            ],
            "other_prefixes": {"prefixes": rest_count, **rest.as_object()},
            "ttl": {
                "none": sum(tally.keys for tally in self.types.values()) - self.volatile,
                **{text: self.spans[at] for at, (text, _) in enumerate(_SPANS)},
            },
            "expired": self.expired.as_object(),
        }


def _pages(view: View, directory: Path) -> dict[str, Any]:
    """Return the figures that cost nothing: files, pages, sub-databases, databases."""
    sizes = view.reader.sizes()
    copy = view.reader.copy()
    while copy.txnid != view.reader.txnid:  # a commit came between the two
        copy.close()
        view.renew()
        sizes, copy = view.reader.sizes(), view.reader.copy()
    body, snapshot_bytes = copy.meta_body, copy.size_bytes
    copy.close()
    page_bytes = control_file.meta_page_bytes(body)
    tables = {}
    for table, found in sizes.items():
        pages = found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]
        tables[table_name(table)] = {
            "rows": found["entries"], "depth": found["depth"], "pages": pages, "bytes": pages * page_bytes,
        }  # fmt: skip
    pages = snapshot_bytes // page_bytes
    used = sum(one["pages"] for one in tables.values()) + control_file.meta_tree_pages(body) + 2
    log = directory / "wal"
    segments = [_file_bytes(wal.segment_path(log, base)) for base in wal.segments(log)]
    return {
        "data_bytes": (directory / "data.mdb").stat().st_size,
        "page_bytes": page_bytes,
        "pages": pages,
        "free_pages": pages - used,
        "log_segments": len(segments),
        "log_bytes": sum(segments),
        "tables": tables,
    }


def _file_bytes(path: Path) -> int:
    """Return a file's size, 0 if a server has removed it as we looked."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _databases(view: View, wanted: Sequence[int]) -> dict[str, dict[str, int]]:
    """Return what the store counts of its databases; expired keys are counted until they are removed."""
    found = {}
    for database in wanted:
        prefix = view.prefix(database)
        row = None if prefix is None else view.get(fmt.META, fmt.META_KEYSPACE + prefix)
        if row is not None:
            keys, volatile, _, _ = fmt.unpack_keyspace(row)
            if keys:
                found[str(database)] = {"keys": keys, "volatile": volatile}
    return found


def look(directory: Path, delimiter: bytes, database: int | None, top: int, report: Report) -> dict[str, Any]:
    """Return the whole answer. Raises StorageError, Damaged. In a child."""
    with View(directory, report, is_walk=True) as view:
        databases = sorted(view.keyspaces) if database is None else [database]
        figures = {**_pages(view, directory), "databases": _databases(view, databases)}
        report.expect(sum(figures["tables"][table_name(table)]["rows"] for table in (fmt.KEYS, *UNDER_IDS)))
        stats = Stats(view, delimiter, databases)
        stats.walk()
        if database is None:
            figures["garbage_bytes"] = stats.nobody_bytes
        return {**figures, **stats.as_object(top), "as_of": view.moment().as_object(), "moment": str(view.moment())}


def _sheets(found: dict[str, Any]) -> list[Sheet]:
    """Return the answer's tables."""
    pages, free = found["pages"], found["free_pages"]
    files = Sheet("Files", ("", ">bytes", ""), [
        ("data.mdb", size(found["data_bytes"]), f"{number(pages)} pages of {found['page_bytes']} bytes, {number(free)} of them free ({free / pages:.0%})"),
        ("log", size(found["log_bytes"]), counted(found["log_segments"], "segment")),
    ])  # fmt: skip
    tables = [
        (one, number(its["rows"]), str(its["depth"]), number(its["pages"]), size(its["bytes"]))
        for one, its in found["tables"].items()
        if its["rows"]
    ]
    databases = [(one, number(its["keys"]), number(its["volatile"])) for one, its in found["databases"].items()]
    types = [
        (one, number(its["keys"]), number(its["elements"]), size(its["bytes"]))
        for one, its in found["types"].items()
        if its["keys"]
    ]
    if found["expired"]["keys"]:
        gone = found["expired"]
        types.append(("expired, not removed yet", number(gone["keys"]), number(gone["elements"]), size(gone["bytes"])))
    if found.get("garbage_bytes"):
        is_one_moment = found["as_of"]["from_lsn"] == found["as_of"]["lsn"]
        what = "of no key: to be reclaimed" if is_one_moment else "of no key, or of one that came meanwhile"
        types.append((what, "", "", size(found["garbage_bytes"])))
    prefixes = [
        (str(one["db"]), printable(one["prefix"].encode("latin-1")) or "(none)", number(one["keys"]), number(one["elements"]), size(one["bytes"]))
        for one in found["prefixes"]
    ]  # fmt: skip
    rest = found["other_prefixes"]
    if rest["prefixes"]:
        what = f"({number(rest['prefixes'])} more)"
        prefixes.append(("", what, number(rest["keys"]), number(rest["elements"]), size(rest["bytes"])))
    spans = [(text, number(keys)) for text, keys in found["ttl"].items() if keys]
    return [
        files,
        Sheet("Sub-databases", ("name", ">rows", ">depth", ">pages", ">bytes"), tables),
        Sheet("Databases", ("db", ">keys", ">with a TTL"), databases),
        Sheet("Types", ("type", ">keys", ">elements", ">bytes"), types),
        Sheet("Prefixes", ("db", "prefix", ">keys", ">elements", ">bytes"), prefixes),
        Sheet("Time to live", ("", ">keys"), spans),
    ]


def run_stats(given: argparse.Namespace) -> int:
    """Print the answer; return the exit status. Raises StorageError, Damaged."""
    found = apart(partial(look, given.directory, given.delimiter, given.db, given.top), progress)
    told = found.pop("moment")
    if given.json:
        print_object(found)
    else:
        print(told)
        print_sheets(*_sheets(found))
    return OK


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    made = add_command(
        commands, "stats", "show what the store holds", "lmdbredis stats ./data --top 5", run_stats,
        "By sub-database, database, type, prefix of the key and time to live; exact, from a walk over all rows.",
    )  # fmt: skip
    add_database(made, default=None)
    made.add_argument("--top", metavar="N", type=count, default=20, help="how many prefixes are shown (default: 20)")
    made.add_argument(
        "--delimiter", metavar="TEXT", type=name, default=b":", help="what ends a prefix (default: a colon)"
    )
    add_json(made, "one object")
