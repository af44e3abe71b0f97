"""XREAD and XREADGROUP: reading what comes after an id, from several streams, and waiting for it. Source: the Redis 7.2 manual.

Theory. XREAD only reads. XREADGROUP reads for a consumer of a group: with the id ``>`` what nobody of the group was given, which
is then pending; with another id again what is pending for the consumer. Who finds nothing and may wait raises `Wait`; a
consumer that waits is known to its group all the same, as in Redis.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from lmdbredis.arguments import REPEATED_BYTES_MAX, Arguments, entry_id, integer, special_id
from lmdbredis.blocking import Wait
from lmdbredis.datatypes import streams, streams_groups
from lmdbredis.errors import (
    GROUP_MISSING,
    MEANINGLESS_ID,
    NEW_WITHOUT_GROUP,
    NO_GROUP_TO_READ,
    ONLY_XREADGROUP,
    STREAMS_UNBALANCED,
    SYNTAX,
    TIMEOUT_NEGATIVE,
    TIMEOUT_NOT_INTEGER,
    TIMEOUT_OUT_OF_RANGE,
    ReplyError,
    shown,
)
from lmdbredis.format import ENTRY_ID_MAX, STREAM
from lmdbredis.registry import BLOCKING, MOVABLEKEYS, READ, WRITE, Context, command
from lmdbredis.resp import NULL_ARRAY, Keyed
from lmdbredis.words import INTEGER_MAX, format_entry_id, parse_int

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmdbredis.datatypes.streams_groups import Consumer, Group
    from lmdbredis.entry import Entry

_TIMEOUT_MS_MAX: Final = INTEGER_MAX - (1 << 42)  # so that a time this far off is still a number
_RUN_ENTRIES_MAX: Final = 4096  # that a run may ask for
_VALUES: Final = {b"BLOCK": 1, b"COUNT": 1, b"GROUP": 2, b"NOACK": 0}  # words that follow an option


def _keys_of(words: Sequence[bytes]) -> list[int]:
    """Return the positions of the keys in a request: the first half of what follows STREAMS."""
    at = 1
    while at < len(words) and (name := words[at].upper()) in _VALUES:
        at += 1 + _VALUES[name]
    if at >= len(words) or words[at].upper() != b"STREAMS":
        return []
    return list(range(at + 1, at + 1 + (len(words) - at - 1) // 2))


class _Request:
    """What XREAD and XREADGROUP are asked."""

    __slots__ = ("count", "group", "ids", "keys", "timeout_ms", "without_pending")

    def __init__(self, name: str, words: Sequence[bytes]) -> None:
        """Read the words. Raises ReplyError."""
        self.count = 0  # entries of each stream; 0 = all
        self.timeout_ms: int | None = None  # None: nobody waits
        self.group: tuple[bytes, bytes] | None = None  # names of group and consumer
        self.without_pending = False
        options, is_group = Arguments(words), name == "xreadgroup"
        while options:
            if options.accept(b"BLOCK", 1):
                self.timeout_ms = _timeout_ms(options.next())
            elif options.accept(b"COUNT", 1):
                self.count = max(integer(options.next()), 0)
            elif options.accept(b"STREAMS", 1):
                break
            elif options.accept(b"GROUP", 2):
                if not is_group:
                    raise ReplyError(ONLY_XREADGROUP % "GROUP")
                self.group = (options.next(), options.next())
            elif options.accept(b"NOACK"):
                if not is_group:
                    raise ReplyError(ONLY_XREADGROUP % "NOACK")
                self.without_pending = True
            else:
                raise ReplyError(SYNTAX)
        if not options:
            raise ReplyError(SYNTAX)
        if len(options) % 2:
            raise ReplyError(STREAMS_UNBALANCED % (name, ">" if is_group else "$"))
        if is_group and self.group is None:
            raise ReplyError(GROUP_MISSING)
        half = len(options) // 2
        self.keys = options.take(half)
        self.ids = [special_id(word) for word in options.take(half)]


def _timeout_ms(word: bytes) -> int:
    """Return how long to wait, 0 = for ever. Raises ReplyError."""
    timeout_ms = integer(word, TIMEOUT_NOT_INTEGER)
    if timeout_ms < 0:
        raise ReplyError(TIMEOUT_NEGATIVE)
    if timeout_ms > _TIMEOUT_MS_MAX:
        raise ReplyError(TIMEOUT_OUT_OF_RANGE)
    return timeout_ms


@lru_cache(maxsize=256)
def _repeated_request(words: tuple[bytes, ...]) -> _Request:
    """Return what XREADGROUP is asked: consumers ask the same every time. Raises ReplyError."""
    return _Request("xreadgroup", words)


def _shown(items: Sequence[tuple[int, list[bytes] | None]]) -> list[list[Any]]:
    """Return entries as they are replied; of one that is deleted only the id is left."""
    return [[format_entry_id(found), NULL_ARRAY if words is None else words] for found, words in items]


@command(
    "XREAD", flags=READ | BLOCKING | MOVABLEKEYS, keys=(0, 0, 0), keys_of=_keys_of
)  # fmt: skip
def xread(cx: Context, word: bytes, following: bytes, third: bytes, *words: bytes) -> Any:
    """XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...] -- Returns the entries of several streams after an id for each; waits for one if there is none and that is wanted. O(log N + M) for each stream, M entries returned. Since 5.0.0."""
    every = (word, following, third, *words)
    request = _Request("xread", every)
    read: list[tuple[bytes, Entry | None, int]] = []
    for key, id_ in zip(request.keys, request.ids, strict=True):
        entry = cx.db.open(key, STREAM)
        read.append((key, entry, _after(cx, entry, id_)))
    served = Keyed()
    for key, _, after in read:
        entry = cx.db.open(key, STREAM)  # looked up twice, as by Redis: so are hits and misses counted, and told
        if entry is not None and after < entry.last:
            items = streams.get_range(cx.db, entry, after + 1, ENTRY_ID_MAX, request.count)
            if items:
                served.append((key, _shown(items)))
    if served:
        return served
    if request.timeout_ms is None:
        return NULL_ARRAY
    fixed = [
        format_entry_id(after) if id_ == b"$" else id_
        for id_, (_, _, after) in zip(request.ids, read, strict=True)
    ]  # fmt: skip
    before = every[: len(every) - len(fixed)]
    raise Wait(request.keys, STREAM, request.timeout_ms, NULL_ARRAY, [b"XREAD", *before, *fixed])


def _after(cx: Context, entry: Entry | None, word: bytes) -> int:
    """Return the id after which XREAD reads a stream. Raises ReplyError."""
    if word == b"$":
        return 0 if entry is None else entry.last
    if word == b">":
        raise ReplyError(NEW_WITHOUT_GROUP)
    if word == b"+":
        return 0 if entry is None else max(entry.last - 1, 0)
    return entry_id(word)


def _xreadgroup_run(cx: Context, requests: Sequence[Sequence[bytes]]) -> list[Any] | None:
    """Return the replies to a run of ``XREADGROUP GROUP group consumer COUNT count STREAMS key >``.

    None if one asks for something else, or is not known to its group yet, or all of them for much: one by one, long replies can leave.
    """
    series = []
    for (name, count_word, key), same in groupby(requests, itemgetter(2, 5, 7)):
        words = list(same)
        known = streams_groups.find_group(cx.db, key, name)
        count = parse_int(count_word)
        if (
            known is None
            or count is None
            or not 0 < count * len(words) <= _RUN_ENTRIES_MAX
            or not all(map(_asks_for_new, words))
        ):
            return None
        asked = (streams_groups.open_consumer(cx.db, known[1], one[3]) for one in words)
        readers = [reader for reader in asked if reader is not None]
        if len(readers) < len(words):
            return None
        series.append((key, *known, readers, count))
    cx.keyspace.hits += 2 * len(requests)  # as one by one
    replies: list[Any] = []
    for key, entry, group, readers, count in series:
        given = streams_groups.deliver_each(cx.db, entry, group, readers, count, cx.now_ms)
        replies += [Keyed([(key, _shown(items))]) if items else NULL_ARRAY for items in given]
    return replies


def _asks_for_new(words: Sequence[bytes]) -> bool:
    """Tell whether the words of an XREADGROUP that stand between its names and numbers are those that every consumer says."""
    return (
        words[8] == b">"
        and words[1].upper() == b"GROUP"
        and words[4].upper() == b"COUNT"
        and words[6].upper() == b"STREAMS"
    )


@command(
    "XREADGROUP", flags=WRITE | BLOCKING | MOVABLEKEYS, keys=(0, 0, 0), keys_of=_keys_of, run=_xreadgroup_run, run_words=9
)  # fmt: skip
def xreadgroup(
    cx: Context, word: bytes, group: bytes, consumer: bytes, streams_word: bytes, key: bytes, id_: bytes, *words: bytes
) -> Any:
    """XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...] -- Returns, for a consumer of a group, the entries of several streams that were given to nobody, or those that are pending for him; waits if there is none and that is wanted. O(M log N) for each stream, M entries returned. Since 5.0.0."""
    every = (word, group, consumer, streams_word, key, id_, *words)
    is_short = sum(map(len, every)) <= REPEATED_BYTES_MAX
    request = _repeated_request(every) if is_short else _Request("xreadgroup", every)
    assert request.group is not None
    group_name, consumer_name = request.group
    read = [
        (name, *_group(cx, name, group_name), _history_after(after))
        for name, after in zip(request.keys, request.ids, strict=True)
    ]
    served = Keyed()
    cx.keyspace.hits += len(read)  # as XREAD
    for name, entry, found, after in read:
        reader = streams_groups.see_consumer(cx.db, entry, found, consumer_name, cx.now_ms)
        items = _read(cx, request, entry, found, reader, after)
        if items or after is not None:
            served.append((name, _shown(items)))
    if served:
        return served
    if request.timeout_ms is None:
        return NULL_ARRAY
    raise Wait(request.keys, STREAM, request.timeout_ms, NULL_ARRAY, wakes_if_gone=True)


def _group(cx: Context, key: bytes, name: bytes) -> tuple[Entry, Group]:
    """Return the stream and its group. Raises ReplyError."""
    entry = cx.db.open(key, STREAM)
    group = None if entry is None else streams_groups.open_group(cx.db, entry, name)
    if entry is None or group is None:
        raise ReplyError(NO_GROUP_TO_READ % (shown(key, len(key)), shown(name, len(name))))
    return entry, group


def _history_after(word: bytes) -> int | None:
    """Return the id after which a consumer asks what is pending for him, None if he asks for something new. Raises ReplyError."""
    if word == b">":
        return None
    if word in {b"$", b"+"}:
        sign = word.decode()
        raise ReplyError(MEANINGLESS_ID % (sign, sign))
    found = entry_id(word)
    return None if found == ENTRY_ID_MAX else found


def _read(
    cx: Context, request: _Request, entry: Entry, group: Group, consumer: Consumer, after: int | None
) -> Sequence[tuple[int, list[bytes] | None]]:
    """Return what a consumer gets from one stream."""
    if after is not None:
        return streams_groups.history(cx.db, entry, group, consumer, after, request.count, cx.now_ms)
    return streams_groups.deliver(
        cx.db, entry, group, consumer, request.count, cx.now_ms, is_pending=not request.without_pending
    )
