"""What expires next: the head of the index of expiry, in memory.

Theory. The rows of `expires` stand in the order of their times, but a table is read in order only when no commit is on its way, and
under load there may be no such moment for seconds. So the rows of the next second are kept here, and what a command adds or deletes
among them is told. Once in a second there is another look, at what LMDB shows and what waits in the table's overlay put together,
which waits for nothing. So a key expires in time whatever else goes on.

Laws:

1. What is kept is every row that stands before the `horizon`.
2. The horizon is never more than `AHEAD_MS` ahead, also when the clock has gone back.

It knows the keys of rows (see `format`), and nothing of what they lead to.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmdbredis.table import Table

AHEAD_MS: Final = 1000
_ROWS_MAX: Final = 4096  # of LMDB's that one look takes in
_GONE_EACH: Final = 8  # so many rows that were deleted are passed over for each that is taken


class Due:
    """The keys of the rows of `expires` that come next."""

    def __init__(self, expires: Table) -> None:
        self._expires = expires
        self.forget()

    def forget(self) -> None:
        """Know nothing: the rows are not those that they were."""
        self._kept: set[bytes] = set()
        self._heap: list[bytes] = []  # those, and some that were deleted since
        self.horizon = b""  # law 1: of what is put or deleted before this, tell

    def __iter__(self) -> Iterator[bytes]:
        """Yield what is kept."""
        return iter(self._kept)

    @property
    def next_ms(self) -> int:
        """Return a time before which nothing is due, in ms since the epoch."""
        following = self._heap[0] if self._heap else self.horizon
        return fmt.unpack_u64(following) if following else 0

    def add(self, key: bytes) -> None:
        """Take up a row that was put before the horizon. O(log n)."""
        self._kept.add(key)
        heappush(self._heap, key)

    def discard(self, key: bytes) -> None:
        """Take note that a row before the horizon was deleted."""
        self._kept.discard(key)

    def is_any(self, now_ms: int) -> bool:
        """Tell whether `take` may have something."""
        if self.horizon > fmt.pack_u64(now_ms + AHEAD_MS):  # law 2
            self.forget()
        return self.next_ms <= now_ms

    def take(self, now_ms: int, rows_max: int) -> list[bytes]:
        """Return up to `rows_max` rows that are due, the oldest first; they are kept no more. O(log n) each.

        There may be more as long as `is_any` says so, even if there are none now.
        """
        stop = fmt.pack_u64(now_ms + 1)
        if not self._heap and self.horizon < stop:
            later = fmt.pack_u64(now_ms + AHEAD_MS)
            self._heap, self.horizon = self._expires.take_keys_at_once(self.horizon, later, _ROWS_MAX)
            self._kept = set(self._heap)
            heapify(self._heap)
        heap, kept, rows = self._heap, self._kept, list[bytes]()
        for _ in range(_GONE_EACH * rows_max):
            if not heap or heap[0] >= stop or len(rows) == rows_max:
                break
            key = heappop(heap)
            if key in kept:
                kept.remove(key)
                rows.append(key)
        return rows
