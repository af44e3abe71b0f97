"""RESP, outward: the values that commands return into the bytes of a reply, in protocol 2 or 3.

A command returns a value and knows no protocol; which of the two a client speaks is decided here and nowhere else. The
exact type of a value (`type(value)`, no subclass search) picks its writer from a table:

    type                    RESP2                    RESP3
    bytes                   $5 bulk                  the same
    int                     :5                       the same
    None, NULL_ARRAY        $-1, *-1                 _
    bool                    :1, :0                   #t, #f
    float                   bulk                     ,3.3
    list, tuple             *2 array                 the same
    dict                    *4 flat array            %2 map
    Map [(key, value), ...] *4 flat array            %2 map, whose keys may be of any type
    Pairs [(a, b), ...]     *4 flat array            *2 array of *2 arrays
    Keyed [(a, b), ...]     *2 array of *2 arrays    %2 map, in which a key may come twice
    Set, set, frozenset     *2 array                 ~2 set
    Push                    *2 array                 >2 push
    Verbatim                bulk                     =9 txt:hello
    BigNumber               bulk                     (123
    Simple                  +OK                      the same
    ReplyError              -ERR text                the same
    Raw                     as it is                 as it is
    Several                 each by itself           the same

Laws:

1. ``str`` is refused with TypeError, as is every type not in the table: text has no bytes until somebody names an
   encoding, and a typo must not reach a client.
2. Nothing a value contains can end its line early: bulks carry lengths, and line ends in an error's text become blanks.

`ENCODE2` and `ENCODE3` are the tables themselves, for the loop that encodes a batch:
``out.append(ENCODE2[type(value)](value))`` is half the cost of calling `encode2` (which adds the TypeError).

The way in is next door: `requests` (bytes into requests) and `words` (words into numbers) are offered here too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import chain
from typing import Any, Final

import hiredis

from lmdbredis.errors import ReplyError
from lmdbredis.requests import PlainRequestParser, Request, RequestParser
from lmdbredis.words import format_float, parse_float, parse_int

__all__ = [
    "ENCODE2",
    "ENCODE3",
    "INTEGERS",
    "NO_REPLY",
    "NULL_ARRAY",
    "OK",
    "PONG",
    "QUEUED",
    "BigNumber",
    "Keyed",
    "Map",
    "Pairs",
    "PlainRequestParser",
    "Push",
    "Raw",
    "Request",
    "RequestParser",
    "Set",
    "Several",
    "Simple",
    "Verbatim",
    "encode2",
    "encode3",
    "format_float",
    "parse_float",
    "parse_int",
]


class Simple(bytes):
    """A status line, without its ``+`` and CRLF. Must hold neither CR nor LF."""

    __slots__ = ()


class BigNumber(bytes):
    """The digits of an integer of any size. Must hold neither CR nor LF."""

    __slots__ = ()


class Raw(bytes):
    """A whole reply, already written in the client's protocol."""

    __slots__ = ()


class Set(list[Any]):
    """Members in the order to be written, all different."""

    __slots__ = ()


class Several(list[Any]):
    """Several replies to one request, one after another: SUBSCRIBE a b."""

    __slots__ = ()


class Push(list[Any]):
    """An out-of-band message: its kind, then its parts."""

    __slots__ = ()


class Pairs(list[tuple[Any, Any]]):
    """Pairs that RESP2 flattens and RESP3 nests: ZRANGE WITHSCORES, HRANDFIELD WITHVALUES."""

    __slots__ = ()


class Keyed(list[tuple[Any, Any]]):
    """Pairs that RESP2 nests and RESP3 writes as a map: XREAD."""

    __slots__ = ()


class Map(list[tuple[Any, Any]]):
    """Pairs of a map in the order to be written, where a dict will not do: keys of any type."""

    __slots__ = ()


class Verbatim:
    """Text for a human eye, such as INFO; `kind` is three bytes: ``txt`` or ``mkd``."""

    __slots__ = ("kind", "text")

    def __init__(self, text: bytes, kind: bytes = b"txt") -> None:
        self.text = text
        self.kind = kind


class _NullArray:
    """The type of NULL_ARRAY."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NULL_ARRAY"


class _NoReply:
    """The type of NO_REPLY."""

    __slots__ = ()


NO_REPLY: Final = _NoReply()  # the value of a command that is not answered: CLIENT REPLY OFF, SHUTDOWN
NULL_ARRAY: Final = _NullArray()  # "no such list" where RESP2 says *-1 and not $-1: EXEC, BLPOP
OK: Final = Simple(b"OK")
PONG: Final = Simple(b"PONG")
QUEUED: Final = Simple(b"QUEUED")

INTEGERS: Final = [b":%d\r\n" % number for number in range(1024)]  # the replies of the most common integers

Encoder = Callable[[Any], bytes]

_HEADS: Final = [b"$%d\r\n" % length for length in range(1024)]
_STATUSES: Final = {status: b"+%b\r\n" % status for status in (OK, PONG, QUEUED)}
_ONLY_BYTES: Final = {bytes}
_BIG_BULK_BYTES: Final = 1024
_FEW: Final = 2  # elements of an aggregate


def encode2(value: Any) -> bytes:
    """Return `value` as a RESP2 reply. O(bytes written). TypeError for a type the table above does not have."""
    try:
        return ENCODE2[type(value)](value)
    except KeyError:
        raise TypeError(f"no reply for a {type(value).__name__}") from None


def encode3(value: Any) -> bytes:
    """Return `value` as a RESP3 reply. O(bytes written). TypeError for a type the table above does not have."""
    try:
        return ENCODE3[type(value)](value)
    except KeyError:
        raise TypeError(f"no reply for a {type(value).__name__}") from None


# What both protocols write alike.


def _bulk(value: bytes) -> bytes:
    length = len(value)
    if length < _BIG_BULK_BYTES:
        return _HEADS[length] + value + b"\r\n"

    return b"".join((b"$%d\r\n" % length, value, b"\r\n"))  # copies a long value once, not twice


def _integer(value: int) -> bytes:
    return INTEGERS[value] if 0 <= value < 1024 else b":%d\r\n" % value


def _status(value: Simple) -> bytes:
    return _STATUSES.get(value) or b"+%b\r\n" % value


def _error(value: ReplyError) -> bytes:
    return b"-%b\r\n" % value.text.replace("\r", " ").replace("\n", " ").encode("latin-1", "replace")


def _refuse_text(value: str) -> bytes:
    raise TypeError("no reply for a str: say bytes")


def _aggregate(mark: bytes, table: dict[type, Encoder]) -> Encoder:
    """Return the writer of a flat collection that begins with `mark`, elements by `table`."""
    heads = [b"%b%d\r\n" % (mark, length) for length in range(_FEW + 1)]

    def encode(values: Collection[Any]) -> bytes:
        if len(values) <= _FEW:  # what follows is quicker for many only
            return heads[len(values)] + b"".join([table[type(value)](value) for value in values])
        if _ONLY_BYTES.issuperset(map(type, values)):
            try:
                parts = [b"\r\n"] * (3 * len(values))
                parts[::3] = [_HEADS[len(value)] for value in values]
            except IndexError:  # there is a long one
                # An array of bulks is what a request looks like.
                packed: bytes = hiredis.pack_command(tuple(values))
                return packed if mark == b"*" else mark + packed[1:]
            parts[1::3] = values
            return b"%b%d\r\n" % (mark, len(values)) + b"".join(parts)

        return b"%b%d\r\n" % (mark, len(values)) + b"".join([table[type(value)](value) for value in values])

    return encode


# RESP2.

ENCODE2: Final[dict[type, Encoder]] = {}

_array2: Final = _aggregate(b"*", ENCODE2)


def _flat(values: Collection[tuple[Any, Any]]) -> bytes:
    return _array2(list(chain.from_iterable(values)))


ENCODE2.update(
    {
        bytes: _bulk,
        int: _integer,
        type(None): lambda _: b"$-1\r\n",
        _NullArray: lambda _: b"*-1\r\n",
        bool: lambda value: b":1\r\n" if value else b":0\r\n",
        float: lambda value: _bulk(format_float(value)),
        list: _array2,
        tuple: _array2,
        dict: lambda value: _flat(value.items()),
        Map: _flat,
        Pairs: _flat,
        Keyed: _array2,
        Set: _array2,
        set: _array2,
        frozenset: _array2,
        Push: _array2,
        Verbatim: lambda value: _bulk(value.text),
        BigNumber: _bulk,
        Simple: _status,
        ReplyError: _error,
        Raw: bytes,
        Several: lambda values: b"".join([ENCODE2[type(value)](value) for value in values]),
        str: _refuse_text,
    }
)


# RESP3.

ENCODE3: Final[dict[type, Encoder]] = {}

_array3: Final = _aggregate(b"*", ENCODE3)
_set3: Final = _aggregate(b"~", ENCODE3)


def _map(value: dict[Any, Any]) -> bytes:
    return _map_of_pairs(value.items())


def _map_of_pairs(pairs: Collection[tuple[Any, Any]]) -> bytes:
    packed = _array3(list(chain.from_iterable(pairs)))
    return b"%%%d" % len(pairs) + packed[packed.index(b"\r") :]


def _pairs3(values: Pairs) -> bytes:
    pairs = [b"*2\r\n%b%b" % (ENCODE3[type(one)](one), ENCODE3[type(other)](other)) for one, other in values]
    return b"*%d\r\n" % len(values) + b"".join(pairs)


def _verbatim(value: Verbatim) -> bytes:
    return b"=%d\r\n%b:%b\r\n" % (len(value.text) + 4, value.kind, value.text)


ENCODE3.update(
    ENCODE2
    | {
        type(None): lambda _: b"_\r\n",
        _NullArray: lambda _: b"_\r\n",
        bool: lambda value: b"#t\r\n" if value else b"#f\r\n",
        float: lambda value: b",%b\r\n" % format_float(value),
        list: _array3,
        tuple: _array3,
        dict: _map,
        Map: _map_of_pairs,
        Pairs: _pairs3,
        Keyed: _map_of_pairs,
        Set: _set3,
        set: _set3,
        frozenset: _set3,
        Push: _aggregate(b">", ENCODE3),
        Several: lambda values: b"".join([ENCODE3[type(value)](value) for value in values]),
        Verbatim: _verbatim,
        BigNumber: lambda value: b"(%b\r\n" % value,
    }
)
