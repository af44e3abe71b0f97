"""Backups beside a server that is restarted meanwhile: it goes back to CONTROL's snapshot, and writes over the pages of later ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lmdbredis import control_file
from lmdbredis.store import Store
from tests.crash import Engine, FaultyDisk
from tests.replicas import wait_for
from tests.servers import Lmdbredis
from tests.stores import commit, killed
from tests.test_backup import fill
from tools import manifest, sources
from tools.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


KEYS = 6000
BATCH = 1000


class Meanwhile:
    """What happens to the server when the pages are about to be copied: something else for each try."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *deeds: Callable[[], object]) -> None:
        self._deeds = list(deeds)
        self.tries = 0
        write_data = sources.Directory.write_data

        def write(source: sources.Directory, *words: Any, **options: Any) -> None:
            self.tries += 1
            if self._deeds:
                self._deeds.pop(0)()
            write_data(source, *words, **options)

        monkeypatch.setattr(sources.Directory, "write_data", write)


def overwrite(one: Lmdbredis, value: str) -> None:
    """Write all keys of a server again, several commits: what no snapshot pins is written over."""
    with one.connect() as client:
        for first in range(0, KEYS, BATCH):
            words = [f"key{number * 7919 % KEYS}" for number in range(first, first + BATCH)]
            pairs = [word for key in words for word in (key, value * 300)]
            assert client.call("MSET", *pairs).value == b"OK"


def get_ahead(one: Lmdbredis) -> None:
    """Write until the newest commit is one that CONTROL does not name."""

    def is_ahead() -> bool:
        overwrite(one, "2")
        with (one.dir / "data.mdb").open("rb") as file:
            bodies = control_file.meta_bodies(file.read(control_file.FIRST_BYTES))
        return max(map(control_file.meta_txnid, bodies)) > control_file.unpack((one.dir / "CONTROL").read_bytes()).txnid

    wait_for(is_ahead, "a commit that is not synced yet")


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Lmdbredis]:
    """Return a server that syncs its first commit, and no later one."""
    (tmp_path / "data").mkdir()
    with Lmdbredis("--checkpoint-dirty", "500", "--checkpoint-interval", "3600000", dir=tmp_path / "data") as made:
        for value in "01":
            overwrite(made, value)
        get_ahead(made)
        yield made


def go_back(one: Lmdbredis) -> None:
    """Kill the server, and start it again: it goes back to the snapshot that CONTROL names, and writes over later ones."""
    one.kill9()
    one.start()
    for value in "345":
        overwrite(one, value)
    get_ahead(one)


@pytest.mark.parametrize("words", [(), ("--quick",), ("--compact", "--quick")])
def test_restarted_meanwhile(one: Lmdbredis, tmp_path: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    """The server is killed and restarted while the pages are copied: the backup is made again, and is whole."""
    meanwhile = Meanwhile(monkeypatch, lambda: go_back(one))
    assert main(["backup", str(one.dir), str(tmp_path / "copy"), *words]) == 0

    assert meanwhile.tries == 2
    assert main(["verify", str(tmp_path / "copy")]) == 0
    assert manifest.read(tmp_path / "copy").keys == {"0": KEYS}


def test_restarted_each_time(
    one: Lmdbredis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The server is restarted again and again: no backup is made, the line says why, and nothing is left."""
    Meanwhile(monkeypatch, *[lambda: go_back(one)] * 10)
    assert main(["backup", str(one.dir), str(tmp_path / "copy"), "--quick"]) == 2

    assert "restarted meanwhile: try again" in capsys.readouterr().err
    assert not list(tmp_path.glob("copy*"))


def test_ended_meanwhile(one: Lmdbredis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The server is killed while the pages are copied, and nobody follows it: they stay, and one try is enough."""
    meanwhile = Meanwhile(monkeypatch, one.kill9)
    assert main(["backup", str(one.dir), str(tmp_path / "copy")]) == 0

    assert meanwhile.tries == 1
    assert manifest.read(tmp_path / "copy").keys == {"0": KEYS}


def test_restarted_behind_what_is_copied(one: Lmdbredis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A snapshot that CONTROL names stays whatever is started: one try is enough."""
    with one.connect() as client:
        assert client.call("SAVE").value == b"OK"
    meanwhile = Meanwhile(monkeypatch, lambda: go_back(one))
    assert main(["backup", str(one.dir), str(tmp_path / "copy")]) == 0

    assert meanwhile.tries == 1
    assert manifest.read(tmp_path / "copy").keys == {"0": KEYS}


class LookingDisk(FaultyDisk):
    """A disk that looks at the mark of a directory just before its snapshot is restored."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self.marks: list[sources.Mark] = []

    def reached(self, point: str) -> None:
        """Look."""
        if point == "restore":
            self.marks.append(sources.mark(self._directory))


def test_mark_of_an_opening(tmp_path: Path):
    """Each opening of a store leaves a mark of its own, and has another one until the snapshot is restored."""
    engine = fill(tmp_path / "store", 30)
    commit(engine.store)
    copy = killed(tmp_path / "store", tmp_path / "killed")
    engine.close(checkpoint=False)
    disk = LookingDisk(copy)
    for _ in range(2):
        Store(copy, "b" * 40, disk=disk).close(checkpoint=False)
        disk.marks.append(sources.mark(copy))
        clock = tmp_path / "clock"  # the file system's, which may tick no oftener than every few milliseconds
        wait_for(
            lambda clock=clock: (
                clock.write_bytes(b"") == 0 and clock.stat().st_mtime_ns > (copy / "LOCK").stat().st_mtime_ns
            ),
            "the clock to tick",
        )

    assert len(disk.marks) == len(set(disk.marks)) == 3


def test_not_what_was_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """What is found in the copy must be the snapshot that was copied, however whole it is: else there is no backup."""
    store = tmp_path / "store"
    fill(store, 30).close()
    older = (store / "data.mdb").read_bytes()
    engine = Engine(store)
    engine.run([b"SET", b"later", b"v"])
    engine.close()
    monkeypatch.setattr(sources.Directory, "write_data", lambda _, target, *__, **___: target.write(older))
    assert main(["backup", str(store), str(tmp_path / "copy"), "--quick"]) == 1

    assert "was copied" in capsys.readouterr().out
    assert not list(tmp_path.glob("copy*"))
