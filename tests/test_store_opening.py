"""Opening a store: what was logged is there after anything, what was not is not, and damage is named."""

from __future__ import annotations

import os
import random
import shutil
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb
import pytest
from lmdb import verify

from lmdbredis import format as fmt
from lmdbredis import snapshots
from lmdbredis.errors import DiskFull, StorageError, SyncFailed
from lmdbredis.snapshots import ReadOnly
from lmdbredis.store import Store
from lmdbredis.table import Table
from tests.crash import FaultyDisk, PowerDisk
from tests.stores import REPLID, HeldDisk, killed, open_store, plain, put, reopened, rows, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with running(tmp_path / "store", HeldDisk()) as made:
        yield made


# --- opening ----------------------------------------------------------------------------------------------------------------------


def test_reopen(tmp_path: Path):
    """Closing and opening changes nothing; after a checkpoint nothing is replayed, without one all of it."""
    expected: dict[bytes, bytes] = {}
    for number in range(6):
        store = open_store(tmp_path / "store")
        assert expected == rows(store)
        replayed = store.replayed_rows
        assert replayed == 0 if number % 2 == 0 else replayed >= 10
        assert store.control.replid == REPLID
        for index in range(10):
            key = b"%d.%d" % (number, index)
            store.tables[fmt.SETS].put(key, b"v")
            expected[key] = b"v"
            store.append(index)
        store.close(checkpoint=number % 2 == 1)


def test_replay_is_idempotent(tmp_path: Path):
    """A start that is killed at any moment of its own leaves what the next one needs: the state is the same each time."""
    store = open_store(tmp_path / "store")
    chance = random.Random(7)
    for number in range(300):
        table = store.tables[chance.choice((fmt.SETS, fmt.HASHES, fmt.KEYS))]
        puts, key = chance.random() < 0.7, b"%d" % chance.randrange(50)
        if puts:
            table.put(key, b"%d" % number)
        else:
            table.delete(key)
        store.append(number)
        if number % 70 == 69:
            store.begin_commit()
    expected = [rows(store, number) for number in (fmt.SETS, fmt.HASHES, fmt.KEYS)]
    first = killed(store.directory, tmp_path / "one")
    store.close(checkpoint=False)
    for number in range(4):
        store = open_store(first)
        assert expected == [rows(store, table) for table in (fmt.SETS, fmt.HASHES, fmt.KEYS)]
        if number % 2:
            store.begin_commit()
            while store.is_committing:
                store.poll()
        following = killed(first, tmp_path / f"{number}")
        store.close(checkpoint=False)
        first = following


def test_long_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A log longer than memory is committed piece by piece; a start killed in the middle of that goes on from there."""
    monkeypatch.setattr("lmdbredis.store._REPLAY_ROWS", 50)
    store = open_store(tmp_path / "store")
    for number in range(100):
        put(store, **{f"{number}.{index}": "v" for index in range(7)})
    expected = rows(store)
    copy = killed(store.directory, tmp_path / "copy")
    store.close(checkpoint=False)
    store = open_store(copy)
    assert store.commits > 5
    assert expected == rows(store)
    again = killed(copy, tmp_path / "again")
    store.close(checkpoint=False)

    assert expected == reopened(again)
    assert expected == reopened(copy)


def test_second_server(tmp_path: Path, store: Store):
    """A second server on the directory is told who has it, and the first one goes on unharmed."""
    put(store, a="1")
    for _ in range(3):
        with pytest.raises(
            StorageError, match=rf"another server \(pid {os.getpid()}\) or a tool is using the directory"
        ):
            open_store(store.directory)
    put(store, b="2")
    store.checkpoint()

    assert plain(a="1", b="2") == rows(store)


def test_closed_is_free(tmp_path: Path):
    """After a close, and after an opening that failed, the directory can be opened again and no file is left open."""
    fds = Path("/proc/self/fd")
    before, threads = len(list(fds.iterdir())), threading.active_count()
    for _ in range(3):
        open_store(tmp_path / "store").close()
    content = (tmp_path / "store" / "CONTROL").read_bytes()
    (tmp_path / "store" / "CONTROL").write_bytes(b"nonsense")
    for _ in range(3):
        with pytest.raises(StorageError):
            open_store(tmp_path / "store")
    (tmp_path / "store" / "CONTROL").write_bytes(content)
    disk = FaultyDisk()
    disk.syncs_fail = True
    with pytest.raises(SyncFailed):
        open_store(tmp_path / "store", disk)
    assert (before, threads) == (len(list(fds.iterdir())), threading.active_count())
    open_store(tmp_path / "store").close()


def test_bare_copy(tmp_path: Path, store: Store):
    """A bare data.mdb, copied by LMDB's own tool, opens as it is, and gets a CONTROL and a log."""
    put(store, a="1")
    store.checkpoint()
    put(store, later="2")
    bare = tmp_path / "bare"
    bare.mkdir()
    # Without, it would wait for the writer lock, which the store holds nearly always.
    store._env.copy(str(bare), compact=True)

    assert plain(a="1") == reopened(bare)
    assert {"CONTROL", "data.mdb", "wal"} <= {path.name for path in bare.iterdir()}
    assert plain(a="1") == reopened(bare)


def test_copy_at_rest(tmp_path: Path, store: Store):
    """While no checkpoint is made data.mdb does not change, so a plain copy of the directory is a backup."""
    put(store, a="1")
    store.checkpoint()
    before = (store.directory / "data.mdb").read_bytes()
    put(store, **{f"b{number}": "2" * 100 for number in range(1000)})
    store.settle()

    assert before == (store.directory / "data.mdb").read_bytes()
    assert rows(store) == reopened(killed(store.directory, tmp_path / "copy"))


# Each case breaks a directory that held a=1, and says what an opening then says.
def _damage_control(directory: Path) -> None:
    content = bytearray((directory / "CONTROL").read_bytes())
    content[50] ^= 1
    (directory / "CONTROL").write_bytes(content)


def _older_data(directory: Path) -> None:
    shutil.copy(directory / "older.mdb", directory / "data.mdb")


def _cut_data(directory: Path) -> None:
    os.truncate(directory / "data.mdb", (directory / "data.mdb").stat().st_size - os.sysconf("SC_PAGE_SIZE"))


def _newer_version(directory: Path) -> None:
    with lmdb.open(str(directory), map_size=1 << 30, max_dbs=32) as env, env.begin(write=True) as transaction:
        transaction.put(
            fmt.META_VERSION, fmt.pack_u32(fmt.FORMAT_VERSION + 1), db=env.open_db(b"meta", txn=transaction)
        )
    (directory / "CONTROL").unlink()


def _no_pages(directory: Path) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    with (directory / "data.mdb").open("r+b") as file:
        file.seek(2 * page)
        file.write(bytes(1000 * page))


def _no_database(directory: Path) -> None:
    (directory / "data.mdb").write_bytes(b"this is no database" * 1000)
    (directory / "CONTROL").unlink()


BROKEN = {
    "CONTROL damaged": (_damage_control, "the file CONTROL is damaged"),
    "CONTROL empty": (lambda directory: (directory / "CONTROL").write_bytes(b""), "the file CONTROL is damaged"),
    "data.mdb missing": (lambda directory: (directory / "data.mdb").unlink(), "data.mdb is missing"),
    "data.mdb cut": (_cut_data, "and the snapshot that CONTROL names"),
    "data.mdb older": (_older_data, "holds an older state"),
    "data.mdb of a newer version": (_newer_version, "data.mdb has format version 2"),
    "data.mdb is something else": (_no_database, "data.mdb cannot be opened"),
    "pages lost": (_no_pages, "data.mdb cannot be opened"),
    "log missing": (lambda directory: shutil.rmtree(directory / "wal"), "the log ends before"),
    "log shorter": (lambda directory: next((directory / "wal").iterdir()).write_bytes(b""), "the log ends before"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(tmp_path: Path, name: str):
    """What cannot be opened is refused with a text that says what it is; nothing is changed, and what was there stays."""
    directory = tmp_path / "store"
    store = open_store(directory)
    shutil.copy(directory / "data.mdb", directory / "older.mdb")
    for number in range(3):
        put(store, a="1", **{f"x{number}": "y"})
        store.checkpoint()
    store.close()
    damage, text = BROKEN[name]
    damage(directory)
    before = {
        path: path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in {"LOCK", "lock.mdb"}
    }
    for _ in range(2):
        with pytest.raises(StorageError, match=text):
            open_store(directory)
        if name != "pages lost":
            after = {
                path: path.read_bytes()
                for path in directory.rglob("*")
                if path.is_file() and path.name not in {"LOCK", "lock.mdb"}
            }
            assert before == after


def test_wrong_types(tmp_path: Path):
    """A directory where a file should be, and the other way round, is an error of the operating system, not a crash."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="Not a directory"):
        Store(tmp_path / "file", REPLID)
    with pytest.raises(OSError, match="No such file"):
        Store(tmp_path / "nothing", REPLID)


def test_readers_room(tmp_path: Path):
    """Without room for the table of readers no store is opened, and why is said; who has it asks for none."""
    store = open_store(tmp_path / "store")
    put(store, a="1")
    copy = killed(store.directory, tmp_path / "copy")
    store.close()
    disk = FaultyDisk()
    disk.room_bytes = 0
    for _ in range(2):
        with pytest.raises(DiskFull, match=r"lock\.mdb: there is no room for LMDB's table of readers"):
            open_store(copy, disk)
    assert plain(a="1") == reopened(copy)
    status = (copy / "lock.mdb").stat()
    assert status.st_blocks * 512 >= status.st_size == snapshots._READERS_BYTES
    store = open_store(copy, disk)
    assert plain(a="1") == rows(store)
    disk.room_bytes = None
    store.close()


# --- power loss -------------------------------------------------------------------------------------------------------------------


def pages_of(path: Path, page_bytes: int) -> list[bytes]:
    """Return the pages of a file."""
    content = path.read_bytes()
    return [content[at : at + page_bytes] for at in range(0, len(content), page_bytes)]


@pytest.mark.parametrize("zeroed", ["all", "data", "meta", "newest meta"])
def test_power_loss(tmp_path: Path, zeroed: str):
    """With every page that commits after the synced snapshot wrote replaced by zeros, the state is that snapshot and the log."""
    store = open_store(tmp_path / "store")
    page = store._env.stat()["psize"]
    put(store, **{f"k{number}": "old" * 20 for number in range(2000)})
    store.checkpoint()
    synced = pages_of(store.directory / "data.mdb", page)
    for turn in range(3):
        put(store, **{f"k{number}": f"{turn}" * 30 for number in range(turn, 2000, 3)})
        put(store, **{f"n{turn}.{number}": "new" for number in range(300)})
        store.begin_commit()
        while store.is_committing:
            store.poll()
    store.tables[fmt.SETS].delete(b"k7")
    store.append(5)
    expected = rows(store)
    copy = killed(store.directory, tmp_path / "copy")
    store.close(checkpoint=False)
    now = pages_of(copy / "data.mdb", page)
    written = [number for number, content in enumerate(now) if number >= len(synced) or synced[number] != content]
    assert len(written) > 30
    assert {0, 1} <= set(written)
    newest = max((0, 1), key=lambda number: struct.unpack_from("=Q", now[number], 16 + 128))
    gone = {
        "all": written,
        "data": [number for number in written if number > 1],
        "meta": [0, 1],
        "newest meta": [newest],
    }[zeroed]
    with (copy / "data.mdb").open("r+b") as file:
        for number in gone:
            file.seek(number * page)
            file.write(bytes(page))
    again = killed(copy, tmp_path / "again")

    assert expected == reopened(copy)
    store = open_store(again)
    store.close()
    assert verify.verify(str(again / "data.mdb")) == []


@pytest.mark.parametrize("seed", range(5))
def test_power_cuts(tmp_path: Path, seed: int):
    """Wherever power fails, with whatever luck, the state is one that was logged, and not before what was synced."""
    chance = random.Random(seed)
    disk = PowerDisk()
    store = open_store(tmp_path / "store", disk)
    history: list[tuple[int, dict[bytes, bytes]]] = [(store.wal.end_lsn, {})]
    state: dict[bytes, bytes] = {}
    for number in range(150):
        for _ in range(chance.randrange(20)):
            key, value = b"%d" % chance.randrange(300), bytes(chance.randrange(200))
            if chance.random() < 0.3:
                store.tables[fmt.SETS].delete(key)
                state.pop(key, None)
            else:
                store.tables[fmt.SETS].put(key, value)
                state[key] = value
        store.append(number)
        history.append((store.wal.end_lsn, dict(state)))
        step = chance.randrange(12)
        if step == 0 and not store.is_committing:
            store.begin_commit()
        elif step == 1:
            store.begin_sync()
        elif step == 2:
            store.wal.sync()
        elif step == 3:
            store.checkpoint()
        elif step == 4:
            store.repair()
        elif step == 5:
            store.trim_wal(0, store.wal.end_lsn)
        else:
            store.poll()
            store.drain()
        if number % 15 == 14:
            promised = store.wal.synced_lsn
            disk.cut(store.directory, tmp_path / f"{number}", chance, harshest=number == 14)
            found = reopened(tmp_path / f"{number}")
            assert any(lsn >= promised and found == kept for lsn, kept in history), f"after {number}"
    store.close()
    disk.close()


# --- beside a running store -------------------------------------------------------------------------------------------------------


def test_read_only(tmp_path: Path):
    """A reader sees one commit, whatever happens meanwhile, and says which it is."""
    store = open_store(tmp_path / "store")
    put(store, a="1")
    store.checkpoint()
    lsn = store.committed_lsn
    store.close()
    reader = ReadOnly(tmp_path / "store")

    assert (lsn, plain(a="1")) == (reader.lsn, dict(reader.rows(fmt.SETS)))
    assert (b"1", None, None) == (
        reader.get(fmt.SETS, b"a"),
        reader.get(fmt.SETS, b""),
        reader.get(fmt.SETS, b"x" * 600),
    )
    assert [(b"a", b"1")] == list(reader.rows(fmt.SETS, b"a"))
    assert list(reader.rows(fmt.SETS, b"b")) == []
    reader.close()
    with pytest.raises(StorageError, match="cannot be opened"):
        ReadOnly(tmp_path)


def test_table_names():
    """Every sub-database has a table, in the order of its number."""
    assert list(range(len(fmt.TABLE_NAMES))) == list(fmt.TABLE_NAMES)
    assert Table(fmt.META, None, lambda: None).is_lazy
