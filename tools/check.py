"""``lmdbredis check``: CONTROL, the newest commit row by row, and the log after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis import wal
from lmdbredis.check import check
from lmdbredis.errors import StorageError
from lmdbredis.store import ReadOnly

if TYPE_CHECKING:
    from pathlib import Path

OK: Final = 0
BROKEN: Final = 1
_TRIES: Final = 3  # a log that is being written may look torn for a moment


def run_check(directory: Path) -> int:
    """Print what is broken, or that nothing is; return the exit status. Raises StorageError if there is no store to read."""
    if not (directory / "data.mdb").exists():
        raise StorageError(f"{directory} is not a store: there is no data.mdb in it")
    faults = _control_faults(directory)
    reader = ReadOnly(directory)
    try:
        faults += check(reader)
        records, log_faults = _read_log(directory, reader.lsn)
        faults += log_faults
        print(f"as of lsn {reader.lsn:016x} (snapshot {reader.txnid}); {records} records in the log after it")
    finally:
        reader.close()
    for fault in faults:
        print(f"broken: {fault}")
    print(
        "the store is broken: restore a backup, and keep this directory for whoever looks into it" if faults else "ok"
    )
    return BROKEN if faults else OK


def _control_faults(directory: Path) -> list[str]:
    """Return what is wrong with CONTROL; a store restored from a bare copy has none, and needs none."""
    path = directory / "CONTROL"
    if not path.exists():
        return []
    try:
        control = fmt.unpack_control(path.read_bytes())
    except StorageError as error:
        return [str(error)]
    if not wal.reaches(directory / "wal", control.lsn):
        return [f"the log ends before {control.lsn:016x}, where CONTROL says it was safe"]
    return []


def _read_log(directory: Path, lsn: int) -> tuple[int, list[str]]:
    """Return how many whole records follow `lsn`, and what is wrong with the log."""
    if not (directory / "wal").is_dir():
        return 0, []
    for attempt in range(_TRIES):
        try:
            return sum(
                1 for record in wal.read(directory / "wal", lsn) if fmt.unpack_write_set(record.payload) is not None
            ), []
        except (StorageError, ValueError) as error:
            if attempt == _TRIES - 1:
                return 0, [str(error)]
    raise AssertionError
