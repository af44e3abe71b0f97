"""Kinds of directive: how the words of redis.conf become a value, and how a value is shown and written again.

Theory: a kind is a small frozen object with four verbs: `read` words into a value, `add` words to the value before, `show`
a value as CONFIG GET does, and give the `lines` that CONFIG REWRITE writes. Which directive is of which kind is data, in
`directives`.

Laws:

1. Reading what stands in `lines` gives the value back; so does reading what `show` says (but for KeyEvents, see there).
2. Words refused raise `Refused` with Redis's text, and nothing has changed: kinds keep no state.
3. Values are immutable and compare by content, so that a saved one stays what it was.

Numbers are read as C reads them where Redis uses strtoll, and strictly where it uses its own reader; but a memory value past
64 bits is refused, as Valkey does, where Redis 7 wraps around.

A value's text is str: UTF-8 decoded, other bytes kept by surrogateescape, so that paths work and passwords may be binary.

This room knows no directive's name, no file and no line number.
"""

# ruff: noqa: D102 -- kinds override methods documented in Kind

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

Words = Sequence[str]

INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1
UNITS: Final = {"": 1, "b": 1, "k": 10**3, "kb": 2**10, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30}
TERA_UNITS: Final = UNITS | {"t": 10**12, "tb": 2**40}
# Byte -> how it stands inside double quotes.
ESCAPES: Final = {ord("\\"): "\\\\", ord('"'): '\\"', 10: "\\n", 13: "\\r", 9: "\\t", 7: "\\a", 8: "\\b"}

# What Redis says of words that make no value; who reads them adds where they stood.
WRONG_COUNT: Final = "wrong number of arguments"
NOT_YES_NO: Final = "argument must be 'yes' or 'no'"
NOT_INTEGER: Final = "argument couldn't be parsed into an integer"
NOT_OCTAL: Final = "argument couldn't be parsed as an octal number"
NOT_MEMORY: Final = "argument must be a memory value"
NOT_MEMORY_OR_PERCENT: Final = "argument must be a memory or percent value"
PERCENT_TOO_HIGH: Final = "percentage argument must be less or equal to %d"
NOT_BETWEEN: Final = "argument must be between %s and %s inclusive"
NOT_ONE_OF: Final = "argument(s) must be one of the following: %s"
SAVE_AND_NOSAVE: Final = "shutdown options SAVE and NOSAVE can't be used simultaneously"
BAD_SAVE: Final = "Invalid save parameters"
LIMITS_COUNT: Final = "Wrong number of arguments in buffer limit configuration."
LIMITS_CLASS: Final = "Invalid client class specified in buffer limit configuration."
LIMITS_VALUE: Final = "Error in hard, soft or soft_seconds setting in buffer limit configuration."
BAD_OOM_VALUES: Final = "Invalid oom-score-adj-values, elements must be between -2000 and 2000."
TOO_MANY_ADDRESSES: Final = "Too many bind addresses specified."
BAD_MASTER_PORT: Final = "Invalid master port"
BAD_PERCENTILES: Final = "Invalid latency-tracking-info-percentiles parameters"
PERCENTILES_RANGE: Final = "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
BAD_EVENTS: Final = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."


class Refused(ValueError):
    """Words that make no value of this kind; the text is Redis's."""


def to_bytes(text: str) -> bytes:
    """Return the bytes of a value's text: UTF-8, with bytes that are none kept as they came (as file names are)."""
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    """Return bytes as a value's text; `to_bytes` gives back exactly these bytes."""
    return data.decode("utf-8", "surrogateescape")


def quoted(text: str) -> str:
    r"""Return a word in double quotes as redis.conf writes it: ASCII only, other bytes as ``\xNN``. O(length)."""
    shown = (ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in to_bytes(text))
    return f'"{"".join(shown)}"'


def bare(text: str) -> str:
    """Return a word without quotes where that reads back the same, else `quoted`."""
    return text if re.fullmatch(r"[!-~]+", text) and not re.search(r"""["'\\]""", text) else quoted(text)


def memory(size_bytes: int) -> str:
    """Return a size as redis.conf writes it: in the largest unit that divides it.

    >>> memory(64 * 1024 * 1024), memory(1000), memory(0)
    ('64mb', '1000', '0')
    """
    for unit in ("gb", "mb", "kb"):
        if size_bytes and size_bytes % UNITS[unit] == 0:
            return f"{size_bytes // UNITS[unit]}{unit}"
    return str(size_bytes)


def _c_integer(word: str) -> int | None:
    """Return what strtoll makes of a whole word, None where it stops early. An empty word is 0, as in C."""
    return int(word or "0") if re.fullmatch(r"(?a:\s*[+-]?\d{1,99})?", word) else None


def _memory_bytes(word: str, units: dict[str, int] = UNITS) -> int | None:
    """Return the bytes that "64mb" means, None if it means none or more than 64 bits hold."""
    found = re.fullmatch(r"(?a:(\d{0,99})([a-zA-Z]*))", word)
    unit = units.get(found[2].lower()) if found else None
    size_bytes = int(found[1] or "0") * unit if found and unit else None
    return size_bytes if size_bytes is not None and size_bytes < 2**64 else None


@dataclass(frozen=True)
class Kind:
    """What every kind of directive can do."""

    many = False  # takes any number of words; CONFIG SET splits its one word at blanks
    repeats = False  # several lines of one file make one value; of other kinds the last line counts
    vanishes = False  # its default needs no line in the file
    gathers = False  # lines of one file add up, beginning from `read([])`; CONFIG SET begins anew
    unit = ""  # what the number counts, if the kind already says so

    def read(self, words: Words) -> Any:
        """Return the value of `words`, which come after the name. Raises Refused."""
        raise NotImplementedError

    def add(self, words: Words, old: Any) -> Any:  # noqa: ARG002 -- most kinds have no use for what was
        """Return the value of `words` where `old` was the value before. Raises Refused."""
        return self.read(words)

    def show(self, value: Any) -> str:
        """Return the value as CONFIG GET shows it."""
        return str(value)

    def lines(self, value: Any) -> list[str]:
        """Return what stands behind the name in redis.conf, one text for each line. Redis's spelling."""
        return [self.show(value)]


@dataclass(frozen=True)
class YesNo(Kind):
    """yes or no: bool."""

    def read(self, words: Words) -> bool:
        """Any case counts, as everywhere in redis.conf."""
        word = words[0].lower()
        if word not in {"yes", "no"}:
            raise Refused(NOT_YES_NO)
        return word == "yes"

    def show(self, value: bool) -> str:
        return "yes" if value else "no"


@dataclass(frozen=True)
class Integer(Kind):
    """A decimal number within bounds: int."""

    low: int = 0
    high: int = INT_MAX
    clamp: tuple[int, int] | None = None  # an accepted value outside is moved to the nearer end (hz)

    def read(self, words: Words) -> int:
        """Only the canonical spelling: no sign +, no leading zero, no blanks."""
        if not re.fullmatch(r"(?a:0|-?[1-9]\d{0,18})", words[0]) or not -LONG_MAX - 1 <= int(words[0]) <= LONG_MAX:
            raise Refused(NOT_INTEGER)
        value = int(words[0])
        if not self.low <= value <= self.high:
            raise Refused(NOT_BETWEEN % (self.low, self.high))
        return min(max(value, self.clamp[0]), self.clamp[1]) if self.clamp else value


@dataclass(frozen=True)
class Octal(Kind):
    """Permission bits, in octal: int."""

    def read(self, words: Words) -> int:
        """Read at most 0777."""
        if not re.fullmatch(r"(?a:\s*[+-]?[0-7]{1,99})?", words[0]):
            raise Refused(NOT_OCTAL)
        value = int(words[0] or "0", 8)
        if not 0 <= value <= 0o777:
            raise Refused(NOT_BETWEEN % ("0", "777"))
        return value

    def show(self, value: int) -> str:
        return f"{value:o}"


@dataclass(frozen=True)
class Memory(Kind):
    """A number of bytes, "64mb": int. With `percent` also "5%", kept as -5."""

    low: int = 0
    high: int = LONG_MAX
    percent: bool = False
    tera: bool = False  # 1tb is understood; Redis's own directives refuse it
    unit = "bytes"

    def read(self, words: Words) -> int:
        """Units: none, b, k (1000), kb (1024), m, mb, g, gb in any case; a unit alone is 0, as in Redis."""
        share = re.fullmatch(r"(?a:(0|[1-9]\d{0,18})%)", words[0]) if self.percent else None
        if share:
            if int(share[1]) > 100:
                raise Refused(PERCENT_TOO_HIGH % 100)
            return -int(share[1])
        value = _memory_bytes(words[0], TERA_UNITS if self.tera else UNITS)
        if value is None:
            raise Refused(NOT_MEMORY_OR_PERCENT if self.percent else NOT_MEMORY)
        if not self.low <= value <= self.high:
            raise Refused(NOT_BETWEEN % (self.low, self.high))
        return value

    def show(self, value: int) -> str:
        return f"{-value}%" if value < 0 else str(value)

    def lines(self, value: int) -> list[str]:
        return [self.show(value) if value < 0 else memory(value)]


@dataclass(frozen=True)
class OneOf(Kind):
    """One word of a list: str, in the list's spelling."""

    choices: tuple[str, ...]
    same: tuple[tuple[str, str], ...] = ()  # (word, the earlier word it is a synonym of)

    def read(self, words: Words) -> str:
        """Any case counts."""
        found = next((choice for choice in self.choices if choice.lower() == words[0].lower()), None)
        if found is None:
            raise Refused(NOT_ONE_OF % ", ".join(self.choices))
        return dict(self.same).get(found, found)


@dataclass(frozen=True)
class ShutdownFlags(Kind):
    """What a signal does: tuple of words in the order of CHOICES, empty for "default"."""

    CHOICES = ("default", "save", "nosave", "now", "force")
    many = True

    def read(self, words: Words) -> tuple[str, ...]:
        """The word "default" adds nothing; save and nosave exclude each other."""
        asked = {word.lower() for word in words}
        if not asked or not asked <= set(self.CHOICES):
            raise Refused(NOT_ONE_OF % ", ".join(self.CHOICES))
        if {"save", "nosave"} <= asked:
            raise Refused(SAVE_AND_NOSAVE)
        return tuple(word for word in self.CHOICES[1:] if word in asked)

    def show(self, value: tuple[str, ...]) -> str:
        return " ".join(value) or "default"


@dataclass(frozen=True)
class Text(Kind):
    """Any text: str. `rules` are (what it must match whole, what is said otherwise)."""

    rules: tuple[tuple[str, str], ...] = ()
    vanishes = True

    def read(self, words: Words) -> str:
        """The first broken rule speaks."""
        for pattern, refusal in self.rules:
            if not re.fullmatch(pattern, words[0], re.DOTALL):
                raise Refused(refusal)
        return words[0]

    def lines(self, value: str) -> list[str]:
        return [quoted(value)]


@dataclass(frozen=True)
class KeyEvents(Kind):
    """Classes of key events: str of letters in Redis's order, "A" for g$lshzxetd together."""

    ALL = "g$lshzxetd"

    def read(self, words: Words) -> str:
        """Order and repetition do not count."""
        if len(words) != 1:
            raise Refused(WRONG_COUNT)
        letters = set(words[0].partition("\0")[0])  # so far a C string goes
        if letters - set(self.ALL + "AKEmn"):
            raise Refused(BAD_EVENTS)
        if "A" in letters:
            letters |= set(self.ALL)
        classes = "A" if set(self.ALL) <= letters else "".join(letter for letter in self.ALL if letter in letters)
        return classes + "".join(letter for letter in "nKEm" if letter in letters)

    def show(self, value: str) -> str:
        """Redis shows no n beside an A; clients compare what it shows. (`lines` keeps it.)"""
        return value.replace("An", "A")

    def lines(self, value: str) -> list[str]:
        return [quoted(value)]


@dataclass(frozen=True)
class Save(Kind):
    """Snapshot points: tuple of (seconds, changes)."""

    many = True
    repeats = True
    gathers = True

    def read(self, words: Words) -> tuple[tuple[int, int], ...]:
        """As `add` to nothing."""
        return self.add(words, ())

    def add(self, words: Words, old: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        """One empty word forgets all pairs, no word adds none."""
        if list(words) == [""]:
            return ()
        numbers = [_c_integer(word) for word in words]
        pairs = list(zip(numbers[::2], numbers[1::2], strict=False))
        if len(words) % 2 or any(s is None or s < 1 or n is None or n < 0 for s, n in pairs):
            raise Refused(BAD_SAVE)
        return (*old, *((s, n) for s, n in pairs if s is not None and n is not None))

    def show(self, value: tuple[tuple[int, int], ...]) -> str:
        return " ".join(f"{seconds} {changes}" for seconds, changes in value)

    def lines(self, value: tuple[tuple[int, int], ...]) -> list[str]:
        return [f"{seconds} {changes}" for seconds, changes in value] or ['""']


class OutputLimit(NamedTuple):
    """How much output a client may leave unread."""

    hard_bytes: int  # over it the client is cut at once; 0: no limit
    soft_bytes: int  # over it for soft_s seconds the client is cut; 0: no limit
    soft_s: int


class OutputLimits(NamedTuple):
    """One limit for each class of client."""

    normal: OutputLimit
    replica: OutputLimit
    pubsub: OutputLimit


@dataclass(frozen=True)
class Limits(Kind):
    """client-output-buffer-limit: OutputLimits."""

    CLASSES = {"normal": 0, "slave": 1, "replica": 1, "pubsub": 2}  # noqa: RUF012 -- nobody writes to it
    many = True
    repeats = True

    def read(self, words: Words) -> OutputLimits:
        """As `add` to no limits."""
        return self.add(words, OutputLimits(*[OutputLimit(0, 0, 0)] * 3))

    def add(self, words: Words, old: OutputLimits) -> OutputLimits:
        """Fours of class, hard, soft, seconds; classes not named keep their limit; all or nothing."""
        limits = list(old)
        if len(words) % 4:
            raise Refused(LIMITS_COUNT)
        for at in range(0, len(words), 4):
            place = self.CLASSES.get(words[at].lower())
            if place is None:
                raise Refused(LIMITS_CLASS)
            hard, soft, seconds = _memory_bytes(words[at + 1]), _memory_bytes(words[at + 2]), _c_integer(words[at + 3])
            if hard is None or soft is None or seconds is None or not 0 <= seconds <= INT_MAX:
                raise Refused(LIMITS_VALUE)
            limits[place] = OutputLimit(hard, soft, seconds)
        return OutputLimits(*limits)

    def show(self, value: OutputLimits) -> str:
        return " ".join(
            f"{name} {h} {s} {t}" for name, (h, s, t) in zip(("normal", "slave", "pubsub"), value, strict=True)
        )

    def lines(self, value: OutputLimits) -> list[str]:
        return [f"{name} {memory(h)} {memory(s)} {t}" for name, (h, s, t) in zip(value._fields, value, strict=True)]


@dataclass(frozen=True)
class OomValues(Kind):
    """oom-score-adj-values: three int, for master, replica and child."""

    many = True

    def read(self, words: Words) -> tuple[int, ...]:
        """Each between -2000 and 2000."""
        if len(words) != 3:
            raise Refused(WRONG_COUNT)
        values = tuple(value for value in map(_c_integer, words) if value is not None and -2000 <= value <= 2000)
        if len(values) != 3:
            raise Refused(BAD_OOM_VALUES)
        return values

    def show(self, value: tuple[int, ...]) -> str:
        return " ".join(map(str, value))


@dataclass(frozen=True)
class Addresses(Kind):
    """bind: tuple of addresses, at most 16, each perhaps after "-" (may be missing); empty: no TCP socket."""

    many = True
    vanishes = True

    def read(self, words: Words) -> tuple[str, ...]:
        """One empty word is no address."""
        if len(words) > 16:
            raise Refused(TOO_MANY_ADDRESSES)
        return () if list(words) == [""] else tuple(words)

    def show(self, value: tuple[str, ...]) -> str:
        return " ".join(value)

    def lines(self, value: tuple[str, ...]) -> list[str]:
        if len(value) == 1 and bare(value[0]) != value[0]:
            return [quoted(bare(value[0]))]  # a word that stands alone is split once more when it is read
        return [" ".join(map(bare, value)) or '""']


@dataclass(frozen=True)
class ReplicaOf(Kind):
    """replicaof: (host, port), or None for a master."""

    many = True

    def read(self, words: Words) -> tuple[str, int] | None:
        """The words "no one" mean a master."""
        if len(words) != 2:
            raise Refused(WRONG_COUNT)
        if [word.lower() for word in words] == ["no", "one"]:
            return None
        port = _c_integer(words[1])
        if port is None or not 0 <= port <= 65535:
            raise Refused(BAD_MASTER_PORT)
        return words[0], port

    def show(self, value: tuple[str, int] | None) -> str:
        return f"{value[0]} {value[1]}" if value else ""

    def lines(self, value: tuple[str, int] | None) -> list[str]:
        return [f"{bare(value[0])} {value[1]}"] if value else []


@dataclass(frozen=True)
class Percentiles(Kind):
    """latency-tracking-info-percentiles: tuple of float, 0 to 100, to six decimals."""

    many = True

    def read(self, words: Words) -> tuple[float, ...]:
        """One empty word is none."""
        return () if list(words) == [""] else tuple(map(self.read_one, words))

    def read_one(self, word: str) -> float:
        """Rounded as it will be shown, so that a rewritten file reads back the same."""
        try:
            value = math.nan if re.search(r"[\s_]", word) or not word.isascii() else float(word)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise Refused(BAD_PERCENTILES)
        if not 0 <= value <= 100:
            raise Refused(PERCENTILES_RANGE)
        return float(f"{value:f}")

    def show(self, value: tuple[float, ...]) -> str:
        return " ".join(f"{one:f}".rstrip("0").rstrip(".") for one in value)

    def lines(self, value: tuple[float, ...]) -> list[str]:
        return [self.show(value) or '""']
