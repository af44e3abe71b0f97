"""compact: a data file as small as what it holds; whenever it is killed there is the old store or the new one, and a start works."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from lmdbredis import control_file, wal
from lmdbredis.disk import Disk
from tests.crash import Engine, recover
from tests.servers import Lmdbredis
from tests.test_backup import fill, run_and_kill
from tools import compact
from tools.main import main

if TYPE_CHECKING:
    from pathlib import Path

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
    assert {path.name for path in store.iterdir()} <= {"data.mdb", "lock.mdb", "CONTROL", "LOCK", "wal"}
    engine = Engine(store)
    engine.run([b"SET", b"later", b"v"])
    engine.close()
    assert main(["compact", str(store)]) == 0
    assert state_of(store) == before | {b"later": ("string", 0, b"v")}


def test_killed_store(store: Path):
    """A store that was killed is recovered first: nothing of its log is lost."""
    engine = Engine(store)
    engine.run([b"SET", b"later", b"v"])
    expected = engine.dump()
    copy = store.with_name("killed")
    shutil.copytree(store, copy, ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
    engine.close(checkpoint=False)
    assert main(["compact", str(copy)]) == 0

    assert state_of(copy) == expected


def test_running_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Beside a running server it is refused with a clear word, and the server goes on."""
    (tmp_path / "data").mkdir()
    with Lmdbredis(dir=tmp_path / "data") as one, one.connect() as client:
        client.call("SET", "k", "v")
        assert main(["compact", str(tmp_path / "data")]) == 2
        assert "belongs to a running server: stop it first" in capsys.readouterr().err
        assert client.call("GET", "k").value == b"v"


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
    while engine.store.is_committing or engine.store.is_syncing:
        engine.store.poll()  # CONTROL.new comes and goes
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
        assert state_of(store) == expected
    assert main(["compact", str(store)]) == 0
    assert state_of(store) == expected
    assert not (store / "incoming").exists()
