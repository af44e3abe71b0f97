"""Sorted set commands: words and replies. Source: the Redis 7.2 manual, group *sorted-set*; `zsets_ranges` and `zsets_algebra` have the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lmdbredis import cursors, pattern
from lmdbredis.arguments import (
    keys_after_count,
    negatable,
    number,
    pop_words,
    positive,
    timeout_ms,
)
from lmdbredis.blocking import Wait
from lmdbredis.datatypes import outside, zsets
from lmdbredis.datatypes import zsets_ranges as ranges
from lmdbredis.datatypes.members import REPEATS_MAX
from lmdbredis.errors import (
    OUT_OF_RANGE,
    SCORE_NAN,
    SYNTAX,
    WRONG_ARITY,
    ZADD_GT_LT_NX,
    ZADD_INCR_MANY,
    ZADD_NX_AND_XX,
    ReplyError,
)
from lmdbredis.format import ZSET
from lmdbredis.registry import BLOCKING, DENYOOM, FAST, MOVABLEKEYS, READ, WRITE, Context, by_key, command
from lmdbredis.resp import NULL_ARRAY, Pairs
from lmdbredis.words import INTEGER_MAX, format_float, parse_float

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from lmdbredis.entry import Entry

_PAIRS_MAX: Final = INTEGER_MAX // 2
_IS_GREATEST: Final = {b"MAX": True, b"MIN": False}


# --- writing ------------------------------------------------------------------------------------------------------------------


def _zadd_run(cx: Context, requests: Sequence[Sequence[bytes]]) -> list[Any] | None:
    """Return the replies to ZADDs of one score and member each, which is neither a flag nor zero."""
    scores = [score for words in requests if (score := parse_float(words[2]))]
    if len(scores) < len(requests):
        return None
    coming = iter(scores)

    def put(cx: Context, key: bytes, same: list[Sequence[bytes]]) -> list[int]:
        pairs = [(words[3], next(coming)) for words in same]
        return zsets.add_each(cx.db, cx.db.edit_or_create(key, ZSET), pairs)

    return by_key(put)(cx, requests)


@command("ZADD", flags=WRITE | DENYOOM | FAST, run=_zadd_run)
def zadd(cx: Context, key: bytes, score: bytes, member: bytes, *rest: bytes) -> Any:
    """ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...] -- Adds members to a sorted set, which is created if need be, or changes their scores; returns how many are new. O(log N) for each member. Since 1.2.0."""
    if not rest and (value := parse_float(score)) is not None:
        return 1 if zsets.add(cx.db, key, member, value) else 0
    flags, pairs = _zadd_words((score, member, *rest))
    if b"INCR" in flags:
        return _increment(cx, key, *pairs[0], flags)
    entry = cx.db.edit(key, ZSET)
    if entry is None:
        if b"XX" in flags:
            return 0
        entry = cx.db.create(key, ZSET)
    added, updated = _put_pairs(cx, entry, flags, pairs)
    return added + updated if b"CH" in flags else added


_ZADD_FLAGS: Final = frozenset((b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"))


def _zadd_words(words: Sequence[bytes]) -> tuple[set[bytes], list[tuple[bytes, float]]]:
    """Return (flags, [(member, score), ...]) of ZADD's words. Raises ReplyError."""
    flags: set[bytes] = set()
    at = 0
    while at < len(words) and (flag := words[at].upper()) in _ZADD_FLAGS:
        flags.add(flag)
        at += 1
    if at == len(words) or (len(words) - at) % 2:
        raise ReplyError(SYNTAX)
    if {b"NX", b"XX"} <= flags:
        raise ReplyError(ZADD_NX_AND_XX)
    if len(flags & {b"GT", b"LT", b"NX"}) > 1:
        raise ReplyError(ZADD_GT_LT_NX)
    if b"INCR" in flags and len(words) - at > 2:
        raise ReplyError(ZADD_INCR_MANY)
    scores = [number(word) for word in words[at::2]]
    return flags, list(zip(words[at + 1 :: 2], scores, strict=True))


def _put_pairs(
    cx: Context, entry: Entry, flags: AbstractSet[bytes], pairs: Iterable[tuple[bytes, float]]
) -> tuple[int, int]:
    """Put members and scores as the flags allow; return (how many are new, how many changed)."""
    db = cx.db
    added = updated = 0
    for member, score in pairs:
        old = zsets.get(db, entry, member)
        if old == score or not _allowed(flags, old, score):
            continue
        zsets.put(db, entry, member, score, old)
        if old is None:
            added += 1
        else:
            updated += 1
    if added:
        zsets.finish(db, entry)
    return added, updated


def _allowed(flags: AbstractSet[bytes], old: float | None, score: float) -> bool:
    """Tell whether a member that has the score `old` (None: is not there) may get this one."""
    if old is None:
        return b"XX" not in flags
    return not (b"NX" in flags or (b"GT" in flags and score <= old) or (b"LT" in flags and score >= old))


def _increment(cx: Context, key: bytes, member: bytes, by: float, flags: AbstractSet[bytes]) -> float | None:
    """Add to the member's score, 0 if it is not there, as the flags allow; return the sum, None if they do not."""
    db = cx.db
    entry = db.edit(key, ZSET)
    old = None if entry is None else zsets.get(db, entry, member)
    score = by if old is None else old + by
    if score != score:  # noqa: PLR0124  -- NaN is that
        raise ReplyError(SCORE_NAN)
    if not _allowed(flags, old, score):
        return None
    if old != score:
        if entry is None:
            entry = db.create(key, ZSET)
        zsets.put(db, entry, member, score, old)
        if old is None:
            zsets.finish(db, entry)
    return score


@command("ZINCRBY", flags=WRITE | DENYOOM | FAST)
def zincrby(cx: Context, key: bytes, increment: bytes, member: bytes) -> float | None:
    """ZINCRBY key increment member -- Adds to the score of a member, 0 if it is not there; returns the sum. O(log N). Since 1.2.0."""
    return _increment(cx, key, member, number(increment), frozenset())


@command("ZREM", flags=WRITE | FAST)
def zrem(cx: Context, key: bytes, member: bytes, *others: bytes) -> int:
    """ZREM key member [member ...] -- Removes members from a sorted set and returns how many were there. Deletes the sorted set if all were removed. O(M log N) for M members. Since 1.2.0."""
    db = cx.db
    entry = db.edit(key, ZSET)
    if entry is None:
        return 0
    deleted = zsets.delete(db, entry, member) + sum(zsets.delete(db, entry, other) for other in others)
    if deleted:
        zsets.finish(db, entry)
    return deleted


# --- popping ------------------------------------------------------------------------------------------------------------------


@command("ZPOPMIN", flags=WRITE | FAST)
def zpopmin(cx: Context, key: bytes, *options: bytes) -> Any:
    """ZPOPMIN key [count] -- Removes the members with the lowest scores and returns them with their scores. Deletes the sorted set if the last member was popped. O(M log N) for M members popped. Since 5.0.0."""
    return _pop(cx, key, options, greatest=False)


@command("ZPOPMAX", flags=WRITE | FAST)
def zpopmax(cx: Context, key: bytes, *options: bytes) -> Any:
    """ZPOPMAX key [count] -- Removes the members with the highest scores and returns them with their scores. Deletes the sorted set if the last member was popped. O(M log N) for M members popped. Since 5.0.0."""
    return _pop(cx, key, options, greatest=True)


def _pop(cx: Context, key: bytes, options: Sequence[bytes], *, greatest: bool) -> Any:
    """Return what ZPOPMIN and ZPOPMAX reply: pairs if there is a count, else one flat."""
    if len(options) > 1:
        raise ReplyError(SYNTAX)
    count = positive(options[0]) if options else 1
    entry = cx.db.edit(key, ZSET)
    popped = zsets.pop(cx.db, entry, count, greatest=greatest) if entry is not None else []
    if options:
        return Pairs(popped)
    return popped[0] if popped else ()


@command("BZPOPMIN", flags=WRITE | BLOCKING | FAST, keys=(1, -2, 1))
def bzpopmin(cx: Context, key: bytes, following: bytes, *words: bytes) -> Any:
    """BZPOPMIN key [key ...] timeout -- Removes and returns the member with the lowest score from the first sorted set that exists; waits for one if none does. O(log N). Since 5.0.0."""
    return _blocking_pop(cx, (key, following, *words), greatest=False)


@command("BZPOPMAX", flags=WRITE | BLOCKING | FAST, keys=(1, -2, 1))
def bzpopmax(cx: Context, key: bytes, following: bytes, *words: bytes) -> Any:
    """BZPOPMAX key [key ...] timeout -- Removes and returns the member with the highest score from the first sorted set that exists; waits for one if none does. O(log N). Since 5.0.0."""
    return _blocking_pop(cx, (key, following, *words), greatest=True)


def _blocking_pop(cx: Context, words: Sequence[bytes], *, greatest: bool) -> Any:
    """Return a key, the member taken out of its set, and its score. Raises Wait."""
    *keys, timeout = words
    wait_ms = timeout_ms(timeout, cx.now_ms)
    for key in keys:
        entry = cx.db.edit(key, ZSET)
        if entry is not None:
            return [key, *zsets.pop(cx.db, entry, 1, greatest=greatest)[0]]
    raise Wait(keys, ZSET, wait_ms, NULL_ARRAY)


@command("ZMPOP", flags=WRITE | MOVABLEKEYS, keys_of=lambda words: keys_after_count(words, 1))
def zmpop(cx: Context, numkeys: bytes, word: bytes, following: bytes, *words: bytes) -> Any:
    """ZMPOP numkeys key [key ...] <MIN | MAX> [COUNT count] -- Removes the members with the lowest or highest scores from the first sorted set of several that is there, and returns its key and them with their scores. O(K + M log N) for K keys and M members popped. Since 7.0.0."""
    return _mpop(cx, *pop_words(numkeys, (word, following, *words), _IS_GREATEST)) or NULL_ARRAY


@command("BZMPOP", flags=WRITE | BLOCKING | MOVABLEKEYS, keys_of=lambda words: keys_after_count(words, 2))
def bzmpop(cx: Context, timeout: bytes, numkeys: bytes, word: bytes, following: bytes, *words: bytes) -> Any:
    """BZMPOP timeout numkeys key [key ...] <MIN | MAX> [COUNT count] -- As ZMPOP; waits for a member if no sorted set exists. O(K + M log N) for K keys and M members popped. Since 7.0.0."""
    keys, greatest, members_max = pop_words(numkeys, (word, following, *words), _IS_GREATEST)
    wait_ms = timeout_ms(timeout, cx.now_ms)
    found = _mpop(cx, keys, greatest, members_max)
    if found is None:
        raise Wait(keys, ZSET, wait_ms, NULL_ARRAY)
    return found


def _mpop(cx: Context, keys: Sequence[bytes], greatest: bool, members_max: int) -> list[Any] | None:
    """Return the first key whose set exists and the members taken out of it with their scores, None if none does."""
    for key in keys:
        entry = cx.db.edit(key, ZSET)
        if entry is not None:
            return [key, zsets.pop(cx.db, entry, members_max, greatest=greatest)]
    return None


# --- one member ---------------------------------------------------------------------------------------------------------------


@command("ZCARD", flags=READ | FAST)
def zcard(cx: Context, key: bytes) -> int:
    """ZCARD key -- Returns the number of members of a sorted set. O(1). Since 1.2.0."""
    entry = cx.db.open(key, ZSET)
    return 0 if entry is None else entry.count


@command("ZSCORE", flags=READ | FAST)
def zscore(cx: Context, key: bytes, member: bytes) -> float | None:
    """ZSCORE key member -- Returns the score of a member. O(log N). Since 1.2.0."""
    entry = cx.db.open(key, ZSET)
    return None if entry is None else zsets.get(cx.db, entry, member)


@command("ZMSCORE", flags=READ | FAST)
def zmscore(cx: Context, key: bytes, member: bytes, *others: bytes) -> list[float | None]:
    """ZMSCORE key member [member ...] -- Returns the scores of members, nil for each that is not there. O(M log N) for M members. Since 6.2.0."""
    entry = cx.db.open(key, ZSET)
    if entry is None:
        return [None] * (len(others) + 1)
    return [zsets.get(cx.db, entry, name) for name in (member, *others)]


@command("ZRANK", flags=READ | FAST)
def zrank(cx: Context, key: bytes, member: bytes, *options: bytes) -> Any:
    """ZRANK key member [WITHSCORE] -- Returns the index of a member among those ordered by ascending scores. O(log N). Since 2.0.0."""
    return _rank(cx, "zrank", key, member, options)


@command("ZREVRANK", flags=READ | FAST)
def zrevrank(cx: Context, key: bytes, member: bytes, *options: bytes) -> Any:
    """ZREVRANK key member [WITHSCORE] -- Returns the index of a member among those ordered by descending scores. O(log N). Since 2.0.0."""
    return _rank(cx, "zrevrank", key, member, options)


def _rank(cx: Context, name: str, key: bytes, member: bytes, options: Sequence[bytes]) -> Any:
    """Return what ZRANK and ZREVRANK reply."""
    if len(options) > 1:
        raise ReplyError(WRONG_ARITY % name)
    if options and options[0].upper() != b"WITHSCORE":
        raise ReplyError(SYNTAX)
    entry = cx.db.open(key, ZSET)
    score = None if entry is None else zsets.get(cx.db, entry, member)
    if entry is None or score is None:
        return NULL_ARRAY if options else None
    rank = ranges.rank(cx.db, entry, member, score)
    if name == "zrevrank":
        rank = entry.count - 1 - rank
    return [rank, score] if options else rank


@command("ZRANDMEMBER", flags=READ)
def zrandmember(cx: Context, key: bytes, *options: bytes) -> Any:
    """ZRANDMEMBER key [count [WITHSCORES]] -- Returns one member at random, or as many as asked: different ones, or any if the count is negative. O(M log N) for M members returned. Since 6.2.0."""
    if not options:
        entry = cx.db.open(key, ZSET)
        return None if entry is None else ranges.members(ranges.draw(cx.db, entry, 1, cx.random))[0]
    count = negatable(options[0])
    if len(options) > 1:
        if len(options) > 2 or options[1].upper() != b"WITHSCORES":
            raise ReplyError(SYNTAX)
        if not -_PAIRS_MAX <= count <= _PAIRS_MAX:
            raise ReplyError(OUT_OF_RANGE)
    entry = cx.db.open(key, ZSET)
    if entry is None or not count:
        return []
    if count < -REPEATS_MAX:
        raise ReplyError(OUT_OF_RANGE)
    keys = ranges.draw(cx.db, entry, count, cx.random)
    return Pairs(ranges.pairs(cx.db, entry, keys)) if len(options) > 1 else ranges.members(keys)


@command("ZSCAN", flags=READ)
def zscan(cx: Context, key: bytes, cursor: bytes, *options: bytes) -> list[Any]:
    """ZSCAN key cursor [MATCH pattern] [COUNT count] -- Walks over members and scores of a sorted set, some at a time. O(1) for each call, O(N) for a whole scan. Since 2.8.0."""
    token = cursors.cursor(cursor)
    entry = cx.db.open(key, ZSET)
    if entry is None:
        return [b"0", []]
    glob, count = cursors.scan_options(options)
    position = cx.cursors.position(token)
    found, following = zsets.scan(cx.db, entry, position, pattern.literal_prefix(glob or b""), count)
    matches = pattern.compile(glob or b"*")
    is_packed = outside.encoding(cx.db, entry, cx.config) == b"listpack"
    shown = format_float if is_packed else _format_long  # so Redis does, by its two encodings
    if is_packed:
        found.sort(key=lambda pair: (pair[1], pair[0]))
    flat = [word for member, score in found if matches(member) for word in (member, shown(score))]
    return [b"%d" % cx.cursors.token(following, token), flat]


def _format_long(score: float) -> bytes:
    """Return a score with 17 digits, as C's ``%.17g`` does."""
    return b"%.17g" % score
