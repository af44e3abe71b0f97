"""The operator's tool, what reads rows: stats, keys, bigkeys and get say of a store exactly what is in it, and which moment that is."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lmdb
import pytest

from lmdbredis import format as fmt
from lmdbredis import pattern as glob
from lmdbredis.snapshots import ReadOnly
from lmdbredis.table import after_prefix
from tests.crash import Engine, Load, dump
from tests.servers import ROOT, Lmdbredis
from tests.tool_stores import NOW_MS, SECONDS_MAX, contents, several, tool
from tools import bigkeys, stats, view
from tools.child import Damaged, Report
from tools.keys import found
from tools.owners import UNDER_IDS

if TYPE_CHECKING:
    from collections.abc import Iterator

SILENT = Report(lambda _: None)
LONG = b"user:" + b"long" * 200


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a closed store with every type, long names, two databases, expired keys, and what waits for the reclaimer."""
    engine = Engine(tmp_path_factory.mktemp("rows") / "store")
    engine.clock_ms = NOW_MS
    chance = random.Random(5)
    for number in range(300):
        engine.run([b"SET", b"user:%d" % number, bytes(chance.randrange(300))], [b"SET", b"plain%d" % number, b"v"])
        engine.run([b"SET", b"session:%d" % number, b"v", b"PX", b"%d" % chance.randrange(1000, 10**10)])
        engine.run([b"HSET", b"profile:%d" % (number % 40), b"field%d" % number, bytes(chance.randrange(100))])
        engine.run(
            [b"ZADD", b"board", b"%d" % chance.randrange(50), b"member%d" % number], [b"RPUSH", b"list", b"%d" % number]
        )
        engine.run([b"SADD", b"tags:%d" % (number % 3), b"tag%d" % number, b"long" * chance.randrange(200)])
        engine.run([b"XADD", b"events", b"%d-1" % (number + 1), b"field", b"value%d" % number])
        engine.tick(3)
    engine.run(
        [b"SET", LONG, b"v"], [b"SET", b"large:1", bytes(50_000)], [b"HSET", LONG + b"h", LONG, b"v", b"f", b"w"]
    )
    engine.run(
        [b"ZADD", b"signed", b"0", b"a", b"0", b"b", b"-1.5", LONG, b"inf", b"c"],
        [b"SET", b"\x1b[31mred\xff", b"\x1b[0m"],
    )
    engine.run(
        [b"XGROUP", b"CREATE", b"events", b"group", b"0"],
        [b"XREADGROUP", b"GROUP", b"group", b"ann", b"COUNT", b"7", b"STREAMS", b"events", b">"],
    )
    engine.run(
        [b"XGROUP", b"CREATE", b"empty", LONG, b"0", b"MKSTREAM"], [b"RPUSH", b"gone", *[b"v"] * 500], [b"DEL", b"gone"]
    )
    engine.run([b"SELECT", b"3"], [b"SET", b"other:1", b"v"], [b"SADD", b"set", b"a"], [b"SELECT", b"0"])
    for number in range(5):
        engine.run(
            [b"SET", b"expired:%d" % number, b"v", b"PXAT", b"%d" % (NOW_MS + 10**12)],
            [b"HSET", b"expiredhash", b"f", b"v"],
        )
    engine.run([b"PEXPIREAT", b"expiredhash", b"%d" % (NOW_MS + 10**12)])
    engine.close()
    _expire(engine.directory)
    return engine.directory


def _expire(directory: Path) -> None:
    """Make keys that expire in the far future ones that have expired long ago: no server was there to remove them."""
    far, past = fmt.pack_u64(NOW_MS + 10**12), fmt.pack_u64(1)
    with lmdb.open(str(directory), map_size=1 << 30, max_dbs=32) as env:
        keys, expires = env.open_db(b"keys"), env.open_db(b"expires")
        with env.begin(write=True) as transaction:
            for row_key, cell in list(transaction.cursor(keys)):
                if cell[0] & fmt.HAS_EXPIRE and cell[1:9] == far:
                    transaction.put(row_key, cell[:1] + past + cell[9:], db=keys)
                    transaction.delete(far + row_key, db=expires)
                    transaction.put(past + row_key, b"", db=expires)


def cells(directory: Path, database: int = 0) -> dict[bytes, tuple[bytes, int]]:
    """Return cell and bytes of the row, by the key, of a database's keys that have not expired."""
    reader = ReadOnly(directory)
    prefix = fmt.pack_u32(fmt.unpack_databases(reader.get(fmt.META, fmt.META_DATABASES))[database])
    found = {
        fmt.whole_of(cell) or row_key[4:]: (cell, len(row_key) + len(cell))
        for row_key, cell in reader.rows(fmt.KEYS)
        if row_key.startswith(prefix) and fmt.expire_of(cell) != 1
    }
    reader.close()
    return found


def bytes_of(directory: Path, cell: bytes) -> int:
    """Return the bytes of all rows below a key, counted one by one."""
    kind = cell[0] & fmt.TYPE_MASK
    if kind == fmt.STRING:
        return 0
    reader = ReadOnly(directory)
    total = 0

    def below(table: int, ident: int) -> Iterator[tuple[bytes, bytes]]:
        nonlocal total
        for key, row in reader.rows(table, fmt.pack_u64(ident)):
            if not key.startswith(fmt.pack_u64(ident)):
                return
            total += len(key) + len(row)
            yield key, row

    ident = fmt.unpack_u64(cell, fmt.body_offset(cell))
    tables = {fmt.ZSET: (fmt.ZSETS, fmt.SCORES), fmt.STRING_CHUNKS: (fmt.CHUNKS,)}.get(kind) or (fmt.ELEMENTS[kind],)
    for table in tables:
        list(below(table, ident))
    if kind == fmt.STREAM:
        for _, group in below(fmt.GROUPS, ident):
            list(below(fmt.PENDING, fmt.unpack_u64(group)))
            for _, consumer in below(fmt.CONSUMERS, fmt.unpack_u64(group)):
                list(below(fmt.OWNED, fmt.unpack_u64(consumer)))
    reader.close()
    return total


def look(directory: Path, database: int | None = None, top: int = 1000) -> dict[str, Any]:
    """Return what stats finds."""
    return stats.look(directory, b":", database, top, SILENT)


def expected(directory: Path, database: int = 0) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    """Return what stats must find by type, and by prefix."""
    types: dict[str, Counter[str]] = {}
    prefixes: dict[str, Counter[str]] = {}
    for key, (cell, size_bytes) in cells(directory, database).items():
        kind = cell[0] & fmt.TYPE_MASK
        elements = fmt.unpack_head(cell)[1] if kind in fmt.ELEMENTS else 0
        name = key[: key.find(b":") + 1].decode("latin-1")
        figures = {"keys": 1, "elements": elements, "bytes": size_bytes + bytes_of(directory, cell)}
        types.setdefault(view.TYPE_NAMES[kind], Counter()).update(figures)
        prefixes.setdefault(name, Counter()).update(figures)
    return types, prefixes


# --- stats ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", [0, 3])
def test_stats_are_exact(rich: Path, database: int):
    """Keys, elements and bytes, by type and by prefix, are those of a count one by one; expired keys are no keys."""
    found = look(rich, database)
    types, prefixes = expected(rich, database)

    assert types == {name: one for name, one in found["types"].items() if one["keys"]}
    shown = {one.pop("prefix"): one for one in found["prefixes"]}
    assert {database} == {one.pop("db") for one in shown.values()}
    assert prefixes == shown
    assert (6, 1) == (found["expired"]["keys"], found["expired"]["elements"]) if not database else True


def test_no_byte_is_forgotten(rich: Path):
    """Types, expired keys and what waits for the reclaimer add up to all rows of keys and elements; prefixes to the types."""
    found = look(rich)
    reader = ReadOnly(rich)
    total = sum(len(key) + len(row) for table in (fmt.KEYS, *UNDER_IDS) for key, row in reader.rows(table))
    reader.close()
    in_types = sum(one["bytes"] for one in found["types"].values())

    assert total == in_types + found["expired"]["bytes"] + found["garbage_bytes"]
    assert found["garbage_bytes"] > 500
    assert in_types == sum(one["bytes"] for one in (*found["prefixes"], found["other_prefixes"]))


def test_prefixes_are_bounded(rich: Path, monkeypatch: pytest.MonkeyPatch):
    """Beyond so many prefixes those with the fewest keys are one line, and nothing is lost; slices of any size agree."""
    whole = look(rich)
    for rows in (1, 7, 100):
        monkeypatch.setattr(view, "SLICE_ROWS", rows)
        again = look(rich)
        assert {**whole, "moment": "", "as_of": 0} == {**again, "moment": "", "as_of": 0}
    monkeypatch.setattr(stats, "PREFIXES_MAX", 3)
    found = look(rich)
    assert len(found["prefixes"]) <= 7
    assert found["other_prefixes"]["prefixes"] + len(found["prefixes"]) == len(whole["prefixes"])
    for figure in ("keys", "elements", "bytes"):
        assert sum(one[figure] for one in whole["prefixes"]) == sum(
            one[figure] for one in (*found["prefixes"], found["other_prefixes"])
        )
    assert found["types"] == whole["types"]


def test_pages(rich: Path, tmp_path: Path):
    """Free pages are those that a compacting copy leaves behind, but for the few that list them."""
    found = look(rich)
    with lmdb.open(str(rich), max_dbs=32, readonly=True) as env:
        (tmp_path / "copy").mkdir()
        env.copy(str(tmp_path / "copy"), compact=True)
    with lmdb.open(str(tmp_path / "copy"), max_dbs=32, readonly=True) as env:
        used = env.info()["last_pgno"] + 1

    assert 0 <= found["pages"] - found["free_pages"] - used <= 8
    assert (rich / "data.mdb").stat().st_size == found["data_bytes"]
    assert found["tables"]["zset"]["rows"] == found["tables"]["zset.score"]["rows"] == 304


def test_times_to_live(rich: Path):
    """Every key is in one span of the histogram, by the time that is left; each database says how many have one."""
    found = look(rich, 0)
    now_ms = time.time_ns() // 1_000_000
    left = [fmt.expire_of(cell) - now_ms for cell, _ in cells(rich).values()]

    assert found["ttl"]["none"] == sum(one < 0 for one in left)
    assert found["ttl"]["longer"] == sum(one > 30 * 86_400_000 for one in left) == 300
    assert sum(found["ttl"].values()) == len(left)


def test_stats_as_a_person_sees_them(rich: Path):
    """Plain text in a pipe: aligned tables, and no escape codes; JSON is one object."""
    status, said = tool("stats", rich, "--top", 2)
    assert (0, False) == (status, "\x1b" in said)
    assert re.search(r"^as of lsn [0-9a-f]{16} \(snapshot \d+\), now: the log holds nothing newer$", said, re.MULTILINE)
    for line in (r"data\.mdb +[\d.]+ [KM]iB +[\d,]+ pages of 4096 bytes", r"  list +1 +300", r"\(\d+ more\) +[\d,]+"):
        assert re.search(line, said), line
    assert json.loads(tool("stats", rich, "--json")[1])["databases"]["3"] == {"keys": 2, "volatile": 0}


# --- keys -------------------------------------------------------------------------------------------------------------------------

PATTERNS = (
    b"*", b"user:*", b"user:1?", b"user:12", b"user:nobody", b"*1", b"[ps]*:[0-9]", b"", b"\\user:1", b"user:long*", LONG, LONG[:480] + b"*",
    LONG[:470], b"\x1b*", b"expired*", b"**",
)  # fmt: skip


def test_keys(rich: Path):
    """Exactly the keys that the glob matches, in the order of rows, each with its type, size and time."""
    known = cells(rich)
    for pattern, (status, said) in zip(
        PATTERNS, several(*(["keys", rich, os.fsdecode(one), "--json"] for one in PATTERNS)), strict=True
    ):
        *shown, last = map(json.loads, said.splitlines())
        wanted = {key for key in known if glob.matches(pattern, key)}
        assert (0, wanted) == (status, {one["key"].encode("latin-1") for one in shown}), pattern
        assert len(wanted) == len(shown) == last["keys"]
        for one in shown:
            cell, _ = known[one["key"].encode("latin-1")]
            assert one["expire_at_ms"] == (fmt.expire_of(cell) or None)
            if "elements" in one:
                assert one["elements"] == fmt.unpack_head(cell)[1]
    status, said = tool("keys", rich, "user:1*", "--limit", 3)
    assert ["user:1", "user:10", "user:100"] == said.splitlines()[:3]
    assert said.splitlines()[3].startswith("3 keys as of lsn ")
    assert "other:1" in tool("keys", rich, "*", "--db", 3)[1]
    assert tool("keys", rich, "*", "-n", 99)[0] == 0


def test_keys_seek(rich: Path, monkeypatch: pytest.MonkeyPatch):
    """What a pattern begins with literally is looked up: other rows are not read."""
    read: list[bytes] = []
    take = ReadOnly.take

    def noted(self: ReadOnly, table: int, start: bytes, count: int) -> list[tuple[bytes, bytes]]:
        part = take(self, table, start, count)
        read.extend(key for key, _ in part)
        return part

    monkeypatch.setattr(ReadOnly, "take", noted)
    monkeypatch.setattr(view, "SLICE_ROWS", 10)
    with view.View(rich) as opened:
        assert len(list(found(opened, 0, b"user:29*"))) == 11
        assert len(read) <= 20
        assert len(list(found(opened, 0, b"user:2"))) == 1
        assert len(read) <= 20


# --- bigkeys ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [3, 4096])
def test_bigkeys_are_exact(rich: Path, monkeypatch: pytest.MonkeyPatch, rows: int):
    """The biggest keys of each type, by bytes and by elements, are those that a count one by one finds."""
    monkeypatch.setattr(view, "SLICE_ROWS", rows)
    found = bigkeys.look(rich, 0, 4, SILENT)["types"]
    sizes: dict[str, dict[str, int]] = {}
    elements: dict[str, list[int]] = {}
    for key, (cell, size_bytes) in cells(rich).items():
        kind = cell[0] & fmt.TYPE_MASK
        sizes.setdefault(view.TYPE_NAMES[kind], {})[key.decode("latin-1")] = size_bytes + bytes_of(rich, cell)
        if kind in fmt.ELEMENTS:
            elements.setdefault(view.TYPE_NAMES[kind], []).append(fmt.unpack_head(cell)[1])
    for kind, known in sizes.items():
        shown = found[kind]["by_bytes"]
        assert sorted(known.values(), reverse=True)[:4] == [one["bytes"] for one in shown], kind
        assert all(known[one["key"]] == one["bytes"] for one in shown)
        assert sorted(elements.get(kind, []), reverse=True)[:4] == [
            one["elements"] for one in found[kind]["by_elements"]
        ]
    status, said = tool("bigkeys", rich, "--top", 1)
    assert (0, True, False) == (status, "hash: the most bytes" in said, "\x1b" in said)


# --- get --------------------------------------------------------------------------------------------------------------------------


def test_get_is_whole(rich: Path):
    """Every key, of any type, comes back from `get --json` as it is in the store."""
    reader = ReadOnly(rich)
    state = {key: one for key, one in dump(reader).items() if one[1] != 1}
    reader.close()
    some = sorted(
        {*sorted(state)[::9], b"board", b"list", b"signed", b"events", b"empty", b"large:1", LONG, LONG + b"h"}
    )
    answers = several(*(["get", rich, os.fsdecode(key), "--json"] for key in some))
    for key, (status, said) in zip(some, answers, strict=True):
        head, *elements = map(json.loads, said.splitlines())
        kind, expire_at_ms, value = state[key]
        assert (0, kind, expire_at_ms or None) == (status, head["type"], head["expire_at_ms"])
        assert value == _value(kind, head, elements), key


def _value(kind: str, head: dict[str, Any], elements: list[dict[str, Any]]) -> Any:
    """Return what the tool says of a key as `dump` has it."""

    def part(name: str) -> list[bytes]:
        return [one[name].encode("latin-1") for one in elements]

    if kind == "string":
        return head["value"].encode("latin-1")
    if kind == "hash":
        return dict(zip(part("field"), part("value"), strict=True))
    if kind == "set":
        return set(part("member"))
    if kind == "list":
        assert [one["index"] for one in elements] == list(range(len(elements)))
        return part("element")
    if kind == "zset":
        scores = [float(one["score"]) for one in elements]
        assert scores == sorted(scores)
        return dict(zip(part("member"), scores, strict=True))
    return _stream(head, elements)


def _stream(head: dict[str, Any], elements: list[dict[str, Any]]) -> dict[str, Any]:
    stream: dict[str, Any] = {"last": _id(head["last_id"]), "entries": {}, "groups": {}}
    group: dict[str, Any] = {}
    for one in elements:
        if "fields" in one:
            stream["entries"][_id(one["id"])] = [word.encode("latin-1") for word in one["fields"]]
        elif "group" in one:
            group = stream["groups"][one["group"].encode("latin-1")] = {"last": _id(one["last_id"]), "pending": {}}
        elif "pending_id" in one:
            group["pending"][_id(one["pending_id"])] = (one["consumer"].encode("latin-1"), one["deliveries"])
    return stream


def _id(text: str) -> tuple[int, int]:
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence)


def test_get_as_a_person_sees_it(rich: Path):
    """Long values and many elements are cut, and it says so; bytes that are no text are escaped; --all shows all."""
    lines = several(
        ["get", rich, "large:1"], ["get", rich, "large:1", "--all"], ["get", rich, "list"], ["get", rich, "list", "--all"],
        ["get", rich, "signed"], ["get", rich, "events", "--limit", "1"], ["get", rich, os.fsdecode(b"\x1b[31mred\xff")],
        ["get", rich, "nobody"], ["get", rich, "expired:1"], ["get", rich, "user:1", "-n", "3"], ["get", rich, "set", "-n", "3"],
    )  # fmt: skip
    assert [0] * 7 + [3] * 3 + [0] == [status for status, _ in lines]
    said = [text for _, text in lines]
    for text in said:
        assert "\x1b" not in text
    assert said[0].startswith("large:1: string, 50,000 bytes\n")
    assert r"\x00" * 2000 + "... --all shows the rest" in said[0]
    assert r"\x00" * 50_000 in said[1]
    assert "  ... 200 more: --all shows them" in said[2]
    assert ["  299  299", "  0  0"] == [said[3].splitlines()[300], said[3].splitlines()[1]]
    assert ["signed: zset, 4 elements", "  -1.5", "  0  a", "  0  b", "  inf  c"] == [
        line if "user:" not in line else line[:6] for line in said[4].splitlines()[:5]
    ]
    assert "  1-1  field value0\n  ... 299 more" in said[5]
    assert "  group group, last id 7-1, entries read 7, consumers 1, pending 7" in said[5]
    assert "    consumer ann, " in said[5]
    assert r"\x1b[31mred\xff: string, 4 bytes" in said[6]
    assert "lmdbredis: there is no key nobody in database 0\n" == said[7]


def test_get_limits_what_is_pending(rich: Path):
    """--limit holds for what is pending in a stream's groups, for programs too; a person is told how much more there is."""
    (_, said), (_, whole), (_, limited) = several(
        ["get", rich, "events", "--limit", "3"], ["get", rich, "events", "--json"], ["get", rich, "events", "--limit", "3", "--json"]
    )  # fmt: skip
    assert said.count("    pending id ") == 3
    assert "\n    ... 4 more: --all shows them\n" in said
    assert (7, 3) == tuple(text.count('"pending_id"') for text in (whole, limited))
    assert [json.loads(line) for line in limited.splitlines()][-1]["pending_id"] == "3-1"


def test_get_what_nobody_knows(tmp_path: Path):
    """What is not known of a group or of a consumer is said to be unknown."""
    engine = Engine(tmp_path / "store")
    engine.run(*(line.split() for line in (b"XADD s 5-1 f v", b"XADD s 6-1 f v", b"XGROUP CREATE s g 5-1")))
    engine.run(b"XGROUP CREATECONSUMER s g ann".split())
    engine.close()
    status, said = tool("get", tmp_path / "store", "s")

    assert (0, False) == (status, "None" in said)
    assert ("entries read unknown" in said, "active ms unknown" in said) == (True, True), said


def test_get_of_rows_that_are_gone(rich: Path, tmp_path: Path):
    """A key whose rows are not all there is not shown as if it were whole: status 1, whatever is left is shown."""
    shutil.copytree(rich, tmp_path / "store")
    with lmdb.open(str(tmp_path / "store"), map_size=1 << 30, max_dbs=32) as env:
        for key, table in ((b"large:1", fmt.CHUNKS), (b"list", fmt.LISTS)):
            cell, _ = cells(rich)[key]
            handle = env.open_db(fmt.TABLE_NAMES[table])
            with env.begin(write=True) as transaction, transaction.cursor(handle) as cursor:
                if cursor.set_range(after_prefix(cell[1:9])):
                    assert cursor.prev()
                else:
                    assert cursor.last()
                cursor.delete()
    for key, more in (("large:1", "bytes, there are 48960"), ("list", "elements, there are 299")):
        for option in ("--all", "--json"):
            status, said = tool("get", tmp_path / "store", key, option)
            assert (1, True) == (status, more in said), said
    assert "  298  298" in tool("get", tmp_path / "store", "list", "--all")[1]


# --- moments, slices, servers -----------------------------------------------------------------------------------------------------


def test_moment(tmp_path: Path):
    """How old a moment is, is how long ago the first record was written that it does not show; without a log nobody knows."""
    engine = Engine(tmp_path / "store")
    engine.run([b"SET", b"k", b"v"])
    engine.store.checkpoint()
    now_ms = time.time_ns() // 1_000_000
    lsn = engine.store.committed_lsn
    assert view.moment(engine.directory, lsn, lsn, 7).age_ms == 0
    engine.clock_ms = now_ms - 5000
    engine.run([b"SET", b"k", b"w"])
    engine.clock_ms = now_ms
    engine.run([b"SET", b"k", b"x"])
    found = view.moment(engine.directory, lsn, lsn, 7)
    assert 5000 <= found.age_ms < 5000 + 1000 * SECONDS_MAX
    assert re.fullmatch(rf"as of lsn {lsn:016x} \(snapshot 7\), \d+ ms ago", str(found))
    assert "read from lsn 0000000000000020 on" in str(view.moment(engine.directory, 32, lsn, 7))
    assert view.moment(tmp_path, lsn, lsn, 7).age_ms is None
    assert view.moment(engine.directory, lsn, 1 << 40, 7).age_ms is None
    engine.close()


def test_slices_pin_no_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A walk goes on in newer commits: what was there all the time is seen once, and pages that were freed are used again."""
    monkeypatch.setattr(view, "SLICE_ROWS", 50)
    monkeypatch.setattr(view, "SLICE_MS", 0)
    (tmp_path / "data").mkdir()
    seen, sizes = [], []
    with Lmdbredis(dir=tmp_path / "data") as server, server.connect() as client:
        client.pipeline([("SET", f"key{number:03}", bytes(500)) for number in range(500)])
        client.call("SAVE")
        with view.View(tmp_path / "data") as opened:
            for keys, _ in opened.slices(fmt.KEYS):
                seen += [key[4:] for key in keys]
                client.pipeline([("SET", f"key{number:03}", bytes(500)) for number in range(0, 500, 7)])
                client.pipeline([("SET", f"new{len(seen)}", "v"), ("DEL", "key499")])
                client.call("SAVE")
                sizes.append((tmp_path / "data" / "data.mdb").stat().st_size)
            moment = opened.moment()

    assert moment.from_lsn < moment.lsn
    assert [b"key%03d" % number for number in range(499)] == [key for key in seen if key.startswith(b"key")]
    assert len(seen) == len(set(seen))
    assert sizes[-1] < sizes[2] * 1.5, sizes


def test_a_tree_that_never_ends(rich: Path, monkeypatch: pytest.MonkeyPatch):
    """Keys that do not ascend end a walk: a damaged tree might lead round in circles."""
    monkeypatch.setattr(ReadOnly, "take", lambda *_: [(b"\0\0\0\0b", b"\1"), (b"\0\0\0\0a", b"\1")])
    with view.View(rich) as opened, pytest.raises(Damaged, match="keys out of order"):
        list(opened.slices(fmt.KEYS))
    monkeypatch.setattr(ReadOnly, "take", lambda *_: [(b"\0\0\0\0a", b"\1")])
    monkeypatch.setattr(view, "SLICE_ROWS", 1)
    with view.View(rich) as opened, pytest.raises(Damaged, match="keys out of order"):
        list(opened.slices(fmt.KEYS))


def test_beside_a_server(tmp_path: Path):
    """Under load every command answers, later each time, without a fault; the server loses nothing by it."""
    (tmp_path / "data").mkdir()
    load = Load(random.Random(2))
    with Lmdbredis("--checkpoint-interval", "20", "--wal-segment-size", "65536", dir=tmp_path / "data") as one:
        load.start(one.port)
        moments = []
        for _ in range(3):
            directory = tmp_path / "data"
            answers = several(
                ["stats", directory, "--json"], ["keys", directory, "*", "--json"], ["bigkeys", directory, "--json"],
                ["wal", "ls", directory], ["wal", "tail", directory, "--limit", "3"],
            )  # fmt: skip
            assert [0] * 5 == [status for status, _ in answers], answers
            moments += [json.loads(said.splitlines()[-1])["as_of"]["lsn"] for _, said in answers[:3]]
        load.stop()
        assert moments == sorted(moments)
        assert moments[0] < moments[-1]
        with one.connect() as client:
            assert load.verify(client) == []
            client.call("SAVE")
            keys = client.call("DBSIZE").value
        found = json.loads(tool("stats", tmp_path / "data", "-n", 0, "--json")[1])
        assert keys == sum(one["keys"] for one in found["types"].values())


_STUCK = """
import time
from tools import main, view
view.View.slices = lambda *_: (print("here", flush=True), time.sleep(60))
main.main()
"""


def test_killed(rich: Path, tmp_path: Path):
    """A tool that is killed in the middle leaves the store as it was."""
    before = contents(rich)
    words = [sys.executable, "-c", _STUCK, "stats", str(rich)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"here\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
        process.kill()
        for child in map(int, children):
            os.kill(child, signal.SIGKILL)
    assert len(children) == 1
    assert before == contents(rich)
    assert tool("stats", rich)[0] == 0


def test_terminal(rich: Path):
    """On a terminal tables have frames and titles; what clients chose as names still cannot reach it unescaped."""
    primary, secondary = os.openpty()
    words = [sys.executable, "-m", "tools.main", "stats", str(rich), "--delimiter", "["]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(words, cwd=ROOT, stdout=secondary, stderr=secondary, env=environment) as process:
        os.close(secondary)
        said = b""
        while part := _read(primary):
            said += part
    os.close(primary)
    assert process.returncode == 0
    assert b"\x1b[1mTypes" in said
    assert rb"\x1b[" in said
    assert b"\x1b[31m" not in said


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # the other side is gone
        return b""


def test_nobody_reads(rich: Path):
    """`| head` is no fault: the tool ends quietly when nobody reads on."""
    words = [sys.executable, "-m", "tools.main", "keys", str(rich), "*"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
