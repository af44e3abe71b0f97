"""Sets: members under a key, and the algebra of several sets.

Theory. A member is a row of `set`: the id and its stored name lead to nothing, or to the whole of a long member (see `format`).
Members stand in the order of their names, so sets of like size are intersected by walking along both (`members.among`), and
others by point reads.

A random choice is a lookup by rank, which needs rows in order, and that is dear amid writes. So members to be popped one by one
are drawn several at a time and laid ready, as a *deck*: as many as were drawn before and twice that, so that a single SPOP
draws a single member.

Laws of the deck:

1. It is the beginning of a random permutation of all members, so popping its top is uniform, again and again.
2. Whoever adds a member gives it a random place in that permutation, and moves who had that place to the end; whoever deletes
   one takes it out. So law 1 holds whatever happens between two pops, and what is in the deck need not be looked up.
3. Decks are derived: they may be dropped at any time, are bounded, and are not written down (`Keyspace.load` drops them all).

Every function takes open entries.
"""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis.datatypes import members
from lmdbredis.datatypes.members import LONG_ROW_BYTES, OWNER_BYTES
from lmdbredis.format import LONG_NAME_BYTES, NAME_BYTES_MAX, SET, SETS
from lmdbredis.ranks import BLOCK_ROWS

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator, Sequence

    from lmdbredis.database import Database
    from lmdbredis.entry import Entry
    from lmdbredis.table import Table

_DECK_MAX: Final = 4096  # members drawn ahead, where several of them lie in one block of the directory
_SPARSE_DECK_MAX: Final = 256  # in larger sets, where each costs a lookup
_DENSE_ROWS_MAX: Final = 1 << 18
_DECKS_MAX: Final = 32


class Deck:
    """The members of one set that are to be popped next."""

    __slots__ = ("drawn", "places", "row_keys")

    def __init__(self) -> None:
        self.drawn = 0  # how many the last time
        self.row_keys: list[bytes] = []  # the last is popped first
        self.places: dict[bytes, int] = {}  # where each stands

    def pop_many(self, count: int) -> list[bytes]:
        """Take so many from the top, at least one, or all if there are no more, the top first."""
        row_keys = self.row_keys[: -count - 1 : -1]
        del self.row_keys[-count:]
        for row_key in row_keys:
            del self.places[row_key]
        return row_keys

    def add(self, row_key: bytes, place: int) -> None:
        """Give a new member the place, counted from the bottom of the deck; who had it leaves the deck for the very end."""
        if place < len(self.row_keys):
            del self.places[self.row_keys[place]]
            self.row_keys[place] = row_key
            self.places[row_key] = place

    def discard(self, row_key: bytes) -> None:
        """Take a deleted member out, if it is in the deck; the top takes its place."""
        place = self.places.pop(row_key, None)
        if place is not None:
            top = self.row_keys.pop()
            if top != row_key:
                self.row_keys[place] = top
                self.places[top] = place


# --- members ------------------------------------------------------------------------------------------------------------------


def has(db: Database, entry: Entry, member: bytes) -> bool:
    """Tell whether the set has the member. O(log n)."""
    row_key = entry.owner + (member if len(member) <= NAME_BYTES_MAX else fmt.stored_name(member))
    return db.keyspace.store.tables[SETS].get(row_key) is not None


def add(db: Database, entry: Entry, member: bytes, random: random.Random) -> int:
    """Add a member; return how many are new: 0 or 1. O(log n)."""
    table = db.keyspace.store.tables[SETS]
    is_short = len(member) <= NAME_BYTES_MAX
    row_key = entry.owner + (member if is_short else fmt.stored_name(member))
    if not table.add(row_key, b"" if is_short else member):
        return 0
    entry.count += 1
    if entry.flags or entry.count > BLOCK_ROWS:
        members.added(db, table, entry, row_key[OWNER_BYTES:])
    if db.keyspace.decks and (deck := db.keyspace.decks.get(entry.id)) is not None:
        deck.add(row_key, random.randrange(entry.count))
    db.changed(entry)
    return 1


def add_each(db: Database, entry: Entry, names: Sequence[bytes], random: random.Random) -> list[int]:
    """As `add` for each member in turn; return what it would."""
    table = db.keyspace.store.tables[SETS]
    owner, deck = entry.owner, db.keyspace.decks.get(entry.id)
    rows = [
        (owner + member, b"") if len(member) <= NAME_BYTES_MAX else (owner + fmt.stored_name(member), member)
        for member in names
    ]
    new = list(map(int, table.add_many(rows)))
    if 1 in new:
        added = [row_key for row_key, _ in compress(rows, new)]
        if deck is not None:
            for count, row_key in enumerate(added, entry.count + 1):
                deck.add(row_key, random.randrange(count))
        entry.count += len(added)
        members.added_many(db, table, entry, [row_key[OWNER_BYTES:] for row_key in added])
        db.changed(entry)
    return new


def delete(db: Database, entry: Entry, names: Sequence[bytes]) -> int:
    """Delete members; return how many were there. O(members * log n)."""
    table = db.keyspace.store.tables[SETS]
    deck = db.keyspace.decks.get(entry.id)
    deleted = 0
    for member in names:
        row_key = entry.owner + (member if len(member) <= NAME_BYTES_MAX else fmt.stored_name(member))
        if table.get(row_key) is not None:
            _delete(db, table, entry, row_key)
            deleted += 1
            if deck is not None:
                deck.discard(row_key)
    if deleted:
        db.changed(entry)
    return deleted


def _delete(db: Database, table: Table, entry: Entry, row_key: bytes) -> None:
    """Delete a row that is there; the caller says `changed`."""
    table.delete(row_key)
    entry.count -= 1
    if entry.flags:
        db.keyspace.ranks.open(table, entry.owner).discard(row_key[OWNER_BYTES:])


def _delete_all(db: Database, table: Table, entry: Entry, row_keys: list[bytes]) -> None:
    """As `_delete` for each row: the calls are paid once."""
    table.delete_many(row_keys)
    entry.count -= len(row_keys)
    if entry.flags:
        db.keyspace.ranks.open(table, entry.owner).discard_many([row_key[OWNER_BYTES:] for row_key in row_keys])


def everything(db: Database, entry: Entry) -> list[bytes]:
    """Return all members. O(n)."""
    table = db.keyspace.store.tables[SETS]
    return _named(db, table.take_keys(entry.owner, entry.count))


def _named(db: Database, row_keys: list[bytes]) -> list[bytes]:
    """Return the members whose row keys these are; only long ones need the row itself."""
    whole = db.keyspace.store.tables[SETS].get
    return [row_key[OWNER_BYTES:] if len(row_key) < LONG_ROW_BYTES else whole(row_key) or b"" for row_key in row_keys]


def scan(db: Database, entry: Entry, position: bytes, prefix: bytes, rows_max: int) -> tuple[list[bytes], bytes | None]:
    """Return (some members, where to go on): see `members.scan`."""
    rows, following = members.scan(db.keyspace.store.tables[SETS], entry, position, prefix, rows_max)
    return [whole or row_key[OWNER_BYTES:] for row_key, whole in rows], following


# --- chance -------------------------------------------------------------------------------------------------------------------


def pick(db: Database, entry: Entry, random: random.Random) -> bytes:
    """Return one member, each as likely as any other. O(log n)."""
    return _named(db, [members.pick(db, db.keyspace.store.tables[SETS], entry, random)])[0]


def draw(db: Database, entry: Entry, count: int, random: random.Random) -> list[bytes]:
    """Return `count` different members, all if there are no more; -`count`, each drawn from all, if it is negative. O(count * log n)."""
    table = db.keyspace.store.tables[SETS]
    if count < 0:
        return _named(db, members.draw_repeating(db, table, entry, -count, random))
    return _named(db, members.draw(db, table, entry, count, random))


def pop(db: Database, entry: Entry, random: random.Random) -> bytes:
    """Delete one member, each as likely as any other, and return it. O(log n)."""
    return pop_each(db, entry, 1, random)[0]


def pop_each(db: Database, entry: Entry, count: int, random: random.Random) -> list[bytes]:
    """Delete so many members, one after another, each as likely as any other then, and return them; the set has as many."""
    table = db.keyspace.store.tables[SETS]
    deck = db.keyspace.decks.get(entry.id)
    popped: list[bytes] = []
    while len(popped) < count:
        if deck is None or not deck.row_keys:
            deck = _deal(db, table, entry, random)
        row_keys = deck.pop_many(count - len(popped))
        popped += _named(db, row_keys)
        _delete_all(db, table, entry, row_keys)
    db.changed(entry)
    return popped


def _deal(db: Database, table: Table, entry: Entry, random: random.Random) -> Deck:
    """Draw members into the set's empty deck."""
    decks = db.keyspace.decks
    deck = decks.get(entry.id)
    if deck is None:
        if len(decks) >= _DECKS_MAX:
            del decks[next(iter(decks))]
        deck = decks[entry.id] = Deck()
    most = _DECK_MAX if entry.count <= _DENSE_ROWS_MAX else _SPARSE_DECK_MAX
    deck.drawn = min(2 * deck.drawn or 1, most, entry.count)
    if deck.drawn == 1:
        deck.row_keys = [members.pick(db, table, entry, random)]
    else:
        deck.row_keys = members.draw(db, table, entry, deck.drawn, random)
        random.shuffle(deck.row_keys)
    deck.places = {row_key: place for place, row_key in enumerate(deck.row_keys)}
    return deck


def pop_many(db: Database, entry: Entry, count: int, random: random.Random) -> list[bytes]:
    """Delete `count` members drawn at random, all if there are no more, and return them. O(count * log n)."""
    table = db.keyspace.store.tables[SETS]
    db.keyspace.decks.pop(entry.id, None)
    row_keys = members.draw(db, table, entry, count, random)
    popped = _named(db, row_keys)
    if count >= entry.count > BLOCK_ROWS:
        db.clear(entry)
    else:
        _delete_all(db, table, entry, row_keys)
        db.changed(entry)
    return popped


# --- algebra ------------------------------------------------------------------------------------------------------------------
#
# Results come in portions: a set, and suffixes of rows of it, ascending. Nothing comes twice.

Portion = tuple["Entry", list[bytes]]


def intersection(db: Database, entries: Sequence[Entry]) -> Iterator[Portion]:
    """Yield the members that all sets have. O(size of the smallest * sets * log n)."""
    table = db.keyspace.store.tables[SETS]
    smallest, *others = sorted({entry.id: entry for entry in entries}.values(), key=lambda entry: entry.count)
    for suffixes in members.portions(table, smallest):
        for other in others:
            if suffixes:
                there = members.among(table, other, suffixes, other.count / smallest.count)
                suffixes = [suffix for suffix in suffixes if suffix in there]
        yield smallest, suffixes


def difference(db: Database, first: Entry, others: Iterable[Entry]) -> Iterator[Portion]:
    """Yield the members of the first set that none of the others has. O(size of the first * sets * log n)."""
    different = {entry.id: entry for entry in others}
    if first.id in different:
        return
    table = db.keyspace.store.tables[SETS]
    for suffixes in members.portions(table, first):
        for other in different.values():
            if suffixes:
                there = members.among(table, other, suffixes, other.count / first.count)
                suffixes = [suffix for suffix in suffixes if suffix not in there]
        yield first, suffixes


def union(db: Database, entries: Sequence[Entry]) -> Iterator[Portion]:
    """Yield the members that any set has: each set's, without those of the sets before it. O(sum of sizes * sets * log n)."""
    entries = sorted({entry.id: entry for entry in entries}.values(), key=lambda entry: -entry.count)
    for at, entry in enumerate(entries):
        yield from difference(db, entry, entries[:at])


def names(db: Database, portions: Iterable[Portion]) -> Iterator[bytes]:
    """Yield the members of a result; only long ones need the row itself."""
    get = db.keyspace.store.tables[SETS].get
    for entry, suffixes in portions:
        if suffixes and max(map(len, suffixes)) >= LONG_NAME_BYTES:
            suffixes = [
                suffix if len(suffix) < LONG_NAME_BYTES else get(entry.owner + suffix) or b"" for suffix in suffixes
            ]
        yield from suffixes


def store(db: Database, key: bytes, portions: Iterable[Portion]) -> int:
    """Let `key` be the set of these members, which may stem from its old value; no such key if there are none. Returns how many."""
    db.delete(key)  # its rows stay readable until the reclaimer comes, after the batch
    table = db.keyspace.store.tables[SETS]
    stored = None
    for entry, suffixes in portions:
        if suffixes:
            stored = stored or db.create(key, SET)
            owner = stored.owner
            for suffix in suffixes:
                table.put(
                    owner + suffix, b"" if len(suffix) < LONG_NAME_BYTES else table.get(entry.owner + suffix) or b""
                )
            stored.count += len(suffixes)
    if stored is None:
        return 0
    if stored.count > BLOCK_ROWS:
        members.added(db, table, stored, b"")
    db.changed(stored)
    return stored.count


# --- copies -------------------------------------------------------------------------------------------------------------------


def copy(db: Database, entry: Entry, target: Database, new_key: bytes, expire_at_ms: int) -> None:
    """Let `new_key` in `target` be a copy of the set, whatever it was before. O(n)."""
    copied = members.copy_head(entry, target, new_key, expire_at_ms)
    members.copy_rows(db, db.keyspace.store.tables[SETS], entry, copied)
