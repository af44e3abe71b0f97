"""The operator's tool: right verdicts on live, cold and damaged stores, an exit status for each, and never a traceback."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import lmdb
import pytest

from lmdbredis import format as fmt
from lmdbredis import wal
from lmdbredis.snapshots import ReadOnly
from tests.crash import Engine, Load
from tests.servers import ROOT, Lmdbredis
from tools.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = 4096


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a closed store with some thousand rows and a log of several segments."""
    engine = Engine(tmp_path_factory.mktemp("tools") / "store")
    for number in range(200):
        engine.run(
            *([b"SET", b"key%d" % index, b"value%d" % number * 9] for index in range(number, number + 10)),
            [b"HSET", b"hash", b"field%d" % number, b"v"],
            [b"ZADD", b"zset", b"%d" % number, b"member%d" % number],
            [b"RPUSH", b"list", b"%d" % number],
        )
        engine.tick(3)
    engine.run([b"SET", b"long" * 200, b"v", b"PX", b"100000000"], [b"SET", b"large", bytes(20_000)])
    engine.close()
    return engine.directory


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """Return a copy of it, to be broken."""
    shutil.copytree(made, tmp_path / "store")
    return tmp_path / "store"


def tool(*words: object) -> tuple[int, str]:
    """Run the tool as a process; return its exit status and all it said."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.main", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


# --- check ------------------------------------------------------------------------------------------------------------------------


def test_good(store: Path):
    """A good store: status 0, the moment it shows, and nothing in the directory is changed."""
    before = {path.name: path.read_bytes() for path in store.rglob("*") if path.is_file() and path.name != "lock.mdb"}
    status, said = tool("check", store)
    after = {path.name: path.read_bytes() for path in store.rglob("*") if path.is_file() and path.name != "lock.mdb"}

    assert (0, True) == (status, said.endswith("ok\n")), said
    assert "as of lsn 0000" in said
    assert "no server has it open" in said
    assert before == after


def test_live(tmp_path: Path):
    """Beside a server under load: clean each time, later each time, and the server goes on."""
    (tmp_path / "data").mkdir()
    load = Load(random.Random(1))
    small = ("--wal-segment-size", "65536", "--checkpoint-interval", "20", "--repl-backlog-size", "20000")
    with Lmdbredis(*small, dir=tmp_path / "data") as one:
        load.start(one.port)
        moments = []
        for _ in range(4):
            status, said = tool("check", tmp_path / "data")
            assert (status, f"beside the server with pid {one.pid}" in said) == (0, True), said
            moments.append(said.split()[3])
            assert tool("wal", tmp_path / "data", "--limit", 3)[0] == 0
        load.stop()
        assert moments == sorted(set(moments))
        with one.connect() as client:
            assert load.verify(client) == []


def test_killed_store(store: Path, tmp_path: Path):
    """A store that was not closed: the newest commit is checked, and the log that a start would take."""
    engine = Engine(store)
    engine.run([b"SET", b"later", b"v"])
    shutil.copytree(store, tmp_path / "copy", ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
    engine.close()
    status, said = tool("check", tmp_path / "copy")

    assert status == 0, said
    assert " 0 records" not in said


def _edit(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def _each_page_with(store: Path, text: bytes, at: int, content: bytes) -> None:
    """Write over all pages that hold some bytes: which of them are still in use only the engine knows."""
    data = (store / "data.mdb").read_bytes()
    for start in range(0, len(data), PAGE):
        if text in data[start : start + PAGE]:
            _edit(store / "data.mdb", start + at, content)


def _lose_pages(store: Path) -> None:
    size = (store / "data.mdb").stat().st_size
    _edit(store / "data.mdb", 2 * PAGE, bytes(size - 2 * PAGE))


def _lose_rows(store: Path, table: bytes) -> None:
    with lmdb.open(str(store), map_size=1 << 30, max_dbs=32) as env:
        handle = env.open_db(table)
        with env.begin(write=True) as transaction:
            transaction.drop(handle, delete=False)
    (store / "CONTROL").unlink()


def _one_row(store: Path, table: bytes, key: bytes, row: bytes) -> None:
    with lmdb.open(str(store), map_size=1 << 30, max_dbs=32) as env:
        handle = env.open_db(table)
        with env.begin(write=True) as transaction:
            transaction.put(key, row, db=handle)
    (store / "CONTROL").unlink()


def _last_segment(store: Path) -> Path:
    return wal.segment_path(store / "wal", wal.segments(store / "wal")[-1])


def _synced_record(store: Path) -> None:
    """Break a record in the middle of the log after the synced snapshot; those behind it say that it had been safe."""
    engine = Engine(store)
    for number in range(5):
        engine.run([b"SET", b"k", b"%d" % number * 50])
        engine.store.wal.sync()
    lsn, base = engine.store.control.lsn, engine.store.wal._base
    engine.close(checkpoint=False)
    _edit(wal.segment_path(store / "wal", base), lsn - base + 40, b"\xee")


def _older_data(store: Path) -> None:
    content = (store / "data.mdb").read_bytes()
    engine = Engine(store)
    for number in range(3):
        engine.run([b"SET", b"k", b"%d" % number])
        engine.store.checkpoint()
    engine.close()
    (store / "data.mdb").write_bytes(content)


# What is broken -> (how, what the tool says of it).
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "CONTROL damaged": (lambda store: _edit(store / "CONTROL", 60, b"?"), "the file CONTROL is damaged"),
    "CONTROL cut off": (lambda store: (store / "CONTROL").write_bytes(b"LR"), "the file CONTROL is damaged"),
    "CONTROL of a newer version": (
        lambda store: _edit(store / "CONTROL", 8, b"\0\0\0\7"),
        "CONTROL has format version 7",
    ),
    "a meta page lost": (lambda store: _edit(store / "data.mdb", PAGE, bytes(PAGE)), ""),
    "data.mdb cut off": (lambda store: os.truncate(store / "data.mdb", 5 * PAGE), "has pages up to"),
    "data.mdb older": (_older_data, "an older state"),
    "all pages lost": (_lose_pages, "data.mdb"),
    "leaf pages lost": (lambda store: _each_page_with(store, b"field100", 0, bytes(PAGE)), ""),
    "leaf pages of noise": (
        lambda store: _each_page_with(store, b"field100", 16, random.Random(1).randbytes(PAGE - 16)),
        "",
    ),
    "a value changed in the log": (_synced_record, "a record that had been synced is not whole"),
    "the log lost": (lambda store: shutil.rmtree(store / "wal"), "the log ends before"),
    "the log shorter": (lambda store: _last_segment(store).write_bytes(b""), "the log ends before"),
    "hash rows lost": (lambda store: _lose_rows(store, b"hash"), "has no rows, its key says 200"),
    "counts lost": (lambda store: _lose_rows(store, b"counts"), "there are none, though the owner is counted"),
    "expires lost": (lambda store: _lose_rows(store, b"expires"), "there is no row of expires for that"),
    "a key too many": (lambda store: _one_row(store, b"keys", bytes(4) + b"extra", b"\1v"), "its row says"),
    "an empty cell": (lambda store: _one_row(store, b"keys", bytes(4) + b"key1", b""), "an empty cell"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_damage(store: Path, name: str):
    """Each kind of damage: status 1 and a line that names it. No traceback."""
    damage, text = BROKEN[name]
    damage(store)
    status, said = tool("check", store)

    assert (1, True) == (status, text in said), said
    if status == 1:
        assert "broken: " in said
        assert said.splitlines()[-1] != "ok"
    else:
        assert said.startswith("lmdbredis: data.mdb cannot be")


@pytest.mark.parametrize("seed", range(8))
def test_noise(store: Path, seed: int):
    """Whatever noise stands in the files, there is a verdict, and it comes from both commands."""
    chance = random.Random(seed)
    for path in [store / "data.mdb", store / "CONTROL", *(store / "wal").iterdir()]:
        if chance.random() < 0.7:
            size = path.stat().st_size
            for _ in range(chance.randint(1, 10)):
                _edit(path, chance.randrange(size), chance.randbytes(chance.choice((1, 40, 3000))))

    assert tool("check", store)[0] in {0, 1, 2}
    assert main(["wal", str(store)]) in {0, 1, 2}


def test_newest_commit_was_never_promised(store: Path, tmp_path: Path):
    """If only a commit is broken that CONTROL does not name yet, the tool says what a start does; and it does."""
    engine = Engine(store)
    for number in range(300):
        engine.run([b"HSET", b"hash", b"x%d" % number, b"new" * 20])
    engine.store.begin_commit()
    while engine.store.is_committing:
        engine.store.poll()
    expected = engine.dump()
    copy = tmp_path / "copy"
    shutil.copytree(store, copy, ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
    engine.close(checkpoint=False)
    content = (copy / "data.mdb").read_bytes()
    torn = [at for at in range(0, len(content), PAGE) if b"new" * 20 in content[at : at + PAGE]]
    for at in torn:
        _edit(copy / "data.mdb", at, bytes(PAGE))
    assert torn
    status, said = tool("check", copy)
    assert (status, "a start goes back to it" in said) == (1, True), said

    engine = Engine(copy)
    assert expected == engine.dump()
    engine.close()
    assert tool("check", copy)[0] == 0


@pytest.mark.parametrize(
    "words", [["check"], ["wal"], ["check", "--what"], [], ["mend", "x"], ["wal", "x", "--from", "xyz"]]
)
def test_usage(words: list[str]):
    """Wrong words: status 2 and how it is used."""
    status, said = tool(*words)

    assert status == 2
    assert said.startswith("usage: lmdbredis")


@pytest.mark.parametrize("command", ["check", "wal"])
def test_no_store(tmp_path: Path, command: str):
    """What is no store is said to be none: an empty directory, a missing one, a file, a data.mdb that is something else."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.mdb").write_bytes(b"this is no database" * 5000)
    for directory in (tmp_path, tmp_path / "nothing", tmp_path / "file", tmp_path / "other"):
        status, said = tool(command, directory)
        assert (status, said.startswith("lmdbredis: ")) == (2, True), said


def test_help():
    """Help shows each command with an example that works."""
    status, said = tool("--help")
    assert (status, "check" in said, "wal" in said) == (0, True, True)
    for command in ("check", "wal"):
        status, said = tool(command, "--help")
        assert (status, f"example: lmdbredis {command}" in said) == (0, True)


# --- wal --------------------------------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str]]:
    """Run ``wal`` here; return its status and lines."""
    status = main(["wal", *map(str, words)])
    return status, capsys.readouterr().out.splitlines()


def test_wal(store: Path, capsys: pytest.CaptureFixture[str]):
    """Segments with their sizes, then each record with its address, its moment, and the rows that it changes, readable."""
    records = list(wal.read(store / "wal", wal.segments(store / "wal")[0]))
    status, lines = run(capsys, store)
    heads = [line for line in lines if not line.startswith((" ", "segment"))]

    assert status == 0
    assert len([line for line in lines if line.startswith("segment")]) == len(wal.segments(store / "wal"))
    assert [f"{record.lsn:016x}" for record in records] == [line.split()[0] for line in heads]
    text = "\n".join(lines)
    for part in (
        "keys       put    keyspace 0, b'key5' = string b'value5",
        "hash       put    id 1, b'field7' = b'v'",
        "zset       put    id 2, b'member7' = 7.0",
        "zset.score put    id 2, 7.0, b'member7' = b''",
        "list       put    id 3, position 0x80",
        "expires    put    at ",
        "hash, id 1, 8 elements",
        "meta       put    databases = {0: 0, 1: 1",
        "meta       put    keyspace: 0 = ",
        "chunks     put    id 4, chunk 0 = b'",
        "string in chunks, id 4, 20000 bytes",
        "counts     put    keys, keyspace 0, block b''",
        "(800 bytes)",
    ):
        assert part in text, part


def test_wal_of_streams(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Entries, groups, consumers and what is pending are readable too."""
    engine = Engine(tmp_path / "streams")
    engine.run(
        *(line.split() for line in (b"XADD s 5-7 f v", b"XGROUP CREATE s g 0", b"XREADGROUP GROUP g ann STREAMS s >"))
    )
    engine.close(checkpoint=False)
    _, lines = run(capsys, tmp_path / "streams")
    text = "\n".join(lines)

    for part in (
        "keys             put    keyspace 0, b's' = stream, id 1, 1 elements",
        "stream           put    id 1, entry 5-7 = b'f' b'v'",
        "stream.groups    put    id 1, b'g' = group, id 2, delivered up to 5-7, 1 read, 1 pending, 1 consumers",
        "stream.consumers put    id 2, b'ann' = consumer, id 3, seen at 1000000 ms, active at 1000000 ms, 1 pending",
        "stream.pending   put    id 2, entry 5-7 = consumer's id 3, delivered at 1000000 ms, 1 times",
        "stream.owned     put    id 3, b'' = b'ann'",
        "stream.owned     put    id 3, entry 5-7 = b''",
    ):
        assert " ".join(part.split()) in " ".join(text.split()), part


def test_wal_json(store: Path, capsys: pytest.CaptureFixture[str]):
    """JSON: a line for each record, and all of its rows come back byte for byte."""
    records = list(wal.read(store / "wal", wal.segments(store / "wal")[0]))
    status, lines = run(capsys, store, "--json")
    found: list[dict[str, Any]] = [json.loads(line) for line in lines]

    assert (status, len(records)) == (0, len(found))
    for record, shown in zip(records, found, strict=True):
        assert (record.lsn, record.end_lsn, record.time_ms) == (
            int(shown["lsn"], 16), int(shown["end_lsn"], 16), shown["time_ms"],
        )  # fmt: skip
        rows: fmt.WriteSet = {}
        for number, name in fmt.TABLE_NAMES.items():
            table = shown["tables"].get(name.decode())
            if table is not None:
                put = {key.encode("latin-1"): row.encode("latin-1") for key, row in table["put"].items()}
                rows[number] = put | {key.encode("latin-1"): None for key in table["delete"]}
        assert fmt.unpack_write_set(record.payload) == rows


def test_wal_from(store: Path, capsys: pytest.CaptureFixture[str]):
    """--from and --limit choose records; an address inside a record means the next one."""
    records = list(wal.read(store / "wal", wal.segments(store / "wal")[0]))
    for number in (0, 1, len(records) // 2, len(records) - 1):
        for lsn in (records[number].lsn, records[number].lsn - 1):
            _, lines = run(capsys, store, "--from", f"{lsn:x}", "--limit", 2)
            heads = [line.split()[0] for line in lines if not line.startswith((" ", "segment"))]
            assert heads == [f"{record.lsn:016x}" for record in records[number : number + 2]]
    assert run(capsys, store, "--limit", 0)[0] == 0
    _, lines = run(capsys, store, "--from", f"{records[-1].end_lsn:x}")
    assert all(line.startswith("segment") for line in lines)


def test_wal_damaged(store: Path, capsys: pytest.CaptureFixture[str]):
    """Of a damaged log everything up to the damage is shown; then a line says where it is, and the status is 1."""
    records = list(wal.read(store / "wal", wal.segments(store / "wal")[0]))
    broken = records[20]
    base = max(base for base in wal.segments(store / "wal") if base <= broken.lsn)
    _edit(wal.segment_path(store / "wal", base), broken.lsn - base + 50, b"\xee\xee")
    status, lines = run(capsys, store)

    assert status == 1
    assert len([line for line in lines if not line.startswith((" ", "segment", "broken"))]) == 20
    assert f"the log is damaged at {broken.lsn:016x}" in lines[-1]
    status, lines = run(capsys, store, "--json")
    assert (status, len(lines), "broken" in json.loads(lines[-1])) == (1, 21, True)


def test_wal_trimmed(store: Path, capsys: pytest.CaptureFixture[str]):
    """Of a log whose beginning was removed, what is left is shown from where it begins."""
    bases = wal.segments(store / "wal")
    wal.segment_path(store / "wal", bases[0]).unlink()
    status, lines = run(capsys, store)
    assert (status, lines[0].split()[1]) == (0, f"{bases[1]:016x}")
    assert main(["wal", str(store), "--from", "20"]) == 2
    assert "the log begins at" in capsys.readouterr().err


def test_reads_an_older_moment(store: Path):
    """A reader keeps its moment: what the tool shows is one commit."""
    reader = ReadOnly(store)
    try:
        assert reader.lsn == int(tool("check", store)[1].split()[3], 16)
    finally:
        reader.close()
