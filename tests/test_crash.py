"""Crashes of a real server and of its disk: what was promised is there, the check is clean, and it goes on.

Seconds of what `crash_campaign` does for minutes. See `crash` for what is played and what must hold.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crash import (
    CRASH_POINTS,
    FAR_MS,
    RECOVERY_POINTS,
    Engine,
    FaultyDisk,
    Load,
    Model,
    PowerDisk,
    Workload,
    recover,
)
from tests.servers import ROOT, Lmdbredis, ServerFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client import Client

# Small segments and frequent checkpoints: much happens in little time.
BUSY = ("--wal-segment-size", "65536", "--checkpoint-interval", "15", "--checkpoint-dirty", "300")
WAIT_S_MAX = 20


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def server(directory: Path, *options: str, crash_at: str = "") -> Lmdbredis:
    """Return a server that is not started yet; `crash_at` is where it ends itself."""
    return Lmdbredis(*BUSY, *options, dir=directory, env={"LMDBREDIS_CRASH_AT": crash_at} if crash_at else {})


@contextlib.contextmanager
def running(one: Lmdbredis) -> Iterator[Lmdbredis]:
    """Start a server and end it."""
    try:
        yield one.start()
    finally:
        one.stop()


def wait_until(condition: object, what: str) -> None:
    """Return when the condition holds; fail if it does not in time."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            pytest.fail(f"waited {WAIT_S_MAX} s for {what}")
        time.sleep(0.005)


def verify(one: Lmdbredis, load: Load) -> None:
    """Compare a running server with the ledgers."""
    with one.connect() as client:
        assert load.verify(client) == []


# --- the process is killed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["always", "everysec", "no"])
def test_killed(directory: Path, policy: str):
    """Killed at any moment, under any policy, a server loses nothing that it acknowledged, time after time."""
    chance = random.Random(policy)
    load = Load(chance)
    one = server(directory, "--appendfsync", policy)
    for _ in range(3):
        with running(one):
            verify(one, load)
            load.start(one.port)
            before = load.acknowledged()
            wait_until(lambda before=before: load.acknowledged() > before + 50, "some writes")
            time.sleep(chance.random() * 0.3)
            one.kill9()
            load.wait()
    with running(one):
        verify(one, load)


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_killed_at_a_point(directory: Path, point: str):
    """Killed at a named point of a row's way, a server loses nothing that it acknowledged."""
    chance = random.Random(point)
    load = Load(chance)
    # The first times are those of the start; an appended record is nothing rare.
    number = chance.randint(20, 200) if point == "wal.appended" else chance.randint(3, 6)
    one = server(directory, "--appendfsync", chance.choice(("always", "everysec")), crash_at=f"{point}:{number}")
    one.start()
    load.start(one.port)
    load.wait()
    assert one.end(signal.SIGKILL) == -signal.SIGKILL, "it has ended itself"
    assert load.acknowledged() > 0
    one.env.clear()
    with running(one):
        verify(one, load)
    with running(one):
        verify(one, load)


def test_killed_in_recovery(directory: Path):
    """Killed at any point of its start, again and again, a server starts in the end as if nothing had been."""
    chance = random.Random(8)
    load = Load(chance)
    with running(server(directory)) as one:
        load.start(one.port)
        wait_until(lambda: load.acknowledged() > 500, "some writes")
        one.kill9()
        load.wait()
    died = set()
    for point in RECOVERY_POINTS:
        broken = server(directory, crash_at=f"{point}:1")
        try:
            broken.start()
        except ServerFailed:
            died.add(point)
        broken.kill9()
    assert {"restore", "replay"} <= died
    with running(server(directory)) as one:
        verify(one, load)


def test_terminated(directory: Path):
    """SIGTERM under load: nothing acknowledged is lost, the exit status is 0, and the next start has nothing to replay."""
    load = Load(random.Random(9))
    one = server(directory)
    one.start()
    load.start(one.port)
    wait_until(lambda: load.acknowledged() > 300, "some writes")
    assert one.end(signal.SIGTERM) == 0
    load.wait()
    assert "Traceback" not in one.log_path.read_text()
    with running(one):
        assert "0 rows from the log" in one.log_path.read_text().splitlines()[-2]
        verify(one, load)


# --- power is lost ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["always", "everysec", "no"])
@pytest.mark.parametrize("seed", range(3))
def test_power_lost(tmp_path: Path, policy: str, seed: int):
    """`always` loses nothing acknowledged, `everysec` at most the last second, `no` what was not synced; never a part of a batch."""
    chance = random.Random(f"{policy}{seed}")
    disk = PowerDisk()
    engine = Engine(tmp_path / "store", disk)
    model, workload = Model(), Workload(chance, able=engine.able())
    history = [(engine.store.wal.end_lsn, engine.clock_ms, model.copy())]
    synced_ms = engine.clock_ms
    for number in range(250):
        batch = [workload.command() for _ in range(chance.randint(1, 6))]
        engine.run(*batch)
        for words in batch:
            model.apply(words)
        if policy == "always" or (policy == "everysec" and engine.clock_ms - synced_ms >= 1000):
            engine.store.wal.sync()
            synced_ms = engine.clock_ms
        history.append((engine.store.wal.end_lsn, engine.clock_ms, model.copy()))
        engine.tick(chance.choice((0, 1, 5, 300)))
        if number % 25 == 24:
            promised = engine.store.wal.synced_lsn
            copy = tmp_path / f"cut{number}"
            disk.cut(engine.directory, copy, chance, harshest=number == 24)
            found = recover(copy)
            assert found.faults == []
            possible = [(lsn, at_ms) for lsn, at_ms, state in history if state == found.state and lsn >= promised]
            assert possible, "the state is one that was logged, and not before what was synced"
            if policy == "always":
                assert possible[-1][0] == history[-1][0]
            elif policy == "everysec":
                assert engine.clock_ms - possible[-1][1] <= 1000 + 300, "the sync came with the batch after the second"
            shutil.rmtree(copy)
    assert engine.check() == []
    engine.close()
    disk.close()


# --- the disk is full -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path / "store", FaultyDisk())
    yield made
    made.close()


MISCONF = b"MISCONF The disk is full: writes are refused until there is room again. Reads go on."


def test_full_disk(engine: Engine):
    """Without room writes are answered MISCONF and keep nothing, reads go on, and with room it recovers by itself."""
    disk = engine.store.disk
    assert isinstance(disk, FaultyDisk)
    for number in range(300):
        engine.run((b"SET", b"k%d" % number, b"v"), (b"RPUSH", b"list", b"%d" % number))
    engine.run((b"SET", b"volatile", b"v", b"PXAT", b"%d" % (engine.clock_ms + 5)))
    before = engine.dump()
    disk.room_bytes = 30
    replies = engine.run(
        (b"SET", b"k0", b"new"), (b"GET", b"k0"), (b"RPUSH", b"list", b"x"), (b"LLEN", b"list"), (b"PING",)
    )
    assert [MISCONF, b"v", MISCONF, 300, b"PONG"] == [reply.value for reply in replies]
    for _ in range(400):
        engine.tick(10)
        assert engine.run((b"GET", b"k7"))[0].value == b"v"
    assert engine.run((b"SET", b"k0", b"new"))[0].value == MISCONF
    # A read that finds an expired key would delete it, which is a write: it only hides it.
    assert [None, 0, 300] == [
        reply.value for reply in engine.run((b"GET", b"volatile"), (b"EXISTS", b"volatile"), (b"LLEN", b"list"))
    ]
    assert before == engine.dump()
    assert engine.check() == []
    disk.room_bytes = None
    for _ in range(150):
        engine.tick(10)
    assert engine.run((b"SET", b"k0", b"new"))[0].value == b"OK"
    del before[b"volatile"]
    assert before | {b"k0": ("string", 0, b"new")} == engine.dump()


def test_full_disk_at_commit(engine: Engine):
    """The same if it is a commit that finds no room, and if reads in order are what comes next."""
    import lmdb

    disk = engine.store.disk
    assert isinstance(disk, FaultyDisk)
    for number in range(100):
        engine.run((b"SET", b"k%d" % number, b"v"), (b"ZADD", b"z", b"%d" % number, b"m%d" % number))
    disk.commits_fail = lmdb.DiskError("mdb_txn_commit")
    acknowledged = set()
    for number in range(600):
        reply = engine.run((b"SET", b"n%d" % number, b"v"))[0]
        if reply.value == b"OK":
            acknowledged.add(b"n%d" % number)
        else:
            assert reply.value == MISCONF
        assert len(engine.run((b"ZRANGE", b"z", b"0", b"-1"))[0].value) == 100
        engine.tick(10)
    assert 0 < len(acknowledged) < 600
    disk.commits_fail = None
    for _ in range(150):
        engine.tick(10)
    assert engine.run((b"SET", b"k0", b"new"))[0].value == b"OK"
    assert acknowledged == {key for key in engine.dump() if key.startswith(b"n")}
    assert engine.check() == []


@pytest.mark.parametrize("orderly", [True, False])
def test_start_on_a_full_disk(tmp_path: Path, orderly: bool):
    """A server starts on a full disk, serves reads, refuses writes, and takes them when there is room."""
    engine = Engine(tmp_path / "store")
    engine.run(*([b"SET", b"k%d" % number, b"v"] for number in range(500)), [b"RPUSH", b"list", b"a", b"b"])
    engine.tick(100)
    engine.run((b"SET", b"last", b"v"))
    before = engine.dump()
    engine.close(checkpoint=orderly)
    disk = FaultyDisk()
    disk.room_bytes = 0
    engine = Engine(tmp_path / "store", disk)
    assert [b"v", 2] == [reply.value for reply in engine.run((b"GET", b"last"), (b"LLEN", b"list"))]
    assert engine.run((b"SET", b"last", b"new"))[0].value == MISCONF
    for _ in range(300):
        engine.tick(10)
    assert before == engine.dump()
    disk.room_bytes = None
    for _ in range(150):
        engine.tick(10)
    assert engine.run((b"SET", b"last", b"new"))[0].value == b"OK"
    assert before | {b"last": ("string", 0, b"new")} == engine.dump()
    assert engine.check() == []
    engine.close()


# Starts the server as its users do, but with something wrong: the first word says what, in Python.
_LIMITED = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))"
_NO_SYNC = """
import errno, os, sys
from lmdbredis import __main__, disk
class Broken(disk.Disk):
    syncs = 0
    def fdatasync(self, fd):
        Broken.syncs += 1
        if Broken.syncs > 60:
            os.fdatasync = lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error"))
        super().fdatasync(fd)
__main__.Disk = Broken
"""
_SLOW_COMMITS = """
import sys, time
from lmdbredis import __main__, disk
class Slow(disk.Disk):
    def commit(self, transaction):
        time.sleep(0.5)
        super().commit(transaction)
__main__.Disk = Slow
"""


class Wrong(Lmdbredis):
    """A server on a bad day."""

    prelude = ""

    @classmethod
    def program(cls) -> list[str]:
        return [
            sys.executable,
            "-c",
            f"{cls.prelude}\nimport sys; from lmdbredis.__main__ import main; sys.exit(main())",
        ]


class Limited(Wrong):
    """A server whose files may not grow beyond a megabyte."""

    prelude = _LIMITED


class NoSync(Wrong):
    """A server whose disk fails to sync after a while."""

    prelude = _NO_SYNC


class SlowCommits(Wrong):
    """A server whose commits take half a second."""

    prelude = _SLOW_COMMITS


def fill(load: Load, one: Lmdbredis) -> None:
    """Write until writes are refused."""
    load.start(one.port)
    with one.connect() as client:
        deadline = time.monotonic() + WAIT_S_MAX
        number = 0
        while True:
            reply = client.call("SET", f"fill:{number}", "x" * 7000)
            if reply.is_error:
                break
            number += 1
            assert time.monotonic() < deadline, "the disk should be full by now"
        assert reply.value == MISCONF
    load.stop()


def check_refusal_and_recovery(one: Lmdbredis, load: Load, make_room: object) -> None:
    """Writes are refused, reads go on, nothing acknowledged is lost; with room, writes are taken again."""
    fill(load, one)
    with one.connect() as client:
        assert client.call("SET", "a", "b").value == MISCONF
        assert client.call("GET", "fill:0").value == b"x" * 7000
        assert client.call("PING").value == b"PONG"
        assert load.verify(client) == []
        make_room()  # type: ignore[operator]
        wait_until(lambda: client.call("SET", "a", "b").value == b"OK", "writes to be taken again")
    load.start(one.port)
    before = load.acknowledged()
    wait_until(lambda: load.acknowledged() > before + 50, "some writes")
    one.kill9()
    load.wait()
    assert all(text == MISCONF for ledger in load.ledgers for text in ledger.errors)


def test_a_reload_without_room(directory: Path):
    """A store whose last commit finds no room when it is closed to be opened again has everything in its log, and goes on."""
    with running(Lmdbredis(dir=directory)) as one, one.connect() as client:
        client.pipeline([("SET", f"k:{number}", "x" * 500) for number in range(4000)])
        size_bytes = (directory / "data.mdb").stat().st_size
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

        assert client.call("DEBUG", "RELOAD").value == b"OK"
        assert client.call("DBSIZE").value == 4000
        assert client.call("SET", "a", "b").value == MISCONF
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_until(lambda: client.call("SET", "a", "b").value == b"OK", "writes to be taken again")
        assert client.call("DEBUG", "CHECK").value == b"OK"


def test_files_that_may_not_grow(directory: Path):
    """A real limit of the operating system: refused, read on, nothing lost; raised, it goes on by itself."""
    load = Load(random.Random(10), clients=2)
    one = Limited(*BUSY, dir=directory)
    one.start()

    def make_room() -> None:
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    check_refusal_and_recovery(one, load, make_room)
    with running(server(directory)) as again:
        verify(again, load)


def test_commits_slower_than_writes(directory: Path):
    """Writes that come faster than the disk takes them are slowed down: memory does not hold more and more of them."""
    most = 0
    with running(SlowCommits("--checkpoint-dirty", "50", dir=directory)) as one, one.connect() as client:
        for start in range(0, 6000, 100):
            client.pipeline([("SET", f"key{number}", "v") for number in range(start, start + 100)])
            most = max(most, int(_info(client, "everything")["dirty_rows"]))
        # Twice the limit, and then as many batches as there is time for while a commit is waited for.
        assert 50 * 2 < most < 3500


def _info(client: Client, section: str) -> dict[str, str]:
    """Return a section of INFO."""
    lines = client.call("INFO", section).value.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def test_killed_in_repair(directory: Path):
    """Killed in the middle of a repair, on a full disk, a server loses nothing that it acknowledged."""
    load = Load(random.Random(11), clients=2)
    one = Limited(*BUSY, dir=directory, env={"LMDBREDIS_CRASH_AT": "repair:2"})
    one.start()
    load.start(one.port)
    with one.connect() as client, contextlib.suppress(Exception):
        for number in range(5000):
            client.call("SET", f"fill:{number}", "x" * 7000)
    load.wait()
    assert one.end(signal.SIGKILL) == -signal.SIGKILL
    with running(server(directory)) as again:
        verify(again, load)


def test_full_file_system(tmp_path: Path):
    """The same on a small file system that is really full. Needs the right to mount one."""
    small = tmp_path / "small"
    small.mkdir()
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system here")

    class Small(Lmdbredis):
        @classmethod
        def program(cls) -> list[str]:
            mount = f'mount -t tmpfs -o size=8m tmpfs {small} && mkdir {small}/data && exec "$@"'
            return ["unshare", "-m", "sh", "-c", mount, "sh", sys.executable, "-m", "lmdbredis"]

    load = Load(random.Random(12), clients=2)
    one = Small(*BUSY, dir=small / "data")
    one.log_path = tmp_path / "log"
    one.start()
    inside = Path(f"/proc/{one.pid}/root{small}")

    def make_room() -> None:
        subprocess.run(["nsenter", "-t", str(one.pid), "-m", "mount", "-o", "remount,size=64m", str(small)], check=True)

    fill(load, one)
    with one.connect() as client:
        assert client.call("GET", "fill:0").value == b"x" * 7000
        # What the commit after the refusal has given back of the log may be room for some more.
        wait_until(lambda: client.call("SET", "a", "x" * 7000).value == MISCONF, "writes to be refused")
        assert load.verify(client) == []
        make_room()
        wait_until(lambda: client.call("SET", "a", "b").value == b"OK", "writes to be taken again")
    shutil.copytree(inside / "data", tmp_path / "copy", ignore=shutil.ignore_patterns("LOCK", "lock.mdb"))
    one.stop()
    with running(server(tmp_path / "copy")) as again:
        verify(again, load)


# --- a sync fails -----------------------------------------------------------------------------------------------------------------


def test_sync_fails(directory: Path):
    """After a sync has failed nothing is acknowledged any more: the process ends, and what was acknowledged is there."""
    load = Load(random.Random(13))
    one = NoSync(*BUSY, "--appendfsync", "always", dir=directory)
    one.start()
    load.start(one.port)
    load.wait()
    process = one.process
    assert process is not None
    assert process.wait(WAIT_S_MAX) == 1
    assert "cannot be trusted" in one.log_path.read_text()
    one.end(signal.SIGKILL)
    assert load.acknowledged() > 0
    with running(server(directory, "--appendfsync", "always")) as again:
        verify(again, load)


# --- two servers ------------------------------------------------------------------------------------------------------------------


def test_second_server(directory: Path, tmp_path: Path):
    """A second server on the directory ends with a clear error and status 1; the first one has lost nothing, not even its pid file."""
    pidfile = tmp_path / "pid"
    with running(server(directory, "--pidfile", str(pidfile))) as one, one.connect() as client:
        assert client.call("SET", "k", "v").value == b"OK"
        words = [*one.program(), "--dir", str(directory), "--port", "0", "--pidfile", str(pidfile)]  # type: ignore[misc]
        second = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S_MAX, check=False)
        assert second.returncode == 1
        assert f"another server (pid {one.pid}) or a tool is using the directory {directory}" in second.stdout
        assert "Traceback" not in second.stdout + second.stderr
        assert client.call("GET", "k").value == b"v"
        assert client.call("SET", "k2", "v2").value == b"OK"
        assert client.call("DEBUG", "CHECK").value == b"OK"
        assert pidfile.read_text().strip() == str(one.pid)
        with (directory / "LOCK").open() as file:
            assert file.read() == f"{one.pid}\n"
    assert not pidfile.exists()


def test_far_future():
    """The workload's keys with a TTL do not expire while it runs."""
    assert FAR_MS / 1000 > time.time() + 365 * 86400
    assert os.environ.get("LMDBREDIS_CRASH_AT") is None
