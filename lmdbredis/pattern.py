r"""Glob patterns: KEYS, SCAN MATCH, PSUBSCRIBE, CONFIG GET, ACL.

Theory. A pattern is a list of *segments* between its stars; a segment is a list of *items*, and an item matches exactly
one byte, so it is no more than a set of bytes: ``?`` is all 256, ``[a-c]`` is three, ``x`` is one (two when case is
ignored). Every quirk of Redis's ``stringmatchlen`` therefore lives in one place, `_read_class`, which turns words into
sets; what happens afterwards knows no syntax.

Matching takes the leftmost place for each segment and never goes back (enough, since a later place leaves less text for
what follows). That is what Redis's ``skipLongerMatches`` does, and it makes ``a*a*a*b`` cost O(pattern * text), not 2^n.
`compile` picks the cheapest engine that does it: ``==``, ``startswith``, ``endswith``, ``in``, else a bytes `re` with
one atomic group per segment. Patterns too long to be worth translating are walked by hand (`_walk`), which is also the
specification the tests hold the engines to.

Laws:

1. `matches` answers as valkey-server 9.1 on x86-64 does (bytes in a range compare as *signed* chars there), including
   unterminated classes, reversed ranges, ``\`` at the end, and that only the lone ``*`` matches an empty text while
   ``**`` does not (KEYS and SCAN treat the lone star apart, and so do we).
2. No text and no pattern costs more than O(len(pattern) * len(text)).

This room knows bytes only: no key, no database, no command.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

Matcher = Callable[[bytes], bool]
Segment = list[frozenset[int]]

_STAR, _QUESTION, _OPEN, _CLOSE, _BACKSLASH, _CARET, _DASH = b"*?[]\\^-"
_ANY: Final = frozenset(range(256))
_CACHED_PATTERN_BYTES_MAX: Final = 256  # longer ones are walked, not translated: re.compile costs microseconds a byte
_UNSPECIAL: Final = re.compile(rb"[^*?\[\\]*").match
_STARS_MAX: Final = 1000  # Redis's protection against abusive patterns: more nested stars never match


def matches(pattern: bytes, text: bytes, *, nocase: bool = False) -> bool:
    """Return whether the glob `pattern` covers the whole of `text`. O(len(pattern) * len(text))."""
    return compile(pattern, nocase)(text)


def compile(pattern: bytes, nocase: bool = False) -> Matcher:  # noqa: A001 - the name `re` gives the same thing
    """Return the function that tells whether a text matches `pattern`; `nocase` ignores the case of ASCII letters.

    The last thousand short patterns are remembered. Translating costs some 50 us, a call 0.1 to 0.4 us plus the text.
    """
    if len(pattern) <= _CACHED_PATTERN_BYTES_MAX:
        return _compile(pattern, nocase)

    return _translate(pattern, nocase)


def literal_prefix(pattern: bytes) -> bytes:
    """Return the bytes every match of `pattern` starts with, for seeking: ``b"user:"`` for ``user:[0-9]*``.

    Empty if the first item is not one certain byte. O(len(prefix)). Case counts.
    """
    position = _UNSPECIAL(pattern).end()  # type: ignore[union-attr] # matches at least the empty prefix
    prefix = bytearray(pattern[:position])
    while position < len(pattern) and pattern[position] != _STAR:
        item, position = _read_item(pattern, position, nocase=False)
        if len(item) != 1:
            break
        prefix += bytes(item)

    return bytes(prefix)


@lru_cache(maxsize=1000)
def _compile(pattern: bytes, nocase: bool) -> Matcher:
    return _translate(pattern, nocase)


# Syntax: words into sets.


def _segments(pattern: bytes, nocase: bool) -> list[Segment]:
    """Return the segments between the stars: always one more than there are runs of stars. O(len(pattern))."""
    segments: list[Segment] = [[]]
    position = 0
    while position < len(pattern):
        if pattern[position] == _STAR:
            while position < len(pattern) and pattern[position] == _STAR:
                position += 1
            segments.append([])
        else:
            item, position = _read_item(pattern, position, nocase)
            segments[-1].append(item)

    return segments


def _read_item(pattern: bytes, position: int, nocase: bool) -> tuple[frozenset[int], int]:
    """Return the set of bytes the item at `position` (not a star) matches, and the position after it."""
    byte = pattern[position]
    if byte == _QUESTION:
        return _ANY, position + 1
    if byte == _OPEN:
        return _read_class(pattern, position + 1, nocase)
    if byte == _BACKSLASH and position + 1 < len(pattern):
        position += 1
        byte = pattern[position]

    return (_SAME_LETTER[byte] if nocase else _ONE[byte]), position + 1


def _read_class(pattern: bytes, position: int, nocase: bool) -> tuple[frozenset[int], int]:
    """Return the set of a class whose ``[`` ends before `position`, and the position after its ``]``.

    Quirks kept: the end of the pattern closes a class; ``]`` closes it even as its first byte; ``[a-]`` is a range up to
    ``]``; an escaped byte cannot start a range and keeps its case; with `nocase` a range is ordered before it is folded.
    """
    end = len(pattern)
    negated = position < end and pattern[position] == _CARET
    position += negated
    chosen: set[int] = set()
    while position < end and pattern[position] != _CLOSE:
        byte = pattern[position]
        if byte == _BACKSLASH and position + 1 < end:
            chosen.add(pattern[position + 1])
            position += 2
        elif position + 2 < end and pattern[position + 1] == _DASH:
            chosen |= _range(byte, pattern[position + 2], nocase)
            position += 3
        else:
            chosen |= _SAME_LETTER[byte] if nocase else _ONE[byte]
            position += 1

    return (_ANY - chosen if negated else frozenset(chosen)), min(position + 1, end)


def _range(first: int, last: int, nocase: bool) -> set[int]:
    low, high = sorted((_signed(first), _signed(last)))
    if nocase:
        low, high = _lower(low), _lower(high)

    return {byte for byte in range(256) if low <= (_lower(_signed(byte)) if nocase else _signed(byte)) <= high}


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _lower(char: int) -> int:
    return char + 32 if 65 <= char <= 90 else char


_ONE: Final = [frozenset((byte,)) for byte in range(256)]
_SAME_LETTER: Final = [frozenset(other for other in range(256) if _lower(other) == _lower(byte)) for byte in range(256)]


# Engines: sets into answers.


def _translate(pattern: bytes, nocase: bool) -> Matcher:
    """Return the cheapest engine that is right for `pattern`."""
    if pattern == b"*":
        return _everything
    segments = _segments(pattern, nocase)
    if len(segments) - 1 - (not segments[-1]) > _STARS_MAX or not all(item for segment in segments for item in segment):
        return _nothing
    if not any(segments) and len(segments) > 1:
        return bool  # only stars, but more than one: anything but the empty text
    if all(len(item) == 1 for segment in segments for item in segment):
        literals = [b"".join(map(bytes, segment)) for segment in segments]
        engine = _literal_engine(literals)
        if engine is not None:
            return engine
    if len(pattern) > _CACHED_PATTERN_BYTES_MAX:
        return lambda text: _walk(segments, text)

    fullmatch = re.compile(_regex(segments), re.DOTALL).fullmatch
    return lambda text: fullmatch(text) is not None


def _everything(text: bytes) -> bool:
    return True


def _nothing(text: bytes) -> bool:
    return False


def _literal_engine(literals: list[bytes]) -> Matcher | None:
    """Return an engine for ``a``, ``a*``, ``*a``, ``a*b`` and ``*a*``, which are nearly all patterns met; else None."""
    if len(literals) == 1:
        return literals[0].__eq__
    first, last = literals[0], literals[-1]
    if len(literals) == 2:
        if not last:
            return lambda text: text.startswith(first)
        if not first:
            return lambda text: text.endswith(last)
        bytes_min = len(first) + len(last)
        return lambda text: len(text) >= bytes_min and text.startswith(first) and text.endswith(last)
    if len(literals) == 3 and not first and not last:
        middle = literals[1]
        return lambda text: middle in text

    return None


def _regex(segments: list[Segment]) -> bytes:
    """Return a regular expression whose full matches are those of `segments`.

    An atomic group takes a segment's leftmost place for good. The last segment hangs on the end of the text: a
    lookahead sees that enough bytes are left for it, a lookbehind that they are the right ones.
    """
    first, *others = [b"".join(map(_regex_item, segment)) for segment in segments]
    if not others:
        return first
    *middle, last = others
    body = b"".join(b"(?>.*?%b)" % segment for segment in middle)
    if not last:
        return first + body + b".*+"

    return b"%b%b(?=.{%d}).*+(?<=%b)" % (first, body, len(segments[-1]), last)


def _regex_item(item: frozenset[int]) -> bytes:
    if len(item) == 256:
        return b"."
    if len(item) == 1:
        return re.escape(bytes(item))

    return b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(item)) + b"]"


def _walk(segments: list[Segment], text: bytes) -> bool:
    """Return whether `text` matches: the rule in its plainest form. O(items * len(text)) time, O(1) memory."""
    first, last = segments[0], segments[-1]
    if len(segments) == 1:
        return len(text) == len(first) and _fits(first, text, 0)
    position, end = len(first), len(text) - len(last)
    if position > end or not _fits(first, text, 0) or not _fits(last, text, end):
        return False
    for segment in segments[1:-1]:
        while not (fits := _fits(segment, text, position)) and position + len(segment) < end:
            position += 1
        position += len(segment)
        if not fits or position > end:
            return False

    return bool(text)


def _fits(segment: Segment, text: bytes, position: int) -> bool:
    """Return whether every item of `segment` has its byte from `position` on; False past the end of `text`."""
    return position + len(segment) <= len(text) and all(
        text[position + index] in item for index, item in enumerate(segment)
    )
