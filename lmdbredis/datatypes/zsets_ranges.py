"""Sorted sets, read in order: ranks, spans, slices. Nothing here writes.

Theory. A row of `zset.score` has the sortable score and the member in its key, so the rows stand in the order of the sorted
set, and `ranks` counts them. Every question about order is one of two: how many rows stand before a place (`_rank`), and
which rows are the i-th to the j-th (`_slice`). A range by score or by name becomes a *span*, the indexes [first, last), in
O(log n); LIMIT and REV are arithmetic on it. Short ranges skip the counting: their rows are read from where they begin
(`_take_near`).

Words: a *cut* is a place between rows, as bytes that follow the owner: every row whose key is less stands before it.
A *whole key* is a row's key with the whole member in it, also if the row stores prefix and digest.

Laws:

1. Order is exact: by score, then by the bytes of the whole member, which is the order of whole keys. Members longer than
   `format.PREFIX_BYTES` that share that prefix and a score stand together in their rows, but in digest order; whoever may
   have met such a row sorts their group by whole keys (`_exact`). Nobody else pays for them but a look at lengths.
   So with *m* members of that kind in one group a question costs O(m) more.
2. Indexes given to a function exist; spans may be empty, first >= last.
3. A range by name means something only where all scores are equal. Where they are not, it is found by bisection over the
   ranks, as Redis's walk finds it if the members happen to be in the order of their scores.

Entries are given; who opened them has looked at the type.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

from lmdbredis import format as fmt
from lmdbredis.datatypes import members as shared
from lmdbredis.format import COUNTED, LONG_NAME_BYTES, NAME_BYTES_MAX, PREFIX_BYTES, SCORES
from lmdbredis.table import after_prefix

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from lmdbredis.database import Database
    from lmdbredis.entry import Entry

MEMBER: Final = 16  # where the member begins in a key of `zset.score`: after owner and sortable score
_NEAR_ROWS: Final = 512  # up to so many rows are read from where they begin, without counting first
_EDGE_ROWS: Final = 64  # an index so close to an end is reached from that end
_SUSPECT_BYTES: Final = MEMBER + PREFIX_BYTES  # shorter keys have their exact place (law 1)
_LONG_KEY_BYTES: Final = MEMBER + LONG_NAME_BYTES


class NameCut(NamedTuple):
    """A place among members by name: before or after `member`, or at an end."""

    side: int  # -1: before all members, 1: after all members, 0: where the rest says
    member: bytes = b""
    after: bool = False


class Window(NamedTuple):
    """What of a range is wanted: nothing after a negative `offset`; a negative `limit` is none."""

    offset: int
    limit: int
    reverse: bool  # counted from the end, and descending


FIRST_NAME: Final = NameCut(-1)
LAST_NAME: Final = NameCut(1)
FIRST_SCORE: Final = b""
LAST_SCORE: Final = b"\xff" * 8


def score_cut(score: float, *, after: bool) -> bytes:
    """Return the cut before or after all rows of a score."""
    packed = fmt.sortable(score)
    return fmt.pack_u64(fmt.unpack_u64(packed) + 1) if after else packed


# --- the two questions ------------------------------------------------------------------------------------------------------


def _rank(db: Database, entry: Entry, cut: bytes) -> int:
    """Return how many rows stand before a cut. O(log n)."""
    scores = db.keyspace.store.tables[SCORES]
    if entry.flags & COUNTED:
        return db.keyspace.ranks.open(scores, entry.owner).rank(cut)
    return bisect_left(scores.take_keys(entry.owner, entry.count), entry.owner + cut)


def _slice(db: Database, entry: Entry, first: int, last: int) -> list[bytes]:
    """Return the keys of the rows [first, last), in the order of rows. O(log n + rows)."""
    scores = db.keyspace.store.tables[SCORES]
    from_end = entry.count - first
    if last <= from_end and (first <= _EDGE_ROWS or not entry.flags & COUNTED):
        keys = scores.take_keys(entry.owner, last)
        return keys[first:] if first else keys
    if from_end <= _EDGE_ROWS or not entry.flags & COUNTED:
        keys = [key for key, _ in scores.take_back(after_prefix(entry.owner), from_end)]
        keys.reverse()
        return keys[: last - first]
    return db.keyspace.ranks.take_keys(scores, entry.owner, first, last - first, counted=True)


def _may_be_inexact(keys: list[bytes]) -> bool:
    """Tell whether any of the keys may stand in digest order (law 1)."""
    return bool(keys) and max(map(len, keys)) >= _SUSPECT_BYTES


def take(db: Database, entry: Entry, first: int, last: int) -> list[bytes]:
    """Return the whole keys with the indexes [first, last), ascending. O(log n + keys)."""
    if first >= last:
        return []
    keys = _slice(db, entry, first, last)
    return _exact(db, entry, keys, first) if _may_be_inexact(keys) else keys


def _exact(db: Database, entry: Entry, keys: list[bytes], first: int) -> list[bytes]:
    """Return the whole keys that have the indexes of these rows, the first of which is the row number `first`.

    The groups at both ends may reach beyond them: read them whole, sort, and leave out what was too much.
    """
    last = first + len(keys)
    low, high = first, last
    if len(keys[0]) >= _SUSPECT_BYTES:
        low = _rank(db, entry, keys[0][8:_SUSPECT_BYTES])
    if len(keys[-1]) >= _SUSPECT_BYTES:
        high = _rank(db, entry, after_prefix(keys[-1][8:_SUSPECT_BYTES]))
    if (low, high) != (first, last):
        keys = _slice(db, entry, low, high)
    return sorted(_wholes(db, keys))[first - low : last - low]


def _wholes(db: Database, keys: list[bytes]) -> list[bytes]:
    """Return the whole keys of rows."""
    get = db.keyspace.store.tables[SCORES].get
    return [key if len(key) < _LONG_KEY_BYTES else key[:MEMBER] + (get(key) or b"") for key in keys]


def position(db: Database, entry: Entry, packed: bytes, member: bytes, *, after: bool = False) -> int:
    """Return how many members stand before `member` with the sortable score `packed`, there or not; `after`: or are it."""
    if len(member) <= PREFIX_BYTES:  # stored names and whole ones compare alike with it
        return _rank(db, entry, packed + member + b"\0" if after else packed + member)
    group = packed + member[:PREFIX_BYTES]
    first = _rank(db, entry, group)
    keys = take(db, entry, first, _rank(db, entry, after_prefix(group)))
    return first + (bisect_right if after else bisect_left)(keys, entry.owner + packed + member)


def rank(db: Database, entry: Entry, member: bytes, score: float) -> int:
    """Return how many members stand before `member`, which has this score. O(log n)."""
    return position(db, entry, fmt.sortable(score), member)


# --- spans ------------------------------------------------------------------------------------------------------------------


def span_by_index(count: int, start: int, stop: int) -> tuple[int, int]:
    """Return the span from `start` to `stop`, both inside, counted from the end if negative."""
    first = max(start + count, 0) if start < 0 else start
    last = stop + count if stop < 0 else stop
    return first, min(last + 1, count)


def span_by_score(db: Database, entry: Entry, low: bytes, high: bytes) -> tuple[int, int]:
    """Return the span between two cuts. O(log n)."""
    if low >= high:
        return 0, 0
    first = 0 if low <= _SCORE_MIN else _rank(db, entry, low)
    last = entry.count if high >= _SCORE_MAX else _rank(db, entry, high)
    return first, last


_SCORE_MIN: Final = score_cut(float("-inf"), after=False)
_SCORE_MAX: Final = score_cut(float("inf"), after=True)


def span_by_name(db: Database, entry: Entry, low: NameCut, high: NameCut) -> tuple[int, int]:
    """Return the span between two places among names. O(log n) if all scores are equal, else O(log^2 n)."""
    packed = None if low.side and high.side else _only_score(db, entry)
    return _name_index(db, entry, packed, low), _name_index(db, entry, packed, high)


def _name_index(db: Database, entry: Entry, packed: bytes | None, cut: NameCut) -> int:
    """Return how many members stand before a place among names; `packed` is the only score, None if there are several."""
    if cut.side:
        return 0 if cut.side < 0 else entry.count
    if packed is not None:
        return position(db, entry, packed, cut.member, after=cut.after)
    bisect = bisect_right if cut.after else bisect_left
    return bisect(range(entry.count), cut.member, key=lambda index: take(db, entry, index, index + 1)[0][MEMBER:])


def _only_score(db: Database, entry: Entry) -> bytes | None:
    """Return the sortable score that all members have, None if they have several. O(log n)."""
    first, last = _slice(db, entry, 0, 1), _slice(db, entry, entry.count - 1, entry.count)
    return first[0][8:MEMBER] if first[0][8:MEMBER] == last[0][8:MEMBER] else None


# --- ranges -----------------------------------------------------------------------------------------------------------------


def take_by_score(db: Database, entry: Entry, low: bytes, high: bytes, window: Window) -> list[bytes]:
    """Return the whole keys between two cuts that are in the window. O(log n + keys)."""
    keys = _take_near(db, entry, low, high, window)
    if keys is not None:
        return keys
    first, last = span_by_score(db, entry, low, high)
    return take_span(db, entry, first, last, window)


def take_by_name(db: Database, entry: Entry, low: NameCut, high: NameCut, window: Window) -> list[bytes]:
    """Return the whole keys between two places among names that are in the window. O(log n + keys) if all scores are equal."""
    packed = None if low.side and high.side else _only_score(db, entry)
    if packed is not None and max(len(low.member), len(high.member)) <= PREFIX_BYTES:
        keys = _take_near(db, entry, _cut_of(packed, low), _cut_of(packed, high), window)
        if keys is not None:
            return keys
    first, last = _name_index(db, entry, packed, low), _name_index(db, entry, packed, high)
    return take_span(db, entry, first, last, window)


def _cut_of(packed: bytes, cut: NameCut) -> bytes:
    """Return the cut that a place among the names of one score is, if its member is not longer than `PREFIX_BYTES`."""
    if cut.side:
        return FIRST_SCORE if cut.side < 0 else LAST_SCORE
    return packed + cut.member + b"\0" if cut.after else packed + cut.member


def take_span(db: Database, entry: Entry, first: int, last: int, window: Window) -> list[bytes]:
    """Return the whole keys with the indexes [first, last) that are in the window. O(log n + keys)."""
    offset, limit, reverse = window
    if offset < 0:
        return []
    if reverse:
        last -= offset
        if limit >= 0:
            first = max(first, last - limit)
    else:
        first += offset
        if limit >= 0:
            last = min(last, first + limit)
    keys = take(db, entry, first, last)
    if reverse:
        keys.reverse()
    return keys


def _take_near(db: Database, entry: Entry, low: bytes, high: bytes, window: Window) -> list[bytes] | None:
    """Return the whole keys of a range that one short walk from its beginning covers; None if it is not of that kind."""
    offset, limit, reverse = window
    if low >= high or offset < 0:
        return []
    for want in (offset + limit,) if limit >= 0 else (_EDGE_ROWS, _NEAR_ROWS):
        rows = min(want, entry.count)
        if rows > _NEAR_ROWS:
            return None
        keys = _walk(db, entry, low, high, rows, reverse=reverse)
        if limit >= 0 or len(keys) < rows or rows == entry.count:
            return None if _may_be_inexact(keys) else keys[offset:]
    return None


def _walk(db: Database, entry: Entry, low: bytes, high: bytes, rows_max: int, *, reverse: bool) -> list[bytes]:
    """Return up to `rows_max` keys between two cuts, in the order of rows, from the last one if `reverse`."""
    scores = db.keyspace.store.tables[SCORES]
    start, stop = entry.owner + low, entry.owner + high
    if reverse:
        return [key for key, _ in scores.take_back(stop, rows_max) if key >= start]
    keys = scores.take_keys(start, rows_max)
    if keys and keys[-1] >= stop:
        del keys[bisect_left(keys, stop) :]
    return keys


# --- members and scores -----------------------------------------------------------------------------------------------------


def members(keys: list[bytes]) -> list[bytes]:
    """Return the members of whole keys."""
    return [key[MEMBER:] for key in keys]


def pairs(db: Database, entry: Entry, keys: list[bytes]) -> list[tuple[bytes, float]]:
    """Return (member, score) of whole keys."""
    scores: Sequence[float] = fmt.unsortables(b"".join([key[8:MEMBER] for key in keys]))
    if entry.flags & fmt.SIGNED_ZERO:
        scores = [score or _signed_zero(db, entry, key[MEMBER:]) for key, score in zip(keys, scores, strict=True)]
    return list(zip(members(keys), scores, strict=True))


def _signed_zero(db: Database, entry: Entry, member: bytes) -> float:
    """Return the score of a member that has 0.0 or -0.0: keys of `zset.score` do not tell them apart."""
    stored = member if len(member) <= NAME_BYTES_MAX else fmt.stored_name(member)
    row = db.keyspace.store.tables[fmt.ZSETS].get(entry.owner + stored)
    assert row is not None
    return fmt.unpack_f64(row)


def draw(db: Database, entry: Entry, count: int, random: Random) -> list[bytes]:
    """Return whole keys chosen by chance: `count` different ones, all if there are no more; -`count`, each drawn anew, if negative.

    O(count * log n), but never more than O(n) for different ones.
    """
    scores = db.keyspace.store.tables[SCORES]
    if count < 0:
        return _wholes(db, shared.draw_repeating(db, scores, entry, -count, random))
    return _wholes(db, shared.draw(db, scores, entry, count, random))
