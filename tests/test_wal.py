"""The log: what was appended is read back, whatever a crash, a power cut or a full disk did to the end of it."""

from __future__ import annotations

import errno
import shutil
import threading
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbredis import format as fmt
from lmdbredis import wal
from lmdbredis.disk import Disk
from lmdbredis.errors import DiskFull, StorageError, SyncFailed
from lmdbredis.wal import Wal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEAD = fmt.SEGMENT_HEADER_BYTES
RECORD = fmt.RECORD_HEADER_BYTES


def payloads(directory: Path, from_lsn: int = 0) -> list[bytes]:
    """Return what the log holds."""
    return [record.payload for record in wal.read(directory, from_lsn)]


def open_end(directory: Path, segment_bytes: int = 4096, disk: Disk | None = None) -> Wal:
    """Open the log as recovery does: read it, append after its last record."""
    end = 0
    for record in wal.read(directory, 0):
        end = record.end_lsn
    return Wal(directory, disk or Disk(), end, segment_bytes)


def write(directory: Path, parts: Iterable[bytes], segment_bytes: int = 4096) -> list[int]:
    """Make a log of these payloads as one server does; return the lsn after each."""
    log = open_end(directory, segment_bytes)
    ends = [log.append(part, number) for number, part in enumerate(parts)]
    log.close()
    return ends


def only(directory: Path) -> Path:
    """Return the only segment there is."""
    (base,) = wal.segments(directory)
    return wal.segment_path(directory, base)


# --- append and read -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=40), st.integers(100, 1000), st.data())
def test_read_back(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], segment_bytes: int, data: st.DataObject
):
    """Records come back in order, from the beginning or from any of their addresses, across segments and openings."""
    directory = tmp_path_factory.mktemp("log")
    cut = data.draw(st.integers(0, len(parts)))
    ends = write(directory, parts[:cut], segment_bytes) + write(directory, parts[cut:], segment_bytes)
    records = list(wal.read(directory, 0))

    assert parts == [record.payload for record in records]
    assert ends == [record.end_lsn for record in records]
    for number, end in enumerate(ends):
        assert parts[number + 1 :] == payloads(directory, end)
        assert wal.reaches(directory, end)
    bases = wal.segments(directory)
    assert bases[0] == 0
    assert all(base in {0, *ends} for base in bases), "law 1: a segment begins where a record ends"


def test_record_fields(tmp_path: Path):
    """A record says its address, when it was written, its flags, and how far the log was on disk."""
    log = Wal(tmp_path, Disk(), 0, 4096)
    first = log.append(b"one", 111, flags=3)
    log.append(b"two", 222)
    log.sync()
    log.append(b"three", 333)
    log.close()

    one, two, three = wal.read(tmp_path, 0)
    assert (HEAD, first, 111, 3, b"one") == one
    assert (first, 222, 0) == (two.lsn, two.time_ms, two.flags)
    content = only(tmp_path).read_bytes()
    synced = [
        fmt.unpack_record_header(content[record.lsn : record.lsn + RECORD]).synced_lsn for record in (one, two, three)
    ]
    assert synced == [HEAD, HEAD, two.end_lsn]


def test_read_until(tmp_path: Path):
    """Whoever knows where the log ends reads to there and no further; a log that ends before is damage."""
    ends = write(tmp_path, [b"a", b"b", b"c"])

    assert [b"a", b"b"] == [record.payload for record in wal.read(tmp_path, 0, ends[1])]
    with pytest.raises(StorageError, match="cannot be read back"):
        list(wal.read(tmp_path, 0, ends[2] + 1))


def test_large_record(tmp_path: Path):
    """A record larger than a segment is whole in a segment of its own."""
    parts = [b"x" * 50, b"y" * 10_000, b"z" * 50]
    ends = write(tmp_path, parts, segment_bytes=256)

    assert parts == payloads(tmp_path)
    assert wal.segments(tmp_path) == [0, ends[0], ends[1]]


def test_trim(tmp_path: Path):
    """Segments that end at or before an address go, the current one never; what is left reads from its beginning."""
    log = Wal(tmp_path, Disk(), 0, 200)
    for number in range(10):
        log.append(b"%d" % number * 50, number)
    bases = wal.segments(tmp_path)
    assert len(bases) > 4

    removed = log.trim(bases[2])
    assert bases[2:] == wal.segments(tmp_path)
    assert not log.trim(bases[3] - 1)
    assert bases[2:] == wal.segments(tmp_path)
    removed += log.trim(1 << 60)
    assert len(bases) - 1 == len(removed)
    wal.close_all(removed)
    assert bases[-1:] == wal.segments(tmp_path)
    assert log.size_bytes() == log.end_lsn - bases[-1]
    log.close()
    with pytest.raises(StorageError, match="segments are missing"):
        payloads(tmp_path, bases[2])


def test_trim_without_a_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Segments whose directory cannot be listed just now stay, and go later."""

    def refuse(_: Path) -> list[int]:
        raise OSError(errno.EMFILE, "Too many open files")

    log = Wal(tmp_path, Disk(), 0, 200)
    for number in range(10):
        log.append(b"%d" % number * 50, number)
    with monkeypatch.context() as patch:
        patch.setattr(wal, "segments", refuse)
        assert not log.trim(1 << 60)
    assert len(wal.segments(tmp_path)) > 4
    wal.close_all(log.trim(1 << 60))
    assert len(wal.segments(tmp_path)) == 1
    log.close()


# --- the end of the log ----------------------------------------------------------------------------------------------------------


def broken_tail(directory: Path, at: int, how: str) -> None:
    """Let the only segment lose what stands from `at` on: cut off, or zeros (as a file system shows lost blocks)."""
    path = only(directory)
    content = path.read_bytes()
    path.write_bytes(content[:at] + (b"" if how == "cut" else bytes(len(content) - at)))


@pytest.mark.parametrize("how", ["cut", "zeros"])
def test_torn_at_every_byte(tmp_path: Path, how: str):
    """Wherever the log is torn, all records before that are read, none after, and a server goes on from there."""
    parts = [b"first", b"", b"x" * 40, b"last"]
    ends = [HEAD, *write(tmp_path / "log", parts, segment_bytes=256)]
    content = only(tmp_path / "log").read_bytes()[: ends[-1]]
    whole = tmp_path / "log" / "0000000000000000.wal"
    for at in range(len(content) + 1):
        whole.write_bytes(content)
        broken_tail(tmp_path / "log", at, how)
        left = content[:at] if how == "cut" else content[:at].ljust(len(content), b"\0")
        kept = sum(content[:end] == left[:end] for end in ends[1:])  # a record that ends in zeros may have lost nothing
        assert parts[:kept] == payloads(tmp_path / "log"), at

        write(tmp_path / "log", [b"and on"], segment_bytes=256)
        assert [*parts[:kept], b"and on"] == payloads(tmp_path / "log"), at


@pytest.mark.parametrize("at_from_record", range(RECORD + 5))
def test_bad_record_before_good_ones(tmp_path: Path, at_from_record: int):
    """A bad record is the end of the log if nobody was promised what follows; if it had been synced, the log refuses."""
    for promised in (False, True):
        directory = tmp_path / str(promised)
        log = Wal(directory, Disk(), 0, 4096)
        first = log.append(b"first", 1)
        log.append(b"second", 2)
        if promised:
            log.sync()
        log.append(b"third", 3)
        log.close()
        path = only(directory)
        content = bytearray(path.read_bytes())
        content[first + at_from_record] ^= 0x55
        path.write_bytes(content)
        # The records' own word is the `synced lsn` of those behind the damage; its own, here damaged, does not count.
        if promised:
            with pytest.raises(StorageError, match="a record that had been synced is not whole"):
                payloads(directory)
            assert bytes(content) == path.read_bytes(), "refusing changes nothing"
        else:
            assert [b"first"] == payloads(directory)


@pytest.mark.parametrize("in_segment", [0, 1, 2])
def test_damage_in_an_earlier_segment(tmp_path: Path, in_segment: int):
    """Damage in a full segment is found by the records that follow, in the same segment or in a later one."""
    log = Wal(tmp_path, Disk(), 0, 256)
    for number in range(12):
        log.append(b"%02d" % number * 20, number)
        log.sync()
    log.close()
    bases = wal.segments(tmp_path)
    assert len(bases) > 3
    path = wal.segment_path(tmp_path, bases[in_segment])
    content = path.read_bytes()
    for at in (0, HEAD + 3, HEAD + RECORD + 1):
        path.write_bytes(content[:at] + b"\xee" + content[at + 1 :])
        with pytest.raises(StorageError, match="a record that had been synced is not whole"):
            payloads(tmp_path)
    path.unlink()
    with pytest.raises(StorageError, match=r"segments are missing|had been synced"):
        payloads(tmp_path)


def test_unpromised_segment_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Power fails before a rotation was synced: the later segment may be whole and the earlier torn. Both ends go, and it is said."""
    log = Wal(tmp_path, Disk(), 0, 256)
    first = log.append(b"a" * 100, 1)
    log.append(b"b" * 100, 2)
    log.append(b"c" * 100, 3)
    bases = wal.segments(tmp_path)
    assert len(bases) == 3
    path = wal.segment_path(tmp_path, 0)
    path.write_bytes(path.read_bytes()[: first - 10])

    assert payloads(tmp_path) == []
    assert "records behind it that nobody promised to keep: 2," in caplog.text
    write(tmp_path, [b"new"], segment_bytes=256)
    assert [b"new"] == payloads(tmp_path)
    assert wal.segments(tmp_path) == [0]


def test_stale_bytes(tmp_path: Path):
    """Whole records that stand where they were not written are not records: their address is inside them."""
    ends = write(tmp_path / "a", [b"one", b"two", b"three"])
    content = only(tmp_path / "a").read_bytes()[: ends[2]]
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    path = only(tmp_path / "b")
    path.write_bytes(content[: ends[0]] + content[ends[1] :] + content[ends[0] :])

    assert [b"one"] == payloads(tmp_path / "b")


def test_nothing_comes_back(tmp_path: Path):
    """What stood after the end of the log when it was opened is erased: it cannot follow what is appended later."""
    ends = write(tmp_path, [b"one", b"two", b"three"])
    path = only(tmp_path)
    content = bytearray(path.read_bytes())
    content[ends[0] + RECORD] ^= 1  # the second, which was never promised
    path.write_bytes(content)
    write(tmp_path, [b"TWO"])  # as long as the one it replaces: the third would follow it

    assert [b"one", b"TWO"] == payloads(tmp_path)


def test_segment_without_records(tmp_path: Path):
    """A crash right after a rotation leaves a segment with nothing but its header; the next server writes behind that."""
    ends = write(tmp_path, [b"x" * 200], segment_bytes=256)
    following = wal.segment_path(tmp_path, ends[0])
    for head in (fmt.pack_segment_header(ends[0]), fmt.pack_segment_header(ends[0])[:20], b"", bytes(256)):
        following.write_bytes(head.ljust(256, b"\0") if head else b"")
        assert wal.reaches(tmp_path, ends[0])
        assert not wal.reaches(tmp_path, ends[0] + 300)
        log = open_end(tmp_path, segment_bytes=256)
        assert log.end_lsn == ends[0] + HEAD
        log.append(b"next", 2)
        log.close()
        assert [b"x" * 200, b"next"] == payloads(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["cafe.wal", "0x10.wal", "10000000000000000.wal", "00000000_00000001.wal", "000000000000CAFE.wal", "spare.wal"],
)
def test_names_that_are_none_of_a_segment(tmp_path: Path, name: str):
    """A file that somebody put beside the segments, whatever number its name spells, is no part of the log, and is left alone."""
    for part in (b"one", b"two"):
        write(tmp_path, [part])
        (tmp_path / name).write_bytes(b"hello" * 100)

    assert [b"one", b"two"] == payloads(tmp_path)
    assert (tmp_path / name).read_bytes() == b"hello" * 100


@pytest.mark.parametrize("lsn", [1 << 63, (1 << 64) - 1])
def test_address_that_cannot_be(tmp_path: Path, lsn: int):
    """A segment of an address that no log gets to is named, and nothing is done with it."""
    write(tmp_path, [b"one"])
    path = wal.segment_path(tmp_path, lsn)
    path.write_bytes(b"\xff" * 5000)

    with pytest.raises(StorageError, match=f"wal/{path.name} is no part of the log"):
        payloads(tmp_path)
    assert path.exists()


def test_newer_version(tmp_path: Path):
    """A segment of a newer format is refused, not taken for a torn one."""
    write(tmp_path, [b"one"])
    path = only(tmp_path)
    content = bytearray(path.read_bytes())
    content[11] = 2
    content[20:24] = __import__("zlib").crc32(content[:20]).to_bytes(4, "big")
    path.write_bytes(content)

    with pytest.raises(StorageError, match="WAL segment has format version 2"):
        payloads(tmp_path)


def test_zeros_and_addresses_in_values(tmp_path: Path):
    """Values may hold anything, zeros and whole records of other logs, and neither end the log nor look like promises."""
    other = fmt.pack_record_header(b"fake", 5000, 4999, 0, 0) + b"fake"
    parts = [bytes(500), other * 3, b"\xff" * 500, bytes(3)]
    ends = write(tmp_path, parts, segment_bytes=1 << 16)

    assert parts == payloads(tmp_path)
    path = only(tmp_path)
    path.write_bytes(path.read_bytes()[: ends[0] + 5] + bytes(20) + path.read_bytes()[ends[0] + 25 :])
    assert parts[:1] == payloads(tmp_path)


# --- errors of the disk ----------------------------------------------------------------------------------------------------------


class FullDisk(Disk):
    """A disk with so many bytes left; writes stop half way."""

    def __init__(self, left: int) -> None:
        self.left = left

    def pwrite(self, fd: int, parts: Sequence[bytes], offset: int) -> None:
        whole = b"".join(parts)
        super().pwrite(fd, [whole[: self.left]], offset)
        if len(whole) > self.left:
            raise DiskFull("no room")

    def allocate(self, fd: int, size_bytes: int) -> None:
        if self.left < size_bytes:
            raise DiskFull("no room")
        super().allocate(fd, size_bytes)


@pytest.mark.parametrize("left", range(0, 60, 7))
def test_full_disk(tmp_path: Path, left: int):
    """An append without room appends nothing, though part of it may have been written; there is room: it goes on."""
    disk = FullDisk(1 << 20)
    log = Wal(tmp_path, disk, 0, 256)
    log.append(b"one", 1)
    before = log.end_lsn
    disk.left = left
    with pytest.raises(DiskFull):
        log.append(b"two" * 20, 2)
    assert before == log.end_lsn
    with pytest.raises(DiskFull):
        log.append(b"rotates" * 40, 2)
    assert [b"one"] == [record.payload for record in wal.read(tmp_path, 0, log.end_lsn)]

    disk.left = 1 << 20
    log.append(b"2", 3)
    log.append(b"rotates" * 40, 4)
    log.close()
    assert [b"one", b"2", b"rotates" * 40] == payloads(tmp_path)


def test_batch_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What no record can hold is refused like what no disk can hold: nothing of it is kept, and the log goes on."""
    monkeypatch.setattr(fmt, "RECORD_BYTES_MAX", 1000)
    log = Wal(tmp_path, Disk(), 0, 4096)
    log.append(b"x" * 1000, 1)
    with pytest.raises(DiskFull, match="a batch of 1001 bytes"):
        log.append(b"x" * 1001, 2)
    log.append(b"y", 3)
    log.close()

    assert [b"x" * 1000, b"y"] == payloads(tmp_path)


def test_rotation_without_room(tmp_path: Path):
    """A rotation that finds no room changes nothing, and is tried again by the next append."""
    disk = FullDisk(1 << 20)
    log = Wal(tmp_path, disk, 0, 256)
    log.append(b"a" * 200, 1)
    disk.left = 100
    for _ in range(3):
        with pytest.raises(DiskFull):
            log.append(b"b" * 200, 2)
    assert wal.segments(tmp_path) == [0]
    assert not (tmp_path / "spare.new").exists()
    disk.left = 1 << 20
    log.append(b"b" * 200, 2)
    log.close()

    assert [b"a" * 200, b"b" * 200] == payloads(tmp_path)


def test_room_given_back(tmp_path: Path):
    """Nothing that was taken ahead is left, and the log goes on: in the segment, and into the next."""
    log = open_end(tmp_path)
    log.append(b"first", 1)
    log.prepare()
    log.give_back_room()
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [log.end_lsn]
    assert not log.wants_spare()
    values = [b"%d" % number * 100 for number in range(100)]
    for value in values:
        log.append(value, 2)
    log.close()

    assert [b"first", *values] == payloads(tmp_path)
    newest = wal.segments(tmp_path)[-1]
    assert wal.segment_path(tmp_path, newest).stat().st_size == log.end_lsn - newest, "nor by who has closed it"


def test_spare_that_cannot_be_removed(tmp_path: Path):
    """A log whose spare segment cannot be removed is closed all the same: the next opening takes it, or says what it is."""
    log = Wal(tmp_path, Disk(), 0, 4096)
    log.append(b"one", 1)
    (tmp_path / "spare").unlink(missing_ok=True)
    (tmp_path / "spare").mkdir()
    log.close()

    assert [b"one"] == payloads(tmp_path)


def test_sync_failed(tmp_path: Path):
    """A failing sync is said, and nothing after it counts as synced."""

    class Broken(Disk):
        fails = False

        def fdatasync(self, fd: int) -> None:
            if self.fails:
                raise SyncFailed("EIO")
            super().fdatasync(fd)

    disk = Broken()
    log = Wal(tmp_path, disk, 0, 4096)
    synced = log.sync()
    log.append(b"one", 1)
    disk.fails = True
    with pytest.raises(SyncFailed):
        log.sync()
    assert synced == log.synced_lsn
    disk.fails = False  # the system tells of it once, to whoever asked first
    with pytest.raises(SyncFailed):
        log.sync()
    assert synced == log.synced_lsn
    with pytest.raises(SyncFailed):
        log.close()
    disk.fails = True
    # What a crashed server wrote must be synced before anything is promised on top of it.
    with pytest.raises(SyncFailed):
        open_end(tmp_path, disk=disk)


class CountingDisk(Disk):
    """Says which files were synced."""

    def __init__(self) -> None:
        self.synced: list[str] = []

    def fdatasync(self, fd: int) -> None:
        super().fdatasync(fd)
        self.synced.append(Path(f"/proc/self/fd/{fd}").resolve().name)


def test_opening_syncs_what_a_crashed_server_wrote(tmp_path: Path):
    """A server that was killed may have left full segments unsynced: the next one syncs them all, and the directory."""
    log = Wal(tmp_path / "wal", Disk(), 0, 256)
    for number in range(5):
        log.append(b"%d" % number * 100, number)
    disk = CountingDisk()
    again = open_end(tmp_path / "wal", 256, disk)

    names = {wal.segment_path(tmp_path, base).name for base in wal.segments(tmp_path / "wal")}
    assert names | {"wal"} == set(disk.synced)
    assert again.synced_lsn == again.end_lsn
    again.close()


def test_syncs_while_appending(tmp_path: Path):
    """Whatever a sync in another thread returns was on disk, in whole segments and under names that were synced too."""
    log = Wal(tmp_path, Disk(), 0, 512)
    done = threading.Event()
    failures: list[BaseException] = []

    def sync() -> None:
        try:
            while not done.is_set():
                log.sync()
        except BaseException as error:  # noqa: BLE001 -- whatever it is, it is shown below
            failures.append(error)

    thread = threading.Thread(target=sync)
    thread.start()
    for number in range(1500):
        log.append(b"%04d" % number * 5, number)
        if log.wants_spare():
            log.prepare()
    done.set()
    thread.join()

    assert failures == []
    assert log.sync() == log.end_lsn
    assert len(log._fds) == 1, "full segments are closed once they are synced"
    log.close()
    assert [b"%04d" % number * 5 for number in range(1500)] == payloads(tmp_path)


def test_a_rotation_during_a_sync_is_not_forgotten(tmp_path: Path):
    """If the log rotates while a sync looks at it, the new segment's name is synced before anything in it is promised."""

    class Slow(CountingDisk):
        log: Wal
        rotates = False

        def fdatasync(self, fd: int) -> None:
            if self.rotates:
                self.rotates = False
                self.log.append(b"y" * 200, 2)
            super().fdatasync(fd)

    disk = Slow()
    log = disk.log = Wal(tmp_path / "wal", disk, 0, 256)
    log.append(b"x" * 200, 1)
    before = log.end_lsn
    disk.rotates = True
    assert before == log.sync()
    disk.synced.clear()
    assert log.end_lsn == log.sync()
    assert {"wal", wal.segment_path(tmp_path, before).name} <= set(disk.synced)
    log.close()


def test_prepare_in_two_threads(tmp_path: Path):
    """The loop may need the spare that a thread is making: it waits for it, and there is one."""
    log = Wal(tmp_path, Disk(), 0, 1 << 16)
    threads = [threading.Thread(target=log.prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(200):
        log.append(b"z" * 3000, number)
    for thread in threads:
        thread.join()
    log.close()

    assert len(payloads(tmp_path)) == 200
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".wal"] * len(wal.segments(tmp_path))


def test_leftovers(tmp_path: Path):
    """A spare that a crash left, with or without a header, whole or half made, is used or replaced."""
    parts = [b"a" * 150, b"b" * 150, b"c" * 150]
    for name, content in (
        ("spare", bytes(256)),
        ("spare", fmt.pack_segment_header(77) + bytes(224)),
        ("spare.new", b"half"),
    ):
        directory = tmp_path / f"{name}{len(content)}{content[:1].hex()}"
        write(directory, parts[:1], 256)
        (directory / name).write_bytes(content)
        write(directory, parts[1:], 256)

        assert parts == payloads(directory)


def test_closes_what_it_opens(tmp_path: Path):
    """No file stays open, whether closing or opening goes well or not."""
    fds = Path("/proc/self/fd")
    before = len(list(fds.iterdir()))
    write(tmp_path / "a", [b"x" * 100] * 10, 256)
    assert before == len(list(fds.iterdir()))
    with pytest.raises(DiskFull):
        Wal(tmp_path / "b", FullDisk(0), 0, 256)
    assert before == len(list(fds.iterdir()))


def test_zeros_behind_the_end_cost_nothing(tmp_path: Path):
    """Room that was taken ahead, and that the file system shows as zeros that were written, is looked at in little memory."""
    path = tmp_path / "segment"
    with path.open("wb") as file:
        for _ in range(32):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        assert wal._written_after(path, 100) == b""
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    with path.open("r+b") as file:
        file.seek(20 << 20)
        file.write(b"x\0y")
    assert wal._written_after(path, 100) == bytes((20 << 20) - 100) + b"x\0y"
