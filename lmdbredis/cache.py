"""The hot layer: decoded entries and small strings by the key of their row, bounded in bytes.

Theory. A dictionary, and its insertion order as the order of eviction. What is evicted and still used comes back soon; what
is used once must not get in, so of the strings that are read only one in `ADMIT_EVERY` is admitted: a hot one is, within a few
reads, and a walk through millions of cold ones costs nearly nothing. Entries of collections are always admitted.

Laws: it holds nothing that rows do not hold, but for entries changed in the batch that is running; so it evicts only between
batches (`trim`), after the write-back. It is correct with a size of 0: then `trim` empties it after each batch.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ADMIT_EVERY: Final = 8  # strings read, for each that is admitted
VALUE_BYTES_MAX: Final = 1024  # longer strings are left to LMDB: its page cache serves them as well
_ENTRY_BYTES: Final = 500  # a decoded entry with its dictionary slot, but for its key, about
_OVERHEAD_BYTES: Final = 250  # a string's key, slot and object headers, about
_PARTS: Final = 16  # one part of so many is evicted at a time


class Cache:
    """Row key -> decoded entry, or a string's cell."""

    __slots__ = ("_bytes", "_held", "get", "size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._held: dict[bytes, Any] = {}
        self._bytes = 0  # since the last eviction, about
        self.get = self._held.get  # None if nothing is held: the dictionary's own method, for the hot path

    def __len__(self) -> int:
        return len(self._held)

    def items(self) -> list[tuple[bytes, Any]]:
        """Return all that is held."""
        return list(self._held.items())

    def put(self, row_key: bytes, held: Any) -> None:
        """Hold a decoded entry or a cell for the row."""
        self._held[row_key] = held
        self._bytes += _OVERHEAD_BYTES + len(held) if type(held) is bytes else _ENTRY_BYTES + len(held.key)

    def replace(self, row_key: bytes, cell: bytes) -> None:
        """Let the row's new cell take the place of what is held, if anything is."""
        if row_key in self._held:
            self._held[row_key] = cell

    def drop(self, row_key: bytes) -> None:
        """Hold nothing for the row."""
        self._held.pop(row_key, None)

    def drop_all(self, row_keys: Mapping[bytes, Any]) -> None:
        """Hold nothing for any of the rows. O(what is held, or the rows, whichever is less)."""
        for row_key in self._held.keys() & row_keys.keys():
            del self._held[row_key]

    def trim(self) -> None:
        """Evict what was admitted first, if there is too much. Between batches, after the write-back."""
        if self._bytes <= self.size_bytes:
            return
        if not self.size_bytes:
            self.clear()
            return
        held = self._held
        part = len(held) // _PARTS + 1
        for row_key in list(islice(held, part)):
            del held[row_key]
        self._bytes -= self.size_bytes // _PARTS

    def clear(self) -> None:
        """Hold nothing at all."""
        self._held.clear()
        self._bytes = 0
