"""How two replies to one command may differ and still be the same: rules by command, and texts with their reasons.

Laws:
- Equal bytes need no rule. Only where bytes differ is a rule looked up, by command: `COMPARE` (order, clocks, each
  server's own accounts) and then `EXCEPTIONS` (texts, each with its reason).
- A rule keeps kinds apart: an unordered reply must still be the same kind, with the same elements, kinds and all.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tests.stream_replies import pending_entries, stream_info

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client import Reply

    Rule = Callable[[tuple[bytes, ...], "Reply", "Reply"], bool]

Words = tuple[bytes, ...]

CLOCK_TOLERANCE_SECONDS = 2
CLOCK_TOLERANCE_MS = 2000


def _same_kind(ours: Reply, oracle: Reply) -> bool:
    return ours.kind == oracle.kind


def unordered(_words: Words, ours: Reply, oracle: Reply) -> bool:
    """Same kind, same elements, any order."""
    return _same_kind(ours, oracle) and Counter(ours.items()) == Counter(oracle.items())


def pairs_of(reply: Reply) -> Counter[tuple[Reply, ...]]:
    """Return the pairs of a reply that is flat, nested or a map."""
    if reply.kind == "%":
        return Counter(reply.value)
    items = reply.items()
    if all(item.kind == "*" and len(item.items()) == 2 for item in items):
        return Counter(item.items() for item in items)
    return Counter(zip(items[::2], items[1::2], strict=True))


def unordered_pairs(_words: Words, ours: Reply, oracle: Reply) -> bool:
    """Same kind, same pairs (flat, nested or as a map), any order."""
    if not _same_kind(ours, oracle) or len(ours.items()) != len(oracle.items()):
        return False
    return pairs_of(ours) == pairs_of(oracle)


def near(tolerance: int) -> Rule:
    """Return the rule for two integers read from two clocks. Negative answers (no key, no expiry) are exact."""

    def rule(_words: Words, ours: Reply, oracle: Reply) -> bool:
        if ours.kind != ":" or oracle.kind != ":":
            return False
        return min(ours.value, oracle.value) >= 0 and abs(ours.value - oracle.value) <= tolerance

    return rule


def shape(_words: Words, ours: Reply, oracle: Reply) -> bool:
    """Same kind all the way down, map keys and lengths too; values may differ. For errors, the same code."""
    if not _same_kind(ours, oracle) or (ours.value is None) != (oracle.value is None):
        return False
    if ours.is_error:
        return ours.value.split()[0] == oracle.value.split()[0]
    if ours.kind == "%" and [key for key, _ in ours.value] != [key for key, _ in oracle.value]:
        return False
    mine, theirs = ours.items(), oracle.items()
    return len(mine) == len(theirs) and all(shape((), a, b) for a, b in zip(mine, theirs, strict=True))


def kind_only(_words: Words, ours: Reply, oracle: Reply) -> bool:
    """Same kind of reply; what is in it is each server's own affair. Errors must be equal."""
    return _same_kind(ours, oracle) and not ours.is_error


def help_text(_words: Words, ours: Reply, oracle: Reply) -> bool:
    """Help speaks in simple strings and opens with Redis's sentence; a newer server knows more subcommands."""
    mine, theirs = ours.items(), oracle.items()
    return _same_kind(ours, oracle) and all(item.kind == "+" for item in mine) and mine[:1] == theirs[:1]


def hello(_words: Words, ours: Reply, oracle: Reply) -> bool:
    """HELLO's fields in Redis's order with Redis's kinds; version and id are each server's own."""
    own = {b"version", b"id", b"modules"}

    def seen(reply: Reply) -> list[object]:
        pairs = list(zip(reply.items()[::2], reply.items()[1::2], strict=True))
        return [(key, value.kind if key.value in own else value) for key, value in pairs]

    return _same_kind(ours, oracle) and not ours.is_error and seen(ours) == seen(oracle)


# By command, or by command and subcommand. Looked up only after bytes were found to differ.
COMPARE: dict[bytes, Rule] = {
    # A table's order is its own: hash tables, listpacks and B+trees give three.
    **dict.fromkeys((b"KEYS", b"SMEMBERS", b"SUNION", b"SINTER", b"SDIFF", b"HKEYS", b"HVALS"), unordered),
    b"HGETALL": unordered_pairs,
    # Two clocks.
    b"TTL": near(CLOCK_TOLERANCE_SECONDS),
    b"EXPIRETIME": near(CLOCK_TOLERANCE_SECONDS),
    b"PTTL": near(CLOCK_TOLERANCE_MS),
    b"PEXPIRETIME": near(CLOCK_TOLERANCE_MS),
    b"OBJECT IDLETIME": near(CLOCK_TOLERANCE_SECONDS),
    b"XINFO STREAM": stream_info,
    b"XINFO CONSUMERS": stream_info,
    b"XPENDING": pending_entries,
    b"TIME": kind_only,
    b"LASTSAVE": kind_only,
    # Each server's own accounting.
    b"OBJECT FREQ": kind_only,
    b"OBJECT REFCOUNT": kind_only,
    b"MEMORY USAGE": kind_only,
    b"COMMAND": kind_only,
    b"CLIENT ID": kind_only,
    b"CLIENT INFO": kind_only,
    b"CLIENT LIST": kind_only,
    b"INFO": kind_only,
    b"HELLO": hello,
    **{
        name + b" HELP": help_text
        for name in (b"OBJECT", b"CLIENT", b"CONFIG", b"COMMAND", b"DEBUG", b"MEMORY", b"XGROUP", b"XINFO", b"SCRIPT")
    },
}


_CONTAINERS = {name.split()[0] for name in COMPARE if b" " in name}


class Exempt(NamedTuple):
    """Where the oracle's text is not the one to reproduce: the oracle says this, we must say that."""

    command: str  # regular expression over the whole command, upper case, words joined by spaces
    oracle: bytes  # regular expression over the oracle's raw reply
    ours: bytes  # our raw reply, with groups as in re.sub
    reason: str


EXCEPTIONS: list[Exempt] = [
    Exempt(
        "OBJECT ENCODING .*",
        rb"\$6\r\nembstr\r\n",
        b"$3\r\nraw\r\n",
        "Redis 7.2 embeds strings of at most 44 bytes, valkey 9 longer ones; test_strings holds us to the 44",
    ),
    Exempt(
        "CLIENT KILL ID A",
        rb"-ERR syntax error\r\n",
        b"-ERR client-id should be greater than 0\r\n",
        "Redis says it for whatever is no positive number, valkey 9 only for numbers",
    ),
    Exempt(
        "CLIENT LIST ID A",
        rb"-ERR syntax error\r\n",
        b"-ERR Invalid client ID\r\n",
        "Redis 7.2 reads the ids of LIST with a text of their own",
    ),
    Exempt(
        "(EVAL|EVALSHA)(_RO)? .*",
        rb"(.*)This Valkey command is not allowed from script(.*)",
        rb"\1This Redis command is not allowed from script\2",
        "Redis 7.2 names Redis",
    ),
]


def exempted(words: Words, ours: bytes, oracle: bytes) -> bool:
    """Tell whether our raw reply is what `EXCEPTIONS` demands in place of the oracle's."""
    name = b" ".join(words).upper().decode("latin-1")
    for exempt in EXCEPTIONS:
        found = re.fullmatch(exempt.command, name, re.DOTALL) and re.fullmatch(exempt.oracle, oracle, re.DOTALL)
        if found and found.expand(exempt.ours) == ours:
            return True
    return False


def equal(words: Words, ours: tuple[Reply, bytes], oracle: tuple[Reply, bytes]) -> bool:
    """Tell whether two answers to one command are the same, by the laws of this module."""
    if ours[1] == oracle[1]:
        return True
    rule = COMPARE.get(b" ".join(words[: 2 if words[0].upper() in _CONTAINERS else 1]).upper())
    if rule is not None and rule(words, ours[0], oracle[0]):
        return True
    return exempted(words, ours[1], oracle[1])
