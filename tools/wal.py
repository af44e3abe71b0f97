"""``lmdbredis wal ls|cat|tail``: the log's segments and its records, decoded.

Law: the log is read as its files are, without the engine; a log that is being written may look torn for a moment, so damage is
told only where it stays.
"""

from __future__ import annotations

import json
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import control_file, wal
from lmdbredis import format as fmt
from lmdbredis.errors import NewerFormat, StorageError

from .child import Damaged
from .options import OK, add_command, add_json, count
from .options import lsn as parse_lsn
from .rows import readable, value
from .show import Lines, Sheet, as_text, note, print_object, print_sheets, short, size
from .view import present, table_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from .options import Commands

_TRIES: Final = 5
_PAUSE_S: Final = 0.05
_FOLLOW_S: Final = 0.1  # between two looks at the end of the log
_JUDGED_LOOKS: Final = (
    20  # in vain: then whether the log ends there, or is damaged, is looked into once; that reads a whole segment
)
_TAIL_RECORDS: Final = 10


def records(log: Path, from_lsn: int, trimmed: Callable[[int, int], None] | None = None) -> Iterator[wal.Record]:
    """Yield the records from address `from_lsn` on, also of a log that is being written. Raises StorageError for damage.

    If a server removes segments before they are read, `trimmed` is told from where to where, and what is left is read; without
    it, that is an error as well.
    """
    at, tries = from_lsn, 0
    while True:
        try:
            for record in wal.read(log, at):
                at, tries = record.end_lsn, 0
                yield record
            return
        except NewerFormat:
            raise
        except (StorageError, FileNotFoundError) as error:
            tries += 1
            bases = wal.segments(log)
            if trimmed is not None and bases and bases[0] > at:
                trimmed(at, bases[0])
                at = bases[0]
            elif tries == _TRIES:
                raise StorageError(str(error)) from error
            else:
                time.sleep(_PAUSE_S)


def _tell_trimmed(at: int, base: int) -> None:
    note(f"the server removed the log from {at:016x} to {base:016x} before it was read")


def _log(directory: Path, from_lsn: int | None = None) -> tuple[Path, list[int]]:
    """Return where the log is, and where its segments begin. Raises StorageError if there is none, or none as old as `from_lsn`."""
    log = directory / "wal"
    bases = wal.segments(log)
    if not bases:
        raise StorageError(f"{directory} holds no log: there are no segments in {log}")
    if from_lsn is not None and from_lsn < bases[0]:
        raise StorageError(f"the log begins at {bases[0]:016x}, after {from_lsn:016x}")
    return log, bases


def _safe_lsn(directory: Path) -> int:
    """Return how far CONTROL says that the log is safe, 0 without CONTROL. Raises Damaged, NewerFormat."""
    try:
        return control_file.unpack((directory / "CONTROL").read_bytes()).lsn
    except FileNotFoundError:
        return 0
    except NewerFormat:
        raise
    except StorageError as error:
        raise Damaged(str(error)) from error


# --- ls ---------------------------------------------------------------------------------------------------------------------------


def run_ls(given: argparse.Namespace) -> int:
    """Print the segments; return the exit status. Raises StorageError if there is no log, Damaged."""
    log, bases = _log(given.directory)
    found = [one for base in bases if (one := _segment(log, base)) is not None]
    if given.json:
        for one in found:
            print_object(one)
    else:
        rows = [
            (one["lsn"], size(one["bytes"]), _moment(one["time_ms"]) if one["whole"] else "no whole header")
            for one in found
        ]
        print_sheets(Sheet("Segments", ("first lsn", ">bytes", "begun"), rows))
    safe_lsn = _safe_lsn(given.directory)
    for one in found[:-1]:  # the last one may be torn: nobody was promised what it holds
        if not one["whole"] and int(one["lsn"], 16) <= safe_lsn:
            raise Damaged(f"the segment {one['lsn']} has no header, and the log was safe up to {safe_lsn:016x}")
    if not given.json:
        print(
            f"safe up to lsn {safe_lsn:016x}, says CONTROL" if safe_lsn else "there is no CONTROL to say what is safe"
        )
    return OK


def _segment(log: Path, base: int) -> dict[str, Any] | None:
    """Return what a segment is, None if it was removed as we looked."""
    try:
        with wal.segment_path(log, base).open("rb") as file:
            is_whole = fmt.unpack_segment_header(file.read(fmt.SEGMENT_HEADER_BYTES)) is not None
            size_bytes = file.seek(0, 2)
        following = base + fmt.SEGMENT_HEADER_BYTES
        first = next(present(log, following), None) if is_whole else None
    except FileNotFoundError:
        return None
    time_ms = first.time_ms if first is not None and first.lsn == following else None
    return {"lsn": f"{base:016x}", "bytes": size_bytes, "whole": is_whole, "time_ms": time_ms}


# --- cat and tail -----------------------------------------------------------------------------------------------------------------


def run_cat(given: argparse.Namespace) -> int:
    """Print the records from --from on, at most --limit; return the exit status.

    --from need not be a record's address. Raises StorageError if there is no log, or none that old; Damaged.
    """
    log, bases = _log(given.directory, given.from_lsn)
    start = bases[0] if given.from_lsn is None else given.from_lsn
    out, end_lsn, shown = Lines(), bases[-1] + fmt.SEGMENT_HEADER_BYTES, 0
    try:
        safe_lsn = _safe_lsn(given.directory)
        for record in records(log, max(base for base in bases if base <= start), _tell_trimmed):
            end_lsn = record.end_lsn
            if record.lsn < start:
                continue
            if shown == given.limit:
                return OK
            shown += 1
            _print(out, record, as_json=given.json)
        if end_lsn < safe_lsn:
            raise StorageError(
                f"the log is damaged at {end_lsn:016x}: CONTROL says that it was safe up to {safe_lsn:016x}"
            )
    except NewerFormat:
        raise
    except StorageError as error:
        raise Damaged(str(error)) from error
    finally:
        out.flush()
    return OK


def run_tail(given: argparse.Namespace) -> int:
    """Print the last records, or those from --from on, and then what is written, until --limit or an interruption."""
    log, bases = _log(given.directory, given.from_lsn)
    out, shown = Lines(), 0
    try:
        if given.from_lsn is None:
            found, at = _last(log, bases, given.last)
        else:
            at = max(base for base in bases if base <= given.from_lsn)
            found = records(log, at, _tell_trimmed)
        idle, place = 0, _place(log)
        while True:
            for record in found:
                at, idle = record.end_lsn, 0
                if shown == given.limit:
                    return OK
                if record.lsn >= (given.from_lsn or 0):
                    shown += 1
                    _print(out, record, as_json=given.json)
            out.flush()
            if shown == given.limit:
                return OK
            time.sleep(_FOLLOW_S)
            idle += 1
            if (now := _place(log)) != place and now:
                note("the log was replaced by another one, as by a snapshot that came to a replica")
                place, at = now, wal.segments(log)[-1]
            found = present(log, at) if idle != _JUDGED_LOOKS else records(log, at, _tell_trimmed)
    except NewerFormat:
        raise
    except StorageError as error:
        raise Damaged(str(error)) from error
    finally:
        out.flush()


def _place(log: Path) -> int:
    """Return which directory has this name now, 0 if none has."""
    try:
        return log.stat().st_ino
    except FileNotFoundError:
        return 0


def _last(log: Path, bases: list[int], most: int) -> tuple[Iterable[wal.Record], int]:
    """Return the last records, and where the log ends. O(bytes of the segments they stand in)."""
    end_lsn = bases[-1]
    held: deque[wal.Record] = deque(maxlen=most)
    for base in reversed(bases):
        held.clear()
        for record in records(log, base, lambda *_: None):
            held.append(record)
            end_lsn = record.end_lsn
        if len(held) == most:
            break
    return held, end_lsn


def _print(out: Lines, record: wal.Record, *, as_json: bool) -> None:
    try:
        if as_json:
            out.add(json.dumps(_as_object(record)))
        else:
            for line in list(_as_lines(record)):
                out.add(line)
    except (ValueError, TypeError, AttributeError) as error:
        raise Damaged(f"the record at {record.lsn:016x} holds no rows: {error}") from error


def _as_object(record: wal.Record) -> dict[str, object]:
    """Return a record as JSON can hold it: bytes as text, one character a byte."""
    write_set, notes = fmt.unpack_payload(record.payload)
    tables = {
        table_name(number): {
            "put": {as_text(key): as_text(row) for key, row in rows.items() if row is not None},
            "delete": [as_text(key) for key, row in rows.items() if row is None],
        }
        for number, rows in write_set.items()
    }
    more = {"notes": [[as_text(part) if isinstance(part, bytes) else part for part in one] for one in notes]}
    return {
        "lsn": f"{record.lsn:016x}",
        "end_lsn": f"{record.end_lsn:016x}",
        "time_ms": record.time_ms,
        "tables": tables,
    } | (more if notes else {})


def _as_lines(record: wal.Record) -> Iterator[str]:
    """Yield a record as lines for a person."""
    yield f"{record.lsn:016x}  {_moment(record.time_ms)}  {record.end_lsn - record.lsn} bytes"
    write_set, notes = fmt.unpack_payload(record.payload)
    for number, rows in write_set.items():
        name = table_name(number)
        for key, row in rows.items():
            change = "delete" if row is None else "put   "
            yield f"    {name:10} {change} {readable(number, key)}" + (
                "" if row is None else f" = {value(number, key, row)}"
            )

    for one in notes:  # what rows do not tell, for replicas
        yield f"    {'note':10} {' '.join(short(part) if isinstance(part, bytes) else str(part) for part in one)}".rstrip()


def _moment(time_ms: int | None) -> str:
    """Return a time for a person."""
    try:
        return "" if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


# --- the command line -------------------------------------------------------------------------------------------------------------


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    made = commands.add_parser(
        "wal", help="show the log: segments, records, changed rows",
        description="Show the log: its segments, and its records with the rows they change.",
        epilog="example: lmdbredis wal cat ./data --limit 10 --json",
    )  # fmt: skip
    inner = made.add_subparsers(dest="part", required=True, metavar="ls|cat|tail")
    ls = add_command(inner, "ls", "list the log's segments", "lmdbredis wal ls ./data", run_ls)
    add_json(ls, "an object a line for each segment")
    cat = add_command(
        inner, "cat", "print the log's records with the rows they change",
        "lmdbredis wal cat ./data --limit 10 --json", run_cat,
    )  # fmt: skip
    tail = add_command(
        inner, "tail", "print the log's last records, and then what is written", "lmdbredis wal tail ./data", run_tail,
        "It goes on until it is interrupted.",
    )  # fmt: skip
    tail.add_argument(
        "--last",
        metavar="N",
        type=count,
        default=_TAIL_RECORDS,
        help=f"begin with the last N records (default: {_TAIL_RECORDS})",
    )
    for one, begins in ((cat, "the oldest"), (tail, "as --last says")):
        one.add_argument(
            "--from", dest="from_lsn", metavar="LSN", type=parse_lsn,
            help=f"begin at this record, in hexadecimal (default: {begins})",
        )  # fmt: skip
        one.add_argument("--limit", metavar="N", type=count, help="end after N records (default: do not)")
        add_json(one, "an object a line for each record")
