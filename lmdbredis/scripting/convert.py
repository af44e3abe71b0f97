"""Values between commands and Lua: replies into what Lua takes, words out of numbers, and what a script returns into a reply.

What a command returns, as a script sees it, by the protocol that ``redis.setresp`` chose:

    value              RESP2                       RESP3
    bytes, int         string, number              the same
    None               false                       nil
    bool               1, 0                        true, false
    float              string                      {double = number}
    list, tuple        {...}                       the same
    dict               flat {...}                  {map = {...}}
    Pairs              flat {...}                  {{a, b}, ...}
    Set                {...}                       {set = {member = true, ...}}
    Verbatim           string                      {verbatim_string = {string =, format =}}
    Simple             {ok = text}                 the same
    ReplyError         {err = text}                the same

To Lua a value goes as a tuple (value, kind, ...), or as a plain value, which is the common case: see `take` in sandbox.lua. Back it comes
flat: marks and what belongs to them, see `flatten` there. Numbers lose their fraction, as in Redis, and those beyond 64 bits
become the least integer.

A list with nulls is a table that has room for all of its elements from the start, as Redis makes it: what Lua says of its length (`#`)
depends on that.

It holds no Lua state: who makes tables is handed in.
"""

from __future__ import annotations

from itertools import chain
from math import copysign
from typing import TYPE_CHECKING, Any, Final

from lmdbredis.errors import ReplyError
from lmdbredis.resp import NULL_ARRAY, BigNumber, Keyed, Map, Pairs, Push, Set, Several, Simple, Verbatim
from lmdbredis.words import format_float

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    Tables = Callable[[Any], Any]  # makes a Lua table of a list or of a dict
    Arrays = Callable[[list[Any]], Any]  # makes one of a list with nulls

STATUS, LIST, TABLE, ERROR, STOP, UNCOUNTED = 1, 2, 3, 4, 5, 6  # kinds of what goes to Lua
LIST_ELEMENTS_MAX: Final = 500  # of a list that goes element by element; a longer one is made a table here
_NULL_TYPE: Final = type(NULL_ARRAY)
_LEAST_INTEGER: Final = -(1 << 63)
_PLAIN_MAX: Final = 1 << 62  # Redis writes smaller numbers as integers
_ROOM_BYTES: Final = 64  # what Lua needs for an element of a table, beside a string's bytes
_PLAIN_TYPES: Final = frozenset((bytes, int, bool))
_PLAIN_ELEMENTS: Final = frozenset((bytes, int))
_ONLY_BYTES: Final = {bytes}
_PLAIN_OR_NULL: Final = frozenset((bytes, int, type(None)))


# --- out of Lua: words -------------------------------------------------------------------------------------------------------


def number_word(number: float) -> bytes:
    """Return a number as the word of a command, with all its digits.

    >>> number_word(3), number_word(0.1), number_word(1e17), number_word(2.0**63), number_word(-0.0)
    (b'3', b'0.1', b'100000000000000000', b'9223372036854776000', b'0')
    """
    if -_PLAIN_MAX < number < _PLAIN_MAX and number == int(number):
        return b"%d" % number
    if number != number:  # noqa: PLR0124 -- NaN is that
        return b"-nan" if copysign(1, number) < 0 else b"nan"
    return format_float(float(number))


# --- into Lua: replies -------------------------------------------------------------------------------------------------------


class ToLua:
    """Replies into Lua values, in one of the two protocols."""

    def __init__(
        self, tables: Tables, arrays: Arrays, protocol: int, has_room: Callable[[int], bool], no_room: bytes
    ) -> None:
        """`tables` and `arrays` make tables; `has_room` tells whether Lua has so many bytes; `no_room` is the error if not."""
        self._tables = tables
        self._arrays = arrays
        self._has_room = has_room
        self._no_room = no_room
        self._resp3 = protocol == 3
        plain = self._list
        self._by_type: dict[type, Callable[[Any], Any]] = {
            bytes: self._bytes,
            int: lambda value: value,
            type(None): self._null,
            _NULL_TYPE: self._null,
            bool: self._bool,
            float: self._double,
            list: plain,
            tuple: plain,
            Push: plain,
            Several: plain,
            dict: self._map,
            Pairs: self._pairs,
            Keyed: self._keyed,
            Set: self._set,
            set: self._set,
            frozenset: self._set,
            Verbatim: self._verbatim,
            Simple: lambda value: (value, STATUS),
            ReplyError: lambda value: (error_text(value), ERROR),
        }

    def __call__(self, value: Any) -> Any:
        """Return what the host returns to Lua for a reply."""
        return self._by_type[value.__class__](value)

    def _bytes(self, value: bytes) -> Any:
        return value if len(value) < 1 << 20 or self._has_room(len(value)) else (self._no_room, UNCOUNTED)

    def _null(self, _: Any) -> Any:
        return None if self._resp3 else False

    def _bool(self, value: bool) -> Any:
        return value if self._resp3 else int(value)

    def _double(self, value: float) -> Any:
        return (self._tables({b"double": value}), TABLE) if self._resp3 else format_float(value)

    def _verbatim(self, value: Verbatim) -> Any:
        if not self._resp3:
            return self._bytes(value.text)
        return self._tables({b"verbatim_string": self._tables({b"string": value.text, b"format": value.kind})}), TABLE

    def _list(self, values: Collection[Any]) -> Any:
        if len(values) <= LIST_ELEMENTS_MAX:
            if _ONLY_BYTES.issuperset(map(type, values)):
                is_fit = self._has_room(sum(map(len, values)))
                return (None, LIST, *values) if is_fit else (self._no_room, UNCOUNTED)
            if (_PLAIN_OR_NULL if self._resp3 else _PLAIN_ELEMENTS).issuperset(map(type, values)):
                is_fit = self._has_room(_deep_size(values))
                return (None, LIST, *values) if is_fit else (self._no_room, UNCOUNTED)
        return self._as_table(values)

    def _as_table(self, value: Any) -> Any:
        if not self._has_room(_deep_size(value)):
            return self._no_room, UNCOUNTED
        return self._inner(value), TABLE

    def _pairs(self, value: Pairs) -> Any:
        return self._as_table(value) if self._resp3 else self._list(list(chain.from_iterable(value)))

    def _keyed(self, value: Keyed) -> Any:
        return self._as_table(value) if self._resp3 else self._list(value)

    def _map(self, value: dict[Any, Any]) -> Any:
        return self._as_table(value) if self._resp3 else self._list(list(chain.from_iterable(value.items())))

    def _set(self, value: Collection[Any]) -> Any:
        return self._as_table(value) if self._resp3 else self._list(value)

    def _inner(self, value: Any) -> Any:
        """Return a value as an element of a table; collections as tables."""
        kind = value.__class__
        if kind in _PLAIN_TYPES:
            return int(value) if kind is bool and not self._resp3 else value
        if kind is dict or (kind is Pairs and not self._resp3) or (kind is Keyed and self._resp3):
            items = value.items() if kind is dict else value
            if not self._resp3:
                return self._tables([self._inner(one) for pair in items for one in pair])
            return self._tables({b"map": self._tables({self._inner(key): self._inner(one) for key, one in items})})
        if self._resp3 and kind in {Set, set, frozenset}:
            return self._tables({b"set": self._tables({self._inner(one): True for one in value})})
        if kind is Verbatim or kind is float:
            made = self(value)
            return made[0] if made.__class__ is tuple else made
        if kind is Simple:
            return self._tables({b"ok": value})
        if kind is ReplyError:
            return self._tables({b"err": error_text(value)})
        if value is None or value is NULL_ARRAY:
            return self._null(value)
        made = [self._inner(one) for one in value]
        return self._arrays(made) if None in made else self._tables(made)


def error_text(error: ReplyError) -> bytes:
    """Return an error's text as Lua sees it."""
    return error.text.encode("latin-1", "replace")


def _deep_size(value: Any) -> int:
    """Return about how many bytes of Lua a value needs."""
    kind = value.__class__
    if kind is bytes:
        return _ROOM_BYTES + len(value)
    if kind is Verbatim:
        return 4 * _ROOM_BYTES + len(value.text)
    if kind is dict:
        return sum([_deep_size(one) for pair in value.items() for one in pair]) + _ROOM_BYTES
    if kind in {list, tuple, Pairs, Keyed, Set, set, frozenset, Push, Several}:
        return sum(map(_deep_size, value)) + 2 * _ROOM_BYTES
    return _ROOM_BYTES


# --- out of Lua: replies -----------------------------------------------------------------------------------------------------


def integer(number: float) -> int:
    """Return a number without its fraction, the least integer if it has no 64 bits' worth.

    >>> integer(3.9), integer(-3.9), integer(float("nan"))
    (3, -3, -9223372036854775808)
    """
    if -9223372036854775808.0 <= number < 9223372036854775808.0:
        return int(number)
    return _LEAST_INTEGER


def line(text: bytes) -> bytes:
    """Return a text, up to its NUL, that fits into one line."""
    return _to_nul(text).replace(b"\r", b" ").replace(b"\n", b" ")


def _to_nul(text: bytes) -> bytes:
    """Return a text up to its NUL, if it has one: to Redis it is a string of C."""
    return text.partition(b"\0")[0]


class FromLua:
    """A flat form into a reply."""

    def __init__(self, flat: Sequence[Any], note_error: Callable[[ReplyError], None], *, resp3: bool) -> None:
        """`note_error` counts an error, unless a command of the script was refused with it: then it is counted."""
        self._next: Callable[[], Any] = iter(flat).__next__
        self._note_error = note_error
        self._resp3 = resp3

    def reply(self) -> Any:
        """Return the next value."""
        mark = self._next()
        if mark == 3:
            return self._next()
        if mark == 4:
            return integer(self._next())
        if mark == 5:
            return [self.reply() for _ in range(self._next())]
        if mark in {1, 2}:
            return boolean(mark == 1, resp3=self._resp3)
        return None if mark == 0 else self._rare(mark)

    def _rare(self, mark: int) -> Any:
        if mark == 6:
            return Map([(self.reply(), self.reply()) for _ in range(self._next())])
        if mark == 7:
            return Set([self.reply() for _ in range(self._next())])
        value = self._next()
        if mark in {8, 13}:
            error = ReplyError(line(_to_nul(value).rstrip(b"\r\n")).decode("latin-1"))
            error.is_counted = True
            if mark == 8:
                self._note_error(error)
            return error
        if mark == 9:
            return Simple(line(value))
        if mark == 10:
            return float(value)
        if mark == 11:
            return BigNumber(line(value))
        return Verbatim(self._next(), _to_nul(value)[:3].ljust(3))


def boolean(value: bool, *, resp3: bool) -> Any:
    """Return a boolean as the script's protocol has it: true is 1, and false nothing, before there were booleans."""
    if resp3:
        return value
    return 1 if value else None
