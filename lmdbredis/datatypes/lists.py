"""Lists: elements in a row, cheap at both ends.

Theory. An element is one row in `list`, under its *position*, a u64. The first element of a new list stands at `START`; pushes
go down or up from the ends in steps of `STRIDE`. While nothing was inserted or removed in the middle, the list is *even*: the
element number i stands at ``entry.first + i * STRIDE``, so that whatever goes by index is arithmetic and point reads, and a
push or a pop reads nothing in order. The first insertion or removal in the middle makes the list uneven; from then on an
index is found through ranks. An inserted element stands halfway between its neighbours; where there is no room left, the rows
around are spaced anew, and if that is the whole of a short list, it is even again.

Laws:

1. `entry.first` and `entry.last` are the positions of the first and the last element, as long as there is one.
2. Without `fmt.UNEVEN`, position = first + index * `STRIDE`. Even lists have no directory of counts, however long they are.
3. An uneven list of more than `BLOCK_ROWS` rows is `fmt.COUNTED`, and stays so; then every row that comes or goes is told to the
   directory, after the row itself.
4. Positions never wrap: a list that has walked to the end of the numbers is moved back to the middle, under a new id; one too
   long for that refuses (2**43 pushes on one side).
5. A new id is taken wherever few rows are kept of many, so that the many are reclaimed in the background.
6. Whatever changes a list says `changed`, so that its key's row is in the batch even if only an element was replaced.

Rejected: a node of many elements in one row, as Redis has it. A push would rewrite the node, and log all of it.

Every function takes a `Database` and a key; a key of another type raises WRONGTYPE. It knows no reply and no option.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from lmdbredis.entry import Entry
from lmdbredis.errors import LIST_EXHAUSTED, ReplyError
from lmdbredis.format import COUNTED, LIST, LISTS, UNEVEN, pack_u64, unpack_u64
from lmdbredis.ranks import BLOCK_ROWS, Directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lmdbredis.database import Database
    from lmdbredis.table import Row, Table

STRIDE: Final = 1 << 20
START: Final = 1 << 63
POSITION_MAX: Final = (1 << 64) - 1

_OWNER_BYTES: Final = 8  # of a row's key, before the position
_FIRST_BLOCKS_ROWS: Final = BLOCK_ROWS // 2  # rows in each block of a list that becomes counted
_POINT_READS_MAX: Final = 8  # up to so many rows are read one by one: that never waits for a commit
_WALK_ROWS: Final = 4096  # read at a time by a walk of known length
_ABANDON_ROWS_MIN: Final = 1024  # LTRIM takes a new id if it removes at least so many rows, and
_ABANDON_RATIO: Final = 8  # so many times what it keeps
_RECENTRE_ROWS_MAX: Final = 1 << 20  # a longer list is not moved back to the middle
_WINDOW_HALF_ROWS: Final = 32  # of the smallest window that is spaced anew, on either side; windows grow fourfold
_WINDOW_GAP_MIN: Final = 1 << 8  # between rows spaced anew in the smallest window; doubles with each larger one


# --- ends ----------------------------------------------------------------------------------------------------------------


def push(db: Database, key: bytes, elements: Sequence[bytes], left: bool, *, creates: bool = True) -> int:
    """Push elements, one after another, to an end; return the length, 0 if there is no such key and none is made. O(elements).

    Raises ReplyError if no positions are left.
    """
    step = -STRIDE if left else STRIDE
    entry = db.edit(key, LIST)
    if entry is None:
        if not creates:
            return 0
        entry = db.create(key, LIST)
        entry.first = entry.last = START
        position = START - step
    else:
        position = entry.first if left else entry.last
        if not 0 <= position + step * len(elements) <= POSITION_MAX:
            _recentre(db, entry)
            position = entry.first if left else entry.last
    table = db.keyspace.store.tables[LISTS]
    if entry.flags & COUNTED:
        position = _push_counted(db, entry, position, step, elements)
    else:
        owner, first = entry.owner, position + step
        position += step * len(elements)
        positions = range(first, position + step, step)
        table.put_many([(owner + pack_u64(at), element) for at, element in zip(positions, elements, strict=True)])
    if left:
        entry.first = position
    else:
        entry.last = position
    entry.count = count = entry.count + len(elements)
    if entry.flags == UNEVEN and count > BLOCK_ROWS:
        _build_directory(db, entry)
    db.changed(entry)
    return count


def _push_counted(db: Database, entry: Entry, position: int, step: int, elements: Sequence[bytes]) -> int:
    """Put rows, telling each to the directory before the next is put: it may walk them. Returns the last position."""
    table = db.keyspace.store.tables[LISTS]
    directory = db.keyspace.ranks.open(table, entry.owner)
    for element in elements:
        position += step
        suffix = pack_u64(position)
        table.put(entry.owner + suffix, element)
        directory.add(suffix)
    return position


def pop(db: Database, key: bytes, left: bool) -> bytes | None:
    """Remove the element at an end and return it, None if there is no such key. O(log n)."""
    entry = db.edit(key, LIST)
    if entry is None:
        return None
    table = db.keyspace.store.tables[LISTS]
    position = entry.first if left else entry.last
    row_key = entry.owner + pack_u64(position)
    entry.count -= 1
    if entry.flags and entry.count:
        element = _pop_uneven(db, entry, position, left)
    else:
        element = table.pop(row_key)
        if left:
            entry.first = position + STRIDE
        else:
            entry.last = position - STRIDE
    assert element is not None, "law 1"
    db.changed(entry)
    return element


def _pop_uneven(db: Database, entry: Entry, position: int, left: bool) -> bytes | None:
    """Delete the row at an end of an uneven list, which has more, and return its element."""
    table = db.keyspace.store.tables[LISTS]
    neighbour = _neighbour(table, entry, position, left=not left)
    suffix = pack_u64(position)
    element = table.pop(entry.owner + suffix)
    if entry.flags & COUNTED:
        db.keyspace.ranks.open(table, entry.owner).discard(suffix)
    if left:
        entry.first = neighbour
    else:
        entry.last = neighbour
    return element


def pop_each(db: Database, key: bytes, count: int, left: bool) -> list[bytes]:
    """Remove elements as `count` times `pop` would, and return them; fewer if there are no more. Reads nothing in order."""
    entry = db.edit(key, LIST)
    if entry is None:
        return []
    if entry.flags or count >= entry.count:
        return list(islice(iter(lambda: pop(db, key, left), None), count))
    step = STRIDE if left else -STRIDE
    position = entry.first if left else entry.last
    following = position + step * count
    owner = entry.owner
    elements = db.keyspace.store.tables[LISTS].pop_many(
        [owner + pack_u64(at) for at in range(position, following, step)]
    )
    entry.count -= count
    if left:
        entry.first = following
    else:
        entry.last = following
    db.changed(entry)
    return elements


def pop_many(db: Database, key: bytes, elements_max: int, left: bool) -> list[bytes] | None:
    """Remove up to `elements_max` elements from an end and return them, None if there is no such key. O(log n + elements)."""
    entry = db.edit(key, LIST)
    if entry is None:
        return None
    count = min(elements_max, entry.count)
    if not count:
        return []
    elements = _elements(db, entry, 0 if left else entry.count - count, count)
    if not left:
        elements.reverse()
    if count == entry.count:
        _empty(db, entry)
    else:
        _drop(db, entry, count, left)
        db.changed(entry)
    return elements


def move(db: Database, key: bytes, target: bytes, *, from_left: bool, to_left: bool) -> bytes | None:
    """Move the element at an end of a list to an end of another, or of the same; return it, None if there is none. O(log n)."""
    entry = db.edit(key, LIST)
    if entry is None:
        return None
    element = db.keyspace.store.tables[LISTS].get(entry.owner + pack_u64(entry.first if from_left else entry.last))
    assert element is not None, "law 1"
    push(db, target, (element,), to_left)  # first: it may refuse, and a list must not become empty on the way to itself
    return pop(db, key, from_left)


# --- reading -------------------------------------------------------------------------------------------------------------


def length(db: Database, key: bytes) -> int:
    """Return the number of elements, 0 if there is no such key. O(1)."""
    entry = db.open(key, LIST)
    return 0 if entry is None else entry.count


def get(db: Database, key: bytes, index: int) -> bytes | None:
    """Return the element number `index`, from the end if negative; None if there is none, or no such key. O(log n)."""
    entry = db.open(key, LIST)
    if entry is None:
        return None
    if index < 0:
        index += entry.count
    if not 0 <= index < entry.count:
        return None
    return _elements(db, entry, index, 1)[0]


def get_range(db: Database, key: bytes, start: int, stop: int) -> list[bytes]:
    """Return the elements from `start` to `stop`, both inside, from the end if negative; none if no such key. O(log n + elements)."""
    entry = db.open(key, LIST)
    if entry is None:
        return []
    start, stop = _clamp(start, stop, entry.count)
    return _elements(db, entry, start, stop - start + 1) if start <= stop else []


def everything(db: Database, entry: Entry) -> Iterator[bytes]:
    """Yield all elements, from the left. O(n)."""
    return _all_elements(db, entry, 0, entry.count)


def find(
    db: Database, key: bytes, element: bytes, *, rank: int, matches_max: int, scanned_max: int
) -> list[int] | None:
    """Return the indexes of elements equal to `element`, None if there is no such key. O(n).

    The first is the match number `rank`, counted and searched from the end if negative; at most `matches_max` are returned
    and `scanned_max` elements are compared, 0 = all.
    """
    entry = db.open(key, LIST)
    if entry is None:
        return None
    skip = abs(rank) - 1
    count = entry.count
    found: list[int] = []
    for index, (_, row) in enumerate(_walk(db.keyspace.store.tables[LISTS], entry, back=rank < 0)):
        if index == scanned_max and scanned_max:
            break
        if row == element:
            if skip:
                skip -= 1
                continue
            found.append(index if rank > 0 else count - 1 - index)
            if len(found) == matches_max:
                break
    return found


# --- changing in the middle ----------------------------------------------------------------------------------------------


def put(db: Database, key: bytes, index: int, element: bytes) -> bool | None:
    """Replace the element number `index`, from the end if negative; False if there is none, None if no such key. O(log n)."""
    entry = db.edit(key, LIST)
    if entry is None:
        return None
    if index < 0:
        index += entry.count
    if not 0 <= index < entry.count:
        return False
    db.keyspace.store.tables[LISTS].put(entry.owner + _suffix(db, entry, index), element)
    db.changed(entry)
    return True


def insert(db: Database, key: bytes, pivot: bytes, element: bytes, *, before: bool) -> int:
    """Insert beside the first element equal to `pivot`; return the length, -1 if there is none, 0 if no such key. O(n)."""
    entry = db.edit(key, LIST)
    if entry is None:
        return 0
    table = db.keyspace.store.tables[LISTS]
    row_key = next((row_key for row_key, row in _walk(table, entry) if row == pivot), None)
    if row_key is None:
        return -1
    position = unpack_u64(row_key, _OWNER_BYTES)
    if position == (entry.first if before else entry.last):
        return push(db, key, (element,), before)
    neighbour = _neighbour(table, entry, position, left=before)
    low, high = (neighbour, position) if before else (position, neighbour)
    _make_uneven(db, entry)
    middle = (low + high) // 2
    if middle > low:
        suffix = pack_u64(middle)
        table.put(entry.owner + suffix, element)
        if entry.flags & COUNTED:
            db.keyspace.ranks.open(table, entry.owner).add(suffix)
    else:
        _space_anew(db, entry, low, high, element)
    entry.count += 1
    if entry.flags == UNEVEN and entry.count > BLOCK_ROWS:
        _build_directory(db, entry)
    db.changed(entry)
    return entry.count


def remove(db: Database, key: bytes, element: bytes, removed_max: int, *, back: bool = False) -> int:
    """Remove the first elements equal to `element`, the last ones if `back`, 0 = all; return how many. O(n)."""
    entry = db.edit(key, LIST)
    if entry is None:
        return 0
    table = db.keyspace.store.tables[LISTS]
    directory = _directory(db, entry)
    first, last = entry.first, entry.last
    removed = 0
    for row_key, row in _walk(table, entry, back=back):
        if row != element:
            continue
        position = unpack_u64(row_key, _OWNER_BYTES)
        if not entry.flags:
            if position == entry.first:
                entry.first += STRIDE
            elif position == entry.last:
                entry.last -= STRIDE
            else:
                _make_uneven(db, entry)
                directory = _directory(db, entry)
        table.delete(row_key)
        entry.count -= 1
        if directory is not None:
            directory.discard(row_key[_OWNER_BYTES:])
        removed += 1
        if removed == removed_max:
            break
    if removed:
        if entry.flags and entry.count:
            _find_ends(table, entry, first, last)
        db.changed(entry)
    return removed


def trim(db: Database, key: bytes, start: int, stop: int) -> None:
    """Keep the elements from `start` to `stop`, both inside, from the end if negative. O(the fewer of removed and kept)."""
    entry = db.edit(key, LIST)
    if entry is None:
        return
    start, stop = _clamp(start, stop, entry.count)
    kept = max(stop - start + 1, 0)
    removed = entry.count - kept
    if not removed:
        db.replaced(entry)
        return
    if not kept:
        _empty(db, entry)
        return
    if removed >= _ABANDON_ROWS_MIN and removed >= kept * _ABANDON_RATIO:
        _move_to_new_id(db, entry, start, kept)
    else:
        if stop < entry.count - 1:
            _drop(db, entry, entry.count - 1 - stop, left=False)
        if start:
            _drop(db, entry, start, left=True)
    db.changed(entry)


def copy(db: Database, entry: Entry, target: Database, new_key: bytes, expire_at_ms: int) -> None:
    """Let `new_key` be a copy of the list found in `db`, whatever it was before. O(n)."""
    target.delete(new_key)
    new = target.create(new_key, LIST)
    _put_even(db.keyspace.store.tables[LISTS], new, _all_elements(db, entry, 0, entry.count))
    target.changed(new)
    if expire_at_ms:
        target.set_expiry(new_key, new, expire_at_ms)


# --- rows ----------------------------------------------------------------------------------------------------------------


def _clamp(start: int, stop: int, count: int) -> tuple[int, int]:
    """Return the range as indexes of elements that are there; start > stop if there are none."""
    start = max(start + count, 0) if start < 0 else start
    return start, min(stop + count if stop < 0 else stop, count - 1)


def _directory(db: Database, entry: Entry) -> Directory | None:
    """Return the directory of a counted list, None if it has none."""
    return db.keyspace.ranks.open(db.keyspace.store.tables[LISTS], entry.owner) if entry.flags & COUNTED else None


def _elements(db: Database, entry: Entry, index: int, count: int) -> list[bytes]:
    """Return `count` elements from number `index`; the caller knows that they are there. O(log n + count)."""
    table = db.keyspace.store.tables[LISTS]
    if entry.flags:
        rows = db.keyspace.ranks.take(table, entry.owner, index, count, counted=bool(entry.flags & COUNTED))
        return [row for _, row in rows]
    start = entry.first + index * STRIDE
    if count > _POINT_READS_MAX:
        return table.take_values(entry.owner + pack_u64(start), count)
    found = [table.get(entry.owner + pack_u64(position)) for position in range(start, start + count * STRIDE, STRIDE)]
    assert None not in found, "law 2"
    return found  # type: ignore[return-value]


def _all_elements(db: Database, entry: Entry, index: int, count: int) -> Iterator[bytes]:
    """As `_elements`, some at a time; other rows may be written meanwhile."""
    for at in range(index, index + count, _WALK_ROWS):
        yield from _elements(db, entry, at, min(_WALK_ROWS, index + count - at))


def _suffix(db: Database, entry: Entry, index: int) -> bytes:
    """Return the packed position of the element number `index`, which is there. O(log n)."""
    if not entry.flags:
        return pack_u64(entry.first + index * STRIDE)
    table, counted = db.keyspace.store.tables[LISTS], bool(entry.flags & COUNTED)
    return db.keyspace.ranks.take_keys(table, entry.owner, index, 1, counted=counted)[0][_OWNER_BYTES:]


def _walk(table: Table, entry: Entry, *, back: bool = False) -> Iterator[Row]:
    """Return an iterator over all rows of a list, from the last if `back`; rows that it has passed may be changed."""
    start, stop = entry.owner + pack_u64(entry.first), entry.owner + pack_u64(entry.last) + b"\0"
    return table.range_back(start, stop) if back else table.range(start, stop)


def _neighbour(table: Table, entry: Entry, position: int, *, left: bool) -> int:
    """Return the position of the element before (`left`) or after the one at `position`; the caller knows that it is there."""
    if not entry.flags:
        return position - STRIDE if left else position + STRIDE
    row_key = entry.owner + pack_u64(position)
    return unpack_u64(table.take_back(row_key, 1)[0][0] if left else table.take_keys(row_key, 2)[1], _OWNER_BYTES)


def _find_ends(table: Table, entry: Entry, first: int, last: int) -> None:
    """Find the first and the last position again after rows were deleted from a list that reached from `first` to `last`."""
    entry.first = unpack_u64(table.take_keys(entry.owner + pack_u64(first), 1)[0], _OWNER_BYTES)
    entry.last = unpack_u64(table.take_back(entry.owner + pack_u64(last) + b"\0", 1)[0][0], _OWNER_BYTES)


def _empty(db: Database, entry: Entry) -> None:
    """Delete a list with all its elements: the rows of a large one are left to the reclaimer. O(log n)."""
    if entry.count > BLOCK_ROWS:
        db.clear(entry)
        return
    table, owner = db.keyspace.store.tables[LISTS], entry.owner
    if entry.flags:
        table.delete_many(table.take_keys(owner, entry.count))
    else:
        table.delete_many([owner + pack_u64(at) for at in range(entry.first, entry.last + STRIDE, STRIDE)])
    entry.count = 0
    db.changed(entry)


def _drop(db: Database, entry: Entry, count: int, left: bool) -> None:
    """Delete the rows of `count` elements at an end, which are not all. O(log n + count)."""
    entry.count -= count
    table = db.keyspace.store.tables[LISTS]
    if entry.flags:
        ranks, counted = db.keyspace.ranks, bool(entry.flags & COUNTED)
        keys = ranks.take_keys(table, entry.owner, 0 if left else entry.count - 1, count + 1, counted=counted)
        kept = unpack_u64(keys.pop(-1 if left else 0), _OWNER_BYTES)
    else:
        kept = entry.first + count * STRIDE if left else entry.last - count * STRIDE
        start = entry.first if left else kept + STRIDE
        keys = [entry.owner + pack_u64(position) for position in range(start, start + count * STRIDE, STRIDE)]
    directory = _directory(db, entry)
    for row_key in keys:
        table.delete(row_key)
        if directory is not None:
            directory.discard(row_key[_OWNER_BYTES:])
    if left:
        entry.first = kept
    else:
        entry.last = kept


def _put_even(table: Table, entry: Entry, elements: Iterable[bytes]) -> None:
    """Put the rows of a list whose id is new: even, from `START` on."""
    position = START - STRIDE
    for element in elements:
        position += STRIDE
        table.put(entry.owner + pack_u64(position), element)
    entry.first, entry.last, entry.flags = START, position, 0
    entry.count = (position - START) // STRIDE + 1


def _move_to_new_id(db: Database, entry: Entry, index: int, count: int) -> None:
    """Keep `count` elements from number `index`: copied under a new id, the old one is left to the reclaimer. O(log n + count)."""
    new = Entry(entry.row_key, entry.key, LIST, db.keyspace.next_id())
    _put_even(db.keyspace.store.tables[LISTS], new, _all_elements(db, entry, index, count))
    db.keyspace.discard_id(entry.id, LIST)
    entry.id, entry.owner = new.id, new.owner
    entry.first, entry.last, entry.count, entry.flags = new.first, new.last, new.count, new.flags


def _recentre(db: Database, entry: Entry) -> None:
    """Move a list that has come to the end of the numbers back to the middle. Raises ReplyError if it is too long for that."""
    if entry.count > _RECENTRE_ROWS_MAX:
        raise ReplyError(LIST_EXHAUSTED)
    _move_to_new_id(db, entry, 0, entry.count)


# --- uneven lists --------------------------------------------------------------------------------------------------------


def _make_uneven(db: Database, entry: Entry) -> None:
    """Let an even list be uneven, and counted if it is long: its blocks are known without a look. O(n / 128)."""
    if entry.flags & UNEVEN:
        return
    entry.flags |= UNEVEN
    if entry.count > BLOCK_ROWS:
        blocks = []
        for at in range(0, entry.count, _FIRST_BLOCKS_ROWS):
            suffix = pack_u64(entry.first + at * STRIDE) if at else b""
            blocks.append((suffix, min(_FIRST_BLOCKS_ROWS, entry.count - at)))
        db.keyspace.ranks.build_from(db.keyspace.store.tables[LISTS], entry.owner, blocks)
        entry.flags |= COUNTED


def _build_directory(db: Database, entry: Entry) -> None:
    """Let an uneven list that has become long be counted. O(n): little more than what was just added."""
    db.keyspace.ranks.build(db.keyspace.store.tables[LISTS], entry.owner)
    entry.flags |= COUNTED


def _space_anew(db: Database, entry: Entry, low: int, high: int, element: bytes) -> None:
    """Put `element` between two neighbours that have no number left between them, spacing the rows around evenly.

    The window grows until its rows can stand `_WINDOW_GAP_MIN` apart; a larger window must give more, so that the smaller
    ones inside it have room for a share of its rows before it is their turn again: O(log n) moves for an insertion, over many
    (Itai, Konheim, Rodeh: A sparse table implementation of priority queues, 1981). Beyond an end of the list there is always room.
    """
    table, owner = db.keyspace.store.tables[LISTS], entry.owner
    half, gap_min = _WINDOW_HALF_ROWS, _WINDOW_GAP_MIN
    while True:
        left = [row for row in table.take_back(owner + pack_u64(low) + b"\0", half + 1) if row[0].startswith(owner)]
        right = [row for row in table.take(owner + pack_u64(high), half + 1) if row[0].startswith(owner)]
        # The neighbours of the window stay where they are.
        floor = unpack_u64(left.pop()[0], _OWNER_BYTES) if len(left) > half else None
        ceiling = unpack_u64(right.pop()[0], _OWNER_BYTES) if len(right) > half else None
        count = len(left) + 1 + len(right)
        bottom, top = _span(floor, ceiling, count)
        if (top - bottom) // (count + 1) >= gap_min:
            break
        half, gap_min = half * 4, gap_min * 2
    directory = _directory(db, entry)
    for row_key, _ in (*left, *right):
        table.delete(row_key)
        if directory is not None:
            directory.discard(row_key[_OWNER_BYTES:])
    elements = [*(row for _, row in reversed(left)), element, *(row for _, row in right)]
    suffixes = [pack_u64(bottom + (top - bottom) * number // (count + 1)) for number in range(1, count + 1)]
    for suffix, row in zip(suffixes, elements, strict=True):
        table.put(owner + suffix, row)
        if directory is not None:
            directory.add(suffix)
    if floor is None:
        entry.first = unpack_u64(suffixes[0])
    if ceiling is None:
        entry.last = unpack_u64(suffixes[-1])
    if floor is None and ceiling is None and directory is None:
        entry.flags = 0  # even again


def _span(floor: int | None, ceiling: int | None, count: int) -> tuple[int, int]:
    """Return the positions between which `count` rows may stand, both outside; None is an end of the list."""
    if floor is None and ceiling is None:
        floor = START - STRIDE
    if floor is None:
        assert ceiling is not None
        return max(ceiling - (count + 1) * STRIDE, -1), ceiling
    if ceiling is None:
        return floor, min(floor + (count + 1) * STRIDE, POSITION_MAX + 1)
    return floor, ceiling
