"""Who owns the rows under an id: numbers by id, in a few bytes each, and the bytes of collections, from a walk of their rows.

Theory. Ids are given in order and never again, so the live ones lie together: pages of small integers hold them in four bytes
each, where a dictionary would need a hundred. Rows of a collection stand together, in all its sub-databases: so bytes are
summed up by the run.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from operator import add
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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


class Numbers:
    """A small number for each id; 0 for all that were not given one."""

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}

    def put(self, idents: Iterable[int], number: int) -> None:
        """Give a number to ids. O(1) each."""
        pages, mask = self._pages, (1 << _PAGE_BITS) - 1
        for ident in idents:
            page = pages.get(ident >> _PAGE_BITS)
            if page is None:
                page = pages[ident >> _PAGE_BITS] = _EMPTY[:]
            page[ident & mask] = number

    def get(self, ident: int) -> int:
        """Return the number of an id."""
        page = self._pages.get(ident >> _PAGE_BITS)
        return 0 if page is None else page[ident & (1 << _PAGE_BITS) - 1]


def collections(view: View, table: int, numbers: Numbers) -> Iterator[tuple[int, int, int]]:
    """Yield (id, its number, bytes) for the rows of a sub-database, ascending; an id may come in several parts. Raises Damaged.

    Groups and consumers of a stream have ids of their own: they are given the number of the stream as they come by.
    """
    for keys, rows in view.slices(table):
        if table in _LEADING:
            for key, row in zip(keys, rows, strict=True):
                numbers.put([fmt.unpack_u64(row)], numbers.get(fmt.unpack_u64(key)))
        if keys[0][:OWNER_BYTES] == keys[-1][:OWNER_BYTES]:  # all of one collection
            ident = fmt.unpack_u64(keys[0])
            yield ident, numbers.get(ident), sum(map(len, keys)) + sum(map(len, rows))
            continue
        totals: defaultdict[bytes, int] = defaultdict(int)
        for owner, size in zip(
            [key[:OWNER_BYTES] for key in keys], map(add, map(len, keys), map(len, rows)), strict=True
        ):
            totals[owner] += size
        for ident, size in zip(fmt.unpack_u64s(b"".join(totals)), totals.values(), strict=True):
            yield ident, numbers.get(ident), size
