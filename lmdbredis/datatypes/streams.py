"""Streams: entries in the order of their ids, added at the end; `streams_groups` has who reads them.

Theory. An entry is one row in `stream`, under its id; the row holds fields and values as they came. LMDB keeps the order, so a
range of ids is a walk, and an addition is one row behind all others. The head says what rows cannot: the last id that was
given, the greatest that was deleted, how many entries were ever added, and, so that nobody must look, the first entry's id.

Laws:

1. No id is given twice: the id of an entry is greater than `entry.last` when it is added, and becomes it, whatever is deleted.
2. `entry.first` is the id of the first entry, 0 if there is none; `entry.deleted` <= `entry.last`; `entry.added` >= `entry.count`.
3. A stream may be empty; only its key's deletion ends it.
4. Trimming is exact unless it is told to remove whole blocks: then it removes fewer, never more (Redis's blocks are the nodes of
   its tree, which also end by their size in bytes; ours are so many entries).
5. A stream that is trimmed to a small rest takes a new id, and leaves the many rows to the reclaimer.

An id here is one number, ms << 64 | seq. Functions are given the entry; it knows no reply, no option and no clock.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis.datatypes import members
from lmdbredis.format import GROUPS, STREAM, STREAMS, pack_entry_id, unpack_entry_id
from lmdbredis.table import after_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmdbredis.database import Database
    from lmdbredis.entry import Entry
    from lmdbredis.table import Table

_STEP_FIRST: Final = 64  # rows of the first step of a walk; steps double from here
_STEP_MOST: Final = 4096
_DELETE_ROWS: Final = 1024  # keys of entries to be deleted that are in memory at a time
_ABANDON_ROWS_MIN: Final = 1024  # law 5: so many rows are removed, and
_ABANDON_RATIO: Final = 8  # so many times what is kept, which is
_KEPT_ROWS_MAX: Final = 1024  # not more than this

Item = tuple[int, list[bytes]]  # id, fields and values in turn


# --- adding ---------------------------------------------------------------------------------------------------------------


def next_id(last: int, now_ms: int) -> int:
    """Return the id of an entry that is added now to a stream whose last id is `last`; one more than that if the clock is behind."""
    return now_ms << 64 if now_ms << 64 > last else last + 1


def add(db: Database, entry: Entry, entry_id: int, words: Sequence[bytes]) -> None:
    """Add an entry whose id is greater than the stream's last. O(log n), one row."""
    db.keyspace.store.tables[STREAMS].put(entry.owner + pack_entry_id(entry_id), fmt.pack_entry(words))
    if not entry.count:
        entry.first = entry_id
    entry.count += 1
    entry.added += 1
    entry.last = entry_id
    db.changed(entry)


def add_many(db: Database, entry: Entry, first_id: int, entries: Sequence[Sequence[bytes]]) -> None:
    """As `add` for each of some entries, whose ids follow each other from `first_id` on: the calls are paid once."""
    owner, count = entry.owner, len(entries)
    rows = [
        (owner + pack_entry_id(entry_id), fmt.pack_entry(words)) for entry_id, words in enumerate(entries, first_id)
    ]
    db.keyspace.store.tables[STREAMS].put_many(rows)
    if not entry.count:
        entry.first = first_id
    entry.count += count
    entry.added += count
    entry.last = first_id + count - 1
    db.changed(entry)


# --- reading --------------------------------------------------------------------------------------------------------------


def get(db: Database, entry: Entry, entry_id: int) -> list[bytes] | None:
    """Return an entry's fields and values, None if it is not there. O(log n)."""
    row = db.keyspace.store.tables[STREAMS].get(entry.owner + pack_entry_id(entry_id))
    return None if row is None else fmt.unpack_entry(row)


def get_range(db: Database, entry: Entry, low: int, high: int, count_max: int = 0) -> list[Item]:
    """Return the entries from one id to another, both inside, ascending, at most `count_max` if that is not 0. O(log n + entries)."""
    table = db.keyspace.store.tables[STREAMS]
    found: list[Item] = []
    left = min(count_max, entry.count) if count_max else entry.count
    low, high = max(low, entry.first), min(high, entry.last)
    start, stop = entry.owner + pack_entry_id(low), entry.owner + pack_entry_id(high)
    step = _STEP_FIRST
    while left and start <= stop:
        asked = min(step, left)
        rows = table.take(start, asked)
        is_end = len(rows) < asked or rows[-1][0] >= stop
        if is_end and rows and rows[-1][0] > stop:
            del rows[bisect_right(rows, stop, key=itemgetter(0)) :]
        found += [(unpack_entry_id(row_key), fmt.unpack_entry(row)) for row_key, row in rows]
        if is_end:
            break
        left -= asked
        start = rows[-1][0] + b"\0"
        step = min(step * 2, _STEP_MOST)
    return found


def get_range_back(db: Database, entry: Entry, low: int, high: int, count_max: int = 0) -> list[Item]:
    """As `get_range`, from the greatest id down."""
    table = db.keyspace.store.tables[STREAMS]
    found: list[Item] = []
    left = min(count_max, entry.count) if count_max else entry.count
    low, high = max(low, entry.first), min(high, entry.last)
    start, stop = entry.owner + pack_entry_id(low), entry.owner + pack_entry_id(high) + b"\0"
    step = _STEP_FIRST
    while left and start < stop:
        asked = min(step, left)
        rows = table.take_back(stop, asked)
        is_end = len(rows) < asked or rows[-1][0] < start
        if is_end:
            rows = [row for row in rows if row[0] >= start]
        found += [(unpack_entry_id(row_key), fmt.unpack_entry(row)) for row_key, row in rows]
        if is_end:
            break
        left -= asked
        stop = rows[-1][0]
        step = min(step * 2, _STEP_MOST)
    return found


def greatest(db: Database, entry: Entry) -> int:
    """Return the id of the last entry that is there, 0 if there is none. O(log n)."""
    if not entry.count:
        return 0
    row = db.keyspace.store.tables[STREAMS].last_with(entry.owner)
    assert row is not None, "it counts some"
    return unpack_entry_id(row[0])


# --- deleting -------------------------------------------------------------------------------------------------------------


def delete(db: Database, entry: Entry, ids: Iterable[int]) -> int:
    """Delete entries; return how many were there. O(log n) each."""
    table = db.keyspace.store.tables[STREAMS]
    first = entry.first
    deleted = 0
    for entry_id in ids:
        row_key = entry.owner + pack_entry_id(entry_id)
        if table.get(row_key) is not None:
            table.delete(row_key)
            deleted += 1
            entry.deleted = max(entry.deleted, entry_id)
            if entry_id == entry.first:
                first = 0
    if deleted:
        entry.count -= deleted
        if not first:
            entry.first = unpack_entry_id(table.take_keys(entry.owner, 1)[0]) if entry.count else 0
        db.head_changed(entry)
    return deleted


def trim_length(db: Database, entry: Entry, length: int, block: int, deleted_max: int) -> int:
    """Delete the first entries until `length` are left; return how many. O(log n) each.

    Deletes at most `deleted_max` if that is not 0, and blocks of `block` entries, or all there are (law 4).
    """
    return _drop(db, entry, max(entry.count - length, 0), block, deleted_max)


def trim_ids(db: Database, entry: Entry, least: int, block: int, deleted_max: int) -> int:
    """Delete the entries whose id is less than `least`; return how many: see `trim_length`."""
    if least > entry.last:
        return _drop(db, entry, entry.count, block, deleted_max)
    table = db.keyspace.store.tables[STREAMS]
    below = 0
    most = min(deleted_max, entry.count) if deleted_max else entry.count
    start, stop = entry.owner + pack_entry_id(entry.first), entry.owner + pack_entry_id(least)
    while below < most and start < stop:
        asked = min(_DELETE_ROWS, most - below)
        row_keys = table.take_keys(start, asked)
        here = bisect_left(row_keys, stop)
        below += here
        if here < asked:
            break
        start = row_keys[-1] + b"\0"
    return _drop(db, entry, below, block, deleted_max)


def _drop(db: Database, entry: Entry, count: int, block: int, deleted_max: int) -> int:
    """Delete up to `count` of the first entries, by the rule of `trim_length`; return how many."""
    if deleted_max:
        count = min(count, deleted_max)
    if count < entry.count:
        count -= count % block
    if not count:
        return 0
    kept = entry.count - count
    if count >= _ABANDON_ROWS_MIN and count >= kept * _ABANDON_RATIO and kept <= _KEPT_ROWS_MAX:
        _abandon(db, entry, kept)
    else:
        _delete_first(db, entry, count)
    db.head_changed(entry)
    return count


def _delete_first(db: Database, entry: Entry, count: int) -> None:
    """Delete the first `count` entries."""
    table = db.keyspace.store.tables[STREAMS]
    entry.count -= count
    while count:
        portion = min(count, _DELETE_ROWS)
        count -= portion
        row_keys = table.take_keys(entry.owner + pack_entry_id(entry.first), portion + 1)
        for row_key in row_keys[:portion]:
            table.delete(row_key)
        entry.first = unpack_entry_id(row_keys[portion]) if count or entry.count else 0


def _abandon(db: Database, entry: Entry, kept: int) -> None:
    """Keep the last `kept` entries under a new id, and the groups; leave the rest to the reclaimer."""
    keyspace = db.keyspace
    tables = keyspace.store.tables
    keyspace.write_back()  # groups that were changed
    old, old_id = entry.owner, entry.id
    rows = tables[STREAMS].take_back(after_prefix(old), kept)
    entry.id = keyspace.next_id()
    entry.owner = fmt.pack_u64(entry.id)
    for row_key, row in reversed(rows):
        tables[STREAMS].put(entry.owner + row_key[8:], row)
    move_groups(db, old, entry.owner)
    entry.count = kept
    entry.first = unpack_entry_id(rows[-1][0]) if rows else 0
    keyspace.discard_id(old_id, STREAM)


def move_groups(db: Database, old: bytes, new: bytes) -> None:
    """Let the groups of one owner be another's. What stands under the groups' own ids stays. O(groups)."""
    table: Table = db.keyspace.store.tables[GROUPS]
    for row_key, row in table.prefix(old):
        table.put(new + row_key[8:], row)
        table.delete(row_key)
        db.keyspace.parts.pop(row_key, None)


# --- the whole ------------------------------------------------------------------------------------------------------------


def set_last(db: Database, entry: Entry, last: int, added: int | None, deleted: int) -> None:
    """Set what the head remembers: the last id; entries ever added, unless None; the greatest id deleted, unless 0. O(1)."""
    entry.last = last
    if added is not None:
        entry.added = added
    if deleted:
        entry.deleted = deleted
    db.head_changed(entry)


def copy_entries(db: Database, entry: Entry, copied: Entry) -> None:
    """Put all entries under the id of a copy. O(n)."""
    members.copy_rows(db, db.keyspace.store.tables[STREAMS], entry, copied)
