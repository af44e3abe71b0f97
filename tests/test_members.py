"""Hashes and sets as rows: random sequences against a plain dict and set, with the laws of rows, directory and deck checked.

Laws:
- After each step the datatype answers as the model does; after each sequence the rows are the model's, the directory counts
  them exactly, and a deck holds nothing but members, each once.
- The numbers that decide when something else happens (blocks, portions, probes) are made small, so that short sequences meet
  every threshold.
- Batches end, commits are on their way and the store is repaired between steps: nobody may notice.
- What is random must be uniform: held against chi-square, with seeds that do not change.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbredis import format as fmt
from lmdbredis import ranks
from lmdbredis.datatypes import hashes, members, sets
from lmdbredis.entry import Entry
from lmdbredis.format import HASH, SET
from lmdbredis.keyspace import Keyspace
from lmdbredis.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lmdbredis.database import Database

K = b"k"
NOW_MS = 1_000_000
LONG = b"l" * 470  # longer than what a stored name keeps of a long one: such names share their prefix
NAMES = [b"", b"\x00", b"\xff", *(b"n%d" % n for n in range(12)), *(LONG + b"%020d" % n for n in range(6))]


class Room:
    """A store, and what was put under K in a hash or a set."""

    def __init__(self, directory: Path) -> None:
        self.store = Store(directory, "0" * 40)
        self.keyspace = Keyspace(self.store, 2, 1 << 20)
        self.keyspace.now_ms = NOW_MS
        self.db: Database = self.keyspace.databases[0]
        self.random = random.Random(1)
        self.hash: dict[bytes, bytes] = {}
        self.set: set[bytes] = set()

    def entry(self, kind: int, key: bytes = K) -> Entry | None:
        found = self.db.find(key)
        assert found is None or isinstance(found, Entry)
        assert found is None or found.kind == kind
        return found

    def end_batch(self) -> None:
        """Log the batch and end it, as the executor does."""
        self.store.append(NOW_MS)
        self.keyspace.cache.trim()
        self.store.poll()

    def disturb(self, how: int) -> None:
        """Let something happen to the store that nobody may notice."""
        self.end_batch()
        if how == 1 and not self.store.is_committing:
            self.store.begin_commit()
        elif how == 2:
            self.store.repair()
        elif how == 3:
            self.store.settle()

    def fill_set(self, names: list[bytes], key: bytes = K) -> Entry:
        entry = self.db.edit_or_create(key, SET)
        for name in names:
            sets.add(self.db, entry, name, self.random)
        return entry

    def clear(self) -> None:
        self.keyspace.flush()
        self.end_batch()
        self.hash, self.set = {}, set()

    def check_directory(self, entry: Entry, table_number: int) -> None:
        """The directory, in memory and in rows, counts each block's rows."""
        table = self.store.tables[table_number]
        row_keys = table.take_keys(entry.owner, entry.count)
        assert len(row_keys) == entry.count
        assert all(row_key.startswith(entry.owner) for row_key in row_keys)
        if not entry.flags & fmt.COUNTED:
            assert entry.count <= members.BLOCK_ROWS
            return
        for at, row_key in enumerate(row_keys):
            assert self.keyspace.ranks.rank(table, entry.owner, row_key[8:], counted=True) == at
        written = list(self.keyspace.ranks.blocks(table, entry.owner))
        assert sum(size for _, size in written) == entry.count
        self.keyspace.ranks.forget(table, entry.owner)
        assert [
            self.keyspace.ranks.rank(table, entry.owner, row_key[8:], counted=True) for row_key in row_keys
        ] == list(range(entry.count))

    def check(self) -> None:
        """Hold hash and set against their models and their laws."""
        entry = self.entry(HASH, b"h")
        if self.hash:
            assert entry is not None
            assert hashes.everything(self.db, entry) == self.hash
            assert sorted(hashes.fields(self.db, entry)) == sorted(self.hash)
            assert Counter(hashes.values(self.db, entry)) == Counter(self.hash.values())
            self.check_directory(entry, fmt.HASHES)
        else:
            assert entry is None
        entry = self.entry(SET)
        if self.set:
            assert entry is not None
            found = sets.everything(self.db, entry)
            assert sorted(found) == sorted(self.set)
            self.check_directory(entry, fmt.SETS)
            self.check_deck(entry)
        else:
            assert entry is None

    def check_deck(self, entry: Entry) -> None:
        deck = self.keyspace.decks.get(entry.id)
        if deck is not None:
            there = set(self.store.tables[fmt.SETS].take_keys(entry.owner, entry.count))
            assert set(deck.row_keys) <= there
            assert len(set(deck.row_keys)) == len(deck.row_keys)
            assert deck.places == {row_key: place for place, row_key in enumerate(deck.row_keys)}


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """A room whose thresholds are small."""
    for module in (ranks, hashes, sets, members):
        monkeypatch.setattr(module, "BLOCK_ROWS", 8)
    monkeypatch.setattr(ranks, "_JOIN_ROWS", 3)
    monkeypatch.setattr(ranks, "_JOINED_ROWS_MAX", 6)
    monkeypatch.setattr(ranks, "_BACKLOG_ROWS", 16)
    monkeypatch.setattr(ranks, "_COMMIT_ROWS", 32)
    monkeypatch.setattr(ranks, "_GROUP_BLOCKS", 4)
    for name, value in (
        ("_PORTION_FIRST", 2),
        ("_PORTION_MAX", 4),
        ("_PROBES_MAX", 2),
        ("_NEAR_ROWS", 3),
        ("SMALL_MAX", 4),
    ):
        monkeypatch.setattr(members, name, value)
    monkeypatch.setattr(sets, "_DECKS_MAX", 2)
    made = Room(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Room]:
    """A room with the real thresholds."""
    made = Room(tmp_path)
    yield made
    made.store.close()


names = st.sampled_from(NAMES)
some = st.lists(names, min_size=1, max_size=12)
steps = st.one_of(
    st.tuples(st.just("disturb"), st.integers(0, 3)),
    st.tuples(st.just("hset"), st.dictionaries(names, st.binary(max_size=3), min_size=1, max_size=12)),
    st.tuples(st.just("hdel"), some),
    st.tuples(st.just("sadd"), some),
    st.tuples(st.just("srem"), some),
    st.tuples(st.just("spop"), st.integers(1, 4)),
    st.tuples(st.just("spop many"), st.integers(1, 25)),
    st.tuples(st.just("copy"), st.just(0)),
    st.tuples(st.just("scan"), st.integers(1, 6)),
)


@given(script=st.lists(steps, max_size=40))
def test_sequences(room: Room, script: list[tuple[str, object]]):
    """Whatever is done in whatever order, rows, directory and deck obey their laws."""
    room.clear()
    for name, what in script:
        STEPS[name](room, what)
        room.end_batch()
        room.check()


def _hset(room: Room, pairs: dict[bytes, bytes]) -> None:
    entry = room.db.edit_or_create(b"h", HASH)
    new = sum(hashes.put(room.db, entry, field, value) for field, value in pairs.items())

    assert new == len(pairs.keys() - room.hash.keys())

    room.hash |= pairs


def _hdel(room: Room, fields: list[bytes]) -> None:
    entry = room.entry(HASH, b"h")
    if entry is not None:
        assert hashes.delete(room.db, entry, fields) == len(room.hash.keys() & set(fields))
    for field in fields:
        room.hash.pop(field, None)


def _sadd(room: Room, added: list[bytes]) -> None:
    entry = room.db.edit_or_create(K, SET)

    assert sum(sets.add(room.db, entry, name, room.random) for name in added) == len(set(added) - room.set)

    room.set |= set(added)


def _srem(room: Room, gone: list[bytes]) -> None:
    entry = room.entry(SET)
    if entry is not None:
        assert sets.delete(room.db, entry, gone) == len(room.set & set(gone))
    room.set -= set(gone)


def _spop(room: Room, times: int) -> None:
    for _ in range(times):
        entry = room.entry(SET)
        if entry is not None:
            room.set.remove(sets.pop(room.db, entry, room.random))


def _spop_many(room: Room, count: int) -> None:
    entry = room.entry(SET)
    if entry is not None:
        popped = sets.pop_many(room.db, entry, count, room.random)

        assert len(popped) == len(set(popped)) == min(count, len(room.set))
        assert set(popped) <= room.set

        room.set -= set(popped)


def _copy(room: Room, _: object) -> None:
    """A copy holds the same, is whole, expires when told, and changing it leaves the original alone."""
    other = room.keyspace.databases[1]
    entry = room.entry(SET)
    if entry is not None:
        sets.copy(room.db, entry, other, K, NOW_MS + 1000)
        copied = other.find(K)
        assert isinstance(copied, Entry)
        assert copied.expire_at_ms == NOW_MS + 1000
        assert sets.everything(other, copied) == sets.everything(room.db, entry)
        room.check_directory(copied, fmt.SETS)
        sets.add(other, copied, b"only in the copy", room.random)
        room.check_directory(copied, fmt.SETS)
    entry = room.entry(HASH, b"h")
    if entry is not None:
        hashes.copy(room.db, entry, room.db, b"h2", 0)
        copied = room.entry(HASH, b"h2")
        assert copied is not None
        assert hashes.everything(room.db, copied) == room.hash
        hashes.delete(room.db, copied, list(room.hash)[:3])


def _scan(room: Room, rows_max: int) -> None:
    """A scan brings each member once, and no more at a time than was asked; with a prefix, only what has it."""
    entry = room.entry(SET)
    if entry is None:
        return
    for prefix in (b"", b"n", b"n1", LONG, LONG[:100], b"nothing"):
        found, position = [], b""
        while position is not None:
            portion, position = sets.scan(room.db, entry, position, prefix, rows_max)
            assert len(portion) <= max(rows_max, members.SMALL_MAX)
            found += portion
        assert [name for name in found if not name.startswith(prefix[: fmt.PREFIX_BYTES])] == []
        assert Counter(found) == Counter(name for name in room.set if name.startswith(prefix))


STEPS = {
    "disturb": lambda room, how: room.disturb(how),
    "hset": _hset,
    "hdel": _hdel,
    "sadd": _sadd,
    "srem": _srem,
    "spop": _spop,
    "spop many": _spop_many,
    "copy": _copy,
    "scan": _scan,
}

universe = st.lists(st.sampled_from([*NAMES, *(b"u%d" % n for n in range(40))]), max_size=50)


@given(
    operands=st.lists(universe, min_size=1, max_size=4),
    ratio=st.sampled_from([0, 1, 8]),
    portion=st.sampled_from([2, 64]),
)
def test_algebra(room: Room, operands: list[list[bytes]], ratio: int, portion: int):
    """Union, intersection and difference are those of Python's sets, nothing comes twice, by walks and by point reads."""
    room.clear()
    for at, operand in enumerate(operands):
        if operand:
            room.fill_set(operand, b"%d" % at)
    wanted = [set(operand) for operand in operands]
    entries = [room.entry(SET, b"%d" % at) for at in range(len(operands))]
    there = [entry for entry in entries if entry is not None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(members, "_WALK_RATIO", ratio)
        patch.setattr(members, "_PORTION_FIRST", portion)
        patch.setattr(members, "_PORTION_MAX", 2 * portion)

        union = list(sets.names(room.db, sets.union(room.db, there)))
        assert sorted(union) == sorted(set().union(*wanted))

        if len(there) == len(entries):
            both = list(sets.names(room.db, sets.intersection(room.db, there)))
            assert sorted(both) == sorted(set.intersection(*wanted))

        if entries[0] is not None:
            others = [entry for entry in entries[1:] if entry is not None]
            left = list(sets.names(room.db, sets.difference(room.db, entries[0], others)))
            assert sorted(left) == sorted(wanted[0].difference(*wanted[1:]))


def test_a_walk_ends_with_its_collection(roomy: Room):
    """The rows behind a set's last one are another set's, and may have the same names: they do not count."""
    first = roomy.fill_set([b"m%03d" % n for n in range(300)])
    other = roomy.fill_set([b"m%03d" % n for n in range(290)], b"other")
    roomy.fill_set([b"m299"], b"behind it")

    assert list(sets.names(roomy.db, sets.difference(roomy.db, first, [other]))) == [
        b"m%03d" % n for n in range(290, 300)
    ]


def test_among_gives_up_a_walk_that_is_too_long(room: Room):
    """Where the other set is dense just where few names are asked for, the rest is read by points, and nothing is lost."""
    few = [b"a", b"m100", b"m150", b"m299", b"z"]
    dense = room.fill_set([b"m%d" % n for n in range(300)])
    table = room.store.tables[fmt.SETS]

    assert members.among(table, dense, few, 1.0) == {b"m100", b"m150", b"m299"}


def test_a_union_is_stored_over_its_source(room: Room):
    """The result may replace one of its operands: the old rows are read until the end."""
    room.fill_set([b"%d" % n for n in range(50)])
    room.fill_set([b"%d" % n for n in range(25, 75)], b"other")
    entries = [room.entry(SET), room.entry(SET, b"other")]

    assert sets.store(room.db, K, sets.union(room.db, [entry for entry in entries if entry])) == 75

    room.set = {b"%d" % n for n in range(75)}
    room.check()


# --- chance -------------------------------------------------------------------------------------------------------------------


def assert_uniform(counts: Counter[bytes], kinds: int, limit: float = 1.6) -> None:
    """Chi-square over its degrees of freedom stays below a limit that it passes once in some thousand runs at most."""
    total = counts.total()
    expected = total / kinds
    chi2 = sum((counts[kind] - expected) ** 2 / expected for kind in counts) + (kinds - len(counts)) * expected

    assert chi2 / (kinds - 1) < limit, f"{chi2=} {counts}"


@pytest.mark.parametrize("size", [50, 300, 1000])
def test_choices_are_uniform(roomy: Room, size: int):
    """Whatever draws, each member is as likely as any other, whether or not the set has a directory."""
    every = [b"m%d" % n for n in range(size)]
    entry = roomy.fill_set(every)
    picks = Counter(sets.pick(roomy.db, entry, roomy.random) for _ in range(size * 20))
    few = Counter(name for _ in range(400) for name in sets.draw(roomy.db, entry, size // 20, roomy.random))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(members, "_REPEATS_AT_ONCE", 400)
        repeated = Counter(sets.draw(roomy.db, entry, -size * 20, roomy.random))

    assert_uniform(picks, size)
    assert_uniform(few, size)
    assert_uniform(repeated, size)
    assert repeated.total() == size * 20


def test_repeats_come_in_any_order(roomy: Room):
    """A draw with repeats is not sorted: its first element is as good as its last."""
    entry = roomy.fill_set([b"m%d" % n for n in range(300)])
    firsts = Counter(sets.draw(roomy.db, entry, -3, roomy.random)[0] for _ in range(6000))

    assert_uniform(firsts, 300)


@pytest.mark.parametrize("size", [12, 300])
def test_the_order_of_pops_is_uniform(roomy: Room, size: int):
    """Popping again and again, with members added and deleted in between, takes each with the same chance at each turn.

    After three pops a new member comes and an old one goes; then each of the rest must be popped next equally often.
    """
    every = [b"m%d" % n for n in range(size)]
    nexts: Counter[bytes] = Counter()
    rounds = 0
    while rounds < size * 25:
        entry = roomy.fill_set(every)
        popped = {sets.pop(roomy.db, entry, roomy.random) for _ in range(7 if size > 12 else 4)}
        left = [name for name in every if name not in popped]
        gone = left[0]
        sets.delete(roomy.db, entry, [gone])
        sets.add(roomy.db, entry, b"new", roomy.random)
        # Of those that are there for certain: the new one against a fixed half of what may be there.
        nexts[b"new" if sets.pop(roomy.db, entry, roomy.random) == b"new" else b"old"] += 1
        sets.delete(roomy.db, entry, [b"new"])
        rounds += 1
    there = size - (7 if size > 12 else 4)
    expected = rounds / there

    assert abs(nexts[b"new"] - expected) < 4 * expected**0.5


def test_a_deck_of_a_set_that_is_gone_does_no_harm(room: Room):
    """Decks belong to ids, and are no more than allowed."""
    for n in range(5):
        entry = room.fill_set([b"a", b"b", b"c"], b"s%d" % n)
        sets.pop(room.db, entry, room.random)
        room.db.delete(b"s%d" % n)

    assert len(room.keyspace.decks) <= 2


def test_walks_past_large_portions(roomy: Room):
    """A large hash comes whole, field by field in the order of names; draws and scans of it too."""
    pairs = {b"f%06d" % n: b"%d" % n for n in range(20_000)}
    entry = roomy.db.create(K, HASH)
    for field, value in pairs.items():
        hashes.put(roomy.db, entry, field, value)

    assert hashes.everything(roomy.db, entry) == pairs
    assert hashes.fields(roomy.db, entry) == sorted(pairs)

    drawn = hashes.draw(roomy.db, entry, 15_000, roomy.random)

    assert len(set(drawn)) == 15_000
    assert set(drawn) <= pairs.keys()
    assert dict(hashes.draw_pairs(roomy.db, entry, 100, roomy.random)).items() <= pairs.items()
    assert len(hashes.draw(roomy.db, entry, 20_001, roomy.random)) == 20_000
