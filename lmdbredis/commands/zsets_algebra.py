"""Sorted sets from sorted sets: words and replies of ZUNION, ZINTER, ZDIFF and their like.

Source: the Redis 7.2 manual, group *sorted-set*. Operands may be plain sets too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final

from lmdbredis.arguments import Arguments, integer, keys_after_count, number, positive
from lmdbredis.datatypes import zsets
from lmdbredis.datatypes import zsets_algebra as algebra
from lmdbredis.datatypes.zsets_algebra import Operand
from lmdbredis.errors import LIMIT_NEGATIVE, NO_INPUT_KEY, SYNTAX, WEIGHT_NOT_FLOAT, WRONG_TYPE, ReplyError
from lmdbredis.format import SET, ZSET
from lmdbredis.registry import DENYOOM, MOVABLEKEYS, READ, WRITE, Context, command
from lmdbredis.resp import Pairs

Found = Iterable[tuple[bytes, float]]


# --- words ----------------------------------------------------------------------------------------------------------------------


def _operands(cx: Context, name: str, numkeys: bytes, words: Sequence[bytes]) -> tuple[list[Operand], Arguments]:
    """Return the operands that the words name, and the words after them. Raises ReplyError."""
    count = integer(numkeys)
    if count < 1:
        raise ReplyError(NO_INPUT_KEY % name)
    options = Arguments(words)
    operands = []
    for key in options.take(count):
        found = cx.db.read(key)
        if type(found) is bytes or (found is not None and found.kind not in {ZSET, SET}):  # type: ignore[union-attr]
            raise ReplyError(WRONG_TYPE)
        operands.append(Operand(cx.db, found))  # type: ignore[arg-type]
    return operands, options


def _accept_combining(options: Arguments, operands: list[Operand], aggregate: algebra.Aggregate) -> algebra.Aggregate:
    """Read WEIGHTS into the operands, or AGGREGATE, one of which must be next; return how to aggregate."""
    if options.accept(b"WEIGHTS", len(operands)):
        for operand in operands:
            operand.weight = number(options.next(), WEIGHT_NOT_FLOAT)
        return aggregate
    if options.accept(b"AGGREGATE", 1):
        chosen = algebra.AGGREGATES.get(options.next().upper())
        if chosen is not None:
            return chosen
    raise ReplyError(SYNTAX)


Combine = Callable[[Sequence[Operand], algebra.Aggregate], Found]


def _combined(
    cx: Context, name: str, combine: Combine, numkeys: bytes, words: Sequence[bytes], *, stores: bool
) -> tuple[Found, bool]:
    """Return (the pairs, in any order; WITHSCORES) of ZUNION, ZINTER and their STORE forms."""
    operands, options = _operands(cx, name, numkeys, words)
    aggregate = algebra.AGGREGATES[b"SUM"]
    with_scores = False
    while options:
        if not stores and options.accept(b"WITHSCORES"):
            with_scores = True
        else:
            aggregate = _accept_combining(options, operands, aggregate)
    return combine(operands, aggregate), with_scores


def _difference(cx: Context, name: str, numkeys: bytes, words: Sequence[bytes], *, stores: bool) -> tuple[Found, bool]:
    """Return (the pairs, in any order; WITHSCORES) of ZDIFF and ZDIFFSTORE."""
    operands, options = _operands(cx, name, numkeys, words)
    with_scores = False
    while options:
        if stores or not options.accept(b"WITHSCORES"):
            raise ReplyError(SYNTAX)
        with_scores = True
    return algebra.difference(operands).items(), with_scores


def _union(operands: Sequence[Operand], aggregate: algebra.Aggregate) -> Found:
    return algebra.union(operands, aggregate).items()


def _reply(found: Found, with_scores: bool) -> Any:
    """Return the pairs in the order of a sorted set, or their members only."""
    ordered = sorted(found, key=lambda pair: (pair[1], pair[0]))
    return Pairs(ordered) if with_scores else [member for member, _ in ordered]


def _store(cx: Context, key: bytes, found: Found) -> int:
    """Let the key be the sorted set of these pairs; return how many."""
    return zsets.store(cx.db, key, list(found))


# --- reading ------------------------------------------------------------------------------------------------------------------


@command("ZUNION", flags=READ | MOVABLEKEYS, keys_of=lambda words: keys_after_count(words, 1))
def zunion(cx: Context, numkeys: bytes, first: bytes, *words: bytes) -> Any:
    """ZUNION numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES] -- Returns the members of several sorted sets together. O(N log N) for N members in all. Since 6.2.0."""
    return _reply(*_combined(cx, "zunion", _union, numkeys, (first, *words), stores=False))


@command("ZINTER", flags=READ | MOVABLEKEYS, keys_of=lambda words: keys_after_count(words, 1))
def zinter(cx: Context, numkeys: bytes, first: bytes, *words: bytes) -> Any:
    """ZINTER numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES] -- Returns the members that several sorted sets have in common. O(N*K*log N) for K keys, the smallest of N members. Since 6.2.0."""
    return _reply(*_combined(cx, "zinter", algebra.intersection, numkeys, (first, *words), stores=False))


@command("ZDIFF", flags=READ | MOVABLEKEYS, keys_of=lambda words: keys_after_count(words, 1))
def zdiff(cx: Context, numkeys: bytes, first: bytes, *words: bytes) -> Any:
    """ZDIFF numkeys key [key ...] [WITHSCORES] -- Returns the members of the first sorted set that none of the others has. O(N log N) for N members in all. Since 6.2.0."""
    return _reply(*_difference(cx, "zdiff", numkeys, (first, *words), stores=False))


@command("ZINTERCARD", flags=READ | MOVABLEKEYS, keys_of=lambda words: keys_after_count(words, 1))
def zintercard(cx: Context, numkeys: bytes, first: bytes, *words: bytes) -> int:
    """ZINTERCARD numkeys key [key ...] [LIMIT limit] -- Returns how many members several sorted sets have in common, counting no further than the limit. O(N*K*log N) for K keys, the smallest of N members. Since 7.0.0."""
    operands, options = _operands(cx, "zintercard", numkeys, (first, *words))
    limit = 0
    while options:
        if not options.accept(b"LIMIT", 1):
            raise ReplyError(SYNTAX)
        limit = positive(options.next(), LIMIT_NEGATIVE)
    found = algebra.intersection(operands, algebra.AGGREGATES[b"SUM"])
    return sum(1 for _ in islice(found, limit or None))


# --- storing ------------------------------------------------------------------------------------------------------------------


def _keys_to_store(words: Sequence[bytes]) -> list[int]:
    """Return the positions of the destination and of the operands."""
    return [1, *keys_after_count(words, 2)]


_STORE_FLAGS: Final = WRITE | DENYOOM | MOVABLEKEYS


@command("ZUNIONSTORE", flags=_STORE_FLAGS, keys=(1, 1, 1), keys_of=_keys_to_store)
def zunionstore(cx: Context, destination: bytes, numkeys: bytes, first: bytes, *words: bytes) -> int:
    """ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] -- Lets a key be the members of several sorted sets together, and returns how many. O(N log N) for N members in all. Since 2.0.0."""
    return _store(cx, destination, _combined(cx, "zunionstore", _union, numkeys, (first, *words), stores=True)[0])


@command("ZINTERSTORE", flags=_STORE_FLAGS, keys=(1, 1, 1), keys_of=_keys_to_store)
def zinterstore(cx: Context, destination: bytes, numkeys: bytes, first: bytes, *words: bytes) -> int:
    """ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] -- Lets a key be the members that several sorted sets have in common, and returns how many. O(N*K*log N) for K keys, the smallest of N members. Since 2.0.0."""
    return _store(
        cx, destination, _combined(cx, "zinterstore", algebra.intersection, numkeys, (first, *words), stores=True)[0]
    )


@command("ZDIFFSTORE", flags=_STORE_FLAGS, keys=(1, 1, 1), keys_of=_keys_to_store)
def zdiffstore(cx: Context, destination: bytes, numkeys: bytes, first: bytes, *words: bytes) -> int:
    """ZDIFFSTORE destination numkeys key [key ...] -- Lets a key be the members of the first sorted set that none of the others has, and returns how many. O(N log N) for N members in all. Since 6.2.0."""
    return _store(cx, destination, _difference(cx, "zdiffstore", numkeys, (first, *words), stores=True)[0])
