"""Hash commands: words and replies. Source: the Redis 7.2 manual, group *hash*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmdbredis import cursors, pattern
from lmdbredis.arguments import count_in_range, integer, negatable
from lmdbredis.datatypes import hashes
from lmdbredis.datatypes.members import REPEATS_MAX
from lmdbredis.errors import (
    HASH_VALUE_NOT_FLOAT,
    HASH_VALUE_NOT_INTEGER,
    INCREMENT_NOT_FINITE,
    NAN_OR_INFINITY,
    NOT_FLOAT,
    OUT_OF_RANGE,
    OVERFLOW,
    SYNTAX,
    WRONG_ARITY,
    ReplyError,
)
from lmdbredis.format import HASH
from lmdbredis.registry import DENYOOM, FAST, READ, WRITE, Context, alike, by_key, command
from lmdbredis.resp import OK, Pairs
from lmdbredis.words import INTEGER_MAX, INTEGER_MIN, add_floats, parse_float, parse_int

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmdbredis.entry import Entry


# --- writing ------------------------------------------------------------------------------------------------------------------


def _hset_run(cx: Context, key: bytes, requests: Sequence[Sequence[bytes]]) -> list[int]:
    """Return the replies to HSETs of one field each."""
    return hashes.put_each(cx.db, cx.db.edit_or_create(key, HASH), [(words[2], words[3]) for words in requests])


@command("HSET", flags=WRITE | DENYOOM | FAST, run=by_key(_hset_run))
def hset(cx: Context, key: bytes, field: bytes, value: bytes, *pairs: bytes) -> int:
    """HSET key field value [field value ...] -- Sets fields of a hash, which is created if need be; returns how many are new. O(1) for each field/value pair added, so O(N) to add N field/value pairs. Since 2.0.0."""
    if pairs:
        return _put_pairs(cx, "hset", key, (field, value, *pairs))
    db = cx.db
    return hashes.put(db, db.edit(key, HASH) or db.create(key, HASH), field, value)


@command("HMSET", flags=WRITE | DENYOOM | FAST)
def hmset(cx: Context, key: bytes, field: bytes, value: bytes, *pairs: bytes) -> Any:
    """HMSET key field value [field value ...] -- Sets fields of a hash, which is created if need be. O(N) where N is the number of fields being set. Since 2.0.0."""
    _put_pairs(cx, "hmset", key, (field, value, *pairs))
    return OK


def _put_pairs(cx: Context, name: str, key: bytes, pairs: tuple[bytes, ...]) -> int:
    """Put fields and values that alternate; return how many fields are new."""
    if len(pairs) % 2:
        raise ReplyError(WRONG_ARITY % name)
    return sum(hashes.put_each(cx.db, cx.db.edit_or_create(key, HASH), zip(pairs[::2], pairs[1::2], strict=True)))


@command("HSETNX", flags=WRITE | DENYOOM | FAST)
def hsetnx(cx: Context, key: bytes, field: bytes, value: bytes) -> int:
    """HSETNX key field value -- Sets a field of a hash only if it is not there yet. O(1). Since 2.0.0."""
    db = cx.db
    entry = db.edit(key, HASH)
    if entry is not None and hashes.value_of(db, entry, field) is not None:
        return 0
    return hashes.put(db, entry or db.create(key, HASH), field, value)


@command("HDEL", flags=WRITE | FAST)
def hdel(cx: Context, key: bytes, field: bytes, *fields: bytes) -> int:
    """HDEL key field [field ...] -- Deletes fields of a hash, and the hash when none is left; returns how many were there. O(N) where N is the number of fields to be removed. Since 2.0.0."""
    entry = cx.db.edit(key, HASH)
    return 0 if entry is None else hashes.delete(cx.db, entry, (field, *fields))


@command("HINCRBY", flags=WRITE | DENYOOM | FAST)
def hincrby(cx: Context, key: bytes, field: bytes, increment: bytes) -> int:
    """HINCRBY key field increment -- Adds to the integer in a field, 0 if it is not there; returns the sum. O(1). Since 2.0.0."""
    by = integer(increment)
    entry, old = _old(cx, key, field)
    number = 0 if old is None else parse_int(old)
    if number is None:
        raise ReplyError(HASH_VALUE_NOT_INTEGER)
    number += by
    if not INTEGER_MIN <= number <= INTEGER_MAX:
        raise ReplyError(OVERFLOW)
    hashes.put(cx.db, entry or cx.db.create(key, HASH), field, b"%d" % number)
    return number


@command("HINCRBYFLOAT", flags=WRITE | DENYOOM | FAST)
def hincrbyfloat(cx: Context, key: bytes, field: bytes, increment: bytes) -> bytes:
    """HINCRBYFLOAT key field increment -- Adds to the number in a field, 0 if it is not there; returns the sum. O(1). Since 2.6.0."""
    by = parse_float(increment)
    if by is None or by - by != 0:
        add_floats(b"0", increment, NOT_FLOAT, INCREMENT_NOT_FINITE)  # raises, unless only a long double can hold it
    entry, old = _old(cx, key, field)
    new = add_floats(b"0" if old is None else old, increment, HASH_VALUE_NOT_FLOAT, NAN_OR_INFINITY)
    hashes.put(cx.db, entry or cx.db.create(key, HASH), field, new)
    return new


def _old(cx: Context, key: bytes, field: bytes) -> tuple[Entry | None, bytes | None]:
    """Return (the hash to change, the value of its field), None for what is not there."""
    entry = cx.db.edit(key, HASH)
    return entry, None if entry is None else hashes.value_of(cx.db, entry, field)


# --- reading ------------------------------------------------------------------------------------------------------------------


@command("HGET", flags=READ | FAST)
def hget(cx: Context, key: bytes, field: bytes) -> bytes | None:
    """HGET key field -- Returns the value of a field. O(1). Since 2.0.0."""
    return hashes.get(cx.db, key, field)


@command("HMGET", flags=READ | FAST)
def hmget(cx: Context, key: bytes, field: bytes, *fields: bytes) -> list[bytes | None]:
    """HMGET key field [field ...] -- Returns the values of fields, nil for each that is not there. O(N) where N is the number of fields being requested. Since 2.0.0."""
    db = cx.db
    entry = db.open(key, HASH)
    if entry is None:
        return [None] * (len(fields) + 1)
    return [hashes.value_of(db, entry, name) for name in (field, *fields)]


@alike
@command("HGETALL", flags=READ)
def hgetall(cx: Context, key: bytes) -> dict[bytes, bytes]:
    """HGETALL key -- Returns all fields and values of a hash. O(N) where N is the size of the hash. Since 2.0.0."""
    entry = cx.db.open(key, HASH)
    return {} if entry is None else hashes.everything(cx.db, entry)


@command("HKEYS", flags=READ)
def hkeys(cx: Context, key: bytes) -> list[bytes]:
    """HKEYS key -- Returns all fields of a hash. O(N) where N is the size of the hash. Since 2.0.0."""
    entry = cx.db.open(key, HASH)
    return [] if entry is None else hashes.fields(cx.db, entry)


@command("HVALS", flags=READ)
def hvals(cx: Context, key: bytes) -> list[bytes]:
    """HVALS key -- Returns all values of a hash. O(N) where N is the size of the hash. Since 2.0.0."""
    entry = cx.db.open(key, HASH)
    return [] if entry is None else hashes.values(cx.db, entry)


@command("HLEN", flags=READ | FAST)
def hlen(cx: Context, key: bytes) -> int:
    """HLEN key -- Returns the number of fields of a hash. O(1). Since 2.0.0."""
    entry = cx.db.open(key, HASH)
    return 0 if entry is None else entry.count


@command("HEXISTS", flags=READ | FAST)
def hexists(cx: Context, key: bytes, field: bytes) -> int:
    """HEXISTS key field -- Tells whether a hash has a field. O(1). Since 2.0.0."""
    return 0 if hashes.get(cx.db, key, field) is None else 1


@command("HSTRLEN", flags=READ | FAST)
def hstrlen(cx: Context, key: bytes, field: bytes) -> int:
    """HSTRLEN key field -- Returns how many bytes the value of a field has, 0 if it is not there. O(1). Since 3.2.0."""
    return len(hashes.get(cx.db, key, field) or b"")


@command("HRANDFIELD", flags=READ)
def hrandfield(cx: Context, key: bytes, *options: bytes) -> Any:
    """HRANDFIELD key [count [WITHVALUES]] -- Returns one field at random, or as many as asked: different ones, or any if the count is negative. O(N) where N is the number of fields returned. Since 6.2.0."""
    db = cx.db
    if not options:
        entry = db.open(key, HASH)
        return None if entry is None else hashes.pick(db, entry, cx.random)
    count = negatable(options[0])
    if len(options) > 1:
        if len(options) > 2 or options[1].upper() != b"WITHVALUES":
            raise ReplyError(SYNTAX)
        count_in_range(options[0])
    entry = db.open(key, HASH)
    if entry is None or not count:
        return []
    if count < -REPEATS_MAX:
        raise ReplyError(OUT_OF_RANGE)
    if len(options) > 1:
        return Pairs(hashes.draw_pairs(db, entry, count, cx.random))
    return hashes.draw(db, entry, count, cx.random)


@command("HSCAN", flags=READ)
def hscan(cx: Context, key: bytes, cursor: bytes, *options: bytes) -> list[Any]:
    """HSCAN key cursor [MATCH pattern] [COUNT count] -- Walks over fields and values of a hash, some at a time. O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection. Since 2.8.0."""
    token = cursors.cursor(cursor)
    entry = cx.db.open(key, HASH)
    if entry is None:
        return [b"0", []]
    glob, count = cursors.scan_options(options)
    prefix = b"" if glob is None else pattern.literal_prefix(glob)
    found, following = hashes.scan(cx.db, entry, cx.cursors.position(token), prefix, count)
    matches = pattern.compile(b"*" if glob is None else glob)
    flat = [word for field, value in found.items() if matches(field) for word in (field, value)]
    return [b"%d" % cx.cursors.token(following, token), flat]
