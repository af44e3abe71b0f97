"""Key commands: a key's presence, name, database, expiry and inside, whatever its type.

Source: the Redis 7.2 manual, group *generic*, and the commands of group *server* that empty databases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lmdbredis import cursors, pattern
from lmdbredis import format as fmt
from lmdbredis.arguments import Arguments, integer, small_integer
from lmdbredis.database import TYPE_NAMES, Database, kind_of
from lmdbredis.datatypes import hashes, lists, outside, sets, streams_groups, strings, zsets
from lmdbredis.errors import (
    DB_OUT_OF_RANGE,
    EXPIRE_GT_AND_LT,
    EXPIRE_NX_AND_OTHERS,
    EXPIRE_OPTION,
    FREQ_WITHOUT_LFU,
    IDLETIME_WITH_LFU,
    INVALID_EXPIRE,
    INVALID_FIRST_DB,
    INVALID_SECOND_DB,
    NO_SUCH_KEY,
    SAME_OBJECT,
    SYNTAX,
    ReplyError,
    shown,
)
from lmdbredis.registry import DENYOOM, FAST, READ, WRITE, Context, command, container
from lmdbredis.resp import OK, Simple
from lmdbredis.words import INTEGER_MAX, INTEGER_MIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WALK_ROWS: Final = 1000  # keys read at once by KEYS
_SCAN_ROWS_MAX: Final = 100_000  # visited by one SCAN, whatever its COUNT
_RANDOM_TRIES: Final = 100  # expired keys that RANDOMKEY may meet by chance before it looks for a living one in order

_COPY: Final[dict[int, Callable[[Database, Any, Database, bytes, int], None]]] = {
    fmt.STRING: strings.copy,
    fmt.STRING_CHUNKS: strings.copy,
    fmt.LIST: lists.copy,
    fmt.SET: sets.copy,
    fmt.ZSET: zsets.copy,
    fmt.HASH: hashes.copy,
    fmt.STREAM: streams_groups.copy,
}


# --- presence -----------------------------------------------------------------------------------------------------------------


@command("DEL", flags=WRITE, keys=(1, -1, 1))
def del_(cx: Context, key: bytes, *keys: bytes) -> int:
    """DEL key [key ...] -- Deletes keys of any type and size, and returns how many were there. O(N) where N is the number of keys. Since 1.0.0."""
    delete = cx.db.delete
    return sum(map(delete, (key, *keys))) if keys else int(delete(key))


@command("UNLINK", flags=WRITE | FAST, keys=(1, -1, 1))
def unlink(cx: Context, key: bytes, *keys: bytes) -> int:
    """UNLINK key [key ...] -- Deletes keys, as DEL does: the room they took is always reclaimed in the background. O(N) where N is the number of keys. Since 4.0.0."""
    return del_(cx, key, *keys)


@command("EXISTS", flags=READ | FAST, keys=(1, -1, 1))
def exists(cx: Context, key: bytes, *keys: bytes) -> int:
    """EXISTS key [key ...] -- Returns how many of the keys exist, counting a key as often as it is named. O(N) where N is the number of keys. Since 1.0.0."""
    read = cx.db.read
    return sum(read(name) is not None for name in (key, *keys))


@command("TOUCH", flags=READ | FAST, keys=(1, -1, 1))
def touch(cx: Context, key: bytes, *keys: bytes) -> int:
    """TOUCH key [key ...] -- Returns how many of the keys exist. O(N) where N is the number of keys. Since 3.2.1."""
    return exists(cx, key, *keys)


@command("TYPE", flags=READ | FAST)
def type_(cx: Context, key: bytes) -> Simple:
    """TYPE key -- Returns the type of the value at a key. O(1). Since 1.0.0."""
    found = cx.db.read(key)
    return Simple(b"none") if found is None else Simple(TYPE_NAMES[kind_of(found)])


@command("DBSIZE", flags=READ | FAST)
def dbsize(cx: Context) -> int:
    """DBSIZE -- Returns the number of keys in the database. O(1). Since 1.0.0."""
    return cx.db.keys


# --- many keys ----------------------------------------------------------------------------------------------------------------


def _walk(db: Database, prefix: bytes) -> Iterator[bytes]:
    """Yield the names of the living keys that begin with a prefix, in the order of their rows."""
    start: bytes | None = b""
    while start is not None:
        found, start = db.scan(start, prefix, _WALK_ROWS)
        for key, _ in found:
            yield key


@command("KEYS", flags=READ)
def keys_(cx: Context, pattern_: bytes) -> list[bytes]:
    """KEYS pattern -- Returns all keys that match a pattern. O(N) where N is the number of keys that begin with the literal part of the pattern. Since 1.0.0."""
    names = _walk(cx.db, pattern.literal_prefix(pattern_))
    return list(names) if pattern_ == b"*" else list(filter(pattern.compile(pattern_), names))


@command("SCAN", flags=READ)
def scan(cx: Context, cursor: bytes, *words: bytes) -> list[Any]:
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type] -- Visits a part of the keys and returns those that match, with a cursor for the next part. O(1) for every call. Since 2.8.0."""
    token = cursors.cursor(cursor)
    options, others, kind = Arguments(words), [], None
    while options:
        if options.accept(b"TYPE", 1):
            kind = options.next().lower()
        else:
            others.append(options.next())
            others += options.take(min(1, len(options)))
    glob, count = cursors.scan_options(others)
    prefix = b"" if glob is None else pattern.literal_prefix(glob)
    found, position = cx.db.scan(cx.cursors.position(token), prefix, min(count, _SCAN_ROWS_MAX))
    names = [key for key, cell in found if kind is None or TYPE_NAMES[cell[0] & fmt.TYPE_MASK] == kind]
    if glob is not None:
        names = list(filter(pattern.compile(glob), names))
    return [b"%d" % cx.cursors.token(position, token), names]


@command("RANDOMKEY", flags=READ)
def randomkey(cx: Context) -> bytes | None:
    """RANDOMKEY -- Returns a key chosen at random, every one with the same chance. O(log N). Since 1.0.0."""
    db = cx.db
    for _ in range(_RANDOM_TRIES):
        if not db.keys:
            return None
        key, _cell = db.select(cx.random.randrange(db.keys))
        if db.find(key) is not None:
            return key
    return next(_walk(db, b""), None)


# --- names and databases ------------------------------------------------------------------------------------------------------


@command("RENAME", flags=WRITE, keys=(1, 2, 1))
def rename(cx: Context, key: bytes, newkey: bytes) -> Any:
    """RENAME key newkey -- Gives a key another name, over whatever has that name. O(1). Since 1.0.0."""
    if cx.db.find(key) is None:
        raise ReplyError(NO_SUCH_KEY)
    if key != newkey:
        cx.db.rename(key, newkey, cx.db)
    return OK


@command("RENAMENX", flags=WRITE | FAST, keys=(1, 2, 1))
def renamenx(cx: Context, key: bytes, newkey: bytes) -> int:
    """RENAMENX key newkey -- Gives a key another name if nothing has that name. O(1). Since 1.0.0."""
    if cx.db.find(key) is None:
        raise ReplyError(NO_SUCH_KEY)
    if cx.db.find(newkey) is not None:
        return 0
    cx.db.rename(key, newkey, cx.db)
    return 1


def _database(cx: Context, number: int) -> Database:
    """Return the database with a number. Raises ReplyError."""
    if not 0 <= number < len(cx.keyspace.databases):
        raise ReplyError(DB_OUT_OF_RANGE)
    return cx.keyspace.databases[number]


@command("COPY", flags=WRITE | DENYOOM, keys=(1, 2, 1))
def copy(cx: Context, source: bytes, destination: bytes, *words: bytes) -> int:
    """COPY source destination [DB destination-db] [REPLACE] -- Copies the value and the expiry of a key to another key. O(N) where N is the number of elements in a collection, O(1) for strings. Since 6.2.0."""
    options, target, replaces = Arguments(words), cx.db, False
    while options:
        if options.accept(b"REPLACE"):
            replaces = True
        elif options.accept(b"DB", 1):
            target = _database(cx, small_integer(options.next()))
        else:
            raise ReplyError(SYNTAX)
    if target is cx.db and source == destination:
        raise ReplyError(SAME_OBJECT)
    found = cx.db.read(source)
    if found is None or (target.find(destination) is not None and not replaces):
        return 0
    target.delete(destination)
    _COPY[kind_of(found)](cx.db, found, target, destination, cx.db.expire_at(found))
    return 1


@command("MOVE", flags=WRITE | FAST)
def move(cx: Context, key: bytes, db: bytes) -> int:
    """MOVE key db -- Moves a key to another database if that has no key of its name. O(1). Since 1.0.0."""
    target = _database(cx, small_integer(db))
    if target is cx.db:
        raise ReplyError(SAME_OBJECT)
    if cx.db.find(key) is None or target.find(key) is not None:
        return 0
    cx.db.rename(key, key, target)
    return 1


@command("SWAPDB", flags=WRITE | FAST)
def swapdb(cx: Context, index1: bytes, index2: bytes) -> Any:
    """SWAPDB index1 index2 -- Lets two databases exchange their keys. O(1). Since 4.0.0."""
    one, other = _swap_index(index1, INVALID_FIRST_DB), _swap_index(index2, INVALID_SECOND_DB)
    first, second = _database(cx, one), _database(cx, other)
    for number, key in cx.executor.watches.names():
        if number in {one, other}:  # a key whose time has come goes now: for who watches its name that is no change
            first.find(key)
            second.find(key)
    cx.keyspace.swap(one, other)
    return OK


def _swap_index(word: bytes, error: str) -> int:
    """Return the number a word spells. Raises ReplyError(`error`)."""
    try:
        return small_integer(word)
    except ReplyError:
        raise ReplyError(error) from None


@command("FLUSHDB", flags=WRITE)
def flushdb(cx: Context, *mode: bytes) -> Any:
    """FLUSHDB [ASYNC | SYNC] -- Removes all keys from the database; the room they took is reclaimed in the background. O(1). Since 1.0.0."""
    _check_flush_mode(mode)
    cx.db.flush()
    return OK


@command("FLUSHALL", flags=WRITE)
def flushall(cx: Context, *mode: bytes) -> Any:
    """FLUSHALL [ASYNC | SYNC] -- Removes all keys from all databases; the room they took is reclaimed in the background. O(N) where N is the number of databases. Since 1.0.0."""
    _check_flush_mode(mode)
    cx.keyspace.flush()
    return OK


def _check_flush_mode(mode: tuple[bytes, ...]) -> None:
    """Raise ReplyError unless `mode` is one word that FLUSHDB knows, or none."""
    if len(mode) > 1 or (mode and mode[0].upper() not in {b"ASYNC", b"SYNC"}):
        raise ReplyError(SYNTAX)


# --- expiry -------------------------------------------------------------------------------------------------------------------


def _expire(
    cx: Context, name: str, key: bytes, word: bytes, conditions: tuple[bytes, ...], *, unit_ms: int, is_relative: bool
) -> int:
    """Let a key expire if the conditions allow it; tell whether they did and the key is there."""
    wanted = _expire_conditions(conditions)
    amount = integer(word)
    if not INTEGER_MIN <= amount * unit_ms <= INTEGER_MAX:
        raise ReplyError(INVALID_EXPIRE % name)
    expire_at_ms = amount * unit_ms + (cx.now_ms if is_relative else 0)
    if expire_at_ms > INTEGER_MAX:
        raise ReplyError(INVALID_EXPIRE % name)
    db = cx.db
    found = db.find(key)
    if found is None:
        return 0
    if wanted:
        old_ms = db.expire_at(found)  # 0 = never, the latest of all times
        if (
            (b"NX" in wanted and old_ms)
            or (b"XX" in wanted and not old_ms)
            or (b"GT" in wanted and (not old_ms or expire_at_ms <= old_ms))
            or (b"LT" in wanted and old_ms and expire_at_ms >= old_ms)
        ):
            return 0
    if expire_at_ms <= cx.now_ms:
        db.expire(key)
    else:
        db.set_expiry(key, found, expire_at_ms)
    return 1


def _expire_conditions(words: tuple[bytes, ...]) -> set[bytes]:
    """Return which of NX, XX, GT and LT are said. Raises ReplyError if one is unknown, or they exclude each other."""
    wanted = {word.upper() for word in words}
    for word in words:
        if word.upper() not in {b"NX", b"XX", b"GT", b"LT"}:
            raise ReplyError(EXPIRE_OPTION % shown(word, len(word)))
    if b"NX" in wanted and len(wanted) > 1:
        raise ReplyError(EXPIRE_NX_AND_OTHERS)
    if {b"GT", b"LT"} <= wanted:
        raise ReplyError(EXPIRE_GT_AND_LT)
    return wanted


@command("EXPIRE", flags=WRITE | FAST)
def expire(cx: Context, key: bytes, seconds: bytes, *condition: bytes) -> int:
    """EXPIRE key seconds [NX | XX | GT | LT] -- Lets a key expire in some seconds. O(1). Since 1.0.0."""
    return _expire(cx, "expire", key, seconds, condition, unit_ms=1000, is_relative=True)


@command("PEXPIRE", flags=WRITE | FAST)
def pexpire(cx: Context, key: bytes, milliseconds: bytes, *condition: bytes) -> int:
    """PEXPIRE key milliseconds [NX | XX | GT | LT] -- Lets a key expire in some milliseconds. O(1). Since 2.6.0."""
    return _expire(cx, "pexpire", key, milliseconds, condition, unit_ms=1, is_relative=True)


@command("EXPIREAT", flags=WRITE | FAST)
def expireat(cx: Context, key: bytes, unix_time_seconds: bytes, *condition: bytes) -> int:
    """EXPIREAT key unix-time-seconds [NX | XX | GT | LT] -- Lets a key expire at a time in seconds since 1970. O(1). Since 1.2.0."""
    return _expire(cx, "expireat", key, unix_time_seconds, condition, unit_ms=1000, is_relative=False)


@command("PEXPIREAT", flags=WRITE | FAST)
def pexpireat(cx: Context, key: bytes, unix_time_milliseconds: bytes, *condition: bytes) -> int:
    """PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] -- Lets a key expire at a time in milliseconds since 1970. O(1). Since 2.6.0."""
    return _expire(cx, "pexpireat", key, unix_time_milliseconds, condition, unit_ms=1, is_relative=False)


def _expiry(cx: Context, key: bytes) -> int:
    """Return when a key expires in ms since 1970, -1 if never, -2 if there is no such key."""
    found = cx.db.read(key)
    return -2 if found is None else cx.db.expire_at(found) or -1


@command("TTL", flags=READ | FAST)
def ttl(cx: Context, key: bytes) -> int:
    """TTL key -- Returns in how many seconds a key expires; -1 if never, -2 if there is no such key. O(1). Since 1.0.0."""
    at_ms = _expiry(cx, key)
    return at_ms if at_ms < 0 else (at_ms - cx.now_ms + 500) // 1000


@command("PTTL", flags=READ | FAST)
def pttl(cx: Context, key: bytes) -> int:
    """PTTL key -- Returns in how many milliseconds a key expires; -1 if never, -2 if there is no such key. O(1). Since 2.6.0."""
    at_ms = _expiry(cx, key)
    return at_ms if at_ms < 0 else at_ms - cx.now_ms


@command("EXPIRETIME", flags=READ | FAST)
def expiretime(cx: Context, key: bytes) -> int:
    """EXPIRETIME key -- Returns when a key expires, in seconds since 1970; -1 if never, -2 if there is no such key. O(1). Since 7.0.0."""
    at_ms = _expiry(cx, key)
    return at_ms if at_ms < 0 else (at_ms + 500) // 1000


@command("PEXPIRETIME", flags=READ | FAST)
def pexpiretime(cx: Context, key: bytes) -> int:
    """PEXPIRETIME key -- Returns when a key expires, in milliseconds since 1970; -1 if never, -2 if there is no such key. O(1). Since 7.0.0."""
    return _expiry(cx, key)


@command("PERSIST", flags=WRITE | FAST)
def persist(cx: Context, key: bytes) -> int:
    """PERSIST key -- Lets a key never expire. O(1). Since 2.2.0."""
    found = cx.db.find(key)
    if found is None or not cx.db.expire_at(found):
        return 0
    cx.db.set_expiry(key, found, 0)
    return 1


# --- OBJECT -------------------------------------------------------------------------------------------------------------------


@container("OBJECT", help_since="6.2.0")
def object_(cx: Context) -> None:
    """OBJECT -- A container for object introspection commands. Since 2.2.3."""


@command("OBJECT|ENCODING", flags=READ)
def object_encoding(cx: Context, key: bytes) -> bytes | None:
    """OBJECT ENCODING key -- Returns how a Redis with these limits would store a value of this size. O(1). Since 2.2.3."""
    found = cx.db.find(key)
    return None if found is None else outside.encoding(cx.db, found, cx.config)


@command("OBJECT|FREQ", flags=READ)
def object_freq(cx: Context, key: bytes) -> int | None:
    """OBJECT FREQ key -- Returns 0: how often a key is used is not counted, since nothing is evicted. O(1). Since 4.0.0."""
    if cx.db.find(key) is None:
        return None
    if "lfu" not in cx.config.maxmemory_policy:
        raise ReplyError(FREQ_WITHOUT_LFU)
    return 0


@command("OBJECT|IDLETIME", flags=READ)
def object_idletime(cx: Context, key: bytes) -> int | None:
    """OBJECT IDLETIME key -- Returns 0: when a key was last used is not kept, and no tool that looks for idle keys shall take one for idle. O(1). Since 2.2.3."""
    if cx.db.find(key) is None:
        return None
    if "lfu" in cx.config.maxmemory_policy:
        raise ReplyError(IDLETIME_WITH_LFU)
    return 0


@command("OBJECT|REFCOUNT", flags=READ)
def object_refcount(cx: Context, key: bytes) -> int | None:
    """OBJECT REFCOUNT key -- Returns 1: values are never shared. O(1). Since 2.2.3."""
    return None if cx.db.find(key) is None else 1
