"""What backups are made from: a log that is damaged, or being written while it is copied; a store that nobody may write to."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lmdbredis import format as fmt
from lmdbredis import wal
from tests.crash import Engine, recover
from tests.servers import ROOT
from tests.stores import commit, killed
from tests.test_backup import Beside
from tests.tool_stores import SECONDS_MAX, edit
from tools import child, compact, copying, sources
from tools.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Live = tuple[sources.Directory, list[wal.Record]]

RECORDS = 20


def logged(directory: Path, *, is_promised: bool = True) -> tuple[Engine, list[wal.Record]]:
    """Return an engine on a new store, and the records behind its synced snapshot, in one segment; each promised by the next, or none."""
    engine = Engine(directory)
    engine.run([b"SET", b"before", b"v"])
    engine.store.checkpoint()
    for number in range(RECORDS):
        engine.run([b"SET", b"k%d" % number, b"value%d" % number])
        if is_promised:
            engine.store.wal.sync()
    records = list(wal.read(directory / "wal", engine.store.control.lsn))
    assert len(records) == RECORDS
    return engine, records


def change(log: Path, record: wal.Record) -> None:
    """Change a byte of a record, in the only segment there is."""
    (base,) = wal.segments(log)
    edit(wal.segment_path(log, base), record.lsn - base + fmt.RECORD_HEADER_BYTES + 4, b"\xee")


def written_log(source: sources.Directory, log: Path) -> list[bytes]:
    """Let a source write its log; return what is in it."""
    log.mkdir()
    source.write_log(log, lambda _: None)
    return [record.payload for record in wal.read(log, source.lsn)]


@pytest.mark.parametrize("is_ahead", [False, True])
def test_damaged_log(tmp_path: Path, is_ahead: bool, capsys: pytest.CaptureFixture[str]):
    """Of a killed store whose last segment is damaged no backup is made: it would be whole, and end before what was acknowledged."""
    engine, records = logged(tmp_path / "store")
    if is_ahead:
        commit(engine.store)
    left = killed(tmp_path / "store", tmp_path / "killed")
    engine.close(checkpoint=False)
    change(left / "wal", records[RECORDS // 2])
    assert main(["check", str(left)]) == 1
    said = f"the log is damaged at {records[RECORDS // 2].lsn:016x}"
    assert said in capsys.readouterr().out
    assert main(["backup", str(left), str(tmp_path / "copy")]) == 1

    assert f"broken: {said}" in capsys.readouterr().out
    assert not list(tmp_path.glob("copy*"))


def test_what_nobody_was_promised(tmp_path: Path):
    """Records behind a torn one that nobody was promised go, as at a start; the backup is whole."""
    engine, records = logged(tmp_path / "store", is_promised=False)
    left = killed(tmp_path / "store", tmp_path / "killed")
    engine.close(checkpoint=False)
    change(left / "wal", records[-3])
    assert main(["backup", str(left), str(tmp_path / "copy")]) == 0
    expected, found = recover(left), recover(tmp_path / "copy")

    assert ([], expected.state) == (found.faults, found.state)
    assert b"k16" in found.state
    assert b"k17" not in found.state


def test_damage_before_the_snapshot(tmp_path: Path):
    """What stands before the snapshot in its segment nobody reads any more: damage there keeps nothing from the backup."""
    engine, records = logged(tmp_path / "store")
    engine.store.checkpoint()
    engine.run([b"SET", b"last", b"v"])
    left = killed(tmp_path / "store", tmp_path / "killed")
    engine.close(checkpoint=False)
    change(left / "wal", records[3])
    assert main(["check", str(left)]) == 0
    assert main(["backup", str(left), str(tmp_path / "copy")]) == 0

    assert recover(left).state == recover(tmp_path / "copy").state


class Raced:
    """Copies of segments in which a record looks as if it was being written; so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, record: wal.Record, times: int) -> None:
        self.left = times
        self._record = record
        self._copy = copying.copy_file
        monkeypatch.setattr(copying, "copy_file", self.copy)

    def copy(self, source_fd: int, path: Path, *words: Any) -> dict[str, object]:
        """Copy a segment."""
        said = self._copy(source_fd, path, *words)
        if self.left:
            self.left -= 1
            change(path.parent, self._record)
        return said


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """Return a source beside an engine that goes on, and its records."""
    engine, records = logged(tmp_path / "store")
    monkeypatch.setattr(sources, "ReadOnly", lambda _: Beside(engine))
    source = sources.Directory(tmp_path / "store")
    yield source, records
    source.close()
    engine.close(checkpoint=False)


def test_written_while_it_is_copied(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A record of a live store that was being written when it was copied is copied again: the log is whole up to its end."""
    source, records = live
    raced = Raced(monkeypatch, records[RECORDS // 2], 1)

    assert [record.payload for record in records] == written_log(source, tmp_path / "log")
    assert raced.left == 0


def test_damaged_log_of_a_live_store(live: Live, tmp_path: Path):
    """A record that is not whole in the second copy either is damaged, also beside a server, which does not know of it."""
    source, records = live
    change(tmp_path / "store" / "wal", records[RECORDS // 2])
    with pytest.raises(child.Damaged, match=f"the log is damaged at {records[RECORDS // 2].lsn:016x}"):
        written_log(source, tmp_path / "log")


def test_compact_beside_a_damaged_log(tmp_path: Path):
    """Nor is a compact copy made that would end where the log is damaged: the server that took it would not come up again."""
    engine, records = logged(tmp_path / "store")
    for name in ("kept", "log"):
        (tmp_path / name).mkdir()
    change(tmp_path / "store" / "wal", records[RECORDS // 2])
    with (
        compact.Kept(tmp_path / "store" / "wal", tmp_path / "kept") as kept,
        pytest.raises(child.Damaged, match="the log is damaged"),
    ):
        kept.copy_into(tmp_path / "log", records[1].lsn)
    engine.close(checkpoint=False)


# --- nobody may write -------------------------------------------------------------------------------------------------------------


def through_a_read_only_mount(store: Path, *words: object) -> tuple[int, str]:
    """Run the tool where the store's directory cannot be written to by anybody, as a snapshot of a volume; return its status and what it said."""
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"'
    probe = ["unshare", "-m", "sh", "-c", mount, str(store)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a directory here")
    line = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', str(store), sys.executable, "-m", "tools.main"]
    done = subprocess.run(
        [*line, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("is_ahead", [False, True])
@pytest.mark.parametrize("without", [(), ("lock.mdb",), ("LOCK", "lock.mdb")])
def test_read_only_mount(tmp_path: Path, without: tuple[str, ...], is_ahead: bool):
    """A snapshot of a volume, mounted read-only, is checked and backed up, with what a start on it would have."""
    engine, _ = logged(tmp_path / "store")
    if is_ahead:
        commit(engine.store)
    left = tmp_path / "killed"
    shutil.copytree(tmp_path / "store", left, ignore=shutil.ignore_patterns(*without))
    engine.close(checkpoint=False)
    before = sorted(path.name for path in left.iterdir())
    for words in (["check", left], ["backup", left, tmp_path / "copy"]):
        status, said = through_a_read_only_mount(left, *words)
        assert status == 0, said
    assert before == sorted(path.name for path in left.iterdir())
    assert main(["verify", str(tmp_path / "copy")]) == 0
    expected, found = recover(left), recover(tmp_path / "copy")

    assert ([], expected.state) == (found.faults, found.state)


def test_read_only_mount_beside_a_server(tmp_path: Path):
    """Through a read-only mount nobody can hold the pages of a server that goes on: no backup is made, and why is said."""
    engine, _ = logged(tmp_path / "store")
    status, said = through_a_read_only_mount(tmp_path / "store", "backup", tmp_path / "store", tmp_path / "copy")
    engine.close(checkpoint=False)

    assert (2, True) == (status, "a server has it open, and through a read-only mount" in said), said
    assert not list(tmp_path.glob("copy*"))


def test_lock_that_may_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """To make a backup nobody needs the right to write to LOCK."""
    engine, _ = logged(tmp_path / "store")
    engine.close()
    opened = os.open

    def refuse(path: Any, flags: int, *mode: int) -> int:
        if str(path) == str(tmp_path / "store" / "LOCK") and flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    assert main(["backup", str(tmp_path / "store"), str(tmp_path / "copy")]) == 0
