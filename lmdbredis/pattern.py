r"""Glob patterns: KEYS, SCAN MATCH, PSUBSCRIBE, CONFIG GET, ACL.

Theory. A pattern is a list of *segments* between its stars; a segment is a list of *items*, and an item matches exactly
one byte, so it is no more than a set of bytes: ``?`` is all 256, ``[a-c]`` is three, ``x`` is one (two when case is
ignored). Every quirk of Redis's ``stringmatchlen`` therefore lives in one place, `_read_class`, which turns words into
sets; what happens afterwards knows no syntax.

Matching takes the leftmost place for each segment and never goes back (enough, since a later place leaves less text for
what follows). That is what Redis's ``skipLongerMatches`` does, and it makes ``a*a*a*b`` cost O(pattern * text), not 2^n.
`compile` picks the cheapest engine that does it: ``==``, ``startswith``, ``endswith``, ``in``, else a bytes `re` with
one atomic group per segment. Patterns too long to be worth translating are walked by hand (`_walk`), which is also the
specification the tests hold the engines to. The walk reads a pattern only as far as the texts reach, for reading costs a
microsecond an item: of four megabytes of ``?`` a name of ten bytes needs eleven.

Laws:

1. `matches` answers as valkey-server 9.1 on x86-64 does (bytes in a range compare as *signed* chars there), including
   unterminated classes, reversed ranges, ``\`` at the end, and that only the lone ``*`` matches an empty text while
   ``**`` does not (KEYS and SCAN treat the lone star apart, and so do we).
2. No text and no pattern costs more than O(len(pattern) * len(text)).
3. To compile a long pattern and to try it on a short text takes some microseconds and a few passes of C over the pattern,
   a tenth of a microsecond a byte where a class goes on for megabytes: one client's word must not hold up the others.

This room knows bytes only: no key, no database, no command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import copy
from functools import lru_cache
from itertools import tee
from typing import Final

Matcher = Callable[[bytes], bool]
Item = frozenset[int]
Segment = list[Item]

_STAR, _QUESTION, _OPEN, _BACKSLASH, _DASH = b"*?[\\-"
_ANY: Final = frozenset(range(256))
_SHORT_BYTES_MAX: Final = 256  # longer ones are walked, not translated: re.compile costs microseconds a byte
_UNSPECIAL: Final = re.compile(rb"[^*?\[\\]*").match
_STARS: Final = re.compile(rb"\*\**")  # not \*+, which is searched for ten times as slowly
_STARS_MAX: Final = 1000  # Redis's protection against abusive patterns: more nested stars never match


def matches(pattern: bytes, text: bytes, *, nocase: bool = False) -> bool:
    """Return whether the glob `pattern` covers the whole of `text`. O(len(pattern) * len(text))."""
    return compile(pattern, nocase)(text)


def compile(pattern: bytes, nocase: bool = False) -> Matcher:  # noqa: A001 - the name `re` gives the same thing
    """Return the function that tells whether a text matches `pattern`; `nocase` ignores the case of ASCII letters.

    The last thousand short patterns are remembered. Translating costs some 50 us, a call 0.1 to 0.4 us plus the text.
    """
    return (_compile if len(pattern) <= _SHORT_BYTES_MAX else _compile_long)(pattern, nocase)


def literal_prefix(pattern: bytes) -> bytes:
    """Return the bytes every match of `pattern` starts with, for seeking: ``b"user:"`` for ``user:[0-9]*``.

    Empty if the first item is not one certain byte. O(len(prefix)). Case counts. Escapes and classes are looked into in the
    first `_SHORT_BYTES_MAX` bytes only: a shorter prefix is right as well.
    """
    position = _UNSPECIAL(pattern).end()  # type: ignore[union-attr] # matches at least the empty prefix
    prefix = bytearray(pattern[:position])
    head = pattern[:_SHORT_BYTES_MAX]
    while position < len(head) and head[position] != _STAR:
        item, position = _read_item(head, position, nocase=False)
        if len(item) != 1 or position == len(head) < len(pattern):
            break
        prefix += bytes(item)

    return bytes(prefix)


@lru_cache(maxsize=1000)
def _compile(pattern: bytes, nocase: bool) -> Matcher:
    return _translate(pattern, nocase)


# Syntax: words into sets.


def _items(pattern: bytes, nocase: bool) -> Iterator[Item | None]:
    """Yield the set of each item, and None for each run of stars. What is not asked for is not read."""
    position = 0
    while position < len(pattern):
        if pattern[position] == _STAR:
            item, position = None, _STARS.match(pattern, position).end()  # type: ignore[union-attr] # there is a star
        else:
            item, position = _read_item(pattern, position, nocase)
        yield item


def _segments(pattern: bytes, nocase: bool) -> list[Segment]:
    """Return the segments between the stars: always one more than there are runs of stars. O(len(pattern))."""
    segments: list[Segment] = [[]]
    for item in _items(pattern, nocase):
        if item is None:
            segments.append([])
        else:
            segments[-1].append(item)

    return segments


def _read_item(pattern: bytes, position: int, nocase: bool) -> tuple[Item, int]:
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


def _read_class(pattern: bytes, position: int, nocase: bool) -> tuple[Item, int]:
    """Return the set of a class whose ``[`` ends before `position`, and the position after its ``]``.

    Quirks kept: the end of the pattern closes a class; ``]`` closes it even as its first byte; ``[a-]`` is a range up to
    ``]``; an escaped byte cannot start a range and keeps its case; with `nocase` a range is ordered before it is folded.
    """
    negated = pattern[position : position + 1] == b"^"
    words, end = _class_words(pattern, position + negated)
    chosen: set[int] = set()
    spans: dict[int, int] = {}  # first char of ranges -> the last one of the longest
    for word in words:
        if len(word) == 2 and word[0] == _BACKSLASH:
            chosen.add(word[1])
        elif len(word) == 3 and word[1] == _DASH:
            low, high = _range(word[0], word[2], nocase)
            spans[low] = max(spans.get(low, high), high)
        else:
            chosen.update(word.lower() + word.upper() if nocase else word)
    for low, high in spans.items():
        chosen.update(byte for byte, char in enumerate(_CHARS[nocase]) if low <= char <= high)

    return (_ANY - chosen if negated else frozenset(chosen)), min(end + 1, len(pattern))


def _class_words(pattern: bytes, position: int) -> tuple[set[bytes], int]:
    """Return the words of a class from `position` on, each once, and where they end: at its ``]`` or with the pattern.

    Some thousands are read at a time: four megabytes take a tenth of a second or a few, and little memory.
    """
    words: set[bytes] = set()
    while (end := _SOME_WORDS(pattern, position).end()) > position:  # type: ignore[union-attr] # matches at least none
        words.update(_WORDS(pattern, position, end))
        position = end

    return words, end


# An escaped byte, a range, or a run of bytes that are neither; a dash or a backslash that makes nothing stands for itself.
_WORD: Final = rb"\\.|[^]]-.|[^]\\-]+(?!-)|[^]]"
_WORDS: Final = re.compile(_WORD, re.DOTALL).findall
_SOME_WORDS: Final = re.compile(rb"(?:%b){,5000}+" % _WORD, re.DOTALL).match


def _range(first: int, last: int, nocase: bool) -> tuple[int, int]:
    """Return the chars a range goes from and to; folded after they were ordered, so that it may be empty."""
    low, high = sorted((_signed(first), _signed(last)))

    return (_lower(low), _lower(high)) if nocase else (low, high)


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _lower(char: int) -> int:
    return char + 32 if 65 <= char <= 90 else char


_CHARS: Final = [[_signed(byte) for byte in range(256)], [_lower(_signed(byte)) for byte in range(256)]]
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
    if all(len(item) == 1 for segment in segments for item in segment):
        literals = [b"".join(map(bytes, segment)) for segment in segments]
        engine = _literal_engine(literals)
        if engine is not None:
            return engine

    fullmatch = re.compile(_regex(segments), re.DOTALL).fullmatch
    return lambda text: fullmatch(text) is not None


def _compile_long(pattern: bytes, nocase: bool) -> Matcher:
    """Return an engine for a pattern too long to be translated: without reading it, or reading as the texts need it."""
    if not nocase and not any(special in pattern for special in (b"?", b"[", b"\\")):
        engine = _literal_engine(_STARS.split(pattern, 3))  # four literals are too many, as are a million
        if engine is not None:
            return engine
    (items,) = tee(_items(pattern, nocase), 1)

    return lambda text: _walk(copy(items), text)  # each copy begins at the first item, and none is read twice


def _everything(text: bytes) -> bool:
    return True


def _nothing(text: bytes) -> bool:
    return False


def _literal_engine(literals: list[bytes]) -> Matcher | None:
    """Return an engine for ``a``, ``a*``, ``*a``, ``a*b``, ``*a*`` and ``**``, nearly all patterns met; else None."""
    if len(literals) == 1:
        return literals[0].__eq__
    first, last = literals[0], literals[-1]
    if len(literals) == 2:
        if not last:
            return (lambda text: text.startswith(first)) if first else bool  # `**` takes anything but the empty text
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


def _walk(items: Iterator[Item | None], text: bytes) -> bool:
    """Return whether `text` matches: the rule in its plainest form.

    O(items * len(text)) time, O(len(text)) memory. No more items are read than `text` has bytes, and one.
    """
    position = stars = 0
    last = False
    while not last:
        segment, last = _next_segment(items, len(text) - position)
        end = len(text) - len(segment)
        places = range(position, end + 1) if stars else range(min(end + 1, 1))
        if last:
            places = range(end, end + 1) if end in places else range(0)
        position = next((place + len(segment) for place in places if _fits(segment, text, place)), -1)
        if position < 0 or (segment and stars > _STARS_MAX):
            return False
        stars += not last

    return bool(text) or not stars


def _next_segment(items: Iterator[Item | None], items_max: int) -> tuple[Segment, bool]:
    """Return the items up to the next star or the end, one more than `items_max` at most; and whether no star ended them."""
    segment: Segment = []
    for item in items:
        if item is None:
            return segment, False
        segment.append(item)
        if len(segment) > items_max:
            break

    return segment, True


def _fits(segment: Segment, text: bytes, position: int) -> bool:
    """Return whether every item of `segment` has its byte from `position` on, where `text` is long enough."""
    return all(text[position + index] in item for index, item in enumerate(segment))
