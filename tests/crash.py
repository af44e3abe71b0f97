"""Crashes: a disk that forgets, an engine without sockets, a workload with a model, and a ledger of what was acknowledged.

Three kinds of crash are played:

- The process is killed: the directory is as it is, whatever was synced (`Server.kill9`, a copy of the directory, or
  `LMDBREDIS_CRASH_AT`, which lets the process kill itself at a named point: see `lmdbredis.disk`).
- Power is lost (`PowerDisk`): what was synced is there, of everything else any part may be: old, new, or zeros.
- The disk fails (`FaultyDisk`): no room, or a sync that fails.

What must hold after each is the same: the store opens, `check` finds nothing, and the state is the one after some number of
the commands that were sent, no fewer than were promised. `Model` says what the state after each command is. Transactions and
scripts count as one command each (see `crash_units`), so that a part of one is no state. They, and streams, are played as soon
as a server has them.

Knows nothing of pytest; `test_crash` runs it for seconds, `crash_campaign` for as long as one likes.
"""

from __future__ import annotations

import os
import random
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lmdbredis import commands
from lmdbredis import format as fmt
from lmdbredis.check import check, check_live
from lmdbredis.config import Config
from lmdbredis.disk import Disk
from lmdbredis.errors import DiskFull, SyncFailed
from lmdbredis.executor import Executor
from lmdbredis.expiry import Upkeep
from lmdbredis.keyspace import Keyspace
from lmdbredis.session import Sessions
from lmdbredis.store import Store
from tests.client import Disconnected, RawClient, Reply, pack, parse
from tests.crash_units import (
    FORESEEN,
    UNITS,
    StreamModel,
    StreamWorkload,
    abilities,
    copy_stream,
    fetch,
    requests,
    rows_with,
    stream_of_rows,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lmdbredis.check import Reader
    from tests.crash_units import State, Words

SECTOR_BYTES = 512  # what a disk writes whole or not at all
FAR_MS = 4_102_444_800_000  # the year 2100
CRASH_POINTS = (
    "wal.rotate", "wal.rotated", "wal.appended", "commit", "committed", "sync", "synced", "control.written",
)  # fmt: skip
RECOVERY_POINTS = ("restore", "replay", "commit", "committed", "wal.rotate", "sync", "synced", "control.written")


# --- disks ------------------------------------------------------------------------------------------------------------------


class PowerDisk(Disk):
    """A disk that remembers what is on it for certain, so that `cut` can show it as a power cut might leave it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contents: dict[int, bytes] = {}  # inode -> what its last sync put on disk
        self._held: dict[int, int] = {}  # inode -> a descriptor, so that the number is not used again
        self._names: dict[int, dict[str, int]] = {}  # a directory's inode -> the names in it that are on disk

    def fdatasync(self, fd: int) -> None:
        """Sync, and remember what was there before: that much is on disk afterwards."""
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            names = _names_in(Path(f"/proc/self/fd/{fd}"))
            super().fdatasync(fd)
            with self._lock:
                self._names[status.st_ino] = names
            return
        content = Path(f"/proc/self/fd/{fd}").read_bytes()
        super().fdatasync(fd)
        with self._lock:
            self._contents[status.st_ino] = content
            if status.st_ino not in self._held:
                self._held[status.st_ino] = os.dup(fd)
            self._forget()

    def trust(self, directory: Path) -> None:
        """Take what stands in a directory for what is on disk: after a crash, that is what there is."""
        self._names[directory.stat().st_ino] = _names_in(directory)
        for path in directory.iterdir():
            if path.is_dir():
                self.trust(path)
            else:
                inode = path.stat().st_ino
                self._contents[inode] = path.read_bytes()
                self._held[inode] = os.open(path, os.O_RDONLY)

    def _forget(self) -> None:
        """Let go of files that are gone, and whose names on disk are gone too."""
        named = {inode for names in self._names.values() for inode in names.values()}
        for inode, fd in list(self._held.items()):
            if inode not in named and os.fstat(fd).st_nlink == 0:
                os.close(self._held.pop(inode))
                del self._contents[inode]

    def cut(self, source: Path, target: Path, chance: random.Random, *, harshest: bool = False) -> None:
        """Make `target` a copy of the directory as a power cut now might leave it; the harshest keeps nothing unsynced."""
        with self._lock:
            self._cut(source, target, chance, 0.0 if harshest else chance.choice((0.0, 0.3, 0.7, 1.0)))

    def _cut(self, source: Path, target: Path, chance: random.Random, luck: float) -> None:
        target.mkdir()
        now, before = _names_in(source), self._names.get(source.stat().st_ino, {})
        for name in sorted(now | before):
            inode = (now if chance.random() < luck else before).get(name)
            if inode is None:
                continue
            if (source / name).is_dir():
                self._cut(source / name, target / name, chance, luck)
                continue
            synced = self._contents.get(inode, b"")
            if now.get(name) == inode:
                current = (source / name).read_bytes()
            else:
                current = Path(f"/proc/self/fd/{self._held[inode]}").read_bytes() if inode in self._held else b""
            (target / name).write_bytes(_torn(synced, current, chance, luck, zeros=name == "data.mdb"))

    def close(self) -> None:
        """Let go of all files."""
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()


def _names_in(directory: Path) -> dict[str, int]:
    return {entry.name: entry.inode() for entry in os.scandir(directory)}


def _torn(synced: bytes, current: bytes, chance: random.Random, luck: float, *, zeros: bool) -> bytes:
    """Return a file of which `synced` is on disk and `current` was written: each changed sector old, new, or zeros."""
    size = len(current) if chance.random() < luck else len(synced)
    content = bytearray(synced[:size].ljust(size, b"\0"))
    for at in range(0, size, SECTOR_BYTES):
        part = current[at : at + SECTOR_BYTES]
        if part == content[at : at + SECTOR_BYTES]:
            continue
        if chance.random() < luck:
            content[at : at + len(part)] = part
        elif zeros and chance.random() < 0.5:
            content[at : at + len(part)] = bytes(len(part))
    return bytes(content)


class FaultyDisk(Disk):
    """A disk that can be told to fail."""

    def __init__(self) -> None:
        self.room_bytes: int | None = None  # for the log and CONTROL; None = enough
        self.commits_fail: BaseException | None = None  # what a commit of the engine raises
        self.syncs_fail = False
        self.ends: list[str] = []  # points that were reached

    def reached(self, point: str) -> None:
        self.ends.append(point)

    def pwrite(self, fd: int, parts: Sequence[bytes], offset: int) -> None:
        """Write, half of it if there is no room; data.mdb is only written where it has room already, its meta pages."""
        whole = b"".join(parts)
        if Path(f"/proc/self/fd/{fd}").resolve().name == "data.mdb":
            super().pwrite(fd, parts, offset)
            return
        if self.room_bytes is not None and len(whole) > self.room_bytes:
            super().pwrite(fd, [whole[: self.room_bytes]], offset)
            self.room_bytes = 0
            raise DiskFull("no room, says the test")
        if self.room_bytes is not None:
            self.room_bytes -= len(whole)
        super().pwrite(fd, parts, offset)

    def allocate(self, fd: int, size_bytes: int) -> None:
        """Reserve room."""
        if self.room_bytes is not None and size_bytes > self.room_bytes:
            raise DiskFull("no room, says the test")
        super().allocate(fd, size_bytes)

    def commit(self, transaction: Any) -> None:
        """Commit, or end the transaction as the engine does where a commit fails."""
        if self.commits_fail is not None:
            transaction.abort()
            raise self.commits_fail
        super().commit(transaction)

    def fdatasync(self, fd: int) -> None:
        """Sync."""
        if self.syncs_fail:
            raise SyncFailed("EIO, says the test")
        super().fdatasync(fd)


# --- what a state is ----------------------------------------------------------------------------------------------------------


def dump(reader: Reader, database: int = 0) -> State:
    """Return all keys of a database, from the rows."""
    row = reader.get(fmt.META, fmt.META_DATABASES)
    keyspaces = fmt.unpack_databases(row) if row is not None else {}
    if database not in keyspaces:
        return {}
    prefix = fmt.pack_u32(keyspaces[database])
    state: State = {}
    for row_key, cell in rows_with(reader, fmt.KEYS, prefix):
        state[fmt.whole_of(cell) or row_key[4:]] = (
            *_value(reader, cell)[:1],
            fmt.expire_of(cell),
            _value(reader, cell)[1],
        )
    return state


def _value(reader: Reader, cell: bytes) -> tuple[str, Any]:
    kind = cell[0] & fmt.TYPE_MASK
    if kind == fmt.STRING:
        return "string", cell[fmt.body_offset(cell) :]
    owner = fmt.pack_u64(fmt.unpack_chunks_head(cell)[0] if kind == fmt.STRING_CHUNKS else fmt.unpack_head(cell)[0])
    if kind == fmt.STRING_CHUNKS:
        return "string", b"".join(row for _, row in rows_with(reader, fmt.CHUNKS, owner))
    if kind == fmt.HASH:
        rows = rows_with(reader, fmt.HASHES, owner)
        return "hash", {fmt.field_whole(row) or key[8:]: fmt.field_value(row) for key, row in rows}
    if kind == fmt.SET:
        return "set", {row or key[8:] for key, row in rows_with(reader, fmt.SETS, owner)}
    if kind == fmt.LIST:
        return "list", [row for _, row in rows_with(reader, fmt.LISTS, owner)]
    if kind == fmt.STREAM:
        return "stream", stream_of_rows(reader, owner, fmt.unpack_head(cell)[4])
    return "zset", {row[8:] or key[8:]: fmt.unpack_f64(row) for key, row in rows_with(reader, fmt.ZSETS, owner)}


class Model(StreamModel):
    """What the commands of `Workload` do, in a dictionary. The type of a key is the first letter after its prefix."""

    def __init__(self) -> None:
        self.state: State = {}

    def copy(self) -> State:
        """Return the state, to be kept."""
        kinds: dict[str, Callable[[Any], Any]] = {
            "string": bytes, "hash": dict, "set": set, "list": list, "zset": dict, "stream": copy_stream,
        }  # fmt: skip
        return {key: (kind, expire, kinds[kind](value)) for key, (kind, expire, value) in self.state.items()}

    def apply(self, words: Words) -> None:
        """Do what a command does, or the commands of a unit."""
        getattr(self, f"_{words[0].decode().lower()}")(*words[1:])

    def _exec(self, *commands: Words) -> None:
        for words in commands:
            self.apply(words)

    _eval = _exec

    def _edit(self, key: bytes, kind: str, empty: Any) -> Any:
        return self.state.setdefault(key, (kind, 0, empty))[2]

    def _put(self, key: bytes, value: Any) -> None:
        kind, expire, _ = self.state.get(key, ("string", 0, b""))
        self.state[key] = (kind, expire, value)

    def _drop_empty(self, key: bytes) -> None:
        if key in self.state and not self.state[key][2]:
            del self.state[key]

    def _set(self, key: bytes, value: bytes, *_: bytes) -> None:
        self.state[key] = ("string", 0, value)

    def _mset(self, *words: bytes) -> None:
        for key, value in zip(words[::2], words[1::2], strict=True):
            self._set(key, value)

    def _append(self, key: bytes, tail: bytes) -> None:
        self._put(key, self._edit(key, "string", b"") + tail)

    def _setrange(self, key: bytes, offset: bytes, value: bytes) -> None:
        old, at = self._edit(key, "string", b""), int(offset)
        self._put(key, old[:at].ljust(at, b"\0") + value + old[at + len(value) :])

    def _incrby(self, key: bytes, by: bytes) -> None:
        self._put(key, b"%d" % (int(self._edit(key, "string", b"0")) + int(by)))

    def _del(self, *keys: bytes) -> None:
        for key in keys:
            self.state.pop(key, None)

    def _flushall(self) -> None:
        self.state.clear()

    def _rename(self, key: bytes, new_key: bytes) -> None:
        if key in self.state:
            self.state[new_key] = self.state.pop(key)

    def _pexpireat(self, key: bytes, at_ms: bytes) -> None:
        if key in self.state:
            kind, _, value = self.state[key]
            self.state[key] = (kind, int(at_ms), value)

    def _persist(self, key: bytes) -> None:
        self._pexpireat(key, b"0")

    def _hset(self, key: bytes, *words: bytes) -> None:
        self._edit(key, "hash", {}).update(zip(words[::2], words[1::2], strict=True))

    def _hdel(self, key: bytes, *fields: bytes) -> None:
        for field in fields:
            self._edit(key, "hash", {}).pop(field, None)
        self._drop_empty(key)

    def _sadd(self, key: bytes, *members: bytes) -> None:
        self._edit(key, "set", set()).update(members)

    def _srem(self, key: bytes, *members: bytes) -> None:
        self._edit(key, "set", set()).difference_update(members)
        self._drop_empty(key)

    def _zadd(self, key: bytes, *words: bytes) -> None:
        self._edit(key, "zset", {}).update(
            {member: float(score) for score, member in zip(words[::2], words[1::2], strict=True)}
        )

    def _zrem(self, key: bytes, *members: bytes) -> None:
        for member in members:
            self._edit(key, "zset", {}).pop(member, None)
        self._drop_empty(key)

    def _rpush(self, key: bytes, *elements: bytes) -> None:
        self._edit(key, "list", []).extend(elements)

    def _lpush(self, key: bytes, *elements: bytes) -> None:
        for element in elements:
            self._edit(key, "list", []).insert(0, element)

    def _lpop(self, key: bytes, count: bytes) -> None:
        del self._edit(key, "list", [])[: int(count)]
        self._drop_empty(key)

    def _rpop(self, key: bytes, count: bytes) -> None:
        elements = self._edit(key, "list", [])
        del elements[max(len(elements) - int(count), 0) :]
        self._drop_empty(key)

    def _linsert(self, key: bytes, _before: bytes, pivot: bytes, element: bytes) -> None:
        elements = self._edit(key, "list", [])
        if pivot in elements:
            elements.insert(elements.index(pivot), element)
        self._drop_empty(key)

    def _lrem(self, key: bytes, _all: bytes, element: bytes) -> None:
        elements = self._edit(key, "list", [])
        elements[:] = [other for other in elements if other != element]
        self._drop_empty(key)


class Workload:
    """Random commands on keys that begin with `prefix`: few keys, so that they are changed again and again."""

    def __init__(self, chance: random.Random, prefix: bytes = b"", able: frozenset[str] = frozenset()) -> None:
        self.chance = chance
        self.prefix = prefix
        self.able = able  # what the server can do beyond plain commands: see `abilities`
        self.streams = StreamWorkload(chance)

    def key(self, kind: str) -> bytes:
        """Return a key for a type: some short, some long."""
        number = self.chance.randrange(6)
        name = self.prefix + kind.encode() + b"%d" % number
        return name if number else name.ljust(500, b"k")

    def word(self) -> bytes:
        """Return a field, member or element: one of a few hundred, some of them long."""
        number = self.chance.randrange(400)
        return b"%d" % number if number % 40 else b"%d" % number * 200

    def value(self) -> bytes:
        """Return a value: mostly short, sometimes one that lies in chunks."""
        size = self.chance.choice((0, 3, 64, 64, 64, 1000, 20_000))
        return self.chance.randbytes(size)

    def command(self) -> Words:
        """Return a command, or a unit of several."""
        units = [name for name in UNITS if name.decode() in self.able]
        if units and self.chance.random() < 0.2:
            return (self.chance.choice(units), *(self.plain() for _ in range(self.chance.randint(2, 6))))
        return self.plain()

    def plain(self) -> tuple[bytes, ...]:
        """Return a command."""
        chance, word = self.chance, self.word
        kinds = "snhezl"
        if "XADD" in self.able:
            kinds += "x"
            if chance.random() < 0.25:
                return self.streams.command(self.key("x"), self.value()[:200])
        name = chance.choice(_COMMANDS)
        many = chance.choice((1, 1, 1, 5, 60))
        if name in {"SET", "APPEND"}:
            return (name.encode(), self.key("s"), self.value())
        if name == "MSET":
            return (b"MSET", *(part for _ in range(5) for part in (self.key("s"), self.value())))
        if name == "SETRANGE":
            return (b"SETRANGE", self.key("s"), b"%d" % chance.choice((0, 5, 9000)), b"#" * chance.choice((1, 30)))
        if name == "INCRBY":
            return (b"INCRBY", self.key("n"), b"%d" % chance.randrange(100))
        if name == "DEL":
            return (b"DEL", *(self.key(chance.choice(kinds)) for _ in range(chance.choice((1, 4)))))
        if name == "RENAME":
            kind = chance.choice(kinds.replace("n", ""))
            return (b"RENAME", self.key(kind), self.key(kind))
        if name in {"PEXPIREAT", "PERSIST"}:
            key = self.key(chance.choice(kinds))
            return (
                (b"PEXPIREAT", key, b"%d" % (FAR_MS + chance.randrange(1000)))
                if name == "PEXPIREAT"
                else (b"PERSIST", key)
            )
        if name == "HSET":
            return (b"HSET", self.key("h"), *(part for _ in range(many) for part in (word(), self.value()[:100])))
        if name == "ZADD":
            return (
                b"ZADD",
                self.key("z"),
                *(part for _ in range(many) for part in (b"%d" % chance.randrange(-9, 50), word())),
            )
        if name in {"HDEL", "SADD", "SREM", "ZREM", "LPUSH", "RPUSH"}:
            kind = {"H": "h", "S": "e", "Z": "z"}.get(name[0], "l")
            return (name.encode(), self.key(kind), *(word() for _ in range(many)))
        if name in {"LPOP", "RPOP"}:
            return (name.encode(), self.key("l"), b"%d" % chance.choice((1, 1, 30)))
        if name == "LINSERT":
            return (b"LINSERT", self.key("l"), b"BEFORE", word(), word())
        return (b"LREM", self.key("l"), b"0", word())


_COMMANDS = (
    "SET", "SET", "APPEND", "MSET", "SETRANGE", "INCRBY", "DEL", "RENAME", "PEXPIREAT", "PERSIST", "HSET", "HSET", "HDEL", "SADD",
    "SADD", "SREM", "ZADD", "ZADD", "ZREM", "LPUSH", "RPUSH", "RPUSH", "LPOP", "RPOP", "LINSERT", "LREM",
)  # fmt: skip


# --- an engine without sockets ------------------------------------------------------------------------------------------------


class Engine:
    """Store, keyspace, executor and upkeep of one directory, driven by hand. Time is what `tick` makes it."""

    def __init__(self, directory: Path, disk: Disk | None = None, *options: str) -> None:
        commands.load()
        directory.mkdir(exist_ok=True)
        words = ["--enable-debug-command", "yes", "--checkpoint-dirty", "200", "--checkpoint-interval", "50", *options]
        self.config = Config.from_argv(words, lambda path: Path(path).read_bytes())
        self.directory = directory
        self.clock_ms = 1_000_000
        self.store = Store(directory, "a" * 40, disk=disk, map_bytes=1 << 30, segment_bytes=1 << 16)
        self.keyspace = Keyspace(self.store, self.config.databases, self.config.hot_layer_size_bytes)
        self.executor = Executor(
            self.store, self.keyspace, self.config, random.Random(1), None, lambda: self.clock_ms * 1_000_000
        )  # type: ignore[arg-type]
        self.upkeep = Upkeep(self.executor)
        self.session = Sessions().open(self.keyspace.databases[0], "test:0", "test:0", 0)

    def run(self, *batch: Words | list[bytes]) -> list[Reply]:
        """Run commands, or units of several, as one batch."""
        self.session.requests = [list(words) for unit in batch for words in requests(unit)]
        self.executor.run([self.session], self.clock_ms * 1000)
        output, replies, at = self.session.output, [], 0
        while at < len(output):
            reply, at = parse(output, at)
            replies.append(reply)
        return replies

    def able(self) -> frozenset[str]:
        """Return what it can do."""
        return abilities(lambda *words: self.run([word.encode() for word in words])[0])

    def tick(self, milliseconds: int = 5) -> None:
        """Let time pass, and the upkeep do its piece of work."""
        self.clock_ms += milliseconds
        self.upkeep.tick(self.clock_ms * 1000, self.clock_ms)

    def dump(self) -> State:
        """Return the keys of the first database."""
        self.store.settle()
        return dump(self.store.reader())

    def check(self) -> list[str]:
        """Return what is wrong with rows and memory."""
        return check_live(self.keyspace)

    def close(self, *, checkpoint: bool = True) -> None:
        """Close the store."""
        self.store.close(checkpoint=checkpoint)


def whole_or_not_at_all(directory: Path, units: Iterable[Sequence[Sequence[bytes]]]) -> None:
    """Run units of requests that each set all keys of the store to one value of its own, and cut the log off anywhere.

    Raises AssertionError if a cut leaves keys of different units.
    """
    engine = Engine(directory)
    for unit in units:
        engine.run(*unit)
    log = next(iter((directory / "wal").glob("*.wal")))
    end = engine.store.wal.end_lsn
    whole = log.read_bytes()
    engine.close(checkpoint=False)
    chance = random.Random(1)
    for cut in sorted(chance.sample(range(end // 2, end), 25), reverse=True):
        log.write_bytes(whole[:cut].ljust(len(whole), b"\0"))
        again = Engine(directory)
        assert len({value for _, _, value in again.dump().values()}) == 1
        again.close(checkpoint=False)


class Recovered(NamedTuple):
    """What an opening found."""

    state: State
    faults: list[str]
    end_lsn: int


def recover(directory: Path) -> Recovered:
    """Open a directory as a start does, look, and close without a checkpoint."""
    store = Store(directory, "b" * 40, map_bytes=1 << 30, segment_bytes=1 << 16)
    try:
        store.settle()
        reader = store.reader()
        return Recovered(dump(reader), check(reader), store.wal.end_lsn)
    finally:
        store.close(checkpoint=False)


# --- clients of a real server ---------------------------------------------------------------------------------------------------


class Ledger:
    """One client on keys of its own: what it sent, and how much of that was acknowledged."""

    def __init__(self, chance: random.Random, name: bytes) -> None:
        self.workload = Workload(chance, name)
        self.sent: list[Words] = []
        self.acknowledged = 0
        self.errors: list[bytes] = []

    def run(self, port: int, until: threading.Event, depth_max: int = 8) -> None:
        """Send pipelines until told to stop or until the server is gone."""
        try:
            with RawClient(port, timeout_seconds=30) as client:
                self.workload.able = abilities(client.call)
                while not until.is_set():
                    batch = [self.workload.command() for _ in range(self.workload.chance.randint(1, depth_max))]
                    self.sent += batch
                    client.send(b"".join(pack(words) for unit in batch for words in requests(unit)))
                    for unit in batch:
                        self.take(verdict([client.read()[0] for _ in requests(unit)]))
        except (Disconnected, OSError):
            pass

    def take(self, reply: Reply) -> None:
        """Take the reply to the next unit: it was acknowledged, or, if it was refused, never sent."""
        if reply.is_error and not reply.value.startswith(FORESEEN):  # type: ignore[attr-defined]
            del self.sent[self.acknowledged]
            self.errors.append(reply.value)  # type: ignore[arg-type]
        else:
            self.acknowledged += 1

    def verify(self, client: RawClient) -> str:
        """Return what is wrong with the server's state for this client's keys, empty if nothing is.

        It must be the state after some number of the commands sent, all that were acknowledged among them. Commands beyond
        that number are struck out, so that the ledger can go on.
        """
        found = fetch(client, self.workload.prefix)
        model = Model()
        for words in self.sent[: self.acknowledged]:
            model.apply(words)
        expected = model.copy()
        for count in range(self.acknowledged, len(self.sent) + 1):
            if model.state == found:
                del self.sent[count:]
                self.acknowledged = count
                return ""
            if count < len(self.sent):
                model.apply(self.sent[count])
        wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        shown = [(key[:20], str(expected.get(key))[:150], str(found.get(key))[:150]) for key in wrong[:3]]
        counts = f"{self.acknowledged} of {len(self.sent)} commands acknowledged"
        return f"{self.workload.prefix!r}: {counts}; {len(wrong)} keys differ; key, expected, found: {shown}"


class Load:
    """Several clients at once, each with its ledger."""

    def __init__(self, chance: random.Random, clients: int = 3) -> None:
        self.ledgers = [Ledger(_fork(chance), b"c%d:" % number) for number in range(clients)]
        self._until = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, port: int) -> None:
        """Let the clients begin."""
        self._until.clear()
        self._threads = [threading.Thread(target=ledger.run, args=(port, self._until)) for ledger in self.ledgers]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait until the clients have ended."""
        self._until.set()
        for thread in self._threads:
            thread.join(60)

    def wait(self) -> None:
        """Wait until the server is gone, and the clients with it."""
        for thread in self._threads:
            thread.join(60)

    def acknowledged(self) -> int:
        """Return how many commands were acknowledged so far."""
        return sum(ledger.acknowledged for ledger in self.ledgers)

    def verify(self, client: RawClient) -> list[str]:
        """Return what is wrong with the server's state, and what its own check says."""
        reply = client.call("DEBUG", "CHECK")
        wrong = [] if reply.value == b"OK" else [f"DEBUG CHECK: {reply.value!r}"]
        return wrong + [text for text in (ledger.verify(client) for ledger in self.ledgers) if text]


def _fork(chance: random.Random) -> random.Random:
    """Return chance of its own for a thread."""
    return random.Random(chance.randrange(1 << 30))
