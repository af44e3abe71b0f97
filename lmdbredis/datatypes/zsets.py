"""Sorted sets: members with a score each, in the order of scores.

Theory. A member is two rows: one in `zset`, by name, that holds its score, and one in `zset.score` whose key is the sortable
score and the name, so that LMDB keeps the order. This room writes both; `zsets_ranges` reads them in order.

Laws:

1. Both rows of a member are written together, and a counted set tells its directory of every row of `zset.score` that comes
   or goes, right after that row. A series of `put` and `delete` ends with `finish`.
2. A score is what was given; NaN has no place here. -0.0 becomes 0.0 where Redis would pack the set, which loses the sign:
   in a set of up to `_PACKED_MEMBERS_MAX` members, for a member of up to `_PACKED_BYTES_MAX` bytes (Redis also remembers that
   a set was large once; we do not). Elsewhere it is kept, and `format.SIGNED_ZERO` tells readers of `zset.score`, whose keys
   do not know the sign, that they must look.
3. A large set that loses all its members at once loses its head only: the rows are left to the reclaimer.

Functions that take a key open it and raise WRONGTYPE for another type; the others are given the entry.
"""

from __future__ import annotations

from math import copysign
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis.datatypes import members as shared
from lmdbredis.datatypes import zsets_ranges
from lmdbredis.datatypes.zsets_algebra import walk
from lmdbredis.format import COUNTED, NAME_BYTES_MAX, SCORES, ZSET, ZSETS, pack_f64, sortable, unpack_f64
from lmdbredis.ranks import BLOCK_ROWS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lmdbredis.database import Database
    from lmdbredis.entry import Entry
    from lmdbredis.table import Row

_PACKED_MEMBERS_MAX: Final = 128  # law 2
_PACKED_BYTES_MAX: Final = 64
_DELETE_ROWS: Final = 1024  # of a range, in memory at a time

Pair = tuple[bytes, float]


# --- one member -------------------------------------------------------------------------------------------------------------


def get(db: Database, entry: Entry, member: bytes) -> float | None:
    """Return the member's score, None if it is not there. O(log n)."""
    stored = member if len(member) <= NAME_BYTES_MAX else fmt.stored_name(member)
    row = db.keyspace.store.tables[ZSETS].get(entry.owner + stored)
    return None if row is None else unpack_f64(row)


def add(db: Database, key: bytes, member: bytes, score: float) -> bool:
    """Let the member have this score, in a new set if there is no such key; tell whether it is new. O(log n)."""
    entry = db.edit(key, ZSET)
    if entry is None:
        entry = db.create(key, ZSET)
        old = None
    else:
        old = get(db, entry, member)
        if old == score:
            return False
    put(db, entry, member, score, old)
    if old is not None:
        return False
    finish(db, entry)
    return True


def add_each(db: Database, entry: Entry, pairs: Sequence[Pair]) -> list[int]:
    """Let each member in turn have the score beside it, which is not zero (law 2); return 1 for each that is new, else 0.

    O(log n) for each; the calls are paid once.
    """
    table, owner = db.keyspace.store.tables[ZSETS], entry.owner
    rows: list[Row] = []
    suffixes: list[bytes] = []  # what follows the owner in the keys of rows of `zset.score`
    for member, score in pairs:
        if len(member) <= NAME_BYTES_MAX:
            rows.append((owner + member, pack_f64(score)))
            suffixes.append(sortable(score) + member)
        else:
            stored = fmt.stored_name(member)
            rows.append((owner + stored, pack_f64(score) + member))
            suffixes.append(sortable(score) + stored)
    row_keys = [row_key for row_key, _ in rows]
    held = dict(zip(row_keys, table.get_many(row_keys), strict=True))
    new: list[int] = []
    changed: dict[bytes, bytes] = {}
    come: dict[bytes, bytes] = {}  # rows of `zset.score`: a member's whole name if it is long
    gone: dict[bytes, None] = {}
    for (row_key, row), suffix in zip(rows, suffixes, strict=True):
        old = held[row_key]
        new.append(1 if old is None else 0)
        if old == row:
            continue
        held[row_key] = changed[row_key] = row
        if old is not None:
            before = sortable(unpack_f64(old)) + suffix[8:]
            if come.pop(before, None) is None:
                gone[before] = None
        if suffix in gone:  # it has come back to where it was
            del gone[suffix]
        else:
            come[suffix] = row[8:]
    if not changed:
        return new
    table.put_many(sorted(changed.items()))
    _exchange_scores(db, entry, come, list(gone))
    if 1 in new:
        entry.count += new.count(1)
        finish(db, entry)
    else:
        db.replaced(entry)
    return new


def _exchange_scores(db: Database, entry: Entry, come: dict[bytes, bytes], gone: list[bytes]) -> None:
    """Delete some rows of `zset.score` and put others, by what follows the owner in their keys."""
    scores, owner = db.keyspace.store.tables[SCORES], entry.owner
    directory = db.keyspace.ranks.open(scores, owner) if entry.flags & COUNTED else None
    if gone:
        scores.delete_many([owner + suffix for suffix in gone])
        if directory is not None:
            directory.discard_many(gone)
    scores.put_many([(owner + suffix, come[suffix]) for suffix in sorted(come)])
    if directory is not None:
        directory.add_many(list(come))


def put(db: Database, entry: Entry, member: bytes, score: float, old: float | None) -> None:
    """Let the member have this score; `old` is another score, which it has now, or None: it is new. O(log n)."""
    scores = db.keyspace.store.tables[SCORES]
    directory = db.keyspace.ranks.open(scores, entry.owner) if entry.flags & COUNTED else None
    if old is None:
        entry.count += 1
    else:
        gone = sortable(old) + (member if len(member) <= NAME_BYTES_MAX else fmt.stored_name(member))
        scores.delete(entry.owner + gone)
        if directory is not None:
            directory.discard(gone)
        db.replaced(entry)
    suffix = _put_rows(db, entry, member, score)
    if directory is not None:
        directory.add(suffix)


def _put_rows(db: Database, entry: Entry, member: bytes, score: float) -> bytes:
    """Put the two rows of a member; return what follows the owner in the key of the one in `zset.score`."""
    tables = db.keyspace.store.tables
    if not score:
        score = _zero(db, entry, member, score)
    owner = entry.owner
    if len(member) <= NAME_BYTES_MAX:
        suffix = sortable(score) + member
        tables[ZSETS].put(owner + member, pack_f64(score))
        tables[SCORES].put(owner + suffix, b"")
    else:
        stored = fmt.stored_name(member)
        suffix = sortable(score) + stored
        tables[ZSETS].put(owner + stored, pack_f64(score) + member)
        tables[SCORES].put(owner + suffix, member)
    return suffix


def _zero(db: Database, entry: Entry, member: bytes, score: float) -> float:
    """Return the zero to be kept for the zero `score` (law 2)."""
    if copysign(1.0, score) > 0:
        return score
    if not entry.flags & fmt.SIGNED_ZERO:
        if entry.count <= _PACKED_MEMBERS_MAX and len(member) <= _PACKED_BYTES_MAX:
            return 0.0
        entry.flags |= fmt.SIGNED_ZERO
        db.changed(entry)
    return score


def delete(db: Database, entry: Entry, member: bytes) -> bool:
    """Delete a member; tell whether it was there. O(log n)."""
    stored = member if len(member) <= NAME_BYTES_MAX else fmt.stored_name(member)
    row = db.keyspace.store.tables[ZSETS].get(entry.owner + stored)
    if row is None:
        return False
    _delete_rows(db, entry, sortable(unpack_f64(row)), stored)
    return True


def _delete_rows(db: Database, entry: Entry, packed: bytes, stored: bytes) -> None:
    """Delete the two rows of a member."""
    tables = db.keyspace.store.tables
    scores = tables[SCORES]
    suffix = packed + stored
    tables[ZSETS].delete(entry.owner + stored)
    scores.delete(entry.owner + suffix)
    entry.count -= 1
    if entry.flags & COUNTED:
        db.keyspace.ranks.open(scores, entry.owner).discard(suffix)


def finish(db: Database, entry: Entry) -> None:
    """Take note of a changed number of members: an empty set is deleted, one that has become large is counted."""
    if entry.count > BLOCK_ROWS and not entry.flags & COUNTED:
        db.keyspace.ranks.build(db.keyspace.store.tables[SCORES], entry.owner)
        entry.flags |= COUNTED
    db.changed(entry)


# --- many members -----------------------------------------------------------------------------------------------------------


def pop(db: Database, entry: Entry, count: int, *, greatest: bool) -> list[Pair]:
    """Delete and return up to `count` members with the least scores, ascending, or the greatest, descending. O(log n + count)."""
    count = min(count, entry.count)
    if greatest:
        keys = zsets_ranges.take(db, entry, entry.count - count, entry.count)
        keys.reverse()
    else:
        keys = zsets_ranges.take(db, entry, 0, count)
    popped = zsets_ranges.pairs(db, entry, keys)
    if count == entry.count > BLOCK_ROWS:
        db.clear(entry)
    elif count:
        _delete_keys(db, entry, keys)
        db.changed(entry)
    return popped


def delete_span(db: Database, entry: Entry, first: int, last: int) -> int:
    """Delete the members with the indexes [first, last); return how many they were. O(log n) each, O(log n) for all."""
    total = max(last - first, 0)
    if total == entry.count > BLOCK_ROWS:
        db.clear(entry)
    elif total:
        for done in range(0, total, _DELETE_ROWS):  # what follows the deleted takes their indexes
            _delete_keys(db, entry, zsets_ranges.take(db, entry, first, first + min(_DELETE_ROWS, total - done)))
        db.changed(entry)
    return total


def _delete_keys(db: Database, entry: Entry, keys: list[bytes]) -> None:
    """Delete the members of whole keys."""
    for key in keys:
        member = key[zsets_ranges.MEMBER :]
        stored = member if len(member) <= NAME_BYTES_MAX else fmt.stored_name(member)
        _delete_rows(db, entry, key[8 : zsets_ranges.MEMBER], stored)


def store(db: Database, key: bytes, pairs: Collection[Pair]) -> int:
    """Let the key be the set of these pairs, all members different, whatever it was before; return how many. O(n log n)."""
    db.delete(key)
    if pairs:
        entry = db.create(key, ZSET)
        entry.count = len(pairs)
        if any(len(member) > _PACKED_BYTES_MAX for member, _ in pairs) and any(
            not score and copysign(1.0, score) < 0 for _, score in pairs
        ):
            entry.flags |= fmt.SIGNED_ZERO
        for member, score in pairs:
            _put_rows(db, entry, member, score)
        finish(db, entry)
    return len(pairs)


def copy(db: Database, entry: Entry, target: Database, new_key: bytes, expire_at_ms: int) -> None:
    """Let `new_key` be a copy of the set, whatever it was before; `expire_at_ms` 0 = never. O(n log n)."""
    tables = db.keyspace.store.tables
    copied = shared.copy_head(entry, target, new_key, expire_at_ms)
    shared.copy_rows(db, tables[SCORES], entry, copied)
    owner, put = copied.owner, tables[ZSETS].put
    for key, row in walk(tables[ZSETS], entry):
        put(owner + key[8:], row)


def scan(db: Database, entry: Entry, position: bytes, prefix: bytes, rows_max: int) -> tuple[list[Pair], bytes | None]:
    """Visit up to `rows_max` members from `position` on that begin with `prefix`: see `members.scan`."""
    found, following = shared.scan(db.keyspace.store.tables[ZSETS], entry, position, prefix, rows_max)
    return [(key[8:] if len(row) == 8 else row[8:], unpack_f64(row)) for key, row in found], following
