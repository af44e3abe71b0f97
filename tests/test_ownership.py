"""Ownership: root looks at a store of another user, or makes it compact, and the server goes on as if he had done it himself.

What needs root is skipped without; who is given what is tested without, too: the system's own call is then a double.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lmdbredis import install, ownership
from lmdbredis.ownership import Owner
from tests.crash import Engine
from tests.replicas import wait_for
from tests.servers import Lmdbredis
from tests.test_backup import fill
from tests.test_compact import STORE, Killed, state_of, taken
from tests.tool_stores import tool
from tools import compact
from tools.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = 65534
SERVE_AS_NOBODY = f"""
import concurrent.futures.thread, ctypes, encodings.ascii, encodings.idna, lmdb, os, sys, traceback
from lmdbredis import __main__ as program, commands
commands.load()  # before the interpreter's own files are out of reach
os.setgroups([]), os.setresgid(*[{NOBODY}] * 3), os.setresuid(*[{NOBODY}] * 3)
ctypes.CDLL(None).prctl(1, 9)  # another user's process forgets with whom it is to end
sys.exit(program.main(sys.argv[1:]))
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for another user")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a closed store."""
    fill(tmp_path / "store", 100).close()
    return tmp_path / "store"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let stores belong to a user who is not there, and giving him files be noted only: the file that gets their inodes."""
    noted = tmp_path / "given"
    noted.touch()

    def note(fd: int, uid: int, _gid: int) -> None:
        assert uid == os.geteuid() + 1
        with noted.open("a") as file:  # by children, too
            file.write(f"{os.fstat(fd).st_ino}\n")

    def another(directory: Path) -> Owner:
        return Owner(os.geteuid() + 1, os.getegid(), (directory / "data.mdb").stat().st_mode & 0o777)

    monkeypatch.setattr(ownership, "owner_of", another)
    monkeypatch.setattr(os, "fchown", note)
    return noted


def inodes(directory: Path) -> dict[str, int]:
    """Return the inode of everything in a store."""
    return {str(path.relative_to(directory)): path.stat().st_ino for path in directory.rglob("*")}


def strangers(directory: Path, given: Path, before: dict[str, int]) -> set[str]:
    """Return what has come into a store and was not given to its owner."""
    known = {*before.values(), *map(int, given.read_text().split())}
    return {name for name, inode in inodes(directory).items() if inode not in known}


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- without root -----------------------------------------------------------------------------------------------------------------


def refuse(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_own_store(store: Path, monkeypatch: pytest.MonkeyPatch):
    """In one's own store nothing is given to anybody, so no right is needed for it. That only the group is another's is no harm."""
    monkeypatch.setattr(os, "fchown", refuse)
    (store / "lock.mdb").unlink()
    (store / "LOCK").unlink()
    assert main(["check", str(store)]) == 0
    assert main(["compact", str(store)]) == 0
    monkeypatch.setattr(ownership, "owner_of", lambda _: Owner(os.geteuid(), os.getegid() + 1, 0o640))
    ownership.make_missing(store, "lock.mdb")
    assert (store / "lock.mdb").exists()


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o002, 0])
def test_rights(store: Path, mask: int):
    """What is made is as open to others as data.mdb is, whatever the tool's umask; data.mdb itself has the rights of the one before."""
    (store / "data.mdb").chmod(0o750)
    (store / "lock.mdb").unlink()
    before = os.umask(mask)
    try:
        assert main(["check", str(store)]) == 0
        assert rights(store / "lock.mdb") == 0o640
        assert main(["compact", str(store)]) == 0
    finally:
        os.umask(before)

    assert [0o750, 0o640] == [rights(store / name) for name in ("data.mdb", "CONTROL")]


@pytest.mark.parametrize("command", ["stats", "bigkeys", "check"])
def test_reader(store: Path, given: Path, command: str):
    """The table of readers that a reader makes is the owner's: in the end, and when the engine opens it."""
    (store / "lock.mdb").unlink()
    before = inodes(store)
    assert main([command, str(store)]) == 0

    assert set() == strangers(store, given, before)
    assert {"lock.mdb"} == inodes(store).keys() - before.keys()


def test_backup_of_a_copy(store: Path, given: Path, tmp_path: Path):
    """A backup leaves nothing in the store that is not its owner's."""
    (store / "lock.mdb").unlink()
    (store / "LOCK").unlink()
    before = inodes(store)
    assert main(["backup", str(store), str(tmp_path / "copy")]) == 0

    assert set() == strangers(store, given, before)


@pytest.mark.parametrize("is_killed", [False, True])
def test_compact(store: Path, given: Path, is_killed: bool):
    """After a compaction there is nothing in the store that is not its owner's; of a store that was killed either, log and all."""
    if is_killed:
        engine = Engine(store)
        engine.run([b"SET", b"later", b"v"])
        shutil.copytree(store, store.with_name("killed"), ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
        engine.close()
        store = store.with_name("killed")
    expected, before = state_of(store), inodes(store)
    assert main(["compact", str(store)]) == 0

    assert set() == strangers(store, given, before)
    assert inodes(store)["data.mdb"] != before["data.mdb"]
    assert {path.name for path in store.iterdir()} <= STORE
    assert expected == state_of(store)


def test_compact_that_was_killed(store: Path, given: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed while it makes a copy, beside a server or not, it leaves directories that the owner can clear away."""
    before = inodes(store)

    def killed(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(compact.shutil, "rmtree", lambda *_, **__: None)  # a killed process clears nothing away
    monkeypatch.setattr(compact, "Store", killed)
    with pytest.raises(Killed):
        compact._copy_beside(store, compact._make_place(store))
    monkeypatch.setattr(compact.verify, "look", killed)
    with pytest.raises(Killed):
        compact.compact(store, compact._OwnersDisk(ownership.owner_of(store)))
    left = {name for name in strangers(store, given, before) if (store / name).is_dir()}

    assert {"compact", "compact/making", "compact/kept", "incoming"} <= inodes(store).keys()
    assert left == set()


def test_refused(store: Path, given: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Who may not give files to the owner is told whose the store is, and nothing has changed."""
    monkeypatch.setattr(os, "fchown", refuse)
    (store / "lock.mdb").unlink()
    before = inodes(store)
    for command in ("check", "stats", "compact"):
        assert main([command, str(store)]) == 2
        said = capsys.readouterr()
        assert f"the store belongs to user {os.geteuid() + 1}" in said.err
        assert "broken" not in said.out
    assert inodes(store) == before
    assert given.read_text() == ""


def test_links(store: Path, tmp_path: Path):
    """A link in the place of what is made leads nowhere: what it names is neither made nor given away."""
    outside, link = tmp_path / "outside", store / "lock.mdb"
    link.unlink()
    link.symlink_to(outside)
    ownership.make_missing(store, "lock.mdb")
    assert not outside.exists()
    outside.write_text("")
    outside.chmod(0o600)
    owner = Owner(os.geteuid(), os.getegid(), 0o666)
    with pytest.raises(OSError, match="symbolic links"):
        owner.give_path(link)
    assert rights(outside) == 0o600


# --- beside a server that does not answer -----------------------------------------------------------------------------------------


def test_server_that_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A server that does not answer is not waited for without end; its signal comes later and finds nothing. The next time works."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setattr(compact, "_ANSWER_S", 0.3)
    with Lmdbredis(dir=data) as server:
        client = server.client()
        for number in range(100):
            client.call("SET", f"k{number}", "v")
        client.call("SAVE")
        inode, pid = (data / "data.mdb").stat().st_ino, server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            assert main(["compact", str(data)]) == 2
        finally:
            os.kill(pid, signal.SIGCONT)
        assert "has not answered for 0.3 s, so nothing was done" in capsys.readouterr().err
        wait_for(lambda: "no compact copy" in server.log_path.read_text(), "the late signal")
        assert inode == (data / "data.mdb").stat().st_ino
        assert not (data / "compact").exists()
        monkeypatch.undo()
        assert main(["compact", str(data)]) == 0
        assert inode != (data / "data.mdb").stat().st_ino
        assert client.call("DBSIZE").value == 100


def test_one_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Beside a server only one tool makes a copy: a second would take away what the first one makes."""
    data = tmp_path / "data"
    data.mkdir()
    with Lmdbredis(dir=data):
        lock_fd = compact._lock_place(data)
        assert main(["compact", str(data)]) == 2
        os.close(lock_fd)
        assert "is being made compact already" in capsys.readouterr().err
        assert main(["compact", str(data)]) == 0


def test_server_that_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A server that took the file, and then nothing more is seen of it, is not waited for without end, either."""
    monkeypatch.setattr(compact, "_ANSWER_S", 0.1)
    monkeypatch.setattr(compact, "_FINISH_S", 0.1)
    with pytest.raises(compact.StorageError, match="took the compact copy"):
        compact._wait_for(os.getpid(), tmp_path)


def test_signal_that_comes_late(tmp_path: Path):
    """A signal that finds a copy that is still being made leaves it alone."""
    engine = Engine(tmp_path / "store")
    making = install.compact(tmp_path / "store") / "making"
    making.mkdir(parents=True)
    (making / "CONTROL").write_bytes((tmp_path / "store" / "CONTROL").read_bytes())
    assert taken(engine) == []
    engine.close()

    assert (making / "CONTROL").exists()


# --- as root ----------------------------------------------------------------------------------------------------------------------


class NobodysServer(Lmdbredis):
    """A server that runs as another user, in a directory of his."""

    def __init__(self, *options: str) -> None:
        super().__init__(*options)
        os.chown(self.dir, NOBODY, NOBODY)
        probe = "import os, sys; os.setresuid(*[65534] * 3); sys.exit(not os.access(sys.argv[1], os.W_OK | os.X_OK))"
        reached = subprocess.run([sys.executable, "-c", probe, str(self.dir)], check=False, timeout=60)
        if reached.returncode:
            shutil.rmtree(self.dir)
            pytest.skip(f"another user cannot get to {self.dir}")

    @classmethod
    def program(cls) -> list[str] | None:
        return [sys.executable, "-c", SERVE_AS_NOBODY]


@pytest.fixture
def server() -> Iterator[NobodysServer]:
    """Return a running server of another user, with some keys."""
    with NobodysServer() as server:
        client = server.client()
        for number in range(60):
            client.call("SET", f"k{number}", bytes(20_000))
        client.call("DEL", *(f"k{number}" for number in range(10, 60)))
        client.call("SAVE")
        yield server


def whose(directory: Path) -> set[Any]:
    """Return to whom everything in a directory belongs."""
    return {(status.st_uid, status.st_gid) for status in (path.stat() for path in (directory, *directory.rglob("*")))}


@needs_root
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_root_beside_a_server(server: NobodysServer, mask: int):
    """Root makes the store of a running server compact, as the server's own user would; it can be started again."""
    inode, before = (server.dir / "data.mdb").stat().st_ino, os.umask(mask)
    try:
        assert main(["compact", str(server.dir)]) == 0
    finally:
        os.umask(before)
    assert inode != (server.dir / "data.mdb").stat().st_ino
    assert not (server.dir / "compact").exists()
    server.client().call("SET", "later", "v")
    server.kill9()
    server.start()
    assert server.client().call("DBSIZE").value == 11
    assert whose(server.dir) == {(NOBODY, NOBODY)}


@needs_root
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_root_and_a_store_without_a_server(server: NobodysServer, how: signal.Signals, tmp_path: Path):
    """Root looks at a store that was copied without lock.mdb, backs it up, makes it compact: its server starts each time."""
    looks = (["check"], ["keys", "*"], ["get", "k1"], ["backup", tmp_path / "copy"])
    for number, commands in enumerate((looks, (["compact"],))):
        server.client().call("SET", f"later{number}", "v")
        server.end(how)
        for name, *more in commands:
            (server.dir / "lock.mdb").unlink(missing_ok=True)
            assert tool(name, server.dir, *more)[0] == 0
            assert whose(server.dir) == {(NOBODY, NOBODY)}
        server.start()
        assert server.client().call("DBSIZE").value == 11 + number
