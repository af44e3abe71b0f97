"""Order statistics: ranks and selections agree with a sorted list, whatever was added and discarded in whatever order."""

from __future__ import annotations

import random
from bisect import bisect_left
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lmdbredis import format as fmt
from lmdbredis import ranks as room
from lmdbredis.ranks import BLOCK_ROWS, Ranks
from lmdbredis.store import Store
from tests.crash import FaultyDisk

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER = fmt.pack_u64(7)
NEIGHBOURS = (fmt.pack_u64(6), fmt.pack_u64(8))  # whose rows stand before and after


class Counted:
    """An owner's rows in a table, told to its directory, beside a sorted list of the same."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.store = Store(directory, "a" * 40, map_bytes=1 << 30, segment_bytes=1 << 16)
        self.ranks = Ranks(self.store)
        self.table = self.store.tables[fmt.SETS]
        self.rows: list[bytes] = []
        self.counted = False
        for owner in NEIGHBOURS:
            for number in range(300):
                self.table.put(owner + b"%d" % number, b"")

    def add(self, suffix: bytes) -> None:
        """Add a row as a datatype does: the row first, then the directory."""
        at = bisect_left(self.rows, suffix)
        if self.rows[at : at + 1] == [suffix]:
            return
        self.table.put(OWNER + suffix, b"v" + suffix)
        self.rows.insert(at, suffix)
        if self.counted:
            self.ranks.open(self.table, OWNER).add(suffix)
        elif len(self.rows) > BLOCK_ROWS:
            self.ranks.build(self.table, OWNER)
            self.counted = True

    def discard(self, suffix: bytes) -> None:
        """Delete a row, there or not."""
        if suffix in self.rows:
            self.table.delete(OWNER + suffix)
            self.rows.remove(suffix)
            if self.counted:
                self.ranks.open(self.table, OWNER).discard(suffix)

    def discard_together(self, suffixes: list[bytes]) -> None:
        """Delete rows that are there."""
        self.table.delete_many([OWNER + suffix for suffix in suffixes])
        for suffix in suffixes:
            self.rows.remove(suffix)
        if self.counted:
            self.ranks.open(self.table, OWNER).discard_many(suffixes)

    def check(self, chance: random.Random, tries: int = 8) -> None:
        """Compare everything that can be asked."""
        for _ in range(tries):
            suffix = b"%d" % chance.randrange(5000)
            assert bisect_left(self.rows, suffix) == self.ranks.rank(self.table, OWNER, suffix, counted=self.counted)
            if self.rows:
                index = chance.randrange(len(self.rows))
                count = chance.randint(1, len(self.rows) - index)
                expected = [OWNER + row for row in self.rows[index : index + count]]
                assert expected == self.ranks.take_keys(self.table, OWNER, index, count, counted=self.counted)
                assert [(key, b"v" + key[8:]) for key in expected] == self.ranks.take(
                    self.table, OWNER, index, count, counted=self.counted
                )

    def check_blocks(self) -> None:
        """Count every block's rows, and compare memory with what is written."""
        if not self.counted:
            assert list(self.ranks.blocks(self.table, OWNER)) == []
            return
        blocks = list(self.ranks.blocks(self.table, OWNER))
        assert self.ranks.open(self.table, OWNER).listed() == blocks
        assert self.ranks.open(self.table, OWNER).blocks == len(blocks)
        firsts = [first for first, _ in blocks]
        assert firsts[0] == b""
        ends = [bisect_left(self.rows, first) for first in firsts[1:]] + [len(self.rows)]
        assert [size for _, size in blocks] == [end - begin for begin, end in zip([0, *ends], ends, strict=False)]

    def log(self) -> None:
        """End the batch."""
        self.store.append(1)

    def close(self) -> None:
        """Close the store."""
        self.store.close(checkpoint=False)


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Counted]:
    made = Counted(tmp_path / "store")
    yield made
    made.close()


@pytest.mark.parametrize("order", ["ascending", "descending", "random", "middle"])
def test_many(counted: Counted, order: str):
    """Thousands of rows come and go again in any order; cuts and joins on the way keep every count."""
    chance = random.Random(order)
    suffixes = [b"%05d" % number for number in range(4000)]
    if order == "descending":
        suffixes.reverse()
    elif order == "random":
        chance.shuffle(suffixes)
    elif order == "middle":
        suffixes.sort(key=lambda suffix: abs(int(suffix) - 2000), reverse=True)
    for number, suffix in enumerate(suffixes):
        counted.add(suffix)
        if number % 500 == 0:
            counted.log()
            counted.check(chance)
            counted.check_blocks()
    grown = counted.ranks.open(counted.table, OWNER).blocks
    assert 4000 / BLOCK_ROWS <= grown <= 4000 / room._JOIN_ROWS + 1
    for number, suffix in enumerate(suffixes):
        counted.discard(suffix)
        if number % 500 == 0:
            counted.log()
            counted.check(chance)
            counted.check_blocks()
    counted.check(chance)
    counted.check_blocks()

    assert counted.ranks.open(counted.table, OWNER).blocks < grown / 4, "small neighbours are joined"


def test_groups(counted: Counted, monkeypatch: pytest.MonkeyPatch):
    """A directory of many groups of blocks answers as one of few does."""
    monkeypatch.setattr(room, "_GROUP_BLOCKS", 4)
    chance = random.Random(2)
    for number in chance.sample(range(5000), 5000):
        counted.add(b"%d" % number)
    directory = counted.ranks.open(counted.table, OWNER)
    assert len(directory._groups) > 5
    counted.check(chance, 200)
    counted.check_blocks()
    for number in chance.sample(range(5000), 4900):
        counted.discard(b"%d" % number)
    counted.check(chance, 200)
    counted.check_blocks()


def test_build(counted: Counted):
    """A directory built from rows that are there counts them all, and only the owner's."""
    for number in (0, 1, BLOCK_ROWS // 2, BLOCK_ROWS // 2 + 1, BLOCK_ROWS, 1000, 1024):
        owner = fmt.pack_u64(1000 + number)
        for suffix in range(number):
            counted.table.put(owner + b"%05d" % suffix, b"")
        counted.ranks.build(counted.table, owner)
        blocks = list(counted.ranks.blocks(counted.table, owner))

        assert number == sum(size for _, size in blocks)
        assert all(size <= BLOCK_ROWS // 2 for _, size in blocks)
        assert blocks[0][0] == b""


def test_build_from(counted: Counted):
    """A directory taken as given is the one that answers, now and after it was dropped from memory."""
    for number in range(600):
        counted.rows.append(b"%05d" % number)
        counted.table.put(OWNER + b"%05d" % number, b"v%05d" % number)
    counted.ranks.build_from(counted.table, OWNER, [(b"", 200), (b"00200", 200), (b"00400", 200)])
    counted.counted = True
    chance = random.Random(3)
    counted.check_blocks()
    counted.check(chance)
    counted.ranks.forget(counted.table, OWNER)
    counted.check_blocks()
    counted.check(chance)


def test_evicted(counted: Counted, monkeypatch: pytest.MonkeyPatch):
    """Directories that had to make room are read again when they are asked for."""
    monkeypatch.setattr(room, "_DIRECTORIES_MAX", 4)
    for number in range(700):
        counted.add(b"%05d" % number)
    owners = [fmt.pack_u64(100 + number) for number in range(10)]
    for owner in owners:
        counted.ranks.build_from(counted.table, owner, [(b"", 0)])
        assert len(counted.ranks.directories()) <= 4
    for owner in owners:
        counted.ranks.open(counted.table, owner)
        counted.add(owner)
    counted.check(random.Random(4))
    counted.check_blocks()


def test_grows_while_a_commit_is_on_its_way(tmp_path: Path):
    """Blocks are not cut while that would mean to wait; they grow, answer rightly, and are cut later."""
    import threading

    class Held(FaultyDisk):
        gate = threading.Event()

        def commit(self, transaction: object) -> None:
            self.gate.wait(30)
            super().commit(transaction)

    Held.gate.set()
    disk = Held()
    made = Counted(tmp_path / "store")
    made.close()
    made.store = Store(tmp_path / "store", "a" * 40, disk=disk, map_bytes=1 << 30, segment_bytes=1 << 16)
    made.ranks, made.table = Ranks(made.store), made.store.tables[fmt.SETS]
    for number in range(BLOCK_ROWS + 10):
        made.add(b"%05d" % (number * 10))
    made.log()
    Held.gate.clear()
    made.store.begin_commit()
    before = made.ranks.open(made.table, OWNER).blocks
    for number in range(BLOCK_ROWS * 2):
        made.add(b"%05d" % (number + 7))
    made.log()
    assert made.store.is_committing
    assert before == made.ranks.open(made.table, OWNER).blocks
    Held.gate.set()
    made.check(random.Random(5))
    for number in range(BLOCK_ROWS):
        made.add(b"%05d" % (number * 3 + 10_000))
    made.check(random.Random(5))
    made.check_blocks()
    assert before < made.ranks.open(made.table, OWNER).blocks
    made.close()


class Machine(RuleBasedStateMachine):
    """Rows, batches, commits, repairs and evictions in any order, beside a sorted list."""

    @initialize(start=st.sampled_from((0, BLOCK_ROWS - 3, 1000)))
    def begin(self, start: int) -> None:
        """Open a store, with some rows already."""
        import tempfile

        self.holder = tempfile.TemporaryDirectory()
        self.counted = Counted(Path(self.holder.name) / "store")
        self.chance = random.Random(start)
        for number in self.chance.sample(range(5000), start):
            self.counted.add(b"%d" % number)
        self.end_batch()

    @rule(numbers=st.lists(st.integers(0, 4999), max_size=300), deletes=st.booleans())
    def change(self, numbers: list[int], deletes: bool) -> None:
        """Add or discard rows."""
        for number in numbers:
            (self.counted.discard if deletes else self.counted.add)(b"%d" % number)

    @rule(low=st.integers(0, 4999), size=st.integers(0, 2000))
    def discard_range(self, low: int, size: int) -> None:
        """Discard many neighbours."""
        self.counted.discard_together(self.counted.rows[low : low + size])

    @rule(share=st.floats(0, 1))
    def discard_some(self, share: float) -> None:
        """Discard some rows, in no order."""
        self.counted.discard_together(self.chance.sample(self.counted.rows, int(len(self.counted.rows) * share)))

    @rule()
    def end_batch(self) -> None:
        """Log what was done: from here on it survives a repair."""
        self.counted.log()
        self.kept = (list(self.counted.rows), self.counted.counted)

    @rule()
    def commit(self) -> None:
        """Begin a commit, between batches."""
        self.end_batch()
        if not self.counted.store.is_committing:
            self.counted.store.begin_commit()

    @rule()
    def repair(self) -> None:
        """Go back to the last batch."""
        self.counted.store.repair()
        rows, self.counted.counted = self.kept
        self.counted.rows = list(rows)

    @rule()
    def forget(self) -> None:
        """Drop the directory from memory."""
        self.counted.ranks.forget(self.counted.table, OWNER)

    @rule()
    def check_blocks(self) -> None:
        """Count every block."""
        self.counted.check_blocks()

    @invariant()
    def answers(self) -> None:
        """Ranks and selections are right."""
        if hasattr(self, "counted"):
            self.counted.check(self.chance, 2)

    def teardown(self) -> None:
        """Close."""
        if hasattr(self, "counted"):
            self.counted.check_blocks()
            self.counted.close()
            self.holder.cleanup()


TestMachine = Machine.TestCase
