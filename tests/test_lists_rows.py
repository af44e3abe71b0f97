"""Lists as rows: random sequences against a plain Python list, with every law of the rows checked.

Laws:
- After each step the datatype answers as the list does; after each sequence `check` finds nothing wrong in the store.
- The numbers that decide when something else happens (blocks, windows, strides) are made small, so that short sequences
  meet every threshold; a few long lists run with the real ones.
- Batches end, commits are on their way and the store is repaired between steps: nobody may notice.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbredis import check, ranks
from lmdbredis import format as fmt
from lmdbredis.datatypes import lists
from lmdbredis.entry import Entry
from lmdbredis.errors import LIST_EXHAUSTED, WRONG_TYPE, ReplyError
from lmdbredis.keyspace import Keyspace
from lmdbredis.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lmdbredis.database import Database

K = b"k"
NOW_MS = 1_000_000


class Room:
    """A store with one list under test, and its model."""

    def __init__(self, directory: Path, cache_bytes: int = 1 << 20) -> None:
        self.store = Store(directory, "0" * 40)
        self.keyspace = Keyspace(self.store, 2, cache_bytes)
        self.keyspace.now_ms = NOW_MS
        self.db: Database = self.keyspace.databases[0]
        self.model: list[bytes] = []

    @property
    def entry(self) -> Entry:
        found = self.db.find(K)
        assert isinstance(found, Entry)
        return found

    def end_batch(self) -> None:
        """Log the batch and end it, as the executor does."""
        self.store.append(NOW_MS)
        self.keyspace.cache.trim()
        self.store.poll()
        self.store.settle()

    def begin(self, elements: list[bytes]) -> None:
        """Let the list be these elements, whatever it was."""
        self.db.delete(K)
        self.model = list(elements)
        if elements:
            lists.push(self.db, K, elements, False)

    def check(self) -> None:
        """Hold the rows against the model and the laws."""
        assert lists.get_range(self.db, K, 0, -1) == self.model
        assert (self.db.find(K) is None) == (not self.model)
        assert check.check_live(self.keyspace) == []

    # One method for each operation: done on both sides, answers compared.

    def push(self, elements: list[bytes], left: bool) -> None:
        self.model = [*reversed(elements), *self.model] if left else [*self.model, *elements]

        assert lists.push(self.db, K, elements, left) == len(self.model)

    def pop(self, left: bool) -> None:
        expected = (self.model.pop(0) if left else self.model.pop()) if self.model else None

        assert lists.pop(self.db, K, left) == expected

    def pop_many(self, count: int, left: bool) -> None:
        count = min(count, len(self.model))
        at = slice(0, count) if left else slice(len(self.model) - count, None)
        expected: list[bytes] | None = self.model[at] if left else self.model[at][::-1]
        if not self.model:
            expected = None
        del self.model[at]

        assert lists.pop_many(self.db, K, count, left) == expected

    def insert(self, pivot: bytes, element: bytes, before: bool) -> None:
        expected = -1 if self.model else 0
        if pivot in self.model:
            self.model.insert(self.model.index(pivot) + (not before), element)
            expected = len(self.model)

        assert lists.insert(self.db, K, pivot, element, before=before) == expected

    def remove(self, element: bytes, count: int) -> None:
        there = [index for index, found in enumerate(self.model) if found == element]
        gone = there[:count] if count > 0 else there[count:]
        for index in reversed(gone):
            del self.model[index]

        assert lists.remove(self.db, K, element, abs(count), back=count < 0) == len(gone)

    def trim(self, start: int, stop: int) -> None:
        self.model = sliced(self.model, start, stop)
        lists.trim(self.db, K, start, stop)

    def put(self, index: int, element: bytes) -> None:
        expected: bool | None = -len(self.model) <= index < len(self.model)
        if expected:
            self.model[index] = element

        assert lists.put(self.db, K, index, element) is (expected if self.model else None)

    def move(self, from_left: bool, to_left: bool) -> None:
        expected = None
        if self.model:
            expected = self.model.pop(0 if from_left else -1)
            self.model.insert(0 if to_left else len(self.model), expected)

        assert lists.move(self.db, K, K, from_left=from_left, to_left=to_left) == expected

    def read(self, start: int, stop: int) -> None:
        expected = self.model[start] if -len(self.model) <= start < len(self.model) else None

        assert lists.get_range(self.db, K, start, stop) == sliced(self.model, start, stop)
        assert lists.get(self.db, K, start) == expected
        assert lists.length(self.db, K) == len(self.model)

    def find(self, element: bytes, rank: int, matches_max: int, scanned_max: int) -> None:
        indexes = range(len(self.model)) if rank > 0 else range(len(self.model) - 1, -1, -1)
        seen = indexes[:scanned_max] if scanned_max else indexes
        expected = [index for index in seen if self.model[index] == element][abs(rank) - 1 :]
        expected = expected[:matches_max] if matches_max else expected
        found = lists.find(self.db, K, element, rank=rank, matches_max=matches_max, scanned_max=scanned_max)

        assert found == (expected if self.model else None)

    def copy(self) -> None:
        """Let a copy take the list's place."""
        if not self.model:
            return
        lists.copy(self.db, self.entry, self.db, b"copy", 0)
        self.db.rename(b"copy", K, self.db)

    def disturb(self, how: str) -> None:
        """End the batch, and what may happen then."""
        self.end_batch()
        if how == "commit" and not self.store.is_committing:
            self.store.begin_commit()
        elif how == "repair":
            self.store.repair()


def sliced(model: list[bytes], start: int, stop: int) -> list[bytes]:
    """Return the elements from `start` to `stop`, both inside, counted from the end if negative."""
    start = max(start + len(model), 0) if start < 0 else start
    return model[start : max(stop + len(model) + 1, 0) if stop < 0 else stop + 1]


elements = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f", b""])
runs = st.lists(elements, min_size=1, max_size=12)
indexes = st.integers(-12, 12) | st.integers(-60, 60)
sides = st.booleans()
steps: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("push"), runs, sides),
    st.tuples(st.just("push"), elements.map(lambda element: [element]), sides),
    st.tuples(st.just("pop"), sides),
    st.tuples(st.just("pop_many"), st.integers(0, 12), sides),
    st.tuples(st.just("insert"), elements, elements, sides),
    st.tuples(st.just("insert"), elements, elements, sides),
    st.tuples(st.just("remove"), elements, st.sampled_from([1, -1, 2, -2, 3, -7])),
    st.tuples(st.just("trim"), st.integers(0, 5), st.integers(-4, -1)),
    st.tuples(st.just("trim"), indexes, indexes),
    st.tuples(st.just("put"), indexes, elements),
    st.tuples(st.just("move"), sides, sides),
    st.tuples(st.just("read"), indexes, indexes),
    st.tuples(st.just("find"), elements, st.sampled_from([1, -1, 2, -3]), st.integers(0, 3), st.integers(0, 40)),
    st.tuples(st.just("copy")),
    st.tuples(st.just("disturb"), st.sampled_from(["batch", "commit", "repair"])),
)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """A store of its own."""
    made = Room(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every threshold at a few rows, and positions that run out after two halvings."""
    for name, value in {
        "BLOCK_ROWS": 8,
        "_JOIN_ROWS": 3,
        "_JOINED_ROWS_MAX": 6,
        "_BACKLOG_ROWS": 16,
        "_COMMIT_ROWS": 32,
        "_GROUP_BLOCKS": 4,
    }.items():
        monkeypatch.setattr(ranks, name, value)
    for name, value in {
        "BLOCK_ROWS": 8,
        "STRIDE": 8,
        "_FIRST_BLOCKS_ROWS": 4,
        "_POINT_READS_MAX": 3,
        "_WALK_ROWS": 5,
        "_ABANDON_ROWS_MIN": 12,
        "_ABANDON_RATIO": 3,
        "_WINDOW_HALF_ROWS": 2,
        "_WINDOW_GAP_MIN": 2,
    }.items():
        monkeypatch.setattr(lists, name, value)
    for name, value in {"BLOCK_ROWS": 8, "STRIDE": 8, "_BLOCK_ROWS_MAX": 32}.items():
        monkeypatch.setattr(check, name, value)


@given(first=st.lists(elements, max_size=40), script=st.lists(steps, max_size=40))
def test_any_sequence_answers_as_a_python_list(
    room: Room, small: None, first: list[bytes], script: list[tuple[Any, ...]]
):
    """Every operation, in any order, on lists around every (small) threshold."""
    room.begin(first)
    for name, *words in script:
        getattr(room, name)(*words)
    room.check()
    room.end_batch()
    room.check()


def random_step(chance: random.Random, room: Room, number: int) -> None:
    """Do one operation somewhere in a long list of elements that are nearly all different."""
    size = len(room.model)
    somewhere = chance.choice(room.model)
    new = b"new%d" % number
    kind = chance.randrange(12)
    if kind < 4:
        room.insert(somewhere, new, chance.random() < 0.5)
    elif kind == 4:
        room.remove(somewhere, chance.choice((1, -1)))
    elif kind == 5:
        room.put(chance.randrange(-size, size), new)
    elif kind == 6:
        room.push([new] * chance.choice((1, 1, 3, 300)), chance.random() < 0.5)
    elif kind == 7:
        room.pop(chance.random() < 0.5)
    elif kind == 8:
        room.pop_many(chance.choice((1, 3, 300)), chance.random() < 0.5)
    elif kind == 9:
        room.move(chance.random() < 0.5, chance.random() < 0.5)
    elif kind == 10:
        room.trim(chance.randrange(3), -chance.randrange(1, 4))
    else:
        room.disturb(chance.choice(("batch", "commit", "repair") if chance.random() < 0.1 else ("batch",)))
    at = chance.randrange(-size, size)
    room.read(at, at + 20)


@pytest.mark.parametrize("size", [200, 256, 257, 1000, 5000])
def test_long_lists_answer_as_a_python_list(room: Room, size: int):
    """The same with the real thresholds: lists that become uneven, counted, long and short again."""
    chance = random.Random(size)
    room.begin([b"%d" % number for number in range(size)])
    for number in range(300):
        random_step(chance, room, number)
        if not room.model:
            break
    room.check()
    room.pop_many(len(room.model) // 2, True)
    room.check()
    room.trim(len(room.model) // 20, len(room.model) // 10)
    room.check()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("size", [2, 100, 3000])
def test_one_gap_takes_thousands(room: Room, before: bool, size: int):
    """Insertions that all want the same gap find room, and the rows moved for them stay few."""
    room.begin([b"%d" % number for number in range(size)])
    pivot = b"%d" % (size // 2)
    puts = 0
    table = room.store.tables[fmt.LISTS]
    for number in range(2000):
        room.insert(pivot, b"new%d" % number, before)
        puts += sum(row is not None for row in table.batch.values())
        room.end_batch()
    room.check()

    assert puts < 2000 * 64


def test_a_gap_that_moves_takes_thousands(room: Room):
    """Each insertion beside the one before: the worst case for halving from both sides."""
    room.begin([b"%d" % number for number in range(1000)])
    pivot = b"500"
    for number in range(2000):
        new = b"new%d" % number
        room.insert(pivot, new, number % 2 == 0)
        pivot = new
    room.check()


def even(entry: Entry) -> bool:
    return not entry.flags & fmt.UNEVEN


@pytest.mark.parametrize("size", [6, 1000])
def test_what_happens_at_the_ends_keeps_a_list_even(room: Room, size: int):
    """Pushes, pops, trims, and insertions and removals at an end leave index arithmetic intact; in the middle they do not."""
    room.begin([b"%d" % number for number in range(size)])
    room.insert(b"0", b"first", True)
    room.insert(b"%d" % (size - 1), b"last", False)
    room.remove(b"first", 1)
    room.remove(b"last", -1)
    room.push([b"x", b"x"], True)
    room.push([b"x", b"x"], False)
    room.remove(b"x", 2)
    room.remove(b"x", -2)
    room.pop(True)
    room.put(1, b"one")
    room.trim(0, -2)
    room.check()

    assert even(room.entry)

    room.insert(room.model[0], b"second", False)
    room.check()

    assert not even(room.entry)


def test_a_short_list_spaced_anew_is_even_again(room: Room):
    """When the window of rows to be spaced is the whole of an uncounted list, the list is even afterwards."""
    room.begin([b"first", b"last"])
    seen = set()
    for number in range(25):
        room.insert(b"first", b"%d" % number, False)
        seen.add(even(room.entry))
        room.check()

    assert seen == {True, False}


def test_a_large_cut_takes_a_new_id(room: Room):
    """A trim that keeps few of many copies the few; the many are garbage, not deletes."""
    room.begin([b"%d" % number for number in range(20_000)])
    old = room.entry.id
    room.end_batch()
    room.trim(10, 19)

    assert room.entry.id != old
    assert [row for row in room.store.tables[fmt.LISTS].batch.values() if row is None] == []
    assert fmt.pack_u64(old) in room.keyspace.garbage.batch
    room.check()


def test_positions_do_not_wrap(room: Room):
    """A list that has walked to either end of the numbers is moved back; one that is too long for that refuses."""
    for left in (True, False):
        room.begin([b"a", b"b", b"c"])
        start = lists.STRIDE if left else lists.POSITION_MAX - 4 * lists.STRIDE
        entry = room.entry
        rows = [
            (entry.owner + fmt.pack_u64(start + number * lists.STRIDE), row) for number, row in enumerate(room.model)
        ]
        room.trim(1, 0)  # gone, and built again where the numbers end
        room.model = [b"a", b"b", b"c"]
        entry = room.db.create(K, fmt.LIST)
        for row_key, row in rows:
            room.store.tables[fmt.LISTS].put(entry.owner + row_key[8:], row)
        entry.first, entry.last, entry.count = start, start + 2 * lists.STRIDE, 3
        room.db.changed(entry)
        room.check()
        ident = entry.id
        for number in range(10):
            room.push([b"%d" % number], left)
            room.check()

        assert room.entry.id != ident


def test_a_list_too_long_to_be_moved_refuses(room: Room, monkeypatch: pytest.MonkeyPatch):
    """A refused push changes nothing."""
    monkeypatch.setattr(lists, "_RECENTRE_ROWS_MAX", 2)
    monkeypatch.setattr(lists, "START", lists.STRIDE)
    room.begin([b"a", b"b", b"c"])
    room.push([b"d"], True)
    with pytest.raises(ReplyError) as caught:
        lists.push(room.db, K, [b"e"], True)

    assert caught.value.text == LIST_EXHAUSTED
    room.check()


def test_a_copy_is_even_and_keeps_what_it_is_told(room: Room):
    """A copy of an uneven list has the same elements, its own rows, and the expiry it is given; it replaces what was there."""
    room.begin([b"%d" % number for number in range(600)])
    room.remove(b"300", 1)
    other = room.keyspace.databases[1]
    lists.push(other, K, [b"old"], True)
    lists.copy(room.db, room.entry, other, K, NOW_MS + 5)
    copied = other.find(K)

    assert isinstance(copied, Entry)
    assert even(copied)
    assert copied.expire_at_ms == NOW_MS + 5
    assert lists.get_range(other, K, 0, -1) == room.model
    assert check.check_live(room.keyspace) == []
    room.pop(True)
    assert lists.length(other, K) == len(room.model) + 1


def test_another_type_is_refused_before_anything_changes(room: Room):
    """Every function refuses a key of another type; a move refuses it as a target, and the source keeps its element."""
    room.db.put_string(b"s", b"text")
    calls = [
        lambda: lists.push(room.db, b"s", [b"a"], True),
        lambda: lists.push(room.db, b"s", [b"a"], True, creates=False),
        lambda: lists.pop(room.db, b"s", True),
        lambda: lists.pop_many(room.db, b"s", 1, True),
        lambda: lists.move(room.db, b"s", K, from_left=True, to_left=True),
        lambda: lists.move(room.db, K, b"s", from_left=True, to_left=True),
        lambda: lists.length(room.db, b"s"),
        lambda: lists.get(room.db, b"s", 0),
        lambda: lists.get_range(room.db, b"s", 0, -1),
        lambda: lists.find(room.db, b"s", b"a", rank=1, matches_max=1, scanned_max=0),
        lambda: lists.put(room.db, b"s", 0, b"a"),
        lambda: lists.insert(room.db, b"s", b"a", b"b", before=True),
        lambda: lists.remove(room.db, b"s", b"a", 0),
        lambda: lists.trim(room.db, b"s", 0, 0),
    ]
    room.begin([b"a"])
    for call in calls:
        with pytest.raises(ReplyError) as caught:
            call()

        assert caught.value.text == WRONG_TYPE
    room.check()
