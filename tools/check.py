"""``lmdbredis check``: CONTROL, LMDB's meta pages, the newest commit row by row, and the log from there on.

Laws: nothing is written; whatever the files hold, there is a verdict. The engine trusts its pages, so a damaged one may end
the process that reads it: therefore a child reads the rows, and if a signal ends it, that is what is reported.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import format as fmt
from lmdbredis import wal
from lmdbredis.check import check
from lmdbredis.errors import StorageError
from lmdbredis.snapshots import ReadOnly

from .wal import records

if TYPE_CHECKING:
    from pathlib import Path

OK: Final = 0
BROKEN: Final = 1
_FIRST_BYTES: Final = 1 << 17  # both meta pages, whatever the page size


def run_check(directory: Path) -> int:
    """Print what is broken, or that nothing is; return the exit status. Raises StorageError if there is no store to read."""
    if not (directory / "data.mdb").exists():
        raise StorageError(f"{directory} is not a store: there is no data.mdb in it")
    control, faults = _control(directory)
    holder = _holder(directory)
    newest, page_faults = _meta_pages(directory, control)
    rows = _rows_in_a_child(directory)
    if "unreadable" in rows and control is None:
        raise StorageError(rows["unreadable"])
    lsn = int(rows["lsn"])
    count, log_faults = _log(directory, lsn if holder or control is None else control.lsn)
    print(f"as of lsn {lsn:016x} (snapshot {rows['txnid']}); {count} records in the log after it, {_server(holder)}")
    faults += [*page_faults, *rows["faults"], *log_faults]
    for fault in faults:
        print(f"broken: {fault}")
    if not faults:
        print("ok")
        return OK
    if control is not None and not holder and newest != control.txnid and (page_faults or rows["faults"]):
        print(
            f"CONTROL promises no more than snapshot {control.txnid}: a start goes back to it and takes the log from there. "
            "Start a server on a copy of the directory, and check that."
        )
    else:
        print("The store is broken: restore a backup, and keep this directory for whoever looks into it.")
    return BROKEN


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
    except OSError:
        pass
    return ""


def _control(directory: Path) -> tuple[fmt.Control | None, list[str]]:
    """Return CONTROL and what is wrong with it; a store restored from a bare copy has none, and needs none."""
    path = directory / "CONTROL"
    if not path.exists():
        return None, []
    try:
        control = fmt.unpack_control(path.read_bytes())
    except StorageError as error:
        return None, [str(error)]
    if not wal.reaches(directory / "wal", control.lsn):
        return control, [f"the log ends before {control.lsn:016x}, where CONTROL says it was safe"]
    return control, []


def _meta_pages(directory: Path, control: fmt.Control | None) -> tuple[int, list[str]]:
    """Return the number of the newest commit, and what is wrong with LMDB's meta pages."""
    data = directory / "data.mdb"
    with data.open("rb") as file:
        first = file.read(_FIRST_BYTES)
        size = os.fstat(file.fileno()).st_size
    page_bytes = fmt.meta_page_bytes(control.meta_body if control else first[fmt.META_BODY_OFFSET :].ljust(256, b"\0"))
    at = [fmt.META_BODY_OFFSET, fmt.META_BODY_OFFSET + page_bytes]
    bodies = [
        body for body in (first[start : start + fmt.META_BODY_BYTES] for start in at) if fmt.meta_body_is_valid(body)
    ]
    if not bodies:
        return 0, ["data.mdb: neither of its meta pages is one"]
    newest = max(bodies, key=fmt.meta_txnid)
    number = fmt.meta_txnid(newest)
    faults = [] if len(bodies) == len(at) else ["data.mdb: one of its two meta pages is none"]
    if control is not None and number < control.txnid:
        faults.append(f"data.mdb holds an older state ({number}) than CONTROL names ({control.txnid})")
    if size < fmt.meta_file_bytes(newest):
        faults.append(f"data.mdb has {size} bytes, and commit {number} has pages up to {fmt.meta_file_bytes(newest)}")
    return number, faults


def _rows_in_a_child(directory: Path) -> dict[str, Any]:
    """Return what `_rows` finds, or that it did not survive what it read."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        with suppress(BaseException):
            os.close(receiver)
            with os.fdopen(sender, "w", encoding="utf-8") as file:
                json.dump(_rows(directory), file)
        os._exit(0)  # whatever happened: what was not sent is missed by the parent
    os.close(sender)
    with os.fdopen(receiver, encoding="utf-8") as file:
        text = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0 or not text:
        how = signal.Signals(-status).name if status < 0 else "an error of its own"
        fault = f"data.mdb: the engine did not survive its pages ({how}); `python -m lmdb verify data.mdb` tells which"
        return {"lsn": 0, "txnid": "unknown", "faults": [fault]}
    found: dict[str, Any] = json.loads(text)
    return found


def _rows(directory: Path) -> dict[str, Any]:
    """Check the rows of the newest commit."""
    try:
        reader = ReadOnly(directory)
    except StorageError as error:
        return {"lsn": 0, "txnid": "unknown", "faults": [str(error)], "unreadable": str(error)}
    found = {"lsn": reader.lsn, "txnid": reader.txnid, "faults": check(reader)}
    reader.close()
    return found


def _log(directory: Path, lsn: int) -> tuple[int, list[str]]:
    """Return how many whole records follow `lsn`, and what is wrong with the log from there on."""
    count = 0
    if not (directory / "wal").is_dir():
        return count, []
    try:
        for record in records(directory / "wal", lsn):
            try:
                unknown = fmt.unpack_write_set(record.payload).keys() - fmt.TABLE_NAMES.keys()
            except ValueError as error:
                return count, [f"the log: the record at {record.lsn:016x} holds no rows: {error}"]
            if unknown:
                return count, [f"the log: the record at {record.lsn:016x} names sub-databases {sorted(unknown)}"]
            count += 1
    except StorageError as error:
        return count, [str(error)]
    return count, []
