"""Is the store what `format`, `keyspace`, `ranks` and `datatypes` say it is? Every row is read, every law is counted again.

Theory. A check walks each sub-database once, in key order, and compares it with what it must agree with: by a point read where
one row leads to another (a key and its expiry, a member and its score), and by walking two orders side by side where there
are many (an owner's rows and its directory of blocks, all owners and all rows under ids).

Laws:

1. It only reads, through a `Reader`, one snapshot: so the same code runs inside the server on its open transaction and in the
   operator's tool beside a running server.
2. Memory is bounded by the number of collections, not by their elements nor by strings: for each there are about 30 bytes in
   arrays (and, while they are sorted, about 100).
3. What it finds are lines for a person, at most `LINES_MAX` of them; whatever the rows hold, it never raises.

What it cannot see: a value that is well formed but not the one that was written. LMDB keeps no checksums; the log does.
"""

from __future__ import annotations

from array import array
from itertools import groupby
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis.check_rows import OWNER_BYTES as _OWNER
from lmdbredis.check_rows import Owners as _Owners
from lmdbredis.check_rows import Reader, Row
from lmdbredis.check_rows import name_fault as _name_fault
from lmdbredis.check_rows import show as _show
from lmdbredis.check_rows import table_name as _table
from lmdbredis.check_streams import StreamsCheck
from lmdbredis.datatypes.lists import STRIDE
from lmdbredis.errors import StorageError
from lmdbredis.ranks import BLOCK_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmdbredis.keyspace import Keyspace

LINES_MAX: Final = 100
_BLOCK_ROWS_MAX: Final = 4 * BLOCK_ROWS  # what a block may grow to while a commit is on its way
_NAMES: Final = {
    fmt.LIST: "list",
    fmt.SET: "set",
    fmt.ZSET: "zset",
    fmt.HASH: "hash",
    fmt.STREAM: "stream",
    fmt.STRING_CHUNKS: "string",
    fmt.GROUP: "group",
    fmt.CONSUMER: "consumer",
}
_FLAGS: Final = {
    fmt.LIST: fmt.COUNTED | fmt.UNEVEN,
    fmt.SET: fmt.COUNTED,
    fmt.ZSET: fmt.COUNTED | fmt.SIGNED_ZERO,
    fmt.HASH: fmt.COUNTED,
    fmt.STREAM: 0,
}
_COUNTED_TABLE: Final = {fmt.LIST: fmt.LISTS, fmt.SET: fmt.SETS, fmt.ZSET: fmt.SCORES, fmt.HASH: fmt.HASHES}
_META_BYTES: Final = {fmt.META_VERSION: 4, fmt.META_LSN: 8, fmt.META_NEXT_ID: 8, fmt.META_NEXT_KEYSPACE: 4}


def check(reader: Reader) -> list[str]:
    """Return what is wrong, a line each; empty if everything is as it must be. O(rows)."""
    return _Check(reader).run()


def check_live(keyspace: Keyspace) -> list[str]:
    """As `check`, for the store of a running server; also what it keeps in memory must be what the rows say."""
    keyspace.write_back()
    keyspace.store.settle()
    return check(keyspace.store.reader()) + list(_stale(keyspace))[:LINES_MAX]


def _stale(keyspace: Keyspace) -> Iterator[str]:
    """Yield what is kept in memory and is not what the rows say."""
    live = {database.prefix for database in keyspace.databases}
    for row_key, held in keyspace.cache.items():
        if row_key[:4] not in live:
            continue  # of a keyspace that was flushed: nobody will ask for it again
        row = keyspace.keys.get(row_key)
        if not isinstance(held, bytes):
            held = held.cell()
        if held != row:
            yield f"hot layer: {_show(row_key)} is not what its row says"
    for row_key, part in keyspace.parts.items():
        row = part.table.get(row_key)
        if row_key == part.row_key and row is not None and row != part.row():
            yield f"parts: {_show(row_key)} is not what its row says"
    for table, owner, blocks in keyspace.ranks.directories():
        if blocks != list(keyspace.ranks.blocks(table, owner)):
            yield f"ranks: the directory of {owner.hex()} in {_table(table.number)} is not what its rows say"
    kept = set(keyspace.due)
    for row_key in keyspace.expires.take_keys(b"", len(kept) + 1):
        if row_key < keyspace.due.horizon and row_key not in kept:
            yield f"expiry: {_show(row_key)} is due before the horizon, and nobody waits for it"


class _EnoughError(Exception):
    """There are `LINES_MAX` lines."""


class _Tally:
    """What the rows of one keyspace add up to."""

    def __init__(self) -> None:
        self.keys = self.volatile = self.expire_sum_ms = 0

    def __str__(self) -> str:
        return f"{self.keys} keys, {self.volatile} with a TTL, their times add up to {self.expire_sum_ms}"


class _Blocks:
    """A directory of blocks beside the rows that it counts: `step` for each row, then `finish`."""

    def __init__(self, check: _Check, table: int, owner: bytes, who: str) -> None:
        self._add = check.add
        self._who = f"counts of {who} in {_table(table)}"
        self._name = bytes((table,)) + owner
        self._rows = (row for row in check.prefix(fmt.COUNTS, self._name))
        self._first, self._size = b"", -1  # the block that rows fall into
        self._next = next(self._rows, None)
        self._here = 0
        self._sum = 0
        if self._next is None:
            self._add(f"{self._who}: there are none, though the owner is counted")
        elif self._next[0] != self._name:
            self._add(f"{self._who}: the first block does not begin at the beginning")

    def step(self, suffix: bytes) -> None:
        """Take note of the next row."""
        while self._next is not None and self._next[0][len(self._name) :] <= suffix:
            self._turn()
        self._here += 1

    def finish(self, count: int) -> None:
        """Take note that there are no more rows; `count` is what the owner says."""
        while self._next is not None:
            self._turn()
        self._close()
        if self._size >= 0 and self._sum != count:
            self._add(f"{self._who}: blocks add up to {self._sum} rows, the owner says {count}")

    def _close(self) -> None:
        if self._size >= 0 and self._here != self._size:
            self._add(
                f"{self._who}: the block at {_show(self._first)} counts {self._size} rows, there are {self._here}"
            )
        if self._size > _BLOCK_ROWS_MAX:
            self._add(f"{self._who}: the block at {_show(self._first)} is too large: {self._size} rows")
        self._here = 0

    def _turn(self) -> None:
        """Go on to the next block."""
        assert self._next is not None
        self._close()
        key, row = self._next
        self._first = key[len(self._name) :]
        self._size = fmt.unpack_u32(row) if len(row) == 4 else 0
        self._sum += self._size
        self._next = next(self._rows, None)


class _Check:
    """One check of one snapshot."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._lines: list[str] = []
        self._owners = {kind: _Owners() for kind in _NAMES}
        self._tallies: dict[int, _Tally] = {}
        self._live: set[int] = set()  # keyspaces that a database leads to
        self._dead: set[int] = set()  # keyspaces that wait for the reclaimer
        self._counted: set[int] = set()  # live keyspaces with a directory
        self._next_id = 1
        self._next_keyspace = 0

    def run(self) -> list[str]:
        """Check everything."""
        steps: list[Callable[[], None]] = [
            self._meta,
            self._garbage,
            self._keys,
            self._keyspaces,
            self._expires,
            self._ids,
        ]
        steps += [self._hashes, self._sets, self._lists, self._zsets, self._scores, self._chunks, self._counts]
        steps += StreamsCheck(self, self._owners).steps()
        try:
            for step in steps:
                try:
                    step()
                except StorageError as error:
                    self.add(f"the engine cannot read on: {error}")
        except _EnoughError:
            self._lines.append(f"... and more: these are the first {LINES_MAX}")
        return self._lines

    def add(self, line: str) -> None:
        """Take a line. Raises _EnoughError."""
        self._lines.append(line)
        if len(self._lines) >= LINES_MAX:
            raise _EnoughError

    def rows(self, table: int) -> Iterator[Row]:
        """Yield all rows of a sub-database; stops where the order is broken, since a damaged tree may never end."""
        before = None
        for row in self._reader.rows(table):
            if before is not None and row[0] <= before:
                self.add(
                    f"{_table(table)}: {_show(row[0])} comes after {_show(before)}: keys out of order, the rest is not read"
                )
                return
            before = row[0]
            yield row

    def get(self, table: int, key: bytes) -> bytes | None:
        """Return the row's value, None if there is no such row."""
        return self._reader.get(table, key)

    def prefix(self, table: int, prefix: bytes) -> Iterator[Row]:
        """Yield the rows whose keys begin with `prefix`."""
        for row in self._reader.rows(table, prefix):
            if not row[0].startswith(prefix):
                return
            yield row

    # --- meta and garbage -----------------------------------------------------------------------------------------------------

    def _meta(self) -> None:
        keyspaces: set[int] = set()
        for key, row in self.rows(fmt.META):
            if key in _META_BYTES:
                if len(row) != _META_BYTES[key]:
                    self.add(f"meta: the row {key.decode()} has {len(row)} bytes")
            elif key.startswith(fmt.META_KEYSPACE) and len(key) == len(fmt.META_KEYSPACE) + 4:
                keyspaces.add(fmt.unpack_u32(key, len(fmt.META_KEYSPACE)))
            elif key != fmt.META_DATABASES:
                self.add(f"meta: {_show(key)} is no name that is known")
        self._next_id = self._number(fmt.META_NEXT_ID, 8, 1)
        self._next_keyspace = self._number(fmt.META_NEXT_KEYSPACE, 4, 0)
        version = self._number(fmt.META_VERSION, 4, 0)
        if version != fmt.FORMAT_VERSION:
            self.add(f"meta: format version {version}, this code knows {fmt.FORMAT_VERSION}")
        self._databases()
        for keyspace in sorted(keyspaces - self._live):
            self.add(f"meta: keyspace {keyspace} is counted, but no database leads to it")

    def _number(self, name: bytes, size_bytes: int, default: int) -> int:
        row = self._reader.get(fmt.META, name)
        return int.from_bytes(row, "big") if row is not None and len(row) == size_bytes else default

    def _databases(self) -> None:
        row = self._reader.get(fmt.META, fmt.META_DATABASES)
        if row is None:
            return
        try:
            databases = fmt.unpack_databases(row)
            numbers = [*databases, *databases.values()]
        except (ValueError, TypeError):
            self.add("meta: the row databases cannot be read")
            return
        if not all(isinstance(number, int) and 0 <= number < 1 << 32 for number in numbers):
            self.add("meta: the row databases does not lead numbers to keyspaces")
            return
        self._live = set(databases.values())
        if len(self._live) != len(databases):
            self.add("meta: two databases lead to one keyspace")
        for keyspace in sorted(self._live):
            if keyspace >= self._next_keyspace:
                self.add(f"meta: keyspace {keyspace} is in use, and next_keyspace is {self._next_keyspace}")

    def _garbage(self) -> None:
        for key, row in self.rows(fmt.GARBAGE):
            kind = row[0] if len(row) == 1 else -1
            if len(key) == 4 and kind == fmt.GARBAGE_KEYSPACE:
                self._dead.add(fmt.unpack_u32(key))
            elif len(key) == _OWNER and kind in self._owners:
                self._owners[kind].garbage.append(fmt.unpack_u64(key))
            else:
                self.add(f"garbage: {_show(key)} of kind {kind} is neither a keyspace nor an id")
        for keyspace in sorted(self._dead & self._live):
            self.add(f"garbage: keyspace {keyspace} is to be reclaimed, but a database leads to it")

    # --- keys, expires --------------------------------------------------------------------------------------------------------

    def _keys(self) -> None:
        for prefix, rows in groupby(self.rows(fmt.KEYS), lambda row: row[0][:4]):
            keyspace = fmt.unpack_u32(prefix.ljust(4, b"\0"))
            tally = self._tallies[keyspace] = _Tally()
            if keyspace not in self._live and keyspace not in self._dead:
                self.add(f"keys: keyspace {keyspace} has rows, but no database leads to it")
            head = self._reader.get(fmt.META, fmt.META_KEYSPACE + prefix) or b""
            counted = (
                keyspace in self._live
                and len(head) == fmt.KEYSPACE_BYTES
                and bool(fmt.unpack_keyspace(head)[3] & fmt.COUNTED)
            )
            blocks = _Blocks(self, fmt.KEYS, prefix, f"keyspace {keyspace}") if counted else None
            if counted:
                self._counted.add(keyspace)
            for row_key, cell in rows:
                tally.keys += 1
                if blocks is not None:
                    blocks.step(row_key[4:])
                try:
                    fault = self._cell(row_key, cell, tally, is_live=keyspace in self._live)
                except (fmt.UnpackError, IndexError):
                    fault = "the cell is too short"
                if fault:
                    self.add(f"keys: {_show(row_key)}: {fault}")
            if blocks is not None:
                blocks.finish(fmt.unpack_keyspace(head)[0])

    def _cell(self, row_key: bytes, cell: bytes, tally: _Tally, *, is_live: bool) -> str:
        """Look at one key; return what is wrong with it, empty if nothing is."""
        if len(row_key) < 4 or not cell:
            return (
                "the row's key is too short" if cell else "an empty cell: a key that was created and never written back"
            )
        kind = cell[0] & fmt.TYPE_MASK
        whole, body = fmt.whole_of(cell), cell[fmt.body_offset(cell) :]
        fault = _name_fault(row_key[4:], whole)
        if cell[0] & fmt.HAS_EXPIRE:
            expire_at_ms = fmt.expire_of(cell)
            tally.volatile += 1
            tally.expire_sum_ms += expire_at_ms
            row = self._reader.get(fmt.EXPIRES, fmt.pack_u64(expire_at_ms) + row_key)
            if row is None and is_live:  # of a keyspace that was flushed, expiry deletes the row alone
                fault = fault or f"expires at {expire_at_ms}, but there is no row of expires for that"
            if row is not None and row != whole:
                fault = fault or "its row of expires carries another whole key"
        if kind == fmt.STRING:
            return fault or (f"a string of {len(body)} bytes inline" if len(body) > fmt.INLINE_BYTES_MAX else "")
        if kind not in fmt.HEAD_BYTES:
            return fault or f"an unknown type {kind}"
        if len(body) != fmt.HEAD_BYTES[kind]:
            return fault or f"the head of a {_NAMES[kind]} has {len(body)} bytes"
        return self._head(kind, cell) or fault

    def _head(self, kind: int, cell: bytes) -> str:
        """Take a collection's head; return what is wrong with it."""
        owners = self._owners[kind]
        if kind == fmt.STRING_CHUNKS:
            ident, count = fmt.unpack_chunks_head(cell)
            flags = 0
        else:
            ident, count, flags, first, last = fmt.unpack_head(cell)
            if kind == fmt.LIST:
                owners.ends.extend((first, last))
            if kind == fmt.STREAM:
                return self._stream_head(ident, count, first, last, *fmt.unpack_stream_head(cell))
        owners.add(ident, count, flags)
        what = f"the {_NAMES[kind]} {ident}"
        if ident >= self._next_id:
            return f"{what}: next_id is {self._next_id}"
        if not count:
            return f"{what} is empty"
        if kind == fmt.STRING_CHUNKS:
            return ""
        if flags & ~_FLAGS[kind]:
            return f"{what}: unknown flags {flags:#x}"
        if count > BLOCK_ROWS and not flags & fmt.COUNTED and (kind != fmt.LIST or flags & fmt.UNEVEN):
            return f"{what} has {count} elements and is not counted"
        if kind == fmt.LIST and flags == fmt.COUNTED:
            return f"{what} is counted, and even"
        return ""

    def _stream_head(self, ident: int, count: int, first: int, last: int, deleted: int, added: int, groups: int) -> str:
        """Take a stream's head; return what is wrong with it."""
        owners = self._owners[fmt.STREAM]
        owners.add(ident, count, 0)
        owners.heads.append((first, last, groups))
        what = f"the stream {ident}"
        if ident >= self._next_id:
            return f"{what}: next_id is {self._next_id}"
        if deleted > last or first > last:
            return f"{what}: its last id is less than another in its head"
        if bool(count) != bool(first):
            return f"{what} has {count} entries, and the first is {first:#x}"
        return f"{what} has {count} entries, of {added} ever added" if count > added else ""

    def _keyspaces(self) -> None:
        for keyspace in sorted(self._live):
            tally = self._tallies.get(keyspace, _Tally())
            row = self._reader.get(fmt.META, fmt.META_KEYSPACE + fmt.pack_u32(keyspace))
            if row is None:
                if tally.keys:
                    self.add(f"keyspace {keyspace}: there is no row that counts it; the rows say {tally}")
                continue
            if len(row) != fmt.KEYSPACE_BYTES:
                self.add(f"keyspace {keyspace}: the row that counts it has {len(row)} bytes")
                continue
            said = _Tally()
            said.keys, said.volatile, said.expire_sum_ms, flags = fmt.unpack_keyspace(row)
            if str(said) != str(tally):
                self.add(f"keyspace {keyspace}: its row says {said}; the rows say {tally}")
            if flags & ~fmt.COUNTED:
                self.add(f"keyspace {keyspace}: unknown flags {flags:#x}")
            if flags & fmt.COUNTED:
                if keyspace not in self._counted:  # without rows, its directory was not looked at
                    self._counted.add(keyspace)
                    _Blocks(self, fmt.KEYS, fmt.pack_u32(keyspace), f"keyspace {keyspace}").finish(0)
            elif said.keys > BLOCK_ROWS:
                self.add(f"keyspace {keyspace} has {said.keys} keys and is not counted")

    def _expires(self) -> None:
        for key, row in self.rows(fmt.EXPIRES):
            row_key = key[8:]
            fault = _name_fault(key[12:], row)
            if len(key) < 12:
                fault = "the row's key is too short"
            else:
                cell = self._reader.get(fmt.KEYS, row_key)
                if cell is None:
                    fault = fault or "there is no such key"
                elif cell[:1] and not cell[0] & fmt.HAS_EXPIRE:
                    fault = fault or "the key has no TTL"
                elif cell[1:9] != key[:8]:
                    fault = fault or "the key expires at another time"
            if fault:
                self.add(f"expires: {_show(key)}: {fault}")

    def _ids(self) -> None:
        """Sort the owners; no id may lead to two places."""
        everything = array("Q")
        for kind, owners in self._owners.items():
            owners.sort()
            everything.extend(owners.ids)
            everything.extend(owners.garbage)
            if owners.garbage and owners.garbage[-1] >= self._next_id:
                self.add(f"garbage: the {_NAMES[kind]} {owners.garbage[-1]}: next_id is {self._next_id}")
        before = -1
        for ident in sorted(everything):
            if ident == before:
                self.add(f"the id {ident} belongs to two keys, or to a key and to garbage")
            before = ident

    # --- rows under ids -------------------------------------------------------------------------------------------------------

    def _collections(self, kind: int, table: int) -> Iterator[tuple[int, str, Iterator[Row]]]:
        """Yield (index among the owners, how to call it, its rows) of each collection; says which rows nobody owns."""
        owners = self._owners[kind]
        at = 0
        for owner, rows in groupby(self.rows(table), lambda row: row[0][:_OWNER]):
            ident = fmt.unpack_u64(owner.ljust(_OWNER, b"\0"))
            at = self._without_rows(kind, table, at, ident)
            if at < len(owners.ids) and owners.ids[at] == ident:
                yield at, f"{_table(table)}: the {_NAMES[kind]} {ident}", rows
                at += 1
            elif not owners.is_garbage(ident):
                self.add(f"{_table(table)}: the id {ident} has rows, but neither a key nor garbage leads to it")
        self._without_rows(kind, table, at, 1 << 64)

    def _without_rows(self, kind: int, table: int, at: int, before: int) -> int:
        """Say which collections from number `at` with ids before `before` have no rows; return the number of the next."""
        owners = self._owners[kind]
        while at < len(owners.ids) and owners.ids[at] < before:
            if owners.counts[at]:
                self.add(
                    f"{_table(table)}: the {_NAMES[kind]} {owners.ids[at]} has no rows, its key says {owners.counts[at]}"
                )
            at += 1
        return at

    def _elements(self, kind: int, table: int, fault_of: Callable[[int, bytes, bytes], str]) -> None:
        """Check the rows of every collection of a type: each by `fault_of`(index, suffix, row), their count and their blocks."""
        owners = self._owners[kind]
        for index, who, rows in self._collections(kind, table):
            ident = owners.ids[index]
            counted = owners.flags[index] & fmt.COUNTED and _COUNTED_TABLE[kind] == table
            blocks = _Blocks(self, table, fmt.pack_u64(ident), f"the {_NAMES[kind]} {ident}") if counted else None
            count = 0
            for key, row in rows:
                suffix = key[_OWNER:]
                count += 1
                if blocks is not None:
                    blocks.step(suffix)
                try:
                    fault = fault_of(index, suffix, row)
                except (fmt.UnpackError, IndexError):
                    fault = "the row is too short"
                if fault:
                    self.add(f"{who}: {_show(suffix)}: {fault}")
            if blocks is not None:
                blocks.finish(owners.counts[index])
            if count != owners.counts[index]:
                self.add(f"{who}: its key says {owners.counts[index]} elements, there are {count} rows")

    def _hashes(self) -> None:
        def fault_of(index: int, field: bytes, row: bytes) -> str:
            if row[0] not in {0, fmt.HAS_WHOLE}:
                return f"an unknown tag {row[0]:#x}"
            if row[0] and len(row) < 5 + fmt.unpack_u32(row, 1):
                return "the whole field is cut off"
            return _name_fault(field, fmt.field_whole(row))

        self._elements(fmt.HASH, fmt.HASHES, fault_of)

    def _sets(self) -> None:
        self._elements(fmt.SET, fmt.SETS, lambda _, member, row: _name_fault(member, row))

    def _lists(self) -> None:
        owners = self._owners[fmt.LIST]
        self._expected = (-1, 0)  # index, position of the next row

        def fault_of(index: int, suffix: bytes, row: bytes) -> str:
            if len(suffix) != 8:
                return "no position"
            position = fmt.unpack_u64(suffix)
            first, last = owners.ends[2 * index : 2 * index + 2]
            before, expected = self._expected
            self._expected = (index, position + STRIDE)
            if before != index and position != first:
                return f"the first row stands at {position:#x}, the key says {first:#x}"
            if before == index and position != expected and not owners.flags[index] & fmt.UNEVEN:
                return f"an even list has its next row at {expected:#x}"
            if position > last:
                return f"the key says that the last row stands at {last:#x}"
            return ""

        self._elements(fmt.LIST, fmt.LISTS, fault_of)
        for ident, last in zip(owners.ids, owners.ends[1::2], strict=True):
            if self._reader.get(fmt.LISTS, fmt.pack_u64(ident) + fmt.pack_u64(last)) is None:
                self.add(
                    f"list: the list {ident}: there is no row at {last:#x}, where the key says the last one stands"
                )

    def _zsets(self) -> None:
        owners = self._owners[fmt.ZSET]

        def fault_of(index: int, member: bytes, row: bytes) -> str:
            score, whole = fmt.unpack_f64(row), row[8:]
            if score - score != 0 and abs(score) != float("inf"):
                return "the score is no number"
            if not score and row[0] and not owners.flags[index] & fmt.SIGNED_ZERO:
                return "the score is -0.0, and the key does not say that there may be one"
            there = self._reader.get(fmt.SCORES, fmt.pack_u64(owners.ids[index]) + fmt.sortable(score) + member)
            if there is None:
                return f"the score is {score!r}, but there is no row of zset.score for that"
            return _name_fault(member, whole) or (
                "" if there == whole else "its row of zset.score carries another whole member"
            )

        self._elements(fmt.ZSET, fmt.ZSETS, fault_of)

    def _scores(self) -> None:
        owners = self._owners[fmt.ZSET]

        def fault_of(index: int, suffix: bytes, row: bytes) -> str:
            there = self._reader.get(fmt.ZSETS, fmt.pack_u64(owners.ids[index]) + suffix[8:])
            if there is None:
                return "there is no row of zset for this member"
            return "" if fmt.sortable(fmt.unpack_f64(there)) == suffix[:8] else "the member has another score"

        self._elements(fmt.ZSET, fmt.SCORES, fault_of)

    def _chunks(self) -> None:
        owners = self._owners[fmt.STRING_CHUNKS]
        for index, who, rows in self._collections(fmt.STRING_CHUNKS, fmt.CHUNKS):
            length, at = owners.counts[index], 0
            for key, row in rows:
                number = key[_OWNER:]
                if number != fmt.pack_u32(at // fmt.CHUNK_BYTES):
                    self.add(f"{who}: chunk {at // fmt.CHUNK_BYTES} is missing, {number.hex()} follows")
                    break
                if len(row) != min(fmt.CHUNK_BYTES, max(length - at, 0)):
                    self.add(f"{who}: chunk {at // fmt.CHUNK_BYTES} has {len(row)} bytes of a string of {length}")
                    break
                at += fmt.CHUNK_BYTES
            else:
                if at < length:
                    self.add(f"{who}: chunks end at {at} of {length} bytes")

    # --- counts ---------------------------------------------------------------------------------------------------------------

    def _counts(self) -> None:
        """Every directory must have an owner that is counted. Sizes were compared along with the rows."""
        kinds = {table: kind for kind, table in _COUNTED_TABLE.items()}
        for name, rows in groupby(
            self.rows(fmt.COUNTS), lambda row: row[0][: 5 if row[0][:1] == bytes((fmt.KEYS,)) else 9]
        ):
            table, owner = name[0], name[1:]
            if table == fmt.KEYS and len(owner) == 4:
                keyspace = fmt.unpack_u32(owner)
                owned = keyspace in self._counted or keyspace in self._dead
            elif table in kinds and len(owner) == _OWNER:
                owners = self._owners[kinds[table]]
                ident = fmt.unpack_u64(owner)
                index = owners.find(ident)
                owned = owners.is_garbage(ident) or (index >= 0 and bool(owners.flags[index] & fmt.COUNTED))
            else:
                owned = False
            if not owned:
                self.add(f"counts: {_show(name)}: no owner that is counted")
            for key, row in rows:
                if len(row) != 4:
                    self.add(f"counts: {_show(key)}: the row has {len(row)} bytes")
