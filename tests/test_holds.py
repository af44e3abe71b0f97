"""BACKUP START and STOP: a directory that is copied file by file while checkpoints are held is a whole store; holds end as they must."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from lmdbredis import control_file, errors, store
from lmdbredis.errors import DiskFull
from tests.client import RawClient
from tests.crash import Engine, FaultyDisk, Ledger, Load, Model, PowerDisk, Workload, recover
from tests.servers import Lmdbredis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.client import Reply

SMALL = ("--wal-segment-size", "65536", "--checkpoint-interval", "20", "--checkpoint-dirty", "300", "--repl-backlog-size", "20000")  # fmt: skip
TICKS_MAX = 2000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Return an engine with some rows, a disk that can fail, and nobody else."""
    made = Engine(tmp_path / "store", FaultyDisk())
    for number in range(50):
        made.run([b"SET", b"k%d" % number, b"v" * 100])
        made.tick(3)
    yield made
    made.store.disk.room_bytes, made.store.disk.commits_fail = None, None
    made.close(checkpoint=False)


def start(engine: Engine, *name: bytes) -> None:
    """Hold checkpoints."""
    assert engine.run([b"BACKUP", b"START", *name]) == []
    until_answered(engine)
    assert heard(engine) == b"+OK\r\n"
    assert engine.executor.hold.stage.value == "held"


def until_answered(engine: Engine) -> None:
    """Let time pass until the session has been answered."""
    for _ in range(TICKS_MAX):
        if engine.executor.heard:
            return
        engine.tick(5)
        time.sleep(0.001)  # commits and syncs are made in threads
    raise AssertionError("nobody was answered")


def heard(engine: Engine) -> bytes:
    """Return what the session was sent between its turns."""
    engine.executor.take_heard()
    output, engine.session.output = engine.session.output, b""
    return output


def test_another_store_in_the_middle(engine: Engine, tmp_path: Path):
    """A hold that is beginning when another store takes the place of this one, whose log is shorter, holds that one."""
    hold = engine.executor.hold
    hold.begin(b"", engine.session, 0)
    assert not hold.advance(engine.store)
    other = Engine(tmp_path / "other")
    other.run([b"SET", b"k", b"v"])
    assert other.store.wal.end_lsn < engine.store.wal.end_lsn
    other.executor.take_over(engine.executor)
    for _ in range(TICKS_MAX):
        if hold.advance(other.store):
            break
        other.store.poll()
        time.sleep(0.001)
    assert hold.stage.value == "held"
    assert hold.lsn == other.store.control.lsn
    other.close()


def status(engine: Engine) -> dict[bytes, object]:
    """Return what BACKUP STATUS says."""
    (reply,) = engine.run([b"BACKUP", b"STATUS"])
    items = [item.value for item in reply.items()]
    return dict(zip(items[::2], items[1::2], strict=True))


def texts(replies: list[Reply]) -> list[bytes]:
    """Return the texts of replies."""
    return [reply.value for reply in replies]  # type: ignore[misc]


def sleeping(directory: Path) -> dict[str, bytes]:
    """Return what must stand still while checkpoints are held: data.mdb, CONTROL, and the beginning of each segment."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "lock.mdb"
    }


# --- without sockets ------------------------------------------------------------------------------------------------------------


def test_stands_still(engine: Engine):
    """While held, data.mdb and CONTROL do not change at all, segments only grow, and no name goes away, whatever is written."""
    start(engine)
    before = sleeping(engine.directory)
    for number in range(3000):
        engine.run([b"SET", b"n%d" % number, b"w" * 100])
        engine.tick(5)
    engine.store.trim_wal(0, 1 << 62)
    after = sleeping(engine.directory)

    assert before["data.mdb"] == after["data.mdb"]
    assert before["CONTROL"] == after["CONTROL"]
    assert set(before) <= set(after)
    assert len(after) > len(before)
    assert all(after[name].startswith(content) for name, content in before.items())
    control = control_file.unpack(after["CONTROL"])
    assert status(engine)[b"lsn"] == control.lsn

    assert texts(engine.run([b"BACKUP", b"STOP"])) == [b"OK"]
    for _ in range(TICKS_MAX):
        if engine.store.control.lsn > control.lsn:
            break
        engine.tick(20)
        time.sleep(0.001)
    engine.store.trim_wal(0, 1 << 62)
    assert control_file.unpack((engine.directory / "CONTROL").read_bytes()).lsn > control.lsn
    assert not set(before) <= set(sleeping(engine.directory))


def test_a_slow_copy(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Files copied piece by piece, while so much is written that commits must go on: the copy has what was there, and whole batches only."""
    monkeypatch.setattr(store, "_HELD_ROWS", 30)
    chance = random.Random(3)
    model, ends = Model(), []
    ledger = Ledger(chance, b"")
    writes_max = 300  # without an end, files would grow faster than they are read

    def write() -> None:
        batch = [ledger.workload.command() for _ in range(chance.randint(1, 10))]
        engine.run(*batch)
        for words in batch:
            model.apply(words)
        ends.append((engine.store.wal.end_lsn, model.copy()))
        engine.tick(5)
        while (
            engine.store.is_committing or engine.store.is_syncing
        ):  # in threads, which may wait longer than the copy takes
            time.sleep(0.001)
            engine.tick(5)

    engine.run([b"FLUSHALL"])
    write()
    start(engine)
    acknowledged, commits = engine.store.wal.end_lsn, engine.store.commits
    copy = tmp_path / "copy"
    for directory, _, names in os.walk(engine.directory):
        (copy / os.path.relpath(directory, engine.directory)).mkdir()
        chance.shuffle(names)
        for name in names:
            path = engine.directory / directory / name
            with path.open("rb") as source, (copy / path.relative_to(engine.directory)).open("wb") as target:
                while piece := source.read(chance.choice((4096, 50_000))):
                    target.write(piece)
                    while len(ends) < writes_max and chance.random() < 0.9:
                        write()
    assert engine.store.commits > commits + 2
    assert texts(engine.run([b"BACKUP", b"STOP"])) == [b"OK"]
    found = recover(copy)

    assert found.faults == []
    assert found.end_lsn >= acknowledged
    assert found.state in [state for _, state in ends]


def test_crash_while_held(engine: Engine, tmp_path: Path):
    """A process that is killed while checkpoints are held has lost nothing."""
    start(engine)
    for number in range(2000):
        engine.run([b"INCR", b"n"], [b"RPUSH", b"l", b"%d" % number])
        engine.tick(3)
    expected = engine.dump()
    shutil.copytree(engine.directory, tmp_path / "copy", ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
    found = recover(tmp_path / "copy")

    assert ([], expected) == (found.faults, found.state)


@pytest.mark.parametrize("seed", range(6))
def test_power_cut_while_held(tmp_path: Path, seed: int):
    """Power that is lost while checkpoints are held, or after: what was synced is there, in whole batches, though segments grow."""
    chance = random.Random(seed)
    disk = PowerDisk()
    engine = Engine(tmp_path / "store", disk)
    workload, model = Workload(chance), Model()
    states = [(0, model.copy())]
    try:
        for number in range(60):
            if number == 15:
                start(engine)
            if number == 45 and seed % 2:
                engine.run([b"BACKUP", b"STOP"])
            batch = [workload.command() for _ in range(chance.randint(1, 12))]
            engine.run(*batch)
            for words in batch:
                model.apply(words)
            states.append((engine.store.wal.end_lsn, model.copy()))
            if chance.random() < 0.2:
                engine.store.wal.sync()
            engine.tick(chance.choice((1, 5, 60)))
        synced_lsn = engine.store.wal.synced_lsn
        disk.cut(engine.directory, tmp_path / "after", chance, harshest=seed < 2)
    finally:
        engine.close(checkpoint=False)
        disk.close()
    found = recover(tmp_path / "after")
    promised = max(index for index, (lsn, _) in enumerate(states) if lsn <= synced_lsn)

    assert found.faults == []
    assert found.state in [state for _, state in states[promised:]]


def test_close_while_held(engine: Engine):
    """Who ends the server while checkpoints are held does not disturb the copy: no checkpoint is made, the log has everything."""
    start(engine)
    engine.run([b"SET", b"later", b"v"])
    before = sleeping(engine.directory)
    engine.close()
    after = sleeping(engine.directory)
    again = Engine(engine.directory)
    try:
        assert (before["data.mdb"], before["CONTROL"]) == (after["data.mdb"], after["CONTROL"])
        assert again.run([b"GET", b"later"])[0].value == b"v"
        assert not again.executor.hold.is_on
    finally:
        again.close(checkpoint=False)
    engine.store = Engine(engine.directory, FaultyDisk()).store


def test_time_limit(engine: Engine):
    """The hold ends by itself when its time is over; INFO shows how long it has; STOP and STATUS then say what happened."""
    start(engine, b"night")
    engine.tick(10)
    left = status(engine)[b"seconds_left"]
    assert isinstance(left, int)
    assert 3590 <= left <= 3600

    engine.config.put("backup-hold-max", "10")
    engine.tick(9_000)
    assert status(engine)[b"state"] == b"held"
    engine.tick(2_000)
    assert (status(engine)[b"state"], status(engine)[b"ended"]) == (b"none", errors.HOLD_OVERDUE.encode())
    assert not engine.store.is_held
    assert texts(engine.run([b"BACKUP", b"STOP"])) == [(errors.HOLD_ENDED % errors.HOLD_OVERDUE).encode()]
    start(engine)
    assert status(engine)[b"ended"] == b""


def test_refusals(engine: Engine):
    """One hold at a time, by a printable name; no SAVE and no BGSAVE meanwhile; STOP without START; none of it in transactions."""
    assert texts(engine.run([b"BACKUP", b"STOP"])) == [errors.HOLD_NONE.encode()]
    assert texts(engine.run([b"BACKUP", b"START", b"two words"])) == [errors.HOLD_NAME.encode()]
    assert engine.run([b"BACKUP", b"START", b"a", b"b"])[0].is_error
    assert engine.run([b"MULTI"], [b"BACKUP", b"START"])[1].is_error
    engine.run([b"DISCARD"])
    start(engine, b"mine")
    assert texts(engine.run([b"BACKUP", b"START"])) == [(errors.HOLD_TAKEN % " (mine)").encode()]
    assert texts(engine.run([b"SAVE"], [b"BGSAVE"])) == [(errors.SAVE_HELD % " (mine)").encode()] * 2


def test_who_is_gone_holds_nothing(engine: Engine):
    """If who asked is gone, or waits no more, before the checkpoint is made, nothing is held."""
    engine.run([b"BACKUP", b"START"])
    assert engine.run([b"GET", b"k1"]) == []  # it waits
    engine.executor.forget(engine.session)
    for _ in range(5):
        engine.tick(5)

    assert (engine.executor.hold.is_on, engine.store.is_held) == (False, False)


def test_full_disk(engine: Engine):
    """A full disk ends the hold, since a checkpoint may make room; and nobody can begin one."""
    start(engine)
    engine.executor.refuse_writes(DiskFull("says the test"))
    engine.tick(5)
    assert engine.executor.hold.ended == errors.HOLD_DISK_FULL
    engine.executor.refuse_writes(DiskFull("says the test"))
    assert texts(engine.run([b"BACKUP", b"START"])) == [errors.MISCONF_FULL.encode()]


def test_full_disk_while_it_begins(engine: Engine):
    """If the checkpoint that a hold begins with finds no room, who waits for it is told."""
    engine.run([b"SET", b"k", b"v"])
    engine.run([b"BACKUP", b"START"])
    engine.store.disk.commits_fail = DiskFull("no room, says the test")
    until_answered(engine)

    assert heard(engine) == f"-{errors.HOLD_ENDED % errors.HOLD_DISK_FULL}\r\n".encode()
    assert not engine.store.is_held


def test_a_checkpoint_that_cannot_wait(engine: Engine):
    """Whoever makes a checkpoint all the same ends the hold, and STOP says so."""
    start(engine)
    engine.run([b"SET", b"k", b"v"])
    engine.store.checkpoint()
    engine.tick(5)

    assert texts(engine.run([b"BACKUP", b"STOP"])) == [(errors.HOLD_ENDED % errors.HOLD_BROKEN).encode()]


def test_repair_while_held(engine: Engine):
    """A store that repairs itself while checkpoints are held keeps holding, and has everything."""
    start(engine)
    for number in range(300):
        engine.run([b"SET", b"x%d" % number, b"v"])
    expected = engine.dump()
    data = (engine.directory / "data.mdb").read_bytes()
    engine.store.repair()
    for _ in range(10):
        engine.tick(5)

    assert engine.dump() == expected
    assert engine.check() == []
    assert engine.store.is_held
    assert (engine.directory / "data.mdb").read_bytes() == data


def test_memory_is_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    """However long a hold lasts, no more rows wait in memory than the store says; CONTROL stays what it is."""
    monkeypatch.setattr(store, "_HELD_ROWS", 500)
    start(engine)
    control = (engine.directory / "CONTROL").read_bytes()
    most = 0
    for number in range(3000):
        engine.run([b"SET", b"x%d" % number, b"v"])
        engine.tick(1)
        most = max(most, engine.store.dirty_rows)
        if engine.store.is_committing:
            engine.store.wait_for_commit(5)

    assert most < 600
    assert (engine.directory / "CONTROL").read_bytes() == control


# --- real processes -------------------------------------------------------------------------------------------------------------


def copy_with_cp(source: Path, target: Path) -> None:
    """Copy as an operator does."""
    done = subprocess.run(["cp", "-a", str(source), str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_cp_under_load(tmp_path: Path):
    """Copies by cp -a between START and STOP, one after another under load: each starts, is clean, and has what was acknowledged."""
    chance = random.Random(5)
    load = Load(chance)
    (tmp_path / "data").mkdir()
    with Lmdbredis(*SMALL, dir=tmp_path / "data") as one, one.connect() as client:
        load.start(one.port)
        for number in range(6):
            time.sleep(chance.uniform(0.05, 0.3))  # the moment is the random draw itself
            assert client.call("BACKUP", "START", f"copy{number}").value == b"OK"
            acknowledged = [ledger.acknowledged for ledger in load.ledgers]
            assert b"backup_in_progress:1" in client.call("INFO", "persistence").value
            copy = tmp_path / f"copy{number}"
            copy_with_cp(tmp_path / "data", copy)
            sent = [len(ledger.sent) for ledger in load.ledgers]
            assert client.call("BACKUP", "STOP").value == b"OK"
            assert faults_of_copy(copy, load, acknowledged, sent) == []
            shutil.rmtree(copy)
        load.stop()
        assert load.verify(client) == []


def faults_of_copy(copy: Path, load: Load, acknowledged: list[int], sent: list[int]) -> list[str]:
    """Start a server on a copy; return what its own check says, and which clients have less or more than they may."""
    found = []
    with Lmdbredis(dir=copy) as other, other.connect() as client:
        reply = client.call("DEBUG", "CHECK")
        if reply.value != b"OK":
            found.append(f"DEBUG CHECK: {reply.value!r}")
        for ledger, least, most in zip(load.ledgers, acknowledged, sent, strict=True):
            then = Ledger(random.Random(0), ledger.workload.prefix)
            then.sent, then.acknowledged = list(ledger.sent[:most]), least
            found += [text for text in [then.verify(client)] if text]
    return found


def test_start_does_not_stop_the_others(tmp_path: Path):
    """While the checkpoint of a START is made, others are answered; who asked runs nothing else; SHUTDOWN and a restart end it."""
    (tmp_path / "data").mkdir()
    with Lmdbredis(*SMALL, dir=tmp_path / "data") as one:
        with one.connect() as client, one.connect() as other:
            client.pipeline([("SET", f"k{number}", "v" * 200) for number in range(20_000)])
            client.send(b"BACKUP START\r\nPING\r\n")
            assert other.call("PING").value == b"PONG"
            assert [client.read()[0].value, client.read()[0].value] == [b"OK", b"PONG"]
            assert client.call("DEBUG", "RELOAD").value == b"OK"
            reply = client.call("BACKUP", "STOP")
            assert reply.value == (errors.HOLD_ENDED % errors.HOLD_BROKEN).encode()
            assert client.call("BACKUP", "START").value == b"OK"
            client.call("SET", "last", "v")
        one.restart()
        with RawClient(one.port) as client:
            assert client.call("DBSIZE").value == 20_001
            assert client.call("BACKUP", "STOP").value == errors.HOLD_NONE.encode()
            assert client.call("DEBUG", "CHECK").value == b"OK"
