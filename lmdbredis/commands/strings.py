"""String commands: words and replies. Source: the Redis 7.2 manual, group *string*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lmdbredis import format as fmt
from lmdbredis import subsequence
from lmdbredis.arguments import Arguments, integer
from lmdbredis.datatypes import strings
from lmdbredis.errors import (
    DECREMENT_OVERFLOW,
    INVALID_EXPIRE,
    LCS_LEN_AND_IDX,
    LCS_NOT_STRINGS,
    LCS_TOO_MUCH,
    NAN_OR_INFINITY,
    NOT_FLOAT,
    NOT_INTEGER,
    OFFSET_OUT_OF_RANGE,
    OVERFLOW,
    STRING_TOO_LONG,
    SYNTAX,
    WRONG_ARITY,
    ReplyError,
)
from lmdbredis.registry import DENYOOM, FAST, READ, WRITE, Context, RunHandler, command
from lmdbredis.resp import OK
from lmdbredis.words import INTEGER_MAX, INTEGER_MIN, add_floats, parse_int

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmdbredis.database import Found

_ONE: Final = b"1"


# --- get and set ------------------------------------------------------------------------------------------------------------


def _get_run(cx: Context, requests: Sequence[Sequence[bytes]]) -> list[bytes | None] | None:
    """Return the replies to a run of GETs; None if one is refused, or so long that it should leave before the next is read."""
    try:
        return strings.get_many(cx.db, [words[1] for words in requests])
    except (ReplyError, ValueError):
        return None


def _set_run(cx: Context, requests: Sequence[Sequence[bytes]]) -> list[Any]:
    """Return the replies to a run of SETs without options."""
    strings.put_many(cx.db, [(key, value) for _, key, value in requests])
    return [OK] * len(requests)


@command("GET", flags=READ | FAST, run=_get_run)
def get(cx: Context, key: bytes) -> bytes | None:
    """GET key -- Returns the string value of a key. O(1). Since 1.0.0."""
    return strings.get(cx.db, key)


@command("SET", flags=WRITE | DENYOOM, run=_set_run)
def set_(cx: Context, key: bytes, value: bytes, *options: bytes) -> Any:
    """SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL] -- Sets the string value of a key, ignoring its type. The key is created if it doesn't exist. O(1). Since 1.0.0."""
    if not options:
        strings.put(cx.db, key, value)
        return OK
    condition, wants_old, keeps_ttl, expiry = _set_options(options)
    expire_at_ms = _time_of(cx, expiry, "set")
    found = cx.db.find(key)
    reply: Any = OK
    if wants_old:
        cell = cx.db.read_string(key)
        reply = None if cell is None else strings.value_of(cx.db, cell)
    if condition and (found is None) != (condition == b"NX"):
        return reply if wants_old else None
    if keeps_ttl and found is not None:
        expire_at_ms = cx.db.expire_at(found)
    _set_unless_past(cx, key, value, expire_at_ms)
    return reply


def _set_options(words: tuple[bytes, ...]) -> tuple[bytes, bool, bool, _Expiry]:
    """Return (b"NX", b"XX" or b""; GET; KEEPTTL; the expiry option)."""
    options = Arguments(words)
    condition, wants_old, keeps_ttl, expiry = b"", False, False, _NEVER
    while options:
        if condition != b"XX" and options.accept(b"NX"):
            condition = b"NX"
        elif condition != b"NX" and options.accept(b"XX"):
            condition = b"XX"
        elif options.accept(b"GET"):
            wants_old = True
        elif not expiry[0] and options.accept(b"KEEPTTL"):
            keeps_ttl = True
        elif not keeps_ttl:
            expiry = _accept_expiry(options, expiry)
        else:
            raise ReplyError(SYNTAX)
    return condition, wants_old, keeps_ttl, expiry


_Expiry = tuple[bytes, bytes]  # an option and its word
_NEVER: Final[_Expiry] = (b"", b"")
_UNITS: Final = {  # ms, relative to now
    b"EX": (1000, True),
    b"PX": (1, True),
    b"EXAT": (1000, False),
    b"PXAT": (1, False),
}


def _accept_expiry(options: Arguments, before: _Expiry) -> _Expiry:
    """Return the option EX, PX, EXAT or PXAT that must be next; only the one that was there `before` may come again."""
    for option in _UNITS:
        if before[0] in {b"", option} and options.accept(option, 1):
            return option, options.next()
    raise ReplyError(SYNTAX)


def _time_of(cx: Context, expiry: _Expiry, name: str) -> int:
    """Return expire_at_ms of an option, 0 for none. Raises ReplyError."""
    if not expiry[0]:
        return 0
    unit_ms, is_relative = _UNITS[expiry[0]]
    return _expire_at(cx, expiry[1], unit_ms, name, is_relative=is_relative)


def _expire_at(cx: Context, word: bytes, unit_ms: int, name: str, *, is_relative: bool) -> int:
    """Return the time in ms since the epoch that a word means. Raises ReplyError if it is not after the epoch."""
    amount = integer(word)
    expire_at_ms = amount * unit_ms + (cx.now_ms if is_relative else 0)
    if amount <= 0 or expire_at_ms > INTEGER_MAX:
        raise ReplyError(INVALID_EXPIRE % name)
    return expire_at_ms


def _set_unless_past(cx: Context, key: bytes, value: bytes, expire_at_ms: int) -> None:
    """Set the key, or delete it if the time at which it should expire has passed."""
    if expire_at_ms and expire_at_ms <= cx.now_ms:
        cx.db.expire(key)
    else:
        strings.put(cx.db, key, value, expire_at_ms)


@command("SETNX", flags=WRITE | DENYOOM | FAST)
def setnx(cx: Context, key: bytes, value: bytes) -> int:
    """SETNX key value -- Set the string value of a key only when the key doesn't exist. O(1). Since 1.0.0."""
    if cx.db.find(key) is not None:
        return 0
    strings.put(cx.db, key, value)
    return 1


@command("SETEX", flags=WRITE | DENYOOM)
def setex(cx: Context, key: bytes, seconds: bytes, value: bytes) -> Any:
    """SETEX key seconds value -- Sets the string value and expiration time of a key. Creates the key if it doesn't exist. O(1). Since 2.0.0."""
    strings.put(cx.db, key, value, _expire_at(cx, seconds, 1000, "setex", is_relative=True))
    return OK


@command("PSETEX", flags=WRITE | DENYOOM)
def psetex(cx: Context, key: bytes, milliseconds: bytes, value: bytes) -> Any:
    """PSETEX key milliseconds value -- Sets both string value and expiration time in milliseconds of a key. The key is created if it doesn't exist. O(1). Since 2.6.0."""
    strings.put(cx.db, key, value, _expire_at(cx, milliseconds, 1, "psetex", is_relative=True))
    return OK


@command("GETSET", flags=WRITE | DENYOOM | FAST)
def getset(cx: Context, key: bytes, value: bytes) -> bytes | None:
    """GETSET key value -- Returns the previous string value of a key after setting it to a new value. O(1). Since 1.0.0."""
    old = strings.get(cx.db, key)
    strings.put(cx.db, key, value)
    return old


@command("GETDEL", flags=WRITE | FAST)
def getdel(cx: Context, key: bytes) -> bytes | None:
    """GETDEL key -- Returns the string value of a key after deleting the key. O(1). Since 6.2.0."""
    old = strings.get(cx.db, key)
    if old is not None:
        cx.db.delete(key)
    return old


@command("GETEX", flags=WRITE | FAST)
def getex(cx: Context, key: bytes, *words: bytes) -> bytes | None:
    """GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] -- Returns the string value of a key after setting its expiration time. O(1). Since 6.2.0."""
    options = Arguments(words)
    persists, expiry = False, _NEVER
    while options:
        if not expiry[0] and options.accept(b"PERSIST"):
            persists = True
        elif not persists:
            expiry = _accept_expiry(options, expiry)
        else:
            raise ReplyError(SYNTAX)
    expire_at_ms = _time_of(cx, expiry, "getex")
    cell = cx.db.read_string(key)
    if cell is None:
        return None
    value = strings.value_of(cx.db, cell)
    if expire_at_ms and expire_at_ms <= cx.now_ms:
        cx.db.expire(key)
    elif expire_at_ms or (persists and fmt.expire_of(cell)):
        cx.db.set_expiry(key, cell, expire_at_ms)
    return value


@command("MGET", flags=READ | FAST, keys=(1, -1, 1))
def mget(cx: Context, key: bytes, *keys: bytes) -> list[bytes | None]:
    """MGET key [key ...] -- Atomically returns the string values of one or more keys. O(N) where N is the number of keys to retrieve. Since 1.0.0."""
    db = cx.db
    values = []
    for name in (key, *keys):
        cell = db.read(name)
        values.append(strings.value_of(db, cell) if type(cell) is bytes else None)
    return values


@command("MSET", flags=WRITE | DENYOOM, keys=(1, -1, 2))
def mset(cx: Context, key: bytes, value: bytes, *pairs: bytes) -> Any:
    """MSET key value [key value ...] -- Atomically creates or modifies the string values of one or more keys. O(N) where N is the number of keys to set. Since 1.0.1."""
    if len(pairs) % 2:
        raise ReplyError(WRONG_ARITY % "mset")
    strings.put_many(cx.db, [(key, value), *zip(pairs[::2], pairs[1::2], strict=True)])
    return OK


@command("MSETNX", flags=WRITE | DENYOOM, keys=(1, -1, 2))
def msetnx(cx: Context, key: bytes, value: bytes, *pairs: bytes) -> int:
    """MSETNX key value [key value ...] -- Atomically modifies the string values of one or more keys only when all keys don't exist. O(N) where N is the number of keys to set. Since 1.0.1."""
    if len(pairs) % 2:
        raise ReplyError(WRONG_ARITY % "msetnx")
    if any(cx.db.find(name) is not None for name in (key, *pairs[::2])):
        return 0
    mset(cx, key, value, *pairs)
    return 1


# --- parts ----------------------------------------------------------------------------------------------------------------------


@command("STRLEN", flags=READ | FAST)
def strlen(cx: Context, key: bytes) -> int:
    """STRLEN key -- Returns the length of a string value. O(1). Since 2.2.0."""
    cell = cx.db.read_string(key)
    return 0 if cell is None else strings.length_of(cell)


@command("APPEND", flags=WRITE | DENYOOM | FAST)
def append(cx: Context, key: bytes, value: bytes) -> int:
    """APPEND key value -- Appends a string to the value of a key. Creates the key if it doesn't exist. O(1). Since 2.0.0."""
    cell = cx.db.edit_string(key)
    if cell is not None:
        _check_length(cx, strings.length_of(cell) + len(value))
    return strings.append(cx.db, key, value)


@command("GETRANGE", flags=READ)
def getrange(cx: Context, key: bytes, start: bytes, end: bytes) -> bytes:
    """GETRANGE key start end -- Returns a substring of the string stored at a key. O(N) where N is the length of the returned string. Since 2.4.0."""
    return strings.get_range(cx.db, key, integer(start), integer(end))


@command("SUBSTR", flags=READ)
def substr(cx: Context, key: bytes, start: bytes, end: bytes) -> bytes:
    """SUBSTR key start end -- Returns a substring from a string value. O(N) where N is the length of the returned string. Since 1.0.0."""
    return getrange(cx, key, start, end)


@command("SETRANGE", flags=WRITE | DENYOOM)
def setrange(cx: Context, key: bytes, offset: bytes, value: bytes) -> int:
    """SETRANGE key offset value -- Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist. O(1), not counting the time taken to copy the new string in place. Since 2.2.0."""
    at = integer(offset)
    if at < 0:
        raise ReplyError(OFFSET_OUT_OF_RANGE)
    cx.db.edit_string(key)
    if value:
        _check_length(cx, at + len(value))
    return strings.set_range(cx.db, key, at, value)


def _check_length(cx: Context, length: int) -> None:
    """Raise ReplyError if a string would be longer than proto-max-bulk-len."""
    if length > cx.config.proto_max_bulk_len_bytes:
        raise ReplyError(STRING_TOO_LONG)


# --- numbers ----------------------------------------------------------------------------------------------------------------------


def _increment(cx: Context, key: bytes, by: int) -> int:
    """Add to the integer that a string spells; 0 if there is no such key."""
    db = cx.db
    cell = db.edit_string(key)
    if cell is None:
        db.create_string(key, b"%d" % by)
        return by
    old = parse_int(strings.value_of(db, cell))
    if old is None:
        raise ReplyError(NOT_INTEGER)
    new = old + by
    if not INTEGER_MIN <= new <= INTEGER_MAX:
        raise ReplyError(OVERFLOW)
    strings.replace(db, key, cell, b"%d" % new)
    return new


def _increment_run(by: int) -> RunHandler:
    """Return what runs INCRs, or DECRs."""

    def run(cx: Context, requests: Sequence[Sequence[bytes]]) -> list[Any]:
        replies: list[Any] = []
        for words in requests:
            try:
                replies.append(_increment(cx, words[1], by))
            except ReplyError as error:
                replies.append(error)
        return replies

    return run


@command("INCR", flags=WRITE | DENYOOM | FAST, run=_increment_run(1))
def incr(cx: Context, key: bytes) -> int:
    """INCR key -- Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist. O(1). Since 1.0.0."""
    return _increment(cx, key, 1)


@command("DECR", flags=WRITE | DENYOOM | FAST, run=_increment_run(-1))
def decr(cx: Context, key: bytes) -> int:
    """DECR key -- Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist. O(1). Since 1.0.0."""
    return _increment(cx, key, -1)


@command("INCRBY", flags=WRITE | DENYOOM | FAST)
def incrby(cx: Context, key: bytes, increment: bytes) -> int:
    """INCRBY key increment -- Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist. O(1). Since 1.0.0."""
    return _increment(cx, key, integer(increment))


@command("DECRBY", flags=WRITE | DENYOOM | FAST)
def decrby(cx: Context, key: bytes, decrement: bytes) -> int:
    """DECRBY key decrement -- Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist. O(1). Since 1.0.0."""
    by = integer(decrement)
    if by == INTEGER_MIN:
        raise ReplyError(DECREMENT_OVERFLOW)
    return _increment(cx, key, -by)


@command("INCRBYFLOAT", flags=WRITE | DENYOOM | FAST)
def incrbyfloat(cx: Context, key: bytes, increment: bytes) -> bytes:
    """INCRBYFLOAT key increment -- Increment the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist. O(1). Since 2.6.0."""
    db = cx.db
    cell = db.edit_string(key)
    new = add_floats(b"0" if cell is None else strings.value_of(db, cell), increment, NOT_FLOAT, NAN_OR_INFINITY)
    if cell is None:
        strings.put(db, key, new)
    else:
        strings.replace(db, key, cell, new)
    return new


# --- LCS ----------------------------------------------------------------------------------------------------------------------------


@command("LCS", flags=READ, keys=(1, 2, 1))
def lcs(cx: Context, key1: bytes, key2: bytes, *words: bytes) -> Any:
    """LCS key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN] -- Finds the longest common substring. O(N*M) where N and M are the lengths of s1 and s2, respectively. Since 7.0.0."""
    options = Arguments(words)
    wants_length, wants_matches, least, with_length = False, False, 0, False
    found = [cx.db.read(key) for key in (key1, key2)]
    one, other = (_lcs_operand(cx, operand) for operand in found)
    while options:
        if options.accept(b"IDX"):
            wants_matches = True
        elif options.accept(b"LEN"):
            wants_length = True
        elif options.accept(b"WITHMATCHLEN"):
            with_length = True
        elif options.accept(b"MINMATCHLEN", 1):
            least = max(integer(options.next()), 0)
        else:
            raise ReplyError(SYNTAX)
    if wants_length and wants_matches:
        raise ReplyError(LCS_LEN_AND_IDX)
    if (len(one) + 1) * (len(other) + 1) * 4 > cx.config.proto_max_bulk_len_bytes:  # what the table of Redis would take
        raise ReplyError(LCS_TOO_MUCH)
    if wants_length:
        return subsequence.length(one, other)
    runs = subsequence.runs(one, other)
    if not wants_matches:
        return b"".join(one[i : i + n] for i, _, n in reversed(runs))
    matches = [
        [[i, i + n - 1], [j, j + n - 1], *([n] if with_length else [])] for i, j, n in runs if n >= max(least, 1)
    ]
    return {b"matches": matches, b"len": sum(n for _, _, n in runs)}


def _lcs_operand(cx: Context, found: Found | None) -> bytes:
    if found is not None and type(found) is not bytes:
        raise ReplyError(LCS_NOT_STRINGS)
    return b"" if found is None else strings.value_of(cx.db, found)
