"""Sorted sets from sorted sets: union, intersection, difference. Nothing here writes.

Theory. An operand is a sorted set, or a plain set, whose members all have the score 1; a key that is not there is an empty
one. A union gathers all members in memory, since each may meet its score again; an intersection walks its smallest operand
and asks the others, so it holds what it returns.

Laws, all of them Redis's: an operand's scores are multiplied by its weight; where inf - inf or 0 * inf would be NaN there is
0; operands are taken from the smallest to the greatest, which decides how sums are rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis.format import LONG_NAME_BYTES, NAME_BYTES_MAX, SETS, ZSET, ZSETS, unpack_f64

if TYPE_CHECKING:
    from lmdbredis.database import Database
    from lmdbredis.entry import Entry
    from lmdbredis.table import Row, Table

Aggregate = Callable[[float, float], float]

_STEP_FIRST: Final = 64  # rows of the first step of a walk
_STEP_MAX: Final = 4096


def walk(table: Table, entry: Entry) -> Iterator[Row]:
    """Yield the rows of a collection that has one for each element, in growing steps: rows may be written meanwhile. O(n)."""
    left, start, step = entry.count, entry.owner, _STEP_FIRST
    while left > 0:
        rows = table.take(start, min(step, left))
        yield from rows
        left -= len(rows)
        start = rows[-1][0] + b"\0"
        step = min(step * 4, _STEP_MAX)


class Operand:
    """A set to be read, plain or sorted; empty without an entry."""

    __slots__ = ("_entry", "_is_sorted", "_owner", "_table", "count", "weight")

    def __init__(self, db: Database, entry: Entry | None) -> None:
        self.count = 0 if entry is None else entry.count
        self.weight = 1.0
        self._entry = entry
        self._is_sorted = entry is not None and entry.kind == ZSET
        self._owner = b"" if entry is None else entry.owner
        self._table = db.keyspace.store.tables[ZSETS if self._is_sorted else SETS]

    def is_same(self, other: Operand) -> bool:
        """Tell whether both read the same set."""
        return self._entry is not None and self._entry is other._entry

    def get(self, member: bytes) -> float | None:
        """Return the member's score, None if it is not there. O(log n)."""
        if self._entry is None:
            return None
        row = self._table.get(self._owner + (member if len(member) <= NAME_BYTES_MAX else fmt.stored_name(member)))
        if row is None:
            return None
        return unpack_f64(row) if self._is_sorted else 1.0

    def pairs(self) -> Iterator[tuple[bytes, float]]:
        """Yield (member, score), in the order of rows. O(n)."""
        if self._entry is None:
            return
        long_key_bytes = 8 + LONG_NAME_BYTES
        if self._is_sorted:
            for key, row in walk(self._table, self._entry):
                yield key[8:] if len(key) < long_key_bytes else row[8:], unpack_f64(row)
        else:
            for key, row in walk(self._table, self._entry):
                yield key[8:] if len(key) < long_key_bytes else row, 1.0


def _sum(one: float, other: float) -> float:
    total = one + other
    return 0.0 if total != total else total  # noqa: PLR0124  -- NaN is that


AGGREGATES: Final[dict[bytes, Aggregate]] = {b"SUM": _sum, b"MIN": min, b"MAX": max}


def by_size(operands: Sequence[Operand]) -> list[Operand]:
    """Return the operands from the smallest to the greatest."""
    return sorted(operands, key=lambda operand: operand.count)


def _weighted(score: float, weight: float) -> float:
    product = score * weight
    return 0.0 if product != product else product  # noqa: PLR0124  -- NaN is that


def union(operands: Sequence[Operand], aggregate: Aggregate) -> dict[bytes, float]:
    """Return every member with its aggregated score. O(n log n) for n members in all."""
    found: dict[bytes, float] = {}
    for operand in by_size(operands):
        weight = operand.weight
        for member, score in operand.pairs():
            value = _weighted(score, weight)
            old = found.get(member)
            found[member] = value if old is None else aggregate(old, value)
    return found


def intersection(operands: Sequence[Operand], aggregate: Aggregate) -> Iterator[tuple[bytes, float]]:
    """Yield the members of all operands with their aggregated scores. O(n * k * log n), n the size of the smallest of k."""
    first, *others = by_size(operands)
    for member, score in first.pairs():
        total = _weighted(score, first.weight)
        for other in others:
            value = score if other.is_same(first) else other.get(member)
            if value is None:
                break
            total = aggregate(total, value * other.weight)
        else:
            yield member, total


def difference(operands: Sequence[Operand]) -> dict[bytes, float]:
    """Return the members of the first operand that none of the others has, with their scores.

    Asks the others for each member, or takes their members away one by one, whichever is less: O(n * k * log n) or O(all).
    """
    first, *others = operands
    if any(other.is_same(first) for other in others):
        return {}
    if first.count * len(others) <= first.count + sum(other.count for other in others):
        return {member: score for member, score in first.pairs() if all(other.get(member) is None for other in others)}
    found = dict(first.pairs())
    for other in others:
        for member, _ in other.pairs():
            found.pop(member, None)
    return found
