"""XINFO: what a stream, its groups and their consumers look like. Source: the Redis 7.2 manual, group *stream*."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from lmdbredis.arguments import integer
from lmdbredis.datatypes import streams, streams_groups
from lmdbredis.errors import NO_GROUP, NO_SUCH_KEY, SUBCOMMAND_SYNTAX, ReplyError, shown
from lmdbredis.format import ENTRY_ID_MAX, STREAM, UNKNOWN
from lmdbredis.registry import READ, Context, command, container
from lmdbredis.words import format_entry_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmdbredis.datatypes.streams import Item
    from lmdbredis.datatypes.streams_groups import Consumer, Group, Pending
    from lmdbredis.entry import Entry

_FULL_COUNT: Final = 10  # entries of each list that FULL shows
_NODE_ENTRIES: Final = 100  # entries in a node of Redis's tree


@container("XINFO", help_since="5.0.0")
def xinfo(cx: Context) -> None:
    """XINFO -- Tells about streams and consumer groups. Since 5.0.0."""


def _open(cx: Context, key: bytes) -> Entry:
    """Return the stream. Raises ReplyError."""
    entry = cx.db.open(key, STREAM)
    if entry is None:
        raise ReplyError(NO_SUCH_KEY)
    return entry


def _shown(items: Iterable[Item]) -> list[list[Any]]:
    """Return entries as they are replied."""
    return [[format_entry_id(found), words] for found, words in items]


@command("XINFO|STREAM", flags=READ)
def xinfo_stream(cx: Context, key: bytes, *words: bytes) -> dict[bytes, Any]:
    """XINFO STREAM key [FULL [COUNT count]] -- Tells about a stream, with FULL also about its groups and consumers and what is pending. O(log N); with FULL O(M log N) for M things told. Since 5.0.0."""
    entry = _open(cx, key)
    if not words:
        return _head(entry) | {
            b"groups": entry.groups,
            b"first-entry": next(iter(_shown(streams.get_range(cx.db, entry, 0, ENTRY_ID_MAX, 1))), None),
            b"last-entry": next(iter(_shown(streams.get_range_back(cx.db, entry, 0, ENTRY_ID_MAX, 1))), None),
        }
    count = _full_count(words)
    return _head(entry) | {
        b"entries": _shown(streams.get_range(cx.db, entry, 0, ENTRY_ID_MAX, count)),
        b"groups": [_full_group(cx, entry, group, count) for group in streams_groups.groups(cx.db, entry)],
    }


def _full_count(words: Sequence[bytes]) -> int:
    """Return the count of FULL [COUNT count], 0 = all. Raises ReplyError."""
    upper = [word.upper() for word in words]
    if upper[0] != b"FULL" or len(words) not in {1, 3} or upper[1:2] not in ([], [b"COUNT"]):
        raise ReplyError(SUBCOMMAND_SYNTAX)
    count = integer(words[2]) if len(words) > 1 else _FULL_COUNT
    return count if count >= 0 else _FULL_COUNT


def _head(entry: Entry) -> dict[bytes, Any]:
    """Return what XINFO STREAM begins with; the tree is the one a Redis would have that was only added to."""
    nodes = -(-entry.count // _NODE_ENTRIES)
    return {
        b"length": entry.count,
        b"radix-tree-keys": nodes,
        b"radix-tree-nodes": nodes + 1,
        b"last-generated-id": format_entry_id(entry.last),
        b"max-deleted-entry-id": format_entry_id(entry.deleted),
        b"entries-added": _signed(entry.added),
        b"recorded-first-entry-id": format_entry_id(entry.first),
    }


def _full_group(cx: Context, entry: Entry, group: Group, count: int) -> dict[bytes, Any]:
    """Return a group as FULL tells of it."""
    return {
        b"name": group.name,
        b"last-delivered-id": format_entry_id(group.last),
        b"entries-read": _read(group),
        b"lag": _lag(entry, group),
        b"pel-count": group.pending,
        b"pending": [
            [format_entry_id(one.entry_id), one.consumer, one.delivered_ms, one.deliveries]
            for one in _some(streams_groups.pending(cx.db, group), count)
        ],
        b"consumers": [
            _full_consumer(cx, group, consumer, count) for consumer in streams_groups.consumers(cx.db, group)
        ],
    }


def _full_consumer(cx: Context, group: Group, consumer: Consumer, count: int) -> dict[bytes, Any]:
    """Return a consumer as FULL tells of it."""
    return {
        b"name": consumer.name,
        b"seen-time": consumer.seen_ms,
        b"active-time": consumer.active_ms,
        b"pel-count": consumer.pending,
        b"pending": [
            [format_entry_id(one.entry_id), one.delivered_ms, one.deliveries]
            for one in _some(streams_groups.pending(cx.db, group, consumer), count)
        ],
    }


def _some(found: Iterable[Pending], count: int) -> Iterable[Pending]:
    """Return up to `count` of them, all if it is 0."""
    return islice(found, count) if count else found


def _read(group: Group) -> int | None:
    """Return how many entries a group has read, as it is replied."""
    return None if group.read == UNKNOWN else _signed(group.read)


def _lag(entry: Entry, group: Group) -> int | None:
    """Return how many entries a group has still to deliver, as it is replied."""
    lag = streams_groups.lag(entry, group)
    return None if lag is None else _signed(lag)


def _signed(count: int) -> int:
    """Return a count as an integer of 64 bits, which XSETID and XGROUP may have brought to its end: no greater one can be replied."""
    return (count + (1 << 63)) % (1 << 64) - (1 << 63)


@command("XINFO|GROUPS", flags=READ)
def xinfo_groups(cx: Context, key: bytes) -> list[dict[bytes, Any]]:
    """XINFO GROUPS key -- Tells about the consumer groups of a stream. O(K) for K groups. Since 5.0.0."""
    entry = _open(cx, key)
    return [
        {
            b"name": group.name,
            b"consumers": group.consumers,
            b"pending": group.pending,
            b"last-delivered-id": format_entry_id(group.last),
            b"entries-read": _read(group),
            b"lag": _lag(entry, group),
        }
        for group in streams_groups.groups(cx.db, entry)
    ]


@command("XINFO|CONSUMERS", flags=READ)
def xinfo_consumers(cx: Context, key: bytes, group: bytes) -> list[dict[bytes, Any]]:
    """XINFO CONSUMERS key group -- Tells about the consumers of a group. O(K) for K consumers. Since 5.0.0."""
    found = streams_groups.open_group(cx.db, _open(cx, key), group)
    if found is None:
        raise ReplyError(NO_GROUP % (shown(group, len(group)), shown(key, len(key))))
    now_ms = cx.now_ms
    return [
        {
            b"name": one.name,
            b"pending": one.pending,
            b"idle": max(now_ms - one.seen_ms, 0),
            b"inactive": UNKNOWN if one.active_ms == UNKNOWN else now_ms - one.active_ms,
        }
        for one in streams_groups.consumers(cx.db, found)
    ]
