"""compact: a data file as small as what it holds; whenever it is killed there is the old store or the new one, and a start works."""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from lmdbredis import compaction, control_file, install, wal
from lmdbredis import format as fmt
from lmdbredis.disk import Disk
from lmdbredis.errors import SyncFailed
from tests.client import Disconnected
from tests.crash import Engine, FaultyDisk, PowerDisk, recover
from tests.replicas import Family, control, info, wait_for
from tests.servers import Lmdbredis
from tests.stores import commit, finish
from tests.test_backup import fill, is_free, run_and_kill
from tests.tool_stores import PAGE, each_page_with, edit, synced_record, tool
from tools import compact, verify
from tools.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STORE = {"data.mdb", "lock.mdb", "CONTROL", "LOCK", "wal"}
POINTS = ("install.sealed", "install.data", "install.old", "install.wal", "install.done", "control.written")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a closed store of which most was deleted."""
    engine = fill(tmp_path / "store")
    for number in range(40):
        engine.run([b"SET", b"chunks%d" % number, bytes(100_000)])
        engine.tick(60)
    engine.run(*([b"DEL", b"chunks%d" % number] for number in range(40)))
    while engine.keyspace.oldest_garbage() is not None or engine.store.is_committing:
        engine.tick(60)
    engine.close()
    return tmp_path / "store"


def state_of(directory: Path) -> object:
    """Return the keys of a store, by way of a copy; it must be whole."""
    copy = directory.with_name("opened")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
    found = recover(copy)
    assert found.faults == []
    return found.state


def test_compact(store: Path):
    """It gets smaller, and is the same store: keys, history, log; nothing is left over, and a server goes on with it."""
    before, size = state_of(store), (store / "data.mdb").stat().st_size
    control, segments = control_file.unpack((store / "CONTROL").read_bytes()), wal.segments(store / "wal")
    assert main(["compact", str(store)]) == 0
    after = control_file.unpack((store / "CONTROL").read_bytes())

    assert before == state_of(store)
    assert (store / "data.mdb").stat().st_size < size / 3
    assert (control.replid, control.lsn) == (after.replid, after.lsn)
    assert segments == wal.segments(store / "wal")
    assert {path.name for path in store.iterdir()} <= STORE
    engine = Engine(store)
    engine.run([b"SET", b"later", b"v"])
    engine.close()
    assert main(["compact", str(store)]) == 0
    assert state_of(store) == before | {b"later": ("string", 0, b"v")}


def test_killed_store(store: Path, capsys: pytest.CaptureFixture[str]):
    """A store that was killed is recovered first: nothing of its log is lost. What the file had is said as it was found."""
    engine = Engine(store)
    engine.run([b"SET", b"later", b"v"])
    expected = engine.dump()
    copy = store.with_name("killed")
    shutil.copytree(store, copy, ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
    engine.close(checkpoint=False)
    os.truncate(copy / "data.mdb", (copy / "data.mdb").stat().st_size + (1 << 20))
    size = (copy / "data.mdb").stat().st_size
    assert main(["compact", str(copy)]) == 0

    assert f"data.mdb had {size:,} bytes" in capsys.readouterr().out
    assert state_of(copy) == expected


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a leaf page lost": lambda store: each_page_with(store, b"field100", 0, bytes(PAGE)),
    "a leaf page of noise": lambda store: each_page_with(store, b"field100", 8, random.Random(1).randbytes(60)),
    "data.mdb cut off": lambda store: os.truncate(store / "data.mdb", 5000),
    "the log damaged": synced_record,
    "the log lost": lambda store: shutil.rmtree(store / "wal"),
    "CONTROL damaged": lambda store: edit(store / "CONTROL", 60, b"?"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage(store: Path, how: str):
    """A broken store is said to be broken, however the engine ends: status 1. Nothing is put in its place."""
    DAMAGE[how](store)
    made = (store / "data.mdb").stat().st_ino
    status, said = tool("compact", store)

    assert (1, True, 1) == (status, "broken: " in said, said.count("lmdbredis check")), said
    assert made == (store / "data.mdb").stat().st_ino


def test_refused(store: Path, capsys: pytest.CaptureFixture[str]):
    """What is no store, or a backup that a server never ran on, is left as it is: status 2."""
    backup, empty = store.with_name("backup"), store.with_name("empty")
    assert main(["backup", str(store), str(backup)]) == 0
    empty.mkdir()
    (empty / "data.mdb").write_bytes(b"")
    for directory, text in ((backup, "is a backup"), (empty, "is empty")):
        assert main(["compact", str(directory)]) == 2
        assert text in capsys.readouterr().err
    assert [path.name for path in empty.iterdir()] == ["data.mdb"]
    assert main(["verify", str(backup)]) == 0
    Engine(backup).close()
    assert main(["compact", str(backup)]) == 0


class Load(threading.Thread):
    """A client that writes one key after another and knows which writes were acknowledged."""

    def __init__(self, server: Lmdbredis) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._ends = threading.Event()
        self.acknowledged = 0

    def run(self) -> None:
        with contextlib.suppress(Disconnected), self._server.connect() as client:
            while not self._ends.is_set():
                assert client.call("SET", f"new{self.acknowledged}", "v" * 50).value == b"OK"
                self.acknowledged += 1

    def end(self) -> None:
        self._ends.set()
        self.join()


@contextlib.contextmanager
def loaded_server(directory: Path, *options: str) -> Iterator[tuple[Lmdbredis, Load]]:
    """Return a server of a file that is mostly free, and a client that writes."""
    directory.mkdir()
    with Lmdbredis("--wal-segment-size", "65536", *options, dir=directory) as server:
        client = server.client()
        for number in range(60):
            client.call("SET", f"large{number}", bytes(200_000))
        client.call("DEL", *(f"large{number}" for number in range(60)))
        chunks = 60 * -(-200_000 // fmt.CHUNK_BYTES)
        wait_for(lambda: int(info(client, "storage")["reclaimed_rows"]) >= chunks, "the space to be reclaimed")
        client.call("SAVE")
        load = Load(server)
        load.start()
        yield server, load
        load.end()


def has_all(server: Lmdbredis, load: Load) -> bool:
    """Tell whether every write that was acknowledged is there, and all rows are in order."""
    client = server.client()
    there = client.call("EXISTS", *(f"new{number}" for number in range(load.acknowledged))).value
    return there == load.acknowledged and client.call("DEBUG", "CHECK").value == b"OK"


def test_beside_a_server(tmp_path: Path):
    """Beside a server that is written to: the file gets smaller, no connection is lost, no write; a kill -9 later either."""
    data = tmp_path / "data"
    with loaded_server(data) as (server, load), server.connect() as other:
        before, size = load.acknowledged, (data / "data.mdb").stat().st_size
        assert main(["compact", str(data)]) == 0
        assert (data / "data.mdb").stat().st_size < size / 3
        assert other.call("PING").value == b"PONG"
        wait_for(lambda: load.acknowledged > before + 200, "the client to go on")
        load.end()
        assert has_all(server, load)
        server.kill9()
        server.start()
        assert has_all(server, load)
        # CONTROL.new comes and goes.
        wait_for(lambda: {path.name for path in data.iterdir()} <= STORE, "nothing else to be there")


def test_replicas_go_on():
    """A primary and its replica are made compact, one after the other: the replica needs no snapshot, and has the same."""
    with Family(1) as family:
        client = control(family.primary)
        for number in range(300):
            client.call("SET", f"k{number}", "v" * 100)
        family.wait()
        for server in family.servers:
            assert main(["compact", str(server.dir)]) == 0
        client.call("SET", "later", "v")

        family.check()
        assert family.syncs()[0] == 1


def test_refused_beside_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """While checkpoints are held the server does not take the copy, and says why; it goes on."""
    data = tmp_path / "data"
    with loaded_server(data) as (server, load):
        assert server.client().call("BACKUP", "START").value == b"OK"
        assert main(["compact", str(data)]) == 2
        assert "BACKUP STOP ends it" in capsys.readouterr().err
        assert server.log_path.read_text().count("checkpoints are held") == 1, "it was tried in vain once"
        assert not (data / "compact").exists()
        load.end()
        assert has_all(server, load)


def test_a_copy_without_room(store: Path):
    """That the copy does not fit is no damage of what is copied."""
    engine = Engine(store)
    copy = engine.store.copy()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (store.parent / "copy").open("xb") as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                copy.compact_into(file.fileno())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    copy.close()
    engine.close()


def test_no_room_beside_a_server(tmp_path: Path):
    """A copy for which there is no room is told of in one line; nothing of it is left, and the server goes on."""
    data = tmp_path / "data"
    with loaded_server(data) as (server, load):
        words = (sys.executable, "-m", "tools.main", "compact", str(data))
        limited = ("sh", "-c", 'ulimit -f 64; exec "$@"', "sh")
        done = subprocess.run([*limited, *words], check=False, capture_output=True, text=True)

        assert (2, "") == (done.returncode, done.stdout)
        assert re.fullmatch(r"lmdbredis: .*: File too large\n", done.stderr)
        assert not (data / "compact").exists()
        load.end()
        assert has_all(server, load)


class CutAtSeal(PowerDisk):
    """A disk that loses power when a new state has been sealed; the harshest way."""

    def __init__(self, source: Path, target: Path) -> None:
        super().__init__()
        self._source = source
        self._target = target

    def reached(self, point: str) -> None:
        """Show what is on disk by now."""
        if point == "install.sealed":
            self.cut(self._source, self._target, random.Random(1), harshest=True)


def ready_copy(engine: Engine) -> control_file.Control:
    """Make the compact copy of a commit that no sync has followed, as the tool leaves it; return its CONTROL."""
    for number in range(200):
        engine.run([b"SET", b"unsynced%d" % number, b"v" * 1000])
    commit(engine.store)
    place = install.compact(engine.directory)
    (place / "wal").mkdir(parents=True)
    copy = engine.store.copy()
    with (place / "data.mdb").open("xb") as file:
        copy.compact_into(file.fileno())
    copy.close()
    found = verify.look(place, rows=False)
    control = control_file.Control(
        "a" * 40, lsn=found["lsn"], txnid=found["txnid"], meta_body=bytes.fromhex(found["meta_body"])
    )
    (place / "CONTROL").write_bytes(control_file.pack(control))
    assert control.lsn > engine.store.wal.synced_lsn
    return control


def taken(engine: Engine) -> list[BaseException]:
    """Let a server of this store take the compact copy, but for the exchange itself; return what it died of."""
    deaths: list[BaseException] = []
    server: Any = SimpleNamespace(
        store=engine.store, role=SimpleNamespace(following=None), exchange=lambda: None, die=deaths.append
    )
    compaction.take(server)
    return deaths


def test_log_first(tmp_path: Path):
    """Power is lost just after a copy was sealed: the log is on disk up to where the copy ends, without a hole, and has every write."""
    disk = CutAtSeal(tmp_path / "store", tmp_path / "cut")
    engine = Engine(tmp_path / "store", disk)
    began_lsn, expected_lsn = engine.store.control.lsn, ready_copy(engine).lsn
    disk.trust(install.compact(tmp_path / "store"))
    expected = engine.dump()
    assert taken(engine) == []
    engine.close(checkpoint=False)
    disk.close()

    assert list(wal.read(tmp_path / "cut" / "wal", began_lsn, expected_lsn))[-1].end_lsn == expected_lsn
    found = recover(tmp_path / "cut")
    assert ([], expected) == (found.faults, found.state)


def test_log_that_cannot_be_synced(tmp_path: Path):
    """The log's sync fails when a copy is to be taken: that is final, and nothing was sealed."""
    disk = FaultyDisk()
    engine = Engine(tmp_path / "store", disk)
    ready_copy(engine)
    disk.syncs_fail = True
    deaths = taken(engine)
    disk.syncs_fail = False
    with pytest.raises(SyncFailed):
        engine.close(checkpoint=False)

    assert [SyncFailed] == list(map(type, deaths))
    assert not (tmp_path / "store" / "incoming").exists()


@pytest.mark.slow
def test_killed_beside_a_server(tmp_path: Path):
    """The tool is killed at random, the server too: whatever was acknowledged is there, and the next start clears away."""
    chance = random.Random(19)
    data = tmp_path / "data"
    with loaded_server(data) as (server, load):
        for _ in range(8):
            run_and_kill(chance, 0.9, "compact", data)
        load.end()
        assert has_all(server, load)
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.main", "compact", str(data)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for((data / "compact").exists, "the tool to begin")
        server.kill9()
        process.wait()
        server.start()
        assert has_all(server, load)
        assert not (data / "compact").exists()


class Killed(BaseException):
    """The process was killed here."""


class KilledDisk(Disk):
    """A disk whose process ends at a named point."""

    def __init__(self, point: str) -> None:
        self._point = point

    def reached(self, point: str) -> None:
        if point == self._point:
            raise Killed


@pytest.mark.parametrize("point", POINTS)
def test_killed_between_its_steps(store: Path, point: str, monkeypatch: pytest.MonkeyPatch):
    """Killed between any two of its steps: the next start has everything, and so has the one after a crash of that one."""
    expected = state_of(store)
    monkeypatch.setattr(compact.shutil, "rmtree", lambda *_, **__: None)  # a killed process clears nothing away
    with pytest.raises(Killed):
        compact.compact(store, KilledDisk(point))
    monkeypatch.undo()
    assert state_of(store) == expected
    engine = Engine(store)
    for number in range(300):
        engine.run([b"SET", b"x%d" % number, b"v"])
        engine.tick(20)
    finish(engine.store)  # CONTROL.new comes and goes
    expected, copy = engine.dump(), store.with_name("killed")
    shutil.copytree(store, copy, ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
    engine.close(checkpoint=False)

    assert state_of(copy) == expected
    assert main(["compact", str(copy)]) == 0
    assert state_of(copy) == expected


@pytest.mark.slow
def test_killed_at_random(store: Path):
    """Killed at random moments, again and again: the store is the same each time."""
    chance = random.Random(17)
    expected = state_of(store)
    for _ in range(15):
        run_and_kill(chance, 0.7, "compact", store)
        wait_for(lambda: is_free(store), "the killed tool's child to end")
        assert state_of(store) == expected
    assert main(["compact", str(store)]) == 0
    assert state_of(store) == expected
    assert not (store / "incoming").exists()
