"""The operator's tool, `wal`: the log as it is, byte for byte, followed while it grows, and told where it is damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lmdbredis import control_file, wal
from lmdbredis import format as fmt
from lmdbredis.disk import Disk
from lmdbredis.errors import StorageError
from tests.crash import Engine
from tests.replicas import follow, wait_in_step
from tests.servers import ROOT, Lmdbredis
from tests.tool_stores import edit, last_segment, make, tool
from tools.main import main
from tools.wal import records

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with some of everything."""
    return make(tmp_path_factory.mktemp("wal") / "store")


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """Return a copy of it, to be broken."""
    shutil.copytree(made, tmp_path / "store")
    return tmp_path / "store"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str]]:
    """Run ``wal cat`` here; return its status and lines."""
    status = main(["wal", "cat", *map(str, words)])
    return status, capsys.readouterr().out.splitlines()


def test_wal(store: Path, capsys: pytest.CaptureFixture[str]):
    """Each record with its address, its moment, and the rows that it changes, readable."""
    records = list(wal.read(store / "wal", wal.segments(store / "wal")[0]))
    status, lines = run(capsys, store)
    heads = [line for line in lines if not line.startswith(" ")]

    assert status == 0
    assert [f"{record.lsn:016x}" for record in records] == [line.split()[0] for line in heads]
    text = "\n".join(lines)
    for part in (
        "keys       put    keyspace 0, key5 = string value5",
        "hash       put    id 1, field7 = v",
        "zset       put    id 2, member7 = 7.0",
        "zset.score put    id 2, 7.0, member7 = (empty)",
        "list       put    id 3, position 0x80",
        "expires    put    at ",
        "hash, id 1, 8 elements",
        "meta       put    databases = {0: 0, 1: 1",
        "meta       put    keyspace: 0 = ",
        "chunks     put    id 4, chunk 0 = \\x00",
        "string in chunks, id 4, 20,000 bytes",
        "counts     put    keys, keyspace 0, block (empty)",
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
        "keys             put    keyspace 0, s = stream, id 1, 1 element",
        "stream           put    id 1, entry 5-7 = f v",
        "stream.groups    put    id 1, g = group, id 2, delivered up to 5-7, 1 read, 1 pending, 1 consumer",
        "stream.consumers put    id 2, ann = consumer, id 3, seen at 1000000 ms, active at 1000000 ms, 1 pending",
        "stream.pending   put    id 2, entry 5-7 = consumer's id 3, delivered at 1000000 ms, 1 time",
        "stream.owned     put    id 3, (empty) = ann",
        "stream.owned     put    id 3, entry 5-7 = (empty)",
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
            heads = [line.split()[0] for line in lines if not line.startswith(" ")]
            assert heads == [f"{record.lsn:016x}" for record in records[number : number + 2]]
    assert run(capsys, store, "--limit", 0)[0] == 0
    _, lines = run(capsys, store, "--from", f"{records[-1].end_lsn:x}")
    assert lines == []


@pytest.mark.parametrize("part", ["cat", "tail"])
def test_wal_from_before_its_beginning(store: Path, capsys: pytest.CaptureFixture[str], part: str):
    """A log that begins later than what is asked for is not broken: status 2."""
    bases = wal.segments(store / "wal")
    wal.segment_path(store / "wal", bases[0]).unlink()

    assert main(["wal", part, str(store), "--from", f"{bases[0]:x}"]) == 2
    assert f"the log begins at {bases[1]:016x}" in capsys.readouterr().err


def test_wal_damaged(store: Path, capsys: pytest.CaptureFixture[str]):
    """Of a damaged log everything up to the damage is shown; then a line says where it is, and the status is 1."""
    records = list(wal.read(store / "wal", wal.segments(store / "wal")[0]))
    broken = records[20]
    base = max(base for base in wal.segments(store / "wal") if base <= broken.lsn)
    edit(wal.segment_path(store / "wal", base), broken.lsn - base + 50, b"\xee\xee")
    status, lines = run(capsys, store)

    assert status == 1
    assert len([line for line in lines if not line.startswith((" ", "broken"))]) == 20
    assert f"the log is damaged at {broken.lsn:016x}" in lines[-1]
    status, lines = run(capsys, store, "--json")
    assert (status, len(lines), "broken" in json.loads(lines[-1])) == (1, 21, True)


def test_wal_trimmed(store: Path, capsys: pytest.CaptureFixture[str]):
    """Of a log whose beginning was removed, what is left is shown from where it begins."""
    bases = wal.segments(store / "wal")
    wal.segment_path(store / "wal", bases[0]).unlink()
    status, lines = run(capsys, store)
    assert (status, lines[0].split()[0]) == (0, f"{bases[1] + fmt.SEGMENT_HEADER_BYTES:016x}")
    assert main(["wal", "cat", str(store), "--from", "20"]) == 2
    assert "the log begins at" in capsys.readouterr().err


def test_a_segment_without_a_header(store: Path):
    """A person sees which segment has no whole header, too."""
    last_segment(store).write_bytes(bytes(100))
    lines = tool("wal", "ls", store)[1].splitlines()
    base = wal.segments(store / "wal")[-1]

    assert [f"{base:016x}"] == [line.split()[0] for line in lines if line.endswith("no whole header")]


def test_segments(store: Path):
    """`ls`: every segment, by the address of its first byte, with its size; and how far CONTROL says that all is safe."""
    status, said = tool("wal", "ls", store)
    bases = wal.segments(store / "wal")

    assert status == 0
    assert [f"{base:016x}" for base in bases] == [one.split()[0] for one in said.splitlines()[2:-1]]
    assert f"safe up to lsn {control_file.unpack((store / 'CONTROL').read_bytes()).lsn:016x}" in said
    found = [json.loads(one) for one in tool("wal", "ls", store, "--json")[1].splitlines()]
    assert [(f"{base:016x}", True) for base in bases] == [(one["lsn"], one["whole"]) for one in found]
    edit(wal.segment_path(store / "wal", bases[0]), 0, b"?")
    status, said = tool("wal", "ls", store)
    assert (1, True) == (status, f"broken: the segment {bases[0]:016x}" in said)


def test_tail_follows(tmp_path: Path):
    """`tail` shows the last records, then each one as it is written, across segments, and ends by itself at --limit."""
    engine = Engine(tmp_path / "store")
    for number in range(20):
        engine.run([b"SET", b"old%d" % number, b"v"])
    words = [sys.executable, "-m", "tools.main", "wal", "tail", str(engine.directory), "--last", "2", "--limit", "12"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        lines = iter(process.stdout.readline, "")
        while "old19" not in next(lines):
            pass
        for number in range(10):
            engine.run([b"SET", b"new%d" % number, bytes(30_000)])  # a segment takes two of them
        said = "".join(lines)
        assert process.wait(60) == 0
    assert [number for number in range(10) if f", new{number} = " not in said] == []
    assert len(wal.segments(engine.directory / "wal")) > 3
    engine.close()
    _, said = tool("wal", "tail", engine.directory, "--limit", "3", "--json", "--last", "3")
    records = list(wal.read(engine.directory / "wal", 0))
    assert [record.lsn for record in records[-3:]] == [int(json.loads(one)["lsn"], 16) for one in said.splitlines()]
    _, said = tool("wal", "tail", engine.directory, "--limit", "1", "--json", "--from", f"{records[4].lsn:x}")
    assert records[4].lsn == int(json.loads(said)["lsn"], 16)


def test_tail_of_a_log_that_is_replaced():
    """A replica's snapshot brings another log: `tail` says so and goes on with that."""
    with Lmdbredis() as one, Lmdbredis() as other:
        for number in range(200):
            one.client().call("SET", f"mine{number}", "v" * 100)
        words = [sys.executable, "-m", "tools.main", "wal", "tail", str(one.dir), "--last", "1"]
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            lines = iter(process.stdout.readline, "")
            while "mine199" not in next(lines):
                pass
            follow(one, other.port)
            wait_in_step(other, one)
            other.client().call("SET", "soon", "v")
            while "the log was replaced" not in (line := next(lines)):
                assert "soon" not in line
            while "soon" not in next(lines):
                pass
            process.terminate()


def test_torn_tail_is_no_damage(store: Path):
    """What a power cut tore off the end was never promised: status 0, and the record is not shown."""
    engine = Engine(store)
    engine.run([b"SET", b"last", b"v" * 100])
    end_lsn = engine.store.wal.end_lsn
    engine.close(checkpoint=False)
    assert "last" in tool("wal", "cat", store)[1]
    edit(last_segment(store), end_lsn - wal.segments(store / "wal")[-1] - 10, bytes(10))
    status, said = tool("wal", "cat", store)
    assert (0, False) == (status, "last" in said)


def test_trimmed_while_it_is_read(store: Path):
    """If a server removes segments before they are read, what is left is read, and what is gone is told."""
    log = store / "wal"
    every = list(wal.read(log, wal.segments(log)[0]))
    bases = wal.segments(log)
    assert len(bases) > 3
    told: list[tuple[int, int]] = []
    reading = records(log, bases[0], lambda at, base: told.append((at, base)))
    seen = [next(reading).lsn]
    for base in bases[:3]:
        wal.segment_path(log, base).unlink()
    seen += [record.lsn for record in reading]

    in_first = [record.lsn for record in every if record.lsn < bases[1]]  # it was open
    assert in_first + [record.lsn for record in every if record.lsn > bases[3]] == seen
    assert [(bases[1], bases[3])] == told
    with pytest.raises(StorageError, match="segments are missing"):
        list(records(log, bases[0]))


def test_notes(tmp_path: Path):
    """What a record holds beside rows is shown, too: key events and messages, for replicas."""
    log = wal.Wal(tmp_path / "wal", Disk(), 0, 1 << 16)
    notes = [("K", b"set", 3, b"key\x1b"), ("", b"channel", 0, b"message")]
    log.append(fmt.pack_write_set({fmt.SETS: {fmt.pack_u64(7) + b"a": b""}}, notes), 1000)
    log.close()
    status, said = tool("wal", "cat", tmp_path)
    assert (0, False) == (status, "\x1b" in said)
    assert "set        put    id 7, a = (empty)" in said
    assert r"note       K set 3 key\x1b" in said
    assert [["K", "set", 3, "key\x1b"], ["", "channel", 0, "message"]] == json.loads(
        tool("wal", "cat", tmp_path, "--json")[1]
    )["notes"]
