"""List commands: words and replies. Source: the Redis 7.2 manual, group *list*.

A blocking command is its plain twin that raises `Wait` where that has nothing to return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lmdbredis.arguments import Arguments, choice, integer, keys_after_count, negatable, pop_words, positive, timeout_ms
from lmdbredis.blocking import Wait
from lmdbredis.datatypes import lists
from lmdbredis.errors import (
    INDEX_OUT_OF_RANGE,
    LPOS_COUNT_NEGATIVE,
    LPOS_MAXLEN_NEGATIVE,
    LPOS_RANK_ZERO,
    NO_SUCH_KEY,
    NOT_INTEGER,
    SYNTAX,
    ReplyError,
)
from lmdbredis.format import LIST
from lmdbredis.registry import (
    BLOCKING,
    DENYOOM,
    FAST,
    MOVABLEKEYS,
    READ,
    WRITE,
    Context,
    RunHandler,
    alike,
    by_key,
    command,
)
from lmdbredis.resp import NULL_ARRAY, OK
from lmdbredis.words import parse_int

if TYPE_CHECKING:
    from collections.abc import Sequence

_IS_LEFT: Final = {b"LEFT": True, b"RIGHT": False}
_IS_BEFORE: Final = {b"BEFORE": True, b"AFTER": False}


# --- ends -----------------------------------------------------------------------------------------------------------------


def _push_run(left: bool) -> RunHandler:
    """Return what runs pushes of one element each to this end."""

    def push(cx: Context, key: bytes, requests: Sequence[Sequence[bytes]]) -> Sequence[int]:
        length = lists.push(cx.db, key, [words[2] for words in requests], left)
        return range(length - len(requests) + 1, length + 1)

    return by_key(push)


def _pop_run(left: bool) -> RunHandler:
    """Return what runs pops of one element each from this end."""

    def pop(cx: Context, key: bytes, requests: Sequence[Sequence[bytes]]) -> list[bytes | None]:
        elements = lists.pop_each(cx.db, key, len(requests), left)
        return [*elements, *[None] * (len(requests) - len(elements))]

    return by_key(pop)


@command("LPUSH", flags=WRITE | DENYOOM | FAST, run=_push_run(left=True))
def lpush(cx: Context, key: bytes, element: bytes, *elements: bytes) -> int:
    """LPUSH key element [element ...] -- Puts elements before the first of a list, one after another; makes the list if there is none. O(1) for each element. Since 1.0.0."""
    return lists.push(cx.db, key, (element, *elements) if elements else (element,), True)


@command("RPUSH", flags=WRITE | DENYOOM | FAST, run=_push_run(left=False))
def rpush(cx: Context, key: bytes, element: bytes, *elements: bytes) -> int:
    """RPUSH key element [element ...] -- Puts elements after the last of a list; makes the list if there is none. O(1) for each element. Since 1.0.0."""
    return lists.push(cx.db, key, (element, *elements) if elements else (element,), False)


@command("LPUSHX", flags=WRITE | DENYOOM | FAST)
def lpushx(cx: Context, key: bytes, element: bytes, *elements: bytes) -> int:
    """LPUSHX key element [element ...] -- Puts elements before the first of a list that exists. O(1) for each element. Since 2.2.0."""
    return lists.push(cx.db, key, (element, *elements), True, creates=False)


@command("RPUSHX", flags=WRITE | DENYOOM | FAST)
def rpushx(cx: Context, key: bytes, element: bytes, *elements: bytes) -> int:
    """RPUSHX key element [element ...] -- Puts elements after the last of a list that exists. O(1) for each element. Since 2.2.0."""
    return lists.push(cx.db, key, (element, *elements), False, creates=False)


@command("LPOP", flags=WRITE | FAST, run=_pop_run(left=True))
def lpop(cx: Context, key: bytes, count: bytes | None = None) -> Any:
    """LPOP key [count] -- Takes elements off the beginning of a list and returns them. O(N) for N elements returned. Since 1.0.0."""
    return lists.pop(cx.db, key, True) if count is None else _pop_many(cx, key, count, True)


@command("RPOP", flags=WRITE | FAST, run=_pop_run(left=False))
def rpop(cx: Context, key: bytes, count: bytes | None = None) -> Any:
    """RPOP key [count] -- Takes elements off the end of a list and returns them, last first. O(N) for N elements returned. Since 1.0.0."""
    return lists.pop(cx.db, key, False) if count is None else _pop_many(cx, key, count, False)


def _pop_many(cx: Context, key: bytes, count: bytes, left: bool) -> Any:
    """Return the reply to a pop with a count."""
    elements = lists.pop_many(cx.db, key, positive(count), left)
    return NULL_ARRAY if elements is None else elements


@command("LMPOP", flags=WRITE | MOVABLEKEYS, keys_of=lambda words: keys_after_count(words, 1))
def lmpop(cx: Context, numkeys: bytes, word: bytes, following: bytes, *words: bytes) -> Any:
    """LMPOP numkeys key [key ...] <LEFT | RIGHT> [COUNT count] -- Takes elements off an end of the first list that exists. O(N+M) for N keys and M elements returned. Since 7.0.0."""
    keys, left, elements_max = pop_words(numkeys, (word, following, *words), _IS_LEFT)
    return _mpop(cx, keys, left, elements_max) or NULL_ARRAY


@command("BLMPOP", flags=WRITE | BLOCKING | MOVABLEKEYS, keys_of=lambda words: keys_after_count(words, 2))
def blmpop(cx: Context, timeout: bytes, numkeys: bytes, word: bytes, following: bytes, *words: bytes) -> Any:
    """BLMPOP timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count] -- As LMPOP; waits for an element if no list exists. O(N+M) for N keys and M elements returned. Since 7.0.0."""
    keys, left, elements_max = pop_words(numkeys, (word, following, *words), _IS_LEFT)
    wait_ms = timeout_ms(timeout, cx.now_ms)
    found = _mpop(cx, keys, left, elements_max)
    if found is None:
        raise Wait(keys, LIST, wait_ms, NULL_ARRAY)
    return found


def _mpop(cx: Context, keys: Sequence[bytes], left: bool, elements_max: int) -> list[Any] | None:
    """Return the first key whose list exists and the elements taken off it, None if none does."""
    for key in keys:
        elements = lists.pop_many(cx.db, key, elements_max, left)
        if elements is not None:
            return [key, elements]
    return None


@command("BLPOP", flags=WRITE | BLOCKING, keys=(1, -2, 1))
def blpop(cx: Context, key: bytes, following: bytes, *words: bytes) -> list[bytes]:
    """BLPOP key [key ...] timeout -- Takes the first element off the first list that exists; waits for one if none does. O(N) where N is the number of keys. Since 2.0.0."""
    return _blocking_pop(cx, (key, following, *words), left=True)


@command("BRPOP", flags=WRITE | BLOCKING, keys=(1, -2, 1))
def brpop(cx: Context, key: bytes, following: bytes, *words: bytes) -> list[bytes]:
    """BRPOP key [key ...] timeout -- Takes the last element off the first list that exists; waits for one if none does. O(N) where N is the number of keys. Since 2.0.0."""
    return _blocking_pop(cx, (key, following, *words), left=False)


def _blocking_pop(cx: Context, words: Sequence[bytes], *, left: bool) -> list[bytes]:
    """Return a key and the element taken off its list. Raises Wait."""
    *keys, timeout = words
    wait_ms = timeout_ms(timeout, cx.now_ms)
    for key in keys:
        element = lists.pop(cx.db, key, left)
        if element is not None:
            return [key, element]
    raise Wait(keys, LIST, wait_ms, NULL_ARRAY)


@command("LMOVE", flags=WRITE | DENYOOM, keys=(1, 2, 1))
def lmove(cx: Context, source: bytes, destination: bytes, wherefrom: bytes, whereto: bytes) -> bytes | None:
    """LMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT> -- Takes an element off an end of one list and puts it at an end of another. O(1). Since 6.2.0."""
    from_left, to_left = choice(_IS_LEFT, wherefrom), choice(_IS_LEFT, whereto)
    return lists.move(cx.db, source, destination, from_left=from_left, to_left=to_left)


@command("RPOPLPUSH", flags=WRITE | DENYOOM, keys=(1, 2, 1))
def rpoplpush(cx: Context, source: bytes, destination: bytes) -> bytes | None:
    """RPOPLPUSH source destination -- Takes the last element of one list and puts it before the first of another. O(1). Since 1.2.0."""
    return lists.move(cx.db, source, destination, from_left=False, to_left=True)


@command("BLMOVE", flags=WRITE | DENYOOM | BLOCKING, keys=(1, 2, 1))
def blmove(cx: Context, source: bytes, destination: bytes, wherefrom: bytes, whereto: bytes, timeout: bytes) -> bytes:
    """BLMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout -- As LMOVE; waits for an element if there is no source. O(1). Since 6.2.0."""
    from_left, to_left = choice(_IS_LEFT, wherefrom), choice(_IS_LEFT, whereto)
    return _blocking_move(cx, source, destination, timeout, from_left=from_left, to_left=to_left)


@command("BRPOPLPUSH", flags=WRITE | DENYOOM | BLOCKING, keys=(1, 2, 1))
def brpoplpush(cx: Context, source: bytes, destination: bytes, timeout: bytes) -> bytes:
    """BRPOPLPUSH source destination timeout -- As RPOPLPUSH; waits for an element if there is no source. O(1). Since 2.2.0."""
    return _blocking_move(cx, source, destination, timeout, from_left=False, to_left=True)


def _blocking_move(
    cx: Context, source: bytes, destination: bytes, timeout: bytes, *, from_left: bool, to_left: bool
) -> bytes:
    """Return the element that was moved. Raises Wait."""
    wait_ms = timeout_ms(timeout, cx.now_ms)
    element = lists.move(cx.db, source, destination, from_left=from_left, to_left=to_left)
    if element is None:
        raise Wait([source], LIST, wait_ms, None)
    return element


# --- reading --------------------------------------------------------------------------------------------------------------


@command("LLEN", flags=READ | FAST)
def llen(cx: Context, key: bytes) -> int:
    """LLEN key -- Counts the elements of a list. O(1). Since 1.0.0."""
    return lists.length(cx.db, key)


@command("LINDEX", flags=READ)
def lindex(cx: Context, key: bytes, index: bytes) -> bytes | None:
    """LINDEX key index -- Returns the element at an index, from the end if it is negative. O(log N) for N elements, O(1) if nothing was ever inserted or removed in the middle. Since 1.0.0."""
    at = parse_int(index)
    if at is not None:
        return lists.get(cx.db, key, at)
    if cx.db.open(key, LIST) is None:
        return None
    raise ReplyError(NOT_INTEGER)


@alike
@command("LRANGE", flags=READ)
def lrange(cx: Context, key: bytes, start: bytes, stop: bytes) -> list[bytes]:
    """LRANGE key start stop -- Returns the elements from one index to another. O(log N+M) for N elements and M of them returned. Since 1.0.0."""
    return lists.get_range(cx.db, key, integer(start), integer(stop))


@command("LPOS", flags=READ)
def lpos(cx: Context, key: bytes, element: bytes, *words: bytes) -> Any:
    """LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len] -- Returns the indexes at which an element stands. O(N) for N elements compared. Since 6.0.6."""
    options = Arguments(words)
    rank, matches_max, scanned_max = 1, None, 0
    while options:
        if options.accept(b"RANK", 1):
            rank = negatable(options.next())
            if not rank:
                raise ReplyError(LPOS_RANK_ZERO)
        elif options.accept(b"COUNT", 1):
            matches_max = positive(options.next(), LPOS_COUNT_NEGATIVE)
        elif options.accept(b"MAXLEN", 1):
            scanned_max = positive(options.next(), LPOS_MAXLEN_NEGATIVE)
        else:
            raise ReplyError(SYNTAX)
    matches = 1 if matches_max is None else matches_max
    found = lists.find(cx.db, key, element, rank=rank, matches_max=matches, scanned_max=scanned_max)
    if matches_max is None:
        return found[0] if found else None
    return [] if found is None else found


# --- changing in the middle -----------------------------------------------------------------------------------------------


@command("LSET", flags=WRITE | DENYOOM)
def lset(cx: Context, key: bytes, index: bytes, element: bytes) -> Any:
    """LSET key index element -- Replaces the element at an index. O(log N) for N elements, O(1) if nothing was ever inserted or removed in the middle. Since 1.0.0."""
    if cx.db.edit(key, LIST) is None:
        raise ReplyError(NO_SUCH_KEY)
    if not lists.put(cx.db, key, integer(index), element):
        raise ReplyError(INDEX_OUT_OF_RANGE)
    return OK


@command("LINSERT", flags=WRITE | DENYOOM)
def linsert(cx: Context, key: bytes, where: bytes, pivot: bytes, element: bytes) -> int:
    """LINSERT key <BEFORE | AFTER> pivot element -- Puts an element beside the first one that equals the pivot. O(N) for N elements before the pivot. Since 2.2.0."""
    return lists.insert(cx.db, key, pivot, element, before=choice(_IS_BEFORE, where))


@command("LREM", flags=WRITE)
def lrem(cx: Context, key: bytes, count: bytes, element: bytes) -> int:
    """LREM key count element -- Removes the first elements that equal the given one, the last ones if the count is negative, all if it is 0. O(N) for N elements. Since 1.0.0."""
    removed_max = negatable(count)
    return lists.remove(cx.db, key, element, abs(removed_max), back=removed_max < 0)


@command("LTRIM", flags=WRITE)
def ltrim(cx: Context, key: bytes, start: bytes, stop: bytes) -> Any:
    """LTRIM key start stop -- Keeps the elements from one index to another and removes the rest. O(N) for N elements removed, or kept if those are far fewer. Since 1.0.0."""
    lists.trim(cx.db, key, integer(start), integer(stop))
    return OK
