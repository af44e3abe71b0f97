"""Backups: whatever way they are made, under load or killed half way, they are whole or they are none; damage is never restored."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from lmdbredis import control_file, wal
from lmdbredis.errors import NewerFormat, StorageError
from tests.crash import Engine, FaultyDisk, Load, recover
from tests.replicas import wait_for
from tests.servers import ROOT, Lmdbredis, free_port
from tests.stores import commit, killed
from tests.test_holds import SMALL, faults_of_copy
from tests.tool_stores import tool
from tools import child, copying, manifest, sources, verify
from tools.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import Server

PAGE = 4096


def fill(directory: Path, rounds: int = 300) -> Engine:
    """Return an engine on a new store with rows of all kinds, and several segments of log."""
    engine = Engine(directory, FaultyDisk())
    for number in range(rounds):
        engine.run(
            *([b"SET", b"key%d" % index, b"value%d" % number * 9] for index in range(number, number + 10)),
            [b"HSET", b"hash", b"field%d" % number, b"v"],
            [b"ZADD", b"zset", b"%d" % number, b"member%d" % number],
            [b"SET", b"large", bytes(20_000)],
        )
        engine.tick(3)
    return engine


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the closed store `store` and its backup `backup`."""
    root = tmp_path_factory.mktemp("backups")
    fill(root / "store").close()
    assert main(["backup", str(root / "store"), str(root / "backup")]) == 0
    return root


@pytest.fixture
def backup(made: Path, tmp_path: Path) -> Path:
    """Return a copy of the backup, to be broken."""
    shutil.copytree(made / "backup", tmp_path / "backup")
    return tmp_path / "backup"


def files(directory: Path) -> dict[str, bytes]:
    """Return the content of all files, but for the table of readers."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "lock.mdb"
    }


# --- what a backup is -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--compact"], ["--quick"], ["--compact", "--quick"]])
def test_whole(made: Path, tmp_path: Path, words: list[str]):
    """A backup is a directory that a server starts on, with the same keys; the source is not touched; the manifest tells what it holds."""
    before = files(made / "store")
    assert main(["backup", str(made / "store"), str(tmp_path / "copy"), *words]) == 0
    said = manifest.read(tmp_path / "copy")
    source, copy = recover_copy(made / "store", tmp_path), recover_copy(tmp_path / "copy", tmp_path)

    assert before == files(made / "store")
    assert (copy.faults, copy.state, copy.end_lsn) == ([], source.state, source.end_lsn)
    assert said.keys == {"0": len(source.state)}
    assert said.end_lsn == f"{source.end_lsn:016x}"
    assert {*said.files, manifest.NAME} == set(files(tmp_path / "copy"))
    assert main(["verify", str(tmp_path / "copy")]) == 0
    if "--compact" in words:
        assert said.files["data.mdb"]["bytes"] < len(before["data.mdb"])


def recover_copy(directory: Path, tmp_path: Path):
    """Open a copy of a directory as a start does: it may write."""
    shutil.rmtree(tmp_path / "opened", ignore_errors=True)
    shutil.copytree(directory, tmp_path / "opened", ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
    return recover(tmp_path / "opened")


def test_killed_store(tmp_path: Path):
    """Of a store that was killed, the backup has what a start would have: of a newest commit that is torn, nothing but what the log says."""
    engine = fill(tmp_path / "store", 100)
    engine.store.checkpoint()
    for number in range(300):
        engine.run([b"HSET", b"hash", b"x%d" % number, b"new" * 20])
    commit(engine.store)
    engine.run([b"SET", b"last", b"v"])
    expected = engine.dump()
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "store", killed, ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
    engine.close(checkpoint=False)
    content = bytearray((killed / "data.mdb").read_bytes())
    for at in range(0, len(content), PAGE):
        if b"new" * 20 in content[at : at + PAGE]:
            content[at : at + PAGE] = bytes(PAGE)
    (killed / "data.mdb").write_bytes(content)
    assert main(["backup", str(killed), str(tmp_path / "copy")]) == 0
    found = recover_copy(tmp_path / "copy", tmp_path)

    assert ([], expected) == (found.faults, found.state)


def lost(log: Path) -> None:
    shutil.rmtree(log)


def without_segments(log: Path) -> None:
    for base in wal.segments(log):
        wal.segment_path(log, base).unlink()


def emptied(log: Path) -> None:
    for base in wal.segments(log):
        wal.segment_path(log, base).write_bytes(b"")


@pytest.mark.parametrize("damage", [lost, without_segments, emptied])
@pytest.mark.parametrize("is_ahead", [False, True])
def test_killed_store_without_its_log(
    tmp_path: Path, damage: Callable[[Path], None], is_ahead: bool, capsys: pytest.CaptureFixture[str]
):
    """A killed store whose log is gone is refused as a start refuses it, whether it was ahead of CONTROL or not; nothing is left."""
    engine = fill(tmp_path / "store", 30)
    engine.store.checkpoint()
    engine.run([b"SET", b"later", b"v"])
    if is_ahead:
        commit(engine.store)
    left = killed(tmp_path / "store", tmp_path / "killed")
    engine.close(checkpoint=False)
    damage(left / "wal")
    with pytest.raises(StorageError, match="the log ends before"):
        recover_copy(left, tmp_path)
    assert main(["backup", str(left), str(tmp_path / "copy")]) == 2

    assert "the log does not reach" in capsys.readouterr().err
    assert not list(tmp_path.glob("copy*"))


def test_bare_copy_as_source(made: Path, tmp_path: Path):
    """A directory with nothing but data.mdb, as mdb_copy makes it, can be started, backed up and restored."""
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(made / "store" / "data.mdb", bare)
    assert main(["backup", str(bare), str(tmp_path / "copy")]) == 0
    assert main(["restore", str(tmp_path / "copy"), "-o", str(tmp_path / "again")]) == 0
    expected = recover_copy(made / "store", tmp_path).state

    for directory in (bare, tmp_path / "copy", tmp_path / "again"):
        found = recover_copy(directory, tmp_path)
        assert ([], expected) == (found.faults, found.state), directory


def test_broken_source(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Of a store that breaks a law no backup is made: status 1, and nothing is left."""
    store = tmp_path / "store"
    shutil.copytree(made / "store", store)
    content = bytearray((store / "data.mdb").read_bytes())
    for at in range(0, len(content), PAGE):
        if b"field100" in content[at : at + PAGE]:
            content[at : at + PAGE] = bytes(PAGE)
    (store / "data.mdb").write_bytes(content)

    assert main(["backup", str(store), str(tmp_path / "copy")]) == 1
    assert "broken: " in capsys.readouterr().out
    assert not list(tmp_path.glob("copy*"))


@pytest.mark.parametrize("words", [[], ["--compact"]])
@pytest.mark.parametrize("size_bytes", [0, 5000, 2 * PAGE, 1 << 17])
def test_source_cut_off(made: Path, tmp_path: Path, words: list[str], size_bytes: int):
    """Of a store whose data ends too soon no backup is made; the tool says so, whatever happens to the engine."""
    store = tmp_path / "store"
    shutil.copytree(made / "store", store)
    os.truncate(store / "data.mdb", size_bytes)
    status, said = tool("backup", store, tmp_path / "copy", *words)

    assert (status, "broken: " in said, "lmdbredis: " in said) == (
        (1, True, False) if size_bytes else (2, False, True)
    ), said
    assert size_bytes or "data.mdb is empty" in said
    assert not list(tmp_path.glob("copy*"))


def test_refusals(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What cannot be done is said, with status 2, and nothing is made: a target that is there, no store, a server elsewhere, no backup."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_bytes(b"precious")
    (tmp_path / "copy.partial").mkdir()
    (tmp_path / "copy.partial" / "thesis.doc").write_bytes(b"precious")
    store, port = str(made / "store"), free_port()
    for words, text in (
        (["backup", store, str(tmp_path / "full")], "is there already"),
        (["backup", store, str(tmp_path / "copy")], "is in the way"),
        (["backup", str(tmp_path), str(tmp_path / "x")], "is not a store"),
        (["backup", f"localhost:{free_port()}", str(tmp_path / "x")], "refused"),
        (["backup", f"127.0.0.1:{port}", str(tmp_path / "x")], f"127.0.0.1:{port}: Connection refused"),
        (["backup", "localhost:99999", str(tmp_path / "x")], "localhost:99999: there is no such port"),
        (["backup", "localhost:0", str(tmp_path / "x")], "localhost:0: there is no such port"),
        (["backup", "a..b:6379", str(tmp_path / "x")], "a..b:6379: that is no name of a host"),
        (["backup", "localhost:\u0661", str(tmp_path / "x")], "is not a store"),
        (["backup", "no.such.host.invalid:6379", str(tmp_path / "x")], "no.such.host.invalid:6379: "),
        (["backup", store, f"{store}/sub"], "is inside the store"),
        (["backup", store, f"{store}/wal/../deep/sub"], "is inside the store"),
        (["restore", str(made / "backup"), "-o", str(tmp_path / "full")], "is not empty"),
        (["restore", str(made / "backup"), "-o", str(tmp_path / "full" / "file")], "is not empty"),
        (["compact", str(tmp_path)], "is not a store"),
        (["restore", store, "-o", str(tmp_path / "x")], "no finished backup"),
        (["verify", store], "no finished backup"),
        (["verify", str(tmp_path / "none")], "no finished backup"),
        (["verify", str(tmp_path / "full" / "file")], "no finished backup"),
    ):
        assert main(words) == 2, words
        assert text in capsys.readouterr().err
    assert sorted(files(tmp_path)) == ["copy.partial/thesis.doc", "full/file"]
    assert not (tmp_path / "x").exists()


# --- restore --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_there", [False, True])
def test_restore(made: Path, tmp_path: Path, is_there: bool):
    """A restored store has everything, under a history's name of its own, in a directory that was missing or empty."""
    target = tmp_path / "deep" / "store" if not is_there else tmp_path / "store"
    if is_there:
        target.mkdir()
    assert main(["restore", str(made / "backup"), "-o", str(target)]) == 0
    control = control_file.unpack((target / "CONTROL").read_bytes())
    found, expected = recover_copy(target, tmp_path), recover_copy(made / "store", tmp_path)

    assert ([], expected.state) == (found.faults, found.state)
    assert control.replid not in {manifest.read(made / "backup").replid, control_file.NO_REPLID}


def test_nothing_is_made_in_what_it_is_made_from(
    made: Path, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """No store is made inside its backup, and no backup inside its store, by whatever name; both are as they were."""
    store = tmp_path / "store"
    shutil.copytree(made / "store", store)
    for source, kind, before, after in ((backup, "backup", "restore", "-o"), (store, "store", "backup", "--")):
        link = tmp_path / f"link-{kind}"
        link.symlink_to(source)
        (source / "empty").mkdir()
        (tmp_path / f"into-{kind}").symlink_to(source / "empty")
        kept = files(source)
        monkeypatch.chdir(source / "wal")
        for given, target in (
            (source, source / "in"),
            (source, source / "wal" / ".." / "deep" / "in"),
            (source, source / "empty"),
            (source, "in"),
            (source, "../in"),
            ("..", source / "in"),
            ("..", "../in"),
            (source, link / "in"),
            (link, source / "in"),
            (source, tmp_path / f"into-{kind}"),
            (source, tmp_path / f"into-{kind}" / "in"),
        ):
            assert main([before, str(given), after, str(target)]) == 2, (given, target)
            assert f"{target} is inside the {kind}" in capsys.readouterr().err
        assert kept == files(source)
        assert not (source / "in").exists()
        assert not (source / "deep").exists()
    assert main(["restore", str(backup), "-o", f"{backup}-beside"]) == 0


def test_a_link_that_leads_to_itself(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A link that leads to itself is no place for a backup or a store: status 2, a line that says so, and nothing is left."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for words in (["backup", str(made / "store"), str(loop)], ["restore", str(made / "backup"), "-o", str(loop)]):
        assert main(words) == 2
        assert str(loop) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [loop]


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit changed": lambda path: _flip(path, path.stat().st_size // 2),
    "its first bit changed": lambda path: _flip(path, 0),
    "its last bit changed": lambda path: _flip(path, -1),
    "cut off": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_backup(made: Path, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]):
    """A backup of which any one file is damaged in any way is refused, with status 1 and a line; nothing is left of the try."""
    for name in files(made / "backup"):
        shutil.rmtree(tmp_path / "backup", ignore_errors=True)
        shutil.copytree(made / "backup", tmp_path / "backup")
        DAMAGE[how](tmp_path / "backup" / name)

        status = 2 if (name, how) == (manifest.NAME, "missing") else 1  # without that it is no backup
        capsys.readouterr()
        assert main(["restore", str(tmp_path / "backup"), "-o", str(tmp_path / "target")]) == status, name
        assert ("broken: " in capsys.readouterr().out, status) in {(True, 1), (False, 2)}
        assert main(["verify", str(tmp_path / "backup"), "--quick"]) == status, name
        assert not (tmp_path / "target").exists()


def test_manifest(backup: Path):
    """A manifest is read back as it was; any byte changed is seen; names of files elsewhere, and newer formats, are refused."""
    said = manifest.read(backup)
    text = (backup / manifest.NAME).read_text()
    assert said.text() == text
    for at in range(0, len(text) - 1, 7):
        changed = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
        (backup / manifest.NAME).write_text(changed)
        with pytest.raises(child.Damaged):
            manifest.read(backup)
    content = json.loads(text)
    for change in (
        {"files": content["files"] | {"../x": {"bytes": 0, "crc32": "00000000"}}},
        {"files": {}},
    ):
        (backup / manifest.NAME).write_text(manifest._with_sum(content | change))
        with pytest.raises(child.Damaged):
            manifest.read(backup)
    (backup / manifest.NAME).write_text(manifest._with_sum(content | {"format": 2}))
    with pytest.raises(NewerFormat):
        manifest.read(backup)


def test_a_backup_that_became_a_store(backup: Path, capsys: pytest.CaptureFixture[str]):
    """If a server was started on a backup, it is not called damaged; a backup that was only looked at is one."""
    assert main(["check", str(backup)]) == 0
    assert main(["backup", str(backup), str(backup.with_name("other"))]) == 0
    assert main(["verify", str(backup)]) == 0
    Engine(backup).close()
    capsys.readouterr()
    for words in (["verify", str(backup)], ["restore", str(backup), "-o", str(backup.with_name("third"))]):
        assert main(words) == 2
        assert "it is a backup no more but a store" in capsys.readouterr().err


@pytest.mark.parametrize("error", ["EXDEV", "EOPNOTSUPP"])
def test_other_file_systems(backup: Path, tmp_path: Path, error: str, monkeypatch: pytest.MonkeyPatch):
    """Where the kernel cannot copy between two files itself, the bytes are the same."""
    import errno

    def refuse(*_: object) -> int:
        raise OSError(getattr(errno, error), "says the test")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    with (backup / "data.mdb").open("rb") as file:
        said = copying.copy_file(file.fileno(), tmp_path / "copy", lambda _: None)

    assert (tmp_path / "copy").read_bytes() == (backup / "data.mdb").read_bytes()
    assert said == manifest.read(backup).files["data.mdb"]


class Beside:
    """What reads a store from another process, for a store in this one, which the engine opens once only."""

    def __init__(self, engine: Engine) -> None:
        self.copy = engine.store.copy

    def close(self) -> None:
        """Have nothing to let go."""


def test_segments_that_go_while_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Segments that the server removes or begins while a backup is made: the copy has everything up to its end, without a gap."""
    engine = fill(tmp_path / "store", 60)
    monkeypatch.setattr(sources, "ReadOnly", lambda _: Beside(engine))
    source = sources.Directory(tmp_path / "store")
    began = engine.store.wal.end_lsn
    for number in range(200):
        engine.run([b"SET", b"k%d" % number, b"v" * 2000])
    engine.store.checkpoint()
    wal.close_all(engine.store.wal.trim(engine.store.wal.end_lsn))
    target = copying.Target(tmp_path / "data.mdb")
    (tmp_path / "wal").mkdir()
    source.write_data(target, tmp_path / "wal", lambda _: None, compact=False)
    target.close()
    source.write_log(tmp_path / "wal", lambda _: None)
    source.close()
    end_lsn = [record.end_lsn for record in wal.read(tmp_path / "wal", source._copy.lsn)][-1]

    assert end_lsn >= began
    engine.close(checkpoint=False)


# --- under load -----------------------------------------------------------------------------------------------------------------


def with_tool(*words: str) -> Callable[[Path, Path], None]:
    """Return what makes a backup with our tool."""

    def make(directory: Path, target: Path) -> None:
        status, said = tool("backup", directory, target, *words)
        assert status == 0, said

    return make


def with_lmdb(directory: Path, target: Path) -> None:
    """Make a copy of the last commit with LMDB's own tool, or the binding's."""
    program = shutil.which("mdb_copy")
    if program:
        target.mkdir()
    words = [program, "-c", str(directory), str(target)] if program else [sys.executable, "-m", "lmdb", "-S", "1048576", "-e", str(directory), "copy", "--compact", str(target)]  # fmt: skip
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


WAYS: dict[str, Callable[[Path, Path], None]] = {
    "tool": with_tool("--quick"),
    "tool --compact": with_tool("--compact"),
    "mdb_copy": with_lmdb,
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_under_load(tmp_path: Path, way: str):
    """Backups one after another while clients write: each starts, is clean, and has what was acknowledged before it, in whole batches."""
    chance = random.Random(7)
    load = Load(chance)
    (tmp_path / "data").mkdir()
    with Lmdbredis(*SMALL, dir=tmp_path / "data") as one, one.connect() as client:
        load.start(one.port)
        for number in range(4):
            time.sleep(chance.uniform(0.05, 0.3))  # the moment is the random draw itself
            acknowledged = [ledger.acknowledged for ledger in load.ledgers]
            if way == "mdb_copy":  # it has the last commit: what was acknowledged before the SAVE
                assert client.call("SAVE").value == b"OK"
            copy = tmp_path / f"copy{number}"
            WAYS[way](tmp_path / "data", copy)
            sent = [len(ledger.sent) for ledger in load.ledgers]
            assert faults_of_copy(copy, load, acknowledged, sent) == []
            shutil.rmtree(copy)
        load.stop()
        assert load.verify(client) == []


@pytest.mark.parametrize("compact", [False, True])
def test_is_of_one_moment(tmp_path: Path, compact: bool):
    """What a server commits, and trims of its log, while a backup is made changes nothing: it is of the moment when it began."""
    (tmp_path / "data").mkdir()
    (tmp_path / "log").mkdir()
    with Lmdbredis(*SMALL, "--repl-timeout", "1", dir=tmp_path / "data") as one, one.connect() as client:
        client.call("SET", "k", "v")
        client.call("SAVE")
        source = sources.open_source(str(tmp_path / "data"))
        held = wal.segments(tmp_path / "data" / "wal")
        wait_for(
            lambda: (
                client.call("SET", "k", "x" * 20_000)
                and client.call("SAVE")
                and not set(held) & set(wal.segments(tmp_path / "data" / "wal"))
            ),
            "the log to be another",
        )
        target = copying.Target(tmp_path / "data.mdb")
        source.write_data(target, tmp_path / "log", lambda _: None, compact=compact)
        source.write_log(tmp_path / "log", lambda _: None)
        target.close()
        source.close()
    (tmp_path / "copy").mkdir()
    (tmp_path / "data.mdb").rename(tmp_path / "copy" / "data.mdb")
    (tmp_path / "log").rename(tmp_path / "copy" / "wal")
    found = verify.look(tmp_path / "copy", rows=True)
    assert found["faults"] == []
    assert wal.reaches(tmp_path / "copy" / "wal", found["lsn"])


@pytest.mark.slow
def test_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Backups through the port of a running server, under load, over rotations of its log: as through its directory."""
    monkeypatch.setenv("REDISCLI_AUTH", "secret")
    chance = random.Random(19)
    load = Load(chance)
    with Lmdbredis(*SMALL) as one, one.connect() as client:
        load.start(one.port)
        for number in range(4):
            client.call("CONFIG", "SET", "requirepass", "")
            time.sleep(chance.uniform(0.05, 0.3))  # the moment is the random draw itself
            acknowledged = [ledger.acknowledged for ledger in load.ledgers]
            client.call("CONFIG", "SET", "requirepass", "secret")
            copy = tmp_path / f"copy{number}"
            status, said = tool("backup", f"127.0.0.1:{one.port}", copy)
            assert status == 0, said
            sent = [len(ledger.sent) for ledger in load.ledgers]
            assert main(["verify", str(copy)]) == 0
            assert faults_of_copy(copy, load, acknowledged, sent) == []
            shutil.rmtree(copy)
        load.stop()
        assert load.verify(client) == []


def test_from_elsewhere_refused(tmp_path: Path, oracle: Server, capsys: pytest.CaptureFixture[str]):
    """A wrong password, another kind of server, --compact: a line that says so, status 2, and nothing is left."""
    with Lmdbredis("--requirepass", "secret") as one:
        for words, text in (
            ([f"127.0.0.1:{one.port}"], "NOAUTH"),
            ([f"127.0.0.1:{oracle.port}"], "127.0.0.1"),
        ):
            assert main(["backup", *words, str(tmp_path / "copy")]) == 2
            assert text in capsys.readouterr().err
    with Lmdbredis() as one:
        assert main(["backup", f"127.0.0.1:{one.port}", str(tmp_path / "copy"), "--compact"]) == 2
        assert "--compact needs the directory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def run_and_kill(chance: random.Random, seconds_max: float, *words: object) -> None:
    """Begin a command and kill it at a random moment, if it has not ended by itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.main", *map(str, words)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(chance.uniform(0.1, seconds_max))  # the moment is the random draw itself
    process.send_signal(signal.SIGKILL)
    process.wait()


def is_free(directory: Path) -> bool:
    """Tell whether nobody holds the directory: the child that a killed tool leaves holds it until its next report."""
    if not (directory / "LOCK").exists():
        return True
    with (directory / "LOCK").open("rb") as file, contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def test_killed_backup(tmp_path: Path):
    """A backup that is killed leaves no backup, or a whole one; the source is as it was; the next one to the same place works."""
    chance = random.Random(11)
    fill(tmp_path / "store").close()
    before = files(tmp_path / "store")
    ends = []
    for _ in range(12):
        run_and_kill(chance, 0.8, "backup", tmp_path / "store", tmp_path / "copy", *chance.choice(([], ["--compact"])))
        ends.append((tmp_path / "copy").exists())
        if ends[-1]:
            assert main(["verify", str(tmp_path / "copy")]) == 0
            shutil.rmtree(tmp_path / "copy")
        elif (tmp_path / "copy.partial").exists():
            assert main(["restore", str(tmp_path / "copy.partial"), "-o", str(tmp_path / "x")]) in {0, 2}
            shutil.rmtree(tmp_path / "x", ignore_errors=True)
    assert before == files(tmp_path / "store")
    assert main(["backup", str(tmp_path / "store"), str(tmp_path / "copy")]) == 0
    assert not (tmp_path / "copy.partial").exists()


def test_killed_before_it_says_what_it_is(made: Path, tmp_path: Path):
    """Killed while it writes `backup.json`, a backup is an unfinished one; the next one to the same place works."""
    partial = tmp_path / "copy.partial"
    shutil.copytree(made / "backup", partial)
    text = (partial / manifest.NAME).read_bytes()
    (partial / manifest.NAME).unlink()
    (partial / "backup.json.new").write_bytes(text[: len(text) // 2])

    assert main(["restore", str(partial), "-o", str(tmp_path / "x")]) == 2
    assert main(["backup", str(made / "store"), str(tmp_path / "copy")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("copy")) == ["copy"]
    assert "backup.json.new" not in {path.name for path in (tmp_path / "copy").iterdir()}


def test_killed_restore(made: Path, tmp_path: Path):
    """A restore that is killed leaves nothing a server would start on, or the whole store; the backup is as it was."""
    chance = random.Random(13)
    before, expected = files(made / "backup"), recover_copy(made / "store", tmp_path).state
    for number in range(12):
        target = tmp_path / f"target{number}"
        run_and_kill(chance, 0.6, "restore", made / "backup", "-o", target)
        wait_for(lambda target=target: is_free(target), "the killed tool's child to end")
        if (target / "data.mdb").exists():
            assert recover(target).state == expected
        elif (target / "CONTROL").exists():
            with pytest.raises(StorageError, match=r"data\.mdb is missing"):
                recover(target)
    assert before == files(made / "backup")
