"""Cursors: what SCAN, HSCAN, SSCAN and ZSCAN hand out, and the words they share.

Theory. Rows have an order, so a scan needs to know no more than the name from which to go on: its *position*, some hundred
bytes. Clients expect a number of 64 bits. So the server remembers which number stands for which position.

Laws:

1. 0 is the start and the end. A *token* is any other cursor: a random epoch of this process, then a running number; 63 bits
   in all, for clients whose integers have a sign.
2. A token that is not known (of an earlier process, long unused, or never given) stands for the beginning. So every element
   that is there from the start of a scan to its end is returned at least once, whatever happens; duplicates are allowed.
3. What is remembered is bounded: the `TOKENS_MAX` tokens used last. A scan in progress holds two of them, however long it
   is: the one just given, and the one before it (its reply may have been lost). So no scan, be it slow, is driven out by the
   steps of a fast one.

It knows no key and no row: what a position means is the affair of whoever asked for it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from lmdbredis.arguments import Arguments, integer
from lmdbredis.errors import INVALID_CURSOR, SYNTAX, ReplyError
from lmdbredis.words import parse_int

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

TOKENS_MAX: Final = 65_536
COUNT_DEFAULT: Final = 10

_NUMBERS: Final = 1 << 32  # running numbers of an epoch: after them they begin again
_U64: Final = 1 << 64
_STRTOULL: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?)0*([0-9]{1,20})").fullmatch


class Cursors:
    """The tokens of a server. See the module for the laws."""

    __slots__ = ("_epoch", "_held", "_number")

    def __init__(self, random: random.Random) -> None:
        self._epoch = random.getrandbits(31) << 32
        self._number = 0  # of the token given last
        # Token -> position, the token before it; used last, last.
        self._held: OrderedDict[int, tuple[bytes, int]] = OrderedDict()

    def position(self, token: int) -> bytes:
        """Return the position a token stands for: empty, the beginning, for 0 and for an unknown one. O(1)."""
        held = self._held.get(token)
        if held is None:
            return b""
        self._held.move_to_end(token)
        return held[0]

    def token(self, position: bytes | None, after: int = 0) -> int:
        """Return a new token for a position, 0 for None; `after` is the cursor of the request it answers. O(1)."""
        held = self._held.get(after)
        if held is not None:
            self._held.pop(held[1], None)
        if position is None:
            self._held.pop(after, None)
            return 0
        if len(self._held) >= TOKENS_MAX:
            self._held.popitem(last=False)
        self._number = self._number % (_NUMBERS - 1) + 1
        token = self._epoch | self._number
        self._held[token] = position, after
        return token


def cursor(word: bytes) -> int:
    """Return the cursor a word spells, as Redis's string2ull reads it. Raises ReplyError.

    That is C's strtoull, which takes blanks and signs and ends at a NUL, save that a plainly written negative is refused.
    """
    word = word.partition(b"\0")[0]
    match = _STRTOULL(word)
    if match is None:
        raise ReplyError(INVALID_CURSOR)
    sign, number = match[1], int(match[2])
    if number >= _U64 or (sign == b"-" and parse_int(word) is not None):
        raise ReplyError(INVALID_CURSOR)
    return -number % _U64 if sign == b"-" else number


def scan_options(words: Sequence[bytes]) -> tuple[bytes | None, int]:
    """Return (pattern, None if everything matches; count) of ``[MATCH pattern] [COUNT count]``. Raises ReplyError."""
    options = Arguments(words)
    pattern, count = None, COUNT_DEFAULT
    while options:
        if options.accept(b"MATCH", 1):
            pattern = options.next()
        elif options.accept(b"COUNT", 1):
            count = integer(options.next())
            if count < 1:
                raise ReplyError(SYNTAX)
        else:
            raise ReplyError(SYNTAX)
    return None if pattern == b"*" else pattern, count
