"""Consumer groups: words and replies. Source: the Redis 7.2 manual, group *stream*; `streams_reading` has XREADGROUP."""

from __future__ import annotations

from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from lmdbredis.arguments import Arguments, entry_id, integer, interval_end, interval_start, special_id
from lmdbredis.datatypes import streams_groups as groups
from lmdbredis.datatypes.streams_groups import Terms
from lmdbredis.errors import (
    CLAIM_COUNT,
    CLAIM_COUNT_TOO_HIGH,
    CLAIM_NOT_INTEGER,
    CLAIM_OPTION,
    ENTRIES_READ_NEGATIVE,
    GROUP_EXISTS,
    GROUP_NO_KEY,
    NO_GROUP,
    NO_KEY_OR_GROUP,
    SUBCOMMAND_SYNTAX,
    SYNTAX,
    ReplyError,
    shown,
)
from lmdbredis.format import STREAM, UNKNOWN
from lmdbredis.registry import DENYOOM, FAST, READ, WRITE, Context, command, container
from lmdbredis.resp import NULL_ARRAY, OK
from lmdbredis.words import INTEGER_MAX, format_entry_id, parse_entry_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmdbredis.datatypes.streams import Item
    from lmdbredis.datatypes.streams_groups import Group
    from lmdbredis.entry import Entry

_CLAIM_COUNT: Final = 100  # of XAUTOCLAIM, if it says none
_CLAIM_COUNT_MAX: Final = INTEGER_MAX // 16
_CLAIM_COUNT_ALLOCATED: Final = 1 << 43  # Redis allocates 16 bytes for each, and more than this no machine gives
_CLAIM_TRIES: Final = 10  # entries that XAUTOCLAIM looks at for each it may claim
_CREATE_OPTIONS_MAX: Final = 3  # words


# --- groups and consumers -----------------------------------------------------------------------------------------------------


@container("XGROUP", help_since="5.0.0")
def xgroup(cx: Context) -> None:
    """XGROUP -- Makes, changes and removes consumer groups and consumers. Since 5.0.0."""


def _names(*names: bytes) -> tuple[str, ...]:
    """Return names as an error shows them."""
    return tuple(shown(name, len(name)) for name in names)


def _stream(cx: Context, key: bytes) -> Entry:
    """Return the stream whose groups are to be changed. Raises ReplyError."""
    entry = cx.db.edit(key, STREAM)
    if entry is None:
        raise ReplyError(GROUP_NO_KEY)
    return entry


def _stream_and_group(cx: Context, key: bytes, name: bytes) -> tuple[Entry, Group]:
    """Return a stream and its group. Raises ReplyError."""
    entry = _stream(cx, key)
    group = groups.open_group(cx.db, entry, name)
    if group is None:
        raise ReplyError(NO_GROUP % _names(name, key))
    return entry, group


def _options(rest: Sequence[bytes], *, creates: bool) -> tuple[bool, int]:
    """Return (MKSTREAM, ENTRIESREAD) of XGROUP's options. Raises ReplyError."""
    options, makes_stream, read = Arguments(rest), False, UNKNOWN
    while options:
        if creates and options.accept(b"MKSTREAM"):
            makes_stream = True
        elif options.accept(b"ENTRIESREAD", 1):
            read = integer(options.next())
            if read < 0 and read != UNKNOWN:
                raise ReplyError(ENTRIES_READ_NEGATIVE)
        else:
            raise ReplyError(SUBCOMMAND_SYNTAX)
    return makes_stream, read


@command("XGROUP|CREATE", flags=WRITE | DENYOOM)
def xgroup_create(cx: Context, key: bytes, group: bytes, id_: bytes, *rest: bytes) -> Any:
    """XGROUP CREATE key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read] -- Creates a consumer group that reads a stream from after an id on. O(log N). Since 5.0.0."""
    makes_stream, read = _options(rest, creates=True)
    entry = cx.db.edit(key, STREAM) if makes_stream else _stream(cx, key)
    if len(rest) > _CREATE_OPTIONS_MAX:
        raise ReplyError(SUBCOMMAND_SYNTAX)
    if special_id(id_) == b"$":
        last = 0 if entry is None else entry.last
    else:
        last = entry_id(id_)
    if entry is None:
        entry = cx.db.create(key, STREAM)
    elif groups.open_group(cx.db, entry, group) is not None:
        raise ReplyError(GROUP_EXISTS)
    groups.create_group(cx.db, entry, group, last, read)
    return OK


@command("XGROUP|SETID", flags=WRITE)
def xgroup_setid(cx: Context, key: bytes, group: bytes, id_: bytes, *rest: bytes) -> Any:
    """XGROUP SETID key group <id | $> [ENTRIESREAD entries-read] -- Lets a consumer group read on from after an id. O(log N). Since 5.0.0."""
    _, read = _options(rest, creates=False)
    entry, found = _stream_and_group(cx, key, group)
    if len(rest) not in {0, 2}:
        raise ReplyError(SUBCOMMAND_SYNTAX)
    groups.set_delivered(cx.db, found, entry.last if special_id(id_) == b"$" else entry_id(id_, ends=True), read)
    cx.db.replaced(entry)
    return OK


@command("XGROUP|DESTROY", flags=WRITE)
def xgroup_destroy(cx: Context, key: bytes, group: bytes) -> int:
    """XGROUP DESTROY key group -- Removes a consumer group, whatever is pending in it; returns whether it was there. O(log N). Since 5.0.0."""
    entry = _stream(cx, key)
    found = groups.open_group(cx.db, entry, group)
    if found is None:
        return 0
    groups.destroy_group(cx.db, entry, found)
    return 1


@command("XGROUP|CREATECONSUMER", flags=WRITE | DENYOOM)
def xgroup_createconsumer(cx: Context, key: bytes, group: bytes, consumer: bytes) -> int:
    """XGROUP CREATECONSUMER key group consumer -- Makes a consumer known to a group; returns whether it is new. O(log N). Since 6.2.0."""
    entry, found = _stream_and_group(cx, key, group)
    if groups.open_consumer(cx.db, found, consumer) is not None:
        return 0
    groups.create_consumer(cx.db, entry, found, consumer, cx.now_ms)
    return 1


@command("XGROUP|DELCONSUMER", flags=WRITE)
def xgroup_delconsumer(cx: Context, key: bytes, group: bytes, consumer: bytes) -> int:
    """XGROUP DELCONSUMER key group consumer -- Removes a consumer from a group; what is pending for him is forgotten, and how much that was is returned. O(M log N) for M pending entries. Since 5.0.0."""
    entry, found = _stream_and_group(cx, key, group)
    there = groups.open_consumer(cx.db, found, consumer)
    if there is None:
        return 0
    groups.delete_consumer(cx.db, found, there)
    cx.db.replaced(entry)
    return there.pending


# --- acknowledging and looking ------------------------------------------------------------------------------------------------


def _xack_run(cx: Context, requests: Sequence[Sequence[bytes]]) -> list[Any] | None:
    """Return the replies to a run of XACKs of one id each; None if one has no such group, or no id."""
    series = []
    for (key, name), same in groupby(requests, itemgetter(1, 2)):
        words = [request[3] for request in same]
        ids = [found for word in words if (found := parse_entry_id(word, 0, ends=False)) is not None]
        known = groups.find_group(cx.db, key, name)
        if known is None or len(ids) < len(words):
            return None
        series.append((known[1], ids))
    cx.keyspace.hits += len(requests)
    return [int(was) for group, ids in series for was in groups.acknowledge(cx.db, group, ids)]


@command("XACK", flags=WRITE | FAST, run=_xack_run)
def xack(cx: Context, key: bytes, group: bytes, id_: bytes, *ids: bytes) -> int:
    """XACK key group id [id ...] -- Lets entries be pending in a group no more, and returns how many were. O(log N) for each. Since 5.0.0."""
    entry = cx.db.open(key, STREAM)
    found = None if entry is None else groups.open_group(cx.db, entry, group)
    if found is None:
        return 0
    return sum(groups.acknowledge(cx.db, found, [entry_id(word) for word in (id_, *ids)]))


def _group(cx: Context, key: bytes, name: bytes, entry: Entry | None) -> Group:
    """Return the group of a stream, if there are both. Raises ReplyError."""
    group = None if entry is None else groups.open_group(cx.db, entry, name)
    if group is None:
        raise ReplyError(NO_KEY_OR_GROUP % _names(key, name))
    return group


@command("XPENDING", flags=READ)
def xpending(cx: Context, key: bytes, group: bytes, *rest: bytes) -> Any:
    """XPENDING key group [[IDLE min-idle-time] start end count [consumer]] -- Says what was delivered to a group's consumers and not acknowledged: in sum, or entry by entry. O(log N + M) for M entries looked at; O(K) for K consumers without a range. Since 5.0.0."""
    if not rest:
        return _summary(cx, _group(cx, key, group, cx.db.open(key, STREAM)))
    if not 3 <= len(rest) <= 6:
        raise ReplyError(SYNTAX)
    options, idle_min_ms = Arguments(rest), 0
    if options.accept(b"IDLE", 1):
        idle_min_ms = integer(options.next())
        if len(options) < 3:
            raise ReplyError(SYNTAX)
    start, end = options.take(2)
    count = max(integer(options.next()), 0)
    low, high = interval_start(start), interval_end(end)
    found = _group(cx, key, group, cx.db.open(key, STREAM))
    consumer = None
    if options:
        consumer = groups.open_consumer(cx.db, found, options.next())
        if consumer is None:
            return []
    now_ms = cx.now_ms
    wanted = (
        [format_entry_id(one.entry_id), one.consumer, max(now_ms - one.delivered_ms, 0), one.deliveries]
        for one in groups.pending(cx.db, found, consumer, low, high)
        if not idle_min_ms or now_ms - one.delivered_ms >= idle_min_ms
    )
    return list(islice(wanted, count))


def _summary(cx: Context, group: Group) -> list[Any]:
    """Return what XPENDING says without a range."""
    if not group.pending:
        return [0, None, None, NULL_ARRAY]
    first, last = groups.ends(cx.db, group)
    owners = [[one.name, b"%d" % one.pending] for one in groups.consumers(cx.db, group) if one.pending]
    return [group.pending, format_entry_id(first), format_entry_id(last), owners]


# --- claiming -----------------------------------------------------------------------------------------------------------------


def _claimed(items: Iterable[Item], *, only_ids: bool) -> list[Any]:
    """Return claimed entries as they are replied."""
    return [format_entry_id(found) if only_ids else [format_entry_id(found), words] for found, words in items]


@command("XCLAIM", flags=WRITE | FAST)
def xclaim(cx: Context, key: bytes, group: bytes, consumer: bytes, min_idle: bytes, id_: bytes, *rest: bytes) -> Any:
    """XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid] -- Lets pending entries be a consumer's that were delivered long enough ago, and returns them. O(log N) for each. Since 5.0.0."""
    entry = cx.db.open(key, STREAM)
    found = _group(cx, key, group, entry)
    assert entry is not None
    idle_min_ms = max(integer(min_idle, CLAIM_NOT_INTEGER % ("min-idle-time", "XCLAIM")), 0)
    words = (id_, *rest)
    ids: list[int] = []
    for word in words:
        spelled = parse_entry_id(word, 0, ends=False)
        if spelled is None:
            break
        ids.append(spelled)
    terms, last, only_ids = _claim_options(Arguments(words[len(ids) :]), idle_min_ms, cx.now_ms)
    if last > found.last:
        groups.set_delivered(cx.db, found, last, found.read)
    owner = groups.see_consumer(cx.db, entry, found, consumer, cx.now_ms)
    return _claimed(groups.claim(cx.db, entry, found, owner, ids, terms, cx.now_ms), only_ids=only_ids)


def _claim_options(options: Arguments, idle_min_ms: int, now_ms: int) -> tuple[Terms, int, bool]:
    """Return (terms, LASTID, JUSTID) of XCLAIM's options. Raises ReplyError."""
    delivered_ms, deliveries, last = now_ms, UNKNOWN, 0
    creates = only_ids = False
    while options:
        if options.accept(b"FORCE"):
            creates = True
        elif options.accept(b"JUSTID"):
            only_ids = True
        elif options.accept(b"IDLE", 1):
            delivered_ms = now_ms - integer(options.next(), CLAIM_NOT_INTEGER % ("IDLE option", "XCLAIM"))
        elif options.accept(b"TIME", 1):
            delivered_ms = integer(options.next(), CLAIM_NOT_INTEGER % ("TIME option", "XCLAIM"))
        elif options.accept(b"RETRYCOUNT", 1):
            deliveries = integer(options.next(), CLAIM_NOT_INTEGER % ("RETRYCOUNT option", "XCLAIM"))
        elif options.accept(b"LASTID", 1):
            last = entry_id(options.next())
        else:
            word = options.next()
            raise ReplyError(CLAIM_OPTION % _names(word))
    if not 0 <= delivered_ms <= now_ms:
        delivered_ms = now_ms
    terms = Terms(idle_min_ms, delivered_ms, max(deliveries, UNKNOWN), not only_ids, creates)
    return terms, last, only_ids


@command("XAUTOCLAIM", flags=WRITE | FAST)
def xautoclaim(cx: Context, key: bytes, group: bytes, consumer: bytes, min_idle: bytes, start: bytes, *rest: bytes) -> Any:  # fmt: skip
    """XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID] -- Lets pending entries be a consumer's that were delivered long enough ago, looking at some from an id on; returns where to go on, the entries, and the ids of those that were deleted. O(M log N) for a COUNT of M. Since 6.2.0."""
    idle_min_ms = max(integer(min_idle, CLAIM_NOT_INTEGER % ("min-idle-time", "XAUTOCLAIM")), 0)
    low = interval_start(start)
    options, count, only_ids = Arguments(rest), _CLAIM_COUNT, False
    while options:
        if options.accept(b"COUNT", 1):
            count = integer(options.next(), CLAIM_COUNT)
            if not 1 <= count <= _CLAIM_COUNT_MAX:
                raise ReplyError(CLAIM_COUNT)
        elif options.accept(b"JUSTID"):
            only_ids = True
        else:
            raise ReplyError(SYNTAX)
    entry = cx.db.open(key, STREAM)
    found = _group(cx, key, group, entry)
    assert entry is not None
    if count > _CLAIM_COUNT_ALLOCATED:
        raise ReplyError(CLAIM_COUNT_TOO_HIGH)
    owner = groups.see_consumer(cx.db, entry, found, consumer, cx.now_ms)
    terms = Terms(idle_min_ms, cx.now_ms, UNKNOWN, not only_ids, creates=False)
    tries = count * _CLAIM_TRIES
    following, items, deleted = groups.claim_from(cx.db, entry, found, owner, low, count, tries, terms, cx.now_ms)
    return [
        format_entry_id(following), _claimed(items, only_ids=only_ids), [format_entry_id(gone) for gone in deleted],
    ]  # fmt: skip
