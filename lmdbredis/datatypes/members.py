"""Members: what hashes, sets and sorted sets share, being rows under an id in the order of stored names.

Theory. A row's key is the id and the stored name (see `format`), so everything that asks for names alone is the same for all
three: walks, random choice, scans, copies, and the question which names of one collection are in another. A *row key* here
is the whole key, id included; a *suffix* is what follows the id.

Laws:

1. Walks know how many rows there are, so they are few calls into C, and never step past the collection's last row.
2. A random choice is uniform, and costs O(log n) for each row chosen: indexes are drawn, then looked up by rank.
3. Nothing here holds more rows than it returns, but for a portion.

What a row's value is, only the type's own room knows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis.ranks import BLOCK_ROWS
from lmdbredis.table import after_prefix

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from lmdbredis.database import Database
    from lmdbredis.entry import Entry
    from lmdbredis.table import Row, Table

OWNER_BYTES: Final = 8
LONG_ROW_BYTES: Final = OWNER_BYTES + fmt.LONG_NAME_BYTES  # a row key of this length has its whole name in its value
REPEATS_MAX: Final = 1 << 22  # what one may ask to be drawn with repeats: Redis would go on until its memory is full
SMALL_MAX: Final = 128  # collections up to this size are scanned in one step, as Redis does with its compact encodings

_PORTION_FIRST: Final = 64  # rows of the first portion of a walk that may end early; portions grow from here
_PORTION_MAX: Final = 4096
# Rows this near to each other, on the average, are one walk: a lookup by rank would walk about as many.
_NEAR_ROWS: Final = 64
_REPEATS_AT_ONCE: Final = 1 << 16
_PROBES_MAX: Final = 16  # up to so many names are looked up one by one
_WALK_RATIO: Final = 8  # a point read costs about as much as walking so many rows
_WALK_STEPS: Final = 3  # a walk goes on for so many times what was expected


# --- counting -------------------------------------------------------------------------------------------------------------


def added(db: Database, table: Table, entry: Entry, suffix: bytes) -> None:
    """Tell the directory that a row was put; makes it when `entry.count`, told before, has passed BLOCK_ROWS."""
    if entry.flags & fmt.COUNTED:
        db.keyspace.ranks.open(table, entry.owner).add(suffix)
    elif entry.count > BLOCK_ROWS:
        db.keyspace.ranks.build(table, entry.owner)
        entry.flags |= fmt.COUNTED


def added_many(db: Database, table: Table, entry: Entry, suffixes: Sequence[bytes]) -> None:
    """As `added` for rows that are all there by now, and counted in `entry.count`."""
    if entry.flags & fmt.COUNTED:
        db.keyspace.ranks.open(table, entry.owner).add_many(suffixes)
    elif entry.count > BLOCK_ROWS:
        db.keyspace.ranks.build(table, entry.owner)
        entry.flags |= fmt.COUNTED


def copy_head(entry: Entry, target: Database, new_key: bytes, expire_at_ms: int) -> Entry:
    """Let `new_key` be a collection like `entry` under an id of its own, whatever it was before; its rows are still to come."""
    target.delete(new_key)
    copied = target.create(new_key, entry.kind)
    copied.be_like(entry)
    target.changed(copied)
    if expire_at_ms:
        target.set_expiry(new_key, copied, expire_at_ms)
    return copied


def copy_rows(db: Database, table: Table, entry: Entry, copied: Entry) -> None:
    """Put all rows of a collection under the id of its copy, and their directory. O(n)."""
    owner, put = copied.owner, table.put
    left, start = entry.count, entry.owner
    while left:
        rows = table.take(start, min(left, _PORTION_MAX))
        for row_key, row in rows:
            put(owner + row_key[OWNER_BYTES:], row)
        left -= len(rows)
        start = rows[-1][0] + b"\0"
    if entry.flags & fmt.COUNTED:
        ranks = db.keyspace.ranks
        ranks.build_from(table, owner, list(ranks.blocks(table, entry.owner)))


# --- walks -----------------------------------------------------------------------------------------------------------------


def portions(table: Table, entry: Entry) -> Iterator[list[bytes]]:
    """Yield all suffixes, ascending, in growing portions, so that a walk may end early and rows be written meanwhile."""
    left, start, step = entry.count, entry.owner, _PORTION_FIRST
    while left:
        row_keys = table.take_keys(start, min(step, left))
        yield [row_key[OWNER_BYTES:] for row_key in row_keys]
        left -= len(row_keys)
        start = row_keys[-1] + b"\0"
        step = min(step * 2, _PORTION_MAX)


def among(table: Table, entry: Entry, suffixes: list[bytes], ratio: float) -> set[bytes]:
    """Return which of the suffixes (ascending, `ratio` times fewer than this collection has between them, as a rule) are in it.

    O(len(suffixes) * log n): by point reads; or, while `ratio` makes that worth while, by one walk from the first to the
    last of them, several times as fast. If there turn out to be far more rows than expected, the rest are point reads.
    """
    owner, get = entry.owner, table.get
    if ratio > _WALK_RATIO or len(suffixes) <= _PROBES_MAX:
        return {suffix for suffix in suffixes if get(owner + suffix) is not None}
    wanted, found = set(suffixes), set[bytes]()
    start, stop, step = owner + suffixes[0], owner + suffixes[-1], int(len(suffixes) * ratio) + _PROBES_MAX
    for _ in range(_WALK_STEPS):
        row_keys = table.take_keys(start, step)
        is_end = len(row_keys) < step or row_keys[-1] >= stop
        if is_end:
            del row_keys[bisect_right(row_keys, stop) :]  # rows of the next collection may have the same names
        found |= wanted.intersection([row_key[OWNER_BYTES:] for row_key in row_keys])
        if is_end:
            return found
        start = row_keys[-1]
    rest = suffixes[bisect_left(suffixes, start[OWNER_BYTES:]) :]
    found.update(suffix for suffix in rest if get(owner + suffix) is not None)
    return found


def scan(table: Table, entry: Entry, position: bytes, prefix: bytes, rows_max: int) -> tuple[list[Row], bytes | None]:
    """Visit up to `rows_max` rows from `position` on whose names begin with `prefix`, in the order of stored names.

    Returns (rows, where to go on), None at the end. A small collection comes whole, whatever is asked; `position` is empty
    or was returned before. O(log n + rows).
    """
    owner = entry.owner
    prefix = prefix[: fmt.PREFIX_BYTES]
    if entry.count <= SMALL_MAX:
        position, rows_max = b"", entry.count
    rows_max = min(rows_max, entry.count)
    stop = after_prefix(owner + prefix)
    rows = table.take(owner + max(position, prefix), rows_max + 1)
    if rows and rows[-1][0] >= stop:
        del rows[bisect_left(rows, stop, key=itemgetter(0)) :]
    if len(rows) <= rows_max:
        return rows, None
    return rows[:rows_max], rows[rows_max][0][OWNER_BYTES:]


# --- chance ----------------------------------------------------------------------------------------------------------------


def pick(db: Database, table: Table, entry: Entry, random: random.Random) -> bytes:
    """Return the row key of one row, each as likely as any other. O(log n)."""
    index = random.randrange(entry.count)
    return db.keyspace.ranks.take_keys(table, entry.owner, index, 1, counted=bool(entry.flags & fmt.COUNTED))[0]


def draw(db: Database, table: Table, entry: Entry, count: int, random: random.Random) -> list[bytes]:
    """Return the row keys of `count` different rows, ascending; all rows if there are no more. O(count * log n)."""
    if count >= entry.count:
        return table.take_keys(entry.owner, entry.count)
    return at(db, table, entry, sorted(random.sample(range(entry.count), count)))


def draw_repeating(db: Database, table: Table, entry: Entry, count: int, random: random.Random) -> list[bytes]:
    """Return the row keys of `count` rows, each drawn anew from all of them, in the order drawn. O(count * log n)."""
    drawn: list[bytes] = []
    while len(drawn) < count:
        indexes = random.choices(range(entry.count), k=min(count - len(drawn), _REPEATS_AT_ONCE))
        different = sorted(set(indexes))
        by_index = dict(zip(different, at(db, table, entry, different), strict=True))
        drawn += [by_index[index] for index in indexes]
    return drawn


def at(db: Database, table: Table, entry: Entry, indexes: Sequence[int]) -> list[bytes]:
    """Return the row keys at these positions, which ascend without repeating. O(len(indexes) * log n)."""
    if not indexes:
        return []
    owner = entry.owner
    if not entry.flags & fmt.COUNTED:
        row_keys = table.take_keys(owner, indexes[-1] + 1)
        return [row_keys[index] for index in indexes]
    if indexes[-1] - indexes[0] > _NEAR_ROWS * len(indexes):
        return db.keyspace.ranks.keys_at(table, owner, indexes)
    found: list[bytes] = []
    while len(found) < len(indexes):
        first = indexes[len(found)]
        near = indexes[len(found) : bisect_left(indexes, first + _PORTION_MAX)]
        row_keys = db.keyspace.ranks.take_keys(table, owner, first, near[-1] - first + 1, counted=True)
        found += [row_keys[index - first] for index in near]
    return found
