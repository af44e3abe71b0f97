"""The running store: reads follow writes, repair, full disks and failing syncs; and nothing waits that must not."""

from __future__ import annotations

import errno
import random
import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import lmdb
import pytest
from lmdb import verify

from lmdbredis import control_file, wal
from lmdbredis import format as fmt
from lmdbredis.errors import DiskFull, StorageError, SyncFailed
from lmdbredis.table import after_prefix
from tests.crash import PowerDisk
from tests.stores import HeldDisk, killed, open_store, plain, put, reopened, rows, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lmdbredis.store import Store


@pytest.fixture
def disk() -> HeldDisk:
    return HeldDisk()


@pytest.fixture
def store(tmp_path: Path, disk: HeldDisk) -> Iterator[Store]:
    with running(tmp_path / "store", disk) as made:
        yield made


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


def test_a_probe_syncs_what_has_been_committed(store: Store, disk: HeldDisk):
    """What no sync has followed yet is synced though the probe finds no room: the next commit may need the pages of the one before."""
    put(store, a="1")
    store.begin_commit()
    store.settle()
    committed_lsn = store.committed_lsn
    assert store.control.lsn < committed_lsn
    put(store, b="2")
    disk.commits_fail = lmdb.MapFullError("put")
    with pytest.raises(DiskFull):
        store.probe(1)
    store.repair()
    while store.is_syncing:
        store.poll()

    assert store.control.lsn == committed_lsn


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
    assert names == store.control.txnid == control_file.unpack((store.directory / "CONTROL").read_bytes()).txnid
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
            lsn = control_file.unpack(content).lsn
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


# --- what must not grow, and what must not be forgotten ---------------------------------------------------------------------------


@pytest.mark.parametrize("is_slow", [False, True], ids=["quick", "slow"])
def test_a_load_does_not_stay_in_memory(store: Store, disk: HeldDisk, is_slow: bool):
    """Rows that nobody reads any more are freed as fast as they come, however large the batches and slow the commits are."""
    table, held = store.tables[fmt.KEYS], []
    for batch in range(200):
        for number in range(2500):
            table.put(b"k%08d" % (batch * 2500 + number), b"v")
        store.append(batch)
        if store.is_committing and store.dirty_rows >= 20_000:  # as a server does
            disk.commits.set()
            store.wait_for_commit(10)
        if store.dirty_rows >= 20_000 and not store.is_committing:
            if is_slow:
                disk.commits.clear()
            store.begin_commit()
        else:
            store.drain()
        held.append(sum(map(len, store._spent)))
    disk.commits.set()
    assert max(held[100:]) < 100_000, "of 500,000 rows"


def test_backlog_is_drained_as_fast_as_rows_come(store: Store, disk: HeldDisk):
    """What waited for a commit is put into LMDB in at most as many batches as it took to come."""
    table = store.tables[fmt.KEYS]
    disk.commits.clear()
    put(store, first="1")
    store.begin_commit()
    for batch in range(10):
        for number in range(1000):
            table.put(b"%d:%d" % (batch, number), b"v")
        store.append(batch)
    disk.commits.set()
    store.wait_for_commit(10)
    assert not store.is_settled
    for batch in range(12):
        for number in range(1000):
            table.put(b"later %d:%d" % (batch, number), b"v")
        store.append(batch)
        store.drain()
    assert store.is_settled


def test_a_commit_is_prepared(store: Store):
    """Rows that wait for a commit are put bit by bit before it begins, and it has all of them."""
    table = store.tables[fmt.COUNTS]
    for number in range(10_000):
        table.put(b"%d" % number, b"%d" % number)
        if not number % 100:
            store.append(1)
    store.append(1)
    left = [len(table.overlay)]
    while not store.prepare_commit():
        left.append(len(table.overlay))
    assert 3 < len(left) < 8
    assert max(before - after for before, after in pairwise(left)) < 3000
    store.begin_commit()
    assert len(table.overlay) == 10_000, "over the last commit, until this one is done"
    store.wait_for_commit(10)
    assert not table.overlay
    assert len(table.take_keys(b"", 20_000)) == 10_000


def test_a_sync_that_failed_elsewhere(tmp_path: Path):
    """The log's sync fails in the checkpoint's thread, and the system tells of it once: no later one is a success."""
    disk = HeldDisk()
    store = open_store(tmp_path / "store", disk)
    put(store, a="1")
    synced_lsn, disk.syncs_fail = store.wal.synced_lsn, True
    store.begin_commit()
    store.wait_for_commit(10)
    assert store.begin_sync()
    assert store._syncing is not None
    assert isinstance(store._syncing.exception(10), SyncFailed)
    disk.syncs_fail = False
    with pytest.raises(SyncFailed):
        store.wal.sync()
    assert synced_lsn == store.wal.synced_lsn
    with pytest.raises(SyncFailed):
        store.close(checkpoint=False)


def test_data_file_holds_its_whole_snapshot(tmp_path: Path, store: Store):
    """Pages that were free again before they were written are in the file all the same: what is shorter was cut, and is refused."""
    table = store.tables[fmt.CHUNKS]
    put(store, a="1")
    for number in range(1000):
        table.put(b"%05d" % number, b"x" * 1000)
    store.append(1)
    for number in range(1000):
        table.delete(b"%05d" % number)
    store.append(2)
    store.checkpoint()
    promised = control_file.meta_file_bytes(store.control.meta_body)
    size = (store.directory / "data.mdb").stat().st_size
    copied = killed(store.directory, tmp_path / "copy")
    with (copied / "data.mdb").open("r+b") as file:
        file.truncate(promised - 1)
    assert size >= promised
    with pytest.raises(StorageError, match="restore a backup"):
        open_store(copied)
    assert (copied / "data.mdb").stat().st_size == promised - 1, "nothing was written"
