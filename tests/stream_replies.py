"""How replies about streams may differ: in what two clocks say. Rules for `comparison.COMPARE`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.client import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOCK_TOLERANCE_MS = 2000
LONG_AGO_MS = 10**12  # the year 2001: greater numbers are the time of something


def _near(ours: Reply, oracle: Reply) -> bool:
    """Tell whether two numbers are read from two clocks. Negative ones (never) are exact."""
    if not ours.kind == oracle.kind == ":":
        return False
    return min(ours.value, oracle.value) >= 0 and abs(ours.value - oracle.value) <= CLOCK_TOLERANCE_MS


def _leaves(reply: Reply) -> Iterator[Reply]:
    """Yield the parts of a reply that have no parts, and before those of an aggregate its kind and length."""
    if reply.kind == "%":
        yield Reply("%", len(reply.value))
        for key, value in reply.value:
            yield from _leaves(key)
            yield from _leaves(value)
    elif isinstance(reply.value, tuple):
        yield Reply(reply.kind, len(reply.value))
        for item in reply.value:
            yield from _leaves(item)
    else:
        yield reply


def stream_info(_words: tuple[bytes, ...], ours: Reply, oracle: Reply) -> bool:
    """XINFO: the same but for what two clocks say, and the nodes of a tree that only the oracle has."""
    mine, theirs = list(_leaves(ours)), list(_leaves(oracle))
    if len(mine) != len(theirs):
        return False
    name = None
    for a, b in zip(mine, theirs, strict=True):
        is_clock = name in {b"idle", b"inactive", b"seen-time", b"active-time"}
        name, before = a.value, name
        if a == b or (before in {b"radix-tree-keys", b"radix-tree-nodes"} and a.kind == b.kind == ":"):
            continue
        is_clock = is_clock or (a.kind == b.kind == ":" and min(a.value, b.value) > LONG_AGO_MS)  # of what is pending
        if not is_clock or not _near(a, b):
            return False
    return True


def pending_entries(_words: tuple[bytes, ...], ours: Reply, oracle: Reply) -> bool:
    """XPENDING with a range: the same but for how long entries have been idle."""

    def rows(reply: Reply) -> list[tuple[Reply, ...]]:
        return [row.items() for row in reply.items()]

    if not ours.kind == oracle.kind == "*" or any(len(row) != 4 for row in [*rows(ours), *rows(oracle)]):
        return False
    return len(ours.items()) == len(oracle.items()) and all(
        (a[0], a[1], a[3]) == (b[0], b[1], b[3]) and _near(a[2], b[2])
        for a, b in zip(rows(ours), rows(oracle), strict=True)
    )
