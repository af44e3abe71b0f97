"""What expires next: the head of the index of expiry, in memory.

Theory. The rows of `expires` stand in the order of their times, but a table is read in order only when no commit is on its way, and
under load there may be no such moment for seconds. So the rows of the next second are kept in a heap, and what a command adds
among them goes there, too. Once in a second the heap is filled again, with what LMDB shows and what waits in the table's overlay put
together, which waits for nothing. So a key expires in time whatever else goes on.

Laws:

1. Every row that stands before the `horizon` is in the heap. A row of the heap may not be in the table any more.
2. What is kept is what is due within `AHEAD_MS`, or a bounded number of rows if that is more, and what was added since.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmdbredis.table import Row, Table

AHEAD_MS: Final = 1000
_ROWS_MAX: Final = 4096  # read from LMDB at once


class Due:
    """The head of the index `expires`, a row of which is time and key, see `format`."""

    def __init__(self, expires: Table) -> None:
        self._expires = expires
        self.forget()

    def forget(self) -> None:
        """Know nothing: the rows are not those that they were."""
        self._heap: list[Row] = []
        self.horizon = b""  # law 1: what is put before this must be told (`add`)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows that are kept."""
        return iter(self._heap)

    @property
    def next_ms(self) -> int:
        """Return a time before which nothing is due, in ms since the epoch."""
        following = self._heap[0][0] if self._heap else self.horizon
        return fmt.unpack_u64(following) if following else 0

    def add(self, key: bytes, whole: bytes) -> None:
        """Take up a row that was put before the horizon. O(log n)."""
        heappush(self._heap, (key, whole))

    def take(self, now_ms: int, rows_max: int) -> list[Row]:
        """Return up to `rows_max` rows that are due, the oldest first; they are kept no more. O(log n) each.

        As long as `next_ms` has come there may be more, even if there are none now.
        """
        stop = fmt.pack_u64(now_ms + 1)
        if not self._heap and self.horizon < stop:
            later = fmt.pack_u64(now_ms + AHEAD_MS)
            self._heap, self.horizon = self._expires.take_at_once(self.horizon, later, _ROWS_MAX)
            heapify(self._heap)
        heap = self._heap
        rows: list[Row] = []
        while heap and heap[0][0] < stop and len(rows) < rows_max:
            row = heappop(heap)
            if not rows or rows[-1] != row:  # it was put twice
                rows.append(row)
        return rows
