"""Consumer groups of streams: who was given which entry, and has not said yet that it is done.

Theory. A group is a row in `stream.groups`, by name, and remembers the last id it has delivered. A consumer is a row in
`stream.consumers`, by name. An entry that was delivered and not acknowledged is *pending*: one row in `stream.pending`, under
the group's id, says whose it is, since when, and how often it was delivered; one in `stream.owned`, under the consumer's id,
lets the consumer find what is his. Groups and consumers have ids of their own, so one of them is deleted by deleting its row and
leaving the id to the reclaimer, however much stands under it.

Laws:

1. Both rows of a pending entry come and go together; `group.pending` and `consumer.pending` count them.
2. The first row under a consumer's id carries its name: from a pending entry to a name it is two point reads.
3. A pending entry may outlive the entry itself: whoever meets it then says so, or clears it away.
4. `group.read` is how many entries were ever added up to the last delivered, where that can be known (Redis's entries_read);
   `lag` tells what is left.
5. `Group` and `Consumer` are parts (see `entry`): shared by the commands of a batch, written back at its end. Whoever walks their
   rows in order writes back first.

Functions are given the stream's entry, a group, a consumer; they know no reply, no option and no clock: `now_ms` is told.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from lmdbredis import format as fmt
from lmdbredis.datatypes import members, streams
from lmdbredis.entry import Entry
from lmdbredis.format import CONSUMERS, GROUPS, OWNED, PENDING, UNKNOWN, pack_entry_id, pack_pending, pack_u64
from lmdbredis.table import after_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lmdbredis.database import Database
    from lmdbredis.datatypes.streams import Item
    from lmdbredis.table import Row, Table

_COUNT_MAX: Final = (1 << 63) - 1  # what a reply can hold
_DELETE_ROWS: Final = 1024  # keys to be deleted that are in memory at a time


class Group:
    """A row of `stream.groups`, decoded."""

    __slots__ = ("consumers", "id", "last", "name", "owner", "pending", "read", "row_key", "table")

    def __init__(self, table: Table, row_key: bytes, name: bytes, ident: int) -> None:
        self.table = table
        self.row_key = row_key
        self.name = name
        self.id = ident
        self.owner = pack_u64(ident)  # before its consumers and pending entries
        self.last = 0  # id of the last entry delivered
        self.read = UNKNOWN  # law 4
        self.pending = 0  # entries
        self.consumers = 0

    def row(self) -> bytes:
        """Return the row's value."""
        whole = fmt.whole_if_long(self.name)
        return fmt.pack_group(self.id, self.last, self.read, self.pending, self.consumers, whole)


class Consumer:
    """A row of `stream.consumers`, decoded."""

    __slots__ = ("active_ms", "id", "name", "owner", "pending", "row_key", "seen_ms", "table")

    def __init__(self, table: Table, row_key: bytes, name: bytes, ident: int) -> None:
        self.table = table
        self.row_key = row_key
        self.name = name
        self.id = ident
        self.owner = pack_u64(ident)  # before what it owns
        self.seen_ms = 0  # when it last asked for something
        self.active_ms = UNKNOWN  # when it last was given something
        self.pending = 0  # entries

    def row(self) -> bytes:
        """Return the row's value."""
        return fmt.pack_consumer(
            self.id, self.seen_ms, self.active_ms, self.pending, fmt.whole_if_long(self.name)
        )  # fmt: skip


class Pending(NamedTuple):
    """An entry that was delivered and not acknowledged."""

    entry_id: int
    consumer: bytes  # its name
    delivered_ms: int
    deliveries: int


class Terms(NamedTuple):
    """On what terms pending entries change hands."""

    idle_min_ms: int  # entries delivered later than this long ago stay where they are
    delivered_ms: int  # what to note as the time of delivery
    deliveries: int  # how many deliveries to note; UNKNOWN: as many as there were, and one more if it `counts`
    counts: bool
    creates: bool  # entries that are not pending become so


# --- groups ---------------------------------------------------------------------------------------------------------------


def _name(stored: bytes, whole: bytes) -> bytes:
    """Return a whole name from what follows the owner in a row's key, and what the row carries."""
    return whole or stored


def changed(db: Database, part: Group | Consumer) -> None:
    """Take note that a group or a consumer was changed: its row is written at the end of the batch."""
    db.keyspace.parts[part.row_key] = part
    db.keyspace.dirty_parts[part.row_key] = part


def open_group(db: Database, entry: Entry, name: bytes) -> Group | None:
    """Return a group, None if there is none of this name. O(log n)."""
    row_key = entry.owner + fmt.stored_name(name)
    group: Group | None = db.keyspace.parts.get(row_key)
    if group is None:
        table = db.keyspace.store.tables[GROUPS]
        row = table.get(row_key)
        if row is None:
            return None
        group = db.keyspace.parts[row_key] = _group(table, row_key, row)
    return group


def find_group(db: Database, key: bytes, name: bytes) -> tuple[Entry, Group] | None:
    """Return a stream and a group of it, None if there is no such stream or group: for who looks before he asks. O(log n)."""
    entry = db.find(key)
    if not isinstance(entry, Entry) or entry.kind != fmt.STREAM:
        return None
    group = open_group(db, entry, name)
    return None if group is None else (entry, group)


def _group(table: Table, row_key: bytes, row: bytes) -> Group:
    ident, last, read, pending, consumers, whole = fmt.unpack_group(row)
    group = Group(table, row_key, _name(row_key[8:], whole), ident)
    group.last, group.read, group.pending, group.consumers = last, read, pending, consumers
    return group


def create_group(db: Database, entry: Entry, name: bytes, last: int, read: int) -> None:
    """Create a group of a name that no group of the stream has; it will deliver what comes after `last`. O(log n)."""
    row_key = entry.owner + fmt.stored_name(name)
    group = Group(db.keyspace.store.tables[GROUPS], row_key, name, db.keyspace.next_id())
    group.last, group.read = last, read
    entry.groups += 1
    changed(db, group)
    db.head_changed(entry)


def destroy_group(db: Database, entry: Entry, group: Group) -> None:
    """Delete a group; its consumers and pending entries are left to the reclaimer. O(log n)."""
    keyspace = db.keyspace
    keyspace.parts.pop(group.row_key, None)
    keyspace.dirty_parts.pop(group.row_key, None)
    group.table.delete(group.row_key)
    keyspace.discard_id(group.id, fmt.GROUP)
    entry.groups -= 1
    db.changed(entry)  # whoever waits for its entries waits no more


def groups(db: Database, entry: Entry) -> list[Group]:
    """Return all groups of a stream, in the order of their names."""
    db.keyspace.write_back()
    table = db.keyspace.store.tables[GROUPS]
    found = [_group(table, row_key, row) for row_key, row in table.prefix(entry.owner)]
    return sorted(found, key=lambda group: group.name)


def set_delivered(db: Database, group: Group, last: int, read: int) -> None:
    """Let a group go on after the entry `last`, of which it has read `read`, UNKNOWN if that is not known. O(1)."""
    group.last, group.read = last, read
    changed(db, group)


# --- consumers ------------------------------------------------------------------------------------------------------------


def open_consumer(db: Database, group: Group, name: bytes) -> Consumer | None:
    """Return a consumer, None if there is none of this name. O(log n)."""
    row_key = group.owner + fmt.stored_name(name)
    consumer: Consumer | None = db.keyspace.parts.get(row_key)
    if consumer is None:
        table = db.keyspace.store.tables[CONSUMERS]
        row = table.get(row_key)
        if row is None:
            return None
        consumer = _consumer(table, row_key, row)
        db.keyspace.parts[row_key] = db.keyspace.parts[consumer.owner] = consumer
    return consumer


def _consumer(table: Table, row_key: bytes, row: bytes) -> Consumer:
    ident, seen_ms, active_ms, pending, whole = fmt.unpack_consumer(row)
    consumer = Consumer(table, row_key, _name(row_key[8:], whole), ident)
    consumer.seen_ms, consumer.active_ms, consumer.pending = seen_ms, active_ms, pending
    return consumer


def create_consumer(db: Database, entry: Entry, group: Group, name: bytes, now_ms: int) -> Consumer:
    """Create a consumer of a name that no consumer of the group has. O(log n)."""
    keyspace = db.keyspace
    row_key = group.owner + fmt.stored_name(name)
    consumer = Consumer(keyspace.store.tables[CONSUMERS], row_key, name, keyspace.next_id())
    consumer.seen_ms = now_ms
    keyspace.store.tables[OWNED].put(consumer.owner, name)
    keyspace.parts[consumer.owner] = consumer
    group.consumers += 1
    changed(db, consumer)
    changed(db, group)
    db.replaced(entry)
    return consumer


def see_consumer(db: Database, entry: Entry, group: Group, name: bytes, now_ms: int) -> Consumer:
    """Return the consumer, a new one if there is none of this name, and note that it was seen. O(log n)."""
    consumer = open_consumer(db, group, name)
    if consumer is None:
        return create_consumer(db, entry, group, name, now_ms)
    consumer.seen_ms = now_ms
    changed(db, consumer)
    return consumer


def delete_consumer(db: Database, group: Group, consumer: Consumer) -> None:
    """Delete a consumer; what was pending for it is not any more. O(log n) for each pending entry."""
    keyspace = db.keyspace
    pending = keyspace.store.tables[PENDING]
    for row_key in _owned(db, consumer, 0, consumer.pending):
        pending.delete(group.owner + row_key[8:])
    for held in (consumer.row_key, consumer.owner):
        keyspace.parts.pop(held, None)
    keyspace.dirty_parts.pop(consumer.row_key, None)
    consumer.table.delete(consumer.row_key)
    keyspace.discard_id(consumer.id, fmt.CONSUMER)
    group.pending -= consumer.pending
    group.consumers -= 1
    changed(db, group)


def consumers(db: Database, group: Group) -> list[Consumer]:
    """Return all consumers of a group, in the order of their names."""
    db.keyspace.write_back()
    table = db.keyspace.store.tables[CONSUMERS]
    found = [_consumer(table, row_key, row) for row_key, row in table.prefix(group.owner)]
    return sorted(found, key=lambda consumer: consumer.name)


def _name_of(db: Database, ident: int) -> bytes:
    """Return a consumer's name (law 2); nothing is kept in memory: there may be many."""
    owner = pack_u64(ident)
    held: Consumer | None = db.keyspace.parts.get(owner)
    name = db.keyspace.store.tables[OWNED].get(owner) if held is None else held.name
    assert name is not None, "law 2"
    return name


def _by_id(db: Database, group: Group, ident: int) -> Consumer:
    """Return the consumer of a pending entry (law 2)."""
    owner = pack_u64(ident)
    consumer: Consumer | None = db.keyspace.parts.get(owner)
    if consumer is None:
        consumer = open_consumer(db, group, _name_of(db, ident))
        assert consumer is not None, "it owns something"
    return consumer


def _owned(db: Database, consumer: Consumer, low: int, count_max: int) -> Iterator[bytes]:
    """Yield the keys of up to `count_max` rows of what a consumer owns, from an id on, in steps: they may be deleted meanwhile."""
    table = db.keyspace.store.tables[OWNED]
    start, stop = consumer.owner + pack_entry_id(low), after_prefix(consumer.owner)
    while count_max > 0:
        asked = min(count_max, _DELETE_ROWS)
        row_keys = [row_key for row_key in table.take_keys(start, asked) if row_key < stop]
        yield from row_keys
        if len(row_keys) < asked:
            return
        count_max -= asked
        start = row_keys[-1] + b"\0"


# --- delivering -----------------------------------------------------------------------------------------------------------


def deliver(
    db: Database, entry: Entry, group: Group, consumer: Consumer, count_max: int, now_ms: int, *, is_pending: bool
) -> list[Item]:
    """Return entries that the group has not delivered, and note that this consumer has them: pending, or done with at once.

    At most `count_max` if that is not 0. O(log n) each.
    """
    if group.last >= entry.last:
        return []
    items = streams.get_range(db, entry, group.last + 1, fmt.ENTRY_ID_MAX, count_max)
    if not items:
        return []
    group.read = _read_after(entry, group, [entry_id for entry_id, _ in items])
    group.last = items[-1][0]
    changed(db, group)
    if is_pending:
        _own(db, group, consumer, [pack_entry_id(entry_id) for entry_id, _ in items], now_ms)
        consumer.active_ms = now_ms
        changed(db, consumer)
    return items


def deliver_each(
    db: Database, entry: Entry, group: Group, readers: Sequence[Consumer], count: int, now_ms: int
) -> list[list[Item]]:
    """As `deliver`, pending, of up to `count` entries to each of some readers in turn, who are known: the calls are paid once."""
    items: list[Item] = []
    if group.last < entry.last:
        items = streams.get_range(db, entry, group.last + 1, fmt.ENTRY_ID_MAX, count * len(readers))
    given = [items[at : at + count] for at in range(0, count * len(readers), count)]
    if items:
        group.read = _read_after(entry, group, [entry_id for entry_id, _ in items])
        group.last = items[-1][0]
        changed(db, group)
    taken: dict[Consumer, list[bytes]] = {}
    for consumer, part in zip(readers, given, strict=True):
        taken.setdefault(consumer, []).extend([pack_entry_id(entry_id) for entry_id, _ in part])
    for consumer, suffixes in taken.items():
        consumer.seen_ms = now_ms
        if suffixes:
            _own(db, group, consumer, suffixes, now_ms)
            consumer.active_ms = now_ms
        changed(db, consumer)
    return given


def _own(db: Database, group: Group, consumer: Consumer, suffixes: list[bytes], now_ms: int) -> None:
    """Let entries be pending, delivered to this consumer once, whoever had them before."""
    tables = db.keyspace.store.tables
    row, owner = pack_pending(consumer.id, now_ms, 1), group.owner
    before = tables[PENDING].exchange_many([(owner + suffix, row) for suffix in suffixes])
    for suffix, old in zip(suffixes, before, strict=True):
        if old is not None:  # the group was set back
            was = _by_id(db, group, fmt.unpack_pending(old)[0])
            tables[OWNED].delete(was.owner + suffix)
            was.pending -= 1
            changed(db, was)
    tables[OWNED].put_many([(consumer.owner + suffix, b"") for suffix in suffixes])
    consumer.pending += len(suffixes)
    group.pending += before.count(None)


def history(
    db: Database, entry: Entry, group: Group, consumer: Consumer, after: int, count_max: int, now_ms: int
) -> list[tuple[int, list[bytes] | None]]:
    """Return what is pending for a consumer with ids greater than `after`, None for what is deleted; it is delivered once more.

    At most `count_max` if that is not 0. O(log n) each.
    """
    table = db.keyspace.store.tables[PENDING]
    found: list[tuple[int, list[bytes] | None]] = []
    for row_key in _owned(db, consumer, after + 1, count_max or consumer.pending):
        entry_id = fmt.unpack_entry_id(row_key)
        words = streams.get(db, entry, entry_id)
        if words is not None:
            pending_key = group.owner + row_key[8:]
            row = table.get(pending_key)
            assert row is not None, "law 1"
            deliveries = fmt.unpack_pending(row)[2]
            table.put(pending_key, pack_pending(consumer.id, now_ms, min(deliveries + 1, _COUNT_MAX)))
        found.append((entry_id, words))
    return found


def acknowledge(db: Database, group: Group, ids: Sequence[int]) -> list[bool]:
    """Let entries be pending no more; tell of each whether it was. O(log n) each."""
    table, owner = db.keyspace.store.tables[PENDING], group.owner
    suffixes = [pack_entry_id(entry_id) for entry_id in ids]
    rows = [table.pop(owner + suffix) for suffix in suffixes]  # as a rule they are there
    by_owner: dict[int, list[bytes]] = {}
    for suffix, row in zip(suffixes, rows, strict=True):
        if row is not None:
            by_owner.setdefault(fmt.unpack_pending(row)[0], []).append(suffix)
    for ident, owned in by_owner.items():
        _disown(db, group, owned, ident)
    return [row is not None for row in rows]


def _forget(db: Database, group: Group, suffix: bytes, row: bytes) -> None:
    """Let an entry be pending no more; `row` is that of `stream.pending`."""
    db.keyspace.store.tables[PENDING].delete(group.owner + suffix)
    _disown(db, group, [suffix], fmt.unpack_pending(row)[0])


def _disown(db: Database, group: Group, suffixes: Sequence[bytes], ident: int) -> None:
    """Delete the consumer's rows of entries whose rows of `stream.pending` are gone."""
    consumer = _by_id(db, group, ident)
    delete = db.keyspace.store.tables[OWNED].delete
    for suffix in suffixes:
        delete(consumer.owner + suffix)
    group.pending -= len(suffixes)
    consumer.pending -= len(suffixes)
    changed(db, group)
    changed(db, consumer)


# --- what is pending ------------------------------------------------------------------------------------------------------


def ends(db: Database, group: Group) -> tuple[int, int]:
    """Return the least and the greatest id that is pending; there is one. O(log n)."""
    table = db.keyspace.store.tables[PENDING]
    last = table.last_with(group.owner)
    assert last is not None, "it counts some"
    return fmt.unpack_entry_id(table.take_keys(group.owner, 1)[0]), fmt.unpack_entry_id(last[0])


def pending(
    db: Database, group: Group, consumer: Consumer | None = None, low: int = 0, high: int = fmt.ENTRY_ID_MAX
) -> Iterator[Pending]:
    """Yield what is pending in a group, or for a consumer of it, from one id to another, ascending. O(log n + entries)."""
    table = db.keyspace.store.tables[PENDING]
    if low > high:
        return
    if consumer is None:
        stop = group.owner + pack_entry_id(high) + b"\0"
        for row_key, row in table.range(group.owner + pack_entry_id(low), stop):
            ident, delivered_ms, deliveries = fmt.unpack_pending(row)
            yield Pending(fmt.unpack_entry_id(row_key), _name_of(db, ident), delivered_ms, deliveries)
        return
    for row_key in _owned(db, consumer, low, consumer.pending):
        entry_id = fmt.unpack_entry_id(row_key)
        if entry_id > high:
            return
        found = table.get(group.owner + row_key[8:])
        assert found is not None, "law 1"
        yield Pending(entry_id, consumer.name, *fmt.unpack_pending(found)[1:])


# --- claiming -------------------------------------------------------------------------------------------------------------


def claim(
    db: Database, entry: Entry, group: Group, consumer: Consumer, ids: Iterable[int], terms: Terms, now_ms: int
) -> list[Item]:
    """Let entries that are pending be this consumer's; return them. What is pending and deleted is forgotten. O(log n) each."""
    table = db.keyspace.store.tables[PENDING]
    claimed = []
    for entry_id in ids:
        suffix = pack_entry_id(entry_id)
        row = table.get(group.owner + suffix)
        words = streams.get(db, entry, entry_id)
        if words is None:
            if row is not None:
                _forget(db, group, suffix, row)
        elif (row is not None or terms.creates) and _take_over(db, group, consumer, suffix, row, terms, now_ms):
            claimed.append((entry_id, words))
    return claimed


def _take_over(
    db: Database, group: Group, consumer: Consumer, suffix: bytes, row: bytes | None, terms: Terms, now_ms: int
) -> bool:
    """Let an entry be this consumer's, `row` says whose it was; tell whether the terms allowed it."""
    tables = db.keyspace.store.tables
    ident, delivered_ms, deliveries = (0, 0, 1) if row is None else fmt.unpack_pending(row)
    if row is not None and terms.idle_min_ms and now_ms - delivered_ms < terms.idle_min_ms:
        return False
    if terms.deliveries != UNKNOWN:
        deliveries = terms.deliveries
    elif terms.counts:
        deliveries = min(deliveries + 1, _COUNT_MAX)
    tables[PENDING].put(group.owner + suffix, pack_pending(consumer.id, terms.delivered_ms, deliveries))
    if ident != consumer.id:
        if row is None:
            group.pending += 1
            changed(db, group)
        else:
            was = _by_id(db, group, ident)
            tables[OWNED].delete(was.owner + suffix)
            was.pending -= 1
            changed(db, was)
        tables[OWNED].put(consumer.owner + suffix, b"")
        consumer.pending += 1
    consumer.active_ms = now_ms
    changed(db, consumer)
    return True


def claim_from(
    db: Database,
    entry: Entry,
    group: Group,
    consumer: Consumer,
    low: int,
    count_max: int,
    tries: int,
    terms: Terms,
    now_ms: int,
) -> tuple[int, list[Item], list[int]]:
    """Claim up to `count_max` pending entries from an id on, looking at no more than `tries`.

    Returns (the id to go on from, 0 at the end; what was claimed; which were deleted and are forgotten). O(log n) each.
    """  # fmt: skip
    table = db.keyspace.store.tables[PENDING]
    claimed: list[Item] = []
    deleted: list[int] = []
    rows: Iterator[Row] = table.range(group.owner + pack_entry_id(low), after_prefix(group.owner))
    for row_key, row in islice(rows, tries):
        entry_id, suffix = fmt.unpack_entry_id(row_key), row_key[8:]
        words = streams.get(db, entry, entry_id)
        if words is None:
            _forget(db, group, suffix, row)
            deleted.append(entry_id)
        elif _take_over(db, group, consumer, suffix, row, terms, now_ms):
            claimed.append((entry_id, words))
        if len(claimed) + len(deleted) == count_max:
            break
    following = next(rows, None)
    return (0 if following is None else fmt.unpack_entry_id(following[0])), claimed, deleted


# --- how far a group is ---------------------------------------------------------------------------------------------------


def _has_gaps(entry: Entry, start: int) -> bool:
    """Tell whether something was deleted, one by one, at or after the id `start`."""
    return bool(entry.count and entry.deleted and start <= entry.deleted)


def _read_after(entry: Entry, group: Group, ids: list[int]) -> int:
    """Return how many entries were ever added up to the last of `ids`, which are delivered now; UNKNOWN if nobody can tell."""
    read, last = group.read, group.last
    for done, entry_id in enumerate(ids):
        if read != UNKNOWN and last >= entry.first and not _has_gaps(entry, last):
            return min(read + len(ids) - done, _COUNT_MAX)  # from here on it counts
        if entry.added:
            read = _added_up_to(entry, entry_id)
        last = entry_id
    return read


def _added_up_to(entry: Entry, entry_id: int) -> int:
    """Return how many entries were ever added up to an id; UNKNOWN but at the ends of a stream without gaps after it."""
    if not entry.added or (not entry.count and entry_id <= entry.last) or entry_id == entry.last:
        return entry.added
    if 0 < entry_id < entry.deleted or entry_id > entry.last:
        return UNKNOWN
    if entry.deleted < entry.first or not entry.deleted:
        if entry_id < entry.first:
            return entry.added - entry.count
        if entry_id == entry.first:
            return entry.added - entry.count + 1
    return UNKNOWN


def lag(entry: Entry, group: Group) -> int | None:
    """Return how many entries the group has still to deliver, None if nobody can tell. O(1)."""
    if not entry.added:
        return 0
    read = group.read
    if read == UNKNOWN or _has_gaps(entry, group.last):
        read = _added_up_to(entry, group.last)
    return None if read == UNKNOWN else entry.added - read


# --- the whole ------------------------------------------------------------------------------------------------------------


def copy(db: Database, entry: Entry, target: Database, new_key: bytes, expire_at_ms: int) -> None:
    """Let `new_key` be a copy of the stream and its groups, whatever it was before; `expire_at_ms` 0 = never. O(n)."""
    copied = members.copy_head(entry, target, new_key, expire_at_ms)
    streams.copy_entries(db, entry, copied)
    for group in groups(db, entry):
        _copy_group(db, group, copied)


def _copy_group(db: Database, group: Group, copied: Entry) -> None:
    """Put a group with its consumers and pending entries under another stream's id."""
    keyspace = db.keyspace
    tables = keyspace.store.tables
    ids: dict[int, int] = {}
    old = group.owner
    group.id = keyspace.next_id()
    group.owner = owner = pack_u64(group.id)
    tables[GROUPS].put(copied.owner + group.row_key[8:], group.row())
    for row_key, row in tables[CONSUMERS].prefix(old):
        consumer = _consumer(tables[CONSUMERS], row_key, row)
        ident = consumer.id
        consumer.id = ids[ident] = keyspace.next_id()
        tables[CONSUMERS].put(owner + row_key[8:], consumer.row())
        tables[OWNED].put(pack_u64(consumer.id), consumer.name)
    for row_key, row in tables[PENDING].prefix(old):
        ident, delivered_ms, deliveries = fmt.unpack_pending(row)
        suffix = row_key[8:]
        tables[PENDING].put(owner + suffix, pack_pending(ids[ident], delivered_ms, deliveries))
        tables[OWNED].put(pack_u64(ids[ident]) + suffix, b"")
