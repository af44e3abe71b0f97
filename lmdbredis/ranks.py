"""Order statistics: which row is the i-th, and how many stand before a row, in O(log n).

Theory. The rows of one owner (a collection's id, or a keyspace) in one table are cut into blocks of at most `BLOCK_ROWS`
consecutive rows. A block is named by its first key and counted in the sub-database `counts`::

    table number u8, owner, first key of the block (empty for the first block)  ->  rows in the block, u32

The counts rows of one owner are its *directory*; it is read once and kept in memory in groups of blocks, each with its sum,
so that a lookup adds a few dozen small numbers, and then walks at most one block of rows. It is a two-level sorted list; a
Fenwick tree was the alternative, but blocks come and go in the middle, which it does not like.

Laws:

1. Owners with up to `BLOCK_ROWS` rows have no directory: their only block is implied. Whoever adds the row after that calls
   `Ranks.build`. From then on every row added or deleted is told to the directory (`add`, `discard`).
2. A block never covers rows of another: it reaches from its first key to the next block's.
3. Blocks that have grown too large are cut in two when LMDB can be walked without waiting; small neighbours are joined.
4. A directory holds about one key for each hundred rows, never the rows; directories are dropped by the dozen, least
   recently opened first, and after a repair all at once.

Keys here are *suffixes*: what follows the owner's bytes in the table's key.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis.table import Table, after_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lmdbredis.store import Store
    from lmdbredis.table import Row

BLOCK_ROWS: Final = 128
_pack_u32: Final = fmt.pack_u32
_JOIN_ROWS: Final = 48  # a block this small looks for a neighbour to join
_JOINED_ROWS_MAX: Final = 96
_BACKLOG_ROWS: Final = 2 * BLOCK_ROWS  # a block may grow to this while rows wait to be put into LMDB
_COMMIT_ROWS: Final = 4 * BLOCK_ROWS  # and to this while a commit is on its way
_STEP_ROWS: Final = 32  # of a walk through a block that may end early
_GROUP_BLOCKS: Final = 128
_DIRECTORIES_MAX: Final = 1024
_BLOCKS_MAX: Final = 400_000  # in all directories together: about 40 MB


class _Group:
    """Consecutive blocks of a directory."""

    __slots__ = ("firsts", "sizes", "total")

    def __init__(self, firsts: list[bytes], sizes: list[int]) -> None:
        self.firsts = firsts  # first key of each block, ascending
        self.sizes = sizes  # rows in each block
        self.total = sum(sizes)


def _directory_name(table: Table, owner: bytes) -> bytes:
    """Return what stands before each block's first key in `counts`."""
    return bytes((table.number,)) + owner


class Directory:
    """The counted blocks of one owner in one table."""

    __slots__ = ("_counts", "_groups", "_heads", "_name", "_store", "_table", "blocks", "owner")

    def __init__(self, store: Store, table: Table, owner: bytes, blocks: list[tuple[bytes, int]]) -> None:
        self._store = store
        self._table = table
        self._counts = store.tables[fmt.COUNTS]
        self.owner = owner
        self._name = _directory_name(table, owner)  # before each block's first key in `counts`
        self.blocks = len(blocks)
        self._groups: list[_Group] = []
        for at in range(0, len(blocks), _GROUP_BLOCKS // 2):
            part = blocks[at : at + _GROUP_BLOCKS // 2]
            self._groups.append(_Group([first for first, _ in part], [size for _, size in part]))
        self._heads = [group.firsts[0] for group in self._groups]

    def _find(self, suffix: bytes) -> tuple[int, int]:
        """Return (group, block) that covers `suffix`. O(log blocks)."""
        g = bisect_right(self._heads, suffix) - 1
        if g < 0:
            return 0, 0
        return g, bisect_right(self._groups[g].firsts, suffix) - 1

    def add(self, suffix: bytes) -> None:
        """Take note that the row `suffix` was added. O(log blocks), and now and then one walk of a block."""
        g, b = self._find(suffix)
        group = self._groups[g]
        size = group.sizes[b] + 1
        group.sizes[b] = size
        group.total += 1
        self._counts.put(self._name + group.firsts[b], fmt.pack_u32(size))
        if size > BLOCK_ROWS and size > self._rows_max():
            self._cut(g, b)

    def add_many(self, suffixes: Sequence[bytes]) -> None:
        """As `add` for rows that are all there by now: the calls are paid once."""
        heads, groups, name = self._heads, self._groups, self._name
        rows: list[Row] = []
        large: list[bytes] = []  # in blocks that have become too large
        for suffix in suffixes:
            g = bisect_right(heads, suffix) - 1
            group = groups[g] if g > 0 else groups[0]
            firsts, sizes = group.firsts, group.sizes
            b = bisect_right(firsts, suffix) - 1 if g >= 0 else 0
            size = sizes[b] = sizes[b] + 1
            group.total += 1
            rows.append((name + firsts[b], _pack_u32(size)))
            if size > BLOCK_ROWS:
                large.append(suffix)
        self._counts.put_many(rows)
        for suffix in large:
            g, b = self._find(suffix)
            size = groups[g].sizes[b]
            if size > self._rows_max():
                self._cut(g, b)

    def _rows_max(self) -> int:
        """Return how many rows a block may have now: law 3."""
        store = self._store
        return BLOCK_ROWS if store.is_settled else _COMMIT_ROWS if store.is_committing else _BACKLOG_ROWS

    def discard(self, suffix: bytes) -> None:
        """Take note that the row `suffix` was deleted. O(log blocks)."""
        g, b = self._find(suffix)
        group = self._groups[g]
        size = group.sizes[b] - 1
        group.sizes[b] = size
        group.total -= 1
        if size < _JOIN_ROWS and len(group.sizes) > 1:
            left = b - 1 if b and (b + 1 == len(group.sizes) or group.sizes[b - 1] <= group.sizes[b + 1]) else b
            if group.sizes[left] + group.sizes[left + 1] <= _JOINED_ROWS_MAX:
                self._join(group, left)
                return
        self._counts.put(self._name + group.firsts[b], fmt.pack_u32(size))

    def discard_many(self, suffixes: Sequence[bytes]) -> None:
        """As `discard` for each of some rows: the calls are paid once."""
        rows: dict[bytes, bytes] = {}
        for suffix in suffixes:
            g, b = self._find(suffix)
            group = self._groups[g]
            size = group.sizes[b] - 1
            if size < _JOIN_ROWS:
                self._counts.put_many(list(rows.items()))
                rows.clear()
                self.discard(suffix)
            else:
                group.sizes[b] = size
                group.total -= 1
                rows[self._name + group.firsts[b]] = _pack_u32(size)
        self._counts.put_many(list(rows.items()))

    def _join(self, group: _Group, left: int) -> None:
        """Join the block `left` of the group and the one after it."""
        size = group.sizes[left] + group.sizes.pop(left + 1)
        group.sizes[left] = size
        self._counts.delete(self._name + group.firsts.pop(left + 1))
        self._counts.put(self._name + group.firsts[left], fmt.pack_u32(size))
        self.blocks -= 1

    def _cut(self, g: int, b: int) -> None:
        """Cut a block in pieces of half its permitted size."""
        group = self._groups[g]
        first, size = group.firsts[b], group.sizes[b]
        skip = len(self.owner)
        keys = self._table.take_keys(self.owner + first, size)
        starts = list(range(0, size - BLOCK_ROWS // 4, BLOCK_ROWS // 2))
        firsts = [first, *(keys[start][skip:] for start in starts[1:])]
        sizes = [end - start for start, end in zip(starts, [*starts[1:], size], strict=True)]
        group.firsts[b : b + 1] = firsts
        group.sizes[b : b + 1] = sizes
        self.blocks += len(firsts) - 1
        for new_first, new_size in zip(firsts, sizes, strict=True):
            self._counts.put(self._name + new_first, fmt.pack_u32(new_size))
        if len(group.firsts) > _GROUP_BLOCKS:
            half = len(group.firsts) // 2
            right = _Group(group.firsts[half:], group.sizes[half:])
            self._groups[g : g + 1] = [_Group(group.firsts[:half], group.sizes[:half]), right]
            self._heads.insert(g + 1, right.firsts[0])

    def listed(self) -> list[tuple[bytes, int]]:
        """Return (first key, rows) of each block."""
        return [block for group in self._groups for block in zip(group.firsts, group.sizes, strict=True)]

    def rank(self, suffix: bytes) -> int:
        """Return how many rows stand before `suffix`, whether or not it is there. O(log n)."""
        g, b = self._find(suffix)
        group = self._groups[g]
        before = sum(other.total for other in self._groups[:g]) + sum(group.sizes[:b])
        target = self.owner + suffix
        start = self.owner + group.firsts[b]
        while True:
            keys = self._table.take_keys(start, _STEP_ROWS)
            if len(keys) < _STEP_ROWS or keys[-1] >= target:
                return before + bisect_left(keys, target)
            before += _STEP_ROWS
            start = keys[-1] + b"\0"

    def seek(self, index: int) -> tuple[bytes, int]:
        """Return (first key of the block that holds the row number `index`, how many rows to skip in it)."""
        g, b, skip = self._seek(index)
        return self._groups[g].firsts[b], skip

    def _seek(self, index: int) -> tuple[int, int, int]:
        """Return (group, block, rows to skip in it) of the row number `index`."""
        g = b = 0
        for g, group in enumerate(self._groups):  # noqa: B007 -- the group where the loop ends is the result
            if index < group.total:
                break
            index -= group.total
        for b, size in enumerate(group.sizes):  # noqa: B007
            if index < size:
                break
            index -= size
        return g, b, index

    def key_at(self, index: int) -> bytes:
        """Return the key of the row number `index`, the owner included. O(log n)."""
        return self._table.keys_near([self._place(*self._seek(index))])[0]

    def keys_at(self, indexes: Sequence[int]) -> list[bytes]:
        """As `key_at` for each of some numbers that ascend. O(groups), and O(log n) for each."""
        places: list[tuple[bytes, int]] = []
        begin = 0
        for g, group in enumerate(self._groups):
            end = begin + group.total
            last = bisect_left(indexes, end, len(places))
            if last > len(places):
                begins = list(accumulate(group.sizes, initial=begin))
                for index in indexes[len(places) : last]:
                    b = bisect_right(begins, index) - 1
                    places.append(self._place(g, b, index - begins[b]))
            begin = end
        return self._table.keys_near(places)

    def _place(self, g: int, b: int, skip: int) -> tuple[bytes, int]:
        """Return where to look for the row number `skip` of a block, and how many steps from there: the nearer end of the block."""
        group = self._groups[g]
        behind = group.sizes[b] - skip
        if skip < behind:
            return self.owner + group.firsts[b], skip
        if b + 1 < len(group.firsts):
            return self.owner + group.firsts[b + 1], -behind
        if g + 1 < len(self._groups):
            return self.owner + self._heads[g + 1], -behind
        return after_prefix(self.owner), -behind


class Ranks:
    """All directories of a store, and questions for owners that have one or not."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts = store.tables[fmt.COUNTS]
        self._open: dict[tuple[int, bytes], Directory] = {}
        store.forgets.append(self._open.clear)

    def build(self, table: Table, owner: bytes) -> None:
        """Count the rows of an owner in blocks, from nothing. O(n); called once, when n passes BLOCK_ROWS."""
        skip = len(owner)
        blocks = []
        first, start = b"", owner
        while True:
            keys = table.take_keys(start, BLOCK_ROWS // 2 + 1)
            mine = bisect_left(keys, after_prefix(owner))
            blocks.append((first, min(mine, BLOCK_ROWS // 2)))
            if mine <= BLOCK_ROWS // 2:
                break
            start = keys[-1]
            first = start[skip:]
        name = _directory_name(table, owner)
        for first, size in blocks:
            self._counts.put(name + first, fmt.pack_u32(size))
        self._keep(table, owner, blocks)

    def build_from(self, table: Table, owner: bytes, blocks: list[tuple[bytes, int]]) -> None:
        """Take the blocks (first key, rows) as given: for rows whose keys are known by arithmetic. O(blocks)."""
        name = _directory_name(table, owner)
        for first, size in blocks:
            self._counts.put(name + first, fmt.pack_u32(size))
        self._keep(table, owner, blocks)

    def open(self, table: Table, owner: bytes) -> Directory:
        """Return the directory of a counted owner. O(1); O(blocks) the first time."""
        directory = self._open.get((table.number, owner))
        if directory is None:
            directory = self._keep(table, owner, list(self.blocks(table, owner)))
        return directory

    def _keep(self, table: Table, owner: bytes, blocks: list[tuple[bytes, int]]) -> Directory:
        """Return the directory of these blocks, which is in memory from now on: law 4."""
        self._make_room(len(blocks))
        directory = self._open[table.number, owner] = Directory(self._store, table, owner, blocks)
        return directory

    def is_open(self, table: Table, owner: bytes) -> bool:
        """Tell whether the directory of a counted owner is in memory: else `open` reads in order."""
        return (table.number, owner) in self._open

    def directories(self) -> list[tuple[Table, bytes, list[tuple[bytes, int]]]]:
        """Return (table, owner, blocks) of each directory that is in memory."""
        return [
            (self._store.tables[number], owner, directory.listed()) for (number, owner), directory in self._open.items()
        ]

    def _make_room(self, blocks: int) -> None:
        """Drop the directories opened first until there is room for another of `blocks` blocks."""
        if (
            len(self._open) < _DIRECTORIES_MAX
            and blocks + sum(known.blocks for known in self._open.values()) <= _BLOCKS_MAX
        ):
            return
        for key in list(self._open)[: max(len(self._open) // 2, 1)]:
            del self._open[key]

    def forget_rows(self, names: Iterable[bytes]) -> None:
        """Drop the directories whose rows in `counts` another server has changed. O(names) if there are any directories."""
        if self._open:
            for name in names:
                self._open.pop((name[0], name[1 : 5 if name[0] == fmt.KEYS else 9]), None)

    def forget(self, table: Table, owner: bytes) -> None:
        """Drop the directory of an owner that is gone."""
        self._open.pop((table.number, owner), None)

    # --- questions, for owners with a directory and without ------------------------------------------------------------------

    def rank(self, table: Table, owner: bytes, suffix: bytes, *, counted: bool) -> int:
        """Return how many rows of the owner stand before `suffix`. O(log n)."""
        if counted:
            return self.open(table, owner).rank(suffix)
        keys = table.take_keys(owner, BLOCK_ROWS)
        return bisect_left(keys, owner + suffix)

    def take(self, table: Table, owner: bytes, index: int, rows: int, *, counted: bool) -> list[tuple[bytes, bytes]]:
        """Return `rows` rows of the owner from number `index`, ascending; the caller knows that they are there. O(log n + rows)."""
        if not counted:
            return table.take(owner, index + rows)[index:]
        first, skip = self.open(table, owner).seek(index)
        return table.take(owner + first, skip + rows)[skip:]

    def take_keys(self, table: Table, owner: bytes, index: int, rows: int, *, counted: bool) -> list[bytes]:
        """As `take`, the keys only."""
        if not counted:
            return table.take_keys(owner, index + rows)[index:]
        if rows == 1:
            return [self.open(table, owner).key_at(index)]
        first, skip = self.open(table, owner).seek(index)
        return table.take_keys(owner + first, skip + rows)[skip:]

    def keys_at(self, table: Table, owner: bytes, indexes: Sequence[int]) -> list[bytes]:
        """Return the keys of rows of a counted owner, by their numbers, which ascend. O(log n) each."""
        return self.open(table, owner).keys_at(indexes)

    def blocks(self, table: Table, owner: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield (first key, rows) of an owner's blocks, from the rows."""
        name = _directory_name(table, owner)
        for key, row in self._counts.prefix(name):
            yield key[len(name) :], fmt.unpack_u32(row)
