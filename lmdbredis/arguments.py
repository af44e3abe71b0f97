"""A request's words, read: the argument cursor, and numbers that refuse with the right error.

Options are read in the order of the manual page, so that a handler reads like its syntax line::

    options = Arguments(rest)
    while options:
        if options.accept(b"COUNT"):
            count = integer(options.next())
        else:
            raise ReplyError(SYNTAX)
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

from lmdbredis.errors import (
    COUNT_NOT_POSITIVE,
    ENTRY_ID,
    INTERVAL_END,
    INTERVAL_START,
    NOT_FLOAT,
    NOT_IN_RANGE,
    NOT_INTEGER,
    NOT_POSITIVE,
    NUMKEYS_NOT_POSITIVE,
    OUT_OF_RANGE,
    SYNTAX,
    TIMEOUT_NEGATIVE,
    TIMEOUT_NOT_FLOAT,
    TIMEOUT_OUT_OF_RANGE,
    ReplyError,
)
from lmdbredis.words import INTEGER_MAX, INTEGER_MIN, long_double, parse_entry_id, parse_float, parse_int

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SEQUENCE_MAX = (1 << 64) - 1
_ENTRY_ID_MAX = (1 << 128) - 1
_SPECIAL_IDS = frozenset((b"$", b">", b"+"))


REPEATED_BYTES_MAX: Final = 1024  # of options that are remembered, because a client says the same every time
_PLAIN_DIGITS_MAX: Final = 9  # of a timeout in seconds


class Arguments:
    """A cursor over words."""

    __slots__ = ("_at", "_words")

    def __init__(self, words: Sequence[bytes]) -> None:
        self._words = words
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._words)

    def __len__(self) -> int:
        return len(self._words) - self._at

    def accept(self, name: bytes, values: int = 0) -> bool:
        """Step over the word `name` (upper case) if it is next, in any case, and at least `values` words follow it."""
        at = self._at
        if at + values < len(self._words) and self._words[at].upper() == name:
            self._at = at + 1
            return True
        return False

    def next(self) -> bytes:
        """Return the next word. Raises a syntax error if there is none."""
        if self._at == len(self._words):
            raise ReplyError(SYNTAX)
        self._at += 1
        return self._words[self._at - 1]

    def take(self, count: int) -> Sequence[bytes]:
        """Return the next `count` words. Raises a syntax error if there are fewer."""
        if count < 0 or count > len(self):
            raise ReplyError(SYNTAX)
        self._at += count
        return self._words[self._at - count : self._at]

    def rest(self) -> Sequence[bytes]:
        """Return all words that are left."""
        return self.take(len(self))


def integer(word: bytes, error: str = NOT_INTEGER) -> int:
    """Return the 64-bit integer a word spells. Raises ReplyError."""
    number = parse_int(word)
    if number is None:
        raise ReplyError(error)
    return number


def small_integer(word: bytes) -> int:
    """Return the 32-bit integer a word spells. Raises ReplyError."""
    number = integer(word)
    if not -(2**31) <= number < 2**31:
        raise ReplyError(NOT_IN_RANGE % (-(2**31), 2**31 - 1))
    return number


def number(word: bytes, error: str = NOT_FLOAT) -> float:
    """Return the double a word spells. Raises ReplyError."""
    found = parse_float(word)
    if found is None:
        raise ReplyError(error)
    return found


def positive(word: bytes, error: str = NOT_POSITIVE) -> int:
    """Return the integer >= 0 a word spells. Raises ReplyError: no number and a negative number have the same text."""
    found = parse_int(word)
    if found is None or found < 0:
        raise ReplyError(error)
    return found


def at_least_one(word: bytes, error: str) -> int:
    """Return the integer >= 1 a word spells. Raises ReplyError(`error`)."""
    found = positive(word, error)
    if not found:
        raise ReplyError(error)
    return found


def keys_after_count(words: Sequence[bytes], at: int) -> list[int]:
    """Return the positions of the keys in a request whose word `at` says how many follow it."""
    count = positive(words[at])
    return list(range(at + 1, min(at + 1 + count, len(words))))


def negatable(word: bytes) -> int:
    """Return the 64-bit integer a word spells, whose negative is one too: ranks, counts with a sign. Raises ReplyError."""
    found = integer(word)
    if found == INTEGER_MIN:
        raise ReplyError(NOT_IN_RANGE % (-INTEGER_MAX, INTEGER_MAX))
    return found


def count_in_range(word: bytes) -> int:
    """Return the integer a word spells, of which twice the size is still one (counts of HRANDFIELD and its like)."""
    found = integer(word)
    if not -(2**62) < found < 2**62:
        raise ReplyError(OUT_OF_RANGE)
    return found


def choice(words: Mapping[bytes, bool], word: bytes) -> bool:
    """Return which of two words this is, in any case. Raises a syntax error."""
    found = words.get(word.upper())
    if found is None:
        raise ReplyError(SYNTAX)
    return found


def pop_words(numkeys: bytes, words: Sequence[bytes], ends: Mapping[bytes, bool]) -> tuple[Sequence[bytes], bool, int]:
    """Return (keys, from which of two ends, how many at most): what LMPOP and ZMPOP say behind `numkeys`. Raises ReplyError."""
    arguments = Arguments(words)
    count = at_least_one(numkeys, NUMKEYS_NOT_POSITIVE)
    if count >= len(arguments):
        raise ReplyError(SYNTAX)
    keys = arguments.take(count)
    end = choice(ends, arguments.next())
    most = 1
    if arguments.accept(b"COUNT", 1):
        most = at_least_one(arguments.next(), COUNT_NOT_POSITIVE)
    if arguments:
        raise ReplyError(SYNTAX)
    return keys, end, most


def timeout_ms(word: bytes, now_ms: int) -> int:
    """Return the ms that a word means which spells seconds, 0 = for ever; part of a ms counts as a whole one. Raises ReplyError."""
    if (
        word.isdigit() and len(word) <= _PLAIN_DIGITS_MAX
    ):  # what nearly everybody says: exact fractions take ten times as long
        return int(word) * 1000
    seconds = long_double(word, TIMEOUT_NOT_FLOAT)
    if seconds * 1000 > INTEGER_MAX:
        raise ReplyError(TIMEOUT_OUT_OF_RANGE)
    return bounded_timeout_ms(ceil(seconds * 1000) if seconds > INTEGER_MIN else INTEGER_MIN, now_ms)


def bounded_timeout_ms(milliseconds: int, now_ms: int) -> int:
    """Return a timeout if it is one. Raises ReplyError: it is negative, or ends after the end of time."""
    if milliseconds < 0:
        raise ReplyError(TIMEOUT_NEGATIVE)
    if milliseconds > INTEGER_MAX - now_ms:
        raise ReplyError(TIMEOUT_OUT_OF_RANGE)
    return milliseconds


# --- ids of entries ---------------------------------------------------------------------------------------------------------


def entry_id(word: bytes, sequence: int = 0, *, ends: bool = False) -> int:
    """Return the id a word spells, completed by `sequence`; with `ends` also ``-`` and ``+``. Raises ReplyError."""
    found = parse_entry_id(word, sequence, ends=ends)
    if found is None:
        raise ReplyError(ENTRY_ID)
    return found


def special_id(word: bytes) -> bytes:
    """Return a word for an id without what follows a NUL, if the rest is one of the special ids ``$ > +``; else as it is."""
    first = word.partition(b"\0")[0]
    return first if first in _SPECIAL_IDS else word


def interval_start(word: bytes) -> int:
    """Return the least id of an interval that begins with a word, ``(`` before it if it is not inside. Raises ReplyError."""
    if word[:1] != b"(" or len(word) == 1:
        return entry_id(word, ends=True)
    found = entry_id(word[1:])
    if found == _ENTRY_ID_MAX:
        raise ReplyError(INTERVAL_START)
    return found + 1


def interval_end(word: bytes) -> int:
    """Return the greatest id of an interval that ends with a word, ``(`` before it if it is not inside. Raises ReplyError."""
    if word[:1] != b"(" or len(word) == 1:
        return entry_id(word, _SEQUENCE_MAX, ends=True)
    found = entry_id(word[1:], _SEQUENCE_MAX)
    if not found:
        raise ReplyError(INTERVAL_END)
    return found - 1
