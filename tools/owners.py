"""Keys and what they own, by the thousand: cells that begin alike, numbers by id in a few bytes each, bytes of collections.

Theory. Ids are given in order and never again, so the live ones lie together: pages of small integers hold them in four bytes
each, where a dictionary would need a hundred. Cells that begin alike are decoded together: a call for each costs more than they do. Rows of a collection stand together, in all its sub-databases: so bytes are
summed up by the run.
"""

from __future__ import annotations

from array import array
from itertools import accumulate, compress, islice, repeat
from operator import add, itemgetter, ne, sub
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import format as fmt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .view import View

OWNER_BYTES: Final = 8
_PAGE_BITS: Final = 10
_EMPTY: Final = array("I", bytes(4 << _PAGE_BITS))
# The sub-databases whose rows stand under ids, those that lead to others first.
UNDER_IDS: Final = (
    fmt.HASHES, fmt.SETS, fmt.LISTS, fmt.ZSETS, fmt.SCORES, fmt.CHUNKS, fmt.STREAMS, fmt.GROUPS, fmt.CONSUMERS, fmt.PENDING, fmt.OWNED,
)  # fmt: skip
_LEADING: Final = {
    fmt.GROUPS,
    fmt.CONSUMERS,
}  # their rows begin with the id of a group, a consumer, under which there are rows


def by_tag(*columns: Sequence[Any]) -> Iterator[tuple[int, list[Sequence[Any]]]]:
    """Yield (tag, columns) of keys whose cells begin alike; the first column holds the cells. O(rows * different tags)."""
    tags = bytes(map(itemgetter(0), columns[0]))
    different = set(tags)
    for tag in different:
        if len(different) == 1:
            yield tag, list(columns)
        else:
            chosen = [one == tag for one in tags]
            yield tag, [list(compress(column, chosen)) for column in columns]


def heads(tag: int, cells: Sequence[bytes]) -> tuple[int, ...]:
    """Return id, count, id, count, ... of cells of no plain strings that begin alike; of long strings the count is of bytes."""
    at = 9 if tag & fmt.HAS_EXPIRE else 1
    if tag & fmt.HAS_WHOLE:
        return fmt.unpack_u64s(b"".join([cell[fmt.body_offset(cell) :][:16] for cell in cells]))
    return fmt.unpack_u64s(b"".join([cell[at : at + 16] for cell in cells]))


def times(tag: int, cells: Sequence[bytes]) -> tuple[int, ...]:
    """Return expire_at_ms of cells that begin alike, empty if they have none."""
    return fmt.unpack_u64s(b"".join([cell[1:9] for cell in cells])) if tag & fmt.HAS_EXPIRE else ()


class Numbers:
    """A small number for each id; 0 for all that were not given one."""

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}

    def put(self, idents: Iterable[int], number: int) -> None:
        """Give a number to ids. O(1) each."""
        self.put_each(idents, repeat(number))

    def put_each(self, idents: Iterable[int], numbers: Iterable[int]) -> None:
        """Give each id a number of its own. O(1) each."""
        pages, mask = self._pages, (1 << _PAGE_BITS) - 1
        for ident, number in zip(idents, numbers, strict=False):
            page = pages.get(ident >> _PAGE_BITS)
            if page is None:
                page = pages[ident >> _PAGE_BITS] = _EMPTY[:]
            page[ident & mask] = number

    def get(self, ident: int) -> int:
        """Return the number of an id."""
        page = self._pages.get(ident >> _PAGE_BITS)
        return 0 if page is None else page[ident & (1 << _PAGE_BITS) - 1]

    def get_many(self, idents: Iterable[int]) -> list[int]:
        """Return the number of each id: half the time of one by one."""
        get, mask = self._pages.get, (1 << _PAGE_BITS) - 1
        return [get(ident >> _PAGE_BITS, _EMPTY)[ident & mask] for ident in idents]


def parts(view: View, table: int, numbers: Numbers) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Yield (ids, bytes of the rows of each) of a sub-database, ascending; an id may come again in the next part. Raises Damaged.

    Groups and consumers of a stream have ids of their own: they are given the number of the stream as they come by.
    """
    for keys, rows in view.slices(table):
        if table in _LEADING:
            for key, row in zip(keys, rows, strict=True):
                numbers.put([fmt.unpack_u64(row)], numbers.get(fmt.unpack_u64(key)))
        if keys[0][:OWNER_BYTES] == keys[-1][:OWNER_BYTES]:  # all of one collection
            yield (fmt.unpack_u64(keys[0]),), (sum(map(len, keys)) + sum(map(len, rows)),)
            continue
        owners = [key[:OWNER_BYTES] for key in keys]
        ends = [*compress(range(1, len(keys)), map(ne, owners, islice(owners, 1, None))), len(keys)]
        sums = [0, *accumulate(map(add, map(len, keys), map(len, rows)))]
        until = [sums[end] for end in ends]
        yield fmt.unpack_u64s(b"".join([owners[end - 1] for end in ends])), list(map(sub, until, [0, *until[:-1]]))
