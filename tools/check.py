"""``lmdbredis check``: CONTROL, LMDB's meta pages, the newest commit row by row, and the log from there on.

Laws: nothing is written, but LMDB's table of readers; whatever the files hold, there is a verdict, unless they may not be read, or a newer version wrote them.
The rows are read in a child (see `child`), from one snapshot: rows that must agree are of one moment. So while it runs beside a
server that writes, data.mdb grows.
"""

from __future__ import annotations

import fcntl
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lmdbredis import control_file, wal
from lmdbredis import format as fmt
from lmdbredis.check import check
from lmdbredis.errors import MORE_BY_CHECK, NewerFormat, StorageError
from lmdbredis.snapshots import ReadOnly

from .child import Damaged, Report, apart
from .options import BROKEN, OK, add_command, add_json, refuse_no_store
from .show import counted, print_object, progress
from .view import moment, refuse_newer
from .wal import records

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from .options import Commands

_REPORTED_ROWS: Final = 1000


def run_check(given: argparse.Namespace) -> int:
    """Print what is broken, or that nothing is; return the exit status. Raises StorageError if there is no store to read."""
    directory: Path = given.directory
    refuse_no_store(directory)
    control, control_faults = _control(directory)
    holder = _holder(directory)
    pages = _meta_pages(directory, control)
    rows = _rows_in_a_child(directory)
    if "unreadable" in rows and control is None:
        raise StorageError(rows["unreadable"])
    lsn = int(rows["lsn"])
    count, log_faults = _log(directory, lsn if holder or control is None else control.lsn, is_live=bool(holder))
    faults = [*control_faults, *pages.faults, *rows["faults"], *log_faults]
    can_go_back = control is not None and not (holder or control_faults or log_faults)
    verdict = _verdict(control if can_go_back else None, pages, faults)
    if given.json:
        as_of = rows["as_of"].as_object() if rows["as_of"] is not None else None
        print_object({"as_of": as_of, "records": count, "server": holder, "broken": faults, "verdict": verdict})
        return BROKEN if faults else OK
    told = rows["as_of"] or "of a state that cannot be told"
    print(f"{told}; {counted(count, 'record')} in the log after it, {_server(holder)}")
    for fault in faults:
        print(f"broken: {fault}")
    print(verdict)
    return BROKEN if faults else OK


class _Pages(NamedTuple):
    """What LMDB's meta pages say."""

    newest: int  # the number of the newest commit, 0 if neither page is one
    whole: int  # how many of them are meta pages
    size_bytes: int  # of data.mdb
    faults: list[str]


def _verdict(control: control_file.Control | None, pages: _Pages, faults: list[str]) -> str:
    """Return what follows from the faults; `control` is None where a start cannot go back to what it names.

    A start does so (`install.restore`) if a meta page is lost or a newer commit is there; and the pages of what it goes back to
    must be there.
    """
    if not faults:
        return "ok"
    if control is not None and pages.size_bytes >= control_file.meta_file_bytes(control.meta_body):
        if pages.whole < control_file.META_PAGES:
            return (
                f"A start mends that: it writes the meta pages anew, as CONTROL has them for snapshot {control.txnid}, and takes the "
                "log from there. The rows could not be checked: start a server on a copy of the directory, and check that."
            )
        if pages.newest > control.txnid:
            return (
                f"CONTROL promises no more than snapshot {control.txnid}: a start goes back to it and takes the log from there. "
                "Start a server on a copy of the directory, and check that."
            )
    return "The store is broken: restore a backup, and keep this directory for whoever looks into it."


def _server(holder: str) -> str:
    return f"beside the server with pid {holder}" if holder else "no server has it open"


def _holder(directory: Path) -> str:
    """Return the pid of the server that has the directory open, empty if there is none."""
    try:
        with (directory / "LOCK").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return file.read(32).decode(errors="replace").strip() or "unknown"
    except FileNotFoundError:
        pass
    return ""


def _control(directory: Path) -> tuple[control_file.Control | None, list[str]]:
    """Return CONTROL and what is wrong with it; a store restored from a bare copy has none, and needs none."""
    path = directory / "CONTROL"
    if not path.exists():
        return None, []
    try:
        control = control_file.unpack(path.read_bytes())
    except NewerFormat:
        raise
    except StorageError as error:
        return None, [str(error).replace(MORE_BY_CHECK, "")]
    if not wal.reaches(directory / "wal", control.lsn):
        return control, [f"the log ends before {control.lsn:016x}, where CONTROL says it was safe"]
    return control, []


def _meta_pages(directory: Path, control: control_file.Control | None) -> _Pages:
    """Return what LMDB's meta pages say, and what is wrong with them."""
    data = directory / "data.mdb"
    with data.open("rb") as file:
        first = file.read(control_file.FIRST_BYTES)
        size = os.fstat(file.fileno()).st_size
    bodies = control_file.meta_bodies(first, control_file.meta_page_bytes(control.meta_body) if control else 0)
    if not bodies:
        return _Pages(0, 0, size, ["data.mdb: neither of its meta pages is one"])
    newest = max(bodies, key=control_file.meta_txnid)
    number = control_file.meta_txnid(newest)
    faults = [] if len(bodies) == control_file.META_PAGES else ["data.mdb: one of its two meta pages is none"]
    if control is not None and number < control.txnid:
        faults.append(f"data.mdb holds an older state ({number}) than CONTROL names ({control.txnid})")
    promised = control_file.meta_file_bytes(control.meta_body) if control is not None else 0
    if control is not None and size < promised:  # of a later commit, the last pages may be free and not written yet
        faults.append(f"data.mdb has {size} bytes, and snapshot {control.txnid}, which CONTROL names, {promised}")
    return _Pages(number, len(bodies), size, faults)


class _Counted:
    """A reader that reports how many rows were read."""

    def __init__(self, reader: ReadOnly, report: Report) -> None:
        self.get = reader.get
        self._rows = reader.rows
        self._report = report

    def rows(self, table: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows from the first whose key is >= `start`, ascending."""
        count = 0
        for row in self._rows(table, start):
            yield row
            count += 1
            if count == _REPORTED_ROWS:
                self._report(count)
                count = 0


def _rows_in_a_child(directory: Path) -> dict[str, Any]:
    """Return what `_rows` finds, or that it did not survive what it read."""
    try:
        found: dict[str, Any] = apart(partial(_rows, directory), progress)
    except Damaged as error:
        fault = f"{error}; `python -m lmdb verify data.mdb` tells which"
        return {"lsn": 0, "as_of": None, "faults": [fault]}
    except NewerFormat:
        raise
    except StorageError as error:
        return {"lsn": 0, "as_of": None, "faults": [str(error)], "unreadable": str(error)}
    return found | {"as_of": moment(directory, found["lsn"], found["lsn"], found["txnid"])}


def _rows(directory: Path, report: Report) -> dict[str, Any]:
    """Check the rows of the newest commit. Raises StorageError if it cannot be opened, NewerFormat. In a child."""
    reader = ReadOnly(directory, is_walk=True)
    refuse_newer(reader)
    report.expect(sum(one["entries"] for one in reader.sizes().values()))
    found = {"lsn": reader.lsn, "txnid": reader.txnid, "faults": check(_Counted(reader, report))}
    reader.close()
    return found


def _log(directory: Path, lsn: int, *, is_live: bool) -> tuple[int, list[str]]:
    """Return how many whole records follow `lsn`, and what is wrong with the log from there on.

    A live server may have moved on by now, and removed some of them.
    """
    count = 0
    if not (directory / "wal").is_dir():
        return count, []
    try:
        for record in records(directory / "wal", lsn, (lambda *_: None) if is_live else None):
            try:
                unknown = fmt.unpack_write_set(record.payload).keys() - fmt.TABLE_NAMES.keys()
            except ValueError as error:
                return count, [f"the log: the record at {record.lsn:016x} holds no rows: {error}"]
            if unknown:
                return count, [f"the log: the record at {record.lsn:016x} names sub-databases {sorted(unknown)}"]
            count += 1
    except NewerFormat:
        raise
    except StorageError as error:
        return count, [str(error)]
    return count, []


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    made = add_command(
        commands, "check", "check every invariant of the store, row by row", "lmdbredis check /var/lib/lmdbredis", run_check,
        "Of the newest commit, and of the log after it. Also beside a running server.",
    )  # fmt: skip
    add_json(made, "one object")
