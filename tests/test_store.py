"""The store: what was logged is there after anything, what was not is not; and nothing waits that must not."""

from __future__ import annotations

import errno
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
from lmdbredis import wal
from lmdbredis.errors import DiskFull, StorageError, SyncFailed
from lmdbredis.store import ReadOnly, Store
from lmdbredis.table import Table, after_prefix
from tests.crash import FaultyDisk, PowerDisk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmdbredis.disk import Disk

REPLID = "a" * 40


def open_store(directory: Path, disk: Disk | None = None, map_bytes: int = 1 << 30) -> Store:
    """Open a small store."""
    directory.mkdir(exist_ok=True)
    return Store(directory, REPLID, disk=disk, map_bytes=map_bytes, segment_bytes=1 << 16)


def rows(store: Store, number: int = fmt.SETS) -> dict[bytes, bytes]:
    """Return all rows of a table, read in order."""
    found = store.tables[number].take(b"", 1_000_000)
    assert found == sorted(found)
    return dict(found)


def put(store: Store, **values: str) -> None:
    """Put rows into a table, one batch."""
    for key, value in values.items():
        store.tables[fmt.SETS].put(key.encode(), value.encode())
    store.append(1)


def plain(**values: str) -> dict[bytes, bytes]:
    """Return the rows that `put` makes."""
    return {key.encode(): value.encode() for key, value in values.items()}


def killed(directory: Path, copy: Path) -> Path:
    """Return a copy of the directory as a process leaves it that is killed now."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("lock.mdb", "LOCK"))
    return copy


def reopened(directory: Path, number: int = fmt.SETS) -> dict[bytes, bytes]:
    """Open a directory, read a table and close."""
    store = open_store(directory)
    try:
        return rows(store, number)
    finally:
        store.close(checkpoint=False)


class HeldDisk(FaultyDisk):
    """A disk whose commits and syncs wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = threading.Event()
        self.syncs = threading.Event()
        self.commits.set()
        self.syncs.set()

    def commit(self, transaction: object) -> None:
        """Commit when the test says so."""
        assert self.commits.wait(30)
        super().commit(transaction)

    def reached(self, point: str) -> None:
        """Wait before a snapshot's sync."""
        super().reached(point)
        if point == "sync":
            assert self.syncs.wait(30)


@pytest.fixture
def disk() -> HeldDisk:
    return HeldDisk()


@pytest.fixture
def store(tmp_path: Path, disk: HeldDisk) -> Iterator[Store]:
    made = open_store(tmp_path / "store", disk)
    yield made
    disk.commits.set()
    disk.syncs.set()
    disk.commits_fail, disk.room_bytes, disk.syncs_fail = None, None, False
    made.close(checkpoint=False)


# --- batches and reads ----------------------------------------------------------------------------------------------------------


def test_reads_follow_writes(store: Store):
    """What was put is read at once, by key and in order, before it is logged and after; what was deleted is gone."""
    table = store.tables[fmt.SETS]
    table.put(b"b", b"1")
    table.put(b"a", b"2")
    assert (b"1", {b"a": b"2", b"b": b"1"}) == (table.get(b"b"), rows(store))
    table.delete(b"a")
    table.delete(b"nothing")
    assert (None, {b"b": b"1"}) == (table.get(b"a"), rows(store))
    assert (b"1", None) == (table.exchange(b"b", b"3"), table.exchange(b"c", b"4"))
    assert (False, True) == (table.add(b"b", b"x"), table.add(b"d", b"5"))
    assert (b"5", None) == (table.pop(b"d"), table.pop(b"d"))
    store.append(1)
    assert {b"b": b"3", b"c": b"4"} == rows(store)
    assert not store.append(1), "nothing is left to be logged"


def test_walks(store: Store):
    """Every ordered read agrees with a sorted list, at the ends, in the middle and beyond, also while rows are deleted."""
    table = store.tables[fmt.SETS]
    keys = [b"%04d" % number for number in range(0, 1000, 2)]
    for key in keys:
        table.put(key, b"v" + key)
    store.append(1)
    for start, stop in ((b"", b"\xff"), (b"0100", b"0200"), (b"0101", b"0101"), (b"0998", b"0999"), (b"2", b"3")):
        expected = [(key, b"v" + key) for key in keys if start <= key < stop]
        assert expected == list(table.range(start, stop))
        assert expected[::-1] == list(table.range_back(start, stop))
        assert expected[:3] == [row for row in table.take(start, 3) if row[0] < stop]
        assert [key for key, _ in expected[:3]] == [key for key in table.take_keys(start, 3) if key < stop]
        assert expected[::-1][:3] == [row for row in table.take_back(stop, 3) if row[0] >= start]
    assert [key for key in keys if key.startswith(b"01")] == [key for key, _ in table.prefix(b"01")]
    assert (b"0198", b"v0198") == table.last_with(b"01")
    assert table.last_with(b"5") is None
    for key, _ in table.range(b"0", b"1"):
        table.delete(key)
    assert rows(store) == {}


def test_after_prefix():
    """The least key behind all keys that begin with a prefix."""
    assert (b"b", b"ab", b"b") == (after_prefix(b"a"), after_prefix(b"aa"), after_prefix(b"a\xff\xff"))
    assert after_prefix(b"\xff\xff") > b"\xff" * 511
    assert after_prefix(b"") > b"\xff" * 511


@pytest.mark.parametrize("number", [fmt.SETS, fmt.COUNTS])
def test_during_a_commit(store: Store, disk: HeldDisk, number: int):
    """While a commit is on its way point reads and writes go on; an ordered read waits for it and sees everything."""
    table = store.tables[number]
    for key in (b"old", b"changed", b"deleted"):
        table.put(key, b"1")
    store.append(1)
    disk.commits.clear()
    store.begin_commit()
    assert store.is_committing
    table.put(b"changed", b"2")
    table.delete(b"deleted")
    table.put(b"new", b"3")
    store.append(2)
    table.put(b"unlogged", b"4")
    assert [b"1", b"2", None, b"3", b"4", None] == [
        table.get(key) for key in (b"old", b"changed", b"deleted", b"new", b"unlogged", b"never")
    ]
    assert (b"3", b"2") == (table.exchange(b"new", b"5"), table.pop(b"changed"))
    assert (False, True) == (table.add(b"new", b"6"), table.add(b"changed", b"7"))
    store.poll()
    assert store.is_committing
    threading.Timer(0.05, disk.commits.set).start()

    expected = {b"changed": b"7", b"new": b"5", b"old": b"1", b"unlogged": b"4"}
    assert expected == rows(store, number)
    assert not store.is_committing
    store.append(3)
    store.checkpoint()
    assert expected == rows(store, number)


def test_backlog(store: Store, disk: HeldDisk):
    """Rows that came during a commit go into LMDB bit by bit, and at every moment all of them are read, by key and in order."""
    table = store.tables[fmt.SETS]
    chance = random.Random(6)
    disk.commits.clear()
    put(store, first="1")
    store.begin_commit()
    expected = {b"first": b"1"}
    for number in range(5000):
        expected[b"%d" % number] = b"%d" % chance.randrange(100)
        table.put(b"%d" % number, expected[b"%d" % number])
    store.append(2)
    disk.commits.set()
    while store.is_committing:
        store.drain()
    for _ in range(50):
        store.drain()
        for key in chance.sample(sorted(expected), 20):
            assert expected[key] == table.get(key)
            expected[key] = b"again"
            table.put(key, b"again")
        store.append(3)

    assert expected == rows(store)
    assert not any(table.overlay for table in store.tables if not table.is_lazy)


# --- repair ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("committing", [False, True, "done"])
def test_repair(store: Store, disk: HeldDisk, committing: bool | str):
    """A repair forgets what was not logged and keeps what was, whatever the writer is doing; whoever derived from rows is told."""
    forgotten = []
    store.forgets.append(lambda: forgotten.append(rows(store)))
    put(store, a="1", b="1")
    if committing:
        disk.commits.clear()
        store.begin_commit()
        put(store, b="2", c="2")
        if committing == "done":
            disk.commits.set()
    store.tables[fmt.SETS].put(b"d", b"3")
    store.tables[fmt.SETS].delete(b"a")
    disk.commits.set()
    store.repair()

    expected = plain(a="1", b="2", c="2") if committing else plain(a="1", b="1")
    assert expected == rows(store)
    assert forgotten == [expected]
    assert not store.append(9)
    put(store, e="5")
    store.repair()
    assert expected | plain(e="5") == rows(store)
    store.checkpoint()
    store.repair()
    assert expected | plain(e="5") == rows(store)


def test_repair_reads_no_further_than_the_log(store: Store, disk: HeldDisk):
    """Bytes that a failed append left behind the end of the log are not read by a repair, even if they are a whole record."""
    put(store, a="1")
    end = store.wal.end_lsn
    payload = fmt.pack_write_set({fmt.SETS: {b"ghost": b"1"}})
    head = fmt.pack_record_header(payload, end, end, 1, 0)
    with wal.segment_path(store.directory / "wal", 0).open("r+b") as file:
        file.seek(end)
        file.write(head + payload)
    store.repair()

    assert plain(a="1") == rows(store)


def test_repair_of_a_lost_log_is_final(store: Store):
    """If the log cannot be read back, what was acknowledged cannot be shown any more: the process must end."""
    put(store, a="1")
    (store.directory / "wal" / "0000000000000000.wal").write_bytes(b"")
    with pytest.raises(SyncFailed, match="cannot be read back"):
        store.repair()


# --- a full disk ----------------------------------------------------------------------------------------------------------------


def test_full_at_append(store: Store, disk: HeldDisk):
    """An append without room keeps nothing of the batch; everything before it is there, and with room it goes on."""
    put(store, a="1")
    disk.room_bytes = 10
    store.tables[fmt.SETS].put(b"b", b"2")
    with pytest.raises(DiskFull):
        store.append(2)
    store.repair()
    assert plain(a="1") == rows(store)
    disk.room_bytes = None
    put(store, c="3")

    assert plain(a="1", c="3") == rows(store)
    assert plain(a="1", c="3") == reopened(killed(store.directory, store.directory.parent / "copy"))


def test_full_at_rotation(store: Store, disk: HeldDisk):
    """A segment that cannot be made is as a full disk."""
    put(store, a="1" * 60_000)
    disk.room_bytes = 20_000
    store.tables[fmt.SETS].put(b"b", b"2" * 10_000)
    with pytest.raises(DiskFull):
        store.append(2)
    store.repair()
    assert [b"a"] == list(rows(store))
    disk.room_bytes = None
    put(store, c="3" * 10_000)

    assert [b"a", b"c"] == list(reopened(killed(store.directory, store.directory.parent / "copy")))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, "map"])
def test_full_at_commit(store: Store, disk: HeldDisk, error: int | str):
    """A commit without room loses nothing: the state is that of the log, and a later commit succeeds."""
    put(store, a="1")
    store.checkpoint()
    put(store, b="2")
    failures = {
        "map": lmdb.MapFullError("put"),
        errno.ENOSPC: lmdb.DiskError("commit"),
        errno.EIO: _engine_error(errno.EIO),
    }
    disk.commits_fail = failures[error]
    store.begin_commit()
    put(store, c="3")
    with pytest.raises(DiskFull):
        while store.is_committing:
            store.poll()
    store.repair()
    assert plain(a="1", b="2", c="3") == rows(store)
    with pytest.raises(DiskFull):
        store.checkpoint()
    store.repair()
    with pytest.raises(DiskFull):
        store.probe(1)
    store.repair()
    disk.commits_fail = None
    store.probe(1)
    store.checkpoint()

    assert plain(a="1", b="2", c="3") == rows(store)
    assert (
        store.control.lsn == store.wal.end_lsn - fmt.RECORD_HEADER_BYTES - 1 or store.control.lsn == store.committed_lsn
    )


def _engine_error(code: int) -> lmdb.Error:
    error = lmdb.Error("mdb_txn_commit: Input/output error")
    error.code = code
    return error


def test_commit_that_breaks_the_engine(store: Store, disk: HeldDisk):
    """An engine that panics is not a full disk: nothing can be trusted any more."""
    put(store, a="1")
    disk.commits_fail = lmdb.PanicError("mdb_txn_commit")
    store.begin_commit()
    with pytest.raises(SyncFailed, match="the engine failed"):
        while store.is_committing:
            store.poll()


def test_map_full(tmp_path: Path):
    """Rows beyond the map are refused as by a full disk; what was acknowledged before stays readable and is not lost."""
    store = open_store(tmp_path / "store", map_bytes=1 << 20)
    table = store.tables[fmt.SETS]
    kept: dict[bytes, bytes] = {}
    for number in range(1000):
        batch = {b"%d.%d" % (number, index): bytes(100) for index in range(20)}
        try:
            for key, row in batch.items():
                table.put(key, row)
            store.settle()
            store.append(1)
        except (DiskFull, lmdb.MapFullError):
            store.repair()
            break
        kept |= batch
        if number % 10 == 0:
            store.begin_commit()
    assert 1000 < len(kept) < 20_000
    assert kept == rows(store)
    store.close(checkpoint=False)

    assert kept == reopened(tmp_path / "store")


def test_map_full_after_the_log(tmp_path: Path):
    """Rows that were logged during a commit and do not fit the map afterwards are read from memory, and not lost."""
    disk = HeldDisk()
    store = open_store(tmp_path / "store", disk, map_bytes=1 << 20)
    put(store, a="1")
    disk.commits.clear()
    store.begin_commit()
    expected = plain(a="1")
    for number in range(600):
        expected[b"%d" % number] = bytes(3000)
        store.tables[fmt.SETS].put(b"%d" % number, bytes(3000))
    store.append(2)
    disk.commits.set()
    with pytest.raises(DiskFull):
        store.settle()
    store.repair()
    assert all(row == store.tables[fmt.SETS].get(key) for key, row in expected.items())
    with pytest.raises(DiskFull):
        store.probe(3)
    store.repair()
    store.close(checkpoint=False)

    assert expected == reopened(tmp_path / "store")


def test_full_at_control(store: Store, disk: HeldDisk, tmp_path: Path):
    """If CONTROL cannot be written the snapshot that it names stays whole: nothing reuses its pages."""
    put(store, **{f"k{number}": "x" * 100 for number in range(500)})
    store.checkpoint()
    names = store.control.txnid
    for number in range(12):
        for key in list(rows(store)):
            store.tables[fmt.SETS].delete(key)
        put(store, **{f"{number}.{index}": f"{number}" * (index % 150) for index in range(400)})
        store.begin_commit()
        while store.is_committing:
            store.poll()
        disk.room_bytes = 1
        store.begin_sync()
        with pytest.raises(DiskFull):
            while store._syncing is not None:
                store.poll()
        disk.room_bytes = None
    assert names == store.control.txnid == fmt.unpack_control((store.directory / "CONTROL").read_bytes()).txnid
    expected = rows(store)

    assert expected == reopened(killed(store.directory, tmp_path / "copy"))
    open_store(killed(store.directory, tmp_path / "copy")).close()
    assert verify.verify(str(tmp_path / "copy" / "data.mdb")) == []
    store.checkpoint()
    assert store.control.txnid > names
    assert expected == reopened(killed(store.directory, tmp_path / "copy"))


# --- syncs ----------------------------------------------------------------------------------------------------------------------


def test_sync_failed(store: Store, disk: HeldDisk, tmp_path: Path):
    """A failing sync is said at once, and CONTROL goes on naming the snapshot before; what the log holds is not lost."""
    put(store, a="1")
    store.checkpoint()
    before = (store.directory / "CONTROL").read_bytes()
    put(store, b="2")
    store.begin_commit()
    while store.is_committing:
        store.poll()
    disk.syncs_fail = True
    store.begin_sync()
    with pytest.raises(SyncFailed):
        while store._syncing is not None:
            store.poll()

    assert before == (store.directory / "CONTROL").read_bytes()
    assert plain(a="1", b="2") == reopened(killed(store.directory, tmp_path / "copy"))


def test_nothing_waits_for_a_sync(store: Store, disk: HeldDisk):
    """While a snapshot is synced, commits go on; its pages stay whole until the next one is safe."""
    put(store, **{f"k{number}": "x" * 50 for number in range(300)})
    store.checkpoint()
    disk.syncs.clear()
    put(store, a="1")
    store.begin_commit()
    while store.is_committing:
        store.poll()
    assert store.begin_sync()
    commits = store.commits
    for number in range(20):
        put(store, **{f"k{index}": f"{number}" for index in range(300)})
        store.begin_commit()
        while store.is_committing:
            store.poll()
        assert not store.begin_sync(), "one at a time"
    assert commits + 20 == store.commits
    disk.syncs.set()
    while store._syncing is not None:
        store.poll()
    assert store.begin_sync()


def test_log_before_control(tmp_path: Path):
    """CONTROL never names a snapshot before the log is on disk up to it."""

    class Watching(PowerDisk):
        def replace(self, path: Path, content: bytes) -> None:
            lsn = fmt.unpack_control(content).lsn
            assert lsn <= self.store.wal.synced_lsn
            super().replace(path, content)

    disk = Watching()
    disk.store = open_store(tmp_path / "store")
    disk.store.close()
    disk.store = store = open_store(tmp_path / "store", disk)
    for number in range(20):
        put(store, **{f"a{number}": "1"})
        store.begin_commit()
        put(store, **{f"b{number}": "1"})
        store.checkpoint()
    store.close()
    disk.close()


def test_unlogged_rows_reach_the_disk(store: Store):
    """Reclaiming logs nothing, and still its snapshot is synced: it is not done again after each start."""
    put(store, a="1", b="2")
    store.checkpoint()
    store.delete_unlogged(store.tables[fmt.SETS], [b"a"])
    store.checkpoint()
    control = store.control

    assert plain(b="2") == rows(store)
    assert (control.lsn, True) == (store.committed_lsn, control.txnid == store._env.info()["last_txnid"])


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
        with pytest.raises(StorageError, match=rf"another server \(pid {os.getpid()}\) is using the directory"):
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
            store.trim_wal(0)
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
