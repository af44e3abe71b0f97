"""What all checks share: the snapshot they read, what heads say of the rows under ids, and how a line shows a key.

It knows rows, not the laws of any type.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Protocol

from lmdbredis import format as fmt

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER_BYTES: Final = 8  # of an id, before the rows of a collection
_SHOWN: Final = 60  # bytes of a key that a line shows

Row = tuple[bytes, bytes]


class Reader(Protocol):
    """One snapshot of a store."""

    def get(self, table: int, key: bytes) -> bytes | None:
        """Return the row's value, None if there is no such row. Raises StorageError: the engine cannot read it."""

    def rows(self, table: int, start: bytes = b"") -> Iterator[Row]:
        """Yield the rows of a sub-database from the first whose key is >= `start`, ascending. Raises StorageError."""


def show(key: bytes) -> str:
    """Return a key as a line shows it."""
    text = repr(key[:_SHOWN])
    return text if len(key) <= _SHOWN else f"{text}... ({len(key)} bytes)"


def table_name(number: int) -> str:
    """Return the name of a sub-database."""
    return fmt.TABLE_NAMES[number].decode()


def name_fault(stored: bytes, whole: bytes) -> str:
    """Return what is wrong with a stored name and the whole name its row carries, empty if nothing is."""
    if len(stored) > fmt.NAME_BYTES_MAX and len(stored) != fmt.LONG_NAME_BYTES:
        return f"a stored name of {len(stored)} bytes"
    if len(stored) != fmt.LONG_NAME_BYTES:
        return "a short name's row carries a whole name" if whole else ""
    if len(whole) <= fmt.NAME_BYTES_MAX:
        return "a long name's row does not carry the whole name"
    return (
        "" if fmt.stored_name(whole) == stored else "the digest of a long name is not that of the whole name in its row"
    )


class Owners:
    """The collections of one type, sorted by id: what their heads say."""

    def __init__(self) -> None:
        self.ids = array("Q")
        self.counts = array("Q")  # of strings: length in bytes
        self.flags = array("B")
        self.ends = array("Q")  # of lists: first and last position, two for each
        self.heads: list[tuple[int, int, int]] = []  # of streams: first and last id, groups
        self.garbage = array("Q")  # ids of the type whose rows wait for the reclaimer

    def add(self, ident: int, count: int, flags: int) -> None:
        """Take what the head of one more collection says."""
        self.ids.append(ident)
        self.counts.append(count)
        self.flags.append(flags)

    def sort(self) -> None:
        """Bring everything into the order of ids."""
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        if self.ends:
            self.ends = array("Q", (self.ends[2 * index + side] for index in order for side in (0, 1)))
        if self.heads:
            self.heads = [self.heads[index] for index in order]
        self.counts = array("Q", map(self.counts.__getitem__, order))
        self.flags = array("B", map(self.flags.__getitem__, order))
        self.ids = array("Q", map(self.ids.__getitem__, order))
        self.garbage = array("Q", sorted(self.garbage))

    def find(self, ident: int) -> int:
        """Return the index of a collection, -1 if there is none with this id."""
        at = bisect_left(self.ids, ident)
        return at if at < len(self.ids) and self.ids[at] == ident else -1

    def is_garbage(self, ident: int) -> bool:
        """Tell whether the rows under an id wait for the reclaimer."""
        at = bisect_left(self.garbage, ident)
        return at < len(self.garbage) and self.garbage[at] == ident
