"""The hot layer: decoded entries and small strings by the key of their row, bounded in bytes.

Theory. Two generations: what is used moves to the young one; when that is full it becomes the old one, and the old one is
dropped whole. That is close to least-recently-used and costs a use one dictionary lookup, no list to relink.

Laws: it holds nothing that rows do not hold, but for entries changed in the batch that is running; so generations change
only between batches (`trim`), after the write-back. It is correct with a size of 0: then `trim` empties it after each batch.
"""

from __future__ import annotations

from typing import Any, Final

_ENTRY_BYTES: Final = 400  # a decoded entry with its dictionary slot, about
_OVERHEAD_BYTES: Final = 200  # a string's key, slot and object headers, about
VALUE_BYTES_MAX: Final = 1024  # longer strings are left to LMDB: its page cache serves them as well


class Cache:
    """Row key -> decoded entry or a string's cell."""

    __slots__ = ("_bytes", "old", "size_bytes", "young")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.young: dict[bytes, Any] = {}
        self.old: dict[bytes, Any] = {}
        self._bytes = 0  # in the young generation, about

    def get(self, row_key: bytes) -> Any:
        """Return what is held for the row, None if nothing."""
        found = self.young.get(row_key)
        if found is None and (found := self.old.get(row_key)) is not None:
            self.put(row_key, found)
        return found

    def put(self, row_key: bytes, held: Any) -> None:
        """Hold a decoded entry or a cell for the row."""
        self.young[row_key] = held
        self._bytes += _OVERHEAD_BYTES + len(held) if type(held) is bytes else _ENTRY_BYTES

    def drop(self, row_key: bytes) -> None:
        """Hold nothing for the row."""
        self.young.pop(row_key, None)
        self.old.pop(row_key, None)

    def trim(self) -> None:
        """Change generations if the young one has half of the bytes. Between batches, after the write-back."""
        if self._bytes * 2 > self.size_bytes:
            self.old = self.young if self.size_bytes else {}
            self.young = {}
            self._bytes = 0

    def clear(self) -> None:
        """Hold nothing at all."""
        self.young, self.old, self._bytes = {}, {}, 0
