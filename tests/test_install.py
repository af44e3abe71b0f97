"""A new state takes the place of the one in a directory: the process may die before any operation of the disk, also in the next start.

Without a server, so that every operation can be the last; a server that dies there is in `test_replication_syncs`.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from lmdbredis import control_file, install, wal
from lmdbredis.disk import Disk
from lmdbredis.errors import DiskFull
from tests.crash import Engine, PowerDisk, recover

OLD, NEW = "old", "new"
PARTED_LSN = 777


class Killed(BaseException):
    """The process has died."""


class MortalDisk(Disk):
    """A disk before whose operation number `lives` the process dies."""

    def __init__(self, lives: int) -> None:
        self.lives = lives
        self.count = 0

    def _live(self) -> None:
        if self.count == self.lives:
            raise Killed
        self.count += 1

    def reached(self, point: str) -> None:
        """Die, or not."""
        self._live()

    def pwrite(self, fd: int, parts: Any, offset: int) -> None:
        """Die, or write."""
        self._live()
        super().pwrite(fd, parts, offset)

    def fdatasync(self, fd: int) -> None:
        """Die, or not: nobody cuts the power."""
        self._live()

    def rename(self, old: Path, new: Path) -> None:
        """Die, or rename."""
        self._live()
        super().rename(old, new)


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two directories with a state each."""
    place = tmp_path_factory.mktemp("states")
    for name in (OLD, NEW):
        engine = Engine(place / name)
        engine.run((b"SET", b"state", name.encode()), (b"RPUSH", b"l", *(b"%d" % n for n in range(50))))
        engine.close()
    return place


def prepare(states: Path, directory: Path) -> control_file.Control:
    """Let the directory have the old state, and the new one wait in it; return what is to be sealed."""
    shutil.copytree(states / OLD, directory)
    place = install.begin(directory)
    install.compact(directory).mkdir()
    shutil.copy(states / NEW / "data.mdb", place)
    shutil.copytree(states / NEW / "wal", place / "wal", dirs_exist_ok=True)
    return control_file.unpack((states / NEW / "CONTROL").read_bytes())


def put_in_place(directory: Path, disk: Disk, control: control_file.Control | None, diverged_lsn: int | None) -> None:
    """Seal the new state, if that has not been done, and put it where it belongs."""
    if control is not None:
        install.seal(directory, disk, control, diverged_lsn)
    install.finish(directory, disk)


def operations(states: Path, directory: Path, diverged_lsn: int | None) -> int:
    """Return how many operations it takes."""
    disk = MortalDisk(-1)
    put_in_place(directory, disk, prepare(states, directory), diverged_lsn)
    shutil.rmtree(directory)
    return disk.count


def look(directory: Path, diverged_lsn: int | None) -> str:
    """Open the directory as a start does, find one of the two states, whole, and nothing left over; return which."""
    found = recover(directory)
    assert found.faults == []
    assert len(found.state[b"l"][2]) == 50
    state = found.state[b"state"][2].decode()
    kept = [path.name for path in directory.glob("diverged*")]
    assert kept == ([f"diverged-{diverged_lsn:016x}"] if diverged_lsn is not None and state == NEW else [])
    for name in kept:
        assert list(wal.read(directory / name / "wal", 0)), "the old log"
    assert not (directory / "incoming").exists()
    assert not (directory / "wal.old").exists()
    assert not install.compact(directory).exists()
    return state


class WatchedDisk(Disk):
    """A disk that notes, before each rename, whether the place of a compact copy is there."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.seen: list[bool] = []

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file."""
        self.seen.append(self._place.exists())
        super().rename(old, new)


def test_the_place_of_a_compact_copy(states: Path, tmp_path: Path):
    """It goes when everything is where it belongs: a tool waits for that, and then looks whether data.mdb is its own."""
    directory = tmp_path / "data"
    disk = WatchedDisk(install.compact(directory))
    put_in_place(directory, disk, prepare(states, directory), None)

    assert disk.seen == [True] * len(disk.seen)
    assert len(disk.seen) > 3
    assert look(directory, None) == NEW


@pytest.mark.parametrize("diverged_lsn", [None, PARTED_LSN])
def test_killed_anywhere(states: Path, tmp_path: Path, diverged_lsn: int | None):
    """Whatever the last operation was, the next start finds the old state or the new one; from some operation on, the new one."""
    directory = tmp_path / "data"
    count = operations(states, directory, diverged_lsn)
    found = []
    for lives in range(count + 1):
        disk = MortalDisk(lives)
        try:
            put_in_place(directory, disk, prepare(states, directory), diverged_lsn)
        except Killed:
            assert lives < count
        found.append(look(directory, diverged_lsn))
        shutil.rmtree(directory)

    assert found == sorted(found, reverse=True), "first the old one, then the new one"
    assert found[0] == OLD
    assert found[-1] == NEW


@pytest.mark.parametrize("diverged_lsn", [None, PARTED_LSN])
def test_killed_twice(states: Path, tmp_path: Path, diverged_lsn: int | None):
    """Nor does it matter where the start dies that is to finish it."""
    directory = tmp_path / "data"
    count = operations(states, directory, diverged_lsn)
    deaths = 0
    for first in range(count - 12, count, 3):
        for second in range(count):
            with pytest.raises(Killed):
                put_in_place(directory, MortalDisk(first), prepare(states, directory), diverged_lsn)
            sealed = (directory / "incoming" / "CONTROL").exists()
            try:
                put_in_place(directory, MortalDisk(second), None, diverged_lsn)
            except Killed:
                deaths += 1
            else:
                second = count
            state = look(directory, diverged_lsn)
            if sealed:
                assert state == NEW
            shutil.rmtree(directory)
            if second == count:
                break

    assert deaths > count


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, DiskFull), (errno.EACCES, PermissionError)])
def test_no_room_to_begin(
    states: Path, tmp_path: Path, code: int, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
):
    """That there is no room for a new state is a full disk, as everywhere: whoever wanted it there waits before he asks again."""
    directory = tmp_path / "data"
    shutil.copytree(states / OLD, directory)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(kind, match="incoming"):
            install.begin(directory)
    assert look(directory, None) == OLD


def test_log_that_is_elsewhere(states: Path, tmp_path: Path):
    """A log behind a link is refused before anything has changed, also where a new state waits: it would be left there, and be missed."""
    directory, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    control = prepare(states, directory)
    (directory / "wal").rename(elsewhere)
    (directory / "wal").symlink_to(elsewhere)
    for waits in (False, True):
        if waits:
            install.seal(directory, Disk(), control, None)
        before = sorted(path.relative_to(directory) for path in directory.rglob("*"))
        for _ in range(2):
            with pytest.raises(NotADirectoryError, match="wal is a link or a mount point"):
                Engine(directory)
        assert before == sorted(path.relative_to(directory) for path in directory.rglob("*"))
    (directory / "wal").unlink()
    elsewhere.rename(directory / "wal")

    assert look(directory, None) == NEW


def test_on_disk_before_it_counts(states: Path, tmp_path: Path):
    """When CONTROL is sealed, the name of the log that is kept is on disk: a power cut leaves no nameless one."""
    disk = PowerDisk()
    directory = tmp_path / "data"
    install.seal(directory, disk, prepare(states, directory), PARTED_LSN)
    kept = directory / "incoming" / "DIVERGED"

    assert disk._contents[kept.stat().st_ino] == b"diverged-%016x" % PARTED_LSN
    disk.close()
