"""A sub-database of the store: point reads and writes, ordered reads.

Theory. A row is put into the store's open LMDB transaction at once, while the pages that led to it are still in the
processor's cache from the read before: that halves what it costs to gather rows and put them at the end of the batch (2.5
against 3.7 us for a random SET). While that transaction is being committed it cannot be touched: then the last commit is
read, and everything younger is in the `overlay`, a dictionary, from which it goes into the next transaction bit by bit.

Where a row is, besides the log (a lazy table's rows are in the overlay until a commit is prepared)::

    put                                   batch            LMDB shows it
    logged                                fresh            LMDB shows it
    its commit begins                     overlay
    its commit is done                                     LMDB shows it

    put while another commit is on its way    batch, overlay
    logged                                    fresh, overlay
    that commit is done, and it is drained    fresh        LMDB shows it

Laws: whoever reads in order settles first, if there is an overlay, but for `take_keys_at_once`; `batch` is what the next record of the log will hold;
nothing here knows what rows mean.

Rejected: leaving every row in the overlay and putting it into LMDB in another thread. On two cores, one of them the clients',
it was a third slower: the binding gives the interpreter's lock back for each row, and beside a busy loop each row then takes 18 us.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import compress, islice
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import format as fmt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Row = tuple[bytes, bytes]

_TAKE_FIRST: Final = 64  # rows of the first step of a walk whose length is not known; steps double from here
_TAKE_MOST: Final = 4096
_LAZY: Final = frozenset({fmt.META, fmt.COUNTS})  # tables whose rows change again and again: they stay in the overlay
_ABSENT: Final = object()


class Table:
    """One sub-database: point reads and writes, ordered reads."""

    __slots__ = (
        "_cursor_of",
        "_delete",
        "_get",
        "_pop",
        "_put",
        "_replace",
        "batch",
        "fresh",
        "handle",
        "is_lazy",
        "name",
        "number",
        "overlay",
        "settle",
    )

    def __init__(self, number: int, handle: Any, settle: Callable[[], None]) -> None:
        self.is_lazy = number in _LAZY
        self.number = number
        self.name = fmt.TABLE_NAMES[number]
        self.handle = handle  # LMDB's
        # Rows that LMDB does not show, None = deleted: during a commit, soon after, and in lazy tables.
        self.overlay: fmt.Rows = {}
        self.batch: fmt.Rows = {}  # rows of the batch in the making: its part of the write set
        self.fresh: fmt.Rows = {}  # rows put since the last commit
        self.settle = settle  # makes LMDB show everything
        self._get: Any = None  # of the LMDB transaction that is read
        self._cursor_of: Any = None
        self._put: Any = None  # of the open transaction; None while it is being committed
        self._delete: Any = None
        self._replace: Any = None
        self._pop: Any = None

    def look_at(self, transaction: Any, *, is_open: bool) -> None:
        """Read from this LMDB transaction from now on; write to it, or to the overlay if it is not open for writing."""
        self._get = transaction.get
        self._cursor_of = transaction.cursor
        self._put, self._delete, self._replace = (
            (transaction.put, transaction.delete, transaction.replace) if is_open else (None, None, None)
        )
        self._pop = transaction.pop if is_open else None

    def get(self, key: bytes) -> bytes | None:
        """Return the row's value, None if there is no such row. O(log n)."""
        if self.overlay and (row := self.overlay.get(key, _ABSENT)) is not _ABSENT:
            return row  # type: ignore[return-value]
        return self._get(key, None, self.handle)  # type: ignore[no-any-return]

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """As `get` for each key: the calls are paid once."""
        get, handle, overlay = self._get, self.handle, self.overlay
        return [overlay[key] if key in overlay else get(key, None, handle) for key in keys]

    def put(self, key: bytes, row: bytes) -> None:
        """Put a row; the end of the batch logs it. O(log n)."""
        self.batch[key] = row
        if self._put is None or self.is_lazy or (self.overlay and key in self.overlay):
            self.overlay[key] = row
        else:
            self._put(key, row, True, True, False, self.handle)  # dupdata, overwrite, append

    def put_many(self, rows: list[Row]) -> None:
        """As `put` for each key and row: the calls are paid once."""
        if self.is_lazy:
            self.batch.update(rows)
            self.overlay.update(rows)
            return
        if self._put is None or self.overlay or len(rows) == 1:
            for key, row in rows:
                self.put(key, row)
            return
        self.batch.update(rows)
        with self._cursor_of(self.handle) as cursor:
            cursor.putmulti(rows)

    def exchange(self, key: bytes, row: bytes) -> bytes | None:
        """Put a row and return the value that stood there, None if there was no such row: one descent instead of two."""
        if self._replace is None or (self.overlay and key in self.overlay):
            old = self.get(key)
            self.put(key, row)
            return old
        self.batch[key] = row
        return self._replace(key, row, self.handle)  # type: ignore[no-any-return]

    def exchange_many(self, rows: list[Row]) -> list[bytes | None]:
        """As `exchange` for each key and row in turn: the calls are paid once."""
        if self._replace is None or self.overlay:
            return [self.exchange(key, row) for key, row in rows]
        replace, handle = self._replace, self.handle
        self.batch.update(rows)
        return [replace(key, row, handle) for key, row in rows]

    def add(self, key: bytes, row: bytes) -> bool:
        """Put a row unless there is one; tell whether it was new: one descent, and a page is only dirtied if it was."""
        if self._put is None or (self.overlay and key in self.overlay):
            if self.get(key) is not None:
                return False
            self.put(key, row)
            return True
        if not self._put(key, row, True, False, False, self.handle):  # dupdata, overwrite, append
            return False
        self.batch[key] = row
        return True

    def add_many(self, rows: list[Row]) -> list[bool]:
        """As `add` for each key and row in turn: the calls are paid once."""
        if self._put is None or self.overlay:
            return [self.add(key, row) for key, row in rows]
        put, handle = self._put, self.handle
        new = [put(key, row, True, False, False, handle) for key, row in rows]  # dupdata, overwrite, append
        self.batch.update(compress(rows, new))
        return new

    def delete(self, key: bytes) -> None:
        """Delete a row, there or not. O(log n)."""
        self.batch[key] = None
        if self._delete is None or self.is_lazy or (self.overlay and key in self.overlay):
            self.overlay[key] = None
        else:
            self._delete(key, b"", self.handle)

    def delete_many(self, keys: list[bytes]) -> None:
        """As `delete` for each key: the calls are paid once."""
        if self._delete is None or self.is_lazy or self.overlay:
            for key in keys:
                self.delete(key)
            return
        self.batch.update(dict.fromkeys(keys))
        delete, handle = self._delete, self.handle
        for key in keys:
            delete(key, b"", handle)

    def pop(self, key: bytes) -> bytes | None:
        """Delete a row and return its value, None if there was no such row: one descent instead of two."""
        if self._pop is None or (self.overlay and key in self.overlay):
            old = self.get(key)
            self.delete(key)
            return old
        self.batch[key] = None
        return self._pop(key, self.handle)  # type: ignore[no-any-return]

    def pop_many(self, keys: list[bytes]) -> list[bytes]:
        """Delete rows that are there and return their values."""
        pop, handle = self._pop, self.handle
        if pop is None or self.overlay:
            popped = [self.pop(key) for key in keys]
        else:
            self.batch.update(dict.fromkeys(keys))
            popped = [pop(key, handle) for key in keys]
        assert None not in popped, "they are there"
        return popped  # type: ignore[return-value]

    # Ordered reads. A walk of known length is one call into C: `take`.

    def take(self, start: bytes, rows_max: int) -> list[Row]:
        """Return up to `rows_max` rows from the first whose key is >= `start`, ascending."""
        if self.overlay:
            self.settle()
        with self._cursor_of(self.handle) as cursor:
            return list(islice(cursor.iternext(), rows_max)) if cursor.set_range(start) else []

    def take_keys(self, start: bytes, rows_max: int) -> list[bytes]:
        """As `take`, the keys only."""
        if self.overlay:
            self.settle()
        with self._cursor_of(self.handle) as cursor:
            return list(islice(cursor.iternext(True, False), rows_max)) if cursor.set_range(start) else []

    def take_keys_at_once(self, start: bytes, stop: bytes, rows_max: int) -> tuple[list[bytes], bytes]:
        """Return the keys of the rows from `start` on, in no order, and where they end: at `stop`, or before it if LMDB shows many.

        It does not settle, so it never waits: of what LMDB shows it reads `rows_max` rows at most, and it looks at the whole overlay.
        """
        with self._cursor_of(self.handle) as cursor:
            keys = list(islice(cursor.iternext(True, False), rows_max)) if cursor.set_range(start) else []
        if len(keys) == rows_max:
            stop = min(stop, keys[-1] + b"\0")
        del keys[bisect_left(keys, stop) :]
        overlay = self.overlay
        if overlay:
            keys = [key for key in keys if key not in overlay]
            keys += [key for key, row in overlay.items() if row is not None and start <= key < stop]
        return keys, stop

    def keys_near(self, places: Iterable[tuple[bytes, int]]) -> list[bytes]:
        """Return the key of a row near each place: so many steps after the first whose key is >= the place's; if the steps are negative, before it.

        The rows are there. Places that ascend are found the quickest.
        """
        if self.overlay:
            self.settle()
        found: list[bytes] = []
        with self._cursor_of(self.handle) as cursor:
            for key, steps in places:
                is_there = cursor.set_range(key)
                if steps >= 0:
                    found += islice(cursor.iternext(True, False), steps, steps + 1)
                else:
                    _ = cursor.prev() if is_there else cursor.last()
                    found += islice(cursor.iterprev(True, False), -steps - 1, -steps)
        return found

    def take_values(self, start: bytes, rows_max: int) -> list[bytes]:
        """As `take`, the values only."""
        if self.overlay:
            self.settle()
        with self._cursor_of(self.handle) as cursor:
            return list(islice(cursor.iternext(False, True), rows_max)) if cursor.set_range(start) else []

    def take_back(self, stop: bytes, rows_max: int) -> list[Row]:
        """Return up to `rows_max` rows whose keys are < `stop`, descending."""
        if self.overlay:
            self.settle()
        with self._cursor_of(self.handle) as cursor:
            found = cursor.prev() if cursor.set_range(stop) else cursor.last()
            return list(islice(cursor.iterprev(), rows_max)) if found else []

    def range(self, start: bytes, stop: bytes) -> Iterator[Row]:
        """Yield the rows with start <= key < stop, ascending, in steps, so that rows may be written meanwhile."""
        step = _TAKE_FIRST
        while True:
            rows = self.take(start, step)
            if not rows:
                return
            if rows[-1][0] >= stop:
                yield from rows[: bisect_left(rows, stop, key=lambda row: row[0])]
                return
            yield from rows
            if len(rows) < step:
                return
            start = rows[-1][0] + b"\0"
            step = min(step * 2, _TAKE_MOST)

    def range_back(self, start: bytes, stop: bytes) -> Iterator[Row]:
        """Yield the rows with start <= key < stop, descending, in steps."""
        step = _TAKE_FIRST
        while True:
            rows = self.take_back(stop, step)
            for row in rows:
                if row[0] < start:
                    return
                yield row
            if len(rows) < step:
                return
            stop = rows[-1][0]
            step = min(step * 2, _TAKE_MOST)

    def prefix(self, prefix: bytes) -> Iterator[Row]:
        """Yield the rows whose keys begin with `prefix`, ascending."""
        return self.range(prefix, after_prefix(prefix))

    def last_with(self, prefix: bytes) -> Row | None:
        """Return the last row whose key begins with `prefix`, None if there is none."""
        rows = self.take_back(after_prefix(prefix), 1)
        return rows[0] if rows and rows[0][0].startswith(prefix) else None


def after_prefix(prefix: bytes) -> bytes:
    """Return the least key that is greater than every key beginning with `prefix` (keys have at most 511 bytes)."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return b"\xff" * 512
    return stripped[:-1] + bytes((stripped[-1] + 1,))
