"""The check finds nothing in a good store and something in every broken one, and never falls over what it reads."""

from __future__ import annotations

import random
from bisect import bisect_left
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbredis import format as fmt
from lmdbredis.check import LINES_MAX, check, check_live
from lmdbredis.errors import StorageError
from lmdbredis.ranks import BLOCK_ROWS
from tests.crash import FAR_MS, Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LONG = "l" * 600
MANY = BLOCK_ROWS * 3


class Rows:
    """The rows of a store in dictionaries, to be broken."""

    def __init__(self, tables: dict[int, dict[bytes, bytes]]) -> None:
        self.tables = {number: dict(rows) for number, rows in tables.items()}

    def get(self, table: int, key: bytes) -> bytes | None:
        return self.tables[table].get(key)

    def rows(self, table: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        keys = sorted(self.tables[table])
        for key in keys[bisect_left(keys, start) :]:
            yield key, self.tables[table][key]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[bytes, bytes]]:
    """Return the rows of a store that has everything in it: each type small, counted, long-named, with a TTL, and garbage."""
    engine = Engine(tmp_path_factory.mktemp("good") / "store")
    engine.upkeep.active_expire = False
    far = str(FAR_MS)
    script = [
        "SET string value", f"SET {LONG} value", f"SET chunks {'x' * 20_000}", f"SET chunks2 {'x' * (fmt.CHUNK_BYTES * 2)}",
        f"SET volatile value PXAT {far}", f"SET v{LONG} value PXAT {far}", "HSET hash a 1 b 2", f"HSET hash {LONG} 3",
        f"HSET Hash {' '.join(f'f{n} v' for n in range(MANY))}", "SADD set a b c", f"SADD set {LONG}",
        f"SADD Set {' '.join(f'm{n}' for n in range(MANY))}", "ZADD zset 1 a 2 b -3.5 c inf d", f"ZADD zset 7 {LONG}",
        f"ZADD Zset {' '.join(f'{n % 50} m{n}' for n in range(MANY))}", "ZADD Zset -0.0 zero", "RPUSH list a b c", "LPUSH list z",
        f"RPUSH List {' '.join(f'e{n}' for n in range(MANY))}", "LINSERT List BEFORE e100 middle", "RPUSH uneven a b c",
        "LINSERT uneven BEFORE b x", f"RPUSH even {' '.join(f'e{n}' for n in range(MANY))}", f"PEXPIREAT Zset {far}",
        f"HSET gone {' '.join(f'f{n} v' for n in range(MANY))}", "SET gone2 " + "x" * 20_000, "DEL gone gone2",
        "XADD stream 1-1 a b", "XADD stream 2-1 a b", "XADD stream 3-1 a b", "XDEL stream 2-1", "XGROUP CREATE stream group 0",
        f"XGROUP CREATE stream {LONG} 0", "XREADGROUP GROUP group ann COUNT 1 STREAMS stream >",
        f"XREADGROUP GROUP group {LONG} STREAMS stream >", "XGROUP CREATE empty group $ MKSTREAM",
        "XGROUP CREATECONSUMER empty group ann", "XADD Gone 1-1 a b", "XGROUP CREATE Gone group 0",
        "XREADGROUP GROUP group ann STREAMS Gone >", "DEL Gone", "XGROUP CREATE stream gone 0",
        "XREADGROUP GROUP gone ann STREAMS stream >", "XGROUP DESTROY stream gone", "XGROUP CREATECONSUMER stream group bob",
        "XGROUP DELCONSUMER stream group bob",
        "SELECT 3", "SET other value", f"SADD dead {' '.join(f'm{n}' for n in range(MANY))}", "SET dead2 v PXAT 1000000000000000",
        "FLUSHDB", "SET other value", "SELECT 5", *(f"SET key{n} v" for n in range(BLOCK_ROWS + 10)),
    ]  # fmt: skip
    for line in script:
        (reply,) = engine.run([word.encode() for word in line.split(" ")])
        assert not reply.is_error, (line, reply)
    assert engine.check() == []
    reader = engine.store.reader()
    rows = {number: dict(reader.rows(number)) for number in fmt.TABLE_NAMES}
    engine.close()
    return rows


def head_of(rows: Rows, key: str) -> tuple[bytes, bytes]:
    """Return a key's row in the first database."""
    databases = fmt.unpack_databases(rows.tables[fmt.META][fmt.META_DATABASES])
    row_key = fmt.pack_u32(databases[0]) + fmt.stored_name(key.encode())
    return row_key, rows.tables[fmt.KEYS][row_key]


def owner_of(rows: Rows, key: str) -> bytes:
    """Return the id of a collection, packed."""
    _, cell = head_of(rows, key)
    kind = cell[0] & fmt.TYPE_MASK
    return fmt.pack_u64(fmt.unpack_chunks_head(cell)[0] if kind == fmt.STRING_CHUNKS else fmt.unpack_head(cell)[0])


def first_row(rows: Rows, table: int, prefix: bytes = b"", skip: int = 0) -> bytes:
    """Return a row's key."""
    return sorted(key for key in rows.tables[table] if key.startswith(prefix))[skip]


def test_good(good: dict[int, dict[bytes, bytes]]):
    """A good store is found good, and has rows in every sub-database."""
    assert check(Rows(good)) == []
    assert all(good.values())


def test_live(tmp_path: Path):
    """What a server keeps in memory is checked too."""
    engine = Engine(tmp_path / "store")
    engine.run(*([b"SADD", b"set", b"%d" % number] for number in range(MANY)), [b"SET", b"k", b"v"], [b"GET", b"k"])
    assert engine.check() == []
    row_key = engine.keyspace.databases[0].row_key(b"set")
    entry = engine.keyspace.databases[0].find(b"set")
    entry.count += 1  # type: ignore[union-attr]
    assert any("hot layer" in line for line in engine.check())
    entry.count -= 1  # type: ignore[union-attr]
    engine.keyspace.cache.put(engine.keyspace.databases[0].row_key(b"k"), b"\1other")
    assert any("hot layer" in line for line in engine.check())
    engine.keyspace.cache.drop(engine.keyspace.databases[0].row_key(b"k"))
    (table, owner, _), *_ = engine.keyspace.ranks.directories()
    engine.keyspace.ranks.open(table, owner)._groups[0].sizes[0] += 1
    assert any("ranks:" in line for line in engine.check())
    engine.keyspace.ranks.forget(table, owner)
    engine.run((b"SET", b"volatile", b"v", b"PX", b"1000"))
    engine.keyspace.due.horizon = b"\xff" * 8
    assert any("expiry:" in line for line in engine.check())
    engine.keyspace.due.forget()
    assert engine.check() == []
    assert row_key in dict(engine.keyspace.cache.items())
    engine.close()


# --- one thing broken at a time ---------------------------------------------------------------------------------------------------


def change(table: int, key: bytes, row: bytes | None) -> Callable[[Rows], None]:
    """Return what puts or deletes a row."""

    def apply(rows: Rows) -> None:
        if row is None:
            del rows.tables[table][key]
        else:
            rows.tables[table][key] = row

    return apply


def _head(key: str, edit: Callable[[list[int]], None]) -> Callable[[Rows], None]:
    def apply(rows: Rows) -> None:
        row_key, cell = head_of(rows, key)
        fields = list(fmt.unpack_head(cell))
        edit(fields)
        rows.tables[fmt.KEYS][row_key] = fmt.pack_head(
            cell[0] & fmt.TYPE_MASK, *fields, expire_at_ms=fmt.expire_of(cell), whole=fmt.whole_of(cell)
        )

    return apply


def _field(at: int, value: int) -> Callable[[list[int]], None]:
    def edit(fields: list[int]) -> None:
        fields[at] = value

    return edit


def _more(at: int) -> Callable[[list[int]], None]:
    def edit(fields: list[int]) -> None:
        fields[at] += 1

    return edit


def _row_of(key: str, table: int, row: bytes | None, *, skip: int = 0) -> Callable[[Rows], None]:
    """Return what replaces one row of a collection."""

    def apply(rows: Rows) -> None:
        change(table, first_row(rows, table, owner_of(rows, key), skip), row)(rows)

    return apply


def _add(key: str, table: int, suffix: bytes, row: bytes) -> Callable[[Rows], None]:
    return lambda rows: change(table, owner_of(rows, key) + suffix, row)(rows)


def _cell(key: str, edit: Callable[[bytes], bytes]) -> Callable[[Rows], None]:
    def apply(rows: Rows) -> None:
        row_key, cell = head_of(rows, key)
        rows.tables[fmt.KEYS][row_key] = edit(cell)

    return apply


def _counts(key: str, table: int, row: bytes | None, skip: int = 0) -> Callable[[Rows], None]:
    return lambda rows: change(
        fmt.COUNTS, first_row(rows, fmt.COUNTS, bytes((table,)) + owner_of(rows, key), skip), row
    )(rows)


def _keyspace_row(rows: Rows, row: bytes | None) -> None:
    number = fmt.unpack_databases(rows.tables[fmt.META][fmt.META_DATABASES])[0]
    change(fmt.META, fmt.META_KEYSPACE + fmt.pack_u32(number), row)(rows)


def _tally(**changed: int) -> Callable[[Rows], None]:
    def apply(rows: Rows) -> None:
        number = fmt.unpack_databases(rows.tables[fmt.META][fmt.META_DATABASES])[0]
        row = rows.tables[fmt.META][fmt.META_KEYSPACE + fmt.pack_u32(number)]
        fields = dict(zip(("keys", "volatile", "sum", "flags"), fmt.unpack_keyspace(row), strict=True))
        fields |= {name: fields[name] + by for name, by in changed.items()}
        _keyspace_row(rows, fmt.pack_keyspace(*fields.values()))

    return apply


def _without_an_expires_row(rows: Rows) -> None:
    row_key, cell = head_of(rows, "volatile")
    del rows.tables[fmt.EXPIRES][fmt.pack_u64(fmt.expire_of(cell)) + row_key]


def _wrong_whole_key(rows: Rows) -> None:
    row_key, cell = head_of(rows, LONG)
    rows.tables[fmt.KEYS][row_key] = fmt.pack_string(b"v", 0, b"m" + fmt.whole_of(cell)[1:])


def _two_heads(rows: Rows) -> None:
    _, cell = head_of(rows, "set")
    row_key, _ = head_of(rows, "hash")
    rows.tables[fmt.KEYS][row_key] = cell


def _live_and_garbage(rows: Rows) -> None:
    rows.tables[fmt.GARBAGE][owner_of(rows, "set")] = bytes((fmt.SET,))


def _foreign_database(rows: Rows) -> None:
    databases = fmt.unpack_databases(rows.tables[fmt.META][fmt.META_DATABASES])
    del databases[0]
    rows.tables[fmt.META][fmt.META_DATABASES] = fmt.pack_databases(databases)


def _stream_head(at: int, value: int) -> Callable[[Rows], None]:
    """Return what changes a number in the head of a stream: id, count, first, last, deleted, added, groups."""

    def apply(rows: Rows) -> None:
        row_key, cell = head_of(rows, "stream")
        ident, count, _, first, last = fmt.unpack_head(cell)
        fields = [ident, count, first, last, *fmt.unpack_stream_head(cell)]
        fields[at] = value
        rows.tables[fmt.KEYS][row_key] = fmt.pack_stream_head(*fields)

    return apply


def _group_row(rows: Rows) -> bytes:
    """Return the row of the group that has pending entries."""
    return rows.tables[fmt.GROUPS][owner_of(rows, "stream") + b"group"]


def _group(at: int, value: int | bytes) -> Callable[[Rows], None]:
    """Return what changes a field of that group: id, last, read, pending, consumers, whole name."""

    def apply(rows: Rows) -> None:
        fields = list(fmt.unpack_group(_group_row(rows)))
        fields[at] = value
        rows.tables[fmt.GROUPS][owner_of(rows, "stream") + b"group"] = fmt.pack_group(*fields)

    return apply


def _under_group(table: int, row: bytes | Callable[[bytes], bytes] | None) -> Callable[[Rows], None]:
    """Return what puts or deletes the first row under that group's id."""

    def apply(rows: Rows) -> None:
        key = first_row(rows, table, _group_row(rows)[:8])
        change(table, key, row(rows.tables[table][key]) if callable(row) else row)(rows)

    return apply


def _owned(row: bytes | None, skip: int) -> Callable[[Rows], None]:
    """Return what puts or deletes a row under the id of that group's first consumer: his name, then what he owns."""

    def apply(rows: Rows) -> None:
        consumer = rows.tables[fmt.CONSUMERS][first_row(rows, fmt.CONSUMERS, _group_row(rows)[:8])]
        change(fmt.OWNED, first_row(rows, fmt.OWNED, consumer[:8], skip), row)(rows)

    return apply


U32 = fmt.pack_u32
# What is broken -> (how, a part of one of the lines that say so).
BROKEN: dict[str, tuple[Callable[[Rows], None], str]] = {
    "an unknown meta row": (change(fmt.META, b"what", b""), "no name that is known"),
    "a short meta row": (change(fmt.META, fmt.META_LSN, b"123"), "the row lsn has 3 bytes"),
    "a newer version": (change(fmt.META, fmt.META_VERSION, U32(2)), "format version 2"),
    "no version": (change(fmt.META, fmt.META_VERSION, None), "format version 0"),
    "next_id too low": (change(fmt.META, fmt.META_NEXT_ID, fmt.pack_u64(3)), "next_id is 3"),
    "next_keyspace too low": (change(fmt.META, fmt.META_NEXT_KEYSPACE, U32(1)), "next_keyspace is 1"),
    "databases unreadable": (change(fmt.META, fmt.META_DATABASES, b"\xc1"), "databases cannot be read"),
    "databases of another kind": (change(fmt.META, fmt.META_DATABASES, b"\x81\xa1a\x01"), "does not lead numbers"),
    "databases that share": (
        change(fmt.META, fmt.META_DATABASES, fmt.pack_databases({0: 0, 1: 0})),
        "two databases lead",
    ),
    "a database forgotten": (_foreign_database, "no database leads to it"),
    "a keyspace row short": (lambda rows: _keyspace_row(rows, b"short"), "has 5 bytes"),
    "a keyspace row missing": (lambda rows: _keyspace_row(rows, None), "there is no row that counts it"),
    "keys miscounted": (_tally(keys=1), "its row says"),
    "volatile miscounted": (_tally(volatile=1), "its row says"),
    "expiry sum wrong": (_tally(sum=1), "its row says"),
    "keyspace flags": (_tally(flags=8), "unknown flags"),
    "keyspace counted without a directory": (_tally(flags=1), "there are none, though the owner is counted"),
    "garbage of no kind": (change(fmt.GARBAGE, fmt.pack_u64(1 << 40), b"\x3f"), "neither a keyspace nor an id"),
    "garbage with a wrong name": (change(fmt.GARBAGE, b"abc", bytes((fmt.SET,))), "neither a keyspace nor an id"),
    "garbage beyond next_id": (change(fmt.GARBAGE, fmt.pack_u64(1 << 40), bytes((fmt.SET,))), "next_id is"),
    "garbage of a live id": (_live_and_garbage, "belongs to two keys, or to a key and to garbage"),
    "garbage of a live keyspace": (
        change(fmt.GARBAGE, U32(0), b"\0"),
        "is to be reclaimed, but a database leads to it",
    ),
    "garbage lost": (lambda rows: rows.tables[fmt.GARBAGE].clear(), "neither a key nor garbage leads to it"),
    "a key's row lost": (
        lambda rows: change(fmt.KEYS, head_of(rows, "set")[0], None)(rows),
        "neither a key nor garbage",
    ),
    "an empty cell": (_cell("string", lambda _: b""), "an empty cell"),
    "an unknown type": (_cell("string", lambda _: b"\x3eabc"), "an unknown type 62"),
    "a head cut off": (_cell("set", lambda cell: cell[:-3]), "the head of a set has 14 bytes"),
    "a head too long": (_cell("chunks", lambda cell: cell + b"x"), "the head of a string has 17 bytes"),
    "a cell of one byte": (_cell("volatile", lambda cell: cell[:1]), "too short"),
    "a string too long inline": (_cell("string", lambda cell: cell + bytes(9000)), "bytes inline"),
    "a row key too short": (change(fmt.KEYS, b"\0\0", b"\1v"), "too short"),
    "a long key's digest": (_wrong_whole_key, "the digest of a long name"),
    "a short key's whole": (
        _cell("string", lambda _: fmt.pack_string(b"v", 0, b"string")),
        "a short name's row carries",
    ),
    "a long key without whole": (_cell(LONG, lambda _: b"\1v"), "does not carry the whole name"),
    "a stored name of no length": (change(fmt.KEYS, bytes(4) + b"x" * 490, b"\1v"), "a stored name of 490 bytes"),
    "no row of expires": (_without_an_expires_row, "there is no row of expires for that"),
    "expires another time": (_cell("volatile", lambda cell: cell[:8] + b"\7" + cell[9:]), "expires at another time"),
    "expires without a TTL": (_cell("volatile", lambda _: b"\1v"), "the key has no TTL"),
    "expires without a key": (change(fmt.EXPIRES, fmt.pack_u64(5) + U32(0) + b"nobody", b""), "there is no such key"),
    "expires too short": (change(fmt.EXPIRES, b"abc", b""), "too short"),
    "expires with a whole": (
        lambda rows: change(fmt.EXPIRES, fmt.pack_u64(FAR_MS) + head_of(rows, "volatile")[0], b"w")(rows),
        "a short name's row carries",
    ),
    "two keys, one id": (_two_heads, "belongs to two keys"),
    "an empty collection": (_head("set", _field(1, 0)), "is empty"),
    "unknown flags": (_head("set", _field(2, 16)), "unknown flags"),
    "an uncounted large one": (_head("Set", _field(2, 0)), "is not counted"),
    "counted without a directory": (
        _head("set", _field(2, fmt.COUNTED)),
        "there are none, though the owner is counted",
    ),
    "a hash's count": (_head("hash", _more(1)), "elements, there are"),
    "a set's count": (_head("set", _more(1)), "elements, there are"),
    "a zset's count": (_head("zset", _more(1)), "elements, there are"),
    "a list's count": (_head("list", _more(1)), "elements, there are"),
    "a counted one's count": (_head("Set", _more(1)), "blocks add up to"),
    "a list's first": (_head("list", _more(3)), "the first row stands at"),
    "a list's last": (_head("list", _more(4)), "where the key says the last one stands"),
    "a list's last, lower": (_head("uneven", _field(4, 1 << 62)), "the key says that the last row stands at"),
    "a list that is not even": (_head("uneven", _field(2, 0)), "an even list has its next row at"),
    "an even list that is counted": (_head("even", _field(2, fmt.COUNTED)), "is counted, and even"),
    "a hash without rows": (
        lambda rows: [
            rows.tables[fmt.HASHES].pop(key)
            for key in list(rows.tables[fmt.HASHES])
            if key[:8] == owner_of(rows, "hash")
        ],
        "has no rows",
    ),
    "a field's tag": (_row_of("hash", fmt.HASHES, b"\7v"), "an unknown tag 0x7"),
    "a field's row empty": (_row_of("hash", fmt.HASHES, b""), "too short"),
    "a field's whole cut off": (_row_of("hash", fmt.HASHES, b"\x40\0\0\1\0abc"), "cut off"),
    "a field's whole of a short one": (_row_of("hash", fmt.HASHES, b"\x40\0\0\0\1av"), "a short name's row"),
    "a member's whole of a short one": (_row_of("set", fmt.SETS, b"a"), "a short name's row"),
    "a member lost": (_row_of("Set", fmt.SETS, None, skip=5), "elements, there are"),
    "a list's row lost": (_row_of("even", fmt.LISTS, None, skip=50), "an even list has its next row at"),
    "a list's position": (_add("even", fmt.LISTS, b"xyz", b""), "no position"),
    "a score": (_row_of("zset", fmt.ZSETS, fmt.pack_f64(77.0)), "there is no row of zset.score for that"),
    "a score that is none": (_row_of("zset", fmt.ZSETS, fmt.pack_f64(float("nan"))), "no number"),
    "a score too short": (_row_of("zset", fmt.ZSETS, b"abc"), "too short"),
    "a minus zero": (_head("Zset", _field(2, fmt.COUNTED)), "-0.0"),
    "a row of zset.score lost": (_row_of("Zset", fmt.SCORES, None), "there is no row of zset.score"),
    "a row of zset.score too many": (
        _add("zset", fmt.SCORES, fmt.sortable(9.0) + b"a", b""),
        "the member has another score",
    ),
    "a row of zset.score of nobody": (_add("zset", fmt.SCORES, fmt.sortable(9.0) + b"nobody", b""), "no row of zset"),
    "a whole member in one place": (
        _add("zset", fmt.SCORES, fmt.sortable(1.0) + b"a", b"whole"),
        "carries another whole member",
    ),
    "a chunk lost": (_row_of("chunks", fmt.CHUNKS, None, skip=1), "chunk 1 is missing"),
    "the last chunk lost": (_row_of("chunks", fmt.CHUNKS, None, skip=2), "chunks end at"),
    "a chunk too short": (_row_of("chunks", fmt.CHUNKS, b"abc"), "chunk 0 has 3 bytes"),
    "a chunk too many": (_add("chunks2", fmt.CHUNKS, U32(2), b"x"), "chunk 2 has 1 bytes"),
    "a block's size": (_counts("Set", fmt.SETS, U32(1)), "counts 1 rows, there are"),
    "a block too large": (_counts("Set", fmt.SETS, U32(1 << 20)), "is too large"),
    "a block's row short": (_counts("Set", fmt.SETS, b"x"), "the row has 1 bytes"),
    "the first block lost": (_counts("Hash", fmt.HASHES, None), "does not begin at the beginning"),
    "a block lost": (_counts("Zset", fmt.SCORES, None, skip=1), "blocks add up to"),
    "a block of nobody": (
        change(fmt.COUNTS, bytes((fmt.SETS,)) + fmt.pack_u64(1 << 50), U32(1)),
        "no owner that is counted",
    ),
    "a block of no table": (
        change(fmt.COUNTS, bytes((fmt.CHUNKS,)) + fmt.pack_u64(1), U32(1)),
        "no owner that is counted",
    ),
    "a block of an uncounted one": (
        lambda rows: change(fmt.COUNTS, bytes((fmt.SETS,)) + owner_of(rows, "set"), U32(4))(rows),
        "no owner that is counted",
    ),
    "a block of no keyspace": (change(fmt.COUNTS, bytes((fmt.KEYS,)) + U32(999), U32(1)), "no owner that is counted"),
    "a stream's count": (_stream_head(1, 5), "entries, there are"),
    "a stream's count beyond what was added": (_stream_head(1, 50), "of 3 ever added"),
    "a stream that says it is empty": (_stream_head(1, 0), "has 0 entries, and the first is"),
    "a stream's first": (_stream_head(2, 1), "an id that does not go with the head"),
    "a stream's last": (_stream_head(3, (2 << 64) + 1), "an id that does not go with the head"),
    "a stream's last before its first": (_stream_head(3, 1), "its last id is less than another"),
    "a stream's greatest deleted": (_stream_head(4, 99 << 64), "its last id is less than another"),
    "a stream's groups": (_stream_head(6, 7), "its key says 7 groups, there are 2"),
    "a stream beyond next_id": (_stream_head(0, 1 << 40), "next_id is"),
    "an entry lost": (_row_of("stream", fmt.STREAMS, None, skip=1), "entries, there are 1"),
    "an entry that is none": (_row_of("stream", fmt.STREAMS, b"\x91\xc4\x01a"), "no fields and values"),
    "an entry that is a number": (_row_of("stream", fmt.STREAMS, b"\x07"), "no fields and values"),
    "an entry of texts": (_row_of("stream", fmt.STREAMS, b"\x92\xa1a\xa1b"), "no fields and values"),
    "an entry's id": (_add("stream", fmt.STREAMS, b"abc", b"\x92\xc4\0\xc4\0"), "an id that does not go"),
    "entries of nobody": (change(fmt.STREAMS, fmt.pack_u64(1 << 50) + bytes(16), b"v"), "neither a key nor garbage"),
    "all entries lost": (lambda rows: rows.tables[fmt.STREAMS].clear(), "has no rows, its key says 2"),
    "an owner too short": (change(fmt.STREAMS, b"abc", b"v"), "too short"),
    "a group too short": (_row_of("stream", fmt.GROUPS, b"abc"), "too short"),
    "a group of nobody": (
        change(fmt.GROUPS, fmt.pack_u64(1 << 50) + b"g", fmt.pack_group(1 << 51, 0, 0, 0, 0, b"")),
        "neither a key nor garbage leads to the stream",
    ),
    "a group's name": (_group(5, b"whole"), "a short name's row carries"),
    "a group's read": (_group(2, -7), "has read -7 entries"),
    "a group's pending": (_group(3, 9), "says 9 pending, there are 2; its consumers say 2"),
    "a group's consumers": (_group(4, 9), "says 9 consumers, there are 2"),
    "a group's id": (_group(0, 1 << 50), "the group 1125899906842624 says 2 pending, there are 0"),
    "two groups, one id": (
        lambda rows: _add("stream", fmt.GROUPS, b"twin", _group_row(rows))(rows),
        "belongs to two groups",
    ),
    "a consumer too short": (_under_group(fmt.CONSUMERS, b"abc"), "too short"),
    "a consumer lost": (_under_group(fmt.CONSUMERS, None), "the group has no consumer"),
    "a consumer's name": (_under_group(fmt.CONSUMERS, lambda row: row + b"whole"), "a short name's row carries"),
    "a consumer's time": (
        _under_group(fmt.CONSUMERS, lambda row: row[:16] + b"\xff" * 7 + b"\0" + row[24:]),
        "was active at -256",
    ),
    "a consumer's pending": (_under_group(fmt.CONSUMERS, lambda row: row[:31] + b"\x09"), "says 9 pending, owns 1"),
    "a consumer's id": (_under_group(fmt.CONSUMERS, lambda row: b"\1" + row[1:]), "does not carry its name"),
    "a consumer of nobody": (
        change(fmt.CONSUMERS, fmt.pack_u64(1 << 50) + b"c", fmt.pack_consumer(1 << 51, 0, 0, 0, b"")),
        "neither a stream nor garbage leads to the group",
    ),
    "a pending entry lost": (_under_group(fmt.PENDING, None), "the entry is not pending for this consumer"),
    "a pending entry too short": (_under_group(fmt.PENDING, b"abc"), "the row has 3 bytes"),
    "a pending entry of nobody": (
        change(fmt.PENDING, fmt.pack_u64(1 << 50) + bytes(16), fmt.pack_pending(1, 1, 1)),
        "neither a stream nor garbage leads to the group",
    ),
    "a pending entry of another consumer": (
        _under_group(fmt.PENDING, fmt.pack_pending(1 << 50, 1, 1)),
        "the group has no consumer",
    ),
    "what is owned lost": (_owned(None, skip=1), "does not own it"),
    "an owner's name lost": (_owned(None, skip=0), "does not carry its name"),
    "what is owned with a value": (_owned(b"v", skip=1), "more than the id of an entry"),
    "what nobody owns": (
        change(fmt.OWNED, fmt.pack_u64(1 << 50) + bytes(16), b""),
        "neither a group nor garbage leads to the consumer",
    ),
    "rows of nobody": (
        change(fmt.HASHES, fmt.pack_u64(1 << 50) + b"f", b"\0v"),
        "neither a key nor garbage leads to it",
    ),
    "chunks of nobody": (change(fmt.CHUNKS, fmt.pack_u64(1 << 50) + U32(0), b"v"), "neither a key nor garbage"),
    "keys of nobody": (change(fmt.KEYS, U32(999) + b"k", b"\1v"), "no database leads to it"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(good: dict[int, dict[bytes, bytes]], name: str):
    """Each law that does not hold is named by a line."""
    rows = Rows(good)
    damage, text = BROKEN[name]
    damage(rows)
    lines = check(rows)

    assert [line for line in lines if text in line], lines
    assert len(lines) <= LINES_MAX + 1


def test_lines_are_bounded(good: dict[int, dict[bytes, bytes]]):
    """However much is broken, the lines are few, and say that there are more."""
    rows = Rows(good)
    rows.tables[fmt.KEYS] = dict.fromkeys(rows.tables[fmt.KEYS], b">")
    lines = check(rows)

    assert len(lines) == LINES_MAX + 1
    assert lines[-1].startswith("... and more")


def test_order_is_broken(good: dict[int, dict[bytes, bytes]]):
    """Keys out of order end the walk of that sub-database: a damaged tree may lead in a circle."""

    class Circle(Rows):
        def rows(self, table: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
            if table == fmt.SETS:
                while True:
                    yield from super().rows(table, start)
            yield from super().rows(table, start)

    assert [line for line in check(Circle(good)) if "keys out of order" in line]


def test_engine_fails(good: dict[int, dict[bytes, bytes]]):
    """Where the engine cannot read on, a line says so, and the other sub-databases are still checked."""

    class Failing(Rows):
        def rows(self, table: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
            if table == fmt.HASHES:
                raise StorageError("MDB_CORRUPTED")
            yield from super().rows(table, start)

    rows = Failing(good)
    change(fmt.COUNTS, b"what", b"")(rows)
    lines = check(rows)

    assert [line for line in lines if "cannot read on: MDB_CORRUPTED" in line]
    assert [line for line in lines if line.startswith("counts:")]


# Rows whose loss nobody can notice: how far the log is, which is looked at before, and what is to be reclaimed of nothing.
_UNNOTICED = {fmt.META_LSN, fmt.META_NEXT_ID, fmt.META_NEXT_KEYSPACE}


@given(st.integers(0, 1 << 30))
def test_any_row_lost(good: dict[int, dict[bytes, bytes]], seed: int):
    """Any row may be lost: the check says that something is wrong."""
    chance = random.Random(seed)
    rows = Rows(good)
    table = chance.choice(sorted(fmt.TABLE_NAMES))
    key = chance.choice(sorted(rows.tables[table]))
    del rows.tables[table][key]
    empty = table == fmt.META and key.startswith(fmt.META_KEYSPACE) and fmt.unpack_keyspace(good[table][key])[0] == 0
    reclaimed = _is_of_garbage(good, table, key)

    assert check(rows) or key in _UNNOTICED or empty or reclaimed


def _is_of_garbage(tables: dict[int, dict[bytes, bytes]], table: int, key: bytes) -> bool:
    """Tell whether a row waits for the reclaimer, who does not mind."""
    garbage = tables[fmt.GARBAGE]
    owner = key[1:9] if table == fmt.COUNTS else key[8:12] if table == fmt.EXPIRES else key[:8]
    keyspace = key[1:5] if table == fmt.COUNTS else owner[:4]
    if table in {fmt.META, fmt.GARBAGE}:
        return False
    if table in {fmt.CONSUMERS, fmt.PENDING}:  # of a group that is garbage, or whose stream is
        groups = {row[:8]: group for group, row in tables[fmt.GROUPS].items()}
        return owner in garbage or groups[owner][:8] in garbage
    if table == fmt.OWNED and owner not in garbage:
        group = next(found[:8] for found, row in tables[fmt.CONSUMERS].items() if row[:8] == owner)
        return _is_of_garbage(tables, fmt.CONSUMERS, group)
    if table in {fmt.KEYS, fmt.EXPIRES} or key[:1] == bytes((fmt.KEYS,)):
        return keyspace in garbage
    return owner in garbage


@given(st.integers(0, 1 << 30))
def test_never_raises(good: dict[int, dict[bytes, bytes]], seed: int):
    """Whatever the rows hold, the check returns."""
    chance = random.Random(seed)
    rows = Rows(good)
    for _ in range(chance.randint(1, 30)):
        table = chance.choice(sorted(fmt.TABLE_NAMES))
        key = chance.choice(sorted(rows.tables[table]) or [b"k"])
        row = rows.tables[table].pop(key, b"")
        how = chance.randrange(6)
        if how == 1:
            rows.tables[table][key] = row[: chance.randrange(len(row) + 1)]
        elif how == 2:
            rows.tables[table][key] = chance.randbytes(chance.randrange(40))
        elif how == 3:
            rows.tables[table][chance.randbytes(chance.randrange(1, 30))] = row
        elif how == 4 and row:
            at = chance.randrange(len(row))
            rows.tables[table][key] = row[:at] + bytes((row[at] ^ (1 << chance.randrange(8)),)) + row[at + 1 :]
        elif how == 5:
            rows.tables[table][key[: chance.randrange(1, len(key) + 1)]] = row

    assert isinstance(check(rows), list)


def test_check_live_is_what_debug_check_asks(tmp_path: Path):
    """The live check sees what the running batch has done so far, before it is logged."""
    engine = Engine(tmp_path / "store")
    replies = engine.run((b"SADD", b"s", b"a"), (b"DEBUG", b"CHECK"), (b"SADD", b"s", b"b"), (b"DEBUG", b"CHECK"))
    assert [b"OK", b"OK"] == [replies[1].value, replies[3].value]
    assert check_live(engine.keyspace) == []
    engine.close()
