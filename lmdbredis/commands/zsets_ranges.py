"""Sorted set commands that mean a range: words and replies. Source: the Redis 7.2 manual, group *sorted-set*.

Theory. A range is read from its words into a `_Range`, which knows neither key nor reply; then the key is looked up, and the
range found in it. ZRANGE reads all of it from its options; each of its elders has a part of it fixed by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmdbredis.arguments import Arguments, integer
from lmdbredis.datatypes import zsets
from lmdbredis.datatypes import zsets_ranges as ranges
from lmdbredis.errors import LIMIT_BY_INDEX, NAME_BOUND, SCORE_BOUND, SYNTAX, WITHSCORES_BY_LEX, ReplyError
from lmdbredis.format import ZSET
from lmdbredis.registry import DENYOOM, FAST, READ, WRITE, Context, alike, command
from lmdbredis.resp import Pairs
from lmdbredis.words import parse_float

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmdbredis.database import Database
    from lmdbredis.entry import Entry

_INDEX, _SCORE, _NAME = b"INDEX", b"BYSCORE", b"BYLEX"


@dataclass(slots=True)
class _Range:
    """What a range command asks for."""

    by: bytes = _INDEX
    reverse: bool = False
    low: Any = None  # an index, a score cut or a name cut
    high: Any = None
    offset: int = 0
    limit: int = -1  # negative: none
    with_scores: bool = False

    def take(self, db: Database, entry: Entry) -> list[bytes]:
        """Return the whole keys of the range, in the order asked for."""
        window = ranges.Window(self.offset, self.limit, self.reverse)
        if self.by == _SCORE:
            return ranges.take_by_score(db, entry, self.low, self.high, window)
        if self.by == _NAME:
            return ranges.take_by_name(db, entry, self.low, self.high, window)
        first, last = ranges.span_by_index(entry.count, self.low, self.high)
        if self.reverse:
            first, last = entry.count - last, entry.count - first
        return ranges.take_span(db, entry, first, last, ranges.Window(0, -1, self.reverse))


# --- words into ranges ----------------------------------------------------------------------------------------------------------


def _read(
    low: bytes,
    high: bytes,
    words: Sequence[bytes],
    by: bytes = b"",
    *,
    reverse: bool | None = None,
    stores: bool = False,
) -> _Range:
    """Return the range that the words mean; what a command's name says already (`by`, `reverse`), they may not say."""
    asked = _Range(by or _INDEX, bool(reverse))
    options = Arguments(words)
    while options:
        if not stores and options.accept(b"WITHSCORES"):
            asked.with_scores = True
        elif options.accept(b"LIMIT", 2):
            asked.offset, asked.limit = integer(options.next()), integer(options.next())
        elif reverse is None and options.accept(b"REV"):
            asked.reverse = reverse = True
        elif not by and options.accept(_NAME):
            asked.by = by = _NAME
        elif not by and options.accept(_SCORE):
            asked.by = by = _SCORE
        else:
            raise ReplyError(SYNTAX)
    if asked.limit != -1 and asked.by == _INDEX:
        raise ReplyError(LIMIT_BY_INDEX)
    if asked.with_scores and asked.by == _NAME:
        raise ReplyError(WITHSCORES_BY_LEX)
    if asked.by == _INDEX:
        asked.low, asked.high = integer(low), integer(high)
    else:
        cuts = _score_cuts if asked.by == _SCORE else _name_cuts
        asked.low, asked.high = cuts(high, low) if asked.reverse else cuts(low, high)
    return asked


def _score_cuts(low: bytes, high: bytes) -> tuple[bytes, bytes]:
    """Return the cuts of a range by score. Raises ReplyError."""
    return _score_cut(low, is_high=False), _score_cut(high, is_high=True)


def _score_cut(word: bytes, *, is_high: bool) -> bytes:
    """Return the cut that a bound means: ``1.5``, ``(1.5`` without it, ``-inf``. Raises ReplyError.

    Bounds are read by C's strtod: they end at a NUL, the empty one is 0, and one that no double can hold is infinite.
    """
    exclusive = word.startswith(b"(")
    text = word[exclusive:].partition(b"\0")[0] or b"0"
    score = parse_float(text)
    if score is None:
        if text.strip(b"0123456789.+-eE"):
            raise ReplyError(SCORE_BOUND)
        try:
            score = float(text)
        except ValueError:
            raise ReplyError(SCORE_BOUND) from None
    return ranges.score_cut(score, after=exclusive != is_high)


def _name_cuts(low: bytes, high: bytes) -> tuple[ranges.NameCut, ranges.NameCut]:
    """Return the cuts of a range by name. Raises ReplyError."""
    return _name_cut(low, is_high=False), _name_cut(high, is_high=True)


def _name_cut(word: bytes, *, is_high: bool) -> ranges.NameCut:
    """Return the cut that a bound means: ``-``, ``+``, ``[name``, ``(name`` without it. Raises ReplyError."""
    mark = word[:1]
    if mark in {b"[", b"("}:
        return ranges.NameCut(0, word[1:], after=(mark == b"(") != is_high)
    if mark in {b"-", b"+"} and word[1:2] in {b"", b"\0"}:  # C reads no further than a NUL
        return ranges.FIRST_NAME if mark == b"-" else ranges.LAST_NAME
    raise ReplyError(NAME_BOUND)


# --- reading ------------------------------------------------------------------------------------------------------------------


def _reply(cx: Context, key: bytes, asked: _Range) -> Any:
    """Return the members of a range, with their scores if asked for."""
    entry = cx.db.open(key, ZSET)
    if entry is None:
        return []
    keys = asked.take(cx.db, entry)
    return Pairs(ranges.pairs(cx.db, entry, keys)) if asked.with_scores else ranges.members(keys)


@alike
@command("ZRANGE", flags=READ)
def zrange(cx: Context, key: bytes, start: bytes, stop: bytes, *options: bytes) -> Any:
    """ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES] -- Returns the members in a range of indexes, scores or names. O(log N + M) for M members returned. Since 1.2.0."""
    return _reply(cx, key, _read(start, stop, options))


@command("ZREVRANGE", flags=READ)
def zrevrange(cx: Context, key: bytes, start: bytes, stop: bytes, *options: bytes) -> Any:
    """ZREVRANGE key start stop [WITHSCORES] -- Returns the members in a range of indexes, ordered by descending scores. O(log N + M) for M members returned. Since 1.2.0."""
    return _reply(cx, key, _read(start, stop, options, _INDEX, reverse=True))


@command("ZRANGEBYSCORE", flags=READ)
def zrangebyscore(cx: Context, key: bytes, min_: bytes, max_: bytes, *options: bytes) -> Any:
    """ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count] -- Returns the members in a range of scores. O(log N + M) for M members returned. Since 1.0.5."""
    return _reply(cx, key, _read(min_, max_, options, _SCORE, reverse=False))


@command("ZREVRANGEBYSCORE", flags=READ)
def zrevrangebyscore(cx: Context, key: bytes, max_: bytes, min_: bytes, *options: bytes) -> Any:
    """ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count] -- Returns the members in a range of scores, ordered by descending scores. O(log N + M) for M members returned. Since 2.2.0."""
    return _reply(cx, key, _read(max_, min_, options, _SCORE, reverse=True))


@command("ZRANGEBYLEX", flags=READ)
def zrangebylex(cx: Context, key: bytes, min_: bytes, max_: bytes, *options: bytes) -> Any:
    """ZRANGEBYLEX key min max [LIMIT offset count] -- Returns the members in a range of names, where all scores are equal. O(log N + M) for M members returned. Since 2.8.9."""
    return _reply(cx, key, _read(min_, max_, options, _NAME, reverse=False))


@command("ZREVRANGEBYLEX", flags=READ)
def zrevrangebylex(cx: Context, key: bytes, max_: bytes, min_: bytes, *options: bytes) -> Any:
    """ZREVRANGEBYLEX key max min [LIMIT offset count] -- Returns the members in a range of names, in descending order, where all scores are equal. O(log N + M) for M members returned. Since 2.8.9."""
    return _reply(cx, key, _read(max_, min_, options, _NAME, reverse=True))


@command("ZRANGESTORE", flags=WRITE | DENYOOM, keys=(1, 2, 1))
def zrangestore(cx: Context, dst: bytes, src: bytes, min_: bytes, max_: bytes, *options: bytes) -> int:
    """ZRANGESTORE dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count] -- Lets a key be the sorted set of the members in a range of another, and returns how many. O(log N + M log M) for M members stored. Since 6.2.0."""
    asked = _read(min_, max_, options, stores=True)
    entry = cx.db.open(src, ZSET)
    found = [] if entry is None else ranges.pairs(cx.db, entry, asked.take(cx.db, entry))
    return zsets.store(cx.db, dst, found)


# --- counting -----------------------------------------------------------------------------------------------------------------


@command("ZCOUNT", flags=READ | FAST)
def zcount(cx: Context, key: bytes, min_: bytes, max_: bytes) -> int:
    """ZCOUNT key min max -- Returns how many members have a score in a range. O(log N). Since 2.0.0."""
    low, high = _score_cuts(min_, max_)
    entry = cx.db.open(key, ZSET)
    if entry is None:
        return 0
    first, last = ranges.span_by_score(cx.db, entry, low, high)
    return last - first


@command("ZLEXCOUNT", flags=READ | FAST)
def zlexcount(cx: Context, key: bytes, min_: bytes, max_: bytes) -> int:
    """ZLEXCOUNT key min max -- Returns how many members have a name in a range, where all scores are equal. O(log N). Since 2.8.9."""
    low, high = _name_cuts(min_, max_)
    entry = cx.db.open(key, ZSET)
    if entry is None:
        return 0
    first, last = ranges.span_by_name(cx.db, entry, low, high)
    return max(last - first, 0)


# --- removing -----------------------------------------------------------------------------------------------------------------


@command("ZREMRANGEBYRANK", flags=WRITE)
def zremrangebyrank(cx: Context, key: bytes, start: bytes, stop: bytes) -> int:
    """ZREMRANGEBYRANK key start stop -- Removes the members in a range of indexes and returns how many they were. Deletes the sorted set if all were removed. O(M log N) for M members removed, O(log N) if they are all. Since 2.0.0."""
    first, last = integer(start), integer(stop)
    entry = cx.db.edit(key, ZSET)
    if entry is None:
        return 0
    return zsets.delete_span(cx.db, entry, *ranges.span_by_index(entry.count, first, last))


@command("ZREMRANGEBYSCORE", flags=WRITE)
def zremrangebyscore(cx: Context, key: bytes, min_: bytes, max_: bytes) -> int:
    """ZREMRANGEBYSCORE key min max -- Removes the members with a score in a range and returns how many they were. Deletes the sorted set if all were removed. O(M log N) for M members removed, O(log N) if they are all. Since 1.2.0."""
    low, high = _score_cuts(min_, max_)
    entry = cx.db.edit(key, ZSET)
    if entry is None:
        return 0
    return zsets.delete_span(cx.db, entry, *ranges.span_by_score(cx.db, entry, low, high))


@command("ZREMRANGEBYLEX", flags=WRITE)
def zremrangebylex(cx: Context, key: bytes, min_: bytes, max_: bytes) -> int:
    """ZREMRANGEBYLEX key min max -- Removes the members with a name in a range, where all scores are equal, and returns how many they were. Deletes the sorted set if all were removed. O(M log N) for M members removed, O(log N) if they are all. Since 2.8.9."""
    low, high = _name_cuts(min_, max_)
    entry = cx.db.edit(key, ZSET)
    if entry is None:
        return 0
    return zsets.delete_span(cx.db, entry, *ranges.span_by_name(cx.db, entry, low, high))
