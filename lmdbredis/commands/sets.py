"""Set commands: words and replies. Source: the Redis 7.2 manual, group *set*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmdbredis import cursors, pattern
from lmdbredis.arguments import Arguments, keys_after_count, negatable, positive
from lmdbredis.datatypes import sets
from lmdbredis.datatypes.members import REPEATS_MAX
from lmdbredis.errors import LIMIT_NEGATIVE, NUMKEYS_NOT_POSITIVE, OUT_OF_RANGE, SYNTAX, TOO_MANY_KEYS, ReplyError
from lmdbredis.format import SET
from lmdbredis.registry import DENYOOM, FAST, MOVABLEKEYS, READ, WRITE, Context, alike, by_key, command
from lmdbredis.resp import Set

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lmdbredis.entry import Entry


# --- members ------------------------------------------------------------------------------------------------------------------


def _sadd_run(cx: Context, key: bytes, requests: Sequence[Sequence[bytes]]) -> list[int]:
    """Return the replies to SADDs of one member each."""
    return sets.add_each(cx.db, cx.db.edit_or_create(key, SET), [words[2] for words in requests], cx.random)


@command("SADD", flags=WRITE | DENYOOM | FAST, run=by_key(_sadd_run))
def sadd(cx: Context, key: bytes, member: bytes, *members: bytes) -> int:
    """SADD key member [member ...] -- Adds members to a set, which is created if need be; returns how many are new. O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments. Since 1.0.0."""
    db = cx.db
    entry = db.edit(key, SET) or db.create(key, SET)
    if members:
        return sum(sets.add_each(db, entry, (member, *members), cx.random))
    return sets.add(db, entry, member, cx.random)


@command("SREM", flags=WRITE | FAST)
def srem(cx: Context, key: bytes, member: bytes, *members: bytes) -> int:
    """SREM key member [member ...] -- Deletes members of a set, and the set when none is left; returns how many were there. O(N) where N is the number of members to be removed. Since 1.0.0."""
    entry = cx.db.edit(key, SET)
    return 0 if entry is None else sets.delete(cx.db, entry, (member, *members))


@command("SMOVE", flags=WRITE | FAST, keys=(1, 2, 1))
def smove(cx: Context, source: bytes, destination: bytes, member: bytes) -> int:
    """SMOVE source destination member -- Moves a member from one set to another, which is created if need be; tells whether it was there. O(1). Since 1.0.0."""
    db = cx.db
    entry = db.edit(source, SET)
    if entry is None:
        return 0
    target = db.edit(destination, SET)
    if target is entry:
        return 1 if sets.has(db, entry, member) else 0
    if not sets.delete(db, entry, (member,)):
        return 0
    sets.add(db, target or db.create(destination, SET), member, cx.random)
    return 1


@command("SCARD", flags=READ | FAST)
def scard(cx: Context, key: bytes) -> int:
    """SCARD key -- Returns the number of members of a set. O(1). Since 1.0.0."""
    entry = cx.db.open(key, SET)
    return 0 if entry is None else entry.count


@command("SISMEMBER", flags=READ | FAST)
def sismember(cx: Context, key: bytes, member: bytes) -> int:
    """SISMEMBER key member -- Tells whether a set has a member. O(1). Since 1.0.0."""
    entry = cx.db.open(key, SET)
    return 1 if entry is not None and sets.has(cx.db, entry, member) else 0


@command("SMISMEMBER", flags=READ | FAST)
def smismember(cx: Context, key: bytes, member: bytes, *members: bytes) -> list[int]:
    """SMISMEMBER key member [member ...] -- Tells of each member whether a set has it. O(N) where N is the number of elements being checked for membership. Since 6.2.0."""
    db = cx.db
    entry = db.open(key, SET)
    if entry is None:
        return [0] * (len(members) + 1)
    return [1 if sets.has(db, entry, name) else 0 for name in (member, *members)]


@alike
@command("SMEMBERS", flags=READ)
def smembers(cx: Context, key: bytes) -> Set:
    """SMEMBERS key -- Returns all members of a set. O(N) where N is the set cardinality. Since 1.0.0."""
    entry = cx.db.open(key, SET)
    return Set() if entry is None else Set(sets.everything(cx.db, entry))


@command("SSCAN", flags=READ)
def sscan(cx: Context, key: bytes, cursor: bytes, *options: bytes) -> list[Any]:
    """SSCAN key cursor [MATCH pattern] [COUNT count] -- Walks over the members of a set, some at a time. O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection. Since 2.8.0."""
    token = cursors.cursor(cursor)
    entry = cx.db.open(key, SET)
    if entry is None:
        return [b"0", []]
    glob, count = cursors.scan_options(options)
    prefix = b"" if glob is None else pattern.literal_prefix(glob)
    found, following = sets.scan(cx.db, entry, cx.cursors.position(token), prefix, count)
    if glob is not None:
        found = list(filter(pattern.compile(glob), found))
    return [b"%d" % cx.cursors.token(following, token), found]


# --- chance -------------------------------------------------------------------------------------------------------------------


def _spop_run(cx: Context, key: bytes, requests: Sequence[Sequence[bytes]]) -> list[bytes | None]:
    """Return the replies to SPOPs of one member each."""
    entry = cx.db.edit(key, SET)
    count = 0 if entry is None else min(len(requests), entry.count)
    popped: list[bytes | None] = []
    if entry is not None:
        popped += sets.pop_each(cx.db, entry, count, cx.random)
    return popped + [None] * (len(requests) - count)


@command("SPOP", flags=WRITE | FAST, run=by_key(_spop_run))
def spop(cx: Context, key: bytes, *options: bytes) -> Any:
    """SPOP key [count] -- Deletes one member at random, or as many as asked, and returns it. O(1) without the count argument, otherwise O(N) where N is the value of the passed count. Since 1.0.0."""
    db = cx.db
    if not options:
        entry = db.edit(key, SET)
        return None if entry is None else sets.pop(db, entry, cx.random)
    if len(options) > 1:
        raise ReplyError(SYNTAX)
    count = positive(options[0])
    entry = db.edit(key, SET)
    if entry is None or not count:
        return Set()
    return Set(sets.pop_many(db, entry, count, cx.random))


@command("SRANDMEMBER", flags=READ)
def srandmember(cx: Context, key: bytes, *options: bytes) -> Any:
    """SRANDMEMBER key [count] -- Returns one member at random, or as many as asked: different ones, or any if the count is negative. O(1) without the count argument, otherwise O(N) where N is the absolute value of the passed count. Since 1.0.0."""
    db = cx.db
    if not options:
        entry = db.open(key, SET)
        return None if entry is None else sets.pick(db, entry, cx.random)
    if len(options) > 1:
        raise ReplyError(SYNTAX)
    count = negatable(options[0])
    entry = db.open(key, SET)
    if entry is None or not count:
        return []
    if count < -REPEATS_MAX:
        raise ReplyError(OUT_OF_RANGE)
    return sets.draw(db, entry, count, cx.random)


# --- algebra ------------------------------------------------------------------------------------------------------------------


def _open(cx: Context, keys: Sequence[bytes]) -> list[Entry | None]:
    """Return the sets under the keys, None for what is not there. Raises WRONGTYPE, before anything is done."""
    return [cx.db.open(key, SET) for key in keys]


def _intersection(cx: Context, keys: Sequence[bytes]) -> Iterator[sets.Portion]:
    entries = _open(cx, keys)
    found = [entry for entry in entries if entry is not None]
    return sets.intersection(cx.db, found) if len(found) == len(entries) else iter(())


def _union(cx: Context, keys: Sequence[bytes]) -> Iterator[sets.Portion]:
    return sets.union(cx.db, [entry for entry in _open(cx, keys) if entry is not None])


def _difference(cx: Context, keys: Sequence[bytes]) -> Iterator[sets.Portion]:
    first, *others = _open(cx, keys)
    return (
        iter(()) if first is None else sets.difference(cx.db, first, [entry for entry in others if entry is not None])
    )


def _reply(cx: Context, portions: Iterator[sets.Portion]) -> Set:
    return Set(sets.names(cx.db, portions))


@command("SINTER", flags=READ, keys=(1, -1, 1))
def sinter(cx: Context, key: bytes, *keys: bytes) -> Set:
    """SINTER key [key ...] -- Returns the members that all of the sets have. O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets. Since 1.0.0."""
    return _reply(cx, _intersection(cx, (key, *keys)))


@command("SINTERSTORE", flags=WRITE | DENYOOM, keys=(1, -1, 1))
def sinterstore(cx: Context, destination: bytes, key: bytes, *keys: bytes) -> int:
    """SINTERSTORE destination key [key ...] -- Stores the members that all of the sets have in a key; returns how many. O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets. Since 1.0.0."""
    return sets.store(cx.db, destination, _intersection(cx, (key, *keys)))


@command("SINTERCARD", flags=READ | MOVABLEKEYS, keys_of=lambda words: keys_after_count(words, 1))
def sintercard(cx: Context, numkeys: bytes, key: bytes, *words: bytes) -> int:
    """SINTERCARD numkeys key [key ...] [LIMIT limit] -- Returns the number of members that all of the sets have, counted no further than a limit. O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets. Since 7.0.0."""
    count = positive(numkeys, NUMKEYS_NOT_POSITIVE)
    if not count:
        raise ReplyError(NUMKEYS_NOT_POSITIVE)
    options = Arguments((key, *words))
    if count > len(options):
        raise ReplyError(TOO_MANY_KEYS)
    keys = options.take(count)
    limit = 0
    while options:
        if options.accept(b"LIMIT", 1):
            limit = positive(options.next(), LIMIT_NEGATIVE)
        else:
            raise ReplyError(SYNTAX)
    found = 0
    for _, suffixes in _intersection(cx, keys):
        found += len(suffixes)
        if limit and found >= limit:
            return limit
    return found


@command("SUNION", flags=READ, keys=(1, -1, 1))
def sunion(cx: Context, key: bytes, *keys: bytes) -> Set:
    """SUNION key [key ...] -- Returns the members that any of the sets has. O(N) where N is the total number of elements in all given sets. Since 1.0.0."""
    return _reply(cx, _union(cx, (key, *keys)))


@command("SUNIONSTORE", flags=WRITE | DENYOOM, keys=(1, -1, 1))
def sunionstore(cx: Context, destination: bytes, key: bytes, *keys: bytes) -> int:
    """SUNIONSTORE destination key [key ...] -- Stores the members that any of the sets has in a key; returns how many. O(N) where N is the total number of elements in all given sets. Since 1.0.0."""
    return sets.store(cx.db, destination, _union(cx, (key, *keys)))


@command("SDIFF", flags=READ, keys=(1, -1, 1))
def sdiff(cx: Context, key: bytes, *keys: bytes) -> Set:
    """SDIFF key [key ...] -- Returns the members of the first set that none of the others has. O(N) where N is the total number of elements in all given sets. Since 1.0.0."""
    return _reply(cx, _difference(cx, (key, *keys)))


@command("SDIFFSTORE", flags=WRITE | DENYOOM, keys=(1, -1, 1))
def sdiffstore(cx: Context, destination: bytes, key: bytes, *keys: bytes) -> int:
    """SDIFFSTORE destination key [key ...] -- Stores the members of the first set that none of the others has in a key; returns how many. O(N) where N is the total number of elements in all given sets. Since 1.0.0."""
    return sets.store(cx.db, destination, _difference(cx, (key, *keys)))
